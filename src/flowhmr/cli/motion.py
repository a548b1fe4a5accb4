"""Train Motion HMR on synthetic video alone and score it on video of another domain.

`config:full` is the paper's best model, for a GPU; `config:light` a small one, which trains on a
CPU. Flags of either come after its name.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from flowhmr.body import open_body
from flowhmr.cli.shared import StepProgress, console, default_cache, device_of, make_folder
from flowhmr.data import DetectorModel, MotionSetConfig, motion_sequences, with_detector
from flowhmr.distributed import leave
from flowhmr.evaluation import METRICS, Report, mean_over_people
from flowhmr.networks import load_motion
from flowhmr.training import (
    MotionTrainingConfig,
    light_training,
    motion_video,
    pretrain_motion,
    score_motion,
)

HELD_OUT = MotionSetConfig(("test",))
"""Clips to score on."""

if TYPE_CHECKING:
    Preset = MotionTrainingConfig
else:
    Preset = tyro.extras.subcommand_type_from_defaults(
        {"light": light_training(), "full": MotionTrainingConfig()},
        {
            "light": "A small network on crops of 64 px, for a CPU.",
            "full": "ResNet-50 on crops of 224 px: the paper's, for a GPU.",
        },
    )


@dataclass(frozen=True)
class Arguments:
    """Flags of ``flowhmr motion``."""

    run: Path
    """Run folder. Start the same command again to go on after an interruption."""
    config: Preset = field(default_factory=light_training)
    """The run."""
    score: int = 100
    """Held-out clips to score on at the end, of other people, clothes, motions and scenes."""
    detector: DetectorModel = field(default_factory=DetectorModel)
    """Gives their keypoints."""
    cache: Path = field(default_factory=default_cache)
    """Where clips and flow are kept."""
    device: str = "auto"
    """cpu, cuda or auto."""


def run(arguments: Arguments) -> None:
    """Train, score, say where the network is."""
    device, body, config = device_of(arguments.device), open_body(), arguments.config
    make_folder(arguments.run)
    path = pretrain_motion(config, arguments.run, arguments.cache, device, StepProgress)
    console.print(f"network: {path}\nlosses:  {arguments.run / 'losses.png'}")
    if not leave() or not arguments.score:
        return
    network = load_motion(path)
    held_out = replace(
        HELD_OUT,
        size=config.video.size,
        count=arguments.score,
        frames=max(HELD_OUT.frames, config.inputs.frames),
    )
    sequences = motion_sequences(held_out, arguments.cache, StepProgress("drawing clips"))
    sequences = with_detector(sequences, arguments.detector)
    video = motion_video(config, sequences, network.size_px, arguments.cache, StepProgress)
    scores = score_motion(network, video, config.inputs, body, device)
    report = Report(str(path), "SynthMotion, test", tuple(scores))
    report.write(arguments.run, "scores")
    means = mean_over_people(report)
    console.print(f"{len(scores)} held-out clips; frames with enough in view, means over people:")
    for metric, what in METRICS.items():
        console.print(f"  {what}: {means[metric]:.1f}")
