"""Training of Motion HMR on synthetic clips alone, and its scores (Doersch and Zisserman 2019)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import Dataset

from flowhmr.body import BodyModel, open_body
from flowhmr.data import (
    Batches,
    CompositeBatches,
    Composites,
    FlowSource,
    MotionBatches,
    MotionInputConfig,
    MotionSetConfig,
    MotionVideo,
    PairConfig,
    StoredLinks,
    cut_clip,
    enough_visible,
    motion_sequences,
)
from flowhmr.evaluation import ClipScore, score_visible
from flowhmr.geometry import collate, map_tensors, to_device
from flowhmr.losses import (
    AdversaryWeights,
    MotionWeights,
    adversary_terms,
    both_heads,
    motion_terms,
    weigh,
)
from flowhmr.networks import (
    Adversary,
    BackboneConfig,
    HmrConfig,
    MeanParams,
    MotionHmr,
    MotionHmrConfig,
)
from flowhmr.records import (
    Estimate,
    MotionClip,
    Sequence,
    TrackLabels,
    along_frames,
    join_estimates,
)
from flowhmr.synth import mean_rotmats
from flowhmr.training.config import LoopConfig, OptimiserConfig
from flowhmr.training.loop import batches, check_shares
from flowhmr.training.refine import flow_source
from flowhmr.training.run import Run
from flowhmr.training.state import LoopState

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class MotionLoopConfig(LoopConfig):
    """The training loop; ``batch`` counts clips."""

    weights: MotionWeights = field(default_factory=MotionWeights)
    """Of the losses."""
    dann: AdversaryWeights = field(default_factory=AdversaryWeights)
    """Of the adversary (DANN); with one, each step also sees ``batch`` clips of the other
    domain."""
    dann_hidden: int = 1024
    """Width of the adversary's two layers."""


@dataclass(frozen=True)
class MotionTrainingConfig:
    """Everything that defines a run. The paper's best model is the default."""

    network: MotionHmrConfig = field(default_factory=MotionHmrConfig)
    """Architecture, and what it looks at."""
    inputs: MotionInputConfig = field(default_factory=MotionInputConfig)
    """How clips are cut and varied."""
    video: MotionSetConfig = field(default_factory=lambda: MotionSetConfig(size="full"))
    """Clips with labels."""
    target: MotionSetConfig = field(default_factory=lambda: MotionSetConfig(("val",), size="full"))
    """Clips of the domain that the adversary holds features to; their labels are not looked at."""
    flow: str = "dis"
    """Flow estimator."""
    flow_px: int = 224
    """Width and height of the window in which flow is estimated, if that is more than the
    network's."""
    train: MotionLoopConfig = field(
        default_factory=lambda: MotionLoopConfig(
            steps=40_000,
            batch=16,
            optimiser=OptimiserConfig(
                1e-4, weight_decay=0.01, warmup=500, decay=15_000, clip_norm=1.0, average=0.999
            ),
            precision="bfloat16",
            workers=4,
        )
    )
    """The loop."""

    def __post_init__(self) -> None:
        # Before clips are drawn, which takes hours.
        sets = (self.video, self.target) if self.train.dann.adversary else (self.video,)
        for videos in sets:
            videos.specs()
            if videos.frames < self.inputs.frames:
                raise ValueError(
                    f"clips: got {self.inputs.frames} frames of video of {videos.frames}; expected "
                    "at most as many; set video.frames (and target.frames) too"
                )


def light_training() -> MotionTrainingConfig:
    """A small network on small crops and short clips, which trains on one CPU core.

    Against the paper: crops of 64 px; a ResNet of a block a stage from random weights, whose last
    map is kept cell by cell; LSTM and heads of 256; clips of 8 frames, as many people a step, since
    neighbouring frames say much the same; a fortieth of the frames. In so short a run the paper's
    two losses do not find out which way people face: HMR's own, of joints and rotations, are added.
    """
    backbone = BackboneConfig("test_resnet", size_px=64, pooling="grid", grid_channels=128)
    hmr = HmrConfig(backbone, hidden=512, dropout=0.0, activation=True)
    return MotionTrainingConfig(
        network=MotionHmrConfig(hmr, lstm=256, head=256),
        inputs=MotionInputConfig(frames=8),
        video=MotionSetConfig(),
        target=MotionSetConfig(("val",)),
        flow_px=128,
        train=MotionLoopConfig(
            steps=4_000,
            batch=16,
            optimiser=OptimiserConfig(
                1e-3, weight_decay=0.01, warmup=100, decay=2_300, clip_norm=1.0, average=0.995
            ),
            precision="bfloat16",
            weights=MotionWeights(joints=5.0, pose=2.0),
        ),
    )


