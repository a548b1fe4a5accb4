"""Optical flow: DIS presets, the consistency check, and the cache against computing.

    python benchmarks/flow.py [--json PATH] [--seeds N] [--repeats N]

The frames are procedural texture; the second is the first under a smooth warp that is known
exactly, of 4.5 px (224) and 10 px (512) on average, plus noise of one grey level. Times are medians
on one thread: of one direction for DIS, of whole pairs (both directions and masks) for the cache.
Errors are mean end-point errors over all pixels. ``people_*``: the flow at the visible vertices of
synthetic people (validation clips), neighbouring frames and six apart.

On a 2-core AMD EPYC Genoa VM, OpenCV 5.0.0, torch 2.12.0:

                      224 px            512 px
    DIS ultrafast     0.5 ms  1.18 px   2.9 ms  0.80 px
    DIS fast          1.1 ms  0.87 px   5.5 ms  0.53 px
    DIS medium        5.8 ms  0.26 px  37   ms  0.21 px
    DIS fine         17   ms  0.23 px  91   ms  0.24 px
    consistency       3.1 ms           18   ms
    cache, computed  24   ms          114   ms            (DIS medium)
    cache, found      2.0 ms            8.8 ms
    cache entry       132 kB            659 kB

    on people, px of 224      six frames apart: error, slope, vertices kept
    DIS medium                                  2.64   0.88   73 %
    DIS fine                                    0.93   1.00   46 %
"""

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

from flowhmr.body import BodyModel, open_body
from flowhmr.bodyflow import body_flow, vertex_flow
from flowhmr.cameras import between_crops, fit_weak_camera, project_weak
from flowhmr.data import BenchmarkConfig, FlowSource, PairConfig, benchmark_sequences
from flowhmr.flow import DisFlow, FlowCache, consistency_masks, estimate_pair
from flowhmr.records import Clip
from flowhmr.synth import ClipConfig
from flowhmr.training.loop import surface_weights

VALIDATION = ClipConfig(split="val", seed=9_000, frames=36, perturb=0.0)
MEAN_FLOW_PX = {224: 4.5, 512: 10.0}
PRESETS = ("ultrafast", "fast", "medium", "fine")


