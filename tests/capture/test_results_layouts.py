"""Each tool's layout: what was written is read back, and points land where the tool puts them."""

import dataclasses
import io
import json
import math
import pickle
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from result_files import (
    SIZE_PX,
    object_npy,
    packed,
    phalp_camera,
    phalp_frames,
    phalp_pixels,
    phalp_row,
    romp_frame,
    romp_video,
    rotations,
    tram_camera,
    tram_track,
    vibe_orig_cam,
    vibe_people,
    vibe_person,
    wave,
    wham_people,
)

from flowhmr.body import SMPL_24, open_body
from flowhmr.cameras import project_weak, translation_from_weak
from flowhmr.capture import (
    MEDIAPIPE_33,
    ForeignTrack,
    ResultFileError,
    read_results,
    to_open_body,
)
from flowhmr.files import data_of_pickle
from flowhmr.geometry import geodesic_rad
from joblib_files import joblib_bytes

FILES = Path(__file__).parent / "files"
WIDTH, HEIGHT = SIZE_PX


@pytest.fixture
def read(tmp_path):
    def read(content, name="output.pkl", **kwargs):
        (tmp_path / name).write_bytes(content)
        return read_results(tmp_path / name, SIZE_PX, **kwargs)

    return read


def same_turns(track, rotmats):
    return float(geodesic_rad(track.rotmats, torch.as_tensor(rotmats)).max()) < 1e-3


def weak_pixels(track, points):
    """Where our camera of the crop puts points, in pixels of the image."""
    crop = track.crop
    seen = project_weak(points.expand(len(track), -1, 3), track.weak_camera, crop.size_px)
    return crop.to_image(seen[..., :2])


def perspective_pixels(track, points):
    """Where our camera of the whole image puts points."""
    return track.camera.project(points + track.translation_m[:, None])[..., :2]


@pytest.fixture
def points():
    return torch.from_numpy(wave(20, 3, phase=0.3))


# joblib


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("pack", [bytes, packed])
def test_joblib_files_come_back_as_they_were(read, protocol, aligned, pack):
    value = {
        "c": np.arange(24.0).reshape(2, 3, 4),
        "fortran": np.asfortranarray(wave(3, 5)),
        "big endian": np.arange(3, dtype=">i4"),
        "empty": np.zeros((0, 3)),
        "none": np.array(7.5),
        "objects": np.array([None, {"x": np.arange(2)}], dtype=object),
        "scalar": np.float32(1.5),
        "twice": [np.arange(3)] * 2,
        "ordered": defaultdict(dict, {1: "text"}),
    }
    loaded = data_of_pickle(joblib_bytes(value, protocol, aligned))
    for name in ("c", "fortran", "big endian", "empty", "none"):
        assert np.array_equal(loaded[name], value[name]), name
        assert loaded[name].dtype == value[name].dtype
    assert loaded["objects"][0] is None
    assert loaded["objects"][1]["x"].tolist() == [0, 1]
    assert loaded["scalar"] == 1.5
    assert [a.tolist() for a in loaded["twice"]] == 2 * [[0, 1, 2]]
    assert loaded["ordered"] == {1: "text"}
    tracks = read(pack(joblib_bytes(vibe_people(), protocol, aligned)))
    assert [t.person for t in tracks] == [1, 7]


@pytest.mark.parametrize(
    ("name", "written"), [("vibe_joblib16.pkl", vibe_people), ("phalp_joblib11.pkl", phalp_frames)]
)
def test_our_writer_writes_what_joblib_wrote(read, name, written):
    """Files that joblib itself wrote (1.6, and 1.1 with zlib) say the same as ours."""
    theirs = read_results(FILES / name, SIZE_PX)
    ours = read(joblib_bytes(written()))
    assert len(theirs) == len(ours) == 2
    for a, b in zip(theirs, ours):
        assert (a.tool, a.person) == (b.tool, b.person)
        assert torch.equal(a.frame_indices, b.frame_indices)
        assert torch.allclose(a.rotmats, b.rotmats, atol=1e-6)
        assert torch.allclose(a.betas, b.betas, atol=1e-6)
        assert torch.allclose(a.weak_camera.params, b.weak_camera.params, atol=1e-5)
        assert torch.allclose(a.boxes_px, b.boxes_px, atol=1e-3)


# VIBE, TCMR, PARE


