"""The runs and tables of Motion HMR: what differs between them, and that they can be run."""

import json
from dataclasses import replace

import pytest
import torch

from flowhmr.body import open_body
from flowhmr.data import MotionInputConfig, MotionSetConfig
from flowhmr.experiments import Lab, TrainMotion, markdown, perform_all
from flowhmr.experiments.lab import BEGUN, NETWORK, SCORES, differences, plain
from flowhmr.experiments.motion import RUNS, TABLES
from flowhmr.flow import flow_estimator
from flowhmr.networks import BackboneConfig, HmrConfig, MeanParams, MotionHmr, MotionHmrConfig
from flowhmr.synth import mean_rotmats
from flowhmr.training import CHECKPOINT, MotionLoopConfig, MotionTrainingConfig
from flowhmr.training.state import LoopState

FULL = RUNS["motion-flow-keypoints"]


def changed(name: str) -> set[str]:
    """Settings of a run that are not those of flow + keypoints."""
    return set(differences(RUNS[name], plain(FULL)))


def test_every_run_is_shown():
    assert {row.run for table in TABLES.values() for row in table.rows} == set(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_what_its_row_says_and_nothing_else(name):
    config = RUNS[name].config
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
    length = FULL.config.inputs.frames
    assert (
        changed(name)
        == {
            "no-occlusion": clean,
            "no-tracking": clean | {"config.video.follow_camera"},
            "static": clean | {"config.video.background"},
            "clip": {"frames", "config.video.frames", "config.target.frames"}
            | (
                set()
                if words[-1] == str(length)
                else {"config.inputs.frames", "config.train.batch"}
            ),
        }["clip" if words[0] == "clip" else "-".join(words)]
    )
    if words[0] == "clip":
        assert config.inputs.frames == int(words[1])
        as_many = FULL.config.train.batch * length
        assert abs(config.train.batch * config.inputs.frames - as_many) <= config.inputs.frames / 2


def test_every_network_can_be_built():
    body = open_body()
    mean = MeanParams(mean_rotmats(), torch.zeros(body.num_betas), body.body_id)
    for network in {task.config.network for task in RUNS.values()}:
        assert MotionHmr(network, mean).size_px == 64


@pytest.fixture
def few() -> TrainMotion:
    """One clip a split, a tiny network, two steps."""
    backbone = BackboneConfig("mobilenetv3_small_050", size_px=32)
    config = MotionTrainingConfig(
        network=MotionHmrConfig(HmrConfig(backbone, hidden=16), lstm=8, head=8),
        inputs=MotionInputConfig(frames=6),
        video=MotionSetConfig(("studio",), count=1, frames=6),
        flow_px=32,
        train=MotionLoopConfig(steps=2, batch=2, workers=0, checkpoint_every=1, log_every=1),
    )

    class Few(TrainMotion):
        def _prepare(self, lab, videos, detector=None):
            return super()._prepare(lab, replace(videos, count=1), detector)

    return Few(config, frames=7)


@pytest.mark.slow
def test_a_run_from_clips_to_a_table(tmp_path, few, monkeypatch):
    """Killed in the second step, it goes on from the first, and then is done."""
    lab, name = Lab(tmp_path / "runs", tmp_path / "cache", torch.device("cpu")), "motion-rgb"
    said, updates, update = [], 0, LoopState.update

    def counted(self, loss):
        nonlocal updates
        updates += 1
        if updates == 2:
            raise KeyboardInterrupt
        return update(self, loss)

    monkeypatch.setattr(LoopState, "update", counted)
    with pytest.raises(KeyboardInterrupt):
        perform_all(lab, [name], [0], {name: few}, said.append)
    folder = lab.folder(name, 0)
    left = {p.name for p in folder.iterdir()}
    assert left == {BEGUN, CHECKPOINT, "config.json", "losses.csv"}
    other = replace(few, config=replace(few.config, flow_px=64))
    with pytest.raises(ValueError, match=r"a run begun with other config.flow_px; expected"):
        perform_all(lab, [name], [0], {name: other}, said.append)

    perform_all(lab, [name], [0], {name: few}, said.append)
    assert [line.split(":")[0] for line in said] == [f"{name}, seed 0"]
    assert updates == 3, "the first step was not done again"
    assert {p.name for p in folder.iterdir()} == (left - {CHECKPOINT}) | {
        NETWORK, SCORES, "losses.png",
    }  # fmt: skip
    found = json.loads((folder / SCORES).read_text())
    scores = found["results"]["test"]
    assert 20 < scores["metrics"]["pa_mpjpe"] < 500
    assert scores["per_clip"]["pa_mpjpe"] == [scores["metrics"]["pa_mpjpe"]]
    perform_all(lab, [name], [0], {name: few}, said.append)
    assert len(said) == 1, "what is done is not done again"
    text = markdown(TABLES["motion-inputs"], lab, "command")
    assert f"{scores['metrics']['pa_mpjpe']:.1f} (1 seed)" in text
