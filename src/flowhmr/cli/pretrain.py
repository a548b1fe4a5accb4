"""Train a single-frame network on labelled stills: synthetic ones, as the shipped network (the
defaults), or pictures of the field that `flowhmr data convert` wrote labels for (--config.real)."""

from dataclasses import dataclass, field
from pathlib import Path

from flowhmr.body import load_smpl
from flowhmr.cli.shared import StepProgress, console, default_cache, device_of, make_folder
from flowhmr.training import PretrainConfig, pretrain


@dataclass(frozen=True)
class Arguments:
    """Flags of ``flowhmr pretrain``."""

    run: Path
    """Run folder. Start the same command again to go on after an interruption."""
    config: PretrainConfig = field(default_factory=PretrainConfig)
    """The run."""
    cache: Path = field(default_factory=default_cache)
    """Where the rendered stills are kept (100,000 take 6.6 GB)."""
    smpl: Path | None = None
    """Folder of SMPL's files, where the labels are of neutral SMPL instead of the open body."""
    device: str = "auto"
    """cpu, cuda or auto."""


def run(arguments: Arguments) -> None:
    """Train and say where the network is."""
    device = device_of(arguments.device)
    make_folder(arguments.run)
    body = None if arguments.smpl is None else load_smpl(arguments.smpl)
    path = pretrain(
        arguments.config, arguments.run, arguments.cache, device,
        StepProgress("rendering stills"), body,
    )  # fmt: skip
    console.print(f"network: {path}\nlosses:  {arguments.run / 'losses.png'}")
    console.print(f"score it with: flowhmr evaluate --network {path}")
