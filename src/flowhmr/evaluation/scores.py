"""Scores of any estimator: ``Callable[[Clip], Estimate]`` on clips of one person."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from flowhmr.body import H36M_14, BodyModel, BodyParams
from flowhmr.bodyflow import body_flow, swap_body_flow, vertex_flow
from flowhmr.cameras import WeakCamera, between_crops, project_weak
from flowhmr.evaluation.metrics import acceleration, acceleration_error, mpjpe, pa_mpjpe, pve
from flowhmr.flow import swap_pair
from flowhmr.geometry import weighted_mean
from flowhmr.records import Clip, Estimate, TestClip, TrackLabels

Estimator = Callable[[Clip], Estimate]
"""Takes a clip ``[t]``, gives its bodies and cameras ``[t]``."""

PROTOCOL = (
    "14 common joints, root mid-hip, per-frame similarity for PA, mm; acceleration per clip; "
    "the chain's 24 joints in 2D"
)
ROOT = (H36M_14.index("left_hip"), H36M_14.index("right_hip"))
UNIT_PX = 224


@dataclass(frozen=True)
class ClipScore:
    """Means over the frames of one clip."""

    name: str
    """The clip."""
    person: str
    """Who is seen."""
    frames: int
    """How many frames were scored."""
    mpjpe: float
    """mm, about the mid-hip."""
    pa_mpjpe: float
    """mm, after similarity alignment of each frame."""
    pve: float
    """mm per vertex, about the mid-hip."""
    accel_error: float
    """mm/frame^2, distance of the estimate's acceleration from the truth's."""
    accel: float
    """mm/frame^2, length of the estimate's own acceleration (jitter)."""
    keypoints_px: float
    """Distance of the estimate's joints from the truth in the picture, pixels of a crop of 224."""
    accelerations: int | None = None
    """Over how many frames the accelerations are means; None: all frames but two."""


@dataclass(frozen=True)
class FlowScore:
    """How well bodies move as the image does, over pairs of frames."""

    pairs: int
    """How many pairs were compared."""
    disagreement_px: float
    """Mean distance of body flow and image flow at the visible vertices, pixels of a window of 224;
    consistent flow only."""
    image_flow_px: float
    """Mean length of the image flow there: what a body that never moves would score."""


@torch.no_grad()
def score_clip(estimator: Estimator, test: TestClip, body: BodyModel) -> ClipScore:
    """Scores on one labelled clip, by `PROTOCOL`."""
    labels = test.clip.labels
    if labels is None:
        raise ValueError(f"{test.name}: got a clip without labels; expected one with 3D labels")
    half_px = test.clip.frames.shape[-1] / 2
    points = labels.keypoints_px / half_px - 1
    estimate = estimator(test.clip)
    return score_bodies(estimate, TrackLabels(labels.params, points), body, test.name, test.person)


@torch.no_grad()
def score_bodies(
    estimate: Estimate, labels: TrackLabels, body: BodyModel, name: str, person: str
) -> ClipScore:
    """Scores of bodies ``[t]`` along one clip, by `PROTOCOL`.

    Args:
        estimate: the bodies.
        labels: the truth.
        body: whose parameters both are.
        name, person: of the clip, for tables.
    """
    mesh, truth = body.mesh(estimate.params), body.mesh(labels.params)
    seen_px = project_weak(mesh.joints, estimate.camera, UNIT_PX)[..., :2]
    points_px = (labels.points + 1) * (UNIT_PX / 2)
    joints_m, target_m = body.keypoints(mesh, H36M_14), body.keypoints(truth, H36M_14)
    hips, target_hips = (j[:, list(ROOT)].mean(1) for j in (joints_m, target_m))
    own = acceleration(joints_m - hips[:, None])
    return ClipScore(
        name=name,
        person=person,
        frames=len(joints_m),
        mpjpe=float(mpjpe(joints_m, target_m, ROOT).mean()),
        pa_mpjpe=float(pa_mpjpe(joints_m, target_m).mean()),
        pve=float(pve(mesh.verts, truth.verts, hips, target_hips).mean()),
        accel_error=float(acceleration_error(joints_m, target_m, ROOT).mean()),
        accel=float(own.norm(dim=-1).mean()),
        keypoints_px=float((seen_px - points_px).norm(dim=-1).mean()),
    )


@torch.no_grad()
def score_jitter(estimator: Estimator, clip: Clip, body: BodyModel) -> float:
    """Mean acceleration of the estimate on an unlabelled clip, mm/frame^2, about the mid-hip."""
    mesh = body.mesh(estimator(clip).params)
    joints_m = body.keypoints(mesh, H36M_14)
    own = acceleration(joints_m - joints_m[:, list(ROOT)].mean(1, keepdim=True))
    return float(own.norm(dim=-1).mean())


@torch.no_grad()
def score_flow(estimator: Estimator, pairs: Iterable[Clip], body: BodyModel) -> FlowScore:
    """Flow disagreement over pairs of frames ``[2]`` with flow ``[1]``, both ways averaged.

    Each frame is estimated in its own crop; the bodies are compared in the flow's window.
    """
    apart: list[float] = []
    lengths: list[float] = []
    count = 0
    for clip in pairs:
        count += 1
        if clip.flow is None or clip.flow_crop is None:
            raise ValueError("got a pair without flow; expected clips cut by a FlowSource")
        estimate = estimator(clip)
        verts_px = project_weak(
            body.mesh(estimate.params).verts, estimate.camera, clip.frames.shape[-1]
        )
        verts_px, size_px = (
            between_crops(verts_px, clip.crop, clip.flow_crop),
            clip.flow_crop.size_px,
        )
        forward = body_flow(verts_px[:1], verts_px[1:], body.faces, size_px)
        unit = UNIT_PX / size_px
        for moved, image in (
            (forward, clip.flow),
            (swap_body_flow(forward), swap_pair(clip.flow)),
        ):
            flows = vertex_flow(moved, image, consistent=True)
            counted = flows.counted.float()
            gap = (flows.body_px - flows.image_px).norm(dim=-1)
            if bool(flows.counted.any()):
                apart.append(unit * float(weighted_mean(gap, counted, -1)))
                lengths.append(
                    unit * float(weighted_mean(flows.image_px.norm(dim=-1), counted, -1))
                )
    mean = torch.tensor([apart, lengths]).mean(-1) if apart else torch.full((2,), torch.nan)
    return FlowScore(count, float(mean[0]), float(mean[1]))


class MeanPose:
    """The floor any network must beat: the same body for every crop.

    Args:
        params: mean pose and shape, no leading axes.
    """

    def __init__(self, params: BodyParams):
        self.params = params

    def __call__(self, clip: Clip) -> Estimate:
        """The mean body for each frame."""
        t = clip.frames.shape[0]
        rotmats = self.params.rotmats.expand(t, -1, -1, -1)
        params = BodyParams(rotmats, self.params.betas.expand(t, -1), self.params.body_id)
        return Estimate(params, WeakCamera(torch.tensor([0.9, 0.0, 0.0]).expand(t, 3)))
