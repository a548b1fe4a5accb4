"""Reproduce a paper's table on the built-in benchmark: train what it needs, write the table."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.table import Table as Sheet

from flowhmr.cli.shared import console, default_cache, device_of, make_folder
from flowhmr.experiments import (
    PAPERS,
    RUNS,
    TABLES,
    Lab,
    perform_all,
    results_page,
    write_table,
)


@dataclass(frozen=True)
class Arguments:
    """Flags of ``flowhmr experiment``."""

    name: Annotated[
        tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="[NAME [NAME ...]]")
    ] = ()
    """Tables or single runs, see --list; a paper's name for its tables, ``all`` for every table."""
    list: bool = False
    """Say what there is: what each table reproduces, its runs, how long it takes."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds to run. What is done is not done again; an interrupted run goes on."""
    runs: Path = Path("experiments/runs")
    """Folder of the runs."""
    results: Path | None = None
    """Write the results page (Markdown, with figures beside it) from the run folders, without
    running anything; for example docs/results.md."""
    cache: Path = field(default_factory=default_cache)
    """Where clips and flow are kept (SynthMotion's stills and video take 3 GB)."""
    device: str = "auto"
    """cpu, cuda or auto."""
    jobs: int = 0
    """Runs done at once, each in its own process and writing output.txt in its folder; 0 is as
    many as cores (a GPU: a quarter of them) and memory allow."""


def run(arguments: Arguments) -> None:
    """List, run, or write the results page."""
    if arguments.list:
        console.print(_listing())
        console.print()
        for name, paper in PAPERS.items():
            console.print(f"{name}: {', '.join(t.name for t in paper.tables)}")
        console.print(f"\nsingle runs: {', '.join(RUNS)}")
        return
    device = device_of(arguments.device)
    lab = Lab(arguments.runs, arguments.cache, device, on_progress=_say)
    if arguments.results is not None:
        make_folder(arguments.results.parent)
        notes = arguments.runs.parent / "notes"
        for path in results_page(lab, arguments.results, notes):
            console.print(f"wrote {path}")
        return
    names = _expanded(arguments.name)
    if not arguments.seeds or min(arguments.seeds) < 0:
        raise ValueError(
            f"--seeds: got {' '.join(map(str, arguments.seeds)) or 'none'}; expected at least one, "
            "none below 0"
        )
    if arguments.jobs < 0:
        raise ValueError(f"--jobs: got {arguments.jobs}; expected 1 or more, or 0")
    unknown = [n for n in names if n not in TABLES and n not in RUNS]
    if unknown or not names:
        raise ValueError(
            f"experiment: got {', '.join(unknown) or 'no name'}; expected some of "
            f"{', '.join((*TABLES, *PAPERS))}, all, or single runs; `flowhmr experiment --list` "
            "names them"
        )
    make_folder(arguments.runs)
    wanted = [r for n in names for r in (TABLES[n].runs if n in TABLES else (n,))]
    at_once = arguments.jobs or _at_once(device)
    perform_all(lab, wanted, arguments.seeds, RUNS, console.print, at_once)
    for name in names:
        if name in TABLES:
            command = f"flowhmr experiment {name}"
            path = write_table(TABLES[name], lab, arguments.runs / "tables", command)
            # As it is in the file: lines of a table are long.
            console.print(f"\n{path.read_text()}table: {path}", markup=False, soft_wrap=True)


def _expanded(names: tuple[str, ...]) -> tuple[str, ...]:
    """Tables instead of what stands for several; each name once."""
    several = {name: [t.name for t in paper.tables] for name, paper in PAPERS.items()}
    several["all"] = list(TABLES)
    return tuple(dict.fromkeys(n for name in names for n in several.get(name, [name])))


def _at_once(device: torch.device) -> int:
    """Two runs with a core each do 1.4 times as much as one with both, on the CPU measured on."""
    cores = torch.get_num_threads()
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return max(1, min(cores // 4 if device.type == "cuda" else cores, int(gigabytes / 4)))


def _listing() -> Sheet:
    sheet = Sheet("name", "reproduces", "runs", "minutes a seed", box=None, pad_edge=False)
    for name, table in TABLES.items():
        sheet.add_row(name, table.reproduces, str(len(table.runs)), str(table.minutes))
    sheet.caption = "minutes on two CPU cores, what other tables share counted in each"
    return sheet


def _say(what: str, done: int, total: int) -> None:
    if done == total or done % 40 == 0:
        console.print(f"{what}: {done} of {total}")
