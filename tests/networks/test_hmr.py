"""The single-frame network: any backbone, the iterative regressor, files."""

import json
import struct
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from flowhmr.geometry import rotmat_from_axis_angle
from flowhmr.networks import (
    BackboneConfig,
    Hmr,
    HmrConfig,
    MeanParams,
    NetworkFileError,
    load_hmr,
    read_card,
    save_network,
)

TINY = HmrConfig(BackboneConfig("mobilenetv3_small_050", size_px=64), hidden=32)


def mean_params(seed: int = 0) -> MeanParams:
    torch.manual_seed(seed)
    return MeanParams(rotmat_from_axis_angle(torch.randn(24, 3)), torch.randn(10), "body:x")


def frames(batch: int = 2, size: int = 64) -> torch.Tensor:
    return torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)


@pytest.mark.parametrize("pooling", ["average", "branches", "grid"])
@pytest.mark.parametrize("maps", [False, True])
def test_estimates_are_bodies(pooling, maps):
    config = replace(TINY, backbone=replace(TINY.backbone, pooling=pooling), maps=maps)
    output = Hmr(config, mean_params()).eval()(frames())
    rotmats = output.estimate.params.rotmats
    assert rotmats.shape == (2, 24, 3, 3)
    eye = torch.eye(3).expand_as(rotmats)
    torch.testing.assert_close(rotmats @ rotmats.mT, eye, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotmats), torch.ones(2, 24))
    assert output.estimate.params.body_id == "body:x"
    assert (output.heatmap_logits is not None) == maps
    if maps:
        assert output.heatmap_logits.shape == (2, 24, 16, 16)
        assert output.surface.shape == (2, 4, 16, 16)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "pooling", "size", "features"),
    [
        ("resnet18", "average", 96, 512),
        ("resnet50", "average", 96, 2048),
        ("hrnet_w32", "branches", 96, 480),
        ("vit_tiny_patch16_224", "average", 96, 192),
        ("convnext_atto", "grid", 96, 64 * 9),
    ],
)
def test_backbones_of_the_field(name, pooling, size, features):
    config = HmrConfig(BackboneConfig(name, size_px=size, pooling=pooling), hidden=64)
    network = Hmr(config, mean_params())
    assert network.backbone.out_features == features
    loss = network(frames(size=size)).estimate.params.rotmats.square().sum()
    loss.backward()
    stem = next(network.backbone.net.parameters())
    assert stem.grad is not None
    assert torch.isfinite(stem.grad).all()


def test_starts_at_the_mean():
    """Xavier gain .01 on the heads: the first estimate is close to the mean parameters."""
    mean = mean_params()
    output = Hmr(TINY, mean).eval()(frames())
    assert (output.estimate.params.rotmats - mean.rotmats).abs().max() < 0.2
    assert (output.estimate.camera.params - torch.tensor([0.9, 0, 0])).abs().max() < 0.2


def test_rounds_are_residual_updates():
    """With heads that always add d, n rounds end at mean + n d."""
    network = Hmr(replace(TINY, rounds=3), mean_params()).eval()
    with torch.no_grad():
        for head in (network.regressor.pose, network.regressor.shape, network.regressor.camera):
            head.weight.zero_()
            head.bias.fill_(0.1)
    betas = network(frames()).estimate.params.betas
    torch.testing.assert_close(betas, (network.start[144:154] + 0.3).expand(2, 10))


