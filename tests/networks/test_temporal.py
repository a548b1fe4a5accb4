"""Networks over features: what each frame is told, what is supervised, windows, files."""

import json
import math
import struct
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from flowhmr.geometry import map_tensors, rotmat_from_axis_angle
from flowhmr.networks import (
    BackboneConfig,
    ContextFeaturesConfig,
    Framewise,
    FramewiseConfig,
    Hmr,
    HmrConfig,
    MeanParams,
    NetworkFileError,
    Tcmr,
    TcmrConfig,
    TemporalConfig,
    TemporalHmr,
    TemporalNetwork,
    Vibe,
    VibeConfig,
    average_filter,
    load_estimator,
    load_network,
    load_temporal,
    one_euro_filter,
    read_card,
    save_network,
    windows_around,
)
from flowhmr.records import Estimate

TINY = HmrConfig(BackboneConfig("mobilenetv3_small_050", size_px=32), hidden=16, maps=True)
SMALL = TcmrConfig(frames=8, hidden=12)
CONFIGS = (
    SMALL,
    replace(SMALL, residual=True, forecast=False),
    replace(SMALL, sees_current=True, supervised="own"),
    replace(SMALL, frames=7, layers=1, supervised="none"),
    VibeConfig(8, 12),
    VibeConfig(8, 12, direction="forward", residual=False),
    ContextFeaturesConfig(8, 3),
    FramewiseConfig(8),
)


@pytest.fixture(scope="module")
def hmr() -> Hmr:
    torch.manual_seed(0)
    mean = MeanParams(rotmat_from_axis_angle(torch.randn(24, 3)), torch.randn(10), "body:x")
    network = Hmr(TINY, mean)
    with torch.no_grad():
        for head in (network.regressor.pose, network.regressor.shape, network.regressor.camera):
            head.weight.mul_(30)
    return network.eval()


def built(config: TemporalConfig, hmr: Hmr) -> TemporalNetwork:
    torch.manual_seed(1)
    return config.build(hmr).eval()


def clip(hmr: Hmr, *shape: int, seed: int = 2) -> Tensor:
    made = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, hmr.feature_size, generator=made)


def felt(network: TemporalNetwork, features: Tensor, output: int) -> list[bool]:
    """Which frames' features the network's output number ``output`` depends on."""
    features = features.clone().requires_grad_()
    found = network(features[None]).estimate
    found.params.rotmats[:, output].square()[..., 0].sum().backward()
    assert features.grad is not None
    return (features.grad != 0).any(-1).tolist()


def same(a: Estimate, b: Estimate) -> None:
    assert_close(a.params.rotmats, b.params.rotmats, atol=1e-5, rtol=0)
    assert_close(a.params.betas, b.params.betas, atol=1e-5, rtol=0)
    assert_close(a.camera.params, b.camera.params, atol=1e-5, rtol=0)


def test_static_features_are_what_the_regressor_is_told(hmr):
    frames = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    features = hmr.features(frames)
    assert features.shape == (3, hmr.feature_size)
    assert hmr.feature_size > hmr.backbone.out_features, "the maps are read too"
    alone = built(FramewiseConfig(), hmr).sequence(features)
    same(alone, hmr(frames).estimate)
    without = Hmr(replace(TINY, maps=False), MeanParams(torch.eye(3).expand(24, 3, 3),
                                                        torch.zeros(10), "body:x"))  # fmt: skip
    assert without.feature_size == without.backbone.out_features
    assert without.eval().features(frames).shape == (3, without.feature_size)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_each_gives_bodies_and_every_weight_learns(hmr, config):
    network = config.build(hmr).train()
    output = network(clip(hmr, 2, config.frames))
    count = len(output.frames)
    assert output.estimate.params.rotmats.shape == (2, count, 24, 3, 3)
    assert output.estimate.params.betas.shape == (2, count, 10)
    assert output.estimate.params.body_id == "body:x"
    assert all(0 <= frame < config.frames for frame in output.frames)
    params, camera = output.estimate.params, output.estimate.camera.params
    loss = params.rotmats.square()[..., 0].sum() + params.betas.sum() + camera.sum()
    loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        assert bool((parameter.grad != 0).any()), name
    assert all(p.grad is None for p in hmr.parameters()), "the regressor is a copy"


