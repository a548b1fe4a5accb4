"""Lift: what a frame's body depends on, and what it does not; files."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close

from flowhmr.geometry import detach, map_tensors, pick, rotmat_from_axis_angle
from flowhmr.networks import (
    BackboneConfig,
    Hmr,
    HmrConfig,
    Lift,
    LiftConfig,
    MeanParams,
    NetworkFileError,
    load_hmr,
    load_lift,
    load_network,
    read_card,
    save_network,
)
from flowhmr.records import Lifted, TrackInput

TINY = LiftConfig(width=16, dilations=(1, 2))
FRAMES, REACH, POINTS = 12, 3, 60


def mean_params() -> MeanParams:
    torch.manual_seed(0)
    return MeanParams(rotmat_from_axis_angle(torch.randn(24, 3)), torch.randn(10), "body:x")


def network(config: LiftConfig = TINY, strength: float = 50.0) -> Lift:
    """With heads so strong that what a frame is told shows in its body."""
    mean = mean_params()
    torch.manual_seed(1)
    made = Lift(config, mean).eval()
    with torch.no_grad():
        made.frame.weight.mul_(strength)
        made.shape.weight.mul_(strength)
        made.feet.weight.mul_(strength)
    return made


def track(batch: int = 2, frames: int = FRAMES, seed: int = 0) -> TrackInput:
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(batch, frames, *shape, generator=generator)

    half = 0.25 + 0.1 * noise()
    return TrackInput(noise(17, 3), 0.05 * noise(POINTS, 3), half, torch.ones(batch, frames))


def change(found: Lifted, before: Lifted) -> dict[str, Tensor]:
    """Largest change in each frame, ``[b t]``."""
    found, before = detach(found), detach(before)
    estimate, other = found.bodies, before.bodies
    return {
        "stands": (found.stands - before.stands).abs().amax(-1),
        "pose": (estimate.params.rotmats - other.params.rotmats).abs().amax((-3, -2, -1)),
        "camera": (estimate.camera.params - other.camera.params).abs().amax(-1),
        "shape": (estimate.params.betas - other.params.betas).abs().amax(-1),
    }


def test_estimates_are_bodies():
    found = network()(track())
    estimate = found.bodies
    rotmats = estimate.params.rotmats
    assert rotmats.shape == (2, FRAMES, 24, 3, 3)
    assert_close(rotmats @ rotmats.mT, torch.eye(3).expand_as(rotmats), atol=1e-5, rtol=0)
    assert_close(torch.linalg.det(rotmats), torch.ones(2, FRAMES, 24))
    assert estimate.params.betas.shape == (2, FRAMES, 10)
    assert estimate.camera.params.shape == (2, FRAMES, 3)
    assert estimate.params.body_id == "body:x"
    assert found.stands.shape == (2, FRAMES, 4)
    assert (found.stands > 0).any(), "log-odds, not shares"
    assert (found.stands < 0).any(), "log-odds, not shares"
    one = network()(track(frames=1))
    assert one.bodies.params.rotmats.shape[1] == one.stands.shape[1] == 1


def test_starts_at_the_mean():
    mean = mean_params()
    found = Lift(TINY, mean)(track())
    estimate = found.bodies
    assert (estimate.params.rotmats - mean.rotmats).abs().max() < 0.2
    assert (estimate.params.betas - mean.betas).abs().max() < 0.2
    assert (estimate.camera.params - torch.tensor([0.9, 0, 0])).abs().max() < 0.2
    assert found.stands.abs().max() < 0.2, "each foot as likely as not"


@pytest.mark.parametrize("part", ["keypoints", "flow", "half", "present"])
def test_a_frame_is_felt_as_far_as_the_dilations_reach(part):
    net, clip = network(), track()
    before = net(clip)
    for frame in (0, 5, FRAMES - 1):
        values = getattr(clip, part).clone()
        values[0, frame] = 1 - values[0, frame]
        diff = change(net(replace(clip, **{part: values})), before)
        near = (torch.arange(FRAMES) - frame).abs() <= REACH
        for name in ("pose", "camera", "stands"):
            assert (diff[name][0, near] > 1e-4).all(), (name, frame)
            assert (diff[name][0, ~near] < 1e-6).all(), (name, frame)
            assert (diff[name][1] < 1e-6).all()
        # The shape is that of the whole clip.
        assert (diff["shape"][0] > 1e-5).all()
        assert (diff["shape"][1] < 1e-6).all()


def test_what_comes_before_and_after_is_told_apart():
    net, clip = network(), track()
    backwards = map_tensors(net(map_tensors(clip, lambda t: t.flip(1))), lambda t: t.flip(1))
    diff = change(backwards, net(clip))
    assert (diff["pose"] > 1e-3).all()
    assert (diff["stands"] > 1e-3).all()


def test_a_batch_is_its_clips():
    net, clip = network(), track(3)
    together = net(clip)
    for i in range(3):
        alone = net(pick(clip, torch.tensor([i])))
        for found in change(pick(together, torch.tensor([i])), alone).values():
            assert (found < 1e-5).all()


@pytest.mark.parametrize(("ignored", "seen"), [("keypoints", "flow"), ("flow", "keypoints")])
def test_what_is_not_looked_at_does_not_count(ignored, seen):
    net, clip = network(replace(TINY, **{ignored: False})), track()
    before = net(clip)
    blind = change(net(replace(clip, **{ignored: 3 * getattr(clip, ignored) + 1})), before)
    assert all(float(v.max()) == 0 for v in blind.values())
    felt = change(net(replace(clip, **{seen: 3 * getattr(clip, seen) + 1})), before)
    assert all(float(v.min()) > 1e-4 for v in felt.values())


def test_a_clip_has_one_shape():
    betas = network()(track()).bodies.params.betas
    assert torch.equal(betas, betas[:, :1].expand_as(betas))
    assert (betas[0] - betas[1]).abs().max() > 1e-3


def test_frames_without_the_person_do_not_count_for_the_shape():
    """Seen without the blocks, which carry what is in a frame to its neighbours."""
    net, clip = network(replace(TINY, dilations=())), track()
    present = torch.ones(2, FRAMES)
    present[:, 3:6] = 0
    clip = replace(clip, present=present)
    keypoints = clip.keypoints.clone()
    keypoints[:, 3:6] += 1
    diff = change(net(replace(clip, keypoints=keypoints)), net(clip))
    assert (diff["pose"][:, 3:6] > 1e-3).all()
    assert (diff["shape"] < 1e-6).all()
    nobody = net(replace(clip, present=torch.zeros(2, FRAMES)))
    assert nobody.bodies.params.betas.isfinite().all()
    assert nobody.bodies.params.rotmats.isfinite().all()
    assert nobody.stands.isfinite().all()


def test_gradients_reach_every_weight():
    net, clip = network().train(), track()
    said = net(clip)
    params, camera = said.bodies.params, said.bodies.camera
    generator = torch.Generator().manual_seed(5)
    found = (params.rotmats, params.betas, camera.params, said.stands)
    sum((v * torch.randn(v.shape, generator=generator)).sum() for v in found).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name
    assert (net.frame.weight.grad.abs().amax(1) > 0).all(), "all joints, and the camera"
    assert (net.feet.weight.grad.abs().amax(1) > 0).all(), "all four feet"
    inputs = net.read[0].weight.grad.abs().amax(0)
    assert inputs.shape == (17 * 3 + POINTS * 3 + 1 + 1,)
    assert (inputs > 0).all()


def test_feet_have_a_head_of_their_own_and_move_what_all_share():
    """Each foot its own row; bodies' heads are not its business."""
    net, clip = network().train(), track()
    net(clip).stands[..., 2].sum().backward()
    assert [bool(row.any()) for row in net.feet.weight.grad] == [False, False, True, False]
    assert net.frame.weight.grad is None
    assert net.shape.weight.grad is None
    assert net.read[0].weight.grad.abs().max() > 0
    assert all(bool(p.grad.any()) for p in net.blocks.parameters())


