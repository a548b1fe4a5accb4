"""The 24 joints in SMPL's order: names, tree, mirror, and their place in anny's rig."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from .geometry import symmetrised

JOINT_NAMES = (
    "pelvis",
    "l_hip",
    "r_hip",
    "spine1",
    "l_knee",
    "r_knee",
    "spine2",
    "l_ankle",
    "r_ankle",
    "spine3",
    "l_foot",
    "r_foot",
    "neck",
    "l_collar",
    "r_collar",
    "head",
    "l_shoulder",
    "r_shoulder",
    "l_elbow",
    "r_elbow",
    "l_wrist",
    "r_wrist",
    "l_hand",
    "r_hand",
)
PARENTS = np.array(
    [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21]
)
"""The parent of each joint; the pelvis has none (-1). Parents come before their children."""

_BONE_PREFIXES = (
    ("root", "pelvis"),
    ("pelvis", "pelvis"),
    ("spine05", "pelvis"),
    ("spine04", "pelvis"),
    ("spine03", "spine1"),
    ("spine02", "spine2"),
    ("spine01", "spine3"),
    ("breast", "spine3"),
    ("upperleg", "hip"),
    ("lowerleg", "knee"),
    ("foot", "ankle"),
    ("toe", "foot"),
    ("clavicle", "collar"),
    ("shoulder01", "collar"),
    ("upperarm", "shoulder"),
    ("lowerarm", "elbow"),
    ("wrist", "wrist"),
    ("metacarpal", "wrist"),
    ("finger1", "wrist"),
    ("finger", "hand"),
    ("neck", "neck"),
)
"""The first prefix that fits an anny bone names its part; the bones left over are the head's."""

_MIDLINE_HEADS = {
    "pelvis": "spine04",
    "spine1": "spine03",
    "spine2": "spine02",
    "spine3": "spine01",
    "neck": "neck01",
    "head": "head",
}
_SIDE_HEADS = {
    "hip": ("upperleg01",),
    "knee": ("lowerleg01",),
    "ankle": ("foot",),
    "foot": ("toe1-1", "toe2-1", "toe3-1"),
    "collar": ("clavicle",),
    "shoulder": ("upperarm01",),
    "elbow": ("lowerarm01",),
    "wrist": ("wrist",),
    "hand": ("finger2-1", "finger3-1", "finger4-1", "finger5-1"),
}
"""Each joint lies at the head of these anny bones, or at the mean of their heads."""


def joint_id(name: str) -> int:
    """The index of a joint by name."""
    return JOINT_NAMES.index(name)


def _mirrored_name(name: str) -> str:
    swap = {"l_": "r_", "r_": "l_"}
    return swap[name[:2]] + name[2:] if name[:2] in swap else name


MIRROR_JOINT = np.array([joint_id(_mirrored_name(name)) for name in JOINT_NAMES])
"""The joint on the other side; midline joints are their own partners."""


def part_of_bone(bone_name: str) -> int:
    """The joint whose part an anny bone moves with; sided bones end in ``.L`` or ``.R``."""
    side = {".L": "l_", ".R": "r_"}.get(bone_name[-2:], "")
    for prefix, part in _BONE_PREFIXES:
        if bone_name.startswith(prefix):
            return joint_id(part if part in JOINT_NAMES else side + part)
    return joint_id("head")


def joints_from_bone_heads(
    bone_heads_m: Float[np.ndarray, "n b 3"], bone_names: Sequence[str]
) -> Float[np.ndarray, "n 24 3"]:
    """The 24 joints at the heads of anny's bones, made mirror symmetric."""

    def mean_head(names: Sequence[str]) -> np.ndarray:
        return np.mean([bone_heads_m[:, bone_names.index(name)] for name in names], 0)

    joints_m = np.empty((len(bone_heads_m), len(JOINT_NAMES), 3))
    for joint, bone in _MIDLINE_HEADS.items():
        joints_m[:, joint_id(joint)] = mean_head([bone])
    for side, suffix in (("l_", ".L"), ("r_", ".R")):
        for joint, bones in _SIDE_HEADS.items():
            joints_m[:, joint_id(side + joint)] = mean_head([bone + suffix for bone in bones])
    return symmetrised(joints_m, MIRROR_JOINT)


def dense_bone_weights(
    weights: Float[np.ndarray, "v i"], bones: Int[np.ndarray, "v i"], bone_count: int
) -> Float[np.ndarray, "v b"]:
    """Sparse (weight, bone) pairs of each vertex as one row over all bones."""
    dense = np.zeros((len(weights), bone_count))
    for column in range(weights.shape[1]):
        np.add.at(dense, (np.arange(len(weights)), bones[:, column]), weights[:, column])
    return dense


def part_weights(
    bone_weights: Float[np.ndarray, "v b"],
    bone_names: Sequence[str],
    mirror: Int[np.ndarray, "v"],
) -> Float[np.ndarray, "v 24"]:
    """Skinning weights of the 24 parts: sums over anny's bones, symmetric, without crumbs."""
    weights = np.zeros((len(bone_weights), len(JOINT_NAMES)))
    for bone, name in enumerate(bone_names):
        weights[:, part_of_bone(name)] += bone_weights[:, bone]
    weights = symmetric_over_parts(weights, mirror)
    weights[weights < 1e-3] = 0
    return weights / weights.sum(1, keepdims=True)


def strongest_weights(
    weights: Float[np.ndarray, "v 24"], mirror: Int[np.ndarray, "v"], influences: int
) -> Float[np.ndarray, "v 24"]:
    """Only the ``influences`` largest weights of each vertex, normalised and symmetric."""
    strongest = np.argsort(-weights, 1)[:, :influences]
    kept = np.zeros_like(weights)
    np.put_along_axis(kept, strongest, np.take_along_axis(weights, strongest, 1), 1)
    return symmetric_over_parts(kept / kept.sum(1, keepdims=True), mirror)


def symmetric_over_parts(
    values: Float[np.ndarray, "v 24"], mirror: Int[np.ndarray, "v"]
) -> Float[np.ndarray, "v 24"]:
    """The mean with the mirror image: vertices and parts swap sides."""
    return 0.5 * (values + values[mirror][:, MIRROR_JOINT])


def forward_kinematics(
    joints_m: Float[np.ndarray, "n 24 3"], rotations: Float[np.ndarray, "n 24 3 3"]
) -> Float[np.ndarray, "n 24 3"]:
    """Joints after the parts turned by ``rotations`` (global); the pelvis stays in place."""
    posed_m = joints_m.copy()
    for joint in range(1, len(JOINT_NAMES)):
        parent = PARENTS[joint]
        bone_m = np.einsum(
            "nij,nj->ni", rotations[:, parent], joints_m[:, joint] - joints_m[:, parent]
        )
        posed_m[:, joint] = posed_m[:, parent] + bone_m
    return posed_m


def global_rotations(local: Float[np.ndarray, "n 24 3 3"]) -> Float[np.ndarray, "n 24 3 3"]:
    """Rotations relative to the parent, chained from the pelvis down."""
    chained = local.copy()
    for joint in range(1, len(JOINT_NAMES)):
        chained[:, joint] = chained[:, PARENTS[joint]] @ local[:, joint]
    return chained
