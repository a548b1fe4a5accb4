"""People of a video: where their boxes come from, and the part of the images that is kept."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from flowhmr.data import (
    BoxError,
    PeopleConfig,
    PersonTrack,
    open_video,
    people_of,
    sequences_of,
    write_boxes,
)
from flowhmr.data import people as people_module
from flowhmr.data.workers import DetectorError

CPU = torch.device("cpu")
WIDTH, HEIGHT, FRAMES = 160, 120, 8
BLACK, WHITE = 0, 255


def box_of(frame: int) -> list[float]:
    """Where the white person stands: walks to the right, out of the middle."""
    return [20.0 + 6 * frame, 30.0, 20.0, 50.0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Images with a white block in a person's place, on black; no codec between."""
    target = tmp_path_factory.mktemp("images")
    for frame in range(FRAMES):
        image = np.full((HEIGHT, WIDTH, 3), BLACK, np.uint8)
        x, y, w, h = map(int, box_of(frame))
        image[y : y + h, x : x + w] = WHITE
        Image.fromarray(image).save(target / f"{frame:03d}.png")
    return target


def track(frames: list[int], person: int = 0) -> PersonTrack:
    boxes_px = torch.tensor([box_of(f) for f in frames])
    return PersonTrack(person, torch.tensor(frames), boxes_px, torch.ones(len(frames)), None)


@pytest.fixture
def boxes_file(tmp_path) -> Path:
    """Two people, the second only in some frames."""
    write_boxes(tmp_path / "boxes.json", [track(list(range(FRAMES)), 3), track([1, 2, 4], 7)])
    return tmp_path / "boxes.json"


def people(folder: Path, config: PeopleConfig) -> list[PersonTrack]:
    with open_video(folder) as video:
        return people_of(video, config, CPU)


def block_of(image: np.ndarray) -> list[float]:
    """The white block (x, y, w, h) of an image that is black elsewhere, to a fraction of a px."""
    share = image[..., 0] / 255
    columns, rows = share.max(0), share.max(1)
    x, y = (line.argmax() - line[: line.argmax()].sum() for line in (columns, rows))
    return [float(x), float(y), float(columns.sum()), float(rows.sum())]


def test_nobody_is_found_without_a_source(folder):
    with pytest.raises(BoxError, match=r"got nothing that says where people are; expected one of"):
        people(folder, PeopleConfig())


def test_two_sources_are_one_too_many(folder, boxes_file):
    config = PeopleConfig(boxes=(boxes_file,), box=("1,2,3,4",))
    with pytest.raises(BoxError, match=r"got boxes and box; expected one of --people.boxes"):
        people(folder, config)


def test_boxes_come_from_a_file(folder, boxes_file):
    tracks = people(folder, PeopleConfig(boxes=(boxes_file,)))
    assert [t.person for t in tracks] == [3, 7]
    assert tracks[0].frame_indices.tolist() == list(range(FRAMES))
    # Constant velocity: smoothing leaves it alone.
    expected = torch.tensor([box_of(f) for f in range(FRAMES)])
    assert_close(tracks[0].boxes_px, expected, atol=0.05, rtol=0)
    # The missing frame is filled in.
    assert tracks[1].frame_indices.tolist() == [1, 2, 3, 4]


def test_one_person_can_be_chosen(folder, boxes_file):
    tracks = people(folder, PeopleConfig(boxes=(boxes_file,), person=7))
    assert [t.person for t in tracks] == [7]
    with pytest.raises(BoxError, match=r"person 5: got people \[3, 7\]"):
        people(folder, PeopleConfig(boxes=(boxes_file,), person=5))


def test_boxes_can_be_typed_in(folder):
    (still,) = people(folder, PeopleConfig(box=("20,30,20,50",)))
    assert len(still) == FRAMES
    assert_close(still.boxes_px, torch.tensor([box_of(0)]).expand(FRAMES, 4))
    moving = PeopleConfig(box=("0:20,30,20,50", "7:62,30,20,50"))
    (walker,) = people(folder, moving)
    expected = torch.tensor([box_of(f) for f in range(FRAMES)])
    assert_close(walker.boxes_px, expected, atol=0.05, rtol=0)


def test_boxes_come_from_keypoints(folder, tmp_path):
    tracked = track(list(range(FRAMES)))
    x, y, w, h = tracked.boxes_px[:, None].unbind(-1)
    places = torch.linspace(0, 1, 17)
    points = torch.stack([x + w * places, y + h * places.flip(0), torch.ones(FRAMES, 17)], -1)
    write_boxes(tmp_path / "k.npz", [replace(tracked, keypoints_px=points)])
    (found,) = people(folder, PeopleConfig(keypoints=(tmp_path / "k.npz",)))
    assert len(found) == FRAMES
    write_boxes(tmp_path / "b.npz", [tracked])
    with pytest.raises(BoxError, match="expected keypoints"):
        people(folder, PeopleConfig(keypoints=(tmp_path / "b.npz",)))


