"""Textures: what floors, walls, things and printed clothes look like; seeded, no download.

A texture is a square picture with its mip-map levels, one after another in a flat array; surfaces
repeat it mirrored, so that it needs no matching edges.
"""

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from flowhmr.synth.people import random_rgb
from flowhmr.synth.scenes import sample_leaves, value_noise

TEXTURE_PX = 256
LEVELS = 9
"""256, 128, ... 1."""
TEXELS = sum((TEXTURE_PX >> level) ** 2 for level in range(LEVELS))

Kind = str
GROUNDS: tuple[Kind, ...] = ("grass", "asphalt", "tiles", "planks", "carpet", "gravel", "court")
WALLS: tuple[Kind, ...] = ("plaster", "bricks", "wallpaper", "facade", "shelves", "posters")
FABRICS: tuple[Kind, ...] = ("posters", "wallpaper", "carpet", "camouflage")
THINGS: tuple[Kind, ...] = (*WALLS, "planks", "camouflage", "plain")
SKIES: tuple[Kind, ...] = ("skyline", "hills", "trees")


@lru_cache(maxsize=640)
def texture(kind: Kind, seed: int, number: int) -> UInt8[np.ndarray, "n 3"]:
    """Texture ``number`` of a kind: all levels, the finest first, row by row (gamma 2 colour)."""
    rng = np.random.default_rng([seed, 7, sorted(_PAINTERS).index(kind), number])
    image = _PAINTERS[kind](rng)
    image = (image.clip(0, 1) * 255).astype(np.uint8)
    return np.concatenate([level.reshape(-1, 3) for level in _pyramid(image)])


def _pyramid(image: UInt8[np.ndarray, "s s 3"]) -> list[np.ndarray]:
    levels = [image]
    while len(levels) < LEVELS:
        side = TEXTURE_PX >> len(levels)
        levels.append(cv2.resize(levels[-1], (side, side), interpolation=cv2.INTER_AREA))
    return levels


def _mix(low: np.ndarray, high: np.ndarray, share: np.ndarray) -> Float32[np.ndarray, "s s 3"]:
    share = share[..., None].astype(np.float32)
    return (low * (1 - share) + high * share).astype(np.float32)


def _noise(rng: np.random.Generator, cell_px: float) -> Float32[np.ndarray, "s s"]:
    return value_noise(rng, TEXTURE_PX, TEXTURE_PX, cell_px)


def _fractal(rng: np.random.Generator, cell_px: float, fade: float = 0.6) -> np.ndarray:
    total, weight, weights = np.zeros((TEXTURE_PX, TEXTURE_PX), np.float32), 1.0, 0.0
    while cell_px > 1.5:
        total += weight * _noise(rng, cell_px)
        weights += weight
        weight, cell_px = weight * fade, cell_px / 2
    return ((total / weights - 0.5) * 1.8 + 0.5).clip(0, 1)


def _muted_rgb(rng: np.random.Generator) -> np.ndarray:
    """What walls and houses are painted in."""
    rgb = random_rgb(rng).clip(0, 1)
    return rgb.mean() + (rgb - rgb.mean()) * rng.uniform(0.15, 0.7)


def _around(rng: np.random.Generator, rgb: tuple[float, float, float], spread: float) -> np.ndarray:
    return (np.array(rgb) * rng.uniform(0.75, 1.25) + rng.normal(0, spread, 3)).clip(0.02, 1)


def _grass(rng: np.random.Generator) -> np.ndarray:
    dark, light = _around(rng, (0.16, 0.24, 0.1), 0.03), _around(rng, (0.36, 0.45, 0.2), 0.05)
    return _mix(dark, light, 0.55 * _noise(rng, 2.2) + 0.45 * _fractal(rng, 60.0))


def _asphalt(rng: np.random.Generator) -> np.ndarray:
    grey = rng.uniform(0.2, 0.55)
    image = _mix(np.full(3, grey * 0.8), np.full(3, grey * 1.15), _fractal(rng, 50.0, 0.8))
    for _ in range(int(rng.integers(0, 5))):
        path = np.cumsum(rng.normal(0, 14, (14, 2)), 0) + rng.uniform(0, TEXTURE_PX, 2)
        shade = (grey * 0.55,) * 3
        cv2.polylines(image, [path.astype(np.int32)], False, shade, 1, cv2.LINE_AA)
    return image


def _tiles(rng: np.random.Generator) -> np.ndarray:
    cells = int(rng.integers(2, 9))
    first, second = _muted_rgb(rng), _muted_rgb(rng)
    second = second if rng.random() < 0.4 else first * rng.uniform(0.85, 1.1)
    at = np.arange(TEXTURE_PX) * cells // TEXTURE_PX
    image = _mix(first, second, (at[:, None] + at[None]) % 2)
    image *= 1 + 0.12 * (rng.random((cells, cells))[at[:, None], at[None]][..., None] - 0.5)
    return _joints(image, rng, cells, cells) * (0.9 + 0.2 * _fractal(rng, 40.0)[..., None])