def textured_frame(size: int, random: np.random.Generator) -> np.ndarray:
    """Coloured noise at several scales, uint8 [size size 3]."""
    total = np.zeros((size, size, 3), np.float32)
    for cell in (3, 6, 12, 24, 48):
        coarse = random.normal(size=(size // cell + 2, size // cell + 2, 3)).astype(np.float32)
        total += cell**0.5 * cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    low, high = total.min(), total.max()
    return (255 * (total - low) / (high - low)).astype(np.uint8)


def smooth_flow(size: int, mean_px: float, random: np.random.Generator) -> np.ndarray:
    """A smooth field [size size 2] with the mean length asked for."""
    coarse = random.normal(size=(5, 5, 2)).astype(np.float32)
    flow = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    return flow * (mean_px / np.linalg.norm(flow, axis=-1).mean())


def warped_pair(size: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(frame 1, frame 2, true flow from 1 to 2): frame 1 is frame 2 read at p + flow[p]."""
    random = np.random.default_rng(seed)
    margin = 64
    scene = textured_frame(size + 2 * margin, random)
    flow = smooth_flow(size, MEAN_FLOW_PX[size], random)
    # cv2.remap counts from pixel centres, and so do these indices.
    y, x = np.mgrid[:size, :size].astype(np.float32) + margin
    frame1 = cv2.remap(scene, x + flow[..., 0], y + flow[..., 1], cv2.INTER_CUBIC)
    frame2 = scene[margin:-margin, margin:-margin]
    noisy = (f + random.normal(size=f.shape) for f in (frame1, frame2))
    first, second = (np.clip(np.rint(f), 0, 255).astype(np.uint8) for f in noisy)
    return first, second, flow


def median_ms(work: Callable[[], object], repeats: int) -> float:
    """Median wall time of one call, after one call that does not count."""
    work()
    times_s = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times_s.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times_s))


def measure(size: int, seeds: int, repeats: int) -> dict[str, float]:
    """Numbers at one frame size, by name."""
    pairs = [warped_pair(size, seed) for seed in range(seeds)]
    frame1, frame2, _ = pairs[0]
    numbers: dict[str, float] = {}
    for preset in PRESETS:
        dis = DisFlow(preset)
        errors = [np.linalg.norm(dis.estimate(a, b) - flow, axis=-1).mean() for a, b, flow in pairs]
        numbers[f"dis_{preset}_{size}_ms"] = median_ms(
            lambda dis=dis: dis.estimate(frame1, frame2), repeats
        )
        numbers[f"dis_{preset}_{size}_epe_px"] = float(np.mean(errors))
    pair = estimate_pair(DisFlow("medium"), frame1, frame2)
    numbers[f"consistency_{size}_ms"] = median_ms(
        lambda: consistency_masks(pair.forward, pair.backward), repeats
    )
    with tempfile.TemporaryDirectory() as folder:
        cache = FlowCache(folder, DisFlow("medium"))

        def miss() -> None:
            cache.clear()
            cache.pair(frame1, frame2)

        numbers[f"cache_miss_{size}_ms"] = median_ms(miss, repeats)
        numbers[f"cache_hit_{size}_ms"] = median_ms(lambda: cache.pair(frame1, frame2), repeats)
        numbers[f"cache_entry_{size}_kb"] = cache.size().bytes / 1e3
    return numbers


def on_people(gap: int, clips: int) -> dict[str, float]:
    """Flow at the visible vertices of synthetic people against where the vertices go, by name.

    Only where the forward-backward check passes, as the loss uses it; pixels of 224. The gain is
    the slope of measured on true motion: below 1 the flow says that people move less than they do.
    """
    body = open_body()
    weights = surface_weights(body)
    video = benchmark_sequences(BenchmarkConfig(VALIDATION, clips), body)
    numbers: dict[str, float] = {}
    for preset in PRESETS:
        source = FlowSource(PairConfig(gap=gap), partial(estimate_pair, DisFlow(preset)))
        sums = torch.zeros(5)
        for sequence in video:
            for start in range(0, len(sequence) - gap, 5):
                sums += _against_truth(source.pair(sequence, start, 96), body, weights)
        wrong, moved, slope, counted, seen = sums.tolist()
        name = f"people_{preset}_gap{gap}"
        numbers[f"{name}_error_px"] = (wrong / counted) ** 0.5
        numbers[f"{name}_motion_px"] = (moved / counted) ** 0.5
        numbers[f"{name}_gain"] = slope / moved
        numbers[f"{name}_kept"] = counted / seen
    return numbers


def _against_truth(clip: Clip, body: BodyModel, weights: torch.Tensor) -> torch.Tensor:
    assert clip.labels is not None
    assert clip.flow is not None
    assert clip.flow_crop is not None
    size_px = clip.flow_crop.size_px
    camera = fit_weak_camera(clip.labels.joints_m, clip.labels.keypoints_px, size_px)
    verts_px = project_weak(body.mesh(clip.labels.params).verts, camera, size_px)
    verts_px = between_crops(verts_px, clip.crop, clip.flow_crop)
    moved = body_flow(verts_px[:1], verts_px[1:], body.faces, size_px)
    flows = vertex_flow(moved, clip.flow, consistent=True)
    counted, unit = weights * flows.counted[0], 224 / size_px
    true_px, seen_px = flows.body_px[0] * unit, flows.image_px[0] * unit
    per_vertex = [(true_px - seen_px).square().sum(-1), true_px.square().sum(-1)]
    per_vertex += [(true_px * seen_px).sum(-1), torch.ones(len(weights))]
    sums = [(counted * value).sum() for value in per_vertex]
    return torch.stack([*sums, (weights * moved.visible[0]).sum()])


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed and accuracy of optical flow.")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--seeds", type=int, default=5, help="frame pairs for the errors")
    parser.add_argument("--repeats", type=int, default=15, help="calls per time")
    parser.add_argument("--clips", type=int, default=8, help="synthetic clips of people")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    numbers: dict[str, float] = {}
    for size in MEAN_FLOW_PX:
        numbers |= measure(size, options.seeds, options.repeats)
    for gap in (1, 6):
        numbers |= on_people(gap, options.clips)
    for name, value in numbers.items():
        print(f"{name:28s} {value:9.2f}")
    if options.json:
        about = {"cv2": cv2.__version__, "torch": torch.__version__, "cpu": platform.processor()}
        options.json.write_text(json.dumps({"about": about, "numbers": numbers}, indent=1) + "\n")


if __name__ == "__main__":
    main()
