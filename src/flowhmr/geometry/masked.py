"""Means over masked axes that stay finite, forward and backward, when nothing is left."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def masked_mean(
    values: Float[Tensor, "..."], mask: Bool[Tensor, "..."], dim: int | tuple[int, ...]
) -> Tensor:
    """Mean of ``values`` where ``mask`` holds, over ``dim``; zero where it holds nowhere.

    Masked values may be NaN or infinite: neither they nor their gradients get through.
    """
    kept = torch.where(mask, values, values.new_zeros(()))
    count = mask.expand_as(values).sum(dim)
    return kept.sum(dim) / count.clamp(min=1).to(values.dtype)


def weighted_mean(
    values: Float[Tensor, "..."], weights: Float[Tensor, "..."], dim: int | tuple[int, ...]
) -> Tensor:
    """Weighted mean over ``dim``; zero where the weights sum to nothing.

    Values of zero weight may be NaN or infinite: they do not get through.
    """
    kept = torch.where(weights > 0, values, values.new_zeros(()))
    total = weights.expand_as(values).sum(dim)
    safe = torch.where(total > 0, total, torch.ones_like(total))
    return (kept * weights).sum(dim) / safe
