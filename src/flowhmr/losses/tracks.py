"""Losses of bodies along a video against their labels (Motion HMR, section 3.2, and motion)."""

from dataclasses import dataclass, fields

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from flowhmr.losses.motion import about_hips, motion_terms
from flowhmr.records import Lifted, TrackClip


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
    """Distance of projected joints, coordinate by coordinate, crop half-widths, at most
    `flowhmr.losses.motion.FAR`."""
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
    common = motion_terms(found.bodies, truth.labels, joints_m, target_m)
    ours, theirs = about_hips(joints_m), about_hips(target_m)
    steps = (ours.diff(dim=1) - theirs.diff(dim=1)).abs()
    return TrackTerms(
        **{field.name: getattr(common, field.name) for field in fields(common)},
        motion=steps.mean((1, 2, 3)) if steps.shape[1] else steps.new_zeros(len(steps)),
        stands=binary_cross_entropy_with_logits(
            found.stands, truth.stands.to(ours.dtype), reduction="none"
        ).mean((1, 2)),
    )
