"""Losses of bodies along a video against their labels (Motion HMR, section 3.2, and motion)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from flowhmr.body import SMPL_24
from flowhmr.geometry import align_similarity
from flowhmr.records import Lifted, TrackClip

HIPS = [SMPL_24.index("left_hip"), SMPL_24.index("right_hip")]
FAR = 2.0
"""A joint further off in the picture than this, in crop half-widths, pulls no harder."""


@dataclass(frozen=True)
class TrackWeights:
    """Weights; the names are those of `TrackTerms`."""

    joints: float = 10.0
    """3D joints."""
    aligned: float = 0.0
    """3D joints after a similarity alignment of each frame: Motion HMR's 3D loss."""
    motion: float = 10.0
    """How 3D joints move from frame to frame."""
    points: float = 2.0
    """2D joints."""
    pose: float = 5.0
    """Rotation matrices."""
    shape: float = 0.02
    """Betas."""
    camera: float = 1.0
    """Keeps the camera's scale positive."""
    stands: float = 0.2
    """Which feet stand."""


@dataclass(frozen=True, eq=False)
class TrackTerms:
    """One value per clip, each a mean over its frames."""

    joints: Float[Tensor, "b"]
    """Distance of 3D joints about the mid-hip, coordinate by coordinate, metres."""
    aligned: Float[Tensor, "b"]
    """The same after a similarity alignment of each frame; the alignment carries no gradient."""
    motion: Float[Tensor, "b"]
    """The same of the joints' steps from frame to frame."""
    points: Float[Tensor, "b"]
    """Distance of projected joints, coordinate by coordinate, crop half-widths, at most `FAR`."""
    pose: Float[Tensor, "b"]
    """Mean squared difference of rotation matrices' entries."""
    shape: Float[Tensor, "b"]
    """Mean squared difference of betas."""
    camera: Float[Tensor, "b"]
    """exp(-10 s)^2."""
    stands: Float[Tensor, "b"]
    """Cross-entropy of the feet that stand, nats."""


def track_terms(
    found: Lifted,
    truth: TrackClip,
    joints_m: Float[Tensor, "b t 24 3"],
    target_m: Float[Tensor, "b t 24 3"],
) -> TrackTerms:
    """Losses of a batch of clips.

    Args:
        found: bodies, cameras and feet ``[b t]``.
        truth: with the labels.
        joints_m: of the estimated bodies (``BodyModel.joints``), the views' axes.
        target_m: of the true ones.
    """
    estimate, labels = found.bodies, truth.labels
    ours = joints_m - joints_m[..., HIPS, :].mean(-2, keepdim=True)
    theirs = target_m - target_m[..., HIPS, :].mean(-2, keepdim=True)
    apart = ours - theirs
    with torch.no_grad():
        onto = align_similarity(ours.double(), theirs.double())
    aligned = onto(ours.double()) - theirs
    steps = (ours.diff(dim=1) - theirs.diff(dim=1)).abs()
    camera = estimate.camera
    seen = camera.scale[..., None, None] * joints_m[..., :2] + camera.shift[..., None, :]
    off = (seen - labels.points).abs().clamp(max=FAR)
    params = estimate.params
    return TrackTerms(
        joints=apart.abs().mean((1, 2, 3)),
        aligned=aligned.abs().mean((1, 2, 3)).to(ours.dtype),
        motion=steps.mean((1, 2, 3)) if steps.shape[1] else steps.new_zeros(len(steps)),
        points=off.mean((1, 2, 3)),
        pose=(params.rotmats - labels.params.rotmats).square().mean((1, 2, 3, 4)),
        shape=(params.betas - labels.params.betas).square().mean((1, 2)),
        camera=torch.exp(-10 * camera.scale).square().mean(1),
        stands=binary_cross_entropy_with_logits(
            found.stands, truth.stands.to(ours.dtype), reduction="none"
        ).mean((1, 2)),
    )
