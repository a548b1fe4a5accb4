"""2D keypoints of a detector or a file as supervision of unannotated video (of4hmr, 4.4)."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flowhmr.geometry import masked_mean
from flowhmr.losses.supervised import keypoint_loss


@dataclass(frozen=True)
class KeypointLossConfig:
    """How the body's keypoints and detected ones are compared."""

    residual: Literal["squared", "charbonnier"] = "squared"
    """``squared``: as with labels. ``charbonnier``: the same for keypoints that are nearer than
    ``unit``, growing linearly beyond, so that wrong detections weigh less."""
    min_confidence: float = 0.3
    """Detections below it do not count; those above count as much as they are confident, and
    those of confidence zero never."""
    unit: float = 0.05
    """With ``charbonnier``, the distance beyond which it grows linearly, share of the crop's
    width."""

    def __post_init__(self) -> None:
        if not self.unit > 0:
            raise ValueError(
                f"keypoint loss, unit: got {self.unit}; expected a share of the crop's width above "
                "0"
            )


@dataclass(frozen=True)
class KeypointWeights:
    """Weight of the keypoints; the name is that of `KeypointTerms`."""

    keypoints2d: float = 1.0
    """Distance to the detections."""


@dataclass(frozen=True, eq=False)
class KeypointTerms:
    """One value per frame."""

    keypoints2d: Float[Tensor, "b"]
    """The loss, squared crop half-widths as in `keypoint_loss`; zero, with its gradient, where
    nothing was detected."""
    kept: Bool[Tensor, "b"]
    """Frames with a detection that counts."""
    apart_px: Float[Tensor, "b"]
    """Mean distance to the detections that count, pixels of the crop; no gradient."""


def keypoint_terms(
    points_px: Float[Tensor, "b k 2"],
    detected_px: Float[Tensor, "b k 3"],
    size_px: int,
    config: KeypointLossConfig,
) -> KeypointTerms:
    """Distance of a body's keypoints to detected ones, in one frame each.

    With ``squared`` and detections that all count, this is `keypoint_loss`.

    Args:
        points_px: the body's projected keypoints, pixels of the crop.
        detected_px: x, y and confidence of the same keypoints, in the same crop; they may lie
            outside it. Whatever is not finite does not count.
        size_px: of the crop.
        config: residual and threshold.
    """
    detected_px = detected_px.detach()
    target_px, confidence = detected_px[..., :2], detected_px[..., 2]
    counted = (confidence >= config.min_confidence) & (confidence > 0)
    counted = counted & detected_px.isfinite().all(-1)
    # Each keypoint as a sample of its own: what is still to come is not linear in its error.
    errors = keypoint_loss(
        points_px.flatten(0, 1)[:, None],
        target_px.flatten(0, 1)[:, None],
        counted.flatten()[:, None].to(points_px.dtype),
        size_px,
    ).unflatten(0, counted.shape)
    apart_px = (2 * errors.detach()).sqrt() * (size_px / 2)
    if config.residual == "charbonnier":
        # An error is the mean of two squares, the distance's square their sum. With x for that
        # square in units, sqrt(1 + x) - 1 is written x / (sqrt(1 + x) + 1): exact for small x.
        relative = 2 * errors / (2 * config.unit) ** 2
        errors = 2 * errors / (torch.sqrt(1 + relative) + 1)
    shares = torch.where(counted, confidence, 0)
    return KeypointTerms(
        keypoints2d=(shares * errors).mean(-1),
        kept=counted.any(-1),
        apart_px=masked_mean(apart_px, counted, -1),
    )
