"""The supervised loss of SPIN and EFT: 2D and 3D joints, pose, shape, camera."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from flowhmr.body import SMPL_24
from flowhmr.cameras import WeakCamera, pixel_centres_px, project_weak
from flowhmr.geometry import weighted_mean
from flowhmr.records import Estimate, Labels

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
    error = (points_px - target_px).mul(2 / size_px).square().mean(-1)
    kept = torch.where(confidence > 0, error, torch.zeros_like(error))
    return (confidence * kept).mean(-1)


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

    Joints outside the crop do not count.
    """
    height, width = logits.shape[-2:]
    centres = pixel_centres_px(height, width).to(logits.device)
    target_cells = target_px * (width / size_px)
    apart = (centres[None, None] - target_cells[:, :, None, None]).square().sum(-1)
    target = (-apart / (2 * sigma_cells**2)).flatten(2).softmax(-1)
    entropy = -(target * logits.float().flatten(2).log_softmax(-1)).sum(-1)
    inside = ((target_px >= 0) & (target_px <= size_px)).all(-1)
    return weighted_mean(entropy, confidence * inside, -1)


def camera_loss(camera: WeakCamera) -> Float[Tensor, "b"]:
    """Pushes the scale away from zero and below: exp(-10 s)^2."""
    return torch.exp(-10 * camera.scale).square()


def supervised_terms(
    estimate: Estimate,
    joints_m: Float[Tensor, "b 24 3"],
    heatmap_logits: Float[Tensor, "b 24 h w"] | None,
    labels: Labels,
    size_px: int,
) -> SupervisedTerms:
    """All terms for a batch of labelled crops.

    Args:
        estimate: the network's bodies and cameras.
        joints_m: the 24 joints of the estimated bodies.
        heatmap_logits: of networks that have them.
        labels: in pixels of the crop.
        size_px: of the crop.
    """
    points_px = project_weak(joints_m, estimate.camera, size_px)[..., :2]
    target_px, confidence = labels.keypoints_px, labels.keypoint_confidence
    return SupervisedTerms(
        keypoints=keypoint_loss(points_px, target_px, confidence, size_px),
        joints=joint_loss(joints_m, labels.joints_m),
        pose=(estimate.params.rotmats - labels.params.rotmats).square().mean((-3, -2, -1)),
        shape=(estimate.params.betas - labels.params.betas).square().mean(-1),
        camera=camera_loss(estimate.camera),
        heatmaps=None
        if heatmap_logits is None
        else heatmap_loss(heatmap_logits, target_px, confidence, size_px),
    )
