"""Scenes: seeded pictures of the size that was asked for, and light from one's own side."""

import numpy as np
import pytest

from flowhmr.synth import compress, sample_background
from flowhmr.synth.scenes import sample_light, value_noise


def background(seed: int, height: int = 60, width: int = 80) -> np.ndarray:
    return sample_background(np.random.default_rng(seed), height, width)


@pytest.mark.parametrize(("height", "width"), [(1, 12), (7, 200), (160, 160), (90, 40)])
def test_backgrounds_have_the_size_asked_for(height, width):
    for seed in range(12):
        image = background(seed, height, width)
        assert image.shape == (height, width, 3)
        assert image.dtype == np.uint8


def test_backgrounds_are_seeded():
    assert np.array_equal(background(3), background(3))
    assert not np.array_equal(background(3), background(4))


def test_backgrounds_show_something():
    contrast = [background(seed).std((0, 1)).max() for seed in range(40)]
    assert np.median(contrast) > 15
    means = np.stack([background(seed).mean((0, 1)) for seed in range(40)])
    assert (means.std(0) > 20).all()


@pytest.mark.parametrize("cell_px", [1.0, 4.0, 16.0])
def test_noise_is_as_smooth_as_its_cells_are_large(cell_px):
    noise = value_noise(np.random.default_rng(0), 64, 48, cell_px)
    assert noise.shape == (64, 48)
    assert noise.min() >= 0
    assert noise.max() <= 1
    steps = np.abs(np.diff(noise, axis=0)).mean()
    assert steps < 3 / cell_px


def test_light_is_light():
    rng = np.random.default_rng(0)
    lights = [sample_light(rng) for _ in range(200)]
    for light in lights:
        for rgb in (light.ambient_rgb, light.sky_rgb, light.lamp_rgb):
            assert np.isfinite(rgb).all()
            assert rgb.min() >= 0
        assert np.linalg.norm(light.lamp_direction) == pytest.approx(1, abs=1e-5)
        assert light.lamp_direction[1] <= 0, "lamps hang above (image up is -Y)"
    sideways = np.array([light.lamp_direction[0] for light in lights])
    assert abs((sideways < 0).mean() - 0.5) < 0.15


def test_light_is_seeded():
    a, b = (sample_light(np.random.default_rng(9)) for _ in range(2))
    assert np.array_equal(a.lamp_direction, b.lamp_direction)
    assert np.array_equal(a.ambient_rgb, b.ambient_rgb)


def smooth_picture() -> np.ndarray:
    """Different ramps in the three channels: exchanged channels would be seen."""
    y, x = np.mgrid[0:64, 0:48]
    return np.stack([4 * y, 5 * x, 255 - 2 * (x + y)], -1).clip(0, 255).astype(np.uint8)


def test_good_compression_hardly_changes_a_picture():
    image = smooth_picture()
    out = compress(image, 95)
    assert (out.shape, out.dtype) == (image.shape, np.uint8)
    assert np.abs(out.astype(int) - image).mean() < 2


def test_compression_costs_more_the_lower_the_quality():
    image = background(5)
    errors = [np.abs(compress(image, q).astype(int) - image).mean() for q in (95, 50, 10)]
    assert errors == sorted(errors)
    assert errors[0] < errors[2]