def test_vibe_is_read_back(read):
    for track, phase in zip(read(joblib_bytes(vibe_people())), (0.0, 2.0)):
        assert track.tool == "vibe"
        assert track.frame_indices.tolist() == [4, 5, 6]
        assert same_turns(track, rotations(3, 24, phase=phase)[0])
        assert torch.allclose(track.betas, torch.from_numpy(wave(3, 10, phase=phase)))


@pytest.mark.parametrize("keep", ["orig_cam", "pred_cam"])
def test_vibe_cameras_put_points_where_vibe_does(read, points, keep):
    """VIBE's renderer: u = ((sx (X + tx)) + 1) / 2 W, and so for v with sy, ty and H."""
    person = vibe_person()
    other = {"orig_cam": "pred_cam", "pred_cam": "orig_cam"}[keep]
    track = read(joblib_bytes({1: {k: v for k, v in person.items() if k != other}}))[0]
    sx, sy, tx, ty = vibe_orig_cam(
        person["pred_cam"].astype(np.float64), person["bboxes"], *SIZE_PX
    ).T[..., None]
    x, y = points.double().numpy()[:, :2].T
    theirs = np.stack([(sx * (x + tx) + 1) / 2 * WIDTH, (sy * (y + ty) + 1) / 2 * HEIGHT], -1)
    assert np.abs(weak_pixels(track, points).numpy() - theirs).max() < 1e-2


def test_vibe_cameras_are_those_of_the_crop(read, points):
    """HMR's: u = (s (X + tx) + 1) / 2 of the crop's side."""
    person = vibe_person()
    track = read(joblib_bytes({1: person}))[0]
    s, tx, _ = person["pred_cam"].T[..., None]
    seen = project_weak(points.expand(3, -1, 3), track.weak_camera, 224)[..., 0]
    assert np.abs(seen.numpy() - (s * (points[:, 0].numpy() + tx) + 1) / 2 * 224).max() < 1e-2


def test_boxes_are_left_top_width_height_and_tcmrs_are_its_detectors(read):
    boxes = vibe_person()["bboxes"]
    for name, factor in (("vibe_output.pkl", 1.0), ("tcmr_output.pkl", 1.2)):
        track = read(joblib_bytes({1: vibe_person()}), name)[0]
        assert track.tool == name.split("_")[0]
        assert np.allclose(track.boxes_px[:, 2], boxes[:, 2] / factor)
        middle = track.boxes_px[:, :2] + track.boxes_px[:, 2:] / 2
        assert np.allclose(middle, boxes[:, :2], atol=1e-3)
        assert np.allclose(track.crop.side_px, boxes[:, 2])


def test_pare_is_told_by_its_own_field(read):
    person = vibe_person() | {"smpl_joints2d": wave(3, 49, 2)}
    assert read(joblib_bytes({1: person}))[0].tool == "pare"


def test_results_for_images_of_another_shape_are_refused(tmp_path):
    (tmp_path / "a.pkl").write_bytes(joblib_bytes(vibe_people()))
    with pytest.raises(ResultFileError, match=r"got a camera for images of 1.773 times"):
        read_results(tmp_path / "a.pkl", SIZE_PX[::-1])
    (tmp_path / "b.pkl").write_bytes(joblib_bytes(phalp_frames()))
    with pytest.raises(ResultFileError, match=r"images of 640 x 361; expected 361 x 640"):
        read_results(tmp_path / "b.pkl", SIZE_PX[::-1])


# PHALP


def test_phalp_is_read_back_where_people_were_seen(read):
    two, five = read(packed(joblib_bytes(phalp_frames())))
    assert (two.tool, two.person, five.person) == ("phalp", 2, 5)
    assert two.frame_indices.tolist() == [0, 1]  # frame 2 repeats an old pose
    assert five.frame_indices.tolist() == [1]
    assert same_turns(two, np.stack([rotations(24, phase=t + 2)[0] for t in (0, 1)]))
    assert np.allclose(two.betas, wave(10, phase=2))
    assert two.boxes_px[1].tolist() == [165, 43.5, 90, 211]


@pytest.mark.parametrize("size_px", [SIZE_PX, SIZE_PX[::-1]])
def test_phalp_cameras_put_points_where_phalp_does(tmp_path, points, size_px):
    path = tmp_path / "demo.pkl"
    path.write_bytes(packed(joblib_bytes(phalp_frames(size_px))))
    track = read_results(path, size_px)[0]
    for row in (0, 1):
        camera = phalp_row(row, 2, size_px)["camera"].astype(np.float64)
        theirs = phalp_pixels(points.double().numpy(), camera, size_px)
        assert np.abs(perspective_pixels(track, points)[row].numpy() - theirs).max() < 2e-2
    # The crop's weak camera says the same of points at the body's depth.
    flat = points * torch.tensor([1.0, 1.0, 0.0])
    assert (perspective_pixels(track, flat) - weak_pixels(track, flat)).abs().max() < 2e-2


