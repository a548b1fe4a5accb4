"""Synthetic test video: motions, people and scenes that no training still or clip has."""

from dataclasses import dataclass

from flowhmr.body import BodyModel
from flowhmr.data.sequences import frame_crops
from flowhmr.records import Sequence, TestClip
from flowhmr.synth import ClipConfig, render_clip

TEST_CLIPS = ClipConfig(split="test", seed=9_000, frames=36, perturb=0.0)


@dataclass(frozen=True)
class BenchmarkConfig:
    """Which clips are scored."""

    clips: ClipConfig = TEST_CLIPS
    """Test recordings of the motion capture, poses as captured."""
    count: int = 24
    """How many clips."""


def benchmark_sequences(config: BenchmarkConfig, body: BodyModel) -> list[Sequence]:
    """The clips as video, with labels."""
    return [render_clip(config.clips, i, body) for i in range(config.count)]


def test_clips(sequences: list[Sequence], size_px: int) -> list[TestClip]:
    """Sequences cut frame by frame for a network that takes crops of ``size_px``."""
    return [TestClip(s.name, s.person, frame_crops(s, size_px)) for s in sequences]
