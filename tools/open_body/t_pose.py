"""From anny's A-pose to the T-pose: arms along +-x, palms down, legs nearly straight."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from .bodies import BodyMaker, Phenotypes, batches
from .geometry import frame_from_axis_and_normal, shortest_rotation, symmetrised
from .skeleton import JOINT_NAMES, MIRROR_JOINT, joint_id, joints_from_bone_heads
from .skinning import PartMotion, linear_unskinning, motion_about_joints

THIGH_OUTWARD_DEG = 3.0
"""Angle of the thighs from the vertical in T-pose; the shanks have half of it."""
_BATCH = 50
_UP = np.array([0.0, 1.0, 0.0])
_FRONT = np.array([0.0, 0.0, 1.0])


def t_posed(
    maker: BodyMaker, people: Phenotypes, weights: Float[np.ndarray, "v 24"]
) -> tuple[Float[np.ndarray, "n v 3"], Float[np.ndarray, "n 24 3"]]:
    """Vertices (float32) and joints in T-pose: metres, pelvis at the origin, mirror symmetric.

    The vertices are those which linear skinning carries back to anny's A-pose exactly.
    """
    verts_t_m = np.empty((len(people), len(maker.skin.base_ids), 3), np.float32)
    joints_t_m = np.empty((len(people), len(JOINT_NAMES), 3))
    for rows in batches(len(people), _BATCH):
        verts_a_m, heads_m = maker.make(people.rows(rows))
        motion = motion_to_t_pose(heads_m, maker.bone_names)
        verts_m = linear_unskinning(verts_a_m.astype(float), motion.reversed(), weights)
        pelvis_m = motion.joints_to_m[:, :1]
        verts_t_m[rows] = symmetrised(verts_m - pelvis_m, maker.skin.mirror)
        joints_t_m[rows] = motion.joints_to_m - pelvis_m
    return verts_t_m, symmetrised(joints_t_m, MIRROR_JOINT)


def motion_to_t_pose(
    bone_heads_m: Float[np.ndarray, "n b 3"], bone_names: Sequence[str]
) -> PartMotion:
    """Each body's own motion of the parts from anny's A-pose to the T-pose."""
    joints_m = joints_from_bone_heads(bone_heads_m, bone_names)
    return motion_about_joints(joints_m, t_pose_rotations(joints_m, bone_heads_m, bone_names))


def t_pose_rotations(
    joints_m: Float[np.ndarray, "n 24 3"],
    bone_heads_m: Float[np.ndarray, "n b 3"],
    bone_names: Sequence[str],
) -> Float[np.ndarray, "n 24 3 3"]:
    """Global rotations of the parts; torso, collars, head and feet keep anny's orientation."""
    rotations = np.broadcast_to(np.eye(3), (*joints_m.shape[:2], 3, 3)).copy()
    for side, suffix, sign in (("l_", ".L", 1.0), ("r_", ".R", -1.0)):
        index, little = (
            bone_heads_m[:, bone_names.index(f"finger{finger}-1{suffix}")] for finger in (2, 5)
        )
        _turn_arm(rotations, joints_m, index - little, side, sign)
        _turn_leg(rotations, joints_m, side, sign)
    return rotations


def _turn_arm(
    rotations: Float[np.ndarray, "n 24 3 3"],
    joints_m: Float[np.ndarray, "n 24 3"],
    knuckles_m: Float[np.ndarray, "n 3"],
    side: str,
    sign: float,
) -> None:
    """Write the arm's rotations: straight, the elbow's hinge vertical, the palm down.

    ``knuckles_m`` points from the little finger's knuckle to the index finger's. Half of the
    hand's twist against the elbow goes to the forearm.
    """
    shoulder, elbow, wrist, hand = (
        joint_id(side + n) for n in ("shoulder", "elbow", "wrist", "hand")
    )
    upper_arm_m = joints_m[:, elbow] - joints_m[:, shoulder]
    forearm_m = joints_m[:, wrist] - joints_m[:, elbow]
    palm_m = joints_m[:, hand] - joints_m[:, wrist]
    hinge = np.cross(upper_arm_m, forearm_m)
    outward = np.array([sign, 0, 0])
    hinge_frame = frame_from_axis_and_normal(outward, -sign * _UP)
    palm_frame = frame_from_axis_and_normal(outward, _FRONT)

    def turn(axis: np.ndarray, normal: np.ndarray, target: np.ndarray) -> np.ndarray:
        return target @ np.swapaxes(frame_from_axis_and_normal(axis, normal), 1, 2)

    forearm_turn = turn(forearm_m, hinge, hinge_frame)
    palm_turn = turn(palm_m, knuckles_m, palm_frame)
    twist = palm_turn @ np.swapaxes(forearm_turn, 1, 2)
    twist_rad = np.arctan2(twist[:, 2, 1] - twist[:, 1, 2], twist[:, 1, 1] + twist[:, 2, 2])
    half_twist = Rotation.from_rotvec(0.5 * twist_rad[:, None] * [1.0, 0, 0]).as_matrix()

    rotations[:, shoulder] = turn(upper_arm_m, hinge, hinge_frame)
    rotations[:, elbow] = half_twist @ forearm_turn
    rotations[:, wrist] = rotations[:, hand] = palm_turn


def _turn_leg(
    rotations: Float[np.ndarray, "n 24 3 3"],
    joints_m: Float[np.ndarray, "n 24 3"],
    side: str,
    sign: float,
) -> None:
    """Write the leg's rotations: down, a little outwards; the foot keeps its orientation."""
    hip, knee, ankle = (joint_id(side + name) for name in ("hip", "knee", "ankle"))
    for start, end, outward_deg in (
        (hip, knee, THIGH_OUTWARD_DEG),
        (knee, ankle, THIGH_OUTWARD_DEG / 2),
    ):
        angle_rad = np.radians(outward_deg)
        direction = np.array([sign * np.sin(angle_rad), -np.cos(angle_rad), 0])
        rotations[:, start] = shortest_rotation(joints_m[:, end] - joints_m[:, start], direction)
