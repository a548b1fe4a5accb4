"""Draws a stage on the CPU: every frame's picture, and the maps that ground truth is read from."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int32
from torch import Tensor

from flowhmr.body import SMPL_24, BodyModel
from flowhmr.raster import rasterise
from flowhmr.synth.lighting import SHADOW_M, ground_shadow, things_shadow
from flowhmr.synth.motion_kernels import flow_between
from flowhmr.synth.outfits import face_regions
from flowhmr.synth.renderer import vertex_normals
from flowhmr.synth.shading import SHADOW_PX, SUPERSAMPLE, shade_frame
from flowhmr.synth.shots import Shot
from flowhmr.synth.slic import choose_occluder, superpixels
from flowhmr.synth.stage import Stage, random_stream
from flowhmr.synth.things import merge_body, trace

NOISE_CELLS = 32
SUPERPIXEL_PX = 48
"""Size at which the background is drawn to be cut into super-pixels."""
COMMON_14 = (
    *(side + name for name in ("ankle", "knee", "hip", "wrist", "elbow", "shoulder")
      for side in ("left_", "right_")), "neck", "head",
)  # fmt: skip
"""Joints that count when an occluder is chosen (Motion HMR, appendix A)."""


@dataclass(frozen=True, eq=False)
class Maps:
    """What the centre of each pixel sees, in each frame."""

    ids: Int32[Tensor, "t h w"]
    """Face of a person (of person p: p times the number of faces more), or -1 - n for thing n."""
    depth_m: Float32[Tensor, "t h w"]
    """Z in camera axes."""
    weights: Float32[Tensor, "t h w 3"]
    """Weights of the face's corners on the surface; meaningless on things."""


@dataclass(frozen=True, eq=False)
class Drawing:
    """A drawn clip, before the camera's electronics; on the device that drew it."""

    images: Float32[Tensor, "t h w 3"]
    """Colours 0..1 (gamma 2)."""
    maps: Maps
    """What is seen where."""
    forward: Float32[Tensor, "t-1 h w 2"]
    """Flow from each frame to the next, pixels."""
    backward: Float32[Tensor, "t-1 h w 2"]
    """Flow from each frame but the first to the one before it, on its own pixels."""
    forward_valid: Bool[Tensor, "t-1 h w"]
    """Pixels whose point is seen in the next frame too, and whose motion is known."""
    backward_valid: Bool[Tensor, "t-1 h w"]
    """The same for the frame before."""
    hidden: Bool[Tensor, "t h w"]
    """Pixels of the super-pixel that is in front of everybody."""
    dressed_cam: Float32[Tensor, "a t v 3"]
    """Vertices of each person with clothes, camera axes, metres."""


class _Arrays(NamedTuple):
    """`Maps` for the kernels."""

    ids: Int32[np.ndarray, "t h w"]
    depth_m: Float32[np.ndarray, "t h w"]
    weights: Float32[np.ndarray, "t h w 3"]


@dataclass(frozen=True, eq=False)
class _Cast:
    """The people of a stage as the kernels want them."""

    faces: Int32[np.ndarray, "f 3"]
    dressed_world: Float32[np.ndarray, "a t v 3"]
    dressed_cam: Float32[np.ndarray, "a t v 3"]
    normals: Float32[np.ndarray, "a t v 3"]
    tables: tuple
    """All but the normals, in the order of `shade_frame`."""

    def people(self, t: int) -> tuple:
        regions_rest_noise, cuts = self.tables[1:4], self.tables[4:]
        return (self.faces, *regions_rest_noise, self.normals[:, t], *cuts)


