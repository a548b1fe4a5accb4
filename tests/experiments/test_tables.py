"""Tables, claims and the results page, from scores that were never measured."""

import math
from dataclasses import replace

import pytest

from flowhmr.experiments import (
    Claim,
    Paper,
    Row,
    Table,
    judge,
    markdown,
    results_page,
    spread,
    write_table,
)
from flowhmr.experiments import results as results_module
from flowhmr.experiments.catalogue import OF4HMR
from flowhmr.experiments.of4hmr import CLIP_STUDY, ERROR_STUDIES, FLOW_QUALITY, LABELS, LOSS_STUDY
from flowhmr.experiments.sections import (
    errors_section,
    flow_quality_section,
    loss_section,
    subsets,
    subsets_section,
)
from flowhmr.experiments.tables import SHOWN, Spread


def of(*values: float) -> Spread:
    return Spread(dict(enumerate(values)))


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (of(), ""),
        (of(63.251), "63.3 (1 seed)"),
        (of(8.125, 8.375), "8.25 ± 0.18 (2 seeds)"),
        (of(61.0, 62.0, 63.0), "62.0 ± 1.0"),
        (of(4.0, 5.0, 6.0, 5.0), "5.00 ± 0.82"),
    ],
)
def test_a_spread_is_written_as_mean_and_deviation(found, text):
    assert str(found) == text


def test_mean_and_deviation_are_those_of_the_seeds():
    assert of(1.0, 2.0, 6.0).mean == pytest.approx(3.0)
    assert of(1.0, 2.0, 6.0).deviation == pytest.approx(math.sqrt(7.0))
    assert math.isnan(of().mean)
    assert math.isnan(of(1.0).deviation)


def verdict(claim: Claim, **values: Spread):
    return judge(claim, values.__getitem__)


ONE = Claim("better", (("a", "b"),))
NO_WORSE = Claim("no worse", (("a", "b"),), no_worse=True)
THIRD = Claim("a third less", (("a", "b"),), factor=2 / 3)
BASE = of(60.0, 70.0, 65.0)


@pytest.mark.parametrize(
    ("claim", "ours", "theirs", "word"),
    [
        # Seeds differ by millimetres, runs of the same seed by one: only that counts.
        (ONE, of(59.0, 68.9, 63.9), BASE, "holds"),
        (ONE, of(61.0, 71.1, 66.1), BASE, "does not hold"),
        (ONE, of(59.0, 71.5, 65.0), BASE, "within noise"),
        (ONE, BASE, BASE, "within noise"),
        (NO_WORSE, of(59.0, 68.9, 63.9), BASE, "holds"),
        (NO_WORSE, of(59.0, 71.5, 65.0), BASE, "within noise"),
        (NO_WORSE, of(60.3, 70.3, 65.3), BASE, "holds"),
        (NO_WORSE, of(60.8, 70.8, 65.8), BASE, "does not hold"),
        (NO_WORSE, BASE, BASE, "holds"),
        (NO_WORSE, of(55.0, 71.5, 65.0), BASE, "within noise"),
        (NO_WORSE, of(60.5), BASE, "one seed: as claimed"),
        (NO_WORSE, of(60.7), BASE, "one seed: not so"),
        (NO_WORSE, of(61.0, 71.1, 66.1), BASE, "does not hold"),
        (THIRD, of(39.0, 46.0, 42.0), BASE, "holds"),
        (THIRD, of(41.0, 47.8, 44.5), BASE, "does not hold"),
        (THIRD, of(38.0, 49.0, 43.0), BASE, "within noise"),
        (ONE, of(59.0), BASE, "one seed: as claimed"),
        (ONE, of(61.0), BASE, "one seed: not so"),
        (THIRD, of(59.0), BASE, "one seed: not so"),
        (ONE, of(), BASE, "not run"),
        (ONE, BASE, of(), "not run"),
        (ONE, Spread({3: 59.0}), BASE, "not run"),
    ],
)
def test_a_claim_is_judged_seed_by_seed(claim, ours, theirs, word):
    assert verdict(claim, a=ours, b=theirs).word == word


def test_the_interval_is_that_of_students_t():
    """Differences -1, -1, x: mean (x - 2) / 3, half the interval 4.303 (x + 1) / 3; x = -0.434."""
    for x, word in ((-0.45, "holds"), (-0.42, "within noise")):
        assert verdict(ONE, a=of(-1.0, -1.0, x), b=of(0.0, 0.0, 0.0)).word == word


