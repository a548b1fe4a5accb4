"""Labelled training crops: stills of a pool before ever new backgrounds, augmented hard.

Sample number ``i`` of a run follows from (seed, i) alone: batches do not depend on the number of
workers, and a resumed run sees what the interrupted one would have seen.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from flowhmr.cameras import Crop
from flowhmr.data.augment import AugmentConfig, degrade, occlude, recolour, sample_crop
from flowhmr.data.batches import Batches
from flowhmr.data.labels import labels_in_crop, surface_in_crop
from flowhmr.geometry import collate, map_tensors
from flowhmr.records import Clip, Labels
from flowhmr.synth import StillPool, paste

CELL_PX = 4
"""Side of a cell of the surface maps, pixels of the crop: the stride of the networks' maps."""


class StillBatches(Batches[Clip]):
    """Batch number ``i`` of labelled crops.

    Args:
        pool: cut-out people and backgrounds.
        size_px: of the crops.
        batch: samples per batch.
        augment: how they are varied.
        seed: of the run.
        count: how many batches there are.
    """

    def __init__(
        self,
        pool: StillPool,
        size_px: int,
        batch: int,
        augment: AugmentConfig,
        seed: int,
        count: int,
    ):
        self.pool, self.size_px, self.batch = pool, size_px, batch
        self.augment, self.seed, self.count = augment, seed, count

    def samples(self, number: int, rows: range) -> Clip:
        """Clips of one frame, ``[rows, 1]``."""
        first = number * self.batch
        augment = self.augment.at(number)
        drawn = [self._draw(first + row, augment) for row in rows]
        crop = map_tensors(collate([d.crop for d in drawn]), lambda t: t[:, None])
        labels = self.pool.labels(torch.tensor([d.still for d in drawn]))
        maps = [self._surface(labels, k, d) for k, d in enumerate(drawn)]
        surface = torch.from_numpy(np.stack(maps))
        labels = labels_in_crop(map_tensors(labels, lambda t: t[:, None]), crop, surface[:, None])
        frames = torch.from_numpy(np.stack([d.image.transpose(2, 0, 1) for d in drawn]))
        return Clip(frames[:, None], crop, labels, flow=None)

    def _surface(self, labels: Labels, row: int, drawn: "_Drawn") -> np.ndarray:
        assert labels.surface is not None
        image_px = self.pool.config.stills.size_px
        cells = self.size_px // CELL_PX
        return surface_in_crop(labels.surface[row].numpy(), drawn.crop, image_px, cells)

    def _draw(self, index: int, augment: AugmentConfig) -> "_Drawn":
        """Sample ``index`` of the run, without its labels."""
        rng = np.random.default_rng([self.seed, 2, index])
        which = int(rng.integers(len(self.pool)))
        picture = self.pool.rgba(which)
        person_px = picture.shape[0] / self.pool.config.stills.margin
        middle_px = np.full(2, picture.shape[0] / 2)
        crop = sample_crop(rng, middle_px, person_px, augment, self.size_px)
        person = _warp(picture, crop)
        image = _background(rng, self.pool, self.size_px)
        layers = [person]
        if rng.random() < augment.other_person:
            behind = rng.random() < 0.7
            layers.insert(0 if behind else 1, _other_person(rng, self.pool, self.size_px))
        for layer in layers:
            image = paste(layer, image)
        if rng.random() < augment.occluder:
            image = occlude(rng, image, _background(rng, self.pool, self.size_px))
        image = recolour(rng, image, augment.colour)
        if rng.random() < augment.degrade:
            image = degrade(rng, image)
        return _Drawn(image, crop, which)


@dataclass(frozen=True, eq=False)
class _Drawn:
    image: np.ndarray
    crop: Crop
    still: int


def _warp(picture: np.ndarray, crop: Crop) -> np.ndarray:
    # The pool's pictures are less than twice as fine as the crops: bilinear does not alias.
    matrix = crop.affine().double().numpy()
    matrix[:, 2] += matrix[:, :2] @ np.array([0.5, 0.5]) - 0.5
    return cv2.warpAffine(picture, matrix, (crop.size_px, crop.size_px), flags=cv2.INTER_LINEAR)


def _background(rng: np.random.Generator, pool: StillPool, size_px: int) -> np.ndarray:
    image = pool.backgrounds[rng.integers(len(pool.backgrounds))]
    full = image.shape[0]
    side = int(full * rng.uniform(0.4, 1.0))
    top, left = rng.integers(0, full - side + 1, 2)
    window = image[top : top + side, left : left + side]
    if rng.random() < 0.5:
        window = window[:, ::-1]
    return cv2.resize(
        np.ascontiguousarray(window), (size_px, size_px), interpolation=cv2.INTER_LINEAR
    )


def _other_person(rng: np.random.Generator, pool: StillPool, size_px: int) -> np.ndarray:
    """Someone else, off the middle, so that it stays clear whose labels count."""
    picture = pool.rgba(int(rng.integers(len(pool))))
    zoom = size_px / picture.shape[0] * rng.uniform(0.4, 1.2)
    side = picture.shape[0] * zoom
    away = size_px * rng.uniform(0.32, 0.6) * rng.choice([-1, 1])
    left = size_px / 2 + away - side / 2
    top = size_px / 2 - side / 2 + size_px * rng.normal(0, 0.15)
    matrix = np.array([[zoom, 0, left], [0, zoom, top]])
    return cv2.warpAffine(picture, matrix, (size_px, size_px), flags=cv2.INTER_LINEAR)
