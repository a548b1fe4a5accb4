"""BVH files: what a motion is written as does not change what is read."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.testing import assert_close

from flowhmr.body import SMPL_24, open_body
from flowhmr.geometry import geodesic_rad, rotmat_from_axis_angle
from flowhmr.synth import Motion, load_motions
from flowhmr.synth.bvh import load_bvh_folder, read_bvh

PARENTS = SMPL_24.parents
SIDES = ("left", "right")
LIMBS = [
    (f"{side}_{start}", f"{side}_{end}")
    for side in SIDES
    for start, end in (
        ("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist")
    )
]  # fmt: skip
Z_UP = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]).double()
"""From a world with y up to one with z up."""


def sided(left: Mapping[str, str]) -> dict[str, str]:
    """Names of the left side -> of both."""
    swap = {"Left": "Right", "_L_": "_R_", ".L": ".R", "_l": "_r", "LThigh": "RThigh"} | {
        f"L{name}": f"R{name}"
        for name in ("Shin", "Foot", "Toe", "Shoulder", "UArm", "FArm", "Hand")
    }
    both = {}
    for ours, theirs in left.items():
        other = next(theirs.replace(a, b) for a, b in swap.items() if a in theirs)
        both |= {f"left_{ours}": theirs, f"right_{ours}": other}
    return both


SPINE = {"pelvis": "Hips", "spine1": "Spine", "spine2": "Spine1", "spine3": "Spine2"}
HEAD = {"neck": "Neck", "head": "Head"}
MOTIONBUILDER = {
    "hip": "LeftUpLeg", "knee": "LeftLeg", "ankle": "LeftFoot", "foot": "LeftToeBase",
    "collar": "LeftShoulder", "shoulder": "LeftArm", "elbow": "LeftForeArm", "wrist": "LeftHand",
    "hand": "LeftHandMiddle1",
}  # fmt: skip
CONVENTIONS = {
    "smpl": {name: name for name in SMPL_24.names},
    "motionbuilder": SPINE | HEAD | sided(MOTIONBUILDER),
    "mixamo": {
        ours: f"mixamorig:{theirs}"
        for ours, theirs in (SPINE | HEAD | sided(MOTIONBUILDER)).items()
    },
    "xsens": {"pelvis": "Hips", "spine1": "Chest", "spine2": "Chest2", "spine3": "Chest3"}
    | HEAD
    | sided(
        {
            "hip": "LeftHip", "knee": "LeftKnee", "ankle": "LeftAnkle", "foot": "LeftToe",
            "collar": "LeftCollar", "shoulder": "LeftShoulder", "elbow": "LeftElbow",
            "wrist": "LeftWrist", "hand": "LeftMiddle1",
        }
    ),
    "cc_base": {"pelvis": "CC_Base_Hip", "spine1": "CC_Base_Waist", "spine2": "CC_Base_Spine01"}
    | {"spine3": "CC_Base_Spine02", "neck": "CC_Base_NeckTwist01", "head": "CC_Base_Head"}
    | sided(
        {
            "hip": "CC_Base_L_Thigh", "knee": "CC_Base_L_Calf", "ankle": "CC_Base_L_Foot",
            "foot": "CC_Base_L_ToeBase", "collar": "CC_Base_L_Clavicle",
            "shoulder": "CC_Base_L_Upperarm", "elbow": "CC_Base_L_Forearm",
            "wrist": "CC_Base_L_Hand", "hand": "CC_Base_L_Mid1",
        }
    ),
    "optitrack": {"pelvis": "Hip", "spine1": "Ab", "spine2": "Ab2", "spine3": "Chest"}
    | HEAD
    | sided(
        {
            "hip": "LThigh", "knee": "LShin", "ankle": "LFoot", "foot": "LToe",
            "collar": "LShoulder", "shoulder": "LUArm", "elbow": "LFArm", "wrist": "LHand",
            "hand": "LeftHandMiddle1",
        }
    ),
    "unreal": {"pelvis": "pelvis", "spine1": "spine_01", "spine2": "spine_02", "neck": "neck_01"}
    | {"spine3": "spine_03", "head": "head"}
    | sided(
        {
            "hip": "thigh_l", "knee": "calf_l", "ankle": "foot_l", "foot": "ball_l",
            "collar": "clavicle_l", "shoulder": "upperarm_l", "elbow": "lowerarm_l",
            "wrist": "hand_l", "hand": "middle_01_l",
        }
    ),
    "blender": SPINE
    | HEAD
    | sided(
        {
            "hip": "thigh.L", "knee": "shin.L", "ankle": "foot.L", "foot": "toe.L",
            "collar": "shoulder.L", "shoulder": "upper_arm.L", "elbow": "forearm.L",
            "wrist": "hand.L", "hand": "middle_01.L",
        }
    ),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Puppet:
    """A moving skeleton, as a test writes it; parents before children."""

    names: list[str]
    parents: list[int]
    offsets: Tensor
    """[j 3]"""
    turns: Tensor
    """[t j 3 3], in the world."""
    root: Tensor
    """[t 3]"""

    def posed(self, stance: Tensor) -> "Puppet":
        """The same places at all times, from a rest pose turned by ``stance`` [j 3 3] (world)."""
        above = torch.stack([stance[p] if p >= 0 else stance[0] for p in self.parents])
        return replace(
            self,
            offsets=(above @ self.offsets[..., None])[..., 0],
            turns=self.turns @ stance.transpose(-1, -2),
        )

    def turned(self, axes: Tensor) -> "Puppet":
        """The same motion in a world with other axes."""
        return replace(
            self,
            offsets=self.offsets @ axes.T,
            turns=axes @ self.turns @ axes.T,
            root=self.root @ axes.T,
        )

    def with_joint(self, name: str, below: str) -> "Puppet":
        """One more joint, in the place of another and below it, that turns at random."""
        at, seeded = self.names.index(below), torch.Generator().manual_seed(1)
        spin = rotmat_from_axis_angle(torch.randn(len(self.root), 3, generator=seeded).double())
        return Puppet(
            [*self.names, name],
            [*self.parents, at],
            torch.cat([self.offsets, torch.zeros(1, 3).double()]),
            torch.cat([self.turns, (self.turns[:, at] @ spin)[:, None]], 1),
            self.root,
        )

    def write(
        self,
        path: Path,
        order: str = "zxy",
        fps: float = 30,
        places: str = "root",
        deltas: bool = False,
    ) -> Path:
        """A BVH file; ``places``: whether only the root or all joints have position channels."""
        local = self.turns.clone()
        for joint, parent in enumerate(self.parents):
            if parent >= 0:
                local[:, joint] = self.turns[:, parent].transpose(-1, -2) @ self.turns[:, joint]
        children = [
            [i for i, p in enumerate(self.parents) if p == joint]
            for joint in range(len(self.names))
        ]
        lines, columns = ["HIERARCHY"], []

        def block(joint: int, key: str) -> None:
            offset = self.offsets[joint]
            lines.extend([f"{key} {self.names[joint]}", "{", f"OFFSET {numbers(offset)}"])
            channels = [f"{axis.upper()}rotation" for axis in order]
            angles = Rotation.from_matrix(local[:, joint].numpy()).as_euler(order.upper(), True)
            if joint == 0 or places == "all":
                channels = ["Xposition", "Yposition", "Zposition", *channels]
                place = self.root if joint == 0 else offset.expand_as(self.root)
                columns.append(place - offset if deltas else place)
            columns.append(torch.from_numpy(angles.copy()))
            lines.append(f"CHANNELS {len(channels)} {' '.join(channels)}")
            for child in children[joint]:
                block(child, "JOINT")
            if not children[joint]:
                lines.extend(["End Site", "{", "OFFSET 0 0.01 0", "}"])
            lines.append("}")

        block(0, "ROOT")
        rows = torch.cat(columns, 1)
        lines += ["MOTION", f"Frames: {len(rows)}", f"Frame Time: {1 / fps:.7f}"]
        path.write_text("\n".join([*lines, *map(numbers, rows)]) + "\n")
        return path


def numbers(values: Tensor) -> str:
    return " ".join(f"{value:.8f}" for value in values.tolist())


@cache
def rest_joints() -> Tensor:
    body = open_body()
    return body.joints(body.rest_params()).double()


def world_turns(rotmats: Tensor) -> Tensor:
    turns = rotmats.double().clone()
    for joint, parent in enumerate(PARENTS):
        if parent >= 0:
            turns[:, joint] = turns[:, parent] @ turns[:, joint]
    return turns


@cache
def walk() -> Motion:
    """Twelve frames of a person who plays basketball; fingers still."""
    motion = load_motions("val")[0]
    rotmats = motion.rotmats[::9][:12].clone()
    rotmats[:, list(SMPL_24.indices_of(["left_hand", "right_hand"]))] = torch.eye(3)
    return replace(motion, rotmats=rotmats, trans_world_m=motion.trans_world_m[::9][:12])


def puppet_of(motion: Motion, convention: str = "motionbuilder") -> Puppet:
    joints = rest_joints()
    offsets = torch.stack(
        [
            joints[j] - joints[p] if p >= 0 else torch.zeros(3).double()
            for j, p in enumerate(PARENTS)
        ]
    )
    names = [CONVENTIONS[convention][name] for name in SMPL_24.names]
    return Puppet(
        names, list(PARENTS), offsets, world_turns(motion.rotmats), motion.trans_world_m.double()
    )


def bones(motion: Motion, pairs: list[tuple[str, str]] = LIMBS) -> Tensor:
    """Directions of limbs in the world, [t l 3]."""
    turns, joints = world_turns(motion.rotmats), rest_joints()
    found = [
        turns[:, SMPL_24.index(a)] @ (joints[SMPL_24.index(b)] - joints[SMPL_24.index(a)])
        for a, b in pairs
    ]
    return torch.nn.functional.normalize(torch.stack(found, 1), dim=-1)


def assert_same(got: Motion, expected: Motion, atol: float = 1e-4) -> None:
    assert_close(got.rotmats, expected.rotmats, atol=atol, rtol=0)
    assert_close(got.trans_world_m, expected.trans_world_m, atol=atol, rtol=0)


def stance(**degrees: tuple[float, float, float]) -> Tensor:
    """Turns [24 3 3] that each named joint and all below it get on the way from our T-pose."""
    turn = torch.zeros(24, 3).double()
    for name, axis_angle_deg in degrees.items():
        turn[SMPL_24.index(name)] = torch.deg2rad(torch.tensor(axis_angle_deg).double())
    return world_turns(rotmat_from_axis_angle(turn)[None])[0]


A_POSE = {
    "left_shoulder": (0, 0, -50), "right_shoulder": (0, 0, 50),
    "left_elbow": (0, -15, 0), "right_elbow": (0, 15, 0),
}  # fmt: skip
STANCES = {
    "A-pose": A_POSE,
    "hanging arms": {"left_shoulder": (0, 0, -88), "right_shoulder": (0, 0, 88)},
    "facing backwards": {"pelvis": (0, 180, 0)},
    "facing aside": {"pelvis": (0, 90, 0), **A_POSE},
    "legs apart, soles flat": {
        "left_hip": (0, 0, 12),
        "right_hip": (0, 0, -12),
        "left_ankle": (0, 0, -12),
        "right_ankle": (0, 0, 12),
    },
    "feet turned out": {"left_ankle": (0, 25, 0), "right_ankle": (0, -25, 0)},
}


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_what_is_written_is_read(tmp_path, convention):
    path = puppet_of(walk(), convention).write(tmp_path / "walk_03.bvh")
    motion = read_bvh(path)
    assert_same(motion, walk())
    assert (motion.fps, motion.name, motion.action) == (30, "walk_03", "walk")
    assert motion.rotmats.dtype == motion.trans_world_m.dtype == torch.float32


def test_hands_of_smpl_are_read(tmp_path):
    motion = walk()
    rotmats = motion.rotmats.clone()
    rotmats[:, 22:] = rotmat_from_axis_angle(torch.tensor([0.1, 0.5, -0.3]))
    motion = replace(motion, rotmats=rotmats)
    assert_same(read_bvh(puppet_of(motion, "smpl").write(tmp_path / "a.bvh")), motion)


@pytest.mark.parametrize("order", ["xyz", "xzy", "yxz", "yzx", "zxy", "zyx"])
def test_the_order_of_channels_does_not_matter(tmp_path, order):
    assert_same(read_bvh(puppet_of(walk()).write(tmp_path / "a.bvh", order)), walk())


@pytest.mark.parametrize("deltas", [False, True])
def test_every_joint_may_have_positions(tmp_path, deltas):
    puppet = puppet_of(walk())
    puppet.offsets[0] = torch.tensor([0, 0.9, 0])
    assert_same(read_bvh(puppet.write(tmp_path / "a.bvh", places="all", deltas=deltas)), walk())


@pytest.mark.parametrize("name", STANCES)
def test_the_rest_pose_does_not_matter(tmp_path, name):
    puppet = puppet_of(walk()).posed(stance(**STANCES[name]))
    assert not torch.allclose(puppet.offsets, puppet_of(walk()).offsets, atol=0.01)
    got = read_bvh(puppet.write(tmp_path / "a.bvh"))
    assert_close(bones(got), bones(walk()), atol=1e-4, rtol=0)
    # Our arms are not quite straight: raised by another turn, they are twisted by a hair.
    assert_same(got, walk(), atol=2e-3)


def test_limbs_point_where_theirs_point_from_any_stance(tmp_path):
    """Here the smallest turn to our T-pose is not the one that was made: twist differs."""
    rest = stance(
        left_shoulder=(20, 40, -60), right_shoulder=(-30, 10, 40), left_elbow=(30, -20, 10),
        left_hip=(-20, 15, 10), right_hip=(10, 0, -20), right_knee=(20, 10, 0),
    )  # fmt: skip
    got = read_bvh(puppet_of(walk()).posed(rest).write(tmp_path / "a.bvh"))
    assert_close(bones(got), bones(walk()), atol=1e-4, rtol=0)
    torso = list(SMPL_24.indices_of(["pelvis", "spine1", "spine2", "spine3", "neck", "head"]))
    assert_close(got.rotmats[:, torso], walk().rotmats[:, torso], atol=1e-4, rtol=0)
    # What twist is lost is part of the stance's own, at most: the arms above keep theirs.
    assert torch.rad2deg(geodesic_rad(got.rotmats, walk().rotmats)).max() < 60


def standing(motion: Motion) -> Motion:
    """The motion, with a frame in A-pose added at its end."""
    pose = rotmat_from_axis_angle(torch.zeros(24, 3))
    pose[SMPL_24.index("left_shoulder")] = rotmat_from_axis_angle(torch.tensor([0, 0, -1.0]))
    pose[SMPL_24.index("right_shoulder")] = rotmat_from_axis_angle(torch.tensor([0, 0, 1.0]))
    pose[0] = rotmat_from_axis_angle(torch.tensor([0, 0.7, 0]))
    rotmats = torch.cat([motion.rotmats, pose[None]])
    return replace(
        motion, rotmats=rotmats, trans_world_m=motion.trans_world_m[[*range(len(motion)), -1]]
    )


def crumpled() -> Tensor:
    """A rest pose in which nobody stands: legs up, arms across, the body on its side."""
    arms = {"left_shoulder": (20, 150, 0), "right_elbow": (0, 140, 0)}
    return stance(pelvis=(0, 0, 90), left_hip=(170, 0, 0), right_hip=(170, 10, 0), **arms)


@pytest.mark.parametrize("axes", [torch.eye(3).double(), Z_UP], ids=["y-up", "z-up"])
def test_a_rest_pose_that_is_no_stance_gives_way_to_a_frame(tmp_path, axes):
    motion = standing(walk())
    puppet = puppet_of(motion).posed(crumpled()).turned(axes)
    got = read_bvh(puppet.write(tmp_path / "a.bvh"))
    assert_close(bones(got), bones(motion), atol=1e-4, rtol=0)
    assert_same(got, motion, atol=2e-3)


@pytest.mark.parametrize("unit_m", [1.0, 0.01, 0.0254, 0.0564])
def test_the_unit_does_not_matter(tmp_path, unit_m):
    puppet = puppet_of(walk())
    puppet = replace(puppet, offsets=puppet.offsets / unit_m, root=puppet.root / unit_m)
    path = puppet.write(tmp_path / "a.bvh")
    assert_same(read_bvh(path), walk())
    assert_same(read_bvh(path, units_m=unit_m), walk())


def test_a_given_unit_keeps_the_performers_size(tmp_path):
    """A child's way is a child's: only without a unit is it stretched to our legs."""
    puppet = puppet_of(walk())
    child = replace(puppet, offsets=puppet.offsets * 0.6, root=puppet.root * 0.6)
    path = child.write(tmp_path / "a.bvh")
    assert_same(read_bvh(path), walk())
    got, rest = read_bvh(path, units_m=1.0), rest_joints()
    to_hips = (rest[1] + rest[2]) / 2 - rest[0]
    hips = got.trans_world_m.double() + world_turns(got.rotmats)[:, 0] @ to_hips
    assert_close(hips, child.root + 0.6 * (puppet.turns[:, 0] @ to_hips), atol=1e-4, rtol=0)


def test_z_may_be_up(tmp_path):
    path = puppet_of(walk()).turned(Z_UP).write(tmp_path / "a.bvh")
    assert_same(read_bvh(path), walk())
    assert_same(read_bvh(path, up="z"), walk())


def test_a_root_may_turn_a_z_up_skeleton(tmp_path):
    """Converters leave the skeleton as it was and put the turn into the root."""
    turn = Z_UP.expand(24, 3, 3)
    path = puppet_of(walk()).posed(turn).write(tmp_path / "a.bvh")
    assert_same(read_bvh(path), walk())


@pytest.mark.parametrize("axes", [torch.eye(3).double(), Z_UP], ids=["y-up", "z-up"])
def test_people_may_lie(tmp_path, axes):
    lay = rotmat_from_axis_angle(torch.tensor([-torch.pi / 2, 0, 0]))
    rotmats = walk().rotmats.clone()
    rotmats[:, 0] = lay @ rotmats[:, 0]
    motion = replace(walk(), rotmats=rotmats)
    path = puppet_of(motion).turned(axes).write(tmp_path / "a.bvh")
    up = "z" if axes is Z_UP else None
    assert_same(read_bvh(path, up=up), motion)


def test_rotations_are_resampled_on_their_arcs(tmp_path):
    steady = torch.zeros(5, 24, 3)
    steady[:, 0, 1] = torch.arange(5) * 1.0
    steady[:, 4, 0] = torch.arange(5) * 0.3
    trans_m = torch.arange(5.0)[:, None] * torch.tensor([0.1, 0, 0.2])
    motion = Motion(rotmat_from_axis_angle(steady), trans_m, 30.0, "", "")
    path = puppet_of(motion).write(tmp_path / "a.bvh", fps=30)
    got = read_bvh(path, fps=120.0)
    times = torch.arange(17) / 4
    expected = torch.zeros(17, 24, 3)
    expected[:, 0, 1], expected[:, 4, 0] = times, times * 0.3
    assert (got.fps, len(got)) == (120, 17)
    assert_close(got.rotmats, rotmat_from_axis_angle(expected), atol=1e-4, rtol=0)
    assert_close(got.rotmats[::4], motion.rotmats, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("rate", "fps", "frames"), [(120, 30.0, 3), (29.97, 30.0, 12), (60, 25.0, 5)]
)
def test_a_file_lasts_as_long_as_it_lasts(tmp_path, rate, fps, frames):
    got = read_bvh(puppet_of(walk()).write(tmp_path / "a.bvh", fps=rate), fps=fps)
    assert len(got) == frames
    assert_close(got.rotmats[0], walk().rotmats[0], atol=1e-4, rtol=0)


def spine_of(joints: int) -> Puppet:
    """A puppet whose spine has this many joints, which bend forward by 60 degrees in all."""
    joint_deg = {0: [], 1: [60], 2: [30, 30], 3: [20, 20, 20], 4: [15] * 4, 6: [10] * 6}[joints]
    base = puppet_of(Motion(torch.eye(3).expand(2, 24, 3, 3), torch.zeros(2, 3), 30.0, "", ""))
    keep = [j for j, name in enumerate(SMPL_24.names) if not name.startswith("spine")]
    names, parents, offsets = [base.names[0]], [-1], [base.offsets[0]]
    for k in range(joints):
        names, parents = [*names, f"Vertebra{k}"], [*parents, k]
        offsets.append(torch.tensor([0, 0.28 / joints, 0]).double())
    for j in keep[1:]:
        above = base.parents[j]
        chest = above == SMPL_24.index("spine3")
        parents.append(joints if chest else names.index(base.names[above]))
        names.append(base.names[j])
        offsets.append(rest_joints()[j] - torch.tensor([0, 0.28, 0]) if chest else base.offsets[j])
    turns = torch.eye(3).double().repeat(2, len(names), 1, 1)
    arms_and_head = {"Neck", "Head", "Shoulder", "Arm", "ForeArm", "Hand", "HandMiddle1"}
    for j, name in enumerate(names):
        upper = name.removeprefix("Left").removeprefix("Right") in arms_and_head
        bent = sum(joint_deg[:j]) if name.startswith("Vertebra") else sum(joint_deg) * upper
        turns[1, j] = rotmat_from_axis_angle(torch.tensor([bent * torch.pi / 180, 0, 0]).double())
    return Puppet(names, parents, torch.stack(offsets), turns, base.root)


@pytest.mark.parametrize("joints", [0, 1, 2, 3, 4, 6])
def test_a_bend_is_spread_over_our_spine(tmp_path, joints):
    got = read_bvh(spine_of(joints).write(tmp_path / "a.bvh"))
    spine = list(SMPL_24.indices_of(["spine1", "spine2", "spine3"]))
    each = torch.tensor([20.0 * (joints > 0), 0, 0]).deg2rad()
    expected = rotmat_from_axis_angle(each).expand(3, 3, 3)
    assert_close(got.rotmats[1, spine], expected, atol=1e-4, rtol=0)
    rest = [j for j in range(24) if j not in spine]
    eye = torch.eye(3).expand(len(rest), 3, 3)
    assert_close(got.rotmats[1, rest], eye, atol=1e-4, rtol=0)


def without(puppet: Puppet, *names: str) -> Puppet:
    """The puppet without some joints and all below them."""
    gone: set[int] = set()
    for joint, parent in enumerate(puppet.parents):
        if puppet.names[joint] in names or parent in gone:
            gone.add(joint)
    keep = [j for j in range(len(puppet.names)) if j not in gone]
    return Puppet(
        [puppet.names[j] for j in keep],
        [keep.index(puppet.parents[j]) if puppet.parents[j] >= 0 else -1 for j in keep],
        puppet.offsets[keep],
        puppet.turns[:, keep],
        puppet.root,
    )


def test_toes_fingers_and_head_may_be_missing(tmp_path):
    gone = [f"{s}{name}" for s in ("Left", "Right") for name in ("ToeBase", "HandMiddle1")]
    got = read_bvh(without(puppet_of(walk()), "Head", *gone).write(tmp_path / "a.bvh"))
    same = [n for n in SMPL_24.names if not n.endswith(("foot", "neck", "head"))]
    at = list(SMPL_24.indices_of(same))
    assert_close(got.rotmats[:, at], walk().rotmats[:, at], atol=1e-4, rtol=0)
    feet = list(SMPL_24.indices_of(["left_foot", "right_foot"]))
    eye = torch.eye(3).expand(len(got), 2, 3, 3)
    assert_close(got.rotmats[:, feet], eye, atol=1e-4, rtol=0)


def test_fingers_do_nothing(tmp_path):
    puppet = puppet_of(walk()).with_joint("LeftHandThumb1", "LeftHand")
    puppet = puppet.with_joint("RightHandMiddle2", "RightHandMiddle1")
    assert_same(read_bvh(puppet.write(tmp_path / "a.bvh")), walk())


def test_a_joint_between_two_of_ours_bends_the_limb(tmp_path):
    """The way to the knee is what counts, not the turn of the joint that is called a hip."""
    puppet = puppet_of(walk()).with_joint("LeftUpLegRoll", "LeftUpLeg")
    puppet.parents[puppet.names.index("LeftLeg")] = len(puppet.names) - 1
    puppet.turns[:, -1] = puppet.turns[:, puppet.names.index("LeftUpLeg")] @ (
        rotmat_from_axis_angle(torch.tensor([0.0, 0, 0.5]).double())
    )
    got = read_bvh(puppet.write(tmp_path / "a.bvh"))
    thigh = puppet.turns[:, -1] @ puppet.offsets[puppet.names.index("LeftLeg")]
    expected = torch.nn.functional.normalize(thigh, dim=-1)
    assert_close(bones(got, LIMBS[:1])[:, 0], expected, atol=1e-4, rtol=0)
    assert_close(bones(got, LIMBS[1:]), bones(walk(), LIMBS[1:]), atol=1e-4, rtol=0)


def test_hips_may_have_a_joint_of_their_own(tmp_path):
    """CC_Base: the hip carries the spine beside a pelvis that carries the legs."""
    puppet = puppet_of(walk(), "cc_base")
    legs = [puppet.names.index(f"CC_Base_{side}_Thigh") for side in "LR"]
    puppet = Puppet(
        [puppet.names[0], "CC_Base_Pelvis", *puppet.names[1:]],
        [-1, 0, *(1 if j in legs else p + (p > 0) for j, p in enumerate(puppet.parents) if j)],
        torch.cat([puppet.offsets[:1], torch.zeros(1, 3).double(), puppet.offsets[1:]]),
        torch.cat([puppet.turns[:, :1], puppet.turns], 1),
        puppet.root,
    )
    assert_same(read_bvh(puppet.write(tmp_path / "a.bvh")), walk())


def cmu_puppet(twist_rad: float) -> Puppet:
    """Two frames of a skeleton with CMU's names at rest; in the second the left hand is turned."""
    still = Motion(torch.eye(3).expand(2, 24, 3, 3), torch.zeros(2, 3), 30.0, "", "")
    puppet = puppet_of(still)
    names = {"Spine": "LowerBack", "Spine1": "Spine", "Spine2": "Spine1"}
    names |= {f"{s}HandMiddle1": f"{s}FingerBase" for s in ("Left", "Right")}
    puppet = replace(puppet, names=[names.get(name, name) for name in puppet.names])
    for below, name in (("Hips", "LHipJoint"), ("Neck", "Neck1")):
        puppet = puppet.with_joint(name, below)
    puppet.parents[puppet.names.index("Head")] = puppet.names.index("Neck1")
    turned = [puppet.names.index(name) for name in ("LeftHand", "LeftFingerBase")]
    for name in ("LeftFingerBase", "RightFingerBase"):  # a second joint in the same place
        puppet.offsets[puppet.names.index(name)] = 0
    puppet.turns[:] = torch.eye(3).double()
    puppet.turns[1, turned] = rotmat_from_axis_angle(torch.tensor([twist_rad, 0, 0]).double())
    return puppet


