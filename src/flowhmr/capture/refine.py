"""Refinement of a person's motion over the whole track: keypoints, flow, feet, smoothness, shape.

The bodies themselves are moved, not a network (of4hmr, appendix G.2), in metres before the video's
camera. Keypoints and flow are compared at the joints and along the bones: no mesh is made, and a
second of video takes a tenth of a second.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flowhmr.body import COCO_17, SMPL_24, BodyModel, BodyParams
from flowhmr.cameras import PerspectiveCamera
from flowhmr.capture.ground import GroundMotion
from flowhmr.data import ACROSS, ALONG, BONES
from flowhmr.geometry import pick, rotmat_from_axis_angle
from flowhmr.records import FEET, PersonMotion, gaps_in

LIMBS = [name for name in COCO_17.names if name in SMPL_24.names]
"""COCO's keypoints that are joints of the body's chain: all but the face's. Detectors agree on
them best: how far a body is from the picture is said of these."""


@dataclass(frozen=True)
class TrackFitConfig:
    """What a motion is fitted to, and how. Each residual counts as a square up to its unit, then
    linearly; weights are of means over frames."""

    steps: int = 100
    """Updates; 0 leaves the motion as it is."""
    pose_rate: float = 0.03
    """Adam's first step of the joints' turns, radians; all rates fall to zero along a cosine."""
    shape_rate: float = 0.01
    """Adam's first step of the betas."""
    translation_rate: float = 0.02
    """Adam's first step of the translation, metres."""
    keypoints: float = 14.0
    """Weight of detected keypoints."""
    face: float = 0.3
    """The face's keypoints count so much less: they are close together and shake the head."""
    keypoint_unit: float = 0.015
    """Share of the person's crop."""
    flow: float = 3.0
    """Weight of the flow along the bones."""
    flow_unit: float = 0.004
    """Share of the person's crop."""
    prior: float = 100.0
    """Pull of each joint's turn to the network's, per radian squared."""
    depth: float = 20.0
    """Pull of the distance to the network's, per squared share of it."""
    shape: float = 0.05
    """Pull of the betas to the network's."""
    smooth: float = 2.0
    """Weight of the joints' accelerations before the camera."""
    smooth_unit: float = 0.01
    """Metres per frame squared: a stamp stays a stamp."""
    feet: float = 1.0
    """Weight of the motion of feet that stand, against the ground that they stand on."""
    feet_unit: float = 0.005
    """Metres per frame: what is more may be a foot that does not stand after all."""
    window: int = 256
    """Frames that are fitted at a time; bounds the memory."""
    overlap: int = 32
    """Frames that neighbouring windows share, where the motion goes over from one to the other."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the picture says of a person, for each frame of a motion."""

    keypoints_px: Float[Tensor, "t 17 3"]
    """Pixels of the image and confidence; zeros where missing."""
    limb_flow_px: Float[Tensor, "t p 3"]
    """Flow at the limbs' points until the next frame of the video, and 1 where known."""
    side_px: Float[Tensor, "t"]
    """Width of the person's crop."""
    stands: Float[Tensor, "t 4"]
    """How likely each of the joints `flowhmr.records.FEET` stands in the world, 0..1."""
    ground: GroundMotion
    """How the camera turns about the person until the next frame of the video."""

    def apart_px(
        self, joints_cam: Float[Tensor, "t 24 3"], camera: PerspectiveCamera
    ) -> Float[Tensor, "t"]:
        """Mean distance of the limbs' joints from their keypoints, pixels of a crop of 224.

        NaN in frames without keypoints.
        """
        seen = self.keypoints_px[:, _LIMB_KEYPOINTS]
        points_px = camera.project(joints_cam)[:, _LIMB_JOINTS, :2]
        off = (points_px - seen[..., :2]).norm(dim=-1) * (224 / self.side_px)[:, None]
        return _mean_where(off, seen[..., 2] > 0)

    def flow_apart_px(
        self, joints_cam: Float[Tensor, "t 24 3"], camera: PerspectiveCamera
    ) -> Float[Tensor, "t"]:
        """Mean distance of the bones' motion from the flow, pixels of a crop of 224.

        NaN in frames without flow, such as the last.
        """
        moved_px = _bone_flow(camera.project(joints_cam)[..., :2])
        flow = self.limb_flow_px[:-1]
        off = (moved_px - flow[..., :2]).norm(dim=-1) * (224 / self.side_px[:-1])[:, None]
        last = off.new_full((1,), torch.nan)
        return torch.cat([_mean_where(off, flow[..., 2] > 0), last])

    def slide_m(self, joints_cam: Float[Tensor, "t 24 3"]) -> Float[Tensor, "t"]:
        """How far feet that stand move over the ground until the next frame, metres.

        NaN in frames in which none is known to stand, such as the last.
        """
        slides_m, weight = _slides(joints_cam, self)
        weight = weight * (weight > 0.5)
        mean_m = (slides_m.norm(dim=-1) * weight).sum(-1) / weight.sum(-1)
        return torch.cat([mean_m, mean_m.new_full((1,), torch.nan)])