def test_half_the_precision_is_nearly_the_same():
    net, clip = network(strength=1.0), track()
    with torch.autocast("cpu", torch.bfloat16):
        coarse = map_tensors(net(clip), Tensor.float)
    diff = change(coarse, net(clip))
    assert all(float(v.max()) < 0.02 for v in diff.values())
    rotmats = coarse.bodies.params.rotmats
    assert_close(rotmats @ rotmats.mT, torch.eye(3).expand_as(rotmats), atol=1e-4, rtol=0)


# --- files


@pytest.mark.parametrize("dilations", [(1, 2), ()])
def test_a_file_gives_the_network_back(tmp_path, dilations):
    config = replace(TINY, dilations=dilations, flow=False)
    net, path = network(config), tmp_path / "net.safetensors"
    save_network(path, net, {"seed": 3})
    assert [p.name for p in tmp_path.iterdir()] == ["net.safetensors"]
    loaded = load_lift(path)
    assert loaded.config == config
    assert (loaded.body_id, loaded.num_betas) == ("body:x", 10)
    assert not loaded.training
    assert all(float(v.max()) == 0 for v in change(loaded(track()), net(track())).values())
    card = read_card(path)
    assert card["notes"] == {"seed": 3}
    assert card["format"] == "flowhmr-lift-1"
    assert card["context"] is None


