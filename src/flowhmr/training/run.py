"""A run folder: config, commit, losses as CSV and as a picture, checkpoints."""

import csv
import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor

import flowhmr
from flowhmr.distributed import is_first, mean_of, meet, require_same, this_share
from flowhmr.losses import NonFiniteLoss
from flowhmr.networks import Network, save_network
from flowhmr.training.config import LoopConfig
from flowhmr.training.state import LoopState

CHECKPOINT = "checkpoint.safetensors"
"""Of a run that goes on, in its folder."""
NETWORK = "network.safetensors"
"""What a run made, in its folder."""
LOSSES, SCORES = "losses.csv", "scores.csv"
"""Tables of a run, in its folder."""


class Run:
    """The folder of one training run.

    ``config.json`` what was asked for, with commit, versions and hardware; ``losses.csv`` one row
    every ``log_every`` steps; ``losses.png`` their curves; ``scores.csv`` what was scored on its
    way; ``checkpoint.safetensors`` everything needed to go on. Of several processes the
    first writes, and all read: they need one folder.

    Args:
        folder: made if missing; one that holds a checkpoint is continued.
        config: of the training.
        command: what else defines the run (data, backbone ...), kept in ``config.json``.
        title: shown beside the progress bar.
    """

    def __init__(self, folder: Path, config: LoopConfig, command: Any, title: str = "training"):
        self.folder, self.config, self.title = folder, config, title
        self._values: dict[str, list[Float[Tensor, ""]]] = {}
        self._began = time.monotonic()
        if not is_first():
            return
        folder.mkdir(parents=True, exist_ok=True)
        facts = {"train": asdict(config), "command": _plain(command), **provenance()}
        (folder / "config.json").write_text(json.dumps(facts, indent=2, default=str))

    @property
    def checkpoint(self) -> Path:
        """Where the run's state is kept."""
        return self.folder / CHECKPOINT

    def resume(self, state: LoopState) -> int:
        """Load the checkpoint, if there is one; returns the first step to do."""
        start = state.load(self.checkpoint) if self.checkpoint.exists() else 0
        remedy = "give a --run folder that all machines share"
        require_same(start, f"{self.checkpoint}, steps done", remedy)
        state.spread()
        if is_first():
            self._forget_rows_from(start)
        return start

    def progress(self, start: int, steps: int) -> Iterator[int]:
        """The steps still to do, under a progress bar with the time that remains."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            TextColumn("{task.fields[loss]}"),
        )
        with Progress(*columns, speed_estimate_period=120, disable=not is_first()) as bar:
            self._bar, self._task = (
                bar,
                bar.add_task(self.title, total=steps, completed=start, loss=""),
            )
            for step in range(start, steps):
                yield step
                bar.advance(self._task)
        if is_first():
            self.draw()

    def log(self, step: int, values: dict[str, Float[Tensor, ""]], state: LoopState) -> None:
        """Note a step's values; write a row and a checkpoint when they are due.

        The values stay on their device until then.

        Raises:
            NonFiniteLoss: a loss or a gradient was not, on a GPU, since the last row.
        """
        for name, value in values.items():
            self._values.setdefault(name, []).append(value)
        done = step + 1
        if done % self.config.log_every == 0 or done == self.config.steps:
            row = mean_of(self._means())
            if is_first():
                seconds = time.monotonic() - self._began
                self._append({"step": float(done), "seconds": seconds, **row}, LOSSES)
            self._bar.update(self._task, loss=f"loss {row['total']:.4g}")
        if done % self.config.checkpoint_every == 0 or done == self.config.steps:
            self._means()
            if is_first():
                self._save(state, done)

    def score(self, step: int, values: dict[str, float]) -> None:
        """Note what the network of a step scores on held-out data."""
        self._append({"step": float(step), **values}, SCORES)

    def scores(self) -> list[dict[str, float]]:
        """What was noted so far."""
        path = self.folder / SCORES
        if not path.exists():
            return []
        with path.open() as file:
            return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]

    def _means(self) -> dict[str, float]:
        """Of all values since the last row or checkpoint; forgets them. A checkpoint begins anew
        so that a run that goes on from it writes the same rows."""
        names, columns = list(self._values), self._values.values()
        self._values = {}
        if not names:
            return {}
        # One transfer from the device for all of them.
        means = torch.stack([torch.stack(column).double().mean() for column in columns]).tolist()
        row = dict(zip(names, means, strict=True))
        bad = [name for name in ("total", "gradient") if not math.isfinite(row.get(name, 0.0))]
        if bad:
            raise NonFiniteLoss(
                f"{' and '.join(bad)}: got {row[bad[0]]} over the last {self.config.log_every} "
                "steps; expected finite losses and gradients; lower the learning rate or look at "
                f"the data; no such step changed the weights, and {self.checkpoint} is intact"
            )
        return row

    def cost(self) -> dict[str, Any]:
        """What the run took, for the model card: steps, and seconds over all its starts."""
        return {"steps": self.config.steps, "seconds": round(time.monotonic() - self._began)}

    def save_network(self, network: Network, trained_by: str) -> Path:
        """Write the result beside the losses, with what it took; returns its file."""
        path = self.folder / NETWORK
        if is_first():
            save_network(path, network, {"trained_by": trained_by, **provenance(), **self.cost()})
        meet()
        return path

    def draw(self) -> Path | None:
        """The curves of ``losses.csv`` as a picture."""
        return draw_losses(self.folder / LOSSES)

    def _save(self, state: LoopState, step: int) -> None:
        temporary = self.folder / f".checkpoint.{os.getpid()}"
        try:
            state.save(temporary, step)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(self.checkpoint)
        except OSError as error:
            raise OSError(
                f"{self.checkpoint}: got {error}; expected room for a checkpoint; free some disk "
                "and start the same command again: it goes on from the last checkpoint"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)

    def _append(self, row: dict[str, float], name: str) -> None:
        path = self.folder / name
        with path.open("a+", newline="") as file:
            file.seek(0)
            # A version that logged less may have begun the table.
            head = next(csv.reader(file), None)
            writer = csv.DictWriter(file, head or list(row), restval="", extrasaction="ignore")
            if not head:
                writer.writeheader()
            writer.writerow({k: f"{v:.6g}" for k, v in row.items()})

    def _forget_rows_from(self, step: int) -> None:
        """Drop the rows written after the checkpoint; their steps are done again."""
        _keep_rows(self.folder / SCORES, step)
        kept = _keep_rows(self.folder / LOSSES, step)
        if kept:
            # The clock goes on too: "seconds" is what the run has taken so far.
            self._began -= float(kept[-1].split(",")[1])


def _keep_rows(path: Path, step: int) -> list[str]:
    """Drop a table's rows of later steps, and the table if no step was done; what is left."""
    if not step:
        path.unlink(missing_ok=True)
    if not path.exists():
        return []
    head, *rows = path.read_text().splitlines()
    kept = [r for r in rows if r and int(float(r.split(",")[0])) <= step]
    path.write_text("\n".join([head, *kept]) + "\n")
    return kept


