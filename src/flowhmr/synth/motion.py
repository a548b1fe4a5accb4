"""Motion: the shipped capture, its splits, and the ways to vary it."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from flowhmr.body import SMPL_24, mirror_rotmats
from flowhmr.geometry import rotmat_from_axis_angle, slerp

Split = Literal["train", "val", "test"]

MOCAP_FILE = Path(__file__).parent / "assets" / "mocap.npz"

# A recording (the name without '#k') is never split. Test: the capture's own test recordings and
# one of the dancer; val: a fifth recording of each kind.
TEST_RECORDINGS = ("chaneyddtt/test/", "bvh11/131_03")
VAL_RECORDINGS = (
    "chaneyddtt/train/basketball/basketball_5",
    "chaneyddtt/train/basketball_signal/basketball_signal_5",
    "chaneyddtt/train/jumping/jumping_5",
    "chaneyddtt/train/running/running_5",
    "chaneyddtt/train/soccer/soccer_5",
    "chaneyddtt/train/walking/walking_5",
    "chaneyddtt/train/walking_extra/walking_5",
    "bvh11/131_02",
)


@dataclass(frozen=True, eq=False)
class Motion:
    """A recording of one person."""

    rotmats: Float[Tensor, "t 24 3 3"]
    """Parent-relative rotations in SMPL order; joint 0 turns the body in the world (y up)."""
    trans_world_m: Float[Tensor, "t 3"]
    """Position of the pelvis in the world, metres, y up."""
    fps: float
    """Frames per second."""
    name: str
    """Where it comes from."""
    action: str
    """What is done."""

    def __len__(self) -> int:
        return len(self.rotmats)


def split_of(name: str) -> Split:
    """The split a recording belongs to, by its name."""
    if name.startswith(TEST_RECORDINGS):
        return "test"
    return "val" if name.startswith(VAL_RECORDINGS) else "train"


@cache
def load_motions(split: Split) -> tuple[Motion, ...]:
    """The shipped motion capture (CMU; terms in ``assets/MOCAP.md``) of one split."""
    with np.load(MOCAP_FILE, allow_pickle=False) as file:
        axis_angle = torch.from_numpy(file["aa"].astype(np.float32))
        trans_m = torch.from_numpy(file["trans"].astype(np.float32))
        fps = float(file["fps"])
        rows = list(zip(file["start"], file["length"], file["name"], file["action"]))
    rotmats = rotmat_from_axis_angle(axis_angle)
    return tuple(
        Motion(rotmats[s : s + n], trans_m[s : s + n], fps, str(name), str(action))
        for s, n, name, action in rows
        if split_of(str(name)) == split
    )


def at_rate(
    rotmats: Float[Tensor, "t j 3 3"], points: Float[Tensor, "t k 3"], fps: float, wanted_fps: float
) -> tuple[Float[Tensor, "s j 3 3"], Float[Tensor, "s k 3"]]:
    """The same motion at another rate, from its first frame to the last that it reaches."""
    last = len(rotmats) - 1
    count = int(last * wanted_fps / fps + 1e-6) + 1
    times = torch.arange(count, dtype=torch.float64) * (fps / wanted_fps)
    before = (times + 1e-6).floor().long().clamp(max=last)
    after = (before + 1).clamp(max=last)
    how_far = (times - before).clamp(min=0)[:, None, None]
    turned = slerp(rotmats[before], rotmats[after], how_far)
    return turned, points[before].lerp(points[after], how_far)


def mirror_motion(motion: Motion) -> Motion:
    """The same motion done with the other hand and foot."""
    flip = motion.trans_world_m.new_tensor([-1.0, 1.0, 1.0])
    return Motion(
        mirror_rotmats(motion.rotmats),
        motion.trans_world_m * flip,
        motion.fps,
        motion.name,
        motion.action,
    )


# How far each joint may be turned away from the capture, degrees (one standard deviation):
# generous where the capture is poor (arms, head), small where it would break balance or anatomy.
PERTURBATION_DEG = {
    "spine1": 5, "spine2": 4, "spine3": 4, "neck": 8, "head": 10,
    "left_hip": 10, "right_hip": 10, "left_knee": 6, "right_knee": 6,
    "left_ankle": 6, "right_ankle": 6, "left_foot": 2, "right_foot": 2,
    "left_collar": 3, "right_collar": 3, "left_shoulder": 18, "right_shoulder": 18,
    "left_elbow": 14, "right_elbow": 14, "left_wrist": 10, "right_wrist": 10,
}  # fmt: skip
UPPER_BODY = (
    "spine2", "spine3", "neck", "head", "left_collar", "right_collar", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand",
    "right_hand",
)  # fmt: skip


def perturb_rotmats(
    rotmats: Float[Tensor, "*t 24 3 3"], strength: float, rng: np.random.Generator
) -> Float[Tensor, "*t 24 3 3"]:
    """One random turn per joint, the same in all frames, so that motion stays smooth.

    Knees and elbows bend about their hinge only as far as the capture does: the turn is applied
    on the parent's side, which changes the limb's direction and keeps the flexion.
    """
    turn = np.zeros((24, 3), np.float32)
    for name, degrees in PERTURBATION_DEG.items():
        turn[SMPL_24.index(name)] = np.radians(degrees) * rng.standard_normal(3)
    offsets = rotmat_from_axis_angle(torch.from_numpy(turn * np.float32(strength)))
    return offsets @ rotmats


def splice_rotmats(
    lower: Float[Tensor, "*t 24 3 3"], upper: Float[Tensor, "*t 24 3 3"]
) -> Float[Tensor, "*t 24 3 3"]:
    """The legs and hips of one motion under the chest and arms of another."""
    out = lower.clone()
    for name in UPPER_BODY:
        out[..., SMPL_24.index(name), :, :] = upper[..., SMPL_24.index(name), :, :]
    return out


def sample_window(
    motions: tuple[Motion, ...], length: int, rng: np.random.Generator
) -> tuple[Motion, int]:
    """A motion, drawn by its length, and where in it a window of ``length`` frames begins.

    Raises:
        ValueError: no motion is that long.
    """
    starts = np.array([max(0, len(m) - length + 1) for m in motions])
    if starts.sum() == 0:
        longest = max((len(m) for m in motions), default=0)
        raise ValueError(f"window: got {length} frames; expected at most {longest}; ask for less")
    which = int(rng.choice(len(motions), p=starts / starts.sum()))
    return motions[which], int(rng.integers(starts[which]))


@cache
def mean_rotmats() -> Float[Tensor, "24 3 3"]:
    """Mean pose of the training motions: the chordal mean of each joint's rotations.

    Joint 0 turns the body upright towards the camera (camera axes: X right, Y down, Z away).
    Left and right are averaged, so that the mean favours no side.
    """
    import roma

    rotmats = torch.cat([m.rotmats for m in load_motions("train")])
    mean = cast(Tensor, roma.special_procrustes((rotmats + mirror_rotmats(rotmats)).mean(0)))
    mean[0] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    return mean
