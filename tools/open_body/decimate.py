"""Fewer triangles: one half is simplified by quadric error, then mirrored."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse
from scipy.spatial import KDTree

from .geometry import face_area_vectors, unit, vertex_normals
from .skeleton import JOINT_NAMES
from .skin import Skin, boundary_loops

_SHRINK = {"head": 0.75, "hand": 0.6, "foot": 0.75}
"""Scale of regions while simplifying, so that they lose more vertices than the trunk."""
_MIDLINE_TOLERANCE_M = 2e-3
_NEAREST_FACES = 40
_OPPOSITE_PENALTY_M = 1.0
_OUTSIDE_PENALTY_M = 1e3
_TINY = 1e-30


@dataclass(frozen=True, eq=False)
class Decimation:
    """A coarser mesh whose vertices lie on the faces of the finer one."""

    blend: sparse.csr_array
    """(coarse, fine) barycentric weights: coarse values = blend @ fine values."""
    faces: Int[np.ndarray, "f 3"]
    """Outward triangles of coarse vertex ids."""
    mirror: Int[np.ndarray, "c"]
    """The coarse vertex on the other side; midline vertices are their own partners."""

    def apply(self, values: Float[np.ndarray, "v *axes"]) -> Float[np.ndarray, "c *axes"]:
        """Fine vertex values carried to the coarse vertices."""
        flat = self.blend @ values.reshape(len(values), -1)
        return flat.reshape(len(flat), *values.shape[1:])


def decimate(
    verts_m: Float[np.ndarray, "v 3"],
    skin: Skin,
    weights: Float[np.ndarray, "v 24"],
    face_count: int,
) -> tuple[Decimation, Float[np.ndarray, "h"]]:
    """A mirror-symmetric mesh of ``face_count`` triangles (fast-simplification, MIT).

    Also the distances in metres, in the shrunken metric, by which the left half's new vertices
    were moved to lie on the old surface.

    Raises:
        ValueError: the simplified half no longer ends on the midline.
    """
    # Installed in the tool's own environment only.
    import fast_simplification  # pyright: ignore[reportMissingImports]

    metric_m = _with_shrunken_regions(verts_m, weights)
    left_faces = skin.faces[verts_m[skin.faces, 0].mean(1) > 0]
    ids, local_faces = np.unique(left_faces, return_inverse=True)
    points_m, half_faces = fast_simplification.simplify(
        metric_m[ids],
        np.ascontiguousarray(local_faces.reshape(-1, 3)),
        target_count=face_count // 2,
        agg=5,
    )
    used, half_faces = np.unique(half_faces, return_inverse=True)
    points_m, half_faces = points_m[used], half_faces.reshape(-1, 3)
    normals = vertex_normals(points_m, half_faces)
    face, barycentric, distance_m = nearest_on_mesh(points_m, normals, metric_m, skin.faces)
    half = sparse.csr_array(
        (
            barycentric.ravel(),
            (np.repeat(np.arange(len(points_m)), 3), skin.faces[face].ravel()),
        ),
        shape=(len(points_m), len(verts_m)),
    )
    on_midline = np.zeros(len(points_m), bool)
    on_midline[np.concatenate(boundary_loops(half_faces.tolist()))] = True
    off_m = np.abs(points_m[on_midline, 0]).max()
    if off_m > _MIDLINE_TOLERANCE_M:
        raise ValueError(
            f"midline of the simplified half: got a vertex {off_m:.4f} m off; "
            f"expected at most {_MIDLINE_TOLERANCE_M} m; simplify less"
        )
    return mirrored_half(half, half_faces, on_midline, skin.mirror), distance_m


def mirrored_half(
    half: sparse.csr_array,
    faces: Int[np.ndarray, "f 3"],
    on_midline: Bool[np.ndarray, "h"],
    mirror: Int[np.ndarray, "v"],
) -> Decimation:
    """The whole mesh of a left half (h, v), its midline made symmetric; right vertices follow."""
    count = len(on_midline)
    reflection = sparse.csr_array(
        (np.ones(len(mirror)), (np.arange(len(mirror)), mirror)), shape=(len(mirror),) * 2
    )
    midline_share = sparse.diags_array(on_midline.astype(float))
    half = sparse.diags_array(1 - 0.5 * on_midline) @ half + 0.5 * midline_share @ half @ reflection
    off_midline = np.flatnonzero(~on_midline)
    partner = np.arange(count)
    partner[off_midline] = count + np.arange(len(off_midline))
    return Decimation(
        blend=sparse.csr_array(sparse.vstack([half, (half @ reflection)[off_midline]])),
        faces=np.concatenate([faces, partner[faces][:, ::-1]]),
        mirror=np.r_[partner, off_midline],
    )


def _with_shrunken_regions(
    verts_m: Float[np.ndarray, "v 3"], weights: Float[np.ndarray, "v 24"]
) -> Float[np.ndarray, "v 3"]:
    """The body with smaller head, hands and feet: the metric of the simplification.

    Each region shrinks towards its border with the rest of the body.
    """
    shrunken_m = verts_m.copy()
    for region, scale in _SHRINK.items():
        stems = (region, "wrist") if region == "hand" else (region,)
        parts = [i for i, name in enumerate(JOINT_NAMES) if name.split("_")[-1] in stems]
        sides = (0,) if region == "head" else (1, -1)
        for side in sides:
            share = weights[:, parts].sum(1)
            if side:
                share = share * (np.sign(verts_m[:, 0]) == side)
            anchor_m = verts_m[(share > 0.2) & (share < 0.8)].mean(0)
            if not side:
                anchor_m[0] = 0
            shrunken_m += (share * (scale - 1))[:, None] * (verts_m - anchor_m)
    return shrunken_m


def nearest_on_mesh(
    points_m: Float[np.ndarray, "p 3"],
    normals: Float[np.ndarray, "p 3"],
    verts_m: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
) -> tuple[Int[np.ndarray, "p"], Float[np.ndarray, "p 3"], Float[np.ndarray, "p"]]:
    """Face, barycentric weights and distance (m) of the mesh point nearest to each point.

    Faces that look away from the point's normal are avoided, so that lips, eyelids and fingers
    do not catch each other's vertices.
    """
    face_normals = unit(face_area_vectors(verts_m, faces) + 1e-20)
    neighbours = min(_NEAREST_FACES, len(faces))
    _, candidates = KDTree(verts_m[faces].mean(1)).query(points_m, neighbours)
    best_cost = np.full(len(points_m), np.inf)
    best_face = np.zeros(len(points_m), int)
    best_barycentric = np.zeros((len(points_m), 3))
    for face in candidates.T:
        corners_m = verts_m[faces[face]]
        opposite = (face_normals[face] * normals).sum(1) <= 0
        for barycentric, valid in _nearest_on_triangle_parts(points_m, corners_m):
            nearest_m = (barycentric[:, :, None] * corners_m).sum(1)
            cost = np.linalg.norm(nearest_m - points_m, axis=1)
            cost += np.where(valid, 0, _OUTSIDE_PENALTY_M)
            cost += np.where(opposite, _OPPOSITE_PENALTY_M, 0)
            better = cost < best_cost
            best_cost[better], best_face[better] = cost[better], face[better]
            best_barycentric[better] = barycentric[better]
    nearest_m = (best_barycentric[:, :, None] * verts_m[faces[best_face]]).sum(1)
    return best_face, best_barycentric, np.linalg.norm(nearest_m - points_m, axis=1)


def _nearest_on_triangle_parts(
    points_m: Float[np.ndarray, "p 3"], corners_m: Float[np.ndarray, "p 3 3"]
) -> Iterator[tuple[Float[np.ndarray, "p 3"], Bool[np.ndarray, "p"]]]:
    """Nearest points on a triangle's plane and on its three edges, as barycentric weights.

    The plane's counts where it is inside the triangle, the edges' elsewhere.
    """
    a, b, c = (corners_m[:, corner] for corner in range(3))
    ab, ac, ap = b - a, c - a, points_m - a
    ab_ab, ab_ac, ac_ac = (ab * ab).sum(1), (ab * ac).sum(1), (ac * ac).sum(1)
    ap_ab, ap_ac = (ap * ab).sum(1), (ap * ac).sum(1)
    determinant = ab_ab * ac_ac - ab_ac * ab_ac + _TINY
    at_b = (ac_ac * ap_ab - ab_ac * ap_ac) / determinant
    at_c = (ab_ab * ap_ac - ab_ac * ap_ab) / determinant
    inside = (at_b >= 0) & (at_c >= 0) & (at_b + at_c <= 1)
    yield np.stack([1 - at_b - at_c, at_b, at_c], 1), inside
    for start, end in ((0, 1), (1, 2), (2, 0)):
        edge = corners_m[:, end] - corners_m[:, start]
        along = ((points_m - corners_m[:, start]) * edge).sum(1) / ((edge**2).sum(1) + _TINY)
        along = np.clip(along, 0, 1)
        barycentric = np.zeros((len(points_m), 3))
        barycentric[:, start], barycentric[:, end] = 1 - along, along
        yield barycentric, ~inside
