"""Checkpoints of the field, written under their own names, say in ours what they say in theirs."""

import argparse
import copy

import pytest
import torch
from published_twins import Pare, PareHmr, Spin, Tcmr, Vibe, trained

from flowhmr.cameras import project_weak
from flowhmr.cli import main
from flowhmr.geometry import map_tensors
from flowhmr.networks import (
    ContextConfig,
    ContextHmr,
    FramewiseConfig,
    Hmr,
    NetworkFileError,
    TemporalHmr,
    from_published,
    layout_of,
    load_estimator,
    load_network,
    read_card,
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


def same(estimate, bodies, off=1e-3):
    """Our bodies are theirs; so is where the camera sees points, with their (tx, ty) in metres."""
    rotmats, betas, camera = bodies
    torch.testing.assert_close(estimate.params.rotmats, rotmats, atol=off, rtol=off)
    torch.testing.assert_close(estimate.params.betas, betas, atol=off, rtol=off)
    points = torch.randn(len(camera), 5, 3)
    theirs = camera[:, None, :1] * (points[..., :2] + camera[:, None, 1:])
    ours = project_weak(points, estimate.camera, 2)[..., :2] - 1
    torch.testing.assert_close(ours, theirs, atol=2 * off, rtol=off)


def same_in_double(ours, theirs, images):
    """In float32 the depth of an HRNet of such weights makes 2e-3 of what rounding does."""
    pictures = images.double() / 255
    bodies = copy.deepcopy(theirs).double()((pictures - MEAN) / STD)
    estimate = copy.deepcopy(ours).double()(pictures).estimate
    same(estimate, [b.float() for b in bodies], 1e-4)


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
    assert layout_of(weights) == "pare-hmr"
    found = theirs(seen(images))
    same(from_published(weights, BODY_ID)(images).estimate, found)
    # What is seen matters.
    assert float((found[1][0] - found[1][1]).abs().max()) > 0.05


@pytest.fixture(scope="module")
def pare(images):
    """In few filters: how many there are is read from the file."""
    return made(Pare, 16, see=images)


def as_trained_by_lightning(network):
    """The network under ``model.``, and beside it what PARE's trainer has on its own account."""
    own = {"smpl.v_template": torch.zeros(3, 3), "J_regressor": torch.zeros(17, 3)}
    own |= {"smpl_native.J_regressor": torch.zeros(24, 3), "part_label_bins": torch.arange(24.0)}
    own["model.smpl.smpl.v_template"] = torch.zeros(3, 3)
    return own | {f"model.{name}": value for name, value in network.state_dict().items()}


@torch.no_grad()
def test_pares_own_network(pare, images, tmp_path):
    shapes = {name: tuple(value.shape) for name, value in Pare().state_dict().items()}
    for name, shape in (
        ("backbone.upsample_stage_2.1.weight", (64, 64, 3, 3)),
        ("backbone.upsample_stage_4.10.running_mean", (256,)),
        ("head.keypoint_deconv_layers.0.weight", (128, 480, 3, 3)),
        ("head.smpl_deconv_layers.4.weight", (128,)),
        ("head.keypoint_final_layer.weight", (25, 128, 1, 1)),
        ("head.smpl_final_layer.bias", (64,)),
        ("head.pose_mlp.weight", (1, 6, 128, 24, 1, 1)),
        ("head.shape_mlp.weight", (10, 1536)),
        ("head.cam_mlp.bias", (3,)),
    ):
        assert shapes[name] == shape
    state = as_trained_by_lightning(pare)
    weights = read_checkpoint(saved(tmp_path / "pare_checkpoint.ckpt", state, "state_dict"))
    assert layout_of(weights) == "pare"
    ours = from_published(weights, BODY_ID)
    assert isinstance(ours, Hmr)
    same_in_double(ours, pare, images)
    # What is seen matters, and so does where.
    betas = pare(seen(images))[1]
    assert float((betas[0] - betas[1]).abs().max()) > 0.01
    attention = torch.stack(pare.head.attention(pare.backbone(seen(images))))
    assert float(attention.amax(-1).median()) > 2 / attention.shape[-1]
    # Its features are what is read at the parts.
    assert ours.features(images).shape == (2, ours.feature_size) == (2, 24 * (16 + 64))
    # In our own file it is the same network.
    save_network(tmp_path / "ours.safetensors", ours, {})
    same_in_double(load_network(tmp_path / "ours.safetensors"), pare, images)


@torch.no_grad()
def test_pares_rotations_in_columns(pare, images):
    order = torch.tensor([0, 2, 4, 1, 3, 5])
    state = pare.state_dict()
    state |= {"head.pose_mlp.weight": state["head.pose_mlp.weight"][:, order]}
    ours = from_published(state, BODY_ID, rot6d="columns")
    same_in_double(ours, pare, images)


@torch.no_grad()
def test_temporal_context_modulates_what_is_seen_at_the_parts(pare, images):
    ours = from_published(pare.state_dict(), BODY_ID)
    assert isinstance(ours, Hmr)
    torch.manual_seed(0)
    both = ContextHmr(ContextConfig(2), ours).eval()
    alone = ours(images).estimate.params
    told = both.sequence(images).params
    torch.testing.assert_close(told.rotmats[0], alone.rotmats[0], atol=1e-4, rtol=1e-4)
    assert float((told.betas[1] - alone.betas[1]).abs().max()) > 1e-5


def test_networks_over_features_refuse_part_attention(pare):
    ours = from_published(pare.state_dict(), BODY_ID)
    assert isinstance(ours, Hmr)
    with pytest.raises(ValueError, match=r"part attention \(PARE\); expected those of an HMR"):
        TemporalHmr(ours, FramewiseConfig())


def test_the_command_imports_pare(pare, smpl_folder, tmp_path, capsys):
    state = as_trained_by_lightning(pare)
    path = saved(tmp_path / "pare_w_3dpw_checkpoint.ckpt", state, "state_dict")
    out = tmp_path / "pare.safetensors"
    assert main(["import", str(path), str(out), "--smpl", str(smpl_folder)]) == 0
    assert capsys.readouterr().out.startswith("pare: ")
    card = read_card(out)
    assert card["config"]["parts"] == {"layers": 2, "filters": 16, "thinned": 64}
    assert card["notes"]["layout"] == "pare"
    # It says so before anything is computed.
    words = ["train", "--run", str(tmp_path / "run"), "config:vibe", "--config.start", str(out)]
    assert main(words) == 1
    assert "got those of a network with part attention" in capsys.readouterr().err


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

    @pytest.mark.parametrize(
        ("name", "change", "complaint"),
        [
            ("fc1.weight", torch.zeros(1024, 1693), r"it has fc1\.weight"),
            ("pos_enc", torch.zeros(1, 2, 56, 56), "it has pos_enc"),
            ("coattention.linear_e.weight", torch.zeros(4, 4), "it has coattention"),
            ("pose_mlp.weight", None, r"it has no pose_mlp\.weight"),
            ("pose_mlp.weight", torch.zeros(1, 6, 300, 24, 1, 1), r"300, 24, 1, 1\) after 16"),
            ("keypoint_deconv_layers.0.weight", None, r"it has no keypoint_deconv_layers\.0"),
            ("keypoint_final_layer.weight", torch.zeros(24, 16, 1, 1), r"maps\.weight \(24"),
            ("smpl_deconv_layers.1.bias", None, r"without .*parts\.what\.1\.bias"),
            ("cam_mlp.bias", torch.full((3,), torch.nan), r"not finite: regressor\.camera\.bias"),
        ],
    )
    def test_pare_in_another_configuration(self, pare, name, change, complaint):
        state = pare.state_dict() | {f"head.{name}": change}
        state = {n: v for n, v in state.items() if v is not None}
        with pytest.raises(NetworkFileError, match=complaint):
            from_published(state, BODY_ID)

    def test_pare_with_another_backbone(self, pare):
        state = {n: v for n, v in pare.state_dict().items() if "upsample_stage" not in n}
        with pytest.raises(NetworkFileError, match="its backbone has no upsample_stage_2"):
            from_published(state, BODY_ID)

    def test_pare_in_the_place_of_a_spin(self, pare):
        with pytest.raises(NetworkFileError, match="got pare's weights for the features"):
            from_published(Vibe(64).state_dict(), BODY_ID, pare.state_dict())

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
