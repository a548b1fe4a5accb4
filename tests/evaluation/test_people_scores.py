"""Scores over the frames that count, and means over people."""

from dataclasses import replace

import pytest
import torch

from flowhmr.body import open_body
from flowhmr.cameras import WeakCamera
from flowhmr.evaluation import METRICS, ClipScore, Report, mean_over_people, score_bodies
from flowhmr.evaluation import score_visible as score
from flowhmr.geometry import pick, rotmat_from_axis_angle
from flowhmr.records import Estimate, TrackLabels

FRAMES = 6


def clip() -> tuple[Estimate, TrackLabels]:
    body, made = open_body(), torch.Generator().manual_seed(0)

    def params():
        pose = rotmat_from_axis_angle(0.3 * torch.randn(FRAMES, 24, 3, generator=made))
        return body.params(pose, torch.zeros(FRAMES, body.num_betas))

    camera = WeakCamera(torch.tensor([0.9, 0.0, 0.0]).expand(FRAMES, 3))
    points = torch.randn(FRAMES, 24, 2, generator=made)
    return Estimate(params(), camera), TrackLabels(params(), points)


def test_only_frames_that_count_are_scored_but_accelerations_are_over_all():
    (estimate, labels), body = clip(), open_body()
    counted = torch.tensor([True, True, False, True, False, True])
    found = score(estimate, labels, counted, body, "a", "p")
    alone = score_bodies(pick(estimate, counted), pick(labels, counted), body, "a", "p")
    whole = score_bodies(estimate, labels, body, "a", "p")
    assert found.frames == 4
    for metric in METRICS:
        expected = whole if metric.startswith("accel") else alone
        assert getattr(found, metric) == getattr(expected, metric), metric
        assert getattr(alone, metric) != getattr(whole, metric), metric
    assert score(estimate, labels, torch.ones(FRAMES, dtype=torch.bool), body, "a", "p") == whole
    assert score(estimate, labels, torch.zeros(FRAMES, dtype=torch.bool), body, "a", "p") is None


def test_accelerations_count_by_the_frames_that_they_are_over():
    """One frame counts of six, but four have an acceleration, as many as of the whole clip."""
    (estimate, labels), body = clip(), open_body()
    counted = torch.tensor([True, False, False, False, False, False])
    some = score(estimate, labels, counted, body, "a", "p")
    still = replace(some, frames=FRAMES, accel_error=0.0, accelerations=None)
    report = Report("x", "y", (some, still))
    assert report.mean("accel_error") == pytest.approx(some.accel_error / 2)


def test_each_person_counts_once_however_long_their_video():
    def row(person: str, frames: int, value: float) -> ClipScore:
        return ClipScore("c", person, frames, *[value] * len(METRICS))

    report = Report("x", "y", (row("a", 10, 1.0), row("a", 30, 2.0), row("b", 10, 5.0)))
    means = mean_over_people(report)
    assert set(means) == set(METRICS)
    assert means["pa_mpjpe"] == pytest.approx((1.75 + 5) / 2)
    with pytest.raises(ValueError, match="got no scored clips"):
        mean_over_people(replace(report, clips=()))
