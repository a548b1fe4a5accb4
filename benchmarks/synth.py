"""How fast synthetic clips are made, with everything that is known about them.

    python benchmarks/synth.py [--json PATH] [--rounds N] [--device cuda] [--fused]

Each clip has 31 frames: motion, scene, light, picture, camera electronics, flow both ways with
occlusion, depth, parts, visibility of joints and vertices. One thread. The machine's speed is read
off a peer in the same run: open3d (embree) casting only the rays of one body's picture and of its
map (2 x 2 samples a pixel, and one), nothing shaded. Targets: 60 frames/s a core at 128 px, 25 at
224 px; on an H200 3,000 at 224 px.
"""

import argparse
import ctypes
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from flowhmr.body import open_body
from flowhmr.synth import SynthConfig, synth_clip
from flowhmr.synth.stage import set_stage
from flowhmr.synth.tensors import draw_torch
from flowhmr.synth.truth import clip_of

CASES = ((128, 60.0), (224, 25.0))
FRAMES = 31


def peer_ms(size_px: int) -> float | None:
    """What open3d needs for the rays of one frame, milliseconds; None where it is missing."""
    try:
        import libusb_package

        # open3d links libusb, which slim systems lack; loaded first, the wheel's copy serves it.
        ctypes.CDLL(str(libusb_package.get_library_path()), ctypes.RTLD_GLOBAL)
        import open3d
    except ImportError:
        return None
    stage = set_stage(replace(SynthConfig(), size_px=size_px, others=0.0), 0, open_body())
    shot = stage.shot
    verts = shot.to_camera(stage.actors[0].verts_world.numpy()).astype(np.float32)
    focal, x, y = shot.lens_px[0]
    rays = []
    for scale in (1, 2):
        at = (np.arange(size_px * scale) + 0.5) / scale
        grid = np.stack(np.meshgrid((at - x) / focal, (at - y) / focal, indexing="xy"), -1)
        ones = np.ones((*grid.shape[:2], 1))
        directions = np.concatenate([grid, ones], -1).reshape(-1, 3)
        rays.append(np.concatenate([np.zeros_like(directions), directions], -1))
    tensor = open3d.core.Tensor(np.concatenate(rays).astype(np.float32))
    faces = open3d.core.Tensor(open_body().faces.numpy().astype(np.uint32))
    times = []
    for frame in range(8):
        began = time.perf_counter()
        scene = open3d.t.geometry.RaycastingScene(nthreads=1)
        scene.add_triangles(open3d.core.Tensor(verts[frame]), faces)
        scene.cast_rays(tensor, nthreads=1)
        times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times[1:])


def clip_rates(size_px: int, rounds: int, first: int) -> list[float]:
    """Frames per second of some clips, on one thread."""
    config, body = replace(SynthConfig(), size_px=size_px), open_body()
    rates = []
    for index in range(first, first + rounds):
        began = time.perf_counter()
        synth_clip(config, index, body)
        rates.append(FRAMES / (time.perf_counter() - began))
    return rates


def measure_gpu(device: str, rounds: int, fused: bool) -> list[dict]:
    """Clips of 224 px on a GPU: staged beforehand, drawn and finished there.

    Staging (motion, scene, camera: on the CPU) is measured apart: workers do it beside training.
    """
    size_px, target, body = 224, 3000.0, open_body().to(device)
    config = replace(SynthConfig(), size_px=size_px)
    began = time.perf_counter()
    stages = [set_stage(config, index, body) for index in range(rounds)]
    staging = FRAMES * rounds / (time.perf_counter() - began)
    for stage in stages[:8]:
        clip_of(stage, draw_torch(stage, body, device, fused), body, stage.sensor)
    torch.cuda.synchronize()
    began = time.perf_counter()
    for stage in stages:
        clip_of(stage, draw_torch(stage, body, device, fused), body, stage.sensor)
    torch.cuda.synchronize()
    total = FRAMES * rounds / (time.perf_counter() - began)
    print(
        f"{torch.cuda.get_device_name()}, {size_px} px: {total:.0f} frames/s, target {target:.0f}: "
        f"{'reached' if total >= target else 'MISSED'}; staging on one core: {staging:.0f} frames/s"
    )
    row = {
        "size_px": size_px, "device": torch.cuda.get_device_name(), "fused": fused,
        "frames_per_s": total, "target": target, "staging_frames_per_s": staging,
    }  # fmt: skip
    return [row]


def measure_cpu(rounds: int) -> list[dict]:
    """Both sizes on one core."""
    torch.set_num_threads(1)
    clip_rates(128, 12, 1_000)
    rows = []
    for size_px, target in CASES:
        peer = peer_ms(size_px)
        rates = clip_rates(size_px, rounds, 0)
        total = len(rates) / sum(1 / rate for rate in rates)
        rows.append({
            "size_px": size_px, "frames_per_s": total, "median_clip": statistics.median(rates),
            "slowest_clip": min(rates), "target": target, "open3d_rays_ms": peer,
        })  # fmt: skip
        beside = "" if peer is None else f"; open3d's rays of one body alone: {peer:.1f} ms"
        print(
            f"{size_px} px: {total:.0f} frames/s ({1e3 / total:.1f} ms a frame; clips from "
            f"{min(rates):.0f} to {max(rates):.0f}), target {target:.0f}: "
            f"{'reached' if total >= target else 'MISSED'}{beside}"
        )
    return rows


def main() -> None:
    """Measure on the CPU, or on a GPU if that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--fused", action="store_true")
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        rows = measure_cpu(arguments.rounds)
    else:
        rows = measure_gpu(arguments.device, arguments.rounds, arguments.fused)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
