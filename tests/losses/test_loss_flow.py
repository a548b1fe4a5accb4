"""The optical-flow loss: its laws, and a readable twin of its formula."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from flowhmr.body import BodyModel, open_body
from flowhmr.bodyflow import BodyFlow, body_flow, swap_body_flow
from flowhmr.cameras import WeakCamera, pixel_centres_px, project_weak, sample_map
from flowhmr.flow import FlowPair, swap_pair
from flowhmr.geometry import pick, rotmat_from_axis_angle
from flowhmr.losses import FlowLossConfig, flow_terms

SIZE = 32
PAPER = FlowLossConfig(consistent=False)
EITHER = pytest.mark.parametrize("residual", ["squared", "charbonnier"])


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_body(count: int = 10, batch: int = 1, seed: int = 0) -> BodyFlow:
    """Points well inside the crop that move by a pixel or so, float64; about half are visible."""
    start = 6 + (SIZE - 12) * torch.rand(batch, count, 2, generator=generator(seed)).double()
    moves = torch.randn(batch, count, 2, generator=generator(seed + 1)).double()
    visible = torch.rand(batch, count, generator=generator(seed + 2)) < 0.5
    visible[:, 0] = True
    return BodyFlow(start, start + moves, visible)


def random_pair(batch: int = 1, seed: int = 0, size: float = 2.0) -> FlowPair:
    """Noise in both directions, float64; a fifth of the pixels is invalid."""
    maps = size * torch.randn(2, batch, SIZE, SIZE, 2, generator=generator(seed + 10)).double()
    valid = torch.rand(2, batch, SIZE, SIZE, generator=generator(seed + 11)) > 0.2
    return FlowPair(maps[0], maps[1], valid[0], valid[1])


def constant_pair(flow: Tensor, back: Tensor | None = None) -> FlowPair:
    """The flows (b, 2) at every pixel, valid everywhere; by default the way back undoes them."""
    there, back = (
        f.double()[:, None, None].expand(-1, SIZE, SIZE, 2)
        for f in (flow, -flow if back is None else back)
    )
    valid = torch.ones(there.shape[:3], dtype=torch.bool)
    return FlowPair(there.clone(), back.clone(), valid, valid.clone())


def ones(body: BodyFlow) -> Tensor:
    return torch.ones(body.visible.shape[1], dtype=torch.float64)


def loss(body: BodyFlow, image: FlowPair, config: FlowLossConfig = PAPER) -> Tensor:
    return flow_terms(body, image, ones(body), config).flow


def with_all_visible(body: BodyFlow) -> BodyFlow:
    return replace(body, visible=torch.ones_like(body.visible))


# --- a body that moves with the image


@EITHER
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (2.5, -1.25)])
def test_a_body_that_moves_with_the_image_costs_nothing(shift, scaled, residual):
    shift = torch.tensor([shift], dtype=torch.float64)
    body = random_body()
    body = replace(body, end_px=body.start_px + shift[:, None])
    terms = flow_terms(
        body, constant_pair(shift), ones(body), FlowLossConfig(residual=residual, scaled=scaled)
    )
    assert terms.kept.all()
    assert terms.flow == pytest.approx(0, abs=1e-20)
    assert terms.disagreement_px == pytest.approx(0, abs=1e-10)
    assert terms.image_flow_px == pytest.approx(float(shift.norm()))


@EITHER
def test_a_body_that_moves_with_an_affine_flow_costs_nothing(residual):
    body = random_body()
    stretch = torch.tensor([[1.05, -0.06], [0.04, 0.97]], dtype=torch.float64)
    shift = torch.tensor([0.7, -0.4], dtype=torch.float64)
    centres = pixel_centres_px(SIZE, SIZE).double()[None]
    valid = torch.ones(1, SIZE, SIZE, dtype=torch.bool)
    forward = centres @ stretch.T + shift - centres
    backward = (centres - shift) @ torch.linalg.inv(stretch).T - centres
    body = replace(body, end_px=body.start_px + sample_map(forward, body.start_px))
    image = FlowPair(forward, backward, valid, valid)
    assert loss(body, image, replace(PAPER, residual=residual)) == pytest.approx(0, abs=1e-20)
    assert loss(random_body(), image) > 0.1


# --- the formula


def twin(body: BodyFlow, image: FlowPair, weights: Tensor, config: FlowLossConfig) -> float:
    """Eqs. 1 and 2 with section 5, for the one pair of a batch, vertex by vertex."""
    ways = [
        (body.start_px[0], body.end_px[0], image.forward, image.forward_valid),
        (body.end_px[0], body.start_px[0], image.backward, image.backward_valid),
    ]
    values = []
    for starts, ends, flow, valid in ways:
        weight_sum = error_sum = length_sum = longest = 0.0
        for start, end, visible, weight in zip(starts, ends, body.visible[0], weights.tolist()):
            j, i = int(start[0]), int(start[1])
            if not visible or (config.consistent and not valid[0, i, j]):
                continue
            image_flow = flow[0, i, j]
            error_sum += weight * float((end - start - image_flow).square().sum())
            length_sum += weight * float(image_flow.norm())
            longest = max(longest, float(image_flow.norm()))
            weight_sum += weight
        if weight_sum == 0 or longest > config.max_flow * SIZE:
            return 0.0
        unit = config.unit * SIZE
        if config.scaled:
            unit = max(length_sum / weight_sum, unit)
        values.append(error_sum / weight_sum / unit**2)
    return sum(values) / 2


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("consistent", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_the_formula_vertex_by_vertex(seed, consistent, scaled):
    config = FlowLossConfig(consistent=consistent, scaled=scaled, max_flow=5.5 / SIZE)
    at_pixels = random_body(seed=seed)
    start, end = at_pixels.start_px.floor() + 0.5, at_pixels.end_px.floor() + 0.5
    body = BodyFlow(start, end, at_pixels.visible)
    weights = torch.rand(10, generator=generator(seed), dtype=torch.float64)
    image = random_pair(seed=seed)
    found = flow_terms(body, image, weights, config).flow
    assert float(found) == pytest.approx(twin(body, image, weights, config), rel=1e-9)


def test_the_twin_sees_kept_and_dropped_pairs():
    values = [
        twin(b, p, torch.ones(10), replace(PAPER, max_flow=5.5 / SIZE))
        for b, p in ((random_body(seed=s), random_pair(seed=s)) for s in range(8))
    ]
    assert 0 < sum(v > 0 for v in values) < 8


# --- symmetry and independence


@EITHER
def test_time_may_run_backwards(residual):
    body, image = random_body(batch=3), random_pair(batch=3)
    for consistent in (False, True):
        config = FlowLossConfig(residual=residual, consistent=consistent)
        there = flow_terms(body, image, ones(body), config)
        back = flow_terms(swap_body_flow(body), swap_pair(image), ones(body), config)
        assert there.flow.any()
        assert_close(there.flow, back.flow)
        assert torch.equal(there.kept, back.kept)
        assert_close(there.disagreement_px, back.disagreement_px)
        assert_close(there.image_flow_px, back.image_flow_px)


def test_a_batch_is_its_samples():
    body, image = random_body(batch=4), random_pair(batch=4)
    body.visible[1] = False
    image.forward[2] *= 100
    config = FlowLossConfig()
    terms = flow_terms(body, image, ones(body), config)
    assert terms.kept.tolist() == [True, False, False, True]
    for i in range(4):
        index = torch.tensor([i])
        alone = flow_terms(pick(body, index), pick(image, index), ones(body), config)
        for name in ("flow", "kept", "disagreement_px", "image_flow_px"):
            assert_close(getattr(terms, name)[i], getattr(alone, name)[0])


# --- what is left out


@EITHER
def test_no_visible_vertex_costs_nothing_and_leaves_gradients_finite(residual):
    body, image = random_body(), random_pair()
    body.visible[:] = False
    body.end_px.requires_grad_()
    terms = flow_terms(body, image, ones(body), FlowLossConfig(residual=residual))
    assert terms.flow.tolist() == [0]
    assert terms.kept.tolist() == [False]
    (gradient,) = torch.autograd.grad(terms.flow.sum(), body.end_px)
    assert not gradient.any()


@EITHER
def test_still_frames_cost_little_and_leave_gradients_finite(residual):
    config = replace(PAPER, residual=residual)
    still = constant_pair(torch.zeros(1, 2))
    body = random_body()
    rest = replace(body, end_px=body.start_px.clone().requires_grad_())
    value = loss(rest, still, config)
    assert value == 0
    assert not torch.autograd.grad(value.sum(), rest.end_px)[0].any()
    body.end_px.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(body, still, config).sum(), body.end_px)
    assert gradient.isfinite().all()
    assert gradient.any()


@pytest.mark.parametrize(("length", "kept"), [(7.9, True), (8.1, False)])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_pairs_with_a_long_flow_are_dropped(direction, length, kept):
    body = with_all_visible(random_body())
    image = constant_pair(torch.ones(1, 2))
    at = body.start_px if direction == "forward" else body.end_px
    j, i = (int(x) for x in at[0, 3])
    image_map = getattr(image, direction)
    image_map[:, i - 1 : i + 2, j - 1 : j + 2] = torch.tensor([0.0, length]).double()
    body.end_px.requires_grad_()
    config = replace(PAPER, max_flow=8 / SIZE)
    terms = flow_terms(body, image, ones(body), config)
    assert terms.kept.tolist() == [kept]
    assert bool(terms.flow > 0) == kept
    (gradient,) = torch.autograd.grad(terms.flow.sum(), body.end_px)
    assert gradient.any() == kept


def test_a_long_flow_where_nothing_is_counted_drops_nothing():
    body = random_body()
    image = constant_pair(torch.ones(1, 2))
    plain = loss(body, image)
    for k in (~body.visible[0]).nonzero()[:, 0].tolist():
        far = (body.start_px[0, k] - body.start_px[0, body.visible[0]]).abs().amax(-1).min()
        if far > 3:
            j, i = (int(x) for x in body.start_px[0, k])
            image.forward[0, i - 1 : i + 2, j - 1 : j + 2] = 100
    assert (image.forward == 100).any()
    assert_close(loss(body, image), plain)


@pytest.mark.parametrize("poison", [0.0, float("nan"), float("inf")])
@EITHER
def test_inconsistent_flow_does_not_count(residual, poison):
    body, image = with_all_visible(random_body()), constant_pair(torch.ones(1, 2))
    right = torch.arange(10) % 2 == 1
    body.start_px[..., 0] = torch.where(right, 24.0, 8.0)
    moves = random_body(seed=1).displacement_px.clamp(-3, 3)
    body = replace(body, end_px=(body.start_px + moves).requires_grad_())
    config = FlowLossConfig(residual=residual, consistent=True)
    expected = loss(replace(body, visible=~right[None]), image, config)
    for flow, valid in (
        (image.forward, image.forward_valid),
        (image.backward, image.backward_valid),
    ):
        flow[:, :, SIZE // 2 :] = poison
        valid[:, :, SIZE // 2 :] = False
    value = loss(body, image, config)
    assert_close(value, expected)
    (gradient,) = torch.autograd.grad(value.sum(), body.end_px)
    assert not gradient[:, right].any()
    assert gradient[:, ~right].all()


# --- scale and unit


@EITHER
def test_the_loss_does_not_depend_on_the_speed(residual):
    flow = torch.tensor([[2.0, 1.0]], dtype=torch.float64)
    body = random_body()
    faster = replace(body, end_px=body.start_px + 2 * body.displacement_px)
    config = replace(PAPER, residual=residual)
    assert_close(
        loss(faster, constant_pair(2 * flow), config), loss(body, constant_pair(flow), config)
    )
    plain = replace(PAPER, scaled=False)
    assert_close(
        loss(faster, constant_pair(2 * flow), plain), 4 * loss(body, constant_pair(flow), plain)
    )


def test_the_scale_is_the_squared_mean_flow_of_each_direction():
    body = random_body()
    there, back = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, -2.0]])
    moves, seen = body.displacement_px[0], body.visible[0]
    forward = (moves - there)[seen].square().sum(-1).mean() / 5**2
    backward = (-moves - back)[seen].square().sum(-1).mean() / 2**2
    found = loss(body, constant_pair(there, back))
    assert_close(found, ((forward + backward) / 2)[None])


def test_still_pairs_and_plain_ones_are_measured_in_the_unit():
    body = random_body()
    moves, seen = body.displacement_px[0], body.visible[0]
    for speed in (0.0, 1e-3):
        flow = torch.tensor([[speed, 0.0]])
        there, back = (d[seen].square().sum(-1).mean() for d in (moves - flow, -moves - flow))
        for scaled in (False, True):
            config = replace(PAPER, unit=2 / SIZE, scaled=scaled)
            found = loss(body, constant_pair(flow, flow), config)
            assert_close(found, ((there + back) / 2 / 2**2)[None])


# --- weights and residuals


def test_vertices_of_no_weight_do_not_count():
    body, image = random_body(), random_pair()
    weights = torch.rand(10, generator=generator(5), dtype=torch.float64)
    weights[:6:2] = 0
    found = flow_terms(body, image, weights, PAPER).flow
    fewer = replace(body, visible=body.visible & (weights > 0))
    assert_close(found, flow_terms(fewer, image, weights, PAPER).flow)
    assert_close(found, flow_terms(body, image, 7 * weights, PAPER).flow)
    assert not torch.isclose(found, loss(fewer, image)).any()


def test_the_robust_residual_is_below_the_square_and_like_it_for_small_errors():
    image = constant_pair(torch.tensor([[2.0, 1.0]]))
    robust = replace(PAPER, residual="charbonnier")
    body = random_body()
    moves_with = replace(body, end_px=body.start_px + torch.tensor([2.0, 1.0]))
    for error, relative in ((1e-4, 1e-6), (0.01, 1e-2), (10.0, None)):
        noise = error * torch.randn(1, 10, 2, generator=generator(4)).double()
        off = replace(moves_with, end_px=moves_with.end_px + noise)
        small, square = loss(off, image, robust), loss(off, image)
        assert small < square
        if relative:
            assert_close(small, square, rtol=relative, atol=0)
        else:
            assert small < 0.5 * square


def test_the_robust_residual_grows_linearly():
    image = constant_pair(torch.tensor([[2.0, 1.0]]))
    robust = replace(PAPER, residual="charbonnier")
    body = random_body()
    near, far = (replace(body, end_px=body.start_px + torch.tensor([e, 0.0])) for e in (1e4, 2e4))
    assert_close(loss(far, image, robust), 2 * loss(near, image, robust), rtol=1e-3, atol=0)


def test_disagreement_and_image_flow_are_reported_in_pixels():
    body = random_body()
    body.end_px.requires_grad_()
    there, back = torch.tensor([[3.0, 4.0]]), torch.tensor([[-6.0, -8.0]])
    terms = flow_terms(body, constant_pair(there, back), ones(body), PAPER)
    moves, seen = body.displacement_px[0].detach(), body.visible[0]
    gaps = (moves - there)[seen].norm(dim=-1).mean() + (-moves - back)[seen].norm(dim=-1).mean()
    assert_close(terms.disagreement_px, gaps[None] / 2)
    assert terms.image_flow_px.tolist() == [pytest.approx(7.5)]
    assert terms.flow.requires_grad
    assert not terms.disagreement_px.requires_grad


# --- gradients


@EITHER
@pytest.mark.parametrize("scaled", [False, True])
def test_gradients(scaled, residual):
    body = random_body(4, batch=2)
    image = constant_pair(torch.tensor([[2.0, 1.0], [-1.0, 0.5]]))
    config = FlowLossConfig(residual=residual, scaled=scaled)

    def value(start: Tensor, end: Tensor) -> Tensor:
        return loss(BodyFlow(start, end, body.visible), image, config)

    points = body.start_px.requires_grad_(), body.end_px.requires_grad_()
    assert torch.autograd.gradcheck(value, points)


def test_where_the_flow_is_read_has_no_gradient():
    body, image = random_body(), random_pair()
    points = body.start_px.requires_grad_(), body.end_px.requires_grad_()
    start, end = torch.autograd.grad(loss(body, image).sum(), points)
    assert end.any()
    assert_close(start, -end)


def posed_px(body: BodyModel, pose: Tensor, betas: Tensor, camera: Tensor) -> Tensor:
    params = body.params(rotmat_from_axis_angle(pose), betas)
    return project_weak(body.mesh(params).verts, WeakCamera(camera), SIZE)


@EITHER
def test_gradients_reach_pose_shape_and_camera(residual):
    body = open_body().to(dtype=torch.float64)
    facing = torch.zeros(2, 24, 3, dtype=torch.float64)
    facing[:, 0, 0] = torch.pi
    variables = [
        facing + 0.1 * torch.randn(2, 24, 3, generator=generator(0)).double(),
        0.5 * torch.randn(2, 10, generator=generator(1)).double(),
        torch.tensor([0.8, 0.0, 0.0]) + 0.05 * torch.randn(2, 3, generator=generator(2)).double(),
    ]
    with torch.no_grad():
        first, second = posed_px(body, *variables).split(1)
    visible = body_flow(first, second, body.faces, SIZE).visible
    image = constant_pair(torch.tensor([[1.5, -1.0]]))
    config = FlowLossConfig(residual=residual)

    def value(pose: Tensor, betas: Tensor, camera: Tensor) -> Tensor:
        first, second = posed_px(body, pose, betas, camera)[..., :2].split(1)
        return loss(BodyFlow(first, second, visible), image, config).sum()

    leaves = [variable.requires_grad_() for variable in variables]
    gradients = torch.autograd.grad(value(*leaves), leaves)
    for k, gradient in enumerate(gradients):
        assert gradient.isfinite().all()
        step = 1e-6 * torch.randn(gradient.shape, generator=generator(k + 5)).double()
        with torch.no_grad():
            ahead, behind = (
                value(*(x + sign * step if j == k else x for j, x in enumerate(leaves)))
                for sign in (1, -1)
            )
        change = float(ahead - behind) / 2
        assert abs(change) > 1e-9
        assert float((gradient * step).sum()) == pytest.approx(change, rel=1e-5)
