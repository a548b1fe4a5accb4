"""Data loading: what one core prepares for training, and what a plan for many GPUs needs of it.

    python benchmarks/loading.py [--rounds N] [--samples N] [--json PATH]

Labelled crops, pairs of video frames with the flow between them (stored, and estimated), frames of
a video file. The peer is a training step of ResNet-18 on as many images: with a ratio above 1 one
core prepares more than another one trains on. Sizes are of the ResNet-50 that docs/scale.md plans
with: the gradient is what processes add up at each step.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from suite import Result
from timing import Options, Work, compared, main, turns

from flowhmr.body import open_body
from flowhmr.data import (
    AugmentConfig,
    Batches,
    PairBatches,
    PairConfig,
    StillBatches,
    demo_clip,
    open_video,
)
from flowhmr.networks import BackboneConfig, Hmr, HmrConfig, MeanParams, architecture
from flowhmr.records import Clip, Estimate
from flowhmr.synth import (
    ClipConfig,
    PoolConfig,
    StillConfig,
    StillPool,
    mean_rotmats,
    render_clip,
)
from flowhmr.training import OptimiserConfig, TrainConfig, flow_source
from flowhmr.training.state import TrainState

SIZES = {"ResNet-18": 128, "ResNet-50": 224}
"""Crops as these networks take them, pixels."""


def network_of(name: str, size_px: int) -> Hmr:
    """HMR with random weights on a backbone (Lite0, ResNet-18, ResNet-50, HRNet-W32)."""
    torch.manual_seed(0)
    key, body = name.lower().replace("-", "_" if name.startswith("HR") else ""), open_body()
    if key == "resnet18":
        config = HmrConfig(BackboneConfig(key, size_px=size_px))
    else:
        config = architecture(key, size_px)
    return Hmr(config, MeanParams(mean_rotmats(), torch.zeros(body.num_betas), body.body_id))


def stills(folder: Path, size_px: int, batch: int) -> StillBatches:
    """Batches of labelled crops out of a few stills, drawn in ``folder`` if they are not there."""
    pool = PoolConfig(StillConfig(size_px=size_px), count=8, backgrounds=8, chunk=8)
    return StillBatches(
        StillPool(pool, folder, workers=1), size_px, batch, AugmentConfig(), 0, 1_000
    )


def pairs(folder: Path | None, size_px: int, batch: int) -> PairBatches:
    """Batches of pairs out of a short clip; flow is kept in ``folder``, or estimated each time."""
    video = [render_clip(ClipConfig(frames=9, size_px=256), 0, open_body())]
    source = flow_source(PairConfig(flow_px=size_px), "dis", folder)
    return PairBatches(video, size_px, batch, 0, 1_000, source)


def cheap_loss(estimate: Estimate) -> torch.Tensor:
    """Costs nothing, and its gradient is nowhere near zero: Adam's squares of tiny gradients are
    numbers that processors are slow with."""
    return estimate.params.rotmats[..., 0].sum() + estimate.camera.params.sum()


def plain_step(
    network: Hmr, frames: torch.Tensor, config: TrainConfig | None = None
) -> Callable[[], None]:
    """Forward, backward and update, with a loss that costs nothing."""
    state = TrainState(config or TrainConfig(), network, torch.device("cpu"))
    state.network.eval()  # as the video's frames in refinement

    def step() -> None:
        state.update(cheap_loss(state.network(frames).estimate))

    return step


def sizes(folder: Path) -> list[Result]:
    """Parameters and bytes of ResNet-50's HMR."""
    network = network_of("ResNet-50", SIZES["ResNet-50"])
    config = TrainConfig(optimiser=OptimiserConfig(average=0.99))
    state = TrainState(config, network, torch.device("cpu"))
    for parameter in state.parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    state.optimiser.step()
    path = folder / "checkpoint"
    state.save(path, 1)
    millions = sum(p.numel() for p in network.parameters()) / 1e6
    return [
        Result("ResNet-50's HMR, parameters", millions, "M"),
        Result("ResNet-50's HMR, gradient", 4 * millions, "MB"),
        Result("ResNet-50's HMR, checkpoint", path.stat().st_size / 1e6, "MB"),
    ]


@dataclass(frozen=True)
class LoadingOptions(Options):
    """Flags."""

    rounds: int = 5
    """How often everything is measured."""
    samples: int = 16
    """Of each kind, each time."""


def one_batch(batches: Batches[Clip]) -> Work:
    """The first batch."""
    return lambda: batches[0]


def at_size(network: str, size_px: int, options: LoadingOptions, folder: Path) -> list[Result]:
    """Crops as a network takes them, beside its training step."""
    n, images, step = options.samples, 4, f"{network} step"
    frames = torch.randint(0, 256, (images, 3, size_px, size_px), dtype=torch.uint8)
    work: dict[str, Work] = {
        "crop": one_batch(stills(folder, size_px, n)),
        "pair": one_batch(pairs(folder, size_px, n)),
        "estimated": one_batch(pairs(None, size_px, n)),
        step: plain_step(network_of(network, size_px), frames),
    }
    times, unit = turns(work, options.rounds), "ms/image"
    return [
        *compared(
            f"labelled crop, {size_px} px", times, "crop", {step: n / images}, unit=unit, per=n,
            target_ratios={step: 1},
        ),
        *compared(
            f"pair, flow stored, {size_px} px", times, "pair", {step: 2 * n / images}, unit=unit,
            per=2 * n, target_ratios={step: 1},
        ),
        *compared(
            f"pair, flow estimated, {size_px} px", times, "estimated", {step: 2 * n / images},
            unit=unit, per=2 * n,
        ),
    ]  # fmt: skip


def all_frames() -> int:
    """Decode the demo's video; how many frames it has."""
    with open_video(demo_clip()[0]) as video:
        return sum(1 for _ in video)


def measure(options: LoadingOptions) -> list[Result]:
    """Both sizes, a video file, bytes."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        for network, size_px in SIZES.items():
            found += at_size(network, size_px, options, Path(name))
        found += sizes(Path(name))
    times = turns({"flowhmr": all_frames}, min(options.rounds, 3))
    name = "frames of a video file, 1504 x 512 px"
    return found + compared(name, times, unit="frames/s", per=all_frames())


if __name__ == "__main__":
    main(LoadingOptions, measure)
