"""The texture loss: its laws, and a readable twin of its formula."""

from dataclasses import replace
from itertools import combinations
from statistics import median

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from flowhmr.body import open_body
from flowhmr.cameras import WeakCamera, pixel_centres_px, project_weak, sample_map
from flowhmr.geometry import rotmat_from_axis_angle
from flowhmr.losses import TextureLossConfig, TextureTerms, TextureWeights, texture_terms, weigh

SIZE = 24
PAIRS, MEDIAN = TextureLossConfig("pairs"), TextureLossConfig("median")
EITHER = pytest.mark.parametrize("config", [PAIRS, MEDIAN], ids=lambda c: c.against)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_sample(
    batch: int = 1, count: int = 3, verts: int = 12, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Points inside the crop and clear of the lines on which bilinear reading has a kink, float64;
    which are visible, about two thirds; frames of noise, 0..1."""
    cells = torch.randint(2, SIZE - 3, (batch, count, verts, 2), generator=generator(seed))
    within = 0.2 + 0.6 * torch.rand(cells.shape, generator=generator(seed + 1)).double()
    visible = torch.rand(batch, count, verts, generator=generator(seed + 2)) < 2 / 3
    visible[..., 0] = True
    return cells + 0.5 + within, visible, noise_frames(batch, count, seed)


def noise_frames(batch: int, count: int, seed: int = 0) -> Tensor:
    return torch.rand(batch, count, 3, SIZE, SIZE, generator=generator(seed + 3)).double()


def ones(visible: Tensor) -> Tensor:
    return torch.ones(visible.shape[-1], dtype=torch.float64)


def terms(
    points: Tensor, visible: Tensor, frames: Tensor, config: TextureLossConfig = PAIRS
) -> TextureTerms:
    return texture_terms(points, visible, frames, ones(visible), config)


# --- the formula


def colour(frame: Tensor, point: Tensor) -> Tensor:
    """Bilinear, away from the border."""
    x, y = (float(a) - 0.5 for a in point)
    j, i = int(x), int(y)
    s, t = x - j, y - i
    above = (1 - s) * frame[:, i, j] + s * frame[:, i, j + 1]
    below = (1 - s) * frame[:, i + 1, j] + s * frame[:, i + 1, j + 1]
    return (1 - t) * above + t * below


def twin(
    points: Tensor, visible: Tensor, frames: Tensor, weights: Tensor, config: TextureLossConfig
) -> float:
    """The one sample of a batch, comparison by comparison."""
    error_sum = weight_sum = 0.0
    for v, weight in enumerate(weights.tolist()):
        showing = visible[0, :, v].nonzero()[:, 0].tolist()
        colours = [colour(frames[0, i], points[0, i, v]) for i in showing]
        if len(colours) < 2:
            continue
        if config.against == "pairs":
            compared = list(combinations(colours, 2))
        else:
            middle = [median(float(c[k]) for c in colours) for k in range(3)]
            compared = [(c, torch.tensor(middle, dtype=torch.float64)) for c in colours]
        for one, other in compared:
            error_sum += weight * float((one - other).square().sum())
            weight_sum += weight
    return error_sum / weight_sum if weight_sum else 0.0


@EITHER
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_the_formula_comparison_by_comparison(seed, count, config):
    points, visible, frames = random_sample(count=count, seed=seed)
    weights = torch.rand(12, generator=generator(seed), dtype=torch.float64)
    weights[3] = 0
    found = texture_terms(points, visible, frames, weights, config)
    expected = twin(points, visible, frames, weights, config)
    assert found.kept.tolist() == [count > 1]
    assert (expected > 0) == (count > 1)
    assert float(found.texture) == pytest.approx(expected, rel=1e-9)


def test_two_frames_give_the_mean_squared_distance_of_colours():
    points, visible, frames = random_sample(count=2)
    frames[:, 0], frames[:, 1] = 0.25, 0.75
    assert_close(terms(points, visible, frames).texture, torch.tensor([3 * 0.5**2]).double())


# --- a texture that moves with the body


@EITHER
@pytest.mark.parametrize("blur", [0.0, 0.1])
def test_the_same_bodies_in_the_same_frames_cost_nothing(blur, config):
    points, visible, frames = random_sample(batch=2, count=5)
    points, frames = (x[:, :1].expand_as(x).float() for x in (points, frames))
    found = terms(points, visible, frames, replace(config, blur=blur))
    assert found.kept.all()
    assert_close(found.texture, torch.zeros(2).double(), rtol=0, atol=1e-12)


@EITHER
def test_a_texture_carried_by_whole_pixels_costs_nothing(config):
    points, visible, frames = random_sample(count=3)
    points, frames = (x[:, :1].repeat_interleave(3, 1) for x in (points, frames))
    points = 6 + (points - 6) / 2
    for i, (right, down) in enumerate([(0, 0), (5, 2), (3, 7)]):
        frames[:, i] = frames[:, 0].roll((down, right), (-2, -1))
        points[:, i] += torch.tensor([right, down])
    assert_close(terms(points, visible, frames, config).texture, torch.zeros(1).double())
    points[:, 2] += 1
    assert terms(points, visible, frames, config).texture > 0.01


@EITHER
def test_a_texture_turned_and_scaled_with_the_body_costs_nothing(config):
    # Bilinear reading is exact where colours are linear in the position.
    turn = torch.tensor([[0.9, -0.5], [0.5, 0.9]], dtype=torch.float64)
    shift = torch.tensor([3.0, -5.0], dtype=torch.float64)
    slopes = torch.rand(2, 3, generator=generator(4), dtype=torch.float64) / SIZE
    here = pixel_centres_px(SIZE, SIZE).double()
    there = (here - shift) @ torch.linalg.inv(turn).T
    frames = torch.stack([p @ slopes for p in (here, there)]).movedim(-1, 1)[None]
    first = 8 + 6 * torch.rand(1, 12, 2, generator=generator(5)).double()
    points = torch.stack([first, first @ turn.T + shift], 1)
    visible = torch.ones(1, 2, 12, dtype=torch.bool)
    assert_close(terms(points, visible, frames, config).texture, torch.zeros(1).double())
    assert terms(points.flip(1), visible, frames, config).texture > 1e-3


# --- symmetry and independence


@EITHER
def test_the_order_of_the_frames_does_not_matter(config):
    points, visible, frames = random_sample(batch=2, count=5)
    plain = terms(points, visible, frames, config).texture
    order = torch.tensor([3, 0, 4, 2, 1])
    assert_close(
        terms(points[:, order], visible[:, order], frames[:, order], config).texture, plain
    )


@EITHER
def test_a_batch_is_its_samples(config):
    sample = random_sample(batch=4)
    sample[1][1] = False
    config = replace(config, blur=0.05)
    together = terms(*sample, config)
    assert together.kept.tolist() == [True, False, True, True]
    for i in range(4):
        alone = terms(*(x[i : i + 1] for x in sample), config)
        assert_close(together.texture[i : i + 1], alone.texture)
        assert torch.equal(together.kept[i : i + 1], alone.kept)


@EITHER
def test_a_frame_that_shows_nothing_changes_nothing(config):
    points, visible, frames = random_sample(count=3)
    plain = terms(points, visible, frames, config).texture
    points, frames = (torch.cat([x, x[:, :1].flip(-1)], 1) for x in (points, frames))
    visible = torch.cat([visible, torch.zeros_like(visible[:, :1])], 1)
    assert_close(terms(points, visible, frames, config).texture, plain)


@EITHER
def test_bytes_are_shares_of_255(config):
    points, visible, frames = random_sample()
    frames = (255 * frames).byte()
    assert frames.any()
    in_bytes = terms(points, visible, frames, config).texture
    assert_close(in_bytes, terms(points, visible, frames.double() / 255, config).texture)


def test_only_the_proportions_of_the_weights_count():
    points, visible, frames = random_sample()
    weights = torch.rand(12, generator=generator(5), dtype=torch.float64)
    weights[:6:2] = 0
    found = texture_terms(points, visible, frames, weights, PAIRS).texture
    assert_close(found, texture_terms(points, visible, frames, 7 * weights, PAIRS).texture)
    fewer = visible & (weights > 0)
    assert_close(found, texture_terms(points, fewer, frames, weights, PAIRS).texture)
    assert not torch.isclose(found, terms(points, fewer, frames).texture).any()


# --- what is left out


@EITHER
@pytest.mark.parametrize("poison", [-0.01, SIZE + 0.01, -1e30, float("nan"), float("inf")])
@pytest.mark.parametrize("axis", [0, 1])
def test_points_off_the_crop_do_not_count_and_leak_nothing(axis, poison, config):
    points, visible, frames = random_sample(batch=2)
    off = torch.rand(visible.shape, generator=generator(7)) < 0.3
    plain = terms(points, visible & ~off, frames, config)
    points[..., axis] = points[..., axis].masked_fill(off, poison)
    points.requires_grad_()
    found = terms(points, visible, frames, config)
    assert (off & visible).any()
    assert_close(found.texture, plain.texture)
    (gradient,) = torch.autograd.grad(found.texture.sum(), points)
    assert gradient.isfinite().all()
    assert gradient.any()
    assert not gradient[off].any()


@EITHER
def test_hidden_vertices_have_no_gradient_and_may_be_nan(config):
    points, visible, frames = random_sample()
    plain = terms(points, visible, frames, config).texture
    points = points.masked_fill(~visible[..., None], torch.nan).requires_grad_()
    value = terms(points, visible, frames, config).texture
    assert_close(value, plain)
    (gradient,) = torch.autograd.grad(value.sum(), points)
    shared = visible & (visible.sum(1, keepdim=True) > 1)
    assert gradient.isfinite().all()
    assert gradient[shared].any()
    assert not gradient[~shared].any()


def test_the_border_of_the_crop_counts():
    points = torch.tensor([[0.0, 0.0], [SIZE, SIZE]]).double()[None, :, None]
    frames = torch.zeros(1, 2, 3, SIZE, SIZE).double()
    frames[0, 1] = 1
    found = terms(points, torch.ones(1, 2, 1, dtype=torch.bool), frames)
    assert found.kept.all()
    assert_close(found.texture, torch.tensor([3.0]).double())


@EITHER
@pytest.mark.parametrize("why", ["hidden", "apart", "weightless", "outside"])
def test_nothing_shared_costs_nothing_and_leaves_gradients_finite(why, config):
    points, visible, frames = random_sample()
    weights = ones(visible)
    if why == "hidden":
        visible[:] = False
    if why == "apart":
        visible = torch.arange(12) % 3 == torch.arange(3)[None, :, None]
    if why == "weightless":
        weights = 0 * weights
    if why == "outside":
        points[:, 1:] = torch.nan
    points.requires_grad_()
    found = texture_terms(points, visible, frames, weights, config)
    assert found.texture.tolist() == [0]
    assert found.kept.tolist() == [False]
    (gradient,) = torch.autograd.grad(found.texture.sum(), points)
    assert not gradient.any()


# --- median and blur


def test_with_the_median_one_frame_that_is_off_does_not_pull_the_others():
    points, visible, frames = random_sample(count=5)
    visible[:] = True
    points, frames = (x[:, :1].repeat_interleave(5, 1) for x in (points, frames))
    points[:, 2] += 4
    for config, pulls in ((PAIRS, True), (MEDIAN, False)):
        leaf = points.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(terms(leaf, visible, frames, config).texture, leaf)
        assert gradient[:, 2].any()
        assert gradient[:, [0, 1, 3, 4]].any() == pulls


def test_of_two_frames_the_median_makes_a_quarter_of_the_pair():
    sample = random_sample(batch=3, count=2)
    assert_close(4 * terms(*sample, MEDIAN).texture, terms(*sample, PAIRS).texture)


def test_blur_is_gaussian():
    frames = torch.zeros(1, 2, 3, SIZE, SIZE).double()
    frames[0, 0, 1, 12, 12] = 1
    at = pixel_centres_px(SIZE, SIZE).double()[[12, 12, 14], [12, 13, 12]]
    visible = torch.tensor([[[True]], [[True]], [[True]]]).expand(3, 2, 1)
    points = at[:, None, None].expand(3, 2, 1, 2)
    sigma = 1.5
    found = terms(
        points, visible, frames.expand(3, -1, -1, -1, -1), replace(PAIRS, blur=1.5 / SIZE)
    )
    apart = torch.tensor([0.0, 1.0, 2.0]).double()
    peak = 1 / (2 * torch.pi * sigma**2)
    expected = peak * torch.exp(-(apart**2) / (2 * sigma**2))
    assert_close(found.texture.sqrt(), expected, rtol=1e-3, atol=0)


def test_blur_leaves_flat_colours_alone_up_to_the_border():
    frames = torch.rand(1, 3, 3, 1, 1, generator=generator(1)).double().expand(1, 3, 3, SIZE, SIZE)
    points, visible, _ = random_sample()
    points[..., 0, 0] = 0
    plain = terms(points, visible, frames).texture
    assert_close(terms(points, visible, frames, replace(PAIRS, blur=0.2)).texture, plain)


def test_blur_pulls_from_further_away():
    # The vertex lies on a bright spot in frame 0 and six pixels left of it in frame 1.
    spot = torch.zeros(1, 2, 3, SIZE, SIZE).double()
    spot[..., 11:13, 11:13] = 1
    points = torch.tensor([[12.0, 12.0], [6.0, 12.0]]).double()[None, :, None].requires_grad_()
    visible = torch.ones(1, 2, 1, dtype=torch.bool)
    plain, blurred = (
        torch.autograd.grad(terms(points, visible, spot, replace(PAIRS, blur=blur)).texture, points)
        for blur in (0.0, 0.1)
    )
    assert not plain[0].any()
    assert blurred[0][0, 1, 0, 0] < 0
    assert blurred[0][0, 1, 0, 1] == pytest.approx(0)


@pytest.mark.parametrize("blur", [-0.1, 1.0, float("nan")])
def test_a_blur_that_is_no_share_is_refused(blur):
    with pytest.raises(ValueError, match=r"blur: got .*; expected a share"):
        TextureLossConfig(blur=blur)


# --- gradients


# With the median only of two frames, where it is their mean: else it is held, below.
@pytest.mark.parametrize(("config", "count"), [(PAIRS, 2), (PAIRS, 5), (MEDIAN, 2)])
@pytest.mark.parametrize("blur", [0.0, 0.05])
def test_gradients(blur, config, count):
    points, visible, frames = random_sample(batch=2, count=count, verts=4)
    config = replace(config, blur=blur)
    leaf = points.requires_grad_()
    assert torch.autograd.gradcheck(lambda p: terms(p, visible, frames, config).texture, leaf)


def test_the_median_is_held():
    points, visible, frames = random_sample(count=5)
    visible[:] = True
    points.requires_grad_()
    colours = sample_map(frames[0].movedim(1, -1), points[0])
    held = (colours - colours.detach().median(0).values).square().sum(-1).mean()
    value = terms(points, visible, frames, MEDIAN).texture.sum()
    assert_close(value, held)
    assert_close(torch.autograd.grad(value, points), torch.autograd.grad(held, points))


def test_weights_name_their_term():
    objective = weigh(terms(*random_sample()), TextureWeights(2.0))
    assert float(objective.total) == pytest.approx(2 * objective.logged["texture"])


@EITHER
def test_gradients_reach_pose_shape_and_camera(config):
    body = open_body().to(dtype=torch.float64)
    facing = torch.zeros(2, 24, 3, dtype=torch.float64)
    facing[:, 0, 0] = torch.pi
    variables = [
        facing + 0.1 * torch.randn(2, 24, 3, generator=generator(0)).double(),
        0.5 * torch.randn(2, 10, generator=generator(1)).double(),
        torch.tensor([0.8, 0.0, 0.0]) + 0.05 * torch.randn(2, 3, generator=generator(2)).double(),
    ]
    frames = noise_frames(1, 2)

    def posed_px(pose: Tensor, betas: Tensor, camera: Tensor) -> Tensor:
        params = body.params(rotmat_from_axis_angle(pose), betas)
        return project_weak(body.mesh(params).verts, WeakCamera(camera), SIZE)[None, ..., :2]

    visible = torch.rand(1, 2, len(body.v_template), generator=generator(3)) < 0.6

    def value(pose: Tensor, betas: Tensor, camera: Tensor) -> Tensor:
        return terms(posed_px(pose, betas, camera), visible, frames, config).texture.sum()

    leaves = [variable.requires_grad_() for variable in variables]
    gradients = torch.autograd.grad(value(*leaves), leaves)
    for k, gradient in enumerate(gradients):
        assert gradient.isfinite().all()
        step = 1e-7 * torch.randn(gradient.shape, generator=generator(k + 5)).double()
        with torch.no_grad():
            ahead, behind = (
                value(*(x + sign * step if j == k else x for j, x in enumerate(leaves)))
                for sign in (1, -1)
            )
        change = float(ahead - behind) / 2
        assert abs(change) > 1e-12
        assert float((gradient * step).sum()) == pytest.approx(change, rel=1e-4)
