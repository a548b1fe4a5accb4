"""Crops: one transform, exact both ways, and the pixels that belong to it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from flowhmr.cameras import (
    Crop,
    between_crops,
    crop_from_box,
    pixel_centres_px,
    sample_map,
    square_box,
    warp_image,
)
from flowhmr.geometry import pick


def crop(
    centre: tuple[float, float],
    side: float,
    size_px: int,
    angle: float = 0.0,
    mirrored: bool = False,
) -> Crop:
    """A crop in float64."""
    numbers = [torch.tensor(x, dtype=torch.float64) for x in (centre, side, angle, mirrored)]
    return Crop(*numbers, size_px=size_px)


crops = st.builds(
    crop,
    st.tuples(st.floats(-500, 2000), st.floats(-500, 2000)),
    st.floats(2, 2000),
    st.integers(1, 512),
    st.floats(-math.pi, math.pi),
    st.booleans(),
)


def bumpy(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth random image, uint8 (h, w, 3)."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, height // 8 + 2, width // 8 + 2, generator=generator)
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return (255 * fine.clamp(0, 1)).round().to(torch.uint8)[0].permute(1, 2, 0).numpy()


def image_points(window: Crop) -> torch.Tensor:
    """Where the crop's pixel centres lie in the image (s*s, 2)."""
    centres = pixel_centres_px(window.size_px, window.size_px).double().reshape(-1, 2)
    return window.to_image(centres)


