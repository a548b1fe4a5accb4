"""Compiled kernels, serial over one mesh after another; the readable twins are in ``reference``.

A point p is covered by a front triangle when the three edge functions
``w_i = cross(v_j - p, v_k - p)`` are all <= 0. Written this way the value at a shared edge is
exactly the negative of the neighbour's, so that no pixel falls between two triangles; fused
multiply-add would break that, therefore ``fastmath`` stays off.

The kernels own their scratch memory, so any number of threads may run them side by side, and they
start no threads themselves: numba's threading layers neither survive a fork nor share cores with
torch's.
"""

import math
from typing import no_type_check

import numba
import numpy as np

_jit = numba.njit(cache=True, nogil=True, error_model="numpy")

CELLS_PER_VERTEX = 12
"""How finely the candidate vertices are binned; the time is flat from 6 to 20 on human bodies."""


@_jit
@no_type_check
def _edge_functions(x0, y0, x1, y1, x2, y2, px, py):
    ax, ay, bx, by, cx, cy = x0 - px, y0 - py, x1 - px, y1 - py, x2 - px, y2 - py
    return bx * cy - by * cx, cx * ay - cy * ax, ax * by - ay * bx


@_jit
@no_type_check
def _pixel_range(low, high, size):
    """First and last pixel whose centre is in [low, high] (first > last where there is none)."""
    # np.ceil, not math.ceil, which is an integer here: huge coordinates do not fit one.
    first = min(max(np.ceil(low - 0.5), 0.0), float(size))
    last = max(min(np.floor(high - 0.5), size - 1.0), -1.0)
    return int(first), int(last)


@_jit
@no_type_check
def _win_pixels(verts, faces, face_ids, nearest):
    """Z-buffer of one mesh; the first face wins a tie."""
    height, width = face_ids.shape
    face_ids[:] = -1
    nearest[:] = np.inf
    for t in range(faces.shape[0]):
        a, b, c = faces[t, 0], faces[t, 1], faces[t, 2]
        x0, x1, x2 = verts[a, 0], verts[b, 0], verts[c, 0]
        y0, y1, y2 = verts[a, 1], verts[b, 1], verts[c, 1]
        if (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0) >= 0:
            continue
        left, right = _pixel_range(min(x0, x1, x2), max(x0, x1, x2), width)
        if left > right:
            continue
        top, bottom = _pixel_range(min(y0, y1, y2), max(y0, y1, y2), height)
        if top > bottom:
            continue
        z0, z1, z2 = verts[a, 2], verts[b, 2], verts[c, 2]
        for row in range(top, bottom + 1):
            for col in range(left, right + 1):
                w0, w1, w2 = _edge_functions(x0, y0, x1, y1, x2, y2, col + 0.5, row + 0.5)
                total = w0 + w1 + w2
                if (max(w0, w1, w2) <= 0) & (total < 0):
                    z = (w0 * z0 + w1 * z1 + w2 * z2) / total
                    if z < nearest[row, col]:
                        nearest[row, col] = z
                        face_ids[row, col] = t


@_jit
@no_type_check
def rasterise(verts, faces, first, last, face_ids, barycentrics, depth):
    """Fill the maps of the meshes ``first`` to ``last - 1``.

    verts float64 (b, v, 3), faces int32 (f, 3); out: face_ids int32 (b, h, w), barycentrics
    float32 (b, h, w, 3), depth float32 (b, h, w).
    """
    height, width = face_ids.shape[1:]
    nearest = np.empty((height, width), np.float64)
    for mesh in range(first, last):
        v = verts[mesh]
        _win_pixels(v, faces, face_ids[mesh], nearest)
        depth[mesh] = nearest
        for row in range(height):
            for col in range(width):
                t = face_ids[mesh, row, col]
                weights = barycentrics[mesh, row, col]
                if t < 0:
                    weights[:] = 0
                    continue
                a, b, c = faces[t, 0], faces[t, 1], faces[t, 2]
                w0, w1, w2 = _edge_functions(
                    v[a, 0], v[a, 1], v[b, 0], v[b, 1], v[c, 0], v[c, 1], col + 0.5, row + 0.5
                )
                share = 1 / (w0 + w1 + w2)
                weights[0], weights[1], weights[2] = w0 * share, w1 * share, w2 * share


