"""What experiments are made of: pre-training and refinement on SynthMotion."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from flowhmr.data import (
    AugmentConfig,
    LabelledBatches,
    PairBatches,
    PairConfig,
    frame_crops,
    mixture_weights,
)
from flowhmr.experiments.detected import DetectorNoise, with_detections
from flowhmr.experiments.lab import NETWORK, Lab, Results
from flowhmr.geometry import map_tensors, to_device
from flowhmr.networks import (
    BASELINE,
    ContextConfig,
    ContextHmr,
    Hmr,
    HmrConfig,
    MeanParams,
    load_hmr,
    save_network,
)
from flowhmr.records import Estimate
from flowhmr.synth import SplitName, mean_rotmats, split_spec
from flowhmr.training import (
    Run,
    SequenceFitConfig,
    TrainConfig,
    estimator_of,
    fit_sequence,
    flow_source,
    provenance,
    sequence_links,
    surface_of,
    train,
)

BACKBONE = "backbone"
WEIGHTS_HELP = "make it with tools/imagenet_weights.py and put it there"


@dataclass(frozen=True)
class Pretrain:
    """BL: supervised training on a share of SynthMotion's labelled stills."""

    share: float
    """Of the stills that count as labelled."""
    network: HmrConfig
    """Architecture."""
    train: TrainConfig
    """The loop; the run's seed takes the place of its own."""
    weights: str = ""
    """Where it starts: ``shipped``, the network that comes with flowhmr (which brings its own
    architecture); ``backbone``, that network's backbone with heads that know nothing, as ImageNet
    weights would be; the name of a file of ImageNet weights in the cache folder; '' for random
    ones."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """How stills are varied."""
    scored: tuple[SplitName, ...] = ("test",)
    """On what."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    def run(self, lab: Lab, folder: Path, seed: int) -> Results:
        """Train and score."""
        config = replace(self.train, seed=seed)
        if not (folder / NETWORK).exists():
            network = self._start(lab, seed)
            spec, store = split_spec("stills", lab.size), lab.store("stills")
            stills = LabelledBatches(
                store,
                spec.labelled(self.share),
                network.size_px,
                config.batch,
                self.augment,
                seed,
                config.steps,
            )
            run = Run(folder, config, self, f"{folder.parent.name}, seed {seed}")
            trained = train(config, network, lab.body, stills, None, run, lab.device)
            _finish(folder, trained, run)
        return _scores(lab, folder, self.scored)

    def _start(self, lab: Lab, seed: int) -> Hmr:
        torch.manual_seed(seed)
        network = self.network
        if self.weights == "shipped":
            return load_hmr(BASELINE)
        if self.weights and self.weights != BACKBONE:
            path = lab.cache / self.weights
            if not path.is_file():
                raise ValueError(
                    f"{path}: got no such file; expected ImageNet weights; {WEIGHTS_HELP}"
                )
            network = replace(network, backbone=replace(network.backbone, weights=str(path)))
        body = lab.body
        mean = MeanParams(mean_rotmats(), torch.zeros(body.num_betas), body.body_id)
        found = Hmr(network, mean)
        if self.weights == BACKBONE:
            found.backbone.load_state_dict(load_hmr(BASELINE).backbone.state_dict())
        return found


