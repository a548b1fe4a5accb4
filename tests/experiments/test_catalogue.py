"""What every catalogue of runs and tables must obey, whatever its numbers are."""

import inspect
import json
import re
from dataclasses import MISSING, astuple, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from flowhmr.body import open_body
from flowhmr.evaluation import METRICS
from flowhmr.experiments import (
    PAPERS,
    RUNS,
    TABLES,
    FilterTemporal,
    Task,
    TrainMotion,
    TrainTemporal,
    budget,
    capture,
    hpof,
    in_order,
    motion,
    of4hmr,
    temporal,
)
from flowhmr.experiments.budget import TrainUnlabelled
from flowhmr.experiments.capture import RefineTracks
from flowhmr.experiments.lab import differences, plain
from flowhmr.experiments.of4hmr import FLOW_QUALITY
from flowhmr.experiments.recipes import CROP_PX
from flowhmr.experiments.studies import StudyErrors, StudyFlow, StudyLoss
from flowhmr.experiments.tables import SHOWN
from flowhmr.experiments.tasks import FitVideos, Pretrain, Refine
from flowhmr.flow import flow_estimator
from flowhmr.networks import BASELINE, Backbone, ContextHmr, Hmr, HmrConfig, MeanParams, load_hmr
from flowhmr.synth import LABELLED_SHARES, SPLITS, mean_rotmats

KINDS = [
    Pretrain,
    Refine,
    FitVideos,
    StudyFlow,
    StudyLoss,
    StudyErrors,
    TrainMotion,
    TrainTemporal,
    TrainUnlabelled,
    RefineTracks,
]
STORED = Path(__file__).parents[2] / "experiments" / "runs"


def named() -> dict[str, str]:
    """Every run that something names, and what names it."""
    out: dict[str, str] = {}
    for table in TABLES.values():
        out |= dict.fromkeys(table.runs, f"the table {table.name}")
    out |= dict.fromkeys(FLOW_QUALITY.values(), "flow quality")
    for name, task in RUNS.items():
        out |= dict.fromkeys(task.needs, f"the run {name}")
    return out


def test_every_run_that_is_named_exists():
    assert {run: by for run, by in named().items() if run not in RUNS} == {}


def test_no_run_needs_itself():
    assert set(in_order(RUNS, RUNS)) == set(RUNS)


def test_names_can_be_folders_and_are_not_those_of_tables():
    assert [name for name in RUNS if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name)] == []
    assert not set(RUNS) & {*TABLES, *PAPERS, "all"}
    assert not set(TABLES) & {*PAPERS, "all"}


def test_papers_share_no_names():
    papers = (of4hmr, budget, motion, temporal, hpof, capture)
    assert len(RUNS) == sum(len(paper.RUNS) for paper in papers)
    assert list(TABLES) == [name for paper in papers for name in paper.TABLES]
    assert list(PAPERS) == [paper.name for paper in PAPERS.values()]


def test_no_config_has_two_names():
    seen: dict[Task, str] = {}
    for name, task in RUNS.items():
        assert task not in seen, f"{name} is {seen[task]}"
        seen[task] = name


class Once(dict):
    """Names that keep the config they were first given."""

    def __setitem__(self, name: str, task: Task) -> None:
        assert self.get(name, task) == task, f"{name} has two configs"
        super().__setitem__(name, task)

    def setdefault(self, name: str, task: Any = None) -> Task:
        self[name] = task
        return task

    def __ior__(self, other):
        for name, task in other.items():
            self[name] = task
        return self


def test_no_name_has_two_configs():
    """The catalogue once more, with a dictionary that does not let the last one win."""
    source, begin = inspect.getsource(of4hmr), "RUNS: dict[str, Task] = {}"
    assert source.count(begin) == 1
    again: dict[str, Any] = {"__name__": of4hmr.__name__, "Once": Once}
    exec(compile(source.replace(begin, "RUNS = Once()"), str(of4hmr.__file__), "exec"), again)
    assert dict(again["RUNS"]) == of4hmr.RUNS


