"""Frames for flow: smooth procedural texture, shifted by whole pixels."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest


def _textured(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Coloured noise at several scales, uint8 [h w 3]."""
    random = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for cell in (4, 8, 16, 32):
        coarse = random.normal(size=(height // cell + 2, width // cell + 2, 3)).astype(np.float32)
        total += cell**0.5 * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    low, high = total.min(), total.max()
    return np.rint(255 * (total - low) / (high - low)).astype(np.uint8)


@pytest.fixture(scope="session")
def textured() -> Callable[..., np.ndarray]:
    """Makes frames: ``textured(height, width, seed=0)``."""
    return _textured


@pytest.fixture
def shifted_frames() -> tuple[np.ndarray, np.ndarray]:
    """Two 64 x 80 frames; content moves by (+3, -2) px from the first to the second."""
    scene = _textured(96, 112)
    return scene[16:80, 16:96].copy(), scene[18:82, 13:93].copy()
