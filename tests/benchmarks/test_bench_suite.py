"""The benchmark suite's logic: comparison with the baseline, the table, failing subjects.

Nothing is timed here.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import run
from suite import (
    BASELINE,
    FOLDER,
    Report,
    Result,
    Row,
    accepted,
    judge,
    read_baseline,
    results_of,
    table,
    write_json,
)

SKINNING = Result("skinning", 2.0, "ms", target=3, peer="smplx", peer_value=8.0, ratio=4.0)
BOUND = replace(SKINNING, target=None, peer="memory", peer_value=0.5, ratio=0.25, tolerance=0.4)
ALONE = Result("wrong pixels", 0.1, "%", target=0.05)
REPORT = Report("lbs", (SKINNING, BOUND, ALONE), seconds=3.0)
ABOUT = {"cpu": "one"}


def baseline(*reports: Report) -> dict:
    """As it is read from its file."""
    return json.loads(json.dumps(accepted(reports or (REPORT,), {}, ABOUT)))


def with_ratio(ratio: float) -> Report:
    return replace(REPORT, results=(replace(SKINNING, ratio=ratio), BOUND, ALONE))


def test_a_run_is_as_good_as_itself():
    verdict = judge([REPORT], baseline())
    assert verdict.complaints == []
    assert [row.before for row in verdict.rows] == [4.0, 0.25, None]


@pytest.mark.parametrize(
    ("ratio", "lost"),
    [(40.0, False), (3.01, False), (3.0, False), (2.99, True), (float("nan"), True)],
)
def test_a_ratio_is_lost_beyond_its_tolerance(ratio, lost):
    verdict = judge([with_ratio(ratio)], baseline())
    assert [row.lost for row in verdict.rows] == [lost, False, False]
    assert bool(verdict.complaints) == lost
    if lost:
        assert verdict.complaints[0].startswith("lbs: skinning | smplx: got ")
        assert "at least 3 x" in verdict.complaints[0]


def test_only_ratios_are_compared():
    slower = [replace(r, value=100 * r.value) for r in REPORT.results]
    assert judge([replace(REPORT, results=tuple(slower))], baseline()).complaints == []


def test_what_is_new_is_not_lost():
    assert judge([REPORT], {}).complaints == []
    more = replace(REPORT, results=(*REPORT.results, replace(SKINNING, name="new", ratio=0.1)))
    assert judge([more], baseline()).complaints == []


def test_a_ratio_that_is_not_measured_any_more_is_missed():
    verdict = judge([replace(REPORT, results=(SKINNING, ALONE))], baseline())
    assert verdict.complaints == ["lbs: skinning | memory: in the baseline, but not measured"]
    # Numbers without a ratio may come and go.
    assert judge([replace(REPORT, results=(SKINNING, BOUND))], baseline()).complaints == []


def test_libraries_are_missed_only_where_they_take_part():
    without = replace(REPORT, results=(BOUND, ALONE))
    assert judge([without], baseline(), peers=False).complaints == []
    assert judge([without], baseline()).complaints != []


def test_a_failed_subject_is_one_complaint():
    broken = Report("lbs", (), "ended with 1: no such file")
    verdict = judge([broken, replace(REPORT, subject="raster")], baseline())
    assert verdict.complaints == ["lbs: failed: ended with 1: no such file"]
    assert len(verdict.rows) == 3


def test_subjects_that_were_not_asked_for_are_not_missed():
    old = baseline(REPORT, replace(REPORT, subject="raster"))
    assert judge([REPORT], old).complaints == []


def test_accepting_some_leaves_the_others_as_they_were():
    old = baseline(REPORT, replace(REPORT, subject="raster"))
    new = accepted([with_ratio(5.0)], old, {"cpu": "another"})
    assert new["lbs"]["results"]["skinning | smplx"]["ratio"] == 5.0
    assert new["lbs"]["about"] == {"cpu": "another"}
    assert new["raster"] == old["raster"]


def test_accepting_without_libraries_keeps_what_there_was_of_them():
    ours = replace(REPORT, results=(replace(BOUND, ratio=0.5), ALONE))
    new = accepted([ours], baseline(), ABOUT, peers=False)["lbs"]["results"]
    assert new["skinning | smplx"]["ratio"] == 4.0
    assert new["skinning | memory"]["ratio"] == 0.5


def test_a_failed_run_cannot_be_accepted():
    with pytest.raises(ValueError, match="failures of lbs"):
        accepted([Report("lbs", (), "broken")], {}, ABOUT)


def test_the_table_says_all_in_one():
    row = Row("lbs", replace(SKINNING, ratio=2.0, target_ratio=4.0), 4.0)
    text = table([row, Row("lbs", BOUND), Row("raster", ALONE)])
    # The second line is the same quantity beside a limit: the share of it that is reached.
    assert [" ".join(line.split()) for line in text.splitlines()] == [
        "value peer peer's ratio baseline tolerance limit target",
        "lbs",
        "skinning 2 ms smplx 8 2 x 4 x LOST 25 % <= 3 reached, >= 4 MISSED (ratio)",
        '" memory 0.5 0.25 x 40 % 25 %',
        "raster",
        "wrong pixels 0.1 % <= 0.05 MISSED",
    ]


@pytest.mark.parametrize(
    ("better", "value", "reached"),
    [("lower", 3, True), ("lower", 3.1, False), ("higher", 3, True), ("higher", 2.9, False)],
)
def test_targets_have_a_direction(better, value, reached):
    said = Result("what", value, "", better, target=3).aim
    assert said.endswith("reached" if reached else "MISSED")


SCRIPTS = {
    "good": "results = [dict(name='a', value=1.0, unit='ms', peer='b', ratio=2.0)]",
    "broken": "raise RuntimeError('the cause')",
    "slow": "import time; time.sleep(60)",
    "silent": "sys.exit()",
    "killed": "import os; os.kill(os.getpid(), 9)",
}


@pytest.fixture
def scripts(tmp_path):
    """Subjects that do as little as subjects can."""
    for name, body in SCRIPTS.items():
        lines = ["import json, pathlib, sys", body]
        lines.append("path = pathlib.Path(sys.argv[sys.argv.index('--json') + 1])")
        lines.append("path.write_text(json.dumps({'results': results}))")
        (tmp_path / f"{name}.py").write_text("\n".join(lines))
    return tmp_path


def test_a_subject_is_a_process(scripts):
    report = run.run_subject("good", ["--rounds", "1"], 60, scripts)
    assert report.results == (Result("a", 1.0, "ms", peer="b", ratio=2.0),)
    assert report.failure == ""


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("broken", "ended with 1: RuntimeError: the cause"),
        ("slow", "took more than 1 s"),
        ("silent", "gave no results"),
        ("killed", "ended with -9"),
        ("absent", "ended with 2"),
    ],
)
def test_a_subject_that_fails_says_why(scripts, name, cause):
    report = run.run_subject(name, [], 1 if name == "slow" else 60, scripts)
    assert report.results == ()
    assert report.failure.startswith(cause)


class Subjects:
    """In the place of processes: all give `REPORT`'s results, but for those that fail."""

    def __init__(self, ratio: float = 4.0, fails: str = ""):
        self.ratio, self.fails = ratio, fails
        self.flags: dict[str, list[str]] = {}

    def __call__(self, name, flags, limit_s):
        self.flags[name] = list(flags)
        if name == self.fails:
            return Report(name, (), "ended with 1: the cause")
        return replace(with_ratio(self.ratio), subject=name)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """The runner with a baseline of its own; returns the exit code."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "baseline.json"

    def call(words: str, subjects: Subjects | None = None) -> int:
        return run.run_all(words.split(), subjects or Subjects(), path)

    call.baseline = path
    return call


def test_without_a_baseline_all_is_well(runs, capsys):
    assert runs("") == 0
    out = capsys.readouterr().out
    assert all(f"\n{name}\n" in out for name in run.SUBJECTS)
    assert set(json.loads(Path("out/bench.json").read_text())) == set(run.SUBJECTS)


def test_accepted_then_lost(runs, capsys):
    assert runs("--accept") == 0
    assert runs("") == 0
    assert runs("", Subjects(ratio=3.5)) == 0
    assert runs("", Subjects(ratio=2.5)) == 1
    assert "NOT GOOD ENOUGH lbs: skinning | smplx: got 2.5 x" in capsys.readouterr().out
    # What is lost can still be accepted, by who says so.
    assert runs("--accept", Subjects(ratio=2.5)) == 0
    assert runs("", Subjects(ratio=2.5)) == 0


def test_a_failed_subject_does_not_take_the_others_down(runs, capsys):
    runs("--accept")
    before = runs.baseline.read_text()
    subjects = Subjects(fails="raster")
    assert runs("", subjects) == 1
    assert set(subjects.flags) == set(run.SUBJECTS)
    out = capsys.readouterr().out
    assert "NOT GOOD ENOUGH raster: failed: ended with 1: the cause" in out
    assert runs("--accept", subjects) == 1
    assert runs.baseline.read_text() == before


def test_flags_go_to_the_subjects(runs):
    subjects = Subjects()
    assert runs("--only lbs raster --without-peers", subjects) == 0
    assert subjects.flags == {"lbs": ["--no-peers"], "raster": ["--no-peers"]}
    assert runs("--only lbs --quick", subjects) == 0
    assert subjects.flags["lbs"] == ["--rounds", "1"]


def test_a_quick_run_is_not_compared(runs):
    runs("--accept")
    assert runs("--quick", Subjects(ratio=0.1)) == 0
    assert runs("--quick", Subjects(fails="lbs")) == 1
    with pytest.raises(SystemExit):
        runs("--quick --accept")


def test_every_subject_has_a_script_with_its_flags():
    for name in run.SUBJECTS:
        source = (FOLDER / f"{name}.py").read_text()
        assert "main(" in source, name
        assert f"python benchmarks/{name}.py" in source, name


def test_the_committed_baseline_is_of_the_suite(tmp_path):
    committed = read_baseline(BASELINE)
    assert set(committed) <= set(run.SUBJECTS)
    for name, subject in committed.items():
        write_json(tmp_path / "results.json", {"results": list(subject["results"].values())})
        results = results_of(tmp_path / "results.json")
        assert [result.key for result in results] == list(subject["results"]), name
