"""Temporal context: what a frame is told of the frames before it, and what it is not."""

import json
import math
import struct
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from flowhmr.body import BodyParams
from flowhmr.cameras import WeakCamera
from flowhmr.geometry import rotmat_from_axis_angle, rotmat_from_rot6d
from flowhmr.networks import (
    BackboneConfig,
    ContextConfig,
    ContextHmr,
    ContextNet,
    Film,
    Hmr,
    HmrConfig,
    MeanParams,
    NetworkFileError,
    context_vectors,
    load_hmr,
    load_network,
    read_card,
    save_network,
)
from flowhmr.records import Estimate

TINY = HmrConfig(BackboneConfig("mobilenetv3_small_050", size_px=32), hidden=16)
STRONG = ContextConfig(length=3, filters=4, hidden=8, initial_std=0.3)
"""With weights this large, what the context says is seen in the result."""


def single(seed: int = 0, config: HmrConfig = TINY) -> Hmr:
    torch.manual_seed(seed)
    mean = MeanParams(rotmat_from_axis_angle(torch.randn(24, 3)), torch.randn(10), "body:x")
    network = Hmr(config, mean).train()
    # Statistics of some pictures: a network that has seen none gives almost the same for all.
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        network(frames(32, seed=2))
        for head in (network.regressor.pose, network.regressor.shape, network.regressor.camera):
            head.weight.mul_(10)
    return network.eval()


@pytest.fixture(scope="module")
def strong() -> ContextHmr:
    return ContextHmr(STRONG, single()).eval()


def frames(count: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 256, (count, 3, 2, 2), generator=generator, dtype=torch.uint8)
    return coarse.repeat_interleave(16, -1).repeat_interleave(16, -2)


def numbers(estimate) -> torch.Tensor:
    params = estimate.params
    return torch.cat([params.rotmats.flatten(-3), params.betas, estimate.camera.params], -1)


def same(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, atol=2e-5, rtol=0)


