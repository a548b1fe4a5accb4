"""Weak perspective, perspective, and the way between them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from flowhmr.cameras import (
    PerspectiveCamera,
    WeakCamera,
    fit_weak_camera,
    project_weak,
    translation_from_weak,
    weak_from_translation,
)

SIZE = 224


def body_points(*batch: int, seed: int = 0) -> Tensor:
    """Float64 points about as far apart as a body's, metres (*batch, 20, 3)."""
    generator = torch.Generator().manual_seed(seed)
    return 0.4 * torch.randn(*batch, 20, 3, generator=generator, dtype=torch.float64)


def weak(*params: float) -> WeakCamera:
    return WeakCamera(torch.tensor(params, dtype=torch.float64))


cameras = st.builds(weak, st.floats(0.05, 5), st.floats(-3, 3), st.floats(-3, 3))


@given(camera=cameras)
@settings(max_examples=20, deadline=None)
def test_the_projection_is_the_fields_formula(camera):
    points = body_points()
    scale, tx, ty = camera.params.tolist()
    projected = project_weak(points, camera, SIZE)
    for (x, y, z), (u, v, depth) in zip(points.tolist(), projected.tolist()):
        assert u == pytest.approx(((scale * x + tx) + 1) / 2 * SIZE)
        assert v == pytest.approx(((scale * y + ty) + 1) / 2 * SIZE)
        assert depth == pytest.approx(scale * z * SIZE / 2)


def test_the_crops_centre_is_the_origin_of_a_centred_camera():
    projected = project_weak(torch.zeros(1, 3), WeakCamera(torch.tensor([0.9, 0.0, 0.0])), SIZE)
    assert projected.tolist() == [[112, 112, 0]]


def test_depth_is_in_pixels_too_so_that_bodies_keep_their_form():
    camera, points = weak(0.7, 0.3, -0.2), body_points()
    projected = project_weak(points, camera, SIZE)
    assert_close(torch.pdist(projected), camera.pixels_per_metre(SIZE) * torch.pdist(points))


@given(camera=cameras, size_px=st.integers(16, 512), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_the_fit_finds_the_camera_that_projected(camera, size_px, seed):
    points = body_points(seed=seed)
    seen_px = project_weak(points, camera, size_px)[:, :2]
    found = fit_weak_camera(points, seen_px, size_px)
    assert_close(found.params, camera.params)


def test_no_camera_near_the_fitted_one_fits_better():
    points = body_points()
    seen_px = project_weak(points, weak(0.8, 0.1, 0.2), SIZE)[:, :2]
    seen_px = seen_px + 5 * torch.randn(20, 2, generator=torch.Generator().manual_seed(1)).double()

    def miss(camera: WeakCamera) -> Tensor:
        return (project_weak(points, camera, SIZE)[:, :2] - seen_px).square().sum()

    found = fit_weak_camera(points, seen_px, SIZE)
    for axis in range(3):
        for step in (-1e-3, 1e-3):
            other = found.params.clone()
            other[axis] += step
            assert miss(WeakCamera(other)) > miss(found)


def test_a_batch_of_cameras_is_a_loop():
    points = body_points(2, 3)
    generator = torch.Generator().manual_seed(2)
    camera = WeakCamera(torch.rand(2, 3, 3, generator=generator, dtype=torch.float64) + 0.2)
    projected = project_weak(points, camera, SIZE)
    for i in range(2):
        for j in range(3):
            single = project_weak(points[i, j], WeakCamera(camera.params[i, j]), SIZE)
            assert_close(projected[i, j], single)
    assert_close(fit_weak_camera(points, projected[..., :2], SIZE).params, camera.params)


def test_points_in_one_line_of_sight_have_no_scale_but_a_place():
    points = torch.zeros(5, 3)
    points[:, 2] = torch.arange(5.0)
    found = fit_weak_camera(points, torch.full((5, 2), 56.0), SIZE)
    assert_close(found.params, torch.tensor([0.0, -0.5, -0.5]))


def test_projection_gradients():
    points = body_points()[:3].requires_grad_()
    params = weak(0.9, 0.1, -0.1).params.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, p: project_weak(x, WeakCamera(p), SIZE) / SIZE, (points, params)
    )


def test_pinhole_projection():
    camera = PerspectiveCamera(torch.tensor(100.0), torch.tensor([50.0, 40.0]))
    points = torch.tensor([[0.0, 0.0, 2.0], [1.0, -1.0, 2.0], [1.0, -1.0, 4.0]])
    expected = torch.tensor([[50.0, 40.0, 2.0], [100.0, -10.0, 2.0], [75.0, 15.0, 4.0]])
    assert_close(camera.project(points), expected)


@pytest.mark.parametrize("depth", [0.0, -1.0])
def test_what_is_not_ahead_has_no_image(depth):
    camera = PerspectiveCamera(torch.tensor(100.0), torch.tensor([50.0, 40.0]))
    u, v, z = camera.project(torch.tensor([[1.0, 1.0, depth]]))[0]
    assert not u.isfinite()
    assert not v.isfinite()
    assert z == depth


@given(camera=cameras, focal=st.floats(50, 5000))
@settings(max_examples=20, deadline=None)
def test_translation_and_weak_camera_undo_each_other(camera, focal):
    focal_px = torch.tensor(focal, dtype=torch.float64)
    translation_m = translation_from_weak(camera, focal_px, SIZE)
    assert translation_m[2] > 0
    assert_close(weak_from_translation(translation_m, focal_px, SIZE).params, camera.params)


def gap_px(camera: WeakCamera, focal: float, points: Tensor) -> float:
    """How far apart the two cameras see the points at most."""
    focal_px = torch.tensor(focal, dtype=torch.float64)
    centre_px = torch.full((2,), SIZE / 2, dtype=torch.float64)
    standing = points + translation_from_weak(camera, focal_px, SIZE)
    seen = PerspectiveCamera(focal_px, centre_px).project(standing)[..., :2]
    return float((seen - project_weak(points, camera, SIZE)[..., :2]).norm(dim=-1).max())


@given(camera=cameras, focal=st.floats(50, 5000))
@settings(max_examples=20, deadline=None)
def test_both_cameras_agree_on_the_bodys_own_depth(camera, focal):
    flat = body_points() * torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    assert gap_px(camera, focal, flat) < 1e-6


def test_both_cameras_agree_from_far_away():
    camera, points = weak(0.9, 0.2, -0.3), body_points()
    gaps = [gap_px(camera, focal, points) for focal in (1e3, 1e4, 1e5)]
    assert gaps[0] > 1
    assert gaps[1] < 0.15 * gaps[0]
    assert gaps[2] < 0.15 * gaps[1]
    assert gaps[2] < 0.1