def draw_losses(table: Path) -> Path | None:
    """Plot every column of a losses.csv against the step; returns the PNG's path."""
    if not table.exists():
        return None
    from matplotlib.figure import Figure

    with table.open() as file:
        rows = list(csv.DictReader(file))
    if len(rows) < 2:
        return None
    names = [n for n in rows[0] if n not in ("step", "seconds")]
    figure = Figure(figsize=(12, 2.6 * ((len(names) + 2) // 3)), layout="constrained")
    steps = [float(r["step"]) for r in rows]
    for i, name in enumerate(names):
        axes = figure.add_subplot((len(names) + 2) // 3, 3, i + 1)
        values = [float(r[name]) for r in rows]
        axes.plot(steps, values, linewidth=1)
        axes.set_title(name, fontsize=9)
        if min(values) > 0:
            axes.set_yscale("log")
        axes.grid(alpha=0.3)
    target = table.with_suffix(".png")
    figure.savefig(target, dpi=100)
    return target


def provenance() -> dict[str, Any]:
    """Commit, versions and hardware, for run folders and model cards."""
    return {
        "flowhmr": flowhmr.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()} {platform.system()}",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "processes": this_share().count,
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _commit() -> str | None:
    """The commit of the source tree, with '+' when it has changes; None outside a checkout."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + (
            "+" if git("status", "--porcelain") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return None


def _plain(config: Any) -> Any:
    return asdict(config) if is_dataclass(config) and not isinstance(config, type) else config
