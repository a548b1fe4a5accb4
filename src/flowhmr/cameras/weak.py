"""Weak perspective: one scale and one shift for the whole body (METHODS of SPIN, EFT, of4hmr)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class WeakCamera:
    """Weak-perspective camera of a square crop: ``u = ((s*X + tx) + 1) / 2 * size``.

    X right, Y down, Z away from the camera; v alike with Y and ty. The numbers do not depend on
    the size of the crop in pixels.
    """

    params: Float[Tensor, "*b 3"]
    """(s, tx, ty): s in crop half-widths per metre, tx and ty in crop half-widths."""

    @property
    def scale(self) -> Float[Tensor, "*b"]:
        """s, crop half-widths per metre."""
        return self.params[..., 0]

    @property
    def shift(self) -> Float[Tensor, "*b 2"]:
        """(tx, ty), crop half-widths."""
        return self.params[..., 1:]

    def pixels_per_metre(self, size_px: int) -> Float[Tensor, "*b"]:
        """How many crop pixels one metre covers."""
        return self.scale * (size_px / 2)


def project_weak(
    points: Float[Tensor, "*b n 3"], camera: WeakCamera, size_px: int
) -> Float[Tensor, "*b n 3"]:
    """Points in metres (camera axes) -> (u, v, depth), all three in pixels of the crop.

    The depth is Z in the same unit as u and v, so that a rasteriser sees an undistorted body.
    """
    half_px = size_px / 2
    origin_px = torch.nn.functional.pad((camera.shift + 1) * half_px, (0, 1))
    return points * (camera.scale * half_px)[..., None, None] + origin_px[..., None, :]


def fit_weak_camera(
    points: Float[Tensor, "*b n 3"], points_px: Float[Tensor, "*b n 2"], size_px: int
) -> WeakCamera:
    """Least-squares weak-perspective camera that carries points (metres) to ``points_px``."""
    target = points_px * (2 / size_px) - 1
    mean_xy, mean_target = points[..., :2].mean(-2), target.mean(-2)
    xy = points[..., :2] - mean_xy[..., None, :]
    spread = xy.square().sum((-1, -2)).clamp(min=torch.finfo(points.dtype).tiny)
    scale = (xy * (target - mean_target[..., None, :])).sum((-1, -2)) / spread
    return WeakCamera(torch.cat([scale[..., None], mean_target - scale[..., None] * mean_xy], -1))
