"""Sheets and flow colours."""

import colorsys

import numpy as np
import pytest
import torch

from flowhmr.view import caption, contact_sheet, flow_to_rgb

BAND_PX = 28


def picture(height: int, width: int, level: int) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def test_a_sheet_has_a_band_and_a_row_of_tiles_for_each_title():
    rows = [[picture(10, 20, 0)] * 3, [picture(40, 40, 90)] * 2]
    sheet = contact_sheet(rows, ["one", "two"], tile_px=50)
    assert sheet.shape == (2 * (BAND_PX + 50), 3 * 50, 3)
    assert sheet.dtype == np.uint8


def test_pictures_are_fitted_into_their_tiles():
    sheet = contact_sheet([[picture(10, 20, 0), picture(20, 10, 90)]], [""], tile_px=60)
    tiles = sheet[BAND_PX:, :60], sheet[BAND_PX:, 60:]
    assert (tiles[0][:30] == 0).all()
    assert (tiles[0][30:] == 255).all()
    assert (tiles[1][:, :30] == 90).all()
    assert (tiles[1][:, 30:] == 255).all()


def test_tiles_without_a_picture_are_white():
    sheet = contact_sheet([[picture(8, 8, 0)], [picture(8, 8, 0)] * 2], ["", ""], tile_px=16)
    assert (sheet[BAND_PX : BAND_PX + 16, 16:] == 255).all()
    assert (sheet[-16:, 16:] == 0).all()


@pytest.mark.parametrize(("height", "width"), [(1, 500), (500, 1), (1, 1)])
def test_pictures_of_any_shape_fit(height, width):
    assert contact_sheet([[picture(height, width, 0)]], [""], 32).shape == (BAND_PX + 32, 32, 3)


@pytest.mark.parametrize(
    ("rows", "titles"), [([], []), ([[picture(4, 4, 0)]], ["a", "b"]), ([[]], ["a"])]
)
def test_rows_without_a_title_or_pictures_are_refused(rows, titles):
    with pytest.raises(ValueError, match="expected one"):
        contact_sheet(rows, titles)


def test_a_caption_stands_above_the_picture():
    image = picture(30, 200, 90)
    out = caption(image, "a line of text")
    assert out.shape == (BAND_PX + 30, 200, 3)
    assert np.array_equal(out[BAND_PX:], image)
    assert (out[:BAND_PX] < 100).any()
    assert (caption(image, "")[:BAND_PX] == 255).all()
    assert not np.array_equal(caption(image, "other")[:BAND_PX], out[:BAND_PX])


def colours(flow: list[list[float]], largest_px: float = 4.0) -> list[tuple[float, float, float]]:
    """(hue, saturation, value) of each vector."""
    rgb = flow_to_rgb(torch.tensor([flow]), largest_px)
    return [colorsys.rgb_to_hsv(*(pixel / 255)) for pixel in rgb[0]]


def test_no_motion_is_white():
    assert (flow_to_rgb(torch.zeros(3, 4, 2), 5.0) == 255).all()


@pytest.mark.parametrize("angle", np.linspace(0, 2 * np.pi, 13)[:-1].tolist())
def test_opposite_motions_have_opposite_hues(angle):
    x, y = 4 * np.cos(angle), 4 * np.sin(angle)
    (hue, saturation, value), (other, *_) = colours([[x, y], [-x, -y]])
    assert saturation == pytest.approx(1, abs=0.02)
    assert value == 1
    apart = abs(hue - other)
    assert min(apart, 1 - apart) == pytest.approx(0.5, abs=0.02)
    assert abs((hue - angle / (2 * np.pi) + 0.5) % 1 - 0.5) < 0.02


def test_longer_motions_are_more_saturated_up_to_the_largest():
    found = colours([[1.0, 1.0], [2.0, 2.0], [4.0, 4.0], [400.0, 400.0]])
    saturations = [s for _, s, _ in found]
    assert saturations[:3] == sorted(saturations[:3])
    assert saturations[0] < saturations[1] < saturations[2]
    assert saturations[2] == saturations[3] == pytest.approx(1, abs=0.01)
    assert saturations[0] == pytest.approx(2**0.5 / 4, abs=0.02)


def test_colours_depend_on_motion_relative_to_the_largest():
    flow = torch.randn(6, 7, 2, generator=torch.Generator().manual_seed(0))
    assert np.array_equal(flow_to_rgb(flow, 2.0), flow_to_rgb(3 * flow, 6.0))
