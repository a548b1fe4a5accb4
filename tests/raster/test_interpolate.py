"""Attributes carried to pixels."""

import pytest
import torch
from raster_meshes import blob, scene, together

from flowhmr.raster import interpolate, rasterise, vertices_of_winning_faces

SIZE = 24


def test_constant_stays_constant_and_background_is_zero():
    verts, faces = scene(0, SIZE, SIZE)
    fragments = rasterise(verts, faces, SIZE, SIZE)
    image = interpolate(fragments, faces, torch.full((len(verts), 2), 5.0))
    expected = 5.0 * (fragments.face_ids >= 0)[..., None].expand(-1, -1, 2)
    torch.testing.assert_close(image, expected)


def test_agrees_with_the_definition_on_any_leading_axes():
    meshes = [blob(seed, 20, (12, 12, 0), rings=6) for seed in range(6)]
    faces = meshes[0][1]
    verts = torch.stack([verts for verts, _ in meshes])
    attributes = torch.randn(6, verts.shape[1], 4, generator=torch.Generator().manual_seed(0))
    fragments = rasterise(verts.reshape(2, 3, -1, 3), faces, SIZE, SIZE)
    image = interpolate(fragments, faces.int(), attributes.reshape(2, 3, -1, 4))
    assert image.dtype == torch.float32
    assert image.shape == (2, 3, SIZE, SIZE, 4)
    for mesh in range(6):
        face_ids = fragments.face_ids.flatten(0, 1)[mesh]
        corners = attributes[mesh][faces[face_ids.clamp(min=0).long()]]
        weights = fragments.barycentrics.flatten(0, 1)[mesh]
        expected = torch.einsum("hwk,hwkc->hwc", weights, corners)
        torch.testing.assert_close(image.flatten(0, 1)[mesh], expected)


def test_gradients():
    verts, faces = blob(0, 9, (5, 5, 0), rings=5)
    fragments = rasterise(torch.stack([verts, verts.roll(1, -1)]), faces, 10, 10)
    attributes = torch.randn(2, len(verts), 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: interpolate(fragments, faces, a), (attributes,))


def test_vertices_out_of_sight_touch_neither_the_image_nor_the_gradient():
    verts, faces = together(scene(3, SIZE, SIZE), blob(0, 5, (-50, 0, 0)))
    fragments = rasterise(verts, faces, SIZE, SIZE)
    seen = vertices_of_winning_faces(fragments, faces, len(verts))
    attributes = torch.where(seen, 1.0, torch.nan)[:, None].requires_grad_()
    image = interpolate(fragments, faces, attributes)
    assert torch.isfinite(image).all()
    (gradient,) = torch.autograd.grad(image.sum(), attributes)
    assert torch.equal(gradient[:, 0] > 0, seen)
    assert torch.isfinite(gradient).all()


def test_an_empty_image_gives_zeros_with_a_gradient():
    verts, faces = blob(0, 9, (-50, 5, 0), rings=5)
    fragments = rasterise(verts, faces, 10, 10)
    attributes = torch.ones(len(verts), 1, requires_grad=True)
    image = interpolate(fragments, faces, attributes)
    image.sum().backward()
    assert (image == 0).all()
    assert attributes.grad is not None
    assert (attributes.grad == 0).all()


def test_faces_of_another_body_are_refused():
    verts, faces = blob(0, 9, (5, 5, 0), rings=5)
    fragments = rasterise(verts, faces, 10, 10)
    with pytest.raises(ValueError, match=r"expected 0 to 9; are the faces"):
        interpolate(fragments, faces, torch.ones(10, 1))
    with pytest.raises(ValueError, match=r"expected 0 to 9; are the faces"):
        vertices_of_winning_faces(fragments, faces, 10)
