"""Flow carried along: composed of what is between neighbours, trusted where it comes back."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from flowhmr.cameras import Crop, pixel_centres_px
from flowhmr.flow import Consistency, FlowPair, carry_pair

SIZE = 24
LINEAR = torch.tensor([[1.02, 0.03], [-0.02, 0.97]])
SHIFT_PX = torch.tensor([1.5, -0.7])
EXACT = Consistency(0.0, 1e-4)


def window(x_px: float, y_px: float, side_px: float, size_px: int = SIZE) -> Crop:
    still = torch.zeros(())
    return Crop(torch.tensor([x_px, y_px]), torch.tensor(side_px), still, still, size_px)


def moved(points_px: torch.Tensor) -> torch.Tensor:
    """Where all things go from one frame to the next."""
    return points_px @ LINEAR.T + SHIFT_PX


def came(points_px: torch.Tensor) -> torch.Tensor:
    """Where they come from."""
    return torch.linalg.solve(LINEAR, (points_px - SHIFT_PX).T).T


def hop(crop: Crop) -> tuple[Crop, FlowPair]:
    """Exact flow between neighbours in a window; nothing of it passes its own check."""
    centres = pixel_centres_px(crop.size_px, crop.size_px).flatten(0, 1)
    there = crop.to_crop(moved(crop.to_image(centres))) - centres
    back = crop.to_crop(came(crop.to_image(centres))) - centres
    shape = (crop.size_px, crop.size_px)
    nothing = torch.zeros(shape, dtype=torch.bool)
    return crop, FlowPair(there.reshape(*shape, 2), back.reshape(*shape, 2), nothing, nothing)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 5), st.floats(-2, 2), st.floats(60, 80), st.sampled_from([SIZE, SIZE + 9]))
def test_neighbours_in_windows_of_their_own_compose(hops, step_px, side_px, size_px) -> None:
    crops = [
        window(60 + step_px * k, 50 - step_px * k, side_px + 2 * k, size_px) for k in range(hops)
    ]
    wanted = window(60 + step_px, 50, 36.0)
    pair = carry_pair([hop(c) for c in crops], wanted, EXACT)
    centres = pixel_centres_px(SIZE, SIZE).flatten(0, 1)
    places = [wanted.to_image(centres)]
    for _ in range(hops):
        places.append(moved(places[-1]))
    expected = (wanted.to_crop(places[-1]) - centres).reshape(SIZE, SIZE, 2)
    # Beyond the centres of its border's pixels a map is flat.
    within = torch.ones(SIZE * SIZE, dtype=torch.bool)
    for crop, here in zip(crops, places, strict=False):
        seen = crop.to_crop(here)
        within &= ((seen >= 0.5) & (seen <= size_px - 0.5)).all(-1)
    within = within.reshape(SIZE, SIZE)
    assert within.float().mean() > 0.3
    assert_close(pair.forward[within], expected[within], atol=1e-3, rtol=0)
    # The way back is another's flow: where it starts within the maps too, it brings one home.
    home = pixel_centres_px(SIZE, SIZE) + expected
    inner = within & ((home > 2) & (home < SIZE - 2)).all(-1)
    assert pair.forward_valid[inner].float().mean() > 0.8


def constant(flow_px: tuple[float, float], back_px: tuple[float, float]) -> FlowPair:
    there, back = (torch.tensor(f).expand(SIZE, SIZE, 2) for f in (flow_px, back_px))
    trusted = torch.ones(SIZE, SIZE, dtype=torch.bool)
    return FlowPair(there, back, trusted, trusted)


def test_what_leaves_a_window_on_its_way_is_not_trusted() -> None:
    crop = window(12.0, 12.0, 24.0)
    out, back = constant((6.0, 0.0), (-6.0, 0.0)), constant((-6.0, 0.0), (6.0, 0.0))
    pair = carry_pair([(crop, out), (crop, back)], crop)
    assert_close(pair.forward, torch.zeros(SIZE, SIZE, 2))
    stays = torch.arange(SIZE) + 0.5 + 6 <= SIZE
    assert torch.equal(pair.forward_valid, stays.expand(SIZE, SIZE))
    assert torch.equal(pair.backward_valid, stays.expand(SIZE, SIZE))


def test_what_does_not_come_back_is_not_trusted_however_well_its_neighbours_agree() -> None:
    crop = window(12.0, 12.0, 24.0)
    near = constant((1.0, 0.0), (-0.3, 0.0))
    assert near.forward_valid.all()
    pair = carry_pair([(crop, near)] * 4, crop)
    # A miss of 2.8 px.
    assert not pair.forward_valid.any()
    assert carry_pair([(crop, near)], crop).forward_valid[:, :-1].all(), "a miss of 0.7 px"
