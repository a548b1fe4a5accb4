"""Poses from named joint angles, limbs that reach a place, and the floor under a body.

Anatomical angles, in degrees and alike on both sides: ``flex`` bends (hip forward, knee heel to
seat, ankle toes up, spine forward, elbow hand to shoulder), ``abd`` lifts sideways, ``twist``
turns about the limb's own length (hip outward, shoulder inward), spine and neck ``twist`` and
``bend`` go to the left. Angles of the shoulder count from the hanging arm.
"""

from functools import cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from flowhmr.body import SMPL_24, open_body

Side = Literal["left", "right"]
Angles = dict[str, Float[np.ndarray, "t"] | float]
"""Degrees by ``joint.angle``, such as ``left_hip.flex``; ``spine`` and ``neck`` stand for all of
their joints, ``root`` for the whole body."""

SIDES: tuple[Side, Side] = ("left", "right")
_X, _Y, _Z = 0, 1, 2
# Turns in the order in which they are multiplied: name, axis, sign for the left side.
_BACK = (("twist", _Y, 1), ("flex", _X, 1), ("bend", _Z, -1))
_TURNS = {
    "root": (("yaw", _Y, 1), ("pitch", _X, 1), ("turn", _Y, 1), ("roll", _Z, -1)),
    **dict.fromkeys(("spine1", "spine2", "spine3", "neck", "head"), _BACK),
    "hip": (("flex", _X, -1), ("abd", _Z, 1), ("twist", _Y, 1)),
    "knee": (("flex", _X, 1),),
    "ankle": (("flex", _X, -1), ("abd", _Z, 1), ("twist", _Y, 1)),
    "foot": (("flex", _X, -1),),
    "elbow": (("tilt", _X, 1), ("flex", _Y, -1), ("untilt", _X, 1), ("twist", _X, 1)),
    "wrist": (("flex", _Z, -1), ("bend", _Y, -1)),
}
# How an angle of the whole spine or neck is shared out.
_SHARES = {
    "spine": {"spine1": 0.4, "spine2": 0.3, "spine3": 0.3},
    "neck": {"neck": 0.5, "head": 0.5},
}
# The capture's elbows bend about an axis that is turned by this about the arm.
_ELBOW_TILT_DEG = -30.0
# The shoulder blade turns up by this share of the arm's elevation beyond 60 degrees.
_BLADE_SHARE = 0.22
# A limb is not stretched beyond this share of its length, and nears it softly.
_SOFT_M = 0.004
_ANKLE_DEG = (-50.0, 38.0)
_TOES_DEG = 45.0
_ASIDE_DEG = 28.0
_WRIST_DEG = 80.0
BALL_HEIGHT_M = 0.028
"""The joint ``left_foot``, in the ball of the foot, above a level floor."""


@cache
def rest_joints_m() -> Float[np.ndarray, "24 3"]:
    """Joints of the open body's mean shape in T-pose, metres."""
    body = open_body()
    return body.joints(body.rest_params()).double().numpy()


def turn(axis: int, degrees: Float[np.ndarray, "*t"]) -> Float[np.ndarray, "*t 3 3"]:
    """Rotations about a coordinate axis."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    out = np.zeros((*np.shape(degrees), 3, 3))
    a, b = (axis + 1) % 3, (axis + 2) % 3
    out[..., axis, axis] = 1
    out[..., a, a] = out[..., b, b] = cosine
    out[..., a, b], out[..., b, a] = -sine, sine
    return out


def pose(angles: Angles, frames: int) -> Float[np.ndarray, "t 24 3 3"]:
    """Parent-relative rotations of all joints; angles that are not named are zero.

    Raises:
        KeyError: an angle that no joint has.
    """
    degrees = {name: np.broadcast_to(value, (frames,)) for name, value in angles.items()}
    for side in SIDES:
        degrees[f"{side}_elbow.tilt"] = np.full(frames, _ELBOW_TILT_DEG)
        degrees[f"{side}_elbow.untilt"] = np.full(frames, -_ELBOW_TILT_DEG)
    for name in [name for name in degrees if name.split(".")[0] in _SHARES]:
        whole, angle = name.split(".")
        for joint, share in _SHARES[whole].items():
            degrees[f"{joint}.{angle}"] = degrees.get(f"{joint}.{angle}", 0) + share * degrees[name]
        del degrees[name]
    out = np.broadcast_to(np.eye(3), (frames, 24, 3, 3)).copy()
    for joint, name in enumerate(("root", *SMPL_24.names[1:])):
        side, _, part = name.rpartition("_")
        rotmats = out[:, joint]
        if part == "shoulder":
            blade, arm = _arm_in_chest(name, degrees, frames)
            out[:, SMPL_24.index(f"{side}_collar")] = blade
            rotmats = np.swapaxes(blade, -1, -2) @ arm
        for angle, axis, sign in _TURNS.get(part, ()):
            if f"{name}.{angle}" in degrees:
                mirrored = -1 if side == "right" and axis != _X else 1
                rotmats = rotmats @ turn(axis, sign * mirrored * degrees.pop(f"{name}.{angle}"))
        out[:, joint] = rotmats
    if degrees:
        raise KeyError(f"angles: got {sorted(degrees)}; expected joint.angle as in {_TURNS}")
    return out


def _arm_in_chest(name: str, degrees: dict, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """The collar, and the upper arm in the chest's frame: angles mean the same at any collar."""
    sign = -1 if name.startswith("right") else 1
    zero = np.zeros(frames)
    flex, abd, twist = (degrees.pop(f"{name}.{a}", zero) for a in ("flex", "abd", "twist"))
    lift = np.stack([-flex, zero, sign * abd], -1)
    hanging = turn(_Z, np.array(-90.0 * sign))
    arm = (
        Rotation.from_rotvec(np.radians(lift)).as_matrix()
        @ hanging
        @ turn(_X, twist - _ELBOW_TILT_DEG)
    )
    blade_deg = _BLADE_SHARE * 10 * np.logaddexp(0, (np.hypot(flex, abd) - 60) / 10)
    return turn(_Z, sign * blade_deg), arm


