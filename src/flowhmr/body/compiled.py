"""Blend skinning on the CPU by compiled kernels, with a backward pass of their own.

Most pose blend shapes of the open body, and most skinning weights of any, are zero: the kernels
visit the others only. SMPL's pose blend shapes are dense; they stay one matrix product.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from flowhmr.body import kernels
from flowhmr.body.joints import SMPL_24

SPARSE_BELOW = 0.15
"""Up to which share of non-zero blend directions visiting them beats the dense product."""

MESHES_PER_THREAD = 4
"""Fewer are not worth a thread."""

JOINTS = len(SMPL_24)
_PARENTS = np.array(SMPL_24.parents)


@dataclass(frozen=True, eq=False)
class Rows:
    """A sparse matrix by rows; each entry holds one number or three."""

    starts: Int[np.ndarray, "s"]
    """Where each row's entries start; the last number is where they end."""
    ids: Int[np.ndarray, "e"]
    """Column of each entry."""
    values: Float[np.ndarray, "e *c"]
    """The entries."""

    def parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What the kernels take."""
        return self.starts, self.ids, self.values

    @classmethod
    def of(cls, dense: Float[np.ndarray, "r c ..."]) -> "Rows":
        """The entries of a dense matrix that are not all zero."""
        some = dense.reshape(*dense.shape[:2], -1).any(-1)
        rows, columns = np.nonzero(some)
        starts = np.searchsorted(rows, np.arange(len(dense) + 1))
        return cls(starts.astype(np.int32), columns.astype(np.int32), dense[rows, columns])


@dataclass(frozen=True, eq=False)
class CompiledTables:
    """A body's arrays as the kernels want them."""

    template: Float[Tensor, "c"]
    """Mean body, [V, 3] flattened, metres."""
    dense_dirs: Float[Tensor, "d c"]
    """Directions of betas, and of the pose features where most are not zero, [V, 3] flattened."""
    sparse_dirs: Rows
    """Directions of the pose features, by vertex; none where `dense_dirs` has them."""
    weights: Rows
    """Skinning weights by vertex."""
    rest_joints: Float[Tensor, "24 3"]
    """Joints of the template, metres."""
    joint_dirs: Float[Tensor, "k 72"]
    """How each beta moves the joints, [24, 3] flattened."""


def compiled_tables(
    v_template: Float[Tensor, "v 3"],
    shapedirs: Float[Tensor, "v 3 k"],
    posedirs: Float[Tensor, "207 v 3"],
    weights: Float[Tensor, "v 24"],
    rest_joints: Float[Tensor, "24 3"],
    joint_dirs: Float[Tensor, "k 72"],
) -> CompiledTables:
    """Tables of a body on the CPU."""
    dense = [shapedirs.permute(2, 0, 1)]
    sparse = posedirs
    if float(posedirs.any(-1).float().mean()) > SPARSE_BELOW:
        dense, sparse = [*dense, posedirs], torch.zeros_like(posedirs)
    return CompiledTables(
        template=v_template.flatten(),
        dense_dirs=torch.cat(dense).flatten(1),
        sparse_dirs=Rows.of(sparse.transpose(0, 1).numpy()),
        weights=Rows.of(weights.numpy()),
        rest_joints=rest_joints,
        joint_dirs=joint_dirs,
    )


def posed_compiled(
    tables: CompiledTables, rotmats: Float[Tensor, "n 24 3 3"], betas: Float[Tensor, "n k"]
) -> tuple[Float[Tensor, "n v 3"], Float[Tensor, "n 24 3"]]:
    """Vertices and joints, metres."""
    return _Posed.apply(rotmats, betas, tables)


