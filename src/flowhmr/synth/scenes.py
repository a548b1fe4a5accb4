"""Scenes: what is behind and in front of a person, and the light that falls on them.

Everything is procedural and needs no download. A background is meant to be hard to tell from a
person's clothes locally: the same colours, textures and sizes occur on both sides of an outline.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from flowhmr.synth.people import random_rgb


@dataclass(frozen=True, eq=False)
class Light:
    """Ambient light, light from the sky and one lamp or sun."""

    ambient_rgb: Float32[np.ndarray, "3"]
    """Light that reaches every surface."""
    sky_rgb: Float32[np.ndarray, "3"]
    """Added on surfaces that look up (image up)."""
    lamp_rgb: Float32[np.ndarray, "3"]
    """Added by the lamp on surfaces that look at it."""
    lamp_direction: Float32[np.ndarray, "3"]
    """Unit vector towards the lamp, camera axes (X right, Y down, Z away)."""


def sample_light(rng: np.random.Generator) -> Light:
    """Indoor to noon light: soft or hard, from any side of the camera's half space."""
    tint = 1 + rng.normal(0, 0.06, 3)
    ambient, sky = rng.uniform(0.15, 0.65), rng.uniform(0, 0.35)
    lamp = rng.uniform(0.0, 1.1)
    direction = np.array([rng.normal(0, 0.8), -abs(rng.normal(0.6, 0.6)), rng.normal(-0.5, 0.7)])
    exposure = rng.uniform(0.65, 1.25) / (ambient + sky / 2 + lamp / 2)
    return Light(
        ambient_rgb=(ambient * exposure * tint).astype(np.float32),
        sky_rgb=(sky * exposure * np.array([0.9, 1.0, 1.15])).astype(np.float32),
        lamp_rgb=(lamp * exposure * (1 + rng.normal(0, 0.08, 3))).astype(np.float32),
        lamp_direction=(direction / np.linalg.norm(direction)).astype(np.float32),
    )


def sample_background(
    rng: np.random.Generator, height: int, width: int
) -> UInt8[np.ndarray, "h w 3"]:
    """A procedural picture without a person in focus: clouds of colour, leaves, rooms, streets."""
    kind = rng.random()
    if kind < 0.2:
        image = _clouds(rng, height, width)
    elif kind < 0.55:
        image = sample_leaves(rng, height, width, _clouds(rng, height, width))
    else:
        image = _place(rng, height, width)
    blur = rng.choice([0.0, rng.uniform(0.3, 1.0), rng.uniform(1.0, 3.0)], p=[0.4, 0.4, 0.2])
    if blur:
        image = cv2.GaussianBlur(image, (0, 0), float(blur))
    return (image.clip(0, 1) * 255).astype(np.uint8)


def compress(image: UInt8[np.ndarray, "h w 3"], quality: int) -> UInt8[np.ndarray, "h w 3"]:
    """The image after JPEG compression (quality 0..100)."""
    _, coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))


def value_noise(
    rng: np.random.Generator, height: int, width: int, cell_px: float
) -> Float32[np.ndarray, "h w"]:
    """Smooth noise in [0, 1] whose blobs are about ``cell_px`` wide."""
    rows, columns = max(2, round(height / cell_px) + 1), max(2, round(width / cell_px) + 1)
    coarse = rng.random((rows, columns), dtype=np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)