def test_supervised_bodies_are_those_that_the_config_names(hmr):
    said = {
        "current": (4, 4, 4),
        "own": (4, 3, 5),
        "none": (4,),
    }
    for supervised, frames in said.items():
        network = built(replace(SMALL, supervised=supervised), hmr)
        assert network(clip(hmr, 1, 8)).frames == frames
    assert built(replace(SMALL, forecast=False), hmr)(clip(hmr, 1, 8)).frames == (4,)
    assert built(VibeConfig(8, 12), hmr)(clip(hmr, 1, 8)).frames == tuple(range(8))


def test_pose_forecast_sees_its_own_side_only(hmr):
    features = clip(hmr, 8)
    network = built(SMALL, hmr)
    before, current, after = [True] * 4, [False], [False] * 3
    assert felt(network, features, 1) == before + current + after
    assert felt(network, features, 2) == [False] * 4 + current + [True] * 3
    assert felt(network, features, 0) == [True] * 8
    seeing = built(replace(SMALL, sees_current=True), hmr)
    assert felt(seeing, features, 1) == [True] * 5 + [False] * 3
    assert felt(seeing, features, 2) == [False] * 4 + [True] * 4


def test_the_future_is_read_as_the_past_is_from_the_far_end(hmr):
    """With the same weights on both sides, a clip run backwards swaps them."""
    network = built(replace(SMALL, frames=7), hmr)
    assert isinstance(network, Tcmr)
    network.future.load_state_dict(network.past.state_dict())
    network.widen_future.load_state_dict(network.widen_past.state_dict())
    features = clip(hmr, 2, 7)
    _, past, future = network.encode(features)
    _, past_of_reversed, future_of_reversed = network.encode(features.flip(1))
    assert_close(past, future_of_reversed)
    assert_close(future, past_of_reversed)


def test_the_current_frame_is_number_eight_of_sixteen():
    assert TcmrConfig().current == 8
    assert windows_around(40, 8, 7)[20].tolist() == list(range(12, 28))


def test_forward_vibe_looks_at_no_later_frame(hmr):
    features = clip(hmr, 6)
    forward = built(VibeConfig(6, 12, direction="forward"), hmr)
    assert felt(forward, features, 2) == [True] * 3 + [False] * 3
    assert felt(built(VibeConfig(6, 12), hmr), features, 2) == [True] * 6
    whole = forward.sequence(features)
    same(forward.sequence(features[:4]), map_tensors(whole, lambda t: t[:4]))


def test_the_residual_adds_the_current_static_feature(hmr):
    config = replace(SMALL, forecast=False)
    plain, residual = built(config, hmr), built(replace(config, residual=True), hmr)
    assert isinstance(plain, Tcmr)
    assert isinstance(residual, Tcmr)
    features = clip(hmr, 2, 8)
    apart = residual.encode(features)[0] - plain.encode(features)[0]
    assert_close(apart, features[:, 4], atol=1e-5, rtol=0)


def test_attention_weights_mix_the_three_features(hmr):
    network = built(SMALL, hmr)
    assert isinstance(network, Tcmr)
    each = clip(hmr, 5, 3)
    weights = network.attention(each)
    assert_close(weights.sum(1), torch.ones(5))
    assert float((weights.amax(1) / weights.amin(1)).detach().max()) <= torch.e**2 + 1e-4
    integrated, past, future = network.encode(clip(hmr, 1, 8))
    assert past is not None
    assert future is not None
    around = network.widen_all(network.all(clip(hmr, 1, 8))[0][:, 4].relu())
    three = torch.stack([around, past, future], 1)
    assert_close(integrated, (network.attention(three)[..., None] * three).sum(1))


