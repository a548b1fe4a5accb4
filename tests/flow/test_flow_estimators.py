"""The estimators: what DIS recovers, what a function may return, what RAFT needs."""

from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flowhmr.flow import (
    DisFlow,
    FlowError,
    FunctionFlow,
    RaftFlow,
    estimate_pair,
    flow_estimator,
    load_raft,
    new_raft,
    raft_input,
    save_raft,
    swap_pair,
)
from flowhmr.flow.estimators import DIS_PRESETS, require_frames
from flowhmr.flow.raft import RAFT_VARIANTS
from untrained_raft import save_untrained_raft

Frames = tuple[np.ndarray, np.ndarray]
Texture = Callable[..., np.ndarray]


@pytest.mark.parametrize("preset", DIS_PRESETS)
def test_dis_sees_no_motion_between_equal_frames(preset: str, textured: Texture) -> None:
    frame = textured(64, 96)
    pair = estimate_pair(DisFlow(preset), frame, frame)
    assert float(pair.forward.abs().max()) < 0.05
    assert bool(pair.forward_valid.all())


@pytest.mark.parametrize(("shift_x", "shift_y"), [(4, -3), (-6, 2)])
def test_dis_recovers_a_translation_both_ways(
    shift_x: int, shift_y: int, textured: Texture
) -> None:
    scene = textured(160, 192)
    frame1 = scene[16:144, 16:176]
    frame2 = scene[16 - shift_y : 144 - shift_y, 16 - shift_x : 176 - shift_x]
    pair = estimate_pair(DisFlow(), frame1, frame2)
    truth = torch.tensor([shift_x, shift_y], dtype=torch.float32)
    inner = (slice(16, -16), slice(16, -16))
    assert float((pair.forward - truth)[inner].norm(dim=-1).mean()) < 0.3
    assert float((pair.backward + truth)[inner].norm(dim=-1).mean()) < 0.3
    assert float(pair.forward_valid[inner].float().mean()) > 0.98


def test_swapping_the_frames_swaps_the_directions(shifted_frames: Frames) -> None:
    frame1, frame2 = shifted_frames
    swapped = swap_pair(estimate_pair(DisFlow("fast"), frame2, frame1))
    pair = estimate_pair(DisFlow("fast"), frame1, frame2)
    for got, expected in zip(vars(swapped).values(), vars(pair).values()):
        assert torch.equal(got, expected)


@settings(deadline=None, max_examples=40)
@example(height=31, width=224, preset="fast")
@example(height=10, width=224, preset="medium")
@example(height=1, width=1, preset="medium")
@given(height=st.integers(1, 40), width=st.integers(1, 300), preset=st.sampled_from(DIS_PRESETS))
def test_dis_takes_frames_of_any_size(
    textured: Texture, height: int, width: int, preset: str
) -> None:
    frame1, frame2 = textured(height, width, 0), textured(height, width, 1)
    flow = DisFlow(preset).estimate(frame1, frame2)
    assert flow.shape == (height, width, 2)
    assert np.isfinite(flow).all()


def test_frames_of_different_sizes_or_types_are_refused(textured: Texture) -> None:
    frame = textured(32, 40)
    for other in (textured(32, 41), frame.astype(np.float32), frame[..., 0]):
        with pytest.raises(ValueError, match="expected two RGB frames, uint8"):
            require_frames(frame, other)
        with pytest.raises(ValueError, match="expected two RGB frames, uint8"):
            require_frames(other, frame)


def test_any_function_is_an_estimator(shifted_frames: Frames) -> None:
    estimator = FunctionFlow(lambda a, b: np.full((*a.shape[:2], 2), 1.5), name="right and down")
    pair = estimate_pair(estimator, *shifted_frames)
    assert pair.forward.dtype == torch.float32
    assert bool((pair.forward == 1.5).all())


@pytest.mark.parametrize(
    ("returned", "got"),
    [
        (None, "got NoneType"),
        (np.zeros((64, 80)), r"got float64 of shape \(64, 80\)"),
        (np.zeros((80, 64, 2)), r"got float64 of shape \(80, 64, 2\)"),
        (np.zeros((64, 80, 2), np.int32), "got int32"),
    ],
)
def test_a_function_that_returns_no_flow_map_is_named(
    returned: object, got: str, shifted_frames: Frames
) -> None:
    estimator = FunctionFlow(lambda a, b: returned, name="mine")  # pyright: ignore
    with pytest.raises(FlowError, match=f"mine: {got}.*expected a floating-point numpy array"):
        estimator.estimate(*shifted_frames)


