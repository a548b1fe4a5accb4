"""Training steps, and what the losses of video add to the network's own work.

    python benchmarks/training.py [--rounds N] [--json PATH]

HMR on EfficientNet-Lite0 (96 px, as the shipped network), ResNet-18 (128 px), ResNet-50 and
HRNet-W32 (224 px), random weights, float32: a labelled step, and refinement with flow, with
TexturePose's texture, and as `flowhmr fit` does it by default (flow, and an anchor for which the
first network looks at every frame too). They stand beside the plain step: forward, backward and
Adam of the same frames with a loss that costs nothing. HPOF's network over features, with and
without the raster flow loss. Batches are in memory: what preparing them costs says `loading.py`.
A step is the training loop's own: the median of a short run without its first two, in which memory
is asked of the system that later steps use again.

"all of flow" is what a flow step does beyond the network's work, forward and backward from the
network's output, and the frames' noise; two whole steps differ by more than that from run to run.
"visibility + flow loss" is the loss alone, from the vertices.

The limit is arithmetic: the products and convolutions of a step.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from loading import SIZES, network_of, pairs, plain_step, stills
from suite import Result
from timing import (
    Least,
    Measured,
    Options,
    Times,
    Work,
    compared,
    limits,
    main,
    training_flops,
    turns,
)
from torch.utils.data import Dataset

from flowhmr.body import open_body
from flowhmr.bodyflow import body_flow
from flowhmr.cameras import Crop, WeakCamera, between_crops, crop_from_box, project_weak
from flowhmr.flow import FlowPair
from flowhmr.geometry import map_tensors, rotmat_from_axis_angle
from flowhmr.losses import (
    AnchorWeights,
    FlowLossConfig,
    RasterFlowWeights,
    TextureWeights,
    flow_terms,
)
from flowhmr.networks import BASELINE, Hmr, HpofConfig, load_hmr
from flowhmr.records import Clip, FeatureClip, FeatureLink, Labels
from flowhmr.synth import mean_rotmats
from flowhmr.training import (
    FIT,
    Run,
    TemporalLoopConfig,
    TrainConfig,
    colour_noise,
    surface_weights,
    train,
    train_temporal,
)
from flowhmr.training.video import video_losses

CPU = torch.device("cpu")
CASES = {
    "Lite0": (96, FIT.train.pairs),
    "ResNet-18": (SIZES["ResNet-18"], FIT.train.pairs),
    "ResNet-50": (SIZES["ResNet-50"], 2),
    "HRNet-W32": (224, 2),
}
"""Size of the crops in pixels, and pairs in a step: as many as `flowhmr fit` takes, where a step of
them does not take too long."""
STEPS, UNTIMED = 5, 2
"""Of a run; the first ones do not count."""
MORE_PERCENT = 15.0
"""What refinement with flow may cost a frame beyond the plain step."""
LOSS_PERCENT = {"ResNet-18": 4.0, "ResNet-50": 1.0}
"""What the loss itself may cost, of the plain step."""
FLOW = replace(FIT.train, steps=STEPS, batch=0, workers=0, anchor=AnchorWeights(0.0, 0.0, 0.0))
LABELLED = TrainConfig(steps=STEPS, pairs=0, workers=0, optimiser=FLOW.optimiser)


class Stopwatch(Run):
    """A run that keeps nothing but how long its steps took.

    Args:
        config: of the training.
    """

    def __init__(self, config: Any):
        self.config, self.step_ms = config, list[float]()

    def resume(self, state: Any) -> int:
        """Nothing."""
        return 0

    def progress(self, start: int, steps: int) -> Iterator[int]:
        """The steps."""
        for step in range(start, steps):
            began = time.process_time()
            yield step
            self.step_ms.append(1e3 * (time.process_time() - began))

    def log(self, step: int, values: dict[str, float], state: Any) -> None:
        """Nothing."""

    def measured(self) -> Measured:
        """The usual step."""
        return Measured(statistics.median(self.step_ms[UNTIMED:]))


class Same(Dataset):
    """One batch, over and over.

    Args:
        batch: it.
    """

    def __init__(self, batch: Any):
        self.batch = batch

    def __len__(self) -> int:
        return STEPS

    def __getitem__(self, number: int) -> Any:
        return self.batch


def training_step(
    config: TrainConfig, network: Hmr, labelled: Clip | None, video: Clip | None
) -> Work:
    """A step of the loop, out of a short run of its own."""
    body = open_body()

    def work() -> Measured:
        run = Stopwatch(config)
        given = [None if clip is None else Same(clip) for clip in (labelled, video)]
        train(config, network, body, *given, run, CPU)
        return run.measured()

    return work


def flow_loss(size_px: int, frames: int) -> Callable[[], None]:
    """Visibility and flow loss of ``frames`` frames, half as many pairs, from the vertices."""
    body = open_body()
    torch.manual_seed(0)
    turns = rotmat_from_axis_angle(0.2 * torch.randn(frames, 24, 3))
    turns[:, 0] = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ turns[:, 0]
    verts = body.mesh(body.params(turns, torch.zeros(frames, 10))).verts.detach()
    verts.requires_grad_(True)
    camera = WeakCamera(torch.tensor([0.9, 0.0, 0.0]).repeat(frames, 1))
    pair, weights = no_flow(frames // 2, size_px), surface_weights(body)
    zeros = torch.zeros(frames // 2, 2)
    crops = Crop(torch.zeros(frames // 2, 2, 2), zeros + size_px, zeros, zeros, size_px)
    window = map_tensors(crops, lambda t: t[:, :1])

    def step() -> None:
        points = project_weak(verts, camera, size_px).unflatten(0, (-1, 2))
        first, second = between_crops(points, crops, window).unbind(1)
        moved = body_flow(first, second, body.faces, size_px)
        flow_terms(moved, pair, weights, FlowLossConfig()).flow.mean().backward()

    return step


def all_of_flow(network: Hmr, video: Clip) -> Callable[[], None]:
    """What a step with flow does beside running the network and updating it."""
    body = open_body()
    weights = surface_weights(body)
    with torch.no_grad():
        output = network(video.frames.flatten(0, 1))
    params, camera = output.estimate.params, output.estimate.camera
    turns, seen = (t.detach().requires_grad_(True) for t in (params.rotmats, camera.params))
    estimate = replace(
        output.estimate, params=replace(params, rotmats=turns), camera=replace(camera, params=seen)
    )
    output = replace(output, estimate=estimate)

    def work() -> None:
        colour_noise(video.frames, FLOW.colour_noise)
        found = video_losses(output, video, body, weights, FLOW)
        found.objectives["video"].total.backward()

    return work


def no_flow(count: int, size_px: int) -> FlowPair:
    """Flow below a pixel, everywhere known."""
    flow = torch.rand(count, size_px, size_px, 2)
    valid = torch.ones(count, size_px, size_px, dtype=torch.bool)
    return FlowPair(flow, -flow, valid, valid)


def of_images(
    name: str, size_px: int, count: int, options: "TrainingOptions", folder: Path
) -> list[Result]:
    """All steps of one network, of ``count`` pairs."""
    network, frames = network_of(name, size_px), 2 * count
    labelled = stills(folder, size_px, frames)[0]
    video = pairs(folder, size_px, count)[0]
    seen = video.frames.flatten(0, 1)
    plain = plain_step(network, seen, FLOW)
    textured = replace(FLOW, texture=TextureWeights(1.0))
    anchored = replace(FLOW, anchor=FIT.train.anchor)
    kinds = {
        "labelled": training_step(LABELLED, network, labelled, None),
        "flow": training_step(FLOW, network, None, video),
        "flow + texture": training_step(textured, network, None, video),
        "flow + anchor": training_step(anchored, network, None, video),
    }
    loss = flow_loss(size_px, frames)
    parts = {"plain": plain, "loss": loss, "all": all_of_flow(network, video)}
    times = turns({**parts, **kinds, **limits()}, options.rounds)
    at = f"{name}, {size_px} px"
    found = compared(
        f"{at}: plain step", times, "plain", unit="ms/frame", per=frames,
        least=Least(flops=training_flops(lambda: network(seen))),
    )  # fmt: skip
    found += [more(f"{at}: {kind} step", times, kind) for kind in kinds]
    for part, key, target in (
        ("all of flow", "all", MORE_PERCENT),
        ("visibility + flow loss", "loss", LOSS_PERCENT.get(name)),
    ):
        share = 100 / times.ratio(key, "plain")
        found.append(Result(
            f"{at}: {part}", share, "% of plain", target=target, peer="plain", ratio=100 / share,
        ))  # fmt: skip
    return found


def more(name: str, times: Times, kind: str, beside: str = "plain") -> Result:
    """A step beside another one of as much."""
    ratio = times.ratio(kind, beside)
    return Result(name, 100 * (1 / ratio - 1), "% more", peer=beside, ratio=ratio)


def feature_clips(config: HpofConfig, hmr: Hmr, batch: int) -> FeatureClip:
    """Random features, one person standing still, and a pair of frames with flow."""
    body, frames, size_px = open_body(), config.window - 1 + config.frames, 224
    made = torch.Generator().manual_seed(0)
    turn = rotmat_from_axis_angle(0.2 * torch.randn(batch, frames, 24, 3, generator=made))
    params = body.params(mean_rotmats() @ turn, torch.zeros(batch, frames, 10))
    joints_m = body.joints(params)
    seen_px = (0.7 * joints_m[..., :2] + 1) * size_px / 2
    labels = Labels(params, joints_m, seen_px, torch.ones(batch, frames, 24))
    box_px = torch.tensor([10.0, 10.0, 200.0, 200.0])
    link = FeatureLink(
        torch.full((batch,), config.window - 1),
        crop_from_box(box_px.expand(batch, 2, 4), size_px),
        crop_from_box(box_px.expand(batch, 4), size_px),
        no_flow(batch, size_px),
    )
    features = torch.randn(batch, frames, hmr.feature_size, generator=made)
    return FeatureClip(features, labels, size_px, link)


def of_features(options: "TrainingOptions") -> list[Result]:
    """HPOF's network over features, without and with the raster flow loss."""
    hmr, config, batch = load_hmr(BASELINE), HpofConfig(), 4
    network, clip = config.build(hmr), feature_clips(config, hmr, batch)
    labelled = TemporalLoopConfig(steps=STEPS, batch=batch, workers=0)
    drawn = replace(labelled, raster=RasterFlowWeights(60.0))

    def step(loop: TemporalLoopConfig) -> Work:
        def work() -> Measured:
            run = Stopwatch(loop)
            train_temporal(loop, network, open_body(), Same(clip), run, CPU)
            return run.measured()

        return work

    kinds = {"labelled": step(labelled), "raster flow": step(drawn)}
    times = turns({**kinds, **limits()}, options.rounds)
    name = f"HPOF over features, {batch} clips"
    return [
        *compared(
            f"{name}: labelled step", times, "labelled", unit="ms/clip", per=batch,
            least=Least(flops=training_flops(lambda: network(clip.features))),
        ),
        more(f"{name}: raster flow step", times, "raster flow", "labelled"),
    ]  # fmt: skip


@dataclass(frozen=True)
class TrainingOptions(Options):
    """Flags."""

    rounds: int = 3
    """How often everything is measured."""


def measure(options: TrainingOptions) -> list[Result]:
    """All networks."""
    with tempfile.TemporaryDirectory() as name:
        found = [
            result
            for network, (size_px, count) in CASES.items()
            for result in of_images(network, size_px, count, options, Path(name))
        ]
    return [*found, *of_features(options)]


if __name__ == "__main__":
    main(TrainingOptions, measure)
