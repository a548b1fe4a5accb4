"""Time and correctness of the raster room against ray casters that install with pip.

    python benchmarks/raster.py [--rounds N] [--no-peers] [--json PATH]

All run one mesh a call, on one core, in turns; peers rebuild their tree for each mesh, as every
pose is a new one, and their rays are made beforehand where they do not depend on it. 8 poses of the
open body 180 px long, 224 x 224 px. DRTK and PyTorch3D, which draw the same maps, have no wheels
and are not here: they are built from source with a C++ compiler.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from peers import library, open3d
from suite import Result
from timing import Least, Options, Work, compared, limits, main, turns

from flowhmr.body import open_body
from flowhmr.geometry import rotmat_from_axis_angle
from flowhmr.raster import (
    Fragments,
    rasterise,
    rasterise_reference,
    vertices_of_winning_faces,
    visible_vertices,
    visible_vertices_reference,
)

SIZE_PX = 224
BODY_PX = 180
"""Larger of the body's width and height on the image."""
MESHES = 8
CHECKED = 3
"""Meshes compared with brute force, which takes seconds for each."""
RAY_TOLERANCE_PX = 1e-3
"""Where float32 ray casters are most often right; ours has its own, 1e-4."""


@dataclass(frozen=True)
class Peer:
    """What another library makes of one mesh: float32 vertices in pixels, int32 faces."""

    name: str
    maps: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    """Face ids (h, w), -1 on background, and barycentrics of the covered pixels (n, 3)."""
    visible: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """Visibility of each vertex (v,)."""


def posed_bodies() -> tuple[torch.Tensor, torch.Tensor]:
    """Vertices (n, v, 3) in pixels and faces of the open body, posed, seen from all around."""
    generator = torch.Generator().manual_seed(0)
    body = open_body()
    bends = 0.35 * torch.randn(MESHES, 24, 3, generator=generator)
    # Half a turn about x stands the body up on the y-down image; the turns about y go around it.
    bends[:, 0] = torch.tensor([math.pi, 0, 0])
    around = torch.zeros(MESHES, 3)
    around[:, 1] = torch.arange(MESHES) * (2 * math.pi / MESHES)
    rotmats = rotmat_from_axis_angle(bends)
    rotmats[:, 0] = rotmat_from_axis_angle(around) @ rotmats[:, 0]
    verts = body.mesh(body.params(rotmats, torch.zeros(MESHES, 10))).verts
    low, high = verts.amin(1, keepdim=True), verts.amax(1, keepdim=True)
    scale = BODY_PX / (high - low)[..., :2].amax(-1, keepdim=True)
    centre = torch.tensor([SIZE_PX / 2, SIZE_PX / 2, 0])
    return (verts - (low + high) / 2) * scale + centre, body.faces


def _rays_from(xy: np.ndarray) -> np.ndarray:
    """Rays (n, 6) along +z from far before the body."""
    start = np.full(len(xy), -4 * SIZE_PX)
    still = np.zeros(len(xy))
    return np.stack([xy[:, 0], xy[:, 1], start, still, still, still + 1], -1).astype(np.float32)


def _pixel_rays() -> np.ndarray:
    x, y = np.meshgrid(np.arange(SIZE_PX) + 0.5, np.arange(SIZE_PX) + 0.5)
    return _rays_from(np.stack([x.ravel(), y.ravel()], -1))


