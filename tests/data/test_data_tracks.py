"""From tracks to a network's input: limb points, crops, a detector's errors, the store, batches."""

import copy
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from flowhmr.body import COCO_17, SMPL_24, open_body
from flowhmr.cameras import (
    Crop,
    PerspectiveCamera,
    View,
    fit_weak_camera,
    project_weak,
    view_of,
)
from flowhmr.capture import before_camera
from flowhmr.data import BONES as LIMB_BONES
from flowhmr.data import (
    LIMB_POINTS,
    BoxError,
    Detected,
    DetectorModel,
    LiftBatches,
    LiftDataConfig,
    TrackStore,
    crops_along,
    detections,
    limb_points,
    track_input,
)
from flowhmr.data import track_store as store_module
from flowhmr.flow import sample_flow
from flowhmr.geometry import (
    axis_angle_from_rotmat,
    geodesic_rad,
    map_tensors,
    pick,
    rotmat_from_axis_angle,
)
from flowhmr.records import Estimate, TrackClip, TrackInput
from flowhmr.synth import TrackConfig, synth_track

FRAMES, WINDOW, CHUNK = 14, 8, 2
TRACKS = TrackConfig(seed=5, frames=FRAMES, size_px=64)
SURE = DetectorModel(
    bias=0.0, noise=(0.0, 0.0), drift=(0.0, 0.0), reports_all=0.0, flips=0.0, lost=0.0,
    lost_person=0.0, merged=0.0, crossed=0.0, stray=0.0, swapped=0.0, flow_noise=0.0,
    flow_lost=0.0, focal=0.0,
)  # fmt: skip
"""Sees what there is to see, and nothing else."""
DATA = LiftDataConfig(TRACKS, 3, WINDOW, SURE)
LEGS = COCO_17.indices_of([f"{s}_{j}" for s in ("left", "right") for j in ("hip", "knee", "ankle")])


class Here:
    """In the place of a pool of processes: works in this one."""

    def __init__(self, *_): ...

    def __enter__(self) -> "Here":
        return self

    def __exit__(self, *_) -> None: ...

    def map(self, job: Callable, items: list) -> map:
        return map(job, items)


