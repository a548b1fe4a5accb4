"""What benchmarks report, how that is compared with the committed baseline, and the table of it."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
BASELINE = FOLDER / "results" / "baseline.json"
LIBRARIES = ("open3d", "trimesh", "smplx")
"""Peers that have to be installed (requirements.txt); all others are there without."""
LIMITS = ("memory", "arithmetic")
"""Peers that are limits of the machine: what a copy of arrays moves, what a product of matrices
computes in the same time. The ratio is the share of the limit that is reached."""


@dataclass(frozen=True)
class Result:
    """One measured number, alone or beside a peer's."""

    name: str
    """What was measured; with ``peer``, unique in its subject."""
    value: float
    unit: str
    better: str = "lower"
    """"lower" or "higher", of the value."""
    target: float | None = None
    """The value to reach; None for numbers that are only reported."""
    peer: str = ""
    """What it stands beside, measured in the same run: a library, other work, one of `LIMITS`."""
    peer_value: float | None = None
    """The peer's, in the same unit."""
    ratio: float | None = None
    """How many times better than the peer's; more is better whatever the unit. It is what the
    baseline keeps, as a time alone says as much about the machine. None: not compared."""
    target_ratio: float | None = None
    """The ratio to reach."""
    tolerance: float = 0.25
    """Share of the baseline's ratio that may be lost."""

    @property
    def key(self) -> str:
        """Its name in the baseline."""
        return f"{self.name} | {self.peer}" if self.peer else self.name

    @property
    def aim(self) -> str:
        """The targets in words, and whether they are reached; '' without."""
        aims = []
        if self.target is not None:
            aims.append(_aim(self.value, self.target, self.better))
        if self.target_ratio is not None and self.ratio is not None:
            aims.append(_aim(self.ratio, self.target_ratio, "higher") + " (ratio)")
        return ", ".join(aims)


def _aim(value: float, target: float, better: str) -> str:
    reached = value <= target if better == "lower" else value >= target
    sign = "<=" if better == "lower" else ">="
    return f"{sign} {target:.4g} {'reached' if reached else 'MISSED'}"


@dataclass(frozen=True)
class Report:
    """What a subject's process gave."""

    subject: str
    """Its script's name."""
    results: tuple[Result, ...]
    failure: str = ""
    """Why there are no results; '' if all went well."""
    seconds: float = 0.0
    """Wall time."""
    processor_s: float = 0.0
    """Processor time, processes that it started included: what it takes where nothing else runs."""


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    subject: str
    result: Result
    before: float | None = None
    """The baseline's ratio; None where there is none."""

    @property
    def lost(self) -> bool:
        """Whether the ratio has fallen further than its tolerance."""
        if self.before is None or self.result.ratio is None:
            return False
        # A ratio that is not a number is lost.
        return not self.result.ratio >= self.before * (1 - self.result.tolerance)


@dataclass(frozen=True)
class Verdict:
    """A run beside the baseline."""

    rows: tuple[Row, ...]
    failed: tuple[Report, ...]
    """Subjects without results."""
    missing: tuple[str, ...]
    """Ratios of the baseline that were not measured."""

    @property
    def complaints(self) -> list[str]:
        """Why the run is not good enough, a line each."""
        return [
            *(f"{report.subject}: failed: {report.failure}" for report in self.failed),
            *(f"{key}: in the baseline, but not measured" for key in self.missing),
            *(
                f"{row.subject}: {row.result.key}: got {row.result.ratio:.3g} x; expected at least "
                f"{row.before * (1 - row.result.tolerance):.3g} x, that is {row.before:.3g} x less "
                f"{100 * row.result.tolerance:.0f} %"
                for row in self.rows
                if row.lost and row.before is not None
            ),
        ]


Baseline = Mapping[str, Mapping[str, Any]]
"""By subject: ``about``, and ``results`` by key, each the record of a `Result`."""


