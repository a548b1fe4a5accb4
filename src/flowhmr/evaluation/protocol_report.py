"""What a protocol says of one estimator: the means, each person, and the protocol itself."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from flowhmr.evaluation.metrics import acceleration
from flowhmr.evaluation.protocols import PersonScore, Protocol, stream_accel

COLUMNS = {
    "mpjpe": "MPJPE (mm)",
    "pa_mpjpe": "PA-MPJPE (mm)",
    "pve": "PVE (mm)",
    "accel_error": "accel. error (mm/frame²)",
    "accel_error_ms2": "accel. error (m/s²)",
    "accel": "own accel. (mm/frame²)",
}
"""Of the tables."""


@dataclass(frozen=True, eq=False)
class ProtocolReport:
    """Scores of one estimator by one protocol."""

    estimator: str
    """Whose scores these are."""
    rule: Protocol
    """By what."""
    people: tuple[PersonScore, ...]
    """A row a person in a video, in the order of the data set."""

    def means(self) -> dict[str, float]:
        """By name as in `COLUMNS`; NaN where the protocol has none."""
        kept = [p for p in self.people if len(p.pa_mpjpe)]
        out = {
            key: self._mean([getattr(p, key) for p in kept]) for key in ("mpjpe", "pa_mpjpe", "pve")
        }
        error, own = [p.accel for p in kept], [_own(p.found_mm) for p in kept]
        if self.rule.accel == "stream" and kept:
            error = [stream_accel(kept)]
            own = [_own(torch.cat([p.found_mm for p in kept]))]
        if not self.rule.accel:
            error = own = []
        return out | self._accelerations(error, own)

    def of_person(self, person: PersonScore) -> dict[str, float]:
        """The same of one person; accelerations in every protocol, of this sequence alone."""
        out = {key: _mean(getattr(person, key)) for key in ("mpjpe", "pa_mpjpe", "pve")}
        return out | self._accelerations([person.accel], [_own(person.found_mm)])

    def to_json(self) -> str:
        """Everything, for programs; null where there is no score."""
        rows = [
            {
                "name": p.name,
                "frames": len(p.pa_mpjpe),
                "missing": p.missing,
                **_known(self.of_person(p)),
            }
            for p in self.people
        ]
        said = {"estimator": self.estimator, "protocol": self.rule.name, "rule": self.rule.said()}
        counts = {"frames": self._frames(), "missing": self._missing()}
        return json.dumps(said | counts | {"mean": _known(self.means()), "people": rows}, indent=2)

    def to_markdown(self, rows: bool = True) -> str:
        """For people: the protocol, the means, then each person."""
        lines = [f"**{self.estimator}**, protocol **{self.rule.name}**", ""]
        lines += [f"- {what}: {said}" for what, said in self.rule.said().items()]
        if self._missing():
            lines.append(f"- left out, since there is no estimate: {self._missing()} frames")
        head = ["", "frames", *COLUMNS.values()]
        lines += ["", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        lines.append(_line("**all**", self._frames(), self.means()))
        if rows:
            lines += [_line(p.name, len(p.pa_mpjpe), self.of_person(p)) for p in self.people]
        return "\n".join(lines) + "\n"

    def write(self, folder: Path, stem: str) -> list[Path]:
        """Both forms beside each other; returns their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{stem}.json", folder / f"{stem}.md"]
        paths[0].write_text(self.to_json())
        paths[1].write_text(self.to_markdown())
        return paths

    def _frames(self) -> int:
        return sum(len(p.pa_mpjpe) for p in self.people)

    def _missing(self) -> int:
        return sum(p.missing for p in self.people)

    def _mean(self, values: list[Tensor]) -> float:
        """As the protocol averages."""
        values = [v for v in values if len(v)]
        if not values:
            return math.nan
        if self.rule.average == "people":
            return _mean(torch.tensor([_mean(v) for v in values]))
        return _mean(torch.cat(values))

    def _accelerations(self, error: list[Tensor], own: list[Tensor]) -> dict[str, float]:
        mm = self._mean(error)
        per_s2 = math.nan if self.rule.fps is None else self.rule.fps**2 / 1000
        names = ("accel_error", "accel_error_ms2", "accel")
        return dict(zip(names, (mm, mm * per_s2, self._mean(own))))


def _own(joints_mm: Tensor) -> Tensor:
    return acceleration(joints_mm / 1000).norm(dim=-1).mean(-1)


def _mean(values: Tensor) -> float:
    return float(values.double().mean()) if len(values) else math.nan


def _known(scores: dict[str, float]) -> dict[str, float | None]:
    return {key: None if math.isnan(value) else value for key, value in scores.items()}


def _line(name: str, frames: int, scores: dict[str, float]) -> str:
    cells = ["-" if math.isnan(v) else f"{v:.1f}" for v in scores.values()]
    # Metres are few.
    if not math.isnan(scores["accel_error_ms2"]):
        cells[list(COLUMNS).index("accel_error_ms2")] = f"{scores['accel_error_ms2']:.2f}"
    return "| " + " | ".join([name, str(frames), *cells]) + " |"
