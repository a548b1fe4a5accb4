"""Optical flow: DIS presets, the consistency check, and the cache against computing.

    python benchmarks/flow.py [--rounds N] [--seeds N] [--clips N] [--network FILE] [--json PATH]

The frames are procedural texture; the second is the first under a smooth warp that is known
exactly, of 4.5 px (224) and 10 px (512) on average, plus noise of one grey level. Times are of one
direction for DIS and for its peer, OpenCV's Farnebaeck flow; of whole pairs (both directions and
masks) for the cache. Errors are mean end-point errors over all pixels. "people": the flow at the
visible vertices of synthetic people (validation clips), neighbouring frames and six apart, where
the consistency check passes. "SynthMotion val": mean end-point errors of all pixels whose flow is
known, pairs 1 to 6 frames apart, with nothing left out by a check; pixels of 128. A network of
`flowhmr flownet` is timed and scored beside DIS.
"""

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from suite import Result
from timing import Options, Work, compared, main, turns

from flowhmr.body import BodyModel, open_body
from flowhmr.bodyflow import body_flow, vertex_flow
from flowhmr.cameras import between_crops, fit_weak_camera, project_weak
from flowhmr.data import BenchmarkConfig, FlowSource, PairConfig, benchmark_sequences
from flowhmr.flow import (
    DisFlow,
    FlowCache,
    FlowEstimator,
    RaftFlow,
    consistency_masks,
    estimate_pair,
    new_raft,
)
from flowhmr.losses import flow_sequence_terms
from flowhmr.records import Clip, FlowExample
from flowhmr.synth import ClipConfig
from flowhmr.training import (
    FlowTrainingConfig,
    estimator_flow,
    held_out_pairs,
    score_flow,
    surface_weights,
)

VALIDATION = ClipConfig(split="val", seed=9_000, frames=36, perturb=0.0)
MEAN_FLOW_PX = {224: 4.5, 512: 10.0}
PRESETS = ("ultrafast", "fast", "medium", "fine")
ON_PEOPLE = ("medium", "fine")


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


def farnebaeck(frame1: np.ndarray, frame2: np.ndarray) -> np.ndarray:
    """OpenCV's, with the settings of its own example but for a pyramid as deep as DIS'."""
    grey1, grey2 = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (frame1, frame2))
    empty = np.zeros((*grey1.shape, 2), np.float32)
    return cv2.calcOpticalFlowFarneback(grey1, grey2, empty, 0.5, 5, 15, 3, 5, 1.2, 0)


def at_size(size: int, options: "FlowOptions") -> list[Result]:
    """Times and errors at one frame size."""
    pairs = [warped_pair(size, seed) for seed in range(options.seeds)]
    frame1, frame2, _ = pairs[0]
    estimators = {f"DIS {preset}": DisFlow(preset).estimate for preset in PRESETS}
    estimators["Farnebaeck"] = farnebaeck
    pair = estimate_pair(DisFlow("medium"), frame1, frame2)
    work: dict[str, Work] = {
        name: partial(estimate, frame1, frame2) for name, estimate in estimators.items()
    }
    work["check"] = lambda: consistency_masks(pair.forward, pair.backward)
    with tempfile.TemporaryDirectory() as folder:
        cache = FlowCache(folder, DisFlow("medium"))
        found = partial(cache.pair, frame1, frame2)

        def computed() -> None:
            cache.clear()
            found()

        work |= {"computed": computed, "found": found}
        times = turns(work, options.rounds)
        kilobytes = cache.size().bytes / 1e3
    errors = {
        name: float(
            np.mean([np.linalg.norm(estimate(a, b) - true, axis=-1).mean() for a, b, true in pairs])
        )
        for name, estimate in estimators.items()
    }
    other, results = "Farnebaeck", []
    for name in list(estimators)[:-1]:
        results += compared(f"{name}, {size} px", times, name, (other,), unit="ms")
        results.append(
            Result(
                f"{name}, {size} px: error", errors[name], "px", peer=other,
                peer_value=errors[other], ratio=errors[other] / errors[name], tolerance=0.05,
            )
        )  # fmt: skip
    return [
        *results,
        *compared(f"consistency, {size} px", times, "check", ("DIS medium",)),
        *compared(f"cache, a pair, {size} px", times, "found", ("computed",)),
        Result(f"cache, a pair, {size} px: size", kilobytes, "kB"),
    ]