def test_half_precision_halves_the_file(tmp_path):
    net = network(LiftConfig(width=64), strength=1.0)
    save_network(tmp_path / "full.safetensors", net, {})
    save_network(tmp_path / "half.safetensors", net, {}, half=True)
    sizes = [(tmp_path / f"{n}.safetensors").stat().st_size for n in ("half", "full")]
    assert sizes[0] < 0.55 * sizes[1]
    loaded = load_lift(tmp_path / "half.safetensors")
    assert all(p.dtype == torch.float32 for p in loaded.parameters())
    assert all(float(v.max()) < 0.01 for v in change(loaded(track()), net(track())).values())


def test_networks_of_images_and_of_tracks_are_told_apart(tmp_path):
    of_tracks, of_images = tmp_path / "tracks.safetensors", tmp_path / "images.safetensors"
    save_network(of_tracks, network(), {})
    backbone = BackboneConfig("mobilenetv3_small_050", size_px=32)
    save_network(of_images, Hmr(HmrConfig(backbone, hidden=16), mean_params()), {})
    for load in (load_network, load_hmr):
        with pytest.raises(NetworkFileError, match=r"got a network of keypoint tracks; expected"):
            load(of_tracks)
    with pytest.raises(NetworkFileError, match=r"got a network of images; expected .*flowhmr lift"):
        load_lift(of_images)
    assert read_card(of_images)["format"] != read_card(of_tracks)["format"]
    assert isinstance(load_network(of_images), Hmr)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"width": 8}, "do not fit the architecture"),
        ({"dilations": [1]}, "do not fit the architecture"),
        ({"dilations": None}, "cannot be built"),
        ({"dilations": 3}, "cannot be built"),
        ({"layers": 3}, "cannot be built"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(tmp_path, changed, message):
    path = tmp_path / "net.safetensors"
    save_network(path, network(), {})
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    config = json.loads(metadata["config"]) | changed
    config = {k: v for k, v in config.items() if v is not None}
    save_file(load_file(path), path, metadata | {"config": json.dumps(config)})
    with pytest.raises(NetworkFileError, match=message):
        load_lift(path)


def test_damaged_files_are_refused(tmp_path):
    path, net = tmp_path / "net.safetensors", network()
    with pytest.raises(NetworkFileError, match="no such file"):
        load_lift(path)
    save_network(path, net, {})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(NetworkFileError, match="cut off"):
        load_lift(path)
    with torch.no_grad():
        net.frame.bias[0] = torch.nan
    save_network(path, net, {})
    with pytest.raises(NetworkFileError, match=r"NaN or infinity in frame.bias"):
        load_lift(path)
