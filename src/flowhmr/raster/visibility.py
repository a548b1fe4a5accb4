"""Which vertices the camera sees."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from flowhmr.raster import kernels
from flowhmr.raster.cuda import stays_on_gpu, visible_vertices_triton
from flowhmr.raster.inputs import checked_meshes
from flowhmr.raster.workers import over_batch

DEPTH_TOLERANCE_PX = 1e-4
"""A face hides what lies further behind it than this; float32 depths at 224 px are good to 1e-5."""


def visible_vertices(
    verts_px: Float[Tensor, "*b v 3"], faces: Int[Tensor, "f 3"], height: int, width: int
) -> Bool[Tensor, "*b v"]:
    """Exact visibility of each vertex, looking along +z (orthographic in pixel space).

    A vertex is visible when it lies on the image, [0, width] x [0, height] with the border, it
    belongs to at least one front face, and no front face that it does not belong to covers it
    nearer by more than 1e-4 px. Faces are tested as triangles, not as pixels, so the answer does
    not depend on the pixel grid; compare `vertices_of_winning_faces`.

    Axes are x right, y down, z away from the camera, with z in pixels too, as ``project_weak``
    gives it. Meshes must be closed and outward-oriented (counter-clockwise seen from outside, as
    body models are): back faces neither hide nor show anything. A projection that mirrors turns
    every face over; flip ``faces`` with it (``faces.flip(-1)``). Under perspective Z is not linear
    in the image: pass ``z = -focal_px * distance / Z``, with the body's distance, which is, and
    is in pixels near the body.

    Computed in float64 with float32 or float64 input: on the CPU with meshes in parallel on
    torch's thread count, on the GPU with Triton (without it, CUDA input is copied to the CPU and
    the answer back). The host waits for the GPU once, to check the input. No gradients.

    Raises:
        TypeError: half precision.
        ValueError: vertices that are not finite, faces of vertices that do not exist, an image
            without pixels.
    """
    if stays_on_gpu(verts_px):
        return visible_vertices_triton(verts_px, faces, height, width, DEPTH_TOLERANCE_PX)
    meshes = checked_meshes(verts_px, faces, height, width)
    visible = torch.empty(meshes.verts_px.shape[:2], dtype=torch.bool)
    verts, ids, out = meshes.verts_px.numpy(), meshes.faces.numpy(), visible.numpy()

    def work(first: int, last: int) -> None:
        kernels.visible_vertices(verts, ids, height, width, DEPTH_TOLERANCE_PX, first, last, out)

    over_batch(len(verts), work)
    return visible.reshape(verts_px.shape[:-1]).to(verts_px.device)