def test_flow_that_is_not_finite_is_refused(shifted_frames: Frames) -> None:
    flow = np.zeros((64, 80, 2), np.float32)
    flow[3, 4, 1] = np.nan
    with pytest.raises(FlowError, match="name=holes: got 1 of 5120 pixels with NaN"):
        estimate_pair(FunctionFlow(lambda a, b: flow, name="holes"), *shifted_frames)


def test_texts_name_estimators() -> None:
    assert flow_estimator("dis") == DisFlow("fine")
    assert flow_estimator("dis:fast") == DisFlow("fast")
    assert flow_estimator("raft", device="cpu") == RaftFlow("large", device="cpu")
    assert flow_estimator("raft:small") == RaftFlow("small")
    assert flow_estimator("raft:large:/a:b/c.pth") == RaftFlow("large", Path("/a:b/c.pth"))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("farneback", "got 'farneback'; expected dis, dis:PRESET, raft"),
        ("dis:fast:1", "expected dis, dis:PRESET, raft"),
        ("dis:slow", "got 'slow'; expected one of ultrafast, fast, medium, fine"),
        ("raft:huge", "got 'huge'; expected one of large, small"),
    ],
)
def test_texts_that_name_no_estimator_are_refused(spec: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        flow_estimator(spec)


def test_identities_tell_settings_apart(tmp_path: Path) -> None:
    files = [tmp_path / "a.pth", tmp_path / "b.pth"]
    for file in files:
        file.write_bytes(file.name.encode())
    estimators = [
        *map(DisFlow, DIS_PRESETS),
        RaftFlow("large"),
        RaftFlow("small"),
        RaftFlow("small", updates=2),
        *(RaftFlow("small", file) for file in files),
        FunctionFlow(lambda a, b: a, name="one"),
        FunctionFlow(lambda a, b: a, name="two"),
    ]
    identities = [estimator.identity() for estimator in estimators]
    assert len(set(identities)) == len(estimators)
    assert [estimator.identity() for estimator in estimators] == identities


def test_raft_is_the_same_method_on_each_device() -> None:
    assert RaftFlow("small", device="cpu").identity() == RaftFlow("small").identity()


def test_raft_without_network_says_what_to_fetch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shifted_frames: Frames
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(FlowError) as caught:
        RaftFlow("large").estimate(*shifted_frames)
    message, name = str(caught.value), "raft_large_C_T_SKHT_V2-ff5fadd5.pth"
    for part in (
        "no route to host",
        f"https://download.pytorch.org/models/{name}",
        f"raft:large:/path/to/{name}",
        str(tmp_path / "hub" / "checkpoints"),
        "or use dis",
    ):
        assert part in message


def test_raft_refuses_files_that_are_not_its_weights(
    tmp_path: Path, shifted_frames: Frames
) -> None:
    missing, text, other = (tmp_path / name for name in ("missing.pth", "text.pth", "other.pth"))
    text.write_text("not a state dict")
    torch.save({"conv.weight": torch.zeros(3)}, other)
    with pytest.raises(FlowError, match=r"missing\.pth, which cannot be read.*expected"):
        RaftFlow("small", missing).identity()
    for file in (text, other):
        with pytest.raises(FlowError, match=f"{file.name}, which does not fit raft_small"):
            RaftFlow("small", file).estimate(*shifted_frames)


@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("half", [True, False])
def test_a_network_of_ones_own_is_what_was_saved(
    learned: bool, half: bool, tmp_path: Path, textured: Texture
) -> None:
    torch.manual_seed(0)
    network, file = new_raft("small", learned).eval(), tmp_path / "network.safetensors"
    save_raft(file, network, {"step": 3}, half)
    assert [path.name for path in tmp_path.iterdir()] == ["network.safetensors"]
    read = load_raft(file, "small")
    for name, tensor in network.state_dict().items():
        stored = tensor.half().float() if half else tensor
        assert torch.equal(read.state_dict()[name], stored)
    frame1, frame2 = textured(128, 136, 0), textured(128, 136, 1)
    batches = [raft_input(torch.from_numpy(f).permute(2, 0, 1)[None]) for f in (frame1, frame2)]
    with torch.no_grad():
        expected = read.eval()(*batches, num_flow_updates=2)[-1][0].permute(1, 2, 0)
    got = RaftFlow("small", file, updates=2, device="cpu").estimate(frame1, frame2)
    torch.testing.assert_close(torch.from_numpy(got), expected, rtol=1e-4, atol=1e-4)


def test_files_that_hold_no_flow_network_are_refused(
    tmp_path: Path, shifted_frames: Frames
) -> None:
    """Cut off, of another network, of the large one, spoilt by a training that went wrong."""
    whole, cut, other, wrong, spoilt = (
        tmp_path / f"{name}.safetensors" for name in ("whole", "cut", "other", "wrong", "spoilt")
    )
    network = new_raft("small")
    save_raft(whole, network, {})
    cut.write_bytes(whole.read_bytes()[:-100])
    save_raft(other, torch.nn.Linear(2, 2), {})
    save_raft(wrong, torch.nn.Sequential(new_raft("small")), {})
    with torch.no_grad():
        next(network.parameters())[0] = torch.nan
    save_raft(spoilt, network, {})
    for file in (cut, other, wrong):
        with pytest.raises(FlowError, match=r"not fit raft_small.*`flowhmr flownet`") as caught:
            RaftFlow("small", file).estimate(*shifted_frames)
        assert file.name in str(caught.value)
        assert len(str(caught.value)) < 600, "not the names of all weights"
    with pytest.raises(FlowError, match=r"spoilt\.safetensors with NaN or infinity in "):
        RaftFlow("small", spoilt).estimate(*shifted_frames)
    with pytest.raises(FlowError, match="does not fit raft_large"):
        RaftFlow("large", whole).estimate(*shifted_frames)


def test_raft_needs_an_update() -> None:
    with pytest.raises(ValueError, match="got 0; expected at least 1"):
        RaftFlow(updates=0)


@pytest.mark.slow
@pytest.mark.parametrize("variant", RAFT_VARIANTS)
def test_raft_computes_what_torchvision_computes(
    variant: str, tmp_path: Path, textured: Texture
) -> None:
    from torchvision.models.optical_flow import Raft_Small_Weights

    frame1, frame2 = textured(128, 136, 0), textured(128, 136, 1)
    network = save_untrained_raft(variant, tmp_path / "raft.pth")
    state = torch.random.get_rng_state()
    got = RaftFlow(variant, tmp_path / "raft.pth", updates=2).estimate(frame1, frame2)
    assert torch.equal(torch.random.get_rng_state(), state)

    batches = Raft_Small_Weights.DEFAULT.transforms()(
        *(torch.from_numpy(frame).permute(2, 0, 1)[None] for frame in (frame1, frame2))
    )
    with torch.no_grad():
        expected = network(*batches, num_flow_updates=2)[-1][0].permute(1, 2, 0)
    torch.testing.assert_close(torch.from_numpy(got), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_raft_takes_frames_of_any_size(tmp_path: Path, textured: Texture) -> None:
    save_untrained_raft("small", tmp_path / "raft.pth")
    estimator = RaftFlow("small", tmp_path / "raft.pth", updates=2, device="cpu")
    for height, width in ((96, 96), (1, 130), (131, 97)):
        flow = estimator.estimate(textured(height, width), textured(height, width, 1))
        assert flow.shape == (height, width, 2)
        assert np.isfinite(flow).all()


def test_raft_between_many_pairs_is_raft_between_each(tmp_path: Path, textured: Texture) -> None:
    save_untrained_raft("small", tmp_path / "raft.pth")
    estimator = RaftFlow("small", tmp_path / "raft.pth", updates=2, device="cpu")
    frames = np.stack([textured(128, 136, seed) for seed in range(6)])
    batch = torch.from_numpy(frames.reshape(3, 2, 128, 136, 3))
    found = estimator.pairs(batch)
    for number, (frame1, frame2) in enumerate(batch.numpy()):
        each = estimate_pair(estimator, frame1, frame2)
        for name in ("forward", "backward"):
            one = getattr(each, name)
            torch.testing.assert_close(getattr(found, name)[number], one, rtol=1e-4, atol=1e-3)
            masks = [getattr(p, f"{name}_valid") for p in (found, each)]
            assert float((masks[0][number] == masks[1]).float().mean()) > 0.999
    # It takes part in what is differentiated.
    assert not found.forward.is_inference()
    with pytest.raises(ValueError, match="got batches of 100 x 128 px; expected sides of at least"):
        estimator.pairs(batch[:, :, :, :100])