def test_bytes_and_floats_are_the_same_picture():
    network = Hmr(TINY, mean_params()).eval()
    picture = frames()
    a = network(picture).estimate.params.rotmats
    b = network(picture.float() / 255).estimate.params.rotmats
    torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_frames_do_not_see_each_other():
    network = Hmr(replace(TINY, maps=True), mean_params()).eval()
    picture = frames(4)
    together = network(picture).estimate.params.rotmats
    alone = torch.cat([network(picture[i : i + 1]).estimate.params.rotmats for i in range(4)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_unknown_backbone_names_its_neighbours():
    with pytest.raises(ValueError, match=r"'resnet17'.*timm"):
        Hmr(HmrConfig(BackboneConfig("resnet17")), mean_params())


def test_file_round_trip(tmp_path):
    network = Hmr(replace(TINY, maps=True), mean_params()).eval()
    path = tmp_path / "a.safetensors"
    save_network(path, network, {"seed": 3})
    again = load_hmr(path)
    picture = frames()
    torch.testing.assert_close(
        again(picture).estimate.params.rotmats, network(picture).estimate.params.rotmats
    )
    assert again.body_id == "body:x"
    assert again.config == network.config
    assert read_card(path)["notes"] == {"seed": 3}
    assert list(tmp_path.iterdir()) == [path]


def test_half_precision_file_is_half_the_size_and_close(tmp_path):
    network = Hmr(TINY, mean_params()).eval()
    save_network(tmp_path / "full.safetensors", network, {})
    save_network(tmp_path / "half.safetensors", network, {}, half=True)
    sizes = [(tmp_path / f"{n}.safetensors").stat().st_size for n in ("half", "full")]
    assert sizes[0] < 0.6 * sizes[1]
    picture = frames()
    a = network(picture).estimate.params.rotmats
    b = load_hmr(tmp_path / "half.safetensors")(picture).estimate.params.rotmats
    assert (a - b).abs().max() < 0.02


def test_bad_files_say_what_is_wrong(tmp_path):
    path = tmp_path / "a.safetensors"
    save_network(path, Hmr(TINY, mean_params()), {})
    whole = path.read_bytes()
    with pytest.raises(NetworkFileError, match="no such file"):
        load_hmr(tmp_path / "missing.safetensors")
    for cut in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.safetensors").write_bytes(whole[:cut])
        with pytest.raises(NetworkFileError, match=r"cut off|format"):
            load_hmr(tmp_path / "cut.safetensors")
    save_file({"x": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(NetworkFileError, match="format None"):
        load_hmr(tmp_path / "other.safetensors")
    (tmp_path / "evil.safetensors").write_bytes(b"\x80\x04cposix\nsystem\n(S'true'\ntR.")
    with pytest.raises(NetworkFileError):
        load_hmr(tmp_path / "evil.safetensors")


def _metadata(path) -> dict[str, str]:
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length])["__metadata__"]


def test_weights_that_do_not_fit_or_are_not_finite(tmp_path):
    path = tmp_path / "a.safetensors"
    save_network(path, Hmr(TINY, mean_params()), {})
    tensors, metadata = load_file(path), _metadata(path)
    name = "regressor.pose.weight"
    save_file(tensors | {name: tensors[name][:10].clone()}, path, metadata)
    with pytest.raises(NetworkFileError, match="do not fit"):
        load_hmr(path)
    broken = tensors[name].clone()
    broken[0, 0] = torch.nan
    save_file(tensors | {name: broken}, path, metadata)
    with pytest.raises(NetworkFileError, match=name):
        load_hmr(path)


def test_backbone_starts_from_a_file_of_weights(tmp_path):
    donor = Hmr(TINY, mean_params(1)).backbone.net.state_dict()
    path = tmp_path / "imagenet.safetensors"
    save_file({k: v.contiguous() for k, v in donor.items()}, path)
    backbone = replace(TINY.backbone, weights=str(path))
    network = Hmr(replace(TINY, backbone=backbone), mean_params(2))
    ours = network.backbone.net.state_dict()
    assert all(torch.equal(ours[k], donor[k]) for k in donor)
    saved = tmp_path / "network.safetensors"
    save_network(saved, network, {})
    path.unlink()  # a network's file stands alone
    assert load_hmr(saved).config.backbone.weights == ""


@pytest.mark.parametrize("name", ["weights.pth", "missing.safetensors"])
def test_backbone_weights_of_another_kind_are_refused(tmp_path, name):
    (tmp_path / "weights.pth").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    backbone = replace(TINY.backbone, weights=str(tmp_path / name))
    with pytest.raises(ValueError, match=r"got .*expected 'timm' or a \.safetensors"):
        Hmr(replace(TINY, backbone=backbone), mean_params())


def test_normalisation_is_that_of_the_backbones_weights():
    lite = Hmr(HmrConfig(BackboneConfig("tf_efficientnet_lite0", size_px=64)), mean_params())
    assert lite.backbone.mean.flatten().tolist() == [0.5, 0.5, 0.5]
    resnet = Hmr(HmrConfig(BackboneConfig("resnet18", size_px=64)), mean_params())
    torch.testing.assert_close(resnet.backbone.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))


def test_depthwise_convolutions_stay_in_float32_under_autocast():
    network = Hmr(TINY, mean_params()).eval()
    kinds = {}
    for module in network.backbone.net.modules():
        if isinstance(module, torch.nn.Conv2d):
            depthwise = module.groups == module.in_channels > 1
            module.register_forward_hook(
                lambda _, __, out, d=depthwise: kinds.setdefault(d, set()).add(out.dtype)
            )
    with torch.autocast("cpu", torch.bfloat16):
        network(frames())
    assert kinds == {True: {torch.float32}, False: {torch.bfloat16}}


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_early_parameters_end_with_their_level(levels):
    backbone = Hmr(TINY, mean_params()).backbone
    last = backbone.net.feature_info.module_name()[levels - 1]
    early = {id(p) for p in backbone.early(levels)}
    names = [n for n, p in backbone.net.named_parameters() if id(p) in early]
    everything = [n for n, _ in backbone.net.named_parameters()]
    assert names == everything[: len(names)]
    assert names[-1].startswith(f"{last}.")
    assert not any(n.startswith(f"{last}.") for n in everything[len(names) :])


def test_no_level_is_early_by_default_and_unknown_ones_are_refused():
    backbone = Hmr(TINY, mean_params()).backbone
    assert backbone.early(0) == []
    with pytest.raises(ValueError, match="got 6 levels to keep as they are; expected 0 to 5"):
        backbone.early(6)