def test_forearms_of_cmu_turn_with_the_hand(tmp_path):
    got = read_bvh(cmu_puppet(1.2).write(tmp_path / "a.bvh"))
    half = rotmat_from_axis_angle(torch.tensor([0.6, 0, 0]))
    for name in ("left_elbow", "left_wrist"):
        assert_close(got.rotmats[1, SMPL_24.index(name)], half, atol=1e-3, rtol=0)
    arms = list(SMPL_24.indices_of(["right_elbow", "right_wrist", "left_shoulder", "left_hand"]))
    assert_close(got.rotmats[1, arms], torch.eye(3).expand(4, 3, 3), atol=1e-3, rtol=0)
    assert_close(bones(got)[1], bones(got)[0], atol=1e-6, rtol=0)


def test_feet_of_cmu_roll_with_its_spread_legs(tmp_path):
    straight = cmu_puppet(0)
    spread = stance(left_hip=(0, 0, 20), right_hip=(0, 0, -20))
    more = torch.eye(3).double().expand(len(straight.names) - 24, 3, 3)
    path = straight.posed(torch.cat([spread, more])).write(tmp_path / "a.bvh")
    # All but 1.5 of the 20 degrees: the feet's own pitch is about another axis then.
    assert_same(read_bvh(path), read_bvh(straight.write(tmp_path / "b.bvh")), atol=3e-2)


