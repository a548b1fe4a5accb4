"""Labels follow their image through a crop."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from flowhmr.body import SMPL_24, BodyModel, open_body
from flowhmr.cameras import Crop, fit_weak_camera, project_weak
from flowhmr.data import labels_in_crop
from flowhmr.data.labels import surface_in_crop
from flowhmr.geometry import pick
from flowhmr.records import Labels
from flowhmr.synth import StillConfig, render_stills

SIZE = 64
COUNT = 4


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return open_body()


@pytest.fixture(scope="module")
def labels(body) -> Labels:
    """Four people, and a confidence of its own for each keypoint."""
    labels = render_stills(StillConfig(size_px=SIZE), range(COUNT), body).labels
    confidence = torch.rand(COUNT, 24, generator=torch.Generator().manual_seed(0))
    return replace(labels, keypoint_confidence=confidence)


def crop(
    angle: float = 0.0, mirrored: bool = False, side: float = SIZE, shift: float = 0.0
) -> Crop:
    """The same window of each picture."""
    return Crop(
        centre_px=torch.full((COUNT, 2), SIZE / 2 + shift),
        side_px=torch.full((COUNT,), float(side)),
        angle_rad=torch.full((COUNT,), angle),
        mirrored=torch.full((COUNT,), float(mirrored)),
        size_px=SIZE,
    )


def assert_same(a: Labels, b: Labels) -> None:
    assert_close(a.params.rotmats, b.params.rotmats, atol=1e-5, rtol=0)
    assert torch.equal(a.params.betas, b.params.betas)
    assert a.params.body_id == b.params.body_id
    assert_close(a.joints_m, b.joints_m, atol=1e-5, rtol=0)
    assert_close(a.keypoints_px, b.keypoints_px, atol=1e-3, rtol=0)
    assert torch.equal(a.keypoint_confidence, b.keypoint_confidence)


WINDOWS = [
    crop(),
    crop(angle=0.5),
    crop(mirrored=True),
    crop(angle=-2.0, mirrored=True, side=40.0, shift=5.0),
]


def test_the_whole_image_changes_nothing(labels):
    assert_same(labels_in_crop(labels, crop()), labels)


def test_turning_back_undoes_a_turn(labels):
    turned = labels_in_crop(labels, crop(angle=0.7))
    assert not torch.allclose(turned.joints_m, labels.joints_m, atol=1e-2)
    assert_same(labels_in_crop(turned, crop(angle=-0.7)), labels)


def test_mirroring_twice_changes_nothing(labels):
    mirrored = labels_in_crop(labels, crop(mirrored=True))
    assert not torch.allclose(mirrored.keypoints_px, labels.keypoints_px, atol=1.0)
    assert_same(labels_in_crop(mirrored, crop(mirrored=True)), labels)


@pytest.mark.parametrize("window", WINDOWS)
def test_joints_stay_those_of_the_labelled_body(body, labels, window):
    out = labels_in_crop(labels, window)
    assert_close(body.joints(out.params), out.joints_m, atol=1e-5, rtol=0)


@pytest.mark.parametrize("window", WINDOWS)
def test_the_body_is_seen_in_the_crop_as_well_as_in_the_image(labels, window):
    """Turned and mirrored body and picture agree: a weak camera fits as before."""

    def error_px(labels: Labels, zoom: float) -> torch.Tensor:
        camera = fit_weak_camera(labels.joints_m, labels.keypoints_px, SIZE)
        seen_px = project_weak(labels.joints_m, camera, SIZE)[..., :2]
        assert (camera.scale > 0).all()
        return (seen_px - labels.keypoints_px).norm(dim=-1).mean(-1) / zoom

    after = error_px(labels_in_crop(labels, window), float(SIZE / window.side_px[0]))
    assert_close(after, error_px(labels, 1.0), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("mirrored", [False, True])
def test_keypoints_move_as_the_image_does(labels, mirrored):
    window = crop(angle=0.4, mirrored=mirrored, side=50.0, shift=3.0)
    out = labels_in_crop(labels, window)
    moved = window.to_crop(labels.keypoints_px)
    for name in SMPL_24.names:
        source = SMPL_24.mirror[SMPL_24.index(name)] if mirrored else SMPL_24.index(name)
        target = SMPL_24.index(name)
        assert_close(out.keypoints_px[:, target], moved[:, source], atol=1e-4, rtol=0)
        expected = labels.keypoint_confidence[:, source]
        assert torch.equal(out.keypoint_confidence[:, target], expected)


def test_in_the_mirror_a_raised_left_hand_is_a_right_one(body):
    """Facing the camera the left hand is seen at the right; mirrored, a right hand at the left."""
    params = body.rest_params(1)
    params.rotmats[:, 0] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    up = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    params.rotmats[:, SMPL_24.index("left_shoulder")] = up
    joints_m = body.joints(params)
    points_px = SIZE / 2 + 25 * joints_m[..., :2]
    labels = Labels(params, joints_m, points_px, torch.ones(1, 24))
    out = labels_in_crop(labels, pick(crop(mirrored=True), torch.tensor([0])))
    left, right = SMPL_24.index("left_wrist"), SMPL_24.index("right_wrist")
    head = SMPL_24.index("head")
    assert joints_m[0, left, 1] < joints_m[0, head, 1] < joints_m[0, right, 1]
    assert out.joints_m[0, right, 1] < out.joints_m[0, head, 1] < out.joints_m[0, left, 1]
    assert points_px[0, left, 0] > SIZE / 2 > points_px[0, right, 0]
    assert out.keypoints_px[0, left, 0] > SIZE / 2 > out.keypoints_px[0, right, 0]
    assert out.keypoints_px[0, right, 1] == pytest.approx(float(points_px[0, left, 1]))


def test_crops_of_a_batch_may_differ(labels):
    windows = [crop(), crop(angle=0.5), crop(mirrored=True), crop(side=30.0)]
    fields = {n: torch.stack([getattr(w, n)[i] for i, w in enumerate(windows)])
              for n in ("centre_px", "side_px", "angle_rad", "mirrored")}  # fmt: skip
    together = labels_in_crop(labels, Crop(**fields, size_px=SIZE))
    for i, window in enumerate(windows):
        one = torch.tensor([i])
        alone = labels_in_crop(pick(labels, one), pick(window, one))
        assert_same(pick(together, one), alone)


def test_a_map_of_the_image_is_not_taken_for_one_of_the_crop(labels):
    assert labels.surface is not None
    assert labels_in_crop(labels, crop(angle=0.5)).surface is None


def half_seen() -> np.ndarray:
    """A map (16, 16) with a body in a patch off the middle, x growing with the column."""
    surface = np.zeros((16, 16, 4), np.uint8)
    surface[2:7, 9:14] = [0, 100, 200, 255]
    surface[2:7, 9:14, 0] = 20 * np.arange(5)
    return surface


def test_the_map_of_the_whole_image_is_the_map():
    whole = pick(crop(), 0)
    assert np.array_equal(surface_in_crop(half_seen(), whole, SIZE, 16), half_seen())


def test_a_mirrored_map_shows_the_other_side_of_the_body():
    out = surface_in_crop(half_seen(), pick(crop(mirrored=True), 0), SIZE, 16)
    expected = half_seen()[:, ::-1].copy()
    seen = expected[..., 3] > 0
    expected[seen, 0] = 255 - expected[seen, 0]
    assert np.array_equal(out, expected)


def test_a_quarter_turn_turns_the_map():
    out = surface_in_crop(half_seen(), pick(crop(angle=math.pi / 2), 0), SIZE, 16)
    # x towards y: what was at the right is now below.
    assert np.array_equal(out, np.rot90(half_seen(), -1))


def test_a_window_of_the_map_is_cut_at_the_cells_middles():
    """The right half of the upper half, twice as fine: each cell is seen four times."""
    window = Crop(
        centre_px=torch.tensor([48.0, 16.0]),
        side_px=torch.tensor(32.0),
        angle_rad=torch.zeros(()),
        mirrored=torch.zeros(()),
        size_px=24,
    )
    out = surface_in_crop(half_seen(), window, SIZE, 16)
    quarter = half_seen()[:8, 8:]
    assert np.array_equal(out, cv2.resize(quarter, (16, 16), interpolation=cv2.INTER_NEAREST))
