"""Synthetic video: one person moves before a scene, with labels in every frame."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from flowhmr.body import BodyModel
from flowhmr.records import Labels, Sequence
from flowhmr.synth.motion import (
    Motion,
    Split,
    load_motions,
    mirror_motion,
    perturb_rotmats,
    sample_window,
)
from flowhmr.synth.people import random_rgb, sample_person
from flowhmr.synth.renderer import Look, paste, render_people
from flowhmr.synth.scenes import compress, sample_background, sample_light
from flowhmr.synth.stills import sample_view

PAD_PX = 24


@dataclass(frozen=True)
class ClipConfig:
    """Which clips to make."""

    split: Split = "train"
    """Motion capture split."""
    seed: int = 0
    """Every number of a clip follows from (seed, index)."""
    frames: int = 41
    """Length; the shortest recordings have 38 to 48 frames and are left out beyond that."""
    size_px: int = 256
    """Width and height of the images."""
    largest: float = 0.8
    """The person is at most this share of the image high or wide (box over the whole clip)."""
    perturb: float = 0.5
    """Strength of the constant random turn of each joint."""
    box_noise: float = 0.03
    """Jitter of the person's box, share of its larger side (a detector's error)."""
    camera_shake_px: float = 6.0
    """How far a hand-held camera wanders, pixels; half of the clips have a fixed camera."""


def render_clip(config: ClipConfig, index: int, body: BodyModel) -> Sequence:
    """The clip of (seed, index)."""
    rng = np.random.default_rng([config.seed, index])
    motion, start = sample_window(load_motions(config.split), config.frames, rng)
    motion = mirror_motion(motion) if rng.random() < 0.5 else motion
    rotmats = motion.rotmats[start : start + config.frames]
    rotmats = perturb_rotmats(rotmats, config.perturb * rng.uniform(0, 1.5), rng)
    view = sample_view(rng)
    rotmats[:, 0] = view @ rotmats[:, 0]
    person = sample_person(rng, body)
    light = sample_light(rng)
    betas = torch.from_numpy(person.betas).expand(config.frames, -1)
    params = body.params(rotmats, betas)
    mesh = body.mesh(params)
    trans_m = _travel(motion, start, config.frames) @ view.T
    shake_px = _camera_path(rng, config)
    verts_px, joints_px, ppm = _project(mesh.verts, mesh.joints, trans_m, shake_px, config, rng)
    size = config.size_px
    looks = [Look(person, light)] * config.frames
    rgba = render_people(body, verts_px, looks, size, size, ppm).rgba
    images = _compose(rgba, shake_px.numpy(), rng, config)
    confidence = torch.ones(joints_px.shape[:-1])
    return Sequence(
        name=f"synth/{config.split}/{config.seed}/{index}",
        person=f"{config.seed}/{index}",
        images=images,
        times_s=torch.arange(config.frames) / motion.fps,
        boxes_px=_noisy_boxes(verts_px, config, rng),
        labels=Labels(params, mesh.joints, joints_px, confidence),
    )


def _travel(motion: Motion, start: int, frames: int) -> Float[Tensor, "t 3"]:
    trans_m = motion.trans_world_m[start : start + frames]
    return trans_m - trans_m.mean(0)


def _camera_path(rng: np.random.Generator, config: ClipConfig) -> Float[Tensor, "t 2"]:
    """How far the picture is shifted in each frame by the camera's motion, pixels."""
    if rng.random() < 0.5:
        return torch.zeros(config.frames, 2)
    velocity = gaussian_filter1d(rng.standard_normal((config.frames, 2)), sigma=3.0, axis=0)
    path = np.cumsum(velocity, 0)
    path -= path.mean(0)
    limit = rng.uniform(0.2, 1.0) * min(config.camera_shake_px, PAD_PX - 2)
    if limit == 0:
        return torch.zeros(config.frames, 2)
    return torch.from_numpy((path / max(1.0, np.abs(path).max() / limit)).astype(np.float32))


