"""Keypoints of a detector on the people of a data set: whose they are, kept, read from files."""

import json

import numpy as np
import pytest
import torch

from flowhmr.body import COCO_17, OPENPOSE_25
from flowhmr.data import (
    DetectedPerson,
    FieldError,
    KeypointDetector,
    KeypointFiles,
    boxes_from_keypoints,
    with_keypoints,
)
from flowhmr.data.field.video import Pictures
from flowhmr.records import Sequence
from licensed_files import write_pictures

FRAMES = 3


def standing(x_px):
    """A person of 100 px, in each of the frames a little further; all sure."""
    rng = np.random.default_rng(int(x_px))
    points = rng.uniform(0, [40, 100], (len(COCO_17), 2)).astype(np.float32)
    moved = [points + np.array([x_px + 5 * frame, 20]) for frame in range(FRAMES)]
    return torch.tensor(np.stack(moved), dtype=torch.float32)


@pytest.fixture
def two(tmp_path):
    """Two people of one video, the second of whom is not in its first frame."""
    names = [f"walk/image_{i:05d}.jpg" for i in range(FRAMES)]
    write_pictures(tmp_path, names, (320, 160))
    every = [standing(40.0), standing(180.0)]
    out = []
    for number, points in enumerate(every):
        first = number
        boxes = boxes_from_keypoints(torch.cat([points, torch.ones_like(points[..., :1])], -1))
        out.append(
            Sequence(
                name=f"{number}",
                person=f"{number}",
                images=Pictures(tmp_path, names[first:], range(first, FRAMES)),
                times_s=torch.arange(FRAMES - first) / 30.0,
                boxes_px=boxes[first:],
                labels=None,
            )
        )
    return out, every


class Detector:
    """Finds everybody, those to the right first, and counts how often it is asked."""

    def __init__(self, every):
        self.every, self.asked = every, []

    def __call__(self, frame):
        assert frame.image.shape == (160, 320, 3)
        self.asked.append(frame.index)
        people = [torch.cat([p[frame.index], torch.full((17, 1), 0.7)], -1) for p in self.every]
        return [DetectedPerson(p, 0.9) for p in reversed(people)]


def test_who_is_found_is_whose_box_it_is(two, tmp_path):
    videos, every = two
    detector = Detector(every)
    source = KeypointDetector(detector, "mine", tmp_path / "kept")
    found = with_keypoints(videos, source)
    for number, (sequence, points) in enumerate(zip(found, every)):
        torch.testing.assert_close(sequence.detected_px[..., :2], points[number:])
        assert bool((sequence.detected_px[..., 2] == 0.7).all())
    # A picture is looked at once, and not again another time.
    assert detector.asked == [0, 1, 2]
    again = with_keypoints(videos, source)
    assert detector.asked == [0, 1, 2]
    assert torch.equal(again[1].detected_px, found[1].detected_px)
    with_keypoints(videos, KeypointDetector(detector, "another", tmp_path / "kept"))
    assert len(detector.asked) == 6


def test_who_is_elsewhere_is_nobody(two, tmp_path):
    videos, every = two
    source = KeypointDetector(Detector(every[:1]), "mine", tmp_path / "kept")
    first, second = with_keypoints(videos, source)
    assert bool((first.detected_px[..., 2] > 0).all())
    assert not second.detected_px.any()
    source = KeypointDetector(Detector([]), "nobody", tmp_path / "kept")
    assert not any(v.detected_px.any() for v in with_keypoints(videos, source))


def test_openposes_files_of_a_video(two, tmp_path):
    videos, every = two
    folder = tmp_path / "keypoints" / "walk"
    folder.mkdir(parents=True)
    for frame in range(FRAMES):
        people = []
        for points in every:
            # OpenPose puts the centre of the first pixel on 0.
            flat = np.zeros((25, 3))
            for place, name in enumerate(COCO_17.names):
                if name in OPENPOSE_25.names:
                    flat[OPENPOSE_25.index(name)] = [*(points[frame, place] - 0.5).tolist(), 0.8]
            people.append({"pose_keypoints_2d": flat.flatten().tolist()})
        path = folder / f"walk_{frame:012d}_keypoints.json"
        path.write_text(json.dumps({"people": people}))
    found = with_keypoints(videos, KeypointFiles(tmp_path / "keypoints"))
    for number, (sequence, points) in enumerate(zip(found, every)):
        torch.testing.assert_close(sequence.detected_px[..., :2], points[number:])


def test_a_video_without_a_file_or_with_two_is_refused(two, tmp_path):
    videos, _ = two
    with pytest.raises(FieldError, match=r"got \[\] for video walk; expected one of walk, walk"):
        with_keypoints(videos, KeypointFiles(tmp_path / "keypoints"))
    (tmp_path / "keypoints" / "walk").mkdir(parents=True)
    with pytest.raises(FieldError, match=r"expected OpenPose's, one a frame"):
        with_keypoints(videos, KeypointFiles(tmp_path / "keypoints"))
    (tmp_path / "keypoints" / "walk.json").write_text("[]")
    with pytest.raises(FieldError, match=r"got \['walk', 'walk.json'\]"):
        with_keypoints(videos, KeypointFiles(tmp_path / "keypoints"))
