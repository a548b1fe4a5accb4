"""Training of a network for optical flow, on people who move before moving scenes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from flowhmr.data import FlowBatches, FlowDataConfig
from flowhmr.distributed import is_first
from flowhmr.flow import FlowEstimator, new_raft, raft_input, save_raft
from flowhmr.geometry import to_device
from flowhmr.losses import (
    FlowSequenceConfig,
    FlowSequenceWeights,
    flow_sequence_terms,
    weigh,
)
from flowhmr.records import FlowExample
from flowhmr.synth import FlowClipConfig, FlowClipPool, SizeName, SplitName, split_spec
from flowhmr.training.config import LoopConfig, OptimiserConfig
from flowhmr.training.loop import batches
from flowhmr.training.run import NETWORK, Run, provenance
from flowhmr.training.state import LoopState

MOVES_PX = 2.0
"""A pixel that goes further than this between two frames moves."""


@dataclass(frozen=True)
class FlowLoopConfig(LoopConfig):
    """The training loop."""

    updates: int = 6
    """Recurrent updates of the network in training."""
    loss: FlowSequenceConfig = field(default_factory=FlowSequenceConfig)
    """How flow is compared with the true one."""
    weights: FlowSequenceWeights = field(default_factory=FlowSequenceWeights)
    """Of the losses."""
    score_every: int = 500
    """Steps between looks at held-out clips; the network that is best there is the result."""

    def __post_init__(self) -> None:
        if self.updates < 1 or self.score_every < 1:
            raise ValueError(
                f"flow network: got {self.updates} updates, scores every {self.score_every} steps; "
                "expected at least 1 of each"
            )


@dataclass(frozen=True)
class FlowTrainingConfig:
    """Everything that defines a run."""

    learned_upsampling: bool = True
    """Have RAFT-small learn how its flow is brought up to the frames' size (`flow.new_raft`)."""
    data: FlowDataConfig = field(default_factory=FlowDataConfig)
    """Clips, and how they are varied."""
    train: FlowLoopConfig = field(
        default_factory=lambda: FlowLoopConfig(
            steps=12_000,
            batch=8,
            optimiser=OptimiserConfig(
                5e-4, weight_decay=1e-4, warmup=200, decay=8_000, clip_norm=1.0, average=0.998
            ),
            precision="bfloat16",
            checkpoint_every=100,
        )
    )
    """The loop."""


@dataclass(frozen=True)
class FlowScore:
    """Mean end-point errors of all pixels whose flow is known, pixels of the frames."""

    all_px: float
    """Everywhere."""
    people_px: float
    """On people."""
    moving_px: float
    """On people, where they move by more than `MOVES_PX`."""
    pairs: int
    """Of frames."""


def held_out_pairs(
    split: SplitName,
    folder: Path,
    size: SizeName = "small",
    workers: int = 2,
    on_clips: Callable[[int, int], None] | None = None,
    count: int | None = None,
) -> FlowClipPool:
    """Pairs of SynthMotion's held-out clips, 1 to 6 frames apart: three of each clip.

    Args:
        split: ``val``, or ``test`` at the very end.
        folder: where drawn clips are kept.
        size: of the images.
        workers: processes that draw.
        on_clips: told about the drawing: (ready, in all).
        count: of clips, the first; None: all.
    """
    spec = split_spec(split, size)
    config = FlowClipConfig(spec.clips, frames=4)
    return FlowClipPool(config, count or spec.count, folder, workers, on_clips)


def pretrain_flow(
    config: FlowTrainingConfig,
    folder: Path,
    cache: Path,
    device: torch.device,
    workers: int = 2,
    on_clips: Callable[[int, int], None] | None = None,
) -> Path:
    """Train the network.

    Args:
        config: the run.
        folder: run folder; a run that was interrupted goes on.
        cache: where drawn clips are kept.
        device: where to compute.
        workers: processes that draw.
        on_clips: told about the drawing of the clips: (ready, in all).

    Returns:
        The file of the network that was best on SynthMotion's validation clips.
    """
    loop, data = config.train, config.data
    torch.manual_seed(loop.seed)
    network = new_raft("small", config.learned_upsampling)
    pool = FlowClipPool(data.clips, data.count, cache, workers, on_clips)
    held_out = held_out_pairs("val", cache, workers=workers, on_clips=on_clips)
    pairs = FlowBatches(pool, data, loop.batch, loop.seed, loop.steps)
    train_flow(loop, network, pairs, held_out, Run(folder, loop, config, "flow network"), device)
    return folder / NETWORK


