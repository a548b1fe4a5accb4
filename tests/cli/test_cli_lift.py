"""``flowhmr lift`` from end to end: a tiny network on a few tracks."""

import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from flowhmr.cli import lift
from flowhmr.data import track_store
from flowhmr.networks import load_lift, read_card

SMALL = (
    "--config.data.count", "3", "--config.data.frames", "8", "--config.data.tracks.frames", "12",
    "--config.data.tracks.size-px", "48", "--config.network.width", "16",
    "--config.network.dilations", "1", "2", "--config.train.steps", "4", "--config.train.batch",
    "2", "--config.train.workers", "0", "--config.train.log-every", "1", "--score", "2",
)  # fmt: skip


class Here:
    """In the place of a pool of processes: works in this one."""

    def __init__(self, *_): ...

    def __enter__(self) -> "Here":
        return self

    def __exit__(self, *_) -> None: ...

    def map(self, job: Callable, items: list) -> map:
        return map(job, items)


@pytest.fixture(autouse=True)
def few_tracks(monkeypatch):
    """Two tracks a file, drawn in this process; short ones to score on."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(track_store, "CHUNK", 2)
    monkeypatch.setattr(track_store, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(lift, "HELD_OUT", replace(lift.HELD_OUT, frames=10, size_px=48))
    yield
    torch.set_num_threads(threads)


def test_scores_are_on_recordings_that_no_training_sees():
    assert lift.HELD_OUT.motion.split == "val"
    arguments = lift.Arguments(Path("run"))
    assert arguments.config.data.tracks.motion.split == "train"
    assert arguments.config.data.tracks.seed != lift.HELD_OUT.seed


@pytest.mark.slow
def test_lift_ends_with_a_network_losses_and_scores(flowhmr, clip, boxes):
    answer = flowhmr("lift", "--run", "run", *SMALL)
    assert answer.status == 0, answer.err
    made = Path("run/network.safetensors")
    assert {p.name for p in Path("run").iterdir()} == {
        "network.safetensors", "losses.csv", "losses.png", "config.json", "checkpoint.safetensors",
        "scores.json", "scores.md",
    }  # fmt: skip
    assert load_lift(made).config.dilations == (1, 2)
    assert read_card(made)["notes"]["trained_by"] == "lift"
    with Path("run/losses.csv").open() as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert all(math.isfinite(value) for row in rows for value in row.values())
    scores = json.loads(Path("run/scores.json").read_text())
    assert [clip["frames"] for clip in scores["per_clip"]] == [10, 10]
    assert 20 < scores["mean"]["pa_mpjpe"] < 400
    assert str(made) in answer.out
    assert "2 held-out tracks" in answer.out
    assert "PA-MPJPE" in answer.out

    # The same command again finds everything done.
    before = {k: v.clone() for k, v in load_lift(made).state_dict().items()}
    answer = flowhmr("lift", "--run", "run", *SMALL)
    assert answer.status == 0, answer.err
    assert "drawing tracks" not in answer.out
    assert all(torch.equal(v, before[k]) for k, v in load_lift(made).state_dict().items())
    assert json.loads(Path("run/scores.json").read_text()) == scores

    answer = flowhmr("lift", "--run", "run", *SMALL, "--config.train.weights.motion", "3")
    assert answer.status == 1
    assert "other weights; expected the same settings" in answer.err
    answer = flowhmr(
        "predict", clip, "--people.boxes", boxes, "--network", made, "--out", "results"
    )
    assert answer.status == 1
    assert "got a network of keypoint tracks; expected one of images" in answer.err
    assert "Traceback" not in answer.err

    answer = flowhmr("lift", "--run", "unscored", *SMALL, "--score", "0")
    assert answer.status == 0, answer.err
    assert not Path("unscored/scores.json").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--config.data.count", "0"), "tracks: got a count of 0; expected at least 1"),
        (("--device", "abacus"), "abacus"),
    ],
)
def test_lift_says_what_is_wrong(flowhmr, flags, message):
    answer = flowhmr("lift", "--run", "run", *SMALL, *flags)
    assert answer.status == 1
    assert message in answer.err
    assert "Traceback" not in answer.err
    assert not list(Path("cache").rglob("*.safetensors")), "no track was drawn"


def test_windows_longer_than_the_tracks_are_refused_before_anything_is_drawn(flowhmr):
    answer = flowhmr("lift", "--run", "run", *SMALL, "--config.data.frames", "13")
    assert answer.status == 2
    words = " ".join((answer.err + answer.out).replace("│", " ").split())
    assert "got 13 frames of tracks of 12" in words
    assert not Path("cache").exists()
    assert not Path("run").exists()
