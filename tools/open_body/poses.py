"""Random poses within the reach of people, to fit what depends on the pose."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from .skeleton import JOINT_NAMES, joint_id


@dataclass(frozen=True)
class Normal:
    """A normal distribution of an angle in degrees."""

    mean_deg: float
    """Mean."""
    sd_deg: float
    """Standard deviation."""

    def draw(self, rng: np.random.Generator, count: int) -> Float[np.ndarray, "n"]:
        """``count`` angles in degrees."""
        return rng.normal(self.mean_deg, self.sd_deg, count)


@dataclass(frozen=True)
class Uniform:
    """A uniform distribution of an angle in degrees."""

    low_deg: float
    """Lower end."""
    high_deg: float
    """Upper end."""

    def draw(self, rng: np.random.Generator, count: int) -> Float[np.ndarray, "n"]:
        """``count`` angles in degrees."""
        return rng.uniform(self.low_deg, self.high_deg, count)


Range = Normal | Uniform | None
"""Of one axis-angle component; None is always zero."""

_MIDLINE: dict[str, tuple[Range, Range, Range]] = {
    "spine1": (Normal(6.0, 10.0), Normal(0.0, 8.0), Normal(0.0, 6.0)),
    "spine2": (Normal(6.0, 10.0), Normal(0.0, 8.0), Normal(0.0, 6.0)),
    "spine3": (Normal(6.0, 10.0), Normal(0.0, 8.0), Normal(0.0, 6.0)),
    "neck": (Normal(3.0, 10.0), Normal(0.0, 12.0), Normal(0.0, 6.0)),
    "head": (Normal(0.0, 10.0), Normal(0.0, 12.0), Normal(0.0, 6.0)),
}
_LEFT: dict[str, tuple[Range, Range, Range]] = {
    "hip": (Uniform(-95.0, 20.0), Normal(0.0, 12.0), Normal(6.0, 10.0)),
    "knee": (Uniform(0.0, 110.0), Normal(0.0, 4.0), Normal(0.0, 2.0)),
    "ankle": (Normal(0.0, 12.0), Normal(0.0, 8.0), Normal(0.0, 6.0)),
    "foot": (Normal(-5.0, 8.0), None, None),
    "collar": (Normal(0.0, 3.0), Normal(0.0, 5.0), Normal(0.0, 6.0)),
    "shoulder": (Normal(0.0, 20.0), Uniform(-70.0, 15.0), Uniform(-80.0, 55.0)),
    "elbow": (Normal(0.0, 15.0), Uniform(-120.0, 0.0), Normal(0.0, 3.0)),
    "wrist": (Normal(0.0, 20.0), Normal(0.0, 12.0), Normal(0.0, 20.0)),
    "hand": (Normal(0.0, 3.0), Normal(0.0, 3.0), Normal(-10.0, 10.0)),
}
"""Axis-angle components about x, y, z of the left side; the right side mirrors y and z."""


def random_poses(
    count: int, rng: np.random.Generator, at_rest: int = 0
) -> Float[np.ndarray, "n 24 3 3"]:
    """Local rotations of ``count`` seeded poses, the first ``at_rest`` of them in T-pose."""

    def draw(ranges: tuple[Range, Range, Range]) -> np.ndarray:
        return np.stack([r.draw(rng, count) if r else np.zeros(count) for r in ranges], 1)

    axis_angle_deg = np.zeros((count, len(JOINT_NAMES), 3))
    for name, ranges in _MIDLINE.items():
        axis_angle_deg[:, joint_id(name)] = draw(ranges)
    for side, signs in (("l_", (1, 1, 1)), ("r_", (1, -1, -1))):
        for name, ranges in _LEFT.items():
            axis_angle_deg[:, joint_id(side + name)] = draw(ranges) * signs
    axis_angle_deg[:at_rest] = 0
    flat_rad = np.radians(axis_angle_deg).reshape(-1, 3)
    return Rotation.from_rotvec(flat_rad).as_matrix().reshape(count, -1, 3, 3)


def pose_features(local: Float[np.ndarray, "n 24 3 3"]) -> Float[np.ndarray, "n 207"]:
    """``R - I`` of all joints but the pelvis, row-major: what the pose blend shapes multiply."""
    return (local[:, 1:] - np.eye(3)).reshape(len(local), -1)
