"""What networks give."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from flowhmr.body import BodyParams
from flowhmr.cameras import Crop, WeakCamera


@dataclass(frozen=True, eq=False)
class Estimate:
    """Body and camera of each crop; any leading axes."""

    params: BodyParams
    """Pose and shape; joint 0 turns the body into camera axes (X right, Y down, Z away)."""
    camera: WeakCamera
    """Weak-perspective camera of the crop."""


@dataclass(frozen=True, eq=False)
class Track:
    """One person's estimates along a video."""

    frame_indices: Int[Tensor, "t"]
    """Which frames of the video."""
    times_s: Float[Tensor, "t"]
    """When they were taken."""
    crop: Crop
    """The windows ``[t]`` the estimates' cameras belong to."""
    estimate: Estimate
    """Bodies and cameras, ``[t]``."""