@pytest.fixture(scope="module", autouse=True)
def few_a_file():
    """Two tracks a file, drawn in this process."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_module, "CHUNK", CHUNK)
        patch.setattr(store_module, "ProcessPoolExecutor", Here)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("tracks")


@pytest.fixture(scope="module")
def store(few_a_file, folder) -> TrackStore:
    return TrackStore(TRACKS, 3, folder)


ASIDE = rotmat_from_axis_angle(torch.tensor([0.25, 0.45, 0.0]))


@pytest.fixture(scope="module")
def aside(store) -> TrackStore:
    """The same people, filmed by cameras that are turned away from them by 30 degrees."""
    turned, tables = copy.copy(store), store.tables
    focal_px, centre_px = tables["focal_px"][..., None, None], tables["centre_px"][..., None, :]
    camera = PerspectiveCamera(tables["focal_px"], tables["centre_px"])

    def carried(points_px: Tensor) -> Tensor:
        rays = torch.nn.functional.pad((points_px - centre_px) / focal_px, (0, 1), value=1.0)
        return camera.project(rays @ ASIDE.mT)[..., :2]

    rotmats = rotmat_from_axis_angle(tables["pose"])
    rotmats[:, :, 0] = ASIDE @ rotmats[:, :, 0]
    turned.tables = {
        **tables,
        "keypoints_px": carried(tables["keypoints_px"]),
        "joints_px": carried(tables["joints_px"]),
        "pose": axis_angle_from_rotmat(rotmats),
    }
    return turned


def walker(frames: int = FRAMES) -> Tensor:
    """Confident keypoints of somebody about 100 px tall, the same in each frame."""
    generator = torch.Generator().manual_seed(0)
    places = torch.rand(17, 2, generator=generator) * torch.tensor([40.0, 100.0]) + 50
    return torch.cat([places, torch.ones(17, 1)], -1).repeat(frames, 1, 1)


def moved(keypoints_px: Tensor, scale: float, shift: Tensor) -> Tensor:
    return torch.cat([keypoints_px[..., :2] * scale + shift, keypoints_px[..., 2:]], -1)


def all_tensors(record) -> list[Tensor]:
    found: list[Tensor] = []
    map_tensors(record, lambda t: found.append(t) or t)
    return found


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(all_tensors(a), all_tensors(b), strict=True))


# --- points on the limbs

BONES = (
    ("shoulder", "elbow"),
    ("elbow", "wrist"),
    ("shoulder", "hip"),
    ("hip", "knee"),
    ("knee", "ankle"),
)


def test_limb_points_are_beside_the_bones():
    """Bone by bone, left before right; along it; on its left and on its right."""
    keypoints, side = walker(2).double(), torch.tensor([100.0, 200.0]).double()
    points, known = limb_points(keypoints, side)
    assert points.shape == (2, LIMB_POINTS, 2)
    assert known.all()
    expected = []
    for frame in range(2):
        for body_side in ("left", "right"):
            for a, b in BONES:
                start, end = (
                    keypoints[frame, COCO_17.index(f"{body_side}_{j}"), :2].numpy() for j in (a, b)
                )
                x, y = (end - start) / np.linalg.norm(end - start)
                for along in (0.2, 0.5, 0.8):
                    for across in (-0.012, 0.012):
                        beside = across * float(side[frame]) * np.array([-y, x])
                        expected.append(start + along * (end - start) + beside)
    expected = torch.from_numpy(np.array(expected)).view(2, LIMB_POINTS, 2)
    assert_close(points, expected, atol=1e-9, rtol=0)


def test_limb_points_of_a_mirror_image_are_mirrored():
    keypoints = walker(1)
    mirrored = keypoints[:, list(COCO_17.mirror)] * torch.tensor([-1.0, 1, 1])
    side = torch.tensor([120.0])
    points, _ = limb_points(keypoints, side)
    seen, _ = limb_points(mirrored, side)
    halves = seen.view(2, -1, 2, 2).flip(0).flip(2)  # the other side's limbs, the other way across
    assert_close(halves.reshape(1, -1, 2), points * torch.tensor([-1.0, 1]))


def test_limb_points_are_finite_where_nothing_was_found():
    keypoints = torch.zeros(3, 17, 3, requires_grad=True)
    points, known = limb_points(keypoints, torch.full((3,), 100.0))
    assert (points == 0).all()
    assert not known.any()


@pytest.mark.parametrize(("confidence", "lost"), [(0.31, 0), (0.29, 1), (0.0, 1)])
def test_limb_points_are_known_where_both_ends_are(confidence, lost):
    keypoints = walker(1)
    keypoints[:, COCO_17.index("left_wrist"), 2] = confidence
    _, known = limb_points(keypoints, torch.tensor([100.0]))
    expected = torch.ones(10, 6, dtype=torch.bool)
    expected[1] = not lost
    assert torch.equal(known.view(10, 6), expected)
    keypoints[:, COCO_17.index("right_knee"), 2] = 0
    _, known = limb_points(keypoints, torch.tensor([100.0]))
    expected[8:] = False
    assert torch.equal(known.view(10, 6), expected)


def test_limb_points_take_any_leading_axes():
    keypoints = torch.rand(2, 3, 17, 3)
    side = torch.rand(2, 3)
    points, known = limb_points(keypoints, side)
    for i in range(2):
        for j in range(3):
            alone, sure = limb_points(keypoints[i, j], side[i, j])
            assert_close(points[i, j], alone)
            assert torch.equal(known[i, j], sure)


# --- crops


def test_crops_go_with_the_person():
    keypoints, step = walker(), torch.tensor([3.0, -1.0])
    still = crops_along(keypoints)
    walking = crops_along(moved(keypoints, 1.0, torch.arange(FRAMES)[:, None, None] * step))
    assert_close(still.centre_px, still.centre_px[:1].expand(FRAMES, 2))
    assert_close(walking.side_px, still.side_px, atol=1e-2, rtol=0)
    assert_close(
        walking.centre_px - still.centre_px, torch.arange(FRAMES)[:, None] * step, atol=1e-2, rtol=0
    )
    off = (keypoints[..., :2] - still.centre_px[:, None]).abs().amax((1, 2))
    assert (off < still.side_px / 2).all()
    assert (off > 0.6 * still.side_px / 2).all()
    assert not still.angle_rad.any()
    assert not still.mirrored.any()


def test_crops_bridge_gaps_at_constant_speed_and_stay_beyond_the_ends():
    keypoints = moved(walker(), 1.0, torch.arange(FRAMES)[:, None, None] * torch.tensor([2.0, 1.0]))
    whole = crops_along(keypoints)
    gap = keypoints.clone()
    gap[5:9] = 0
    bridged = crops_along(gap)
    assert_close(bridged.centre_px, whole.centre_px, atol=1e-2, rtol=0)
    assert_close(bridged.side_px, whole.side_px, atol=1e-2, rtol=0)

    ends = walker()
    ends[:3], ends[-4:] = 0, 0
    assert_close(crops_along(ends).centre_px, crops_along(walker()).centre_px)
    walking = keypoints.clone()
    walking[:3], walking[-4:] = 0, 0
    carried = crops_along(walking).centre_px
    assert_close(carried[-1], carried[-2], atol=0.05, rtol=0)
    assert carried[-1, 0] < whole.centre_px[-3, 0]
    assert carried[0, 0] > whole.centre_px[1, 0]


def test_crops_of_a_larger_picture_are_larger():
    keypoints, shift = walker(), torch.tensor([-30.0, 70.0])
    keypoints[4:7] = 0
    plain, larger = crops_along(keypoints), crops_along(moved(keypoints, 2.5, shift))
    found = (keypoints[..., 2] > 0).any(-1)
    assert_close(larger.side_px, 2.5 * plain.side_px)
    assert_close(larger.centre_px[found], 2.5 * plain.centre_px[found] + shift)


@pytest.mark.parametrize("known", [0, 2])
def test_too_few_keypoints_in_all_frames_are_refused(known):
    keypoints = walker()
    keypoints[:, known:] = 0
    with pytest.raises(BoxError, match=r"got 14 frames none of which .* drop this track"):
        crops_along(keypoints)
    keypoints[6] = walker()[6]
    assert crops_along(keypoints).centre_px.isfinite().all()
    assert len(crops_along(keypoints[6:7]).centre_px) == 1


# --- a network's input


def simple_input(**changed) -> tuple[TrackInput, dict]:
    """The input of somebody who is seen and moves, and what it was made of."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(FRAMES, 17, 2, generator=generator)
    keypoints = moved(walker(), 1.0, noise)
    keypoints[3, 5:9] = 0
    keypoints[7] = 0
    flow = torch.randn(FRAMES, LIMB_POINTS, 3, generator=generator)
    _, known = limb_points(keypoints, torch.ones(FRAMES))
    flow[..., 2] = ((flow[..., 2] > 0) & known).float()
    camera = PerspectiveCamera(
        torch.full((FRAMES,), 300.0), torch.tensor([[64.0, 40.0]]).repeat(FRAMES, 1)
    )
    parts = {"keypoints_px": keypoints, "limb_flow_px": flow, "camera": camera, **changed}
    crops = crops_along(parts["keypoints_px"])
    view = view_of(crops, parts["camera"])
    return track_input(parts["keypoints_px"], crops, parts["limb_flow_px"], view), parts


