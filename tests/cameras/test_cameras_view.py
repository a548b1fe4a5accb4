"""Views: a camera turned to look at a crop sees what a pinhole camera so turned would see."""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from flowhmr.cameras import Crop, PerspectiveCamera, View, view_of
from flowhmr.geometry import geodesic_rad, map_tensors, pick, rotmat_from_axis_angle

FOCAL_PX, CENTRE_PX = 400.0, (320.0, 240.0)


def numbers(values) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def pinhole(focal_px: float = FOCAL_PX) -> PerspectiveCamera:
    return PerspectiveCamera(numbers(focal_px), numbers(CENTRE_PX))


def square(centre_px: Tensor, side_px: Tensor) -> Crop:
    still = torch.zeros_like(side_px)
    return Crop(centre_px, side_px, still, still, 224)


def crop_of(x: float, y: float, side: float) -> Crop:
    return square(numbers((x, y)), numbers(side))


def rays_to(points_px: Tensor) -> Tensor:
    """Directions in camera axes, of length 1."""
    away = (points_px - numbers(CENTRE_PX)) / FOCAL_PX
    rays = torch.cat([away, torch.ones_like(away[..., :1])], -1)
    return rays / rays.norm(dim=-1, keepdim=True)


def turn_between(start: Tensor, end: Tensor) -> Tensor:
    """The shortest way from one direction to another, by its axis and angle."""
    axis = torch.linalg.cross(start, end)
    angle = torch.atan2(axis.norm(), start @ end)
    return rotmat_from_axis_angle(axis / axis.norm().clamp(min=1e-12) * angle)


crops = st.builds(crop_of, st.floats(-900, 1500), st.floats(-900, 1500), st.floats(5, 900))


@given(crop=crops)
@settings(max_examples=40, deadline=None)
def test_a_view_looks_straight_at_the_middle_of_its_crop(crop):
    view = view_of(crop, pinhole())
    assert_close(view.see(crop.centre_px[None]), torch.zeros(1, 2).double(), atol=1e-9, rtol=0)
    ahead = view.rotmats @ rays_to(crop.centre_px)
    assert_close(ahead, numbers((0, 0, 1)), atol=1e-12, rtol=0)


@given(crop=crops)
@settings(max_examples=40, deadline=None)
def test_a_view_is_turned_there_the_shortest_way(crop):
    rotmats = view_of(crop, pinhole()).rotmats
    eye = torch.eye(3).double()
    assert_close(rotmats @ rotmats.mT, eye, atol=1e-12, rtol=0)
    assert float(torch.linalg.det(rotmats)) == pytest.approx(1)
    off_px = crop.centre_px - numbers(CENTRE_PX)
    assert_close(
        geodesic_rad(rotmats, eye), torch.atan(off_px.norm() / FOCAL_PX), atol=1e-6, rtol=0
    )


def test_the_view_of_a_crop_in_the_middle_is_not_turned():
    crop = crop_of(*CENTRE_PX, 200)
    view = view_of(crop, pinhole())
    assert torch.equal(view.rotmats, torch.eye(3).double())
    assert float(view.half) == pytest.approx(100 / FOCAL_PX)
    points_px = numbers([[320, 240], [420, 140], [0, 0], [1000, 300]])
    assert_close(view.see(points_px), (points_px - numbers(CENTRE_PX)) / 100)


@given(radius=st.floats(20, 1200), towards=st.floats(-math.pi, math.pi), side=st.floats(5, 700))
@settings(max_examples=40, deadline=None)
def test_a_view_shows_what_its_crop_shows(radius, towards, side):
    """Across the way to the image's centre the middle of the crop's width is as wide as the view;
    along it an angle takes more pixels, the more the further out."""
    out = numbers((math.cos(towards), math.sin(towards)))
    across = numbers((-math.sin(towards), math.cos(towards)))
    centre_px = numbers(CENTRE_PX) + radius * out
    view = view_of(square(centre_px, numbers(side)), pinhole())
    half_px, angle = side / 2, math.atan(radius / FOCAL_PX)
    seen = view.see(torch.stack([centre_px + s * half_px * across for s in (1, -1)]))
    assert_close(seen, torch.stack([across, -across]), atol=1e-9, rtol=0)

    for sign in (1, -1):
        end = math.atan((radius + sign * half_px) / FOCAL_PX)
        expected = math.tan(end - angle) / float(view.half) * out
        (seen,) = view.see((centre_px + sign * half_px * out)[None])
        if abs(end - angle) < 1.5:
            assert_close(seen, expected, atol=1e-9, rtol=1e-9)
    small = view_of(square(centre_px, numbers(1e-3)), pinhole())
    (seen,) = small.see((centre_px + 5e-4 * out)[None])
    assert_close(seen, math.cos(angle) * out, atol=1e-5, rtol=0)


