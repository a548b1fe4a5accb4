"""Time and correctness of the drawing with a gradient, and of the raster flow loss on top of it.

    python benchmarks/raster_gradient.py [--rounds N] [--checked N] [--json PATH]

The peer is what plain torch gives: the same faces, found by the same kernel, barycentrics said anew
with torch and left to autograd. It has no gradient at outlines. Both take turns, one mesh a call.
DRTK, which has one, has no wheels and is not here: it is built from source with a C++ compiler.

Errors are against central differences of a picture drawn four times as fine, its pixels averaged:
the derivative of the squared distance to another body's picture, along pose, shape and camera.
"""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
from suite import Result
from timing import Options, compared, main, turns
from torch import Tensor

from flowhmr.body import open_body
from flowhmr.cameras import WeakCamera, project_weak
from flowhmr.flow import FlowPair
from flowhmr.geometry import rotmat_from_axis_angle
from flowhmr.losses import RasterFlowConfig, gradient_colours, raster_flow_terms
from flowhmr.raster import interpolate, rasterise, render_attributes
from raster import MESHES, SIZE_PX, on_each, posed_bodies

FINER = 4
STEP_PX = 1.0
"""How far the fastest vertex moves to each side; picture and loss have kinks at every pixel."""
Render = Callable[[Tensor, Tensor, Tensor, int, int], Tensor]


def interior_only(
    verts_px: Tensor, faces: Tensor, attributes: Tensor, height: int, width: int
) -> Tensor:
    """The picture of one mesh with the gradient of its inside: barycentrics in torch."""
    face_ids = rasterise(verts_px, faces, height, width).face_ids
    row, col = torch.nonzero(face_ids >= 0, as_tuple=True)
    corners = faces[face_ids[row, col].long()]
    a, b, c = verts_px[corners][..., :2].unbind(1)
    at = torch.stack([col, row], -1) + 0.5 - a
    ab, ac = b - a, c - a
    area = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    second = (at[:, 0] * ac[:, 1] - at[:, 1] * ac[:, 0]) / area
    third = (ab[:, 0] * at[:, 1] - ab[:, 1] * at[:, 0]) / area
    weights = torch.stack([1 - second - third, second, third], -1)
    shown = (weights[..., None] * attributes[corners]).sum(1)
    image = attributes.new_zeros(height, width, attributes.shape[-1])
    return image.index_put((row, col), shown)


def forward_and_backward(
    render: Render, verts: Tensor, faces: Tensor, colours: Tensor
) -> Callable[[int], None]:
    """Draws mesh i and takes the gradient to its vertices."""
    image_grad = torch.randn(SIZE_PX, SIZE_PX, 3, generator=torch.Generator().manual_seed(0))

    def work(i: int) -> None:
        leaf = verts[i].detach().requires_grad_()
        render(leaf, faces, colours, SIZE_PX, SIZE_PX).backward(image_grad)

    return work


