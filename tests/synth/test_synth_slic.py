"""Super-pixels: connected, through the whole clip, carried along with the scene."""

import cv2
import numpy as np
import pytest
from scipy.ndimage import label

from flowhmr.synth import slic as module
from flowhmr.synth.slic import MAP_PX, choose_occluder, occluder_mask, superpixels

SIZE = 4 * MAP_PX
T = 17


def texture(seed: int, height: int, width: int, contrast: float = 1.0) -> np.ndarray:
    """Soft blobs of colour."""
    rng = np.random.default_rng(seed)
    noise = cv2.resize(rng.random((height // 24, width // 24, 3)), (width, height))
    return (127 + 255 * contrast * (noise - 0.5)).clip(0, 255).astype(np.uint8)


def panned(seed: int, contrast: float, step_px: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """A window that moves left over a texture: the scene moves right, by whole map pixels."""
    wide = texture(seed, SIZE, SIZE + step_px * T, contrast)
    corners = [step_px * (T - 1 - t) for t in range(T)]
    drift = np.zeros((T, 2), np.float32)
    drift[:, 0] = step_px * (np.arange(T) - T // 2)
    return np.stack([wide[:, x : x + SIZE] for x in corners]), drift


def followed(labels: np.ndarray) -> float:
    """Share of pixels with the label that the scene had there in the first frame; pans of
    one map pixel to the right in each frame."""
    same = [labels[t, :, t:] == labels[0, :, : MAP_PX - t] for t in range(1, T)]
    return float(np.concatenate([s.reshape(-1) for s in same]).mean())


@pytest.mark.parametrize("seed", range(3))
def test_super_pixels_follow_a_pan(seed):
    for contrast in (1.0, 0.1):
        images, drift = panned(seed, contrast)
        labels = superpixels(images, drift, np.random.default_rng(seed))
        assert labels.shape == (T, MAP_PX, MAP_PX)
        assert followed(labels) > 0.95


def test_faint_scenes_are_followed_by_the_drift_alone():
    images, drift = panned(0, contrast=0.02)
    rng = np.random.default_rng
    with_drift = followed(superpixels(images, drift, rng(0)))
    without = followed(superpixels(images, np.zeros_like(drift), rng(0)))
    backwards = followed(superpixels(images, -drift, rng(0)))
    assert with_drift > 0.95 > 0.7 > without > backwards


def test_the_drift_may_start_anywhere():
    images, drift = panned(1, contrast=0.5)
    here, there = (superpixels(images, d, np.random.default_rng(5)) for d in (drift, drift + 40))
    assert here.max() == there.max()
    assert (here == there).mean() > 0.98


@pytest.mark.parametrize("seed", range(4))
def test_a_still_clip_has_still_super_pixels(seed):
    images = np.repeat(texture(seed, SIZE, SIZE)[None], T, axis=0)
    labels = superpixels(images, np.zeros((T, 2), np.float32), np.random.default_rng(seed))
    assert (labels == labels[T // 2]).mean() > 0.99


@pytest.mark.parametrize("seed", range(4))
def test_labels_are_counted_up_and_connected(seed):
    images, drift = panned(seed, contrast=1.0)
    images = images + np.random.default_rng(0).integers(0, 40, images.shape, dtype=np.uint8)
    labels = superpixels(images, drift, np.random.default_rng(seed))
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    pieces = [label(labels == number)[1] for number in range(labels.max() + 1)]
    # A small piece that went to its neighbour may touch it by a corner only.
    assert np.mean(np.array(pieces) == 1) > 0.8
    assert np.bincount(labels.reshape(-1)).min() > 0.2 * labels.size / (labels.max() + 1)


def test_an_image_has_ten_to_thirty():
    still = np.zeros((3, 2), np.float32)
    counts = []
    for seed in range(20):
        images = np.repeat(texture(seed, SIZE, SIZE, contrast=0.05)[None], 3, axis=0)
        counts.append(superpixels(images, still, np.random.default_rng(seed)).max() + 1)
    assert min(counts) >= 8
    assert max(counts) <= 36
    assert max(counts) - min(counts) > 8


def test_borders_lie_where_colours_change():
    images = np.zeros((5, SIZE, SIZE, 3), np.uint8)
    y, x = np.mgrid[:SIZE, :SIZE]
    for t in range(5):
        images[t, (x - 80 - 4 * t) ** 2 + (y - 100) ** 2 < 40**2] = (250, 200, 20)
    labels = superpixels(images, np.zeros((5, 2), np.float32), np.random.default_rng(0))
    ball = np.stack([cv2.resize(i, (MAP_PX, MAP_PX), interpolation=cv2.INTER_AREA) for i in images])
    inside, outside = ball[..., 0] > 240, ball[..., 0] < 10
    assert not set(labels[inside]) & set(labels[outside])


@pytest.mark.parametrize(("height", "width"), [(96, 192), (192, 96), (20, 20)])
def test_images_of_any_shape(height, width):
    images = np.stack([texture(t, 192, 192)[:height, :width] for t in range(2)])
    labels = superpixels(images, np.zeros((2, 2), np.float32), np.random.default_rng(0))
    longer = max(height, width)
    assert labels.shape == (2, height * MAP_PX // longer, width * MAP_PX // longer)


def test_super_pixels_are_seeded():
    images, drift = panned(0, contrast=1.0)
    a, b, c = (superpixels(images, drift, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_the_nearest_centre_is_the_nearest():
    """Against the plain definition, over more than one chunk."""
    rng = np.random.default_rng(0)
    features = rng.random((5000, 5), dtype=np.float32)
    centres, step = rng.random((12, 5), dtype=np.float32), 0.3
    nearest = module._nearest(features, centres, step)
    gap = features[:, None] - centres
    distance = (gap**2).sum(-1) + 1e3 * (np.abs(gap[..., :2]) > 2 * step).sum(-1)
    chosen = distance[np.arange(5000), nearest]
    assert np.allclose(chosen, distance.min(1), atol=1e-4)


def halves(frames: int = 5) -> np.ndarray:
    """Two super-pixels: left and right."""
    labels = np.zeros((frames, MAP_PX, MAP_PX), np.int32)
    labels[..., MAP_PX // 2 :] = 1
    return labels


def test_masks_show_one_super_pixel():
    seen = set()
    for seed in range(12):
        mask = occluder_mask(halves(), np.random.default_rng(seed), 100)
        assert mask.shape == (5, 100, 100)
        right = bool(mask[0, 0, -1])
        assert np.array_equal(mask, np.broadcast_to((np.arange(100) >= 50) == right, mask.shape))
        seen.add(right)
    assert seen == {False, True}


def test_masks_move_with_the_scene():
    images, drift = panned(2, contrast=1.0)
    labels = superpixels(images, drift, np.random.default_rng(0))
    for seed in range(8):
        mask = occluder_mask(labels, np.random.default_rng(seed), SIZE)
        now, later = mask[2:-3, :, :-4], mask[3:-2, :, 4:]
        assert (now & later).sum() > 0.85 * (now | later).sum()


def test_borders_of_masks_are_smooth():
    """An oblique border has no steps of the map's size (5 px here)."""
    labels = np.zeros((3, MAP_PX, MAP_PX), np.int32)
    y, x = np.mgrid[:MAP_PX, :MAP_PX]
    labels[:, x > y * 0.4 + 8] = 1
    mask = occluder_mask(labels, np.random.default_rng(0), 5 * MAP_PX)[1]
    border = np.abs(np.diff(mask.astype(int), axis=1)).argmax(1)
    assert np.abs(np.diff(border)).max() <= 3


def test_maps_must_be_square():
    with pytest.raises(ValueError, match=r"got a map of 40x48; expected a square"):
        occluder_mask(np.zeros((2, 48, 40), np.int32), np.random.default_rng(0), 64)


def person(columns: tuple[int, int], joints_x: list[float]) -> tuple[np.ndarray, np.ndarray]:
    silhouette = np.zeros((5, 100, 100), bool)
    silhouette[:, 20:80, slice(*columns)] = True
    joints = np.array([[x, 50.0] for x in joints_x], np.float32)
    return silhouette, np.repeat(joints[None], 5, axis=0)


def choices(columns, joints_x, labels=None, **settings) -> list[str]:
    """Which half was chosen, over seeds."""
    silhouette, joints = person(columns, joints_x)
    names = set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        mask = choose_occluder(
            halves() if labels is None else labels, silhouette, joints, rng, **settings
        )
        names.add("none" if mask is None else "right" if mask[0, 50, 75] else "left")
    return sorted(names)


LEFT, RIGHT = [25.0] * 7, [75.0] * 7


def test_a_fair_occluder_is_used():
    assert choices((10, 90), LEFT + RIGHT) == ["left", "right"]


def test_who_hides_nothing_is_no_occluder():
    assert choices((10, 40), LEFT + RIGHT) == ["left", "none"]


def test_enough_joints_stay_visible():
    assert choices((10, 90), LEFT + RIGHT[:6]) == ["none", "right"]
    assert choices((10, 90), LEFT + RIGHT[:6], least_visible=6.0) == ["left", "right"]
    assert choices((10, 90), LEFT + RIGHT, least_visible=7.1) == ["none"]


def test_joints_outside_the_image_are_not_visible():
    for outside in (-0.5, 100.0, 1e6, np.nan):
        assert choices((10, 90), [outside] * 7 + RIGHT) == ["left", "none"]


def test_visibility_is_averaged_over_the_clip():
    """Three of five frames free: 0.6 x 14 joints visible."""
    labels = np.zeros((5, MAP_PX, MAP_PX), np.int32)
    labels[3:] = 1
    found = choices((10, 90), LEFT + RIGHT, labels, least_visible=8.3)
    assert "none" in found
    assert len(found) == 2
    assert choices((10, 90), LEFT + RIGHT, labels, least_visible=8.5) == ["none"]
