"""``flowhmr train``: presets, and a tiny run from end to end."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from flowhmr.cli import train
from flowhmr.networks import HpofConfig, TcmrConfig, VibeConfig, load_temporal, read_card

TINY = (
    "config:tcmr-light", "--config.network.hidden", "8", "--config.network.frames", "6",
    "--config.video.splits", "studio", "--config.video.count", "2", "--config.features.occluded",
    "0", "--config.train.steps", "2", "--config.train.batch", "2", "--config.train.log-every", "1",
)  # fmt: skip


def test_scores_are_on_people_that_no_training_sees():
    assert train.HELD_OUT.splits == ("val",)
    for config in train.PRESETS.values():
        assert not {"val", "test"} & set(config.video.splits)


def test_presets_are_what_they_are_called():
    networks = {name: config.network for name, config in train.PRESETS.items()}
    assert networks["tcmr"] == TcmrConfig()
    assert networks["vibe"] == VibeConfig()
    assert networks["hpof"] == HpofConfig()
    for name, config in train.PRESETS.items():
        assert config.video.size == ("small" if name.endswith("light") else "full")


@pytest.mark.slow
def test_train_ends_with_a_network_losses_and_scores(flowhmr, network):
    command = ("train", "--run", "run", "--score", "2", *TINY, "--config.start", network)
    answer = flowhmr(*command)
    assert answer.status == 0, answer.err
    made = Path("run/network.safetensors")
    assert load_temporal(made).config == replace(
        train.PRESETS["tcmr-light"].network, hidden=8, frames=6
    )
    assert read_card(made)["notes"]["trained_by"] == "train"
    scores = json.loads(Path("run/scores.json").read_text())
    assert len(scores["per_clip"]) == 2
    assert math.isfinite(scores["mean"]["pa_mpjpe"])
    assert "frame by frame" in answer.out
    assert "PA-MPJPE" in answer.out
    # The same command again finds everything done.
    answer = flowhmr(*command)
    assert answer.status == 0, answer.err
    assert json.loads(Path("run/scores.json").read_text()) == scores
    answer = flowhmr(*command, "--config.train.weights.pose", "3")
    assert answer.status == 1
    assert "other weights; expected the same settings" in answer.err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("config:tcmr-light", "--config.network.frames", "56"), "got 56 frames of video of 31"),
        (("config:vibe", "--config.video.splits", "stills"), "expected some with video"),
        (("config:tcmr", "--config.network.frames", "2"), "expected at least 3"),
        (("config:hpof", "--config.network.blocks", "0"), "expected 1 or more"),
        (("config:tcmr-light", "--config.start", "none.safetensors"), "got no such file"),
    ],
)  # fmt: skip
def test_mistakes_are_found_before_anything_is_drawn(flowhmr, flags, message):
    answer = flowhmr("train", "--run", "run", *flags)
    assert answer.status in (1, 2)
    words = " ".join((answer.err + answer.out).replace("│", " ").split())
    assert message in words
    assert "Traceback" not in words
    assert not Path("cache").exists()
