"""Pre-training on labelled stills: how the shipped baseline came to be."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from flowhmr.body import BodyModel, open_body
from flowhmr.data import AugmentConfig, StillBatches
from flowhmr.losses import SupervisedWeights
from flowhmr.networks import BackboneConfig, Hmr, HmrConfig, MeanParams, load_hmr
from flowhmr.synth import PoolConfig, StillPool, mean_rotmats
from flowhmr.training.config import OptimiserConfig, TrainConfig
from flowhmr.training.loop import check_shares, train
from flowhmr.training.real import RealStills, fitting_weights
from flowhmr.training.run import Run

BASELINE_NETWORK = HmrConfig(
    backbone=BackboneConfig("tf_efficientnet_lite0", size_px=96, pooling="grid"),
    hidden=512,
    dropout=0.1,
    activation=True,
    maps=True,
)
BASELINE_WEIGHTS = SupervisedWeights(shape=0.02, heatmaps=0.02, surface=1.0, overall=1.0)


@dataclass(frozen=True)
class PretrainConfig:
    """Everything that defines a pre-training run.

    The defaults made the shipped network, from ImageNet weights (``backbone.weights``, made by
    ``tools/imagenet_weights.py``); without them expect to need many times the steps.
    """

    network: HmrConfig = BASELINE_NETWORK
    """Architecture; of no account with ``start``, which brings its own."""
    start: str = ""
    """A network's file to go on from instead of from scratch."""
    pool: PoolConfig = field(default_factory=lambda: PoolConfig(count=100_000))
    """Labelled stills."""
    real: RealStills = field(default_factory=RealStills)
    """Labelled pictures of the field, in their place."""
    augment: AugmentConfig = field(default_factory=lambda: AugmentConfig(ramp=10_000))
    """How they are varied."""
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=3_800,
            batch=64,
            optimiser=OptimiserConfig(
                1e-3, weight_decay=0.01, warmup=500, decay=2_800, clip_norm=0.5, average=0.999
            ),
            supervised=BASELINE_WEIGHTS,
            precision="bfloat16",
        )
    )
    """The loop."""


def pretrain(
    config: PretrainConfig,
    folder: Path,
    cache: Path,
    device: torch.device,
    on_pool: Callable[[int, int], None] | None = None,
    body: BodyModel | None = None,
) -> Path:
    """Train a network on stills: from scratch, from timm's weights or from a network.

    Args:
        config: the run.
        folder: run folder; a run that was interrupted goes on.
        cache: where the pool of stills is kept.
        device: where to compute.
        on_pool: told about the rendering of the pool: (stills ready, stills in all).
        body: of the labels; the open body, whose synthetic stills are, by default.

    Returns:
        The network's file in the run folder.

    Raises:
        NetworkFileError: ``config.start`` is not one of our networks.
        BodyIdentityError: it is of another body, or synthetic stills are asked for another one.
    """
    check_shares(config.train)
    body = body or open_body()
    torch.manual_seed(config.train.seed)
    if config.start:
        network = load_hmr(Path(config.start))
        body.check_identity("network", network.body_id)
    else:
        mean = MeanParams(mean_rotmats(), torch.zeros(body.num_betas), body.body_id)
        network = Hmr(config.network, mean)
    size_px, loop = network.size_px, config.train
    weights = fitting_weights(loop.supervised, network.config.maps, bool(config.real))
    loop = replace(loop, supervised=weights)
    if config.real:
        stills = config.real.batches(body, size_px, loop.batch, config.augment, loop)
    else:
        body.check_identity("synthetic stills", open_body().body_id)
        pool = StillPool(config.pool, cache, on_progress=on_pool)
        stills = StillBatches(pool, size_px, loop.batch, config.augment, loop.seed, loop.steps)
    run = Run(folder, loop, config, "pretrain")
    result = train(loop, network, body, stills, None, run, device)
    return run.save_network(result, "pretrain")
