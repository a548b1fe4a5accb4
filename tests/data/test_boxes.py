"""Boxes survive files, gaps and smoothing, and bad ones are refused with their place."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowhmr.body import COCO_17
from flowhmr.data.box_files import read_boxes, write_boxes
from flowhmr.data.boxes import (
    BoxError,
    PersonTrack,
    boxes_by_hand,
    boxes_from_keypoints,
    check_track,
    fill_gaps,
    in_picture,
    smooth_boxes,
    track_from_keypoints,
)
from flowhmr.data.video import demo_clip

SIZE = (640, 480)
number = st.floats(-200, 800, width=32)
side = st.floats(1, 500, width=32)


def track_of(frames, boxes, person=0, keypoints=None):
    frames = torch.as_tensor(frames)
    return PersonTrack(
        person, frames, torch.as_tensor(boxes).float(), torch.ones(len(frames)), keypoints
    )


def random_track(seed, count=12, keypoints=True, person=0):
    draw = torch.Generator().manual_seed(seed)
    frames = torch.randperm(50, generator=draw)[:count].sort().values
    boxes = torch.rand(count, 4, generator=draw) * 200 + 10
    points = torch.rand(count, 17, 3, generator=draw) * torch.tensor([600.0, 400, 1])
    points[points[..., 2] < 0.2] = 0
    return PersonTrack(
        person, frames, boxes, torch.rand(count, generator=draw), points if keypoints else None
    )


def standing(height_px=200.0, confidence=0.9):
    """COCO's keypoints of someone who stands; the crown is 7 % above the eyes."""
    place = {
        **{"nose": (0, 0.91), "eye": (0.02, 0.93), "ear": (0.05, 0.92), "shoulder": (0.12, 0.81)},
        **{"elbow": (0.14, 0.62), "wrist": (0.15, 0.47), "hip": (0.08, 0.52)},
        **{"knee": (0.08, 0.28), "ankle": (0.08, 0.045)},
    }
    points = []
    for name in COCO_17.names:
        x, y = place[name.removeprefix("left_").removeprefix("right_")]
        points.append([x if "left" in name else -x, 1 - y, 0])
    points = torch.tensor(points) * height_px + torch.tensor([300.0, 100, 0])
    points[:, 2] = confidence
    return points


@given(
    keys=st.dictionaries(
        st.integers(0, 40), st.tuples(number, number, side, side), min_size=1, max_size=5
    ),
    at=st.integers(0, 40),
)
@settings(max_examples=60, deadline=None)
def test_boxes_by_hand_are_linear_between_keyframes_and_constant_outside(keys, at):
    specs = [f"{f}:{','.join(map(repr, box))}" for f, box in keys.items()]
    if not in_picture(torch.tensor(list(keys.values())), SIZE).all():
        with pytest.raises(BoxError, match="outside the picture"):
            boxes_by_hand(specs, 41, SIZE)
        return
    track = boxes_by_hand(specs, 41, SIZE)
    frames = sorted(keys)
    expected = [np.interp(at, frames, [keys[f][i] for f in frames]) for i in range(4)]
    assert track.frame_indices.tolist() == list(range(41))
    assert track.boxes_px[at].tolist() == pytest.approx(expected, abs=1e-3)
    assert bool(in_picture(track.boxes_px, SIZE).all())
    assert torch.equal(track.boxes_px, boxes_by_hand(specs[::-1], 41, SIZE).boxes_px)


def test_one_box_holds_for_all_frames():
    track = boxes_by_hand(["-5,10.5,100,200"], 7, SIZE, person=3)
    assert (track.person, len(track), track.keypoints_px) == (3, 7, None)
    assert torch.equal(track.boxes_px, torch.tensor([[-5, 10.5, 100, 200]]).expand(7, 4))


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ([], "got no box"),
        (["1,2,3"], "x,y,w,h or FRAME:x,y,w,h"),
        (["1,2,3,four"], "'1,2,3,four'"),
        (["a:1,2,3,4"], "'a:1,2,3,4'"),
        ([":1,2,3,4"], "':1,2,3,4'"),
        (["1,2,3,4", "5:1,2,3,4"], "among 2 boxes"),
        (["5:1,2,3,4", "5:1,2,3,5"], "second box for frame 5"),
        (["-1:1,2,3,4"], "increasing numbers from 0"),
        (["10:1,2,3,4"], r"frame 10; expected frames 0..9"),
        (["1,2,0,4"], "w > 0"),
        (["1,2,3,-4"], "w > 0"),
        (["nan,2,3,4"], "finite"),
        (["inf,2,3,4"], "finite"),
        (["640,2,3,4"], "outside the picture; expected .* 640x480"),
        (["1,-9,3,4"], "outside the picture"),
    ],
)
def test_bad_boxes_by_hand(specs, message):
    with pytest.raises(BoxError, match=message):
        boxes_by_hand(specs, 10, SIZE)


