"""Tracks: a person in motion before a moving camera, without a picture.

What a network that looks at keypoints and flow needs to know of a clip, exactly, at a tenth of what
drawing the clip costs and without the flow estimator.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flowhmr.body import COCO_17, BodyModel, BodyParams, Mesh
from flowhmr.cameras import PerspectiveCamera, pixel_centres_px
from flowhmr.raster import Fragments, interpolate, rasterise
from flowhmr.records import FEET
from flowhmr.synth.actors import Actor, MotionConfig, sample_actor
from flowhmr.synth.shots import Shot, ShotConfig, sample_shot

HIDDEN_M = 0.2
"""A keypoint that is so far behind the body's own surface is hidden (Motion HMR, appendix B)."""
BACKDROP = (1.2, 8.0)
"""How far the background is, in distances of the person; log-uniform."""
HIDES = (0.1, 0.5)
"""Width and height of what hides a part of the person, shares of the person's box; uniform."""
STANDS_M_S = 0.3
"""A joint slower than this stands."""
FPS = 30.0


@dataclass(frozen=True)
class TrackConfig:
    """Which tracks."""

    seed: int = 0
    """Of everything that is drawn."""
    frames: int = 64
    """Length of each."""
    size_px: int = 128
    """Width and height of the image, and of the flow's map."""
    motion: MotionConfig = field(default_factory=lambda: MotionConfig(lively=2))
    """How people move."""
    shot: ShotConfig = field(default_factory=lambda: ShotConfig(close=0.12))
    """How they are filmed; more often from close by than in the clips."""
    occluder: float = 0.3
    """Share of tracks in which something hides a part of the person."""


@dataclass(frozen=True, eq=False)
class SynthTrack:
    """One person along a clip. Camera axes: X right, Y down, Z away, metres."""

    params: BodyParams
    """Pose and shape ``[t]``; joint 0 turns the body into camera axes."""
    joints_m: Float[Tensor, "t 24 3"]
    """The chain's joints without the translation, camera axes."""
    translation_m: Float[Tensor, "t 3"]
    """What is added to have them before the camera."""
    camera: PerspectiveCamera
    """``[t]``, pixels of the image."""
    keypoints_px: Float[Tensor, "t 17 2"]
    """COCO's keypoints in the image."""
    visible: Bool[Tensor, "t 17"]
    """On the image, not hidden and not far behind the body's own surface."""
    stands: Bool[Tensor, "t 4"]
    """Which of the joints `FEET` stand in the world, whatever the camera does."""
    boxes_px: Float[Tensor, "t 4"]
    """(x, y, w, h) around all vertices, on the image or not."""
    flow: Float[Tensor, "t2 h w 2"]
    """Where what is seen in each pixel goes until the next frame, pixels; ``t - 1`` maps."""
    person: Bool[Tensor, "t h w"]
    """Pixels that show the person."""

    def __len__(self) -> int:
        return len(self.joints_m)


