"""Checkpoints of the field, written under their own names, say in ours what they say in theirs."""

import argparse

import pytest
import torch
from published_twins import PareHmr, Spin, Tcmr, Vibe, trained

from flowhmr.cameras import project_weak
from flowhmr.geometry import map_tensors
from flowhmr.networks import (
    Hmr,
    NetworkFileError,
    TemporalHmr,
    from_published,
    layout_of,
    load_estimator,
    read_checkpoint,
    save_network,
)

BODY_ID = "smpl:0123456789abcdef"
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


@pytest.fixture(scope="module")
def images():
    """Two people cannot look the same: else nobody sees what the backbone does."""
    torch.manual_seed(1)
    coarse = torch.rand(2, 3, 8, 8)
    return (255 * torch.nn.functional.interpolate(coarse, size=64)).to(torch.uint8)


def made(kind, *options, see=None):
    torch.manual_seed(0)
    return trained(kind(*options), *([] if see is None else [seen(see)]))


@pytest.fixture(scope="module")
def spin(images):
    return made(Spin, see=images)


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(2)
    return torch.randn(16, 2048)


def seen(images):
    """Pictures as these networks take them."""
    return (images / 255 - MEAN) / STD


def same(estimate, bodies):
    """Our bodies are theirs; so is where the camera sees points, with their (tx, ty) in metres."""
    rotmats, betas, camera = bodies
    torch.testing.assert_close(estimate.params.rotmats, rotmats, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(estimate.params.betas, betas, atol=1e-3, rtol=1e-3)
    points = torch.randn(len(camera), 5, 3)
    theirs = camera[:, None, :1] * (points[..., :2] + camera[:, None, 1:])
    ours = project_weak(points, estimate.camera, 2)[..., :2] - 1
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=1e-3)


def saved(path, state, under):
    torch.save({under: state, "epoch": 7, "performance": 56.6}, path)
    return path


@torch.no_grad()
def test_spin_and_eft(spin, images, tmp_path):
    state = spin.state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    assert shapes["conv1.weight"] == (64, 3, 7, 7)
    assert shapes["layer4.2.conv3.weight"] == (2048, 512, 1, 1)
    assert shapes["fc1.weight"] == (1024, 2048 + 144 + 13)
    assert shapes["init_pose"] == (1, 144)
    weights = read_checkpoint(saved(tmp_path / "model_checkpoint.pt", state, "model"))
    assert layout_of(weights) == "spin"
    ours = from_published(weights, BODY_ID)
    assert isinstance(ours, Hmr)
    assert ours.body_id == BODY_ID
    theirs = spin(seen(images))
    same(ours(images).estimate, theirs)
    # In our own file it is the same network.
    save_network(tmp_path / "ours.safetensors", ours, {})
    again = load_estimator(tmp_path / "ours.safetensors")
    assert isinstance(again, Hmr)
    same(again(images).estimate, theirs)


@torch.no_grad()
@pytest.mark.parametrize("strided", [False, True], ids=["interp", "conv"])
def test_pares_hrnet(images, tmp_path, strided):
    theirs = made(PareHmr, strided, see=images)
    names = set(theirs.state_dict())
    for name in (
        "backbone.stage4.2.fuse_layers.3.0.2.1.weight",
        "backbone.transition3.3.0.1.running_mean",
        "backbone.layer1.0.downsample.0.weight",
        "head.fc1.weight",
    ):
        assert name in names
    # As Lightning's trainer stores it.
    state = {f"model.{name}": value for name, value in theirs.state_dict().items()}
    weights = read_checkpoint(saved(tmp_path / "epoch=77.ckpt", state, "state_dict"))
    assert layout_of(weights) == "pare"
    found = theirs(seen(images))
    same(from_published(weights, BODY_ID)(images).estimate, found)
    # What is seen matters.
    assert float((found[1][0] - found[1][1]).abs().max()) > 0.05


@torch.no_grad()
def test_vibe(spin, clip, tmp_path):
    theirs = made(Vibe, 64)
    # SMPL's own numbers stand beside the regressor's.
    state = theirs.state_dict() | {"regressor.smpl.v_template": torch.zeros(3, 3)}
    weights = read_checkpoint(saved(tmp_path / "vibe.pth.tar", state, "gen_state_dict"))
    assert layout_of(weights) == "vibe"
    ours = from_published(weights, BODY_ID, spin.state_dict())
    assert isinstance(ours, TemporalHmr)
    same(ours.temporal.sequence(clip), theirs(clip))
    save_network(tmp_path / "ours.safetensors", ours, {})
    again = load_estimator(tmp_path / "ours.safetensors")
    assert isinstance(again, TemporalHmr)
    same(again.temporal.sequence(clip), theirs(clip))
    with pytest.raises(NetworkFileError, match="expected those of the SPIN that gives its"):
        from_published(weights, BODY_ID)


