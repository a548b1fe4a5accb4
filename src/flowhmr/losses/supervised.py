"""The supervised loss of SPIN and EFT: 2D and 3D joints, pose, shape, camera."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from flowhmr.body import SMPL_24
from flowhmr.cameras import WeakCamera, pixel_centres_px, project_weak
from flowhmr.geometry import masked_mean, weighted_mean
from flowhmr.records import Estimate, Labels, known_bodies, without_unknown

HIPS = [SMPL_24.index("left_hip"), SMPL_24.index("right_hip")]


@dataclass(frozen=True)
class SupervisedWeights:
    """Weights of SPIN and EFT; the names are those of `SupervisedTerms`."""

    keypoints: float = 5.0
    """2D joints."""
    joints: float = 5.0
    """3D joints."""
    pose: float = 1.0
    """Rotation matrices."""
    shape: float = 0.001
    """Betas."""
    camera: float = 1.0
    """Keeps the camera's scale positive."""
    heatmaps: float = 0.0
    """2D heatmaps, for networks that have them; not in SPIN."""
    surface: float = 0.0
    """Surface map, for networks that have one; not in SPIN."""
    overall: float = 60.0
    """Multiplies the whole sum."""


@dataclass(frozen=True, eq=False)
class SupervisedTerms:
    """One value per sample and term."""

    keypoints: Float[Tensor, "b"]
    """Squared distance of projected joints, crop half-widths."""
    joints: Float[Tensor, "b"]
    """Squared distance of 3D joints about the mid-hip, metres."""
    pose: Float[Tensor, "b"]
    """Mean squared difference of rotation matrices' entries."""
    shape: Float[Tensor, "b"]
    """Mean squared difference of betas."""
    camera: Float[Tensor, "b"]
    """exp(-10 s)^2."""
    heatmaps: Float[Tensor, "b"] | None
    """Cross-entropy of the joints' heatmaps, nats per joint."""
    surface: Float[Tensor, "b"] | None
    """Error of the surface map."""


@dataclass(frozen=True, eq=False)
class PredictedMaps:
    """Dense predictions of networks that make them."""

    heatmap_logits: Float[Tensor, "b 24 h w"] | None
    """Joint heatmaps over the crop."""
    surface: Float[Tensor, "b 4 h w"] | None
    """Rest-pose point scaled to 0..1, and the logit of there being a body."""


def keypoint_loss(
    points_px: Float[Tensor, "b k 2"],
    target_px: Float[Tensor, "b k 2"],
    confidence: Float[Tensor, "b k"],
    size_px: int,
) -> Float[Tensor, "b"]:
    """Mean squared error of 2D points in crop half-widths, weighted by confidence.

    Each coordinate counts as one number (mean over 2k), as in SPIN. Targets of confidence zero
    may be NaN.
    """
    # Masked before squaring: the gradient of a NaN's square is NaN whatever multiplies it later.
    apart_px = torch.where(confidence[..., None] > 0, points_px - target_px, 0.0)
    error = apart_px.mul(2 / size_px).square().mean(-1)
    return (confidence * error).mean(-1)


def joint_loss(
    joints_m: Float[Tensor, "b 24 3"], target_m: Float[Tensor, "b 24 3"]
) -> Float[Tensor, "b"]:
    """Mean squared error of 3D joints, metres, both about their own mid-hip."""

    def rooted(joints: Tensor) -> Tensor:
        return joints - joints[:, HIPS].mean(1, keepdim=True)

    return (rooted(joints_m) - rooted(target_m)).square().mean((-2, -1))


def heatmap_loss(
    logits: Float[Tensor, "b k h w"],
    target_px: Float[Tensor, "b k 2"],
    confidence: Float[Tensor, "b k"],
    size_px: int,
    sigma_cells: float = 0.8,
) -> Float[Tensor, "b"]:
    """Cross-entropy between heatmaps and a Gaussian at the target, nats, mean over joints.

    Joints outside the crop do not count; those of confidence zero may be NaN.
    """
    height, width = logits.shape[-2:]
    centres = pixel_centres_px(height, width).to(logits.device)
    inside = ((target_px >= 0) & (target_px <= size_px)).all(-1)
    target_cells = torch.where(inside[..., None], target_px, 0.0) * (width / size_px)
    apart = (centres[None, None] - target_cells[:, :, None, None]).square().sum(-1)
    target = (-apart / (2 * sigma_cells**2)).flatten(2).softmax(-1)
    entropy = -(target * logits.float().flatten(2).log_softmax(-1)).sum(-1)
    return weighted_mean(entropy, confidence * inside, -1)


def surface_loss(
    surface: Float[Tensor, "b 4 h w"], target: UInt8[Tensor, "b h w 4"]
) -> Float[Tensor, "b"]:
    """Absolute error of the rest-pose point where there is a body, plus cross-entropy of where.

    Per sample: mean over the body's cells and the three axes; mean over all cells.
    """
    wanted = target.permute(0, 3, 1, 2).float() / 255
    body = wanted[:, 3] > 0.5
    apart = (surface[:, :3].float() - wanted[:, :3]).abs().mean(1)
    where = binary_cross_entropy_with_logits(
        surface[:, 3].float(), wanted[:, 3], reduction="none"
    ).mean((-2, -1))
    return masked_mean(apart, body, (-2, -1)) + where


def camera_loss(camera: WeakCamera) -> Float[Tensor, "b"]:
    """Pushes the scale away from zero and below: exp(-10 s)^2."""
    return torch.exp(-10 * camera.scale).square()


def supervised_terms(
    estimate: Estimate,
    joints_m: Float[Tensor, "b 24 3"],
    maps: PredictedMaps,
    labels: Labels,
    size_px: int,
) -> SupervisedTerms:
    """All terms for a batch of labelled crops; those that ask for a body are 0 where there is none.

    Args:
        estimate: the network's bodies and cameras.
        joints_m: the 24 joints of the estimated bodies.
        maps: of networks that have them.
        labels: in pixels of the crop.
        size_px: of the crop.
    """
    points_px = project_weak(joints_m, estimate.camera, size_px)[..., :2]
    known, labels = known_bodies(labels), without_unknown(labels)
    target_px, confidence = labels.keypoints_px, labels.keypoint_confidence
    return SupervisedTerms(
        keypoints=keypoint_loss(points_px, target_px, confidence, size_px),
        joints=_where_known(known, joint_loss(joints_m, labels.joints_m)),
        pose=_where_known(
            known, (estimate.params.rotmats - labels.params.rotmats).square().mean((-3, -2, -1))
        ),
        shape=_where_known(known, (estimate.params.betas - labels.params.betas).square().mean(-1)),
        camera=camera_loss(estimate.camera),
        heatmaps=None
        if maps.heatmap_logits is None
        else heatmap_loss(maps.heatmap_logits, target_px, confidence, size_px),
        surface=None
        if maps.surface is None or labels.surface is None
        else surface_loss(maps.surface, labels.surface),
    )


def _where_known(known: Bool[Tensor, "b"], values: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
    return torch.where(known, values, torch.zeros_like(values))
