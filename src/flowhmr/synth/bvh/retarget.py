"""A skeleton's motion -> our body's: by how far each joint has turned away from a stance.

See `flowhmr.synth.bvh` for the idea; everything here is float64.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from flowhmr.body import SMPL_24
from flowhmr.geometry import rotmat_from_axis_angle, slerp
from flowhmr.synth.bvh.files import BvhError, BvhFile
from flowhmr.synth.bvh.names import match_names
from flowhmr.synth.bvh.rig import BONES, SIDES, Rig, our_rest_joints
from flowhmr.synth.motion import at_rate

Up = Literal["y", "z"]
LEG_M = (0.2, 2.0)
# Mean cosine to an axis of a body that stands along it for most of a recording.
UPRIGHT = 0.7
SEARCHED_FRAMES = 500
# The CMU skeleton's bones of neck, head and feet are not level when people stand level. Pitch in
# degrees, nose down, the mean over CMU's recordings of walking.
CMU_NECK_DEG, CMU_HEAD_DEG, CMU_FEET_DEG = (-10.5, 7.2), 15.2, 4.3


def resample(file: BvhFile, fps: float) -> BvhFile:
    """The same motion at another rate, from its first frame to the last that it reaches."""
    rotmats, offsets = at_rate(file.rotmats, file.offsets, file.fps, fps)
    return replace(file, rotmats=rotmats, offsets=offsets, fps=fps)


def forward(
    parents: tuple[int, ...], rotmats: Float[Tensor, "t j 3 3"], offsets: Float[Tensor, "t j 3"]
) -> tuple[Float[Tensor, "t j 3 3"], Float[Tensor, "t j 3"]]:
    """Rotations and places of the joints in the world."""
    turns, points = [rotmats[:, 0]], [offsets[:, 0]]
    for joint, parent in enumerate(parents[1:], start=1):
        turns.append(turns[parent] @ rotmats[:, joint])
        points.append(points[parent] + (turns[parent] @ offsets[:, joint, :, None])[..., 0])
    return torch.stack(turns, 1), torch.stack(points, 1)


def swing(
    start: Float[Tensor, "*b 3"], end: Float[Tensor, "*b 3"], eps: float = 1e-12
) -> Float[Tensor, "*b 3 3"]:
    """The smallest rotations from one direction to another; about z if these are opposite."""
    start, end = (v / v.norm(dim=-1, keepdim=True).clamp(min=eps) for v in (start, end))
    axis, cos = torch.linalg.cross(start, end), (start * end).sum(-1, keepdim=True)
    sin = axis.norm(dim=-1, keepdim=True)
    fallback = torch.tensor([0.0, 0.0, 1.0], dtype=start.dtype).expand_as(start)
    axis = torch.where(sin > eps, axis / sin.clamp(min=eps), fallback)
    return rotmat_from_axis_angle(axis * torch.atan2(sin, cos))


@dataclass(frozen=True, eq=False)
class Reference:
    """A stance of the file's skeleton."""

    turns: Float[Tensor, "j 3 3"]
    """Rotations of the joints in the stance, from rest."""
    points: Float[Tensor, "j 3"]
    """Places of the joints, file units."""
    axes: Float[Tensor, "3 3"]
    """Rows: the person's left, up and front."""


def retarget(
    file: BvhFile, units_m: float | None, names: Mapping[str, str] | None, up: Up | None
) -> tuple[Float[Tensor, "t 24 3 3"], Float[Tensor, "t 3"]]:
    """Parent-relative rotations of our body and its pelvis in the world, metres, y up.

    Raises:
        BvhError: as `flowhmr.synth.bvh.read_bvh`, for what is not wrong with the text itself.
    """
    places = match_names(file.names, file.parents, names)
    turns, points = forward(file.parents, file.rotmats, file.offsets)
    # Positions of joints below the root hardly move, and not all files repeat them in OFFSET.
    offsets = file.offsets.median(0).values[None]
    unturned = torch.eye(3, dtype=offsets.dtype).expand(1, offsets.shape[1], 3, 3)
    rest = forward(file.parents, unturned, offsets)[1]
    rig = Rig(file.names, file.parents, _with_whole_wrists(places, rest[0]))
    unit_m = _unit_m(rig, rest[0], units_m)
    level = _nearest_axis(rig.torso(rest[0]))
    axes = rig.axes(rest, level)
    stands = bool(rig.off_stance(rest, axes)[0] <= 1)
    world = _world_axes(rig, points, level if stands else None, up)
    turns, points = world @ turns, points @ world.T
    if stands:
        reference = Reference(_rest_turns(rig, axes[0]), rest[0], axes[0])
    else:
        reference = _nearest_frame(rig, turns, points)
    ours = _our_turns(rig, reference, turns, points)
    parents = SMPL_24.parents or ()
    rotmats = ours.clone()
    rotmats[:, 1:] = ours[:, parents[1:]].transpose(-1, -2) @ ours[:, 1:]
    hips = points[:, [rig.places["left_hip"], rig.places["right_hip"]]].mean(1) * unit_m
    joints = our_rest_joints()
    to_hips = joints[list(SMPL_24.indices_of(["left_hip", "right_hip"]))].mean(0) - joints[0]
    return rotmats, hips - ours[:, 0] @ to_hips


