"""Refinement of a network with the motion in unannotated video (of4hmr, Eqs. 4 and 8)."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from flowhmr.body import BodyModel, open_body
from flowhmr.data import (
    AugmentConfig,
    Batches,
    FlowSource,
    FrameSource,
    PairBatches,
    PairConfig,
    StillBatches,
)
from flowhmr.flow import FlowCache, RaftFlow, estimate_pair, flow_estimator
from flowhmr.losses import AnchorWeights, FlowLossConfig, FlowWeights
from flowhmr.networks import ContextConfig, ContextHmr, Hmr
from flowhmr.records import Clip, Sequence
from flowhmr.synth import PoolConfig, StillPool
from flowhmr.training.config import OptimiserConfig, TrainConfig
from flowhmr.training.loop import check_shares, train
from flowhmr.training.pretrain import BASELINE_WEIGHTS
from flowhmr.training.real import RealStills, fitting_weights
from flowhmr.training.run import Run

# The values were chosen on validation video (experiments/README.md).
#
# Frames as far apart as flow holds: while a network's estimates jump further than people move in
# that time, the cheapest way to agree with the flow is to freeze.
FAR_PAIRS = PairConfig(gap=6, reach=0.1)
# Not in the pair's mean flow but always in the same unit, a pixel of the shipped network's crop:
# fast video counts as much as slow.
FLOW_LOSS = FlowLossConfig(residual="charbonnier", max_flow=100 / 224, scaled=False, unit=1 / 96)
# Strong enough a flow to take the jumps out, and as strong an anchor that it takes nothing else.
FLOW = FlowWeights(0.1)
ANCHOR = AnchorWeights(30.0, 3.0, 30.0)
# Stills as hard as at the end of the shipped network's training: harder ones pull it away.
AS_TRAINED = AugmentConfig(ramp=30_000).at(8_500)
REFINE_LOOP = TrainConfig(
    steps=200,
    batch=32,
    pairs=16,
    optimiser=OptimiserConfig(1e-4, average=0.99, clip_norm=0.5),
    supervised=BASELINE_WEIGHTS,
    flow=FLOW,
    flow_loss=FLOW_LOSS,
    frozen=True,
    anchor=ANCHOR,
)
FIT_LOOP = TrainConfig(
    steps=300,
    batch=0,
    pairs=16,
    optimiser=OptimiserConfig(3e-5, average=0.99, clip_norm=0.5),
    flow=FLOW,
    flow_loss=FLOW_LOSS,
    anchor=ANCHOR,
)


@dataclass(frozen=True)
class RefineConfig:
    """Everything that defines a refinement, besides the network and the video."""

    pool: PoolConfig = field(default_factory=lambda: PoolConfig(count=8_000))
    """Labelled stills of the supervised part."""
    real: RealStills = field(default_factory=RealStills)
    """Labelled pictures of the field, in their place."""
    augment: AugmentConfig = AS_TRAINED
    """How they are varied."""
    pairs: PairConfig = FAR_PAIRS
    """How pairs of video frames are cut (their ``context`` follows from the network's)."""
    context: int = 0
    """Give the network a temporal context of so many earlier frames (Eq. 5); 0 leaves it as it
    is. The paper has 1, 2, 4 and 8."""
    flow: str = "dis"
    """Flow estimator: dis, dis:medium, raft, raft:small, raft:large:FILE. RAFT computes on the
    run's device if that is a GPU and pairs are cut without ``reach`` and ``hop``, each time anew;
    else the processes that prepare batches estimate flow on the CPU, once, and keep it."""
    train: TrainConfig = REFINE_LOOP
    """The loop."""


FIT = RefineConfig(train=FIT_LOOP)
"""Without labels (Eq. 8)."""


def refine(
    config: RefineConfig,
    network: Hmr | ContextHmr,
    body: BodyModel,
    video: list[Sequence],
    folder: Path,
    cache: Path,
    device: torch.device,
    on_pool: Callable[[int, int], None] | None = None,
) -> Path:
    """Refine a network with labelled stills and unannotated video.

    With ``config.train.batch`` 0 there are no labels; with ``config.train.pairs`` 0 there is no
    video: the control, the same number of steps of supervised training alone.

    Args:
        config: the run.
        network: where to start.
        body: the body it estimates.
        video: one person's images each, without labels (they would not be looked at).
        folder: run folder; a run that was interrupted goes on.
        cache: where flow and stills are kept.
        device: where to compute.
        on_pool: told about the rendering of the pool: (stills ready, stills in all).

    Returns:
        The network's file in the run folder.
    """
    parts = prepare(config, network, video, config.train.batch, cache, on_pool, body, device)
    return finish(config, parts, body, folder, device, "refine")


@dataclass(frozen=True, eq=False)
class Parts:
    """What a refinement is made of."""

    loop: TrainConfig
    """The loop, as suits the network."""
    network: Hmr | ContextHmr
    """Where it starts."""
    labelled: Batches[Clip] | None
    """Batches of labelled crops."""
    pairs: Batches[Clip] | None
    """Batches of pairs of video frames."""
    flow: RaftFlow | None = None
    """Estimates their flow, where they come without it."""


def prepare(
    config: RefineConfig,
    network: Hmr | ContextHmr,
    video: list[Sequence],
    stills: int,
    cache: Path,
    on_pool: Callable[[int, int], None] | None = None,
    body: BodyModel | None = None,
    device: torch.device | None = None,
) -> Parts:
    """The parts of a refinement; ``stills`` is how many crops of them there are in each batch.

    ``body`` is that of the labels, the open body by default; ``device`` where flow may be
    estimated.
    """
    loop, body = config.train, body or open_body()
    check_shares(loop)
    network = _with_context(network, config)
    hmr = network.hmr if isinstance(network, ContextHmr) else network
    weights = fitting_weights(loop.supervised, hmr.config.maps, bool(config.real))
    loop = replace(loop, supervised=weights)
    size_px = network.size_px
    labelled = pairs = later = None
    # The video first: what is wrong with it shows before the stills are rendered.
    if loop.pairs:
        length = network.config.length if isinstance(network, ContextHmr) else 0
        cut = replace(config.pairs, context=length)
        later = flow_on(device, cut, config.flow)
        source = FrameSource(cut) if later else flow_source(cut, config.flow, cache)
        pairs = PairBatches(video, size_px, loop.pairs, loop.seed, loop.steps, source)
    if stills and config.real:
        labelled = config.real.batches(body, size_px, stills, config.augment, loop)
    elif stills:
        body.check_identity("synthetic stills", open_body().body_id)
        pool = StillPool(config.pool, cache, on_progress=on_pool)
        labelled = StillBatches(pool, size_px, stills, config.augment, loop.seed, loop.steps)
    return Parts(loop, network, labelled, pairs, later)


def finish(
    config: RefineConfig,
    parts: Parts,
    body: BodyModel,
    folder: Path,
    device: torch.device,
    name: str,
) -> Path:
    """Train with these parts and save the network; returns its file."""
    run = Run(folder, parts.loop, config, name)
    result = train(
        parts.loop, parts.network, body, parts.labelled, parts.pairs, run, device, parts.flow
    )
    return run.save_network(result, name)


def _with_context(network: Hmr | ContextHmr, config: RefineConfig) -> Hmr | ContextHmr:
    if not config.context:
        return network
    if isinstance(network, ContextHmr):
        raise ValueError(
            f"context: got {config.context} for a network that has a temporal context of "
            f"{network.config.length} frames already; expected a single-frame network; leave it "
            "at 0, or start from another network"
        )
    torch.manual_seed(config.train.seed)
    return ContextHmr(ContextConfig(length=config.context), network)


def flow_on(device: torch.device | None, pairs: PairConfig, flow: str) -> RaftFlow | None:
    """RAFT on a GPU, if that is the named estimator and the device; None: on the CPU.

    None as well where pairs are cut by the flow between them.
    """
    if device is None or device.type == "cpu" or pairs.by_flow:
        return None
    estimator = flow_estimator(flow, device)
    return estimator if isinstance(estimator, RaftFlow) else None


def flow_source(
    pairs: PairConfig, flow: str, cache: Path | None, device: torch.device | None = None
) -> FlowSource:
    """Pairs with the flow of a named estimator, cached in ``cache / "flow"`` if given.

    ``device`` is where it computes, if it can: only for what the main process asks for.
    """
    estimator = flow_estimator(flow, device)
    if cache is None:
        return FlowSource(pairs, partial(estimate_pair, estimator))
    return FlowSource(pairs, FlowCache(cache / "flow", estimator).pair)