def train_flow(
    config: FlowLoopConfig,
    network: nn.Module,
    pairs: torch.utils.data.Dataset,
    held_out: FlowClipPool,
    run: Run,
    device: torch.device,
) -> nn.Module:
    """Train ``network``; returns the last one (averaged, if the config asks for that).

    Continues from the run folder's checkpoint if there is one. The network that is best on the
    held-out pairs, so far, is in the run folder.

    Args:
        config: the run.
        network: where to start, of torchvision's `RAFT`; left untouched.
        pairs: batches of `flowhmr.records.FlowExample` ``[b]``, by number.
        held_out: pairs to choose the best by.
        run: folder, log, checkpoints.
        device: where to compute.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    state = LoopState(config, network, device)
    start = run.resume(state)
    drawn = batches(pairs, start, config)
    for step in run.progress(start, config.steps):
        state.begin_step(step)
        example = to_device(next(drawn), device)
        first, second = raft_input(example.frames).unbind(1)
        with state.forward_pass():
            found = state.network(first, second, num_flow_updates=config.updates)
        found_px = [flow_px.float().permute(0, 2, 3, 1) for flow_px in found]
        terms = flow_sequence_terms(found_px, example, config.loss)
        objective = weigh(terms, config.weights)
        values = state.update(objective.total) | objective.logged
        done = step + 1
        if is_first() and (done % config.score_every == 0 or done == config.steps):
            keep_best(state, held_out, run, done, config.updates)
        run.log(step, values, state)
    return state.result()


def keep_best(state: LoopState, held_out: FlowClipPool, run: Run, step: int, updates: int) -> None:
    """Score the network of a step, and write it if it is better on people than those before."""
    # Not a copy: torchvision's RAFT keeps what it last compared, which in training has a graph.
    network = state.average if state.average is not None else state.network
    was = network.training
    score = score_flow(network_flow(network.eval(), updates, state.device), held_out)
    network.train(was)
    best = min((row["people_px"] for row in run.scores()), default=np.inf)
    if score.people_px < best:
        facts = {"trained_by": "flownet", "step": step, "validation": vars(score)}
        save_raft(run.folder / NETWORK, network, {**provenance(), **run.cost(), **facts})
    run.score(step, vars(score))


FlowOf = Callable[[FlowExample], Float[Tensor, "h w 2"]]
"""What is scored: flow from the first frame of an example to the second."""


def network_flow(network: nn.Module, updates: int, device: torch.device) -> FlowOf:
    """A network, in evaluation mode, to be scored."""

    @torch.no_grad()
    def flow_px(example: FlowExample) -> Float[Tensor, "h w 2"]:
        first, second = raft_input(example.frames[:, None].to(device))
        found = network(first, second, num_flow_updates=updates)[-1]
        return found[0].permute(1, 2, 0).cpu()

    return flow_px


def estimator_flow(estimator: FlowEstimator) -> FlowOf:
    """An estimator, to be scored."""

    def flow_px(example: FlowExample) -> Float[Tensor, "h w 2"]:
        first, second = example.frames.permute(0, 2, 3, 1).numpy()
        return torch.from_numpy(estimator.estimate(first, second))

    return flow_px


def score_flow(flow_of: FlowOf, held_out: FlowClipPool) -> FlowScore:
    """End-point errors over all held-out pairs, each from the first frame to the second."""
    sums, counts = torch.zeros(3), torch.zeros(3)
    for error_px, masks in _errors(flow_of, held_out):
        sums += torch.stack([error_px[mask].sum() for mask in masks])
        counts += torch.stack([mask.sum() for mask in masks])
    return FlowScore(*(sums / counts).tolist(), pairs=held_out.pairs)


def _errors(flow_of: FlowOf, held_out: FlowClipPool) -> Iterator[tuple[Tensor, list[Tensor]]]:
    for number in range(held_out.pairs):
        example = held_out.example(number)
        error_px = (flow_of(example) - example.flow_px).norm(dim=-1)
        people = example.known & example.person
        moving = people & (example.flow_px.norm(dim=-1) > MOVES_PX)
        yield error_px, [example.known, people, moving]
