"""Stored features: computed once and found again, whole after a kill, clips with their labels."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from flowhmr.body import BodyParams
from flowhmr.cameras import crop_from_box
from flowhmr.data import (
    FeatureBatches,
    FeatureConfig,
    Link,
    PairConfig,
    StoredFeatures,
    frame_crops,
)
from flowhmr.data.labels import labels_in_crop
from flowhmr.flow import FlowPair
from flowhmr.geometry import pick
from flowhmr.records import Labels, Sequence

SIZE = 20


def sequence(frames: int, seed: int = 0, labelled: bool = True) -> Sequence:
    """Noise with labels."""
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 256, (24, 30, 3), np.uint8) for _ in range(frames)]
    corner = torch.from_numpy(rng.uniform(2, 8, (frames, 2))).float()
    boxes_px = torch.cat([corner, torch.tensor([[8.0, 12.0]]).expand(frames, 2)], -1)
    made = torch.Generator().manual_seed(seed)
    eye = torch.eye(3).expand(frames, 24, 3, 3).contiguous()
    labels = Labels(
        BodyParams(eye, torch.randn(frames, 10, generator=made), "body:x"),
        torch.randn(frames, 24, 3, generator=made),
        20 * torch.rand(frames, 24, 2, generator=made),
        torch.ones(frames, 24),
    )
    return Sequence(
        f"s{seed}", "0", images, torch.arange(frames) / 30, boxes_px, labels if labelled else None
    )


class Counted:
    """Means of the crop's rows; counts what it is asked for."""

    def __init__(self, fails_at: int = 0) -> None:
        self.calls, self.fails_at = 0, fails_at

    def __call__(self, frames: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self.fails_at:
            raise KeyboardInterrupt
        return frames.float().mean(-1).flatten(1)


@pytest.fixture
def store(tmp_path) -> Callable[..., StoredFeatures]:
    """Features in one folder."""

    def make(source: Counted, sequences: list[Sequence], **changed) -> StoredFeatures:
        settings = {"network": "net", "config": FeatureConfig(), "size_px": SIZE} | changed
        return StoredFeatures(source, sequences=sequences, folder=tmp_path, **settings)

    return make


def test_features_are_of_the_frames_crops_and_read_back(store):
    videos, asked, told = [sequence(5), sequence(7, 1)], Counted(), []
    made = store(asked, videos, on_progress=lambda *n: told.append(n))
    assert (len(made), made.copies, asked.calls, told) == (2, 2, 4, [(1, 2), (2, 2)])
    for number, video in enumerate(videos):
        clip = made.clip(number, 0, torch.arange(len(video)))
        assert_close(clip.features, Counted()(frame_crops(video, SIZE).frames))
        assert clip.size_px == SIZE
        expected = labels_in_crop(video.labels, crop_from_box(video.boxes_px, SIZE))
        assert clip.labels is not None
        assert_close(clip.labels.keypoints_px, expected.keypoints_px)
    again = store(silent := Counted(), videos)
    assert silent.calls == 0
    for ours, theirs in zip(again.tables, made.tables, strict=True):
        assert torch.equal(torch.stack(ours), torch.stack(theirs))


def test_what_they_are_made_from_is_their_name(store, tmp_path):
    video = sequence(4)
    store(Counted(), [video])
    others = {
        "network": {"network": "other"},
        "size_px": {"size_px": 16},
        "margin": {"config": FeatureConfig(margin=1.5)},
    }
    for name, changed in others.items():
        asked = Counted()
        store(asked, [video], **changed)
        assert asked.calls == 2, name
    # What is as it was is not made again for another share of occluders, or fewer copies.
    store(asked := Counted(), [video], config=FeatureConfig(occluder=0.9))
    assert asked.calls == 1
    store(asked := Counted(), [video], config=FeatureConfig(occluded=0))
    assert asked.calls == 0
    moved = replace(video, boxes_px=video.boxes_px + 1)
    store(asked := Counted(), [moved])
    assert asked.calls == 2
    assert {p.suffix for p in tmp_path.iterdir()} == {".safetensors"}


def test_a_killed_process_goes_on_where_it_was(store, tmp_path):
    videos = [sequence(4, seed) for seed in range(4)]
    with pytest.raises(KeyboardInterrupt):
        store(Counted(fails_at=5), videos)
    assert len(list(tmp_path.iterdir())) == 4
    # As a power cut may leave a file.
    cut_off = next(tmp_path.iterdir())
    cut_off.write_bytes(cut_off.read_bytes()[:50])
    made = store(asked := Counted(), videos)
    assert asked.calls == 5
    whole = store(silent := Counted(), videos)
    assert silent.calls == 0
    for ours, theirs in zip(made.tables, whole.tables, strict=True):
        assert torch.equal(torch.stack(ours), torch.stack(theirs))


def test_occluders_are_in_the_copies_only_and_always_the_same(store):
    video = sequence(40)
    made = store(Counted(), [video], config=FeatureConfig(occluded=2, occluder=0.5))
    plain, first, second = made.tables[0]
    changed = (plain != first).any(-1)
    assert 8 < int(changed.sum()) < 32, "about half of the frames"
    assert not torch.equal(first, second)
    for file in Path(made._folder).glob("*occluded*"):
        file.unlink()
    assert torch.equal(store(Counted(), [video]).tables[0][1], first)


def test_a_batch_follows_from_its_number(store):
    made = store(Counted(), [sequence(9), sequence(12, 1)])
    clips = FeatureBatches(made, 6, (0, 0), 4, seed=3, count=10)
    assert len(clips) == 10
    again = FeatureBatches(made, 6, (0, 0), 4, seed=3, count=20)
    assert torch.equal(clips[7].features, again[7].features)
    assert not torch.equal(clips[7].features, clips[8].features)
    assert not torch.equal(
        clips[7].features, FeatureBatches(made, 6, (0, 0), 4, seed=4, count=10)[7].features
    )
    assert clips[0].features.shape == (4, 6, made.tables[0][0].shape[-1])
    assert clips[0].labels.keypoints_px.shape == (4, 6, 24, 2)


def test_clips_are_whole_and_from_everywhere_and_labels_belong_to_them(store):
    video = sequence(9)
    made = store(Counted(), [video], config=FeatureConfig(occluded=0))
    clips = FeatureBatches(made, 6, (0, 0), 64, seed=0, count=1)[0]
    starts = set()
    for k in range(64):
        (start,) = (made.tables[0][0] == clips.features[k, 0]).all(-1).nonzero()[0].tolist()
        starts.add(start)
        rows = torch.arange(start, start + 6)
        assert torch.equal(clips.features[k], made.tables[0][0][rows])
        assert torch.equal(clips.labels.params.betas[k], video.labels.params.betas[rows])
    assert starts == {0, 1, 2, 3}


def test_beyond_the_ends_the_last_frame_is_repeated(store):
    made = store(Counted(), [sequence(4)], config=FeatureConfig(occluded=0))
    clips = FeatureBatches(made, 5, (2, 2), 200, seed=0, count=1)[0]
    table, seen = made.tables[0][0], set()
    for features in clips.features:
        rows = [int((table == f).all(-1).nonzero()[0, 0]) for f in features]
        seen.add(tuple(rows))
    assert seen == {
        (0, 0, 0, 1, 2), (0, 0, 1, 2, 3), (0, 1, 2, 3, 3), (1, 2, 3, 3, 3),
    }  # fmt: skip


def test_what_cannot_be_learned_from_is_said(store):
    made = store(Counted(), [sequence(4)])
    with pytest.raises(ValueError, match="at most 4 frames for clips of 6; expected one as long"):
        FeatureBatches(made, 6, (0, 0), 1, 0, 1)
    with pytest.raises(ValueError, match="without labels"):
        FeatureBatches(store(Counted(), [sequence(4, labelled=False)]), 3, (0, 0), 1, 0, 1)
    with pytest.raises(ValueError, match="got no sequences"):
        store(Counted(), [])
    with pytest.raises(ValueError, match="-1 occluded copies"):
        FeatureConfig(occluded=-1)


class Numbered:
    """Flow that says which frame of which sequence it is of."""

    def __init__(self, gap: int = 1) -> None:
        self.config = PairConfig(gap=gap)

    def link(self, sequence: Sequence, start: int, size_px: int) -> Link:
        flow = torch.full((size_px, size_px, 2), 100.0 * int(sequence.name[1:]) + start)
        valid = torch.ones(size_px, size_px, dtype=torch.bool)
        window = pick(crop_from_box(sequence.boxes_px[start : start + 1], size_px), 0)
        return Link(start + 1, window, FlowPair(flow, flow, valid, valid))

    def links(self, sequence: Sequence, size_px: int) -> list[Link]:
        starts = range(max(len(sequence) - self.config.gap, 0))
        return [self.link(sequence, start, size_px) for start in starts]


def test_clips_have_the_flow_of_a_pair_that_they_are_about(store):
    videos = [sequence(9), sequence(6, 1)]
    made = store(Counted(), videos, config=FeatureConfig(occluded=0))
    plain = FeatureBatches(made, 7, (4, 0), 6, 0, 30)
    batches = FeatureBatches(made, 7, (4, 0), 6, 0, 30, Numbered(), 8)
    found = set()
    for number in range(30):
        clip = batches[number]
        assert torch.equal(clip.features, plain[number].features), "the same clips as without"
        link = clip.link
        assert link is not None
        assert link.flow.forward.shape == (6, 8, 8, 2)
        for k, first in enumerate(link.first.tolist()):
            which, row = divmod(int(link.flow.forward[k, 0, 0, 0]), 100)
            for frame, at in ((first, row), (first + 1, row + 1)):
                assert torch.equal(clip.features[k, frame], made.tables[which][0][at])
            crops = crop_from_box(videos[which].boxes_px[row : row + 2], SIZE)
            assert_close(link.crops.centre_px[k], crops.centre_px)
            assert link.crops.size_px == SIZE
            found.add((which, row, first))
    assert {(which, row) for which, row, _ in found} == {
        *((0, row) for row in range(8)), *((1, row) for row in range(5))
    }  # fmt: skip
    assert {first for *_, first in found} == {4, 5}
    with pytest.raises(ValueError, match="flow between frames 2 apart"):
        FeatureBatches(made, 7, (4, 0), 6, 0, 30, Numbered(gap=2), 8)
    with pytest.raises(ValueError, match=r"clips about 1 of their frames; .* two frames"):
        FeatureBatches(made, 7, (3, 3), 6, 0, 30, Numbered(), 8)


def flat(video):
    """A video of which 2D keypoints alone are known."""
    nobody = torch.zeros(len(video), dtype=torch.bool)
    return replace(video, labels=replace(video.labels, has_body=nobody))


def test_clips_with_keypoints_alone_are_drawn_by_their_share(store):
    """However long the videos are; all clips say what is known of them."""
    made = store(Counted(), [sequence(40), flat(sequence(8, 1))], config=FeatureConfig(occluded=0))
    clips = FeatureBatches(made, 6, (0, 0), 400, seed=0, count=1, keypoint_share=0.6)[0]
    known = clips.labels.has_body
    assert known.shape == (400, 6)
    assert torch.equal(known.any(1), known.all(1))
    assert 0.52 < float((~known[:, 0]).float().mean()) < 0.68
    for share in (0.0, 1.0):
        with pytest.raises(ValueError, match=r"share of . for 3 clips with keypoints alone"):
            FeatureBatches(made, 6, (0, 0), 4, seed=0, count=1, keypoint_share=share)
    alone = store(Counted(), [sequence(8)])
    with pytest.raises(ValueError, match=r"got a share of 0.5 for 0 clips with keypoints alone"):
        FeatureBatches(alone, 6, (0, 0), 4, seed=0, count=1, keypoint_share=0.5)
