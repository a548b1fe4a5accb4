"""Metrics, and tables of any estimator on labelled or unlabelled clips."""

from flowhmr.evaluation.flow_quality import (
    FlowQuality,
    FlowStudy,
    Footage,
    TrueBody,
    choose_starts,
    flow_quality_markdown,
    score_flow_quality,
)
from flowhmr.evaluation.metrics import acceleration, acceleration_error, mpjpe, pa_mpjpe, pve
from flowhmr.evaluation.people import mean_over_people, score_visible
from flowhmr.evaluation.report import METRICS, Report, compare_markdown
from flowhmr.evaluation.scores import (
    PROTOCOL,
    ClipScore,
    Estimator,
    FlowScore,
    MeanPose,
    score_bodies,
    score_clip,
    score_flow,
    score_jitter,
)

__all__ = [
    "METRICS",
    "PROTOCOL",
    "ClipScore",
    "Estimator",
    "FlowQuality",
    "FlowScore",
    "FlowStudy",
    "Footage",
    "MeanPose",
    "Report",
    "TrueBody",
    "acceleration",
    "acceleration_error",
    "choose_starts",
    "compare_markdown",
    "flow_quality_markdown",
    "mean_over_people",
    "mpjpe",
    "pa_mpjpe",
    "pve",
    "score_bodies",
    "score_clip",
    "score_flow",
    "score_flow_quality",
    "score_jitter",
    "score_visible",
]
