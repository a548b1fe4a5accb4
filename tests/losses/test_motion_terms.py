"""Losses of Motion HMR: what each term sees, and what the adversary loses."""

import math
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from flowhmr.body import BodyParams
from flowhmr.cameras import WeakCamera
from flowhmr.geometry import pick, rotmat_from_axis_angle
from flowhmr.losses import (
    AdversaryTerms,
    AdversaryWeights,
    MotionTerms,
    MotionWeights,
    NonFiniteLoss,
    adversary_terms,
    both_heads,
    motion_terms,
    weigh,
)
from flowhmr.losses.motion import FAR
from flowhmr.records import Estimate, TrackLabels

BATCH, PAIRS = 3, 4
NAMES = [field.name for field in fields(MotionTerms)]


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Float64 normal noise."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def truth() -> tuple[Estimate, TrackLabels, Tensor]:
    """An estimate that meets its labels exactly, and the joints of both."""
    pose, betas = noise(BATCH, PAIRS, 24, 3), noise(BATCH, PAIRS, 10)
    params = BodyParams(rotmat_from_axis_angle(pose), betas, "a body")
    camera = WeakCamera(noise(BATCH, PAIRS, 3) * 0.1 + torch.tensor([0.9, 0.1, -0.1]))
    joints_m = 0.3 * noise(BATCH, PAIRS, 24, 3, seed=1)
    points = camera.scale[..., None, None] * joints_m[..., :2] + camera.shift[..., None, :]
    return Estimate(params, camera), TrackLabels(params, points), joints_m


def wrong() -> tuple[Estimate, TrackLabels, Tensor, Tensor]:
    """An estimate that is off in all."""
    estimate, labels, target_m = truth()
    pose, betas = noise(BATCH, PAIRS, 24, 3, seed=2), noise(BATCH, PAIRS, 10, seed=3)
    params = replace(estimate.params, rotmats=rotmat_from_axis_angle(pose), betas=betas)
    camera = WeakCamera(estimate.camera.params + 0.1 * noise(BATCH, PAIRS, 3, seed=4))
    joints_m = target_m + 0.1 * noise(BATCH, PAIRS, 24, 3, seed=5)
    return Estimate(params, camera), labels, joints_m, target_m


def test_the_truth_costs_nothing_but_the_cameras_regulariser():
    estimate, labels, joints_m = truth()
    terms = motion_terms(estimate, labels, joints_m, joints_m)
    for name in NAMES:
        if name != "camera":
            assert_close(getattr(terms, name), torch.zeros(BATCH).double(), atol=1e-9, rtol=0)
    assert_close(terms.camera, torch.exp(-20 * estimate.camera.scale).mean(1))


def test_each_term_sees_its_own_error_only():
    estimate, labels, joints_m = truth()
    params = estimate.params
    turned = params.rotmats.clone()
    turned[..., 0] += torch.tensor([2.0, 0.0, 0.0])
    changes = {
        "points": (replace(labels, points=labels.points - 0.5), 0.5),
        "far": (replace(labels, points=labels.points - 9), FAR),
        "pose": (replace(labels, params=replace(params, rotmats=turned)), 4 / 9),
        "shape": (replace(labels, params=replace(params, betas=params.betas - 0.5)), 0.25),
    }
    for changed, (other, cost) in changes.items():
        terms = motion_terms(estimate, other, joints_m, joints_m)
        felt = "points" if changed == "far" else changed
        for name in NAMES:
            if name != "camera":
                expected = torch.full((BATCH,), cost if name == felt else 0.0, dtype=torch.float64)
                assert_close(getattr(terms, name), expected, atol=1e-9, rtol=1e-9, msg=changed)


def test_the_aligned_term_does_not_see_a_similarity():
    estimate, labels, joints_m, target_m = wrong()
    before = motion_terms(estimate, labels, joints_m, target_m)
    turn = rotmat_from_axis_angle(noise(BATCH, PAIRS, 3, seed=7))
    scale = noise(BATCH, PAIRS, 1, 1, seed=8).abs() + 0.5
    turned_m = scale * joints_m @ turn.mT + noise(BATCH, PAIRS, 1, 3, seed=9)
    after = motion_terms(estimate, labels, turned_m, target_m)
    assert_close(after.aligned, before.aligned)
    assert (after.joints > 2 * before.joints).all()
    mirrored = motion_terms(estimate, labels, target_m * torch.tensor([-1.0, 1, 1]), target_m)
    assert (mirrored.aligned > 0.01).all()


