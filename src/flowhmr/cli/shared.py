"""What the commands have in common: parsing, devices, folders, errors, video."""

import importlib
import logging
import os
import sys
from collections.abc import Callable
from collections.abc import Sequence as Several
from pathlib import Path
from typing import TypeVar

import torch
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from flowhmr.body import BodyModel, load_smpl, open_body
from flowhmr.cli import COMMANDS
from flowhmr.data import PeopleConfig, open_video, people_of, sequences_of
from flowhmr.distributed import asked_share, joined, local_index, this_share
from flowhmr.losses import NonFiniteLoss
from flowhmr.networks import (
    BASELINE,
    LIFT,
    ContextHmr,
    Hmr,
    Lift,
    TemporalHmr,
    load_estimator,
    load_lift,
    load_network,
)
from flowhmr.records import Sequence

N = TypeVar("N", bound=Hmr | ContextHmr | TemporalHmr)
ON_MANY = ("pretrain", "refine", "fit", "adapt", "lift", "motion", "train", "synth export")
"""Commands that torchrun may start on several processes."""
# No markup: brackets are parts of names of files.
console = Console(width=110 if not sys.stdout.isatty() else None, markup=False)


def run_command(name: str, words: list[str]) -> int:
    """Parse the flags of a command and run it; expected failures end in one line."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    module = importlib.import_module(COMMANDS[name][0])
    arguments = tyro.cli(
        module.Arguments, prog=f"flowhmr {name}", description=module.__doc__, args=words
    )
    try:
        require_one(name, words)
        with joined() as share:
            console.quiet = share.index > 0
            module.run(arguments)
    except (ValueError, OSError, RuntimeError, NonFiniteLoss) as error:
        if os.environ.get("FLOWHMR_TRACEBACK"):
            raise
        print(f"flowhmr {name}: {error}", file=sys.stderr)
        print("(set FLOWHMR_TRACEBACK=1 to see where it happened)", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        said = str(stop) or "interrupted; runs go on from their last checkpoint"
        print(f"flowhmr {name}: {said}", file=sys.stderr)
        return 130
    return 0


def require_one(name: str, words: Several[str] = ()) -> None:
    """Ask whether a command, or its subcommand, may run on as many processes as torchrun started.

    Raises:
        ValueError: it may not.
    """
    count = asked_share().count
    if count > 1 and not {name, " ".join([name, *words[:1]])} & set(ON_MANY):
        raise ValueError(
            f"got {count} processes; expected one: only {', '.join(ON_MANY)} run on many; start it "
            "without torchrun"
        )


def default_cache() -> Path:
    """Where flow and synthetic stills are kept between runs: ``$XDG_CACHE_HOME/flowhmr``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flowhmr"


def device_of(name: str) -> torch.device:
    """The device a flag names; ``auto`` takes a GPU where there is one.

    Each of several processes on a machine has a GPU of its own.

    Raises:
        ValueError: PyTorch does not have that device here, or there are fewer GPUs than processes.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and this_share().count > 1:
        number, gpus = local_index(), torch.cuda.device_count()
        if number >= gpus:
            raise ValueError(
                f"--device: got process {number} of a machine with {gpus} GPUs; expected one for "
                f"each process; start torchrun with --nproc-per-node {gpus}, or give --device cpu"
            )
        name = f"cuda:{number}"
    try:
        device = torch.device(name)
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"--device: got {name!r}, which PyTorch cannot use here ({error}); expected auto, cpu "
            "or cuda"
        ) from error
    return device


def make_folder(path: Path) -> Path:
    """Make a folder for results, before anything is computed.

    Raises:
        ValueError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"{path}: got {error.strerror}; expected a folder that exists or can be made; choose "
            "another"
        ) from error
    return path


def network_and_body(
    path: Path | None, smpl: Path | None = None
) -> tuple[Hmr | ContextHmr, BodyModel]:
    """A network of images (the shipped one by default) and the body it estimates.

    ``smpl`` is the folder of SMPL's files, for networks of neutral SMPL.

    Raises:
        ValueError: not one of our files, or a network of another body.
    """
    return _with_body(path, load_network, smpl)


def estimator_and_body(
    path: Path | None, smpl: Path | None = None
) -> tuple[Hmr | ContextHmr | TemporalHmr, BodyModel]:
    """Any network from crops to bodies (the shipped one by default) and the body it estimates.

    Args:
        path: the network's file.
        smpl: folder of SMPL's files, for networks of neutral SMPL.

    Raises:
        ValueError: not one of our files, or a network of another body.
    """
    return _with_body(path, load_estimator, smpl)


def _with_body(
    path: Path | None, load: Callable[[Path], N], smpl: Path | None = None
) -> tuple[N, BodyModel]:
    if path is None and not BASELINE.exists():
        raise ValueError(
            f"{BASELINE}: got no shipped network in this checkout; expected one; train it with "
            "`flowhmr pretrain` and give it with --network"
        )
    network = load(path or BASELINE)
    return network, body_of_network(network.body_id, smpl)


def body_of_network(body_id: str, smpl: Path | None) -> BodyModel:
    """The body of an identity: the open body, or neutral SMPL of a folder.

    Raises:
        ValueError: neither.
    """
    body = open_body()
    if smpl is not None and body_id != body.body_id:
        body = load_smpl(smpl)
    body.check_identity("network", body_id)
    return body


def lift_network(path: Path | None) -> Lift:
    """A network of keypoint tracks, the shipped one by default.

    Raises:
        ValueError: not one of our files, or a network of another body.
    """
    if path is None and not LIFT.exists():
        raise ValueError(
            f"{LIFT}: got no shipped network in this checkout; expected one; train it with "
            "`flowhmr lift` and give it with --network"
        )
    network = load_lift(path or LIFT)
    open_body().check_identity("network", network.body_id)
    return network


def load_people(
    videos: tuple[Path, ...], people: PeopleConfig, crop_px: int, device: torch.device
) -> list[Sequence]:
    """The people of some videos, ready to cut crops and pairs from."""
    out: list[Sequence] = []
    for number, path in enumerate(videos):
        with open_video(path) as video:
            tracks = people_of(video, people.of_video(number, len(videos)), device)
        out += sequences_of(path, tracks, crop_px)
    return out


class StepProgress:
    """A progress bar that is shown only when there is something to do.

    Args:
        what: is being done.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.bar: Progress | None = None

    def __call__(self, done: int, total: int) -> None:
        """Told after each chunk."""
        if self.bar is None:
            self.bar = Progress(
                TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
                TextColumn("left"), TimeRemainingColumn(), console=console,
            )  # fmt: skip
            self.bar.start()
            self.task = self.bar.add_task(self.what, total=total)
        self.bar.update(self.task, completed=done)
        if done >= total:
            self.bar.stop()
            self.bar = None
