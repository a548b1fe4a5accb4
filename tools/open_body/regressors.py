"""Joint regressors: few non-negative vertex weights per joint, sum one, mirror symmetric."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import nnls

from .poses import pose_features, random_poses
from .shape_space import ShapeSpace
from .skeleton import JOINT_NAMES, MIRROR_JOINT, global_rotations, joint_id
from .skinning import linear_skinning, motion_about_joints

_TRUNK = frozenset(
    joint_id(n) for n in ("pelvis", "spine1", "spine2", "spine3", "neck", "l_hip", "l_collar")
)
"""Joints (of one side) whose candidates lie farther away, the body being thick there."""
_SUM_WEIGHT_M = 30.0
"""Weight of the equation "the weights sum to one" against those of the coordinates."""
_NEGLIGIBLE_WEIGHT = 1e-4


@dataclass(frozen=True)
class RegressorFit:
    """How the vertex weights of each joint are sought."""

    reach_m: float
    """Candidates lie within this distance of their joint on the mean body."""
    trunk_reach_m: float
    """The same for joints of the trunk."""
    max_candidates: int
    """A seeded choice of so many is made where more are within reach."""
    ridge_m2: float
    """Penalty on squared weights."""
    max_vertices: int = 40
    """The strongest so many are fitted again alone; the mirror may double them on the midline."""


REST_FIT = RegressorFit(reach_m=0.2, trunk_reach_m=0.3, max_candidates=800, ridge_m2=1e-4)
POSED_FIT = RegressorFit(reach_m=0.15, trunk_reach_m=0.25, max_candidates=700, ridge_m2=1e-5)


def fit_rest_regressor(
    verts_m: Float[np.ndarray, "n v 3"],
    joints_m: Float[np.ndarray, "n 24 3"],
    mirror: Int[np.ndarray, "v"],
) -> Float[np.ndarray, "24 v"]:
    """Vertex weights which give the joints of T-posed bodies."""
    mean_verts_m, mean_joints_m = verts_m.mean(0), joints_m.mean(0)

    def fit_joint(joint: int) -> Float[np.ndarray, "v"]:
        centre_m = mean_joints_m[joint]
        near = _candidates(mean_verts_m, centre_m, joint, mirror, REST_FIT)
        offsets_m = verts_m[:, near] - centre_m
        target_m = joints_m[:, joint] - centre_m
        return _sparse_weights(offsets_m, target_m, near, len(mirror), REST_FIT)

    return _regressor(fit_joint, mirror)


@dataclass(frozen=True, eq=False)
class PosedSample:
    """Bodies of random shape and pose."""

    verts_m: Float[np.ndarray, "n v 3"]
    """Posed vertices."""
    joints_m: Float[np.ndarray, "n 24 3"]
    """Posed joints of the kinematic chain."""
    mean_verts_m: Float[np.ndarray, "v 3"]
    """The mean body in T-pose."""
    mean_joints_m: Float[np.ndarray, "24 3"]
    """Its joints."""


def sample_posed_bodies(
    space: ShapeSpace,
    rest_regressor: Float[np.ndarray, "24 v"],
    posedirs_m: Float[np.ndarray, "207 v 3"],
    weights: Float[np.ndarray, "v 24"],
    rng: np.random.Generator,
    count: int = 300,
) -> PosedSample:
    """Bodies of the finished model with normal betas in random poses."""
    betas = rng.standard_normal((count, space.directions_m.shape[-1]))
    rest_m = space.mean_m + np.einsum("vck,nk->nvc", space.directions_m, betas)
    rest_m[0] = space.mean_m
    joints_m = np.einsum("jv,nvc->njc", rest_regressor, rest_m)
    local = random_poses(count, rng)
    offsets_m = pose_features(local) @ posedirs_m.reshape(len(posedirs_m), -1)
    motion = motion_about_joints(joints_m, global_rotations(local))
    return PosedSample(
        verts_m=linear_skinning(rest_m + offsets_m.reshape(rest_m.shape), motion, weights),
        joints_m=motion.joints_to_m,
        mean_verts_m=space.mean_m,
        mean_joints_m=joints_m[0],
    )


def fit_posed_regressor(
    sample: PosedSample, mirror: Int[np.ndarray, "v"]
) -> Float[np.ndarray, "24 v"]:
    """Vertex weights which give the chain's joints from posed vertices alone."""

    def fit_joint(joint: int) -> Float[np.ndarray, "v"]:
        centre_m = sample.mean_joints_m[joint]
        near = _candidates(sample.mean_verts_m, centre_m, joint, mirror, POSED_FIT)
        offsets_m = sample.verts_m[:, near] - sample.joints_m[:, joint, None]
        target_m = np.zeros((len(offsets_m), 3))
        return _sparse_weights(offsets_m, target_m, near, len(mirror), POSED_FIT)

    return _regressor(fit_joint, mirror)