@pytest.mark.parametrize("suffix", [".json", ".npz", ".csv", ".NPZ"])
@pytest.mark.parametrize("seed", range(3))
def test_files_keep_tracks(tmp_path, suffix, seed):
    tracks = [random_track(seed, person=4), random_track(seed + 9, 5, keypoints=False, person=7)]
    path = tmp_path / f"boxes{suffix}"
    write_boxes(path, tracks[::-1])
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    tolerance = 6e-3 if suffix == ".json" else 0
    for track, again in zip(tracks, read_boxes(path), strict=True):
        assert again.person == track.person
        assert torch.equal(again.frame_indices, track.frame_indices)
        assert torch.allclose(again.boxes_px, track.boxes_px, rtol=0, atol=tolerance)
        assert torch.allclose(again.confidence, track.confidence, rtol=0, atol=tolerance / 10)
        if suffix == ".csv" or track.keypoints_px is None:
            assert again.keypoints_px is None
        else:
            difference = (again.keypoints_px - track.keypoints_px).abs().amax((0, 1))
            assert bool((difference <= torch.tensor([1, 1, 0.1]) * tolerance).all())


def test_csv_by_hand(tmp_path):
    path = tmp_path / "b.csv"
    path.write_text("\ufeffh, w, y, x, frame\n40,30,20,10,3\n41,31,21,11,1\n", encoding="utf-8")
    [track] = read_boxes(path)
    assert (track.person, track.frame_indices.tolist()) == (0, [1, 3])
    assert track.boxes_px.tolist() == [[11, 21, 31, 41], [10, 20, 30, 40]]
    assert track.confidence.tolist() == [1, 1]


def test_json_may_leave_confidence_out(tmp_path):
    person = {"person": 2, "frames": [5], "boxes_px": [[1, 2, 3, 4]]}
    (tmp_path / "b.json").write_text(
        json.dumps({"format": "flowhmr-boxes", "version": 1, "people": [person]})
    )
    [track] = read_boxes(tmp_path / "b.json")
    assert track.confidence.tolist() == [1]
    assert track.keypoints_px is None


