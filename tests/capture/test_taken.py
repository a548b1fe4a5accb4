"""Another tool's result as the start: where its bodies stand, who is who, from file to motion."""

import logging
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from captured_people import BODY, captured_person
from result_files import SIZE_PX, vibe_orig_cam
from torch.testing import assert_close

from flowhmr.body import COCO_17
from flowhmr.cameras import Crop, PerspectiveCamera, WeakCamera, project_weak
from flowhmr.capture import (
    MEDIAPIPE_33,
    CaptureConfig,
    ForeignTrack,
    ResultFileError,
    Start,
    TrackFitConfig,
    begun,
    capture,
    default_camera,
    matches,
    placed,
    read_results,
    starts_of,
)
from flowhmr.capture.lifting import LimbFlow
from flowhmr.capture.taken import SMPL_PELVIS_M
from flowhmr.data import (
    LIMB_POINTS,
    BoxError,
    PeopleConfig,
    PersonTrack,
    boxes_from_keypoints,
    open_video,
    write_boxes,
    write_video,
)
from flowhmr.geometry import axis_angle_from_rotmat, pick
from flowhmr.networks import Lift, LiftConfig, MeanParams
from flowhmr.records import PersonMotion
from flowhmr.synth import mean_rotmats
from joblib_files import joblib_bytes

CAMERA = default_camera(SIZE_PX)
SMPL_M = torch.tensor(SMPL_PELVIS_M)
DEVICE = torch.device("cpu")


def person(number: int = 3, frames: int = 6, aside_m: float = 0.0) -> PersonMotion:
    """Somebody of our mean body, in the picture."""
    motion = captured_person(3, torch.arange(frames))
    params = BODY.params(motion.params.rotmats, torch.zeros(frames, BODY.num_betas))
    path_m = motion.translation_m - motion.translation_m[0] + torch.tensor([aside_m, 0.0, 4.0])
    return replace(motion, person=number, params=params, translation_m=path_m)


def joints_cam(motion: PersonMotion) -> torch.Tensor:
    return BODY.joints(motion.params) + motion.translation_m[:, None]


def by_wham(motion: PersonMotion, camera: PerspectiveCamera = CAMERA) -> ForeignTrack:
    """The motion as a tool has it whose bodies are SMPL's, and stand where ours does."""
    count = len(motion)
    own_m = BODY.joints(motion.params)[:, 0]
    return ForeignTrack(
        tool="wham", person=motion.person, frame_indices=motion.frame_indices,
        rotmats=motion.params.rotmats, betas=torch.zeros(count, 10),
        translation_m=motion.translation_m + own_m - SMPL_M,
        camera=PerspectiveCamera(
            camera.focal_px.expand(count), camera.centre_px.expand(count, 2)
        ),
    )  # fmt: skip


def by_weak_camera(motion: PersonMotion, window: Crop, weak: WeakCamera) -> ForeignTrack:
    return ForeignTrack(
        tool="romp", person=motion.person, frame_indices=motion.frame_indices,
        rotmats=motion.params.rotmats, betas=torch.zeros(len(motion), 10),
        weak_camera=weak, crop=window,
    )  # fmt: skip


def windows(count: int, centre_px: tuple[float, float], side_px: float) -> Crop:
    still = torch.zeros(count)
    return Crop(torch.tensor([centre_px]).repeat(count, 1), still + side_px, still, still, 224)


WINDOWS = {
    # Of a person, and the whole image padded to a square.
    "crop": (windows(6, (250.0, 170.0), 240.0), torch.tensor([[0.9, 0.1, -0.15]])),
    "padded": (windows(6, (320.0, 180.5), 640.0), torch.tensor([[0.3, -0.4, 0.1]])),
}


def smpl_points(motion: PersonMotion) -> torch.Tensor:
    """Our joints where SMPL's axes have them."""
    joints_m = BODY.joints(motion.params)
    return joints_m - joints_m[:, :1] + SMPL_M


def weak_pixels(track: ForeignTrack, points_m: torch.Tensor) -> torch.Tensor:
    assert track.crop is not None
    assert track.weak_camera is not None
    seen = project_weak(points_m, track.weak_camera, track.crop.size_px)
    return track.crop.to_image(seen[..., :2])