def fit_track(
    motion: PersonMotion,
    evidence: Evidence,
    camera: PerspectiveCamera,
    body: BodyModel,
    config: TrackFitConfig,
    on_share: Callable[[float], None] | None = None,
) -> PersonMotion:
    """The motion, moved until it agrees with the picture.

    The shape is fitted where the picture says most; it is the same all along. Frames that do not
    follow each other are neither compared nor smoothed across.

    Args:
        motion: the network's.
        evidence: of the same frames.
        camera: of the video, the same in all frames.
        body: whose parameters the motion has.
        config: terms and weights.
        on_share: told which share of the work is done, 0..1, after each window.
    """
    body.check_identity("motion", motion.params.body_id)
    if not config.steps:
        return motion
    windows = [w for rows in gaps_in(motion.frame_indices) for w in _windows(rows, config)]
    told = [float(evidence.keypoints_px[rows][..., 2].sum()) for rows in windows]
    order = sorted(range(len(windows)), key=lambda k: -told[k])
    betas = motion.params.betas[0]
    fitted: dict[int, tuple[Tensor, Tensor]] = {}
    for number, k in enumerate(order):
        rows = windows[k]
        rotmats, translation_m, betas = _fit_window(
            motion, betas, pick(evidence, rows), rows, camera, body, config, number == 0
        )
        fitted[k] = rotmats, translation_m
        if on_share is not None:
            on_share((number + 1) / len(windows))
    rotmats, translation_m = _joined(motion, windows, fitted)
    shape = betas.expand(len(motion), -1).contiguous()
    params = BodyParams(rotmats, shape, motion.params.body_id)
    return replace(motion, params=params, translation_m=translation_m)


def _windows(rows: Tensor, config: TrackFitConfig) -> list[Tensor]:
    """Overlapping windows of consecutive rows, none much shorter than the others."""
    step = config.window - config.overlap
    count = max(1, math.ceil((len(rows) - config.overlap) / step))
    length = min(len(rows), math.ceil((len(rows) - config.overlap) / count) + config.overlap)
    starts = torch.linspace(0, len(rows) - length, count).round().long().tolist()
    return [rows[s : s + length] for s in starts]


def _fit_window(
    motion: PersonMotion,
    betas: Float[Tensor, "k"],
    evidence: Evidence,
    rows: Tensor,
    camera: PerspectiveCamera,
    body: BodyModel,
    config: TrackFitConfig,
    shape_too: bool,
) -> tuple[Float[Tensor, "t 24 3 3"], Float[Tensor, "t 3"], Float[Tensor, "k"]]:
    start, first_m = motion.params.rotmats[rows], motion.translation_m[rows]
    turn = torch.zeros(*start.shape[:2], 3, requires_grad=True)
    shift = torch.zeros_like(first_m, requires_grad=True)
    grow = torch.zeros_like(betas, requires_grad=True)
    groups = [
        {"params": [turn], "lr": config.pose_rate},
        {"params": [shift], "lr": config.translation_rate},
        {"params": [grow], "lr": config.shape_rate * shape_too},
    ]
    optimiser = torch.optim.Adam(groups, betas=(0.9, 0.99))
    course = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.steps)
    for _ in range(config.steps):
        rotmats, where_m = start @ rotmat_from_axis_angle(turn), (first_m + shift)[:, None]
        params = _params(body, rotmats, betas + grow)
        joints_m, keypoints_m = body.joints_and_keypoints(params, COCO_17)
        joints_cam = joints_m + where_m
        total = _disagreement(joints_cam, keypoints_m + where_m, evidence, camera, config)
        if config.feet and len(rows) > 1:
            slides_m, weight = _slides(joints_cam, evidence)
            total = total + config.feet * (robust(slides_m / config.feet_unit) * weight).mean()
        if config.smooth and len(rows) > 2:
            # Small bodies move less: that must not shrink them.
            still = joints_cam
            if shape_too:
                still = body.joints(_params(body, rotmats, betas + grow.detach())) + where_m
            bend = still[:-2] - 2 * still[1:-1] + still[2:]
            total = total + config.smooth * robust(bend / config.smooth_unit).mean()
        total = total + config.prior * turn.square().sum(-1).mean()
        total = total + config.depth * (shift[:, 2] / first_m[:, 2]).square().mean()
        total = total + config.shape * grow.square().sum()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        course.step()
    with torch.no_grad():
        rotmats = start @ rotmat_from_axis_angle(turn)
        return rotmats, first_m + shift.detach(), betas + grow.detach()


def _params(
    body: BodyModel, rotmats: Float[Tensor, "t 24 3 3"], betas: Float[Tensor, "k"]
) -> BodyParams:
    return body.params(rotmats, betas.expand(len(rotmats), -1))


