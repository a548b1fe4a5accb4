"""Experiments: the papers' tables on SynthMotion, one frozen config per run; scores on the field's
own data."""

from flowhmr.experiments.catalogue import PAPERS, RUNS, TABLES, Paper
from flowhmr.experiments.field import (
    FieldEstimator,
    NetworkEstimator,
    ResultFiles,
    SmplBodies,
    score_field,
)
from flowhmr.experiments.lab import Lab, Task
from flowhmr.experiments.motion import TrainMotion
from flowhmr.experiments.perform import in_order, perform_all
from flowhmr.experiments.results import results_page
from flowhmr.experiments.tables import Claim, Row, Table, judge, markdown, spread, write_table
from flowhmr.experiments.temporal import FilterTemporal, TrainTemporal

__all__ = [
    "PAPERS",
    "RUNS",
    "TABLES",
    "Claim",
    "FieldEstimator",
    "FilterTemporal",
    "Lab",
    "NetworkEstimator",
    "Paper",
    "ResultFiles",
    "Row",
    "SmplBodies",
    "Table",
    "Task",
    "TrainMotion",
    "TrainTemporal",
    "in_order",
    "judge",
    "markdown",
    "perform_all",
    "results_page",
    "score_field",
    "spread",
    "write_table",
]