def draw(stage: Stage, body: BodyModel) -> Drawing:
    """Draw all frames, on one thread: the same bytes in every process."""
    with _one_thread():
        cast = _prepare(stage, body)
        size = stage.config.size_px
        hidden = np.zeros((len(stage), size, size), bool)
        maps = _map(stage, cast, size, hidden)
        if stage.try_superpixel:
            subject = (maps.ids >= 0) & (maps.ids < len(cast.faces))
            mask = find_occluder(stage, subject)
            if mask is not None:
                hidden = mask
                maps = _map(stage, cast, size, hidden)
        images = _paint(stage, cast, size, hidden)
        forward, forward_valid = _flows(stage, cast, maps, +1)
        backward, backward_valid = _flows(stage, cast, maps, -1)
    tensor = torch.from_numpy
    return Drawing(
        images=tensor(images),
        maps=Maps(*map(tensor, maps)),
        forward=tensor(forward),
        backward=tensor(backward),
        forward_valid=tensor(forward_valid),
        backward_valid=tensor(backward_valid),
        hidden=tensor(hidden),
        dressed_cam=tensor(cast.dressed_cam),
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    threads, cv_threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(cv_threads)


@cache
def noise_volume() -> Float32[np.ndarray, "n n n"]:
    """Random numbers that patterns are made of."""
    return np.random.default_rng(0).random((NOISE_CELLS,) * 3, dtype=np.float32)


def _prepare(stage: Stage, body: BodyModel) -> _Cast:
    faces = body.faces.numpy().astype(np.int32)
    naked = np.stack([a.verts_world.numpy() for a in stage.actors])
    normals = np.empty_like(naked)
    for actor in range(len(naked)):
        for t in range(len(stage)):
            vertex_normals(naked[actor, t], faces, normals[actor, t])
    lift = np.stack([a.outfit.lift_m for a in stage.actors])
    dressed = naked + normals * lift[:, None, :, None]
    cam = [stage.shot.to_camera(d) for d in dressed]
    outfits = [a.outfit for a in stage.actors]
    tables = (
        faces,
        face_regions(body),
        body.v_template.numpy(),
        noise_volume(),
        np.stack([o.cut for o in outfits]),
        np.stack([o.materials for o in outfits]),
        np.array(stage.fabrics, np.int64),
    )
    return _Cast(faces, dressed, np.stack(cam).astype(np.float32), normals, tables)


def _view(shot: Shot, t: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return shot.rotmats[t], shot.centres_m[t], shot.lens_px[t]


def _map_frame(
    stage: Stage, cast: _Cast, t: int, scale: int, hidden: np.ndarray, out: tuple
) -> None:
    """Fill ids, depth and weights of a frame, ``scale`` times as fine as ``hidden``."""
    ids, depth, weights = out
    scene, place = stage.scene_shot.zoomed(scale), stage.place
    trace(place.things, place.poses[t], *_view(scene, t), ids, depth)
    focal_px, x_px, y_px = stage.shot.lens_px[t] * scale
    for number, verts in enumerate(cast.dressed_cam[:, t].astype(np.float64)):
        inverse = 1 / verts[:, 2]
        seen = np.stack(
            [focal_px * verts[:, 0] * inverse + x_px, focal_px * verts[:, 1] * inverse + y_px,
             -inverse], -1,
        )  # fmt: skip
        # The inverse of the depth is linear in the image, so this z-buffer is exact.
        found = rasterise(torch.from_numpy(seen), torch.from_numpy(cast.faces), *ids.shape)
        merge_body(
            found.face_ids.numpy(), found.barycentrics.numpy(), inverse, cast.faces,
            number * len(cast.faces), hidden, scale, ids, depth, weights,
        )  # fmt: skip


def _map(stage: Stage, cast: _Cast, size: int, hidden: np.ndarray) -> _Arrays:
    frames = len(stage)
    maps = _Arrays(
        np.empty((frames, size, size), np.int32),
        np.empty((frames, size, size), np.float32),
        np.zeros((frames, size, size, 3), np.float32),
    )
    for t in range(frames):
        out = (maps.ids[t], maps.depth_m[t], maps.weights[t])
        _map_frame(stage, cast, t, 1, hidden[t], out)
    return maps


def _paint(stage: Stage, cast: _Cast, size: int, hidden: np.ndarray) -> np.ndarray:
    fine = size * SUPERSAMPLE
    ids = np.empty((fine, fine), np.int32)
    depth = np.empty((fine, fine), np.float32)
    weights = np.empty((fine, fine, 3), np.float32)
    images = np.empty((len(stage), size, size, 3), np.float32)
    middle = shadow_middle(stage)
    standing = things_shadow(stage.place, middle)
    for t in range(len(stage)):
        _map_frame(stage, cast, t, SUPERSAMPLE, hidden[t], (ids, depth, weights))
        world = _world(stage, t, _shadow(stage, cast, t, middle, standing), middle)
        view = _view(stage.scene_shot, t)
        backdrop = _backdrop(stage, t, size)
        shade_frame(ids, depth, weights, view, world, cast.people(t), backdrop, images[t])
    return images


def _backdrop(stage: Stage, t: int, size: int) -> Float32[np.ndarray, "s s 3"]:
    if stage.backdrop is None:
        return np.zeros((size, size, 3), np.float32)
    return stage.backdrop.images[t].astype(np.float32) / 255


def _world(stage: Stage, t: int, shadow: np.ndarray, middle: tuple[float, float]) -> tuple:
    corner = np.array([middle[0] - SHADOW_M / 2, middle[1] - SHADOW_M / 2, SHADOW_PX / SHADOW_M])
    place = stage.place
    return place.things, place.poses[t], place.textures, stage.lighting.table, shadow, corner


def shadow_middle(stage: Stage) -> tuple[float, float]:
    """Middle (x, z) of the square of ground that receives shadows, metres."""
    at = stage.actors[0].joints_world.mean((0, 1))
    return float(at[0]), float(at[2])


def _shadow(
    stage: Stage, cast: _Cast, t: int, middle: tuple[float, float], standing: np.ndarray
) -> Float32[np.ndarray, "s s"]:
    everybody = cast.dressed_world[:, t].reshape(-1, 3)
    thrown = ground_shadow(stage.lighting, everybody, middle)
    return 1 - (1 - thrown) * (1 - standing)


def find_occluder(
    stage: Stage, silhouette: Bool[np.ndarray, "t h w"]
) -> Bool[np.ndarray, "t h w"] | None:
    """A super-pixel of the empty scene that hides a part of the person, if one is found."""
    rng = random_stream(stage.config, stage.index, "blob")
    images, drift_px = _empty_scene(stage)
    labels = superpixels(images, drift_px, rng)
    joints_world = stage.actors[0].joints_world[:, list(SMPL_24.indices_of(COMMON_14))]
    joints_px = stage.shot.project(joints_world.double().cpu().numpy()).astype(np.float32)
    return choose_occluder(labels, silhouette, joints_px, rng)


def _empty_scene(stage: Stage) -> tuple[np.ndarray, np.ndarray]:
    """Small pictures without people, and how the scene moves in them (pixels of these)."""
    if stage.backdrop is not None:
        shrink = SUPERPIXEL_PX / stage.config.size_px
        size = (SUPERPIXEL_PX, SUPERPIXEL_PX)
        images = [
            cv2.resize(im, size, interpolation=cv2.INTER_AREA) for im in stage.backdrop.images
        ]
        return np.stack(images), stage.backdrop.drift_px * np.float32(shrink)
    small = SUPERPIXEL_PX
    shot = stage.scene_shot.zoomed(small / stage.config.size_px)
    nobody = _nobody()
    images = np.empty((len(stage), small, small, 3), np.float32)
    ids = np.empty((small * SUPERSAMPLE,) * 2, np.int32)
    depth = np.empty(ids.shape, np.float32)
    weights = np.empty((*ids.shape, 3), np.float32)
    no_shadow = np.zeros((SHADOW_PX, SHADOW_PX), np.float32)
    for t in range(len(stage)):
        place = stage.place
        fine = _view(shot.zoomed(SUPERSAMPLE), t)
        trace(place.things, place.poses[t], *fine, ids, depth)
        world = _world(stage, t, no_shadow, (0.0, 0.0))
        backdrop = np.zeros((small, small, 3), np.float32)
        shade_frame(ids, depth, weights, _view(shot, t), world, nobody, backdrop, images[t])
    # A point of the scene near the person stands for the scene's motion.
    anchor = stage.actors[0].joints_world.double().cpu().numpy().mean((0, 1))
    seen = shot.project(np.broadcast_to(anchor, (len(stage), 1, 3)))[:, 0]
    drift_px = (seen - seen[len(seen) // 2]).astype(np.float32)
    return (images * 255).astype(np.uint8), drift_px


def _nobody() -> tuple:
    return (
        np.zeros((1, 3), np.int32), np.zeros(1, np.int8), np.zeros((1, 3), np.float32),
        noise_volume(), np.zeros((0, 1, 3), np.float32), np.zeros((0, 1), np.float32),
        np.zeros((0, 1, 1), np.float32), np.zeros(0, np.int64),
    )  # fmt: skip


def _flows(stage: Stage, cast: _Cast, maps: _Arrays, step: int) -> tuple[np.ndarray, np.ndarray]:
    frames, size = maps.ids.shape[:2]
    flow = np.zeros((max(frames - 1, 0), size, size, 2), np.float32)
    valid = np.zeros((max(frames - 1, 0), size, size), bool)
    starts = range(frames - 1) if step > 0 else range(1, frames)
    place, shot = stage.place, stage.scene_shot
    for row, t in enumerate(starts):
        other = t + step
        flow_between(
            maps.ids[t], maps.depth_m[t], maps.weights[t], place.poses[t], _view(shot, t),
            maps.ids[other], maps.depth_m[other], place.poses[other], _view(shot, other),
            cast.dressed_cam[:, other], stage.shot.lens_px[other], cast.faces, place.things,
            media_drift(stage, t, other), flow[row], valid[row],
        )  # fmt: skip
    return flow, valid


def media_drift(stage: Stage, t: int, other: int) -> Float64[np.ndarray, "3"]:
    """How far a background from a file moves between two frames (x, y), and whether it is known."""
    if stage.backdrop is None:
        return np.zeros(3)
    moved = stage.backdrop.drift_px[other] - stage.backdrop.drift_px[t]
    return np.array([moved[0], moved[1], float(stage.backdrop.exact_flow)])
