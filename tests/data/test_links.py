"""Stored links: the flow that the source gives, estimated once, read back from memory and disk."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.testing import assert_close
from torch.utils.data import DataLoader

from flowhmr.data import FlowSource, Link, PairBatches, PairConfig, PairSource, StoredLinks
from flowhmr.flow import FlowPair
from flowhmr.records import Sequence

SIZE = 21
"""Odd: a mask's bits do not fill its last byte."""
PAIRS = PairConfig(gap=2, flow_px=SIZE)


def sequence(frames: int, seed: int = 0, name: str = "") -> Sequence:
    """Noise, in which a person stands here and there."""
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 256, (24, 30, 3), np.uint8) for _ in range(frames)]
    corner = torch.from_numpy(rng.uniform(2, 8, (frames, 2))).float()
    boxes_px = torch.cat([corner, torch.tensor([[8.0, 12.0]]).expand(frames, 2)], -1)
    return Sequence(name or f"s{seed}", "0", images, torch.arange(frames) / 30, boxes_px, None)


class Counted:
    """A source with flow of its own for every two images, that counts what it is asked for."""

    def __init__(self, config: PairConfig = PAIRS):
        self.config = config
        self.asked: list[tuple[str, int, int]] = []
        self._source = FlowSource(config, self._flow)

    def link(self, sequence: Sequence, start: int, size_px: int) -> Link:
        self.asked.append((sequence.name, start, size_px))
        return self._source.link(sequence, start, size_px)

    def links(self, sequence: Sequence, size_px: int) -> list[Link]:
        starts = range(max(len(sequence) - self.config.gap, 0))
        return [self.link(sequence, start, size_px) for start in starts]

    def _flow(self, frame1: np.ndarray, frame2: np.ndarray) -> FlowPair:
        seen = torch.from_numpy(np.stack([frame1, frame2])[..., :2] / 10.0).float()
        valid = seen[..., 0] < 15
        return FlowPair(seen[0], -seen[1], valid[0], valid[1])


class Silent(Counted):
    """Must not be asked."""

    def link(self, sequence: Sequence, start: int, size_px: int) -> Link:
        raise AssertionError("asked again")


@pytest.fixture
def store(tmp_path) -> Callable[..., StoredLinks]:
    """Links of sequences in one folder."""

    def make(sequences: list[Sequence], source: PairSource | None = None, **changed) -> StoredLinks:
        settings = {"estimator": "noise", "size_px": SIZE, "folder": tmp_path} | changed
        return StoredLinks(source or Counted(), sequences=sequences, **settings)

    return make


def same(found: Link, expected: Link) -> None:
    """Equal but for half precision."""
    assert found.end == expected.end
    assert torch.equal(found.window.centre_px, expected.window.centre_px)
    assert torch.equal(found.window.side_px, expected.window.side_px)
    assert found.window.size_px == expected.window.size_px
    assert torch.equal(found.window.angle_rad, expected.window.angle_rad)
    for name in ("forward", "backward"):
        of_found, of_expected = getattr(found.flow, name), getattr(expected.flow, name)
        assert of_found.dtype == torch.float32
        assert_close(of_found, of_expected, rtol=2**-11, atol=1e-6)
        name += "_valid"
        assert torch.equal(getattr(found.flow, name), getattr(expected.flow, name))


@pytest.mark.parametrize("config", [PAIRS, PairConfig(gap=3, reach=0.7, flow_px=30)])
def test_a_link_is_the_sources(store, config):
    sequences, source = [sequence(5), sequence(4, 1)], Counted(config)
    links = store(sequences, source)
    assert isinstance(links, PairSource)
    assert links.config == config
    for each in sequences:
        for start in range(len(each) - config.gap):
            found, expected = links.link(each, start, SIZE), source.link(each, start, SIZE)
            same(found, expected)
            assert 0 < expected.flow.forward_valid.float().mean() < 1


def test_a_link_is_estimated_once_and_then_read(store, tmp_path):
    sequences, source = [sequence(5), sequence(4, 1)], Counted()
    told = []
    links = store(sequences, source, on_progress=lambda *done: told.append(done))
    assert sorted(source.asked) == [("s0", i, SIZE) for i in range(3)] + [
        ("s1", i, SIZE) for i in range(2)
    ]
    assert told == [(1, 2), (2, 2)]
    assert len(list(tmp_path.iterdir())) == 2
    again = store(sequences, Silent())
    for each in sequences:
        same(again.link(each, 1, SIZE), links.link(each, 1, SIZE))


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"x" * 99])
def test_a_damaged_file_is_made_anew(store, tmp_path, damage):
    video = sequence(4)
    expected = store([video]).link(video, 1, SIZE)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.unlink()  # the first store has the whole one mapped
    file.write_bytes(damage(whole))
    same(store([video]).link(video, 1, SIZE), expected)
    assert file.read_bytes() == whole


def changed_images(video: Sequence) -> Sequence:
    images = [i.copy() for i in video.images]
    images[2][5, 5, 1] ^= 1
    return replace(video, images=images)


