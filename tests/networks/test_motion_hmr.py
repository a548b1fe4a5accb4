"""Motion HMR: what it is shown, whom a pair is told of, the adversary; files."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from flowhmr.geometry import pick, rotmat_from_axis_angle
from flowhmr.networks import (
    Adversary,
    Backbone,
    BackboneConfig,
    HmrConfig,
    Lift,
    LiftConfig,
    MeanParams,
    MotionHmr,
    MotionHmrConfig,
    NetworkFileError,
    load_lift,
    load_motion,
    load_network,
    read_card,
    reverse_gradient,
    save_network,
)
from flowhmr.networks.motion_hmr import heatmaps
from flowhmr.records import MotionInput, along_frames

SIZE, PAIRS = 32, 5
BACKBONE = BackboneConfig("mobilenetv3_small_050", size_px=SIZE)
TINY = MotionHmrConfig(HmrConfig(BACKBONE, hidden=16, dropout=0.0), lstm=8, head=8)
LOOKS = [
    (rgb, flow, keypoints)
    for rgb in (False, True)
    for flow in (False, True)
    for keypoints in (False, True)
    if rgb or flow or keypoints
]


def mean_params() -> MeanParams:
    torch.manual_seed(0)
    return MeanParams(rotmat_from_axis_angle(torch.randn(24, 3)), torch.randn(10), "body:x")


def network(config: MotionHmrConfig = TINY) -> MotionHmr:
    """With regressors so strong that what a pair is told shows in its body."""
    mean = mean_params()
    made = MotionHmr(config, mean).eval()
    with torch.no_grad():
        for head in (made.now, made.after):
            head.regressor.pose.weight.mul_(300)
            head.layer[0].weight.mul_(10)
    return made


def clip(batch: int = 2, pairs: int = PAIRS, size: int = SIZE, seed: int = 0) -> MotionInput:
    made = torch.Generator().manual_seed(seed)
    points_px = size * torch.rand(batch, pairs, 12, 2, generator=made)
    return MotionInput(
        torch.randint(0, 256, (batch, pairs, 3, size, size), generator=made, dtype=torch.uint8),
        4 * torch.randn(batch, pairs, 2, size, size, generator=made).half(),
        torch.cat([points_px, torch.ones(batch, pairs, 12, 1)], -1),
        torch.zeros(batch, pairs),
    )


def looking(rgb: bool, flow: bool, keypoints: bool) -> MotionHmrConfig:
    return replace(TINY, rgb=rgb, flow=flow, keypoints=keypoints)


@pytest.mark.parametrize("looks", LOOKS)
def test_it_looks_at_what_its_config_names_and_at_nothing_else(looks):
    net, seen = MotionHmr(looking(*looks), mean_params()).eval(), clip()
    rgb, flow, keypoints = looks
    maps = net.maps(seen)
    assert maps.shape == (2, PAIRS, 3 * rgb + 3 * flow + 12 * keypoints + 1, SIZE, SIZE)
    other = clip(seed=1)
    for name, looked in (("frames", rgb), ("flow_px", flow), ("keypoints_px", keypoints)):
        found = net.maps(replace(seen, **{name: getattr(other, name)}))
        assert torch.equal(found, maps) != looked, name
        if not looked and name != "keypoints_px":
            assert torch.equal(net.maps(replace(seen, **{name: None})), maps)
    for name, looked in (("frames", rgb), ("flow", flow)):
        field = "flow_px" if name == "flow" else name
        if looked:
            with pytest.raises(ValueError, match=f"got clips without {name}; expected"):
                net.maps(replace(seen, **{field: None}))


def test_estimates_are_bodies_of_both_frames():
    found = network()(clip())
    for estimate in (found.now, found.after):
        rotmats = estimate.params.rotmats
        assert rotmats.shape == (2, PAIRS, 24, 3, 3)
        assert_close(rotmats @ rotmats.mT, torch.eye(3).expand_as(rotmats), atol=1e-5, rtol=0)
        assert estimate.params.betas.shape == (2, PAIRS, 10)
        assert estimate.camera.params.shape == (2, PAIRS, 3)
        assert estimate.params.body_id == "body:x"
    assert (found.now.params.rotmats - found.after.params.rotmats).abs().max() > 1e-3
    assert found.feature.shape == (2, PAIRS, network().backbone.out_features)


def test_shifts_may_be_metres():
    """``u = s (X + tx)``, as `HmrConfig.shift` says."""
    crop, metres = network(), network(replace(TINY, hmr=replace(TINY.hmr, shift="metres")))
    with torch.no_grad():
        for net in (crop, metres):
            net.start[-2:] = torch.tensor([0.2, -0.1])
    metres.load_state_dict(crop.state_dict())
    one, two = crop(clip()), metres(clip())
    for ours, theirs in ((one.now, two.now), (one.after, two.after)):
        assert_close(theirs.camera.scale, ours.camera.scale)
        assert_close(theirs.camera.shift, ours.camera.scale[..., None] * ours.camera.shift)


def test_it_starts_at_the_mean():
    mean = mean_params()
    found = MotionHmr(TINY, mean).eval()(clip())
    for estimate in (found.now, found.after):
        assert (estimate.params.rotmats - mean.rotmats).abs().max() < 0.2
        assert (estimate.camera.params - torch.tensor([0.9, 0, 0])).abs().max() < 0.2


def test_a_pair_is_felt_before_and_after_it_and_in_no_other_clip():
    net, seen = network(), clip()
    before = net(seen)
    flow_px = seen.flow_px.clone()
    flow_px[0, 2] *= -3
    after = net(replace(seen, flow_px=flow_px))
    for head in ("now", "after"):
        moved = getattr(after, head).params.rotmats - getattr(before, head).params.rotmats
        moved = moved.detach().abs().amax((-3, -2, -1))
        assert (moved[0] > 1e-6).all(), head
        assert (moved[1] < 1e-6).all(), head
    changed = (after.feature - before.feature).detach().abs().amax(-1)
    assert changed[0, 2] > 1e-4
    changed[0, 2] = 0
    assert (changed < 1e-4).all(), "the backbone sees each pair alone"


def test_a_lost_frame_shows_nothing_but_its_flag():
    net = MotionHmr(looking(True, True, True), mean_params())
    seen = clip()
    lost = torch.zeros(2, PAIRS)
    lost[1, 3] = 1
    maps, before = net.maps(replace(seen, occluded=lost)), net.maps(seen)
    assert torch.equal(maps[1, 3, :-1], torch.zeros_like(maps[1, 3, :-1]))
    assert torch.equal(maps[1, 3, -1], torch.ones(SIZE, SIZE))
    keep = lost == 0
    assert torch.equal(maps[keep], before[keep])
    assert not before[:, :, -1].any()


def test_heatmaps_are_gaussians_at_the_keypoints():
    points_px = torch.tensor([[16.5, 8.5, 1.0], [20.0, 3.0, 0.0], [-5.0, 10.0, 1.0]])
    found = heatmaps(points_px, 64)
    assert found.shape == (3, 64, 64)
    sigma_px = 10 * 64 / 224
    assert found[0, 8, 16] == 1
    assert_close(found[0, 8, 20], torch.tensor(-0.5 * (4 / sigma_px) ** 2).exp())
    assert_close(found[0, 11, 20], torch.tensor(-0.5 * (5 / sigma_px) ** 2).exp())
    assert not found[1].any(), "not reported"
    assert found[2].argmax() == 9 * 64 or found[2].argmax() == 10 * 64
    assert found[2].max() < 1


def test_maps_do_not_depend_on_the_size_of_the_crops():
    """What is twice as large in pixels is the same in the paper's units."""
    big = replace(TINY, hmr=replace(TINY.hmr, backbone=replace(BACKBONE, size_px=2 * SIZE)))
    small, seen = network(), clip()
    twice = MotionInput(
        None,
        2 * seen.flow_px.repeat_interleave(2, -1).repeat_interleave(2, -2),
        seen.keypoints_px * torch.tensor([2.0, 2.0, 1.0]),
        seen.occluded,
    )
    found = MotionHmr(big, mean_params()).maps(twice)
    flow = small.maps(seen)[:, :, :3]
    assert_close(found[:, :, :3, ::2, ::2], flow)
    assert_close(flow[:, :, 2], flow[:, :, :2].norm(dim=2))
    u = seen.flow_px[0, 0, 0, 0, 0].float() * 224 / SIZE / 20
    assert_close(flow[0, 0, 0, 0, 0], u)
    assert_close(found[:, :, 3:].mean((-2, -1)), small.maps(seen)[:, :, 3:].mean((-2, -1)),
                 atol=2e-3, rtol=0)  # fmt: skip