def test_a_batch_is_its_clips():
    estimate, labels, joints_m, target_m = wrong()
    together = motion_terms(estimate, labels, joints_m, target_m)
    for i in range(BATCH):
        at = torch.tensor([i])
        alone = motion_terms(pick(estimate, at), pick(labels, at), joints_m[at], target_m[at])
        for name in NAMES:
            assert_close(getattr(together, name)[at], getattr(alone, name), msg=name)
    assert all(bool((getattr(together, name) > 0).all()) for name in NAMES)


def test_both_heads_count_the_same():
    estimate, labels, joints_m, target_m = wrong()
    one = motion_terms(estimate, labels, joints_m, target_m)
    other = motion_terms(estimate, labels, target_m, target_m)
    for name in NAMES:
        expected = (getattr(one, name) + getattr(other, name)) / 2
        assert_close(getattr(both_heads(one, other), name), expected)
        assert_close(getattr(both_heads(other, one), name), expected)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "aligned"])
def test_gradients_are_finite_differences(name):
    estimate, labels, joints_m, target_m = wrong()
    start = [estimate.params.rotmats, estimate.params.betas, estimate.camera.params, joints_m]
    start = [v.clone().requires_grad_() for v in start]
    ways = [noise(*v.shape, seed=10 + i) for i, v in enumerate(start)]

    def cost(rotmats: Tensor, betas: Tensor, camera: Tensor, joints_m: Tensor) -> Tensor:
        params = replace(estimate.params, rotmats=rotmats, betas=betas)
        said = Estimate(params, WeakCamera(camera))
        return getattr(motion_terms(said, labels, joints_m, target_m), name).sum()

    grads = torch.autograd.grad(cost(*start), start, allow_unused=True)
    slope = sum(((g * w).sum() for g, w in zip(grads, ways) if g is not None), torch.tensor(0.0))
    step = 1e-7
    with torch.no_grad():
        up, down = (cost(*(v + s * w for v, w in zip(start, ways))) for s in (step, -step))
    assert float(slope) == pytest.approx(float(up - down) / (2 * step), rel=1e-4)
    assert abs(float(slope)) > 1e-9


def test_the_aligned_term_pulls_joints_towards_the_truth():
    estimate, labels, joints_m, target_m = wrong()
    ours = joints_m.clone().requires_grad_()
    before = motion_terms(estimate, labels, ours, target_m).aligned
    before.sum().backward()
    assert bool(ours.grad.isfinite().all())
    moved = joints_m - 0.3 * ours.grad
    assert (motion_terms(estimate, labels, moved, target_m).aligned < before).all()


def test_weights_are_named_like_terms():
    terms = motion_terms(*wrong())
    assert {field.name for field in fields(MotionWeights)} == set(NAMES)
    objective = weigh(terms, MotionWeights())
    weights = MotionWeights()
    expected = sum(getattr(weights, n) * float(getattr(terms, n).mean()) for n in NAMES)
    assert float(objective.total) == pytest.approx(expected)
    assert (weights.joints, weights.pose) == (0, 0), "the paper has joints up to a similarity"


def test_what_is_not_finite_is_named():
    estimate, labels, joints_m, target_m = wrong()
    estimate.params.betas[1] = math.nan
    with pytest.raises(NonFiniteLoss, match="term 'shape'"):
        weigh(motion_terms(estimate, labels, joints_m, target_m), MotionWeights())


def test_the_adversary_loses_least_when_it_tells_the_domains_apart():
    sure = torch.full((2, 5), 9.0)
    fields_of = {field.name for field in fields(AdversaryWeights)}
    assert fields_of == {field.name for field in fields(AdversaryTerms)}
    assert adversary_terms(-sure, sure).adversary.mean() < 1e-3
    assert_close(adversary_terms(sure, -sure).adversary, torch.full((4,), 9.0), atol=1e-3, rtol=0)
    unsure = adversary_terms(0 * sure, 0 * sure).adversary
    assert_close(unsure, torch.full((4,), math.log(2)))


def test_each_domain_counts_for_half_whatever_its_size():
    synthetic, real = noise(2, 5), noise(6, 3, seed=1)
    found = weigh(adversary_terms(synthetic, real), AdversaryWeights(2.0)).total
    lost = [torch.nn.functional.softplus(v).mean() for v in (synthetic, -real)]
    assert_close(found, lost[0] + lost[1])
