"""All benchmarks, each in a process of its own, as one table beside the committed baseline.

    make bench                                                   # all, with peers
    make bench ARGS="--without-peers --only raster lbs"
    make bench ARGS=--quick                                      # one round each, not compared
    make bench ARGS=--accept                                     # the new baseline

Ends with 1 when a subject failed, or a ratio of the baseline was lost beyond its tolerance or not
measured.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from suite import (
    BASELINE,
    FOLDER,
    Report,
    Result,
    about,
    accepted,
    judge,
    read_baseline,
    results_of,
    table,
    write_json,
)

SUBJECTS = (
    "lbs",
    "raster",
    "raster_gradient",
    "flow",
    "synth",
    "loading",
    "backbones",
    "training",
    "temporal",
    "capture",
)
"""Scripts of the suite, in the order of the table."""
LIMIT_S = 600.0
"""Wall time that a subject may take."""


def run_subject(name: str, flags: Sequence[str], limit_s: float, folder: Path = FOLDER) -> Report:
    """Run a subject's script; whatever happens to it is in the report.

    Args:
        name: of the script.
        flags: for it.
        limit_s: wall time after which it is ended.
        folder: where the script is.
    """
    began, worked = time.monotonic(), _children_s()

    def report(results: tuple[Result, ...] = (), failure: str = "") -> Report:
        seconds, processor_s = time.monotonic() - began, _children_s() - worked
        return Report(name, results, failure, seconds, processor_s)

    with tempfile.TemporaryDirectory() as scratch:
        written = Path(scratch) / "results.json"
        command = [sys.executable, str(folder / f"{name}.py"), "--json", str(written), *flags]
        try:
            ended = subprocess.run(
                command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                text=True, timeout=limit_s, env=os.environ | {"OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return report(failure=f"took more than {limit_s:.0f} s")
        if ended.returncode:
            said = [line.strip() for line in ended.stderr.splitlines() if line.strip()]
            return report(
                failure=f"ended with {ended.returncode}: {said[-1] if said else 'no word'}"
            )
        try:
            results = results_of(written)
        except (OSError, ValueError, TypeError, KeyError) as error:
            return report(failure=f"gave no results: {error}")
    return report(results)


def _children_s() -> float:
    """Processor time of all processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def took(reports: Sequence[Report]) -> str:
    """How long some subjects took."""
    wall, processor = sum(r.seconds for r in reports), sum(r.processor_s for r in reports)
    return f"{wall:.0f} s ({processor:.0f} s of processor time)"


def parsed(words: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, default=SUBJECTS, metavar="NAME")
    parser.add_argument("--without-peers", action="store_true", help="no libraries to install")
    parser.add_argument("--quick", action="store_true", help="one round each, not compared")
    parser.add_argument("--accept", action="store_true", help="make this run the baseline")
    parser.add_argument("--json", type=Path, default=Path("out/bench.json"))
    parser.add_argument("--limit-s", type=float, default=LIMIT_S, help="wall time of a subject")
    found = parser.parse_args(words)
    if found.quick and found.accept:
        parser.error("got --quick and --accept; expected a whole run for a baseline")
    return found


def run_all(
    words: Sequence[str] | None = None,
    run: Callable[[str, Sequence[str], float], Report] = run_subject,
    baseline_path: Path = BASELINE,
) -> int:
    """Run what the flags ask for, print the table, compare or accept; returns the exit code."""
    options = parsed(words)
    facts, peers = about(), not options.without_peers
    flags = [*(["--rounds", "1"] if options.quick else []), *([] if peers else ["--no-peers"])]
    reports = []
    for name in options.only:
        print(f"{name} ...", end=" ", flush=True)
        reports.append(run(name, flags, options.limit_s))
        print(took(reports[-1:]), reports[-1].failure, flush=True)
    baseline = read_baseline(baseline_path)
    verdict = judge(reports, {} if options.quick or options.accept else baseline, peers)
    print(f"\n{table(verdict.rows)}\n")
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    print(f"in all {took(reports)}")
    theirs = {row["about"]["cpu"] for name, row in baseline.items() if name in options.only}
    if theirs - {facts["cpu"]}:
        print(f"the baseline is of {', '.join(sorted(theirs))}: ratios are not quite the same")
    print("".join(f"NOT GOOD ENOUGH {line}\n" for line in verdict.complaints), end="")
    kept = [report for report in reports if not report.failure]
    write_json(options.json, accepted(kept, {}, facts))
    if verdict.complaints:
        return 1
    if options.accept:
        write_json(baseline_path, accepted(reports, baseline, facts, peers))
        print(f"accepted as {baseline_path}")
    return 0


if __name__ == "__main__":
    sys.exit(run_all())
