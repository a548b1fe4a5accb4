"""Things: the solids a scene is made of, and where a ray meets them (compiled).

A thing is a row of a table and, in each frame, a pose: position and a turn about the vertical.
World axes: y up, metres. A ray's direction is scaled so that its parameter is the depth Z.
"""

import math
from typing import no_type_check

import numba
import numpy as np

FLOOR, WALLS, DOME, BOX, CYLINDER, ELLIPSOID, MEDIA = range(7)
"""The plane y = 0; the inside of a room; the sky; solids (cylinders stand upright, an ellipsoid's
half sizes are its semi-axes); a picture behind everything, without depth."""

# Columns of the table of things.
KIND, HALF, TEXTURE, TOP_TEXTURE, TILE_M, TINT = 0, slice(1, 4), 4, 5, 6, slice(7, 10)
THING_COLUMNS = 10
# Columns of a pose: position, cosine and sine of the turn about y.
POSE_COLUMNS = 5
NOWHERE = 1e9
"""Depth where a ray meets nothing."""
DOME_ELEVATION = math.radians(60)
"""The sky's texture reaches from the horizon to here."""

_jit = numba.njit(cache=True, nogil=True, error_model="numpy")


@_jit
@no_type_check
def to_local(pose, x, y, z):
    """A direction in the world, in the thing's axes."""
    return pose[3] * x - pose[4] * z, y, pose[4] * x + pose[3] * z


@_jit
@no_type_check
def to_world(pose, x, y, z):
    """Inverse of `to_local`, for directions."""
    return pose[3] * x + pose[4] * z, y, -pose[4] * x + pose[3] * z


@_jit
@no_type_check
def _rays(pose, rotmat, centre, lens):
    """A camera's rays in a thing's axes: origin (3), and ``direction = m @ (column, row, 1)``."""
    origin = np.empty(3)
    origin[0], origin[1], origin[2] = to_local(
        pose, centre[0] - pose[0], centre[1] - pose[1], centre[2] - pose[2]
    )
    m = np.empty((3, 3))
    for axis in range(3):
        x, y, z = to_local(pose, rotmat[axis, 0], rotmat[axis, 1], rotmat[axis, 2])
        m[0, axis], m[1, axis], m[2, axis] = x, y, z
    for k in range(3):
        m[k, 2] += (m[k, 0] * (0.5 - lens[1]) + m[k, 1] * (0.5 - lens[2])) / lens[0]
        m[k, 0] /= lens[0]
        m[k, 1] /= lens[0]
    return origin, m


@_jit
@no_type_check
def _meet_box(ox, oy, oz, dx, dy, dz, half):
    near, far = -np.inf, np.inf
    for o, d, h in ((ox, dx, half[0]), (oy, dy, half[1]), (oz, dz, half[2])):
        # A zero direction gives infinities of the right signs.
        a, b = (-h - o) / d, (h - o) / d
        near, far = max(near, min(a, b)), min(far, max(a, b))
    return near if near <= far and near > 0 else NOWHERE


@_jit
@no_type_check
def _leave_walls(ox, oy, oz, dx, dy, dz, half):
    x = (math.copysign(half[0], dx) - ox) / dx
    y = (math.copysign(half[1], dy) - oy) / dy
    z = (math.copysign(half[2], dz) - oz) / dz
    far = min(x, y, z)
    return far if far > 0 else NOWHERE


@_jit
@no_type_check
def _meet_cylinder(ox, oy, oz, dx, dy, dz, half):
    radius, high = half[0], half[1]
    a = dx * dx + dz * dz
    b = ox * dx + oz * dz
    root = b * b - a * (ox * ox + oz * oz - radius * radius)
    if root <= 0:
        return NOWHERE
    best = NOWHERE
    s = (-b - math.sqrt(root)) / a
    if s > 0 and abs(oy + s * dy) <= high:
        best = s
    s = (math.copysign(high, oy) - oy) / dy
    x, z = ox + s * dx, oz + s * dz
    if 0 < s < best and x * x + z * z <= radius * radius:
        best = s
    return best