def test_the_first_three_channels_keep_the_weights_of_rgb():
    torch.manual_seed(3)
    plain = Backbone(BACKBONE)
    first = next(m for m in plain.net.modules() if isinstance(m, torch.nn.Conv2d))
    for looks, kept in (((False, True, True), True), ((False, False, True), False)):
        mean = mean_params()
        torch.manual_seed(3)
        wide = MotionHmr(looking(*looks), mean).backbone
        conv = next(m for m in wide.net.modules() if isinstance(m, torch.nn.Conv2d))
        assert torch.equal(conv.weight[:, :3], first.weight) == kept
        assert conv.weight.shape[1] == (16 if kept else 13)
        assert (conv.weight.std((0, 2, 3)) > 0).all()


def test_gradients_reach_everything():
    net = network().train()
    found = net(clip())
    total = sum(e.params.rotmats.square().sum() * 0 + e.params.rotmats[..., 0].sum()
                + e.params.betas.sum() + e.camera.params.sum()
                for e in (found.now, found.after))  # fmt: skip
    total.backward()
    dead = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    # Batch norm undoes what is added before it.
    assert [n for n in dead if not n.startswith("backbone")] == []
    assert not any(n.endswith("conv_stem.weight") for n in dead)


def test_frames_are_said_once_each():
    found = network()(clip())
    now, after = pick(found.now, 0), pick(found.after, 0)
    along = along_frames(now, after).params.rotmats
    assert len(along) == PAIRS + 1
    assert torch.equal(along[:-1], now.params.rotmats)
    assert torch.equal(along[-1], after.params.rotmats[-1])


