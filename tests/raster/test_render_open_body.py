"""The gradient of a drawn body against finite differences of a picture drawn much finer."""

import math

import pytest
import torch
from torch import Tensor

from flowhmr.body import open_body
from flowhmr.cameras import WeakCamera, project_weak
from flowhmr.geometry import rotmat_from_axis_angle
from flowhmr.raster import interpolate, rasterise, render_attributes

SIZE = 224
FINER = 4
STEP_PX = 1.0
"""How far the fastest vertex moves to each side: picture and loss have kinks at every pixel."""
POSE, SHAPE, CAMERA = slice(0, 72), slice(72, 82), slice(82, 85)


def drawn_at(numbers: Tensor) -> Tensor:
    """Vertices in pixels (v, 3) of axis-angle pose, shape and weak camera in one vector."""
    body = open_body()
    rotmats = rotmat_from_axis_angle(numbers[POSE].reshape(1, 24, 3))
    mesh = body.mesh(body.params(rotmats, numbers[SHAPE][None]))
    return project_weak(mesh.verts[0], WeakCamera(numbers[CAMERA]), SIZE)


def random_numbers(seed: int) -> tuple[Tensor, Tensor]:
    """A random pose from a random side, and one about 10 px beside it."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.zeros(85)
    numbers[POSE] = 0.35 * torch.randn(72, generator=generator)
    # Half a turn about an axis in the plane of x and z stands the body up, facing anywhere.
    facing = math.pi * torch.rand(1, generator=generator)
    numbers[:3] = math.pi * torch.cat([facing.cos(), torch.zeros(1), facing.sin()])
    numbers[SHAPE] = torch.randn(10, generator=generator)
    numbers[CAMERA] = torch.tensor([0.85, 0.0, 0.1])
    spread = torch.cat([torch.full((72,), 0.1), torch.full((10,), 0.5), torch.full((3,), 0.03)])
    return numbers, numbers + spread * torch.randn(85, generator=generator)


def gradient_colours() -> Tensor:
    template = open_body().v_template
    low, high = template.amin(0), template.amax(0)
    return 0.25 + 0.75 * (template - low) / (high - low)


def finely_drawn(verts_px: Tensor) -> Tensor:
    """The picture with pixels that have an area: each the mean of many."""
    faces, size = open_body().faces, FINER * SIZE
    image = interpolate(rasterise(verts_px * FINER, faces, size, size), faces, gradient_colours())
    return image.reshape(SIZE, FINER, SIZE, FINER, 3).mean((1, 3))


def compare(seed: int, directions: list[int]) -> tuple[Tensor, Tensor]:
    """Directional derivatives of the squared distance to another body: ours and finite ones.

    Along single numbers of pose, shape and camera, per pixel that the fastest vertex moves.
    """
    numbers, other = random_numbers(seed)
    with torch.no_grad():
        target = finely_drawn(drawn_at(other)).double()
    leaf = numbers.clone().requires_grad_()
    image = render_attributes(drawn_at(leaf), open_body().faces, gradient_colours(), SIZE, SIZE)
    loss = (image.double() - target).square().sum()
    (gradient,) = torch.autograd.grad(loss, leaf)
    ours, finite = [], []
    with torch.no_grad():
        start_px = drawn_at(numbers)
        for k in directions:
            step = torch.zeros(85)
            step[k] = 1e-3
            speed = (drawn_at(numbers + step) - start_px)[:, :2].norm(dim=-1).max() / 1e-3
            step[k] = STEP_PX / speed
            ahead, behind = (
                (finely_drawn(drawn_at(numbers + sign * step)).double() - target).square().sum()
                for sign in (1, -1)
            )
            ours.append(gradient[k] / speed)
            finite.append((ahead - behind) / (2 * STEP_PX))
    return torch.stack(ours), torch.stack(finite)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_within_15_percent_of_finite_differences(seed):
    # The root, every third number of the other joints, three shapes and the camera.
    directions = [0, 1, 2, *range(3 + seed % 3, 72, 3), 72, 73, 74, 82, 83, 84]
    ours, finite = compare(seed, directions)
    assert finite.abs().max() > 10
    assert (ours - finite).norm() <= 0.15 * finite.norm()
