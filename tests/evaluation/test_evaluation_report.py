"""Tables of scores."""

import json
import math

import pytest

from flowhmr.evaluation import METRICS, PROTOCOL, ClipScore, Report, compare_markdown


def score(name: str, person: str, frames: int, mpjpe: float, accel: float) -> ClipScore:
    """A clip's scores; the others follow from the two."""
    return ClipScore(name, person, frames, mpjpe, mpjpe / 2, mpjpe * 2, accel, accel / 2, mpjpe / 8)


CLIPS = (
    score("walk", "ann", 10, 100.0, 8.0),
    score("run", "ann", 30, 60.0, 16.0),
    score("sit", "bob", 12, 50.0, 1.0),
)
REPORT = Report("net", "test set", CLIPS)


def test_means_are_over_frames_and_inner_frames():
    assert REPORT.mean("mpjpe") == pytest.approx((10 * 100 + 30 * 60 + 12 * 50) / 52)
    assert REPORT.mean("pa_mpjpe") == pytest.approx(REPORT.mean("mpjpe") / 2)
    assert REPORT.mean("accel_error") == pytest.approx((8 * 8 + 28 * 16 + 10 * 1) / 46)
    assert REPORT.mean("accel") == pytest.approx(REPORT.mean("accel_error") / 2)


def test_cutting_a_clip_in_two_changes_no_position_error():
    halves = [score(f"walk{i}", "ann", 5, m, 8.0) for i, m in enumerate((90.0, 110.0))]
    cut = Report("net", "test set", (*halves, *CLIPS[1:]))
    assert cut.mean("mpjpe") == pytest.approx(REPORT.mean("mpjpe"))


def test_each_person_has_means_of_their_own():
    people = REPORT.per_person()
    assert list(people) == ["ann", "bob"]
    assert people["ann"]["mpjpe"] == pytest.approx((10 * 100 + 30 * 60) / 40)
    assert people["bob"] == {m: getattr(CLIPS[2], m) for m in METRICS}


def test_clips_without_inner_frames_do_not_spoil_the_acceleration():
    short = tuple(score(f"still{n}", "cy", n, 70.0, math.nan) for n in (1, 2))
    both = Report("net", "test set", CLIPS + short)
    assert both.mean("accel_error") == pytest.approx(REPORT.mean("accel_error"))
    assert both.mean("mpjpe") == pytest.approx((52 * REPORT.mean("mpjpe") + 3 * 70) / 55)
    assert math.isnan(both.per_person()["cy"]["accel"])


def test_json_holds_everything():
    told = json.loads(REPORT.to_json())
    assert (told["estimator"], told["data"], told["protocol"]) == ("net", "test set", PROTOCOL)
    assert told["mean"] == {m: REPORT.mean(m) for m in METRICS}
    assert told["per_person"] == REPORT.per_person()
    assert [ClipScore(**row) for row in told["per_clip"]] == list(CLIPS)


def test_json_is_json_where_there_is_no_score():
    text = Report("net", "stills", (score("still", "cy", 1, 70.0, math.nan),)).to_json()

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    told = json.loads(text, parse_constant=refuse)
    for scores in (told["mean"], told["per_person"]["cy"], told["per_clip"][0]):
        assert scores["accel"] is None
        assert scores["mpjpe"] == 70


def rows(table: str) -> dict[str, list[str]]:
    """Cells of a Markdown table by the first cell of their row."""
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in cells}


def test_markdown_has_the_mean_people_and_clips():
    table = rows(REPORT.to_markdown())
    assert list(table) == ["", "**all**", "person ann", "person bob", "walk", "run", "sit"]
    assert table[""] == ["frames", *METRICS.values()]
    assert table["**all**"] == ["52", *(f"{REPORT.mean(m):.1f}" for m in METRICS)]
    assert table["person ann"][:2] == ["40", "70.0"]
    assert table["sit"] == ["12", "50.0", "25.0", "100.0", "1.0", "0.5", "6.2"]
    assert list(rows(REPORT.to_markdown(rows=False))) == ["", "**all**"]
    assert "**net** on test set" in REPORT.to_markdown()


def test_both_forms_are_written(tmp_path):
    paths = REPORT.write(tmp_path / "new" / "folder", "scores")
    assert [p.name for p in paths] == ["scores.json", "scores.md"]
    assert paths[0].read_text() == REPORT.to_json()
    assert paths[1].read_text() == REPORT.to_markdown()


def test_estimators_stand_in_rows_beside_each_other():
    other = Report("mean pose", "test set", CLIPS[2:])
    table = rows(compare_markdown([REPORT, other]))
    assert list(table) == ["", "net", "mean pose"]
    assert table[""] == list(METRICS.values())
    assert table["mean pose"] == ["50.0", "25.0", "100.0", "1.0", "0.5", "6.2"]