def chain(
    rotmats: Float[np.ndarray, "t 24 3 3"], joint: str
) -> tuple[Float[np.ndarray, "t 3 3"], Float[np.ndarray, "t 3"]]:
    """Rotation of a joint in the world, and where it is from the pelvis, metres."""
    rest, parents = rest_joints_m(), SMPL_24.parents or ()
    at = SMPL_24.index(joint)
    path = [at]
    while path[-1] != 0:
        path.append(parents[path[-1]])
    rotation, place = rotmats[:, 0], np.zeros((len(rotmats), 3))
    for parent, child in zip(path[:0:-1], path[-2::-1]):
        place = place + rotation @ (rest[child] - rest[parent])
        rotation = rotation @ rotmats[:, child]
    return rotation, place


def reach(
    rotmats: Float[np.ndarray, "t 24 3 3"],
    limb: tuple[str, str, str],
    target_m: Float[np.ndarray, "t 3"],
    pole: Float[np.ndarray, "3"],
    hinge: Float[np.ndarray, "3"],
) -> None:
    """Turn the upper joint and bend the middle one so that the last one comes to a place.

    Args:
        rotmats: parent-relative rotations, changed in place.
        limb: upper, middle and last joint.
        target_m: where the last joint should be, from the pelvis in world axes. What is out of
            reach is pointed at.
        pole: direction in which the middle joint sticks out of a limb that hangs straight down,
            horizontal; it turns with the limb.
        hinge: axis of the middle joint, about which positive angles bend it.
    """
    upper, middle, last = SMPL_24.indices_of(limb)
    rest = rest_joints_m()
    thigh, shank = rest[middle] - rest[upper], rest[last] - rest[middle]
    parent, start = chain(rotmats, SMPL_24.names[(SMPL_24.parents or ())[upper]])
    start = start + parent @ (rest[upper] - rest[(SMPL_24.parents or ())[upper]])
    line = target_m - start
    # |thigh + R shank|^2 = constant + amplitude cos(angle - phase)
    fixed = (hinge @ thigh) * (hinge @ shank)
    cosine, sine = thigh @ shank - fixed, thigh @ np.cross(hinge, shank)
    amplitude, phase = np.hypot(cosine, sine), np.arctan2(sine, cosine)
    square = thigh @ thigh + shank @ shank + 2 * fixed
    longest = np.sqrt(square + 2 * amplitude)
    asked = np.linalg.norm(line, axis=-1)
    length = _at_most(asked, longest, _SOFT_M)
    bend = phase + np.arccos(((length**2 - square) / (2 * amplitude)).clip(-0.85, 1))
    bent = Rotation.from_rotvec(bend[:, None] * hinge).as_matrix()
    here = thigh + bent @ shank
    here = _frame(here, np.cross(here, hinge))
    there = _frame(line, _turned_from_down(line / asked[:, None], pole))
    rotmats[:, upper] = np.swapaxes(parent, -1, -2) @ there @ np.swapaxes(here, -1, -2)
    rotmats[:, middle] = bent


def _frame(along: np.ndarray, aside: np.ndarray) -> Float[np.ndarray, "t 3 3"]:
    """Orthonormal columns: the first along one vector, the second as near another as may be."""
    first = along / np.linalg.norm(along, axis=-1, keepdims=True)
    second = aside - (aside * first).sum(-1, keepdims=True) * first
    second /= np.linalg.norm(second, axis=-1, keepdims=True)
    return np.stack([first, second, np.cross(first, second)], -1)


def _turned_from_down(
    line: Float[np.ndarray, "t 3"], vector: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "t 3"]:
    """A vector after the shortest turn that brings straight down to a unit direction."""
    down = np.array([0.0, -1.0, 0.0])
    axis, cosine = np.cross(down, line), line @ down[:, None]
    twice = np.cross(axis, np.cross(axis, vector))
    return vector + np.cross(axis, vector) + twice / (1 + cosine).clip(1e-3)


