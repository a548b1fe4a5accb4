"""Twin of `things.surface_at` in tensor operations: what things are where rays meet them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from flowhmr.synth.things import (
    BOX,
    CYLINDER,
    DOME,
    DOME_ELEVATION,
    ELLIPSOID,
    HALF,
    KIND,
    TEXTURE,
    TOP_TEXTURE,
    WALLS,
)


@dataclass(frozen=True, eq=False)
class Surface:
    """What a thing is at some points."""

    normal: Float32[Tensor, "3 k"]
    """Unit normals in the thing's axes."""
    u_m: Float32[Tensor, "k"]
    """Texture coordinate; of the sky in repetitions."""
    v_m: Float32[Tensor, "k"]
    """The other one."""
    texture: Int64[Tensor, "k"]
    """Which texture."""


def surface_at(
    thing: Float32[Tensor, "c k"], at: Float32[Tensor, "3 k"], kinds: frozenset[int]
) -> Surface:
    """Twin of `things.surface_at` for many points.

    Args:
        thing: the row of the thing that each point is on.
        at: the points, in axes of their things.
        kinds: all kinds that can occur.
    """
    x, y, z = at
    kind, which, top = thing[KIND], thing[TEXTURE], thing[TOP_TEXTURE]
    hx, hy, hz = thing[HALF]
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    # The floor.
    nx, ny, nz, u, v = zero, one, zero, x, z
    if BOX in kinds or WALLS in kinds:
        here = (kind == BOX) | (kind == WALLS)
        fx, fy, fz = x.abs() / hx, y.abs() / hy, z.abs() / hz
        out = torch.where(kind == BOX, 1.0, -1.0)
        on_y = (fy >= fx) & (fy >= fz)
        on_x = ~on_y & (fx >= fz)
        nx = torch.where(here & on_x, torch.copysign(one, x) * out, nx)
        ny = torch.where(here, torch.where(on_y, torch.copysign(one, y) * out, zero), ny)
        nz = torch.where(here & ~on_y & ~on_x, torch.copysign(one, z) * out, nz)
        u = torch.where(here & on_x, z, u)
        v = torch.where(here & ~on_y, -y, v)
        which = torch.where(here & on_y, top, which)
    if CYLINDER in kinds:
        here = kind == CYLINDER
        on_lid = here & (y.abs() > hy * 0.9999)
        around = here & ~on_lid
        nx, nz = torch.where(around, x / hx, nx), torch.where(around, z / hx, nz)
        ny = torch.where(here, torch.where(on_lid, torch.copysign(one, y), zero), ny)
        u, v = torch.where(around, torch.atan2(x, z) * hx, u), torch.where(around, -y, v)
        which = torch.where(on_lid, top, which)
    if ELLIPSOID in kinds:
        here = kind == ELLIPSOID
        ex, ey, ez = x / hx**2, y / hy**2, z / hz**2
        length = (ex * ex + ey * ey + ez * ez).sqrt()
        nx, ny, nz = (torch.where(here, e / length, n) for e, n in ((ex, nx), (ey, ny), (ez, nz)))
        u, v = torch.where(here, torch.atan2(x, z) * hx, u), torch.where(here, -y, v)
    if DOME in kinds:
        here = kind == DOME
        up = (y / (x * x + y * y + z * z).sqrt()).clamp(-1, 1).asin()
        turn = torch.atan2(x, z) / (2 * torch.pi)
        u = torch.where(here, turn * 6, u)
        v = torch.where(here, 1 - (up / DOME_ELEVATION).clamp(0, 1), v)
    return Surface(torch.stack([nx, ny, nz]), u, v, which.long())