@given(window=crops, seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_to_crop_and_to_image_undo_each_other(window, seed):
    generator = torch.Generator().manual_seed(seed)
    points = 1000 * torch.rand(7, 2, generator=generator, dtype=torch.float64)
    assert_close(window.to_image(window.to_crop(points)), points, atol=1e-6, rtol=0)
    assert_close(window.to_crop(window.to_image(points)), points, atol=1e-6, rtol=0)


@given(window=crops)
@settings(max_examples=30, deadline=None)
def test_affine_is_to_crop(window):
    points = torch.tensor([[0.0, 0.0], [100.0, 0.0], [3.0, 70.0]], dtype=torch.float64)
    matrix = window.affine()
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    assert_close(window.to_crop(points), moved, atol=1e-6, rtol=1e-9)


@given(window=crops)
@settings(max_examples=30, deadline=None)
def test_a_crop_keeps_angles_and_zooms_by_its_sides(window):
    linear = window.linear()
    zoom = window.size_px / window.side_px
    eye = torch.eye(2, dtype=torch.float64)
    assert_close(linear @ linear.T, zoom**2 * eye, atol=1e-9, rtol=1e-9)
    handedness = torch.linalg.det(linear) / zoom**2
    assert_close(handedness, 1 - 2 * window.mirrored)


def test_an_upright_crop_fills_its_window():
    window = crop((50, 30), 40, 224)
    corners = torch.tensor([[30, 10], [70, 50], [50, 30]], dtype=torch.float64)
    expected = torch.tensor([[0, 0], [224, 224], [112, 112]], dtype=torch.float64)
    assert_close(window.to_crop(corners), expected)


def test_content_turns_from_x_towards_y():
    right = torch.tensor([[60.0, 30.0]], dtype=torch.float64)
    turned = crop((50, 30), 40, 80, angle=math.pi / 2).to_crop(right)
    assert_close(turned, torch.tensor([[40.0, 60.0]], dtype=torch.float64))


@given(angle=st.floats(-math.pi, math.pi))
@settings(max_examples=20, deadline=None)
def test_a_mirrored_crop_is_the_mirror_image_of_the_turned_one(angle):
    points = torch.tensor([[60.0, 30.0], [41.0, 77.0]], dtype=torch.float64)
    plain = crop((50, 30), 40, 80, angle).to_crop(points)
    mirrored = crop((50, 30), 40, 80, angle, mirrored=True).to_crop(points)
    assert_close(mirrored[:, 0], 80 - plain[:, 0])
    assert_close(mirrored[:, 1], plain[:, 1])


def test_a_batch_of_crops_is_a_loop():
    singles = [crop((10 * i, 20), 5 + i, 32, 0.3 * i, bool(i % 2)) for i in range(4)]
    fields = [
        torch.stack([getattr(c, f) for c in singles])
        for f in ("centre_px", "side_px", "angle_rad", "mirrored")
    ]
    batch = Crop(*fields, size_px=32)
    points = 30 * torch.rand(4, 6, 2, generator=torch.Generator().manual_seed(0)).double()
    loop = [window.to_crop(p) for window, p in zip(singles, points)]
    assert_close(batch.to_crop(points), torch.stack(loop))
    assert_close(batch.to_image(batch.to_crop(points)), points)


def test_the_fields_crop_is_the_longer_side_and_a_fifth():
    boxes = torch.tensor([[10.0, 20.0, 30.0, 100.0], [0.0, 0.0, 50.0, 10.0]])
    centre_px, side_px = square_box(boxes)
    assert_close(centre_px, torch.tensor([[25.0, 70.0], [25.0, 5.0]]))
    assert_close(side_px, torch.tensor([120.0, 60.0]))
    assert_close(square_box(boxes, margin=1.0)[1], torch.tensor([100.0, 50.0]))
    window = crop_from_box(boxes, 224)
    assert_close(window.side_px, side_px)
    assert_close(window.centre_px, centre_px)
    assert not window.mirrored.any()
    assert not window.angle_rad.any()


@pytest.mark.parametrize(
    "box",
    [(0, 0, 0, 10), (0, 0, 10, 0), (5, 5, -3, 10), (0, math.nan, 10, 10), (0, 0, math.inf, 10)],
)
def test_a_bad_box_is_refused(box):
    boxes = torch.tensor([(1, 1, 5, 5), box], dtype=torch.float32)
    with pytest.raises(ValueError, match=r"person box: got .* expected finite x, y, w, h"):
        crop_from_box(boxes, 224)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("angle", [0.0, 0.7, -2.0])
@pytest.mark.parametrize("side", [60.0, 23.4])
def test_the_warped_pixels_are_those_at_to_image(side, angle, mirrored):
    image = bumpy(120, 150)
    window = crop((70.3, 61.8), side, 64, angle, mirrored)
    maps = torch.from_numpy(image)[None].double()
    expected = sample_map(maps, image_points(window)[None])[0].reshape(64, 64, 3).numpy()
    error = warp_image(image, window) - expected
    assert np.abs(error).max() < 2
    assert abs(error.mean()) < 0.2
    assert np.abs(error).mean() < 0.5


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("angle", [0.0, 0.9])
@pytest.mark.parametrize("side", [70.0, 130.0, 300.0, 580.0])
def test_half_pixels_are_right_however_far_one_zooms_out(side, angle, mirrored):
    x, y = np.meshgrid(np.arange(1000) + 0.5, np.arange(900) + 0.5)
    image = np.rint(np.stack([x, y, x + y], -1) * [0.25, 0.25, 0.12]).astype(np.uint8)
    window = crop((503.2, 448.7), side, 32, angle, mirrored)
    points = image_points(window).numpy()
    expected = np.stack([points[:, 0], points[:, 1], points.sum(-1)], -1) * [0.25, 0.25, 0.12]
    error = warp_image(image, window).reshape(-1, 3) - expected
    assert np.abs(error).max() < 1.2
    assert np.abs(error.mean(0)).max() < 0.2


def test_zooming_out_averages_instead_of_skipping_pixels():
    noise = np.random.default_rng(0).integers(0, 2, (640, 640, 1)).astype(np.uint8) * 255
    small = warp_image(noise, crop((320, 320), 640, 20))
    assert np.abs(small.astype(float) - 127.5).max() < 30


@pytest.mark.parametrize("side", [40.0, 640.0])
@pytest.mark.parametrize("border", [0, 90])
def test_outside_the_image_is_border(side, border):
    image = np.full((50, 80, 3), 200, np.uint8)
    window = crop((0.0, 25.0), side, 32)
    pixels = warp_image(image, window, border)
    points = image_points(window)
    reach = side / 32 * 2
    size = torch.tensor([80, 50])
    inside = ((points > reach) & (points < size - reach)).all(-1).reshape(32, 32).numpy()
    outside = ((points < -reach) | (points > size + reach)).any(-1).reshape(32, 32).numpy()
    assert outside.any()
    assert (pixels[outside] == border).all()
    assert (pixels[inside] == 200).all()


@pytest.mark.parametrize("side", [20.0, 300.0])
@pytest.mark.parametrize(
    "centre", [(-900, 25), (-270, 25), (900, 25), (40, -900), (40, -270), (40, 900), (-900, 900)]
)
def test_a_window_beside_the_image_is_all_border(centre, side):
    image = np.full((50, 80, 3), 200, np.uint8)
    assert (warp_image(image, crop(centre, side, 32), border=7) == 7).all()


def test_the_whole_image_can_be_a_corner_of_the_window():
    image = np.full((50, 80, 3), 200, np.uint8)
    pixels = warp_image(image, crop((40.0, 25.0), 800, 32))
    share = pixels[..., 0].sum() / 200
    assert share == pytest.approx(50 * 80 / (800 / 32) ** 2, rel=0.1)


@pytest.mark.parametrize("side", [16.0, 90.0])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_number_of_channels(channels, side):
    image = np.repeat(bumpy(64, 64)[..., :1], channels, -1)
    pixels = warp_image(image, crop((32, 32), side, 24))
    assert pixels.shape == (24, 24, channels)
    assert pixels.dtype == np.uint8
    assert (pixels == pixels[..., :1]).all()


@given(source=crops, target=crops, seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_between_crops_goes_by_way_of_the_image(source, target, seed):
    generator = torch.Generator().manual_seed(seed)
    seen_px = source.centre_px + source.side_px * torch.rand(
        7, 2, generator=generator, dtype=torch.float64
    )
    moved = between_crops(source.to_crop(seen_px), source, target)
    scale = 1 + float(target.to_crop(seen_px).abs().max())
    assert_close(moved, target.to_crop(seen_px), atol=1e-9 * scale, rtol=0)


def test_between_crops_depth_keeps_the_unit_of_u_and_v():
    source, target = crop((50, 40), 20, 60), crop((45, 41), 40, 30, angle=0.3)
    points_px = torch.tensor([[3.0, 4.0, 5.0], [6.0, 8.0, 10.0]]).double()
    moved = between_crops(points_px, source, target)
    apart = moved[1] - moved[0]
    assert_close(apart[2], apart[:2].norm())


def test_between_crops_broadcasts_one_window_over_many():
    one = crop((50, 40), 20, 60)
    many = Crop(*(torch.stack([getattr(one, n)] * 3) for n in (
        "centre_px", "side_px", "angle_rad", "mirrored"
    )), size_px=60)  # fmt: skip
    window = Crop(*(getattr(crop((48, 40), 30, 90), n)[None] for n in (
        "centre_px", "side_px", "angle_rad", "mirrored"
    )), size_px=90)  # fmt: skip
    points_px = torch.rand(3, 5, 3).double()
    moved = between_crops(points_px, many, window)
    assert moved.shape == (3, 5, 3)
    assert_close(moved[1], between_crops(points_px[1], one, pick(window, 0)))
