import numpy as np
import torch

from flowhmr.view import depth_to_rgb, draw_points, mask_to_rgb, parts_to_rgb


def test_near_is_brighter_than_far_and_nothing_is_black() -> None:
    picture = depth_to_rgb(torch.tensor([[1.0, 5.0, 30.0, 1e9]]), 1.0, 60.0)
    light = picture.astype(int).sum(-1)[0]
    assert light[0] > light[1] > light[2] > light[3] == 0


def test_parts_have_colours_of_their_own() -> None:
    parts = torch.arange(25, dtype=torch.uint8)[None]
    colours = parts_to_rgb(parts)[0]
    assert (colours[0] == 0).all()
    assert len({tuple(c) for c in colours.tolist()}) == 25


def test_masks_are_black_and_white() -> None:
    picture = mask_to_rgb(torch.tensor([[True, False]]))
    assert picture.tolist() == [[[255] * 3, [0] * 3]]


def test_points_are_green_or_red_and_may_lie_anywhere() -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    points = torch.tensor([[5.0, 5.0], [15.0, 15.0], [1e9, 0.0], [-50.0, 3.0]])
    out = draw_points(image, points, torch.tensor([True, False, True, True]))
    assert out[5, 5, 1] > out[5, 5, 0]
    assert out[15, 15, 0] > out[15, 15, 1]
    assert not image.any()