def test_differences_are_better_minus_other_over_the_shared_seeds():
    two = Claim("both", (("a", "b"), ("c", "b")))
    found = verdict(two, a=of(58.0, 67.0, 64.0), b=BASE, c=of(61.0, 71.0, 66.0))
    assert found.differences == pytest.approx((-2.0, 1.0))
    third = verdict(THIRD, a=of(38.0, 49.0, 43.0), b=BASE)
    assert third.differences == pytest.approx((0.0,), abs=1e-9)


def test_a_claim_of_which_a_pair_goes_the_other_way_holds_on_average():
    two = Claim("both", (("a", "b"), ("c", "b")))
    there, back = of(50.0, 60.0, 55.0), of(61.0, 71.0, 66.0)
    assert verdict(two, a=there, b=BASE, c=back).word == "holds on average"
    assert verdict(two, a=there, b=BASE, c=of(59.5, 69.5, 64.5)).word == "holds"
    assert verdict(replace(two, no_worse=True), a=there, b=BASE, c=back).word == "holds"


def test_seeds_that_a_pair_lacks_do_not_count_for_the_others():
    """Else seed 0 would be a mean over two pairs, the others of the better one alone."""
    two = Claim("both", (("a", "b"), ("c", "b")))
    found = verdict(two, a=of(50.0, 60.0, 55.0), b=BASE, c=of(61.0))
    assert found.word == "one seed: as claimed"
    assert found.differences == pytest.approx((-10.0, 1.0))
    apart = verdict(two, a=of(50.0), b=BASE, c=Spread({1: 61.0}))
    assert apart.word == "not run"


def scores(pa_mpjpe: float, accel_error: float = 10.0, split: str = "test") -> dict:
    metrics = dict.fromkeys(SHOWN, 1.0) | {"pa_mpjpe": pa_mpjpe, "accel_error": accel_error}
    return {split: {"metrics": metrics, "per_clip": {}}}


SMALL = Table(
    name="small",
    title="Two lines",
    reproduces="paper, Table 0",
    rows=(
        Row("BL", "10 %", "bl-10", "65.3"),
        Row("BL", "100 %", "bl-100"),
        Row("OF", "100 %", "of-100"),
    ),
    minutes=1,
    claims=(
        Claim("OF is better", (("of-100", "bl-100"),)),
        Claim("OF moves more smoothly", (("of-100", "hidden"),), "accel_error"),
    ),
)

OTHER = Table("other", "One line", "paper, Table 1", (Row("ours", "error", "other"),), 1)


def test_a_table_names_its_runs_once():
    assert SMALL.runs == ("bl-10", "bl-100", "of-100", "hidden")


def test_a_table_without_scores_is_empty_but_for_the_paper(lab):
    assert markdown(SMALL, lab, "flowhmr experiment small").splitlines() == [
        "## Two lines",
        "",
        "paper, Table 0. `flowhmr experiment small`",
        "",
        "| PA-MPJPE (mm) | 10 % | 100 % |",
        "|---|---|---|",
        "| BL |  |  |",
        "| OF |  |  |",
        "",
        "| accel. error (mm/frame²) | 10 % | 100 % |",
        "|---|---|---|",
        "| BL |  |  |",
        "| OF |  |  |",
        "",
        "| the paper, on its data | 10 % | 100 % |",
        "|---|---|---|",
        "| BL | 65.3 |  |",
        "",
        "- OF is better: **not run**",
        "- OF moves more smoothly: **not run**",
    ]


def test_a_table_shows_its_scores_and_judges_its_claims(lab, store, tmp_path):
    store("bl-10", 0, scores(66.0))
    for seed in range(3):
        store("bl-100", seed, scores(60.0 + seed, 9.0))
        store("of-100", seed, scores(59.0 + seed, 8.0))
    store("hidden", 2, scores(50.0, 7.5))
    lines = markdown(SMALL, lab, "flowhmr experiment small").splitlines()
    assert "| BL | 66.0 (1 seed) | 61.0 ± 1.0 |" in lines
    assert "| OF |  | 60.0 ± 1.0 |" in lines
    assert "| OF |  | 8.00 ± 0.00 |" in lines
    assert "- OF is better: **holds** (PA-MPJPE (mm): -1.00)" in lines
    smooth = "- OF moves more smoothly: **one seed: not so** (accel. error (mm/frame²): +0.50)"
    assert smooth in lines
    path = write_table(SMALL, lab, tmp_path / "new" / "folder", "flowhmr experiment small")
    assert path == tmp_path / "new" / "folder" / "small.md"
    assert path.read_text().splitlines() == lines


