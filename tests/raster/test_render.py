"""Attributes drawn as an image, and the gradient of the drawing."""

import math

import pytest
import torch
from raster_meshes import blob, scene, sphere, together
from torch import Tensor
from torch.testing import assert_close

from flowhmr.raster import (
    interpolate,
    rasterise,
    render_attributes,
    render_attributes_reference,
)

HEIGHT, WIDTH = 20, 24


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_attributes(verts: Tensor, channels: int = 3, seed: int = 0) -> Tensor:
    shape = (*verts.shape[:-1], channels)
    return torch.rand(shape, generator=generator(seed), dtype=torch.float64)


def gradients(render, verts: Tensor, faces: Tensor, attributes: Tensor, image_grad: Tensor):
    leaves = verts.clone().requires_grad_(), attributes.clone().requires_grad_()
    image = render(leaves[0], faces, leaves[1], *image_grad.shape[-3:-1])
    return image.detach(), *torch.autograd.grad(image, leaves, image_grad.to(image.dtype))


# --- kernel and twin


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(4))
def test_picture_and_gradients_are_those_of_the_twin(seed, dtype):
    verts, faces = scene(seed, HEIGHT, WIDTH)
    verts, attributes = verts.to(dtype), random_attributes(verts).to(dtype)
    image_grad = torch.randn(HEIGHT, WIDTH, 3, generator=generator(seed))
    found, expected = (
        gradients(render, verts, faces, attributes, image_grad)
        for render in (render_attributes, render_attributes_reference)
    )
    assert found[1].abs().sum() > 1
    for one, other in zip(found, expected):
        assert one.dtype == dtype
        assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_any_leading_axes_and_shared_attributes():
    meshes = [blob(seed, 18, (12, 10, 0), rings=6) for seed in range(6)]
    faces, verts = meshes[0][1], torch.stack([verts for verts, _ in meshes])
    attributes = random_attributes(verts[0])
    image_grad = torch.randn(6, HEIGHT, WIDTH, 3, generator=generator(1)).double()
    image, verts_grad, attributes_grad = gradients(
        render_attributes,
        verts.reshape(2, 3, -1, 3),
        faces.int(),
        attributes,
        image_grad.reshape(2, 3, HEIGHT, WIDTH, 3),
    )
    assert image.shape == (2, 3, HEIGHT, WIDTH, 3)
    one_by_one = [
        gradients(render_attributes, v, faces, attributes, g) for v, g in zip(verts, image_grad)
    ]
    images, verts_grads, attributes_grads = (torch.stack(parts) for parts in zip(*one_by_one))
    assert_close(image.flatten(0, 1), images)
    assert_close(verts_grad.flatten(0, 1), verts_grads)
    assert_close(attributes_grad, attributes_grads.sum(0))


def test_the_picture_is_that_of_rasterise_and_interpolate():
    verts, faces = scene(1, HEIGHT, WIDTH)
    attributes = random_attributes(verts)
    expected = interpolate(rasterise(verts, faces, HEIGHT, WIDTH), faces, attributes)
    assert torch.equal(render_attributes(verts, faces, attributes, HEIGHT, WIDTH), expected)


# --- laws of the gradient


def square(left: float, top: float, side: float, z: float) -> tuple[Tensor, Tensor]:
    corners = torch.tensor([[0, 0], [0, 1], [1, 1], [1, 0]], dtype=torch.float64) * side
    xy = corners + torch.tensor([left, top])
    verts = torch.cat([xy, torch.full((4, 1), z, dtype=torch.float64)], -1)
    return verts, torch.tensor([[0, 1, 2], [0, 2, 3]])


def pull(verts: Tensor, faces: Tensor, attributes: Tensor, image_grad: Tensor) -> Tensor:
    return gradients(render_attributes, verts, faces, attributes, image_grad)[1]


def test_an_edge_takes_a_pixel_of_background_for_every_pixel_that_it_moves():
    verts, faces = square(5.3, 4.6, 8.0, 1.0)
    weights = torch.zeros(HEIGHT, WIDTH, 1).double()
    weights[:, 10:] = 1  # sees the right edge only, which has 8 rows of pixels
    grad = pull(verts, faces, torch.full((4, 1), 0.7).double(), weights)
    right = verts[:, 0] > 6
    assert_close(grad[:, 0].sum(), torch.tensor(8 * 0.7).double())
    assert grad[right, 0].sum() > 0.89 * 8 * 0.7
    # Up and down, what the bottom edge gains the top edge loses.
    assert_close(grad[:, 1].sum(), torch.tensor(0.0).double(), atol=1e-6, rtol=0)
    assert (grad[:, 2] == 0).all()