@pytest.mark.parametrize("name", TABLES)
def test_a_table_can_be_drawn(name):
    table = TABLES[name]
    assert table.name == name
    assert table.minutes > 0
    cells = [(row.line, row.column) for row in table.rows]
    assert len(set(cells)) == len(cells) > 0
    # Two cells with one run: a name that was made up by formatting, twice.
    assert len({row.run for row in table.rows}) == len(table.rows)
    assert table.metrics
    assert {*table.metrics, *(claim.metric for claim in table.claims)} <= set(SHOWN)
    texts = [t for row in table.rows for t in (row.line, row.column, row.paper)]
    assert not [text for text in texts if "|" in text or "\n" in text]


@pytest.mark.parametrize("name", TABLES)
def test_a_claim_compares_two_runs(name):
    for claim in TABLES[name].claims:
        assert claim.pairs, claim.text
        assert len(set(claim.pairs)) == len(claim.pairs)
        assert all(better != other for better, other in claim.pairs), claim.text
        assert 0 < claim.factor <= 1


def test_what_is_shown_is_measured():
    assert set(SHOWN) <= {*METRICS, capture.SLIDE}
    for table in TABLES.values():
        for run in table.runs:
            scored = RUNS[run].scored  # pyright: ignore[reportAttributeAccessIssue]
            splits = (scored,) if isinstance(scored, str) else scored
            assert table.split in splits, f"{table.name}: {run}"
    assert all(isinstance(RUNS[name], StudyFlow) for name in FLOW_QUALITY.values())


def test_a_config_does_not_differ_from_itself_once_stored():
    for name, task in RUNS.items():
        stored = json.loads(json.dumps(plain(task)))
        assert differences(task, stored) == [], name