@pytest.mark.parametrize("total", [1, 3, 7, 8, 21])
@pytest.mark.parametrize("config", [SMALL, replace(SMALL, frames=7, forecast=False)], ids=str)
def test_a_sliding_window_says_what_the_batch_says(hmr, config, total):
    network, features = built(config, hmr), clip(hmr, total)
    batch = network.sequence(features)
    assert batch.params.rotmats.shape == (total, 24, 3, 3)
    assert isinstance(network, Tcmr)
    one_by_one = list(network.follow(iter(features)))
    assert len(one_by_one) == total
    for frame, found in enumerate(one_by_one):
        same(found, map_tensors(batch, lambda t, frame=frame: t[frame]))
    before, after = network.beyond
    for frame in range(total):
        rows = [min(max(frame + k, 0), total - 1) for k in range(-before, after + 1)]
        alone = network(features[rows][None]).estimate
        same(map_tensors(alone, lambda t: t[0, 0]), one_by_one[frame])


def test_a_body_is_said_as_soon_as_its_window_is_there(hmr):
    network = built(SMALL, hmr)
    assert isinstance(network, Tcmr)
    come = 0

    def coming():
        nonlocal come
        for feature in clip(hmr, 12):
            come += 1
            yield feature

    when = [come for _ in network.follow(coming())]
    assert when == [4, 5, 6, 7, 8, 9, 10, 11, 12, 12, 12, 12]
    assert list(network.follow(iter(()))) == []


def test_clips_of_another_length_are_refused(hmr):
    with pytest.raises(ValueError, match=r"clips of 7 frames; expected 8; use sequence"):
        built(SMALL, hmr)(clip(hmr, 1, 7))
    with pytest.raises(ValueError, match="clips of 2 frames; expected at least 3"):
        TcmrConfig(frames=2)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_the_file_holds_both_networks(hmr, config, tmp_path):
    torch.manual_seed(3)
    both = TemporalHmr(hmr, config).eval()
    path = tmp_path / "net.safetensors"
    save_network(path, both, {"why": "test"})
    read = load_temporal(path)
    assert (read.config, read.hmr.config) == (config, hmr.config)
    assert read_card(path)["temporal"]["kind"] == type(config).__name__
    assert (read.size_px, read.num_betas, read.body_id) == (32, 10, "body:x")
    frames = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    same(read.sequence(frames, batch=2), both.sequence(frames))
    same(both.sequence(frames), both.temporal.sequence(hmr.features(frames)))
    assert isinstance(load_estimator(path), TemporalHmr)
    with pytest.raises(ValueError, match="got no frames"):
        both.sequence(frames[:0])


def test_other_networks_files_are_refused(hmr, tmp_path):
    path = tmp_path / "net.safetensors"
    save_network(path, hmr, {})
    with pytest.raises(NetworkFileError, match=r"another kind .* train one with `flowhmr train`"):
        load_temporal(path)
    save_network(path, TemporalHmr(hmr, SMALL), {})
    with pytest.raises(NetworkFileError, match="read it with load_temporal"):
        load_network(path)
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"]["temporal"] = json.dumps({"kind": "Later", "frames": 8})
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])
    with pytest.raises(NetworkFileError, match="an architecture that cannot be built"):
        load_temporal(path)


def test_control_and_baseline_start_from_the_single_frame_network(hmr):
    for config in (FramewiseConfig(), VibeConfig(8, 12), SMALL):
        head = built(config, hmr).head  # pyright: ignore[reportAttributeAccessIssue]
        for name, value in hmr.regressor.state_dict().items():
            assert_close(head.regressor.state_dict()[name], value)
    assert isinstance(built(FramewiseConfig(), hmr), Framewise)
    assert isinstance(built(VibeConfig(8, 12), hmr), Vibe)


# --- filters


def turning(rate: Tensor, frames: int, hmr: Hmr) -> Estimate:
    """Bodies whose joints turn at constant rates (radians a frame)."""
    found = built(FramewiseConfig(), hmr).sequence(clip(hmr, frames))
    time = torch.arange(frames)[:, None, None]
    rotmats = found.params.rotmats[:1] @ rotmat_from_axis_angle(time * rate)
    return replace(found, params=replace(found.params, rotmats=rotmats))


