"""Flow made worse: by what was asked, the same each time, under a name of its own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from flowhmr.flow import (
    BlurredFlow,
    DisFlow,
    FlowCache,
    FlowEstimator,
    FunctionFlow,
    NoisyFlow,
    RaftFlow,
    ScaledFlow,
    WrongFlow,
    estimate_pair,
    flow_estimator,
)

Frames = tuple[np.ndarray, np.ndarray]
Texture = Callable[..., np.ndarray]


def still(height: int, width: int) -> Frames:
    """Two frames for estimators that do not look at them."""
    return np.zeros((height, width, 3), np.uint8), np.ones((height, width, 3), np.uint8)


def many_frames(count: int) -> list[Frames]:
    random = np.random.default_rng(0)
    return [tuple(random.integers(0, 256, (2, 4, 4, 3), np.uint8)) for _ in range(count)]


STILL = FunctionFlow(lambda a, b: np.zeros((*a.shape[:2], 2)), name="still")
TO_SECOND = FunctionFlow(
    lambda a, b: np.full((*a.shape[:2], 2), float(b.mean()) - float(a.mean())), name="to second"
)
"""Changes its sign with the order of the frames."""


# --- all


@pytest.mark.parametrize(
    "spec", ["noise:2", "noise:2:10", "blur:0.05", "wrong:1", "wrong:1:shuffled", "scaled:0.5"]
)
def test_worse_flow_is_the_same_each_time_and_not_the_flow(
    spec: str, shifted_frames: Frames
) -> None:
    got = flow_estimator(f"dis:fast+{spec}").estimate(*shifted_frames)
    again = flow_estimator(f"dis:fast+{spec}").estimate(*shifted_frames)
    assert np.array_equal(got, again)
    assert not np.allclose(got, DisFlow("fast").estimate(*shifted_frames), atol=0.05)


@pytest.mark.parametrize("spec", ["noise:0", "blur:0", "wrong:0", "scaled:1"])
def test_nothing_asked_is_nothing_done(spec: str, shifted_frames: Frames) -> None:
    got = flow_estimator(f"dis:fast+{spec}").estimate(*shifted_frames)
    assert np.array_equal(got, DisFlow("fast").estimate(*shifted_frames))


def test_validity_is_that_of_the_worse_flow(shifted_frames: Frames) -> None:
    good = estimate_pair(DisFlow("fast"), *shifted_frames)
    bad = estimate_pair(NoisyFlow(DisFlow("fast"), 20.0), *shifted_frames)
    assert float(good.forward_valid.float().mean()) > 0.7
    assert float(bad.forward_valid.float().mean()) < 0.5


def test_a_cache_keeps_each_estimator_apart(tmp_path: Path, shifted_frames: Frames) -> None:
    plain = FlowCache(tmp_path, DisFlow("fast")).pair(*shifted_frames)
    half = FlowCache(tmp_path, ScaledFlow(DisFlow("fast"), 0.5)).pair(*shifted_frames)
    # Stored flow is rounded to 1/64 px.
    torch.testing.assert_close(half.forward, plain.forward / 2, atol=1 / 64, rtol=0)
    assert FlowCache(tmp_path, DisFlow("fast")).size().entries == 2


def test_identities_tell_degradations_apart() -> None:
    dis = DisFlow()
    estimators: list[FlowEstimator] = [
        dis,
        NoisyFlow(dis, 2.0),
        NoisyFlow(dis, 2.0000001),
        NoisyFlow(dis, 2.0, 10.0),
        NoisyFlow(DisFlow("fast"), 2.0),
        BlurredFlow(dis, 0.05),
        BlurredFlow(dis, 0.1),
        WrongFlow(dis, 0.3),
        WrongFlow(dis, 0.4),
        WrongFlow(dis, 0.3, "shuffled"),
        ScaledFlow(dis, 0.5),
        ScaledFlow(dis, 2.0),
        ScaledFlow(NoisyFlow(dis, 2.0), 2.0),
        NoisyFlow(ScaledFlow(dis, 2.0), 2.0),
    ]
    identities = [e.identity() for e in estimators]
    assert len(set(identities)) == len(estimators)
    assert [e.identity() for e in estimators] == identities
    assert all(isinstance(e, FlowEstimator) for e in estimators)


# --- noise


@pytest.mark.parametrize(("size", "length"), [(224, 28.0), (448, 14.0), (224, 2.0), (100, 0.0)])
def test_noise_has_the_deviation_and_the_correlation_that_were_asked(
    size: int, length: float
) -> None:
    """Over many draws; lengths are pixels of a frame of 224, whatever the frame's size."""
    estimator, unit = NoisyFlow(STILL, 2.0, length), size / 224
    blank = np.zeros((size, size, 3), np.uint8)
    marked = [np.full_like(blank, level) for level in range(1, 13)]
    noise = np.stack([estimator.estimate(blank, other) for other in marked]) / unit
    assert abs(noise.mean()) < 0.15
    assert noise.std() == pytest.approx(2, rel=0.04)
    # At the border as elsewhere.
    assert noise[:, :, [0, -1]].std() == pytest.approx(2, rel=0.12)
    step = max(1, round(length * unit))
    along = (noise[:, :, step:] * noise[:, :, :-step]).mean() / (noise**2).mean()
    assert along == pytest.approx(np.exp(-1) if length else 0, abs=0.06)


