"""What every function on meshes asks of its input, checked in one place."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class FlatMeshes:
    """Meshes of one topology on the CPU, their leading axes made one."""

    verts_px: Float[Tensor, "n v 3"]
    """x, y, z in pixels, float64, contiguous, detached."""
    faces: Int[Tensor, "f 3"]
    """Vertex ids, int32, contiguous."""


def checked_meshes(
    verts_px: Float[Tensor, "*b v 3"], faces: Int[Tensor, "f 3"], height: int, width: int
) -> FlatMeshes:
    """The meshes as the kernels want them; float64 holds float32 input without loss.

    Raises:
        TypeError: half precision.
        ValueError: an image without pixels, a face of vertices that do not exist, or vertices
            that are not finite.
    """
    if verts_px.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"verts_px: got {verts_px.dtype}; expected float32 or float64, half precision moves "
            "vertices by up to 0.1 px; project outside of autocast"
        )
    if height < 1 or width < 1:
        raise ValueError(f"image: got height {height}, width {width}; expected at least 1 and 1")
    vertex_count = verts_px.shape[-2]
    faces = faces.detach().to("cpu", torch.int32).contiguous()
    check_faces(faces, vertex_count)
    flat = verts_px.detach().to("cpu", torch.float64).contiguous()
    flat = flat.reshape(math.prod(verts_px.shape[:-2]), vertex_count, 3)
    # The extremes carry any NaN or infinity along, at a tenth of the price of a full test.
    if flat.numel() and not bool(torch.isfinite(torch.stack(torch.aminmax(flat))).all()):
        bad = torch.nonzero(~torch.isfinite(flat).all(-1))
        mesh, vertex = bad[0].tolist()
        raise ValueError(
            f"verts_px: got {len(bad)} vertices that are not finite, the first is vertex {vertex} "
            f"of mesh {mesh} (leading axes flattened); expected finite pixel coordinates; look "
            "for a diverged prediction or a division by a camera scale or depth near zero"
        )
    return FlatMeshes(flat, faces)


def check_faces(faces: Int[Tensor, "f 3"], vertex_count: int) -> None:
    """Raise ValueError unless every id in ``faces`` is one of ``vertex_count`` vertices."""
    if faces.numel() == 0:
        return
    low, high = torch.aminmax(faces)
    if int(low) < 0 or int(high) >= vertex_count:
        raise ValueError(
            f"faces: got vertex ids from {int(low)} to {int(high)}; expected 0 to "
            f"{vertex_count - 1}; are the faces and the {vertex_count} vertices of one body?"
        )
