"""What a network that looks at keypoints and flow is told of a person along a video."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from flowhmr.body import BodyParams


@dataclass(frozen=True, eq=False)
class TrackInput:
    """Consecutive frames ``[t]`` of one person at 30 frames/s, seen in a square crop each.

    Lengths in the crop are in its half-widths about its centre, x right, y down: the coordinates of
    `flowhmr.cameras.WeakCamera`. Batched by `flowhmr.geometry.collate`.
    """

    keypoints: Float[Tensor, "*b t 17 3"]
    """COCO's: x and y in the crop, confidence 0..1; zeros where missing."""
    flow: Float[Tensor, "*b t p 3"]
    """Where what is seen at points on the limbs goes until the next frame, and 1 where that is
    known; zeros elsewhere, and in the last frame."""
    view: Float[Tensor, "*b t 3"]
    """Where the crop is: tangents of the angles from the camera's axis to its centre, and half its
    width over the focal length."""
    present: Float[Tensor, "*b t"]
    """1 where the person was found in the frame, else 0."""


@dataclass(frozen=True, eq=False)
class TrackLabels:
    """The truth about a `TrackInput`."""

    params: BodyParams
    """Pose and shape ``[*b t]``; joint 0 turns the body into camera axes."""
    points: Float[Tensor, "*b t 24 2"]
    """Where the chain's joints are in the crop, in its half-widths."""


@dataclass(frozen=True, eq=False)
class TrackClip:
    """A sample to learn from."""

    input: TrackInput
    """What the network sees."""
    labels: TrackLabels
    """What it should say."""