def _project(
    verts_m: Tensor,
    joints_m: Tensor,
    trans_m: Tensor,
    shake_px: Tensor,
    config: ClipConfig,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Perspective, zoomed so that the whole clip fits the picture."""
    verts, joints = verts_m + trans_m[:, None], joints_m + trans_m[:, None]
    nearest = float(verts[..., 2].amin())
    ahead = float(np.exp(rng.uniform(np.log(3.0), np.log(12.0)))) - min(nearest, 0.0) - 1.0

    def rays(points: Tensor) -> Tensor:
        return points[..., :2] / (points[..., 2:] + ahead)

    seen = rays(verts)
    low, high = seen.amin((0, 1)), seen.amax((0, 1))
    one_frame = (seen.amax(1) - seen.amin(1)).amax()
    room = config.size_px - 2 * float(shake_px.abs().amax())
    zoom = min(0.96 * room / float((high - low).amax()), config.largest * room / float(one_frame))
    middle = (low + high) / 2
    slack = (room - zoom * (high - low)) / 2 * 0.9
    centre = config.size_px / 2 + slack * torch.from_numpy(rng.uniform(-1, 1, 2).astype(np.float32))
    shift = centre + shake_px[:, None]
    depth_m = verts[..., 2:] + ahead
    ppm = zoom / depth_m.mean((1, 2))
    verts_px = torch.cat([(seen - middle) * zoom + shift, depth_m * ppm[:, None, None]], -1)
    return verts_px, (rays(joints) - middle) * zoom + shift, ppm


def _noisy_boxes(
    verts_px: Tensor, config: ClipConfig, rng: np.random.Generator
) -> Float[Tensor, "t 4"]:
    low, high = verts_px[..., :2].amin(1), verts_px[..., :2].amax(1)
    side = (high - low).amax(-1, keepdim=True)
    noise = torch.from_numpy(rng.standard_normal((len(low), 4)).astype(np.float32))
    low = low + config.box_noise * side * noise[:, :2]
    high = high + config.box_noise * side * noise[:, 2:]
    return torch.cat([low, high - low], -1)


def _compose(
    rgba: np.ndarray, shake_px: np.ndarray, rng: np.random.Generator, config: ClipConfig
) -> list[np.ndarray]:
    """Background, distractors, person, occluder, sensor: one finished image a frame."""
    size, big = config.size_px, config.size_px + 2 * PAD_PX
    background = sample_background(rng, big, big)
    behind = [_Drifter(rng, size) for _ in range(rng.integers(0, 3))]
    front = [_Drifter(rng, size, narrow=True) for _ in range(int(rng.random() < 0.25))]
    noise, blur, quality = rng.exponential(3.0), rng.choice([0.0, 0.6, 1.0]), rng.integers(40, 96)
    images = []
    for t, picture in enumerate(rgba):
        shift = np.array([[1, 0, shake_px[t, 0] - PAD_PX], [0, 1, shake_px[t, 1] - PAD_PX]])
        image = cv2.warpAffine(
            background, shift, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
        for thing in behind:
            thing.draw(image, t, shake_px[t])
        image = paste(picture, image)
        for thing in front:
            thing.draw(image, t, shake_px[t])
        images.append(_sensor(image, rng, noise, float(blur), int(quality)))
    return images


class _Drifter:
    """A box, ball or pole that stands or drifts through the picture."""

    def __init__(self, rng: np.random.Generator, size: int, narrow: bool = False):
        self.colour = tuple(float(255 * c) for c in random_rgb(rng).clip(0, 1))
        self.round = bool(rng.random() < 0.4)
        self.at = rng.uniform(0, size, 2)
        self.speed = rng.normal(0, 1.2, 2) * (rng.random() < 0.7)
        self.half = size * rng.uniform(0.02, 0.05 if narrow else 0.15) * rng.uniform(0.5, 1.5, 2)

    def draw(self, image: np.ndarray, t: int, shift: np.ndarray) -> None:
        centre = self.at + self.speed * t + shift
        if self.round:
            cv2.ellipse(
                image, tuple(centre.astype(int)), tuple((self.half + 1).astype(int)),
                0, 0, 360, self.colour, -1, cv2.LINE_AA,
            )  # fmt: skip
        else:
            low, high = centre - self.half, centre + self.half
            cv2.rectangle(image, tuple(low.astype(int)), tuple(high.astype(int)), self.colour, -1)


def _sensor(
    image: np.ndarray, rng: np.random.Generator, noise: float, blur: float, quality: int
) -> np.ndarray:
    if blur:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    grain = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(noise)
    image = (image + grain).clip(0, 255).astype(np.uint8)
    return compress(image, quality)
