"""The field's metrics: laws and known values."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from flowhmr.evaluation import acceleration, acceleration_error, mpjpe, pa_mpjpe, pve
from flowhmr.geometry import Similarity, rotmat_from_axis_angle

ROOT = (2, 3)


def joints(frames: int = 5, seed: int = 0, count: int = 14) -> Tensor:
    """Float64 joints in metres (t, j, 3)."""
    generator = torch.Generator().manual_seed(seed)
    return 0.4 * torch.randn(frames, count, 3, generator=generator, dtype=torch.float64)


@given(seed=st.integers(0, 10_000), scale=st.floats(0.05, 20))
@settings(max_examples=20, deadline=None)
def test_pa_does_not_see_a_similarity(seed, scale):
    estimate, target = joints(seed=seed), joints(seed=seed + 1)
    turn, shift = joints(seed=seed + 2, count=1)[:, 0], joints(seed=seed + 3, count=1)[:, 0]
    scales = torch.full((5,), scale, dtype=torch.float64)
    moved = Similarity(scales, rotmat_from_axis_angle(5 * turn), shift)(estimate)
    assert_close(pa_mpjpe(moved, target), pa_mpjpe(estimate, target))
    assert_close(pa_mpjpe(moved, estimate), torch.zeros(5, dtype=torch.float64), atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [0.001, 0.03, 0.1])
def test_alignment_leaves_less_error(size):
    target = joints(50)
    estimate = target + size * joints(50, seed=1)
    aligned, rooted = pa_mpjpe(estimate, target), mpjpe(estimate, target, ROOT)
    assert (aligned > 0).all()
    assert (aligned <= rooted).all()


def test_pa_sees_a_reflection():
    mirrored = joints() * torch.tensor([-1.0, 1.0, 1.0])
    assert (pa_mpjpe(mirrored, joints()) > 100).all()


def test_mpjpe_counts_millimetres_about_the_root():
    target = joints()
    estimate = target + joints(seed=1, count=1)
    assert_close(mpjpe(estimate, target, ROOT), torch.zeros(5, dtype=torch.float64))
    estimate[:, 0] += torch.tensor([0.03, 0.0, 0.04])
    expected = torch.full((5,), 50 / 14, dtype=torch.float64)
    assert_close(mpjpe(estimate, target, ROOT), expected)


def test_the_root_is_the_mean_of_its_joints():
    target = joints()
    estimate = target.clone()
    estimate[:, 2, 0] += 0.1
    estimate[:, 3, 0] -= 0.1
    assert_close(mpjpe(estimate, target, ROOT), torch.full((5,), 200 / 14).double())
    assert_close(mpjpe(estimate, target, (2,)), torch.full((5,), (12 * 100 + 200) / 14).double())


def test_pve_counts_each_mesh_about_its_own_root():
    verts, root = joints(count=100), joints(seed=1, count=1)[:, 0]
    assert_close(pve(verts + 3, verts, root + 3, root), torch.zeros(5, dtype=torch.float64))
    expected = torch.full((5,), 3000 * 3**0.5, dtype=torch.float64)
    assert_close(pve(verts + 3, verts, root, root), expected)


def test_even_motion_does_not_accelerate():
    start, velocity = joints(1), joints(1, seed=1)
    steady = start + torch.arange(6.0)[:, None, None] * velocity
    zero = torch.zeros(4, 14, 3, dtype=torch.float64)
    assert_close(acceleration(steady), zero, atol=1e-9, rtol=0)


def test_a_steady_acceleration_is_found_in_each_inner_frame():
    target, accelerated = joints(1), joints(1, seed=1)
    times = torch.arange(6.0)[:, None, None]
    moving = target + joints(1, seed=2) * times + accelerated * times**2 / 2
    assert_close(acceleration(moving), (1000 * accelerated).expand(4, 14, 3))


def test_acceleration_error_is_the_distance_of_accelerations_about_the_root():
    target = joints(8)
    error = acceleration_error(joints(8, seed=1), target, ROOT)
    assert error.shape == (6,)
    assert (error > 0).all()
    assert_close(acceleration_error(target, target, ROOT), torch.zeros(6, dtype=torch.float64))
    rooted = target - target[:, list(ROOT)].mean(1, keepdim=True)
    opposite = 2 * acceleration(rooted).norm(dim=-1).mean(-1)
    assert_close(acceleration_error(-target, target, ROOT), opposite)
    steady = torch.arange(8.0)[:, None, None] * joints(1, seed=2)
    zero = torch.zeros(6, dtype=torch.float64)
    assert_close(acceleration_error(target + steady, target, ROOT), zero, atol=1e-9, rtol=0)
    shaken = target + joints(8, seed=3, count=1)
    assert_close(acceleration_error(shaken, target, ROOT), zero, atol=1e-9, rtol=0)
    jumped = target.clone()
    jumped[3, 0, 0] += 0.014
    expected = torch.tensor([0.0, 1, 2, 1, 0, 0], dtype=torch.float64)
    assert_close(acceleration_error(jumped, target, ROOT), expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("frames", [1, 2])
def test_a_clip_without_inner_frames_has_no_acceleration(frames):
    assert acceleration(joints(frames)).shape == (0, 14, 3)
    assert acceleration_error(joints(frames), joints(frames), ROOT).shape == (0,)


def test_metrics_keep_the_floating_type():
    estimate, target = joints().float(), joints(seed=1).float()
    for values in (mpjpe(estimate, target, ROOT), pa_mpjpe(estimate, target)):
        assert values.dtype == torch.float32
        assert values.shape == (5,)
