"""Similarity alignment."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from flowhmr.geometry import (
    Similarity,
    align_similarity,
    procrustes_align,
    rotmat_from_axis_angle,
)


def random_points(*shape: int, seed: int = 0) -> Tensor:
    """Float64 points (*shape, 3)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, 3, generator=generator, dtype=torch.float64)


def squared_error(similarity: Similarity, source: Tensor, target: Tensor) -> Tensor:
    return (similarity(source) - target).square().sum((-1, -2))


@given(seed=st.integers(0, 10_000), scale=st.floats(1e-3, 1e3), far=st.floats(0, 100))
@settings(max_examples=25, deadline=None)
def test_recovers_a_known_similarity(seed, scale, far):
    turn, shift = random_points(2, 3, seed=seed + 1), random_points(2, 3, seed=seed + 2)
    scales = scale * torch.tensor([[1.0, 2.0, 3.0], [0.5, 0.2, 7.0]], dtype=torch.float64)
    known = Similarity(scales, rotmat_from_axis_angle(turn), far * shift)
    source = random_points(2, 3, 14, seed=seed)
    found = align_similarity(source, known(source))
    assert_close(found.scale, known.scale)
    assert_close(found.rotmat, known.rotmat, atol=1e-7, rtol=0)
    assert_close(found.shift, known.shift, atol=1e-7 * scale, rtol=1e-6)


def test_a_similarity_scales_turns_and_shifts():
    points = random_points(5)
    rotmat, shift = rotmat_from_axis_angle(random_points()), random_points(seed=1)
    moved = Similarity(torch.tensor(2.0, dtype=torch.float64), rotmat, shift)(points)
    for before, after in zip(points, moved):
        assert_close(after, 2 * rotmat @ before + shift)


@pytest.mark.parametrize("seed", range(5))
def test_no_similarity_near_the_found_one_fits_better(seed):
    source, target = random_points(14, seed=seed), random_points(14, seed=seed + 100)
    best = align_similarity(source, target)
    least = squared_error(best, source, target)
    for step in range(20):
        turn = 0.02 * random_points(seed=step)
        other = Similarity(
            best.scale * (1 + 0.02 * random_points(seed=step + 50)[0]),
            best.rotmat @ rotmat_from_axis_angle(turn),
            best.shift + 0.02 * random_points(seed=step + 70),
        )
        assert squared_error(other, source, target) > least


def test_a_mirror_image_is_never_met_by_a_reflection():
    source = random_points(6, 14)
    target = source * torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    found = align_similarity(source, target)
    assert_close(torch.linalg.det(found.rotmat), torch.ones(6, dtype=torch.float64))
    assert (squared_error(found, source, target) > 0.1).all()
    assert (found.scale > 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("at", [0.0, 0.1, 1000.0])
def test_coincident_points_are_only_shifted(at, dtype):
    where = torch.tensor([at, 2 * at, -3 * at], dtype=dtype)
    source = where.expand(2, 14, 3)
    target = random_points(2, 14).to(dtype)
    found = align_similarity(source, target)
    assert_close(found.scale, torch.ones(2, dtype=dtype))
    assert_close(found.rotmat, torch.eye(3, dtype=dtype).expand(2, 3, 3))
    middle = target.mean(1, keepdim=True).expand(2, 14, 3)
    assert_close(found(source), middle, atol=1e-3 if dtype == torch.float32 else 1e-9, rtol=0)


@pytest.mark.parametrize("degenerate", ["source", "target", "both"])
def test_coincident_points_leave_gradients_finite(degenerate):
    cloud, point = random_points(2, 14), torch.ones(2, 14, 3, dtype=torch.float64)
    source = (cloud if degenerate == "target" else point).clone().requires_grad_()
    target = (cloud if degenerate == "source" else point).clone().requires_grad_()
    aligned = procrustes_align(source, target)
    assert aligned.isfinite().all()
    for gradient in torch.autograd.grad(aligned.square().sum(), [source, target]):
        assert gradient.isfinite().all()


def test_a_degenerate_sample_leaves_its_neighbours_alone():
    source, target = random_points(3, 14), random_points(3, 14, seed=1)
    spoilt = torch.cat([source[:1], torch.ones(1, 14, 3, dtype=torch.float64), source[2:]])
    assert_close(procrustes_align(spoilt, target)[[0, 2]], procrustes_align(source, target)[[0, 2]])


def test_a_batch_is_a_loop():
    source, target = random_points(2, 3, 14), random_points(2, 3, 14, seed=1)
    batch = procrustes_align(source, target)
    for i in range(2):
        for j in range(3):
            assert_close(batch[i, j], procrustes_align(source[i, j], target[i, j]))


def test_alignment_undoes_any_similarity_of_the_source():
    source, target = random_points(14), random_points(14, seed=1)
    turn = rotmat_from_axis_angle(random_points(seed=2))
    moved = Similarity(torch.tensor(3.0, dtype=torch.float64), turn, random_points(seed=3))(source)
    assert_close(procrustes_align(moved, target), procrustes_align(source, target))


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_gradients(size):
    source = random_points(2, 5).requires_grad_()
    target = random_points(2, 5, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s, t: procrustes_align(size * s, size * t) / size, (source, target)
    )
