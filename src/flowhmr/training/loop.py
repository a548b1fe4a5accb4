"""The training loop: pre-training, refinement and fitting are one loop with different parts."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import astuple
from typing import Any

import cv2
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from flowhmr.body import BodyModel
from flowhmr.data import Batches
from flowhmr.distributed import own_rows, this_share
from flowhmr.evaluation import Estimator
from flowhmr.flow import RaftFlow
from flowhmr.geometry import map_tensors, to_device
from flowhmr.losses import Objective, PredictedMaps, anchor_terms, supervised_terms, weigh
from flowhmr.networks import ContextHmr, Hmr, TemporalHmr
from flowhmr.records import Clip, Estimate, join_estimates
from flowhmr.training.config import LoopConfig, TrainConfig
from flowhmr.training.run import Run
from flowhmr.training.state import TrainState
from flowhmr.training.video import estimate_video, surface_weights, video_losses, with_flow


def train(
    config: TrainConfig,
    network: Hmr | ContextHmr,
    body: BodyModel,
    stills: Dataset | None,
    pairs: Dataset | None,
    run: Run,
    device: torch.device,
    flow: RaftFlow | None = None,
) -> Hmr | ContextHmr:
    """Train ``network`` and return it (averaged, if the config asks for that), in eval mode.

    Continues from the run folder's checkpoint if there is one: killed and resumed, a run ends
    with the weights it would have had. On several processes each takes its share of the same
    batches, and all return the same network.

    Args:
        config: the run.
        network: where to start; left untouched.
        body: the body the network estimates.
        stills: batches ``[b, 1]`` of labelled crops, by number; None when ``config.batch`` is 0.
        pairs: batches ``[p, n]`` of pairs or windows with flow; None when ``config.pairs`` is 0.
            With what was before each frame they need a network with temporal context.
        run: folder, log, checkpoints.
        device: where to compute.
        flow: estimates the flow of pairs that come without it, on that device.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    body = body.to(device)
    state = TrainState(config, network, device)
    start = run.resume(state)
    labelled = batches(stills, start, config) if stills is not None and config.batch else None
    unlabelled = batches(pairs, start, config) if pairs is not None and config.pairs else None
    vertex_weights = surface_weights(body)
    if not config.by_surface:
        vertex_weights = torch.ones_like(vertex_weights)

    for step in run.progress(start, config.steps):
        state.begin_step(step)
        objectives: dict[str, Objective] = {}
        facts: dict[str, Tensor] = {}

        if labelled is not None:
            clip = to_device(next(labelled), device)
            labelled_pass = frozen_statistics if config.frozen else nullcontext
            with labelled_pass(state.network), state.forward_pass():
                output = state.network(clip.frames[:, 0])
            if clip.labels is None:
                raise ValueError("got stills without labels; expected batches of a StillBatches")
            labels = map_tensors(clip.labels, lambda t: t[:, 0])
            joints_m = body.joints(output.estimate.params)
            size_px = clip.frames.shape[-1]
            maps = PredictedMaps(output.heatmap_logits, output.surface)
            terms = supervised_terms(output.estimate, joints_m, maps, labels, size_px)
            objectives["supervised"] = weigh(terms, config.supervised)

        if unlabelled is not None:
            clip = with_flow(to_device(next(unlabelled), device), flow)
            frames = colour_noise(clip.frames, config.colour_noise)
            with frozen_statistics(state.network), state.forward_pass():
                output = estimate_video(state.network, clip, frames)
            video = video_losses(output, clip, body, vertex_weights, config)
            objectives |= video.objectives
            facts |= video.facts
            if any(astuple(config.anchor)):
                with torch.no_grad(), state.forward_pass():
                    held = state.teacher(clip.frames.flatten(0, 1)).estimate
                objectives["anchor"] = weigh(anchor_terms(output.estimate, held), config.anchor)

        scale = {"supervised": config.supervised_scale}
        parts = [scale.get(k, 1.0) * o.total for k, o in objectives.items()]
        total = torch.stack(parts).sum()
        for objective in objectives.values():
            facts |= objective.logged
        run.log(step, state.update(total) | facts, state)

    return state.result()


def colour_noise(frames: UInt8[Tensor, "*b 3 s s"], strength: float) -> Float[Tensor, "*b 3 s s"]:
    """Each frame's channels times U(1 - strength, 1 + strength), in [0, 1] (of4hmr, section 5)."""
    # Drawn for all processes, whose frames are shares of one batch.
    count, *rest = frames.shape[:-2]
    drawn = torch.rand(count * this_share().count, *rest, 1, 1, device=frames.device)
    factor = 1 + strength * (2 * own_rows(drawn) - 1)
    return (frames / 255 * factor).clamp(0, 1)


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Batch norm as at test time, and its statistics left alone; dropout off.

    The video's statistics are not those of the labelled frames, and two almost equal frames are
    no batch.
    """
    was = [(m, m.training) for m in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in was:
            module.training = training


def check_shares(config: LoopConfig) -> None:
    """Ask, before data are prepared, whether each process can have an equal share of a batch.

    Raises:
        ValueError: it cannot.
    """
    this_share().rows(config.batch, "train.batch")
    if isinstance(config, TrainConfig):
        this_share().rows(config.pairs, "train.pairs")


def batches(dataset: Dataset, start: int, config: LoopConfig) -> Iterator[Any]:
    """Batch ``start`` and those after it, prepared ahead by worker processes.

    Of several processes each gets its share of the same batches.

    Raises:
        ValueError: a batch cannot be divided so.
    """
    if this_share().count > 1:
        dataset = OwnShare(dataset)
    rest = Subset(dataset, range(start, config.steps))
    loader = DataLoader(
        rest,
        batch_size=None,
        num_workers=config.workers,
        prefetch_factor=8 if config.workers else None,
        worker_init_fn=_quiet_worker,
    )
    return iter(loader)


class OwnShare(Dataset):
    """This process's samples of the same batches."""

    def __init__(self, whole: Dataset):
        if not isinstance(whole, Batches):
            raise TypeError(
                f"got a {type(whole).__name__} for several processes; expected "
                "flowhmr.data.Batches, of which each can take its samples"
            )
        self.whole, self.rows = whole, this_share().rows(whole.batch)

    def __getitem__(self, number: int) -> Any:
        """Some of a batch's samples."""
        return self.whole.samples(number, self.rows)


def _quiet_worker(_: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def estimator_of(
    network: Hmr | ContextHmr | TemporalHmr, device: torch.device, batch: int = 64
) -> Estimator:
    """A network as `flowhmr.evaluation.Estimator`: frames of a clip ``[t]`` to estimates.

    With temporal context, or over features, the frames must be those of one person, in order.
    """
    network = network.to(device).eval()
    if not isinstance(network, Hmr):
        along_video = network

        @torch.no_grad()
        def estimate_sequence(clip: Clip) -> Estimate:
            found = along_video.sequence(clip.frames.to(device), batch)
            return map_tensors(found, Tensor.cpu)

        return estimate_sequence

    @torch.no_grad()
    def estimate(clip: Clip) -> Estimate:
        parts = [network(f.to(device)).estimate for f in clip.frames.split(batch)]
        return map_tensors(join_estimates(parts), Tensor.cpu)

    return estimate