def test_what_our_camera_took_of_a_tool_is_where_the_tool_has_it():
    motion = person()
    found = placed(by_wham(motion), CAMERA, BODY)
    assert torch.equal(found.params.rotmats, motion.params.rotmats)
    assert_close(joints_cam(found), joints_cam(motion), atol=1e-4, rtol=0)
    assert (found.person, found.frame_indices.tolist()) == (3, list(range(6)))


@pytest.mark.parametrize("focal_px", [400.0, 5000.0])
def test_another_focal_length_changes_the_distance_not_the_picture(focal_px):
    """The middle of the joints lies on one pixel, and a metre there is as large."""
    motion = person(aside_m=0.5)
    theirs = PerspectiveCamera(torch.tensor(focal_px), CAMERA.centre_px + 3)
    found = placed(by_wham(motion, theirs), CAMERA, BODY)
    before_m, after_m = (joints_cam(m).mean(1) for m in (motion, found))
    assert_close(
        CAMERA.project(after_m[:, None])[..., :2], theirs.project(before_m[:, None])[..., :2],
        atol=0.01, rtol=0,
    )  # fmt: skip
    assert_close(after_m[:, 2] / before_m[:, 2], CAMERA.focal_px / focal_px + torch.zeros(6))
    # What is in that depth: all of a body, when both lenses are long.
    long = [PerspectiveCamera(torch.tensor(f), CAMERA.centre_px) for f in (1e5, 3e5)]
    far = replace(motion, translation_m=motion.translation_m * torch.tensor([1.0, 1.0, 100.0]))
    found = placed(by_wham(far, long[0]), long[1], BODY)
    apart_px = long[1].project(joints_cam(found)) - long[0].project(joints_cam(far))
    assert float(apart_px[..., :2].abs().max()) < 1


@pytest.mark.parametrize("kind", WINDOWS)
def test_a_weak_camera_becomes_a_place(kind):
    window, params = WINDOWS[kind]
    motion = person()
    track = by_weak_camera(motion, window, WeakCamera(params.repeat(6, 1)))
    found = placed(track, CAMERA, BODY)
    middle_px = CAMERA.project(joints_cam(found).mean(1, keepdim=True))[..., :2]
    assert_close(
        middle_px, weak_pixels(track, smpl_points(motion).mean(1, keepdim=True)), atol=0.01, rtol=0
    )
    depth_m = 2 * CAMERA.focal_px / (window.side_px * params[0, 0])
    assert_close(joints_cam(found)[..., 2].mean(1), depth_m)
    # A lens so long that it is a weak camera itself: every joint.
    long = PerspectiveCamera(torch.tensor(3e5), CAMERA.centre_px)
    seen_px = long.project(joints_cam(placed(track, long, BODY)))[..., :2]
    assert float((seen_px - weak_pixels(track, smpl_points(motion))).abs().max()) < 1


def test_a_vibe_file_lies_in_the_image_where_vibe_draws_it(tmp_path):
    """From VIBE's own formula for its drawings, by way of the file."""
    motion, (width, height) = person(), SIZE_PX
    boxes = np.tile([300.0, 170.0, 200.0, 200.0], (6, 1))
    orig = vibe_orig_cam(np.tile([0.8, 0.05, -0.1], (6, 1)), boxes, width, height)
    pose = axis_angle_from_rotmat(motion.params.rotmats).flatten(1).numpy()
    entry = {
        "pose": pose, "betas": np.zeros((6, 10)), "orig_cam": orig, "bboxes": boxes,
        "frame_ids": np.arange(6),
    }  # fmt: skip
    (tmp_path / "vibe_output.pkl").write_bytes(joblib_bytes({1: entry}))
    (track,) = read_results(tmp_path / "vibe_output.pkl", SIZE_PX)
    xy = smpl_points(motion)[..., :2].numpy()
    drawn_px = ((orig[:, None, :2] * (xy + orig[:, None, 2:])) + 1) / 2 * np.array(SIZE_PX)
    long = PerspectiveCamera(torch.tensor(3e5), CAMERA.centre_px)
    seen_px = long.project(joints_cam(placed(track, long, BODY)))[..., :2]
    assert float(np.abs(seen_px.numpy() - drawn_px).max()) < 1


