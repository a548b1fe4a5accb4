"""Variation of motion: other speeds, cuts from one motion to another, limits of the joints."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.ndimage import gaussian_filter1d, maximum_filter1d
from torch import Tensor

from flowhmr.body import SMPL_24, mirror_rotmats
from flowhmr.geometry import axis_angle_from_rotmat, rotmat_from_axis_angle
from flowhmr.synth.motion import Motion, load_motions, perturb_rotmats
from flowhmr.synth.moves import MOVES, sample_rotmats

# At strength 1, the speed factor lies between exp(-1.19) and exp(1.35): 0.7 to 1.5 at 0.3.
_LOG_SPEED = (-1.19, 1.35)
_WARP_S = 0.35

# How the limits are read from motions.
_MARGIN_DEG = 6.0
_HINGE_MARGIN_DEG = 3.0
_DIRECTIONS = 48
_MOVES_EACH = 6
_MOVE_FRAMES, _MOVE_FPS = 24, 6.0
# Inside by less than this is inside: limiting twice is limiting once.
_SLACK_RAD = 1e-3


def warp_time(motion: Motion, rng: np.random.Generator, strength: float = 0.3) -> Motion:
    """The same motion at another speed, which also varies smoothly in time.

    Args:
        motion: what is done; its first and last pose are kept.
        rng: all that is random.
        strength: 0 changes nothing; at 0.3 the speed factor lies between 0.7 and 1.5.

    Returns:
        As many frames as the new speed takes, at the same fps.
    """
    speed = np.exp(strength * rng.uniform(*_LOG_SPEED))
    last = len(motion) - 1
    steps = max(1, round(last / speed))
    noise = gaussian_filter1d(rng.standard_normal(steps + 60), _WARP_S * motion.fps, mode="wrap")
    rate = np.exp(strength * noise[:steps] / noise.std())
    at = np.concatenate([[0.0], np.cumsum(rate)])
    at *= last / at[-1]
    at[-1] = last
    return _sampled(motion, torch.from_numpy(at))


def _sampled(motion: Motion, at: Float[Tensor, "n"]) -> Motion:
    """A motion at fractional frame numbers."""
    before = at.floor().long().clamp(0, max(0, len(motion) - 2))
    after = (before + 1).clamp(max=len(motion) - 1)
    weight = (at - before).to(motion.rotmats.dtype)
    rotmats = _between(motion.rotmats[before], motion.rotmats[after], weight[:, None])
    trans_m = torch.lerp(motion.trans_world_m[before], motion.trans_world_m[after], weight[:, None])
    return Motion(rotmats, trans_m, motion.fps, motion.name, motion.action)


def _between(
    first: Float[Tensor, "*t 3 3"], second: Float[Tensor, "*t 3 3"], weight: Float[Tensor, "*#t"]
) -> Float[Tensor, "*t 3 3"]:
    """Along the shortest rotation from one to the other."""
    turn = axis_angle_from_rotmat(first.transpose(-1, -2) @ second)
    return first @ rotmat_from_axis_angle(weight[..., None] * turn)


def splice_time(first: Motion, second: Motion, at: int, blend: int = 10) -> Motion:
    """One motion up to a frame, then another that goes on from there.

    The second is turned about the vertical and moved over the floor so that it begins where and
    as the first one is at frame ``at``; during the following ``blend`` frames the first one fades
    out.

    Raises:
        ValueError: the first motion ends, or the second does, before they are blended; or their
            frame rates differ.
    """
    if at < 0 or blend < 1 or at + blend > len(first) or blend > len(second):
        raise ValueError(
            f"splice: got {len(first)} and {len(second)} frames, cut at {at}, {blend} blended; "
            "expected at + blend within the first and blend within the second; cut earlier or "
            "blend over fewer frames"
        )
    if first.fps != second.fps:
        raise ValueError(
            f"splice: got {first.fps} and {second.fps} frames per second; expected the same; "
            "resample one of them"
        )
    # The turn about y that brings the second root rotation nearest to the first.
    apart = first.rotmats[at, 0] @ second.rotmats[0, 0].T
    yaw = torch.atan2(apart[0, 2] - apart[2, 0], apart[0, 0] + apart[2, 2])
    heading = rotmat_from_axis_angle(torch.stack([0 * yaw, yaw, 0 * yaw]))
    rotmats = second.rotmats.clone()
    rotmats[:, 0] = heading @ rotmats[:, 0]
    trans_m = second.trans_world_m @ heading.T
    shift = first.trans_world_m[at] - trans_m[0]
    trans_m = trans_m + shift * shift.new_tensor([1.0, 0.0, 1.0])
    share = torch.arange(1, blend + 1).to(rotmats) / (blend + 1)
    share = share**2 * (3 - 2 * share)
    overlap = slice(at, at + blend)
    rotmats[:blend] = _between(first.rotmats[overlap], rotmats[:blend], share[:, None])
    trans_m[:blend] = torch.lerp(first.trans_world_m[overlap], trans_m[:blend], share[:, None])
    return Motion(
        torch.cat([first.rotmats[:at], rotmats]),
        torch.cat([first.trans_world_m[:at], trans_m]),
        first.fps,
        f"{first.name}+{second.name}",
        second.action,
    )


# Axis of the limb in the rest pose, about which a joint twists.
_LIMB_AXIS = {"collar": 0, "elbow": 0, "wrist": 0, "hand": 0, "foot": 2}
# Swings of the arm count from the hanging arm: the T-pose is far from where arms mostly are.
_HANGING = {"left_shoulder": -torch.pi / 2, "right_shoulder": torch.pi / 2}
_HINGES = ("knee", "elbow", "foot")


@dataclass(frozen=True, eq=False)
class JointLimits:
    """How far joints turn: a swing of the limb after a twist about it.

    Both count from the rest pose, a shoulder's from the hanging arm.
    A swing is a rotation vector across the limb: two numbers, about the axes that follow the
    limb's in x, y, z, x, y. Hinges bend along one line and a little beside it, the more the
    farther they bend; other joints have, for each direction of swing, a farthest angle.
    """

    axis: Int[Tensor, "24"]
    """The axis of the limb: 0, 1, 2 for x, y, z."""
    twist_rad: Float[Tensor, "24 3"]
    """Middle of the twist, and its least and greatest value from there."""
    farthest_rad: Float[Tensor, "24 n"]
    """Farthest swing in ``n`` directions evenly around the limb."""
    is_hinge: Bool[Tensor, "24"]
    """Which joints are hinges; what follows is theirs."""
    hinge: Float[Tensor, "24 2"]
    """Unit direction of the swing that bends the joint."""
    bend_rad: Float[Tensor, "24 2"]
    """Least and greatest bend."""
    beside: Float[Tensor, "24 2"]
    """Least and greatest swing to the side, radians per radian of bend, besides the margin."""


@cache
def joint_limits() -> JointLimits:
    """Limits that hold the training capture and `sample_move`, mirrored too, and a margin."""
    capture = torch.cat([m.rotmats for m in load_motions("train")])
    moves = [
        sample_rotmats(np.random.default_rng([seed]), _MOVE_FRAMES, _MOVE_FPS, kind)
        for kind in MOVES
        for seed in range(_MOVES_EACH)
    ]
    poses = torch.cat([capture, *moves])
    return limits_of(torch.cat([poses, mirror_rotmats(poses)]))


def limits_of(rotmats: Float[Tensor, "t 24 3 3"]) -> JointLimits:
    """The narrowest limits, and a margin, that leave these poses as they are."""
    names = [name.split("_")[-1] for name in SMPL_24.names]
    axis = torch.tensor([_LIMB_AXIS.get(name, 1) for name in names])
    is_hinge = torch.tensor([name in _HINGES for name in names])
    swing, twist = _swing_twist(rotmats @ _references().mT, axis)
    margin = torch.deg2rad(torch.where(is_hinge, _HINGE_MARGIN_DEG, _MARGIN_DEG))
    either = torch.stack([-margin, margin], -1)
    middle = torch.atan2(twist.sin().mean(0), twist.cos().mean(0))
    twist = _wrapped(twist - middle)
    turn = torch.stack([twist.amin(0), twist.amax(0)], -1) + either
    # The line of the bends: the first principal axis, towards most of them.
    hinge = torch.linalg.eigh(torch.einsum("tjc,tjd->jcd", swing, swing))[1][..., -1]
    hinge = hinge * ((swing * hinge).sum(-1).mean(0) >= 0).float().mul(2).sub(1)[:, None]
    bend, beside = _bend_beside(swing, hinge)
    slope = beside / bend.abs().clamp(min=0.3)
    return JointLimits(
        axis,
        torch.cat([middle[:, None], turn], -1),
        _farthest(swing) + margin[:, None],
        is_hinge,
        hinge,
        torch.stack([bend.amin(0), bend.amax(0)], -1) + either,
        torch.stack([slope.amin(0).clamp(max=0), slope.amax(0).clamp(min=0)], -1),
    )


def _farthest(swing: Float[Tensor, "t 24 2"]) -> Float[Tensor, "24 n"]:
    """Longest swing by direction, at least that of the poses anywhere between two directions."""
    place, length = _direction(swing), swing.norm(dim=-1)
    out = torch.zeros(_DIRECTIONS, 24)
    for side in (0, 1):
        bins = (place.floor().long() + side) % _DIRECTIONS
        out = out.scatter_reduce(0, bins, length, "amax")
    widened = maximum_filter1d(out.numpy(), 3, axis=0, mode="wrap")
    return torch.maximum(out, torch.from_numpy(gaussian_filter1d(widened, 1.0, 0, mode="wrap"))).T


def limit_rotmats(rotmats: Float[Tensor, "*t 24 3 3"]) -> Float[Tensor, "*t 24 3 3"]:
    """Rotations brought back into `joint_limits`; those within, and the root, stay bit for bit."""
    limits = joint_limits()
    flat = rotmats.reshape(-1, 24, 3, 3)
    swing, twist = _swing_twist(flat.float() @ _references().mT, limits.axis)
    middle, least, most = limits.twist_rad.unbind(-1)
    kept_twist = middle + _wrapped(twist - middle).clamp(least, most)
    bent, near = _within_hinges(swing, limits), _within_directions(swing, limits)
    kept_swing = torch.where(limits.is_hinge[:, None], bent, near)
    moved = (kept_swing - swing).norm(dim=-1) + _wrapped(kept_twist - twist).abs()
    out = _from_swing_twist(kept_swing, kept_twist, limits.axis) @ _references()
    outside = moved > _SLACK_RAD
    outside[:, 0] = False
    return torch.where(outside[..., None, None], out.to(flat.dtype), flat).reshape(rotmats.shape)


def _within_hinges(swing: Float[Tensor, "t 24 2"], limits: JointLimits) -> Float[Tensor, "t 24 2"]:
    bend, beside = _bend_beside(swing, limits.hinge)
    bend = bend.clamp(*limits.bend_rad.unbind(-1))
    margin = float(np.radians(_HINGE_MARGIN_DEG))
    least, most = limits.beside.unbind(-1)
    beside = beside.clamp(least * bend.abs() - margin, most * bend.abs() + margin)
    u, v = limits.hinge.unbind(-1)
    return torch.stack([bend * u - beside * v, bend * v + beside * u], -1)


def _bend_beside(swing: Float[Tensor, "t 24 2"], hinge: Float[Tensor, "24 2"]) -> tuple:
    u, v = hinge.unbind(-1)
    return swing[..., 0] * u + swing[..., 1] * v, swing[..., 1] * u - swing[..., 0] * v


def _within_directions(
    swing: Float[Tensor, "t 24 2"], limits: JointLimits
) -> Float[Tensor, "t 24 2"]:
    place, joints = _direction(swing), torch.arange(24)
    below = place.floor().long() % _DIRECTIONS
    near = limits.farthest_rad[joints, below], limits.farthest_rad[joints, below + 1 - _DIRECTIONS]
    farthest = torch.lerp(*near, place - place.floor())
    return swing * (farthest / swing.norm(dim=-1).clamp(min=1e-6)).clamp(max=1)[..., None]


def _wrapped(angle: Float[Tensor, "*t"]) -> Float[Tensor, "*t"]:
    return torch.remainder(angle + torch.pi, 2 * torch.pi) - torch.pi


def perturb_within_limits(
    rotmats: Float[Tensor, "*t 24 3 3"], strength: float, rng: np.random.Generator
) -> Float[Tensor, "*t 24 3 3"]:
    """`perturb_rotmats` as far as joints go."""
    return limit_rotmats(perturb_rotmats(rotmats, strength, rng))


@cache
def _references() -> Float[Tensor, "24 3 3"]:
    """Where swings count from."""
    turns = torch.zeros(24, 3)
    for name, angle in _HANGING.items():
        turns[SMPL_24.index(name), 2] = angle
    return rotmat_from_axis_angle(turns)


def _swing_twist(
    rotmats: Float[Tensor, "t 24 3 3"], axis: Tensor
) -> tuple[Float[Tensor, "t 24 2"], Float[Tensor, "t 24"]]:
    """``R = swing @ twist``; the twist is about the limb, the swing's axis across it."""
    joints = torch.arange(24)
    a, b, c = axis, (axis + 1) % 3, (axis + 2) % 3
    # Where the limb points, and by which shortest turn it came there.
    across_b = -rotmats[:, joints, c, a]
    across_c = rotmats[:, joints, b, a]
    sine = torch.hypot(across_b, across_c)
    angle = torch.atan2(sine, rotmats[:, joints, a, a])
    scale = torch.where(sine > 1e-6, angle / sine.clamp(min=1e-6), 1.0)
    swing = torch.stack([across_b * scale, across_c * scale], -1)
    # The block across the limb is a rotation by the twist, scaled by one plus the swing's cosine.
    twist = torch.atan2(
        rotmats[:, joints, c, b] - rotmats[:, joints, b, c],
        rotmats[:, joints, b, b] + rotmats[:, joints, c, c],
    )
    return swing, twist


def _from_swing_twist(
    swing: Float[Tensor, "t 24 2"], twist: Float[Tensor, "t 24"], axis: Tensor
) -> Float[Tensor, "t 24 3 3"]:
    """Inverse of `_swing_twist`."""
    joints = torch.arange(24)
    vectors = swing.new_zeros(2, *twist.shape, 3)
    vectors[0][:, joints, (axis + 1) % 3] = swing[..., 0]
    vectors[0][:, joints, (axis + 2) % 3] = swing[..., 1]
    vectors[1][:, joints, axis] = twist
    swings, twists = rotmat_from_axis_angle(vectors)
    return swings @ twists


def _direction(swing: Float[Tensor, "t 24 2"]) -> Float[Tensor, "t 24"]:
    """Direction of a swing in steps of the star, from 0."""
    turned = torch.atan2(swing[..., 1], swing[..., 0]) / (2 * torch.pi) % 1
    return turned * _DIRECTIONS