def plant_foot(
    rotmats: Float[np.ndarray, "t 24 3 3"],
    side: Side,
    ball_m: Float[np.ndarray, "t 3"],
    yaw_deg: Float[np.ndarray, "t"],
    heel_deg: Float[np.ndarray, "t"],
    knee: Float[np.ndarray, "3"],
) -> None:
    """Bend a leg so that the ball of the foot comes to a place from the pelvis, in world axes.

    Args:
        rotmats: parent-relative rotations, changed in place.
        side: which leg.
        ball_m: the joint ``*_foot``, metres.
        yaw_deg: where the foot points, to the left of +z.
        heel_deg: how far the heel is raised; the toes stay level. An ankle that would bend too far
            raises the heel more.
        knee: where the knee points when the leg hangs, horizontal.
    """
    names = f"{side}_hip", f"{side}_knee", f"{side}_ankle"
    ankle, toes = SMPL_24.indices_of((f"{side}_ankle", f"{side}_foot"))
    foot = turn(_Y, yaw_deg) @ turn(_X, heel_deg)
    ankle_m = ankle_of_ball(side, ball_m, yaw_deg, heel_deg)
    reach(rotmats, names, ankle_m, knee, np.array([1.0, 0, 0]))
    shank, _ = chain(rotmats, f"{side}_knee")
    local = np.swapaxes(shank, -1, -2) @ foot
    # About the hinge first; what is left turns the foot inward or outward.
    flex = -np.degrees(np.arctan2(local[:, 2, 1] - local[:, 1, 2], local[:, 1, 1] + local[:, 2, 2]))
    low, high = _ANKLE_DEG
    kept = -_at_most(-_at_most(flex, high, 3.0), -low, 3.0)
    aside = _shortened(turn(_X, flex) @ local, _ASIDE_DEG)
    rotmats[:, ankle] = turn(_X, -kept) @ aside
    excess = flex - kept
    rotmats[:, toes] = turn(_X, -np.clip(heel_deg + excess, 0, _TOES_DEG))


def ankle_of_ball(
    side: Side,
    ball_m: Float[np.ndarray, "t 3"],
    yaw_deg: Float[np.ndarray, "t"],
    heel_deg: Float[np.ndarray, "t"],
) -> Float[np.ndarray, "t 3"]:
    """Where the ankle is, given the ball of the foot and how the foot is turned, metres."""
    ankle, toes = SMPL_24.indices_of((f"{side}_ankle", f"{side}_foot"))
    foot = turn(_Y, yaw_deg) @ turn(_X, heel_deg)
    return ball_m - foot @ (rest_joints_m()[toes] - rest_joints_m()[ankle])


def plant_hand(
    rotmats: Float[np.ndarray, "t 24 3 3"],
    side: Side,
    wrist_m: Float[np.ndarray, "t 3"],
    palm_down: bool,
) -> None:
    """Bend an arm so that the wrist comes to a place from the pelvis, in world axes."""
    sign = 1.0 if side == "left" else -1.0
    limb = f"{side}_shoulder", f"{side}_elbow", f"{side}_wrist"
    elbow = np.array([0.7 * sign, 0, -0.7])
    hinge = turn(_X, np.array(_ELBOW_TILT_DEG)) @ np.array([0, -sign, 0])
    reach(rotmats, limb, wrist_m, elbow, hinge)
    if palm_down:
        forearm, _ = chain(rotmats, f"{side}_elbow")
        level = turn(_Y, np.array(-75.0 * sign))
        hand = _shortened(np.swapaxes(forearm, -1, -2) @ level, _WRIST_DEG)
        rotmats[:, SMPL_24.index(f"{side}_wrist")] = hand


def _shortened(rotmats: Float[np.ndarray, "t 3 3"], most_deg: float) -> Float[np.ndarray, "t 3 3"]:
    """Rotations by no more than an angle, about the same axes."""
    turns = Rotation.from_matrix(rotmats).as_rotvec()
    angle = np.linalg.norm(turns, axis=-1, keepdims=True) + 1e-9
    kept = _at_most(angle, np.radians(most_deg), 0.05)
    return Rotation.from_rotvec(turns * (kept / angle)).as_matrix()


def _at_most(values: np.ndarray, high: float, soft: float) -> np.ndarray:
    """The smaller of two numbers, without a kink."""
    return high - soft * np.logaddexp(0, (high - values) / soft)


def lowest_m(rotmats: Float[Tensor, "t 24 3 3"]) -> Float[Tensor, "t"]:
    """Height of the open body's lowest vertex from the pelvis, metres (negative)."""
    body = open_body()
    betas = torch.zeros(len(rotmats), body.num_betas)
    return body.mesh(body.params(rotmats, betas)).verts[..., 1].amin(1)
