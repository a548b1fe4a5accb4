"""Keypoint files of other tools become tracks, by joint name and by the pixel rule."""

import json

import numpy as np
import pytest
import torch

from flowhmr.body import COCO_17, OPENPOSE_25
from flowhmr.data.box_files import write_boxes
from flowhmr.data.boxes import BoxError, PersonTrack
from flowhmr.data.keypoints import (
    OPENPOSE_18,
    coco_from_named,
    read_keypoints,
)


def person(x=0.0, y=0.0, seed=0):
    """17 keypoints in a region 100 wide and 200 high."""
    draw = torch.Generator().manual_seed(seed)
    points = torch.rand(17, 3, generator=draw) * torch.tensor([100.0, 200, 0.4])
    return points + torch.tensor([x, y, 0.5])


def flat_in(joints, coco_px):
    """The flat list of a joint set, pixel centres on integers; what COCO lacks is far away."""
    rows = []
    for name in joints.names:
        if name in COCO_17.names:
            x, y, confidence = coco_px[COCO_17.index(name)].tolist()
            rows += [x - 0.5, y - 0.5, confidence]
        else:
            rows += [9999.0, 9999.0, 0.9]
    return rows


def write_frames(folder, frames, names="walk_{:012d}_keypoints.json", key="pose_keypoints_2d"):
    for number, people in frames.items():
        content = {"version": 1.3, "people": [{"person_id": [-1], key: flat} for flat in people]}
        (folder / names.format(number)).write_text(json.dumps(content))


def test_conversion_by_name_is_its_own_inverse():
    points = torch.rand(3, 17, 3) + 0.1
    assert torch.equal(coco_from_named(points, COCO_17.names), points)
    order = torch.randperm(17).tolist()
    assert torch.equal(coco_from_named(points[:, order], [COCO_17.names[i] for i in order]), points)
    few = coco_from_named(points[:, :2], ["left_knee", "belly_button"])
    assert torch.equal(few[:, COCO_17.index("left_knee")], points[:, 0])
    assert few.count_nonzero() == 9


def test_missing_keypoints_are_zero_and_never_nan():
    points = torch.rand(17, 3) + 0.1
    points[3, 0] = torch.nan
    points[4, 2] = torch.nan
    points[5, 2] = 0
    found = coco_from_named(points, COCO_17.names)
    assert not found[3:6].any()
    assert torch.equal(found[6:], points[6:])


@pytest.mark.parametrize(
    ("joints", "key"),
    [
        (OPENPOSE_25, "pose_keypoints_2d"),
        (OPENPOSE_18, "pose_keypoints_2d"),
        (OPENPOSE_18, "pose_keypoints"),
    ],
)
def test_openpose_folders(tmp_path, joints, key):
    poses = {number: person(10 * number, 50, number) for number in (0, 1, 2, 5)}
    write_frames(
        tmp_path, {n: [flat_in(joints, p)] for n, p in poses.items()} | {3: [], 4: []}, key=key
    )
    [track] = read_keypoints(tmp_path)
    assert track.frame_indices.tolist() == [0, 1, 2, 5]
    for points, pose in zip(track.keypoints_px, poses.values(), strict=True):
        assert torch.allclose(points, pose, atol=1e-3)


def test_openpose_18_is_in_the_order_that_openpose_publishes():
    """POSE_COCO_BODY_PARTS of its poseParameters.cpp, by abbreviation."""
    words = (
        "Nose Neck RSho RElb RWr LSho LElb LWr RHip RKnee RAnk LHip LKnee LAnk REye LEye REar LEar"
    )
    whole = {"Sho": "shoulder", "Elb": "elbow", "Wr": "wrist", "Ank": "ankle"}
    expected = []
    for word in words.split():
        side = {"R": "right_", "L": "left_"}.get(word[0], "")
        part = word[1:] if side else word
        expected.append(side + whole.get(part, part.lower()))
    assert OPENPOSE_18.names == tuple(expected)


def test_openpose_numbers_count_from_the_name_or_the_order(tmp_path):
    flat = flat_in(OPENPOSE_25, person())
    write_frames(tmp_path, {n: [flat] for n in (7, 8)})
    assert read_keypoints(tmp_path)[0].frame_indices.tolist() == [7, 8]
    write_frames(tmp_path, {n: [flat] for n in (9, 10)}, names="img{}.json")
    assert read_keypoints(tmp_path)[0].frame_indices.tolist() == [0, 1, 2, 3]