_ON_CHAIN = torch.tensor([name in LIMBS for name in COCO_17.names])
_LIMB_JOINTS = list(SMPL_24.indices_of(LIMBS))
_LIMB_KEYPOINTS = list(COCO_17.indices_of(LIMBS))
_BONE_JOINTS = [
    [SMPL_24.index(COCO_17.names[end]) for end in bone] for bone in BONES
]  # fmt: skip


def _disagreement(
    joints_cam: Float[Tensor, "t 24 3"],
    keypoints_cam: Float[Tensor, "t 17 3"],
    evidence: Evidence,
    camera: PerspectiveCamera,
    config: TrackFitConfig,
) -> Float[Tensor, ""]:
    side_px = evidence.side_px[:, None, None]
    seen = evidence.keypoints_px
    off = camera.project(keypoints_cam)[..., :2] - seen[..., :2]
    apart = robust(off / (config.keypoint_unit * side_px)) * seen[..., 2]
    trust = torch.where(_ON_CHAIN.to(apart.device), 1.0, config.face)
    total = config.keypoints * (apart * trust).mean()
    if config.flow and len(joints_cam) > 1:
        flow = evidence.limb_flow_px[:-1]
        moved_px = _bone_flow(camera.project(joints_cam)[..., :2])
        off = (moved_px - flow[..., :2]) / (config.flow_unit * side_px[:-1])
        total = total + config.flow * (robust(off) * flow[..., 2]).mean()
    return total


def _slides(
    joints_cam: Float[Tensor, "t 24 3"], evidence: Evidence
) -> tuple[Float[Tensor, "t2 4 3"], Float[Tensor, "t2 4"]]:
    """How feet move over the ground until the next frame, metres, and how surely they do not."""
    feet, ground = joints_cam[:, list(FEET)], evidence.ground
    # The camera's turn carries what stands still along.
    slides_m = feet[1:] - feet[:-1] @ ground.turns[:-1].mT
    stands = evidence.stands
    return slides_m, stands[:-1] * stands[1:] * ground.steady[:-1, None]


def _mean_where(values: Float[Tensor, "t n"], known: Bool[Tensor, "t n"]) -> Float[Tensor, "t"]:
    """NaN where nothing is known."""
    return torch.where(known, values, torch.nan).nanmean(-1)


def _bone_flow(points_px: Float[Tensor, "t 24 2"]) -> Float[Tensor, "t2 p 2"]:
    """How the limbs' points move from frame to frame with the bones that they lie on."""
    moved_px = (points_px[1:] - points_px[:-1])[:, _BONE_JOINTS]
    start, end = moved_px[:, :, 0, None], moved_px[:, :, 1, None]
    along = start + moved_px.new_tensor(ALONG)[:, None] * (end - start)
    # Both sides of a bone move as the bone: what its turn about itself adds is left out.
    return along[..., None, :].expand(*along.shape[:-1], len(ACROSS), 2).flatten(1, 3)


def robust(off: Float[Tensor, "*b c"]) -> Float[Tensor, "*b"]:
    """Half the square of short residuals' lengths, the length of long ones (Charbonnier)."""
    return torch.sqrt(1 + off.square().sum(-1)) - 1


def _joined(
    motion: PersonMotion, windows: list[Tensor], fitted: dict[int, tuple[Tensor, Tensor]]
) -> tuple[Float[Tensor, "t 24 3 3"], Float[Tensor, "t 3"]]:
    """Windows put together; where they overlap, from one to the other in a straight line."""
    import roma

    rotmats = torch.zeros_like(motion.params.rotmats)
    translation_m = torch.zeros_like(motion.translation_m)
    weight = torch.zeros(len(motion))
    shared = _times_covered(len(motion), windows)
    for k, rows in enumerate(windows):
        share = _share(rows, shared)
        rotmats[rows] += share[:, None, None, None] * fitted[k][0]
        translation_m[rows] += share[:, None] * fitted[k][1]
        weight[rows] += share
    mean = rotmats / weight[:, None, None, None]
    # Where there is one window only, its own rotations, to the bit.
    alone = (shared == 1)[:, None, None, None]
    nearest = cast(Tensor, roma.special_procrustes(mean))
    return torch.where(alone, mean, nearest), translation_m / weight[:, None]


def _times_covered(frames: int, windows: list[Tensor]) -> Tensor:
    covered = torch.zeros(frames)
    for rows in windows:
        covered[rows] += 1
    return covered


def _share(rows: Tensor, covered: Float[Tensor, "t"]) -> Float[Tensor, "n"]:
    """1 where a window is alone, falling towards its ends where it is not."""
    several: Bool[Tensor, "n"] = covered[rows] > 1
    n = len(rows)
    from_ends = torch.minimum(torch.arange(n) + 1, torch.arange(n, 0, -1)).float()
    return torch.where(several, from_ends, torch.ones(n))
