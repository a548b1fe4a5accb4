"""What the named architectures cost: parameters, features, time per image.

    python benchmarks/backbones.py [--rounds N] [--device cuda] [--only NAME] [--json PATH]

The whole network (backbone, map head, regressor), forward and backward with random weights in
training mode, float32, batches of 16 crops. Target for training on a CPU: at most 20 ms an image
for the light ones on crops of 96 px. The limit is arithmetic: products and convolutions. On a GPU
times are wall time, and there is no limit.
"""

import time
from dataclasses import dataclass

import torch
from loading import cheap_loss
from suite import Result
from timing import Least, Options, Work, compared, limits, main, training_flops, turns

from flowhmr.networks import ARCHITECTURES, Hmr, MeanParams, architecture

BATCH = 16
TARGET_MS = 20.0
CASES = (
    ("lite0", 64), ("lite0", 96), ("mobilenetv4", 64), ("mobilenetv4", 96), ("vit_tiny", 64),
    ("vit_tiny", 96), ("vit_tiny", 224), ("resnet50", 96), ("resnet50", 224), ("hrnet_w32", 96),
)  # fmt: skip
TARGETS = {("lite0", 96), ("mobilenetv4", 96)}


@dataclass(frozen=True)
class BackboneOptions(Options):
    """Flags."""

    rounds: int = 3
    """How often everything is measured."""
    device: str = "cpu"
    """cpu or cuda."""
    only: str = ""
    """One architecture instead of all."""


def forward_and_backward(network: Hmr, frames: torch.Tensor) -> Work:
    """One batch, without an update."""

    def work() -> None:
        output = network(frames)
        loss = cheap_loss(output.estimate)
        if output.heatmap_logits is not None and output.surface is not None:
            loss = loss + output.heatmap_logits.mean() + output.surface.mean()
        loss.backward()
        if frames.is_cuda:
            torch.cuda.synchronize()

    return work


def measure(options: BackboneOptions) -> list[Result]:
    """All cases, or those of one architecture."""
    if options.only not in ("", *ARCHITECTURES):
        raise SystemExit(f"--only: got {options.only}; expected one of {', '.join(ARCHITECTURES)}")
    return [
        result
        for name, size_px in CASES
        if options.only in ("", name)
        for result in case(name, size_px, options)
    ]


def case(name: str, size_px: int, options: BackboneOptions) -> list[Result]:
    """One architecture at one size."""
    torch.manual_seed(0)
    mean = MeanParams(torch.eye(3).repeat(24, 1, 1), torch.zeros(10), "benchmark")
    network = Hmr(architecture(name, size_px), mean).to(options.device).train()
    frames = torch.randint(0, 256, (BATCH, 3, size_px, size_px), dtype=torch.uint8)
    frames = frames.to(options.device)
    work = forward_and_backward(network, frames)
    at, light = f"{name}, {size_px} px", (name, size_px) in TARGETS
    cpu = options.device == "cpu"
    times = (
        turns({"network": work, **limits()}, options.rounds)
        if cpu
        else turns({"network": work}, options.rounds, time.perf_counter)
    )
    return [
        *compared(
            at, times, "network", unit="ms/image", per=BATCH,
            target=TARGET_MS if light and cpu else None,
            least=Least(flops=training_flops(lambda: network(frames))) if cpu else None,
        ),
        Result(f"{at}: parameters", sum(p.numel() for p in network.parameters()) / 1e6, "M"),
        Result(f"{at}: features", network.backbone.out_features, ""),
    ]  # fmt: skip


if __name__ == "__main__":
    main(BackboneOptions, measure)
