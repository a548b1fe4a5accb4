"""Experiments: the papers' tables on SynthMotion, one frozen config per run; scores on the field's
own data."""

from flowhmr.experiments.catalogue import PAPERS, RUNS, TABLES, Paper
from flowhmr.experiments.field import (
    PLACES,
    Bench,
    Expected,
    FieldEstimator,
    NetworkEstimator,
    PaperRun,
    Place,
    PretrainOn,
    RefineOn,
    ResultFiles,
    SmplBodies,
    TrainMotionOn,
    TrainOver,
    beside_the_paper,
    score_field,
)
from flowhmr.experiments.field import RUNS as PAPER_RUNS
from flowhmr.experiments.field import perform as perform_paper
from flowhmr.experiments.lab import Lab, Task
from flowhmr.experiments.motion import TrainMotion
from flowhmr.experiments.perform import in_order, perform_all
from flowhmr.experiments.results import results_page
from flowhmr.experiments.tables import Claim, Row, Table, judge, markdown, spread, write_table
from flowhmr.experiments.temporal import FilterTemporal, TrainTemporal

__all__ = [
    "PAPERS",
    "PAPER_RUNS",
    "PLACES",
    "RUNS",
    "TABLES",
    "Bench",
    "Claim",
    "Expected",
    "FieldEstimator",
    "FilterTemporal",
    "Lab",
    "NetworkEstimator",
    "Paper",
    "PaperRun",
    "Place",
    "PretrainOn",
    "RefineOn",
    "ResultFiles",
    "Row",
    "SmplBodies",
    "Table",
    "Task",
    "TrainMotion",
    "TrainMotionOn",
    "TrainOver",
    "TrainTemporal",
    "beside_the_paper",
    "in_order",
    "judge",
    "markdown",
    "perform_all",
    "perform_paper",
    "results_page",
    "score_field",
    "spread",
    "write_table",
]
