"""Training of the lifting network: it learns, it can be killed, its bodies are scored."""

import csv
import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import CPU, same
from torch import Tensor

from flowhmr.body import open_body
from flowhmr.cameras import fit_weak_camera
from flowhmr.data import DetectorModel, LiftBatches, LiftDataConfig, TrackStore
from flowhmr.data import track_store as store_module
from flowhmr.geometry import collate, rotmat_from_axis_angle
from flowhmr.losses import NonFiniteLoss, TrackWeights
from flowhmr.networks import Lift, LiftConfig, MeanParams, load_lift, read_card
from flowhmr.records import Estimate, Lifted, TrackClip, TrackInput, TrackLabels
from flowhmr.synth import TrackConfig, mean_rotmats
from flowhmr.training import (
    CheckpointError,
    LiftLoopConfig,
    LiftTrainingConfig,
    OptimiserConfig,
    Run,
    pretrain_lift,
    score_lift,
    train_lift,
)

BATCH, FRAMES = 3, 6
TINY = LiftConfig(width=16, dilations=(1, 2))
SHORT = LiftLoopConfig(
    steps=6,
    batch=BATCH,
    optimiser=OptimiserConfig(1e-3, average=0.9, warmup=2, decay=2, clip_norm=1.0),
    workers=0,
    checkpoint_every=2,
    log_every=1,
)
TRACKS = TrackConfig(seed=3, frames=12, size_px=48)
SURE = DetectorModel(
    bias=0.0, noise=(0.0, 0.0), drift=(0.0, 0.0), reports_all=1.0, flips=0.0, lost=0.0,
    lost_person=0.0, merged=0.0, crossed=0.0, stray=0.0, swapped=0.0, flow_noise=0.0,
    flow_lost=0.0, focal=0.0,
)  # fmt: skip


class Windows(torch.utils.data.Dataset):
    """Random people, seen somehow; batch number ``i`` follows from ``i``."""

    def __getitem__(self, number: int) -> TrackClip:
        generator = torch.Generator().manual_seed(number)

        def noise(*shape: int) -> Tensor:
            return torch.randn(BATCH, FRAMES, *shape, generator=generator)

        rotmats = mean_rotmats() @ rotmat_from_axis_angle(0.2 * noise(24, 3))
        body = open_body()
        params = body.params(rotmats, noise(10)[:, :1].repeat(1, FRAMES, 1))
        points = 0.7 * body.joints(params)[..., :2]
        half, present = 0.25 + 0.05 * noise(), torch.ones(BATCH, FRAMES)
        seen = TrackInput(noise(17, 3), 0.05 * noise(60, 3), half, present)
        return TrackClip(seen, TrackLabels(params, points), noise(4) > 0)


def network(seed: int = 0) -> Lift:
    torch.manual_seed(seed)
    body = open_body()
    return Lift(TINY, MeanParams(mean_rotmats(), torch.zeros(body.num_betas), body.body_id))


def run(config: LiftLoopConfig, folder: Path, start: Lift | None = None, windows=None) -> Lift:
    windows = Windows() if windows is None else windows
    net = start or network()
    return train_lift(config, net, open_body(), windows, Run(folder, config, {}), CPU)


def rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "losses.csv").open() as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Drawing the curves takes longer than these runs."""
    monkeypatch.setattr(Run, "draw", lambda self: None)


def test_two_steps_train_and_log(tmp_path, monkeypatch):
    monkeypatch.undo()
    start = network()
    after = run(replace(SHORT, steps=2), tmp_path, start)
    assert same(start, network()), "the network that was given is left as it is"
    assert not same(after, start)
    assert not after.training
    log = rows(tmp_path)
    assert [row["step"] for row in log] == [1, 2]
    weights = TrackWeights()
    for row in log:
        terms = {f.name: row[f.name] for f in fields(weights)}
        total = sum(getattr(weights, name) * value for name, value in terms.items())
        assert row["total"] == pytest.approx(total, rel=1e-4)
    assert {p.name for p in tmp_path.iterdir()} == {
        "config.json", "losses.csv", "losses.png", "checkpoint.safetensors"
    }  # fmt: skip
    assert json.loads((tmp_path / "config.json").read_text())["train"]["weights"]["motion"] == 10


def test_killed_and_resumed_it_ends_where_the_whole_run_does(tmp_path):
    class Killed(RuntimeError): ...

    class Fragile(Windows):
        def __getitem__(self, number: int) -> TrackClip:
            if number == 3:
                raise Killed
            return super().__getitem__(number)

    whole = run(SHORT, tmp_path / "whole")
    with pytest.raises(Killed):
        run(SHORT, tmp_path / "killed", windows=Fragile())
    assert same(run(SHORT, tmp_path / "killed"), whole)
    values = [[list(r.values())[2:] for r in rows(tmp_path / n)] for n in ("whole", "killed")]
    assert len(values[0]) == 6
    assert values[0] == values[1]
    # Done is done: the same command again changes nothing.
    assert same(run(SHORT, tmp_path / "whole"), whole)
    assert not same(run(replace(SHORT, seed=1), tmp_path / "other", network(1)), whole)


def test_the_average_is_kept_over_restarts(tmp_path):
    """With and without one the result is another; each is continued as what it is."""
    last = replace(SHORT, optimiser=replace(SHORT.optimiser, average=0.0))
    averaged, plain = run(SHORT, tmp_path / "a"), run(last, tmp_path / "b")
    assert not same(averaged, plain)
    with pytest.raises(CheckpointError, match="other optimiser"):
        run(last, tmp_path / "a")


def test_other_settings_do_not_continue_a_run(tmp_path):
    run(SHORT, tmp_path)
    for name, changed in (
        ("weights", {"weights": TrackWeights(motion=0.0)}),
        ("batch", {"batch": 2}),
        ("seed", {"seed": 1}),
        ("steps", {"steps": 8}),
    ):
        with pytest.raises(CheckpointError, match=rf"other {name};.*--run"):
            run(replace(SHORT, **changed), tmp_path)
    run(replace(SHORT, log_every=3, checkpoint_every=5), tmp_path)


def test_it_learns_one_batch(tmp_path):
    class Same(Windows):
        def __getitem__(self, number: int) -> TrackClip:
            return super().__getitem__(0)

    optimiser = OptimiserConfig(1e-2, clip_norm=1.0)
    config = replace(SHORT, steps=30, optimiser=optimiser, checkpoint_every=30)
    run(config, tmp_path, windows=Same())
    first, *_, last = rows(tmp_path)
    assert last["total"] < 0.6 * first["total"]
    learnt = ("joints", "motion", "points", "pose", "shape", "stands")
    assert all(last[name] < first[name] for name in learnt)
    assert last["stands"] < 0.8 * first["stands"]


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    start = network()
    with torch.no_grad():
        start.shape.bias.fill_(torch.nan)
    with pytest.raises(NonFiniteLoss, match="term '"):
        run(SHORT, tmp_path, start)
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_half_the_precision_learns_too(tmp_path):
    config = replace(SHORT, precision="bfloat16")
    after = run(config, tmp_path)
    assert not same(after, network())
    assert all(bool(p.isfinite().all()) for p in after.parameters())
    assert not same(after, run(SHORT, tmp_path / "full"))


# --- with tracks


class Here:
    """In the place of a pool of processes: works in this one."""

    def __init__(self, *_): ...

    def __enter__(self) -> "Here":
        return self

    def __exit__(self, *_) -> None: ...

    def map(self, job: Callable, items: list) -> map:
        return map(job, items)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Where two tracks a file are drawn, in this process."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_module, "CHUNK", 2)
        patch.setattr(store_module, "ProcessPoolExecutor", Here)
        yield tmp_path_factory.mktemp("cache")
    torch.set_num_threads(threads)


def test_a_run_from_its_config_alone(tmp_path, cache):
    data = LiftDataConfig(TRACKS, 2, 8, DetectorModel())
    config = LiftTrainingConfig(TINY, data, replace(SHORT, steps=2, batch=2))
    heard = []
    path = pretrain_lift(config, tmp_path / "a", cache, CPU, lambda *a: heard.append(a))
    assert heard == [(2, 2)]
    assert path == tmp_path / "a" / "network.safetensors"
    loaded = load_lift(path)
    assert loaded.config == TINY
    assert loaded.body_id == open_body().body_id
    notes = read_card(path)["notes"]
    assert notes["trained_by"] == "lift"
    assert {"steps", "seconds", "commit", "machine"} <= notes.keys()
    again = pretrain_lift(config, tmp_path / "b", cache, CPU, lambda *a: heard.append(a))
    assert same(load_lift(again), loaded)
    assert len(heard) == 1, "tracks are drawn once"
    command = json.loads((tmp_path / "a" / "config.json").read_text())["command"]
    assert command["data"]["tracks"]["seed"] == 3


class Oracle(Lift):
    """Knows the labels of the clips that it will be shown, in order."""

    labels: list[TrackLabels]
    seen: list[TrackInput]

    def forward(self, track: TrackInput) -> Lifted:
        labels = self.labels[len(self.seen)]
        self.seen.append(track)
        joints_m = open_body().joints(labels.params)
        camera = fit_weak_camera(joints_m, labels.points + 1, 2)
        stands = torch.zeros(len(labels.points), 4)
        return collate([Lifted(Estimate(labels.params, camera), stands)])


def test_scores_are_those_of_whole_tracks(cache):
    store = TrackStore(TRACKS, 2, cache)
    # Windows to train on are shorter, and may be of other tracks.
    shorter = LiftDataConfig(replace(TRACKS, frames=8), 2, 4, SURE)
    tracks = LiftBatches(store, shorter, 1, 0, 1)
    whole = LiftBatches(store, LiftDataConfig(TRACKS, 2, TRACKS.frames, SURE), 1, 0, 1)
    oracle = Oracle(TINY, MeanParams(mean_rotmats(), torch.zeros(10), open_body().body_id))
    oracle.labels = [whole.window(t, 0, np.random.default_rng(0)).labels for t in range(2)]
    oracle.seen = []
    scores = score_lift(oracle.train(), tracks, open_body(), CPU)
    assert [s.frames for s in scores] == [TRACKS.frames] * 2
    assert len({s.name for s in scores}) == len({s.person for s in scores}) == 2
    assert all(tuple(i.keypoints.shape) == (1, TRACKS.frames, 17, 3) for i in oracle.seen)
    assert not oracle.training
    for score in scores:
        assert score.mpjpe == score.pve == score.accel_error == pytest.approx(0, abs=1e-3)
        assert score.pa_mpjpe == pytest.approx(0, abs=1e-2)
        assert 0 < score.keypoints_px < 6  # what a weak camera cannot say

    mean = score_lift(network(), tracks, open_body(), CPU)
    assert all(s.mpjpe > 30 and s.keypoints_px > 6 for s in mean)


def test_scores_follow_from_the_seed(cache):
    store = TrackStore(TRACKS, 2, cache)
    tracks = LiftBatches(store, LiftDataConfig(TRACKS, 2, 4, DetectorModel()), 1, 0, 1)
    net = network()
    with torch.no_grad():
        net.frame.weight.mul_(30)
    first, again, other = (score_lift(net, tracks, open_body(), CPU, seed) for seed in (0, 0, 1))
    assert [s.mpjpe for s in first] == [s.mpjpe for s in again]
    assert all(a.mpjpe != b.mpjpe for a, b in zip(first, other, strict=True))
