"""HPOF: what each body is told of, the two ways to compute it, one shape, the held regressor."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv1d
from torch.testing import assert_close

from flowhmr.geometry import map_tensors, rotmat_from_axis_angle
from flowhmr.networks import (
    BackboneConfig,
    FramewiseConfig,
    Hmr,
    HmrConfig,
    Hpof,
    HpofConfig,
    MeanParams,
    TemporalHmr,
    load_temporal,
    save_network,
)
from flowhmr.networks import hpof as module
from flowhmr.records import Estimate

SMALL = HpofConfig(frames=4, blocks=1, width=16, heads=4)
KINDS = (
    SMALL,
    replace(SMALL, blocks=2),
    replace(SMALL, pooled=False),
    replace(SMALL, smoother="gru", residual=False),
    replace(SMALL, smoother="gru", layers=3),
    replace(SMALL, smoother="transformer"),
    replace(SMALL, smoother="transformer", layers=3, pooled=False, residual=False),
)


@pytest.fixture(scope="module")
def hmr() -> Hmr:
    torch.manual_seed(0)
    mean = MeanParams(rotmat_from_axis_angle(torch.randn(24, 3)), torch.randn(10), "body:x")
    backbone = BackboneConfig("mobilenetv3_small_050", size_px=32)
    network = Hmr(HmrConfig(backbone, hidden=16, maps=True), mean)
    with torch.no_grad():
        for head in (network.regressor.pose, network.regressor.shape, network.regressor.camera):
            head.weight.mul_(30)
    return network.eval()


def built(config: HpofConfig, hmr: Hmr) -> Hpof:
    """With a last layer that is felt, norms that have seen something, and bias by distance."""
    torch.manual_seed(1)
    network = config.build(hmr)
    with torch.no_grad():
        network.readout.weight.normal_(std=0.2)
        for name, tensor in network.encoder.state_dict().items():
            if "running_mean" in name or "nearness" in name:
                tensor.normal_()
            if "running_var" in name:
                tensor.uniform_(0.5, 2)
    return network.eval()


def clip(hmr: Hmr, *shape: int, seed: int = 2) -> Tensor:
    made = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, hmr.feature_size, generator=made)


def same(a: Estimate, b: Estimate) -> None:
    for one, other in (
        (a.params.rotmats, b.params.rotmats),
        (a.params.betas, b.params.betas),
        (a.camera.params, b.camera.params),
    ):
        assert_close(one, other, atol=2e-5, rtol=0)


def test_defaults_are_the_papers():
    config = HpofConfig()
    assert (config.blocks, config.width, config.heads, config.layers) == (3, 1024, 8, 2)
    assert [replace(config, blocks=n).window for n in (1, 2, 3)] == [9, 27, 81]


@pytest.mark.parametrize("config", KINDS, ids=str)
def test_every_weight_learns_but_the_regressors(hmr, config):
    network = built(config, hmr).train()
    assert (network.frames, network.beyond) == (config.window + 3, (config.window - 1, 0))
    output = network(clip(hmr, 3, network.frames))
    assert output.frames == tuple(range(config.window - 1, network.frames))
    params, camera = output.estimate.params, output.estimate.camera.params
    assert params.rotmats.shape == (3, 4, 24, 3, 3)
    assert params.betas.shape == (3, 4, 10)
    assert params.body_id == "body:x"
    (params.rotmats.square()[..., 0].sum() + params.betas.sum() + camera.sum()).backward()
    held = {id(p) for p in network.held()}
    for name, parameter in network.named_parameters():
        if name.startswith("head."):
            assert id(parameter) in held
            assert parameter.grad is None
            continue
        assert id(parameter) not in held
        assert parameter.grad is not None, name
        assert bool((parameter.grad != 0).any()), name
    assert not any(m.training for m in network.head.modules()), "no dropout in what is held"


@pytest.mark.parametrize("total", [1, 5, 23])
@pytest.mark.parametrize("config", KINDS, ids=str)
def test_frame_by_frame_it_says_what_it_says_of_the_whole(hmr, config, total):
    network, features = built(config, hmr), clip(hmr, total)
    with torch.no_grad():
        batch = network.sequence(features)
        assert batch.params.rotmats.shape == (total, 24, 3, 3)
        found = list(network.follow(iter(features)))
        assert len(found) == total
        for frame, body in enumerate(found):
            same(body, map_tensors(batch, lambda t, frame=frame: t[frame]))
        # And so do the clips that it is trained on: they begin with the first frame repeated.
        rows = torch.arange(1 - config.window, total).clamp(min=0)
        same(map_tensors(network(features[rows][None]).estimate, lambda t: t[0]), batch)
    assert list(network.follow(iter(()))) == []


@pytest.mark.parametrize("config", KINDS, ids=str)
def test_no_frame_sees_a_later_one_and_all_see_the_one_before(hmr, config):
    network, features = built(config, hmr), clip(hmr, 12)
    changed = features.clone()
    changed[6] += 1
    with torch.no_grad():
        one, other = network.sequence(features), network.sequence(changed)
    apart = (one.params.rotmats - other.params.rotmats).abs().amax((1, 2, 3))
    assert float(apart[:6].max()) < 1e-5
    assert float(apart[6:9].min()) > 1e-5
    come = []

    def coming():
        for feature in features:
            come.append(0)
            yield feature

    assert [len(come) for _ in network.follow(coming())] == list(range(1, 13))


@pytest.mark.parametrize("smoother", ["convolution", "transformer"])
def test_it_forgets_what_has_left_the_window(hmr, smoother):
    """B_p looks at nine frames, each with the mean shape of nine."""
    network, features = built(replace(SMALL, smoother=smoother), hmr), clip(hmr, 30)
    changed = features.clone()
    changed[10] += 1
    with torch.no_grad():
        one, other = network.sequence(features), network.sequence(changed)
    pose = (one.params.rotmats - other.params.rotmats).abs().amax((1, 2, 3))
    shape = (one.params.betas - other.params.betas).abs().amax(1)
    assert torch.nonzero(shape > 1e-6).flatten().tolist() == list(range(10, 19))
    felt = torch.nonzero(pose > 1e-5).flatten()
    assert int(felt.min()) == 10
    assert 18 <= int(felt.max()) <= 26


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_the_convolutions_are_dilated_convolutions(blocks):
    """Against torch's own, in both forms: many bodies, and one alone."""
    torch.manual_seed(0)
    config = HpofConfig(blocks=blocks, width=6)
    encoder = module._Convolutions(5, config).eval()
    numbers = torch.randn(2, config.window + 2, 5)

    def layer(x: Tensor, of: module._Layer, dilation: int, taps: int) -> Tensor:
        kernel = of.linear.weight.unflatten(1, (taps, -1)).transpose(1, 2)
        return of.norm(conv1d(x, kernel, dilation=dilation)).relu()

    x = layer(numbers.transpose(1, 2), encoder.first, 1, 3)
    for power in range(1, blocks + 1):
        near, mix = encoder.near[power - 1], encoder.mix[power - 1]
        assert isinstance(near, module._Layer)
        assert isinstance(mix, module._Layer)
        y = layer(layer(x, near, 3**power, 3), mix, 1, 1)
        x = x[..., 2 * 3**power :] + y
    expected = x.transpose(1, 2)
    assert_close(encoder(numbers), expected, atol=1e-5, rtol=0)
    for frame in range(3):
        alone = encoder(numbers[:, frame : frame + config.window])
        assert_close(alone[:, 0], expected[:, frame], atol=1e-5, rtol=0)