@torch.no_grad()
def test_tcmr(spin, clip, images):
    theirs = made(Tcmr, 64)
    ours = from_published(theirs.state_dict(), BODY_ID, spin.state_dict())
    assert isinstance(ours, TemporalHmr)
    # The integrated body comes first.
    found = map_tensors(ours.temporal(clip[None]).estimate, lambda t: t[:, 0])
    same(found, theirs(clip))
    # Its features are SPIN's.
    features = ours.hmr.features(images)
    torch.testing.assert_close(features, spin.features(seen(images)), atol=1e-3, rtol=1e-3)


def in_columns(state):
    """The same network in code that writes one column of a rotation after the other."""
    order = torch.arange(24)[:, None] * 6 + torch.tensor([0, 2, 4, 1, 3, 5])
    order, out = order.flatten(), {name: value.clone() for name, value in state.items()}
    for name in ("decpose.weight", "decpose.bias"):
        out[name] = out[name][order]
    out["init_pose"] = out["init_pose"][:, order]
    out["fc1.weight"][:, 2048 : 2048 + 144] = state["fc1.weight"][:, 2048 : 2048 + 144][:, order]
    return out


@torch.no_grad()
def test_the_order_of_six_numbers(spin, images):
    """Columns interleaved (SPIN) and one after the other (4D-Humans) are not the same."""
    other = in_columns(spin.state_dict())
    theirs = spin(seen(images))
    ours = from_published(other, BODY_ID, rot6d="columns")
    assert isinstance(ours, Hmr)
    same(ours(images).estimate, theirs)
    wrong = from_published(other, BODY_ID)
    assert isinstance(wrong, Hmr)
    off = wrong(images).estimate.params.rotmats - theirs[0]
    assert float(off.abs().max()) > 0.1
    with pytest.raises(NetworkFileError, match="got 'rows'"):
        from_published(other, BODY_ID, rot6d="rows")
    # What was read is left as it was.
    torch.testing.assert_close(other["fc1.weight"], in_columns(spin.state_dict())["fc1.weight"])


class TestRefused:
    def test_a_weight_that_misses_is_named(self, spin):
        state = dict(spin.state_dict())
        del state["layer3.1.bn2.running_var"]
        with pytest.raises(NetworkFileError, match=r"without .*layer3\.1\.bn2\.running_var"):
            from_published(state, BODY_ID)

    def test_a_weight_of_another_shape(self, spin):
        state = spin.state_dict() | {"decshape.weight": torch.zeros(11, 1024)}
        with pytest.raises(NetworkFileError, match=r"regressor\.shape\.weight \(11, 1024\)"):
            from_published(state, BODY_ID)

    def test_a_weight_that_nobody_knows(self, spin):
        state = spin.state_dict() | {"layer5.weight": torch.zeros(1)}
        with pytest.raises(NetworkFileError, match=r"do not know: .*layer5\.weight"):
            from_published(state, BODY_ID)

    def test_numbers_that_are_not_finite(self, spin):
        state = spin.state_dict() | {"deccam.bias": torch.full((3,), torch.nan)}
        with pytest.raises(NetworkFileError, match=r"not finite: regressor\.camera\.bias"):
            from_published(state, BODY_ID)

    def test_without_where_it_starts(self, spin):
        state = {n: v for n, v in spin.state_dict().items() if n != "init_cam"}
        with pytest.raises(NetworkFileError, match="without init_cam"):
            from_published(state, BODY_ID)

    def test_other_files(self, tmp_path):
        path = tmp_path / "a.pt"
        torch.save({"state_dict": {"w": torch.zeros(2)}, "hyper": argparse.Namespace(a=1)}, path)
        with pytest.raises(NetworkFileError, match=r"argparse\.Namespace.*store these alone"):
            read_checkpoint(path)
        torch.save({"epoch": 3}, path)
        with pytest.raises(NetworkFileError, match="got no named weights"):
            read_checkpoint(path)
        with pytest.raises(NetworkFileError, match="expected those of SPIN"):
            layout_of({"w": torch.zeros(2)})
