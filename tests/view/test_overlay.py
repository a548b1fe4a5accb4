"""Overlays: bodies come back to where their crop was cut, and nothing else is painted."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from flowhmr.body import SMPL_24, BodyModel, open_body
from flowhmr.cameras import Crop, WeakCamera, crop_from_box, project_weak
from flowhmr.raster import rasterise
from flowhmr.synth import mean_rotmats
from flowhmr.view import bodies_in_image, draw_body, draw_box, draw_joints

HEIGHT, WIDTH = 90, 120


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return open_body()


@pytest.fixture(scope="module")
def verts_m(body) -> torch.Tensor:
    return body.mesh(body.params(mean_rotmats()[None], torch.zeros(1, 10))).verts


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def windows() -> Crop:
    boxes_px = torch.tensor([[10.0, 5.0, 40.0, 80.0], [60.0, 20.0, 30.0, 30.0]])
    return crop_from_box(boxes_px, 64)


CAMERAS = WeakCamera(torch.tensor([[0.9, 0.1, -0.05], [0.7, -0.2, 0.1]]))


def in_image(verts_m: torch.Tensor, shift_px: float = 0.0) -> torch.Tensor:
    """One standing body in the left half of the picture."""
    camera, crop = WeakCamera(torch.tensor([[0.95, 0.0, 0.0]])), windows()
    crop = Crop(crop.centre_px[:1], crop.side_px[:1], torch.zeros(1), torch.zeros(1), 64)
    return bodies_in_image(verts_m, camera, crop)[0] + torch.tensor([shift_px, 0.0, 0.0])


def test_bodies_cut_again_are_the_estimates(verts_m):
    points_m = verts_m[:, ::50].expand(2, -1, -1)
    crop = windows()
    seen = bodies_in_image(points_m, CAMERAS, crop)
    expected = project_weak(points_m, CAMERAS, 64)
    assert_close(crop.to_crop(seen[..., :2]), expected[..., :2], atol=1e-3, rtol=0)


def test_bodies_keep_their_proportions_in_depth(verts_m):
    """Pixels of the image in all three: a shift of a metre is as long whichever way it goes."""
    points_m = torch.cat([torch.zeros(2, 1, 3), torch.eye(3).expand(2, 3, 3)], 1)
    seen = bodies_in_image(points_m, CAMERAS, windows())
    lengths = (seen[:, 1:] - seen[:, :1]).norm(dim=-1)
    assert_close(lengths, lengths[:, :1].expand(2, 3))
    assert_close(lengths[:, 0], CAMERAS.scale * windows().side_px / 2)


def test_the_centre_of_a_crop_is_the_centre_of_its_box():
    camera = WeakCamera(torch.tensor([[1.0, 0.0, 0.0]] * 2))
    seen = bodies_in_image(torch.zeros(2, 1, 3), camera, windows())
    assert_close(seen[:, 0, :2], torch.tensor([[30.0, 45.0], [75.0, 35.0]]))


def test_a_body_changes_the_pixels_it_covers_and_no_others(body, verts_m, image):
    before = image.copy()
    verts_px = in_image(verts_m)
    drawn = draw_body(image, verts_px, body.faces)
    covered = (rasterise(verts_px, body.faces, HEIGHT, WIDTH).face_ids >= 0).numpy()
    assert covered.sum() > 500
    assert np.array_equal(drawn[~covered], image[~covered])
    assert (drawn != image)[covered].any(-1).mean() > 0.98
    assert np.array_equal(image, before), "the image itself stays"


@pytest.mark.parametrize("shift", [(500.0, 0.0), (-500.0, 0.0), (0.0, 500.0), (0.0, -500.0)])
def test_a_body_outside_the_image_changes_nothing(body, verts_m, image, shift):
    verts_px = in_image(verts_m) + torch.tensor([*shift, 0.0])
    drawn = draw_body(image, verts_px, body.faces)
    assert np.array_equal(drawn, image)
    assert drawn is not image


@pytest.mark.parametrize("shift", [(-25.0, 0.0), (80.0, 0.0), (3.3, -40.7), (0.0, 52.5)])
def test_a_body_cut_by_the_border_is_a_part_of_the_whole(body, verts_m, shift):
    """Drawn into a larger picture and cut out of it, it looks the same."""
    verts_px = in_image(verts_m) + torch.tensor([*shift, 0.0])
    cut = draw_body(np.full((HEIGHT, WIDTH, 3), 128, np.uint8), verts_px, body.faces)
    canvas = np.full((3 * HEIGHT, 3 * WIDTH, 3), 128, np.uint8)
    whole = draw_body(canvas, verts_px + torch.tensor([WIDTH, HEIGHT, 0.0]), body.faces)
    part = whole[HEIGHT : 2 * HEIGHT, WIDTH : 2 * WIDTH]
    difference = np.abs(cut.astype(int) - part)
    # Other places in float32: a pixel on the outline may fall to the other side.
    assert (difference.max(-1) > 1).mean() < 1e-3
    assert (cut != 128).any()


def test_opacity_goes_from_nothing_to_the_plain_body(body, verts_m, image):
    verts_px = in_image(verts_m)
    assert np.array_equal(draw_body(image, verts_px, body.faces, opacity=0.0), image)
    covered = (rasterise(verts_px, body.faces, HEIGHT, WIDTH).face_ids >= 0).numpy()
    other = 255 - image
    a, b = (draw_body(i, verts_px, body.faces, opacity=1.0) for i in (image, other))
    assert np.array_equal(a[covered], b[covered])


def test_a_body_has_its_colour_and_is_lit_from_above_left(body, verts_m):
    grey = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    drawn = draw_body(grey, in_image(verts_m), body.faces, (200, 0, 0), opacity=1.0)
    assert drawn[..., 1:].max() == 0
    columns = np.nonzero(drawn[..., 0].any(0))[0]
    middle = (columns[0] + columns[-1] + 1) // 2
    left, right = drawn[:, :middle, 0], drawn[:, middle:, 0]
    assert left[left > 0].mean() > right[right > 0].mean() + 5
    assert len(np.unique(drawn[..., 0])) > 20, "shaded, not flat"


def test_joints_are_drawn_where_they_are_seen():
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    joints_px = torch.full((24, 2), torch.nan)
    hip, knee = SMPL_24.index("left_hip"), SMPL_24.index("left_knee")
    joints_px[hip], joints_px[knee] = torch.tensor([20.5, 10.5]), torch.tensor([20.5, 60.5])
    drawn = draw_joints(black, joints_px, SMPL_24, thickness_px=1)
    rows, columns = np.nonzero(drawn.any(-1))
    assert (rows.min(), rows.max()) == pytest.approx((10, 60), abs=1)
    assert columns.mean() == pytest.approx(20, abs=0.2)
    assert np.ptp(columns) <= 2
    assert drawn[30, 20, 1] > drawn[30, 20, 0], "the left is green"
    swapped = draw_joints(black, joints_px[list(SMPL_24.mirror)], SMPL_24, thickness_px=1)
    assert swapped[30, 20, 0] > swapped[30, 20, 1], "the right is orange"


def test_joints_that_are_not_known_are_left_out(image):
    nowhere = torch.full((24, 2), torch.nan)
    assert np.array_equal(draw_joints(image, nowhere, SMPL_24), image)
    # A single joint has no neighbour to be connected with.
    nowhere[5] = 30.0
    assert np.array_equal(draw_joints(image, nowhere, SMPL_24), image)


def test_joints_outside_the_image_change_nothing(image):
    far = torch.rand(24, 2) * 50 + 1000
    before = image.copy()
    assert np.array_equal(draw_joints(image, far, SMPL_24), image)
    draw_joints(image, torch.rand(24, 2) * 80, SMPL_24)
    assert np.array_equal(image, before), "the image itself stays"


def test_a_box_is_drawn_on_its_edges():
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    drawn = draw_box(black, torch.tensor([20.0, 10.0, 60.0, 40.0]), (7, 8, 9))
    rows, columns = np.nonzero(drawn.any(-1))
    assert set(map(tuple, drawn[rows, columns])) == {(7, 8, 9)}
    assert (columns.min(), rows.min()) == pytest.approx((20, 10), abs=1)
    assert (columns.max(), rows.max()) == pytest.approx((80, 50), abs=1)
    assert not drawn[15:45, 25:75].any()
    assert not black.any()
