"""Losses of Motion HMR (section 3.2): joints up to a similarity, joints in the picture, DANN."""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from flowhmr.body import SMPL_24
from flowhmr.geometry import align_similarity
from flowhmr.records import Estimate, TrackLabels

HIPS = [SMPL_24.index("left_hip"), SMPL_24.index("right_hip")]
FAR = 2.0
"""A joint further off in the picture than this, in crop half-widths, does not pull any more."""


@dataclass(frozen=True)
class MotionWeights:
    """Weights; the names are those of `MotionTerms`. The paper has the first two only."""

    aligned: float = 10.0
    """3D joints after a similarity alignment of each frame."""
    points: float = 2.0
    """2D joints."""
    joints: float = 0.0
    """3D joints about the mid-hip."""
    pose: float = 0.0
    """Rotation matrices."""
    shape: float = 0.02
    """Betas: nothing else of these keeps bodies human."""
    camera: float = 1.0
    """Keeps the camera's scale positive."""


@dataclass(frozen=True, eq=False)
class MotionTerms:
    """One value per clip, each a mean over its pairs and over both predictions of a pair."""

    aligned: Float[Tensor, "b"]
    """Distance of 3D joints after a similarity alignment of each frame, coordinate by coordinate,
    metres; the alignment carries no gradient."""
    points: Float[Tensor, "b"]
    """Distance of projected joints, coordinate by coordinate, crop half-widths, at most `FAR`."""
    joints: Float[Tensor, "b"]
    """Distance of 3D joints about the mid-hip, coordinate by coordinate, metres."""
    pose: Float[Tensor, "b"]
    """Mean squared difference of rotation matrices' entries."""
    shape: Float[Tensor, "b"]
    """Mean squared difference of betas."""
    camera: Float[Tensor, "b"]
    """exp(-10 s)^2."""


def motion_terms(
    estimate: Estimate,
    labels: TrackLabels,
    joints_m: Float[Tensor, "b n 24 3"],
    target_m: Float[Tensor, "b n 24 3"],
) -> MotionTerms:
    """Losses of what one head says of a batch of clips.

    Args:
        estimate: bodies and cameras ``[b n]``.
        labels: the truth about the same frames, points in the crop of each pair.
        joints_m: of the estimated bodies (``BodyModel.joints``), camera axes.
        target_m: of the true ones.
    """
    ours, theirs = about_hips(joints_m), about_hips(target_m)
    # Singular values in single precision are off where limbs lie in a plane.
    with torch.no_grad():
        onto = align_similarity(ours.double(), theirs.double())
    aligned = onto(ours.double()) - theirs
    camera, params = estimate.camera, estimate.params
    seen = camera.scale[..., None, None] * joints_m[..., :2] + camera.shift[..., None, :]
    off = (seen - labels.points).abs().clamp(max=FAR)
    return MotionTerms(
        aligned=aligned.abs().mean((1, 2, 3)).to(ours.dtype),
        points=off.mean((1, 2, 3)),
        joints=(ours - theirs).abs().mean((1, 2, 3)),
        pose=(params.rotmats - labels.params.rotmats).square().mean((1, 2, 3, 4)),
        shape=(params.betas - labels.params.betas).square().mean((1, 2)),
        camera=torch.exp(-10 * camera.scale).square().mean(1),
    )


def about_hips(joints_m: Float[Tensor, "*b 24 3"]) -> Float[Tensor, "*b 24 3"]:
    """Joints from the middle of the hips on."""
    return joints_m - joints_m[..., HIPS, :].mean(-2, keepdim=True)


def both_heads(now: MotionTerms, after: MotionTerms) -> MotionTerms:
    """The mean of the terms of both predictions."""
    names = [f.name for f in fields(MotionTerms)]
    return MotionTerms(**{n: (getattr(now, n) + getattr(after, n)) / 2 for n in names})


@dataclass(frozen=True)
class AdversaryWeights:
    """The weight; its name is that of `AdversaryTerms`."""

    adversary: float = 0.0
    """How strongly features are held not to say their domain: the paper tried 0.2 to 5. At 0 there
    is no adversary."""


@dataclass(frozen=True, eq=False)
class AdversaryTerms:
    """One value per clip of each domain."""

    adversary: Float[Tensor, "b"]
    """Cross-entropy of telling the domains apart, nats, mean over the pairs."""


def adversary_terms(
    synthetic_logits: Float[Tensor, "b n"], real_logits: Float[Tensor, "b2 n2"]
) -> AdversaryTerms:
    """What the adversary loses; each domain counts for half, however many clips it has.

    Args:
        synthetic_logits: log-odds that the features of labelled clips are real.
        real_logits: the same of unlabelled clips of the other domain.
    """
    each = []
    for logits, truth in ((synthetic_logits, 0.0), (real_logits, 1.0)):
        target = torch.full_like(logits, truth)
        lost = binary_cross_entropy_with_logits(logits, target, reduction="none").mean(1)
        each.append(lost / (2 * len(lost)))
    both = torch.cat(each)
    return AdversaryTerms(both * len(both))