def test_what_cannot_be_built_is_said():
    with pytest.raises(ValueError, match="looks at nothing"):
        looking(False, False, False)
    with pytest.raises(ValueError, match="dense maps"):
        MotionHmrConfig(replace(TINY.hmr, maps=True))


def test_files(tmp_path):
    path, net = tmp_path / "m.safetensors", network(looking(True, True, True))
    save_network(path, net, {"trained_by": "nobody"})
    read = load_motion(path)
    assert read.config == net.config
    assert not read.training
    seen = clip()
    assert torch.equal(read(seen).now.params.rotmats, net(seen).now.params.rotmats)
    assert read_card(path)["notes"] == {"trained_by": "nobody"}
    with pytest.raises(NetworkFileError, match="read it with load_motion"):
        load_network(path)
    with pytest.raises(NetworkFileError, match="got a Motion HMR; expected one of keypoint tracks"):
        load_lift(path)
    save_network(path, Lift(LiftConfig(width=8, dilations=(1,)), mean_params()), {})
    with pytest.raises(NetworkFileError, match="expected a Motion HMR"):
        load_motion(path)


# --- the adversary


def test_the_gradient_is_turned_round_once():
    x = torch.randn(3, 4, requires_grad=True)
    weights = torch.randn(3, 4)
    assert torch.equal(reverse_gradient(x), x)
    (reverse_gradient(x) * weights).sum().backward()
    assert torch.equal(x.grad, -weights)


def test_the_adversary_learns_what_the_feature_is_to_forget():
    """One step on the same loss: it falls for the adversary's step, rises for the feature's."""
    torch.manual_seed(0)
    adversary = Adversary(6, 16)
    feature = torch.randn(8, 5, 6, requires_grad=True)

    def lost(feature: Tensor) -> Tensor:
        return torch.nn.functional.softplus(-adversary(feature)).mean()

    before = lost(feature)
    before.backward()
    with torch.no_grad():
        assert adversary(feature).shape == (8, 5)
        assert lost(feature - 0.1 * feature.grad) > before
        for parameter in adversary.parameters():
            parameter -= 0.1 * parameter.grad
        assert lost(feature) < before
    widths = [m.out_features for m in Adversary(6).layers if isinstance(m, torch.nn.Linear)]
    assert widths == [1024, 1024, 1]
