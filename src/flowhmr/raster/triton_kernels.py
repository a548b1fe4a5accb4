"""The kernels for the GPU; ``cuda`` prepares their input, and is the only one to import this.

They follow the rules of ``kernels`` operation by operation in float64, and give the same bits. Two
things are needed for that: launches with ``enable_fp_fusion=False`` (a fused multiply-add rounds
an edge function otherwise than the neighbour's negative of it), and depth in a loop of its own
before the face ids (a depth and an id do not fit one atomic word without rounding the depth).

One lane works on one face, and a block runs as long as its largest face: the faces of bodies are
small. Blocks of all meshes lie on one grid axis, a mesh's side by side.
"""

from typing import no_type_check

import triton
import triton.language as tl

_jit = triton.jit(do_not_specialize=["vertex_count", "face_count", "height", "width", "side"])


@_jit
@no_type_check
def _mesh_and_items(item_count, BLOCK: tl.constexpr):
    """The mesh (int64: offsets into batches pass 2^31) and the items of this program."""
    blocks = tl.cdiv(item_count, BLOCK)
    program = tl.program_id(0)
    return (program // blocks).to(tl.int64), (program % blocks) * BLOCK + tl.arange(0, BLOCK)


@_jit
@no_type_check
def _corner(verts, faces, first_vertex, face, mask, CORNER: tl.constexpr):
    """Row in ``verts`` and coordinates of one corner of each face; zeros where masked."""
    vertex = first_vertex + tl.load(faces + face * 3 + CORNER, mask=mask, other=0)
    x = tl.load(verts + vertex * 3, mask=mask, other=0.0)
    y = tl.load(verts + vertex * 3 + 1, mask=mask, other=0.0)
    z = tl.load(verts + vertex * 3 + 2, mask=mask, other=0.0)
    return vertex, x, y, z


@_jit
@no_type_check
def _is_front(x0, y0, x1, y1, x2, y2):
    return (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0) < 0


@_jit
@no_type_check
def _weigh(x0, y0, x1, y1, x2, y2, px, py):
    """Edge functions, their sum, and whether the point is covered; the sum is safe to divide by."""
    ax, ay, bx, by, cx, cy = x0 - px, y0 - py, x1 - px, y1 - py, x2 - px, y2 - py
    w0, w1, w2 = bx * cy - by * cx, cx * ay - cy * ax, ax * by - ay * bx
    total = w0 + w1 + w2
    covered = (w0 <= 0) & (w1 <= 0) & (w2 <= 0) & (total < 0)
    return w0, w1, w2, tl.where(covered, total, -1.0), covered


@_jit
@no_type_check
def _pixel_range(low, high, size):
    """First and last pixel whose centre is in [low, high] (last = first - 1 for none)."""
    # Clamped as floats: huge coordinates do not fit an integer.
    first = tl.minimum(tl.maximum(tl.ceil(low - 0.5), 0.0), size.to(tl.float64))
    last = tl.maximum(tl.minimum(tl.floor(high - 0.5), size.to(tl.float64) - 1.0), -1.0)
    return first.to(tl.int32), last.to(tl.int32)


@_jit
@no_type_check
def win_pixels(
    verts,
    faces,
    nearest,
    winner,
    vertex_count,
    face_count,
    height,
    width,
    FIND_FACE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """First ``nearest``, then, with it complete and ``FIND_FACE``, ``winner``.

    verts float64 (b, v, 3), faces int32 (f, 3); nearest int64 (b, h, w): the bits of the smallest
    depth in an order that integers share, to start from the largest integer; winner int32
    (b, h, w): the lowest face id at that depth, to start from f.
    """
    mesh, face = _mesh_and_items(face_count, BLOCK)
    real = face < face_count
    _, x0, y0, z0 = _corner(verts, faces, mesh * vertex_count, face, real, 0)
    _, x1, y1, z1 = _corner(verts, faces, mesh * vertex_count, face, real, 1)
    _, x2, y2, z2 = _corner(verts, faces, mesh * vertex_count, face, real, 2)
    x_low, x_high = tl.minimum(x0, tl.minimum(x1, x2)), tl.maximum(x0, tl.maximum(x1, x2))
    y_low, y_high = tl.minimum(y0, tl.minimum(y1, y2)), tl.maximum(y0, tl.maximum(y1, y2))
    left, right = _pixel_range(x_low, x_high, width)
    top, bottom = _pixel_range(y_low, y_high, height)
    front = real & _is_front(x0, y0, x1, y1, x2, y2)
    pixels = tl.where(front, (right - left + 1) * (bottom - top + 1), 0)
    col, row = left, top
    for step in range(tl.max(pixels, 0)):
        px, py = col.to(tl.float64) + 0.5, row.to(tl.float64) + 0.5
        w0, w1, w2, total, covered = _weigh(x0, y0, x1, y1, x2, y2, px, py)
        z = (w0 * z0 + w1 * z1 + w2 * z2) / total
        covered = covered & (step < pixels) & (z < float("inf"))
        # Integers order like the floats of which they are the bits, once negative ones are turned
        # over and the two zeros are one.
        bits = tl.where(z == 0, 0.0, z).to(tl.int64, bitcast=True)
        bits = tl.where(bits < 0, bits ^ 0x7FFFFFFFFFFFFFFF, bits)
        pixel = (mesh * height + row) * width + col
        if FIND_FACE:
            wins = covered & (tl.load(nearest + pixel, mask=covered, other=0) == bits)
            tl.atomic_min(winner + pixel, face, mask=wins, sem="relaxed")
        else:
            tl.atomic_min(nearest + pixel, bits, mask=covered, sem="relaxed")
        col += 1
        row = tl.where(col > right, row + 1, row)
        col = tl.where(col > right, left, col)


@_jit
@no_type_check
def resolve_pixels(
    verts,
    faces,
    winner,
    barycentrics,
    depth,
    vertex_count,
    face_count,
    height,
    width,
    BLOCK: tl.constexpr,
):
    """What the winning faces show; turns ``winner`` into face ids, -1 on background.

    verts, faces, winner as in `win_pixels`; out: barycentrics float32 (b, h, w, 3), depth float32
    (b, h, w).
    """
    mesh, item = _mesh_and_items(height * width, BLOCK)
    real = item < height * width
    pixel = mesh * height * width + item
    face = tl.load(winner + pixel, mask=real, other=face_count)
    hit = face < face_count
    _, x0, y0, z0 = _corner(verts, faces, mesh * vertex_count, face, hit, 0)
    _, x1, y1, z1 = _corner(verts, faces, mesh * vertex_count, face, hit, 1)
    _, x2, y2, z2 = _corner(verts, faces, mesh * vertex_count, face, hit, 2)
    px, py = (item % width).to(tl.float64) + 0.5, (item // width).to(tl.float64) + 0.5
    w0, w1, w2, total, _ = _weigh(x0, y0, x1, y1, x2, y2, px, py)
    z = (w0 * z0 + w1 * z1 + w2 * z2) / total
    share = 1.0 / total
    tl.store(winner + pixel, tl.where(hit, face, -1), mask=real)
    tl.store(depth + pixel, tl.where(hit, z, float("inf")).to(tl.float32), mask=real)
    tl.store(barycentrics + pixel * 3, tl.where(hit, w0 * share, 0.0).to(tl.float32), mask=real)
    tl.store(barycentrics + pixel * 3 + 1, tl.where(hit, w1 * share, 0.0).to(tl.float32), mask=real)
    tl.store(barycentrics + pixel * 3 + 2, tl.where(hit, w2 * share, 0.0).to(tl.float32), mask=real)


@_jit
@no_type_check
def mark_front(verts, faces, marks, vertex_count, face_count, BLOCK: tl.constexpr):
    """Set ``marks`` int8 (b, v) to 1 at the vertices of front faces; verts, faces as above."""
    mesh, face = _mesh_and_items(face_count, BLOCK)
    real = face < face_count
    a, x0, y0, _ = _corner(verts, faces, mesh * vertex_count, face, real, 0)
    b, x1, y1, _ = _corner(verts, faces, mesh * vertex_count, face, real, 1)
    c, x2, y2, _ = _corner(verts, faces, mesh * vertex_count, face, real, 2)
    front = real & _is_front(x0, y0, x1, y1, x2, y2)
    tl.store(marks + a, 1, mask=front)
    tl.store(marks + b, 1, mask=front)
    tl.store(marks + c, 1, mask=front)


@_jit
@no_type_check
def hide_behind(
    verts,
    faces,
    boxes,
    starts,
    order,
    points,
    marks,
    vertex_count,
    face_count,
    side,
    TOLERANCE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Set ``marks`` to 0 where a front face covers a candidate from nearer than ``TOLERANCE``.

    verts, faces, marks as in `mark_front`; the rest is the grid that ``cuda.CandidateGrid``
    describes. ``TOLERANCE`` is a constant because other numbers arrive here in float32.
    """
    mesh, face = _mesh_and_items(face_count, BLOCK)
    real = face < face_count
    a, x0, y0, z0 = _corner(verts, faces, mesh * vertex_count, face, real, 0)
    b, x1, y1, z1 = _corner(verts, faces, mesh * vertex_count, face, real, 1)
    c, x2, y2, z2 = _corner(verts, faces, mesh * vertex_count, face, real, 2)
    x_low, y_low = tl.load(boxes + mesh * 6), tl.load(boxes + mesh * 6 + 1)
    x_high, y_high = tl.load(boxes + mesh * 6 + 2), tl.load(boxes + mesh * 6 + 3)
    x_scale, y_scale = tl.load(boxes + mesh * 6 + 4), tl.load(boxes + mesh * 6 + 5)
    left = tl.maximum(tl.minimum(x0, tl.minimum(x1, x2)), x_low)
    right = tl.minimum(tl.maximum(x0, tl.maximum(x1, x2)), x_high)
    top = tl.maximum(tl.minimum(y0, tl.minimum(y1, y2)), y_low)
    bottom = tl.minimum(tl.maximum(y0, tl.maximum(y1, y2)), y_high)
    front = real & _is_front(x0, y0, x1, y1, x2, y2) & (left <= right) & (top <= bottom)
    first_col = _cell_of(left, x_low, x_scale, side, front)
    last_col = _cell_of(right, x_low, x_scale, side, front)
    first_row = _cell_of(top, y_low, y_scale, side, front)
    last_row = _cell_of(bottom, y_low, y_scale, side, front)
    rows = tl.where(front, last_row - first_row + 1, 0)
    for step in range(tl.max(rows, 0)):
        cell = mesh * (side * side + 1) + (first_row + step) * side
        start = tl.load(starts + cell + first_col, mask=step < rows, other=0)
        end = tl.load(starts + cell + last_col + 1, mask=step < rows, other=0)
        for k in range(tl.max(end - start, 0)):
            place = (start + k).to(tl.int64)
            vertex = tl.load(order + place, mask=place < end, other=0)
            px = tl.load(points + place * 3, mask=place < end, other=0.0)
            py = tl.load(points + place * 3 + 1, mask=place < end, other=0.0)
            pz = tl.load(points + place * 3 + 2, mask=place < end, other=0.0)
            w0, w1, w2, total, covered = _weigh(x0, y0, x1, y1, x2, y2, px, py)
            covered = covered & (place < end) & (vertex != a) & (vertex != b) & (vertex != c)
            z = (w0 * z0 + w1 * z1 + w2 * z2) / total
            # Any number of faces may write here, all of them the same.
            tl.store(marks + vertex, 0, mask=covered & (z < pz - TOLERANCE))


@_jit
@no_type_check
def _cell_of(coordinate, low, scale, side, mask):
    # Masked before the subtraction: where there is no candidate, both may be infinite.
    cell = (tl.where(mask, coordinate, 0.0) - tl.where(mask, low, 0.0)) * scale
    return tl.minimum(cell.to(tl.int32), side - 1)


@_jit
@no_type_check
def pull_vertices(
    face_ids,
    barycentrics,
    depth,
    faces,
    image,
    image_grad,
    verts_grad,
    attributes_grad,
    vertex_count,
    height,
    width,
    CHANNELS: tl.constexpr,
    WANTED: tl.constexpr,
    GAP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The gradient as ``kernels.pull_vertices`` adds it up, in any order; arguments as there.

    ``WANTED``: channels of ``attributes_grad``, all or none.
    """
    mesh, item = _mesh_and_items(height * width, BLOCK)
    pixel = mesh * height * width + item
    face = tl.load(face_ids + pixel, mask=item < height * width, other=-1)
    hit = face >= 0
    z = tl.load(depth + pixel, mask=hit, other=0.0)
    col, row = item % width, item // width
    x = _pull_of_pair(
        image, image_grad, depth, pixel, pixel + 1, z, hit & (col < width - 1), CHANNELS, GAP
    )
    x -= _pull_of_pair(
        image, image_grad, depth, pixel, pixel - 1, z, hit & (col > 0), CHANNELS, GAP
    )
    y = _pull_of_pair(
        image, image_grad, depth, pixel, pixel + width, z, hit & (row < height - 1), CHANNELS, GAP
    )
    y -= _pull_of_pair(
        image, image_grad, depth, pixel, pixel - width, z, hit & (row > 0), CHANNELS, GAP
    )
    for corner in tl.static_range(3):
        vertex = mesh * vertex_count + tl.load(faces + face * 3 + corner, mask=hit, other=0)
        weight = tl.load(barycentrics + pixel * 3 + corner, mask=hit, other=0.0).to(tl.float64)
        tl.atomic_add(verts_grad + vertex * 3, weight * x, mask=hit, sem="relaxed")
        tl.atomic_add(verts_grad + vertex * 3 + 1, weight * y, mask=hit, sem="relaxed")
        for channel in range(WANTED):
            grad = tl.load(image_grad + pixel * CHANNELS + channel, mask=hit, other=0.0)
            at = attributes_grad + vertex * WANTED + channel
            tl.atomic_add(at, weight * grad.to(tl.float64), mask=hit, sem="relaxed")


@_jit
@no_type_check
def _pull_of_pair(
    image, image_grad, depth, here, there, z, both, CHANNELS: tl.constexpr, GAP: tl.constexpr
):
    nearer = tl.load(depth + there, mask=both, other=0.0) - z
    both = both & (nearer >= -GAP)
    pull = tl.zeros_like(z).to(tl.float64)
    for channel in range(CHANNELS):
        at, beside = here * CHANNELS + channel, there * CHANNELS + channel
        change = tl.load(image + at, mask=both, other=0.0) - tl.load(
            image + beside, mask=both, other=0.0
        )
        grads = tl.load(image_grad + at, mask=both, other=0.0) + tl.load(
            image_grad + beside, mask=both, other=0.0
        )
        pull += (change * grads).to(tl.float64)
    return pull * tl.where(nearer > GAP, 0.5, 0.25)
