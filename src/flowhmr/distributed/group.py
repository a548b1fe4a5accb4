"""The processes that torchrun started, as a group: gradients, numbers, files.

Plain ``torch.distributed``: NCCL between GPUs, gloo for what is on the CPU.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from flowhmr.distributed.share import Share

T = TypeVar("T")
BUCKET_BYTES = 32 * 2**20
"""Gradients are summed in pieces of this size, the next one on its way while one is copied."""
PATIENCE = timedelta(days=7)
"""Preparing data may take one process hours longer than another. A process that has died is
noticed by torchrun, not by waiting."""

_meeting: ContextVar[Any] = ContextVar("meeting")
"""The group of the same processes in which waiting may take long."""


def asked_share() -> Share:
    """What torchrun says this process is, whether or not it has joined the others."""
    return Share(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


def local_index() -> int:
    """Which of the processes on this machine this is: the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def this_share() -> Share:
    """Which of the joined processes this is; the only one, where none has been joined."""
    if not (dist.is_available() and dist.is_initialized()):
        return Share()
    return Share(dist.get_rank(), dist.get_world_size())


def is_first() -> bool:
    """Whether this is the process that writes."""
    return this_share().index == 0


@contextmanager
def joined() -> Iterator[Share]:
    """Join the other processes that torchrun started, if there are any, until the end.

    Raises:
        RuntimeError: the others cannot be reached, or would be looked for where they were.
    """
    if asked_share().count > 1:
        again = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
        if again and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            raise RuntimeError(
                f"restart {again}: got torchrun's store of the first start, with the addresses of "
                "processes that are gone; expected a new one; set "
                "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 before torchrun is started"
            )
        # Numbers for the log are on the CPU, on machines with GPUs too.
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        _meeting.set(dist.new_group(backend="gloo", timeout=PATIENCE))
    yield this_share()
    # Not after an error: the others would be waited for.
    if this_share().count > 1:
        leave()


def leave() -> bool:
    """Wait for the others and part from them; returns whether this was the first process.

    What is done afterwards, each process does alone.
    """
    first = is_first()
    if this_share().count > 1:
        meet()
        dist.destroy_process_group()
    return first


def meet() -> None:
    """Wait until all processes are here."""
    if this_share().count > 1:
        dist.barrier(group=_meeting.get())


@contextmanager
def first_before_others() -> Iterator[None]:
    """The first process does something; the others begin when it is done, and find it."""
    first = is_first()
    if not first:
        meet()
    yield
    if first:
        meet()


def in_shares(items: Sequence[T], make: Callable[[list[T]], None]) -> None:
    """Have each process make its share of some items, and wait for all.

    Then each process is asked for all of them: where folders are shared it finds them, elsewhere
    it makes the others' too.

    Args:
        items: the same in all processes, in the same order.
        make: makes those of some items that are not there yet.
    """
    share = this_share()
    if share.count > 1:
        make(share.of(items))
        meet()
    make(list(items))


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace gradients by their means over all processes, in place.

    All processes must have computed the gradients of the same parameters.
    """
    count = this_share().count
    if count == 1:
        return
    pieces = []
    for grads in _buckets([p.grad for p in parameters if p.grad is not None]):
        flat = torch.cat([grad.flatten() for grad in grads])
        pieces.append((grads, flat, dist.all_reduce(flat, async_op=True)))
    for grads, flat, work in pieces:
        work.wait()
        means = (flat / count).split([grad.numel() for grad in grads])
        for grad, mean in zip(grads, means):
            grad.copy_(mean.view_as(grad))


def _buckets(grads: list[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for grad in grads:
        full = sum(g.numel() * g.element_size() for g in bucket) >= BUCKET_BYTES
        if bucket and (full or grad.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(grad)
    if bucket:
        yield bucket


def broadcast(tensors: Iterable[Tensor]) -> None:
    """Give tensors the values that they have in the first process, in place."""
    if this_share().count > 1:
        for tensor in tensors:
            dist.broadcast(tensor, 0)


def mean_of(values: dict[str, float]) -> dict[str, float]:
    """Means over all processes; each must give the same names."""
    count = this_share().count
    if count == 1:
        return values
    names = sorted(values)
    sums = torch.tensor([values[name] for name in names], dtype=torch.float64)
    dist.all_reduce(sums)
    means = dict(zip(names, (sums / count).tolist()))
    return {name: means[name] for name in values}


def require_same(value: int, what: str, remedy: str) -> None:
    """Raise an error in all processes if they do not have the same value.

    Raises:
        ValueError: some differ.
    """
    count = this_share().count
    if count == 1:
        return
    every = [torch.zeros(1, dtype=torch.int64) for _ in range(count)]
    dist.all_gather(every, torch.tensor([value]))
    found = [int(each) for each in every]
    if len(set(found)) > 1:
        raise ValueError(
            f"{what}: got {found} in the {count} processes; expected the same; {remedy}"
        )
