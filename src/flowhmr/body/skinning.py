"""Linear blend skinning on any device, in few large operations.

The joints come from their own shape directions, without a vertex; shape and pose blend shapes are
one matrix product; skinning keeps one matrix per vertex for its hand-written backward pass.
Coordinates come first ([3, V]) inside, so that every operation runs along the vertices. The
readable twin is `reference.mesh_reference`; on the CPU `compiled` takes the place of this.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from flowhmr.body.joints import SMPL_24

JOINTS = len(SMPL_24)


@dataclass(frozen=True, eq=False)
class ChainTables:
    """The tree of joints and how betas move them."""

    rest_joints: Float[Tensor, "24 3"]
    """Joints of the template, metres."""
    joint_dirs: Float[Tensor, "k 72"]
    """How each beta moves the joints, [24, 3] flattened."""
    ancestors: Int[Tensor, "l 25"]
    """Each joint's ancestor 1, 2, 4, ... steps up; 24, the world, beyond the root."""


def chain_tables(
    v_template: Float[Tensor, "v 3"],
    shapedirs: Float[Tensor, "v 3 k"],
    joint_regressor: Float[Tensor, "24 v"],
) -> ChainTables:
    """Tables of a body; the sums over thousands of vertices are taken in float64."""
    regressor = joint_regressor.double()
    joint_dirs = torch.einsum("jv,vck->kjc", regressor, shapedirs.double()).flatten(1)
    return ChainTables(
        rest_joints=(regressor @ v_template.double()).to(v_template.dtype),
        joint_dirs=joint_dirs.to(v_template.dtype),
        ancestors=torch.tensor(_ancestors(SMPL_24.parents or ()), device=v_template.device),
    )


def _ancestors(parents: tuple[int, ...]) -> list[list[int]]:
    """One row for each doubling of the distance, until all rows beyond would be the world."""
    world = len(parents)
    rows = [[world if parent < 0 else parent for parent in parents] + [world]]
    while set(above := [rows[-1][joint] for joint in rows[-1]]) != {world}:
        rows.append(above)
    return rows


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
    tables: ChainTables, rotmats: Float[Tensor, "n 24 3 3"], betas: Float[Tensor, "n k"]
) -> PosedChain:
    """Forward kinematics without a vertex.

    After step i each joint's transform reaches 2^i joints up: the depth of the tree, 9 joints,
    takes 4 products instead of 8, and the GPU 4 launches.
    """
    rest = tables.rest_joints + (betas @ tables.joint_dirs).unflatten(1, (JOINTS, 3))
    origin = torch.zeros_like(rest[:, :1])
    above = torch.cat([rest, origin], 1).index_select(1, tables.ancestors[0, :JOINTS])
    local = torch.cat([rotmats, (rest - above)[..., None]], -1)
    eye = torch.eye(4, dtype=rest.dtype, device=rest.device).expand(len(rest), 1, 4, 4)
    local = torch.cat([local, eye[:, :, 3:].expand(-1, JOINTS, 1, 4)], -2)
    world = torch.cat([local, eye], 1)
    for ancestors in tables.ancestors:
        world = world.index_select(1, ancestors) @ world
    return PosedChain(rest, world[:, :JOINTS, :3, :3], world[:, :JOINTS, :3, 3])


@dataclass(frozen=True, eq=False)
class BlendTables:
    """Blend shapes and weights of a body."""

    rest_flat: Float[Tensor, "c"]
    """The template, [3, V] flattened, metres."""
    blend_dirs: Float[Tensor, "f c"]
    """Shape directions, then the 207 pose directions, each [3, V] flattened."""
    weights: Float[Tensor, "24 v"]
    """Skinning weights."""


def blend_tables(
    v_template: Float[Tensor, "v 3"],
    shapedirs: Float[Tensor, "v 3 k"],
    posedirs: Float[Tensor, "207 v 3"],
    weights: Float[Tensor, "v 24"],
) -> BlendTables:
    """Tables of a body."""
    dirs = [shapedirs.permute(2, 1, 0).flatten(1), posedirs.transpose(1, 2).flatten(1)]
    return BlendTables(v_template.T.flatten(), torch.cat(dirs), weights.T.contiguous())


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
