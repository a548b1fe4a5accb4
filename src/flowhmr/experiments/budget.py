"""A video model with the labels and the video that a refinement has (open question 4 of of4hmr).

The labelled stills are in the single-frame network; of the video the model over its features
learns what that network says of it, smoothed over time, and where a 2D detector sees the joints.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from flowhmr.body import COCO_17, SMPL_24, BodyModel
from flowhmr.cameras import crop_from_box, project_weak
from flowhmr.data import StoredFeatures
from flowhmr.experiments.detected import DetectorNoise, with_detections
from flowhmr.experiments.lab import NETWORK, Lab, Results, Task
from flowhmr.experiments.tables import Claim, Row, Table
from flowhmr.experiments.temporal import (
    ACCEL,
    METRICS_SHOWN,
    FilterTemporal,
    prepare_temporal,
    scores_over,
)
from flowhmr.losses import RasterFlowWeights
from flowhmr.networks import BodyHead, VibeConfig, average_filter, load_hmr, load_temporal
from flowhmr.records import Labels, Sequence
from flowhmr.synth import SplitName
from flowhmr.training import (
    CHECKPOINT,
    LIGHT_HIDDEN,
    TemporalTrainingConfig,
    light_temporal,
    pretrain_temporal,
)

SHARED = tuple(name for name in COCO_17.names if name in SMPL_24.names)
"""Joints that a detector and the chain both have; in the open body they are the same points."""


@dataclass(frozen=True)
class TrainUnlabelled:
    """Train a network over features on video whose labels are not looked at, and score it."""

    start: str
    """The run whose network gives the features, the first regressor, and the bodies to learn."""
    config: TemporalTrainingConfig
    """The run; its seed and its single-frame network are taken from the experiment."""
    reach: int = 2
    """Frames to either side over which the bodies to learn are averaged."""
    detector: DetectorNoise | None = None
    """The 2D joints to learn are those of such a detector; None: those of the same bodies."""
    scored: tuple[SplitName, ...] = ("test",)
    """On what."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The single-frame network."""
        return (self.start,)

    def run(self, lab: Lab, folder: Path, seed: int) -> Results:
        """Train and score."""
        first = str(lab.folder(self.start, seed) / NETWORK)
        train = replace(self.config.train, seed=seed)
        config = replace(self.config, start=first, train=train)
        if not (folder / NETWORK).exists():
            store = prepare_temporal(config, lab)
            head = BodyHead(load_hmr(Path(first))).eval()
            video = [self._labelled(store, k, head, lab.body) for k in range(len(store))]
            pretrain_temporal(config, folder, lab.cache, lab.device, lab.told, video, lab.body)
            (folder / CHECKPOINT).unlink(missing_ok=True)
        return scores_over(lab, load_temporal(folder / NETWORK), self.scored)

    @torch.no_grad()
    def _labelled(
        self, store: StoredFeatures, number: int, head: BodyHead, body: BodyModel
    ) -> Sequence:
        """A video with what the single-frame network says of it in the place of its labels."""
        sequence, unoccluded = store.sequences[number], store.tables[number][0]
        found = average_filter(head(unoccluded[:]), self.reach)
        betas = found.params.betas
        params = replace(found.params, betas=betas.mean(0, keepdim=True).expand_as(betas))
        joints_m = body.joints(params)
        crops = crop_from_box(sequence.boxes_px, store.size_px, store.config.margin)
        seen_px = crops.to_image(project_weak(joints_m, found.camera, store.size_px)[..., :2])
        sure = torch.ones(seen_px.shape[:2])
        if self.detector is not None:
            detected = with_detections([sequence], body, self.detector)[0].detected_px
            assert detected is not None
            here, there = (list(joints.indices_of(SHARED)) for joints in (SMPL_24, COCO_17))
            sure = torch.zeros_like(sure)
            seen_px[:, here], sure[:, here] = detected[:, there, :2], detected[:, there, 2]
        return replace(sequence, labels=Labels(params, joints_m, seen_px, sure))


LEARNT = light_temporal(VibeConfig(hidden=LIGHT_HIDDEN))
WITH_FLOW = replace(LEARNT, train=replace(LEARNT.train, raster=RasterFlowWeights(60.0)))
PERCENT = (10, 100)
RUNS: dict[str, Task] = {}
for percent in PERCENT:
    RUNS |= {
        f"bl-filter-{percent}": FilterTemporal(f"bl-{percent}"),
        f"of-filter-{percent}": FilterTemporal(f"of-{percent}"),
        f"video-{percent}": TrainUnlabelled(f"bl-{percent}", LEARNT),
        f"video-flow-{percent}": TrainUnlabelled(f"bl-{percent}", WITH_FLOW),
        f"video-of-{percent}": TrainUnlabelled(f"of-{percent}", LEARNT),
        f"video-2d-{percent}": TrainUnlabelled(f"bl-{percent}", LEARNT, detector=DetectorNoise()),
    }

LINES = {
    "BL": "bl",
    "BL, averaged over three frames": "bl-filter",
    "OF": "of",
    "OF, averaged over three frames": "of-filter",
    "2D+OF": "2d-of",
    "video model over BL": "video",
    "video model over BL, with flow": "video-flow",
    "video model over BL, with 2D": "video-2d",
    "video model over OF": "video-of",
}


def _at_both(better: str, other: str) -> tuple[tuple[str, str], ...]:
    return tuple((f"{better}-{percent}", f"{other}-{percent}") for percent in PERCENT)


BUDGET = Table(
    name="budget",
    title="A video model on the same labels and video",
    reproduces="open question 4",
    rows=tuple(
        Row(line, f"{percent} %", f"{run}-{percent}")
        for line, run in LINES.items()
        for percent in PERCENT
    ),
    minutes=60,
    metrics=METRICS_SHOWN,
    claims=(
        Claim("OF's bodies are better than a video model's", _at_both("of", "video")),
        Claim("2D+OF's are better than those of one with 2D", _at_both("2d-of", "video-2d")),
        Claim("The video model is smoother than OF", _at_both("video", "of"), ACCEL),
        Claim("... and than OF averaged", _at_both("video", "of-filter"), ACCEL),
        Claim("Flow makes the video model's bodies better", _at_both("video-flow", "video")),
        Claim("OF's network is a better start for a video model", _at_both("video-of", "video")),
    ),
)
TABLES: dict[str, Table] = {BUDGET.name: BUDGET}
