"""Scores as Motion HMR's: frames in which enough is seen, means over people."""

from dataclasses import replace

from jaxtyping import Bool
from torch import Tensor

from flowhmr.body import BodyModel
from flowhmr.evaluation.report import METRICS, Report
from flowhmr.evaluation.scores import ClipScore, score_bodies
from flowhmr.geometry import pick
from flowhmr.records import Estimate, TrackLabels


def score_visible(
    estimate: Estimate,
    labels: TrackLabels,
    counted: Bool[Tensor, "t"],
    body: BodyModel,
    name: str,
    person: str,
) -> ClipScore | None:
    """Scores of bodies along one clip over the frames that count; None where none does.

    Accelerations are over all frames: those that count are no whole sequence.

    Args:
        estimate: the bodies ``[t]``.
        labels: the truth ``[t]``.
        counted: the frames that count.
        body: whose parameters both are.
        name, person: of the clip, for tables.
    """
    if not bool(counted.any()):
        return None
    whole = score_bodies(estimate, labels, body, name, person)
    if bool(counted.all()):
        return whole
    seen = score_bodies(pick(estimate, counted), pick(labels, counted), body, name, person)
    return replace(
        seen, accel_error=whole.accel_error, accel=whole.accel, accelerations=whole.frames - 2
    )


def mean_over_people(report: Report) -> dict[str, float]:
    """Means over the frames of each person, then over the people (3DPW's protocol in Motion HMR).

    Raises:
        ValueError: a report without clips.
    """
    people = report.per_person()
    if not people:
        raise ValueError(f"{report.estimator}: got no scored clips; expected at least one")
    return {m: sum(row[m] for row in people.values()) / len(people) for m in METRICS}