def differ(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Every row by more than what `same` lets pass."""
    return bool(((a - b).abs().amax(-1) > 1e-3).all())


def test_film_is_affine_and_only_on_the_backbones_vector():
    network = single(config=replace(TINY, maps=True))
    picture = frames(2)
    feature = network.encode(picture).feature
    neutral = Film(torch.ones_like(feature), torch.zeros_like(feature))
    plain = network(picture)
    assert torch.equal(numbers(network(picture, neutral).estimate), numbers(plain.estimate))
    gamma, beta = torch.rand_like(feature), torch.randn_like(feature)
    filmed = network(picture, Film(gamma, beta))
    by_hand = replace(network.encode(picture), feature=gamma * feature + beta)
    assert torch.equal(numbers(filmed.estimate), numbers(network.decode(by_hand).estimate))
    assert differ(numbers(filmed.estimate), numbers(plain.estimate))
    assert torch.equal(filmed.heatmap_logits, plain.heatmap_logits)
    assert torch.equal(filmed.surface, plain.surface)


def test_vectors_hold_pose_shape_and_camera(strong):
    estimate = strong(frames(2)).estimate
    vectors = context_vectors(estimate)
    assert vectors.shape == (2, 88)
    assert not vectors.requires_grad
    root, pose, betas, camera = vectors.split([6, 69, 10, 3], -1)
    same(rotmat_from_rot6d(root, "spin"), estimate.params.rotmats[:, 0])
    same(rotmat_from_axis_angle(pose.unflatten(-1, (23, 3))), estimate.params.rotmats[:, 1:])
    assert torch.equal(betas, estimate.params.betas)
    assert torch.equal(camera, estimate.camera.params)


@torch.no_grad()
def test_a_new_context_hardly_changes_the_network():
    torch.manual_seed(0)
    network = ContextHmr(ContextConfig(), single()).eval()
    film = network.context(torch.randn(5, 8, 88), torch.full((5,), 8))
    assert (film.gamma - 1).abs().max() < 0.02
    assert film.beta.abs().max() < 0.02
    assert film.beta.abs().max() > 0
    picture = frames(10)
    plain, conditioned = network(picture).estimate, network.sequence(picture)
    assert (numbers(plain) - numbers(conditioned)).abs().max() < 0.01


@torch.no_grad()
def test_zero_heads_leave_the_single_frame_network():
    network = ContextHmr(STRONG, single()).eval()
    network.context.gamma.weight.zero_()
    network.context.beta.weight.zero_()
    picture = frames(6)
    assert torch.equal(numbers(network.sequence(picture)), numbers(network(picture).estimate))


@torch.no_grad()
def test_a_frame_knows_the_frames_before_it_and_no_others(strong):
    """Change one frame: the frame itself and the next three change, nothing else does."""
    picture = frames(9)
    before = numbers(strong.sequence(picture))
    changed = picture.clone()
    changed[3] = 255 - changed[3]
    after = numbers(strong.sequence(changed))
    touched = [3, 4, 5, 6]
    assert differ(after[touched], before[touched])
    others = [i for i in range(9) if i not in touched]
    same(after[others], before[others])


@torch.no_grad()
def test_the_context_is_the_estimates_alone(strong):
    """Frame by frame, with the estimates of single frames as context."""
    picture = frames(6)
    expected = []
    for i in range(6):
        known = min(i, 3)
        slots = torch.zeros(1, 3, 88)
        if known:
            slots[0, 3 - known :] = context_vectors(strong(picture[i - known : i]).estimate)
        encoding = strong.hmr.encode(picture[i : i + 1])
        output = strong.conditioned(encoding, slots, torch.tensor([known]))
        expected.append(numbers(output.estimate)[0])
    same(numbers(strong.sequence(picture)), torch.stack(expected))


@torch.no_grad()
def test_the_context_grows(strong):
    picture = frames(5)
    plain = numbers(strong(picture).estimate)
    whole = numbers(strong.sequence(picture))
    same(whole[0], plain[0])
    assert differ(whole[1:], plain[1:])
    for cut in range(1, 4):  # from the cut on, the context begins anew
        later = numbers(strong.sequence(picture[cut:]))
        same(later[0], plain[cut])
        assert differ(later[1:3], whole[cut + 1 : cut + 3])


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 7])
@torch.no_grad()
def test_batches_change_nothing(strong, batch):
    picture = frames(7)
    same(numbers(strong.sequence(picture, batch)), numbers(strong.sequence(picture)))


@pytest.mark.parametrize("rubbish", [1e6, torch.nan])
@torch.no_grad()
def test_slots_that_are_not_filled_do_not_matter(strong, rubbish):
    encoding = strong.hmr.encode(frames(4))
    count = torch.arange(4)
    before = torch.randn(4, 3, 88)
    missing = torch.arange(3) < 3 - count[:, None]
    clean = numbers(strong.conditioned(encoding, before, count).estimate)
    dirty = torch.where(missing[..., None], rubbish, before)
    same(numbers(strong.conditioned(encoding, dirty, count).estimate), clean)
    assert torch.equal(clean[0], numbers(strong.hmr.decode(encoding).estimate)[0])
    for slot in range(3):  # those that are filled do
        moved = before.clone()
        moved[:, slot] += 1
        now = numbers(strong.conditioned(encoding, moved, count).estimate)
        told = ~missing[:, slot]
        assert differ(now[told], clean[told])
        same(now[~told], clean[~told])


@torch.no_grad()
def test_rows_do_not_see_each_other(strong):
    encoding = strong.hmr.encode(frames(3))
    before, count = torch.randn(3, 3, 88), torch.tensor([3, 1, 2])
    film = strong.context(before, count)
    for i in range(3):
        alone = strong.context(before[i : i + 1], count[i : i + 1])
        same(alone.gamma[0], film.gamma[i])
        same(alone.beta[0], film.beta[i])
    assert film.gamma.shape == encoding.feature.shape


def test_gradients_reach_context_and_backbone_but_not_the_frames_before(strong):
    """The last of two frames: its picture has a gradient, the picture before it has none."""
    network = strong
    network.zero_grad()
    picture = (frames(2).float() / 255).requires_grad_()
    numbers(network.sequence(picture))[1].sum().backward()
    for name, parameter in network.context.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    stem = next(network.hmr.backbone.net.parameters())
    assert stem.grad.abs().max() > 0
    assert picture.grad[1].abs().max() > 0
    assert picture.grad[0].abs().max() == 0


def test_gradients_are_finite_without_context_and_with_rubbish_in_empty_slots(strong):
    strong.zero_grad()
    before = torch.full((2, 3, 88), torch.nan)
    before[1, 2] = 1
    output = strong.conditioned(strong.hmr.encode(frames(2)), before, torch.tensor([0, 1]))
    numbers(output.estimate).sum().backward()
    for name, parameter in strong.named_parameters():
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), name


@torch.no_grad()
def test_modulation_stays_in_float32_under_autocast():
    torch.manual_seed(0)
    network = ContextNet(ContextConfig(), 6, 10)
    before, count = torch.randn(2, 8, 88), torch.tensor([8, 4])
    plain = network(before, count)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = network(before, count)
    assert torch.equal(mixed.gamma, plain.gamma)
    assert (mixed.gamma != 1).all()


@pytest.mark.parametrize("yaw_deg", [0.0, 90.0, 180.0])
def test_whoever_is_seen_upright_a_small_turn_changes_little(yaw_deg):
    """Upright bodies are half a turn from the camera's axes, where axis-angle would jump."""
    generator = torch.Generator().manual_seed(0)
    yaw = rotmat_from_axis_angle(torch.tensor([0.0, math.radians(yaw_deg), 0.0]))
    upright = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ yaw
    small = rotmat_from_axis_angle(0.05 * torch.randn(40, 3, generator=generator))
    rotmats = torch.eye(3).repeat(40, 24, 1, 1)
    rotmats[:, 0] = small @ upright
    params = BodyParams(rotmats, torch.zeros(40, 10), "b")
    vectors = context_vectors(Estimate(params, WeakCamera(torch.ones(40, 3))))
    assert vectors.diff(dim=0).norm(dim=-1).max() < 0.6


def test_wrong_slots_and_lengths_are_refused(strong):
    with pytest.raises(ValueError, match=r"got \(2, 88\).*expected \(3, 88\)"):
        strong.context(torch.zeros(1, 2, 88), torch.zeros(1, dtype=torch.long))
    with pytest.raises(ValueError, match="context length: got 0"):
        ContextNet(ContextConfig(length=0), 6, 10)
    with pytest.raises(ValueError, match="no frames"):
        strong.sequence(frames(0))


def test_context_file_round_trip(tmp_path, strong):
    path = tmp_path / "a.safetensors"
    save_network(path, strong, {"seed": 3})
    again = load_network(path)
    assert isinstance(again, ContextHmr)
    assert not again.training
    assert again.config == STRONG
    assert again.hmr.config == TINY
    assert again.body_id == again.hmr.body_id == "body:x"
    assert again.num_betas == 10
    picture = frames(5)
    with torch.no_grad():
        assert torch.equal(numbers(again.sequence(picture)), numbers(strong.sequence(picture)))
    card = read_card(path)
    assert card["notes"] == {"seed": 3}
    assert card["context"]["length"] == 3
    with pytest.raises(NetworkFileError, match=r"temporal context.*single-frame"):
        load_hmr(path)


def test_single_frame_files_are_what_they_were(tmp_path, strong):
    path = tmp_path / "a.safetensors"
    save_network(path, strong.hmr, {})
    metadata = _metadata(path)
    assert metadata["format"] == "flowhmr-hmr-1"
    assert set(metadata) == {"format", "config", "body_id", "num_betas", "notes"}
    assert isinstance(load_network(path), Hmr)
    assert read_card(path)["context"] is None


def test_damaged_context_files_say_what_is_wrong(tmp_path, strong):
    path = tmp_path / "a.safetensors"
    save_network(path, strong, {})
    tensors, metadata = load_file(path), _metadata(path)
    other = json.dumps({**json.loads(metadata["context"]), "length": 4})
    cases = [
        (tensors, {k: v for k, v in metadata.items() if k != "context"}, "card that does not read"),
        (tensors, metadata | {"context": '{"wings": 2}'}, "cannot be built.*wings"),
        (tensors, metadata | {"context": other}, "do not fit"),
        (tensors, metadata | {"format": "flowhmr-hmr-1"}, "do not fit"),
        (tensors | {"context.gamma.weight": tensors["context.gamma.weight"] * torch.nan}, metadata,
         "NaN or infinity in context.gamma.weight"),
    ]  # fmt: skip
    for weights, facts, message in cases:
        save_file(weights, path, facts)
        with pytest.raises(NetworkFileError, match=message):
            load_network(path)


def _metadata(path) -> dict[str, str]:
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length])["__metadata__"]
