"""Linear blend skinning, forward and backward, against the ``lbs`` of PyPI's smplx.

    pip install -r benchmarks/requirements.txt
    python benchmarks/lbs.py [--json PATH] [--rounds N]

Both get the arrays of the open body, random rotation matrices and random betas, and give back
vertices and gradients of both. Times are medians of the processor time of one thread; ratios are
medians over rounds in which the two take turns, each posing at least 32 meshes before the other
empties the caches.

On one core of a 2-core AMD EPYC Genoa VM shared with other work, torch 2.12.0, smplx 0.1.28, ms a
mesh; vertices at most 1e-6 m and gradients 5e-6 of the largest apart:

                 open body                  dense pose blend shapes, as SMPL's
                 flowhmr   smplx   ratio    flowhmr   smplx   ratio
    batch 1      1.0       5.4     5.5      2.1       5.2     2.4
    batch 32      .57      1.7     2.9       .69      1.6     2.4
    batch 64      .58      1.7     2.9       .59      1.7     2.8

The first call on a machine compiles for 2-3 s; the result is kept on disk.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from flowhmr.body import SMPL_24, BodyModel, open_body
from flowhmr.geometry import rotmat_from_axis_angle

TARGETS = {1: 4.0, 32: 1.6, 64: 1.6}
"""Ratio to reach at each batch size on the open body."""
MESHES_A_TURN = 32


@dataclass(frozen=True)
class Result:
    """One measured number."""

    name: str
    value: float
    unit: str
    better: str
    """"lower" or "higher"."""
    target: float | None = None
    """The value to reach; None for numbers that are only reported."""

    def line(self) -> str:
        """The number as one line of the report."""
        text = f"{self.name:<56}{self.value:>10.3g} {self.unit}"
        if self.target is None:
            return text
        reached = self.value <= self.target if self.better == "lower" else self.value >= self.target
        sign = "<=" if self.better == "lower" else ">="
        return f"{text:<76} target {sign} {self.target:g}: {'reached' if reached else 'MISSED'}"


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
    from smplx.lbs import lbs  # pyright: ignore[reportMissingImports]

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


def measure(
    name: str, body: BodyModel, batch: int, rounds: int, target: float | None
) -> list[Result]:
    """Agreement and time at one batch size."""
    at = f"{name}, batch {batch}"
    task = Task.random(batch, body)
    poses = {
        "flowhmr": lambda rotmats, betas: body.mesh(body.params(rotmats, betas)).verts,
        "smplx": smplx_peer(body),
    }
    ours, theirs = (task.run(pose) for pose in poses.values())
    results = [Result(f"{at}: vertices apart", _apart(ours[0], theirs[0]), "m", "lower", 1e-5)]
    for what, a, b in (("rotations", ours[1], theirs[1]), ("betas", ours[2], theirs[2])):
        apart = _apart(a, b) / float(b.abs().max())
        results.append(Result(f"{at}: gradients of {what} apart", apart, "", "lower", 1e-4))

    calls = max(1, MESHES_A_TURN // batch)
    seconds: dict[str, list[float]] = {peer: [] for peer in poses}
    for _ in range(rounds):
        for peer, pose in poses.items():
            start = time.process_time()
            for _ in range(calls):
                task.run(pose)
            seconds[peer].append((time.process_time() - start) / calls)
    for peer, spent in seconds.items():
        per_mesh = 1e3 * statistics.median(spent) / batch
        results.append(Result(f"{at}: {peer}", per_mesh, "ms/mesh", "lower"))
    ratio = statistics.median(b / a for a, b in zip(*seconds.values()))
    return [
        *results,
        Result(f"{at}: faster than smplx", ratio, "x", "higher", target),
    ]


def _apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def main() -> None:
    """Print the numbers, and write them with ``--json``."""
    parser = argparse.ArgumentParser(description="Linear blend skinning against smplx.")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    body = open_body()
    print(
        f"open body: {len(body.v_template)} vertices, forward and backward, one thread of "
        f"{platform.processor() or platform.machine()}, torch {torch.__version__}"
    )
    dense = densified(body)
    results: list[Result] = []
    for batch, target in TARGETS.items():
        results += measure("open body", body, batch, arguments.rounds, target)
        results += measure("dense body", dense, batch, arguments.rounds, None)
    for result in results:
        print(result.line())
    if arguments.json:
        rows = [asdict(result) for result in results]
        arguments.json.write_text(json.dumps({"results": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
