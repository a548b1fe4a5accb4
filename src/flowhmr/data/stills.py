"""Labelled training crops: stills of a pool before ever new backgrounds, augmented hard.

Sample number ``i`` of a run follows from (seed, i) alone: batches do not depend on the number of
workers, and a resumed run sees what the interrupted one would have seen.
"""

from dataclasses import dataclass, fields

import cv2
import numpy as np
import torch

from flowhmr.cameras import Crop
from flowhmr.data.labels import labels_in_crop, surface_in_crop
from flowhmr.geometry import collate, map_tensors
from flowhmr.records import Clip, Labels
from flowhmr.synth import StillPool, compress, paste

CELL_PX = 4
"""Side of a cell of the surface maps, pixels of the crop: the stride of the networks' maps."""


@dataclass(frozen=True)
class AugmentConfig:
    """How a still is varied each time it is seen."""

    margin: float = 1.2
    """Side of the crop over the larger side of the person's box, before scaling."""
    scale: float = 0.12
    """Standard deviation of the zoom."""
    shift: float = 0.04
    """Standard deviation of the crop's centre, share of its side."""
    rotate: float = 0.25
    """Share of samples that are turned in the image plane."""
    rotate_deg: float = 15.0
    """Standard deviation of that turn; cut at twice."""
    flip: float = 0.5
    """Share of samples that are mirrored."""
    close: float = 0.06
    """Share of samples in which the crop shows a part of the body only."""
    other_person: float = 0.2
    """Share of samples with a second, unlabelled person partly in the crop."""
    occluder: float = 0.25
    """Share of samples with something in front of the person."""
    colour: float = 0.4
    """Per-channel factor U(1 - colour, 1 + colour)."""
    degrade: float = 0.4
    """Share of samples that are blurred, noisy, coarse or compressed."""
    ramp: int = 0
    """Batches over which all of this grows from nothing to full strength: a network without
    pre-trained weights learns two to three times faster from easy pictures first."""

    def at(self, number: int) -> "AugmentConfig":
        """The augmentation of batch ``number``."""
        strength = min(1.0, number / self.ramp) if self.ramp else 1.0
        grown = {f.name: strength * getattr(self, f.name) for f in fields(self)}
        kept = {"margin": self.margin, "flip": self.flip, "rotate_deg": self.rotate_deg, "ramp": 0}
        return AugmentConfig(**(grown | kept))


class StillBatches(torch.utils.data.Dataset):
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

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Clip:
        """Clips of one frame, ``[batch, 1]``."""
        first = number * self.batch
        augment = self.augment.at(number)
        drawn = [self._draw(index, augment) for index in range(first, first + self.batch)]
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
        crop = _sample_crop(rng, picture.shape[0], person_px, augment, self.size_px)
        person = _warp(picture, crop)
        image = _background(rng, self.pool, self.size_px)
        layers = [person]
        if rng.random() < augment.other_person:
            behind = rng.random() < 0.7
            layers.insert(0 if behind else 1, _other_person(rng, self.pool, self.size_px))
        for layer in layers:
            image = paste(layer, image)
        if rng.random() < augment.occluder:
            image = _occlude(rng, image, _background(rng, self.pool, self.size_px))
        image = _recolour(rng, image, augment.colour)
        if rng.random() < augment.degrade:
            image = _degrade(rng, image)
        return _Drawn(image, crop, which)


@dataclass(frozen=True, eq=False)
class _Drawn:
    image: np.ndarray
    crop: Crop
    still: int


def _sample_crop(
    rng: np.random.Generator,
    picture_px: int,
    person_px: float,
    config: AugmentConfig,
    size_px: int,
) -> Crop:
    zoom = float(np.clip(rng.normal(1, config.scale), 0.75, 1.4))
    if rng.random() < config.close:
        zoom *= rng.uniform(0.45, 0.8)
    side_px = person_px * config.margin * zoom
    centre_px = picture_px / 2 + rng.normal(0, config.shift, 2) * side_px
    if zoom < 0.75:
        centre_px += rng.uniform(-0.5, 0.5, 2) * max(person_px - side_px * 0.6, 0) * [0.5, 1]
    angle = 0.0
    if rng.random() < config.rotate:
        angle = float(
            np.clip(rng.normal(0, config.rotate_deg), *(np.array([-2, 2]) * config.rotate_deg))
        )
    return Crop(
        centre_px=torch.tensor(centre_px, dtype=torch.float32),
        side_px=torch.tensor(side_px, dtype=torch.float32),
        angle_rad=torch.tensor(np.radians(angle), dtype=torch.float32),
        mirrored=torch.tensor(float(rng.random() < config.flip)),
        size_px=size_px,
    )


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


def _occlude(rng: np.random.Generator, image: np.ndarray, texture: np.ndarray) -> np.ndarray:
    """Something with a background's texture before the person: a box, a ball, a bar."""
    size = image.shape[0]
    mask = np.zeros((size, size), np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        centre = tuple(int(c) for c in rng.uniform(0, size, 2))
        half = (size * rng.uniform(0.03, 0.2, 2)).astype(int) + 1
        if rng.random() < 0.3:
            half[rng.integers(2)] = size
        if rng.random() < 0.4:
            cv2.ellipse(
                mask,
                centre,
                (int(half[0]), int(half[1])),
                float(rng.uniform(0, 180)),
                0,
                360,
                255,
                -1,
            )
        else:
            low, high = np.array(centre) - half, np.array(centre) + half
            cv2.rectangle(mask, tuple(map(int, low)), tuple(map(int, high)), 255, -1)
    return np.where(mask[..., None] > 0, texture, image)


def _recolour(rng: np.random.Generator, image: np.ndarray, strength: float) -> np.ndarray:
    """Brightness, tint, contrast and gamma through one look-up table a channel."""
    levels = np.arange(256, dtype=np.float32) / 255
    gain = rng.uniform(1 - strength, 1 + strength) * rng.uniform(
        1 - strength / 3, 1 + strength / 3, 3
    )
    contrast = rng.uniform(1 - 0.75 * strength, 1 + 0.75 * strength)
    gamma = np.exp(rng.normal(0, strength / 2))
    table = (levels**gamma - 0.5)[:, None] * contrast + 0.5
    table = (table * gain * 255).clip(0, 255).astype(np.uint8)
    image = np.ascontiguousarray(image)
    out = cv2.LUT(image, np.ascontiguousarray(table.reshape(256, 1, 3)))
    if rng.random() < strength / 8:
        out = np.repeat(cv2.cvtColor(out, cv2.COLOR_RGB2GRAY)[..., None], 3, -1)
    return out


def _degrade(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    size = image.shape[0]
    if rng.random() < 0.3:
        coarse = int(size * rng.uniform(0.35, 0.9))
        small = cv2.resize(image, (coarse, coarse), interpolation=cv2.INTER_AREA)
        image = cv2.resize(small, (size, size), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.3, 1.2)))
    if rng.random() < 0.5:
        grain = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.exponential(5))
        image = (image + grain).clip(0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        image = compress(image, int(rng.integers(25, 96)))
    return image