def test_openpose_gaps_in_a_person(tmp_path):
    flat = flat_in(OPENPOSE_25, person())
    nose = 3 * OPENPOSE_25.index("nose")
    knee = 3 * OPENPOSE_25.index("left_knee")
    flat[nose : nose + 3] = [0, 0, 0]
    flat[knee] = float("nan")
    write_frames(tmp_path, {0: [flat]})
    [track] = read_keypoints(tmp_path)
    gone = [i for i, row in enumerate(track.keypoints_px[0]) if not row.any()]
    assert gone == [COCO_17.index("nose"), COCO_17.index("left_knee")]


def test_openpose_numbers_too_large_for_a_float_are_left_out(tmp_path):
    flat = [float(n) for n in flat_in(OPENPOSE_25, person())]
    flat[3 * OPENPOSE_25.index("nose")] = 1e300
    write_frames(tmp_path, {0: [flat]})
    [track] = read_keypoints(tmp_path)
    gone = [i for i, row in enumerate(track.keypoints_px[0]) if not row.any()]
    assert gone == [COCO_17.index("nose")]


def test_people_are_linked_whatever_their_order(tmp_path):
    a = {n: person(20 * n, 0, 1) for n in range(12)}
    b = {n: person(600 - 20 * n, 250, 2) for n in range(3, 9)}
    frames = {n: [flat_in(OPENPOSE_25, who[n]) for who in (a, b) if n in who] for n in range(12)}
    for n in (4, 7):
        frames[n].reverse()
    write_frames(tmp_path, frames)
    first, second = read_keypoints(tmp_path)
    assert (first.person, second.person) == (0, 1)
    assert first.frame_indices.tolist() == list(a)
    assert second.frame_indices.tolist() == list(b)
    assert torch.allclose(first.keypoints_px, torch.stack(list(a.values())), atol=1e-3)
    assert torch.allclose(second.keypoints_px, torch.stack(list(b.values())), atol=1e-3)


def coco_entry(image_id, points, **more):
    rows = (points - torch.tensor([0.5, 0.5, 0])).tolist()
    return {"image_id": image_id, "keypoints": [v for row in rows for v in row], **more}


def annotations(tmp_path, people):
    """Image ids in another order than the names; ``people`` is a list of (image, points, more)."""
    images = [
        {"id": 30, "file_name": "v/img10.jpg"},
        {"id": 10, "file_name": "v/img9.jpg"},
        {"id": 20, "file_name": "v/img8.jpg"},
    ]
    entries = [coco_entry(image, points, **more) for image, points, more in people]
    (tmp_path / "a.json").write_text(json.dumps({"images": images, "annotations": entries}))
    return tmp_path / "a.json"


def flagged(seed):
    """Keypoints with COCO's flags: 0 not labelled, 1 hidden, 2 visible."""
    points = person(seed=seed)
    points[:, 2] = torch.arange(17) % 3
    points[points[:, 2] == 0] = torch.tensor([0.5, 0.5, 0])
    return points


def test_coco_annotations(tmp_path):
    path = annotations(tmp_path, [(30, flagged(3), {}), (20, flagged(1), {}), (10, flagged(2), {})])
    [track] = read_keypoints(path)
    assert track.frame_indices.tolist() == [0, 1, 2]
    for points, seed in zip(track.keypoints_px, (1, 2, 3), strict=True):
        known = flagged(seed)[:, 2] > 0
        assert points[:, 2].tolist() == known.float().tolist()
        assert torch.allclose(points[known, :2], flagged(seed)[known, :2], atol=1e-4)
        assert not points[~known].any()


def test_coco_track_ids_are_kept_apart(tmp_path):
    people = [
        (20, flagged(0), {"track_id": 5}),
        (20, flagged(0) + torch.tensor([3.0, 0, 0]), {"track_id": 2}),
        (10, flagged(0), {"track_id": 5}),
        (30, torch.tensor([0.5, 0.5, 0]).repeat(17, 1), {"track_id": 2}),  # a crowd, no keypoints
    ]
    first, second = read_keypoints(annotations(tmp_path, people))
    assert (first.person, first.frame_indices.tolist()) == (0, [0])
    assert (second.person, second.frame_indices.tolist()) == (1, [0, 1])