def _clouds(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    total = np.zeros((height, width), np.float32)
    weight, sum_weight = 1.0, 0.0
    cell = rng.uniform(0.15, 0.6) * width
    fade = rng.uniform(0.4, 0.8)
    while cell > 1.5 and weight > 0.08:
        total += weight * value_noise(rng, height, width, cell)
        sum_weight += weight
        weight, cell = weight * fade, cell / 2
    mix = (total / sum_weight)[..., None]
    mix = ((mix - 0.5) * rng.uniform(1.0, 2.5) + 0.5).clip(0, 1)
    low, high = random_rgb(rng).astype(np.float32), random_rgb(rng).astype(np.float32)
    return low + mix * (high - low)


def sample_leaves(
    rng: np.random.Generator, height: int, width: int, image: np.ndarray
) -> np.ndarray:
    """Dead leaves: ellipses, boxes, polygons and strokes that hide one another."""
    image = np.ascontiguousarray(image, np.float32)
    palette = [random_rgb(rng) for _ in range(rng.integers(3, 9))]
    for _ in range(int(rng.integers(8, 90))):
        colour = palette[rng.integers(len(palette))] * rng.uniform(0.6, 1.3)
        _shape(rng, image, tuple(float(c) for c in colour), largest=0.5)
    return image + _grain(rng, height, width)


def _shape(rng: np.random.Generator, image: np.ndarray, colour: tuple, largest: float) -> None:
    height, width = image.shape[:2]
    centre = (int(rng.uniform(-0.1, 1.1) * width), int(rng.uniform(-0.1, 1.1) * height))
    size = largest * rng.uniform(0.05, 1) ** 2 * width + 1
    kind = rng.random()
    if kind < 0.3:
        axes = (int(size * rng.uniform(0.2, 1)) + 1, int(size) + 1)
        cv2.ellipse(
            image, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA
        )
    elif kind < 0.5:
        turn = rng.uniform(0, 90) if rng.random() < 0.5 else 0.0
        rect = (centre, (float(size * rng.uniform(0.2, 2)), float(size)), float(turn))
        corners = cv2.boxPoints(rect).round().astype(np.int32)
        cv2.fillPoly(image, [corners], colour, cv2.LINE_AA)
    elif kind < 0.65:
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 8)))
        rim = size * rng.uniform(0.4, 1.0, len(angles))
        corners = np.stack([np.cos(angles), np.sin(angles)], 1) * rim[:, None] + centre
        cv2.fillPoly(image, [corners.astype(np.int32)], colour, cv2.LINE_AA)
    else:
        # Limb-like strokes: the commonest false arm or leg is a branch, a pole, a rail.
        end = np.array(centre) + rng.normal(0, 1, 2) * size * 2
        thick = int(max(1, rng.uniform(0.01, 0.06) * width))
        cv2.line(image, centre, tuple(int(c) for c in end), colour, thick, cv2.LINE_AA)


def _grain(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    strength = rng.exponential(0.05)
    fine = value_noise(rng, height, width, rng.uniform(1.5, 6))
    return (strength * (fine - 0.5))[..., None]


def _place(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Ground and sky (or floor and wall) with things standing about."""
    horizon = int(height * rng.uniform(0.25, 0.85))
    far, near = _clouds(rng, height, width), _clouds(rng, height, width)
    flat = rng.random() < 0.5
    if flat:
        far = far * 0.2 + 0.8 * random_rgb(rng).astype(np.float32)
    image = far
    image[horizon:] = near[horizon:]
    grass = value_noise(rng, height, width, 2.5)[..., None] - 0.5
    image[horizon:] += (rng.uniform(0, 0.5) * grass)[horizon:]
    for _ in range(int(rng.integers(0, 10))):
        _standing_thing(rng, image, horizon)
    for _ in range(int(rng.integers(0, 12))):
        _shape(rng, image, tuple(float(c) for c in random_rgb(rng)), largest=0.25)
    return image + _grain(rng, height, width)


def _standing_thing(rng: np.random.Generator, image: np.ndarray, horizon: int) -> None:
    """A box, a pole or a building with windows whose foot is near the horizon."""
    height, width = image.shape[:2]
    wide = max(2, int(width * rng.choice([rng.uniform(0.02, 0.08), rng.uniform(0.1, 0.5)])))
    tall = max(2, int(height * rng.uniform(0.1, 0.9)))
    left = int(rng.uniform(-0.2, 1) * width)
    foot = horizon + int(rng.uniform(-0.02, 0.3) * height)
    x0, x1, y0, y1 = max(left, 0), max(left + wide, 0), max(foot - tall, 0), max(foot, 0)
    patch = image[y0:y1, x0:x1]
    if patch.size == 0:
        return
    patch[:] = random_rgb(rng)
    patch *= np.linspace(1, rng.uniform(0.6, 1.3), patch.shape[1], dtype=np.float32)[None, :, None]
    if rng.random() < 0.5:
        step = max(3, int(width * rng.uniform(0.02, 0.1)))
        gap = max(1, int(step * rng.uniform(0.2, 0.7)))
        colour = random_rgb(rng)
        rows = np.arange(patch.shape[0]) % step < gap
        columns = np.arange(patch.shape[1]) % step < gap
        slats = rng.random()
        if slats < 0.3:
            patch[rows] = colour
        elif slats < 0.6:
            patch[:, columns] = colour
        else:
            patch[np.ix_(rows, columns)] = colour