@dataclass(frozen=True)
class Refine:
    """Refinement of a pre-trained network with labelled stills and unannotated video."""

    start: str
    """The run whose network it starts from."""
    share: float
    """Of the stills that count as labelled."""
    train: TrainConfig
    """The loop; the run's seed takes the place of its own."""
    video: tuple[tuple[SplitName, float], ...] = (("street", 1.0),)
    """Sets of video and how often each is drawn; their labels are not looked at."""
    pairs: PairConfig = field(default_factory=PairConfig)
    """How pairs are cut."""
    flow: str = "dis"
    """Flow estimator."""
    detector: DetectorNoise | None = None
    """Give the video the keypoints of such a detector."""
    context: ContextConfig | None = None
    """Give the network a temporal context of that length."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """How stills are varied."""
    scored: tuple[SplitName, ...] = ("test",)
    """On what."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The network it starts from."""
        return (self.start,)

    def run(self, lab: Lab, folder: Path, seed: int) -> Results:
        """Train and score."""
        if not (folder / NETWORK).exists():
            network = lab.network(self.start, seed)
            if self.context is not None:
                if isinstance(network, ContextHmr):
                    raise ValueError(
                        f"run {self.start!r}: got a network with temporal context to give one to; "
                        "expected a single-frame network; start from another run"
                    )
                torch.manual_seed(seed)
                network = ContextHmr(self.context, network)
            config = replace(self.train, seed=seed)
            size_px = network.size_px
            stills = self._stills(lab, size_px, config) if config.batch else None
            pairs = self._pairs(lab, size_px, config) if config.pairs else None
            run = Run(folder, config, self, f"{folder.parent.name}, seed {seed}")
            trained = train(config, network, lab.body, stills, pairs, run, lab.device)
            _finish(folder, trained, run)
        return _scores(lab, folder, self.scored)

    def _stills(self, lab: Lab, size_px: int, config: TrainConfig) -> LabelledBatches:
        indices = split_spec("stills", lab.size).labelled(self.share)
        # Other stills in other order than in pre-training.
        return LabelledBatches(
            lab.store("stills"),
            indices,
            size_px,
            config.batch,
            self.augment,
            1000 + config.seed,
            config.steps,
        )

    def _pairs(self, lab: Lab, size_px: int, config: TrainConfig) -> PairBatches:
        splits: list[SplitName] = [split for split, _ in self.video]
        sets = [lab.video(split) for split in splits]
        weights = mixture_weights(sets, [share for _, share in self.video], self.pairs)
        source = lab.links(splits, self.pairs, self.flow, size_px)
        sequences = [s for each in sets for s in each]
        if self.detector is not None:
            sequences = with_detections(sequences, lab.body, self.detector)
        return PairBatches(
            sequences, size_px, config.pairs, config.seed, config.steps, source, weights
        )


def _finish(folder: Path, network: Hmr | ContextHmr, run: Run) -> None:
    notes = {"trained_by": "experiment", **provenance(), **run.cost()}
    save_network(folder / NETWORK, network, notes)
    run.checkpoint.unlink(missing_ok=True)


def _scores(lab: Lab, folder: Path, splits: tuple[SplitName, ...]) -> Results:
    # As it was saved, also where it has just been trained.
    network = lab.open_network(folder / NETWORK)
    estimator = estimator_of(network, lab.device)
    size_px = network.size_px
    return {s: asdict(lab.score(estimator, s, size_px)) for s in splits}


@dataclass(frozen=True)
class FitVideos:
    """Sequence optimisation (of4hmr, G.2): the bodies of each clip themselves, no network."""

    start: str
    """The run whose network gives the first estimates."""
    config: SequenceFitConfig
    """What they are fitted to."""
    flow: str = "dis"
    """Flow estimator."""
    detector: DetectorNoise | None = None
    """Give the video the keypoints of such a detector."""
    scored: SplitName = "test"
    """Of which split."""
    clips: int = 40
    """How many of its clips, the first."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The network it starts from."""
        return (self.start,)

    def run(self, lab: Lab, folder: Path, seed: int) -> Results:
        """Fit each clip and score."""
        network = lab.network(self.start, seed)
        size_px = network.size_px
        estimator = estimator_of(network, lab.device)
        source = flow_source(self.config.pairs, self.flow, lab.cache)
        videos = lab.video(self.scored)[: self.clips]
        if self.detector is not None:
            videos = with_detections(videos, lab.body, self.detector)
        fitted: dict[str, Estimate] = {}
        for number, video in enumerate(videos, 1):
            clip = frame_crops(video, size_px)
            found = fit_sequence(
                to_device(estimator(clip), lab.device),
                clip.crop,
                sequence_links(video, size_px, source),
                lab.body,
                self.config,
                clip.detected_px,
                surface_of(network, clip.frames, lab.device),
            )
            fitted[video.name] = map_tensors(found.estimate, torch.Tensor.cpu)
            lab.on_progress(f"fitting {self.scored}", number, len(videos))
        clips = lab.test_clips(self.scored, size_px)[: self.clips]
        return {self.scored: asdict(lab.score_estimates([fitted[c.name] for c in clips], clips))}