@pytest.mark.parametrize(
    "ids", [(0, 1, 4), ("0.jpg", "1.jpg", "4.jpg"), ("v2/f0", "v2/f1", "v2/f4")]
)
def test_coco_results(tmp_path, ids):
    entries = [coco_entry(i, person(seed=s), score=0.8) for s, i in enumerate(ids)]
    (tmp_path / "r.json").write_text(json.dumps(entries[::-1]))
    [track] = read_keypoints(tmp_path / "r.json")
    assert track.frame_indices.tolist() == [0, 1, 4]
    expected = torch.stack([person(seed=s) for s in range(3)])
    assert torch.allclose(track.keypoints_px, expected, atol=1e-4)


@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_our_own_files(tmp_path, suffix):
    points = person()[None]
    boxes = torch.tensor([[1.0, 2, 300, 400]])
    track = PersonTrack(3, torch.tensor([6]), boxes, torch.ones(1), points)
    write_boxes(tmp_path / f"k{suffix}", [track])
    [again] = read_keypoints(tmp_path / f"k{suffix}")
    assert (again.person, again.frame_indices.tolist()) == (3, [6])
    assert torch.allclose(again.keypoints_px, points, atol=6e-3)
    assert torch.equal(again.boxes_px, boxes)
    write_boxes(
        tmp_path / f"k{suffix}", [PersonTrack(3, torch.tensor([6]), boxes, torch.ones(1), None)]
    )
    with pytest.raises(BoxError, match="got boxes only; expected keypoints"):
        read_keypoints(tmp_path / f"k{suffix}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"k.json: got .*expected a JSON file"),
        ("3", "AssertionError"),
        ('{"images": []}', "KeyError 'annotations'"),
        ('[{"image_id": 1, "keypoints": [1, 2, 3]}]', "ValueError"),
        ('[{"image_id": "one", "keypoints": []}]', "'one' without a number"),
        ('{"images": [], "annotations": [{"image_id": 1, "keypoints": [1, 1, 1]}]}', "KeyError 1"),
        ("[]", "got nobody with 3 confident keypoints"),
        ('{"format": "flowhmr-boxes", "version": 9, "people": []}', "version"),
    ],
)
def test_bad_json_is_named(tmp_path, content, message):
    (tmp_path / "k.json").write_text(content)
    with pytest.raises(
        BoxError, match=f"k.json: .*{message}" if "k.json" not in message else message
    ):
        read_keypoints(tmp_path / "k.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "KeyError 'people'"),
        ("[]", "TypeError"),
        ('{"people": [{"pose_keypoints_2d": [1, 2, 3]}]}', "3 numbers for a person"),
        ('{"people": [{"face_keypoints_2d": []}]}', "KeyError 'pose_keypoints_2d'"),
        ('{"people": []', "JSON"),
    ],
)
def test_bad_openpose_files_are_named(tmp_path, content, message):
    write_frames(tmp_path, {0: [flat_in(OPENPOSE_25, person())]})
    (tmp_path / "walk_000000000001_keypoints.json").write_text(content)
    with pytest.raises(BoxError, match=rf"walk_000000000001_keypoints.json: got .*{message}"):
        read_keypoints(tmp_path)


def test_nothing_to_read(tmp_path):
    with pytest.raises(BoxError, match=r"got no .json file"):
        read_keypoints(tmp_path)
    with pytest.raises(BoxError, match=r"nowhere.json: got"):
        read_keypoints(tmp_path / "nowhere.json")
    with pytest.raises(BoxError, match=r"nowhere.npz: got"):
        read_keypoints(tmp_path / "nowhere.npz")
    write_frames(tmp_path, {0: [], 1: []})
    with pytest.raises(BoxError, match="got nobody"):
        read_keypoints(tmp_path)
    np.save(tmp_path / "k.npy", np.zeros(3))
    with pytest.raises(BoxError, match=r"got '.npy'"):
        read_keypoints(tmp_path / "k.npy")
