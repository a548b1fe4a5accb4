"""Tables of scores: per clip, per person, over all; JSON and Markdown."""

import json
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from flowhmr.evaluation.scores import PROTOCOL, ClipScore

METRICS = {
    "mpjpe": "MPJPE (mm)",
    "pa_mpjpe": "PA-MPJPE (mm)",
    "pve": "PVE (mm)",
    "accel_error": "accel. error (mm/frame²)",
    "accel": "accel. (mm/frame²)",
    "keypoints_px": "2D joints (px of 224)",
}


@dataclass(frozen=True)
class Report:
    """Scores of one estimator on a set of clips."""

    estimator: str
    """Whose scores these are."""
    data: str
    """On what."""
    clips: tuple[ClipScore, ...]
    """One row per clip."""

    def mean(self, metric: str) -> float:
        """Mean over frames of all clips (over inner frames for accelerations).

        Clips of fewer than three frames have no acceleration; NaN where no clip has one.
        """
        return _mean(list(self.clips), metric)

    def per_person(self) -> dict[str, dict[str, float]]:
        """Means over the frames of each person."""
        return {who: _means(rows) for who, rows in _grouped(self.clips, lambda c: c.person).items()}

    def to_json(self) -> str:
        """Everything, for programs; null where there is no score."""
        return json.dumps(
            {
                "estimator": self.estimator,
                "data": self.data,
                "protocol": PROTOCOL,
                "mean": _json_scores(_means(list(self.clips))),
                "per_person": {who: _json_scores(m) for who, m in self.per_person().items()},
                "per_clip": [_json_scores(asdict(c)) for c in self.clips],
            },
            indent=2,
        )

    def to_markdown(self, rows: bool = True) -> str:
        """A table for people: the mean, then each person and clip."""
        head = ["", "frames", *METRICS.values()]
        lines = [
            f"**{self.estimator}** on {self.data} ({PROTOCOL})",
            "",
            "| " + " | ".join(head) + " |",
            "|" + "---|" * len(head),
            _line("**all**", list(self.clips)),
        ]
        if rows:
            for who, clips in _grouped(self.clips, lambda c: c.person).items():
                lines.append(_line(f"person {who}", clips))
            lines += [_line(c.name, [c]) for c in self.clips]
        return "\n".join(lines) + "\n"

    def write(self, folder: Path, stem: str) -> list[Path]:
        """Both forms beside each other; returns their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{stem}.json", folder / f"{stem}.md"]
        paths[0].write_text(self.to_json())
        paths[1].write_text(self.to_markdown())
        return paths


def compare_markdown(reports: list[Report]) -> str:
    """One row per estimator, means only."""
    head = ["", *METRICS.values()]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for report in reports:
        cells = [f"{report.mean(m):.1f}" for m in METRICS]
        lines.append("| " + " | ".join([report.estimator, *cells]) + " |")
    return "\n".join(lines) + "\n"


def _mean(clips: list[ClipScore], metric: str) -> float:
    assert metric in {f.name for f in fields(ClipScore)}
    rows = [(_weight(c, metric), getattr(c, metric)) for c in clips]
    rows = [(w, value) for w, value in rows if w > 0]
    return sum(w * value for w, value in rows) / sum(w for w, _ in rows) if rows else math.nan


def _weight(clip: ClipScore, metric: str) -> int:
    if not metric.startswith("accel"):
        return clip.frames
    return clip.frames - 2 if clip.accelerations is None else clip.accelerations


def _means(clips: list[ClipScore]) -> dict[str, float]:
    return {m: _mean(clips, m) for m in METRICS}


def _json_scores(scores: dict[str, Any]) -> dict[str, Any]:
    """NaN, which JSON does not know, becomes null."""
    return {k: None if v != v else v for k, v in scores.items()}


def _grouped(
    clips: tuple[ClipScore, ...], key: Callable[[ClipScore], str]
) -> dict[str, list[ClipScore]]:
    groups: dict[str, list[ClipScore]] = defaultdict(list)
    for clip in clips:
        groups[key(clip)].append(clip)
    return dict(groups)


def _line(name: str, clips: list[ClipScore]) -> str:
    cells = [f"{_mean(clips, m):.1f}" for m in METRICS]
    return "| " + " | ".join([name, str(sum(c.frames for c in clips)), *cells]) + " |"