def on_people(gap: int, clips: int) -> list[Result]:
    """Flow at the visible vertices of synthetic people against where the vertices go.

    Only where the forward-backward check passes, as the loss uses it; pixels of 224. The gain is
    the slope of measured on true motion: below 1 the flow says that people move less than they do.
    """
    body = open_body()
    weights = surface_weights(body)
    video = benchmark_sequences(BenchmarkConfig(VALIDATION, clips), body)
    results: list[Result] = []
    for preset in ON_PEOPLE:
        source = FlowSource(PairConfig(gap=gap), partial(estimate_pair, DisFlow(preset)))
        sums = torch.zeros(5)
        for sequence in video:
            for start in range(0, len(sequence) - gap, 5):
                sums += _against_truth(source.pair(sequence, start, 96), body, weights)
        wrong, moved, slope, counted, seen = sums.tolist()
        at = f"people, {gap} frames apart, DIS {preset}"
        results += [
            Result(f"{at}: error", (wrong / counted) ** 0.5, "px of 224"),
            Result(f"{at}: slope", slope / moved, "", "higher"),
            Result(f"{at}: vertices kept", 100 * counted / seen, "%", "higher"),
        ]
    return results


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


def on_synthmotion(options: "FlowOptions") -> list[Result]:
    """End-point errors on pairs whose flow is known exactly; of the network the time, too."""
    estimators: dict[str, FlowEstimator] = {f"DIS {p}": DisFlow(p) for p in ON_PEOPLE}
    results: list[Result] = []
    if options.network:
        network = RaftFlow("small", options.network, updates=options.updates, device="cpu")
        estimators["network"] = network
        for size in (128, 224):
            frames = [textured_frame(size, np.random.default_rng(seed)) for seed in range(2)]
            names = {"network": network, "DIS fine": DisFlow()}
            work: dict[str, Work] = {k: partial(e.estimate, *frames) for k, e in names.items()}
            times = turns(work, options.rounds)
            results += compared(f"network, {size} px", times, "network", ("DIS fine",), unit="ms")
    with tempfile.TemporaryDirectory() as folder:
        pairs = held_out_pairs("val", Path(folder), workers=1, count=options.exact_clips)
        for name, estimator in estimators.items():
            score = score_flow(estimator_flow(estimator), pairs)
            at = f"SynthMotion val, {name}"
            results += [
                Result(f"{at}: everywhere", score.all_px, "px of 128"),
                Result(f"{at}: on people", score.people_px, "px of 128"),
                Result(f"{at}: where they move", score.moving_px, "px of 128"),
            ]
    return results


def training_step(options: "FlowOptions") -> list[Result]:
    """A step of `flowhmr flownet`, a pair of it, in both precisions; the optimiser left out."""
    config = FlowTrainingConfig()
    batch, size = config.train.batch, config.data.size_px
    torch.manual_seed(0)
    frames = torch.rand(2, batch, 3, size, size)
    truth = FlowExample(
        (255 * frames.transpose(0, 1)).byte(), torch.rand(batch, size, size, 2),
        torch.ones(batch, size, size, dtype=torch.bool), torch.rand(batch, size, size) < 0.2,
    )  # fmt: skip
    network = new_raft("small", config.learned_upsampling)

    def step(bfloat16: bool) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            found = network(*frames, num_flow_updates=config.train.updates)
        found_px = [flow_px.float().permute(0, 2, 3, 1) for flow_px in found]
        flow_sequence_terms(found_px, truth, config.train.loss).sequence.mean().backward()

    work: dict[str, Work] = {"bfloat16": partial(step, True), "float32": partial(step, False)}
    times = turns(work, min(options.rounds, 5))
    at = f"flow network, a training step of {batch} pairs"
    return compared(at, times, "bfloat16", ("float32",), unit="ms")


@dataclass(frozen=True)
class FlowOptions(Options):
    """Flags."""

    seeds: int = 5
    """Frame pairs for the errors."""
    clips: int = 8
    """Synthetic clips of people."""
    exact_clips: int = 10
    """SynthMotion's validation clips of which three pairs each are scored; all are 60."""
    network: Path | None = None
    """What `flowhmr flownet` made."""
    updates: int = 6
    """Recurrent updates of that network."""


def measure(options: FlowOptions) -> list[Result]:
    """Textures at both sizes, then people."""
    found = [result for size in MEAN_FLOW_PX for result in at_size(size, options)]
    found += [result for gap in (1, 6) for result in on_people(gap, options.clips)]
    return found + on_synthmotion(options) + training_step(options)


if __name__ == "__main__":
    main(FlowOptions, measure)
