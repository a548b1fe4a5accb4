"""Full perspective, and the way between it and the weak perspective of a crop."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from flowhmr.cameras.weak import WeakCamera


@dataclass(frozen=True, eq=False)
class PerspectiveCamera:
    """Pinhole camera without distortion; X right, Y down, Z forward, metres."""

    focal_px: Float[Tensor, "*b"]
    """Focal length in pixels, the same in x and y."""
    centre_px: Float[Tensor, "*b 2"]
    """Principal point in pixels (pixel corners are integers)."""

    def project(self, points_cam: Float[Tensor, "*b n 3"]) -> Float[Tensor, "*b n 3"]:
        """Points in camera axes, metres -> (u, v) in pixels and depth in metres.

        Points on or behind the image plane have no image; their u and v are not finite.
        """
        depth = points_cam[..., 2:]
        ahead = torch.where(depth > 0, depth, torch.full_like(depth, torch.nan))
        xy = self.focal_px[..., None, None] * points_cam[..., :2] / ahead
        return torch.cat([xy + self.centre_px[..., None, :], depth], -1)


def translation_from_weak(
    camera: WeakCamera, focal_px: Float[Tensor, "*b"], size_px: int
) -> Float[Tensor, "*b 3"]:
    """Where the body stands, in metres, for a pinhole camera that looks at the crop's centre.

    tz = 2 f / (size * s), and (tx, ty) / s metres sideways: the two cameras agree at depth tz.
    """
    depth = 2 * focal_px / (size_px * camera.scale)
    return torch.cat([camera.shift / camera.scale[..., None], depth[..., None]], -1)


def weak_from_translation(
    translation_m: Float[Tensor, "*b 3"], focal_px: Float[Tensor, "*b"], size_px: int
) -> WeakCamera:
    """Inverse of `translation_from_weak`."""
    scale = 2 * focal_px / (size_px * translation_m[..., 2])
    return WeakCamera(torch.cat([scale[..., None], translation_m[..., :2] * scale[..., None]], -1))
