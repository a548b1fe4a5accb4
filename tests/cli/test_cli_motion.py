"""``flowhmr motion``: presets, and a tiny run from end to end."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from flowhmr.cli import motion
from flowhmr.data import MotionSetConfig
from flowhmr.networks import load_motion, read_card
from flowhmr.training import MotionTrainingConfig, light_training

TINY = (
    "config:light", "--config.network.hmr.backbone.name", "mobilenetv3_small_050",
    "--config.network.hmr.backbone.size-px", "32", "--config.network.lstm", "8",
    "--config.network.head", "8", "--config.network.hmr.hidden", "16", "--config.inputs.frames",
    "6", "--config.video.splits", "studio", "--config.video.count", "2", "--config.video.frames",
    "6", "--config.flow-px", "32", "--config.train.steps", "2", "--config.train.batch", "2",
    "--config.train.workers", "0", "--config.train.log-every", "1",
)  # fmt: skip


def test_scores_are_on_people_that_no_training_sees():
    assert motion.HELD_OUT.splits == ("test",)
    for config in (light_training(), MotionTrainingConfig()):
        assert "test" not in (*config.video.splits, *config.target.splits)


@pytest.mark.slow
def test_motion_ends_with_a_network_losses_and_scores(flowhmr, monkeypatch):
    monkeypatch.setattr(motion, "HELD_OUT", replace(motion.HELD_OUT, frames=8))
    answer = flowhmr("motion", "--run", "run", "--score", "2", *TINY)
    assert answer.status == 0, answer.err
    made = Path("run/network.safetensors")
    assert load_motion(made).config.lstm == 8
    assert read_card(made)["notes"]["trained_by"] == "motion"
    scores = json.loads(Path("run/scores.json").read_text())
    assert 0 < len(scores["per_clip"]) <= 2
    assert all(1 <= clip["frames"] <= 8 for clip in scores["per_clip"])
    assert math.isfinite(scores["mean"]["pa_mpjpe"])
    assert "means over people" in answer.out
    assert "PA-MPJPE" in answer.out
    # The same command again finds everything done.
    answer = flowhmr("motion", "--run", "run", "--score", "2", *TINY)
    assert answer.status == 0, answer.err
    assert json.loads(Path("run/scores.json").read_text()) == scores
    answer = flowhmr("motion", "--run", "run", *TINY, "--config.train.weights.pose", "3")
    assert answer.status == 1
    assert "other weights; expected the same settings" in answer.err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("config:light", "--config.inputs.frames", "56"), "got 56 frames of video of 31"),
        (("config:light", "--config.video.splits", "stills"), "expected some with video"),
        (("config:light", "--config.network.no-flow", "--config.network.no-keypoints"),
         "looks at nothing"),
    ],
)  # fmt: skip
def test_mistakes_are_found_before_anything_is_drawn(flowhmr, flags, message):
    answer = flowhmr("motion", "--run", "run", *flags)
    assert answer.status in (1, 2)
    words = " ".join((answer.err + answer.out).replace("│", " ").split())
    assert message in words
    assert "Traceback" not in words
    assert not Path("run").exists()


def test_held_out_clips_are_as_long_as_the_runs():
    assert MotionSetConfig(("test",)) == motion.HELD_OUT
