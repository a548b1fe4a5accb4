"""Square crops of images: one transform, exact both ways."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Crop:
    """A square window of an image, turned and mirrored if wanted, resized to ``size_px``.

    ``to_crop`` and ``to_image`` are exact inverses of each other.
    """

    centre_px: Float[Tensor, "*b 2"]
    """Centre of the window in image pixels."""
    side_px: Float[Tensor, "*b"]
    """Side of the window in image pixels."""
    angle_rad: Float[Tensor, "*b"]
    """The window's content appears turned by this angle in the crop (x towards y)."""
    mirrored: Float[Tensor, "*b"]
    """1 when the crop shows the window's mirror image (left and right swapped), else 0."""
    size_px: int
    """Width and height of the crop in pixels."""

    def linear(self) -> Float[Tensor, "*b 2 2"]:
        """The linear part of image -> crop."""
        zoom = self.size_px / self.side_px
        cos, sin = torch.cos(self.angle_rad) * zoom, torch.sin(self.angle_rad) * zoom
        flip = 1 - 2 * self.mirrored
        rows = [torch.stack([flip * cos, -flip * sin], -1), torch.stack([sin, cos], -1)]
        return torch.stack(rows, -2)

    def to_crop(self, points_px: Float[Tensor, "*b n 2"]) -> Float[Tensor, "*b n 2"]:
        """Image pixels -> crop pixels."""
        moved = points_px - self.centre_px[..., None, :]
        return moved @ self.linear().transpose(-1, -2) + self.size_px / 2

    def to_image(self, points_crop_px: Float[Tensor, "*b n 2"]) -> Float[Tensor, "*b n 2"]:
        """Crop pixels -> image pixels."""
        inverse = torch.linalg.inv(self.linear())
        return (points_crop_px - self.size_px / 2) @ inverse.transpose(-1, -2) + self.centre_px[
            ..., None, :
        ]

    def affine(self) -> Float[Tensor, "*b 2 3"]:
        """Image -> crop as a 2x3 matrix, for points with integer pixel corners."""
        linear = self.linear()
        shift = self.size_px / 2 - (linear @ self.centre_px[..., None])[..., 0]
        return torch.cat([linear, shift[..., None]], -1)


def between_crops(
    points_px: Float[Tensor, "*b n c"], source: Crop, target: Crop
) -> Float[Tensor, "*b n c"]:
    """Pixels of one crop -> pixels of another crop of the same image.

    Args:
        points_px: (u, v), or (u, v, depth); depth in the unit of u and v, see `project_weak`.
        source: whose pixels the points are in.
        target: whose pixels are wanted; its leading axes broadcast with those of the points.
    """
    linear = (target.linear() @ torch.linalg.inv(source.linear()))[..., None]
    origin_px = target.to_crop(source.to_image(torch.zeros_like(source.centre_px)[..., None, :]))
    zoom = (target.size_px / target.side_px) / (source.size_px / source.side_px)
    # Written out: products with matrices of two by two are several times slower.
    u, v, *depth = points_px.unbind(-1)
    rows = [
        torch.addcmul(
            torch.addcmul(origin_px[..., i], linear[..., i, 0, :], u), linear[..., i, 1, :], v
        )
        for i in (0, 1)
    ]
    return torch.stack([*rows, *(d * zoom[..., None] for d in depth)], -1)


def square_box(
    box_px: Float[Tensor, "*b 4"], margin: float = 1.2
) -> tuple[Float[Tensor, "*b 2"], Float[Tensor, "*b"]]:
    """Centre and side of the field's square crop: ``margin * max(w, h)`` of (x, y, w, h)."""
    centre_px = box_px[..., :2] + box_px[..., 2:] / 2
    return centre_px, margin * box_px[..., 2:].amax(-1)


def crop_from_box(box_px: Float[Tensor, "*b 4"], size_px: int, margin: float = 1.2) -> Crop:
    """The upright crop around a person's box (x, y, w, h) in image pixels.

    Raises:
        ValueError: a box without area or with numbers that are not finite.
    """
    if not bool((torch.isfinite(box_px).all(-1) & (box_px[..., 2:] > 0).all(-1)).all()):
        raise ValueError(
            f"person box: got {box_px.tolist()}; expected finite x, y, w, h in pixels with w > 0 "
            "and h > 0; drop the frames in which nobody was found"
        )
    centre_px, side_px = square_box(box_px, margin)
    still = torch.zeros_like(side_px)
    return Crop(centre_px, side_px, angle_rad=still, mirrored=still, size_px=size_px)


def warp_image(
    image: UInt8[np.ndarray, "h w c"], crop: Crop, border: int = 0
) -> UInt8[np.ndarray, "s s c"]:
    """The crop's pixels, bilinear, averaged first where the crop is much coarser than the image.

    Outside the image the constant ``border`` is read.
    """
    zoom = crop.size_px / float(crop.side_px)
    matrix = crop.affine().double().numpy()
    shrink = int(2 ** max(0, math.floor(math.log2(1 / zoom)))) if zoom < 1 else 1
    if shrink > 1:
        image, matrix = _shrink_window(image, crop, matrix, shrink, border)
    # cv2 puts pixel centres on integers: conjugate with the half-pixel shift.
    matrix = matrix.copy()
    matrix[:, 2] += matrix[:, :2] @ np.array([0.5, 0.5]) - 0.5
    warped = cv2.warpAffine(
        image,
        matrix,
        (crop.size_px, crop.size_px),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(border,) * 4,
    )
    return warped.reshape(crop.size_px, crop.size_px, image.shape[2])


def _shrink_window(
    image: np.ndarray, crop: Crop, matrix: np.ndarray, shrink: int, border: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cut the window's surroundings out and average ``shrink x shrink`` pixels into one."""
    reach = 0.75 * float(crop.side_px) + 2 * shrink
    low = np.floor((crop.centre_px.numpy() - reach) / shrink).astype(int)
    high = np.ceil((crop.centre_px.numpy() + reach) / shrink).astype(int)
    (x0, y0), (x1, y1) = low * shrink, high * shrink
    height, width = image.shape[:2]
    inside = image[max(y0, 0) : max(min(y1, height), 0), max(x0, 0) : max(min(x1, width), 0)]
    canvas = np.full((y1 - y0, x1 - x0, image.shape[2]), border, np.uint8)
    if inside.size:
        top, left = max(-y0, 0), max(-x0, 0)
        canvas[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    small = cv2.resize(
        canvas, (int(x1 - x0) // shrink, int(y1 - y0) // shrink), interpolation=cv2.INTER_AREA
    ).reshape(int(y1 - y0) // shrink, int(x1 - x0) // shrink, image.shape[2])
    to_window = np.array([[shrink, 0, x0], [0, shrink, y0], [0, 0, 1]], float)
    return small, matrix @ to_window
