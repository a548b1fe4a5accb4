"""The Triton kernels' host side: what is on the GPU stays there.

The one thing read back is whether the input is sound; meshes and maps are not copied, and nothing
else waits for the device.

The functions ask nothing of the device but that Triton runs on it: in Triton's interpreter
(``TRITON_INTERPRET=1``) they run on the CPU, which is how they are tested without a GPU.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Bool, Float, Float32, Float64, Int, Int8, Int32, Int64
from torch import Tensor

from flowhmr.raster.inputs import checked_meshes

BY_FACE: dict[str, Any] = {"BLOCK": 32, "num_warps": 1, "enable_fp_fusion": False}
"""One warp a program: all its lanes wait for the largest of the block's faces."""
BY_PIXEL: dict[str, Any] = {"BLOCK": 128, "num_warps": 4, "enable_fp_fusion": False}
CELLS_PER_VERTEX = 4
"""How finely the candidate vertices are binned; about half of the vertices are candidates."""
SMALLEST_BOX_PX = 1e-6
"""Candidates closer together than this share a cell."""


@dataclass(frozen=True, eq=False)
class CandidateGrid:
    """The candidate vertices of each mesh, sorted by the cell of a grid over their box.

    The grid has ``side`` x ``side`` cells; one more, the last of each mesh, holds all vertices
    that are no candidates.
    """

    boxes: Float64[Tensor, "n 6"]
    """Left, top, right, bottom in pixels (infinite and inverted without candidates), then cells
    per pixel in x and in y."""
    starts: Int32[Tensor, "cells"]
    """Where each cell starts in ``order``: side * side + 1 cells a mesh, row by row."""
    order: Int64[Tensor, "nv"]
    """Vertices by cell, counted through the batch."""
    points: Float64[Tensor, "nv 3"]
    """x, y, z of those vertices."""
    side: int
    """Cells along each axis."""


@lru_cache(maxsize=1)
def has_triton() -> bool:
    """Whether the kernels can be had; PyTorch for Linux brings Triton along."""
    return find_spec("triton") is not None


def stays_on_gpu(verts_px: Tensor) -> bool:
    """Whether the functions of this module are the ones for this input."""
    return verts_px.device.type == "cuda" and has_triton()


def rasterise_triton(
    verts_px: Float[Tensor, "*b v 3"], faces: Int[Tensor, "f 3"], height: int, width: int
) -> tuple[Int32[Tensor, "*b h w"], Float32[Tensor, "*b h w 3"], Float32[Tensor, "*b h w"]]:
    """Face ids, barycentrics and depth as `rasterise` describes them, on the vertices' device.

    The result is that of the CPU bit by bit, in whichever order the GPU draws.

    Raises:
        TypeError, ValueError: as `rasterise`.
    """
    from flowhmr.raster import triton_kernels

    verts, faces = _checked_on_device(verts_px, faces, height, width)
    count, vertex_count = verts.shape[:2]
    lead, device = verts_px.shape[:-2], verts.device
    shape, sizes = (count, height, width), (vertex_count, len(faces), height, width)
    # Until they are resolved, the id of no face is the one after the last.
    face_ids = torch.full(shape, len(faces), dtype=torch.int32, device=device)
    barycentrics = torch.empty((*shape, 3), dtype=torch.float32, device=device)
    depth = torch.empty(shape, dtype=torch.float32, device=device)
    with torch.cuda.device_of(verts):
        if count and len(faces):
            farthest = torch.iinfo(torch.int64).max
            nearest = torch.full_like(face_ids, farthest, dtype=torch.int64)
            for find_face in (False, True):
                triton_kernels.win_pixels[_grid(count, len(faces), BY_FACE)](
                    verts,
                    faces,
                    nearest,
                    face_ids,
                    *sizes,
                    FIND_FACE=find_face,
                    **BY_FACE,
                )
        if count:
            triton_kernels.resolve_pixels[_grid(count, height * width, BY_PIXEL)](
                verts,
                faces,
                face_ids,
                barycentrics,
                depth,
                *sizes,
                **BY_PIXEL,
            )
    return (
        face_ids.reshape(*lead, height, width),
        barycentrics.reshape(*lead, height, width, 3),
        depth.reshape(*lead, height, width),
    )


def visible_vertices_triton(
    verts_px: Float[Tensor, "*b v 3"],
    faces: Int[Tensor, "f 3"],
    height: int,
    width: int,
    tolerance_px: float,
) -> Bool[Tensor, "*b v"]:
    """Visibility as `visible_vertices` describes it, on the vertices' device.

    A face hides what lies further behind it than ``tolerance_px``.

    Raises:
        TypeError, ValueError: as `visible_vertices`.
    """
    from flowhmr.raster import triton_kernels

    verts, faces = _checked_on_device(verts_px, faces, height, width)
    count, vertex_count = verts.shape[:2]
    marks = torch.zeros((count, vertex_count), dtype=torch.int8, device=verts.device)
    if count and len(faces):
        grid = _grid(count, len(faces), BY_FACE)
        with torch.cuda.device_of(verts):
            triton_kernels.mark_front[grid](
                verts, faces, marks, vertex_count, len(faces), **BY_FACE
            )
            x, y, _ = verts.unbind(-1)
            marks *= (x >= 0) & (x <= width) & (y >= 0) & (y <= height)
            cells = _sort_into_cells(verts, marks)
            triton_kernels.hide_behind[grid](
                verts,
                faces,
                cells.boxes,
                cells.starts,
                cells.order,
                cells.points,
                marks,
                vertex_count,
                len(faces),
                cells.side,
                TOLERANCE=tolerance_px,
                **BY_FACE,
            )
    return marks.view(torch.bool).reshape(verts_px.shape[:-1])


