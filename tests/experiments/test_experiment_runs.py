"""Experiments from end to end: a few pictures of 32 px, a tiny network, two steps."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from flowhmr.data import PairConfig
from flowhmr.evaluation import METRICS, FlowStudy
from flowhmr.experiments import Lab, Task, perform_all, studies, tasks
from flowhmr.experiments import lab as lab_module
from flowhmr.experiments.detected import DetectorNoise
from flowhmr.experiments.lab import BEGUN, NETWORK, SCORES, read_scores
from flowhmr.experiments.studies import FIGURE, StudyClips, StudyErrors, StudyFlow, StudyLoss
from flowhmr.experiments.tasks import FitVideos, Pretrain, Refine
from flowhmr.losses import AnchorWeights, FlowWeights, KeypointWeights
from flowhmr.networks import BackboneConfig, ContextConfig, ContextHmr, Hmr, HmrConfig
from flowhmr.synth import ClipStore, SizeName, SplitName, SplitSpec, split_spec
from flowhmr.training import SequenceFitConfig, TrainConfig
from flowhmr.training.state import TrainState

SIDE = 32
FRAMES: dict[SplitName, int] = {"stills": 1, "studio": 5, "test": 4}
COUNTS: dict[SplitName, int] = {"stills": 4, "studio": 2, "test": 2}

SMALL = HmrConfig(BackboneConfig("mobilenetv3_small_050", size_px=SIDE), hidden=16, maps=True)
LOOP = TrainConfig(steps=2, batch=2, workers=0, checkpoint_every=1, log_every=1)
VIDEO = replace(LOOP, pairs=2, flow=FlowWeights(0.1), anchor=AnchorWeights(1.0, 1.0, 1.0))
NEAR = PairConfig(flow_px=64)
RUNS: dict[str, Task] = {
    "bl": Pretrain(1.0, SMALL, LOOP),
    "of": Refine(
        "bl",
        1.0,
        replace(VIDEO, keypoints=KeypointWeights(1.0)),
        video=(("studio", 1.0),),
        pairs=replace(NEAR, gap=2),
        detector=DetectorNoise(),
    ),
    "context": Refine(
        "bl",
        1.0,
        replace(VIDEO, batch=0),
        video=(("studio", 1.0), ("test", 2.0)),
        pairs=replace(NEAR, context=1),
        context=ContextConfig(length=1),
    ),
    "fit": FitVideos(
        "of",
        SequenceFitConfig(steps=2, keypoints=1.0, pairs=NEAR),
        detector=DetectorNoise(),
    ),
    "quality": StudyFlow("bl", "test", FlowStudy(gaps=(1, 2), crop_px=SIDE), pairs=3),
    "loss": StudyLoss("bl", ("studio", "test"), pairs=3, cut=NEAR),
    "errors": StudyErrors("bl", "test", widths=(1, 2), gaps=(1, 2, 30)),
    "clips": StudyClips(),
}


def tiny_spec(name: SplitName, size: SizeName = "small") -> SplitSpec:
    spec = split_spec(name, size)
    clips = replace(spec.clips, size_px=SIDE, frames=FRAMES[name])
    return replace(spec, clips=clips, count=COUNTS[name])


@pytest.fixture(scope="module", autouse=True)
def tiny_benchmark():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab_module, "split_spec", tiny_spec)
        patch.setattr(tasks, "split_spec", tiny_spec)
        patch.setattr(studies, "split_spec", tiny_spec)
        # Worker processes would take longer to start than the clips to be drawn.
        patch.setattr(lab_module, "ClipStore", partial(ClipStore, workers=1))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("experiments")


def perform(lab: Lab, *wanted: str) -> list[str]:
    said: list[str] = []
    perform_all(lab, wanted, (0,), RUNS, said.append)
    return said


def a_lab(folder: Path, runs: str) -> Lab:
    """Several labs share the clips."""
    return Lab(folder / runs, folder / "cache", torch.device("cpu"))


@pytest.fixture(scope="module")
def done(folder) -> Lab:
    """All runs of seed 0."""
    lab = a_lab(folder, "runs")
    assert [line.split(",")[0] for line in perform(lab, *RUNS)] == list(RUNS)
    return lab


@pytest.mark.slow
def test_every_task_leaves_scores_and_what_starts_from_others_differs(done):
    values = {}
    for name in ("bl", "of", "context", "fit"):
        scores = read_scores(done.folder(name, 0))
        assert scores is not None
        assert scores["task"]["kind"] == type(RUNS[name]).__name__
        found = scores["results"]["test"]
        assert list(found["metrics"]) == list(METRICS)
        for metric, mean in found["metrics"].items():
            clips = found["per_clip"][metric]
            assert len(clips) == COUNTS["test"]
            assert mean == pytest.approx(sum(clips) / len(clips), abs=1e-4)
            assert mean > 0
        values[name] = found["metrics"]["mpjpe"]
    assert len(set(values.values())) == len(values)
    quality = read_scores(done.folder("quality", 0))
    assert quality is not None
    ratios = quality["results"]["ratios"]
    assert [(r["gap"], r["read_at"]) for r in ratios[::2]] == [(g, "body") for g in (1, 1, 2, 2)]
    assert {r["resolution"] for r in ratios} == {"crop", "image"}
    assert all(0 < r["pairs"] <= 3 for r in ratios)
    shown = quality["results"]["frames"]
    assert len(shown["body_px"]) == len(shown["image_px"]) == FRAMES["test"] - 1


@pytest.mark.slow
def test_the_flow_loss_is_looked_at_with_and_without_noise(done):
    scores = read_scores(done.folder("loss", 0))
    assert scores is not None
    assert set(scores["results"]) == {"studio", "test"}
    for found in scores["results"].values():
        assert 0 < len(found["loss"]) <= 3
        assert len(found["scaled"]) == len(found["loss"])
        assert min(found["loss"]) >= 0
        assert all(-1 <= c <= 1 for c in found["error_correlation"].values())
        # Noise moves bodies that stand still otherwise.
        assert found["moved_mm"]["noise"] > found["moved_mm"]["same"]


@pytest.mark.slow
def test_what_lasts_of_the_errors_is_less_than_all_of_them(done):
    scores = read_scores(done.folder("errors", 0))
    assert scores is not None
    found = scores["results"]
    lasting = list(found["lasting_mm"].values())
    assert lasting == sorted(lasting, reverse=True)
    assert lasting[0] > lasting[-1] > 0
    assert found["filtered_mm"]["0"] == lasting[0]
    # Gaps longer than the clips have no errors to compare.
    assert list(found["correlation"]) == [str(g) for g in (1, 2) if g < FRAMES["test"]]
    assert all(-1 <= c <= 1 for c in found["correlation"].values())


@pytest.mark.slow
def test_clips_are_measured(done):
    scores = read_scores(done.folder("clips", 0))
    assert scores is not None
    found = scores["results"]
    assert {len(values) for values in found.values()} == {COUNTS["test"]}
    assert all(0 < v < 100 for v in found["speed_px"])
    assert all(0 <= v <= 1 for v in found["hidden"])
    assert all(v == int(v) >= 0 for v in found["others"])


@pytest.mark.slow
def test_what_is_done_leaves_network_scores_and_losses(done):
    log = {"config.json", "losses.csv", "losses.png", BEGUN, NETWORK, SCORES}
    for name in ("bl", "of", "context"):
        assert {p.name for p in done.folder(name, 0).iterdir()} == log, name
    for name in ("fit", "quality", "errors", "clips"):
        assert {p.name for p in done.folder(name, 0).iterdir()} == {BEGUN, SCORES}
    assert {p.name for p in done.folder("loss", 0).iterdir()} == {BEGUN, SCORES, FIGURE}
    assert isinstance(done.network("of", 0), Hmr)
    assert isinstance(done.network("context", 0), ContextHmr)
    losses = (done.folder("of", 0) / "losses.csv").read_text().splitlines()
    assert len(losses) == 1 + LOOP.steps
    assert {"flow", "keypoints2d"} <= set(losses[0].split(","))
    command = json.loads((done.folder("of", 0) / "config.json").read_text())["command"]
    assert command["start"] == "bl"


@pytest.mark.slow
def test_a_second_call_does_nothing(done):
    before = {p: p.stat().st_mtime_ns for p in done.runs.rglob("*") if p.is_file()}
    assert perform(a_lab(done.runs.parent, "runs"), *RUNS) == []
    assert {p: p.stat().st_mtime_ns for p in done.runs.rglob("*") if p.is_file()} == before


@pytest.mark.slow
def test_a_run_that_is_killed_ends_where_it_would_have_ended(done, folder, monkeypatch):
    """Killed in the second step of refinement: the baseline stays, the refinement goes on."""
    lab, updates = a_lab(folder, "killed"), 0
    update = TrainState.update

    def counted(self, loss):
        nonlocal updates
        updates += 1
        if updates == 4:
            raise KeyboardInterrupt
        return update(self, loss)

    monkeypatch.setattr(TrainState, "update", counted)
    with pytest.raises(KeyboardInterrupt):
        perform(lab, "of")
    assert lab.finished("bl", 0)
    assert not lab.finished("of", 0)
    left = {p.name for p in lab.folder("of", 0).iterdir()}
    assert left == {BEGUN, "checkpoint.safetensors", "config.json", "losses.csv"}
    assert [line.split(",")[0] for line in perform(lab, "of")] == ["of"]
    assert updates == 5, "the first step was not done again"
    for name in ("bl", "of"):
        networks = [load_file(of.folder(name, 0) / NETWORK) for of in (lab, done)]
        assert networks[0].keys() == networks[1].keys()
        assert all(torch.equal(v, networks[1][k]) for k, v in networks[0].items()), name
    scores = [read_scores(of.folder("of", 0)) for of in (lab, done)]
    assert scores[0] is not None
    assert scores[1] is not None
    assert scores[0]["results"] == scores[1]["results"]


@pytest.mark.slow
def test_a_run_that_was_killed_before_it_was_scored_is_scored(done, folder, monkeypatch):
    lab = a_lab(folder, "unscored")
    with monkeypatch.context() as patch:
        patch.setattr(Lab, "score", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            perform(lab, "bl")
    trained = (lab.folder("bl", 0) / NETWORK).stat().st_mtime_ns
    assert not lab.finished("bl", 0)
    assert len(perform(lab, "bl")) == 1
    assert (lab.folder("bl", 0) / NETWORK).stat().st_mtime_ns == trained


@pytest.mark.slow
def test_missing_weights_are_named_before_anything_is_trained(folder):
    lab = a_lab(folder, "weights")
    task = replace(RUNS["bl"], weights="imagenet.safetensors")  # type: ignore
    with pytest.raises(ValueError, match=r"imagenet.safetensors: got no such file; expected .*; m"):
        lab.perform("bl", task, 0)
    assert not (lab.folder("bl", 0) / "config.json").exists()


@pytest.mark.slow
def test_a_network_with_context_is_not_given_another(done):
    task = replace(RUNS["context"], start="context")  # type: ignore
    with pytest.raises(ValueError, match=r"'context': got a network with temporal context to give"):
        done.perform("twice", task, 0)
    (done.folder("twice", 0) / BEGUN).unlink()
    done.folder("twice", 0).rmdir()
