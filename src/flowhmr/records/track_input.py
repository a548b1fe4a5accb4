"""What a network that looks at keypoints and flow is told of a person along a video."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from flowhmr.body import SMPL_24, BodyParams

FEET = SMPL_24.indices_of(("left_ankle", "right_ankle", "left_foot", "right_foot"))
"""The chain's joints of which is said whether they stand in the world: ankles and balls."""


@dataclass(frozen=True, eq=False)
class TrackInput:
    """Consecutive frames ``[t]`` of one person at 30 frames/s, each seen straight ahead.

    Lengths are half-widths of the frame's `flowhmr.cameras.View` about its centre, x right, y down:
    the coordinates of `flowhmr.cameras.WeakCamera`. Batched by `flowhmr.geometry.collate`.
    """

    keypoints: Float[Tensor, "*b t 17 3"]
    """COCO's: x and y in the view, confidence 0..1; zeros where missing."""
    flow: Float[Tensor, "*b t p 3"]
    """Where what is seen at points on the limbs goes until the next frame, in this frame's view,
    and 1 where that is known; zeros elsewhere, and in the last frame."""
    half: Float[Tensor, "*b t"]
    """Tangent of half the angle that the view shows."""
    present: Float[Tensor, "*b t"]
    """1 where the person was found in the frame, else 0."""


@dataclass(frozen=True, eq=False)
class TrackLabels:
    """The truth about a `TrackInput`."""

    params: BodyParams
    """Pose and shape ``[*b t]``; joint 0 turns the body into the axes of each frame's view."""
    points: Float[Tensor, "*b t 24 2"]
    """Where the chain's joints are in the view, in its half-widths."""


@dataclass(frozen=True, eq=False)
class TrackClip:
    """A sample to learn from."""

    input: TrackInput
    """What the network sees."""
    labels: TrackLabels
    """What it should say of the body."""
    stands: Bool[Tensor, "*b t 4"]
    """Which of the joints `FEET` stand in the world, whatever the camera does."""