def _with_whole_wrists(places: dict[str, int], rest: Float[Tensor, "j 3"]) -> dict[str, int]:
    """CMU's wrists are two joints in one place, the second called a hand: both turns are ours."""
    whole = dict(places)
    for side in SIDES:
        if f"{side}_hand" in places:
            elbow, wrist, hand = (rest[places[f"{side}_{n}"]] for n in ("elbow", "wrist", "hand"))
            if (hand - wrist).norm() < 1e-3 * (wrist - elbow).norm():
                whole[f"{side}_wrist"] = whole.pop(f"{side}_hand")
    return whole


def _unit_m(rig: Rig, rest: Float[Tensor, "j 3"], units_m: float | None) -> float:
    """Metres per unit; checked, or what makes their legs as long as ours."""
    if units_m is not None and not 0 < units_m < float("inf"):
        raise BvhError(f"units_m: got {units_m}; expected metres per unit, such as 0.01, or None")
    ours, at = our_rest_joints(), rig.places
    lengths = {"ours": 0.0, "theirs": 0.0}
    for side in SIDES:
        for bone, end in BONES.items():
            start_name, end_name = f"{side}_{bone}", f"{side}_{end}"
            theirs = float((rest[at[end_name]] - rest[at[start_name]]).norm())
            if theirs == 0:
                raise BvhError(
                    f"joints: got no length from {rig.names[at[start_name]]!r} to "
                    f"{rig.names[at[end_name]]!r}, taken for {start_name} and {end_name}; expected "
                    "two places; say which joints these are with names="
                )
            if bone in ("hip", "knee"):
                bone_ours = ours[SMPL_24.index(end_name)] - ours[SMPL_24.index(start_name)]
                lengths["theirs"] += theirs / 2
                lengths["ours"] += float(bone_ours.norm()) / 2
    if units_m is None:
        return lengths["ours"] / lengths["theirs"]
    leg_m = units_m * lengths["theirs"]
    if not LEG_M[0] < leg_m < LEG_M[1]:
        raise BvhError(
            f"units_m: got {units_m}, which makes legs of {leg_m:.3g} m; expected {LEG_M[0]} to "
            f"{LEG_M[1]} m; leave it out, or try {0.85 / lengths['theirs']:.2g}"
        )
    return units_m


def _nearest_axis(direction: Float[Tensor, "3"]) -> Float[Tensor, "3"]:
    """The coordinate axis, with its sign, that is nearest to a direction."""
    axis = torch.zeros_like(direction)
    place = int(direction.abs().argmax())
    axis[place] = direction[place].sign()
    return axis


def _world_axes(
    rig: Rig, points: Float[Tensor, "t j 3"], level: Float[Tensor, "3"] | None, up: Up | None
) -> Float[Tensor, "3 3"]:
    """The turn from the file's world to ours; ``level`` is the vertical of a rest that stands."""
    at = rig.places
    top = points[:, [at["left_shoulder"], at["right_shoulder"]]].mean(1)
    body = top - points[:, [at["left_ankle"], at["right_ankle"]]].mean(1)
    along = torch.nn.functional.normalize(body, dim=-1).mean(0)
    if up is None and level is not None:
        # Programs may leave a z-up rest pose under a root that turns it: then people stand along y.
        up = "z" if level[2] == 1 and along[1] < UPRIGHT else "y"
    elif up is None:
        up = "z" if along[2] > UPRIGHT else "y"
    rows = [[1, 0, 0], [0, 0, 1], [0, -1, 0]] if up == "z" else torch.eye(3).tolist()
    return torch.tensor(rows, dtype=points.dtype)


def _rest_turns(rig: Rig, axes: Float[Tensor, "3 3"]) -> Float[Tensor, "j 3 3"]:
    """Rotations of the joints in a rest pose that stands: none, but for CMU's skeleton."""
    turns = torch.eye(3, dtype=axes.dtype).repeat(len(rig.names), 1, 1)
    if rig.is_cmu:
        head, feet = rig.places["head"], [f"{s}_{j}" for s in SIDES for j in ("ankle", "foot")]
        upper = rig.parents[head]
        pitches_deg = dict.fromkeys([rig.places[f] for f in feet if f in rig.places], CMU_FEET_DEG)
        pitches_deg |= {head: CMU_HEAD_DEG, upper: CMU_NECK_DEG[1]}
        pitches_deg |= {rig.parents[upper]: CMU_NECK_DEG[0]}
        for joint, pitch_deg in pitches_deg.items():
            turns[joint] = rotmat_from_axis_angle(axes[0] * math.radians(pitch_deg))
    return turns