@_jit
@no_type_check
def _meet_ellipsoid(ox, oy, oz, dx, dy, dz, half, leave):
    ox, oy, oz = ox / half[0], oy / half[1], oz / half[2]
    dx, dy, dz = dx / half[0], dy / half[1], dz / half[2]
    a = dx * dx + dy * dy + dz * dz
    b = ox * dx + oy * dy + oz * dz
    root = b * b - a * (ox * ox + oy * oy + oz * oz - 1)
    if root <= 0:
        return NOWHERE
    s = (-b + math.sqrt(root)) / a if leave else (-b - math.sqrt(root)) / a
    return s if s > 0 else NOWHERE


@_jit
@no_type_check
def surface_at(thing, x, y, z):
    """Normal (3) in the thing's axes, texture coordinates in metres (2), and which texture.

    x, y, z: a point on the thing, in its axes. The sky's coordinates are in repetitions.
    """
    kind = int(thing[0])
    which = thing[4]
    if kind == FLOOR:
        return 0.0, 1.0, 0.0, x, z, which
    if kind == DOME:
        up = math.asin(min(max(y / math.sqrt(x * x + y * y + z * z), -1.0), 1.0))
        turn = math.atan2(x, z) / (2 * math.pi)
        return 0.0, 1.0, 0.0, turn * 6.0, 1.0 - min(max(up / DOME_ELEVATION, 0.0), 1.0), which
    if kind in (BOX, WALLS):
        fx, fy, fz = abs(x) / thing[1], abs(y) / thing[2], abs(z) / thing[3]
        out = 1.0 if kind == BOX else -1.0
        if fy >= fx and fy >= fz:
            return 0.0, math.copysign(out, y * out), 0.0, x, z, thing[5]
        if fx >= fz:
            return math.copysign(1.0, x) * out, 0.0, 0.0, z, -y, which
        return 0.0, 0.0, math.copysign(1.0, z) * out, x, -y, which
    if kind == CYLINDER:
        if abs(y) > thing[2] * 0.9999:
            return 0.0, math.copysign(1.0, y), 0.0, x, z, thing[5]
        return x / thing[1], 0.0, z / thing[1], math.atan2(x, z) * thing[1], -y, which
    nx, ny, nz = x / thing[1] ** 2, y / thing[2] ** 2, z / thing[3] ** 2
    length = math.sqrt(nx * nx + ny * ny + nz * nz)
    ny /= length
    around = math.atan2(x, z) * thing[1]
    return nx / length, ny, nz / length, around, -y, which


@_jit
@no_type_check
def _rectangle(thing, pose, rotmat, centre, lens, height, width):
    """Pixels that may see a thing: first and last row and column."""
    x0, x1, y0, y1 = np.inf, -np.inf, np.inf, -np.inf
    for corner in range(8):
        lx = thing[1] if corner & 1 else -thing[1]
        ly = thing[2] if corner & 2 else -thing[2]
        lz = thing[3] if corner & 4 else -thing[3]
        if thing[0] == CYLINDER:
            lz = thing[1] if corner & 4 else -thing[1]
        wx, wy, wz = to_world(pose, lx, ly, lz)
        wx, wy, wz = wx + pose[0] - centre[0], wy + pose[1] - centre[1], wz + pose[2] - centre[2]
        depth = rotmat[2, 0] * wx + rotmat[2, 1] * wy + rotmat[2, 2] * wz
        if depth < 0.02:
            return 0, height - 1, 0, width - 1
        x = lens[0] * (rotmat[0, 0] * wx + rotmat[0, 1] * wy + rotmat[0, 2] * wz) / depth + lens[1]
        y = lens[0] * (rotmat[1, 0] * wx + rotmat[1, 1] * wy + rotmat[1, 2] * wz) / depth + lens[2]
        x0, x1, y0, y1 = min(x0, x), max(x1, x), min(y0, y), max(y1, y)
    top, left = int(max(y0 - 1.0, 0.0)), int(max(x0 - 1.0, 0.0))
    bottom, right = int(min(y1 + 1.0, height - 1.0)), int(min(x1 + 1.0, width - 1.0))
    return top, bottom, left, right