@_jit
@no_type_check
def _collect_front(verts, faces, front, is_candidate):
    """Ids of the front faces into ``front``; marks their vertices. Returns how many faces."""
    count = 0
    is_candidate[:] = False
    for t in range(faces.shape[0]):
        a, b, c = faces[t, 0], faces[t, 1], faces[t, 2]
        x0, y0 = verts[a, 0], verts[a, 1]
        x1, y1, x2, y2 = verts[b, 0], verts[b, 1], verts[c, 0], verts[c, 1]
        if (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0) < 0:
            front[count] = t
            count += 1
            is_candidate[a] = is_candidate[b] = is_candidate[c] = True
    return count


@_jit
@no_type_check
def _keep_inside(verts, height, width, is_candidate):
    """Drop candidates off the image. Returns how many stay and their bounding box."""
    count = 0
    x_low, y_low, x_high, y_high = np.inf, np.inf, -np.inf, -np.inf
    for k in range(verts.shape[0]):
        if is_candidate[k]:
            x, y = verts[k, 0], verts[k, 1]
            is_candidate[k] = 0 <= x <= width and 0 <= y <= height
            if is_candidate[k]:
                count += 1
                x_low, x_high = min(x_low, x), max(x_high, x)
                y_low, y_high = min(y_low, y), max(y_high, y)
    return count, x_low, y_low, x_high, y_high


@_jit
@no_type_check
def _cell_of(low, per_px, coordinate):
    return int((coordinate - low) * per_px)


@_jit
@no_type_check
def _sort_into_cells(verts, is_candidate, grid, ids, points):
    """Counting sort of the candidates by cell, one row of cells after another.

    Fills ids and points (x, y, z) in that order; returns where each cell starts in them.
    """
    x_low, y_low, per_px, columns, rows = grid
    # Counted two places on: after the second pass has moved each start to its end, place
    # ``cell`` holds the start of the cell and ``cell + 1`` its end.
    starts = np.zeros(columns * rows + 2, np.int32)
    for k in range(verts.shape[0]):
        if is_candidate[k]:
            row = _cell_of(y_low, per_px, verts[k, 1])
            starts[row * columns + _cell_of(x_low, per_px, verts[k, 0]) + 2] += 1
    for cell in range(columns * rows):
        starts[cell + 2] += starts[cell + 1]
    for k in range(verts.shape[0]):
        if is_candidate[k]:
            row = _cell_of(y_low, per_px, verts[k, 1])
            cell = row * columns + _cell_of(x_low, per_px, verts[k, 0])
            place = starts[cell + 1]
            starts[cell + 1] = place + 1
            ids[place] = k
            for axis in range(3):
                points[place, axis] = verts[k, axis]
    return starts


@_jit
@no_type_check
def visible_vertices(verts, faces, height, width, tolerance, first, last, visible):
    """Fill ``visible`` for the meshes ``first`` to ``last - 1``.

    verts float64 (b, v, 3), faces int32 (f, 3), tolerance in the unit of z; out: visible bool
    (b, v). The candidates (vertices of front faces, on the image) are binned into square cells,
    and each front face tests the candidates in the cells under its bounding box.
    """
    front = np.empty(faces.shape[0], np.int32)
    ids = np.empty(verts.shape[1], np.int32)
    points = np.empty((verts.shape[1], 3), np.float64)
    for mesh in range(first, last):
        v, shown = verts[mesh], visible[mesh]
        front_count = _collect_front(v, faces, front, shown)
        count, x_low, y_low, x_high, y_high = _keep_inside(v, height, width, shown)
        if count == 0:
            continue
        across, down, cells = x_high - x_low, y_high - y_low, CELLS_PER_VERTEX * count
        # The second term bounds the grid when the candidates lie on a line, the third at a point.
        cell_px = max(math.sqrt(across * down / cells), max(across, down) / cells, 1e-6)
        per_px = 1 / cell_px
        columns, rows = _cell_of(0.0, per_px, across) + 1, _cell_of(0.0, per_px, down) + 1
        grid = x_low, y_low, per_px, columns, rows
        starts = _sort_into_cells(v, shown, grid, ids, points)
        for q in range(front_count):
            t = front[q]
            a, b, c = faces[t, 0], faces[t, 1], faces[t, 2]
            x0, x1, x2 = v[a, 0], v[b, 0], v[c, 0]
            y0, y1, y2 = v[a, 1], v[b, 1], v[c, 1]
            left, right = max(min(x0, x1, x2), x_low), min(max(x0, x1, x2), x_high)
            top, bottom = max(min(y0, y1, y2), y_low), min(max(y0, y1, y2), y_high)
            if left > right or top > bottom:
                continue
            z0, z1, z2 = v[a, 2], v[b, 2], v[c, 2]
            col0, col1 = _cell_of(x_low, per_px, left), _cell_of(x_low, per_px, right)
            for row in range(_cell_of(y_low, per_px, top), _cell_of(y_low, per_px, bottom) + 1):
                for p in range(starts[row * columns + col0], starts[row * columns + col1 + 1]):
                    k, z = ids[p], points[p, 2]
                    w0, w1, w2 = _edge_functions(x0, y0, x1, y1, x2, y2, points[p, 0], points[p, 1])
                    # One branch, nearly never taken: most points that pass the edges are the
                    # face's own corners.
                    if (max(w0, w1, w2) <= 0) & (k != a) & (k != b) & (k != c):
                        total = w0 + w1 + w2
                        if total < 0 and (w0 * z0 + w1 * z1 + w2 * z2) / total < z - tolerance:
                            shown[k] = False


