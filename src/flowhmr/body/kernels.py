"""Compiled blend skinning on the CPU, serial over one mesh after another, and its derivatives.

The readable twin is ``reference.mesh_reference``. Sparse tables are rows of entries: row ``i``'s
are those from ``starts[i]`` up to ``starts[i + 1]``. The kernels start no threads and may run side
by side in any number. ``fastmath`` may reorder sums; infinities and NaN stay what they are.
"""

from typing import no_type_check

import numba

_jit = numba.njit(
    cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"}
)


@_jit
@no_type_check
def pose_chain(rotmats, rest_joints, parents, transforms, joints):
    """Fill each joint's rest-to-posed transform (n, 24, 3, 4) and place (n, 24, 3)."""
    for n in range(rotmats.shape[0]):
        for j in range(rotmats.shape[1]):
            p = parents[j]
            for a in range(3):
                if p < 0:
                    joints[n, j, a] = rest_joints[n, j, a]
                    for c in range(3):
                        transforms[n, j, a, c] = rotmats[n, j, a, c]
                    continue
                place = joints[n, p, a]
                for c in range(3):
                    turned = transforms[n, p, a, 0] * rotmats[n, j, 0, c]
                    turned += transforms[n, p, a, 1] * rotmats[n, j, 1, c]
                    turned += transforms[n, p, a, 2] * rotmats[n, j, 2, c]
                    transforms[n, j, a, c] = turned
                    bone = rest_joints[n, j, c] - rest_joints[n, p, c]
                    place += transforms[n, p, a, c] * bone
                joints[n, j, a] = place
            for a in range(3):
                shift = joints[n, j, a]
                for c in range(3):
                    shift -= transforms[n, j, a, c] * rest_joints[n, j, c]
                transforms[n, j, a, 3] = shift


@_jit
@no_type_check
def pose_chain_backward(
    rotmats, rest_joints, parents, transforms, grad_transforms, grad_joints, grad_rotmats, grad_rest
):
    """Add to the gradients of rotations and rest joints; uses up the two gradients that come in."""
    for n in range(rotmats.shape[0]):
        for j in range(rotmats.shape[1]):
            for a in range(3):
                grad_shift = grad_transforms[n, j, a, 3]
                grad_joints[n, j, a] += grad_shift
                for c in range(3):
                    grad_transforms[n, j, a, c] -= grad_shift * rest_joints[n, j, c]
                    grad_rest[n, j, c] -= grad_shift * transforms[n, j, a, c]
        for j in range(rotmats.shape[1] - 1, -1, -1):
            p = parents[j]
            for a in range(3):
                if p < 0:
                    grad_rest[n, j, a] += grad_joints[n, j, a]
                    for c in range(3):
                        grad_rotmats[n, j, a, c] += grad_transforms[n, j, a, c]
                    continue
                grad_joints[n, p, a] += grad_joints[n, j, a]
                for c in range(3):
                    bone = rest_joints[n, j, c] - rest_joints[n, p, c]
                    grad_above = grad_joints[n, j, a] * bone
                    for e in range(3):
                        grad_above += grad_transforms[n, j, a, e] * rotmats[n, j, c, e]
                        above = transforms[n, p, e, a]
                        grad_rotmats[n, j, a, c] += above * grad_transforms[n, j, e, c]
                    grad_transforms[n, p, a, c] += grad_above
                    grad_bone = transforms[n, p, c, a] * grad_joints[n, j, c]
                    grad_rest[n, j, a] += grad_bone
                    grad_rest[n, p, a] -= grad_bone


@_jit
@no_type_check
def blend(features, starts, ids, dirs, rest):
    """Add each vertex's entries, times their features, to the vertices (n, v, 3)."""
    for n in range(rest.shape[0]):
        for v in range(rest.shape[1]):
            x, y, z = rest[n, v, 0], rest[n, v, 1], rest[n, v, 2]
            for i in range(starts[v], starts[v + 1]):
                weight = features[n, ids[i]]
                x += weight * dirs[i, 0]
                y += weight * dirs[i, 1]
                z += weight * dirs[i, 2]
            rest[n, v, 0], rest[n, v, 1], rest[n, v, 2] = x, y, z


@_jit
@no_type_check
def blend_backward(grad_rest, starts, ids, dirs, grad_features):
    """Add to the gradients of the features (n, f)."""
    for n in range(grad_rest.shape[0]):
        for v in range(grad_rest.shape[1]):
            x, y, z = grad_rest[n, v, 0], grad_rest[n, v, 1], grad_rest[n, v, 2]
            for i in range(starts[v], starts[v + 1]):
                grad_features[n, ids[i]] += x * dirs[i, 0] + y * dirs[i, 1] + z * dirs[i, 2]


@_jit
@no_type_check
def skin(transforms, rest, starts, ids, weights, verts):
    """Fill ``verts`` (n, v, 3): each vertex as the mean of where its joints would move it."""
    for n in range(rest.shape[0]):
        for v in range(rest.shape[1]):
            x, y, z = rest[n, v, 0], rest[n, v, 1], rest[n, v, 2]
            px = py = pz = 0 * x
            for i in range(starts[v], starts[v + 1]):
                m = transforms[n, ids[i]]
                px += weights[i] * (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3])
                py += weights[i] * (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3])
                pz += weights[i] * (m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3])
            verts[n, v, 0], verts[n, v, 1], verts[n, v, 2] = px, py, pz


@_jit
@no_type_check
def skin_backward(transforms, rest, starts, ids, weights, grad_verts, grad_transforms, grad_rest):
    """Add to the gradient of the transforms, fill that of the rest vertices."""
    for n in range(rest.shape[0]):
        for v in range(rest.shape[1]):
            x, y, z = rest[n, v, 0], rest[n, v, 1], rest[n, v, 2]
            px = py = pz = 0 * x
            for i in range(starts[v], starts[v + 1]):
                m, grad = transforms[n, ids[i]], grad_transforms[n, ids[i]]
                gx = weights[i] * grad_verts[n, v, 0]
                gy = weights[i] * grad_verts[n, v, 1]
                gz = weights[i] * grad_verts[n, v, 2]
                px += m[0, 0] * gx + m[1, 0] * gy + m[2, 0] * gz
                py += m[0, 1] * gx + m[1, 1] * gy + m[2, 1] * gz
                pz += m[0, 2] * gx + m[1, 2] * gy + m[2, 2] * gz
                # Row by row, written out: inner loops over 3 and 4 take twice the time.
                grad[0, 0] += gx * x
                grad[0, 1] += gx * y
                grad[0, 2] += gx * z
                grad[0, 3] += gx
                grad[1, 0] += gy * x
                grad[1, 1] += gy * y
                grad[1, 2] += gy * z
                grad[1, 3] += gy
                grad[2, 0] += gz * x
                grad[2, 1] += gz * y
                grad[2, 2] += gz * z
                grad[2, 3] += gz
            grad_rest[n, v, 0], grad_rest[n, v, 1], grad_rest[n, v, 2] = px, py, pz