@_jit
@no_type_check
def _trace_thing(n, kind, half, origin, m, window, ids, depth):
    """One thing into the maps, where it is nearer."""
    ox, oy, oz = origin
    top, bottom, left, right = window
    for row in range(top, bottom + 1):
        bx, by, bz = m[0, 1] * row + m[0, 2], m[1, 1] * row + m[1, 2], m[2, 1] * row + m[2, 2]
        for column in range(left, right + 1):
            dx, dy, dz = bx + m[0, 0] * column, by + m[1, 0] * column, bz + m[2, 0] * column
            s = NOWHERE
            if kind == BOX:
                s = _meet_box(ox, oy, oz, dx, dy, dz, half)
            elif kind == FLOOR:
                if dy < -1e-9:
                    s = -oy / dy
            elif kind == WALLS:
                s = _leave_walls(ox, oy, oz, dx, dy, dz, half)
            elif kind == CYLINDER:
                s = _meet_cylinder(ox, oy, oz, dx, dy, dz, half)
            elif kind == MEDIA:
                s = NOWHERE / 2
            elif kind == ELLIPSOID or depth[row, column] > half[0] / 2:
                # The sky is behind everything: most of it is never asked for.
                s = _meet_ellipsoid(ox, oy, oz, dx, dy, dz, half, kind == DOME)
            if s < depth[row, column]:
                depth[row, column] = s
                ids[row, column] = -1 - n


@_jit
@no_type_check
def trace(things, poses, rotmat, centre, lens, ids, depth):
    """What the centre of each pixel sees of a scene.

    things (n, THING_COLUMNS), poses (n, POSE_COLUMNS) of one frame, rotmat (3, 3) world to camera,
    centre (3) of the camera in the world, lens (3): focal length and principal point in pixels.
    out: ids int32 (h, w), -1 - n for thing n; depth float32 (h, w), Z in metres.
    """
    height, width = ids.shape
    depth[:] = NOWHERE
    ids[:] = -1
    for n in range(things.shape[0]):
        kind = int(things[n, 0])
        window = 0, height - 1, 0, width - 1
        if kind in (BOX, CYLINDER, ELLIPSOID):
            window = _rectangle(things[n], poses[n], rotmat, centre, lens, height, width)
        origin, m = _rays(poses[n], rotmat, centre, lens)
        half = things[n, 1:4].astype(np.float64)
        _trace_thing(n, kind, half, (origin[0], origin[1], origin[2]), m, window, ids, depth)


@_jit
@no_type_check
def merge_body(face_ids, affine, inverse_depth, faces, first_id, mask, scale, ids, depth, weights):
    """A rasterised body into the maps of `trace`, where it is nearer.

    face_ids (h, w), affine (h, w, 3): weights linear in the image; inverse_depth (v): 1 / Z of its
    vertices; first_id: id of its first face; mask (h / scale, w / scale): pixels where everybody
    is hidden; weights (h, w, 3): out, weights linear on the surface.
    """
    height, width = ids.shape
    for row in range(height):
        for column in range(width):
            t = face_ids[row, column]
            if t < 0 or mask[row // scale, column // scale]:
                continue
            w0 = affine[row, column, 0] * inverse_depth[faces[t, 0]]
            w1 = affine[row, column, 1] * inverse_depth[faces[t, 1]]
            w2 = affine[row, column, 2] * inverse_depth[faces[t, 2]]
            s = 1.0 / (w0 + w1 + w2)
            if s < depth[row, column]:
                depth[row, column] = s
                ids[row, column] = first_id + t
                weights[row, column, 0] = w0 * s
                weights[row, column, 1] = w1 * s
                weights[row, column, 2] = w2 * s
