"""The pixel-centre rule, in one place.

Inside flowhmr an image of width W and height H covers the rectangle [0, W] x [0, H], x right, y
down, and the centre of the pixel in column j and row i is (j + 0.5, i + 0.5). Coordinates are
pairs (x, y) and their names end in ``_px``.

OpenCV, most keypoint files and most detectors put the centre of the first pixel at (0, 0):
convert with `px_from_opencv` and `opencv_from_px` at the border.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample


def px_from_opencv(points: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b 2"]:
    """Points whose integers are pixel centres -> points whose integers are pixel corners."""
    return points + 0.5


def opencv_from_px(points_px: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b 2"]:
    """Inverse of `px_from_opencv`."""
    return points_px - 0.5


def pixel_centres_px(height: int, width: int) -> Float[Tensor, "h w 2"]:
    """The centre of each pixel."""
    y = torch.arange(height, dtype=torch.float32) + 0.5
    x = torch.arange(width, dtype=torch.float32) + 0.5
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


def resize_px(
    points_px: Float[Tensor, "*b 2"], from_size: tuple[int, int], to_size: tuple[int, int]
) -> Float[Tensor, "*b 2"]:
    """Where points (or displacements) go when an image is resized; sizes are (height, width)."""
    factor = points_px.new_tensor([to_size[1] / from_size[1], to_size[0] / from_size[0]])
    return points_px * factor


def grid_from_px(
    points_px: Float[Tensor, "*b 2"], height: int, width: int
) -> Float[Tensor, "*b 2"]:
    """Coordinates for `torch.nn.functional.grid_sample` with ``align_corners=False``."""
    return points_px * points_px.new_tensor([2 / width, 2 / height]) - 1


def sample_map(
    maps: Float[Tensor, "b h w c"], points_px: Float[Tensor, "b n 2"]
) -> Float[Tensor, "b n c"]:
    """Bilinear samples of dense maps at points; outside the map the border value is read."""
    height, width = maps.shape[1:3]
    grid = grid_from_px(points_px, height, width)[:, None]
    samples = grid_sample(
        maps.permute(0, 3, 1, 2), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return samples[:, :, 0].transpose(1, 2)