def pull_triton(
    face_ids: Int32[Tensor, "n h w"],
    barycentrics: Float32[Tensor, "n h w 3"],
    depth: Float32[Tensor, "n h w"],
    faces: Int[Tensor, "f 3"],
    image: Float[Tensor, "n h w c"],
    image_grad: Float[Tensor, "n h w c"],
    verts_grad: Float64[Tensor, "n v 3"],
    attributes_grad: Float64[Tensor, "n v k"],
    gap_px: float,
) -> None:
    """Add up the gradients that `render_attributes` describes, in zeros.

    All contiguous and on one device; ``gap_px`` tells one surface from two. ``attributes_grad``
    has all channels, or none when it is not asked for.
    """
    from flowhmr.raster import triton_kernels

    count, height, width, channels = image.shape
    if count:
        with torch.cuda.device_of(image):
            triton_kernels.pull_vertices[_grid(count, height * width, BY_PIXEL)](
                face_ids,
                barycentrics,
                depth,
                faces,
                image,
                image_grad,
                verts_grad,
                attributes_grad,
                verts_grad.shape[1],
                height,
                width,
                CHANNELS=channels,
                WANTED=attributes_grad.shape[2],
                GAP=gap_px,
                **BY_PIXEL,
            )


def _sort_into_cells(
    verts: Float64[Tensor, "n v 3"], is_candidate: Int8[Tensor, "n v"]
) -> CandidateGrid:
    """Bin the candidates with sizes known on the host, so that nothing is read from the device."""
    count, vertex_count = is_candidate.shape
    candidates, xy = is_candidate.bool(), verts[..., :2]
    side = math.ceil(math.sqrt(CELLS_PER_VERTEX * vertex_count))
    low = xy.where(candidates[..., None], torch.inf).amin(1)
    high = xy.where(candidates[..., None], -torch.inf).amax(1)
    per_px = side / (high - low).clamp(min=SMALLEST_BOX_PX)
    # The same subtraction and product as in the kernel: a point within a face's bounds then
    # always has a cell within the face's cells.
    cell = ((xy - low[:, None]) * per_px[:, None]).clamp(0, side - 1).long()
    cell = torch.where(candidates, cell[..., 1] * side + cell[..., 0], side * side)
    cells = side * side + 1
    first = torch.arange(count, device=verts.device)[:, None] * cells
    ordered, order = (first + cell).flatten().sort()
    starts = torch.searchsorted(
        ordered, torch.arange(count * cells, device=verts.device), out_int32=True
    )
    return CandidateGrid(
        boxes=torch.cat([low, high, per_px], -1),
        starts=starts,
        order=order,
        points=verts.reshape(-1, 3)[order],
        side=side,
    )


def _grid(count: int, items: int, launch: dict[str, Any]) -> tuple[int]:
    """Programs for all meshes, each with its own blocks of items."""
    return (count * math.ceil(items / launch["BLOCK"]),)


def _checked_on_device(
    verts_px: Float[Tensor, "*b v 3"], faces: Int[Tensor, "f 3"], height: int, width: int
) -> tuple[Float64[Tensor, "n v 3"], Int32[Tensor, "f 3"]]:
    """Meshes as `checked_meshes` gives them, left on their device, which is waited for once."""
    sound_type = verts_px.dtype in (torch.float32, torch.float64) and min(height, width) >= 1
    faces = faces.detach().to(verts_px.device)
    if not (sound_type and _numbers_are_sound(verts_px.detach(), faces)):
        checked_meshes(verts_px, faces, height, width)  # says what is wrong
        raise AssertionError("checked_meshes accepts what the test on the device refuses")
    verts = verts_px.detach().to(torch.float64).contiguous()
    return (
        verts.reshape(math.prod(verts_px.shape[:-2]), verts_px.shape[-2], 3),
        faces.to(torch.int32).contiguous(),
    )


def _numbers_are_sound(verts_px: Float[Tensor, "*b v 3"], faces: Int[Tensor, "f 3"]) -> bool:
    """All vertices finite and all faces of vertices that exist; one transfer from the device."""
    parts = [part for part in (verts_px, faces) if part.numel()]
    if not parts:
        return True
    extremes = torch.stack([end.double() for part in parts for end in torch.aminmax(part)]).tolist()
    ids = extremes[-2:] if faces.numel() else [0, -1]
    return (
        all(math.isfinite(end) for end in extremes) and ids[0] >= 0 and ids[1] < verts_px.shape[-2]
    )