def test_heads_of_cmu_are_level_when_its_bones_are_not(tmp_path):
    """CMU's head bone is 15.2 degrees nose down in people who walk: at rest it looks up."""
    got = read_bvh(cmu_puppet(0).write(tmp_path / "a.bvh"))
    head = world_turns(got.rotmats)[0, SMPL_24.index("head")]
    nose = head @ torch.tensor([0, 0, 1.0]).double()
    assert torch.rad2deg(torch.asin(nose[1])) == pytest.approx(15.2, abs=0.01)


def test_joints_may_be_named(tmp_path):
    puppet = puppet_of(walk())
    odd = replace(puppet, names=[f"bone {j}" for j in range(24)])
    path = odd.write(tmp_path / "a.bvh")
    with pytest.raises(ValueError, match=r"got 'bone 0', .*no left_hip, .*, head among.*names="):
        read_bvh(path)
    names = {f"bone {j}": name for j, name in enumerate(SMPL_24.names)}
    assert_same(read_bvh(path, names=names), walk())


def test_a_given_name_goes_before_the_tables(tmp_path):
    """Left and right called by each other's names: the motion is seen in a mirror of names."""
    swapped = {
        theirs: (ours.replace("left", "right") if "left" in ours else ours.replace("right", "left"))
        for ours, theirs in CONVENTIONS["motionbuilder"].items()
        if "_" in ours
    }
    puppet = puppet_of(walk())
    flipped = {theirs: CONVENTIONS["motionbuilder"][ours] for theirs, ours in swapped.items()}
    puppet = replace(puppet, names=[flipped.get(name, name) for name in puppet.names])
    assert_same(read_bvh(puppet.write(tmp_path / "a.bvh"), names=swapped), walk())


