"""The tables of Motion HMR (arXiv 1907.02499) on SynthMotion, trained on synthetic people alone.

Test video stands in for the real domain: other people, clothes, motions and scenes, seen by another
keypoint detector than the exact one of training. Runs are light ones (`light_training`).
"""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from filelock import FileLock

from flowhmr.data import (
    DetectorModel,
    MotionSetConfig,
    MotionVideo,
    motion_sequences,
    with_detector,
)
from flowhmr.evaluation import METRICS, Report, mean_over_people
from flowhmr.experiments.lab import NETWORK, Lab, Results, Scores
from flowhmr.experiments.tables import Claim, Row, Table
from flowhmr.losses import AdversaryWeights
from flowhmr.networks import load_motion
from flowhmr.synth import SplitName
from flowhmr.training import (
    CHECKPOINT,
    MotionTrainingConfig,
    light_training,
    motion_video,
    pretrain_motion,
    score_motion,
)


@dataclass(frozen=True)
class TrainMotion:
    """Train a Motion HMR and score it on video of another domain."""

    config: MotionTrainingConfig
    """The run; its seed is taken from the experiment's."""
    detector: DetectorModel = field(default_factory=DetectorModel)
    """Gives the keypoints of the video that is scored on."""
    scored: tuple[SplitName, ...] = ("test",)
    """On what."""
    frames: int = 31
    """Length of that video."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    def run(self, lab: Lab, folder: Path, seed: int) -> Results:
        """Train and score: frames with enough in view, means over people."""
        config = replace(self.config, train=replace(self.config.train, seed=seed))
        told = lab.told
        if not (folder / NETWORK).exists():
            self._prepare(lab, config.video)
            if config.train.dann.adversary:
                self._prepare(lab, config.target)
            pretrain_motion(config, folder, lab.cache, lab.device, told)
            (folder / CHECKPOINT).unlink(missing_ok=True)
        network = load_motion(folder / NETWORK)
        lab.body.check_identity("network", network.body_id)
        results: Results = {}
        for split in self.scored:
            held_out = MotionSetConfig((split,), config.video.size, frames=self.frames)
            # The same keypoints for every seed: scores differ by the networks alone.
            video = self._prepare(lab, held_out, self.detector)
            rows = score_motion(network, video, config.inputs, lab.body, lab.device)
            means = mean_over_people(Report(folder.parent.name, split, tuple(rows)))
            per_clip = {m: [float(getattr(row, m)) for row in rows] for m in METRICS}
            results[split] = asdict(Scores(means, per_clip))
        return results

    def _prepare(
        self, lab: Lab, videos: MotionSetConfig, detector: DetectorModel | None = None
    ) -> MotionVideo:
        """Clips and flow: of several runs at once one makes them, the others wait."""
        told, size_px = lab.told, self.config.network.hmr.backbone.size_px
        lab.cache.mkdir(parents=True, exist_ok=True)
        with FileLock(lab.cache / ".motion.lock"):
            sequences = motion_sequences(videos, lab.cache, told("drawing clips"))
            if detector is not None:
                sequences = with_detector(sequences, detector)
            return motion_video(self.config, sequences, size_px, lab.cache, told)


LIGHT = light_training()
ABOUT = f"""Trained on SynthMotion's training video alone and scored on test video, which stands in
for the real domain, with keypoints of a simulated detector; frames with at least 7 of 14 joints in
view, means over people. Smaller than the paper's in all: crops of 64 px, a ResNet of a block a
stage from random weights (the paper's ResNet-50 begins with ImageNet's), clips of
{LIGHT.inputs.frames} frames where the table does not say otherwise, {LIGHT.train.steps:,} steps of
{LIGHT.train.batch} clips; and HMR's losses of joints and rotations beside the paper's two."""


def looking(rgb: bool = False, flow: bool = False, keypoints: bool = False) -> MotionTrainingConfig:
    """The light run with these inputs."""
    return replace(LIGHT, network=replace(LIGHT.network, rgb=rgb, flow=flow, keypoints=keypoints))


def against(weight: float) -> MotionTrainingConfig:
    """RGB with an adversary of that weight; the other domain is the validation video."""
    plain = looking(rgb=True)
    return replace(plain, train=replace(plain.train, dann=AdversaryWeights(weight)))


def made(**changed) -> MotionTrainingConfig:
    """Flow and keypoints, of clips without occlusions that are otherwise changed."""
    full = looking(flow=True, keypoints=True)
    return replace(
        full,
        inputs=replace(full.inputs, lost=0.0),
        video=replace(full.video, occlusion=False, **changed),
    )


def clips_of(frames: int) -> MotionTrainingConfig:
    """Flow and keypoints, clips of that length out of video of 56 frames; as many frames a step."""
    full = looking(flow=True, keypoints=True)
    batch = round(full.train.batch * full.inputs.frames / frames)
    return replace(
        full,
        inputs=replace(full.inputs, frames=frames),
        video=replace(full.video, frames=56),
        target=replace(full.target, frames=56),
        train=replace(full.train, batch=batch),
    )


DANN_WEIGHTS = (0.2, 1.0, 5.0)
FULL = "motion-flow-keypoints"
RUNS: dict[str, TrainMotion] = {
    "motion-rgb": TrainMotion(looking(rgb=True)),
    **{f"motion-rgb-dann-{w:g}": TrainMotion(against(w)) for w in DANN_WEIGHTS},
    "motion-flow": TrainMotion(looking(flow=True)),
    "motion-rgb-keypoints": TrainMotion(looking(rgb=True, keypoints=True)),
    "motion-keypoints": TrainMotion(looking(keypoints=True)),
    FULL: TrainMotion(looking(flow=True, keypoints=True)),
    "motion-no-occlusion": TrainMotion(made()),
    "motion-no-tracking": TrainMotion(made(follow_camera=False)),
    "motion-static": TrainMotion(made(background="static")),
    **{f"motion-clip-{n}": TrainMotion(clips_of(n), frames=56) for n in (8, 16, 31, 56)},
}

ERROR = "error"
INPUTS = Table(
    name="motion-inputs",
    title="What crosses from synthetic people to others",
    reproduces="Motion HMR, Table 1",
    rows=(
        Row("RGB", ERROR, "motion-rgb", "105.6"),
        *(
            Row(f"RGB + DANN {w:g}", ERROR, f"motion-rgb-dann-{w:g}", "103.0" if w == 1 else "")
            for w in DANN_WEIGHTS
        ),
        Row("flow", ERROR, "motion-flow", "100.1"),
        Row("RGB + keypoints", ERROR, "motion-rgb-keypoints", "82.4"),
        Row("keypoints", ERROR, "motion-keypoints", "77.6"),
        Row("flow + keypoints", ERROR, FULL, "74.7"),
    ),
    minutes=60,
    claims=(
        Claim("Flow is better than RGB", (("motion-flow", "motion-rgb"),)),
        Claim("Keypoints are better than RGB", (("motion-keypoints", "motion-rgb"),)),
        Claim("Keypoints are better without RGB", (("motion-keypoints", "motion-rgb-keypoints"),)),
        Claim("Flow adds to keypoints", ((FULL, "motion-keypoints"),)),
        Claim("DANN is better than RGB alone", (("motion-rgb-dann-1", "motion-rgb"),)),
    ),
)
STAGES = Table(
    name="motion-stages",
    title="What the clips must have",
    reproduces="Motion HMR, Table 2",
    rows=(
        Row("full", ERROR, FULL, "74.7"),
        Row("no occlusions", ERROR, "motion-no-occlusion", "77.2"),
        Row("no tracking, no occlusions", ERROR, "motion-no-tracking", "80.3"),
        Row("static, no occlusions", ERROR, "motion-static", "88.9"),
    ),
    minutes=35,
    claims=(
        Claim("Occlusions help", ((FULL, "motion-no-occlusion"),)),
        Claim("People must move with the camera", (("motion-no-occlusion", "motion-no-tracking"),)),
        Claim("Backgrounds must move", (("motion-no-tracking", "motion-static"),)),
    ),
)
LENGTHS = Table(
    name="motion-lengths",
    title="How long clips should be",
    reproduces="Motion HMR, Table 3",
    rows=tuple(
        Row(f"{n} frames", ERROR, f"motion-clip-{n}", paper)
        for n, paper in ((8, "79.0"), (16, "77.8"), (31, "74.7"), (56, "76.2"))
    ),
    minutes=35,
    claims=(Claim("31 frames are better than 8", (("motion-clip-31", "motion-clip-8"),)),),
)
TABLES: dict[str, Table] = {table.name: table for table in (INPUTS, STAGES, LENGTHS)}
