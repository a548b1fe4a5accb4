"""Training of networks over the static features of a video: TCMR, VIBE, HPOF, and their like.

The single-frame network that gives the features stays as it is.
"""

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from flowhmr.body import BodyModel, open_body
from flowhmr.data import (
    FeatureBatches,
    FeatureConfig,
    FeatureSource,
    MotionSetConfig,
    PairConfig,
    StoredFeatures,
    StoredLinks,
    motion_sequences,
)
from flowhmr.distributed import whole_batch
from flowhmr.evaluation import ClipScore, score_bodies
from flowhmr.geometry import map_tensors, to_device
from flowhmr.losses import AccelerationWeights, AnchorWeights, RasterFlowWeights, RealismWeights
from flowhmr.networks import (
    BASELINE,
    BodyHead,
    ContextFeaturesConfig,
    FramewiseConfig,
    Hmr,
    HpofConfig,
    MotionDiscriminator,
    MotionDiscriminatorConfig,
    SmoothNetConfig,
    TcmrConfig,
    TemporalHmr,
    TemporalNetwork,
    VibeConfig,
    load_hmr,
)
from flowhmr.records import Estimate, Sequence, TrackLabels
from flowhmr.training.config import OptimiserConfig
from flowhmr.training.loop import batches, check_shares
from flowhmr.training.refine import flow_source
from flowhmr.training.run import Run
from flowhmr.training.state import LoopState
from flowhmr.training.temporal_losses import (
    TemporalLoopConfig,
    adversarial_objectives,
    temporal_objectives,
)

Progress = Callable[[int, int], None]
OverFeatures = (
    TcmrConfig | VibeConfig | HpofConfig | SmoothNetConfig | ContextFeaturesConfig | FramewiseConfig
)
LIGHT_HIDDEN = 256
"""Units of a light run's GRUs, its discriminator's too; channels of its convolutions."""


@dataclass(frozen=True)
class TemporalTrainingConfig:
    """Everything that defines a run. TCMR as in its paper is the default."""

    network: OverFeatures = field(default_factory=TcmrConfig)
    """Architecture."""
    start: str = ""
    """File of the single-frame network that gives the features and the first regressor; '': the
    shipped one."""
    features: FeatureConfig = field(default_factory=FeatureConfig)
    """Of which crops."""
    video: MotionSetConfig = field(default_factory=lambda: MotionSetConfig(size="full"))
    """Clips with labels."""
    flow: str = "dis"
    """Flow estimator, where the raster flow loss has a weight."""
    flow_px: int = 224
    """Width and height of the window in which flow is estimated."""
    raster_px: int = 224
    """Width and height of the window in which bodies are drawn, and to which flow is brought."""
    train: TemporalLoopConfig = field(
        default_factory=lambda: TemporalLoopConfig(
            steps=30_000, batch=32, optimiser=OptimiserConfig(5e-5, decay=10_000), workers=2
        )
    )
    """The loop. The paper divides the rate by ten after five epochs without progress; here it
    falls by plan."""

    def __post_init__(self) -> None:
        # Before clips are drawn.
        self.video.specs()
        if self.video.frames < self.network.frames:
            raise ValueError(
                f"clips: got {self.network.frames} frames of video of {self.video.frames}; "
                "expected at most as many; set video.frames too"
            )


def light_temporal(network: OverFeatures, learning_rate: float = 5e-4) -> TemporalTrainingConfig:
    """A run on small images that takes minutes on one CPU core, once the features are there.

    Against the papers: features of the shipped network (792 numbers a frame, not ResNet-50's 2048),
    fewer steps at a higher rate that falls to zero, the average of the weights, and an anchor to
    the single-frame network's own bodies: the clips are few (experiments/README.md).

    Args:
        network: architecture; give `LIGHT_HIDDEN` units or channels.
        learning_rate: before it falls.
    """
    return TemporalTrainingConfig(
        network=network,
        video=MotionSetConfig(),
        flow_px=128,
        raster_px=64,
        train=TemporalLoopConfig(
            steps=1_500,
            batch=32,
            optimiser=OptimiserConfig(
                learning_rate, warmup=50, decay=1_000, clip_norm=1.0, average=0.99
            ),
            workers=0,
            anchor=AnchorWeights(480.0, 0.0, 0.0),
            anchor_reach=2,
            discriminator=MotionDiscriminatorConfig(LIGHT_HIDDEN),
        ),
    )


