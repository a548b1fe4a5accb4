"""The runs and tables of Motion HMR: what differs between them, and that they can be run."""

import json
import re
from dataclasses import replace

import pytest
import torch

from flowhmr.body import open_body
from flowhmr.data import MotionInputConfig, MotionSetConfig
from flowhmr.experiments import (
    MOTION_RUNS,
    MOTION_TABLES,
    RUNS,
    TABLES,
    Lab,
    TrainMotion,
    in_order,
    markdown,
)
from flowhmr.experiments.lab import differences, plain
from flowhmr.experiments.tables import SHOWN
from flowhmr.flow import flow_estimator
from flowhmr.networks import BackboneConfig, HmrConfig, MeanParams, MotionHmr, MotionHmrConfig
from flowhmr.synth import mean_rotmats
from flowhmr.training import MotionLoopConfig, MotionTrainingConfig

FULL = MOTION_RUNS["motion-flow-keypoints"]


def changed(name: str) -> set[str]:
    """Settings of a run that are not those of flow + keypoints."""
    return set(differences(MOTION_RUNS[name], plain(FULL)))


def test_every_run_is_named_and_shown_once():
    shown = [row.run for table in MOTION_TABLES.values() for row in table.rows]
    assert set(shown) == set(MOTION_RUNS)
    assert {run for table in MOTION_TABLES.values() for run in table.runs} == set(shown)
    assert not set(MOTION_RUNS) & set(RUNS)
    assert not set(MOTION_TABLES) & {*TABLES, *MOTION_RUNS}
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name) for name in MOTION_RUNS)
    assert len(set(MOTION_RUNS.values())) == len(MOTION_RUNS)
    assert in_order(MOTION_RUNS, MOTION_RUNS) == list(MOTION_RUNS)
    for name, table in MOTION_TABLES.items():
        assert table.name == name
        assert set(table.metrics) <= set(SHOWN)


@pytest.mark.parametrize("name", MOTION_RUNS)
def test_a_run_is_what_its_row_says_and_nothing_else(name):
    config = MOTION_RUNS[name].config
    assert "test" not in (*config.video.splits, *config.target.splits)
    assert flow_estimator(config.flow) is not None
    config.video.specs()
    looks = {part: getattr(config.network, part) for part in ("rgb", "flow", "keypoints")}
    words = name.removeprefix("motion-").split("-")
    if words[0] in looks:
        assert looks == {part: part in words for part in looks}
        parts = {f"config.network.{part}" for part in looks}
        dann = {"config.train.dann.adversary"} if "dann" in words else set()
        assert changed(name) <= parts | dann
        assert bool(config.train.dann.adversary) == ("dann" in words)
        return
    assert looks == {"rgb": False, "flow": True, "keypoints": True}
    clean = {"config.video.occlusion", "config.inputs.lost"}
    assert (
        changed(name)
        == {
            "no-occlusion": clean,
            "no-tracking": clean | {"config.video.follow_camera"},
            "static": clean | {"config.video.background"},
            "clip": {"frames", "config.video.frames", "config.target.frames"}
            | ({"config.inputs.frames", "config.train.batch"} if words[-1] != "31" else set()),
        }["clip" if words[0] == "clip" else "-".join(words)]
    )
    if words[0] == "clip":
        assert config.inputs.frames == int(words[1])
        assert abs(config.train.batch * config.inputs.frames - 8 * 31) <= config.inputs.frames / 2


def test_every_network_can_be_built():
    body = open_body()
    mean = MeanParams(mean_rotmats(), torch.zeros(body.num_betas), body.body_id)
    for network in {task.config.network for task in MOTION_RUNS.values()}:
        assert MotionHmr(network, mean).size_px == 64


@pytest.mark.slow
def test_a_run_from_clips_to_a_table(tmp_path):
    backbone = BackboneConfig("mobilenetv3_small_050", size_px=32)
    config = MotionTrainingConfig(
        network=MotionHmrConfig(HmrConfig(backbone, hidden=16), lstm=8, head=8),
        inputs=MotionInputConfig(frames=6),
        video=MotionSetConfig(("studio",), count=1, frames=6),
        flow_px=32,
        train=MotionLoopConfig(steps=1, batch=2, workers=0),
    )

    class Few(TrainMotion):
        def _prepare(self, lab, videos, detector=None):
            return super()._prepare(lab, replace(videos, count=1), detector)

    lab, name = Lab(tmp_path / "runs", tmp_path / "cache", torch.device("cpu")), "motion-rgb"
    found = lab.perform(name, Few(config, frames=7), 0)
    scores = found["results"]["test"]
    assert 20 < scores["metrics"]["pa_mpjpe"] < 500
    assert scores["per_clip"]["pa_mpjpe"] == [scores["metrics"]["pa_mpjpe"]]
    assert json.loads((lab.folder(name, 0) / "scores.json").read_text()) == found
    text = markdown(MOTION_TABLES["motion-inputs"], lab, "command")
    assert f"{scores['metrics']['pa_mpjpe']:.1f} (1 seed)" in text