def _joints(image: np.ndarray, rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    joint = random_rgb(rng) * 0.7
    wide = max(2, int(TEXTURE_PX * rng.uniform(0.005, 0.02)))
    for k in range(rows):
        image[k * TEXTURE_PX // rows :][:wide] = joint
    for k in range(columns):
        image[:, k * TEXTURE_PX // columns :][:, :wide] = joint
    return image


def _planks(rng: np.random.Generator) -> np.ndarray:
    boards = int(rng.integers(4, 12))
    base = _around(rng, (0.5, 0.36, 0.24), 0.06)
    at = np.arange(TEXTURE_PX) * boards // TEXTURE_PX
    tone = rng.uniform(0.8, 1.15, boards)[at]
    grain = cv2.resize(rng.random((TEXTURE_PX, 12), dtype=np.float32), (TEXTURE_PX, TEXTURE_PX))
    image = base * (tone[:, None] * (0.85 + 0.3 * grain))[..., None]
    image[np.diff(at, prepend=0) > 0] *= 0.5
    return image.astype(np.float32)


def _carpet(rng: np.random.Generator) -> np.ndarray:
    image = _mix(random_rgb(rng), random_rgb(rng), _bands(rng, int(rng.integers(2, 14))))
    if rng.random() < 0.5:
        image = image + 0.4 * np.swapaxes(image, 0, 1) - 0.2
    return image * (0.85 + 0.3 * _noise(rng, 2.0)[..., None])


def _bands(rng: np.random.Generator, waves: int) -> np.ndarray:
    wave = np.sin(np.linspace(0, 2 * np.pi * waves, TEXTURE_PX) + rng.uniform(0, 6))
    return np.broadcast_to((0.5 + rng.uniform(0.6, 3) * wave).clip(0, 1)[None], (TEXTURE_PX,) * 2)


def _gravel(rng: np.random.Generator) -> np.ndarray:
    dark, light = _around(rng, (0.38, 0.35, 0.3), 0.05), _around(rng, (0.62, 0.58, 0.5), 0.05)
    return _mix(dark, light, 0.6 * _noise(rng, 3.0) + 0.4 * _fractal(rng, 90.0))


def _court(rng: np.random.Generator) -> np.ndarray:
    image = np.empty((TEXTURE_PX, TEXTURE_PX, 3), np.float32)
    image[:] = _muted_rgb(rng).clip(0.1, 0.8)
    line = (float(rng.uniform(0.7, 0.95)),) * 3
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(TEXTURE_PX))
        ends = ((at, 0), (at, TEXTURE_PX)) if rng.random() < 0.5 else ((0, at), (TEXTURE_PX, at))
        cv2.line(image, *ends, line, 4, cv2.LINE_AA)
    radius = int(rng.integers(30, 110))
    cv2.circle(image, (TEXTURE_PX // 2, TEXTURE_PX // 2), radius, line, 4, cv2.LINE_AA)
    return image * (0.92 + 0.16 * _fractal(rng, 60.0)[..., None])


def _plaster(rng: np.random.Generator) -> np.ndarray:
    base = _muted_rgb(rng).clip(0.25, 0.92)
    return base * (0.88 + 0.24 * _fractal(rng, 120.0, 0.7)[..., None])


def _plain(rng: np.random.Generator) -> np.ndarray:
    return random_rgb(rng) * (0.95 + 0.1 * _fractal(rng, 100.0)[..., None])


def _bricks(rng: np.random.Generator) -> np.ndarray:
    base = _around(rng, (0.5, 0.28, 0.2), 0.06) if rng.random() < 0.6 else _muted_rgb(rng)
    image = np.empty((TEXTURE_PX, TEXTURE_PX, 3), np.float32)
    image[:] = np.clip(base * 1.4 + 0.15, 0, 1)
    rows = 2 * int(rng.integers(5, 11))
    high = TEXTURE_PX // rows
    for row in range(rows + 1):
        for column in range(-1, rows // 2 + 1):
            x = int((column + 0.5 * (row % 2)) * high * 2.4)
            tone = base * rng.uniform(0.75, 1.2)
            cv2.rectangle(
                image, (x, row * high), (x + int(high * 2.4) - 3, row * high + high - 3),
                tuple(float(c) for c in tone), -1,
            )  # fmt: skip
    return image * (0.9 + 0.2 * _noise(rng, 3.0)[..., None])


def _wallpaper(rng: np.random.Generator) -> np.ndarray:
    low, high = _muted_rgb(rng), _muted_rgb(rng)
    bands = _bands(rng, int(rng.integers(3, 20)))
    if rng.random() < 0.4:
        bands = 1 - (1 - bands) * (1 - bands.T)
    return _mix(low, low + (high - low) * rng.uniform(0.2, 0.9), bands)


def _facade(rng: np.random.Generator) -> np.ndarray:
    image = _plaster(rng)
    rows, columns = int(rng.integers(2, 6)), int(rng.integers(2, 6))
    glass, frame = _around(rng, (0.2, 0.25, 0.32), 0.06), random_rgb(rng)
    for i in range(rows):
        for j in range(columns):
            y, x = int((i + 0.25) * TEXTURE_PX / rows), int((j + 0.25) * TEXTURE_PX / columns)
            high, wide = int(0.55 * TEXTURE_PX / rows), int(0.5 * TEXTURE_PX / columns)
            image[y - 2 : y + high + 2, x - 2 : x + wide + 2] = frame
            image[y : y + high, x : x + wide] = glass * rng.uniform(0.6, 1.9)
    return image


def _shelves(rng: np.random.Generator) -> np.ndarray:
    image = np.empty((TEXTURE_PX, TEXTURE_PX, 3), np.float32)
    image[:] = _around(rng, (0.35, 0.25, 0.18), 0.05)
    rows = int(rng.integers(3, 7))
    high = TEXTURE_PX // rows
    for row in range(rows):
        x = 4
        while x < TEXTURE_PX - 8:
            wide, tall = int(rng.integers(4, 18)), int(high * rng.uniform(0.5, 0.88))
            image[(row + 1) * high - tall : (row + 1) * high - 4, x : x + wide] = random_rgb(rng)
            x += wide + int(rng.choice([0, 1, 12], p=[0.5, 0.4, 0.1]))
    return image


def _posters(rng: np.random.Generator) -> np.ndarray:
    return sample_leaves(rng, TEXTURE_PX, TEXTURE_PX, _plaster(rng))


def _camouflage(rng: np.random.Generator) -> np.ndarray:
    image = np.empty((TEXTURE_PX, TEXTURE_PX, 3), np.float32)
    image[:] = random_rgb(rng)
    for _ in range(int(rng.integers(1, 4))):
        image[_fractal(rng, rng.uniform(20, 90)) > 0.58] = random_rgb(rng)
    return image


def _sky(rng: np.random.Generator) -> np.ndarray:
    """The sky from 60 degrees up (first row) to the horizon (last row)."""
    blue, pale = _around(rng, (0.38, 0.56, 0.85), 0.04), _around(rng, (0.82, 0.86, 0.9), 0.03)
    if rng.random() < 0.3:
        blue = pale * 0.9
    up = np.linspace(0, 1, TEXTURE_PX) ** 0.7
    sky = _mix(blue, pale, np.broadcast_to(up[:, None], (TEXTURE_PX,) * 2))
    cover = (_fractal(rng, 90.0) - rng.uniform(0.3, 0.8)).clip(0, 1) * 2.5
    return _mix(sky, np.full(3, 0.94), cover.clip(0, 0.9))


def _skyline(rng: np.random.Generator) -> np.ndarray:
    image = _sky(rng)
    x = 0
    while x < TEXTURE_PX:
        wide, tall = int(rng.integers(14, 60)), int(TEXTURE_PX * rng.uniform(0.08, 0.55))
        block = image[TEXTURE_PX - tall :, x : x + wide]
        block[:] = _muted_rgb(rng).clip(0.1, 0.75)
        block[3::7, 2::6] *= rng.uniform(0.4, 0.8)
        block[4::7, 2::6] *= rng.uniform(0.4, 0.8)
        x += wide + int(rng.integers(1, 30) * rng.integers(2))
    return image


def _hills(rng: np.random.Generator) -> np.ndarray:
    image = _sky(rng)
    for depth in range(int(rng.integers(1, 4))):
        ridge = _noise(rng, rng.uniform(30, 120))[0] * rng.uniform(0.05, 0.35)
        line = TEXTURE_PX * (1 - ridge - 0.02)
        colour = _around(rng, (0.32, 0.38, 0.3), 0.05) * (1.2 - 0.2 * depth)
        below = np.arange(TEXTURE_PX)[:, None] > line[None]
        image[below] = (colour * (0.8 + 0.4 * _fractal(rng, 20.0)[..., None]))[below]
    return image


def _trees(rng: np.random.Generator) -> np.ndarray:
    image = _sky(rng)
    for _ in range(int(rng.integers(15, 50))):
        green = _around(rng, (0.2, 0.3, 0.14), 0.04)
        x, tall = int(rng.integers(TEXTURE_PX)), rng.uniform(0.1, 0.5) * TEXTURE_PX
        for _ in range(12):
            at = (int(x + rng.normal(0, tall / 6)), int(TEXTURE_PX - rng.uniform(0.2, 1) * tall))
            tone = tuple(float(c) for c in green * rng.uniform(0.7, 1.3))
            cv2.circle(image, at, int(tall * rng.uniform(0.06, 0.16)) + 2, tone, -1, cv2.LINE_AA)
    return image


_PAINTERS: dict[Kind, Callable[[np.random.Generator], np.ndarray]] = {
    "asphalt": _asphalt, "bricks": _bricks, "camouflage": _camouflage, "carpet": _carpet,
    "court": _court, "facade": _facade, "grass": _grass, "gravel": _gravel, "hills": _hills,
    "plain": _plain, "planks": _planks, "plaster": _plaster, "posters": _posters,
    "shelves": _shelves, "skyline": _skyline, "tiles": _tiles, "trees": _trees,
    "wallpaper": _wallpaper,
}  # fmt: skip