class _Posed(torch.autograd.Function):
    """Chain, blend shapes and skinning; keeps the unposed vertices for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        rotmats: Float[Tensor, "n 24 3 3"],
        betas: Float[Tensor, "n k"],
        tables: CompiledTables,
    ) -> tuple[Float[Tensor, "n v 3"], Float[Tensor, "n 24 3"]]:
        turns, shape = rotmats.detach().contiguous(), betas.detach()
        rest_joints = tables.rest_joints + (shape @ tables.joint_dirs).unflatten(1, (JOINTS, 3))
        bends = (turns[:, 1:] - torch.eye(3, dtype=turns.dtype)).flatten(1)
        known = torch.cat([shape, bends], 1)[:, : len(tables.dense_dirs)]
        rest = torch.addmm(tables.template, known, tables.dense_dirs).unflatten(1, (-1, 3))
        transforms = turns.new_empty(len(turns), JOINTS, 3, 4)
        verts, joints = torch.empty_like(rest), torch.empty_like(rest_joints)
        arrays = [t.numpy() for t in (turns, rest_joints, bends, rest, transforms, joints, verts)]

        def work(part: slice) -> None:
            turn, rest_joint, bend, at_rest, transform, joint, vert = (a[part] for a in arrays)
            kernels.pose_chain(turn, rest_joint, _PARENTS, transform, joint)
            kernels.blend(bend, *tables.sparse_dirs.parts(), at_rest)
            kernels.skin(transform, at_rest, *tables.weights.parts(), vert)

        _over_meshes(len(turns), work)
        ctx.save_for_backward(rotmats, rest_joints, transforms, rest)
        ctx.tables = tables
        return verts, joints

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad_verts: Float[Tensor, "n v 3"], grad_joints: Float[Tensor, "n 24 3"]
    ) -> tuple[Float[Tensor, "n 24 3 3"], Float[Tensor, "n k"], None]:
        tables: CompiledTables = ctx.tables
        rotmats, rest_joints, transforms, rest = ctx.saved_tensors
        turns = rotmats.detach().contiguous()
        # The chain's kernel uses up what it is given.
        to_verts, to_joints = grad_verts.contiguous(), grad_joints.contiguous().clone()
        to_turns, to_transforms = torch.zeros_like(turns), torch.zeros_like(transforms)
        to_rest_joints, to_rest = torch.zeros_like(rest_joints), torch.empty_like(rest)
        to_bends = turns.new_zeros(len(turns), 9 * (JOINTS - 1))
        given = [t.numpy() for t in (turns, rest_joints, transforms, rest, to_verts, to_joints)]
        wanted = [t.numpy() for t in (to_transforms, to_turns, to_rest_joints, to_rest, to_bends)]

        def work(part: slice) -> None:
            turn, rest_joint, transform, at_rest, to_vert, to_joint = (a[part] for a in given)
            to_transform, to_turn, to_rest_joint, to_at_rest, to_bend = (a[part] for a in wanted)
            skin = transform, at_rest, *tables.weights.parts()
            kernels.skin_backward(*skin, to_vert, to_transform, to_at_rest)
            chain = turn, rest_joint, _PARENTS, transform
            kernels.pose_chain_backward(*chain, to_transform, to_joint, to_turn, to_rest_joint)
            kernels.blend_backward(to_at_rest, *tables.sparse_dirs.parts(), to_bend)

        _over_meshes(len(turns), work)
        num_betas = len(tables.joint_dirs)
        with torch.autocast("cpu", enabled=False):
            to_known = to_rest.flatten(1) @ tables.dense_dirs.T
            to_betas = to_known[:, :num_betas] + to_rest_joints.flatten(1) @ tables.joint_dirs.T
        if len(tables.dense_dirs) > num_betas:
            to_bends = to_known[:, num_betas:]
        to_turns[:, 1:] += to_bends.unflatten(1, (JOINTS - 1, 3, 3))
        return to_turns, to_betas, None


def _over_meshes(count: int, work: Callable[[slice], None]) -> None:
    """Call ``work`` on slices that make up ``range(count)``, in threads where that pays.

    Threads are made for the occasion: a pool would not survive a fork.
    """
    slices = min(torch.get_num_threads(), count // MESHES_PER_THREAD)
    if slices <= 1:
        work(slice(0, count))
        return
    bounds = [count * i // slices for i in range(slices + 1)]
    with ThreadPoolExecutor(slices) as pool:
        list(pool.map(work, map(slice, bounds[:-1], bounds[1:])))
