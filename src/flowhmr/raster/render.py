"""Attributes of the vertices drawn as an image, with a gradient that sees edges."""

import math
from typing import Any

import torch
from jaxtyping import Float, Float32, Float64, Int, Int32
from torch import Tensor
from torch.autograd.function import once_differentiable

from flowhmr.raster import kernels
from flowhmr.raster.cuda import pull_triton, stays_on_gpu
from flowhmr.raster.fragments import Fragments, interpolate, rasterise
from flowhmr.raster.workers import over_batch

DEPTH_GAP_PX = 0.5
"""Of two neighbouring pixels, one that lies this much nearer hides the other's surface; nearer
together they show one surface. On the open body anything from 0 to 4 px does as well."""


def render_attributes(
    verts_px: Float[Tensor, "*b v 3"],
    faces: Int[Tensor, "f 3"],
    attributes: Float[Tensor, "*#b v c"],
    height: int,
    width: int,
) -> Float[Tensor, "*b h w c"]:
    """Attributes of the nearest surface at each pixel's centre, 0 on background.

    The picture is that of `rasterise` and `interpolate`, drawn hard; its gradient is that of the
    picture seen through pixels with an area, in x and y of the vertices and in the attributes,
    not in depth. Between the centres of two neighbouring pixels, the picture is taken to change
    from one value to the other by what lies between them moving past:

    - an edge, where one of the two is background or lies nearer by more than 0.5 px: it moves with
      the surface in front, and takes a share of a pixel from what is behind;
    - else the texture of one surface, which moves with both.

    That covers silhouettes, also those of limbs before the body, and the inside of triangles
    alike. Nothing is divided by the area of a triangle, so that slivers do no harm, and no edge is
    counted twice on triangles smaller than a pixel. Where surfaces cross, the line moves as if
    they did not; at the border of the image, what lies beyond it has no say.

    Axes, faces, devices and threads are those of `rasterise`; on a GPU the gradient is summed in
    any order, so that its last digits differ from run to run. No second derivatives.

    Args:
        verts_px: x, y, z in pixels.
        faces: triangles of the closed, outward-oriented mesh.
        attributes: ``c`` numbers a vertex, float32 or float64; leading axes broadcast.
        height, width: size of the image.

    Raises:
        TypeError: half precision.
        ValueError: as `rasterise`.
    """
    if attributes.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"attributes: got {attributes.dtype}; expected float32 or float64; render outside of "
            "autocast"
        )
    lead, vertex_count, channels = verts_px.shape[:-2], verts_px.shape[-2], attributes.shape[-1]
    attributes = attributes.expand(*lead, vertex_count, channels)
    image = _Render.apply(
        verts_px.reshape(math.prod(lead), vertex_count, 3),
        faces,
        attributes.reshape(math.prod(lead), vertex_count, channels),
        height,
        width,
    )
    return image.reshape(*lead, height, width, channels)


class _Render(torch.autograd.Function):
    """The picture of meshes ``[n v 3]``, and its gradient."""

    @staticmethod
    def forward(
        ctx: Any, verts_px: Tensor, faces: Tensor, attributes: Tensor, height: int, width: int
    ) -> Tensor:
        fragments = rasterise(verts_px, faces, height, width)
        draw = interpolate if stays_on_gpu(attributes) else _interpolate_on_cpu
        image = draw(fragments, faces, attributes)
        ctx.save_for_backward(
            fragments.face_ids, fragments.barycentrics, fragments.depth, faces, image
        )
        ctx.vertex_count, ctx.verts_type = verts_px.shape[1], verts_px.dtype
        return image

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, image_grad: Tensor
    ) -> tuple[Tensor, None, Tensor | None, None, None]:
        *maps, faces, image = ctx.saved_tensors
        pull, device = (pull_triton, image.device) if stays_on_gpu(image) else (_pull_on_cpu, "cpu")
        shape = len(image), ctx.vertex_count
        channels = image.shape[-1] if ctx.needs_input_grad[2] else 0
        verts_grad = torch.zeros(*shape, 3, dtype=torch.float64, device=device)
        attributes_grad = torch.zeros(*shape, channels, dtype=torch.float64, device=device)
        given = (*maps, faces.int(), image, image_grad)
        ids, weights, z, corners, values, grads = (p.to(device).contiguous() for p in given)
        pull(ids, weights, z, corners, values, grads, verts_grad, attributes_grad, DEPTH_GAP_PX)
        return (
            verts_grad.to(image.device, ctx.verts_type),
            None,
            attributes_grad.to(image) if channels else None,
            None,
            None,
        )


def _interpolate_on_cpu(
    fragments: Fragments, faces: Int[Tensor, "f 3"], attributes: Float[Tensor, "n v c"]
) -> Float[Tensor, "n h w c"]:
    """As `interpolate`, which takes as long as drawing the faces."""
    count, channels = len(attributes), attributes.shape[-1]
    image = attributes.new_empty((*fragments.face_ids.shape, channels), device="cpu")
    ids, weights = fragments.face_ids.cpu().numpy(), fragments.barycentrics.cpu().numpy()
    corners = faces.to("cpu", torch.int32).contiguous().numpy()
    values, out = attributes.detach().cpu().contiguous().numpy(), image.numpy()

    def work(first: int, last: int) -> None:
        kernels.interpolate(ids, weights, corners, values, first, last, out)

    over_batch(count, work)
    return image.to(attributes.device)


def _pull_on_cpu(
    face_ids: Int32[Tensor, "n h w"],
    barycentrics: Float32[Tensor, "n h w 3"],
    depth: Float32[Tensor, "n h w"],
    faces: Int32[Tensor, "f 3"],
    image: Float[Tensor, "n h w c"],
    image_grad: Float[Tensor, "n h w c"],
    verts_grad: Float64[Tensor, "n v 3"],
    attributes_grad: Float64[Tensor, "n v k"],
    gap_px: float,
) -> None:
    """As `pull_triton`."""
    given = face_ids, barycentrics, depth, faces, image, image_grad
    ids, weights, z, corners, values, grads = (part.numpy() for part in given)
    verts_out, attributes_out = verts_grad.numpy(), attributes_grad.numpy()

    def work(first: int, last: int) -> None:
        kernels.pull_vertices(
            ids, weights, z, corners, values, grads, gap_px, first, last, verts_out, attributes_out
        )

    over_batch(len(image), work)
