"""The four papers' experiments on their own data sets, for who has these: train, score by the
field's protocols, and set the result beside the paper's number."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Table as Sheet

from flowhmr.cli.shared import StepProgress, console, default_cache, device_of, make_folder
from flowhmr.experiments import PAPER_RUNS, PLACES, Bench, beside_the_paper, perform_paper


@dataclass(frozen=True)
class Arguments:
    """Flags of ``flowhmr reproduce``."""

    name: Annotated[
        tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="[NAME [NAME ...]]")
    ] = ()
    """Runs, see --list."""
    list: bool = False
    """Say what there is: each run, its data sets, the paper's numbers, what differs from the
    paper."""
    data: Path = Path("data")
    """Folder of the data sets, each where --list says (docs/protocols.md); links will do."""
    runs: Path = Path("runs/papers")
    """Folder of the runs. Start the same command again to go on after an interruption."""
    cache: Path = field(default_factory=default_cache)
    """Where flow, features and converted labels are kept."""
    keypoints: str = "keypoint-rcnn"
    """Whose 2D keypoints the video of of4hmr-2d-* and of4hmr-2d-of-* has: keypoint-rcnn (a detector
    like the paper's looks at the pictures, on --device; keypoint-rcnn:FILE with its weights), files
    (beside the set below --data, such as h36m/keypoints: docs/papers.md) or set (its own)."""
    device: str = "auto"
    """cpu, cuda or auto."""


def run(arguments: Arguments) -> None:
    """List, or train and score."""
    if arguments.list:
        _list()
        return
    unknown = [name for name in arguments.name if name not in PAPER_RUNS]
    if unknown or not arguments.name:
        raise ValueError(
            f"reproduce: got {', '.join(unknown) or 'no name'}; expected some of the names that "
            "`flowhmr reproduce --list` says"
        )
    make_folder(arguments.runs)
    device = device_of(arguments.device)
    bench = Bench(
        arguments.data,
        arguments.runs,
        arguments.cache,
        device,
        StepProgress,
        keypoints=arguments.keypoints,
    )
    for name in arguments.name:
        paper_run = PAPER_RUNS[name]
        reports = perform_paper(name, paper_run, bench)
        table = beside_the_paper(paper_run, reports)
        (arguments.runs / name / "paper.md").write_text(table)
        console.print(f"{name}\n{table}", markup=False, soft_wrap=True)


def _list() -> None:
    sheet = Sheet("name", "needs", "after", "the paper's numbers", box=None, pad_edge=False)
    for name, each in PAPER_RUNS.items():
        said = ", ".join(f"{e.metric} {e.value:g} ({e.protocol})" for e in each.expected)
        sheet.add_row(name, ", ".join(each.needs), ", ".join(each.after), said)
    console.print(sheet)
    console.print("\nBelow --data:")
    for name, place in PLACES.items():
        beside = f", with {place.beside}" if place.beside else ""
        console.print(f"  {name}: {place.path}{beside}; pictures in {place.images}", markup=False)
    console.print(
        "  SMPL's files and J_regressor_h36m.npy: smpl; SPIN's weights, for tcmr and hpof: "
        "networks/spin.safetensors (`flowhmr import`)",
        soft_wrap=True,
    )
    notes = dict.fromkeys((each.paper, each.note) for each in PAPER_RUNS.values())
    for paper, note in notes:
        console.print(f"{paper}: {note}", markup=False, soft_wrap=True)
