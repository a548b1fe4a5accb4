"""SmoothNet: numbers along time, windows over a video; of4hmr's context over features."""

from dataclasses import replace

import pytest
import torch
from test_temporal import built, clip, hmr, same
from torch import Tensor
from torch.testing import assert_close

from flowhmr.geometry import map_tensors
from flowhmr.networks import (
    ContextFeatures,
    ContextFeaturesConfig,
    FramewiseConfig,
    Hmr,
    SmoothNet,
    SmoothNetConfig,
    TemporalHmr,
    context_vectors,
    load_temporal,
    save_network,
)
from flowhmr.networks.hmr import bodies_of

__all__ = ["hmr"]  # the fixture
SMALL = SmoothNetConfig(frames=6, width=10, inner=7, blocks=2)


def moving(hmr: Hmr) -> SmoothNet:
    """One that changes what it is given."""
    network = built(SMALL, hmr)
    assert isinstance(network, SmoothNet)
    with torch.no_grad():
        network.readout.weight.mul_(100)
    return network


def test_untrained_it_is_almost_the_single_frame_network(hmr):
    features = clip(hmr, 9)
    alone = built(FramewiseConfig(), hmr).sequence(features)
    said = built(SMALL, hmr).sequence(features)
    assert_close(said.camera.params, alone.camera.params, atol=0.05, rtol=0)
    far = moving(hmr).sequence(features).camera.params - alone.camera.params
    assert float(far.detach().abs().max()) > 0.1


def test_a_frame_is_the_mean_over_the_windows_that_it_is_in(hmr):
    network, features = moving(hmr), clip(hmr, 9)
    said: dict[int, list[Tensor]] = {frame: [] for frame in range(9)}
    numbers = network.numbers(features)
    for start in range(4):
        window = network.smoothed(numbers[start : start + 6].mT[None])[0].mT
        for k in range(6):
            said[start + k].append(window[k])
    mean = torch.stack([torch.stack(each).mean(0) for each in said.values()])
    same(network.sequence(features), bodies_of(mean, "body:x"))
    one = network(features[None, :6]).estimate
    same(network.sequence(features[:6]), map_tensors(one, lambda t: t[0]))


def test_a_short_video_ends_with_its_last_frame_repeated(hmr):
    network, features = moving(hmr), clip(hmr, 2)
    longer = torch.cat([features, features[-1:].expand(4, -1)])
    whole = network.sequence(longer)
    same(network.sequence(features), map_tensors(whole, lambda t: t[:2]))


def test_it_mixes_frames_and_never_numbers(hmr):
    network = moving(hmr)
    numbers = torch.randn(1, 157, 6)
    other = numbers.clone()
    other[0, 40, 2] += 1
    changed = (network.smoothed(other) - network.smoothed(numbers)).abs() > 1e-6
    assert bool(changed[0, 40].all())
    assert not bool(changed[0, torch.arange(157) != 40].any())


def test_the_regressor_is_held_and_the_rest_learns(hmr):
    network = SMALL.build(hmr).train()
    found = network(clip(hmr, 2, 6)).estimate
    (found.params.rotmats.square()[..., 0].sum() + found.camera.params.sum()).backward()
    held = {id(p) for p in network.held()}
    for name, parameter in network.named_parameters():
        assert (id(parameter) in held) == name.startswith("head."), name
        assert (parameter.grad is None) == (id(parameter) in held), name
    assert not any(m.training for m in network.head.modules())


def test_files_and_refusals(hmr, tmp_path):
    path = tmp_path / "net.safetensors"
    both = TemporalHmr(hmr, SMALL).eval()
    save_network(path, both, {})
    read = load_temporal(path)
    assert read.config == SMALL
    features = clip(hmr, 7)
    same(read.temporal.sequence(features), both.temporal.sequence(features))
    with pytest.raises(ValueError, match="clips of 5 frames; expected 6; use sequence"):
        both.temporal(clip(hmr, 1, 5))
    with pytest.raises(ValueError, match="windows of 1 frames; expected 2 or more"):
        replace(SMALL, frames=1)


def test_context_over_features_is_the_context_network_over_pictures(hmr):
    """Frame by frame, from the estimates alone of the frames before."""
    network, features = built(ContextFeaturesConfig(8, 3), hmr), clip(hmr, 6)
    assert isinstance(network, ContextFeatures)
    with torch.no_grad():
        network.context.gamma.weight.normal_(std=3)
    alone = built(FramewiseConfig(), hmr).sequence(features)
    vectors, found = context_vectors(alone), network.sequence(features)
    size = hmr.backbone.out_features
    for frame in range(6):
        count = min(frame, 3)
        before = torch.zeros(1, 3, vectors.shape[-1])
        before[0, 3 - count :] = vectors[frame - count : frame]
        film = network.context(before, torch.tensor([count]))
        told = features[frame].clone()
        told[:size] = film.gamma[0] * told[:size] + film.beta[0]
        same(network.head(told), map_tensors(found, lambda t, f=frame: t[f]))
    same(map_tensors(found, lambda t: t[:1]), map_tensors(alone, lambda t: t[:1]))
    assert not torch.allclose(found.camera.params[1], alone.camera.params[1], atol=1e-4)
