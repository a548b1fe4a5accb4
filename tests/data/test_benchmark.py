"""The benchmark: test motion only, as captured, the same on every machine."""

from dataclasses import replace

import pytest
import torch

from flowhmr.body import BodyModel, mirror_rotmats, open_body
from flowhmr.data import BenchmarkConfig, benchmark_sequences, frame_crops
from flowhmr.data import test_clips as clips_to_score
from flowhmr.synth import ClipConfig, load_motions

SMALL = BenchmarkConfig(replace(BenchmarkConfig().clips, frames=3, size_px=48), count=3)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return open_body()


def distance_to(split: str, poses: torch.Tensor) -> torch.Tensor:
    """From each pose (joint 0 left out) or its mirror image to the nearest of a split."""
    captured = torch.cat([m.rotmats[:, 1:] for m in load_motions(split)]).flatten(1)
    both = [p[:, 1:].flatten(1) for p in (poses, mirror_rotmats(poses))]
    exact = "donot_use_mm_for_euclid_dist"
    return torch.minimum(*(torch.cdist(b, captured, compute_mode=exact).amin(1) for b in both))


def test_clips_show_the_test_motions_as_captured_and_no_other(body):
    for sequence in benchmark_sequences(SMALL, body):
        assert sequence.labels is not None
        poses = sequence.labels.params.rotmats
        assert distance_to("test", poses).max() < 1e-3
        assert distance_to("train", poses).min() > 0.2
        assert distance_to("val", poses).min() > 0.2


def test_clips_are_long_enough_for_accelerations_and_not_those_of_training():
    config = BenchmarkConfig()
    assert config.clips.split == "test"
    assert config.clips.perturb == 0
    assert config.clips.frames >= 30
    assert config.clips.seed != ClipConfig().seed
    assert config.count >= 20


def test_the_benchmark_is_the_same_every_time(body):
    first, second = (benchmark_sequences(SMALL, body) for _ in range(2))
    assert len(first) == SMALL.count
    for a, b in zip(first, second, strict=True):
        assert [i.tobytes() for i in a.images] == [i.tobytes() for i in b.images]
        assert torch.equal(a.boxes_px, b.boxes_px)
        assert a.labels is not None
        assert b.labels is not None
        assert torch.equal(a.labels.joints_m, b.labels.joints_m)


def test_more_clips_begin_with_the_same_ones(body):
    few = benchmark_sequences(replace(SMALL, count=1), body)
    many = benchmark_sequences(replace(SMALL, count=2), body)
    assert few[0].name == many[0].name
    assert few[0].images[2].tobytes() == many[0].images[2].tobytes()
    assert many[0].name != many[1].name


def test_test_clips_are_the_sequences_frame_by_frame(body):
    sequences = benchmark_sequences(SMALL, body)
    for sequence, test in zip(sequences, clips_to_score(sequences, 32), strict=True):
        assert (test.name, test.person) == (sequence.name, sequence.person)
        expected = frame_crops(sequence, 32)
        assert torch.equal(test.clip.frames, expected.frames)
        assert test.clip.frames.shape == (3, 3, 32, 32)
        assert test.clip.labels is not None