def test_phalps_focal_length_is_that_of_its_settings(read):
    """5000 px on a canvas of 256, which is the image padded to a square."""
    track = read(joblib_bytes(phalp_frames()))[0]
    assert torch.allclose(track.camera.focal_px, torch.tensor(5000 / 256 * WIDTH), rtol=1e-4)


def test_phalps_weak_camera_and_translation_agree(read):
    track = read(joblib_bytes(phalp_frames()))[0]
    side_px = track.crop.side_px
    alone = translation_from_weak(track.weak_camera, track.camera.focal_px, 1)
    assert torch.allclose(alone[:, 2] / side_px, track.translation_m[:, 2], rtol=1e-4)
    row = phalp_row(0, 2)
    known = phalp_camera(row["camera_bbox"], row["center"], row["scale"], SIZE_PX)
    assert np.allclose(track.translation_m[0], known, rtol=1e-4)


# WHAM


def test_wham_is_read_back(read, points):
    people = defaultdict(dict, wham_people())  # as its demo collects them
    (track,) = read(joblib_bytes(people), "wham_output.pkl", frames=4)
    assert track.tool == "wham"
    assert track.frame_indices.tolist() == [0, 1, 2, 3]
    assert same_turns(track, rotations(4, 24)[0])
    # WHAM's camera without a calibration: focal length the diagonal, the middle of the image.
    moved = points.double().numpy() + people[0]["trans"][:, None].astype(np.float64)
    focal = math.sqrt(WIDTH**2 + HEIGHT**2)
    theirs = focal * moved[..., :2] / moved[..., 2:] + np.array(SIZE_PX) / 2
    assert np.abs(perspective_pixels(track, points).numpy() - theirs).max() < 1e-2


# TRAM


def tensors(array):
    return torch.from_numpy(np.array(array))


@pytest.fixture
def tram(tmp_path):
    (tmp_path / "hps").mkdir()
    (tmp_path / "camera.npy").write_bytes(object_npy(tram_camera()))
    for k in (0, 2, 10):
        track = object_npy(tram_track(make=tensors))
        (tmp_path / "hps" / f"hps_track_{k}.npy").write_bytes(track)
    return tmp_path


def test_tram_is_read_back(tram, points):
    tracks = read_results(tram, SIZE_PX, frames=18)
    assert [t.person for t in tracks] == [0, 2, 10]
    written = tram_track()
    for track in (*tracks, *read_results(tram / "hps/hps_track_2.npy", SIZE_PX)):
        assert track.tool == "tram"
        assert track.frame_indices.tolist() == list(range(2, 18))
        assert torch.equal(track.rotmats, torch.from_numpy(written["pred_rotmat"]))
        assert np.array_equal(track.betas, written["pred_shape"])
        # TRAM's projection: focal (X + t) / z + image centre.
        moved = points.double().numpy() + written["pred_trans"].astype(np.float64)
        theirs = 700 * moved[..., :2] / moved[..., 2:] + np.array(SIZE_PX) / 2
        assert np.abs(perspective_pixels(track, points).numpy() - theirs).max() < 1e-2


def test_tensors_of_all_kinds_are_read(read):
    base = torch.arange(24.0).reshape(2, 3, 4)
    kinds = [torch.float64, torch.float16, torch.int64, torch.int32, torch.uint8, torch.bool]
    for tensor in (
        base,
        base[1:, :, ::2],
        base.mT,
        base.expand(2, 2, 3, 4)[1],
        base.sum(),
        base[:0],
    ):
        assert np.array_equal(data_of_pickle(pickle.dumps(tensor)), tensor.numpy())
    for kind in kinds:
        assert np.array_equal(data_of_pickle(pickle.dumps(base.to(kind))), base.to(kind).numpy())


def test_tram_without_tensors_is_read_as_well(tram):
    """What the error for an unknown kind of tensor advises to write."""
    np.savez(tram / "hps/hps_track_0.npz", **tram_track())
    (tram / "hps/hps_track_0.npy").unlink()
    before, *_ = read_results(tram, SIZE_PX)
    assert same_turns(before, tram_track()["pred_rotmat"])


