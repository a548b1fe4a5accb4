"""Runs are done once, in order, and never mixed up with runs of other settings."""

import json
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowhmr.experiments import Lab, in_order, perform_all
from flowhmr.experiments.lab import BEGUN, NETWORK, SCORES, differences, plain, read_scores


@dataclass(frozen=True)
class Tuning:
    rate: float = 0.1
    rounds: int = 2


@dataclass(frozen=True)
class Fake:
    """Writes a file in place of a network, and notes that it was run."""

    value: float = 1.0
    start: str = ""
    tuning: Tuning = field(default_factory=Tuning)

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.start,) if self.start else ()

    def run(self, lab: Lab, folder, seed: int) -> dict[str, Any]:
        for name in self.needs:
            assert (lab.folder(name, seed) / NETWORK).exists(), f"{name} is not there"
        with (lab.runs / "log").open("a") as log:
            log.write(f"{folder.parent.name}/{seed}\n")
        (folder / NETWORK).write_text("weights")
        metrics = {"pa_mpjpe": self.value + seed, "accel_error": 2 / 3}
        return {"test": {"metrics": metrics, "per_clip": {"pa_mpjpe": [1 / 3, self.value]}}}


@dataclass(frozen=True)
class Failing(Fake):
    def run(self, lab: Lab, folder, seed: int) -> dict[str, Any]:
        super().run(lab, folder, seed)
        raise RuntimeError("power cut")


@dataclass(frozen=True)
class Unwritable(Fake):
    def run(self, lab: Lab, folder, seed: int) -> dict[str, Any]:
        return super().run(lab, folder, seed) | {"folder": folder}


def done(lab: Lab) -> list[str]:
    """What was run, in order."""
    log = lab.runs / "log"
    return log.read_text().split() if log.exists() else []


def files(lab: Lab, run: str, seed: int = 0) -> set[str]:
    return {p.name for p in lab.folder(run, seed).iterdir()}


def test_a_task_is_run_once_and_its_scores_are_kept(lab):
    task = Fake(value=5 / 3, tuning=Tuning(rate=1 / 7))
    first = lab.perform("a", task, 0)
    assert first["task"] == plain(task)
    assert first["seed"] == 0
    assert first["results"]["test"]["metrics"] == {"pa_mpjpe": 1.6667, "accel_error": 0.6667}
    assert first["results"]["test"]["per_clip"]["pa_mpjpe"] == [0.3333, 1.6667]
    assert lab.finished("a", 0)
    assert lab.perform("a", task, 0) == first == read_scores(lab.folder("a", 0))
    assert done(lab) == ["a/0"]
    assert json.loads((lab.folder("a", 0) / SCORES).read_text())["commit"] == "0123abcd"


def test_seeds_and_names_have_folders_of_their_own(lab):
    for name, seed in (("a", 0), ("a", 1), ("b", 0)):
        lab.perform(name, Fake(), seed)
    assert done(lab) == ["a/0", "a/1", "b/0"]
    values = {s: lab.perform("a", Fake(), s)["results"]["test"]["metrics"] for s in (0, 1)}
    assert [v["pa_mpjpe"] for v in values.values()] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (Fake(value=2.0), "value"),
        (Fake(value=2.0, tuning=Tuning(rate=0.2)), r"value, tuning\.rate"),
        (Failing(), r"kind \(Fake\)"),
    ],
)
def test_results_of_other_settings_are_refused(lab, other, named):
    lab.perform("a", Fake(), 0)
    before = (lab.folder("a", 0) / SCORES).read_bytes()
    message = (
        rf"seed-0: got results with other {named}; expected the settings of the experiment 'a' as "
        "it is now; delete the folder to run it anew"
    )
    with pytest.raises(ValueError, match=message):
        lab.perform("a", other, 0)
    assert done(lab) == ["a/0"]
    assert (lab.folder("a", 0) / SCORES).read_bytes() == before


@pytest.mark.parametrize("kind", [Failing, Unwritable])
def test_a_task_that_fails_leaves_no_scores(lab, kind):
    with pytest.raises((RuntimeError, TypeError)):
        lab.perform("a", kind(), 0)
    assert not lab.finished("a", 0)
    assert read_scores(lab.folder("a", 0)) is None
    assert files(lab, "a") == {BEGUN, NETWORK}


def test_what_broke_off_is_gone_on_with_under_the_same_settings_only(lab):
    """A checkpoint or a network of other settings would be scored as if it were of these."""
    with pytest.raises(RuntimeError, match="power cut"):
        lab.perform("a", Failing(), 0)
    with pytest.raises(ValueError, match=r"got a run begun with other value; expected .*; delete"):
        lab.perform("a", Failing(value=3.0), 0)
    assert done(lab) == ["a/0"]
    with pytest.raises(RuntimeError, match="power cut"):
        lab.perform("a", Failing(), 0)
    assert done(lab) == ["a/0", "a/0"]


def test_a_missing_network_is_told_how_to_be_made(lab):
    with pytest.raises(ValueError, match=r"got no network; expected .*'a'; `flowhmr experiment a"):
        lab.network("a", 1)
    lab.perform("a", Fake(), 1)
    (lab.folder("a", 1) / NETWORK).unlink()
    with pytest.raises(ValueError, match=r"delete scores.json beside it, then `flowhmr .* a --see"):
        lab.network("a", 1)


@dataclass(frozen=True)
class Younger(Fake):
    """`Fake` as it was before it could count and had `Part`."""

    count: int = 3
    parts: tuple[Tuning, ...] = (Tuning(),)


def test_a_younger_setting_counts_only_when_it_is_not_its_default():
    stored = plain(Younger())
    del stored["count"], stored["parts"], stored["tuning"]["rounds"]
    assert differences(Younger(), stored) == []
    changed = Younger(count=4, parts=(), tuning=Tuning(rounds=1))
    assert differences(changed, stored) == ["tuning.rounds", "count", "parts"]