@pytest.mark.parametrize(
    ("gone", "missing"),
    [("LeftLeg", "left_knee, left_ankle"), ("RightHand", "right_wrist"), ("Neck", "head")],
)
def test_missing_joints_are_named(tmp_path, gone, missing):
    path = without(puppet_of(walk()), gone).write(tmp_path / "a.bvh")
    with pytest.raises(
        ValueError, match=rf"a\.bvh: joints: got 'Hips'.*no {missing} among.*names="
    ):
        read_bvh(path)


def edited(old: str, new: str):
    return lambda text: text.replace(old, new, 1)


def last_line(change):
    def edit(text: str) -> str:
        *lines, last = text.splitlines()
        return "\n".join([*lines, change(last)])

    return edit


DAMAGES = {
    "no BVH": (lambda _: "hello", r"line 1: got b'hello'; expected the word HIERARCHY"),
    "binary": (lambda text: text + "\0\1", "no BVH text file"),
    "empty": (lambda _: "", r"line 1: got b''"),
    "cut in the joints": (lambda text: text[:300], "got no MOTION in .* copy or export it again"),
    "a brace missing": (edited("}\nMOTION", "MOTION"), r"line \d+: got the end of the joints; exp"),
    "a brace too many": (edited("MOTION", "}\nMOTION"), r"line \d+: got '}'; expected ROOT"),
    "two people": (edited("MOTION", "ROOT b\n{\nMOTION"), "got a second ROOT; expected one person"),
    "an odd word": (edited("CHANNELS 3", "CANNELS 3"), r"line 9: got 'CANNELS'; expected JOINT"),
    "an odd channel": (edited("Zrotation", "Wrotation"), "line 5: got channel 'wrotation'"),
    "odd channel count": (edited("CHANNELS 6", "CHANNELS x"), "line 5: got 'x' channels"),
    "channels lost": (edited("CHANNELS 6", "CHANNELS 3"), "line 5: got 'Zrotation'; expected"),
    "an odd offset": (edited("OFFSET 0", "OFFSET a"), r"line 4: got 'a.0+'; expected a finite"),
    "no offset": (edited("OFFSET 0.00000000 0.00000000 0.00000000\n", ""), "got no OFFSET of Hips"),
    "a NaN offset": (edited("OFFSET 0.00000000", "OFFSET nan"), "line 4: got 'nan'; expected a f"),
    "no frames": (
        edited("Frames: 12", "Frames: 0"),
        r"line \d+: got 'Frames: 0'; expected 'Frames",
    ),
    "no motion": (
        lambda text: text[: text.index("Frames")],
        "got ''; expected 'Frames:' and a pos",
    ),
    "no rate": (
        edited("Frame Time: 0.0333333", "Frame Time: 0"),
        "expected 'Frame Time:' and a po",
    ),
    "fewer frames": (edited("Frames: 12", "Frames: 13"), "got 12 lines of frames; expected 13"),
    "more frames": (edited("Frames: 12", "Frames: 11"), "got 12 lines of frames; expected 11"),
    "cut in a frame": (last_line(lambda s: s[:200]), r"line \d+: got \d+ numbers; expected 75"),
    "NaN": (
        last_line(lambda s: "nan" + s[s.index(" ") :]),
        r"line \d+: got 'nan'; expected a fini",
    ),
    "a word": (
        last_line(lambda s: "one" + s[s.index(" ") :]),
        r"line \d+: got 'one'; expected a fi",
    ),
    "twice": (
        edited("JOINT Spine\n", "JOINT Head\n"),
        "got 'Head' and 'Head' for head; expected one",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named(tmp_path, name):
    damage, message = DAMAGES[name]
    path = puppet_of(walk()).write(tmp_path / "a.bvh")
    text = path.read_text()
    assert damage(text) != text
    path.write_text(damage(text))
    with pytest.raises(ValueError, match=rf"a\.bvh: .*{message}"):
        read_bvh(path)


def test_the_line_of_damage_is_the_line_in_the_file(tmp_path):
    path = puppet_of(walk()).write(tmp_path / "a.bvh")
    lines = path.read_text().splitlines()
    lines[-3] += " 1"
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=f"line {len(lines) - 2}: got 76 numbers; expected 75"):
        read_bvh(path)


def test_layout_does_not_matter(tmp_path):
    """Windows line ends, tabs, a byte order mark, braces on the same line, blank lines."""
    path = puppet_of(walk()).write(tmp_path / "a.bvh")
    text = path.read_text().replace("\n{", " {").replace("OFFSET ", "\tOFFSET\t")
    text = text.replace("Frames: ", "Frames:\t").replace("MOTION\n", "MOTION\n\n")
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode() + b"\r\n \r\n")
    assert_same(read_bvh(path), walk())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fps": 0.0}, "fps: got 0"),
        ({"units_m": 0.01}, r"units_m: got 0\.01, .*legs of 0\.008.* m; .*or try 1"),
        ({"units_m": -1.0}, "units_m: got -1"),
        ({"names": {"Hip": "pelvis"}}, "names: got 'Hip'; expected a joint of the file: 'Hips', "),
        ({"names": {"Hips": "hip"}}, "names: got 'hip' for 'Hips'; expected one of pelvis, left_"),
        ({"names": {"Hips": "head", "Neck": "head"}}, "names: got 'head' twice"),
        ({"names": {"Hips": "left_hip", "LeftUpLeg": "left_knee"}}, "got no length|rest pose"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, options, message):
    path = puppet_of(walk()).write(tmp_path / "a.bvh")
    with pytest.raises(ValueError, match=message):
        read_bvh(path, **options)