@given(crop=crops, seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_to_see_is_to_project_with_the_turned_camera(crop, seed):
    """Points in space, seen by the image's camera and by one that is turned towards the crop."""
    generator = torch.Generator().manual_seed(seed)
    ray = rays_to(crop.centre_px)
    apart_m = torch.randn(9, 3, generator=generator, dtype=torch.float64)
    points_cam = 5 * ray + 0.3 * apart_m
    view, camera = view_of(crop, pinhole()), pinhole()
    turned = turn_between(ray, numbers((0, 0, 1)))
    # So long a focal length that what the view shows is two units wide.
    zoomed = PerspectiveCamera(1 / view.half, numbers((0, 0)))
    expected = zoomed.project(points_cam @ turned.mT)[..., :2]
    seen = view.see(camera.project(points_cam)[..., :2])
    ahead = (points_cam[:, 2] > 0.1).nonzero()[:, 0]
    assert_close(seen[ahead], expected[ahead], atol=1e-6, rtol=1e-6)


def test_what_is_a_quarter_of_a_turn_away_is_not_seen():
    """A crop far out on the right of a wide camera, and what is on its left."""
    camera, crop = pinhole(100.0), crop_of(CENTRE_PX[0] + 300, CENTRE_PX[1], 80)
    view, angle = view_of(crop, camera), math.atan(3.0)

    def at(away_rad: float) -> Tensor:
        """On the horizon, so far to the right of where the view looks."""
        return numbers([[CENTRE_PX[0] + 100 * math.tan(angle + away_rad), CENTRE_PX[1]]])

    quarter = math.pi / 2
    for near in (-1.0, -quarter + 0.01, 0.2):
        seen = view.see(at(near))
        assert_close(seen[0], numbers((math.tan(near) / float(view.half), 0)), atol=1e-9, rtol=1e-6)
    for far in (-quarter, -quarter - 0.01, -2.0, -angle - 1.5):
        assert not view.see(at(far)).isfinite().any()
    # Nothing mirrored, and the others are as they would be alone.
    both = view.see(torch.cat([at(0.1), at(-2.0)]))
    assert both.isfinite().tolist() == [[True, True], [False, False]]
    assert torch.equal(both[:1], view.see(at(0.1)))


def test_one_camera_is_that_of_all_frames():
    generator = torch.Generator().manual_seed(0)
    centres_px = 600 * torch.rand(4, 2, generator=generator, dtype=torch.float64)
    sides_px = 50 + 200 * torch.rand(4, generator=generator, dtype=torch.float64)
    crop = square(centres_px, sides_px)
    many = PerspectiveCamera(numbers([FOCAL_PX] * 4), numbers([CENTRE_PX] * 4))
    one, each = view_of(crop, pinhole()), view_of(crop, many)
    points_px = 600 * torch.rand(4, 7, 2, generator=generator, dtype=torch.float64)
    for view in (one, each):
        assert view.rotmats.shape == (4, 3, 3)
        assert view.half.shape == view.camera.focal_px.shape == (4,)
        assert view.camera.centre_px.shape == (4, 2)
        seen = view.see(points_px)
        for t in range(4):
            alone = view_of(pick(crop, t), pinhole())
            assert_close(pick(view, t).rotmats, alone.rotmats)
            assert_close(view.half[t], alone.half)
            assert_close(seen[t], alone.see(points_px[t]))


def test_views_of_different_cameras_are_kept_apart():
    """A zoom: the crop is the same, what the view shows is not."""
    crop = square(numbers([(500, 100)] * 2), numbers([120, 120]))
    camera = PerspectiveCamera(numbers([300, 900]), numbers([CENTRE_PX] * 2))
    views = view_of(crop, camera)
    for t, focal_px in enumerate((300.0, 900.0)):
        alone = view_of(pick(crop, t), pinhole(focal_px))
        assert_close(views.half[t], alone.half)
        assert_close(views.rotmats[t], alone.rotmats)
    away = (numbers((500, 100)) - numbers(CENTRE_PX)).norm()
    for view, focal_px in ((views.half[0], 300.0), (views.half[1], 900.0)):
        # The pixels there are as far from the camera as the hypotenuse is long.
        assert float(view) == pytest.approx(60 / math.hypot(float(away), focal_px))


def excess_rad(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Area of the triangle between three directions (Van Oosterom and Strackee), with its sign."""
    volume = torch.linalg.cross(b, c) @ a
    return 2 * torch.atan2(volume, 1 + a @ b + b @ c + c @ a)


def seen_after(turn: Tensor, points_cam: Tensor, view: View) -> tuple[View, Tensor]:
    """The view of the same ray from the camera after a turn, and where points are in it."""
    camera = pinhole()
    ray = turn @ view.rotmats[2]
    centre_px = camera.project(ray[None])[0, :2]
    # As wide an angle as before.
    side_px = 2 * FOCAL_PX * view.half / ray[2]
    after = view_of(square(centre_px, side_px), camera)
    return after, after.see(camera.project(points_cam @ turn.mT)[..., :2])


@given(
    x=st.floats(-500, 500), y=st.floats(-500, 500), seed=st.integers(0, 1000),
    side=st.floats(20, 300),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_what_a_view_shows_does_not_depend_on_where_the_camera_looks(x, y, seed, side):
    """A camera that turns about its centre changes nothing but for a twist about the ray.

    Turned the shortest way from one axis to another, the twist is the area that axis, ray and the
    other axis enclose on the sphere of directions.
    """
    generator = torch.Generator().manual_seed(seed)
    view = view_of(crop_of(CENTRE_PX[0] + x, CENTRE_PX[1] + y, side), pinhole())
    noise = torch.randn(9, 3, generator=generator, dtype=torch.float64)
    points_cam = 5 * view.rotmats[2] + 0.3 * noise
    before = view.see(pinhole().project(points_cam)[..., :2])

    axis = torch.randn(2, generator=generator, dtype=torch.float64)
    axis = torch.cat([axis / axis.norm(), numbers([0])])
    turn = rotmat_from_axis_angle(0.5 * axis)
    assume(float(torch.cat([points_cam, points_cam @ turn.mT])[:, 2].min()) > 0.2)
    after, seen = seen_after(turn, points_cam, view)
    assert_close(after.half, view.half)
    twist = excess_rad(numbers((0, 0, 1)), view.rotmats[2], turn[2])
    cos, sin = torch.cos(twist), torch.sin(twist)
    twisted = before @ torch.stack([torch.stack([cos, sin]), torch.stack([-sin, cos])])
    assert_close(seen, twisted, atol=1e-7, rtol=1e-7)


def test_the_twist_is_a_third_of_the_turn_far_off_the_axis():
    """At 35 degrees, whichever way the camera turns; in the middle of the image there is none."""
    for off_rad, most in ((math.radians(35), 0.33), (0.0, 1e-6)):
        out = FOCAL_PX * math.tan(off_rad) * numbers((0.8, 0.6))
        view = view_of(square(numbers(CENTRE_PX) + out, numbers(100)), pinhole())
        twists = []
        for way in range(24):
            axis = numbers((math.cos(way * math.pi / 12), math.sin(way * math.pi / 12), 0))
            turn = rotmat_from_axis_angle(math.radians(20) * axis)
            after, _ = seen_after(turn, view.rotmats[2:], view)
            twists.append(geodesic_rad(after.rotmats @ turn, view.rotmats) / math.radians(20))
        assert max(twists) < most


def test_turned_towards_its_crop_a_camera_sees_the_same_without_a_twist():
    """Somebody at the side of the image, and the same one straight ahead."""
    view = view_of(crop_of(620, 120, 150), pinhole())
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(9, 3, generator=generator, dtype=torch.float64)
    points_cam = 4 * view.rotmats[2] + 0.3 * noise
    ahead, seen = seen_after(turn_between(view.rotmats[2], numbers((0, 0, 1))), points_cam, view)
    assert_close(ahead.rotmats, torch.eye(3).double(), atol=1e-12, rtol=0)
    assert_close(seen, view.see(pinhole().project(points_cam)[..., :2]), atol=1e-9, rtol=1e-9)


def test_a_view_is_as_precise_as_its_input():
    """Nearly centred crops in float32: no division by a sine that vanishes."""
    crop = crop_of(CENTRE_PX[0] + 1e-4, CENTRE_PX[1], 100)
    for kind in (torch.float32, torch.float64):
        cast = [map_tensors(r, lambda t, kind=kind: t.to(kind)) for r in (crop, pinhole())]
        view = view_of(*cast)
        assert view.rotmats.dtype == view.half.dtype == kind
        assert view.rotmats.isfinite().all()
        assert_close(view.rotmats, torch.eye(3, dtype=kind), atol=1e-6, rtol=0)
