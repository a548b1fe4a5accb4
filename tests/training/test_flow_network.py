"""Training of a flow network: it learns, it can be killed, the best one is kept and used."""

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import CPU, same
from torch import nn

from flowhmr.cli.flownet import table
from flowhmr.data import FlowBatches, FlowDataConfig
from flowhmr.flow import RaftFlow, load_raft, new_raft
from flowhmr.records import FlowExample
from flowhmr.synth import FlowClipConfig, FlowClipPool
from flowhmr.synth import flow_clips as module
from flowhmr.training import (
    FlowLoopConfig,
    FlowScore,
    OptimiserConfig,
    Run,
    estimator_flow,
    score_flow,
    train_flow,
)
from flowhmr.training import flow_network as training

CLIPS = FlowClipConfig(replace(FlowClipConfig().clips, size_px=128, frames=2), frames=2, reach=1)
SHORT = FlowLoopConfig(
    steps=4,
    batch=1,
    optimiser=OptimiserConfig(1e-3, average=0.5, clip_norm=1.0),
    workers=0,
    checkpoint_every=2,
    log_every=1,
    score_every=1,
    updates=1,
)


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Iterator[FlowClipPool]:
    """One pair of frames."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK", 1)
        yield FlowClipPool(CLIPS, 1, tmp_path_factory.mktemp("flow"), workers=1)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Drawing the curves takes longer than these runs."""
    monkeypatch.setattr(Run, "draw", lambda self: None)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return new_raft()


def pairs(pool: FlowClipPool, config: FlowLoopConfig) -> FlowBatches:
    data = FlowDataConfig(CLIPS, 1, zoom=(1.0, 1.0))
    return FlowBatches(pool, data, config.batch, config.seed, config.steps)


def run(config: FlowLoopConfig, folder: Path, pool: FlowClipPool, drawn=None) -> nn.Module:
    drawn = pairs(pool, config) if drawn is None else drawn
    return train_flow(config, network(), drawn, pool, Run(folder, config, {}), CPU)


def rows(folder: Path, name: str) -> list[dict[str, float]]:
    with (folder / name).open() as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def test_killed_and_resumed_it_ends_where_the_whole_run_does(tmp_path, pool):
    class Killed(RuntimeError): ...

    class Fragile(torch.utils.data.Dataset):
        def __getitem__(self, number: int) -> FlowExample:
            if number == 3:
                raise Killed
            return pairs(pool, SHORT)[number]

    whole = run(SHORT, tmp_path / "whole", pool)
    with pytest.raises(Killed):
        run(SHORT, tmp_path / "killed", pool, Fragile())
    assert len(rows(tmp_path / "killed", "scores.csv")) == 3
    assert same(run(SHORT, tmp_path / "killed", pool), whole)
    losses = [[list(r.values())[2:] for r in rows(tmp_path / n, "losses.csv")]
              for n in ("whole", "killed")]  # fmt: skip
    assert len(losses[0]) == 4
    assert losses[0] == losses[1]
    scores = [rows(tmp_path / n, "scores.csv") for n in ("whole", "killed")]
    assert scores[0] == scores[1]
    assert [row["step"] for row in scores[0]] == [1, 2, 3, 4]
    kept = [load_raft(tmp_path / n / "network.safetensors", "small") for n in ("whole", "killed")]
    assert same(*kept)


def test_it_learns_one_pair(tmp_path, pool):
    class Same(torch.utils.data.Dataset):
        def __getitem__(self, number: int) -> FlowExample:
            return pairs(pool, SHORT)[0]

    config = replace(
        SHORT, steps=20, optimiser=OptimiserConfig(2e-3, clip_norm=1.0), checkpoint_every=20,
        score_every=20,
    )  # fmt: skip
    run(config, tmp_path, pool, Same())
    first, *_, last = rows(tmp_path, "losses.csv")
    assert last["total"] < 0.7 * first["total"]
    assert last["total"] == pytest.approx(last["sequence"])


def test_the_best_network_is_kept(tmp_path, pool, monkeypatch):
    """The one whose people are seen best, not the last one."""
    said = iter([3.0, 1.0, 2.0, 1.5])
    monkeypatch.setattr(training, "score_flow", lambda *_: FlowScore(9.0, next(said), 9.0, pairs=1))
    after = run(SHORT, tmp_path, pool)
    best = load_raft(tmp_path / "network.safetensors", "small")
    assert not same(best, after)
    two = replace(SHORT, steps=2)
    monkeypatch.setattr(training, "score_flow", lambda *_: FlowScore(9.0, 1.0, 9.0, pairs=1))
    assert same(best, run(two, tmp_path / "two", pool))
    assert [row["people_px"] for row in rows(tmp_path, "scores.csv")] == [3.0, 1.0, 2.0, 1.5]


def test_the_result_is_an_estimator(tmp_path, pool):
    """What was scored in training is what the estimator does, at as many updates."""
    run(replace(SHORT, steps=1), tmp_path, pool)
    estimator = RaftFlow("small", tmp_path / "network.safetensors", updates=1, device="cpu")
    found = score_flow(estimator_flow(estimator), pool)
    (logged,) = rows(tmp_path, "scores.csv")
    assert found.people_px == pytest.approx(logged["people_px"], rel=1e-3)
    assert found.pairs == 1


def test_scores_are_end_point_errors(pool):
    """Of flow that is right but for 3 px to the side and 4 px down."""
    offset = torch.tensor([3.0, 4.0])
    score = score_flow(lambda example: example.flow_px + offset, pool)
    assert score.all_px == pytest.approx(5)
    assert score.people_px == pytest.approx(5)
    zero = score_flow(lambda example: torch.zeros_like(example.flow_px), pool)
    truth = pool.example(0)
    people = truth.known & truth.person
    length = truth.flow_px.norm(dim=-1)
    assert zero.people_px == pytest.approx(float(length[people].mean()))
    moving = length[people & (length > training.MOVES_PX)]
    assert (
        (zero.moving_px == pytest.approx(float(moving.mean())))
        if len(moving)
        else np.isnan(zero.moving_px)
    )
    assert "| none | 5.00 | 5.00 |" in table({"none": score})


def test_settings_without_sense_are_refused():
    with pytest.raises(ValueError, match="got 0 updates"):
        replace(SHORT, updates=0)
