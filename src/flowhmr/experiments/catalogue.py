"""All runs and tables, paper by paper."""

from dataclasses import dataclass

from flowhmr.experiments import budget, capture, hpof, motion, of4hmr, temporal
from flowhmr.experiments.lab import Task
from flowhmr.experiments.recipes import CROP_PX
from flowhmr.experiments.tables import Table


@dataclass(frozen=True)
class Paper:
    """Tables that belong together."""

    name: str
    """What all of them are asked for by."""
    title: str
    """Heading of their part of the results page."""
    about: str
    """What holds for all of them, said under the heading."""
    tables: tuple[Table, ...]
    """In the page's order."""


OF4HMR = Paper(
    name="of4hmr",
    title="Optical flow as supervision (of4hmr)",
    about=f"Crops of {CROP_PX} px, each seed with a baseline of its own.",
    tables=(*of4hmr.TABLES.values(), *budget.TABLES.values()),
)
MOTION_HMR = Paper(
    name="motion-hmr",
    title="Motion from synthetic to real (Motion HMR)",
    about=motion.ABOUT,
    tables=tuple(motion.TABLES.values()),
)
CAPTURE = Paper(
    name="capture",
    title="From video to 3D motion (flowhmr capture)",
    about=capture.ABOUT,
    tables=tuple(capture.TABLES.values()),
)
TCMR = Paper(
    name="tcmr",
    title="Smooth motion from static features (TCMR)",
    about=temporal.ABOUT,
    tables=tuple(temporal.TABLES.values()),
)
HPOF = Paper(
    name="hpof",
    title="Poses smoothed from the past, with flow (HPOF)",
    about=hpof.ABOUT,
    tables=tuple(hpof.TABLES.values()),
)
PAPERS: dict[str, Paper] = {p.name: p for p in (OF4HMR, MOTION_HMR, TCMR, HPOF, CAPTURE)}
TABLES: dict[str, Table] = {t.name: t for paper in PAPERS.values() for t in paper.tables}
RUNS: dict[str, Task] = {
    **of4hmr.RUNS,
    **budget.RUNS,
    **motion.RUNS,
    **temporal.RUNS,
    **hpof.RUNS,
    **capture.RUNS,
}