def test_input_does_not_depend_on_the_pictures_size_and_origin():
    """The same person, filmed with more pixels and cut out elsewhere."""
    plain, parts = simple_input()
    scale, shift = 3.0, torch.tensor([100.0, -20.0])
    keypoints = moved(parts["keypoints_px"], scale, shift)
    keypoints[parts["keypoints_px"][..., 2] == 0] = 0
    flow = torch.cat([parts["limb_flow_px"][..., :2] * scale, parts["limb_flow_px"][..., 2:]], -1)
    camera = PerspectiveCamera(
        parts["camera"].focal_px * scale, parts["camera"].centre_px * scale + shift
    )
    larger, _ = simple_input(keypoints_px=keypoints, limb_flow_px=flow, camera=camera)
    for a, b in zip(all_tensors(plain), all_tensors(larger), strict=True):
        assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_input_is_in_half_widths_of_the_view():
    """Of somebody straight ahead, whose view is the crop itself."""
    keypoints, crops = walker(1), crops_along(walker(1))
    half = crops.side_px / 2
    keypoints[0, 0, :2], keypoints[0, 1, :2] = crops.centre_px[0], crops.centre_px[0] + half
    flow = torch.tensor([float(half), -2 * float(half), 1.0]).expand(1, LIMB_POINTS, 3)
    camera = PerspectiveCamera(2 * half, crops.centre_px)
    made = track_input(keypoints, crops, flow, view_of(crops, camera))
    assert_close(made.keypoints[0, :2], torch.tensor([[0.0, 0, 1], [1, 1, 1]]), atol=1e-5, rtol=0)
    assert_close(made.flow[0, 0], torch.tensor([1.0, -2.0, 1.0]), atol=1e-5, rtol=0)
    assert_close(made.half, torch.tensor([0.5]))


def square(centre_px: Tensor, side_px: Tensor) -> Crop:
    still = torch.zeros_like(side_px)
    return Crop(centre_px, side_px, still, still, 224)


def told_after(turn: Tensor, points_cam: Tensor, confidence: Tensor, tan_half: float) -> TrackInput:
    """What the network is told of points in space as a camera sees them that was turned."""
    camera = PerspectiveCamera(torch.tensor(300.0), torch.tensor([64.0, 40.0]))
    turned = points_cam @ turn.mT
    ray = turn[:, 2] / turn[:, 2].norm()
    crops = square(
        camera.project(ray[None])[:, :2], 2 * 300 * tan_half / ray[2:]
    )  # that shows the same angle
    crops = map_tensors(crops, lambda t: t.expand(FRAMES, *t.shape[1:]).contiguous())
    view = view_of(crops, camera)
    keypoints_px = torch.cat([camera.project(turned)[..., :2], confidence], -1)
    points_px, _ = limb_points(keypoints_px, crops.side_px)

    # Each point moves by as much in the view, and with the pixels there in the image.
    step = 0.1 * tan_half * torch.sin(torch.arange(LIMB_POINTS * 2.0)).view(LIMB_POINTS, 2)
    away = torch.cat([(points_px - camera.centre_px) / 300, torch.ones(FRAMES, LIMB_POINTS, 1)], -1)
    seen = away @ turn  # in the axes of the camera that looks at the person
    moved = seen / seen[..., 2:] + torch.nn.functional.pad(step, (0, 1))
    flow_px = camera.project(moved @ turn.mT)[..., :2] - points_px
    flow_px = torch.cat([flow_px, torch.ones(FRAMES, LIMB_POINTS, 1)], -1)
    return track_input(keypoints_px, crops, flow_px, view)