def test_only_the_surface_in_front_moves_an_edge():
    front, back = square(8.2, 6.3, 6.0, 1.0), square(2.0, 2.0, 16.0, 9.0)
    verts, faces = together(front, back)
    colours = torch.tensor([1.0] * 4 + [0.4] * 4).double()[:, None]
    weights = torch.zeros(HEIGHT, WIDTH, 1).double()
    weights[:, 11:16] = 1  # sees the front square's right edge and nothing else's
    grad = pull(verts, faces, colours, weights)
    assert_close(grad[:4, 0].sum(), torch.tensor(6 * (1.0 - 0.4)).double())
    assert_close(grad[4:, 0].abs().sum(), torch.tensor(0.0).double())


def test_two_surfaces_that_touch_are_one_texture():
    left, right = square(4.0, 4.0, 6.0, 3.0), square(10.0, 4.0, 6.0, 3.2)
    verts, faces = together(left, right)
    colours = torch.tensor([1.0] * 4 + [0.4] * 4).double()[:, None]
    weights = torch.zeros(HEIGHT, WIDTH, 1).double()
    weights[:, 7:13] = 1
    grad = pull(verts, faces, colours, weights)
    assert_close(grad[:4, 0].sum(), torch.tensor(6 * 0.6 / 2).double())
    assert_close(grad[4:, 0].sum(), torch.tensor(6 * 0.6 / 2).double())


def test_texture_inside_has_the_gradient_of_its_formula():
    # Affine colours on a triangle beyond the image; weights that change slowly and see no border.
    verts = torch.tensor([[-30.0, -20, 0], [-10, 90, 2], [95, -15, 1]], dtype=torch.float64)
    faces = torch.tensor([[0, 1, 2]])
    colours = random_attributes(verts, 2)
    y, x = torch.meshgrid(
        torch.arange(HEIGHT).double() + 0.5, torch.arange(WIDTH).double() + 0.5, indexing="ij"
    )
    bump = torch.exp(-((x - 11) ** 2 + (y - 9) ** 2) / (2 * 2.5**2))
    weights = torch.stack([bump, -0.3 * bump], -1)
    leaf = verts.clone().requires_grad_()
    a, b, c = leaf[:, :2]
    area = (b - a)[0] * (c - a)[1] - (b - a)[1] * (c - a)[0]
    second = ((x - a[0]) * (c - a)[1] - (y - a[1]) * (c - a)[0]) / area
    third = ((b - a)[0] * (y - a[1]) - (b - a)[1] * (x - a[0])) / area
    image = torch.stack([1 - second - third, second, third], -1) @ colours
    (expected,) = torch.autograd.grad(image, leaf, weights)
    found = render_attributes(verts, faces, colours, HEIGHT, WIDTH)
    assert_close(found, image.detach(), rtol=1e-5, atol=1e-6)
    assert_close(pull(verts, faces, colours, weights), expected, rtol=1e-3, atol=1e-3)


def test_gradients_of_attributes_are_exact():
    verts, faces = scene(0, HEIGHT, WIDTH)
    attributes = random_attributes(verts, 2).requires_grad_()

    def render(values: Tensor) -> Tensor:
        return render_attributes(verts, faces, values, HEIGHT, WIDTH)

    assert torch.autograd.gradcheck(render, (attributes,), fast_mode=True)


def test_without_edges_a_constant_has_no_gradient():
    verts, faces = square(-5.0, -5.0, 40.0, 1.0)
    weights = torch.randn(HEIGHT, WIDTH, 1, generator=generator(0)).double()
    assert pull(verts, faces, torch.ones(4, 1).double(), weights).abs().max() < 1e-6


def test_a_mirrored_world_has_mirrored_gradients():
    verts, faces = scene(2, HEIGHT, WIDTH)
    attributes = random_attributes(verts)
    image_grad = torch.randn(HEIGHT, WIDTH, 3, generator=generator(2)).double()
    grad = pull(verts, faces, attributes, image_grad)
    mirrored = torch.stack([WIDTH - verts[:, 0], verts[:, 1], verts[:, 2]], -1)
    other = pull(mirrored, faces.flip(-1), attributes, image_grad.flip(1))
    assert_close(other, grad * torch.tensor([-1.0, 1, 1]).double(), rtol=1e-4, atol=1e-5)
    swapped = pull(verts[:, [1, 0, 2]], faces.flip(-1), attributes, image_grad.transpose(0, 1))
    assert_close(swapped, grad[:, [1, 0, 2]], rtol=1e-4, atol=1e-5)


