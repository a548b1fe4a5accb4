"""Part attention in training: its weights learn, in the loop and on a batch that stays."""

from dataclasses import replace

import pytest
import torch
from small_runs import BOTH, CPU, flow_of, same

from flowhmr.body import open_body
from flowhmr.data import AugmentConfig, PairBatches, PairConfig, StillBatches
from flowhmr.geometry import map_tensors
from flowhmr.losses import PredictedMaps, SupervisedWeights, supervised_terms, weigh
from flowhmr.networks import (
    BackboneConfig,
    Hmr,
    HmrConfig,
    MeanParams,
    MotionHmrConfig,
    PartsConfig,
    load_network,
    save_network,
)
from flowhmr.synth import mean_rotmats
from flowhmr.training import Run, train

SIZE = 64
PARTS = HmrConfig(
    BackboneConfig("mobilenetv3_small_050", size_px=SIZE, pooling="joined"),
    parts=PartsConfig(layers=2, filters=16, thinned=8),
)


def network():
    torch.manual_seed(0)
    return Hmr(PARTS, MeanParams(mean_rotmats(), torch.zeros(10), open_body().body_id))


def stills_of(pool):
    return StillBatches(pool, SIZE, BOTH.batch, AugmentConfig(), BOTH.seed, BOTH.steps)


def test_untrained_it_says_the_mean_pose():
    said = network().eval()(torch.rand(2, 3, SIZE, SIZE)).estimate.params
    torch.testing.assert_close(said.rotmats[0], mean_rotmats(), atol=0.05, rtol=0)


def test_one_of_maps_and_parts():
    with pytest.raises(ValueError, match="got dense maps and part attention"):
        replace(PARTS, maps=True)
    with pytest.raises(ValueError, match="got an HMR with part attention"):
        MotionHmrConfig(PARTS)


def test_maps_that_cannot_be_joined():
    backbone = replace(PARTS.backbone, size_px=48)
    mean = MeanParams(mean_rotmats(), torch.zeros(10), open_body().body_id)
    with pytest.raises(ValueError, match="got crops of 48 px; expected a multiple of 32"):
        Hmr(replace(PARTS, backbone=backbone), mean)


def test_a_refinement_changes_it(pool, video, tmp_path):
    before, source = network(), flow_of(PairConfig(flow_px=64))
    pairs = PairBatches(video, SIZE, BOTH.pairs, BOTH.seed, BOTH.steps, source)
    run = Run(tmp_path, BOTH, {})
    after = train(BOTH, network(), open_body(), stills_of(pool), pairs, run, CPU)
    moved = {
        name: not torch.equal(value, after.state_dict()[name])
        for name, value in before.named_parameters()
    }
    for part in ("backbone.grow", "parts.where", "parts.maps", "parts.what", "parts.thin",
                 "regressor.pose", "regressor.shape", "regressor.camera"):  # fmt: skip
        assert any(v for n, v in moved.items() if n.startswith(part)), part
    assert isinstance(after, Hmr)
    save_network(tmp_path / "n.safetensors", after, {})
    assert same(load_network(tmp_path / "n.safetensors"), after)


def test_the_loss_falls_on_a_batch_that_stays(pool):
    clip, body, learner = stills_of(pool)[0], open_body(), network().train()
    assert clip.labels is not None
    labels = map_tensors(clip.labels, lambda t: t[:, 0])
    optimiser = torch.optim.Adam(learner.parameters(), 1e-3)
    losses = []
    for _ in range(30):
        output = learner(clip.frames[:, 0])
        joints_m = body.joints(output.estimate.params)
        maps = PredictedMaps(output.heatmap_logits, output.surface)
        terms = supervised_terms(output.estimate, joints_m, maps, labels, SIZE)
        total = weigh(terms, SupervisedWeights()).total
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        losses.append(float(total.detach()))
    assert losses[-1] < 0.5 * losses[0], losses
