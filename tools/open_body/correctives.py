"""Pose blend shapes: what linear skinning of the T-posed body lacks against the wanted poses."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int16

from .bodies import BodyMaker, Phenotypes, batches
from .decimate import Decimation
from .geometry import MIRROR_X, mirrored_rotations, symmetrised
from .poses import pose_features, random_poses
from .skeleton import MIRROR_JOINT, global_rotations
from .skinning import (
    PartMotion,
    dual_quaternion_skinning,
    linear_skinning,
    linear_unskinning,
    motion_about_joints,
)
from .t_pose import motion_to_t_pose

FEATURES = 207
DUAL_QUATERNION_SHARE = 0.5
"""The wanted pose lies so far from linear towards dual quaternion skinning of anny's A-pose."""
STEP_M = 1e-4
"""Resolution of the stored offsets."""
_NEGLIGIBLE_M = 5e-4
_RIDGE = 1.0
_BATCH = 50


@dataclass(frozen=True, eq=False)
class PoseBlendShapes:
    """Offsets in T-pose, in whole steps of `STEP_M`."""

    steps: Int16[np.ndarray, "207 v 3"]
    """Steps added for one unit of each pose feature."""

    def metres(self) -> Float[np.ndarray, "207 v 3"]:
        """The offsets in metres."""
        return self.steps * STEP_M


def fit_pose_blend_shapes(
    maker: BodyMaker,
    people: Phenotypes,
    fine_weights: Float[np.ndarray, "v 24"],
    decimation: Decimation,
    coarse_weights: Float[np.ndarray, "c 24"],
    rng: np.random.Generator,
    count: int = 2000,
) -> PoseBlendShapes:
    """Ridge regression of the offsets on pose features, over random people in random poses.

    Each sample counts with its mirror image, so the blend shapes are symmetric.
    """
    local = random_poses(count, rng, at_rest=count // 30)
    chosen = people.rows(rng.integers(0, len(people), count))
    normal_matrix = np.zeros((FEATURES, FEATURES))
    right_side = np.zeros((FEATURES, 3 * len(coarse_weights)))
    for rows in batches(count, _BATCH):
        offsets_m = _missing_offsets_m(
            maker, chosen.rows(rows), local[rows], fine_weights, decimation, coarse_weights
        )
        for features, wanted_m in (
            (pose_features(local[rows]), offsets_m),
            (
                pose_features(mirrored_rotations(local[rows], MIRROR_JOINT)),
                offsets_m[:, decimation.mirror] * MIRROR_X,
            ),
        ):
            normal_matrix += features.T @ features
            right_side += features.T @ wanted_m.reshape(len(wanted_m), -1)
    fitted_m = np.linalg.solve(normal_matrix + _RIDGE * np.eye(FEATURES), right_side)
    fitted_m = fitted_m.reshape(FEATURES, -1, 3)
    fitted_m[np.abs(fitted_m).max(-1) < _NEGLIGIBLE_M] = 0
    return PoseBlendShapes(np.round(fitted_m / STEP_M).astype(np.int16))


def _missing_offsets_m(
    maker: BodyMaker,
    people: Phenotypes,
    local: Float[np.ndarray, "n 24 3 3"],
    fine_weights: Float[np.ndarray, "v 24"],
    decimation: Decimation,
    coarse_weights: Float[np.ndarray, "c 24"],
) -> Float[np.ndarray, "n c 3"]:
    """T-pose offsets with which linear skinning of the coarse mesh gives the wanted poses."""
    verts_a_m, heads_m = maker.make(people)
    verts_a_m = symmetrised(verts_a_m.astype(float), maker.skin.mirror)
    to_t = motion_to_t_pose(heads_m, maker.bone_names)
    to_pose = motion_about_joints(to_t.joints_to_m, global_rotations(local))
    a_to_pose = PartMotion(
        rotations=to_pose.rotations @ to_t.rotations,
        joints_from_m=to_t.joints_from_m,
        joints_to_m=to_pose.joints_to_m,
    )
    linear_m = linear_skinning(verts_a_m, a_to_pose, fine_weights)
    dual_m = dual_quaternion_skinning(verts_a_m, a_to_pose, fine_weights)
    share = DUAL_QUATERNION_SHARE
    wanted_m = _coarse(decimation, (1 - share) * linear_m + share * dual_m)
    rest_m = _coarse(decimation, linear_unskinning(verts_a_m, to_t.reversed(), fine_weights))
    return linear_unskinning(wanted_m, to_pose, coarse_weights) - rest_m


def _coarse(
    decimation: Decimation, verts_m: Float[np.ndarray, "n v 3"]
) -> Float[np.ndarray, "n c 3"]:
    return np.stack([decimation.apply(body_m) for body_m in verts_m])