# --- nothing to see, and what must not be


def test_an_empty_picture_has_zero_gradients():
    verts, faces = sphere(5, 6)
    for off, some in ((verts - 50, faces), (verts + 8, faces[:0]), (verts[:0], faces[:0])):
        weights = torch.ones(6, 7, 3).double()
        image, *grads = gradients(render_attributes, off, some, random_attributes(off), weights)
        assert not image.any()
        assert not any(grad.any() for grad in grads)


def test_faces_without_area_or_out_of_sight_change_nothing():
    verts, faces = scene(3, HEIGHT, WIDTH)
    attributes = random_attributes(verts)
    image_grad = torch.randn(HEIGHT, WIDTH, 3, generator=generator(3)).double()
    plain = gradients(render_attributes, verts, faces, attributes, image_grad)
    line = torch.tensor([[3.0, 3, -99], [9, 9, -99], [15, 15, -99]], dtype=torch.float64)
    point = torch.full((3, 3), 7.0, dtype=torch.float64)
    far = torch.tensor([[-90.0, 3, -99], [-80, 9, -99], [-99, 9, -99]], dtype=torch.float64)
    huge = torch.tensor([[1e30, 1e30, 5], [2e30, 1e30, 5], [1e30, 3e30, 5]], dtype=torch.float64)
    front = torch.tensor([[0, 1, 2]])
    more, more_faces = together(
        (verts, faces), *((corners, front) for corners in (line, point, far, huge))
    )
    nan = torch.full((len(more) - len(verts), 3), math.nan, dtype=torch.float64)
    found = gradients(render_attributes, more, more_faces, torch.cat([attributes, nan]), image_grad)
    assert_close(found[0], plain[0])
    for one, other in zip(found[1:], plain[1:]):
        assert_close(one[: len(verts)], other)
        assert not one[len(verts) :].any()


def test_slivers_have_no_wild_gradients():
    # A square cut into triangles of which one is a thousandth of a pixel wide, under the centres.
    x = torch.tensor([4.0, 10.5, 10.501, 16.0], dtype=torch.float64)
    top, bottom = (torch.stack([x, 0 * x + y, 0 * x], -1) for y in (4.0, 14.0))
    verts = torch.cat([top, bottom])
    faces = torch.tensor([f for k in range(3) for f in ([k, k + 4, k + 5], [k, k + 5, k + 1])])
    colours = torch.tensor([0.0, 0.5, 1.0, 0.4] * 2).double()[:, None]
    grad = pull(verts, faces, colours, torch.ones(HEIGHT, WIDTH, 1).double())
    assert grad.abs().max() < 10


def test_vertices_that_are_not_finite_and_half_precision_are_refused():
    verts, faces = blob(0, 15, (12, 10, 0), rings=5)
    attributes = random_attributes(verts)
    bad = verts.clone()
    bad[4, 1] = math.nan
    with pytest.raises(ValueError, match="1 vertices that are not finite"):
        render_attributes(bad, faces, attributes, HEIGHT, WIDTH)
    with pytest.raises(TypeError, match=r"verts_px: got torch.float16"):
        render_attributes(verts.half(), faces, attributes, HEIGHT, WIDTH)
    with pytest.raises(TypeError, match=r"attributes: got torch.bfloat16; expected float32"):
        render_attributes(verts, faces, attributes.bfloat16(), HEIGHT, WIDTH)
    with pytest.raises(ValueError, match="are the faces and the"):
        render_attributes(verts, faces + 1, attributes, HEIGHT, WIDTH)


def test_a_gradient_that_is_not_finite_stays_where_it_is():
    verts, faces = together(blob(0, 8, (5, 10, 0), rings=5), blob(1, 8, (18, 10, 0), rings=5))
    image_grad = torch.ones(HEIGHT, WIDTH, 3).double()
    image_grad[:, 12:] = math.nan
    grad = pull(verts, faces, random_attributes(verts), image_grad)
    count = len(verts) // 2
    assert grad[:count].isfinite().all()
    assert grad[:count].any()
    assert grad[count:].isnan().any()