def test_bodies_behind_the_camera_are_left_out():
    motion = person()
    track = by_wham(motion)
    assert track.translation_m is not None
    behind = track.translation_m.clone()
    behind[[1, 4], 2] = -3.0
    found = placed(replace(track, translation_m=behind), CAMERA, BODY)
    assert found.frame_indices.tolist() == [0, 2, 3, 5]
    assert_close(joints_cam(found), joints_cam(motion)[[0, 2, 3, 5]], atol=1e-4, rtol=0)
    with pytest.raises(ResultFileError, match="person 3: got bodies behind the camera in all 6"):
        placed(replace(track, translation_m=-track.translation_m), CAMERA, BODY)
    for scale in (0.0, -0.9):
        weak = WeakCamera(torch.tensor([[scale, 0.0, 0.0]]).repeat(6, 1))
        with pytest.raises(ResultFileError, match="behind the camera"):
            placed(by_weak_camera(motion, WINDOWS["crop"][0], weak), CAMERA, BODY)


def test_a_pose_needs_a_camera():
    nowhere = replace(by_wham(person()), translation_m=None, camera=None)
    with pytest.raises(ResultFileError, match="got poses without a camera; expected weak_camera"):
        placed(nowhere, CAMERA, BODY)


def keypoints_of(motion: PersonMotion) -> torch.Tensor:
    points_cam = BODY.keypoints(BODY.mesh(motion.params), COCO_17) + motion.translation_m[:, None]
    points_px = CAMERA.project(points_cam)[..., :2]
    return torch.cat([points_px, torch.full_like(points_px[..., :1], 0.9)], -1)


def detected(motion: PersonMotion, number: int, noise_px: float = 3.0) -> PersonTrack:
    """As a detector finds somebody, a little off."""
    keypoints_px = keypoints_of(motion)
    noise = torch.Generator().manual_seed(number)
    keypoints_px[..., :2] += noise_px * torch.randn(len(motion), 17, 2, generator=noise)
    boxes_px = boxes_from_keypoints(keypoints_px)
    return PersonTrack(
        number, motion.frame_indices, boxes_px, torch.ones(len(motion)), keypoints_px
    )


def crossing(frames: int = 6) -> list[PersonMotion]:
    """Two people who walk past each other, and one who stands aside."""
    way_m = torch.linspace(-0.8, 0.8, frames)
    still = person(frames=frames)
    out = []
    for number, path_m in ((5, way_m), (2, -way_m), (9, torch.full((frames,), 1.4))):
        where_m = still.translation_m.clone()
        where_m[:, 0] = path_m
        out.append(replace(still, person=number, translation_m=where_m))
    return out


def test_people_who_cross_are_told_apart():
    motions = crossing()
    ours = [detected(m, m.person, 0.0) for m in motions]
    found = [detected(m, 10 + k) for k, m in enumerate(reversed(motions))]
    assert matches(ours, found) == {0: 2, 1: 1, 2: 0}
    # Each is of one: who is nearer.
    beside = replace(ours[0], keypoints_px=found[2].keypoints_px + torch.tensor([25.0, 0, 0]))
    assert matches([beside], [found[2]]) == {0: 0}
    assert matches([beside, ours[0]], [found[2]]) == {1: 0}
    assert matches([ours[0]], [beside, found[2]]) == {0: 1}
    assert matches(ours[:2], [found[0]]) == {}, "the third is neither of them"
    assert matches(ours, []) == {}
    assert matches([], found) == {}


def test_people_of_other_frames_are_not_the_same():
    motion = person()
    later = replace(motion, frame_indices=motion.frame_indices + 6)
    assert matches([detected(motion, 0)], [detected(later, 0)]) == {}
    overlap = replace(motion, frame_indices=motion.frame_indices + 5)
    still = replace(motion, translation_m=motion.translation_m[:1].expand(6, -1))
    assert matches([detected(still, 0)], [detected(overlap, 0)]) == {0: 0}