def pretrain_motion(
    config: MotionTrainingConfig,
    folder: Path,
    cache: Path,
    device: torch.device,
    on_progress: Callable[[str], Progress] | None = None,
    sequences: list[Sequence] | None = None,
    body: BodyModel | None = None,
    composites: Composites | None = None,
) -> Path:
    """Train the network.

    Args:
        config: the run.
        folder: run folder; a run that was interrupted goes on.
        cache: where clips and flow are kept.
        device: where to compute.
        on_progress: gives what is told (ready, in all) of the preparation that it is named.
        sequences: video with labels, in the place of ``config.video``.
        body: of its labels; the open body by default.
        composites: people before real video, made as they are asked for, in the place of both.

    Returns:
        The network's file in the run folder.
    """
    body, loop = body or open_body(), config.train
    check_shares(loop)
    torch.manual_seed(loop.seed)
    mean = MeanParams(mean_rotmats(), torch.zeros(body.num_betas), body.body_id)
    network = MotionHmr(config.network, mean)

    def drawn(videos: MotionSetConfig) -> list[Sequence]:
        told = None if on_progress is None else on_progress("drawing clips")
        return motion_sequences(videos, cache, told)

    def clips(several: list[Sequence], seed: int) -> MotionBatches:
        video = motion_video(config, several, network.size_px, cache, on_progress, device)
        return MotionBatches(video, config.inputs, loop.batch, seed, loop.steps)

    labelled: Batches[MotionClip]
    if composites is not None:
        links = motion_flow(config, None) if config.network.flow else None
        labelled = CompositeBatches(
            composites,
            config.inputs,
            network.size_px,
            config.network.rgb,
            links,
            loop.batch,
            loop.seed,
            loop.steps,
        )
    else:
        labelled = clips(drawn(config.video) if sequences is None else sequences, loop.seed)
    target = clips(drawn(config.target), 1000 + loop.seed) if loop.dann.adversary else None
    run = Run(folder, loop, config, "motion")
    result = train_motion(loop, network, body, labelled, target, run, device)
    return run.save_network(result, "motion")


def motion_video(
    config: MotionTrainingConfig,
    sequences: list[Sequence],
    size_px: int,
    cache: Path,
    on_progress: Callable[[str], Progress] | None = None,
    device: torch.device | None = None,
) -> MotionVideo:
    """Videos with the maps that a run's network looks at; flow is estimated on first use.

    Args:
        config: the run.
        sequences: the videos.
        size_px: of the network's crops.
        cache: where flow is kept.
        on_progress: as in `pretrain_motion`.
        device: where flow is estimated, if the estimator is a network.
    """
    links = None
    if config.network.flow:
        told = None if on_progress is None else on_progress("estimating flow")
        source = motion_flow(config, device)
        links = StoredLinks(
            source, config.flow, sequences, size_px, cache / "links", on_progress=told
        )
    return MotionVideo(sequences, size_px, config.network.rgb, links)


def motion_flow(config: MotionTrainingConfig, device: torch.device | None) -> FlowSource:
    """Estimates the flow between neighbouring frames of a run's videos."""
    pairs = PairConfig(gap=1, margin=config.inputs.margin, flow_px=config.flow_px)
    return flow_source(pairs, config.flow, None, device)


class Trainee(nn.Module):
    """What a run trains: the network, and its adversary if it has one."""

    def __init__(self, network: MotionHmr, adversary: Adversary | None):
        super().__init__()
        self.network, self.adversary = network, adversary