def synth_track(config: TrackConfig, index: int, body: BodyModel) -> SynthTrack:
    """Track ``index`` of a configuration; follows from (seed, index) alone.

    Args:
        config: which tracks.
        index: number of the track.
        body: the open body.

    Raises:
        ValueError: another body.
    """
    rng = np.random.default_rng([config.seed, index, 77])
    actor, shot = _filmed(config, body, rng)
    joints_world = actor.joints_world.double().numpy()
    rotmat = torch.from_numpy(shot.rotmats)
    verts_cam = torch.from_numpy(shot.to_camera(actor.verts_world.double().numpy()))
    joints_cam = torch.from_numpy(shot.to_camera(joints_world))

    turned = rotmat.float() @ actor.params.rotmats[:, 0]
    rotmats = torch.cat([turned[:, None], actor.params.rotmats[:, 1:]], 1)
    params = body.params(rotmats, actor.params.betas.contiguous())
    joints_m = body.joints(params)
    translation_m = (joints_cam - joints_m).mean(1)

    lens_px = torch.from_numpy(shot.lens_px)
    camera = PerspectiveCamera(lens_px[:, 0], lens_px[:, 1:])
    mesh = Mesh(verts_cam.float(), joints_cam.float(), body.body_id)
    keypoints = camera.project(body.keypoints(mesh, COCO_17).double())
    verts_px = camera.project(verts_cam)
    fragments = _fragments(verts_px, body, config.size_px)
    low, high = verts_px[..., :2].amin(1), verts_px[..., :2].amax(1)
    boxes_px = torch.cat([low, high - low], -1).float()
    visible = _visible(keypoints, verts_px, fragments)
    flow = _wall_flow(shot, _backdrop_m(verts_cam, rng), config.size_px)
    person = fragments.face_ids >= 0
    keypoints_px = keypoints[..., :2].float()
    if rng.random() < config.occluder:
        occluder = _occluder(boxes_px, keypoints_px, flow, rng)
        visible &= ~_inside(keypoints_px, occluder)
        centres = pixel_centres_px(config.size_px, config.size_px)
        person &= ~_inside(centres.expand(config.frames, -1, -1, -1), occluder)
    now = Fragments(
        *(v[:-1] for v in (fragments.face_ids, fragments.barycentrics, fragments.depth))
    )
    # The displacement of a pixel's own point, not the difference of two interpolated positions.
    moved = interpolate(now, body.faces, (verts_px[1:] - verts_px[:-1])[..., :2].float())
    return SynthTrack(
        params=params,
        joints_m=joints_m,
        translation_m=translation_m.float(),
        camera=PerspectiveCamera(camera.focal_px.float(), camera.centre_px.float()),
        keypoints_px=keypoints_px,
        visible=visible,
        stands=_stands(torch.from_numpy(joints_world)),
        boxes_px=boxes_px,
        flow=torch.where(person[:-1, ..., None], moved, flow),
        person=person,
    )


def track_camera(
    config: TrackConfig, index: int, body: BodyModel
) -> tuple[Float[Tensor, "t 3 3"], Float[Tensor, "t 3"]]:
    """How the camera of `synth_track` moves: world to camera axes, and its place in metres.

    Args:
        config, index, body: of the track.
    """
    rng = np.random.default_rng([config.seed, index, 77])
    _, shot = _filmed(config, body, rng)
    return torch.from_numpy(shot.rotmats).float(), torch.from_numpy(shot.centres_m).float()


def _filmed(config: TrackConfig, body: BodyModel, rng: np.random.Generator) -> tuple[Actor, Shot]:
    actor = sample_actor(config.motion, config.frames, body, 1, rng)
    joints_world = actor.joints_world.double().numpy()
    return actor, sample_shot(config.shot, joints_world, config.size_px, rng)


def _stands(joints_world: Float[Tensor, "t 24 3"]) -> Bool[Tensor, "t 4"]:
    """By the step from the frame before to the frame after; at the ends by the one step there."""
    feet = joints_world[:, list(FEET)]
    around = torch.cat([feet[:1], feet, feet[-1:]])
    span = torch.full((len(feet), 1), 2.0)
    span[0], span[-1] = 1.0, 1.0
    speed_m_s = (around[2:] - around[:-2]).norm(dim=-1) * FPS / span
    return speed_m_s < STANDS_M_S


def _inverse_scale(verts_px: Float[Tensor, "t v 3"]) -> Float[Tensor, "t 1"]:
    """``-scale / Z`` is linear in the image, and near the body about as large as its pixels."""
    spread_px = (verts_px[..., :2].amax(1) - verts_px[..., :2].amin(1)).amax(-1)
    return (spread_px * verts_px[..., 2].mean(1))[:, None]


def _fragments(verts_px: Float[Tensor, "t v 3"], body: BodyModel, size_px: int) -> Fragments:
    linear = -_inverse_scale(verts_px) / verts_px[..., 2]
    flat = torch.cat([verts_px[..., :2], linear[..., None]], -1)
    return rasterise(flat, body.faces, size_px, size_px)


