"""The field's own data sets: scores by its protocols, the papers' runs."""

from flowhmr.experiments.field.papers import RUNS
from flowhmr.experiments.field.results import ResultFiles
from flowhmr.experiments.field.runs import (
    PLACES,
    Bench,
    Expected,
    PaperRun,
    Place,
    PretrainOn,
    RefineOn,
    TrainMotionOn,
    TrainOver,
    beside_the_paper,
    perform,
)
from flowhmr.experiments.field.scores import (
    FieldEstimator,
    NetworkEstimator,
    SmplBodies,
    score_field,
)

__all__ = [
    "PLACES",
    "RUNS",
    "Bench",
    "Expected",
    "FieldEstimator",
    "NetworkEstimator",
    "PaperRun",
    "Place",
    "PretrainOn",
    "RefineOn",
    "ResultFiles",
    "SmplBodies",
    "TrainMotionOn",
    "TrainOver",
    "beside_the_paper",
    "perform",
    "score_field",
]