@pytest.mark.parametrize("way", [(0.0, 0.6), (0.0, -0.6), (0.5, 0.0), (-0.3, 0.4)])
def test_somebody_at_the_side_is_told_as_if_straight_ahead(way):
    """The camera turns away from the person; where in the image that is, is of no account."""
    generator = torch.Generator().manual_seed(4)
    points_cam = torch.tensor([0.0, 0, 4]) + 0.4 * torch.randn(FRAMES, 17, 3, generator=generator)
    confidence = 0.3 + 0.7 * torch.rand(FRAMES, 17, 1, generator=generator)
    turn = rotmat_from_axis_angle(torch.tensor([*way, 0.0]))
    ahead = told_after(torch.eye(3), points_cam, confidence, 0.4)
    aside = told_after(turn, points_cam, confidence, 0.4)
    assert_close(aside.keypoints, ahead.keypoints, atol=2e-4, rtol=0)
    assert_close(aside.flow, ahead.flow, atol=2e-4, rtol=0)
    assert_close(aside.half, ahead.half)
    assert torch.equal(aside.present, ahead.present)
    # It is the view that does so, not the crop.
    assert (ahead.keypoints[..., 2] > 0).all()
    assert (ahead.flow[..., :2].abs().amax(-1) > 0.01).any()


def test_what_has_no_place_in_the_view_is_dropped():
    """Somebody far out on the right of a wide camera, and keypoints far out on its left."""
    keypoints = moved(walker(2), 1.0, torch.tensor([400.0, 0.0]))
    crops = crops_along(keypoints)
    camera = PerspectiveCamera(torch.tensor(100.0), torch.tensor([80.0, 100.0]))
    wrist = COCO_17.index("left_wrist")
    flow = torch.ones(2, LIMB_POINTS, 3)
    plain = track_input(keypoints, crops, flow, view_of(crops, camera))
    keypoints[0, wrist, :2] = torch.tensor([-2000.0, 100.0])
    seen = view_of(crops, camera).see(keypoints[..., :2])
    assert not seen[0, wrist].isfinite().any()
    told = track_input(keypoints, crops, flow, view_of(crops, camera))
    assert not told.keypoints[0, wrist].any()
    others = [k for k in range(17) if k != wrist]
    assert torch.equal(told.keypoints[:, others], plain.keypoints[:, others])
    assert torch.equal(told.keypoints[1], plain.keypoints[1])
    assert all(bool(t.isfinite().all()) for t in all_tensors(told))
    # Nor what is read on the way there.
    forearm = slice(6, 12)
    assert not told.flow[0, forearm.stop - 2 : forearm.stop].any()
    assert torch.equal(told.flow[0, forearm.stop :], plain.flow[0, forearm.stop :])
    assert told.present.tolist() == [1, 1]

    flow[1, 7, :2] = torch.tensor([-3000.0, 0.0])
    told = track_input(keypoints, crops, flow, view_of(crops, camera))
    assert not told.flow[1, 7].any()
    assert told.flow[1, :, 2].sum() == LIMB_POINTS - 1
    keypoints[1, :, 0] = -2000
    assert track_input(keypoints, crops, flow, view_of(crops, camera)).present.tolist() == [1, 0]


def test_input_is_zero_where_nothing_is_known():
    made, parts = simple_input()
    keypoints, flow = parts["keypoints_px"].clone(), parts["limb_flow_px"].clone()
    keypoints[2, 4, 2] = 0.29  # found, but not surely
    keypoints[2, 5, 2] = 0.31
    flow[flow[..., 2] == 0, :2] = math.nan
    made, _ = simple_input(keypoints_px=keypoints, limb_flow_px=flow)
    known = keypoints[..., 2] >= 0.3
    assert not known[2, 4]
    assert (made.keypoints[~known] == 0).all()
    assert (made.keypoints[known].abs().amax(-1) > 0).all()
    assert_close(made.keypoints[..., 2][known], keypoints[..., 2][known])
    assert (made.flow[flow[..., 2] == 0] == 0).all()
    assert made.flow.isfinite().all()
    assert made.present.tolist() == [float(t != 7) for t in range(FRAMES)]


def test_one_camera_is_that_of_all_frames():
    plain, _ = simple_input()
    one = PerspectiveCamera(torch.tensor(300.0), torch.tensor([64.0, 40.0]))
    assert same(simple_input(camera=one)[0], plain)


# --- batches


def test_batches_are_addressed_by_number(store):
    config = replace(DATA, detector=DetectorModel())
    batches = LiftBatches(store, config, 2, 0, 4)
    fourth = batches[3]
    for number in (0, 2):
        assert not same(batches[number], fourth)
    assert same(LiftBatches(store, config, 2, 0, 4)[3], fourth)
    assert not same(LiftBatches(store, config, 2, 1, 4)[3], fourth)
    alone = LiftBatches(store, config, 1, 0, 8)
    for k in range(2):
        assert same(pick(fourth, k), pick(alone[6 + k], 0))
    assert (len(batches), len(alone)) == (4, 8)
    assert fourth.input.keypoints.shape == (2, WINDOW, 17, 3)
    assert fourth.input.flow.shape == (2, WINDOW, LIMB_POINTS, 3)


def test_all_tracks_and_all_places_are_drawn(store, monkeypatch):
    places, plain = [], LiftBatches.window

    def listen(self, track: int, start: int, rng: np.random.Generator) -> TrackClip:
        places.append((track, start))
        return clip

    clip = plain(LiftBatches(store, DATA, 1, 0, 1), 0, 0, np.random.default_rng(0))
    monkeypatch.setattr(LiftBatches, "window", listen)
    batches = LiftBatches(store, DATA, 50, 0, 4)
    for number in range(4):
        batches[number]
    assert {track for track, _ in places} == {0, 1, 2}
    assert {start for _, start in places} == set(range(FRAMES - WINDOW + 1))


