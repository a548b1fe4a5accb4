"""``flowhmr flownet`` from end to end: a few steps on a few pairs."""

from functools import partial
from pathlib import Path

import pytest

from flowhmr.cli import flownet
from flowhmr.flow import flow_estimator
from flowhmr.synth import flow_clips
from flowhmr.training import flow_network, held_out_pairs

SMALL = (
    "--config.data.count", "1", "--config.data.clips.frames", "2", "--config.data.clips.reach", "2",
    "--config.train.steps", "2", "--config.train.batch", "1", "--config.train.updates", "1",
    "--config.train.workers", "0", "--config.train.log-every", "1", "--device", "cpu",
    "--workers", "1", "--cache", "cache",
)  # fmt: skip


@pytest.fixture(autouse=True)
def few_clips(monkeypatch):
    """A clip a file, and one to score on."""
    monkeypatch.setattr(flow_clips, "CHUNK", 1)
    for module in (flownet, flow_network):
        monkeypatch.setattr(module, "held_out_pairs", partial(held_out_pairs, count=1))


@pytest.mark.slow
def test_flownet_ends_with_a_network_losses_and_scores(flowhmr):
    answer = flowhmr("flownet", "--run", "run", *SMALL)
    assert answer.status == 0, answer.err
    network = Path("run/network.safetensors")
    for said in ("SynthMotion val", "| dis |", "| dis:medium |", f"raft:small:{network}"):
        assert said in answer.out
    assert "test" not in answer.out.split("SynthMotion")[1]
    assert {p.name for p in Path("run").iterdir()} == {
        "config.json", "losses.csv", "losses.png", "scores.csv", "checkpoint.safetensors",
        network.name,
    }  # fmt: skip
    assert "weights=" in flow_estimator(f"raft:small:{network}").identity()
    again = flowhmr("flownet", "--run", "run", *SMALL, "--test")
    assert again.status == 0, again.err
    assert "SynthMotion test" in again.out


def test_a_folder_that_cannot_be_made_is_said_before_clips_are_drawn(flowhmr, tmp_path):
    (tmp_path / "file").write_text("")
    answer = flowhmr("flownet", "--run", str(tmp_path / "file" / "run"), *SMALL)
    assert answer.status == 1
    assert "expected a folder that exists or can be made" in answer.err
    assert not Path("cache").exists()
