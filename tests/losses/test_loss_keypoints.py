"""2D keypoints of a detector as supervision: laws, and a readable twin."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from flowhmr.body import COCO_17, open_body
from flowhmr.cameras import WeakCamera, project_weak
from flowhmr.geometry import rotmat_from_axis_angle
from flowhmr.losses import (
    KeypointLossConfig,
    KeypointTerms,
    KeypointWeights,
    keypoint_loss,
    keypoint_terms,
    weigh,
)

SIZE, COUNT = 96, 17
SQUARED, ROBUST = KeypointLossConfig("squared"), KeypointLossConfig("charbonnier")
EITHER = pytest.mark.parametrize("config", [SQUARED, ROBUST], ids=lambda c: c.residual)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_frames(batch: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A body's keypoints, and detections some pixels off, of any confidence; float64."""
    points = SIZE * torch.rand(batch, COUNT, 2, generator=generator(seed)).double()
    off = 6 * torch.randn(batch, COUNT, 2, generator=generator(seed + 1)).double()
    confidence = torch.rand(batch, COUNT, 1, generator=generator(seed + 2)).double()
    return points, torch.cat([points + off, confidence], -1)


def terms(points: Tensor, detected: Tensor, config: KeypointLossConfig = SQUARED) -> KeypointTerms:
    return keypoint_terms(points, detected, SIZE, config)


# --- the formula


def twin(points: Tensor, detected: Tensor, config: KeypointLossConfig) -> tuple[float, float]:
    """Loss and mean distance of one frame, keypoint by keypoint."""
    loss, lengths_px = 0.0, []
    for (x, y), (u, v, confidence) in zip(points.tolist(), detected.tolist()):
        if confidence < config.min_confidence:
            continue
        length_px = math.hypot(x - u, y - v)
        error = length_px**2
        if config.residual == "charbonnier":
            unit_px = config.unit * SIZE
            error = 2 * unit_px**2 * (math.sqrt(1 + (length_px / unit_px) ** 2) - 1)
        loss += confidence * error / 2 / (SIZE / 2) ** 2 / COUNT
        lengths_px.append(length_px)
    return loss, sum(lengths_px) / len(lengths_px)


@EITHER
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_the_formula_keypoint_by_keypoint(seed, config):
    points, detected = random_frames(seed=seed)
    config = replace(config, min_confidence=0.4, unit=0.03)
    found = terms(points, detected, config)
    assert found.kept.all()
    for i in range(len(points)):
        loss, apart_px = twin(points[i], detected[i], config)
        assert float(found.keypoints2d[i]) == pytest.approx(loss, rel=1e-9)
        assert float(found.apart_px[i]) == pytest.approx(apart_px, rel=1e-9)


def test_squared_is_the_loss_of_labelled_keypoints():
    points, detected = random_frames()
    found = terms(points, detected, replace(SQUARED, min_confidence=0.0))
    expected = keypoint_loss(points, detected[..., :2], detected[..., 2], SIZE)
    assert_close(found.keypoints2d, expected)


@EITHER
def test_the_detected_pose_costs_nothing_and_is_a_minimum(config):
    points, detected = random_frames()
    points = detected[..., :2].clone().requires_grad_()
    found = terms(points, detected, config)
    assert found.keypoints2d.tolist() == [0] * 3
    assert found.apart_px.tolist() == [0] * 3
    assert not torch.autograd.grad(found.keypoints2d.sum(), points)[0].any()


@EITHER
def test_the_loss_does_not_depend_on_the_resolution(config):
    points, detected = random_frames()
    twice = detected * torch.tensor([2.0, 2.0, 1.0])
    found = keypoint_terms(2 * points, twice, 2 * SIZE, config)
    assert_close(found.keypoints2d, terms(points, detected, config).keypoints2d)
    assert_close(found.apart_px, 2 * terms(points, detected, config).apart_px)


@EITHER
def test_a_batch_is_its_samples(config):
    points, detected = random_frames(batch=4)
    detected[2, :, 2] = 0
    together = terms(points, detected, config)
    assert together.kept.tolist() == [True, True, False, True]
    for i in range(4):
        alone = terms(points[i : i + 1], detected[i : i + 1], config)
        for name in ("keypoints2d", "kept", "apart_px"):
            assert_close(getattr(together, name)[i], getattr(alone, name)[0])


# --- what is left out