def window(store: TrackStore, track: int, start: int, **changed) -> TrackClip:
    batches = LiftBatches(store, replace(DATA, **changed), 1, 0, 1)
    return batches.window(track, start, np.random.default_rng(0))


def view_along(
    store: TrackStore, track: int, start: int, model: DetectorModel = SURE
) -> tuple[View, Crop]:
    """The views, and the crops, of such a window, of the camera that filmed it."""
    row = {k: v[track][start : start + WINDOW] for k, v in store.tables.items() if k != "betas"}
    side_px = 1.2 * row["boxes_px"][:, 2:].amax(-1)
    rng = np.random.default_rng(0)
    crops = crops_along(
        detections(row["keypoints_px"], row["visible"], side_px, model, rng).keypoints_px
    )
    return view_of(crops, PerspectiveCamera(row["focal_px"], row["centre_px"])), crops


def test_labels_are_those_of_the_drawn_track(store, aside):
    """In the axes of the view, which are the camera's once turned back."""
    for track, start in ((0, 0), (2, 3), (1, FRAMES - WINDOW)):
        drawn, when = synth_track(TRACKS, track, store.body), slice(start, start + WINDOW)
        expected = drawn.params.rotmats[when]
        for tracks, turn in ((store, torch.eye(3)), (aside, ASIDE)):
            clip, (view, _) = window(tracks, track, start), view_along(tracks, track, start)
            rotmats = clip.labels.params.rotmats
            assert_close(rotmats[:, 1:], expected[:, 1:], atol=1e-5, rtol=0)
            in_camera = view.rotmats.mT @ rotmats[:, 0]
            assert_close(in_camera, turn @ expected[:, 0], atol=1e-5, rtol=0)
            # Seen straight ahead wherever the camera looks, but for a twist about the ray.
            assert geodesic_rad(rotmats[:, 0], expected[:, 0]).max() < 0.12
            assert_close(clip.labels.params.betas, drawn.params.betas[when])
            assert clip.labels.params.body_id == open_body().body_id
            assert torch.equal(clip.stands, drawn.stands[when])
            assert clip.stands.shape == (WINDOW, 4)
        assert geodesic_rad(turn @ expected[:, 0], expected[:, 0]).min() > 0.5


@pytest.mark.parametrize("where", ["store", "aside"])
def test_a_weak_camera_carries_the_labelled_body_to_the_labelled_points(where, request):
    """And the keypoints that are seen lie on its limbs."""
    store = request.getfixturevalue(where)
    same_place = ("left_knee", "right_knee", "left_wrist", "right_elbow", "left_ankle")
    coco, smpl = (list(s.indices_of(same_place)) for s in (COCO_17, SMPL_24))
    for track in range(3):
        clip = window(store, track, 2)
        joints_m, points = store.body.joints(clip.labels.params), clip.labels.points
        camera = fit_weak_camera(joints_m, points + 1, 2)
        seen = project_weak(joints_m, camera, 2)[..., :2] - 1
        assert (camera.scale > 0.1).all()
        assert (seen - points).norm(dim=-1).mean() < 0.04
        assert (seen - points).norm(dim=-1).max() < 0.2
        known = clip.input.keypoints[:, coco, 2] > 0
        off = (clip.input.keypoints[:, coco, :2] - points[:, smpl]).norm(dim=-1)[known]
        assert known.any()
        assert off.max() < 0.12


@pytest.mark.parametrize("where", ["store", "aside"])
def test_a_labelled_body_is_put_before_the_camera_that_filmed_it(where, request):
    """From points and bodies in the views to where the joints are in the image."""
    store = request.getfixturevalue(where)
    for track in range(3):
        clip, (view, crops) = window(store, track, 2), view_along(store, track, 2)
        params = clip.labels.params
        weak = fit_weak_camera(store.body.joints(params), clip.labels.points + 1, 2)
        bodies = Estimate(params, weak)
        rotmats, translation_m = before_camera(bodies, params.betas[0], view, store.body)
        joints_m = store.body.joints(store.body.params(rotmats, params.betas))
        found_px = view.camera.project(joints_m + translation_m[:, None])[..., :2]
        true_px = store.tables["joints_px"][track][2 : 2 + WINDOW]
        off = (found_px - true_px).norm(dim=-1) * 224 / crops.side_px[:, None]
        assert off.median() < 1.5, "pixels of a crop of 224"
        assert off.max() < 3
        # In the axes of the image's camera the same numbers are somebody else's.
        unturned = store.body.joints(params) + translation_m[:, None]
        aside_px = view.camera.project(unturned)[..., :2]
        lost = (aside_px - true_px).norm(dim=-1) * 224 / crops.side_px[:, None]
        assert where == "store" or lost.median() > 3 * off.median()


