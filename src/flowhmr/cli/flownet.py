"""Train a network for optical flow on synthetic people in motion, whose exact flow is known."""

from dataclasses import dataclass, field
from pathlib import Path

from flowhmr.cli.shared import StepProgress, console, default_cache, device_of, make_folder
from flowhmr.flow import DisFlow, FlowEstimator, RaftFlow
from flowhmr.synth import SplitName
from flowhmr.training import (
    FlowScore,
    FlowTrainingConfig,
    estimator_flow,
    held_out_pairs,
    pretrain_flow,
    score_flow,
)


@dataclass(frozen=True)
class Arguments:
    """Flags of ``flowhmr flownet``."""

    run: Path
    """Run folder. Start the same command again to go on after an interruption."""
    config: FlowTrainingConfig = field(default_factory=FlowTrainingConfig)
    """The run."""
    test: bool = False
    """Score the result on SynthMotion's test clips too: once, when everything is chosen."""
    cache: Path = field(default_factory=default_cache)
    """Where drawn clips are kept (1,000 take 1.8 GB)."""
    workers: int = 2
    """Processes that draw clips."""
    device: str = "auto"
    """cpu, cuda or auto."""


def run(arguments: Arguments) -> None:
    """Train, score beside DIS, say where the network is."""
    device = device_of(arguments.device)
    make_folder(arguments.run)
    drawn = StepProgress("drawing clips")
    path = pretrain_flow(
        arguments.config, arguments.run, arguments.cache, device, arguments.workers, drawn
    )
    console.print(f"network: {path}\nlosses:  {arguments.run / 'losses.png'}")
    name = f"raft:small:{path}"
    estimators: dict[str, FlowEstimator] = {
        name: RaftFlow("small", path, device=device),
        "dis": DisFlow(),
        "dis:medium": DisFlow("medium"),
    }
    splits: tuple[SplitName, ...] = ("val", "test") if arguments.test else ("val",)
    for split in splits:
        pairs = held_out_pairs(split, arguments.cache, workers=arguments.workers, on_clips=drawn)
        scores = {k: score_flow(estimator_flow(e), pairs) for k, e in estimators.items()}
        console.print(f"\nSynthMotion {split}, end-point errors in pixels\n{table(scores)}")
    console.print(f"\nuse it with: --config.flow {name}")


def table(scores: dict[str, FlowScore]) -> str:
    """Scores as Markdown."""
    rows = [
        f"| {name} | {s.all_px:.2f} | {s.people_px:.2f} | {s.moving_px:.2f} | {s.pairs} |"
        for name, s in scores.items()
    ]
    head = "| flow | everywhere | on people | where they move | pairs |"
    return "\n".join([head, "|---|---|---|---|---|", *rows])
