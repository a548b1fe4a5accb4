"""Shots: where the camera stands, where it looks and how it moves during a clip."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float64, Int
from scipy.ndimage import gaussian_filter1d

CameraMotion = Literal["static", "handheld", "pan", "dolly"]


@dataclass(frozen=True, eq=False)
class Shot:
    """A perspective camera in each frame; camera axes X right, Y down, Z away."""

    rotmats: Float64[np.ndarray, "t 3 3"]
    """World (y up) to camera."""
    centres_m: Float64[np.ndarray, "t 3"]
    """Where the camera is in the world."""
    lens_px: Float64[np.ndarray, "t 3"]
    """Focal length, and the principal point (x, y), pixels."""

    def __len__(self) -> int:
        return len(self.rotmats)

    def to_camera(self, points_world: Float[np.ndarray, "t n 3"]) -> Float[np.ndarray, "t n 3"]:
        """Points of each frame in the axes of its camera, metres."""
        return (points_world - self.centres_m[:, None]) @ self.rotmats.transpose(0, 2, 1)

    def project(self, points_world: Float[np.ndarray, "t n 3"]) -> Float[np.ndarray, "t n 2"]:
        """Pixels; meaningless behind the camera."""
        x, y, depth = np.moveaxis(self.to_camera(points_world), -1, 0)
        focal_px, x_px, y_px = self.lens_px.T[..., None]
        return np.stack([focal_px * x / depth + x_px, focal_px * y / depth + y_px], -1)

    def at(self, frames: Int[np.ndarray, "n"]) -> "Shot":
        """The camera of some frames, one after the other."""
        return Shot(self.rotmats[frames], self.centres_m[frames], self.lens_px[frames])

    def frozen(self) -> "Shot":
        """The camera of the middle frame, all the time."""
        return self.at(np.full(len(self), len(self) // 2))

    def zoomed(self, factor: int | float) -> "Shot":
        """The same shot in pixels ``factor`` times as fine."""
        return Shot(self.rotmats, self.centres_m, self.lens_px * factor)


@dataclass(frozen=True)
class ShotConfig:
    """How a person is filmed."""

    motions: tuple[tuple[CameraMotion, float], ...] = (
        ("static", 0.35), ("handheld", 0.35), ("pan", 0.15), ("dolly", 0.15),
    )  # fmt: skip
    """Shares of the ways a camera moves."""
    zoom: float = 0.15
    """Share of clips in which it zooms."""
    nearest_m: float = 2.5
    """The camera is at least so far away."""
    furthest_m: float = 10.0
    """And at most so far; distances are log-uniform."""
    elevation_deg: float = 12.0
    """Standard deviation of the height angle from which the person is seen (mean 6)."""
    smallest: float = 0.5
    """The person fills at least this share of the image, high or wide..."""
    largest: float = 0.85
    """... and at most this, in the frame where it is largest."""
    close: float = 0.06
    """Share of clips that show a part of the body only."""


SKIN_M = 0.12
"""How far a body reaches beyond its joints."""


def sample_shot(
    config: ShotConfig,
    joints_world: Float64[np.ndarray, "t k 3"],
    size_px: int,
    rng: np.random.Generator,
) -> Shot:
    """A camera that sees the person whose joints are given, in square images."""
    frames = len(joints_world)
    names, shares = zip(*config.motions)
    motion = names[int(rng.choice(len(names), p=np.array(shares) / sum(shares)))]
    low, high = joints_world.min(1), joints_world.max(1)
    path = (low + high) / 2
    target = np.repeat(path.mean(0, keepdims=True), frames, 0)
    follow = {"static": 0.0, "handheld": 0.6, "pan": 0.95, "dolly": 0.9}[motion]
    target = target + follow * (_smooth(path, 6.0) - target)
    centres = _stand(config, path, rng)
    if motion == "dolly":
        centres = centres + 0.8 * (_smooth(path, 8.0) - path.mean(0))
        centres = _orbit(centres, path.mean(0), rng)
    if motion in ("handheld", "dolly"):
        centres = centres + _wander(rng, frames, 3) * rng.uniform(0.005, 0.04)
    centres[:, 1] = np.maximum(centres[:, 1], 0.2)
    rotmats = _look(centres, target)
    if motion in ("handheld", "dolly"):
        shake = np.radians(rng.uniform(0.1, 0.8)) * _wander(rng, frames, 3)
        rotmats = _small_turns(shake) @ rotmats
    rotmats = _small_turns(np.array([[0, 0, np.radians(rng.normal(0, 2.5))]])) @ rotmats
    zoom = np.ones(frames)
    if rng.random() < config.zoom:
        zoom = np.exp(np.linspace(0, rng.uniform(-0.35, 0.35), frames))
    return _frame(config, Shot(rotmats, centres, _unit_lens(zoom)), joints_world, size_px, rng)


def _unit_lens(zoom: np.ndarray) -> np.ndarray:
    return np.stack([zoom, np.zeros_like(zoom), np.zeros_like(zoom)], -1)


def _smooth(path: np.ndarray, frames: float) -> np.ndarray:
    return gaussian_filter1d(path, frames, axis=0, mode="nearest")


def _wander(rng: np.random.Generator, frames: int, axes: int) -> np.ndarray:
    """A smooth random path about zero whose furthest point is at most 1."""
    path = np.cumsum(gaussian_filter1d(rng.standard_normal((frames, axes)), 3.0, axis=0), 0)
    path -= path.mean(0)
    return path / max(1e-6, float(np.abs(path).max()))


def _stand(config: ShotConfig, path: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Where the camera stands, the same in all frames."""
    heading = rng.uniform(-np.pi, np.pi)
    elevation = np.radians(np.clip(rng.normal(6, config.elevation_deg), -20, 70))
    distance_m = np.exp(rng.uniform(np.log(config.nearest_m), np.log(config.furthest_m)))
    # Nobody walks into the camera.
    distance_m += float(np.linalg.norm(path - path.mean(0), axis=-1).max())
    sideways = np.cos(elevation)
    ray = np.array([np.sin(heading) * sideways, np.sin(elevation), np.cos(heading) * sideways])
    centre = path.mean(0) + distance_m * ray
    centre[1] = max(centre[1], 0.25)
    return np.repeat(centre[None], len(path), 0)


