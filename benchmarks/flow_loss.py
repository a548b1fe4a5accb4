"""What the flow loss costs beside the network's training step.

    python benchmarks/flow_loss.py [--json PATH] [--rounds N]

For a batch of frames: projection, the way to the flow's window, exact visibility, reading the flow
and the loss, forward and backward from the vertices; against a training step of HMR (forward,
backward, Adam) on the same frames, in turns, in one process. Targets: at most 1 % of a ResNet-50
224 px step and 4 % of a ResNet-18 128 px one.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from flowhmr.body import open_body
from flowhmr.bodyflow import body_flow
from flowhmr.cameras import Crop, WeakCamera, between_crops, project_weak
from flowhmr.flow import FlowPair
from flowhmr.geometry import map_tensors, rotmat_from_axis_angle
from flowhmr.losses import FlowLossConfig, flow_terms
from flowhmr.networks import BackboneConfig, Hmr, HmrConfig, MeanParams
from flowhmr.training.loop import surface_weights

CASES = (("resnet50", 224, 8, 0.01), ("resnet18", 128, 16, 0.04))


def training_step(name: str, size_px: int, batch: int) -> Callable[[], None]:
    """One update of an HMR network."""
    body = open_body()
    mean = MeanParams(torch.eye(3).repeat(24, 1, 1), torch.zeros(10), body.body_id)
    network = Hmr(HmrConfig(BackboneConfig(name, size_px=size_px)), mean).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-5)
    frames = torch.randint(0, 256, (batch, 3, size_px, size_px), dtype=torch.uint8)

    def step() -> None:
        estimate = network(frames).estimate
        optimiser.zero_grad()
        (estimate.params.rotmats.square().sum() + estimate.camera.params.sum()).backward()
        optimiser.step()

    return step


def flow_loss(size_px: int, batch: int) -> Callable[[], None]:
    """Visibility and flow loss of ``batch`` frames: half as many pairs."""
    body = open_body()
    torch.manual_seed(0)
    turns = rotmat_from_axis_angle(0.2 * torch.randn(batch, 24, 3))
    turns[:, 0] = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ turns[:, 0]
    verts = body.mesh(body.params(turns, torch.zeros(batch, 10))).verts.detach()
    verts.requires_grad_(True)
    camera = WeakCamera(torch.tensor([0.9, 0.0, 0.0]).repeat(batch, 1))
    flow = torch.rand(batch // 2, size_px, size_px, 2)
    valid = torch.ones(batch // 2, size_px, size_px, dtype=torch.bool)
    pair, weights = FlowPair(flow, -flow, valid, valid), surface_weights(body)

    zeros = torch.zeros(batch // 2, 2)
    crops = Crop(torch.zeros(batch // 2, 2, 2), zeros + size_px, zeros, zeros, size_px)
    window = map_tensors(crops, lambda t: t[:, :1])

    def step() -> None:
        points = project_weak(verts, camera, size_px).unflatten(0, (-1, 2))
        first, second = between_crops(points, crops, window).unbind(1)
        moved = body_flow(first, second, body.faces, size_px)
        flow_terms(moved, pair, weights, FlowLossConfig()).flow.mean().backward()

    return step


def main() -> None:
    """Measure both cases in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name, size_px, batch, target in CASES:
        steps = {"step": training_step(name, size_px, batch), "loss": flow_loss(size_px, batch)}
        times: dict[str, list[float]] = {k: [] for k in steps}
        for turn in range(arguments.rounds + 1):
            for key, step in steps.items():
                began = time.process_time()
                step()
                if turn:
                    times[key].append((time.process_time() - began) * 1e3)
        step_ms, loss_ms = (statistics.median(times[k]) for k in ("step", "loss"))
        row = {
            "network": name, "size_px": size_px, "frames": batch, "step_ms": step_ms,
            "loss_ms": loss_ms, "share": loss_ms / step_ms, "target_share": target,
        }  # fmt: skip
        rows.append(row)
        print(
            f"{name} {size_px} px, {batch} frames: step {step_ms:.0f} ms, visibility + flow loss "
            f"{loss_ms:.1f} ms = {loss_ms / step_ms:.2%} (target {target:.0%})"
        )
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
