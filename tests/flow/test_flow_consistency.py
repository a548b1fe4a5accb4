"""Laws of the forward-backward check."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowhmr.cameras import pixel_centres_px
from flowhmr.flow import Consistency, consistency_masks

H, W = 40, 56


def turned_by(angle_rad: float, zoom: float) -> torch.Tensor:
    """Flow of an image turned and zoomed about its centre."""
    cos, sin = zoom * math.cos(angle_rad), zoom * math.sin(angle_rad)
    from_centre = pixel_centres_px(H, W) - torch.tensor([W / 2, H / 2])
    return from_centre @ torch.tensor([[cos, sin], [-sin, cos]]) - from_centre


def lands_inside(flow: torch.Tensor) -> torch.Tensor:
    landing = pixel_centres_px(H, W) + flow
    return ((landing >= 0) & (landing <= torch.tensor([W, H]))).all(-1)


@settings(deadline=None, max_examples=30)
@given(st.floats(-0.2, 0.2), st.floats(0.9, 1.1))
def test_exact_inverses_agree_wherever_they_stay_in_the_image(angle: float, zoom: float) -> None:
    forward, backward = turned_by(angle, zoom), turned_by(-angle, 1 / zoom)
    # Strict settings: what is left is the bilinear rounding and the flat border of half a pixel.
    masks = consistency_masks(forward, backward, Consistency(relative=0.0, absolute_px2=0.05))
    for mask, flow in zip(masks, (forward, backward)):
        assert torch.equal(mask, lands_inside(flow))


def test_a_miss_is_measured_in_squared_pixels() -> None:
    forward = torch.zeros(H, W, 2)
    backward = torch.full((H, W, 2), 0.0)
    backward[..., 0] = 0.6
    strict, loose = Consistency(relative=0.0, absolute_px2=0.35), Consistency(0.0, 0.37)
    assert not consistency_masks(forward, backward, strict)[0].any()
    assert consistency_masks(forward, backward, loose)[0].all()


def test_long_flow_may_miss_by_more() -> None:
    """|f + b| = 1 px passes the published rule from |f|^2 + |b|^2 = 50 px^2 on, not before."""
    for length, expected in ((4.0, False), (6.0, True)):
        forward = torch.tensor([length, 0.0]).expand(H, W, 2)
        backward = torch.tensor([1.0 - length, 0.0]).expand(H, W, 2)
        assert bool(consistency_masks(forward, backward)[0][20, 20]) == expected


def test_what_an_occluder_hides_is_inconsistent_and_the_rest_is_not() -> None:
    """A block moves 8 px to the right over a still background."""
    forward, backward = torch.zeros(H, W, 2), torch.zeros(H, W, 2)
    forward[10:30, 10:26, 0] = 8
    backward[10:30, 18:34, 0] = -8
    forward_valid, backward_valid = consistency_masks(forward, backward)
    hidden, uncovered = torch.zeros(2, H, W, dtype=torch.bool)
    hidden[10:30, 26:34] = True
    uncovered[10:30, 10:18] = True
    assert torch.equal(~forward_valid, hidden)
    assert torch.equal(~backward_valid, uncovered)


def test_flow_out_of_the_image_or_without_a_number_is_invalid() -> None:
    forward, backward = torch.zeros(H, W, 2), torch.zeros(H, W, 2)
    forward[:, -3:, 0] = 5
    backward[:, -3:, 0] = -5
    forward[3, 4] = torch.nan
    valid, _ = consistency_masks(forward, backward, Consistency(relative=0.0, absolute_px2=1e9))
    expected = torch.ones(H, W, dtype=torch.bool)
    expected[:, -3:] = False
    expected[3, 4] = False
    assert torch.equal(valid, expected)


def test_swapping_the_flows_swaps_the_masks_and_samples_do_not_mix() -> None:
    random = torch.Generator().manual_seed(0)
    forward = torch.randn(3, 2, H, W, 2, generator=random)
    backward = torch.randn(3, 2, H, W, 2, generator=random)
    there, back = consistency_masks(forward, backward)
    again_back, again_there = consistency_masks(backward, forward)
    assert torch.equal(there, again_there)
    assert torch.equal(back, again_back)
    assert 0 < there.float().mean() < 1
    one, _ = consistency_masks(forward[2, 1], backward[2, 1])
    assert torch.equal(there[2, 1], one)
