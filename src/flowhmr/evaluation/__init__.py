"""Metrics, and tables of any estimator on labelled or unlabelled clips."""

from flowhmr.evaluation.metrics import acceleration, acceleration_error, mpjpe, pa_mpjpe, pve
from flowhmr.evaluation.report import METRICS, Report, compare_markdown
from flowhmr.evaluation.scores import (
    PROTOCOL,
    ClipScore,
    Estimator,
    FlowScore,
    MeanPose,
    score_clip,
    score_flow,
    score_jitter,
)

__all__ = [
    "METRICS",
    "PROTOCOL",
    "ClipScore",
    "Estimator",
    "FlowScore",
    "MeanPose",
    "Report",
    "acceleration",
    "acceleration_error",
    "compare_markdown",
    "mpjpe",
    "pa_mpjpe",
    "pve",
    "score_clip",
    "score_flow",
    "score_jitter",
]