def _orbit(centres: np.ndarray, about: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    angles = np.radians(rng.uniform(-20, 20)) * np.linspace(-0.5, 0.5, len(centres))
    cos, sin = np.cos(angles), np.sin(angles)
    zero, one = np.zeros_like(angles), np.ones_like(angles)
    rows = np.stack([cos, zero, sin, zero, one, zero, -sin, zero, cos], -1)
    turned = rows.reshape(-1, 3, 3) @ (centres - about)[..., None]
    return about + turned[..., 0]


def _look(centres: np.ndarray, target: np.ndarray) -> Float64[np.ndarray, "t 3 3"]:
    ahead = target - centres
    ahead /= np.linalg.norm(ahead, axis=-1, keepdims=True)
    right = np.cross(ahead, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right, axis=-1, keepdims=True)
    return np.stack([right, np.cross(ahead, right), ahead], 1)


def _small_turns(vectors_rad: np.ndarray) -> Float64[np.ndarray, "t 3 3"]:
    """Turns about x, then y, then z."""
    out = np.eye(3)[None]
    for axis in range(3):
        cos, sin = np.cos(vectors_rad[:, axis]), np.sin(vectors_rad[:, axis])
        turn = np.repeat(np.eye(3)[None], len(vectors_rad), 0)
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        turn[:, i, i] = turn[:, j, j] = cos
        turn[:, i, j], turn[:, j, i] = -sin, sin
        out = turn @ out
    return out


def _frame(
    config: ShotConfig,
    shot: Shot,
    joints_world: np.ndarray,
    size_px: int,
    rng: np.random.Generator,
) -> Shot:
    """Zoom so that the person has the size that was asked for, and place it in the image."""
    depth = shot.to_camera(joints_world)[..., 2]
    seen = shot.project(joints_world)
    skin = (SKIN_M * shot.lens_px[:, :1] / depth)[..., None]
    low, high = (seen - skin).min(1), (seen + skin).max(1)
    one_frame = float((high - low).max())
    everything = float((high.max(0) - low.min(0)).max())
    share = rng.uniform(config.smallest, config.largest)
    focal_px = min(share * size_px / one_frame, 0.96 * size_px / everything)
    middle = focal_px * (low.min(0) + high.max(0)) / 2
    slack = np.maximum(size_px - focal_px * (high.max(0) - low.min(0)), 0) / 2
    if rng.random() < config.close:
        closer = rng.uniform(1.3, 2.2)
        focal_px, middle = focal_px * closer, middle * closer
        slack = np.array([0.1, 0.3]) * size_px
    place = size_px / 2 - middle + 0.9 * slack * rng.uniform(-1, 1, 2)
    lens = np.concatenate([focal_px * shot.lens_px[:, :1], np.repeat(place[None], len(shot), 0)], 1)
    return Shot(shot.rotmats, shot.centres_m, lens)