@_jit
@no_type_check
def interpolate(face_ids, barycentrics, faces, attributes, first, last, image):
    """Fill the images of the meshes ``first`` to ``last - 1``.

    face_ids (b, h, w) and barycentrics (b, h, w, 3) as `rasterise` fills them, faces int32 (f, 3),
    attributes (b, v, c); out: image (b, h, w, c) of the attributes' type.
    """
    height, width, channels = image.shape[1:]
    for mesh in range(first, last):
        for row in range(height):
            for col in range(width):
                t = face_ids[mesh, row, col]
                shown = image[mesh, row, col]
                if t < 0:
                    shown[:] = 0
                    continue
                a, b, c = faces[t, 0], faces[t, 1], faces[t, 2]
                weights = barycentrics[mesh, row, col]
                for k in range(channels):
                    shown[k] = (
                        weights[0] * attributes[mesh, a, k]
                        + weights[1] * attributes[mesh, b, k]
                        + weights[2] * attributes[mesh, c, k]
                    )


@_jit
@no_type_check
def _pulls_of_pair(image, image_grad, depth, gap, row, col, row2, col2):
    """How hard two neighbouring pixels pull at the surface in each, along the way to the second.

    The change of the loss as that surface moves by one pixel: all of it goes to the surface in
    front, half to each where both are one surface.
    """
    pull = 0.0
    for k in range(image.shape[2]):
        change = image[row, col, k] - image[row2, col2, k]
        pull += change * (image_grad[row, col, k] + image_grad[row2, col2, k])
    # Background is infinitely far.
    nearer = depth[row2, col2] - depth[row, col]
    if nearer > gap:
        return pull / 2, 0.0
    if nearer < -gap:
        return 0.0, pull / 2
    return pull / 4, pull / 4


@_jit
@no_type_check
def pull_vertices(
    face_ids,
    barycentrics,
    depth,
    faces,
    image,
    image_grad,
    gap,
    first,
    last,
    verts_grad,
    attributes_grad,
):
    """Add up the gradients of the meshes ``first`` to ``last - 1``.

    face_ids (b, h, w), barycentrics (b, h, w, 3), depth (b, h, w) as `rasterise` fills them,
    faces int32 (f, 3), image and image_grad (b, h, w, c), gap in the unit of z; out, to start
    from 0: verts_grad float64 (b, v, 3), attributes_grad float64 (b, v, c), or (b, v, 0) when it
    is not asked for.
    """
    (height, width), channels = face_ids.shape[1:], attributes_grad.shape[2]
    from_above = np.empty(width, np.float64)
    for mesh in range(first, last):
        ids, z, value, grad = face_ids[mesh], depth[mesh], image[mesh], image_grad[mesh]
        from_above[:] = 0
        for row in range(height):
            from_left = 0.0
            for col in range(width):
                t = ids[row, col]
                x, y = from_left, from_above[col]
                from_left = from_above[col] = 0.0
                if col < width - 1 and max(t, ids[row, col + 1]) >= 0:
                    here, from_left = _pulls_of_pair(value, grad, z, gap, row, col, row, col + 1)
                    x += here
                if row < height - 1 and max(t, ids[row + 1, col]) >= 0:
                    here, there = _pulls_of_pair(value, grad, z, gap, row, col, row + 1, col)
                    from_above[col] = there
                    y += here
                if t < 0:
                    continue
                for corner in range(3):
                    k, weight = faces[t, corner], barycentrics[mesh, row, col, corner]
                    verts_grad[mesh, k, 0] += weight * x
                    verts_grad[mesh, k, 1] += weight * y
                    for channel in range(channels):
                        attributes_grad[mesh, k, channel] += weight * grad[row, col, channel]