def flow_loss(verts: Tensor, faces: Tensor, colours: Tensor) -> Callable[[int], None]:
    """The raster flow loss of mesh i and the next, forward and backward."""
    flow = torch.rand(1, SIZE_PX, SIZE_PX, 2, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(1, SIZE_PX, SIZE_PX, dtype=torch.bool)
    pair, config = FlowPair(flow, -flow, valid, valid), RasterFlowConfig()

    def work(i: int) -> None:
        first, second = (verts[k % MESHES][None].detach().requires_grad_() for k in (i, i + 1))
        terms = raster_flow_terms(first, second, faces, colours, pair, config)
        terms.raster_flow.sum().backward()

    return work


def verts_of(numbers: Tensor) -> Tensor:
    """Vertices in pixels (v, 3): 72 numbers of axis-angle pose, 10 of shape, 3 of camera."""
    body = open_body()
    rotmats = rotmat_from_axis_angle(numbers[:72].reshape(1, 24, 3))
    mesh = body.mesh(body.params(rotmats, numbers[None, 72:82]))
    return project_weak(mesh.verts[0], WeakCamera(numbers[82:]), SIZE_PX)


def two_bodies(seed: int) -> tuple[Tensor, Tensor]:
    """Numbers of a random pose from a random side, and of one about 10 px beside it."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.zeros(85)
    numbers[:72] = 0.35 * torch.randn(72, generator=generator)
    facing = math.pi * torch.rand(1, generator=generator)
    numbers[:3] = math.pi * torch.cat([facing.cos(), torch.zeros(1), facing.sin()])
    numbers[72:82] = torch.randn(10, generator=generator)
    numbers[82:] = torch.tensor([0.85, 0.0, 0.1])
    spread = torch.cat([torch.full((72,), 0.1), torch.full((10,), 0.5), torch.full((3,), 0.03)])
    return numbers, numbers + spread * torch.randn(85, generator=generator)


def errors(renders: dict[str, Render], colours: Tensor, seed: int) -> dict[str, float]:
    """Distance of each gradient from finite differences, in lengths of the latter, in percent."""
    faces, size = open_body().faces, FINER * SIZE_PX

    def fine(verts: Tensor) -> Tensor:
        image = interpolate(rasterise(verts * FINER, faces, size, size), faces, colours)
        return image.reshape(SIZE_PX, FINER, SIZE_PX, FINER, 3).mean((1, 3)).double()

    numbers, other = two_bodies(seed)
    target, start = fine(verts_of(other)), verts_of(numbers)
    speeds, finite = [], []
    for step in (
        1e-3 * torch.eye(85)[[0, 1, 2, *range(3 + seed % 3, 72, 3), 72, 73, *range(82, 85)]]
    ):
        speed = (verts_of(numbers + step) - start)[:, :2].norm(dim=-1).max()
        ahead, behind = (
            (fine(verts_of(numbers + sign * STEP_PX / speed * step)) - target).square().sum()
            for sign in (1, -1)
        )
        speeds.append(step / speed)
        finite.append((ahead - behind) / (2 * STEP_PX))
    truth, found = torch.stack(finite), {}
    for name, render in renders.items():
        leaf = numbers.clone().requires_grad_()
        image = render(verts_of(leaf), faces, colours, SIZE_PX, SIZE_PX).double()
        (gradient,) = torch.autograd.grad((image - target).square().sum(), leaf)
        ours = torch.stack(speeds) @ gradient
        found[name] = 100 * float((ours - truth).norm() / truth.norm())
    return found


@dataclass(frozen=True)
class GradientOptions(Options):
    """Flags."""

    checked: int = 6
    """Bodies for the errors."""


def measure(options: GradientOptions) -> list[Result]:
    """Times, and how far gradients are from finite differences."""
    verts, faces = posed_bodies()
    colours = gradient_colours(open_body().v_template)
    renders: dict[str, Render] = {"drawing": render_attributes, "interior only": interior_only}
    work = {n: on_each(forward_and_backward(r, verts, faces, colours)) for n, r in renders.items()}
    work["loss"] = on_each(flow_loss(verts, faces, colours))
    times = turns(work, options.rounds)
    found = [errors(renders, colours, seed) for seed in range(options.checked)]
    of = {name: [error[name] for error in found] for name in renders}
    means = {name: statistics.mean(each) for name, each in of.items()}
    what = "gradient from finite differences"
    return [
        *compared(
            "drawing, there and back", times, "drawing", ("interior only",), unit="ms/mesh",
            per=MESHES, target=2.5,
        ),
        *compared(
            "raster flow loss, there and back", times, "loss", ("drawing",), unit="ms/pair",
            per=MESHES,
        ),
        Result(
            f"{what}, mean", means["drawing"], "%", peer="interior only",
            peer_value=means["interior only"],
        ),
        Result(f"{what}, worst", max(of["drawing"]), "%", target=15),
    ]  # fmt: skip


if __name__ == "__main__":
    main(GradientOptions, measure)