def test_a_person_is_looked_at_where_found_else_where_the_tool_has_him():
    motions = crossing()
    found = [pick(detected(motions[1], 7), torch.tensor([0, 1, 4])), detected(motions[2], 8)]
    tracks = [by_wham(m) for m in motions[:2]]
    alone, joined = starts_of(tracks, found, CAMERA, SIZE_PX, BODY)
    assert (alone.track.person, joined.track.person) == (5, 2), "the tool's, in its order"

    assert alone.found is not None
    assert not alone.found.any()
    keypoints_px = alone.track.keypoints_px
    assert keypoints_px is not None
    inside = keypoints_px[..., 2] > 0
    assert inside.float().mean() > 0.9
    expected = keypoints_of(motions[0])[..., :2]
    assert_close(keypoints_px[..., :2][inside], expected[inside], atol=0.05, rtol=0)
    assert alone.evidence.keypoints_px is not None
    assert not alone.evidence.keypoints_px.any()

    assert joined.found is not None
    assert joined.found.tolist() == [True, True, False, False, True, False]
    assert joined.track.keypoints_px is not None
    assert torch.equal(joined.track.keypoints_px[[0, 1, 4]], found[0].keypoints_px)
    projected = keypoints_of(motions[1])[[2, 3, 5]]
    assert_close(joined.track.keypoints_px[[2, 3, 5], :, :2], projected[..., :2], atol=0.05, rtol=0)
    seen = joined.evidence.keypoints_px
    assert seen is not None
    assert torch.equal(seen[[0, 1, 4]], found[0].keypoints_px)
    assert not seen[[2, 3, 5]].any()
    assert joined.motion is not None
    assert_close(joints_cam(joined.motion), joints_cam(motions[1]), atol=1e-4, rtol=0)


def test_frames_in_which_a_match_is_somebody_else_are_not_used():
    motion = person(frames=8)
    found = detected(motion, 0)
    assert found.keypoints_px is not None
    strayed = found.keypoints_px.clone()
    strayed[5:, :, 0] += 200
    found = replace(found, keypoints_px=strayed)
    (start,) = starts_of([by_wham(motion)], [found], CAMERA, SIZE_PX, BODY)
    assert start.found is not None
    assert start.found.tolist() == [True] * 5 + [False] * 3


def test_only_what_is_in_the_picture_is_looked_at():
    """Frames out of sight are left out, and of those half out the keypoints that are out."""
    motion = person()
    way_m = motion.translation_m.clone()
    way_m[:, 0] = torch.tensor([0.0, 1.7, 9.0, 9.0, 1.7, 0.0])
    motion = replace(motion, translation_m=way_m)
    (start,) = starts_of([by_wham(motion)], [], CAMERA, SIZE_PX, BODY)
    assert start.track.frame_indices.tolist() == [0, 1, 4, 5]
    assert start.motion is not None
    assert start.motion.frame_indices.tolist() == [0, 1, 4, 5]
    keypoints_px = start.track.keypoints_px
    assert keypoints_px is not None
    known = keypoints_px[..., 2] > 0
    assert known[0].all()
    assert known[1].any()
    assert not known[1].all()
    assert not keypoints_px[~known].any()
    assert (keypoints_px[..., :2] < torch.tensor(SIZE_PX)).all()
    away = replace(motion, translation_m=way_m + torch.tensor([9.0, 0.0, 0.0]))
    with pytest.raises(ResultFileError, match=r"in none of 6 frames in a picture of 640 x 361"):
        starts_of([by_wham(away)], [], CAMERA, SIZE_PX, BODY)


