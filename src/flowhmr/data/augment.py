"""How labelled pictures are varied: crops, occluders, colours, a poor camera."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from flowhmr.cameras import Crop, warp_image
from flowhmr.synth import compress


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


def sample_crop(
    rng: np.random.Generator,
    middle_px: Float[np.ndarray, "2"],
    person_px: float,
    config: AugmentConfig,
    size_px: int,
) -> Crop:
    """A window about a person, moved, zoomed, turned and mirrored at random.

    Args:
        rng: source of every choice.
        middle_px: middle of the person's box.
        person_px: larger side of the box.
        config: how much.
        size_px: width and height of the crop.
    """
    zoom = float(np.clip(rng.normal(1, config.scale), 0.75, 1.4))
    if rng.random() < config.close:
        zoom *= rng.uniform(0.45, 0.8)
    side_px = person_px * config.margin * zoom
    centre_px = middle_px + rng.normal(0, config.shift, 2) * side_px
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


def vary_crop(
    rng: np.random.Generator,
    image: UInt8[np.ndarray, "h w 3"],
    box_px: Float[np.ndarray, "4"],
    other_image: Callable[[np.random.Generator], UInt8[np.ndarray, "h2 w2 3"]],
    config: AugmentConfig,
    size_px: int,
) -> tuple[UInt8[np.ndarray, "s s 3"], Crop]:
    """A crop of a whole picture, augmented; nothing is cut out (no ``AugmentConfig.other_person``).

    Args:
        rng: source of every choice.
        image: the picture.
        box_px: the person's box (x, y, w, h) in it.
        other_image: picks a picture of which a piece may be put before the person.
        config: how much.
        size_px: width and height of the crop.
    """
    x, y, width, height = np.asarray(box_px, np.float64).tolist()
    middle_px = np.array([x + width / 2, y + height / 2])
    crop = sample_crop(rng, middle_px, max(width, height), config, size_px)
    cut = warp_image(image, crop)
    if rng.random() < config.occluder:
        cut = occlude(rng, cut, piece_of(rng, other_image(rng), size_px))
    cut = recolour(rng, cut, config.colour)
    if rng.random() < config.degrade:
        cut = degrade(rng, cut)
    return cut, crop


def piece_of(
    rng: np.random.Generator, image: UInt8[np.ndarray, "h w 3"], size_px: int
) -> UInt8[np.ndarray, "s s 3"]:
    """Some square of a picture."""
    height, width = image.shape[:2]
    side_px = min(height, width) * rng.uniform(0.3, 0.8)
    centre_px = rng.uniform(side_px / 2, np.array([width, height]) - side_px / 2, 2)
    window = Crop(
        torch.tensor(centre_px, dtype=torch.float32),
        torch.tensor(side_px, dtype=torch.float32),
        angle_rad=torch.zeros(()),
        mirrored=torch.zeros(()),
        size_px=size_px,
    )
    return warp_image(image, window)


def occlude(
    rng: np.random.Generator,
    image: UInt8[np.ndarray, "s s 3"],
    texture: UInt8[np.ndarray, "s s 3"],
) -> UInt8[np.ndarray, "s s 3"]:
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


def recolour(
    rng: np.random.Generator, image: UInt8[np.ndarray, "s s 3"], strength: float
) -> UInt8[np.ndarray, "s s 3"]:
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


def degrade(
    rng: np.random.Generator, image: UInt8[np.ndarray, "s s 3"]
) -> UInt8[np.ndarray, "s s 3"]:
    """Coarser, blurred, noisy or compressed, or several of these."""
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
