"""What networks give."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flowhmr.body import BodyIdentityError, BodyParams
from flowhmr.cameras import Crop, WeakCamera


@dataclass(frozen=True, eq=False)
class Estimate:
    """Body and camera of each crop; any leading axes."""

    params: BodyParams
    """Pose and shape; joint 0 turns the body into camera axes (X right, Y down, Z away)."""
    camera: WeakCamera
    """Weak-perspective camera of the crop."""


@dataclass(frozen=True, eq=False)
class Lifted:
    """What a network that sees keypoint tracks says; any leading axes."""

    bodies: Estimate
    """In the axes of each frame's `flowhmr.cameras.View`, and its weak camera."""
    stands: Float[Tensor, "*b 4"]
    """Log-odds that each of the joints `FEET` stands in the world."""


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


def join_estimates(parts: list[Estimate]) -> Estimate:
    """Estimates one after the other along their leading axis.

    Raises:
        BodyIdentityError: they are of several bodies.
    """
    body_id = parts[0].params.body_id
    for part in parts:
        if part.params.body_id != body_id:
            raise BodyIdentityError("estimates", part.params.body_id, body_id)
    return Estimate(
        BodyParams(
            torch.cat([p.params.rotmats for p in parts]),
            torch.cat([p.params.betas for p in parts]),
            body_id,
        ),
        WeakCamera(torch.cat([p.camera.params for p in parts])),
    )