def ours(**person):
    content = {"person": 0, "frames": [0, 1], "boxes_px": [[1, 2, 3, 4]] * 2} | person
    return json.dumps({"format": "flowhmr-boxes", "version": 1, "people": [content]})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("b.txt", "", r"got '.txt'; expected a .json, .npz or .csv"),
        ("b.json", "{", "JSONDecodeError"),
        ("b.json", "[]", "format and version None"),
        ("b.json", '{"format": "flowhmr-boxes", "version": 2}', "2"),
        ("b.json", '{"format": "flowhmr-boxes", "version": 1}', "KeyError 'people'"),
        ("b.json", ours(frames=[0]), r"shapes .*expected \[m\]"),
        ("b.json", ours(frames=[1, 1]), "each frame once"),
        ("b.json", ours(frames=[0, -1]), "from 0"),
        ("b.json", ours(frames=[0, 0.5]), "whole numbers"),
        ("b.json", ours(boxes_px=[[1, 2, 3, 4], [1, 2, 3]]), "ValueError"),
        ("b.json", ours(boxes_px=[[1, 2, 3, 4], [1, 2, 3, float("nan")]]), "frame 1: got the box"),
        ("b.json", ours(boxes_px=[[1, 2, -3, 4], [1, 2, 3, 4]]), "frame 0: got the box"),
        ("b.json", ours(keypoints_px=[[[0, 0, 0]] * 16] * 2), r"shapes .*expected \[m\]"),
        ("b.json", ours(confidence=[1, float("inf")]), "confidence with numbers"),
        ("b.npz", "no zip", "expected one written by numpy.savez"),
        ("b.csv", "", "expected a first line"),
        ("b.csv", "frame,x,y,w\n", "expected a first line"),
        ("b.csv", "frame,x,y,w,h,name\n", "expected a first line"),
        ("b.csv", "frame,x,y,w,h\n", "got no boxes"),
        ("b.csv", "frame,x,y,w,h\n0,1,2,3,4\n1,1,2,three,4\n", "line 3: got .*three"),
        ("b.csv", "frame,x,y,w,h\n0,1,2,3\n", "line 2: got"),
    ],
)
def test_bad_files_say_where(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(BoxError, match=f"(?s){name}: .*{message}"):
        read_boxes(tmp_path / name)


def test_no_file_no_boxes(tmp_path):
    with pytest.raises(BoxError, match=r"a.json: got .*No such file"):
        read_boxes(tmp_path / "a.json")
    with pytest.raises(BoxError, match=r"got '.xml'"):
        write_boxes(tmp_path / "a.xml", [random_track(0)])
    with pytest.raises(BoxError, match="got no tracks"):
        write_boxes(tmp_path / "a.json", [])
    with pytest.raises(BoxError, match="got no frames"):
        track_of(torch.zeros(0, dtype=torch.long), torch.zeros(0, 4))


def test_places_without_numbers_are_missing_keypoints(tmp_path):
    """Whatever their confidence says; it never counts for more than 1."""
    one = [[10.0 * k, 5.0, 0.9] for k in range(17)]
    one[2][0], one[3][1], one[4][2], one[5][2] = float("nan"), float("inf"), float("nan"), 95.0
    (tmp_path / "b.json").write_text(ours(frames=[0], boxes_px=[[1, 2, 3, 4]], keypoints_px=[one]))
    (track,) = read_boxes(tmp_path / "b.json")
    assert track.keypoints_px is not None
    assert not track.keypoints_px[0, 2:5].any()
    assert track.keypoints_px[0, 5].tolist() == [50.0, 5.0, 1.0]
    assert track.keypoints_px[0, 6].tolist() == pytest.approx([60.0, 5.0, 0.9])


def test_a_damaged_npz_is_named(tmp_path):
    write_boxes(tmp_path / "b.npz", [random_track(0)])
    whole = (tmp_path / "b.npz").read_bytes()
    refused = 0
    for place in range(0, len(whole), 11):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        (tmp_path / "b.npz").write_bytes(damaged)
        try:
            read_boxes(tmp_path / "b.npz")
        except BoxError as error:
            refused += "b.npz: got" in str(error)
    assert refused > 20


def test_npz_of_another_kind(tmp_path):
    np.savez(tmp_path / "b.npz", something=np.zeros(3))
    with pytest.raises(BoxError, match="KeyError 'frame'"):
        read_boxes(tmp_path / "b.npz")


def test_a_track_of_another_video_is_refused():
    track = track_of([0, 9], [[0, 0, 10, 10], [600, 400, 90, 90]])
    check_track(track, SIZE, 10)
    check_track(track, SIZE)
    with pytest.raises(BoxError, match=r"frame 9; expected frames 0..8"):
        check_track(track, SIZE, 9)
    with pytest.raises(BoxError, match=r"frame 9: .*outside the picture"):
        check_track(track, (600, 480), 10)


@given(
    start=st.tuples(number, number, side, side),
    speed=st.tuples(*[st.floats(-9, 9, width=32)] * 2),
    growth=st.floats(-0.05, 0.05),
    count=st.integers(1, 30),
    window=st.sampled_from([1, 3, 9, 15]),
)
@settings(max_examples=60, deadline=None)
def test_steady_motion_is_not_changed_by_smoothing(start, speed, growth, count, window):
    time = torch.arange(count).double()[:, None]
    size = torch.tensor(start[2:]) * torch.exp(growth * time)
    centre = torch.tensor(start[:2]) + torch.tensor(speed) * time
    track = track_of(range(count), torch.cat([centre - size / 2, size], -1))
    smooth = smooth_boxes(track, window)
    assert torch.allclose(smooth.boxes_px, track.boxes_px, atol=1e-2, rtol=1e-4)


def test_smoothing_removes_outliers_and_jitter_but_keeps_the_path():
    rng = np.random.default_rng(0)
    time = np.arange(90)
    path = np.stack([300 + 100 * np.sin(time / 12), 200 + time, 80 + 0 * time, 200 + 0 * time], -1)
    noisy = path + rng.normal(0, 3, path.shape)
    noisy[40] += (200, -150, 90, 100)
    smooth = smooth_boxes(track_of(time, noisy), 9).boxes_px.numpy()
    inner = slice(5, -5)
    assert np.abs(smooth - path)[inner].max() < 8
    assert (
        np.abs(np.diff(smooth, 2, axis=0)).mean() < 0.15 * np.abs(np.diff(noisy, 2, axis=0)).mean()
    )
    assert (smooth[:, 2:] > 0).all()


def test_smoothing_keeps_an_edge_short():
    """Someone cut from one place to another is not smeared over the whole window."""
    boxes = np.tile([100.0, 100, 50, 100], (40, 1))
    boxes[20:, 0] = 400
    smooth = smooth_boxes(track_of(range(40), boxes), 9).boxes_px
    far = torch.minimum((smooth[:, 0] - 100).abs(), (smooth[:, 0] - 400).abs()) > 5
    assert int(far.sum()) <= 6


def test_smoothing_does_not_reach_over_gaps():
    boxes = np.tile([100.0, 100, 50, 100], (20, 1))
    boxes[10:] = (500, 300, 70, 80)
    frames = [*range(10), *range(20, 30)]
    track = track_of(frames, boxes, keypoints=torch.rand(20, 17, 3))
    smooth = smooth_boxes(track, 9)
    assert torch.allclose(smooth.boxes_px, track.boxes_px, atol=1e-3)
    assert torch.equal(smooth.frame_indices, track.frame_indices)
    assert torch.equal(smooth.keypoints_px, track.keypoints_px)
    shifted = replace(track, boxes_px=track.boxes_px * 3)
    assert torch.allclose(smooth_boxes(shifted, 9).boxes_px, 3 * smooth.boxes_px, atol=1e-3)


@pytest.mark.parametrize("window", [0, 2, -3])
def test_windows_are_odd(window):
    with pytest.raises(ValueError, match="odd"):
        smooth_boxes(random_track(0), window)


@given(
    frames=st.sets(st.integers(0, 40), min_size=1, max_size=20),
    limit=st.integers(0, 12),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_gaps_are_filled_up_to_the_limit(frames, limit, seed):
    frames = sorted(frames)
    track = random_track(seed, len(frames))
    track = replace(track, frame_indices=torch.tensor(frames))
    filled = fill_gaps(track, limit)
    every = filled.frame_indices.tolist()
    for before, after in pairwise(frames):
        between = [f for f in every if before < f < after]
        assert between == (list(range(before + 1, after)) if after - before - 1 <= limit else [])
    known = torch.isin(filled.frame_indices, track.frame_indices)
    assert torch.equal(filled.boxes_px[known], track.boxes_px)
    assert torch.equal(filled.keypoints_px[known], track.keypoints_px)
    assert torch.equal(filled.confidence[known], track.confidence)
    assert not filled.confidence[~known].any()
    assert not filled.keypoints_px[~known][..., 2].any()
    for i in range(4):
        linear = np.interp(every, frames, track.boxes_px[:, i])
        assert filled.boxes_px[:, i].tolist() == pytest.approx(list(linear), rel=1e-4)


@pytest.mark.parametrize("turn", [0, 1])
def test_the_box_of_keypoints_holds_crown_and_soles(turn):
    points = standing(200.0)
    if turn:  # lying down
        points = points[:, [1, 0, 2]]
    x, y, w, h = boxes_from_keypoints(points).tolist()
    along, across = ((x, x + w), (y, y + h)) if turn else ((y, y + h), (x, x + w))
    assert 95 < along[0] < 100
    assert 300 < along[1] < 312
    assert across[0] < 270 - 0.1 * 100
    assert across[1] > 330 + 0.1 * 100


def test_the_box_moves_and_scales_with_the_keypoints():
    points = standing()
    moved = points * torch.tensor([2.5, 2.5, 1]) + torch.tensor([30.0, -70, 0])
    expected = boxes_from_keypoints(points) * 2.5 + torch.tensor([30.0, -70, 0, 0])
    assert torch.allclose(boxes_from_keypoints(moved), expected, atol=1e-3)
    uncertain = points.clone()
    uncertain[0] = torch.tensor([9999.0, 9999, 0.1])
    assert torch.allclose(boxes_from_keypoints(uncertain), boxes_from_keypoints(points), atol=1)


def test_too_few_keypoints_give_no_box():
    points = standing()[None].repeat(4, 1, 1)
    points[1, 2:, 2] = 0.1  # two are left
    points[2, :, :2] = 50.0  # all in one place
    points[3, :, :2] = torch.nan
    boxes = boxes_from_keypoints(points)
    assert boxes.isnan().any(-1).tolist() == [False, True, True, True]
    track = track_from_keypoints(5, torch.arange(4) + 10, points)
    assert (track.person, track.frame_indices.tolist()) == (5, [10])
    assert track_from_keypoints(5, torch.arange(3), points[1:]) is None


def test_frames_without_the_person_are_not_in_the_track():
    points = torch.stack([standing() + torch.tensor([x, 0, 0]) for x in (0.0, 330, 400, 0)])
    points[3, :5] = 0
    track = track_from_keypoints(0, torch.arange(4), points, SIZE)
    assert track.frame_indices.tolist() == [0, 1, 3]
    assert track.boxes_px[1, 0] + track.boxes_px[1, 2] > SIZE[0]
    assert track.confidence.tolist() == pytest.approx([0.9, 0.9, 0.9 * 12 / 17], abs=1e-5)


def test_the_demo_track_fits_its_clip():
    [track] = read_boxes(demo_clip()[1])
    assert track.frame_indices.tolist() == list(range(124))
    check_track(track, (1504, 512), 124)
    assert torch.allclose(track.boxes_px, boxes_from_keypoints(track.keypoints_px), atol=0.05)
    ankles = track.keypoints_px[:, COCO_17.indices_of(["left_ankle", "right_ankle"]), :2]
    assert ankles.diff(dim=0).norm(dim=-1).max() < 45  # no exchanged legs
