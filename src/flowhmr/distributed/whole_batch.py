"""A network's layers that look at the whole batch, when each process has a share of it.

Batch norm takes its statistics over all shares (Ioffe and Szegedy 2015; as PyTorch's SyncBatchNorm,
which has no CPU version), and dropout drops in each share what it would drop in the whole batch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from flowhmr.distributed.group import this_share


@contextmanager
def whole_batch() -> Iterator[None]:
    """In this context batch norm and dropout treat a process's batch as a share of one of all.

    Shares are equal and consecutive (`Share.rows`), and the random states of all processes are the
    same. What ``nn.GRU`` drops between its layers is not seen from here: there all shares drop the
    same.
    """
    if this_share().count == 1:
        yield
        return
    with _WholeBatch():
        yield


def own_rows(whole: Float[Tensor, "all *rest"]) -> Float[Tensor, "b *rest"]:
    """This process's share of what was drawn for the whole batch."""
    rows = this_share().rows(len(whole))
    return whole[rows.start : rows.stop]


class _WholeBatch(TorchFunctionMode):
    """Stands in for two functions, whatever module calls them: timm has norms of its own."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func is functional.batch_norm:
            return _batch_norm(*args, **given)
        if func is functional.dropout:
            return _dropout(*args, **given)
        return func(*args, **given)


def _batch_norm(
    x: Float[Tensor, "b c *s"],
    running_mean: Float[Tensor, "c"] | None,
    running_var: Float[Tensor, "c"] | None,
    weight: Float[Tensor, "c"] | None = None,
    bias: Float[Tensor, "c"] | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``torch.nn.functional.batch_norm``."""
    if not training:
        return functional.batch_norm(
            x, running_mean, running_var, weight, bias, False, momentum, eps
        )
    y, mean, var = _Norm.apply(x, weight, bias, eps)  # pyright: ignore[reportGeneralTypeIssues]
    if running_mean is not None and running_var is not None:
        number = x.numel() // x.shape[1] * this_share().count
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(var * (number / max(number - 1, 1)), momentum)
    return y


def _dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """``torch.nn.functional.dropout``, never in place."""
    if not training or not p:
        return x
    whole = x.new_ones(len(x) * this_share().count, *x.shape[1:])
    return x * own_rows(functional.dropout(whole, p))


class _Norm(Function):
    """Batch norm over the shares of all processes, which are of one size; statistics in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Any:
        var, mean = torch.var_mean(x.float(), _but_channels(x), correction=0)
        own = torch.stack([mean, var])
        every = [torch.empty_like(own) for _ in range(this_share().count)]
        dist.all_gather(every, own)
        means, variances = torch.stack(every).unbind(1)
        mean = means.mean(0)
        var = (variances + (means - mean).square()).mean(0)
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(var + eps))
        ctx.mark_non_differentiable(mean, var)
        return functional.batch_norm(x, mean, var, weight, bias, False, 0.0, eps), mean, var

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, weight, mean, scale = ctx.saved_tensors
        dims, across = _but_channels(x), (1, -1, *[1] * (x.ndim - 2))
        dy = grads[0].float()
        normal = (x.float() - mean.view(across)) * scale.view(across)
        of_bias, of_weight = dy.sum(dims), (dy * normal).sum(dims)
        sums = torch.stack([of_bias, of_weight])
        dist.all_reduce(sums)
        means = sums / (x.numel() // x.shape[1] * this_share().count)
        factor = scale if weight is None else scale * weight
        dx = dy - means[0].view(across) - normal * means[1].view(across)
        dx = (dx * factor.view(across)).to(x.dtype)
        if weight is None:
            return dx, None, None, None
        # Averaged with all other gradients, later.
        return dx, of_weight, of_bias, None


def _but_channels(x: Tensor) -> list[int]:
    return [dim for dim in range(x.ndim) if dim != 1]
