"""Linear blend skinning, fast: what `reference.mesh_reference` says, in few large operations.

Shape and pose blend shapes are one matrix product; the joints come from their own shape
directions, without a vertex; the chain is walked level by level; skinning keeps one matrix per
vertex for its hand-written backward pass. Coordinates come first ([3, V]) inside, so that every
operation runs along the vertices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from flowhmr.body.joints import SMPL_24


def _levels(parents: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Joints by their distance from the root."""
    depth: list[int] = []
    for parent in parents:
        depth.append(0 if parent < 0 else depth[parent] + 1)
    return tuple(
        tuple(j for j, d in enumerate(depth) if d == level) for level in range(max(depth) + 1)
    )


@dataclass(frozen=True, eq=False)
class ChainTables:
    """A kinematic tree, its joints ordered by level so that each level is one slice."""

    by_level: Int[Tensor, "j"]
    """The joints, the root first."""
    from_levels: Int[Tensor, "j"]
    """Where each joint stands in that order."""
    parents: Int[Tensor, "j"]
    """The parent of each joint but the first, in its place in that order; 0 for the root."""
    sizes: tuple[int, ...]
    """How many joints each level has."""
    parent_places: tuple[Tensor, ...]
    """For each level below the root, where its joints' parents stand in the level above."""


def chain_tables(parents: tuple[int, ...], device: torch.device) -> ChainTables:
    """Tables of a tree whose parents come before their children."""
    levels = _levels(parents)
    order = [joint for level in levels for joint in level]
    places = [[above.index(parents[j]) for j in level] for above, level in pairwise(levels)]

    def ids(values: Sequence[int]) -> Int[Tensor, "n"]:
        return torch.tensor(values, dtype=torch.long, device=device)

    return ChainTables(
        by_level=ids(order),
        from_levels=ids([order.index(joint) for joint in range(len(order))]),
        parents=ids([order.index(max(parents[joint], 0)) for joint in order]),
        sizes=tuple(len(level) for level in levels),
        parent_places=tuple(ids(level) for level in places),
    )


@dataclass(frozen=True, eq=False)
class BlendTables:
    """The arrays of a body, laid out for speed."""

    rest_flat: Float[Tensor, "c"]
    """The template, [3, V] flattened, metres."""
    blend_dirs: Float[Tensor, "f c"]
    """Shape directions, then the 207 pose directions, each [3, V] flattened."""
    weights: Float[Tensor, "24 v"]
    """Skinning weights."""
    rest_joints: Float[Tensor, "24 3"]
    """Joints of the template, metres."""
    joint_dirs: Float[Tensor, "k 72"]
    """How each shape direction moves the joints, [24, 3] flattened."""
    chain: ChainTables
    """The tree of joints."""


def blend_tables(
    v_template: Float[Tensor, "v 3"],
    shapedirs: Float[Tensor, "v 3 k"],
    posedirs: Float[Tensor, "207 v 3"],
    joint_regressor: Float[Tensor, "24 v"],
    weights: Float[Tensor, "v 24"],
) -> BlendTables:
    """Tables of a body; the joints' sums over thousands of vertices are taken in float64."""
    regressor = joint_regressor.double()
    joint_dirs = torch.einsum("jv,vck->kjc", regressor, shapedirs.double()).flatten(1)
    return BlendTables(
        rest_flat=v_template.T.flatten(),
        blend_dirs=torch.cat(
            [shapedirs.permute(2, 1, 0).flatten(1), posedirs.transpose(1, 2).flatten(1)]
        ),
        weights=weights.T.contiguous(),
        rest_joints=(regressor @ v_template.double()).to(v_template.dtype),
        joint_dirs=joint_dirs.to(v_template.dtype),
        chain=chain_tables(SMPL_24.parents or (), v_template.device),
    )


@dataclass(frozen=True, eq=False)
class PosedChain:
    """The kinematic chain after posing."""

    rest_joints: Float[Tensor, "n 24 3"]
    """Joints of the shaped, unposed body, metres."""
    rotmats: Float[Tensor, "n 24 3 3"]
    """Rotation of each joint from rest to posed, in body axes."""
    joints: Float[Tensor, "n 24 3"]
    """Posed joints, metres."""


