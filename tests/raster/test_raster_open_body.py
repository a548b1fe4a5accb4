"""The kernels against their twins on the open body, at the size of a crop."""

import math

import pytest
import torch

from flowhmr.body import open_body
from flowhmr.geometry import rotmat_from_axis_angle
from flowhmr.raster import (
    rasterise,
    rasterise_reference,
    visible_vertices,
    visible_vertices_reference,
)

SIZE = 224


def posed_body(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Vertices in pixels of a crop and faces: a random pose from a random side."""
    generator = torch.Generator().manual_seed(seed)
    body = open_body()
    bends = 0.4 * torch.randn(24, 3, generator=generator)
    bends[0] *= math.pi / 0.4 / bends[0].norm()
    pose = body.params(rotmat_from_axis_angle(bends)[None], torch.zeros(1, 10))
    return body.mesh(pose).verts[0] * 110 + SIZE / 2, body.faces


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_vertices_and_pixels_are_exact(seed):
    verts, faces = posed_body(seed)
    seen = visible_vertices(verts, faces, SIZE, SIZE)
    expected = visible_vertices_reference(verts, faces, SIZE, SIZE)
    assert 0.3 < expected.double().mean() < 0.6
    assert torch.equal(seen, expected)
    fragments = rasterise(verts, faces, SIZE, SIZE)
    expected = rasterise_reference(verts, faces, SIZE, SIZE)
    assert (fragments.face_ids != expected.face_ids).double().mean() <= 1e-4
    same = fragments.face_ids == expected.face_ids
    torch.testing.assert_close(fragments.depth[same], expected.depth[same])
    torch.testing.assert_close(fragments.barycentrics[same], expected.barycentrics[same])