def test_a_file_without_any_stance_is_refused(tmp_path):
    seated = replace(walk(), rotmats=walk().rotmats.clone())
    thighs = list(SMPL_24.indices_of(["left_hip", "right_hip"]))
    seated.rotmats[:, thighs] = rotmat_from_axis_angle(torch.tensor([-1.5, 0, 0]))
    path = puppet_of(seated).posed(crumpled()).write(tmp_path / "a.bvh")
    with pytest.raises(ValueError, match="rest pose: got one in which nobody stands, and no frame"):
        read_bvh(path)


def test_a_folder_is_read_in_order(tmp_path):
    for name in ("b/run_2.bvh", "a.BVH", "b/run_1.bvh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        puppet_of(walk()).write(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no motion")
    motions = load_bvh_folder(tmp_path)
    assert [m.name for m in motions] == ["a", "b/run_1", "b/run_2"]
    assert [m.action for m in motions] == ["a", "run", "run"]
    assert_same(motions[2], walk())


def test_a_folder_without_motion_says_what_is_there(tmp_path):
    with pytest.raises(ValueError, match=r"got 0 files \(none\), none of them \.bvh"):
        load_bvh_folder(tmp_path)
    (tmp_path / "a.fbx").write_text("")
    with pytest.raises(ValueError, match=r"got 1 files \(a\.fbx\), none of them \.bvh; expected"):
        load_bvh_folder(tmp_path)
    with pytest.raises(ValueError, match="got no folder"):
        load_bvh_folder(tmp_path / "none")
    with pytest.raises(ValueError, match=r"none\.bvh: got No such file"):
        read_bvh(tmp_path / "none.bvh")
