"""Body flow and image flow at the vertices: the two sides of of4hmr's Eq. 1."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from flowhmr.flow import FlowPair, sample_flow, sample_masked_flow
from flowhmr.raster import visible_vertices


@dataclass(frozen=True, eq=False)
class BodyFlow:
    """Vertices of one person in two images, pixels of the flow map."""

    start_px: Float[Tensor, "b v 2"]
    """Where each vertex is seen in the first image."""
    end_px: Float[Tensor, "b v 2"]
    """Where it is seen in the second."""
    visible: Bool[Tensor, "b v"]
    """Visible in both (mutual visibility, the set V)."""

    @property
    def displacement_px(self) -> Float[Tensor, "b v 2"]:
        """F_B: how far each vertex moves."""
        return self.end_px - self.start_px


@dataclass(frozen=True, eq=False)
class VertexFlow:
    """Both flows at the vertices, in one direction of time."""

    body: BodyFlow
    """The bodies' motion, with gradient."""
    image_px: Float[Tensor, "b v 2"]
    """F_OF, read where the vertices are in the first image; a measurement, without gradient."""
    counted: Bool[Tensor, "b v"]
    """Vertices visible in both images (whose image flow is valid, where that was asked for)."""

    @property
    def body_px(self) -> Float[Tensor, "b v 2"]:
        """F_B."""
        return self.body.displacement_px


def body_flow(
    first_px: Float[Tensor, "b v 3"],
    second_px: Float[Tensor, "b v 3"],
    faces: Int[Tensor, "f 3"],
    size_px: int,
) -> BodyFlow:
    """Displacement and mutual visibility of the vertices of two projected meshes.

    Visibility is exact, per vertex, and carries no gradient; the positions do.

    Args:
        first_px, second_px: (u, v, depth) in pixels of the square crop, see `project_weak`.
        faces: triangles of the closed, outward-oriented mesh.
        size_px: width and height of the crop.
    """
    both = torch.cat([first_px.detach(), second_px.detach()])
    first, second = visible_vertices(both, faces, size_px, size_px).chunk(2)
    return BodyFlow(first_px[..., :2], second_px[..., :2], first & second)


def swap_body_flow(flow: BodyFlow) -> BodyFlow:
    """The same motion seen backwards: the two images change roles."""
    return BodyFlow(flow.end_px, flow.start_px, flow.visible)


def vertex_flow(body: BodyFlow, image: FlowPair, consistent: bool) -> VertexFlow:
    """Body flow beside image flow, forward in time; swap both arguments for the way back.

    Args:
        body: the bodies' motion.
        image: flow of the images, pixels of the same crop.
        consistent: leave out vertices whose image flow fails the forward-backward check.
    """
    start_px = body.start_px.detach()
    if not consistent:
        image_px = sample_flow(image.forward, start_px)
        return VertexFlow(body, image_px, body.visible)
    image_px, trusted = sample_masked_flow(image.forward, image.forward_valid, start_px)
    return VertexFlow(body, image_px, body.visible & trusted)
