"""The field's own data sets: scores by its protocols."""

from flowhmr.experiments.field.results import ResultFiles
from flowhmr.experiments.field.scores import (
    FieldEstimator,
    NetworkEstimator,
    SmplBodies,
    score_field,
)

__all__ = ["FieldEstimator", "NetworkEstimator", "ResultFiles", "SmplBodies", "score_field"]
