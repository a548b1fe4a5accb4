"""Laws of flow maps: swapping, resizing, sampling."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowhmr.cameras import pixel_centres_px
from flowhmr.flow import (
    FlowPair,
    resize_flow,
    resize_pair,
    sample_flow,
    sample_mask,
    sample_masked_flow,
    swap_pair,
)

sides = st.integers(1, 40)


def random_pair(height: int, width: int, lead: tuple[int, ...] = (), seed: int = 0) -> FlowPair:
    random = torch.Generator().manual_seed(seed)
    return FlowPair(
        forward=torch.randn(*lead, height, width, 2, generator=random),
        backward=torch.randn(*lead, height, width, 2, generator=random),
        forward_valid=torch.rand(*lead, height, width, generator=random) > 0.2,
        backward_valid=torch.rand(*lead, height, width, generator=random) > 0.2,
    )


def affine_flow(height: int, width: int) -> torch.Tensor:
    """A flow that is linear in x and y."""
    centres = pixel_centres_px(height, width)
    return centres @ torch.tensor([[0.1, -0.2], [0.05, 0.3]]) + torch.tensor([2.0, -1.0])


def test_swapping_exchanges_the_frames() -> None:
    pair = random_pair(5, 7)
    swapped = swap_pair(pair)
    assert swapped.forward is pair.backward
    assert swapped.backward is pair.forward
    assert swapped.forward_valid is pair.backward_valid
    assert swapped.backward_valid is pair.forward_valid


@settings(deadline=None, max_examples=50)
@given(sides, sides, sides, sides)
def test_resizing_a_constant_flow_scales_its_vectors(h: int, w: int, h2: int, w2: int) -> None:
    flow = torch.tensor([3.0, -5.0]).expand(2, h, w, 2)
    expected = torch.tensor([3.0 * w2 / w, -5.0 * h2 / h]).expand(2, h2, w2, 2)
    torch.testing.assert_close(resize_flow(flow, h2, w2), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "within_px"), [((24, 40), 1e-4), ((96, 80), 1e-4), ((40, 33), 0.03)]
)
def test_resizing_keeps_where_things_go(size: tuple[int, int], within_px: float) -> None:
    """A linear flow stays that flow in the new pixels, away from the border's flat ends.

    Shrinking by a fraction averages over samples that are not quite symmetric.
    """
    height, width = 48, 80
    resized = resize_flow(affine_flow(height, width), *size)
    scale = torch.tensor([size[1] / width, size[0] / height])
    at_old_px = pixel_centres_px(*size) / scale
    expected = at_old_px @ torch.tensor([[0.1, -0.2], [0.05, 0.3]]) + torch.tensor([2.0, -1.0])
    inner = (slice(4, -4), slice(4, -4))
    torch.testing.assert_close(resized[inner], (expected * scale)[inner], rtol=0, atol=within_px)


def test_shrinking_averages_all_pixels() -> None:
    flow = torch.randn(1, 64, 64, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    resize_flow(flow, 16, 8).sum().backward()
    assert flow.grad is not None
    # Each pixel's share in the sum: vectors shrink by (8, 4), areas by 32.
    shares = flow.grad[0, 8:-8, 16:-16] * 32 * torch.tensor([8.0, 4.0])
    torch.testing.assert_close(shares, torch.ones_like(shares), rtol=1e-4, atol=1e-4)


def test_resizing_to_the_same_size_changes_nothing() -> None:
    pair = random_pair(9, 12, lead=(2, 3))
    same = resize_pair(pair, 9, 12)
    torch.testing.assert_close(same.forward, pair.forward)
    torch.testing.assert_close(same.backward, pair.backward)
    assert torch.equal(same.forward_valid, pair.forward_valid)
    assert torch.equal(same.backward_valid, pair.backward_valid)


@settings(deadline=None, max_examples=50)
@given(sides, sides, sides, sides, st.integers(0, 10))
def test_nothing_invalid_gets_into_a_valid_resized_pixel(
    h: int, w: int, h2: int, w2: int, seed: int
) -> None:
    pair = random_pair(h, w, seed=seed)
    mask = pair.forward_valid[..., None].expand_as(pair.forward)
    poisoned = torch.where(mask, torch.ones_like(pair.forward), torch.full_like(pair.forward, 1e6))
    resized = resize_pair(FlowPair(poisoned, poisoned, mask[..., 0], mask[..., 0]), h2, w2)
    clean = resized.forward[resized.forward_valid] / torch.tensor([w2 / w, h2 / h])
    assert bool((clean < 1 + 1e6 * 2e-3).all())
    everywhere = torch.ones(h, w, dtype=torch.bool)
    kept = resize_pair(FlowPair(poisoned, poisoned, everywhere, everywhere), h2, w2)
    assert bool(kept.forward_valid.all() and kept.backward_valid.all())


def test_shrinking_twofold_keeps_the_pixels_far_from_invalid_ones() -> None:
    valid = torch.ones(16, 16, dtype=torch.bool)
    valid[8, 8] = False
    flow = torch.zeros(16, 16, 2)
    small = resize_pair(FlowPair(flow, flow, valid, valid), 8, 8).forward_valid
    assert not small[4, 4]
    assert small.sum() >= 64 - 9


def test_flow_sampled_at_pixel_centres_is_the_map() -> None:
    flow = torch.randn(2, 6, 9, 2)
    centres = pixel_centres_px(6, 9).reshape(1, -1, 2).expand(2, -1, 2)
    torch.testing.assert_close(sample_flow(flow, centres), flow.reshape(2, -1, 2))


def test_flow_sampled_between_pixels_is_linear() -> None:
    points = torch.tensor([[[3.2, 4.9], [10.25, 2.75]]])
    expected = points @ torch.tensor([[0.1, -0.2], [0.05, 0.3]]) + torch.tensor([2.0, -1.0])
    sampled = sample_flow(affine_flow(12, 16)[None], points)
    torch.testing.assert_close(sampled, expected)


def test_a_sample_is_valid_inside_and_away_from_invalid_pixels_only() -> None:
    mask = torch.ones(1, 6, 8, dtype=torch.bool)
    mask[0, 2, 3] = False
    points = {
        (3.5, 2.5): False,  # the invalid pixel itself
        (4.4, 2.5): False,  # the right neighbour shares a tenth
        (4.5, 2.5): True,  # the neighbour's centre: the invalid pixel has no weight
        (2.6, 1.6): False,  # diagonally between
        (6.0, 5.0): True,
        (0.0, 0.0): True,  # the image's edge is inside
        (8.0, 6.0): True,
        (-0.1, 3.0): False,
        (8.1, 3.0): False,
        (4.0, 6.1): False,
        (float("nan"), 3.0): False,
    }
    got = sample_mask(mask, torch.tensor([list(points)]))
    assert got[0].tolist() == list(points.values())


@pytest.mark.parametrize("width", [224, 1920, 4096])
def test_valid_centres_beside_invalid_pixels_stay_valid_on_wide_maps(width: int) -> None:
    mask = (torch.arange(width) % 2 == 0)[None, None].expand(1, 2, width)
    centres = pixel_centres_px(2, width).reshape(1, -1, 2)
    assert torch.equal(sample_mask(mask, centres), mask.reshape(1, -1))


def test_masked_flow_is_flow_and_mask():
    torch.manual_seed(0)
    flow, mask = torch.randn(2, 9, 12, 2), torch.rand(2, 9, 12) > 0.3
    points = torch.rand(2, 300, 2) * torch.tensor([14.0, 11.0]) - 1
    points[0, 0] = torch.nan
    sampled, trusted = sample_masked_flow(flow, mask, points)
    torch.testing.assert_close(sampled, sample_flow(flow, points), equal_nan=True)
    assert torch.equal(trusted, sample_mask(mask, points))
    assert 0 < trusted.float().mean() < 1