def _nearest_frame(
    rig: Rig, turns: Float[Tensor, "t j 3 3"], points: Float[Tensor, "t j 3"]
) -> Reference:
    """The frame that is nearest to a T-pose, for files whose rest pose is no stance."""
    every = max(1, len(points) // SEARCHED_FRAMES)
    axes = rig.axes(points[::every], points.new_tensor([0.0, 1.0, 0.0]))
    off = rig.off_stance(points[::every], axes)
    best = int(off.argmin())
    if off[best] > 1:
        raise BvhError(
            "rest pose: got one in which nobody stands, and no frame in which somebody does; "
            "expected a T-pose, an A-pose or hanging arms in either; add such a frame, or say with "
            "up= or names= what was taken wrongly"
        )
    return Reference(turns[best * every], points[best * every], axes[best])


def _to_our_rest(rig: Rig, reference: Reference) -> dict[str, Float[Tensor, "3 3"]]:
    """For each of our joints the turn from the reference to our T-pose."""
    found = dict.fromkeys(SMPL_24.names, reference.axes)
    rest = our_rest_joints()

    def bone(start: str, end: str) -> tuple[Tensor, Tensor]:
        theirs = reference.points[rig.places[end]] - reference.points[rig.places[start]]
        end = end.replace("middle", "hand")
        return theirs, rest[SMPL_24.index(end)] - rest[SMPL_24.index(start)]

    for side in SIDES:
        above = {"knee": "hip", "elbow": "shoulder"}
        for start, end in BONES.items():
            name = f"{side}_{start}"
            so_far = found[f"{side}_{above[start]}"] if start in above else reference.axes
            theirs, ours = bone(name, f"{side}_{end}")
            found[name] = swing(so_far @ theirs, ours) @ so_far
        found[f"{side}_wrist"] = found[f"{side}_elbow"]
        tip = next((t for t in (f"{side}_hand", f"{side}_middle") if t in rig.places), None)
        if tip is not None:
            theirs, ours = bone(f"{side}_wrist", tip)
            so_far = found[f"{side}_elbow"]
            found[f"{side}_wrist"] = swing(so_far @ theirs, ours) @ so_far
        found[f"{side}_hand"] = found[f"{side}_wrist"]
        if f"{side}_foot" in rig.places:
            # Soles are flat in both; how steep the way to the toes is depends on where a skeleton
            # has its ankle, so only where they point counts. CMU's legs are spread at rest, and
            # its feet roll with them.
            so_far = found[f"{side}_knee"] if rig.is_cmu else reference.axes
            flat = reference.points.new_tensor([1.0, 0.0, 1.0])
            theirs, ours = bone(f"{side}_ankle", f"{side}_foot")
            turn = swing((so_far @ theirs) * flat, ours * flat) @ so_far
            found[f"{side}_ankle"] = found[f"{side}_foot"] = turn
    return found


def _our_turns(
    rig: Rig,
    reference: Reference,
    turns: Float[Tensor, "t j 3 3"],
    points: Float[Tensor, "t j 3"],
) -> Float[Tensor, "t 24 3 3"]:
    """Rotations of our joints in the world."""
    away = turns @ reference.turns.transpose(-1, -2)
    to_rest, rest = _to_our_rest(rig, reference), our_rest_joints()
    sources, at = rig.sources(), rig.places
    ours: dict[str, Tensor] = {}
    for name in SMPL_24.names:
        start, end, how_far = sources[name]
        turn = slerp(away[:, start], away[:, end], how_far)
        side, _, limb = name.partition("_")
        if limb == "elbow" and rig.is_cmu:
            wrist = at[f"{side}_wrist"]
            forearm = reference.points[wrist] - reference.points[at[name]]
            turn = _with_half_the_twist(turn, away[:, rig.parents[wrist]], forearm)
        turn = turn @ to_rest[name].T
        if limb in BONES:
            end_name = f"{side}_{BONES[limb]}"
            bone = rest[SMPL_24.index(end_name)] - rest[SMPL_24.index(name)]
            # Exact already, unless joints between the two turn or the bone changes its length.
            turn = swing(turn @ bone, points[:, at[end_name]] - points[:, at[name]]) @ turn
        ours[name] = turn
    return torch.stack([ours[name] for name in SMPL_24.names], 1)


def _with_half_the_twist(
    forearm: Float[Tensor, "t 3 3"],
    hand: Float[Tensor, "t 3 3"],
    bone: Float[Tensor, "3"],
) -> Float[Tensor, "t 3 3"]:
    """CMU's forearms do not turn about themselves, its hands do it for them: take half of that."""
    axis = torch.nn.functional.normalize(bone, dim=0)
    way = forearm.transpose(-1, -2) @ hand
    # The twist about an axis, from the quaternion's parts: tan(angle / 2) = (q . axis) / w.
    skew = torch.stack([way[:, 2, 1], way[:, 0, 2], way[:, 1, 0]], -1) - torch.stack(
        [way[:, 1, 2], way[:, 2, 0], way[:, 0, 1]], -1
    )
    trace = way.diagonal(dim1=-2, dim2=-1).sum(-1)
    twist = 2 * torch.atan2(skew @ axis, 1 + trace)
    return forearm @ rotmat_from_axis_angle(0.5 * twist[:, None] * axis)
