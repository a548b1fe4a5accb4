"""Train a single-frame network on synthetic stills; the defaults are the shipped network's."""

from dataclasses import dataclass, field
from pathlib import Path

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
    device: str = "auto"
    """cpu, cuda or auto."""


def run(arguments: Arguments) -> None:
    """Train and say where the network is."""
    device = device_of(arguments.device)
    make_folder(arguments.run)
    path = pretrain(
        arguments.config, arguments.run, arguments.cache, device, StepProgress("rendering stills")
    )
    console.print(f"network: {path}\nlosses:  {arguments.run / 'losses.png'}")
    console.print(f"score it with: flowhmr evaluate --network {path}")
