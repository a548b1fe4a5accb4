"""What is in a data set: counts, ranges, and the first thing that cannot be."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flowhmr.data.field.frames import FieldError, FieldFrames, FieldSet
from flowhmr.files import DataFileError, path_inside

ROWS = 2_000
"""How many rows are read at a time."""


@dataclass
class FieldReport:
    """What `check_field` found."""

    rows: int
    """People in pictures."""
    videos: int = 0
    """Different people in videos; 0 for stills."""
    bodies: int = 0
    """Rows with pose and shape."""
    keypoints: int = 0
    """2D keypoints with confidence."""
    joints: int = 0
    """3D joints with confidence."""
    trusted: int = 0
    """Rows that the set trusts."""
    sets: dict[str, str] = field(default_factory=dict)
    """Names of the joint sets."""
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Least and greatest of each number."""
    missing: int = 0
    """Images that are not there; counted where their folder is given."""
    problem: str | None = None
    """The first inconsistency; None where there is none."""

    def lines(self) -> list[str]:
        """For people to read."""
        head = f"{self.rows} rows"
        if self.videos:
            head += f", {self.videos} people in videos"
        lines = [f"{head}; {self.bodies} with a body, {self.trusted} that the set trusts"]
        lines += [f"{what}: {name}" for what, name in self.sets.items()]
        lines.append(f"seen keypoints: {self.keypoints}; 3D joints: {self.joints}")
        for name, (low, high) in self.ranges.items():
            lines.append(f"{name}: {low:.4g} to {high:.4g}")
        if self.missing:
            lines.append(f"images that are not there: {self.missing}")
        lines.append(f"first inconsistency: {self.problem or 'none'}")
        return lines


def check_field(
    found: FieldSet,
    images: Path | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> FieldReport:
    """Read all of a data set and say what is in it.

    Args:
        found: the set.
        images: the folder that the names of the images are below; None: they are not looked for.
        on_progress: called with (rows read, rows in all).
    """
    report = FieldReport(len(found))
    people: set[str] = set()
    try:
        for frames in field_batches(found):
            _count(report, frames)
            people.update(frames.people)
            problem = _inconsistency(frames) or _missing(report, frames, images)
            report.problem = report.problem or problem
            on_progress(int(frames.rows[-1]) + 1, len(found))
    except DataFileError as error:
        report.problem = report.problem or str(error)
    if not report.rows:
        report.problem = report.problem or "got no rows; expected at least one"
    report.videos = len(people - {""})
    return report


def field_batches(found: FieldSet, rows: int = ROWS) -> Iterator[FieldFrames]:
    """All of a data set, some rows at a time."""
    for start in range(0, len(found), rows):
        yield found.read(np.arange(start, min(start + rows, len(found))))


def _count(report: FieldReport, frames: FieldFrames) -> None:
    report.trusted += len(frames) if frames.valid is None else int(frames.valid.sum())
    _widen(report, "box sides, px", frames.boxes_px[:, 2:])
    if frames.has_body is not None and frames.betas is not None:
        report.bodies += int(frames.has_body.sum())
        _widen(report, "betas", frames.betas[frames.has_body])
    if frames.keypoints_px is not None and frames.keypoint_set is not None:
        seen = frames.keypoints_px[..., 2] > 0
        report.keypoints += int(seen.sum())
        report.sets["2D keypoints"] = frames.keypoint_set.name
        _widen(report, "2D keypoints, px", frames.keypoints_px[..., :2][seen])
    if frames.joints_cam is not None and frames.joint_set is not None:
        known = frames.joints_cam[..., 3] > 0
        report.joints += int(known.sum())
        report.sets["3D joints"] = frames.joint_set.name
        _widen(report, "3D joints, m", frames.joints_cam[..., :3][known])
    if frames.pelvis_m is not None:
        _widen(report, "depth of the pelvis, m", frames.pelvis_m[:, 2])


def _widen(report: FieldReport, name: str, values: Tensor) -> None:
    if values.numel():
        low, high = report.ranges.get(name, (float("inf"), -float("inf")))
        report.ranges[name] = min(low, float(values.min())), max(high, float(values.max()))


_SPAN_M = 0.2, 4.0
"""Between the furthest two of a person's joints along any axis: neither a doll nor a giant."""


def _inconsistency(frames: FieldFrames) -> str | None:
    """The first row with numbers that cannot belong together."""
    for what, bad in _doubts(frames):
        if bool(bad.any()):
            row = frames.rows[int(bad.nonzero()[0, 0])]
            return f"row {row}: {what} ({int(bad.sum())} such rows near it)"
    return None


def _doubts(frames: FieldFrames) -> Iterator[tuple[str, Tensor]]:
    if frames.joints_cam is not None:
        known = frames.joints_cam[..., 3:] > 0
        low = torch.where(known, frames.joints_cam[..., :3], torch.inf).amin(1)
        high = torch.where(known, frames.joints_cam[..., :3], -torch.inf).amax(1)
        span = (high - low).amax(-1)
        known_rows = known.sum((1, 2)) >= 8
        least, most = _SPAN_M
        yield (
            f"got 3D joints that span less than {least} m or more than {most} m; expected metres "
            "(millimetres?)",
            known_rows & ~((span >= least) & (span <= most)),
        )
    if frames.pelvis_m is not None:
        yield "got a pelvis behind the camera; expected it before it", frames.pelvis_m[:, 2] <= 0
    if frames.betas is not None:
        yield (
            "got betas beyond 20; expected SMPL's, a few at most",
            (frames.betas.abs().amax(-1) > 20),
        )
    yield "got a box without area; expected one", ~(frames.boxes_px[:, 2:] > 0).all(-1)
    if frames.keypoints_px is not None:
        low = frames.boxes_px[:, None, :2]
        size = frames.boxes_px[:, None, 2:]
        points = frames.keypoints_px[..., :2]
        seen = frames.keypoints_px[..., 2] > 0
        near = ((points > low - size) & (points < low + 2 * size)).all(-1)
        share = (near & seen).sum(1) / seen.sum(1).clamp(min=1)
        yield (
            "got most keypoints far from the box; expected them in it (another image size, or "
            "corner taken for centre?)",
            (seen.sum(1) >= 6) & (share < 0.5),
        )


def _missing(report: FieldReport, frames: FieldFrames, images: Path | None) -> str | None:
    if images is None:
        return None
    first = None
    for row, name in zip(frames.rows, frames.images):
        try:
            there = path_inside(images, name).is_file()
        except DataFileError as error:
            raise FieldError(f"row {row}: {error}") from error
        if not there:
            report.missing += 1
            first = first or f"row {row}: got no image {name!r} below {images}; expected it there"
    return first