@pytest.mark.parametrize("reach", [1, 3])
def test_the_filter_leaves_steady_turns_and_has_no_direction(hmr, reach):
    steady = turning(0.2 * torch.randn(24, 3), 12, hmr)
    calm = average_filter(steady, reach)
    inner = slice(reach, -reach)
    assert_close(calm.params.rotmats[inner], steady.params.rotmats[inner], atol=1e-5, rtol=0)
    assert calm.camera is steady.camera
    shaken = built(FramewiseConfig(), hmr).sequence(clip(hmr, 12))
    turned = average_filter(map_tensors(shaken, lambda t: t.flip(0)), reach)
    same(map_tensors(turned, lambda t: t.flip(0)), average_filter(shaken, reach))
    same(average_filter(shaken, 0), shaken)
    with pytest.raises(ValueError, match="reach of -1; expected 0 or more"):
        average_filter(shaken, -1)


def test_the_filter_is_the_mean_of_turns_about_one_axis(hmr):
    angles = torch.tensor([0.0, 0.3, -0.2, 0.5, 0.1, 0.4])
    axis = torch.tensor([0.0, 1.0, 0.0])
    rotmats = rotmat_from_axis_angle(angles[:, None, None] * axis.expand(1, 24, 3))
    found = built(FramewiseConfig(), hmr).sequence(clip(hmr, 6))
    calm = average_filter(replace(found, params=replace(found.params, rotmats=rotmats)), 1)
    around = torch.cat([angles[:1], angles, angles[-1:]]).unfold(0, 3, 1).mean(-1)
    expected = rotmat_from_axis_angle(around[:, None, None] * axis.expand(1, 24, 3))
    assert_close(calm.params.rotmats, expected, atol=1e-5, rtol=0)


def test_the_one_euro_filter_is_the_published_one_about_one_axis(hmr):
    """Angles about one axis, against the filter of numbers as Casiez et al. write it."""
    angles = torch.tensor([0.0, 0.3, -0.2, 0.5, 0.1, 0.4, 0.9, 1.4])
    axis = torch.tensor([0.0, 1.0, 0.0])
    rotmats = rotmat_from_axis_angle(angles[:, None, None] * axis.expand(1, 24, 3))
    found = built(FramewiseConfig(), hmr).sequence(clip(hmr, 8))
    found = replace(found, params=replace(found.params, rotmats=rotmats))
    fps, cutoff_hz, slope = 25.0, 1.5, 0.4

    def share(hz: float) -> float:
        return 1 / (1 + fps / (2 * math.pi * hz))

    said, speed = [0.0], 0.0
    for angle in angles[1:].tolist():
        speed += share(2.0) * ((angle - said[-1]) * fps - speed)
        said.append(said[-1] + share(cutoff_hz + slope * abs(speed)) * (angle - said[-1]))
    calm = one_euro_filter(found, cutoff_hz, slope, 2.0, fps)
    expected = rotmat_from_axis_angle(torch.tensor(said)[:, None, None] * axis.expand(1, 24, 3))
    assert_close(calm.params.rotmats, expected, atol=1e-5, rtol=0)


def test_the_one_euro_filter_looks_at_no_later_frame_and_lets_all_through_if_told_to(hmr):
    shaken = built(FramewiseConfig(), hmr).sequence(clip(hmr, 12))
    calm = one_euro_filter(shaken)
    first = one_euro_filter(map_tensors(shaken, lambda t: t[:5]))
    same(first, map_tensors(calm, lambda t: t[:5]))
    open_wide = one_euro_filter(shaken, cutoff_hz=1e8)
    assert_close(open_wide.params.rotmats, shaken.params.rotmats, atol=1e-3, rtol=0)
    still = map_tensors(shaken, lambda t: t[:1].expand_as(t))
    assert_close(one_euro_filter(still).params.rotmats, still.params.rotmats, atol=1e-4, rtol=0)
    assert calm.camera is shaken.camera
    for wrong in ({"cutoff_hz": 0.0}, {"slope": -1.0}, {"fps": 0.0}):
        with pytest.raises(ValueError, match=r"one-euro filter: got .* expected numbers above 0"):
            one_euro_filter(shaken, **wrong)