def judge(reports: Sequence[Report], baseline: Baseline, peers: bool = True) -> Verdict:
    """Compare a run with the baseline.

    Args:
        reports: of the subjects that were to run; others are not missed.
        baseline: what was accepted.
        peers: whether libraries took part; without, their ratios are not missed.
    """
    rows: list[Row] = []
    missing: list[str] = []
    for report in reports:
        old = baseline.get(report.subject, {}).get("results", {})
        keys = {result.key for result in report.results}
        for result in report.results:
            rows.append(Row(report.subject, result, old.get(result.key, {}).get("ratio")))
        if report.failure:
            continue
        missing += [
            f"{report.subject}: {key}"
            for key, then in old.items()
            if key not in keys
            and then["ratio"] is not None
            and (peers or then["peer"] not in LIBRARIES)
        ]
    return Verdict(tuple(rows), tuple(r for r in reports if r.failure), tuple(missing))


def accepted(
    reports: Sequence[Report], baseline: Baseline, about: Mapping[str, Any], peers: bool = True
) -> dict[str, Any]:
    """The baseline with these reports in the place of what it had of their subjects.

    Without ``peers`` what it had of libraries stays.

    Raises:
        ValueError: a subject has failed.
    """
    failed = [report.subject for report in reports if report.failure]
    if failed:
        raise ValueError(
            f"baseline: got failures of {', '.join(failed)}; expected results of every subject; "
            "mend them, or take the others with --only"
        )
    new = dict(baseline)
    for report in reports:
        rows = {result.key: asdict(result) for result in report.results}
        if not peers:
            old = baseline.get(report.subject, {}).get("results", {})
            rows |= {k: row for k, row in old.items() if row["peer"] in LIBRARIES}
        new[report.subject] = {"about": dict(about), "results": rows}
    return dict(sorted(new.items()))


def read_baseline(path: Path = BASELINE) -> Baseline:
    """The committed baseline; empty where there is none."""
    return json.loads(path.read_text()) if path.exists() else {}


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON, and the folder around it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def results_of(path: Path) -> tuple[Result, ...]:
    """The results that a subject wrote."""
    return tuple(Result(**row) for row in json.loads(path.read_text())["results"])


HEADS = ("", "value", "", "peer", "peer's", "ratio", "baseline", "tolerance", "limit", "target")


def table(rows: Iterable[Row]) -> str:
    """All rows as one table of plain text, a heading for each subject.

    ``limit``: the share of the machine's limit that is reached.
    """
    lines: list[tuple[str, ...] | str] = [HEADS]
    subject = name = ""
    for row in rows:
        if row.subject != subject:
            subject, name = row.subject, ""
            lines.append(subject)
        result, again = row.result, row.result.name == name
        name = result.name
        limit = result.peer in LIMITS and result.ratio is not None
        lines.append((
            "  " + ('"' if again else name),
            "" if again else f"{result.value:.4g}",
            "" if again else result.unit,
            result.peer,
            "" if result.peer_value is None else f"{result.peer_value:.4g}",
            "" if result.ratio is None else f"{result.ratio:.3g} x",
            ("" if row.before is None else f"{row.before:.3g} x") + (" LOST" if row.lost else ""),
            "" if result.ratio is None else f"{100 * result.tolerance:.0f} %",
            f"{100 * result.ratio:.0f} %" if limit else "",
            result.aim,
        ))  # fmt: skip
    cells = [line for line in lines if not isinstance(line, str)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(HEADS))]
    return "\n".join(
        line if isinstance(line, str) else "  ".join(map(_padded, line, widths, HEADS)).rstrip()
        for line in lines
    )


def _padded(cell: str, width: int, head: str) -> str:
    number = head in ("value", "peer's", "ratio", "baseline", "tolerance", "limit")
    return cell.rjust(width) if number else cell.ljust(width)


def shown(results: Iterable[Result], subject: str) -> str:
    """The table of one subject alone."""
    return table(Row(subject, result) for result in results)


def about() -> dict[str, Any]:
    """Commit, versions, processor, and how busy it was."""
    return {
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _commit() -> str | None:
    """The checkout's, with '+' when it has changes; None outside one."""
    command = ["git", "-C", str(FOLDER), "describe", "--always", "--abbrev=12", "--dirty=+"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