def test_scores_of_another_split_and_other_measures_are_no_values(lab, store):
    store("a", 0, scores(60.0, split="val"))
    store("a", 1, {"ratios": []})
    store("a", 2, scores(61.0))
    assert spread(lab, "a", "pa_mpjpe", "test").by_seed == {2: 61.0}
    assert spread(lab, "a", "pa_mpjpe", "val").by_seed == {0: 60.0}
    assert spread(lab, "nothing", "pa_mpjpe", "test").by_seed == {}


def ratio(gap: int, mean: float, median: float, read_at="body", resolution="crop") -> dict:
    return {
        "gap": gap, "resolution": resolution, "read_at": read_at, "mean": mean, "median": median,
    }  # fmt: skip


FRAMES = {"body_px": [1.0, math.nan, 3.0], "image_px": [1.0, 2.0, 0.5]}


def test_flow_quality_is_a_mean_over_seeds_gaps_before_oracles(lab, store, tmp_path):
    (first, one), (second, other) = list(FLOW_QUALITY.items())[:2]
    rows = [ratio(1, 9.0, 8.0, "truth"), ratio(5, 2.0, 1.0), ratio(1, 4.0, 3.0)]
    store(one, 0, {"ratios": rows, "frames": FRAMES})
    lost = [ratio(1, 5.0, 4.0), ratio(5, math.nan, math.nan)]
    store(one, 1, {"ratios": lost, "frames": FRAMES})
    store(other, 0, {"ratios": [ratio(1, 1.5, 1.25, resolution="image")], "frames": FRAMES})
    section = flow_quality_section(lab, tmp_path)
    lines = section.text.splitlines()
    assert section.files == (tmp_path / "flow-quality.png",)
    assert section.files[0].read_bytes().startswith(b"\x89PNG")
    assert lines[-7:-2] == [
        f"| gap (frames) | {first}, crop | {second}, image |",
        "|---|---|---|",
        "| 1 | 4.5 / 3.5 | 1.5 / 1.2 |",
        "| 5 |  |  |",
        "| 1 (oracle) | 9.0 / 8.0 |  |",
    ]


def test_what_was_not_studied_has_no_section(lab, tmp_path):
    for section in (flow_quality_section(lab, tmp_path), loss_section(lab, tmp_path)):
        assert section.text == ""
        assert not section.files
    assert subsets_section(lab).text == errors_section(lab).text == ""


def test_the_loss_is_shown_before_and_after_scaling(lab, store, tmp_path):
    for seed, moved in enumerate((30.0, 32.0)):
        found = {
            "loss": [1.0, 10.0, 100.0],
            "scaled": [0.5, 1.0],
            "image_flow_px": 2.0,
            "error_correlation": {"same": 0.75, "noise": 0.5},
            "moved_mm": {"same": moved, "noise": 40.0, "true": 20.0},
        }
        store(LOSS_STUDY, seed, {"street": found})
    section = loss_section(lab, tmp_path / "new")
    row = (
        "| street | 2.00 ± 0.00 (2 seeds) | 20.0 ± 0.0 (2 seeds) | 31.0 ± 1.4 (2 seeds) "
        "| 40.0 ± 0.0 (2 seeds) | 0.75 ± 0.00 (2 seeds) | 0.50 ± 0.00 (2 seeds) |"
    )
    assert row in section.text.splitlines()
    assert [p.name for p in section.files] == ["flow-loss.png"]
    (lab.folder(LOSS_STUDY, 0) / "figure.png").write_bytes(b"a picture")
    both = loss_section(lab, tmp_path / "new")
    assert (tmp_path / "new" / "rigidity.png").read_bytes() == b"a picture"
    assert all(f"](new/{p.name})" in both.text for p in both.files)


def test_errors_that_last_are_shown_beside_those_that_do_not(lab, store):
    line, run = next(iter(ERROR_STUDIES.items()))
    for seed in (0, 1):
        found = {
            "lasting_mm": {"0": 80.0 + seed, "4": 70.0},
            "filtered_mm": {"0": 80.0 + seed, "4": 79.0},
            "correlation": {"1": 0.9, "16": 0.4 + 0.2 * seed},
        }
        store(run, seed, found)
    lines = errors_section(lab).text.splitlines()
    shown = [row for row in lines if row.startswith(f"| {line} | ")]
    assert [row.split(" | ")[1:] for row in shown] == [
        ["80.5 ± 0.7 (2 seeds)", "70.0 ± 0.0 (2 seeds) |"],
        ["80.5 ± 0.7 (2 seeds)", "79.0 ± 0.0 (2 seeds) |"],
        ["0.90 ± 0.00 (2 seeds)", "0.50 ± 0.14 (2 seeds) |"],
    ]


