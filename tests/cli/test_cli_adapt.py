"""``flowhmr adapt`` from end to end: untrained networks on a few frames of the shipped clip."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from flowhmr.body import open_body
from flowhmr.capture import load_motion
from flowhmr.cli import adapt as command
from flowhmr.data import read_boxes, write_boxes
from flowhmr.networks import Lift, LiftConfig, MeanParams, load_hmr, save_network
from flowhmr.synth import mean_rotmats

QUICK = (
    "--capture.fit.steps", "3", "--trust.keypoints-px", "1000", "--trust.flow-px", "1000",
    "--config.pool.count", "16", "--config.pool.backgrounds", "2", "--config.pool.chunk", "16",
    "--config.pool.stills.size-px", "64", "--config.pairs.flow-px", "64", "--config.flow",
    "dis:fast", "--config.train.batch", "4", "--config.train.pairs", "2",
    "--config.train.workers", "0", "--config.train.checkpoint-every", "1",
)  # fmt: skip


@pytest.fixture(scope="module")
def lift(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    mean = MeanParams(mean_rotmats(), torch.zeros(10), open_body().body_id)
    path = tmp_path_factory.mktemp("lift") / "lift.safetensors"
    save_network(path, Lift(LiftConfig(width=16, dilations=(1, 2)), mean), {})
    return path


@pytest.fixture(scope="module")
def two(boxes, tmp_path_factory) -> Path:
    """The person of the clip, and the same one again, who comes later."""
    (given,) = read_boxes(boxes)
    assert given.keypoints_px is not None
    late = replace(
        given, person=1, frame_indices=given.frame_indices[4:], boxes_px=given.boxes_px[4:],
        confidence=given.confidence[4:], keypoints_px=given.keypoints_px[4:],
    )  # fmt: skip
    path = tmp_path_factory.mktemp("two") / "people.json"
    write_boxes(path, [given, late])
    return path


@pytest.mark.slow
def test_from_video_to_a_network_and_on(flowhmr, clip, two, lift, network, monkeypatch):
    """Two people; then longer, with the bodies that were found the first time."""
    words = (
        "adapt", clip, "--run", "mine", "--network", network, "--lift", lift,
        "--capture.people.boxes", two, *QUICK,
    )  # fmt: skip
    answer = flowhmr(*words, "--config.train.steps", "2")
    assert answer.status == 0, answer.err
    assert "bodies that count as labels: 14 of 14" in answer.out
    assert {p.name for p in Path("mine").iterdir()} >= {
        "network.safetensors", "checkpoint.safetensors", "losses.csv", "config.json", "captured",
    }  # fmt: skip
    motion = Path("mine/captured/00-clip.npz")
    assert [len(p) for p in load_motion(motion).people] == [9, 5]
    first = load_hmr(Path("mine/network.safetensors")).state_dict()
    start = load_hmr(network).state_dict()
    assert any(not torch.equal(first[k], start[k]) for k in start)

    monkeypatch.setattr(command, "capture", None)
    answer = flowhmr(*words, "--config.train.steps", "3")
    assert answer.status == 0, answer.err
    lines = Path("mine/losses.csv").read_text().splitlines()
    assert lines[-1].startswith("3,")

    answer = flowhmr(*words, "--config.train.steps", "4", "--trust.seen", "0.6")
    assert answer.status == 1
    assert "bodies found with other trust, with which training has begun" in answer.err
    assert json.loads(motion.with_suffix(".json").read_text())["trust"]["seen"] == 0.7


@pytest.mark.slow
def test_what_goes_wrong_is_said(flowhmr, clip, two, lift, network):
    words = (
        "adapt", clip, "--run", "mine", "--network", network, "--lift", lift,
        "--capture.people.boxes", two, *QUICK,
    )  # fmt: skip
    answer = flowhmr(*words, "--trust.keypoints-px", "0.01")
    assert answer.status == 1
    assert "none of which can be trusted; expected some" in answer.err
    assert not Path("mine/checkpoint.safetensors").exists()
    # Nothing was learnt from those bodies: others may take their place.
    answer = flowhmr(*words, "--config.own", "2")
    assert answer.status != 0
    assert flowhmr("adapt", clip, clip, *words[2:]).status == 1
    answer = flowhmr("adapt", "nowhere.mp4", *words[2:])
    assert answer.status == 1
    assert "nowhere.mp4: got" in answer.err
    answer = flowhmr("adapt", *words[2:])
    assert answer.status == 1
    assert "got no video; expected one or more" in answer.err