def test_the_view_is_that_of_the_tracks_camera(store):
    """Points in the view, carried out of it, are where the camera sees the joints."""
    drawn = synth_track(TRACKS, 0, store.body)
    joints_cam = (drawn.joints_m + drawn.translation_m[:, None])[3 : 3 + WINDOW]
    clip, (view, _) = window(store, 0, 3), view_along(store, 0, 3)
    assert_close(clip.input.half, view.half)
    tangents = clip.labels.points * view.half[:, None, None]
    rays = torch.nn.functional.pad(tangents, (0, 1), value=1.0) @ view.rotmats
    expected = joints_cam[..., :2] / joints_cam[..., 2:]
    assert_close(rays[..., :2] / rays[..., 2:], expected, atol=1e-4, rtol=0)


def test_bodies_and_points_are_in_the_view_that_the_network_is_given(aside):
    """That of a camera whose focal length is not known for sure."""
    clip, drawn = window(aside, 0, 3), synth_track(TRACKS, 0, aside.body)
    unsure = window(aside, 0, 3, detector=replace(SURE, focal=0.2))
    view, crops = view_along(aside, 0, 3)
    # The narrower the view, the longer the lens: found by the half-widths.
    ray_px = crops.centre_px - view.camera.centre_px
    focal_px = ((crops.side_px / 2 / unsure.input.half) ** 2 - ray_px.square().sum(-1)).sqrt()
    factor = focal_px / view.camera.focal_px
    assert_close(factor, factor[:1].expand_as(factor), atol=1e-4, rtol=0)
    assert abs(float(factor[0]) - 1) > 0.01
    given = view_of(crops, PerspectiveCamera(focal_px, view.camera.centre_px))
    joints_px = aside.tables["joints_px"][0][3 : 3 + WINDOW]
    assert_close(unsure.labels.points, given.see(joints_px), atol=1e-3, rtol=0)
    assert (unsure.labels.points - clip.labels.points).abs().max() > 1e-3
    root = given.rotmats.mT @ unsure.labels.params.rotmats[:, 0]
    assert_close(root, ASIDE @ drawn.params.rotmats[3 : 3 + WINDOW, 0], atol=1e-4, rtol=0)
    known = clip.input.keypoints[..., 2] > 0
    assert torch.equal(unsure.input.keypoints[..., 2], clip.input.keypoints[..., 2])
    places_px = aside.tables["keypoints_px"][0][3 : 3 + WINDOW]
    assert_close(
        unsure.input.keypoints[..., :2][known], given.see(places_px)[known], atol=1e-3, rtol=0
    )


def test_labels_are_finite_where_a_joint_has_no_place_in_the_view(store, monkeypatch):
    """Of people who nearly touch the camera: behind it, or far outside."""
    joints_px = store.tables["joints_px"].clone()
    joints_px[0, 4, 0], joints_px[0, 5, 1] = math.nan, 1e6
    monkeypatch.setitem(store.tables, "joints_px", joints_px)
    changed = window(store, 0, 0).labels.points
    monkeypatch.undo()
    assert changed.isfinite().all()
    assert changed.abs().max() <= store_module.FAR
    others = torch.ones(WINDOW, 24, dtype=torch.bool)
    others[4, 0], others[5, 1] = False, False
    assert torch.equal(changed[others], window(store, 0, 0).labels.points[others])


def in_image(places: Tensor, view: View) -> Tensor:
    """What is in a view, in pixels of the image."""
    tangents = places * view.half[:, None, None]
    rays = torch.nn.functional.pad(tangents, (0, 1), value=1.0)
    return view.camera.project(rays @ view.rotmats)[..., :2]


def test_errors_are_shares_of_the_persons_crop(store):
    """Of 1.2 times the larger side of the person's box, as `crop_from_box` cuts it."""
    noisy = replace(SURE, noise=(0.01, 0.01), reports_all=1.0)
    off = []
    for track in range(3):
        seen = window(store, track, 2, detector=noisy).input
        row = {k: v[track][2 : 2 + WINDOW] for k, v in store.tables.items() if k != "betas"}
        view, _ = view_along(store, track, 2, noisy)
        places_px = in_image(seen.keypoints[..., :2], view)
        side_px = 1.2 * row["boxes_px"][:, 2:].amax(-1)
        error = (places_px - row["keypoints_px"]) / side_px[:, None, None]
        off.append(error[row["visible"] & (seen.keypoints[..., 2] > 0)])
    assert torch.cat(off).std() == pytest.approx(0.01, rel=0.15)


def test_flow_is_what_was_read_beside_the_limbs(store, monkeypatch):
    monkeypatch.setattr(store_module, "READ_AT", 0.0)
    drawn = synth_track(TRACKS, 1, store.body)
    row = store_module._row(TRACKS, 1, store.body)
    sure = torch.cat([drawn.keypoints_px, torch.ones(FRAMES, 17, 1)], -1)
    points, _ = limb_points(sure, 1.2 * drawn.boxes_px[:, 2:].amax(-1))
    exact = sample_flow(drawn.flow, points[:-1])
    assert_close(row["limb_flow_px"], exact)
    stored = store.tables["limb_flow_px"][1]
    assert 0 < (stored - exact).norm(dim=-1).median() < 0.5 * exact.norm(dim=-1).median()