def train_motion(
    config: MotionLoopConfig,
    network: MotionHmr,
    body: BodyModel,
    clips: Dataset,
    target: Dataset | None,
    run: Run,
    device: torch.device,
) -> MotionHmr:
    """Train ``network`` and return it (averaged, if the config asks for that), in eval mode.

    Continues from the run folder's checkpoint if there is one.

    Args:
        config: the run.
        network: where to start; left untouched.
        body: the body it estimates.
        clips: batches of `flowhmr.records.MotionClip` ``[b n]`` with labels, by number.
        target: the same of the other domain, whose labels are not looked at; needed with an
            adversary only.
        run: folder, log, checkpoints.
        device: where to compute.

    Raises:
        ValueError: an adversary without a target, or clips without labels.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    adversary = None
    if config.dann.adversary:
        if target is None:
            raise ValueError(
                "adversary: got no clips of another domain; expected some to hold features to; "
                "give them, or set its weight to 0"
            )
        torch.manual_seed(config.seed)
        adversary = Adversary(network.backbone.out_features, config.dann_hidden)
    body = body.to(device)
    state = LoopState(config, Trainee(network, adversary), device)
    start = run.resume(state)
    drawn = batches(clips, start, config)
    others = None if target is None or adversary is None else batches(target, start, config)
    for step in run.progress(start, config.steps):
        state.begin_step(step)
        clip = to_device(next(drawn), device)
        if clip.now is None:
            raise ValueError("got clips without labels; expected synthetic ones to learn from")
        with state.forward_pass():
            found = state.network.network(clip.input)
        heads = []
        for estimate, labels in ((found.now, clip.now), (found.after, clip.after)):
            joints_m, target_m = body.joints(estimate.params), body.joints(labels.params)
            heads.append(motion_terms(estimate, labels, joints_m, target_m))
        objective = weigh(both_heads(*heads), config.weights)
        total, facts = objective.total, objective.logged
        if others is not None and state.network.adversary is not None:
            other = to_device(next(others), device)
            with state.forward_pass():
                # Batch norm sees each domain by itself; at test time it has the means of both.
                strange = state.network.network(other.input).feature
            logits = [state.network.adversary(f) for f in (found.feature, strange)]
            told_apart = weigh(adversary_terms(*logits), config.dann)
            total, facts = total + told_apart.total, facts | told_apart.logged
        run.log(step, state.update(total) | facts, state)
    return state.result().network


@torch.no_grad()
def estimate_along(
    network: MotionHmr,
    video: MotionVideo,
    sequence: Sequence,
    config: MotionInputConfig,
    device: torch.device,
) -> tuple[Estimate, TrackLabels | None]:
    """A video's bodies, clip by clip of the length that the network was trained on.

    Clips follow each other; the last one begins earlier where the video does not end with it, and
    only what no clip before it has said is taken from it.

    Args:
        network: to ask.
        video: says what to cut.
        sequence: of whom, at least two frames.
        config: of clips.
        device: where to compute.

    Returns:
        Bodies ``[t]``, cameras of the pairs' crops; and the truth in the same crops, if there is
        one.

    Raises:
        ValueError: fewer than two frames.
    """
    total = len(sequence)
    if total < 2:
        raise ValueError(
            f"{sequence.name}: got {total} frames; expected at least 2, since Motion HMR looks at "
            "pairs; give longer video"
        )
    network = network.to(device).eval()
    length = min(config.frames, total)
    starts = [*range(0, total - length + 1, length)]
    if starts[-1] + length < total:
        starts.append(total - length)
    bodies: list[Estimate] = []
    truth: list[TrackLabels] = []
    done = 0
    for start in starts:
        clip = cut_clip(video, sequence, range(start, start + length), config, None)
        found = network(to_device(collate([clip.input]), device))
        now, after = (map_tensors(e, lambda t: t[0].cpu()) for e in (found.now, found.after))
        fresh = slice(done - start, None)
        bodies.append(map_tensors(along_frames(now, after), lambda t, fresh=fresh: t[fresh]))
        if clip.now is not None and clip.after is not None:
            labels = along_frames(clip.now, clip.after)
            truth.append(map_tensors(labels, lambda t, fresh=fresh: t[fresh]))
        done = start + length
    return join_estimates(bodies), _join_labels(truth) if truth else None


def score_motion(
    network: MotionHmr,
    video: MotionVideo,
    config: MotionInputConfig,
    body: BodyModel,
    device: torch.device,
) -> list[ClipScore]:
    """Scores of each video over the frames in which enough is visible; all frames are fed.

    Videos without such a frame are left out.

    Args:
        network: to score.
        video: held out, with labels; seen keypoints are its detections where it has some.
        config: of clips.
        body: the body that it estimates.
        device: where to compute.

    Raises:
        ValueError: a video without labels.
    """
    scores = []
    for sequence in video.sequences:
        if sequence.labels is None:
            raise ValueError(f"{sequence.name}: got video without labels; expected some to score")
        estimate, truth = estimate_along(network, video, sequence, config, device)
        assert truth is not None
        counted = enough_visible(sequence.labels)
        score = score_visible(estimate, truth, counted, body, sequence.name, sequence.person)
        if score is not None:
            scores.append(score)
    return scores


def _join_labels(parts: list[TrackLabels]) -> TrackLabels:
    params = parts[0].params
    rotmats, betas, points = (
        torch.cat(each)
        for each in zip(*((p.params.rotmats, p.params.betas, p.points) for p in parts))
    )
    return TrackLabels(type(params)(rotmats, betas, params.body_id), points)
