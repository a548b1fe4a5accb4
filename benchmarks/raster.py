"""Time and correctness of the raster room against ray casters that install with pip.

    pip install -r benchmarks/requirements.txt
    python benchmarks/raster.py [--json PATH] [--rounds N]

All run one mesh a call, on one core, in turns; peers rebuild their tree for each mesh, as every
pose is a new one, and their rays are made beforehand where they do not depend on it. Times are
CPU times, so that neighbours on a busy machine count less; trust the ratios.

Measured on 8 poses of the open body 180 px long, 224 x 224 px (one core of a busy 2-core AMD
EPYC Genoa virtual machine; Python 3.11, numba 0.68, open3d 0.20, trimesh 5.2 with embreex 4.4):

                            flowhmr   open3d             trimesh
    ids + barycentrics      0.76 ms   8.7 ms (11 x)      22 ms (28 x)
    vertex visibility       1.09 ms   7.6 ms (7.0 x)     18 ms (16 x)
    wrong pixels            none      0.007 %            0.007 %
    right vertices          100 %     99.96 %            99.96 %

Vertices of the faces that win a pixel leave out 31 % of the visible vertices.
"""

import argparse
import ctypes
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

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
class Result:
    """One measured number."""

    name: str
    value: float
    unit: str
    better: str
    """"lower" or "higher"."""
    target: float | None = None
    """The value to reach; None for numbers that are only reported."""

    def line(self) -> str:
        """The number as one line of the report."""
        text = f"{self.name:<58}{self.value:>10.4g} {self.unit}"
        if self.target is None:
            return text
        reached = self.value <= self.target if self.better == "lower" else self.value >= self.target
        sign = "<=" if self.better == "lower" else ">="
        return f"{text:<78} target {sign} {self.target:g}: {'reached' if reached else 'MISSED'}"


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
    turns = torch.zeros(MESHES, 3)
    turns[:, 1] = torch.arange(MESHES) * (2 * math.pi / MESHES)
    rotmats = rotmat_from_axis_angle(bends)
    rotmats[:, 0] = rotmat_from_axis_angle(turns) @ rotmats[:, 0]
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
    import libusb_package

    # open3d links libusb, which slim systems lack; loaded first, the wheel's copy serves it.
    ctypes.CDLL(str(libusb_package.get_library_path()), ctypes.RTLD_GLOBAL)
    import open3d as o3d

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
    import trimesh
    from trimesh.ray.ray_pyembree import RayMeshIntersector

    pixel_rays = _pixel_rays()

    def cast(verts: np.ndarray, faces: np.ndarray, rays: np.ndarray) -> tuple:
        mesh = trimesh.Trimesh(verts, faces, process=False)
        found = RayMeshIntersector(mesh).intersects_id(
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


def milliseconds(
    functions: dict[str, Callable[[int], object]], rounds: int
) -> dict[str, list[float]]:
    """Milliseconds of CPU time a mesh, by round; the functions take turns, for noise hits all."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(rounds + 1):
        for name, function in functions.items():
            start = time.process_time()
            for mesh in range(MESHES):
                function(mesh)
            if turn > 0:  # the first round compiles and warms up
                times[name].append((time.process_time() - start) / MESHES * 1e3)
    return times


def speed_results(
    what: str, functions: dict[str, Callable[[int], object]], rounds: int, target: float
) -> list[Result]:
    """Times of all, and how many times faster the first is than each other one."""
    times = milliseconds(functions, rounds)
    ours = next(iter(functions))
    results = [
        Result(f"{what}, {name}", statistics.median(t), "ms/mesh", "lower")
        for name, t in times.items()
    ]
    for name in list(functions)[1:]:
        ratio = statistics.median(b / a for a, b in zip(times[ours], times[name]))
        aim = target if name == "open3d" else None
        results.append(Result(f"{what}, flowhmr against {name}", ratio, "x", "higher", aim))
    return results


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
    found = {peer.name: of(peer) for peer in peers}
    return [
        Result("wrong pixels, flowhmr", wrong(maps.face_ids), "%", "lower", 0.05),
        *(Result(f"wrong pixels, {n}", wrong(ids), "%", "lower") for n, (ids, _) in found.items()),
        Result("right vertices, flowhmr", right(seen), "%", "higher", 99.99),
        *(Result(f"right vertices, {n}", right(v), "%", "higher") for n, (_, v) in found.items()),
        Result("visible vertices that winning faces miss", missed, "%", "lower"),
    ]


def main() -> None:
    """Print the numbers, and write them with ``--json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):  # one core for all, whatever threads a peer starts
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    peers = [
        make()
        for make, needs in (
            (open3d_peer, ["open3d", "libusb_package"]),
            (trimesh_peer, ["trimesh", "embreex"]),
        )
        if all(find_spec(module) for module in needs)
    ]
    verts, faces = posed_bodies()
    vertex_arrays, face_array = [v.numpy() for v in verts], faces.int().numpy()
    print(
        f"open body: {verts.shape[1]} vertices, {len(faces)} faces, {SIZE_PX} x {SIZE_PX} px, one "
        f"thread of {platform.processor() or platform.machine()}, torch {torch.__version__}"
    )
    maps = {"flowhmr": lambda i: rasterise(verts[i], faces, SIZE_PX, SIZE_PX)}
    maps |= {p.name: lambda i, p=p: p.maps(vertex_arrays[i], face_array) for p in peers}
    seen = {"flowhmr": lambda i: visible_vertices(verts[i], faces, SIZE_PX, SIZE_PX)}
    seen |= {p.name: lambda i, p=p: p.visible(vertex_arrays[i], face_array) for p in peers}
    results = [
        *speed_results("ids + barycentrics", maps, arguments.rounds, target=8),
        *speed_results("vertex visibility", seen, arguments.rounds, target=5),
        *correctness_results(verts, faces, peers),
    ]
    for result in results:
        print(result.line())
    if arguments.json:
        rows = [asdict(result) for result in results]
        arguments.json.write_text(json.dumps({"results": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
