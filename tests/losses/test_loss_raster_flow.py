"""The raster optical-flow loss: its laws, its formula, and bodies that it pulls back."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from flowhmr.body import open_body
from flowhmr.cameras import WeakCamera, project_weak
from flowhmr.flow import FlowPair, swap_pair
from flowhmr.geometry import pick, rotmat_from_axis_angle
from flowhmr.losses import (
    RasterFlowConfig,
    RasterFlowTerms,
    RasterFlowWeights,
    gradient_colours,
    raster_flow_terms,
    weigh,
)
from flowhmr.raster import render_attributes

SIZE = 48
PAPER = RasterFlowConfig()
BOTH = RasterFlowConfig(held=False, both_ways=True)
EITHER = pytest.mark.parametrize("config", [PAPER, BOTH])


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def posed_px(pose: Tensor, betas: Tensor, camera: Tensor, size_px: int = SIZE) -> Tensor:
    """Vertices (b, v, 3) in pixels of bodies with axis-angle poses (b, 24, 3)."""
    body = open_body()
    params = body.params(rotmat_from_axis_angle(pose), betas)
    return project_weak(body.mesh(params).verts, WeakCamera(camera), size_px)


def random_bodies(batch: int = 1, seed: int = 0, size_px: int = SIZE) -> Tensor:
    pose = 0.2 * torch.randn(batch, 24, 3, generator=generator(seed))
    pose[:, 0] = torch.tensor([math.pi, 0, 0])
    betas = torch.randn(batch, 10, generator=generator(seed + 1))
    return posed_px(pose, betas, torch.tensor([[0.7, 0.0, 0.15]]).repeat(batch, 1), size_px)


def constant_pair(flow: Tensor, size_px: int = SIZE) -> FlowPair:
    """The flows (b, 2) at every pixel, undone on the way back, valid everywhere."""
    there = flow[:, None, None].expand(-1, size_px, size_px, 2)
    valid = torch.ones(there.shape[:3], dtype=torch.bool)
    return FlowPair(there.clone(), -there, valid, valid.clone())


def random_pair(batch: int = 1, seed: int = 0) -> FlowPair:
    maps = 2 * torch.randn(2, batch, SIZE, SIZE, 2, generator=generator(seed + 10))
    valid = torch.rand(2, batch, SIZE, SIZE, generator=generator(seed + 11)) > 0.2
    return FlowPair(maps[0], maps[1], valid[0], valid[1])


def terms(
    first: Tensor, second: Tensor, image: FlowPair, config: RasterFlowConfig = PAPER
) -> RasterFlowTerms:
    body = open_body()
    colours = gradient_colours(body.v_template)
    return raster_flow_terms(first, second, body.faces, colours, image, config)


def moved(verts_px: Tensor, by_px: tuple[float, float]) -> Tensor:
    return verts_px + torch.tensor([*by_px, 0.0])


# --- the formula


@EITHER
@pytest.mark.parametrize("shift", [(0.0, 0.0), (3.0, -2.0)])
def test_a_body_that_moves_with_the_image_costs_nothing(shift, config):
    first = random_bodies(2)
    image = constant_pair(torch.tensor([shift, shift]))
    found = terms(first, moved(first, shift), image, config)
    assert found.kept.all()
    # Vertices moved by whole pixels are rounded otherwise: a pixel or two may show another face.
    assert (found.raster_flow < 1e-6).all()
    assert (terms(first, moved(first, (2, 2)), image, config).raster_flow > 1e-3).all()


@pytest.mark.parametrize("consistent", [True, False])
def test_agrees_with_the_formula_pixel_by_pixel(consistent):
    body, config = open_body(), RasterFlowConfig(consistent=consistent)
    first, second = random_bodies(1, 0), random_bodies(1, 5)
    image = random_pair()
    image = replace(image, backward=image.backward.round())
    colours = gradient_colours(body.v_template)
    drawn = [render_attributes(v[0], body.faces, colours, SIZE, SIZE) for v in (first, second)]
    squares = []
    for row in range(SIZE):
        for col in range(SIZE):
            right, down = (int(x) for x in image.backward[0, row, col])
            from_col, from_row = col + right, row + down
            inside = 0 <= from_col < SIZE and 0 <= from_row < SIZE
            if inside and (image.backward_valid[0, row, col] or not consistent):
                difference = drawn[1][row, col] - drawn[0][from_row, from_col]
                squares.append(difference.square())
    expected = torch.stack(squares).mean()
    assert expected > 0.01
    assert_close(terms(first, second, image, config).raster_flow[0], expected)


def test_the_way_back_is_the_swapped_pair():
    first, second, image = random_bodies(2, 0), random_bodies(2, 5), random_pair(2)
    config = replace(PAPER, both_ways=True)
    found = terms(first, second, image, config).raster_flow
    assert_close(found, terms(second, first, swap_pair(image), config).raster_flow)
    there = terms(first, second, image).raster_flow
    back = terms(second, first, swap_pair(image)).raster_flow
    assert not torch.isclose(there, back).any()
    assert_close(found, (there + back) / 2)


@EITHER
def test_a_batch_is_its_samples(config):
    first, second, image = random_bodies(3, 0), random_bodies(3, 5), random_pair(3)
    second[1] += 3 * SIZE
    first[1] += 3 * SIZE
    together = terms(first, second, image, config)
    assert together.kept.tolist() == [True, False, True]
    for i in range(3):
        part = slice(i, i + 1)
        alone = terms(first[part], second[part], pick(image, torch.tensor([i])), config)
        assert_close(together.raster_flow[part], alone.raster_flow)


def test_colours_tell_the_body_from_the_background_and_its_parts_from_each_other():
    colours = gradient_colours(open_body().v_template)
    assert_close(colours.amin(0), torch.full((3,), 0.25))
    assert_close(colours.amax(0), torch.ones(3))


def test_weights_name_their_term():
    found = terms(random_bodies(2, 0), random_bodies(2, 5), random_pair(2))
    objective = weigh(found, RasterFlowWeights(2.0))
    assert float(objective.total) == pytest.approx(2 * objective.logged["raster_flow"])


# --- gradients


def gradients(
    first: Tensor, second: Tensor, image: FlowPair, config: RasterFlowConfig
) -> tuple[Tensor, Tensor]:
    leaves = first.clone().requires_grad_(), second.clone().requires_grad_()
    found = torch.autograd.grad(terms(*leaves, image, config).raster_flow.sum(), leaves)
    return found[0], found[1]


def test_a_held_drawing_has_no_gradient():
    first, second, image = random_bodies(1, 0), random_bodies(1, 5), random_pair()
    one, other = gradients(first, second, image, PAPER)
    assert not one.any()
    assert other.any()
    one, free = gradients(first, second, image, replace(PAPER, held=False))
    assert one.any()
    assert_close(free, other)


def test_free_bodies_are_pulled_towards_each_other_equally_hard():
    # Moving both by the same whole pixels changes nothing where the image does not move.
    first = random_bodies(1, 0)
    one, other = gradients(first, moved(first, (1, 2)), constant_pair(torch.zeros(1, 2)), BOTH)
    pull = other[..., :2].sum(1)
    assert (pull > 0).all()
    assert_close(one[..., :2].sum(1), -pull, rtol=0.02, atol=0)


@EITHER
def test_flow_that_does_not_count_leaks_nothing(config):
    first, second, image = random_bodies(1, 0), random_bodies(1, 5), random_pair()
    expected = terms(first, second, image, config).raster_flow
    for poison in (torch.nan, torch.inf, 1e30):
        forward = image.forward.masked_fill(~image.forward_valid[..., None], poison)
        backward = image.backward.masked_fill(~image.backward_valid[..., None], poison)
        bad = replace(image, forward=forward, backward=backward)
        assert_close(terms(first, second, bad, config).raster_flow, expected)
        assert all(part.isfinite().all() for part in gradients(first, second, bad, config))
    unchecked = replace(config, consistent=False)
    assert terms(first, second, bad, unchecked).raster_flow.isfinite().all()


@EITHER
@pytest.mark.parametrize("why", ["off the image", "no flow"])
def test_nothing_to_compare_costs_nothing_and_leaves_gradients_finite(why, config):
    first, second, image = random_bodies(1, 0), random_bodies(1, 5), random_pair()
    if why == "off the image":
        first, second = first + 2 * SIZE, second - 2 * SIZE
    else:
        nowhere = torch.zeros_like(image.forward_valid)
        image = replace(image, forward_valid=nowhere, backward_valid=nowhere)
    found = terms(first, second, image, config)
    assert found.kept.tolist() == [False]
    assert found.raster_flow.tolist() == [0]
    assert not any(part.any() for part in gradients(first, second, image, config))


def test_gradients_reach_pose_shape_and_camera():
    pose = 0.2 * torch.randn(1, 24, 3, generator=generator(0))
    pose[:, 0] = torch.tensor([math.pi, 0, 0])
    leaves = [pose, torch.zeros(1, 10), torch.tensor([[0.7, 0.0, 0.15]])]
    for leaf in leaves:
        leaf.requires_grad_()
    loss = terms(random_bodies(1, 5), posed_px(*leaves), random_pair()).raster_flow.sum()
    for gradient in torch.autograd.grad(loss, leaves):
        assert gradient.isfinite().all()
        assert gradient.any()


# --- pulling back


def pulled_back(by_px: tuple[float, float], flow_px: tuple[float, float], flat: bool) -> Tensor:
    """Where gradient descent (Adam) leaves a body (x, y) that starts ``by_px`` from its place.

    The image moves by ``flow_px``; the place is where that carries the first body. ``flat``: drawn
    in one colour, so that only the outline pulls.
    """
    size_px, body = 112, open_body()
    first = random_bodies(1, 3, size_px)
    image = constant_pair(torch.tensor([flow_px]), size_px)
    colours = gradient_colours(body.v_template)
    if flat:
        colours = torch.ones_like(colours)
    off_px = torch.tensor(by_px, requires_grad=True)
    optimiser = torch.optim.Adam([off_px], lr=0.5)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.05, 60)
    for _ in range(60):
        second = moved(first, flow_px) + torch.cat([off_px, torch.zeros(1)])
        value = raster_flow_terms(first, second, body.faces, colours, image, PAPER).raster_flow
        optimiser.zero_grad()
        value.sum().backward()
        optimiser.step()
        schedule.step()
    return off_px.detach()


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(
    ("by_px", "flow_px"), [((8.0, 0.0), (0.0, 0.0)), ((-5.7, 5.7), (3.4, -2.3))]
)
def test_a_body_8_px_away_is_pulled_back(by_px, flow_px, flat):
    assert math.hypot(*by_px) > 8 - 0.1
    assert pulled_back(by_px, flow_px, flat).norm() < 0.25
