"""The anchor of refinement without labels (of4hmr, Eq. 8)."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from flowhmr.records import Estimate


@dataclass(frozen=True)
class AnchorWeights:
    """a and b of Eq. 8; the names are those of `AnchorTerms`."""

    anchor_pose: float = 1.0
    """Pull of the pose to the initial network's."""
    anchor_shape: float = 0.1
    """Pull of the shape to the initial network's."""
    anchor_camera: float = 0.0
    """Pull of the camera; not in the paper, which leaves the camera free."""


@dataclass(frozen=True, eq=False)
class AnchorTerms:
    """One value per sample."""

    anchor_pose: Float[Tensor, "b"]
    """Mean squared difference of rotation matrices' entries."""
    anchor_shape: Float[Tensor, "b"]
    """Mean squared difference of betas."""
    anchor_camera: Float[Tensor, "b"]
    """Mean squared difference of (s, tx, ty)."""


def anchor_terms(estimate: Estimate, initial: Estimate) -> AnchorTerms:
    """Distance of estimates to those of the initial network for the same crops."""
    pose = estimate.params.rotmats - initial.params.rotmats
    shape = estimate.params.betas - initial.params.betas
    camera = estimate.camera.params - initial.camera.params
    return AnchorTerms(
        anchor_pose=pose.square().mean((-3, -2, -1)),
        anchor_shape=shape.square().mean(-1),
        anchor_camera=camera.square().mean(-1),
    )
