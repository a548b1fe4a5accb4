"""Linear blend skinning, forward and backward, against the ``lbs`` of PyPI's smplx.

    pip install -r benchmarks/requirements.txt
    python benchmarks/lbs.py [--json PATH] [--rounds N]

Both get the arrays of the open body, random rotation matrices and random betas, and give back
vertices and gradients of both. Times are medians of the processor time of one thread; ratios are
medians over rounds in which the two take turns.

NUMBERS
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from flowhmr.body import SMPL_24, BodyModel, open_body
from flowhmr.geometry import rotmat_from_axis_angle

TARGETS = {1: 4.0, 32: 1.6, 64: 1.6}
"""Ratio to reach at each batch size."""


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
        text = f"{self.name:<48}{self.value:>10.3g} {self.unit}"
        if self.target is None:
            return text
        reached = self.value <= self.target if self.better == "lower" else self.value >= self.target
        sign = "<=" if self.better == "lower" else ">="
        return f"{text:<68} target {sign} {self.target:g}: {'reached' if reached else 'MISSED'}"


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
    from smplx.lbs import lbs

    posedirs = body.posedirs.flatten(1)
    parents = torch.tensor(SMPL_24.parents)

    def pose(rotmats: Tensor, betas: Tensor) -> Tensor:
        template = body.v_template.expand(len(betas), -1, -1)
        arrays = (body.shapedirs, posedirs, body.joint_regressor, parents, body.weights)
        return lbs(betas, rotmats, template, *arrays, pose2rot=False)[0]

    return pose


def measure(batch: int, body: BodyModel, rounds: int) -> list[Result]:
    """Agreement and time at one batch size."""
    task = Task.random(batch, body)
    poses = {
        "flowhmr": lambda rotmats, betas: body.mesh(body.params(rotmats, betas)).verts,
        "smplx": smplx_peer(body),
    }
    ours, theirs = (task.run(pose) for pose in poses.values())
    results = [
        Result(f"batch {batch}: vertices apart", _apart(ours[0], theirs[0]), "m", "lower", 1e-5)
    ]
    for what, a, b in (("rotations", ours[1], theirs[1]), ("betas", ours[2], theirs[2])):
        apart = _apart(a, b) / float(b.abs().max())
        results.append(
            Result(f"batch {batch}: gradients of {what} apart", apart, "", "lower", 1e-3)
        )

    seconds: dict[str, list[float]] = {name: [] for name in poses}
    for _ in range(rounds):
        for name, pose in poses.items():
            start = time.process_time()
            task.run(pose)
            seconds[name].append(time.process_time() - start)
    for name, spent in seconds.items():
        per_mesh = 1e3 * statistics.median(spent) / batch
        results.append(Result(f"batch {batch}: {name}", per_mesh, "ms/mesh", "lower"))
    ratio = statistics.median(b / a for a, b in zip(*seconds.values()))
    return [
        *results,
        Result(f"batch {batch}: faster than smplx", ratio, "x", "higher", TARGETS[batch]),
    ]


def _apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def main() -> None:
    """Print the numbers, and write them with ``--json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    body = open_body()
    print(
        f"open body: {len(body.v_template)} vertices, forward and backward, one thread of "
        f"{platform.processor() or platform.machine()}, torch {torch.__version__}"
    )
    results = [r for batch in TARGETS for r in measure(batch, body, arguments.rounds)]
    for result in results:
        print(result.line())
    if arguments.json:
        rows = [asdict(result) for result in results]
        arguments.json.write_text(json.dumps({"results": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
