"""Small geometry shared by the steps: unit vectors, the mirror x -> -x, rotations from axes."""

import numpy as np
from jaxtyping import Float, Int

_TINY = 1e-20
MIRROR_X = np.array([-1.0, 1.0, 1.0])
"""The body's mirror: its left is +x, its right -x."""


def unit(vectors: Float[np.ndarray, "*b 3"]) -> Float[np.ndarray, "*b 3"]:
    """The vectors divided by their length."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def symmetrised(
    points_m: Float[np.ndarray, "*b p 3"], mirror: Int[np.ndarray, "p"]
) -> Float[np.ndarray, "*b p 3"]:
    """The mean of the points and of their mirror image; ``mirror[i]`` is i's partner."""
    return 0.5 * (points_m + points_m[..., mirror, :] * MIRROR_X)


def mirrored_rotations(
    rotations: Float[np.ndarray, "*b j 3 3"], mirror: Int[np.ndarray, "j"]
) -> Float[np.ndarray, "*b j 3 3"]:
    """The rotations of the mirrored pose: left and right swapped, conjugated with x -> -x."""
    return rotations[..., mirror, :, :] * np.outer(MIRROR_X, MIRROR_X)


def frame_from_axis_and_normal(
    axis: Float[np.ndarray, "*b 3"], normal: Float[np.ndarray, "*b 3"]
) -> Float[np.ndarray, "*b 3 3"]:
    """Rotation matrices whose first column is ``axis`` and whose third is nearest ``normal``."""
    first = unit(axis)
    third = unit(normal - (normal * first).sum(-1, keepdims=True) * first)
    return np.stack([first, np.cross(third, first), third], -1)


def shortest_rotation(
    start: Float[np.ndarray, "*b 3"], end: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "*b 3 3"]:
    """The rotation of least angle from each ``start`` direction to ``end`` (not opposite)."""
    start, end = unit(start), unit(np.broadcast_to(end, start.shape))
    cross = _cross_matrix(np.cross(start, end))
    cosine = (start * end).sum(-1)[..., None, None]
    return np.eye(3) + cross + cross @ cross / (1 + cosine)


def _cross_matrix(vectors: Float[np.ndarray, "*b 3"]) -> Float[np.ndarray, "*b 3 3"]:
    """``_cross_matrix(a) @ b == cross(a, b)``."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    zero = np.zeros_like(x)
    rows = [np.stack(row, -1) for row in ((zero, -z, y), (z, zero, -x), (-y, x, zero))]
    return np.stack(rows, -2)


def face_area_vectors(
    verts_m: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]
) -> Float[np.ndarray, "f 3"]:
    """Outward normals whose length is twice the face's area in m^2."""
    a, b, c = (verts_m[faces[:, corner]] for corner in range(3))
    return np.cross(b - a, c - a)


def vertex_normals(
    verts_m: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]
) -> Float[np.ndarray, "v 3"]:
    """Area-weighted unit normals."""
    normals = np.zeros_like(verts_m)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], face_area_vectors(verts_m, faces))
    return unit(normals + _TINY)