def by_mediapipe(frames: list[int], with_image: bool = True) -> ForeignTrack:
    motion = person(frames=len(frames))
    coco = keypoints_of(motion)
    joints_px = torch.zeros(len(frames), len(MEDIAPIPE_33), 2)
    sure = torch.full((len(frames), len(MEDIAPIPE_33)), 0.8)
    joints_px[:, MEDIAPIPE_33.indices_of(COCO_17.names)] = coco[..., :2]
    sure[:, MEDIAPIPE_33.index("left_wrist")] = 0.1
    joints_px[:, MEDIAPIPE_33.index("right_ankle"), 1] = 500.0
    return ForeignTrack(
        tool="mediapipe", person=0, frame_indices=torch.tensor(frames), joint_set=MEDIAPIPE_33,
        joints_cam=torch.zeros(len(frames), len(MEDIAPIPE_33), 3), joint_confidence=sure,
        joints_px=joints_px if with_image else None,
    )  # fmt: skip


def test_mediapipes_joints_become_keypoints():
    (start,) = starts_of([by_mediapipe([0, 1, 3, 40])], [], CAMERA, SIZE_PX, BODY)
    assert start.motion is None
    assert start.evidence is start.track
    assert start.track.frame_indices.tolist() == [0, 1, 2, 3, 40], "as people of a detector"
    keypoints_px = start.track.keypoints_px
    assert keypoints_px is not None
    expected = keypoints_of(person(frames=4))
    nose = COCO_17.index("nose")
    assert_close(keypoints_px[[0, 1, 3, 4], nose, :2], expected[:, nose, :2])
    assert_close(keypoints_px[0, nose, 2], torch.tensor(0.8))
    assert_close(keypoints_px[0, COCO_17.index("left_wrist"), 2], torch.tensor(0.1))
    assert not keypoints_px[0, COCO_17.index("right_ankle")].any(), "below the picture"
    with pytest.raises(ResultFileError, match="got joints without their place in the image"):
        starts_of([by_mediapipe([0, 1], False)], [], CAMERA, SIZE_PX, BODY)


@pytest.fixture(scope="module")
def network() -> Lift:
    torch.manual_seed(0)
    mean = MeanParams(mean_rotmats(), torch.zeros(10), BODY.body_id)
    lift = Lift(LiftConfig(width=16, dilations=(1, 2)), mean)
    torch.nn.init.normal_(lift.feet.weight, std=0.3)
    return lift.eval()


def test_of_the_network_only_the_feet_are_taken(network):
    motion = person()
    (start,) = starts_of([by_wham(motion)], [], CAMERA, SIZE_PX, BODY)
    limbs = LimbFlow(torch.zeros(6, LIMB_POINTS, 3))
    own = begun(Start(start.track), limbs, network, CAMERA, 30.0, BODY)
    taken = begun(start, limbs, network, CAMERA, 30.0, BODY)
    assert taken.motion is start.motion
    assert torch.equal(taken.stands, own.stands)
    assert float((own.motion.params.rotmats - motion.params.rotmats).abs().max()) > 0.1


FRAMES = 6


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """A textured rectangle that moves to the right by 6 pixels a frame, before another texture."""
    rng = np.random.default_rng(0)
    wall, patch = (
        cv2.GaussianBlur(rng.integers(0, 255, (*size, 3), dtype=np.uint8), (0, 0), 1.5)
        for size in ((362, 640), (300, 160))
    )
    images = []
    for t in range(FRAMES):
        image = wall.copy()
        image[40:340, 200 + 6 * t : 360 + 6 * t] = patch
        images.append(image)
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    write_video(path, images, 30.0, crf=5)
    return path


SIZE = (640, 362)


def walker(frames: int = FRAMES) -> PersonMotion:
    """Somebody who stands on the rectangle."""
    motion = person(frames=frames)
    still = motion.params.rotmats[:1].expand(frames, -1, -1, -1).contiguous()
    where_m = torch.tensor([[-0.25, 0.0, 4.0]]).repeat(frames, 1)
    params = BODY.params(still, motion.params.betas)
    return replace(motion, person=1, params=params, translation_m=where_m)


def wham_file(path: Path, motions: list[PersonMotion]) -> Path:
    people = {}
    for motion in motions:
        track = by_wham(motion)
        pose = axis_angle_from_rotmat(motion.params.rotmats).flatten(1).numpy()
        assert track.translation_m is not None
        people[motion.person] = {
            "pose": pose, "trans": track.translation_m.numpy(),
            "betas": np.zeros((len(motion), 10)),
            "frame_ids": motion.frame_indices.numpy(),
        }  # fmt: skip
    path.write_bytes(joblib_bytes(people))
    return path


