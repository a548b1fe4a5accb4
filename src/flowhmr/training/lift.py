"""Training of the network that lifts keypoint tracks and flow, on synthetic tracks alone."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from flowhmr.body import BodyModel, open_body
from flowhmr.data import LiftBatches, LiftDataConfig, TrackStore
from flowhmr.evaluation import ClipScore, score_bodies
from flowhmr.geometry import collate, map_tensors, to_device
from flowhmr.losses import TrackWeights, track_terms, weigh
from flowhmr.networks import Lift, LiftConfig, MeanParams
from flowhmr.synth import mean_rotmats
from flowhmr.training.config import LoopConfig, OptimiserConfig
from flowhmr.training.loop import batches, check_shares
from flowhmr.training.run import Run
from flowhmr.training.state import LoopState


@dataclass(frozen=True)
class LiftLoopConfig(LoopConfig):
    """The training loop."""

    weights: TrackWeights = field(default_factory=TrackWeights)
    """Of the losses."""


@dataclass(frozen=True)
class LiftTrainingConfig:
    """Everything that defines a run."""

    network: LiftConfig = field(default_factory=LiftConfig)
    """Architecture."""
    data: LiftDataConfig = field(default_factory=LiftDataConfig)
    """Tracks, and the detector between them and the network."""
    train: LiftLoopConfig = field(
        default_factory=lambda: LiftLoopConfig(
            steps=10_000,
            batch=32,
            optimiser=OptimiserConfig(
                1e-3, weight_decay=0.01, warmup=300, decay=7_000, clip_norm=1.0, average=0.999
            ),
            precision="bfloat16",
        )
    )
    """The loop."""


def pretrain_lift(
    config: LiftTrainingConfig,
    folder: Path,
    cache: Path,
    device: torch.device,
    on_tracks: Callable[[int, int], None] | None = None,
) -> Path:
    """Train the network.

    Args:
        config: the run.
        folder: run folder; a run that was interrupted goes on.
        cache: where the tracks are kept.
        device: where to compute.
        on_tracks: told about the drawing of the tracks: (ready, in all).

    Returns:
        The network's file in the run folder.
    """
    body, loop = open_body(), config.train
    check_shares(loop)
    torch.manual_seed(loop.seed)
    mean = MeanParams(mean_rotmats(), torch.zeros(body.num_betas), body.body_id)
    network = Lift(config.network, mean)
    store = TrackStore(config.data.tracks, config.data.count, cache, on_progress=on_tracks)
    windows = LiftBatches(store, config.data, loop.batch, loop.seed, loop.steps)
    run = Run(folder, loop, config, "lift")
    result = train_lift(loop, network, body, windows, run, device)
    return run.save_network(result, "lift")


def train_lift(
    config: LiftLoopConfig,
    network: Lift,
    body: BodyModel,
    windows: torch.utils.data.Dataset,
    run: Run,
    device: torch.device,
) -> Lift:
    """Train ``network`` and return it (averaged, if the config asks for that), in eval mode.

    Continues from the run folder's checkpoint if there is one.

    Args:
        config: the run.
        network: where to start; left untouched.
        body: the body it estimates.
        windows: batches of `flowhmr.records.TrackClip` ``[b t]``, by number.
        run: folder, log, checkpoints.
        device: where to compute.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    body = body.to(device)
    state = LoopState(config, network, device)
    start = run.resume(state)
    drawn = batches(windows, start, config)
    for step in run.progress(start, config.steps):
        state.begin_step(step)
        clip = to_device(next(drawn), device)
        with state.forward_pass():
            found = state.network(clip.input)
        found = map_tensors(found, torch.Tensor.float)
        joints_m, target_m = body.joints(found.bodies.params), body.joints(clip.labels.params)
        objective = weigh(track_terms(found, clip, joints_m, target_m), config.weights)
        run.log(step, state.update(objective.total) | objective.logged, state)
    return state.result()


@torch.no_grad()
def score_lift(
    network: Lift, tracks: LiftBatches, body: BodyModel, device: torch.device, seed: int = 0
) -> list[ClipScore]:
    """Scores on the whole of each stored track, once each, as the detector sees it.

    Args:
        network: to score.
        tracks: held out; windows of the length of the tracks are cut from them.
        body: the body that it estimates.
        device: where to compute.
        seed: of the simulated detector.
    """
    network = network.to(device).eval()
    drawn = tracks.store.config
    config = replace(tracks.config, tracks=drawn, frames=drawn.frames)
    whole = LiftBatches(tracks.store, config, 1, seed, 1)
    scores = []
    for track in range(len(tracks.store)):
        clip = whole.window(track, 0, np.random.default_rng([seed, 9, track]))
        found = network(to_device(collate([clip]), device).input)
        estimate = map_tensors(found.bodies, lambda t: t[0].cpu())
        scores.append(score_bodies(estimate, clip.labels, body, f"track {track}", str(track)))
    return scores
