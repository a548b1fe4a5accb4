"""How fast synthetic clips are made, with everything that is known about them.

    python benchmarks/synth.py [--rounds N] [--no-peers] [--device cuda] [--fused] [--json PATH]

Each clip has 31 frames: motion, scene, light, picture, camera electronics, flow both ways with
occlusion, depth, parts, visibility of joints and vertices; a clip a round, each another one. Peers:
open3d (embree) casting only the rays of one body's picture and of its map (2 x 2 samples a pixel,
and one), nothing shaded; OpenCV's flow between as many frames. Targets: 60 frames/s a core at 128
px, 25 at 224 px; on an H200 3,000 at 224 px (wall time).
"""

import itertools
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from peers import open3d
from suite import Result
from timing import Options, Work, compared, main, turns

from flowhmr.body import open_body
from flowhmr.flow import DisFlow
from flowhmr.synth import SynthConfig, synth_clip
from flowhmr.synth.stage import set_stage
from flowhmr.synth.tensors import draw_torch
from flowhmr.synth.truth import clip_of

CASES = ((128, 60.0), (224, 25.0))
FRAMES = 31
CAST = 8
"""Frames of the peer's turn."""


def body_rays(size_px: int) -> Work:
    """The peer's turn: a tree and the rays of one body in each of some frames."""
    library = open3d()
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
    tensor = library.core.Tensor(np.concatenate(rays).astype(np.float32))
    faces = library.core.Tensor(open_body().faces.numpy().astype(np.uint32))

    def work() -> None:
        for frame in range(CAST):
            scene = library.t.geometry.RaycastingScene(nthreads=1)
            scene.add_triangles(library.core.Tensor(verts[frame]), faces)
            scene.cast_rays(tensor, nthreads=1)

    return work


def estimated_flow(frames: torch.Tensor) -> Work:
    """OpenCV's DIS flow from each of some frames (h, w, 3) to the next."""
    dis, images = DisFlow("medium"), frames.numpy()

    def work() -> None:
        for frame in range(CAST):
            dis.estimate(images[frame], images[frame + 1])

    return work


def on_cpu(size_px: int, target: float, options: "SynthOptions") -> list[Result]:
    """Clips of one size on one core."""
    config, body = replace(SynthConfig(), size_px=size_px), open_body()
    indices = itertools.count()
    work: dict[str, Work] = {"flowhmr": lambda: synth_clip(config, next(indices), body)}
    peers = {"DIS medium": FRAMES / CAST}
    work["DIS medium"] = estimated_flow(synth_clip(config, 0, body).images)
    if options.peers:
        peers["open3d"] = FRAMES / CAST
        work["open3d"] = body_rays(size_px)
    times = turns(work, options.rounds)
    each = [FRAMES * 1e3 / ms for ms in times.ms["flowhmr"]]
    # The mean over clips, not the usual clip: a run waits for all of them.
    mean = FRAMES * 1e3 * len(each) / sum(times.ms["flowhmr"])
    name = f"clips, {size_px} px: usual clip"
    usual = compared(name, times, peers=peers, unit="frames/s", per=FRAMES)
    return [
        Result(f"clips, {size_px} px", mean, "frames/s", "higher", target),
        *usual,
        Result(f"clips, {size_px} px: slowest clip", min(each), "frames/s", "higher"),
    ]


def on_gpu(options: "SynthOptions") -> list[Result]:
    """Clips of 224 px on a GPU: staged beforehand, drawn and finished there.

    Staging (motion, scene, camera: on the CPU) is measured apart: workers do it beside training.
    """
    body, device = open_body().to(options.device), options.device
    config = replace(SynthConfig(), size_px=224)
    began = time.perf_counter()
    stages = [set_stage(config, index, body) for index in range(options.rounds)]
    staging = FRAMES * len(stages) / (time.perf_counter() - began)

    def draw(some: list[Any]) -> None:
        for stage in some:
            clip_of(stage, draw_torch(stage, body, device, options.fused), body, stage.sensor)
        torch.cuda.synchronize()

    draw(stages[:8])
    began = time.perf_counter()
    draw(stages)
    rate = FRAMES * len(stages) / (time.perf_counter() - began)
    name = f"clips, 224 px, {torch.cuda.get_device_name()}{', fused' * options.fused}"
    return [
        Result(name, rate, "frames/s", "higher", 3000.0),
        Result("staging, 224 px, one core", staging, "frames/s", "higher"),
    ]


@dataclass(frozen=True)
class SynthOptions(Options):
    """Flags."""

    rounds: int = 30
    """How many clips of each size."""
    device: str = "cpu"
    """cpu or cuda."""
    fused: bool = False
    """On a GPU: compile the drawing."""


def measure(options: SynthOptions) -> list[Result]:
    """On the CPU, or on a GPU if that is asked for."""
    if options.device != "cpu":
        return on_gpu(options)
    return [result for size in CASES for result in on_cpu(*size, options)]


if __name__ == "__main__":
    main(SynthOptions, measure)