def test_each_pair_and_direction_has_noise_of_its_own() -> None:
    estimator = NoisyFlow(STILL, 1.0)
    first, second = still(64, 64)
    there, back = estimator.estimate(first, second), estimator.estimate(second, first)
    other = estimator.estimate(first, second + np.uint8(1))
    for a, b in ((there, back), (there, other), (there[..., 0], there[..., 1])):
        assert not np.allclose(a, b, atol=0.1)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 200), (200, 3)])
def test_frames_of_any_size_can_be_spoilt(height: int, width: int) -> None:
    for estimator in (NoisyFlow(STILL, 1.0), BlurredFlow(STILL, 0.1), WrongFlow(STILL, 1.0)):
        assert estimator.estimate(*still(height, width)).shape == (height, width, 2)


# --- blur


def test_a_blur_spreads_an_edge_by_what_was_asked() -> None:
    """The slope of a blurred step is the Gaussian itself; constant flow stays."""
    sides = np.zeros((80, 100, 2))
    sides[:, 50:] = 1
    step = FunctionFlow(lambda a, b: sides, name="step")
    slope = np.diff(BlurredFlow(step, 0.06).estimate(*still(80, 100)), axis=1)[40, :, 0]
    place = np.arange(99) - 49
    assert slope.sum() == pytest.approx(1, abs=1e-4)
    assert np.sqrt((slope * place**2).sum()) == pytest.approx(6, rel=0.02)
    shift = FunctionFlow(lambda a, b: np.full((80, 100, 2), 3.0), name="shift")
    assert np.allclose(BlurredFlow(shift, 0.2).estimate(*still(80, 100)), 3)


# --- wrong pairs


def test_a_share_of_the_pairs_is_wrong_in_both_directions() -> None:
    pairs = many_frames(400)
    estimator = WrongFlow(TO_SECOND, 0.3)
    right = [TO_SECOND.estimate(*p) for p in pairs]
    wrong = [np.array_equal(estimator.estimate(*p), -r) for p, r in zip(pairs, right)]
    kept = [np.array_equal(estimator.estimate(*p), r) for p, r in zip(pairs, right)]
    back = [np.array_equal(estimator.estimate(b, a), r) for (a, b), r in zip(pairs, right)]
    assert wrong == [not k for k in kept] == back
    assert np.mean(wrong) == pytest.approx(0.3, abs=0.07)


