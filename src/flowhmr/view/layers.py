"""Ground truth as pictures: depth, parts, masks, points."""

import colorsys

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

SEEN_RGB, HIDDEN_RGB = (60, 220, 90), (235, 70, 60)


def depth_to_rgb(
    depth_m: Float[Tensor, "h w"], nearest_m: float, furthest_m: float
) -> UInt8[np.ndarray, "h w 3"]:
    """Near is bright, far is dark (in octaves), nothing is black."""
    depth = depth_m.numpy().clip(nearest_m, furthest_m)
    share = 1 - np.log(depth / nearest_m) / np.log(furthest_m / nearest_m)
    picture = cv2.applyColorMap((share * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    picture[depth >= furthest_m] = 0
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def parts_to_rgb(parts: UInt8[Tensor, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """A colour for each number, black for 0; neighbouring numbers differ."""
    golden = 0.618034
    colours = [
        colorsys.hsv_to_rgb(n * golden % 1, 0.55 + 0.3 * (n % 2), 0.95 - 0.25 * (n % 3 == 0))
        for n in range(256)
    ]
    table = (np.array(colours) * 255).astype(np.uint8)
    table[0] = 0
    return table[parts.numpy()]


def mask_to_rgb(mask: Bool[Tensor, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """White where it is true."""
    return np.repeat(mask.numpy()[..., None], 3, -1).astype(np.uint8) * np.uint8(255)


def draw_points(
    image: UInt8[np.ndarray, "h w 3"],
    points_px: Float[Tensor, "n 2"],
    seen: Bool[Tensor, "n"],
    radius_px: int = 2,
) -> UInt8[np.ndarray, "h w 3"]:
    """Points over the image: green what is seen, red what is hidden."""
    out = image.copy()
    for (x, y), visible in zip(points_px.tolist(), seen.tolist()):
        if abs(x) < 1e5 and abs(y) < 1e5:
            colour = SEEN_RGB if visible else HIDDEN_RGB
            cv2.circle(out, (round(x - 0.5), round(y - 0.5)), radius_px, colour, -1, cv2.LINE_AA)
    return out