@pytest.mark.parametrize(
    ("change", "video", "config"),
    [
        ({}, changed_images(sequence(4)), PAIRS),
        ({}, replace(sequence(4), boxes_px=sequence(4).boxes_px + 0.01), PAIRS),
        ({"estimator": "other"}, sequence(4), PAIRS),
        ({"size_px": SIZE + 1}, sequence(4), PAIRS),
        ({}, sequence(4), replace(PAIRS, gap=1)),
        ({}, sequence(4), replace(PAIRS, reach=0.5)),
        ({}, sequence(4), replace(PAIRS, hop=1)),
        ({}, sequence(4), replace(PAIRS, margin=1.3)),
        ({}, sequence(4), replace(PAIRS, flow_px=40)),
    ],
    ids=["images", "boxes", "estimator", "size", "gap", "reach", "hop", "margin", "flow_px"],
)
def test_what_flow_depends_on_is_estimated_anew(store, tmp_path, change, video, config):
    store([sequence(4)])
    source = Counted(config)
    store([video], source, **change)
    assert source.asked
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("video", "config"),
    [
        (sequence(4), replace(PAIRS, frames=3)),
        (sequence(4), replace(PAIRS, context=5)),
        (sequence(4, name="renamed"), PAIRS),
        (replace(sequence(4), detected_px=torch.ones(4, 17, 3)), PAIRS),
    ],
    ids=["frames", "context", "name", "keypoints"],
)
def test_what_flow_does_not_depend_on_is_read(store, tmp_path, video, config):
    first = store([sequence(4)])
    again = store([video], Silent(config))
    same(again.link(video, 1, SIZE), first.link(sequence(4), 1, SIZE))
    assert len(list(tmp_path.iterdir())) == 1


def test_windows_are_of_the_same_links_and_leave_the_original_alone(store):
    video = sequence(5)
    links = store([video])
    windows = links.windows(3, 4)
    assert windows.config == replace(PAIRS, frames=3, context=4)
    assert links.config == PAIRS
    same(windows.link(video, 2, SIZE), links.link(video, 2, SIZE))


def test_what_was_not_prepared_is_refused(store):
    video = sequence(4)
    links = store([video])
    with pytest.raises(ValueError, match=r"got sequence 's7' at 21 px; expected one of the 1 pre"):
        links.link(sequence(4, 7), 0, SIZE)
    with pytest.raises(ValueError, match=r"got sequence 's0' at 48 px; expected .* at 21 px"):
        links.link(video, 0, 48)
    for start in (-1, 2):
        with pytest.raises(ValueError, match=rf"got frame {start} of .* expected one of its fir"):
            links.link(video, start, SIZE)


@pytest.mark.parametrize("frames", [1, 2])
def test_sequences_shorter_than_the_gap_have_no_links(store, frames):
    short, longer = sequence(frames), sequence(4, 1)
    for source in (Counted(), Silent()):  # made, then read
        links = store([short, longer], source)
        with pytest.raises(ValueError, match=r"got frame 0 .* expected one of its first 0"):
            links.link(short, 0, SIZE)
        assert links.link(longer, 1, SIZE).end == 3
        assert PairBatches([short, longer], SIZE, 2, 0, 1, links).pairs == 2


def test_the_same_images_twice_are_estimated_once(store):
    # Two threads at a time: they must not write one file.
    many = [sequence(3, name=f"copy {i}") for i in range(8)]
    source = Counted()
    links = store([*many, many[0]], source, workers=2)
    assert len(source.asked) == 1
    assert all(links.link(each, 0, SIZE).end == 2 for each in many)


def test_two_sequences_of_one_name_are_refused(store):
    with pytest.raises(ValueError, match=r"two different sequences of the name 'walk'; expected"):
        store([sequence(3, 0, "walk"), sequence(3, 1, "walk")])


def one_thread(_: int) -> None:
    cv2.setNumThreads(0)


def test_workers_cut_windows_from_them(store):
    videos = [sequence(8), sequence(7, 1)]
    links = store(videos).windows(3, 2)
    dataset = PairBatches(videos, SIZE, 3, 0, 2, links)
    loader = DataLoader(dataset, batch_size=None, num_workers=1, worker_init_fn=one_thread)
    straight = PairBatches(videos, SIZE, 3, 0, 2, Counted(links.config))
    for number, batch in enumerate(loader):
        expected = straight[number]
        assert expected.before is not None
        assert expected.flow is not None
        assert batch.frames.shape == (3, 3, 3, SIZE, SIZE)
        assert torch.equal(batch.frames, expected.frames)
        assert torch.equal(batch.before.count, expected.before.count)
        assert torch.equal(batch.before.frames, expected.before.frames)
        assert torch.equal(batch.flow.forward_valid, expected.flow.forward_valid)
        assert_close(batch.flow.forward, expected.flow.forward, rtol=2**-11, atol=1e-6)


def test_the_folder_is_made(store, tmp_path: Path):
    store([sequence(3)], folder=tmp_path / "a" / "b")
    assert len(list((tmp_path / "a" / "b").iterdir())) == 1