def test_trams_camera_must_be_there_and_of_this_video(tram):
    with pytest.raises(ResultFileError, match=r"image centre of \[320.0, 180.5\]; expected half"):
        read_results(tram, (1920, 1080))
    (tram / "camera.npy").unlink()
    with pytest.raises(ResultFileError, match=r"without camera.npy"):
        read_results(tram, SIZE_PX)
    with pytest.raises(ResultFileError, match=r"a folder without hps"):
        read_results(FILES, SIZE_PX)


# ROMP


def npz(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def test_romp_is_read_back(read, points):
    tracks = read(npz(**romp_video(people=2)), "video_results.npz")
    assert [(t.tool, t.person) for t in tracks] == [("romp", 3), ("romp", 4)]
    for row, track in enumerate(tracks):
        assert track.frame_indices.tolist() == [0, 1, 2]
        assert same_turns(track, np.stack([rotations(2, 24, phase=t)[0][row] for t in range(3)]))
        for t in range(3):
            # ROMP: u = s X + tx of the image padded to a square, from -1 to 1.
            s, tx, ty = romp_frame(2, t)["cam"][row].astype(np.float64)
            side = max(SIZE_PX)
            top, left = (side - HEIGHT) // 2, (side - WIDTH) // 2
            xy = points.double().numpy()[:, :2] * s + [tx, ty]
            theirs = (xy + 1) * side / 2 - [left, top]
            assert np.abs(weak_pixels(track, points)[t].numpy() - theirs).max() < 1e-2


def test_romp_without_tracks_is_read_for_one_person(read):
    video = romp_video(tracked=False)
    del video["results"]["00000001.png"]
    (track,) = read(npz(**video))
    assert track.frame_indices.tolist() == [0, 2]
    with pytest.raises(ResultFileError, match=r"got 2 people and no track_ids.*-t"):
        read(npz(**romp_video(people=2, tracked=False)))


def test_bev_is_not_taken_for_romp(read):
    """Its camera means something else."""
    entry = romp_frame(2)
    entry["smpl_betas"] = wave(2, 11)
    with pytest.raises(ResultFileError, match=r"person 0: got eleven betas, as BEV .*run romp"):
        read(npz(results=entry))


def test_a_picture_of_romp_may_have_many_people(read):
    tracks = read(npz(results=romp_frame(3)))
    assert [t.person for t in tracks] == [0, 1, 2]
    assert all(t.frame_indices.tolist() == [0] for t in tracks)


# MediaPipe


def landmarks(world, visibility=0.5):
    rows = [{"x": float(x), "y": float(y), "z": float(z)} for x, y, z in world]
    return [row | {"visibility": visibility, "presence": None, "name": None} for row in rows]


def test_mediapipe_json_is_read_back(read):
    world, image = wave(33, 3), 0.5 + wave(33, 3, high=0.4)
    seen = {
        "pose_landmarks": [landmarks(image)],
        "pose_world_landmarks": [landmarks(world)],
        "segmentation_masks": None,
    }
    nobody = {"pose_landmarks": [], "pose_world_landmarks": [], "segmentation_masks": None}
    (track,) = read(json.dumps([nobody, seen, nobody, seen]).encode(), "landmarks.json")
    assert (track.tool, track.rotmats, track.betas) == ("mediapipe", None, None)
    assert track.frame_indices.tolist() == [1, 3]
    assert np.allclose(track.joints_cam, world, atol=1e-6)
    assert np.allclose(track.joints_px, image[:, :2] * np.array(SIZE_PX), atol=1e-3)
    assert torch.allclose(track.joint_confidence, torch.tensor(0.5))
    low, high = track.joints_px.amin(1), track.joints_px.amax(1)
    assert torch.equal(track.boxes_px, torch.cat([low, high - low], -1))
    with pytest.raises(ResultFileError, match=r"got 2 people.*num_poses=1"):
        read(json.dumps([seen | {"pose_world_landmarks": 2 * [landmarks(world)]}]).encode())
    with pytest.raises(ResultFileError, match=r"got 32 landmarks; expected 33"):
        read(json.dumps([seen | {"pose_world_landmarks": [landmarks(world[1:])]}]).encode())
    with pytest.raises(ResultFileError, match=r"nobody in any frame"):
        read(json.dumps([nobody]).encode())


def test_mediapipe_npz_is_read_back(read):
    world = np.concatenate([wave(3, 33, 3), np.full((3, 33, 1), 0.25)], -1)
    world[1] = np.nan
    (track,) = read(npz(pose_world_landmarks=world, frame=np.array([5, 6, 9])))
    assert track.frame_indices.tolist() == [5, 9]
    assert np.allclose(track.joints_cam, world[[0, 2], :, :3])
    assert torch.allclose(track.joint_confidence, torch.tensor(0.25))
    assert (track.joints_px, track.boxes_px) == (None, None)


def test_mediapipes_joints_are_in_its_order():
    """https://ai.google.dev/edge/mediapipe/solutions/vision/pose_landmarker"""
    known = {
        0: "nose", 2: "left_eye", 6: "right_eye_outer", 8: "right_ear", 9: "left_mouth",
        11: "left_shoulder", 16: "right_wrist", 18: "right_pinky", 21: "left_thumb",
        23: "left_hip", 26: "right_knee", 29: "left_heel", 32: "right_foot_index",
    }  # fmt: skip
    assert len(MEDIAPIPE_33) == 33
    assert {i: MEDIAPIPE_33.names[i] for i in known} == known
    assert [MEDIAPIPE_33.mirror[i] for i in (0, 1, 11)] == [0, 4, 12]


# All


def test_frames_beyond_the_video_are_refused(read):
    content = joblib_bytes(vibe_people())
    assert len(read(content, frames=7)) == 2
    with pytest.raises(ResultFileError, match=r"got frame 6 of person 1; expected.*video of 6"):
        read(content, frames=6)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"pose": np.zeros((3, 71))}, r"pose: got shape \(3, 71\); expected \[t, 72\]"),
        ({"betas": np.zeros((3, 9))}, r"betas: got shape \(3, 9\); expected \[t, 10\]"),
        ({"pose": np.zeros((2, 72))}, r"pose: got 2 rows; expected 3"),
        ({"pose": np.full((3, 72), np.nan)}, r"not finite in row 0"),
        ({"pose": "text"}, r"pose: got values of type <U4; expected numbers"),
        ({"betas": None}, r"expected 'betas' among them"),
        ({"frame_ids": np.array([0, 1, 1])}, r"increasing from 0, each once"),
        ({"frame_ids": np.array([0, 1, 1.5])}, r"expected whole numbers"),
        ({"bboxes": np.zeros((3, 4))}, r"boxes without area"),
    ],
)
def test_fields_that_are_wrong_are_named(read, change, complaint):
    with pytest.raises(ResultFileError, match=rf"output.pkl: .*{complaint}"):
        read(joblib_bytes({1: vibe_person() | change}))


