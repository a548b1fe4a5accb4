"""6D layouts, axis-angle and the geodesic distance."""

import math
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from flowhmr.geometry import (
    Rot6dLayout,
    axis_angle_from_rotmat,
    geodesic_rad,
    rot6d_from_rotmat,
    rotmat_from_axis_angle,
    rotmat_from_rot6d,
)

LAYOUTS: tuple[Rot6dLayout, ...] = ("spin", "columns", "rows")
EYE = torch.eye(3, dtype=torch.float64)


def random_rotmats(*batch: int, seed: int = 0) -> Tensor:
    """Float64 rotations with these leading axes."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(*batch, 3, generator=generator, dtype=torch.float64)
    return rotmat_from_axis_angle(vectors)


def axes(seed: int = 0) -> Tensor:
    """Unit vectors: the three axes and some between them."""
    generator = torch.Generator().manual_seed(seed)
    between = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    return torch.cat([EYE, torch.nn.functional.normalize(between, dim=-1)])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_six_numbers_keep_a_rotation(layout):
    rotmats = random_rotmats(2, 5)
    assert_close(rotmat_from_rot6d(rot6d_from_rotmat(rotmats, layout), layout), rotmats)


@pytest.mark.parametrize("layout", LAYOUTS)
@given(seed=st.integers(0, 10_000), size=st.floats(0.01, 100))
@settings(max_examples=20, deadline=None)
def test_any_six_numbers_give_a_rotation(layout, seed, size):
    generator = torch.Generator().manual_seed(seed)
    rot6d = size * torch.randn(4, 6, generator=generator, dtype=torch.float64)
    rotmats = rotmat_from_rot6d(rot6d, layout)
    assert_close(rotmats @ rotmats.transpose(-1, -2), EYE.expand(4, 3, 3))
    assert_close(torch.linalg.det(rotmats), torch.ones(4, dtype=torch.float64))
    assert_close(rotmat_from_rot6d(3 * rot6d, layout), rotmats)


@pytest.mark.parametrize(("written", "read"), list(permutations(LAYOUTS, 2)))
def test_layouts_are_not_interchangeable(written, read):
    rotmats = random_rotmats(8)
    rot6d = rot6d_from_rotmat(rotmats, written)
    assert not torch.isclose(rot6d, rot6d_from_rotmat(rotmats, read)).all(-1).any()
    assert geodesic_rad(rotmat_from_rot6d(rot6d, read), rotmats).min() > 0.01


def test_layouts_are_those_of_the_field():
    rot6d = torch.randn(7, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    spin = rot6d.view(-1, 3, 2)
    humans = rot6d.reshape(-1, 2, 3).permute(0, 2, 1)
    for rotmats, vectors in (
        (rotmat_from_rot6d(rot6d, "spin"), spin),
        (rotmat_from_rot6d(rot6d, "columns"), humans),
    ):
        first = torch.nn.functional.normalize(vectors[..., 0], dim=-1)
        assert_close(rotmats[..., 0], first)
        assert ((rotmats[..., 1] * vectors[..., 1]).sum(-1) > 0).all()
    rows = rotmat_from_rot6d(rot6d, "rows")
    assert_close(rows[..., 0, :], torch.nn.functional.normalize(rot6d[..., :3], dim=-1))
    assert ((rows[..., 1, :] * rot6d[..., 3:]).sum(-1) > 0).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradient_of_six_numbers(layout):
    rot6d = torch.randn(2, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    rot6d.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: rotmat_from_rot6d(x, layout), rot6d)


@pytest.mark.parametrize("angle_rad", [0.0, 1e-9, 1e-4, 0.5, 2.0, 3.0, math.pi - 1e-6])
def test_axis_angle_there_and_back(angle_rad):
    vectors = angle_rad * axes()
    assert_close(axis_angle_from_rotmat(rotmat_from_axis_angle(vectors)), vectors)


def test_half_turns_keep_their_axis_up_to_its_sign():
    vectors = math.pi * axes()
    back = axis_angle_from_rotmat(rotmat_from_axis_angle(vectors))
    assert_close(back * (back * vectors).sum(-1, keepdim=True).sign(), vectors)


def test_longer_turns_come_back_as_the_shorter_way_round():
    vectors = axes()
    back = axis_angle_from_rotmat(rotmat_from_axis_angle(4.0 * vectors))
    assert_close(back, (4.0 - 2 * math.pi) * vectors)


def test_a_quarter_turn_about_z_takes_x_to_y():
    turn = rotmat_from_axis_angle(torch.tensor([0.0, 0.0, math.pi / 2], dtype=torch.float64))
    assert_close(turn @ EYE[0], EYE[1])


@pytest.mark.parametrize("angle_rad", [0.0, 1.0])
def test_gradient_of_axis_angle(angle_rad):
    vectors = (angle_rad * axes()[2:5]).requires_grad_()
    assert torch.autograd.gradcheck(rotmat_from_axis_angle, vectors)
    assert torch.autograd.gradcheck(
        lambda v: axis_angle_from_rotmat(rotmat_from_axis_angle(v)), vectors
    )


@pytest.mark.parametrize("angle_rad", [0.0, 1e-7, 1e-3, 1.0, math.pi - 1e-3, math.pi])
def test_geodesic_is_the_angle_between(angle_rad):
    start = random_rotmats(8)
    end = start @ rotmat_from_axis_angle(angle_rad * axes())
    expected = torch.full((8,), angle_rad, dtype=torch.float64)
    assert_close(geodesic_rad(start, end), expected, atol=1e-9, rtol=0)
    assert_close(geodesic_rad(end, start), expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("angle_rad", [0.01, 1.0, math.pi - 0.01])
def test_geodesic_grows_with_the_angle(angle_rad, dtype):
    angles = torch.full((8,), angle_rad, dtype=dtype, requires_grad=True)
    turns = rotmat_from_axis_angle(angles[:, None] * axes().to(dtype))
    between = geodesic_rad(EYE.to(dtype).expand(8, 3, 3), turns)
    (gradient,) = torch.autograd.grad(between.sum(), angles)
    assert_close(gradient, torch.ones(8, dtype=dtype), atol=1e-3, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("angle_rad", [0.0, math.pi])
def test_geodesic_has_finite_gradients_where_it_has_a_kink(angle_rad, dtype):
    start = random_rotmats(8).to(dtype).requires_grad_()
    end = (start @ rotmat_from_axis_angle(angle_rad * axes().to(dtype))).detach().requires_grad_()
    for gradient in torch.autograd.grad(geodesic_rad(start, end).sum(), [start, end]):
        assert gradient.isfinite().all()
        assert gradient.norm(dim=(-1, -2)).max() < 2


def test_geodesic_of_nothing_is_nothing():
    none = torch.zeros(0, 24, 3, 3, dtype=torch.float64)
    assert geodesic_rad(none, none).shape == (0, 24)
    assert geodesic_rad(none, none).dtype == torch.float64