def test_flow_goes_with_its_frame_and_ends_with_the_track(store):
    early, late = window(store, 1, 0), window(store, 1, FRAMES - WINDOW)
    for clip, start in ((early, 0), (late, FRAMES - WINDOW)):
        flow, known = clip.input.flow[..., :2], clip.input.flow[..., 2] > 0
        both = torch.zeros(WINDOW, LIMB_POINTS, 2)
        there = store.tables["limb_flow_px"][1][start : start + WINDOW]
        both[: len(there)] = there
        view, crops = view_along(store, 1, start)
        # Read beside the limbs, and carried from the image into the view and back.
        seen_px = in_image(clip.input.keypoints[..., :2], view)
        seen_px = torch.cat([seen_px, clip.input.keypoints[..., 2:]], -1)
        points_px, _ = limb_points(seen_px, crops.side_px)
        ends_px = in_image(view.see(points_px) + flow, view)
        assert known[:-1].any()
        assert_close((ends_px - points_px)[known], both[known], atol=1e-3, rtol=1e-3)
    assert not late.input.flow[-1].any()
    # Known where both ends of the limb are.
    _, expected = limb_points(late.input.keypoints, torch.ones(WINDOW))
    assert torch.equal(late.input.flow[:-1, :, 2] > 0, expected[:-1])


def test_flow_is_read_where_the_detector_has_the_limbs(store):
    """A mistaken leg goes with the other leg's flow; between two limbs the flow is anything."""
    batches = LiftBatches(store, replace(DATA, frames=FRAMES), 1, 0, 1)
    keypoints_px = torch.cat([walker(), torch.ones(FRAMES, 17, 1)], -1)[..., :3]
    keypoints_px[..., 2] = 1
    mirror, knees = torch.tensor(COCO_17.mirror), COCO_17.index("left_knee")
    legs = [k for k, name in enumerate(COCO_17.names) if name.split("_")[-1] in ("knee", "ankle")]
    source = torch.arange(17).repeat(FRAMES, 1)
    source[3, legs] = mirror[legs]
    source[5, knees] = -1
    exact = torch.arange(FRAMES * LIMB_POINTS * 2).view(FRAMES, LIMB_POINTS, 2).float()
    rng = np.random.default_rng(0)
    crops = crops_along(keypoints_px)
    told = Detected(keypoints_px, source)
    flow = batches.seen_flow_px(exact[:-1], told, crops, rng).unflatten(1, (len(LIMB_BONES), -1))
    exact = exact.unflatten(1, (len(LIMB_BONES), -1))
    shins = [n for n, (a, b) in enumerate(LIMB_BONES) if a in legs and b in legs]
    assert len(shins) == 2
    assert torch.equal(flow[3, shins, :, :2], exact[3, shins[::-1]])
    others = [f for f in range(FRAMES - 1) if f not in (3, 5)]
    assert torch.equal(flow[others][..., :2], exact[others])
    assert bool((flow[:-1, ..., 2] == 1).all())
    noisy = replace(DATA, frames=FRAMES, detector=replace(SURE, flow_noise=0.003))
    rough = LiftBatches(store, noisy, 1, 0, 1).seen_flow_px(
        exact.flatten(1, 2)[:-1], told, crops, rng
    )
    off = (rough[..., :2] - flow.flatten(1, 2)[..., :2]).unflatten(1, (len(LIMB_BONES), -1))
    off = off / (0.003 * crops.side_px[:, None, None, None])
    torn = torch.zeros(FRAMES, len(LIMB_BONES), dtype=torch.bool)
    thighs = [n for n, (a, b) in enumerate(LIMB_BONES) if (a in legs) != (b in legs)]
    torn[3, thighs] = True
    torn[5] = torch.tensor([knees in bone for bone in LIMB_BONES])
    torn = torn[:-1]
    assert off[:-1][torn].std() == pytest.approx(10, rel=0.3)
    assert off[:-1][~torn].std() == pytest.approx(1, rel=0.1)


def test_some_flow_is_missing_and_some_is_something_else(store):
    plain = window(store, 2, 0, frames=FRAMES)
    spoilt = window(
        store, 2, 0, frames=FRAMES, detector=replace(SURE, flow_lost=0.2, flow_noise=0.001)
    )
    known = plain.input.flow[..., 2] > 0
    there = spoilt.input.flow[..., 2] > 0
    assert not (there & ~known).any()
    assert there[known].float().mean() == pytest.approx(0.8, abs=0.05)
    # In half-widths: two crops' noise.
    off = (spoilt.input.flow - plain.input.flow)[there][:, :2].abs()
    assert off.median() == pytest.approx(0.002 * 0.7, rel=0.4)
    assert (off.amax(-1) > 0.008).float().mean() == pytest.approx(0.2, abs=0.08)


def test_somebody_is_seen_in_every_window(store):
    """Where the detector loses everything, it looks again."""
    config = replace(DATA, detector=replace(DetectorModel(), lost_person=0.9, lost=1.0))
    clip = LiftBatches(store, config, 40, 0, 1)[0]
    assert clip.input.present.any(-1).all()
    assert (clip.input.present == 0).any()
    assert all(bool(t.isfinite().all()) for t in all_tensors(clip))


