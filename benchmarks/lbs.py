"""Linear blend skinning, forward and backward, against the ``lbs`` of PyPI's smplx.

    python benchmarks/lbs.py [--rounds N] [--no-peers] [--json PATH]

Both get the arrays of a body, random rotation matrices and random betas, and give back vertices and
gradients of both. Each poses at least 32 meshes in its turn, before the other empties the caches.
The open body's pose blend shapes are mostly zero; "dense body" has none that are, as SMPL.

The first call on a machine compiles for 2-3 s; the result is kept on disk.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from peers import library
from suite import Result
from timing import Least, Options, Work, compared, limits, main, turns
from torch import Tensor

from flowhmr.body import SMPL_24, BodyModel, open_body
from flowhmr.geometry import rotmat_from_axis_angle

TARGETS = {1: 4.0, 32: 1.6, 64: 1.6}
"""Ratio to smplx to reach at each batch size on the open body."""
MESHES_A_TURN = 32
Pose = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Task:
    """One batch of bodies to pose, and the gradient that comes back."""

    rotmats: Tensor
    betas: Tensor
    verts_grad: Tensor

    @classmethod
    def random(cls, batch: int, body: BodyModel) -> "Task":
        """Bodies of any pose and shape."""
        generator = torch.Generator().manual_seed(batch)
        bends = 0.4 * torch.randn(batch, 24, 3, generator=generator)
        return cls(
            rotmat_from_axis_angle(bends).requires_grad_(),
            torch.randn(batch, body.num_betas, generator=generator).requires_grad_(),
            torch.randn(batch, *body.v_template.shape, generator=generator),
        )

    def run(self, pose: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Vertices, and the gradients of rotations and betas."""
        self.rotmats.grad = self.betas.grad = None
        verts = pose(self.rotmats, self.betas)
        verts.backward(self.verts_grad)
        assert self.rotmats.grad is not None
        assert self.betas.grad is not None
        return verts.detach(), self.rotmats.grad, self.betas.grad


def smplx_peer(body: BodyModel) -> Callable[[Tensor, Tensor], Tensor]:
    """smplx's function on the same arrays."""
    lbs = library("smplx.lbs").lbs
    posedirs = body.posedirs.flatten(1)
    parents = torch.tensor(SMPL_24.parents)

    def pose(rotmats: Tensor, betas: Tensor) -> Tensor:
        template = body.v_template.expand(len(betas), -1, -1)
        arrays = (body.shapedirs, posedirs, body.joint_regressor, parents, body.weights)
        return lbs(betas, rotmats, template, *arrays, pose2rot=False)[0]

    return pose


def densified(body: BodyModel) -> BodyModel:
    """The body with pose blend shapes that are nowhere zero, as SMPL's."""
    noise = 1e-4 * torch.randn(body.posedirs.shape, generator=torch.Generator().manual_seed(0))
    return replace(body, posedirs=body.posedirs + noise)


def least(body: BodyModel, batch: int) -> Least:
    """What posing a batch forward and backward cannot do without.

    The body's tables are read twice, those of the pose where they are not zero; vertices are
    written, their gradient is read. Of arithmetic, the dense products with the tables.
    """
    entries = int(body.posedirs.any(-1).sum())
    skinned = int((body.weights != 0).sum())
    tables = body.v_template.nbytes + body.shapedirs.nbytes + entries * (3 * 4 + 4) + skinned * 8
    flops = 2 * 2 * 3 * (entries + body.shapedirs.numel() / 3)
    return Least(2 * tables + 2 * batch * body.v_template.nbytes, batch * flops)


def posing(task: Task, pose: Pose, calls: int) -> Work:
    """Some calls in a row."""

    def work() -> None:
        for _ in range(calls):
            task.run(pose)

    return work


def measure(options: Options) -> list[Result]:
    """Agreement and time at all batch sizes."""
    body, found = open_body(), []
    for batch in TARGETS:
        for name, model in (("open body", body), ("dense body", densified(body))):
            found += at_batch(name, model, batch, options)
    return found


def at_batch(name: str, body: BodyModel, batch: int, options: Options) -> list[Result]:
    """Agreement and time at one batch size."""
    at, task = f"{name}, batch {batch}", Task.random(batch, body)
    poses: dict[str, Pose] = {
        "flowhmr": lambda rotmats, betas: body.mesh(body.params(rotmats, betas)).verts
    }
    if options.peers:
        poses["smplx"] = smplx_peer(body)
    calls = max(1, MESHES_A_TURN // batch)
    work = {peer: posing(task, pose, calls) for peer, pose in poses.items()}
    needed = least(body, batch)
    results = compared(
        at, turns(work | limits(), options.rounds), peers=tuple(poses)[1:], unit="ms/mesh",
        per=calls * batch, least=Least(calls * needed.bytes, calls * needed.flops),
        target_ratios={"smplx": TARGETS[batch]} if name == "open body" else None,
    )  # fmt: skip
    return results + (apart(at, task, poses) if options.peers else [])


def apart(at: str, task: Task, poses: dict[str, Pose]) -> list[Result]:
    """How far the two are from each other."""
    ours, theirs = (task.run(pose) for pose in poses.values())
    results = [Result(f"{at}: vertices apart", _apart(ours[0], theirs[0]), "m", target=1e-5)]
    for what, a, b in (("rotations", ours[1], theirs[1]), ("betas", ours[2], theirs[2])):
        share = _apart(a, b) / float(b.abs().max())
        results.append(Result(f"{at}: gradients of {what} apart", share, "", target=1e-4))
    return [replace(result, peer="smplx") for result in results]


def _apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


if __name__ == "__main__":
    main(Options, measure)
