"""What the named architectures cost: parameters, features, time per image.

    python benchmarks/backbones.py [--json PATH] [--rounds N] [--device cuda] [--only NAME]

The whole network (backbone, map head, regressor), forward and backward with random weights in
training mode, float32, batches of 16 crops, median of the rounds; on a CPU one thread and its own
time, so that a busy machine counts less. Target for training on a CPU: at most 20 ms an image for
the light ones on crops of 96 px.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from flowhmr.networks import ARCHITECTURES, Hmr, MeanParams, architecture

BATCH = 16
TARGET_MS = 20.0
CASES = (
    ("lite0", 64), ("lite0", 96), ("mobilenetv4", 64), ("mobilenetv4", 96), ("vit_tiny", 64),
    ("vit_tiny", 96), ("vit_tiny", 224), ("resnet50", 96), ("resnet50", 224), ("hrnet_w32", 96),
)  # fmt: skip
TARGETS = {("lite0", 96), ("mobilenetv4", 96)}


def measure(name: str, size_px: int, rounds: int, device: str) -> dict:
    """One architecture at one size."""
    torch.manual_seed(0)
    mean = MeanParams(torch.eye(3).repeat(24, 1, 1), torch.zeros(10), "benchmark")
    network = Hmr(architecture(name, size_px), mean).to(device).train()
    frames = torch.randint(0, 256, (BATCH, 3, size_px, size_px), dtype=torch.uint8, device=device)
    clock = time.process_time if device == "cpu" else time.perf_counter
    times_ms = []
    for _ in range(rounds + 1):
        began = clock()
        output = network(frames)
        loss = output.estimate.params.rotmats.square().sum() + output.estimate.camera.params.sum()
        if output.heatmap_logits is not None and output.surface is not None:
            loss = loss + output.heatmap_logits.mean() + output.surface.mean()
        loss.backward()
        if device != "cpu":
            torch.cuda.synchronize()
        times_ms.append((clock() - began) * 1e3 / BATCH)
    return {
        "name": name,
        "size_px": size_px,
        "device": torch.cuda.get_device_name() if device != "cpu" else "cpu",
        "parameters": sum(p.numel() for p in network.parameters()),
        "features": network.backbone.out_features,
        "ms_an_image": statistics.median(times_ms[1:]),
        "target_ms": TARGET_MS if (name, size_px) in TARGETS and device == "cpu" else None,
    }


def main() -> None:
    """Measure all cases, or those of one architecture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", choices=tuple(ARCHITECTURES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name, size_px in CASES:
        if arguments.only not in (None, name):
            continue
        row = measure(name, size_px, arguments.rounds, arguments.device)
        rows.append(row)
        target = ""
        if row["target_ms"] is not None:
            reached = "reached" if row["ms_an_image"] <= row["target_ms"] else "MISSED"
            target = f", target {row['target_ms']:.0f}: {reached}"
        print(
            f"{name} {size_px} px: {row['parameters'] / 1e6:.1f} M parameters, "
            f"{row['features']} features, {row['ms_an_image']:.1f} ms an image{target}",
            flush=True,
        )
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