def test_a_missing_setting_without_default_always_counts():
    @dataclass(frozen=True)
    class Strict:
        rate: float

    assert differences(Strict(0.1), {"kind": "Strict"}) == ["rate"]


@dataclass(frozen=True)
class OtherTuning:
    """What `Tuning` is, of another kind."""

    rate: float = 0.1


def test_a_config_of_another_kind_within_a_config_is_told():
    changed = replace(Younger(), tuning=OtherTuning())  # type: ignore
    stored = plain(Younger())
    assert differences(changed, stored) == ["tuning.kind (Tuning)"]
    # Older results do not say of which kind it was.
    del stored["tuning"]["kind"]
    assert differences(Younger(), stored) == []


def test_configs_within_tuples_and_absent_ones_are_compared():
    stored = plain(Younger())
    assert differences(Younger(), stored) == []
    assert differences(Younger(parts=(Tuning(rounds=9),)), stored) == ["parts"]
    assert differences(replace(Younger(), tuning=None), stored) == ["tuning"]  # type: ignore
    assert differences(Younger(), stored | {"tuning": None}) == ["tuning"]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sets(st.integers(0, 7)), max_size=8), st.randoms())
def test_every_run_comes_once_after_all_that_it_needs(needs, chance):
    @dataclass(frozen=True)
    class Node:
        needs: tuple[str, ...]

        def run(self, lab, folder, seed):
            return {}

    runs = {f"r{i}": Node(tuple(f"r{j}" for j in sorted(n) if j < i)) for i, n in enumerate(needs)}
    wanted = [name for name in runs if chance.random() < 0.5]
    chance.shuffle(wanted)
    order = in_order([*wanted, *wanted], runs)
    assert len(set(order)) == len(order)
    assert set(wanted) <= set(order)
    for place, name in enumerate(order):
        assert set(runs[name].needs) <= set(order[:place])
        assert name in wanted or any(name in runs[other].needs for other in order[place:])


def test_unknown_runs_and_circles_are_named():
    runs = {"a": Fake(), "b": Fake(start="gone"), "c": Fake(start="d"), "d": Fake(start="c")}
    with pytest.raises(ValueError, match=r"'x': got no such run, asked for; expected one of a, b"):
        in_order(["a", "x"], runs)
    with pytest.raises(ValueError, match=r"'gone': got no such run, needed by 'b'; expected one"):
        in_order(["b"], runs)
    with pytest.raises(ValueError, match=r"'c': got a circle \(c -> d -> c, .*; expected .*; chan"):
        in_order(["c"], runs)
    with pytest.raises(ValueError, match=r"'e': got a circle \(e -> e"):
        in_order(["e"], {"e": Fake(start="e")})


CHAIN = {"a": Fake(), "b": Fake(start="a"), "c": Fake(start="b"), "other": Fake()}


def perform(lab: Lab, *wanted: str, seeds=(0,), runs=CHAIN) -> list[str]:
    """`perform_all`; what it said."""
    said: list[str] = []
    perform_all(lab, wanted, seeds, runs, said.append)
    return said


def test_what_is_needed_is_done_first_and_one_seed_after_the_other(lab):
    said = perform(lab, "c", seeds=(2, 0))
    assert done(lab) == ["a/2", "b/2", "c/2", "a/0", "b/0", "c/0"]
    told = "a, seed 2: test PA-MPJPE 3.0 mm, accel. error 0.7 mm/frame² (1 of 6, about 0 min left)"
    assert said[0] == told
    assert said[-1].endswith("(6 of 6)")
    assert len(said) == 6
    assert perform(lab, "c", "b", seeds=(0, 2)) == []
    assert len(done(lab)) == 6


def test_a_lost_network_is_made_again_where_a_run_starts_from_it(lab):
    """Of the chain c, b, a the first has no scores, the others have theirs but no network."""
    perform(lab, "b", "other")
    for name in ("a", "b", "other"):
        (lab.folder(name, 0) / NETWORK).unlink()
    assert perform(lab, "a", "b", "other") == [], "nothing starts from them"
    perform(lab, "c", "other")
    assert done(lab) == ["a/0", "b/0", "other/0", "a/0", "b/0", "c/0"]


def test_a_network_that_is_there_is_not_made_again(lab):
    perform(lab, "b")
    (lab.folder("a", 0) / NETWORK).unlink()
    perform(lab, "c")
    assert done(lab) == ["a/0", "b/0", "c/0"]


def test_other_settings_are_refused_before_anything_is_dropped_or_done(lab):
    perform(lab, "a")
    (lab.folder("a", 0) / NETWORK).unlink()
    changed = {"other": Fake(), **CHAIN, "a": Fake(value=2.0)}
    with pytest.raises(ValueError, match="got results with other value"):
        perform(lab, "other", "b", runs=changed)
    assert done(lab) == ["a/0"]
    assert lab.finished("a", 0)


def test_a_run_that_failed_is_done_again_and_nothing_that_needs_it_before(lab):
    broken = CHAIN | {"b": Failing(start="a")}
    for _ in range(2):
        with pytest.raises(RuntimeError, match="power cut"):
            perform(lab, "c", runs=broken)
    assert done(lab) == ["a/0", "b/0", "b/0"]
    assert not lab.finished("b", 0)


def test_other_seeds_of_other_settings_are_refused_since_tables_show_them(lab):
    lab.perform("a", Fake(value=1.0), 0)
    with pytest.raises(ValueError, match=r"seed-0: got results with other value"):
        perform_all(lab, ["a"], [1], {"a": Fake(value=2.0)}, print)
    assert done(lab) == ["a/0"]
