"""Which face each pixel shows, and attributes carried to the pixels."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float32, Int, Int32
from torch import Tensor

from flowhmr.raster import kernels
from flowhmr.raster.cuda import rasterise_triton, stays_on_gpu
from flowhmr.raster.inputs import check_faces, checked_meshes
from flowhmr.raster.workers import over_batch


@dataclass(frozen=True, eq=False)
class Fragments:
    """What the centre of each pixel sees: one face, or the background."""

    face_ids: Int32[Tensor, "*b h w"]
    """Row of ``faces`` that is nearest at the pixel's centre, -1 on background."""
    barycentrics: Float32[Tensor, "*b h w 3"]
    """Weights of that face's three vertices at the pixel's centre; 0 on background."""
    depth: Float32[Tensor, "*b h w"]
    """z there, in the unit of the vertices' z; infinite on background."""


def rasterise(
    verts_px: Float[Tensor, "*b v 3"], faces: Int[Tensor, "f 3"], height: int, width: int
) -> Fragments:
    """Nearest front face at the centre (j + 0.5, i + 0.5) of each pixel (row i, column j).

    Axes are x right, y down, z away from the camera. Edges belong to both their faces, so closed
    surfaces have no holes; at equal depth the face with the lower id wins. Barycentrics and depth
    are linear in the image, exact when z is (orthographic and weak perspective; under perspective
    see `visible_vertices`). Back faces (clockwise on the y-down image: those of a closed,
    outward-oriented mesh that look away) are not drawn; a projection that mirrors turns every
    face over, flip ``faces`` with it.

    Computed in float64 with float32 or float64 input: on the CPU with meshes in parallel on
    torch's thread count, on the GPU with Triton, which gives the same maps (without Triton, CUDA
    input is copied to the CPU and the maps back). The host waits for the GPU once, to check the
    input. The maps carry no gradient to the vertices.

    Raises:
        TypeError: half precision.
        ValueError: vertices that are not finite, faces of vertices that do not exist, an image
            without pixels.
    """
    if stays_on_gpu(verts_px):
        return Fragments(*rasterise_triton(verts_px, faces, height, width))
    meshes = checked_meshes(verts_px, faces, height, width)
    count, lead = len(meshes.verts_px), verts_px.shape[:-2]
    face_ids = torch.empty((count, height, width), dtype=torch.int32)
    barycentrics = torch.empty((count, height, width, 3), dtype=torch.float32)
    depth = torch.empty((count, height, width), dtype=torch.float32)
    verts, ids = meshes.verts_px.numpy(), meshes.faces.numpy()
    out = face_ids.numpy(), barycentrics.numpy(), depth.numpy()

    over_batch(count, lambda first, last: kernels.rasterise(verts, ids, first, last, *out))
    return Fragments(
        face_ids=face_ids.reshape(*lead, height, width).to(verts_px.device),
        barycentrics=barycentrics.reshape(*lead, height, width, 3).to(verts_px.device),
        depth=depth.reshape(*lead, height, width).to(verts_px.device),
    )


def interpolate(
    fragments: Fragments, faces: Int[Tensor, "f 3"], attributes: Float[Tensor, "*b v c"]
) -> Float[Tensor, "*b h w c"]:
    """Attributes of the vertices carried to the pixels, 0 on background.

    Differentiable in the attributes only: moving a vertex moves no weight and no silhouette.
    Computed in the attributes' dtype, on their device.

    Raises:
        ValueError: faces of vertices that do not exist.
    """
    vertex_count, channels = attributes.shape[-2:]
    check_faces(faces, vertex_count)
    face_ids = _one_row_per_mesh(fragments.face_ids)
    mesh, pixel = torch.nonzero(face_ids >= 0, as_tuple=True)
    corners = faces.long()[face_ids[mesh, pixel].long()] + mesh[:, None] * vertex_count
    weights = fragments.barycentrics.reshape(*face_ids.shape, 3)[mesh, pixel]
    values = attributes.reshape(-1, channels)[corners]
    shown = (weights.to(attributes.dtype)[..., None] * values).sum(1)
    image = attributes.new_zeros((*face_ids.shape, channels)).index_put((mesh, pixel), shown)
    return image.reshape(*fragments.face_ids.shape, channels)


def vertices_of_winning_faces(
    fragments: Fragments, faces: Int[Tensor, "f 3"], vertex_count: int
) -> Bool[Tensor, "*b v"]:
    """The published rule: a vertex is visible when one of its faces wins at least one pixel.

    This is the z-buffer rule of the optical-flow loss's published code, kept to reproduce it.
    A triangle smaller than a pixel often wins none: of the open body, 180 px long in a 224 px
    crop, it misses 31 % of the visible vertices, half of which are in hands, head and feet
    (``benchmarks/raster.py``). `visible_vertices` has no such limit.

    Raises:
        ValueError: faces of vertices that do not exist.
    """
    check_faces(faces, vertex_count)
    face_ids = _one_row_per_mesh(fragments.face_ids)
    mesh, pixel = torch.nonzero(face_ids >= 0, as_tuple=True)
    winners = faces.long()[face_ids[mesh, pixel].long()]
    visible = torch.zeros(len(face_ids), vertex_count, dtype=torch.bool, device=face_ids.device)
    visible[mesh[:, None], winners] = True
    return visible.reshape(*fragments.face_ids.shape[:-2], vertex_count)


def _one_row_per_mesh(face_ids: Int32[Tensor, "*b h w"]) -> Int32[Tensor, "n hw"]:
    *lead, height, width = face_ids.shape
    return face_ids.reshape(math.prod(lead), height * width)