CLIPS = {
    "speed_px": [1.0, 6.0, 2.0, 5.0, 3.0, 4.0],
    "hidden": [0.6, 0.1, 0.5, 0.2, 0.4, 0.3],
    "others": [0, 2, 0, 0, 1, 0],
}


def test_subsets_are_thirds_and_company():
    assert subsets(CLIPS) == {
        "slowest third": [0, 2],
        "fastest third": [3, 1],
        "least hidden third": [1, 3],
        "most hidden third": [2, 0],
        "alone": [0, 2, 3, 5],
        "with others": [1, 4],
    }


def test_subsets_show_the_mean_over_their_clips(lab, store):
    store(CLIP_STUDY, 0, CLIPS)
    for seed in (0, 1):
        each = [float(10 * clip + 2 * seed) for clip in range(6)]
        found = {"metrics": {"pa_mpjpe": 0.0}, "per_clip": {"pa_mpjpe": each}}
        store("bl-10", seed, {"test": found})
    lines = subsets_section(lab).text.splitlines()
    assert "| | slowest third (2 clips) | " in lines[4]
    found = [c.split(" ")[0] for c in lines[6].strip("| ").split(" | ")[1:]]
    assert lines[6].startswith("| BL | ")
    assert [float(c) for c in found] == [11.0, 21.0, 21.0, 11.0, 26.0, 26.0]
    assert len(lines) == 7, "what was not run has no line"


def test_the_page_holds_what_was_run_with_remarks_and_figures(lab, store, tmp_path, monkeypatch):
    unrun = Table("unrun", "Not yet", "paper, Table 9", (Row("x", "y", "never"),), 1)
    ours = replace(OF4HMR, tables=(SMALL, unrun, LABELS))
    monkeypatch.setattr(results_module, "OF4HMR", ours)
    papers = {"of4hmr": ours, "idle": Paper("idle", "Nothing of it", "All idle.", (unrun,)),
              "other": Paper("other", "Another paper", "All of it.", (OTHER,))}  # fmt: skip
    monkeypatch.setattr(results_module, "PAPERS", papers)
    store("other", 0, scores(50.0))
    for number, run in enumerate(LABELS.runs):
        store(run, 0, scores(60.0 - number))
        store(run, 1, scores(61.0 - number))
    for run in set(SMALL.runs) - set(LABELS.runs):
        store(run, 0, scores(55.0))
    store(next(iter(FLOW_QUALITY.values())), 0, {"ratios": [ratio(1, 4.0, 3.0)], "frames": FRAMES})
    notes = tmp_path / "notes"
    notes.mkdir()
    for name in ("small", "unrun", "flow-quality"):
        (notes / f"{name}.md").write_text(f"A remark on {name}.\n")
    page = tmp_path / "results.md"
    written = results_page(lab, page, notes)
    figures = tmp_path / "results"
    assert written == [page, figures / "labels.png", figures / "flow-quality.png"]
    assert written[1].read_bytes().startswith(b"\x89PNG")
    text = page.read_text()
    parts = [
        "# Results", f"\n# {ours.title}\n", "Crops of 96 px", "## Two lines",
        "`flowhmr experiment small`", "A remark on small.",
        f"## {LABELS.title}", "`flowhmr experiment labels`", "](results/labels.png)",
        "## Flow quality", "| 1 | 4.0 / 3.0 |", "A remark on flow-quality.",
        "\n# Another paper\n\nAll of it.\n\n## One line", "50.0 (1 seed)",
    ]  # fmt: skip
    places = [text.find(part) for part in parts]
    assert min(places) >= 0
    assert places == sorted(places)
    assert "Not yet" not in text
    assert "A remark on unrun." not in text
    assert "Nothing of it" not in text
    assert text.count("## Flow quality") == 1


def test_the_page_of_nothing_is_its_head(lab, tmp_path):
    page = tmp_path / "results.md"
    assert results_page(lab, page, tmp_path / "notes") == [page]
    assert page.read_text().startswith("# Results\n")
    assert "##" not in page.read_text()
