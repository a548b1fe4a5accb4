"""``flowhmr experiment``: what there is, what goes wrong, tables of made-up runs."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from flowhmr.cli import experiment
from flowhmr.experiments import PAPERS, RUNS, TABLES, Claim, Paper, Row, Table


@dataclass(frozen=True)
class Fake:
    value: float
    needs: tuple[str, ...] = ()

    def run(self, lab, folder: Path, seed: int) -> dict[str, Any]:
        (folder / "network.safetensors").write_text("weights")
        metrics = {"pa_mpjpe": self.value + seed, "accel_error": self.value}
        return {"test": {"metrics": metrics, "per_clip": {}}}


@pytest.fixture
def made_up(monkeypatch) -> None:
    """One table, with a line too long for a terminal and brackets that are no style."""
    line = "OF [bold] " + "and much more " * 10
    rows = (Row("BL", "100 %", "bl"), Row(line, "100 %", "of"))
    claims = (Claim("OF is better", (("of", "bl"),)),)
    table = Table("made-up", "Nothing", "no paper", rows, 1, claims=claims)
    monkeypatch.setattr(experiment, "TABLES", {"made-up": table})
    monkeypatch.setattr(experiment, "RUNS", {"of": Fake(50.0, ("bl",)), "bl": Fake(60.0)})


def test_the_list_names_every_table_and_every_run(flowhmr):
    answer = flowhmr("experiment", "--list")
    assert answer.status == 0, answer.err
    head, runs = answer.out.split("single runs: ")
    rows = {line.split()[0]: line for line in head.splitlines() if line.strip()}
    for name, table in TABLES.items():
        assert table.reproduces in rows[name]
        assert rows[name].split()[-2:] == [str(len(table.runs)), str(table.minutes)]
    assert runs.replace(",", " ").split() == list(RUNS)
    for name, paper in PAPERS.items():
        listed = head.split(f"\n{name}: ")[1].splitlines()[0]
        assert listed == ", ".join(table.name for table in paper.tables)
    assert not list(Path.cwd().iterdir()), "a list leaves nothing behind"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("guess", "made-up", "bl-0"), "experiment: got guess, bl-0; expected some of made-up, "),
        ((), "experiment: got no name; expected some of made-up, "),
        (("made-up", "--seeds", "0", "-1"), "--seeds: got 0 -1; expected at least one"),
        (("made-up", "--jobs", "-1"), "--jobs: got -1; expected 1 or more, or 0"),
        (("made-up", "--device", "guess"), "--device: got 'guess'"),
    ],
)
def test_errors_say_what_to_do(flowhmr, made_up, words, said):
    answer = flowhmr("experiment", *words)
    assert answer.status == 1
    assert answer.err.startswith(f"flowhmr experiment: {said}")
    assert "Traceback" not in answer.err
    assert not list(Path.cwd().glob("experiments/*")), "nothing half done"


def test_a_table_is_run_once_and_written(flowhmr, made_up):
    words = ("experiment", "made-up", "--seeds", "0", "1", "2", "--device", "cpu", "--jobs", "1")
    answer = flowhmr(*words)
    assert answer.status == 0, answer.err
    done = [line for line in answer.out.splitlines() if ", seed " in line]
    assert [line.split(":")[0] for line in done] == [
        f"{run}, seed {seed}" for seed in range(3) for run in ("bl", "of")
    ]
    path = Path("experiments/runs/tables/made-up.md")
    table = path.read_text()
    assert "- OF is better: **holds** (PA-MPJPE (mm): -10.00)" in table
    assert "`flowhmr experiment made-up`" in table
    # As it is in the file, also where lines are long.
    assert table in answer.out
    assert f"table: {path}" in answer.out
    again = flowhmr(*words)
    assert again.status == 0
    assert ", seed " not in again.out
    assert table in again.out


def test_single_runs_bring_what_they_need_and_no_table(flowhmr, made_up):
    answer = flowhmr(
        "experiment", "of", "--seeds", "4", "--runs", "here", "--device", "cpu", "--jobs", "1"
    )
    assert answer.status == 0, answer.err
    assert {str(p) for p in Path("here").rglob("scores.json")} == {
        "here/bl/seed-4/scores.json",
        "here/of/seed-4/scores.json",
    }
    assert not Path("here/tables").exists()


def test_all_is_every_table(flowhmr, made_up):
    answer = flowhmr("experiment", "all", "--seeds", "0", "--device", "cpu", "--jobs", "1")
    assert answer.status == 0, answer.err
    assert Path("experiments/runs/tables/made-up.md").exists()


def test_a_papers_name_is_its_tables(flowhmr, made_up, monkeypatch):
    table = experiment.TABLES["made-up"]
    other = replace(table, name="other", rows=table.rows[:1], claims=())
    monkeypatch.setitem(experiment.TABLES, "other", other)
    papers = {"mine": Paper("mine", "Mine", "", (other,))}
    monkeypatch.setattr(experiment, "PAPERS", papers)
    words = ("experiment", "mine", "other", "--seeds", "0", "--device", "cpu", "--jobs", "1")
    answer = flowhmr(*words)
    assert answer.status == 0, answer.err
    assert [p.name for p in Path("experiments/runs/tables").iterdir()] == ["other.md"]
    assert answer.out.count("table: ") == 1


def test_changed_settings_are_refused(flowhmr, made_up, monkeypatch):
    assert flowhmr("experiment", "bl", "--seeds", "0", "--device", "cpu").status == 0
    monkeypatch.setattr(experiment, "RUNS", {"bl": Fake(61.0)})
    answer = flowhmr("experiment", "bl", "--seeds", "0", "--device", "cpu")
    assert answer.status == 1
    assert "got results with other value; expected" in answer.err


def test_the_results_page_is_written_without_running_anything(flowhmr):
    answer = flowhmr("experiment", "--results", "docs/results.md", "--device", "cpu")
    assert answer.status == 0, answer.err
    assert "wrote docs/results.md" in answer.out
    assert Path("docs/results.md").read_text().startswith("# Results")
    assert not Path("experiments").exists()
