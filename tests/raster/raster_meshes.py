"""Closed, outward-oriented meshes in pixels for the tests of the raster room."""

import math

import torch
from torch import Tensor


def sphere(rings: int = 8, segments: int = 12) -> tuple[Tensor, Tensor]:
    """Unit sphere in float64: vertices (v, 3) and outward-oriented faces (f, 3)."""
    polar = torch.arange(1, rings, dtype=torch.float64) * math.pi / rings
    around = torch.arange(segments, dtype=torch.float64) * 2 * math.pi / segments
    polar, around = torch.meshgrid(polar, around, indexing="ij")
    belt = torch.stack(
        [polar.sin() * around.cos(), polar.sin() * around.sin(), polar.cos()], -1
    ).reshape(-1, 3)
    poles = torch.tensor([[0, 0, 1], [0, 0, -1]], dtype=torch.float64)
    north, south = len(belt), len(belt) + 1
    faces = []
    for s in range(segments):
        t = (s + 1) % segments
        faces.append([north, s, t])
        faces.append([south, (rings - 2) * segments + t, (rings - 2) * segments + s])
        for ring in range(rings - 2):
            a, b = ring * segments + s, ring * segments + t
            c, d = a + segments, b + segments
            faces += [[a, c, d], [a, d, b]]
    return torch.cat([belt, poles]), torch.tensor(faces)


def random_rotation(generator: torch.Generator) -> Tensor:
    """A rotation matrix (3, 3) in float64."""
    q, r = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    q = q * r.diagonal().sign()
    return q * torch.linalg.det(q)


def blob(
    seed: int, size_px: float, centre_px: tuple[float, float, float], rings: int = 12
) -> tuple[Tensor, Tensor]:
    """A dented ball seen from a random side, about ``size_px`` across; folds over itself."""
    generator = torch.Generator().manual_seed(seed)
    verts, faces = sphere(rings, rings + 3)
    waves = torch.randn(6, 3, generator=generator, dtype=torch.float64) * 2.5
    phase = torch.rand(6, generator=generator, dtype=torch.float64) * 2 * math.pi
    radius = 1 + 0.13 * (verts @ waves.T + phase).sin().sum(-1, keepdim=True)
    verts = (radius * verts) @ random_rotation(generator).T
    return verts * (size_px / 2) + torch.tensor(centre_px, dtype=torch.float64), faces


def together(*meshes: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Several meshes as one list of vertices and faces."""
    starts = [0]
    for verts, _ in meshes:
        starts.append(starts[-1] + len(verts))
    faces = torch.cat([faces + start for (_, faces), start in zip(meshes, starts)])
    return torch.cat([verts for verts, _ in meshes]), faces


def scene(seed: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Three blobs that hide, cross and leave the image, other ones for each seed."""
    generator = torch.Generator().manual_seed(1000 + seed)
    size = torch.tensor([width, height, 0.4 * width], dtype=torch.float64)
    blobs = []
    for i in range(3):
        centre = torch.rand(3, generator=generator, dtype=torch.float64) * size
        across = (0.3 + 0.6 * float(torch.rand(1, generator=generator))) * min(height, width)
        blobs.append(blob(10 * seed + i, across, tuple(centre.tolist())))
    return together(*blobs)