def test_long_video_is_seen_in_parts(hmr, monkeypatch):
    network, features = built(replace(SMALL, smoother="transformer"), hmr), clip(hmr, 20)
    with torch.no_grad():
        whole = network.sequence(features)
        monkeypatch.setattr(module, "PART", 6)
        same(network.sequence(features), whole)


def test_one_shape_is_the_mean_of_the_windows(hmr):
    features = clip(hmr, 20)
    with torch.no_grad():
        alone = FramewiseConfig().build(hmr).eval().sequence(features).params.betas
        betas = built(SMALL, hmr).sequence(features).params.betas
        each = built(replace(SMALL, pooled=False), hmr).sequence(features).params.betas
    assert_close(betas[0], alone[0])
    assert_close(betas[4], (5 * alone[0] + alone[1:5].sum(0)) / 9)
    assert_close(betas[15], alone[7:16].mean(0))
    assert float((each - alone).abs().max()) > 0.1, "without B_s, B_p says the shape"


def test_with_the_residual_it_begins_as_the_single_frame_network(hmr):
    features = clip(hmr, 6)
    alone = FramewiseConfig().build(hmr).eval().sequence(features)
    for residual, near in ((True, True), (False, False)):
        network = replace(SMALL, residual=residual).build(hmr).eval()
        with torch.no_grad():
            network.readout.weight.zero_()
            found = network.sequence(features)
        apart = (found.params.rotmats - alone.params.rotmats).abs().max()
        assert bool(apart < 1e-5) == near


@pytest.mark.parametrize("config", KINDS, ids=str)
def test_the_file_holds_it(hmr, config, tmp_path):
    both = TemporalHmr(hmr, config).eval()
    path = tmp_path / "net.safetensors"
    save_network(path, both, {})
    read = load_temporal(path)
    assert read.config == config
    features = clip(hmr, 5)
    with torch.no_grad():
        same(read.temporal.sequence(features), both.temporal.sequence(features))


def test_what_cannot_be_built_is_refused(hmr):
    with pytest.raises(ValueError, match="blocks: got 0; expected 1 or more"):
        HpofConfig(blocks=0)
    with pytest.raises(ValueError, match="width of 20 for 8 heads; expected a multiple"):
        HpofConfig(smoother="transformer", width=20)
    with pytest.raises(ValueError, match=r"clips of 8 frames; .* use sequence\(\)"):
        built(SMALL, hmr)(clip(hmr, 1, 8))