@EITHER
@pytest.mark.parametrize("poison", [0.0, 1e30, float("nan"), float("inf")])
def test_detections_below_the_threshold_leak_nothing(poison, config):
    points, detected = random_frames()
    detected[:, 0, 2] = config.min_confidence
    doubtful = detected[..., 2] < config.min_confidence
    plain = terms(points, detected, config)
    detected[..., :2] = detected[..., :2].masked_fill(doubtful[..., None], poison)
    points.requires_grad_()
    found = terms(points, detected, config)
    assert doubtful.any()
    assert_close(found.keypoints2d, plain.keypoints2d)
    assert_close(found.apart_px, plain.apart_px)
    (gradient,) = torch.autograd.grad(found.keypoints2d.sum(), points)
    assert gradient[~doubtful].all()
    assert not gradient[doubtful].any()


@EITHER
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_is_not_finite_does_not_count(place, poison, config):
    points, detected = random_frames()
    detected[:, 0, 2], detected[:, 1:3, 2] = 0.9, 0.0
    without = terms(points, detected, config)
    detected[:, 1:3, 2] = 0.9
    detected[:, 1:3, place] = poison
    points.requires_grad_()
    found = terms(points, detected, config)
    assert_close(found.keypoints2d, without.keypoints2d)
    assert_close(found.apart_px, without.apart_px)
    (gradient,) = torch.autograd.grad(found.keypoints2d.sum(), points)
    assert gradient.isfinite().all()
    assert not gradient[:, 1:3].any()
    assert gradient[:, 0].all()


@EITHER
@pytest.mark.parametrize("least", [0.0, 0.3])
@pytest.mark.parametrize("missing", [0.0, float("nan")])
def test_a_frame_without_detections_costs_nothing_with_its_gradient(missing, least, config):
    points, detected = random_frames()
    detected[1] = missing
    points.requires_grad_()
    config = replace(config, min_confidence=least)
    found = terms(points, detected, config)
    assert found.kept.tolist() == [True, False, True]
    assert found.keypoints2d[1] == 0
    assert found.apart_px[1] == 0
    (gradient,) = torch.autograd.grad(found.keypoints2d.sum(), points)
    assert gradient.isfinite().all()
    assert not gradient[1].any()
    assert gradient[0].any()


@EITHER
def test_a_body_that_is_nan_shows(config):
    points, detected = random_frames()
    points[1] = torch.nan
    assert terms(points, detected, config).keypoints2d.isnan().tolist() == [False, True, False]


# --- residuals


def test_the_robust_residual_is_below_the_square_and_like_it_for_small_errors():
    _, detected = random_frames()
    detected[..., 2] = 1
    for error, relative in ((1e-3, 1e-6), (0.1, 1e-2), (30.0, None)):
        noise = error * torch.randn(3, COUNT, 2, generator=generator(4)).double()
        small, square = (
            terms(detected[..., :2] + noise, detected, c).keypoints2d for c in (ROBUST, SQUARED)
        )
        assert (small < square).all()
        if relative:
            assert_close(small, square, rtol=relative, atol=0)
        else:
            assert (small < 0.5 * square).all()


def test_the_robust_residual_grows_linearly():
    _, detected = random_frames()
    near, far = (
        terms(detected[..., :2] + torch.tensor([e, 0.0]), detected, ROBUST).keypoints2d
        for e in (1e5, 2e5)
    )
    assert_close(far, 2 * near, rtol=1e-3, atol=0)


@pytest.mark.parametrize("unit", [0.0, -1.0, float("nan")])
def test_a_unit_that_is_no_length_is_refused(unit):
    with pytest.raises(ValueError, match=r"unit: got .*; expected a share"):
        KeypointLossConfig(unit=unit)


def test_the_distance_has_no_gradient_and_weights_name_their_term():
    points, detected = random_frames()
    found = terms(points.requires_grad_(), detected.requires_grad_())
    assert not found.apart_px.requires_grad
    assert not torch.autograd.grad(found.keypoints2d.sum(), detected, allow_unused=True)[0]
    objective = weigh(terms(*random_frames()), KeypointWeights(2.0))
    assert float(objective.total) == pytest.approx(2 * objective.logged["keypoints2d"])


# --- gradients


@EITHER
def test_gradients(config):
    points, detected = random_frames(batch=2)
    detected[0, 3] = torch.nan
    leaf = points.requires_grad_()
    assert torch.autograd.gradcheck(lambda p: terms(p, detected, config).keypoints2d, leaf)


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
    _, detected = random_frames(batch=2)

    def value(pose: Tensor, betas: Tensor, camera: Tensor) -> Tensor:
        mesh = body.mesh(body.params(rotmat_from_axis_angle(pose), betas))
        points = project_weak(body.keypoints(mesh, COCO_17), WeakCamera(camera), SIZE)[..., :2]
        return terms(points, detected, config).keypoints2d.sum()

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
        assert abs(change) > 1e-10
        assert float((gradient * step).sum()) == pytest.approx(change, rel=1e-5)
