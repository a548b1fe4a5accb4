"""Named architectures: each can be trained, saved and loaded, and gives the same kind of output."""

from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from flowhmr.body import BodyModel, open_body
from flowhmr.geometry import rotmat_from_axis_angle
from flowhmr.losses import PredictedMaps, SupervisedTerms, supervised_terms
from flowhmr.networks import (
    ARCHITECTURES,
    Backbone,
    BackboneConfig,
    Hmr,
    HmrOutput,
    MeanParams,
    architecture,
    load_hmr,
    save_network,
)
from flowhmr.records import Labels
from flowhmr.training.pretrain import BASELINE_NETWORK

SLOW = ("resnet50", "hrnet_w32")
EACH = [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in ARCHITECTURES]


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return open_body()


def built(name: str, body: BodyModel, size_px: int = 64) -> Hmr:
    torch.manual_seed(0)
    mean = MeanParams(rotmat_from_axis_angle(torch.randn(24, 3)), torch.zeros(10), body.body_id)
    return Hmr(architecture(name, size_px), mean)


def crops(batch: int = 1, size_px: int = 64) -> Tensor:
    torch.manual_seed(1)
    return torch.randint(0, 256, (batch, 3, size_px, size_px), dtype=torch.uint8)


def labels_for(body: BodyModel, batch: int, size_px: int) -> Labels:
    params = body.params(rotmat_from_axis_angle(torch.randn(batch, 24, 3)), torch.randn(batch, 10))
    cells = size_px // 4
    return Labels(
        params,
        body.joints(params),
        torch.rand(batch, 24, 2) * size_px,
        torch.ones(batch, 24),
        torch.randint(0, 256, (batch, cells, cells, 4), dtype=torch.uint8),
    )


def scored(output: HmrOutput, labels: Labels, body: BodyModel, size_px: int) -> SupervisedTerms:
    maps = PredictedMaps(output.heatmap_logits, output.surface)
    joints_m = body.joints(output.estimate.params)
    return supervised_terms(output.estimate, joints_m, maps, labels, size_px)


@pytest.mark.parametrize("name", EACH)
def test_each_is_trained_by_the_same_losses_and_survives_its_file(name, body, tmp_path):
    network = built(name, body).eval()
    output = network(crops())
    terms = scored(output, labels_for(body, 1, 64), body, 64)
    loss = terms.keypoints + terms.joints + terms.pose + terms.shape
    if network.config.maps:
        assert terms.heatmaps is not None
        assert terms.surface is not None
        loss = loss + terms.heatmaps + terms.surface
    loss.sum().backward()
    reached = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
    assert all(bool(torch.isfinite(g).all()) for g in reached.values())
    stem = next(n for n, _ in network.named_parameters() if n.startswith("backbone.net"))
    assert float(reached[stem].abs().max()) > 0

    path = tmp_path / f"{name}.safetensors"
    save_network(path, network, {"architecture": name})
    again = load_hmr(path)
    assert again.config == network.config == architecture(name, 64)
    with torch.no_grad():
        torch.testing.assert_close(
            again(crops()).estimate.params.rotmats, output.estimate.params.rotmats
        )


@pytest.mark.parametrize("size_px", [64, 96, pytest.param(224, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["lite0", "mobilenetv4", "vit_tiny"])
def test_the_light_ones_map_any_crop_at_stride_4(name, size_px, body):
    network = built(name, body, size_px).eval()
    with torch.no_grad():
        output = network(crops(size_px=size_px))
    assert output.heatmap_logits is not None
    assert output.surface is not None
    assert output.heatmap_logits.shape[-2:] == (size_px // 4, size_px // 4)
    assert output.surface.shape[-2:] == (size_px // 4, size_px // 4)


@pytest.mark.parametrize(
    ("name", "features"),
    [
        pytest.param("resnet50", 2048, marks=pytest.mark.slow),
        pytest.param("hrnet_w32", 32 + 64 + 128 + 256, marks=pytest.mark.slow),
        ("lite0", 64 * 2 * 2),
        ("mobilenetv4", 64 * 2 * 2),
        ("vit_tiny", 192),
    ],
)
def test_features(name, features, body):
    network = built(name, body)
    assert network.backbone.out_features == features
    with torch.no_grad():
        feature, _ = network.eval().backbone(crops())
    assert feature.shape == (1, features)


def test_the_published_ones_are_as_published():
    """HMR and SPIN: 224 px, two layers of 1024, dropout .5, no ReLU, three rounds, no maps."""
    for name, pooling in (("resnet50", "average"), ("hrnet_w32", "branches")):
        config = architecture(name)
        assert (config.hidden, config.dropout, config.rounds) == (1024, 0.5, 3)
        assert not config.activation
        assert not config.maps
        assert (config.backbone.size_px, config.backbone.pooling) == (224, pooling)


def test_lite0_is_the_architecture_of_the_shipped_network():
    assert architecture("lite0") == BASELINE_NETWORK
    small = replace(BASELINE_NETWORK.backbone, size_px=64)
    assert architecture("lite0", 64) == replace(BASELINE_NETWORK, backbone=small)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_size_changes_the_size_alone(name):
    config = architecture(name, 128)
    assert config.backbone.size_px == 128
    default_px = architecture(name).backbone.size_px
    assert (
        replace(config, backbone=replace(config.backbone, size_px=default_px))
        == (ARCHITECTURES[name])
    )
    assert config.backbone.weights == ""


def test_other_names_and_sizes_are_refused():
    with pytest.raises(ValueError, match=r"got 'resnet51'; expected one of resnet50, .*HmrConfig"):
        architecture("resnet51")
    with pytest.raises(ValueError, match=r"got crops of 100 px; .*multiple of 32; take 96"):
        architecture("lite0", 100)
    for size_px in (0, -32, 16):
        with pytest.raises(ValueError, match=rf"got crops of {size_px} px; .*take 32"):
            architecture("vit_tiny", size_px)


@pytest.mark.parametrize("name", ["efficientvit_b0", "repvit_m0_9"])
def test_not_every_name_with_vit_in_it_has_a_fixed_size(name):
    with torch.no_grad():
        feature, _ = Backbone(BackboneConfig(name, size_px=64)).eval()(crops())
    assert bool(torch.isfinite(feature).all())


def test_a_vits_last_map_is_normalised_as_its_own_last_layer_would():
    backbone = Backbone(BackboneConfig("vit_tiny_patch16_224", size_px=64)).eval()
    whole = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=0).eval()
    ours = {k.removeprefix("model."): v for k, v in backbone.net.state_dict().items()}
    missing = whole.load_state_dict(ours, strict=False).missing_keys
    assert missing == ["norm.weight", "norm.bias"]  # one and zero
    rgb = (crops() / 255 - 0.5) / 0.5
    with torch.no_grad():
        tokens = whole.forward_features(rgb)[:, 1:]
        _, fine_map = backbone(crops())
    expected = tokens.mT.unflatten(-1, (4, 4))
    torch.testing.assert_close(fine_map, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_a_vit_starts_from_weights_made_for_larger_crops(tmp_path):
    """Position embeddings are resized; the blocks are taken as they are."""
    donor = timm.create_model("vit_tiny_patch16_224")
    path = tmp_path / "vit.safetensors"
    save_file(donor.state_dict(), path)
    config = replace(architecture("vit_tiny", 64).backbone, weights=str(path))
    ours = Backbone(config).net.state_dict()
    name = "blocks.3.attn.qkv.weight"
    assert torch.equal(ours[f"model.{name}"], donor.state_dict()[name])
    assert ours["model.pos_embed"].shape[1] == 4 * 4 + 1
