"""Runs of the training loop that take seconds: a tiny network, a few crops of few pixels."""

from functools import partial
from pathlib import Path

import torch
from torch import nn

from flowhmr.body import open_body
from flowhmr.data import AugmentConfig, FlowSource, PairBatches, PairConfig, StillBatches
from flowhmr.flow import DisFlow, estimate_pair
from flowhmr.losses import FlowWeights, SupervisedWeights
from flowhmr.networks import BackboneConfig, Hmr, HmrConfig, MeanParams
from flowhmr.records import Sequence
from flowhmr.synth import StillPool, mean_rotmats
from flowhmr.training import OptimiserConfig, Run, TrainConfig, train

SIZE = 48
CPU = torch.device("cpu")
BOTH = TrainConfig(
    steps=6,
    batch=4,
    pairs=2,
    optimiser=OptimiserConfig(1e-3, average=0.9, warmup=2, decay=2),
    supervised=SupervisedWeights(overall=1.0),
    flow=FlowWeights(0.1),
    workers=0,
    checkpoint_every=2,
    log_every=1,
)


def network(seed: int = 0, maps: bool = False) -> Hmr:
    """An untrained network."""
    torch.manual_seed(seed)
    config = HmrConfig(BackboneConfig("mobilenetv3_small_050", size_px=SIZE), hidden=32, maps=maps)
    return Hmr(config, MeanParams(mean_rotmats(), torch.zeros(10), open_body().body_id))


def flow_of(pairs: PairConfig) -> FlowSource:
    """Estimates flow, fast and coarse."""
    return FlowSource(pairs, partial(estimate_pair, DisFlow("fast")))


def data(
    config: TrainConfig, pool: StillPool, video: list[Sequence]
) -> tuple[StillBatches, PairBatches]:
    """Stills and pairs of a run."""
    stills = StillBatches(pool, SIZE, config.batch, AugmentConfig(), config.seed, config.steps)
    source = flow_of(PairConfig(flow_px=64))
    return stills, PairBatches(video, SIZE, config.pairs, config.seed, config.steps, source)


def run(
    config: TrainConfig,
    folder: Path,
    pool: StillPool,
    video: list[Sequence],
    start: Hmr | None = None,
) -> nn.Module:
    """Train on stills and pairs."""
    stills, pairs = data(config, pool, video)
    return train(
        config, start or network(), open_body(), stills, pairs, Run(folder, config, {}), CPU
    )


def same(a: nn.Module, b: nn.Module) -> bool:
    """Whether two networks have the same weights, to the bit."""
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))