def light_hpof() -> TemporalTrainingConfig:
    """`light_temporal` for HPOF, without its own losses; it says poses from the mean ones."""
    return light_temporal(HpofConfig(blocks=2, width=LIGHT_HIDDEN, residual=False), 1e-3)


def with_hpof_losses(config: TemporalTrainingConfig) -> TemporalTrainingConfig:
    """A run with the losses that HPOF adds to HMR's, with the paper's weights (3.4).

    Its .0004 of the raster flow loss is taken to weigh a sum over the pixels and channels of a crop
    of 224 px, which is 60 times their mean.
    """
    train = replace(
        config.train,
        acceleration=AccelerationWeights(60.0),
        realism=RealismWeights(0.5),
        raster=RasterFlowWeights(60.0),
    )
    return replace(config, train=train)


def pretrain_temporal(
    config: TemporalTrainingConfig,
    folder: Path,
    cache: Path,
    device: torch.device,
    on_progress: Callable[[str], Progress] | None = None,
    sequences: list[Sequence] | None = None,
    body: BodyModel | None = None,
) -> Path:
    """Train the network.

    Args:
        config: the run.
        folder: run folder; a run that was interrupted goes on.
        cache: where clips and features are kept.
        device: where to compute.
        on_progress: gives what is told (ready, in all) of the preparation that it is named.
        sequences: video with labels, in the place of ``config.video``.
        body: of its labels and of the networks; the open body by default.

    Returns:
        The network's file in the run folder; it holds the single-frame network too.
    """
    check_shares(config.train)
    body, loop, hmr = body or open_body(), config.train, first_network(config)
    body.check_identity("network", hmr.body_id)
    if sequences is None:
        told = None if on_progress is None else on_progress("drawing clips")
        sequences = motion_sequences(config.video, cache, told)
    store = stored_features(hmr, config.features, sequences, cache, device, on_progress)
    torch.manual_seed(loop.seed)
    both = TemporalHmr(hmr, config.network)
    frames, beyond = both.temporal.frames, both.temporal.beyond
    links = None
    if loop.raster.raster_flow:
        links = temporal_links(config, sequences, cache, on_progress, device)
    clips = FeatureBatches(
        store,
        frames,
        beyond,
        loop.batch,
        loop.seed,
        loop.steps,
        links,
        config.raster_px,
        loop.keypoint_share,
    )
    run = Run(folder, loop, config, type(config.network).__name__.removesuffix("Config"))
    both.temporal = train_temporal(loop, both.temporal, body, clips, run, device)
    return run.save_network(both, "train")


def first_network(config: TemporalTrainingConfig) -> Hmr:
    """The single-frame network that a run begins with.

    Raises:
        NetworkFileError: not one of our files, or another kind of network.
        ValueError: a network with part attention.
    """
    network = load_hmr(Path(config.start) if config.start else BASELINE)
    # What cannot go on from its regressor says so before hours of features.
    BodyHead(network)
    return network


def stored_features(
    hmr: Hmr,
    config: FeatureConfig,
    sequences: list[Sequence],
    cache: Path,
    device: torch.device,
    on_progress: Callable[[str], Progress] | None = None,
) -> StoredFeatures:
    """The static features of some videos, computed on first use.

    Args:
        hmr: gives them.
        config: of which crops.
        sequences: the videos.
        cache: where they are kept.
        device: where to compute.
        on_progress: as in `pretrain_temporal`.
    """
    told = None if on_progress is None else on_progress("computing features")
    return StoredFeatures(
        feature_source(hmr, device),
        weights_key(hmr),
        config,
        sequences,
        hmr.size_px,
        cache / "features",
        on_progress=told,
    )


def temporal_links(
    config: TemporalTrainingConfig,
    sequences: list[Sequence],
    cache: Path,
    on_progress: Callable[[str], Progress] | None = None,
    device: torch.device | None = None,
) -> StoredLinks:
    """The flow between neighbouring frames of a run's videos, estimated on first use.

    Args:
        config: the run.
        sequences: the videos.
        cache: where flow is kept.
        on_progress: as in `pretrain_temporal`.
        device: where flow is estimated, if the estimator is a network.
    """
    told = None if on_progress is None else on_progress("estimating flow")
    pairs = PairConfig(gap=1, margin=config.features.margin, flow_px=config.flow_px)
    return StoredLinks(
        flow_source(pairs, config.flow, None, device),
        config.flow,
        sequences,
        config.raster_px,
        cache / "links",
        on_progress=told,
    )


