"""RAFT in refinement: on the run's device, of the images that the workers send; else on the CPU."""

from dataclasses import replace

import pytest
import torch
from small_runs import BOTH, CPU, SIZE, network, same

from flowhmr.body import open_body
from flowhmr.data import FrameSource, PairConfig
from flowhmr.flow import FlowPair, RaftFlow
from flowhmr.losses import FlowLossConfig
from flowhmr.networks import load_hmr
from flowhmr.synth import ClipConfig, render_clip
from flowhmr.training import OptimiserConfig, RefineConfig, refine
from flowhmr.training.refine import FAR_PAIRS, Parts, finish, flow_on, flow_source, prepare
from flowhmr.training.video import with_flow
from untrained_raft import save_untrained_raft

GPU = torch.device("cuda")
NEIGHBOURS = PairConfig(gap=1, flow_px=128, frames=3)


@pytest.fixture(scope="module")
def video():
    return render_clip(ClipConfig(frames=4, size_px=96), 0, open_body())


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    file = tmp_path_factory.mktemp("raft") / "raft.pth"
    save_untrained_raft("small", file)
    return f"raft:small:{file}"


def test_flow_of_the_device_is_that_of_the_workers(video, weights, tmp_path):
    """The same pairs either way, as near as rounding leaves them."""
    config = RefineConfig(pairs=NEIGHBOURS, flow=weights, train=replace(BOTH, batch=0))
    kept = prepare(config, network(), [video], 0, tmp_path).pairs[0]
    parts = prepare(config, network(), [video], 0, tmp_path, device=GPU)
    sent = parts.pairs[0]
    assert sent.flow is None
    assert sent.flow_frames.shape == (2, 2, 2, 128, 128, 3)
    assert torch.equal(sent.frames, kept.frames)
    found = with_flow(sent, replace(parts.flow, device="cpu"))
    assert found.flow_frames is None
    assert isinstance(found.flow, FlowPair)
    assert found.flow.forward.shape == (2, 2, SIZE, SIZE, 2)
    # What is kept is rounded to 1/64 px of the fine window.
    for name in ("forward", "backward"):
        ours, theirs = getattr(found.flow, name), getattr(kept.flow, name)
        torch.testing.assert_close(ours, theirs, atol=0.02, rtol=0)
    same_masks = found.flow.forward_valid == kept.flow.forward_valid
    assert float(same_masks.float().mean()) > 0.98
    # What has its flow is left alone.
    assert with_flow(kept, parts.flow) is kept


def test_who_estimates(weights):
    assert flow_on(GPU, NEIGHBOURS, "raft") == RaftFlow(device=GPU)
    assert flow_on(GPU, NEIGHBOURS, "dis") is None
    assert flow_on(CPU, NEIGHBOURS, "raft") is None
    assert flow_on(None, NEIGHBOURS, "raft") is None
    # Pairs that flow itself decides about.
    assert flow_on(GPU, FAR_PAIRS, "raft") is None
    assert flow_on(GPU, PairConfig(gap=4, hop=1), "raft") is None
    assert flow_on(GPU, PairConfig(gap=4), "raft") is not None
    with pytest.raises(ValueError, match="for flow that is not known yet"):
        FrameSource(FAR_PAIRS)
    assert flow_source(NEIGHBOURS, weights, None, GPU).flow_between.args[0].device == GPU


def test_a_refinement_with_it_goes_on_where_it_was(video, weights, tmp_path):
    """The loop asks for the flow; killed and resumed, it ends with the same network."""
    # Untrained, RAFT's two directions do not agree, and flow is anything.
    rough = FlowLossConfig(consistent=False, max_flow=100.0)
    steady = OptimiserConfig(1e-3)
    loop = replace(BOTH, batch=0, steps=4, flow_loss=rough, optimiser=steady)
    config = RefineConfig(pairs=replace(NEIGHBOURS, frames=2), flow=weights, train=loop)

    def parts(steps: int) -> Parts:
        asked = replace(config, train=replace(loop, steps=steps))
        made = prepare(asked, network(), [video], 0, tmp_path, device=GPU)
        assert made.flow is not None
        return replace(made, flow=replace(made.flow, device="cpu", updates=2))

    body = open_body()
    finish(config, parts(2), body, tmp_path / "in_two", CPU, "refine")
    files = [
        finish(config, parts(4), body, tmp_path / name, CPU, "refine")
        for name in ("in_two", "at_once")
    ]
    networks = [load_hmr(file) for file in files]
    assert same(*networks)
    assert not same(networks[0], network())


def test_without_a_gpu_the_workers_do_it(video, weights, tmp_path):
    config = RefineConfig(
        pairs=NEIGHBOURS, flow=weights, train=replace(BOTH, batch=0, steps=1, workers=1)
    )
    refine(config, network(), open_body(), [video], tmp_path / "run", tmp_path, CPU)
    assert list((tmp_path / "flow").glob("*/*.flow"))
