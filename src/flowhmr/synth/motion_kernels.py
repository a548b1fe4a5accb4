"""Where each pixel goes from frame to frame, and whether it is still seen there (compiled)."""

from typing import no_type_check

import numba
import numpy as np

from flowhmr.synth.things import DOME, FLOOR, MEDIA, WALLS, to_local, to_world

_jit = numba.njit(cache=True, nogil=True, error_model="numpy")

BODY_TOLERANCE_M = 0.03
THING_TOLERANCE = 0.02
"""A point is seen where its neighbours in the other frame are no further off than this: metres on
bodies, share of the depth on things."""
CENTRE = 0.4999
"""Under a still camera points end where they began, on pixel centres: rounding must not decide
which four pixels are around one."""


@_jit
@no_type_check
def _seen_there(x, y, s, seen, per_body, ids, depth, any_depth):
    """Whether the four pixels around (x, y) show the same body or thing at depth ``s``."""
    height, width = ids.shape
    if not (0 <= x <= width and 0 <= y <= height):
        return False
    j, i = int(np.floor(x - CENTRE)), int(np.floor(y - CENTRE))
    near, far = np.inf, -np.inf
    for k in range(max(i, 0), min(i + 2, height)):
        for m in range(max(j, 0), min(j + 2, width)):
            other = ids[k, m]
            if seen >= 0:
                one_body = other >= 0 and other // per_body == seen // per_body
                if one_body and abs(depth[k, m] - s) < BODY_TOLERANCE_M + 0.004 * s:
                    return True
            elif other == seen:
                if any_depth:
                    return True
                near, far = min(near, depth[k, m]), max(far, depth[k, m])
    # Solids may be steep: anything between their depths there is on them.
    tolerance = THING_TOLERANCE * s + 0.02
    return near - tolerance < s < far + tolerance


@_jit
@no_type_check
def flow_between(
    ids, depth, weights, poses, view, other_ids, other_depth, other_poses, other_view,
    other_verts, other_lens, faces, things, drift, flow, valid,
):  # fmt: skip
    """Displacement of what each pixel's centre shows, from one frame to another.

    ids, depth, weights: maps of this frame; poses, view: of its scene; other_*: of the other frame;
    other_verts (a, v, 3): bodies in axes of their camera there, other_lens its lens; drift (3): how
    far `MEDIA` moves, and whether that is known.
    out: flow (h, w, 2) in pixels, valid (h, w): seen in the other frame as well.
    """
    height, width = ids.shape
    rotmat, centre, lens = view
    to, there, other = other_view
    count = faces.shape[0]
    for row in range(height):
        for column in range(width):
            seen = ids[row, column]
            if seen >= 0:
                who, face = seen // count, seen % count
                x, y, s = 0.0, 0.0, 0.0
                for k in range(3):
                    w = weights[row, column, k]
                    vertex = other_verts[who, faces[face, k]]
                    x, y, s = x + w * vertex[0], y + w * vertex[1], s + w * vertex[2]
                focal, x0, y0 = other_lens[0], other_lens[1], other_lens[2]
                any_depth = False
            else:
                n = -1 - seen
                if things[n, 0] == MEDIA:
                    flow[row, column, 0], flow[row, column, 1] = drift[0], drift[1]
                    valid[row, column] = drift[2] > 0 and _seen_there(
                        column + 0.5 + drift[0], row + 0.5 + drift[1], 0.0, seen, count,
                        other_ids, other_depth, True,
                    )  # fmt: skip
                    continue
                s = depth[row, column]
                x = s * (column + 0.5 - lens[1]) / lens[0]
                y = s * (row + 0.5 - lens[2]) / lens[0]
                wx = rotmat[0, 0] * x + rotmat[1, 0] * y + rotmat[2, 0] * s + centre[0]
                wy = rotmat[0, 1] * x + rotmat[1, 1] * y + rotmat[2, 1] * s + centre[1]
                wz = rotmat[0, 2] * x + rotmat[1, 2] * y + rotmat[2, 2] * s + centre[2]
                p, q = poses[n], other_poses[n]
                lx, ly, lz = to_local(p, wx - p[0], wy - p[1], wz - p[2])
                wx, wy, wz = to_world(q, lx, ly, lz)
                wx, wy, wz = wx + q[0] - there[0], wy + q[1] - there[1], wz + q[2] - there[2]
                x = to[0, 0] * wx + to[0, 1] * wy + to[0, 2] * wz
                y = to[1, 0] * wx + to[1, 1] * wy + to[1, 2] * wz
                s = to[2, 0] * wx + to[2, 1] * wy + to[2, 2] * wz
                focal, x0, y0 = other[0], other[1], other[2]
                kind = things[n, 0]
                # These cannot hide themselves.
                any_depth = kind in (FLOOR, WALLS, DOME)
            if s < 0.01:
                flow[row, column, 0] = flow[row, column, 1] = 0.0
                valid[row, column] = False
                continue
            x, y = focal * x / s + x0, focal * y / s + y0
            flow[row, column, 0] = x - (column + 0.5)
            flow[row, column, 1] = y - (row + 0.5)
            valid[row, column] = _seen_there(
                x, y, s, seen, count, other_ids, other_depth, any_depth
            )
