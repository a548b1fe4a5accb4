"""Similarity alignment of point sets, the Procrustes step of PA-MPJPE."""

from dataclasses import dataclass

import roma
import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Similarity:
    """``x -> scale * rotmat @ x + shift``."""

    scale: Float[Tensor, "*b"]
    """Positive factor."""
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

    A source whose points all coincide has no scale: the result then only translates it.
    """
    spread = (source - source.mean(-2, keepdim=True)).square().sum((-1, -2))
    degenerate = spread <= torch.finfo(source.dtype).tiny
    safe = torch.where(degenerate[..., None, None], target + 0 * source, source)
    rotmat, shift, scale = roma.rigid_points_registration(safe, target, compute_scaling=True)
    only_shift = (target - source).mean(-2)
    eye = torch.eye(3, dtype=source.dtype, device=source.device).expand_as(rotmat)
    return Similarity(
        scale=torch.where(degenerate, torch.ones_like(scale), scale),
        rotmat=torch.where(degenerate[..., None, None], eye, rotmat),
        shift=torch.where(degenerate[..., None], only_shift, shift),
    )


def procrustes_align(
    source: Float[Tensor, "*b n 3"], target: Float[Tensor, "*b n 3"]
) -> Float[Tensor, "*b n 3"]:
    """``source`` brought onto ``target`` by the best similarity, each sample on its own."""
    return align_similarity(source, target)(source)
