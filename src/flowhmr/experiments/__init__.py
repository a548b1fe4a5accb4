"""Experiments: the papers' tables on SynthMotion, one frozen config per run."""

from flowhmr.experiments.lab import Lab, Task
from flowhmr.experiments.motion import MOTION_RUNS, MOTION_TABLES, TrainMotion
from flowhmr.experiments.of4hmr import RUNS, TABLES
from flowhmr.experiments.perform import in_order, perform_all
from flowhmr.experiments.recipes import CROP_PX
from flowhmr.experiments.results import results_page
from flowhmr.experiments.tables import Claim, Row, Table, judge, markdown, spread, write_table

__all__ = [
    "CROP_PX",
    "MOTION_RUNS",
    "MOTION_TABLES",
    "RUNS",
    "TABLES",
    "Claim",
    "Lab",
    "Row",
    "Table",
    "Task",
    "TrainMotion",
    "in_order",
    "judge",
    "markdown",
    "perform_all",
    "results_page",
    "spread",
    "write_table",
]