@pytest.mark.parametrize("kind", KINDS)
def test_every_changed_setting_is_named(kind):
    task = max((t for t in RUNS.values() if type(t) is kind), key=lambda t: len(str(t)))
    settings = leaves(task)
    assert len(settings) > 3
    for path in settings:
        stored = plain(task)
        place = stored
        *above, last = path.split(".")
        for name in above:
            place = place[name]
        place[last] = "changed"
        assert differences(task, stored) == [path]
    assert differences(task, plain(task) | {"kind": "Other"}) == ["kind (Other)"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_setting_that_was_not_stored_counts_unless_it_has_its_default(kind):
    for task in (t for t in RUNS.values() if type(t) is kind):
        counted = [f.name for f in fields(kind) if not has_default(task, f)]
        assert differences(task, {"kind": kind.__name__}) == counted


def leaves(config: Any, where: str = "") -> list[str]:
    """Paths of all settings that are no configs themselves."""
    out = []
    for field in fields(config):
        value = getattr(config, field.name)
        path = f"{where}{field.name}"
        out += leaves(value, f"{path}.") if is_dataclass(value) else [path]
    return out


def has_default(task: Any, field: Any) -> bool:
    default = field.default
    if field.default_factory is not MISSING:
        default = field.default_factory()
    return getattr(task, field.name) == default


def start_of(task: Any) -> Pretrain:
    """The baseline that a run goes back to."""
    while not isinstance(task, Pretrain):
        task = RUNS[task.start]
    return task


def test_runs_start_from_networks():
    for name, task in RUNS.items():
        for start in task.needs:
            kinds = Pretrain | Refine
            if isinstance(task, FilterTemporal):
                kinds |= TrainTemporal
            assert isinstance(RUNS[start], kinds), f"{name} needs {start}"


def test_labels_are_those_of_the_network_that_a_run_starts_from():
    """More labels than the baseline had would pass for an effect of the video."""
    for name, task in RUNS.items():
        if isinstance(task, Pretrain | Refine):
            assert task.share in LABELLED_SHARES, name
        if isinstance(task, Refine):
            assert task.share == start_of(task).share, name


def test_video_is_that_of_the_benchmark_and_never_held_out_by_accident():
    video = set(SPLITS) - {"stills"}
    for name, task in RUNS.items():
        if isinstance(task, Refine):
            sets = [split for split, _ in task.video]
            assert set(sets) <= video - {"val"}, name
            assert len(set(sets)) == len(sets) > 0, name
            assert min(share for _, share in task.video) > 0, name
            # Only a run that says so looks at the test video (never at its labels).
            assert ("test" in sets) <= ("test" in name), name
        if isinstance(task, Pretrain | Refine):
            assert task.scored, name
            assert set(task.scored) <= video, name


def test_every_part_of_a_refinement_has_what_it_needs():
    for name, task in RUNS.items():
        if not isinstance(task, Refine):
            continue
        train, pairs = task.train, task.pairs
        terms = [w for part in (train.flow, train.texture, train.keypoints) for w in astuple(part)]
        assert train.batch or train.pairs, f"{name} trains with nothing"
        assert (pairs.context or None) == (task.context and task.context.length), name
        assert any(astuple(train.keypoints)) == (task.detector is not None), name
        if not train.pairs:
            assert not any(terms), f"{name} has losses of video without video"


def test_a_fit_with_keypoints_has_a_detector():
    for name, task in RUNS.items():
        if isinstance(task, FitVideos):
            assert bool(task.config.keypoints) == (task.detector is not None), name


def test_every_flow_estimator_can_be_made():
    flows = {
        t.flow for t in RUNS.values() if isinstance(t, Refine | FitVideos | StudyFlow | StudyLoss)
    }
    assert flows
    for flow in flows:
        assert flow_estimator(flow) is not None


@cache
def built(config: HmrConfig) -> Hmr:
    body = open_body()
    return Hmr(config, MeanParams(mean_rotmats(), torch.zeros(body.num_betas), body.body_id))


def test_every_network_can_be_built():
    """Each kind once; files of weights aside, which are not part of the repository."""
    kinds = set()
    for task in RUNS.values():
        if isinstance(task, Pretrain | Refine):
            context = task.context if isinstance(task, Refine) else None
            kinds.add((start_of(task).network, context))
    for config, context in sorted(kinds, key=str):
        network = built(config) if context is None else ContextHmr(context, built(config))
        assert network.size_px == config.backbone.size_px
        assert config.backbone.weights == "", "Pretrain.weights says where it starts"


def test_the_shipped_network_is_what_configs_say_that_it_is():
    """`Pretrain.network` is not looked at where the shipped network is taken."""
    shipped = load_hmr(BASELINE).config
    for name, task in RUNS.items():
        if isinstance(task, Pretrain):
            assert task.network.backbone.size_px == CROP_PX, name
            assert task.weights != "shipped" or task.network == shipped, name


def test_stored_scores_are_of_the_settings_as_they_are():
    """Else tables would show what nobody can run any more."""
    found = {}
    for path in sorted(STORED.glob("*/seed-*/scores.json")):
        name, stored = path.parts[-3], json.loads(path.read_text())
        assert stored["seed"] == int(path.parts[-2].removeprefix("seed-"))
        known = name in RUNS
        found[str(path)] = differences(RUNS[name], stored["task"]) if known else ["no such run"]
    assert {path: changed for path, changed in found.items() if changed} == {}


def test_levels_that_are_kept_are_levels_of_the_network():
    """A network that does not say where its levels end would fail at the first step."""
    built: dict = {}
    for task in RUNS.values():
        if isinstance(task, Pretrain | Refine):
            start = task if isinstance(task, Pretrain) else RUNS[task.start]
            assert isinstance(start, Pretrain)
            config = start.network.backbone
            built.setdefault(config, Backbone(config)).early(task.train.fixed_levels)