def test_boxes_of_a_longer_video_are_refused(folder, tmp_path):
    late = replace(track([0, 1]), frame_indices=torch.tensor([0, FRAMES]))
    write_boxes(tmp_path / "late.json", [late])
    with pytest.raises(BoxError, match=f"expected frames 0..{FRAMES - 1} of this video"):
        people(folder, PeopleConfig(boxes=(tmp_path / "late.json",)))


def test_boxes_outside_the_picture_are_refused(folder):
    with pytest.raises(BoxError, match="outside the picture"):
        people(folder, PeopleConfig(box=("500,10,20,20",)))


@pytest.mark.parametrize(
    "name", ["guess", "mediapipe:0", "mediapipe:-2", "mediapipe:two", "command: "]
)
def test_unknown_detectors_are_refused(folder, name):
    with pytest.raises(BoxError, match=f"got '{name}'; expected mediapipe, mediapipe:PEOPLE"):
        people(folder, PeopleConfig(detector=name))


@pytest.mark.parametrize(("name", "count"), [("mediapipe", 1), ("mediapipe:4", 4)])
def test_mediapipe_is_told_how_many_people(folder, monkeypatch, name, count):
    asked = []

    def detector(**options):
        asked.append(options)
        raise DetectorError("no environment here")

    monkeypatch.setattr("flowhmr.data.people.mediapipe_detector", detector)
    with pytest.raises(DetectorError):
        people(folder, PeopleConfig(detector=name))
    assert asked == [{"people": count}]


def test_words_of_a_command_may_be_quoted(folder, monkeypatch):
    asked = []

    def process(command):
        asked.append(command)
        raise DetectorError("not here")

    monkeypatch.setattr("flowhmr.data.people.DetectorProcess", process)
    with pytest.raises(DetectorError):
        people(folder, PeopleConfig(detector="command:'/my tools/detect' --fast"))
    assert asked == [["/my tools/detect", "--fast"]]
    with pytest.raises(BoxError, match=r"got command:o'brien/detect \(No closing quotation\)"):
        people(folder, PeopleConfig(detector="command:o'brien/detect"))


def test_each_video_has_its_own_files():
    a, b = Path("a.json"), Path("b.json")
    config = PeopleConfig(boxes=(a, b), person=2)
    assert config.of_video(0, 2) == PeopleConfig(boxes=(a,), person=2)
    assert config.of_video(1, 2) == PeopleConfig(boxes=(b,), person=2)
    assert PeopleConfig(keypoints=(a, b)).of_video(1, 2).keypoints == (b,)
    detector = PeopleConfig(detector="mediapipe")
    assert detector.of_video(1, 3) == detector


@pytest.mark.parametrize("name", ["boxes", "keypoints"])
@pytest.mark.parametrize("count", [1, 3])
def test_files_that_do_not_match_the_videos_are_refused(name, count):
    config = PeopleConfig(**{name: (Path("a.json"), Path("b.json"))})
    with pytest.raises(BoxError, match=rf"--people.{name}: got 2 files for {count} videos"):
        config.of_video(0, count)


def test_one_typed_box_is_not_that_of_several_videos():
    with pytest.raises(BoxError, match=r"got it for 2 videos; expected one video"):
        PeopleConfig(box=("1,2,3,4",)).of_video(0, 2)


@pytest.mark.parametrize("crop_px", [256, 70, 35])
def test_boxes_follow_the_part_of_the_picture_that_is_kept(folder, crop_px):
    """The white block is where the box says, however much smaller the image is kept."""
    frames = list(range(FRAMES))
    (sequence,) = sequences_of(folder, [track(frames)], crop_px)
    assert len(sequence) == FRAMES
    for image, box_px in zip(sequence.images, sequence.boxes_px.tolist()):
        assert image.shape == sequence.images[0].shape
        assert block_of(image) == pytest.approx(box_px, abs=0.1)


def with_keypoints(tracked: PersonTrack) -> PersonTrack:
    """Keypoints on the box's diagonal; each is as certain as its frame is late."""
    x, y, w, h = tracked.boxes_px[:, None].unbind(-1)
    places = torch.linspace(0, 1, 17)
    confidence = (tracked.frame_indices[:, None] / FRAMES).expand(-1, 17)
    points = torch.stack([x + w * places, y + h * places, confidence], -1)
    return replace(tracked, keypoints_px=points)


