"""Train the network that lifts keypoint tracks and flow; defaults are the shipped one's."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from flowhmr.body import open_body
from flowhmr.cli.shared import StepProgress, console, default_cache, device_of, make_folder
from flowhmr.data import LiftBatches, LiftDataConfig, TrackStore
from flowhmr.distributed import leave
from flowhmr.evaluation import Report, compare_markdown
from flowhmr.networks import load_lift
from flowhmr.synth import MotionConfig, TrackConfig
from flowhmr.training import LiftTrainingConfig, pretrain_lift, score_lift

HELD_OUT = TrackConfig(seed=1, motion=MotionConfig(split="val", lively=2))
"""Tracks to score on, of recordings that no training sees."""


@dataclass(frozen=True)
class Arguments:
    """Flags of ``flowhmr lift``."""

    run: Path
    """Run folder. Start the same command again to go on after an interruption."""
    config: LiftTrainingConfig = field(default_factory=LiftTrainingConfig)
    """The run."""
    score: int = 100
    """Held-out tracks to score on at the end."""
    cache: Path = field(default_factory=default_cache)
    """Where the tracks are kept (10,000 take 0.7 GB)."""
    device: str = "auto"
    """cpu, cuda or auto."""


def run(arguments: Arguments) -> None:
    """Train, score, say where the network is."""
    device, body = device_of(arguments.device), open_body()
    make_folder(arguments.run)
    progress = StepProgress("drawing tracks")
    path = pretrain_lift(arguments.config, arguments.run, arguments.cache, device, progress)
    console.print(f"network: {path}\nlosses:  {arguments.run / 'losses.png'}")
    if not leave() or not arguments.score:
        return
    data = LiftDataConfig(
        HELD_OUT, arguments.score, HELD_OUT.frames, arguments.config.data.detector
    )
    store = TrackStore(HELD_OUT, arguments.score, arguments.cache, on_progress=progress)
    network = load_lift(path)
    scores = score_lift(network, LiftBatches(store, data, 1, 0, 1), body, torch.device("cpu"))
    report = Report(str(path), "held-out synthetic tracks", tuple(scores))
    report.write(arguments.run, "scores")
    console.print(f"{arguments.score} held-out tracks\n{compare_markdown([report])}")