def regression_error_m(
    regressor: Float[np.ndarray, "24 v"],
    verts_m: Float[np.ndarray, "n v 3"],
    joints_m: Float[np.ndarray, "n 24 3"],
) -> Float[np.ndarray, "n 24"]:
    """Distance of the regressed joints from ``joints_m``."""
    regressed_m = np.einsum("jv,nvc->njc", regressor, verts_m)
    return np.linalg.norm(regressed_m - joints_m, axis=-1)


def _regressor(
    fit_joint: Callable[[int], np.ndarray], mirror: Int[np.ndarray, "v"]
) -> Float[np.ndarray, "24 v"]:
    """Fit one joint of each pair and mirror it; make midline joints symmetric."""
    regressor = np.zeros((len(JOINT_NAMES), len(mirror)))
    for joint, partner in enumerate(MIRROR_JOINT):
        if partner < joint:
            regressor[joint] = regressor[partner][mirror]
            continue
        regressor[joint] = fit_joint(joint)
        if partner == joint:
            regressor[joint] = 0.5 * (regressor[joint] + regressor[joint][mirror])
    return regressor


def _candidates(
    mean_verts_m: Float[np.ndarray, "v 3"],
    centre_m: Float[np.ndarray, "3"],
    joint: int,
    mirror: Int[np.ndarray, "v"],
    fit: RegressorFit,
) -> Int[np.ndarray, "c"]:
    """Vertices near the joint; with their partners where the joint is on the midline."""
    reach_m = fit.trunk_reach_m if joint in _TRUNK else fit.reach_m
    near = np.flatnonzero(np.linalg.norm(mean_verts_m - centre_m, axis=1) < reach_m)
    if len(near) > fit.max_candidates:
        near = np.random.default_rng(joint).choice(near, fit.max_candidates, replace=False)
    if MIRROR_JOINT[joint] == joint:
        near = np.unique(np.r_[near, mirror[near]])
    return near


def _sparse_weights(
    offsets_m: Float[np.ndarray, "n c 3"],
    target_m: Float[np.ndarray, "n 3"],
    candidates: Int[np.ndarray, "c"],
    vertex_count: int,
    fit: RegressorFit,
) -> Float[np.ndarray, "v"]:
    """Weights over all vertices: fit the candidates, then the strongest of them alone."""
    weights = _non_negative_weights(offsets_m, target_m, fit.ridge_m2)
    if (weights > _NEGLIGIBLE_WEIGHT).sum() > fit.max_vertices:
        strongest = np.argsort(-weights)[: fit.max_vertices]
        candidates = candidates[strongest]
        weights = _non_negative_weights(offsets_m[:, strongest], target_m, fit.ridge_m2)
    spread = np.zeros(vertex_count)
    spread[candidates] = weights / weights.sum()
    return spread


def _non_negative_weights(
    offsets_m: Float[np.ndarray, "n c 3"], target_m: Float[np.ndarray, "n 3"], ridge_m2: float
) -> Float[np.ndarray, "c"]:
    """Ridge regression of the target on the offsets, weights >= 0 with a sum near one.

    The normal equations are factored first: `nnls` then sees a square system.
    """
    count = offsets_m.shape[1]
    sum_row = np.full((1, count), _SUM_WEIGHT_M)
    equations = np.concatenate([offsets_m.transpose(0, 2, 1).reshape(-1, count), sum_row])
    values = np.r_[target_m.ravel(), _SUM_WEIGHT_M]
    equations = equations.astype(float)
    factor = np.linalg.cholesky(equations.T @ equations + ridge_m2 * np.eye(count))
    right = np.linalg.solve(factor, equations.T @ values)
    return nnls(factor.T, right, maxiter=50 * count)[0]