def open3d_peer() -> Peer:
    """open3d's RaycastingScene (Embree), one thread."""
    o3d = open3d()
    pixel_rays = o3d.core.Tensor(_pixel_rays())

    def cast(verts: np.ndarray, faces: np.ndarray, rays: object) -> dict:
        scene = o3d.t.geometry.RaycastingScene(nthreads=1)
        scene.add_triangles(o3d.core.Tensor(verts), o3d.core.Tensor(faces.astype(np.uint32)))
        return scene.cast_rays(rays, nthreads=1)

    def maps(verts: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        hits = cast(verts, faces, pixel_rays)
        face_ids = hits["primitive_ids"].numpy().astype(np.int32).reshape(SIZE_PX, SIZE_PX)
        uv = hits["primitive_uvs"].numpy()[face_ids.ravel() >= 0]
        return face_ids, np.concatenate([1 - uv.sum(-1, keepdims=True), uv], -1)

    def visible(verts: np.ndarray, faces: np.ndarray) -> np.ndarray:
        rays = _rays_from(verts)
        hits = cast(verts, faces, o3d.core.Tensor(rays))
        return hits["t_hit"].numpy() + rays[:, 2] >= verts[:, 2] - RAY_TOLERANCE_PX

    return Peer("open3d", maps, visible)


def trimesh_peer() -> Peer:
    """trimesh with embreex (Embree)."""
    trimesh = library("trimesh")
    intersector = library("trimesh.ray.ray_pyembree").RayMeshIntersector

    pixel_rays = _pixel_rays()

    def cast(verts: np.ndarray, faces: np.ndarray, rays: np.ndarray) -> tuple:
        mesh = trimesh.Trimesh(verts, faces, process=False)
        found = intersector(mesh).intersects_id(
            rays[:, :3], rays[:, 3:], multiple_hits=False, return_locations=True
        )
        return mesh, *found

    def maps(verts: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mesh, triangle, ray, where = cast(verts, faces, pixel_rays)
        face_ids = np.full(SIZE_PX * SIZE_PX, -1, np.int32)
        face_ids[ray] = triangle
        weights = trimesh.triangles.points_to_barycentric(mesh.triangles[triangle], where)
        return face_ids.reshape(SIZE_PX, SIZE_PX), weights

    def visible(verts: np.ndarray, faces: np.ndarray) -> np.ndarray:
        _, _, ray, where = cast(verts, faces, _rays_from(verts))
        seen = np.ones(len(verts), bool)
        seen[ray] = where[:, 2] >= verts[ray, 2] - RAY_TOLERANCE_PX
        return seen

    return Peer("trimesh", maps, visible)


def correctness_results(
    verts: torch.Tensor, faces: torch.Tensor, peers: list[Peer]
) -> list[Result]:
    """Pixels with another face and vertices with another visibility than float64 brute force."""
    few, face_array = verts[:CHECKED], faces.int().numpy()
    true_maps: Fragments = rasterise_reference(few, faces, SIZE_PX, SIZE_PX)
    true_seen = visible_vertices_reference(few, faces, SIZE_PX, SIZE_PX)
    maps = rasterise(few, faces, SIZE_PX, SIZE_PX)
    seen = visible_vertices(few, faces, SIZE_PX, SIZE_PX)

    def wrong(face_ids: torch.Tensor) -> float:
        return 100 * float((face_ids != true_maps.face_ids).double().mean())

    def right(visible: torch.Tensor) -> float:
        return 100 * float((visible == true_seen).double().mean())

    def of(peer: Peer) -> tuple[torch.Tensor, torch.Tensor]:
        arrays = [(v.numpy(), face_array) for v in few]
        ids = np.stack([peer.maps(*mesh)[0] for mesh in arrays])
        return torch.from_numpy(ids), torch.from_numpy(np.stack([peer.visible(*m) for m in arrays]))

    winners = vertices_of_winning_faces(maps, faces, verts.shape[1])
    missed = 100 * float((true_seen & ~winners).sum() / true_seen.sum())
    wrong_pixels = Result("wrong pixels", wrong(maps.face_ids), "%", target=0.05)
    right_vertices = Result("right vertices", right(seen), "%", "higher", target=99.99)
    results = [wrong_pixels, right_vertices]
    for peer in peers:
        ids, visible = of(peer)
        results += [
            replace(wrong_pixels, target=None, peer=peer.name, peer_value=wrong(ids)),
            replace(right_vertices, target=None, peer=peer.name, peer_value=right(visible)),
        ]
    results.sort(key=lambda result: result.name, reverse=True)
    return [*results, Result("visible vertices that winning faces miss", missed, "%")]


def on_each(draw: Callable[[int], object]) -> Work:
    """All meshes, one a call."""

    def work() -> None:
        for mesh in range(MESHES):
            draw(mesh)

    return work


def measure(options: Options) -> list[Result]:
    """Times of all, and who is right."""
    peers = [open3d_peer(), trimesh_peer()] if options.peers else []
    names = tuple(peer.name for peer in peers)
    verts, faces = posed_bodies()
    vertex_arrays, face_array = [v.numpy() for v in verts], faces.int().numpy()
    maps = {"flowhmr": on_each(lambda i: rasterise(verts[i], faces, SIZE_PX, SIZE_PX))}
    maps |= {p.name: on_each(lambda i, p=p: p.maps(vertex_arrays[i], face_array)) for p in peers}
    seen = {"flowhmr": on_each(lambda i: visible_vertices(verts[i], faces, SIZE_PX, SIZE_PX))}
    seen |= {p.name: on_each(lambda i, p=p: p.visible(vertex_arrays[i], face_array)) for p in peers}
    mesh_bytes = verts.nbytes + MESHES * faces.nbytes
    map_bytes = 4 * MESHES * SIZE_PX**2 * (1 + 3)  # ids and barycentrics
    return [
        *compared(
            "ids + barycentrics", turns(maps | limits(), options.rounds), peers=names,
            unit="ms/mesh", per=MESHES, target_ratios={"open3d": 8},
            least=Least(mesh_bytes + map_bytes),
        ),
        *compared(
            "vertex visibility", turns(seen | limits(), options.rounds), peers=names,
            unit="ms/mesh", per=MESHES, target_ratios={"open3d": 5},
            least=Least(mesh_bytes + MESHES * verts.shape[1]),
        ),
        *correctness_results(verts, faces, peers),
    ]  # fmt: skip


if __name__ == "__main__":
    main(Options, measure)