@pytest.mark.parametrize("crop_px", [256, 70, 35])
def test_keypoints_follow_the_part_of_the_picture_that_is_kept(folder, crop_px):
    """The first and the last lie on corners of the white block, in the frames of each stretch."""
    parts = sequences_of(folder, [with_keypoints(track([0, 1, 4, 5, 6]))], crop_px)
    assert [len(p) for p in parts] == [2, 3]
    for part, frames in zip(parts, ([0, 1], [4, 5, 6])):
        assert part.detected_px is not None
        assert part.detected_px.shape == (len(frames), 17, 3)
        for image, points, frame in zip(part.images, part.detected_px, frames):
            x, y, w, h = block_of(image)
            assert points[0, :2].tolist() == pytest.approx([x, y], abs=0.1)
            assert points[-1, :2].tolist() == pytest.approx([x + w, y + h], abs=0.1)
            assert points[:, 2].tolist() == pytest.approx([frame / FRAMES] * 17)


def test_people_without_keypoints_have_none(folder):
    tracks = [with_keypoints(track([0, 1], 4)), track([0, 1], 9)]
    first, second = sequences_of(folder, tracks, 256)
    assert first.detected_px is not None
    assert second.detected_px is None


def test_only_the_surroundings_of_the_person_are_kept(folder):
    (sequence,) = sequences_of(folder, [track([0, 1, 2])], 256)
    height, width = sequence.images[0].shape[:2]
    # The crop's side is 1.4 of the box's height, around all three boxes.
    assert height == pytest.approx(70, abs=2)
    assert width < 80
    assert (np.stack(sequence.images)[..., 0] > 127).sum() == 3 * 20 * 50


def test_a_large_person_is_kept_no_finer_than_crops_are_cut(folder):
    whole, coarse = (sequences_of(folder, [track([0, 1])], px)[0] for px in (256, 35))
    zoom = coarse.images[0].shape[0] / whole.images[0].shape[0]
    assert zoom == pytest.approx(0.5, abs=0.02)
    assert_close(coarse.boxes_px[:, 3], 0.5 * whole.boxes_px[:, 3], rtol=0.03, atol=0)


def test_a_person_at_the_border_keeps_what_is_in_the_picture(folder):
    boxes_px = torch.tensor([[-10.0, 80.0, 30.0, 60.0]])
    cut = PersonTrack(0, torch.tensor([0]), boxes_px, torch.ones(1), None)
    (sequence,) = sequences_of(folder, [cut], 256)
    height, width = sequence.images[0].shape[:2]
    # x from 0 to 5 + 42, y from 110 - 42 to 120.
    assert (width, height) == (47, 52)
    assert_close(sequence.boxes_px, torch.tensor([[-10.0, 12.0, 30.0, 60.0]]))


def test_stretches_end_where_the_person_is_gone(folder):
    frames = [0, 1, 2, 5, 7]
    parts = sequences_of(folder, [track(frames)], 256)
    assert [len(p) for p in parts] == [3, 1, 1]
    times = [p.times_s.tolist() for p in parts]
    assert times == [pytest.approx([f / 30 for f in fs]) for fs in ([0, 1, 2], [5], [7])]
    assert [p.name for p in parts] == [f"{folder.name}#0.{i}" for i in range(3)]
    for part, shown in zip(parts, ([0, 1, 2], [5], [7])):
        for image, box_px, frame in zip(part.images, part.boxes_px.tolist(), shown):
            assert block_of(image) == pytest.approx(box_px, abs=0.1), frame


def test_each_person_has_sequences_of_their_own(folder):
    parts = sequences_of(folder, [track([0, 1], 4), track([5, 6, 7], 9)], 256)
    assert [(p.person, len(p)) for p in parts] == [("4", 2), ("9", 3)]
    assert all(p.labels is None for p in parts)


def test_frames_beyond_a_video_that_ends_early_are_left_out(folder):
    longer = track([FRAMES - 1, FRAMES, FRAMES + 1])
    (part,) = sequences_of(folder, [longer], 256)
    assert len(part) == len(part.boxes_px) == len(part.times_s) == 1


def test_more_than_fits_in_memory_is_refused(folder, monkeypatch):
    tracks = [track(list(range(FRAMES)))]
    monkeypatch.setattr(people_module, "LARGEST_BYTES", 1000.0)
    with pytest.raises(BoxError, match=r"GB of crops; expected at most 0 GB .* cut the video"):
        sequences_of(folder, tracks, 256)
    monkeypatch.setattr(people_module, "LARGEST_BYTES", FRAMES * 3 * WIDTH * HEIGHT * 1.0)
    assert sequences_of(folder, tracks, 256)