def config(init: Path, steps: int = 20, **people: object) -> CaptureConfig:
    fit = TrackFitConfig(steps=steps, depth=200.0)
    return CaptureConfig(people=PeopleConfig(**people), init=init, fit=fit)  # type: ignore[arg-type]


def moved_m(motion: PersonMotion) -> float:
    return float(joints_cam(motion)[:, :, 0].mean(1).diff().mean())


def test_flow_alone_carries_a_tools_body_along(video, network, tmp_path):
    """The tool lets him stand still; the picture moves, and so does he."""
    init = wham_file(tmp_path / "wham_output.pkl", [walker()])
    kept = capture(video, config(init, steps=0), network, BODY, DEVICE)
    (before,) = kept.scene.people
    assert before.person == 1
    assert torch.equal(before.params.betas, torch.zeros(FRAMES, 10))
    assert_close(joints_cam(before), joints_cam(walker()), atol=0.01, rtol=0)
    evidence = kept.evidence[1]
    assert not evidence.keypoints_px.any()
    flow = evidence.limb_flow_px[:-1]
    assert (flow[..., 2] > 0).float().mean() > 0.5
    assert_close(
        flow[flow[..., 2] > 0][:, :2].median(0).values, torch.tensor([6.0, 0.0]), atol=0.5, rtol=0
    )
    (after,) = capture(video, config(init, 40), network, BODY, DEVICE).scene.people
    step_m = 6 * 4.0 / float(CAMERA.focal_px)
    assert moved_m(before) == pytest.approx(0, abs=1e-4)
    assert moved_m(after) == pytest.approx(step_m, rel=0.25)


def test_nobody_found_in_the_video_leaves_the_flow(video, network, tmp_path, monkeypatch):
    init = wham_file(tmp_path / "wham_output.pkl", [walker()])
    asked = []

    def nobody(*_: object) -> list[PersonTrack]:
        asked.append(1)
        return []

    monkeypatch.setattr("flowhmr.data.people.detect", nobody)
    found = capture(video, config(init, steps=1, detector="keypoint-rcnn"), network, BODY, DEVICE)
    assert asked == [1]
    assert [len(p) for p in found.scene.people] == [FRAMES]
    assert found.evidence[1].limb_flow_px.any()
    plain = replace(config(init, detector="keypoint-rcnn"), init=None)
    with pytest.raises(BoxError, match="nobody was found"):
        capture(video, plain, network, BODY, DEVICE)
    # What is wrong with the flags is said all the same.
    for wrong in ({"detector": "psychic"}, {"detector": "mediapipe", "box": ("1,2,3,4",)}):
        with pytest.raises(BoxError, match=r"got .*; expected"):
            capture(video, config(init, **wrong), network, BODY, DEVICE)


def test_keypoints_of_a_file_are_evidence_for_the_tools_people(video, network, tmp_path):
    """Two of the tool's, one of them found; and somebody whom the tool does not have."""
    one, other = walker(), replace(walker(), person=4)
    aside = torch.tensor([1.2, 0.0, 0.0])
    other = replace(other, translation_m=other.translation_m + aside)
    init = wham_file(tmp_path / "wham_output.pkl", [one, other])
    shifted = replace(other, translation_m=other.translation_m + 0.03)
    stranger = replace(one, translation_m=one.translation_m - aside)
    write_boxes(tmp_path / "people.npz", [detected(shifted, 0, 0.0), detected(stranger, 1)])
    asked = config(init, keypoints=(tmp_path / "people.npz",))
    found = capture(video, asked, network, BODY, DEVICE)
    assert [p.person for p in found.scene.people] == [1, 4]
    assert not found.evidence[1].keypoints_px.any()
    told = found.evidence[4]
    assert (told.keypoints_px[..., 2] > 0).all()
    off_px = [float(told.apart_px(joints_cam(m), CAMERA).mean())
              for m in (other, found.scene.people[1])]  # fmt: skip
    assert off_px[1] < 0.5 * off_px[0]
    brief = replace(asked, fit=TrackFitConfig(steps=0))
    only = replace(brief, people=replace(asked.people, person=4))
    assert [p.person for p in capture(video, only, network, BODY, DEVICE).scene.people] == [4]
    none = replace(brief, people=replace(asked.people, person=2))
    with pytest.raises(ResultFileError, match=r"person 2: got people \[1, 4\]; expected one"):
        capture(video, none, network, BODY, DEVICE)


