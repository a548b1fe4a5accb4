"""Tables of runs: mean and spread over the seeds, beside the paper's numbers, and claims."""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import t as student_t

from flowhmr.experiments.lab import Lab, read_scores

SHOWN = {
    "pa_mpjpe": "PA-MPJPE (mm)",
    "mpjpe": "MPJPE (mm)",
    "pve": "PVE (mm)",
    "accel_error": "accel. error (mm/frame²)",
    "keypoints_px": "2D joints (px of 224)",
    "slide_mm": "feet slide (mm/frame)",
}


@dataclass(frozen=True)
class Row:
    """One cell of a table: where it stands, and whose scores it shows."""

    line: str
    """Heading of its line."""
    column: str
    """Heading of its column."""
    run: str
    """Name of the run."""
    paper: str = ""
    """What the paper has there."""


@dataclass(frozen=True)
class Claim:
    """What the paper (or we) say: one run is better than another."""

    text: str
    """In words."""
    pairs: tuple[tuple[str, str], ...]
    """(better run, other run), compared seed by seed."""
    metric: str = "pa_mpjpe"
    """In which metric; lower is better."""
    factor: float = 1.0
    """The better one is below this share of the other."""
    no_worse: bool = False
    """Only that it is not worse is claimed."""


@dataclass(frozen=True)
class Table:
    """A table of the paper, or of ours."""

    name: str
    """What it is asked for by."""
    title: str
    """Its heading."""
    reproduces: str
    """Which table or figure of which paper."""
    rows: tuple[Row, ...]
    """Its cells."""
    minutes: int
    """What it takes on two CPU cores for one seed, baselines aside."""
    metrics: tuple[str, ...] = ("pa_mpjpe", "accel_error")
    """Of `SHOWN`."""
    claims: tuple[Claim, ...] = ()
    """What it is to show."""
    split: str = "test"
    """Whose scores."""

    @property
    def runs(self) -> tuple[str, ...]:
        """Names of its runs, each once."""
        named = [r.run for r in self.rows] + [n for c in self.claims for p in c.pairs for n in p]
        return tuple(dict.fromkeys(named))


@dataclass(frozen=True)
class Spread:
    """One metric of a run over its seeds."""

    by_seed: dict[int, float]
    """The values."""

    @property
    def mean(self) -> float:
        """Over the seeds; NaN without any."""
        return statistics.fmean(self.by_seed.values()) if self.by_seed else math.nan

    @property
    def deviation(self) -> float:
        """Standard deviation over the seeds; NaN for fewer than two."""
        values = list(self.by_seed.values())
        return statistics.stdev(values) if len(values) > 1 else math.nan

    def __str__(self) -> str:
        if not self.by_seed:
            return ""
        digits = 1 if self.mean >= 20 else 2
        if len(self.by_seed) == 1:
            return f"{self.mean:.{digits}f} (1 seed)"
        few = "" if len(self.by_seed) > 2 else f" ({len(self.by_seed)} seeds)"
        return f"{self.mean:.{digits}f} ± {self.deviation:.{digits}f}{few}"


def spread(lab: Lab, run: str, metric: str, split: str) -> Spread:
    """A metric of all finished seeds of a run."""
    values = {}
    for folder in sorted((lab.runs / run).glob("seed-*")):
        found = read_scores(folder)
        if found is not None and split in found["results"]:
            values[int(found["seed"])] = float(found["results"][split]["metrics"][metric])
    return Spread(values)


@dataclass(frozen=True)
class Verdict:
    """Whether a claim holds."""

    claim: Claim
    """Which."""
    word: str
    """``holds``, ``holds on average``, ``does not hold``, ``within noise``, ``one seed: ...`` or
    ``not run``."""
    differences: tuple[float, ...]
    """Better minus other (times ``factor``), one for each pair, mean over the seeds that all
    runs of the claim have."""