def posed_chain(
    tables: BlendTables, rotmats: Float[Tensor, "n 24 3 3"], betas: Float[Tensor, "n k"]
) -> PosedChain:
    """Forward kinematics without a vertex."""
    tree = tables.chain
    rest = tables.rest_joints + (betas @ tables.joint_dirs).unflatten(1, (-1, 3))
    ordered = rest[:, tree.by_level]
    bones = (ordered - ordered[:, tree.parents])[..., None].split(tree.sizes, 1)
    locals_ = rotmats[:, tree.by_level].split(tree.sizes, 1)
    turned, moved = [locals_[0]], [ordered[:, :1, :, None]]
    for bone, local, parents in zip(bones[1:], locals_[1:], tree.parent_places):
        above = turned[-1][:, parents]
        moved.append(moved[-1][:, parents] + above @ bone)
        turned.append(above @ local)
    return PosedChain(
        rest_joints=rest,
        rotmats=torch.cat(turned, 1)[:, tree.from_levels],
        joints=torch.cat(moved, 1)[:, tree.from_levels, :, 0],
    )


def posed_verts(
    tables: BlendTables,
    chain: PosedChain,
    rotmats: Float[Tensor, "n 24 3 3"],
    betas: Float[Tensor, "n k"],
) -> Float[Tensor, "n v 3"]:
    """Blended and skinned vertices, metres."""
    eye = torch.eye(3, dtype=rotmats.dtype, device=rotmats.device)
    features = torch.cat([betas, (rotmats[:, 1:] - eye).flatten(1)], 1)
    rest = torch.addmm(tables.rest_flat, features, tables.blend_dirs).unflatten(1, (3, -1))
    shifts = chain.joints[..., None] - chain.rotmats @ chain.rest_joints[..., None]
    transforms = torch.cat([chain.rotmats, shifts], -1).permute(0, 2, 3, 1)
    return _Skin.apply(transforms.contiguous(), rest, tables.weights).transpose(1, 2)


class _Skin(torch.autograd.Function):
    """Each vertex moved by its weighted mean of the joints' 3x4 transforms.

    By hand: autograd would keep and add up twelve products the size of the mesh.
    """

    @staticmethod
    def forward(
        ctx: Any,
        transforms: Float[Tensor, "n 3 4 24"],
        rest: Float[Tensor, "n 3 v"],
        weights: Float[Tensor, "24 v"],
    ) -> Float[Tensor, "n 3 v"]:
        blended = (transforms.flatten(0, 2) @ weights).unflatten(0, transforms.shape[:3])
        ctx.save_for_backward(rest, weights, blended)
        posed = blended[:, :, 3].clone()
        for axis in range(3):
            posed.addcmul_(blended[:, :, axis], rest[:, None, axis])
        return posed

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad: Float[Tensor, "n 3 v"]
    ) -> tuple[Float[Tensor, "n 3 4 24"] | None, Float[Tensor, "n 3 v"] | None, None]:
        rest, weights, blended = ctx.saved_tensors
        grad_transforms = grad_rest = None
        grad = grad.contiguous()
        if ctx.needs_input_grad[0]:
            grad_blended = torch.empty_like(blended)
            for axis in range(3):
                torch.mul(grad, rest[:, None, axis], out=grad_blended[:, :, axis])
            grad_blended[:, :, 3] = grad
            flat = grad_blended.flatten(0, 2) @ weights.T
            grad_transforms = flat.unflatten(0, blended.shape[:3])
        if ctx.needs_input_grad[1]:
            grad_rest = torch.empty_like(rest)
            for axis in range(3):
                torch.mul(blended[:, 0, axis], grad[:, 0], out=grad_rest[:, axis])
                grad_rest[:, axis].addcmul_(blended[:, 1, axis], grad[:, 1])
                grad_rest[:, axis].addcmul_(blended[:, 2, axis], grad[:, 2])
        return grad_transforms, grad_rest, None