def test_matrices_that_are_no_rotations_are_refused(tram):
    track = tram_track() | {"pred_rotmat": 1.1 * tram_track()["pred_rotmat"]}
    (tram / "hps/hps_track_0.npy").write_bytes(object_npy(track))
    with pytest.raises(ResultFileError, match=r"no rotations \(off by 0.21"):
        read_results(tram, SIZE_PX)


def test_people_without_numbers_are_refused(read):
    with pytest.raises(ResultFileError, match=r"got 'anna'; expected a whole number"):
        read(joblib_bytes({"anna": vibe_person()}))
    with pytest.raises(ResultFileError, match=r"the people \[1, 1\]"):
        read(joblib_bytes({1: vibe_person(), "1": vibe_person()}))


def test_the_pose_carries_over_to_the_open_body(read):
    """The same rotations make the same bones point the same way: the tree is the same."""
    body = open_body()
    (track, _) = read(joblib_bytes(vibe_people()))
    params = to_open_body(track, body)
    assert params.body_id == body.body_id
    assert torch.equal(params.rotmats, track.rotmats)
    assert not params.betas.any()
    joints, rest = body.joints(params), body.joints(body.rest_params(3))
    parents = SMPL_24.parents
    turn = track.rotmats[:, 0]
    for child in range(1, 24):
        if parents[child] == 0:
            bone = (rest[:, child] - rest[:, 0])[..., None]
            assert torch.allclose((turn @ bone)[..., 0], joints[:, child] - joints[:, 0], atol=1e-5)


def test_joints_alone_are_no_pose_for_the_open_body(read):
    (track,) = read(npz(pose_world_landmarks=wave(1, 33, 3)))
    with pytest.raises(ResultFileError, match=r"got joints only"):
        to_open_body(track, open_body())


def test_tracks_hold_pairs_of_fields(read):
    (track, _) = read(joblib_bytes(vibe_people()))
    for name in ("betas", "crop", "weak_camera"):
        with pytest.raises(ResultFileError, match=r"expected both or none"):
            dataclasses.replace(track, **{name: None})
    with pytest.raises(ResultFileError, match=r"neither pose nor joints"):
        ForeignTrack("vibe", 0, torch.arange(2))