def _visible(
    keypoints: Float[Tensor, "t k 3"], verts_px: Float[Tensor, "t v 3"], fragments: Fragments
) -> Bool[Tensor, "t k"]:
    size_px = fragments.face_ids.shape[-1]
    inside = ((keypoints[..., :2] >= 0) & (keypoints[..., :2] < size_px)).all(-1)
    column, row = keypoints[..., :2].nan_to_num().clamp(0, size_px - 1).long().unbind(-1)
    frame = torch.arange(len(keypoints))[:, None]
    surface_m = -_inverse_scale(verts_px) / fragments.depth[frame, row, column]
    seen = fragments.face_ids[frame, row, column] >= 0
    return inside & ~(seen & (keypoints[..., 2] > surface_m + HIDDEN_M))


def _backdrop_m(verts_cam: Float[Tensor, "t v 3"], rng: np.random.Generator) -> float:
    low, high = np.log(BACKDROP)
    return float(verts_cam[..., 2].mean()) * float(np.exp(rng.uniform(low, high)))


def _wall_flow(shot: Shot, distance_m: float, size_px: int) -> Float[Tensor, "t2 h w 2"]:
    """Of a wall that faces the camera of each frame, so far away: a homography a frame."""
    rotmat, eye_m = torch.from_numpy(shot.rotmats), torch.from_numpy(shot.centres_m)
    focal_px, x_px, y_px = torch.from_numpy(shot.lens_px).T
    none, one = torch.zeros_like(focal_px), torch.ones_like(focal_px)
    lens = torch.stack([focal_px, none, x_px, none, focal_px, y_px, none, none, one], -1)
    lens = lens.unflatten(-1, (3, 3))
    turn = rotmat[1:] @ rotmat[:-1].mT
    step_m = (rotmat[1:] @ (eye_m[:-1] - eye_m[1:])[..., None])[..., 0]
    turn[..., 2] += step_m / distance_m
    warp = (lens[1:] @ turn @ torch.linalg.inv(lens[:-1])).float()
    centres = pixel_centres_px(size_px, size_px)
    points = torch.cat([centres, torch.ones_like(centres[..., :1])], -1).flatten(0, 1)
    seen = points @ warp.mT
    return (seen[..., :2] / seen[..., 2:]).unflatten(1, (size_px, size_px)) - centres


def _occluder(
    boxes_px: Float[Tensor, "t 4"],
    keypoints_px: Float[Tensor, "t k 2"],
    wall: Float[Tensor, "t2 h w 2"],
    rng: np.random.Generator,
) -> Float[Tensor, "t 4"]:
    """A box (x, y, w, h) that stands still in the scene and hides a part of the person."""
    frames, middle = len(boxes_px), len(boxes_px) // 2
    at = keypoints_px[middle, int(rng.integers(keypoints_px.shape[1]))]
    size = boxes_px[middle, 2:].amax() * torch.from_numpy(rng.uniform(*HIDES, 2)).float()
    steps = torch.cat([torch.zeros(1, 2), wall.flatten(1, 2).median(1).values])
    path = steps.cumsum(0)
    path = path - path[middle] + at
    # Some walk past by themselves.
    if rng.random() < 0.3:
        drift = torch.from_numpy(rng.normal(0, 0.01, 2)).float() * boxes_px[middle, 2:].amax()
        path = path + (torch.arange(frames)[:, None] - middle) * drift
    return torch.cat([path - size / 2, size.expand(frames, 2)], -1)


def _inside(points_px: Float[Tensor, "t *n 2"], boxes_px: Float[Tensor, "t 4"]) -> Tensor:
    boxes_px = boxes_px.reshape(len(boxes_px), *(1,) * (points_px.ndim - 2), 4)
    low, high = boxes_px[..., :2], boxes_px[..., :2] + boxes_px[..., 2:]
    return ((points_px >= low) & (points_px < high)).all(-1)
