"""Skinning with 24 rigid parts: linear, its exact inverse, and dual quaternions."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from .skeleton import PARENTS, forward_kinematics


@dataclass(frozen=True, eq=False)
class PartMotion:
    """Rigid motions of the parts: ``x -> rotation (x - joint_from) + joint_to``."""

    rotations: Float[np.ndarray, "n 24 3 3"]
    """Global rotations."""
    joints_from_m: Float[np.ndarray, "n 24 3"]
    """Joints before the motion."""
    joints_to_m: Float[np.ndarray, "n 24 3"]
    """Joints after the motion."""

    def translations_m(self) -> Float[np.ndarray, "n 24 3"]:
        """Where the motions carry the origin."""
        return self.joints_to_m - np.einsum("njab,njb->nja", self.rotations, self.joints_from_m)

    def reversed(self) -> "PartMotion":
        """The motions back."""
        return PartMotion(np.swapaxes(self.rotations, 2, 3), self.joints_to_m, self.joints_from_m)


def motion_about_joints(
    joints_m: Float[np.ndarray, "n 24 3"], rotations: Float[np.ndarray, "n 24 3 3"]
) -> PartMotion:
    """The motion of a skeleton whose parts turn by global ``rotations``, pelvis in place."""
    return PartMotion(rotations, joints_m, forward_kinematics(joints_m, rotations))


def linear_skinning(
    verts_m: Float[np.ndarray, "n v 3"],
    motion: PartMotion,
    weights: Float[np.ndarray, "v 24"],
) -> Float[np.ndarray, "n v 3"]:
    """Vertices moved by the weighted mean of their parts' motions."""
    moved = np.einsum("nvab,nvb->nva", _blended_rotations(motion, weights), verts_m)
    return moved + weights @ motion.translations_m()


def linear_unskinning(
    moved_m: Float[np.ndarray, "n v 3"],
    motion: PartMotion,
    weights: Float[np.ndarray, "v 24"],
) -> Float[np.ndarray, "n v 3"]:
    """The vertices which `linear_skinning` with the same motion carries to ``moved_m``.

    Raises:
        numpy.linalg.LinAlgError: a vertex whose blended motion is singular.
    """
    centred = moved_m - weights @ motion.translations_m()
    return np.linalg.solve(_blended_rotations(motion, weights), centred[..., None])[..., 0]


def _blended_rotations(
    motion: PartMotion, weights: Float[np.ndarray, "v 24"]
) -> Float[np.ndarray, "n v 3 3"]:
    bodies, parts = motion.rotations.shape[:2]
    blended = weights @ motion.rotations.reshape(bodies, parts, 9)
    return blended.reshape(bodies, len(weights), 3, 3)


def dual_quaternion_skinning(
    verts_m: Float[np.ndarray, "n v 3"],
    motion: PartMotion,
    weights: Float[np.ndarray, "v 24"],
) -> Float[np.ndarray, "n v 3"]:
    """Vertices moved by blended dual quaternions (Kavan et al. 2008): keeps volume at joints."""
    real, dual = _dual_quaternions(motion)
    real, dual = weights @ real, weights @ dual
    length = np.linalg.norm(real, axis=-1, keepdims=True)
    real, dual = real / length, dual / length
    scalar, vector = real[..., :1], real[..., 1:]
    turned = verts_m + 2 * np.cross(vector, np.cross(vector, verts_m) + scalar * verts_m)
    shift = scalar * dual[..., 1:] - dual[..., :1] * vector + np.cross(vector, dual[..., 1:])
    return turned + 2 * shift


def _dual_quaternions(
    motion: PartMotion,
) -> tuple[Float[np.ndarray, "n 24 4"], Float[np.ndarray, "n 24 4"]]:
    """Real and dual quaternions (w, x, y, z) of the parts, each in its parent's hemisphere."""
    flat = Rotation.from_matrix(motion.rotations.reshape(-1, 3, 3))
    real = flat.as_quat(scalar_first=True).reshape(*motion.rotations.shape[:2], 4)
    for joint in range(1, len(PARENTS)):
        opposite = (real[:, joint] * real[:, PARENTS[joint]]).sum(-1) < 0
        real[opposite, joint] *= -1
    translations_m = motion.translations_m()
    pure = np.concatenate([np.zeros_like(translations_m[..., :1]), translations_m], -1)
    return real, 0.5 * _quaternion_product(pure, real)


def _quaternion_product(
    left: Float[np.ndarray, "*b 4"], right: Float[np.ndarray, "*b 4"]
) -> Float[np.ndarray, "*b 4"]:
    """Hamilton product of quaternions (w, x, y, z)."""
    left_w, left_xyz = left[..., :1], left[..., 1:]
    right_w, right_xyz = right[..., :1], right[..., 1:]
    scalar = left_w * right_w - (left_xyz * right_xyz).sum(-1, keepdims=True)
    vector = left_w * right_xyz + right_w * left_xyz + np.cross(left_xyz, right_xyz)
    return np.concatenate([scalar, vector], -1)
