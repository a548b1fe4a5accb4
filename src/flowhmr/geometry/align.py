"""Similarity alignment of point sets, the Procrustes step of PA-MPJPE."""

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Similarity:
    """``x -> scale * rotmat @ x + shift``."""

    scale: Float[Tensor, "*b"]
    """Factor, never negative."""
    rotmat: Float[Tensor, "*b 3 3"]
    """Proper rotation (determinant +1)."""
    shift: Float[Tensor, "*b 3"]
    """Translation, in the unit of the target."""

    def __call__(self, points: Float[Tensor, "*b n 3"]) -> Float[Tensor, "*b n 3"]:
        """Apply to points."""
        turned = points @ self.rotmat.transpose(-1, -2)
        return self.scale[..., None, None] * turned + self.shift[..., None, :]


def align_similarity(
    source: Float[Tensor, "*b n 3"], target: Float[Tensor, "*b n 3"]
) -> Similarity:
    """Least-squares similarity from ``source`` to ``target`` (Umeyama 1991), no reflections.

    A source whose points all coincide has no scale: the result then only translates it. A target
    whose points all coincide gives the scale zero.
    """
    import roma

    centre, target_centre = source.mean(-2), target.mean(-2)
    x, y = source - centre[..., None, :], target - target_centre[..., None, :]
    spread, target_spread = x.square().sum((-1, -2)), y.square().sum((-1, -2))
    # Coincident points leave the rounding errors of their mean as a spread.
    rounding = 8 * torch.finfo(source.dtype).eps
    degenerate = spread <= rounding**2 * source.square().sum((-1, -2))
    safe = torch.where(degenerate, torch.ones_like(spread), spread)
    # roma damps its gradient by a fixed amount: hand it numbers of order one.
    size = (safe * torch.where(target_spread > 0, target_spread, 1.0)).sqrt()
    fitted = roma.special_procrustes(y.transpose(-1, -2) @ x / size[..., None, None])
    eye = torch.eye(3, dtype=source.dtype, device=source.device)
    # roma's annotations cannot say that without singular values there is one tensor.
    rotmat = cast(Tensor, fitted)
    rotmat = torch.where(degenerate[..., None, None], eye, rotmat)
    turned = x @ rotmat.transpose(-1, -2)
    scale = torch.where(degenerate, 1.0, (turned * y).sum((-1, -2)) / safe)
    shift = target_centre - scale[..., None] * (rotmat @ centre[..., None])[..., 0]
    return Similarity(scale, rotmat, shift)


def procrustes_align(
    source: Float[Tensor, "*b n 3"], target: Float[Tensor, "*b n 3"]
) -> Float[Tensor, "*b n 3"]:
    """``source`` brought onto ``target`` by the best similarity, each sample on its own."""
    return align_similarity(source, target)(source)
