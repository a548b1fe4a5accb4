"""The pixel-centre rule, in our convention and in OpenCV's."""

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.testing import assert_close

from flowhmr.cameras import (
    grid_from_px,
    opencv_from_px,
    pixel_centres_px,
    px_from_opencv,
    resize_px,
    sample_map,
)


def random_map(height: int, width: int, channels: int = 2, seed: int = 0) -> Tensor:
    """Float64 noise (1, h, w, c)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, height, width, channels, generator=generator, dtype=torch.float64)


def random_points(count: int, height: int, width: int) -> Tensor:
    """Float64 points (1, n, 2) between the outermost pixel centres, on OpenCV's 1/32 px raster."""
    generator = torch.Generator().manual_seed(3)
    share = torch.rand(1, count, 2, generator=generator, dtype=torch.float64)
    return (share * torch.tensor([width - 1, height - 1]) * 32).round() / 32 + 0.5


def test_pixel_centres():
    centres = pixel_centres_px(3, 5)
    assert centres.shape == (3, 5, 2)
    assert centres[0, 0].tolist() == [0.5, 0.5]
    assert centres[2, 1].tolist() == [1.5, 2.5]
    assert_close(centres.mean((0, 1)), torch.tensor([2.5, 1.5]))


def test_the_conventions_differ_by_half_a_pixel_and_invert_each_other():
    assert px_from_opencv(torch.zeros(2)).tolist() == pixel_centres_px(1, 1)[0, 0].tolist()
    points = random_points(5, 8, 8)
    assert_close(opencv_from_px(px_from_opencv(points)), points)


def test_a_sample_at_a_pixel_centre_is_the_pixel():
    maps = random_map(4, 7)
    points = pixel_centres_px(4, 7).double().reshape(1, -1, 2)
    assert_close(sample_map(maps, points), maps.reshape(1, -1, 2))


def test_a_sample_between_pixels_is_theirs_in_proportion():
    ramp = pixel_centres_px(6, 9).double()[None]
    points = random_points(50, 6, 9)
    assert_close(sample_map(ramp, points), points)


def test_outside_the_map_the_border_is_read():
    maps = random_map(4, 7)
    points = torch.tensor([[[-3.0, 1.5], [0.0, 0.0], [9.0, 9.0]]], dtype=torch.float64)
    expected = torch.stack([maps[0, 1, 0], maps[0, 0, 0], maps[0, 3, 6]])
    assert_close(sample_map(maps, points)[0], expected)


def test_each_sample_of_a_batch_reads_its_own_map():
    maps = torch.cat([random_map(4, 7, seed=seed) for seed in range(3)])
    points = torch.cat([random_points(5, 4, 7) + 0.1 * i for i in range(3)])
    loop = [sample_map(maps[i : i + 1], points[i : i + 1])[0] for i in range(3)]
    assert_close(sample_map(maps, points), torch.stack(loop))


def test_opencv_reads_the_same_values_at_its_own_coordinates():
    maps = random_map(20, 30, channels=3).float()
    points_px = random_points(200, 20, 30).float()
    at = opencv_from_px(points_px).numpy()
    theirs = cv2.remap(maps[0].numpy(), at[..., 0], at[..., 1], cv2.INTER_LINEAR)[0]
    assert_close(sample_map(maps, points_px)[0], torch.from_numpy(theirs), atol=1e-4, rtol=0)


def test_sample_map_gradients():
    maps = random_map(5, 6).requires_grad_()
    points = (random_points(4, 5, 6) + 0.013).requires_grad_()
    assert torch.autograd.gradcheck(sample_map, (maps, points))


def test_the_grid_of_torch_spans_the_image():
    corners = torch.tensor([[0.0, 0.0], [7.0, 4.0], [3.5, 2.0]])
    assert grid_from_px(corners, height=4, width=7).tolist() == [[-1, -1], [1, 1], [0, 0]]


def test_resized_points_show_the_same_content():
    small = pixel_centres_px(8, 12).double()[None]
    large = interpolate(small.permute(0, 3, 1, 2), (24, 60), mode="bilinear").permute(0, 2, 3, 1)
    points = random_points(40, 8, 12)
    moved = resize_px(points, (8, 12), (24, 60))
    assert_close(sample_map(large, moved), sample_map(small, points), atol=0.01, rtol=0)
    assert_close(resize_px(moved, (24, 60), (8, 12)), points)


def test_opencv_resizes_as_resize_px_says():
    ramp = np.arange(40, dtype=np.float32)[None].repeat(8, 0)
    small = cv2.resize(ramp, (10, 2), interpolation=cv2.INTER_AREA)
    centres_px = pixel_centres_px(2, 10)
    at = resize_px(centres_px, (2, 10), (8, 40))
    assert_close(torch.from_numpy(small), opencv_from_px(at)[..., 0])