def test_windows_longer_than_the_tracks_are_refused(store):
    for frames in (0, FRAMES + 1):
        with pytest.raises(ValueError, match=rf"got {frames} frames of tracks of 14"):
            replace(DATA, frames=frames)
    longer = LiftDataConfig(replace(TRACKS, frames=30), 3, 20, SURE)
    with pytest.raises(ValueError, match=r"got 20 frames of tracks of 14; expected at most"):
        LiftBatches(store, longer, 1, 0, 1)


# --- the store


@pytest.fixture
def drawn_rows(monkeypatch) -> list[int]:
    """Rows that are drawn instead of tracks, in no time; the numbers of those that were."""
    numbers = []

    def row(config: TrackConfig, index: int, body) -> dict[str, Tensor]:
        numbers.append(index)
        return {"betas": torch.full((10,), float(index)), "pose": torch.zeros(2, 3) + config.seed}

    monkeypatch.setattr(store_module, "_row", row)
    return numbers


def betas(store: TrackStore) -> list[float]:
    return store.tables["betas"][:, 0].tolist()


def test_tracks_are_drawn_once_and_more_can_be_added(tmp_path, drawn_rows):
    heard = []
    store = TrackStore(TRACKS, 3, tmp_path, on_progress=lambda *a: heard.append(a))
    assert len(store) == 3
    assert betas(store) == [0, 1, 2]
    assert drawn_rows == [0, 1, 2, 3]
    assert heard == [(2, 3), (3, 3)]
    before = {p.name: p.stat().st_mtime_ns for p in store.folder.iterdir()}

    heard.clear()
    drawn_rows.clear()
    smaller = TrackStore(TRACKS, 1, tmp_path, on_progress=lambda *a: heard.append(a))
    assert betas(smaller) == [0]
    assert betas(TrackStore(TRACKS, 4, tmp_path)) == [0, 1, 2, 3]
    assert not heard
    assert not drawn_rows
    larger = TrackStore(TRACKS, 7, tmp_path, on_progress=lambda *a: heard.append(a))
    assert betas(larger) == [*map(float, range(7))]
    assert drawn_rows == [4, 5, 6, 7]
    assert heard == [(6, 7), (7, 7)]
    after = {p.name: p.stat().st_mtime_ns for p in larger.folder.iterdir()}
    assert before.items() < after.items()


def test_another_definition_has_a_folder_of_its_own(tmp_path, drawn_rows, monkeypatch):
    folders = {TrackStore(TRACKS, 1, tmp_path).folder}
    for changed in (
        replace(TRACKS, seed=6),
        replace(TRACKS, frames=FRAMES + 1),
        replace(TRACKS, occluder=0.0),
        replace(TRACKS, motion=replace(TRACKS.motion, split="val")),
        replace(TRACKS, shot=replace(TRACKS.shot, zoom=0.0)),
    ):
        other = TrackStore(changed, 1, tmp_path)
        assert other.tables["pose"].mean() == changed.seed
        folders.add(other.folder)
    monkeypatch.setattr(store_module, "FORMAT", store_module.FORMAT + 1)
    folders.add(TrackStore(TRACKS, 1, tmp_path).folder)
    assert len(folders) == 7
    assert any("val" in f.name for f in folders)


@pytest.mark.parametrize("left", [0, 7, 60, -1])
def test_a_file_that_is_cut_off_is_drawn_again(tmp_path, drawn_rows, left):
    path = TrackStore(TRACKS, 4, tmp_path)._file(2)
    content = path.read_bytes()
    path.write_bytes(content[:left])
    drawn_rows.clear()
    assert betas(TrackStore(TRACKS, 4, tmp_path)) == [0, 1, 2, 3]
    assert drawn_rows == [2, 3]
    assert path.read_bytes() == content


def test_half_a_file_is_never_taken_for_one(tmp_path, drawn_rows, monkeypatch):
    class Stopped(BaseException): ...

    def half(table: dict, path: Path) -> None:
        path.write_bytes(b"half")
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "save_file", half)
        with pytest.raises(Stopped):
            TrackStore(TRACKS, 3, tmp_path)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]
    assert betas(TrackStore(TRACKS, 3, tmp_path)) == [0, 1, 2]


@pytest.mark.slow
def test_kill_nine_while_a_file_is_written(tmp_path):
    """A real process, a real SIGKILL; then the tracks are drawn as if nothing had been."""
    job = f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_data_tracks as t
t.store_module.CHUNK, t.store_module.ProcessPoolExecutor = t.CHUNK, t.Here
whole, written = t.store_module.save_file, []
def killed(table, path):
    whole(table, path)
    if written:
        os.truncate(path, path.stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)
    written.append(path)
t.store_module.save_file = killed
t.TrackStore(t.TRACKS, 3, Path({str(tmp_path)!r}))
"""
    assert subprocess.run([sys.executable, "-c", job], check=False).returncode == -9
    assert len([p for p in tmp_path.rglob("*") if p.is_file()]) == 2
    store = TrackStore(TRACKS, 3, tmp_path)
    drawn = synth_track(TRACKS, 2, store.body)
    assert torch.equal(store.tables["keypoints_px"][2], drawn.keypoints_px)


def test_a_store_of_no_tracks_is_refused(tmp_path):
    with pytest.raises(ValueError, match="got a count of 0; expected at least 1"):
        TrackStore(TRACKS, 0, tmp_path)
