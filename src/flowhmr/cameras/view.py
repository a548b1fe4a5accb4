"""Views: cameras that look straight at a person, wherever in the image the person is.

Off the axis of a wide camera a body is seen from its side and stretched. A weak-perspective camera
in the axes of the whole image's camera cannot say that; one that looks along the ray to the
person's crop can.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from flowhmr.cameras.crop import Crop
from flowhmr.cameras.perspective import PerspectiveCamera


@dataclass(frozen=True, eq=False)
class View:
    """A camera at the place of another one, turned until it looks at a crop's centre.

    Lengths in the view are half-widths of what it shows, about its centre, x right, y down: the
    coordinates of `flowhmr.cameras.WeakCamera`.
    """

    camera: PerspectiveCamera
    """Of the image, ``[*b]``."""
    rotmats: Float[Tensor, "*b 3 3"]
    """Turn camera axes into the view's; upright as far as a turn about the shortest way goes."""
    half: Float[Tensor, "*b"]
    """Tangent of half the angle that the view shows."""

    def see(self, points_px: Float[Tensor, "*b n 2"]) -> Float[Tensor, "*b n 2"]:
        """Pixels of the image -> half-widths of the view.

        Points a quarter of a turn away from the centre or more have no place in it; theirs are not
        finite.
        """
        camera = self.camera
        away = points_px - camera.centre_px[..., None, :]
        away = away / camera.focal_px[..., None, None]
        rays = torch.cat([away, torch.ones_like(away[..., :1])], -1) @ self.rotmats.mT
        depth = torch.where(rays[..., 2:] > 1e-3, rays[..., 2:], torch.nan)
        return rays[..., :2] / (depth * self.half[..., None, None])


def view_of(crop: Crop, camera: PerspectiveCamera) -> View:
    """The view that shows what an upright crop of an image shows.

    Args:
        crop: ``[*b]``.
        camera: of the image, ``[*b]`` or one for all.
    """
    focal_px = camera.focal_px.expand(crop.side_px.shape)
    centre_px = camera.centre_px.expand(crop.centre_px.shape)
    away = (crop.centre_px - centre_px) / focal_px[..., None]
    ray = normalize(torch.cat([away, torch.ones_like(away[..., :1])], -1), dim=-1)
    # Pixels away from the image's centre cover less of an angle.
    half = crop.side_px / (2 * focal_px) * ray[..., 2]
    return View(PerspectiveCamera(focal_px, centre_px), _turn_ahead(ray), half)


def _turn_ahead(ray: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """The smallest turn that brings a direction with z > 0 onto the z axis."""
    x, y, z = ray.unbind(-1)
    # Rodrigues about (y, -x, 0): the sine is that axis' length, the cosine z.
    share = 1 / (1 + z)
    rows = [
        torch.stack([1 - share * x * x, -share * x * y, -x], -1),
        torch.stack([-share * x * y, 1 - share * y * y, -y], -1),
        torch.stack([x, y, z], -1),
    ]
    return torch.stack(rows, -2)