def judge(claim: Claim, values: Callable[[str], Spread]) -> Verdict:
    """Compare runs seed by seed, over the seeds that all of them have.

    The mean difference over all pairs has a 95 % interval over the seeds (Student's t: wide for
    few). The claim holds where all of it is below zero, does not hold where all of it is above,
    else it is within noise. It holds on average where it holds although one of its pairs goes the
    other way. "No worse" holds where all of the interval is below one percent of the other run.

    Args:
        claim: what is said.
        values: the claim's metric of a run.
    """
    pairs = [(values(better).by_seed, values(other).by_seed) for better, other in claim.pairs]
    # A seed in which a pair is missing would be another mixture of pairs.
    shared = sorted(set.intersection(*(set(run) for pair in pairs for run in pair)))
    if not shared:
        return Verdict(claim, "not run", ())
    apart = [[ours[s] - claim.factor * theirs[s] for s in shared] for ours, theirs in pairs]
    means = tuple(statistics.fmean(of_pair) for of_pair in apart)
    # The runs of a seed share a baseline: seeds are the unit that is drawn, not the pairs.
    seeds = [statistics.fmean(of_seed) for of_seed in zip(*apart, strict=True)]
    mean = statistics.fmean(seeds)
    theirs = statistics.fmean(theirs[s] for _, theirs in pairs for s in shared)
    allowed = 0.01 * claim.factor * theirs if claim.no_worse else 0.0
    if len(seeds) == 1:
        return Verdict(claim, f"one seed: {'as claimed' if mean <= allowed else 'not so'}", means)
    count = len(seeds)
    error = float(student_t.ppf(0.975, count - 1)) * statistics.stdev(seeds) / math.sqrt(count)
    if claim.no_worse and mean + error <= allowed:
        word = "holds"
    elif mean < -error:
        word = "holds" if max(means) <= 0 else "holds on average"
    elif mean > error:
        word = "does not hold"
    else:
        word = "within noise"
    return Verdict(claim, word, means)


def markdown(table: Table, lab: Lab, command: str) -> str:
    """A table with the paper's numbers, its claims and its command."""
    columns = list(dict.fromkeys(r.column for r in table.rows))
    lines = list(dict.fromkeys(r.line for r in table.rows))
    cells = {(r.line, r.column): r for r in table.rows}
    out = [f"## {table.title}", "", f"{table.reproduces}. `{command}`", ""]
    for metric in table.metrics:
        out += [
            "| " + " | ".join([SHOWN[metric], *columns]) + " |",
            "|" + "---|" * (len(columns) + 1),
        ]
        for line in lines:
            shown = []
            for column in columns:
                row = cells.get((line, column))
                shown.append(str(spread(lab, row.run, metric, table.split)) if row else "")
            out.append("| " + " | ".join([line, *shown]) + " |")
        out.append("")
    if any(r.paper for r in table.rows):
        out += [
            "| the paper, on its data | " + " | ".join(columns) + " |",
            "|" + "---|" * (len(columns) + 1),
        ]
        for line in lines:
            paper = [cells[line, c].paper if (line, c) in cells else "" for c in columns]
            if any(paper):
                out.append("| " + " | ".join([line, *paper]) + " |")
        out.append("")
    for claim in table.claims:
        out.append(_claim_line(judge(claim, _values(lab, claim, table))))
    return "\n".join(out).rstrip() + "\n"


def _values(lab: Lab, claim: Claim, table: Table) -> Callable[[str], Spread]:
    return lambda run: spread(lab, run, claim.metric, table.split)


def _claim_line(verdict: Verdict) -> str:
    shown = ", ".join(f"{d:+.2f}" for d in verdict.differences)
    beside = f" ({SHOWN[verdict.claim.metric]}: {shown})" if shown else ""
    return f"- {verdict.claim.text}: **{verdict.word}**{beside}"


def write_table(table: Table, lab: Lab, folder: Path, command: str) -> Path:
    """The table as a Markdown file of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{table.name}.md"
    path.write_text(markdown(table, lab, command))
    return path
