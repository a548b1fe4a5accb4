"""What people wear, as far as it tells them apart: the colours of torso and thighs."""

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from flowhmr.body import COCO_17

SAME_CLOTHES, OTHER_CLOTHES = 1.0, 1.8
"""`clothes_apart` below which two people wear the same, and above which surely not."""

KNOWN = 0.3
"""Confidence from which a keypoint counts."""

_TORSO = list(
    COCO_17.indices_of(("left_shoulder", "right_shoulder", "left_hip", "right_hip"))
)  # fmt: skip
_THIGHS = [COCO_17.indices_of((f"{side}_hip", f"{side}_knee")) for side in ("left", "right")]
# CIE Lab, 8 bit: light and shade move lightness more than colour.
_LAB_UNIT = np.array([30.0, 9.0, 9.0] * 2)


def clothes_of(
    image: UInt8[np.ndarray, "h w 3"], keypoints_px: Float[Tensor, "17 3"]
) -> Float[np.ndarray, "6"]:
    """The median colours of a person's torso and thighs, CIE Lab of 8 bits; NaN where unseen.

    Sampled between shoulders and hips, and along the thighs.

    Args:
        image: RGB.
        keypoints_px: COCO's, of one person in it.
    """
    points = keypoints_px.numpy()
    known, xy = (points[:, 2] >= KNOWN) & np.isfinite(points).all(-1), points[:, :2]
    across, down = np.meshgrid(np.linspace(0.2, 0.8, 8), np.linspace(0.1, 0.8, 8))
    places: list[list[np.ndarray]] = [[], []]
    if known[_TORSO].all():
        left, right, left_hip, right_hip = xy[_TORSO]
        top = left + across[..., None] * (right - left)
        bottom = left_hip + across[..., None] * (right_hip - left_hip)
        places[0].append((top + down[..., None] * (bottom - top)).reshape(-1, 2))
    for hip, knee in _THIGHS:
        if known[hip] and known[knee]:
            along = np.linspace(0.25, 0.75, 16)[:, None]
            places[1].append(xy[hip] + along * (xy[knee] - xy[hip]))
    height, width = image.shape[:2]
    found = np.full((2, 3), np.nan)
    for part, rows in enumerate(places):
        spots = np.concatenate(rows).astype(int) if rows else np.zeros((0, 2), int)
        spots = spots[((spots >= 0) & (spots < (width, height))).all(-1)]
        if len(spots) >= 8:
            colours = image[spots[:, 1], spots[:, 0]][None]
            found[part] = np.median(cv2.cvtColor(colours, cv2.COLOR_RGB2LAB)[0], axis=0)
    return found.reshape(-1)


def clothes_apart(a: Float[np.ndarray, "6"], b: Float[np.ndarray, "6"]) -> float:
    """How different clothes are, in units of what light does to one person's; NaN if unknown."""
    off = ((a - b) / _LAB_UNIT) ** 2
    parts = off.reshape(2, 3).mean(-1)
    parts = parts[np.isfinite(parts)]
    return float(np.sqrt(parts.mean())) if len(parts) else np.nan