def feature_source(hmr: Hmr, device: torch.device, batch: int = 64) -> FeatureSource:
    """A network as what `StoredFeatures` asks, ``batch`` crops at a time."""
    hmr = hmr.to(device).eval()

    @torch.no_grad()
    def features(frames: UInt8[Tensor, "n 3 s s"]) -> Float[Tensor, "n f"]:
        return torch.cat([hmr.features(part.to(device)).cpu() for part in frames.split(batch)])

    return features


def weights_key(network: nn.Module) -> str:
    """Hash of all weights and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:24]


def train_temporal(
    config: TemporalLoopConfig,
    network: TemporalNetwork,
    body: BodyModel,
    clips: torch.utils.data.Dataset,
    run: Run,
    device: torch.device,
) -> TemporalNetwork:
    """Train ``network`` and return it (averaged, if the config asks for that), in eval mode.

    Continues from the run folder's checkpoint if there is one.

    Args:
        config: the run.
        network: where to start; left untouched.
        body: the body it estimates.
        clips: batches of `flowhmr.records.FeatureClip` ``[b t]`` with labels, by number.
        run: folder, log, checkpoints.
        device: where to compute.

    Raises:
        ValueError: clips without labels.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    body = body.to(device)
    torch.manual_seed(config.seed)
    trained = network
    if config.realism.realism:
        trained = Trainee(network, config.discriminator.build())
    state = LoopState(config, trained, device, lambda copied: _parts(copied)[0].held())
    alone = copy.deepcopy(network.head).to(device).eval()
    learner, discriminator = _parts(state.network)
    start = run.resume(state)
    drawn = batches(clips, start, config)
    for step in run.progress(start, config.steps):
        state.begin_step(step)
        clip = to_device(next(drawn), device)
        with state.forward_pass():
            output = learner(clip.features)
        objectives = temporal_objectives(output, clip, body, config, alone)
        if discriminator is not None:
            with whole_batch():  # for its dropout
                objectives += adversarial_objectives(output, clip, discriminator, config)
        total = torch.stack([objective.total for objective in objectives]).sum()
        facts = {k: v for objective in objectives for k, v in objective.logged.items()}
        run.log(step, state.update(total) | facts, state)
    return _parts(state.result())[0]


class Trainee(nn.Module):
    """What a run with a motion discriminator trains."""

    def __init__(self, network: TemporalNetwork, discriminator: MotionDiscriminator):
        super().__init__()
        self.network, self.discriminator = network, discriminator


def _parts(
    trained: TemporalNetwork | Trainee,
) -> tuple[TemporalNetwork, MotionDiscriminator | None]:
    if isinstance(trained, Trainee):
        return trained.network, trained.discriminator
    return trained, None


@torch.no_grad()
def score_temporal(
    network: TemporalNetwork,
    store: StoredFeatures,
    body: BodyModel,
    device: torch.device,
    after: Callable[[Estimate], Estimate] = lambda estimate: estimate,
) -> list[ClipScore]:
    """Scores on whole videos as they are, not on their occluded copies.

    Args:
        network: to score.
        store: held-out videos with labels.
        body: the body that it estimates.
        device: where to compute.
        after: filter over what it says; none by default.

    Raises:
        ValueError: a video without labels.
    """
    network = network.to(device).eval()
    scores = []
    for number, sequence in enumerate(store.sequences):
        clip = store.clip(number, 0, torch.arange(len(sequence)))
        if clip.labels is None:
            raise ValueError(f"{sequence.name}: got video without labels; expected some to score")
        estimate = map_tensors(network.sequence(clip.features.to(device)), Tensor.cpu)
        points = clip.labels.keypoints_px * (2 / clip.size_px) - 1
        truth = TrackLabels(clip.labels.params, points)
        scores.append(score_bodies(after(estimate), truth, body, sequence.name, sequence.person))
    return scores