def test_a_larger_share_spoils_what_a_smaller_one_does() -> None:
    few, many, all_ = (WrongFlow(STILL, share) for share in (0.2, 0.5, 1.0))
    for pair in many_frames(50):
        assert few.spoils(*pair) <= many.spoils(*pair) <= all_.spoils(*pair)
        assert all_.spoils(*pair)


def test_reversed_flow_passes_the_check_and_shuffled_flow_belongs_elsewhere(
    textured: Texture,
) -> None:
    scene = textured(160, 192)
    frames = scene[16:144, 16:144].copy(), scene[18:146, 13:141].copy()
    wrong = estimate_pair(WrongFlow(DisFlow(), 1.0), *frames)
    assert float(wrong.forward_valid.float().mean()) > 0.8
    middle = wrong.forward[32:96, 32:96].reshape(-1, 2).median(0).values
    torch.testing.assert_close(middle, torch.tensor([-3.0, 2.0]), atol=0.3, rtol=0)

    moved = frames[0].copy()
    moved[:64, :64] = np.roll(frames[0], (0, 3), (0, 1))[:64, :64]
    shuffled = WrongFlow(DisFlow(), 1.0, "shuffled").estimate(frames[0], moved)
    assert abs(np.median(shuffled[72:120, 72:120, 0]) - 3) < 0.3
    assert abs(np.median(shuffled[8:56, 8:56, 0])) < 0.3


# --- names


def test_texts_name_what_makes_flow_worse() -> None:
    assert flow_estimator("dis+noise:2") == NoisyFlow(DisFlow(), 2.0)
    assert flow_estimator("dis+noise:2:14") == NoisyFlow(DisFlow(), 2.0, 14.0)
    assert flow_estimator("dis:fast+blur:0.05") == BlurredFlow(DisFlow("fast"), 0.05)
    assert flow_estimator("dis+wrong:0.3") == WrongFlow(DisFlow(), 0.3)
    assert flow_estimator("dis+wrong:0.3:shuffled") == WrongFlow(DisFlow(), 0.3, "shuffled")
    assert flow_estimator("dis+scaled:0.5") == ScaledFlow(DisFlow(), 0.5)
    chain = flow_estimator("dis+blur:0.05+noise:1")
    assert chain == NoisyFlow(BlurredFlow(DisFlow(), 0.05), 1.0)


def test_a_plus_in_the_path_of_weights_is_no_degradation() -> None:
    raft = RaftFlow("large", Path("/a+b/c.pth"), device="cpu")
    assert flow_estimator("raft:large:/a+b/c.pth", "cpu") == raft
    assert flow_estimator("raft:large:/a+b/c.pth+scaled:2", "cpu") == ScaledFlow(raft, 2.0)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("dis+noise", r"got 'noise'; expected one of noise:SD"),
        ("dis+noise:1:2:3", "got 'noise:1:2:3'; expected one of noise:SD"),
        ("dis+noise:two", r"got 'noise:two' \(could not convert.*expected one of noise:SD"),
        ("dis+noise:-1", r"noise's standard deviation: got -1.0; expected .* in \[0, inf\]"),
        ("dis+noise:nan", "noise's standard deviation: got nan; expected a finite number"),
        ("dis+noise:1:500", r"correlation length: got 500.0; expected .* in \[0, 224\]"),
        ("dis+blur:2", r"blur: got 2.0; expected a finite number in \[0, 1\]"),
        ("dis+wrong:30", r"share of wrong pairs: got 30.0; expected .* in \[0, 1\]"),
        ("dis+wrong:0.3:odd", "got 'odd'; expected one of reversed, shuffled"),
        ("dis+scaled:inf", "factor: got inf; expected a finite number"),
        ("dis+fog:2", r"got 'dis\+fog:2'; expected dis, dis:PRESET, raft.*noise:SD"),
        ("noise:2", "got 'noise:2'; expected dis"),
    ],
)
def test_texts_that_name_no_degradation_are_refused(spec: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        flow_estimator(spec)