def test_a_result_of_a_longer_video_is_refused(video, network, tmp_path):
    init = wham_file(tmp_path / "wham_output.pkl", [walker(FRAMES + 2)])
    with pytest.raises(ResultFileError, match=r"got frame 7 of person 1; expected frames of a"):
        capture(video, config(init), network, BODY, DEVICE)


@pytest.fixture(scope="module")
def uncounted(video, tmp_path_factory) -> Path:
    """The same in a container that does not say how many frames it has."""
    path = tmp_path_factory.mktemp("uncounted") / "clip.mkv"
    with av.open(str(video)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    with open_video(path) as clip:
        assert clip.frame_count is None
    return path


@pytest.mark.parametrize("init", [True, False])
def test_frames_beyond_the_video_are_left_out(uncounted, network, tmp_path, caplog, init):
    """Of a file that goes on; who comes only there is left out, and nobody is an error."""
    long, late = walker(FRAMES + 3), replace(walker(), person=4)
    late = replace(late, frame_indices=late.frame_indices + FRAMES)

    def asked(*motions: PersonMotion) -> CaptureConfig:
        if init:
            return config(wham_file(tmp_path / "wham_output.pkl", [*motions]), steps=1)
        write_boxes(tmp_path / "people.npz", [detected(m, m.person, 0.0) for m in motions])
        return replace(config(Path(), steps=1, keypoints=(tmp_path / "people.npz",)), init=None)

    with caplog.at_level(logging.WARNING):
        found = capture(uncounted, asked(long, late), network, BODY, DEVICE)
    assert [(p.person, len(p)) for p in found.scene.people] == [(1, FRAMES)]
    assert "person 1: got frames up to 8; the video has 6 frames" in caplog.text
    assert "person 4: got too few keypoints in every frame; left out" in caplog.text
    with pytest.raises(BoxError, match=r"got nobody whose keypoints make a body in its 6 frames"):
        capture(uncounted, asked(late), network, BODY, DEVICE)


def test_who_has_too_few_keypoints_is_left_out(video, network, tmp_path):
    """The others are captured all the same."""
    one = detected(walker(), 0, 0.0)
    assert one.keypoints_px is not None
    few = one.keypoints_px.clone()
    few[:, 2:, 2] = 0
    write_boxes(tmp_path / "people.npz", [one, replace(one, person=1, keypoints_px=few)])
    asked = replace(config(Path(), steps=1, keypoints=(tmp_path / "people.npz",)), init=None)
    assert [p.person for p in capture(video, asked, network, BODY, DEVICE).scene.people] == [0]


def test_mediapipes_file_is_lifted_without_a_detector(video, network, tmp_path, monkeypatch):
    monkeypatch.setattr("flowhmr.capture.engine.people_of", None)
    image = np.full((FRAMES, 33, 4), 0.5)
    coco = keypoints_of(walker())
    place = list(MEDIAPIPE_33.indices_of(COCO_17.names))
    image[:, place, :2] = coco[..., :2].numpy() / SIZE
    image[..., 3] = 0.9
    world = image * [0.0, 0.0, 0.0, 1.0]
    np.savez(tmp_path / "pose.npz", pose_landmarks=image, pose_world_landmarks=world)
    asked = config(tmp_path / "pose.npz", steps=2, detector="mediapipe")
    found = capture(video, asked, network, BODY, DEVICE)
    (lifted,) = found.scene.people
    assert (lifted.person, len(lifted)) == (0, FRAMES)
    assert_close(found.evidence[0].keypoints_px[..., :2], coco[..., :2], atol=0.01, rtol=0)
