"""What ``flowhmr capture`` gains behind its detector, on synthetic tracks: each part left out once.

Tracks of test recordings, which no training and no choice of a weight has seen, whose lens does not
change go through the simulated detector, the shipped lifting network and
``flowhmr.capture.fit_track``. The camera's turn is the exact one, and the ground counts as steady
where the camera does not travel. Every seed has tracks and mistakes of its own; the network is one.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flowhmr.body import BodyModel, open_body
from flowhmr.cameras import Crop, PerspectiveCamera, fit_weak_camera
from flowhmr.capture import (
    Evidence,
    GroundMotion,
    LimbFlow,
    TrackFitConfig,
    fit_track,
    lift_track,
)
from flowhmr.data import (
    DetectorModel,
    LiftBatches,
    LiftDataConfig,
    PersonTrack,
    TrackStore,
    boxes_from_keypoints,
    crops_along,
    detections,
    without_mistakes,
)
from flowhmr.evaluation import ClipScore, score_bodies
from flowhmr.experiments.lab import Lab, Results, Scores
from flowhmr.experiments.tables import Claim, Row, Table
from flowhmr.geometry import rotmat_from_axis_angle
from flowhmr.networks import LIFT, load_lift
from flowhmr.records import Estimate, PersonMotion, TrackLabels
from flowhmr.synth import TEST_MOVES, MotionConfig, TrackConfig, track_camera

SLIDE = "slide_mm"
"""How far feet that truly stand (slower than 0.3 m/s) move over the ground, mm a frame."""
METRICS = ("mpjpe", "pa_mpjpe", "accel_error", "keypoints_px")
FPS = 30.0
STEADY_M = 0.002
"""A camera that travels less than that a frame stands."""


@dataclass(frozen=True, eq=False)
class Case:
    """A lifted track, what the picture says of it, and the truth."""

    motion: PersonMotion
    evidence: Evidence
    camera: PerspectiveCamera
    crops: Crop
    labels: TrackLabels
    stands: Tensor


@dataclass(frozen=True)
class RefineTracks:
    """Lift and refine tracks, and score them."""

    fit: TrackFitConfig = field(default_factory=TrackFitConfig)
    """The refinement."""
    corrected: bool = True
    """Undo the detector's mistakes first (`flowhmr.data.without_mistakes`)."""
    tracks: TrackConfig = field(
        default_factory=lambda: TrackConfig(
            motion=MotionConfig(split="test", moves=TEST_MOVES, lively=2)
        )
    )
    """Which; the seed is the experiment's."""
    drawn: int = 80
    """So many are drawn,"""
    kept: int = 30
    """and of those that fit so many taken, the first."""
    detector: DetectorModel = field(default_factory=DetectorModel)
    """Gives the keypoints."""

    @property
    def scored(self) -> tuple[str, ...]:
        """The split of the recordings."""
        return (self.tracks.motion.split,)

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    def run(self, lab: Lab, folder: Path, seed: int) -> Results:
        """Means over tracks."""
        config = replace(self.tracks, seed=seed)
        with lab.alone("tracks"):
            store = TrackStore(
                config,
                self.drawn,
                lab.cache,
                workers=1,
                on_progress=lab.told("drawing tracks"),
            )
        found = tuple(islice(cases(store, self.detector, self.corrected), self.kept))
        per_track: dict[str, list[float]] = {m: [] for m in (*METRICS, SLIDE)}
        for number, case in enumerate(found, 1):
            score, slide_mm = refined(case, self.fit, lab.body)
            for metric in METRICS:
                per_track[metric].append(float(getattr(score, metric)))
            per_track[SLIDE].append(slide_mm)
            lab.on_progress("refining", number, len(found))
        means = {m: float(np.nanmean(values)) for m, values in per_track.items()}
        # In some tracks nobody stands; JSON has no NaN.
        per_track[SLIDE] = [v for v in per_track[SLIDE] if np.isfinite(v)]
        return {config.motion.split: asdict(Scores(means, per_track))}


def cases(store: TrackStore, detector: DetectorModel, corrected: bool) -> Iterator[Case]:
    """Tracks as the shipped lifting network says them; none whose lens changes or who is not seen.

    Args:
        store: the tracks.
        detector: gives keypoints, the same for a track of a store each time.
        corrected: whether its mistakes are undone before the network sees them.
    """
    body, network = open_body(), load_lift(LIFT).eval()
    frames = torch.arange(store.config.frames)
    data = LiftDataConfig(store.config, len(store), len(frames), detector)
    batches = LiftBatches(store, data, 1, 0, 1)
    for index in range(len(store)):
        row = {name: values[index] for name, values in store.tables.items()}
        steady_lens = float(row["focal_px"].std()) <= 1e-3 * float(row["focal_px"].mean())
        if not steady_lens or float(row["centre_px"].std(0).max()) > 0.01:
            continue
        rng = np.random.default_rng([0, 9, index])
        side_px = 1.2 * row["boxes_px"][:, 2:].amax(-1)
        told = detections(row["keypoints_px"], row["visible"], side_px, detector, rng)
        if bool(boxes_from_keypoints(told.keypoints_px).isnan().all()):
            continue
        crops, seen_px = crops_along(told.keypoints_px), told.keypoints_px
        flow_px = batches.seen_flow_px(row["limb_flow_px"], told, crops, rng)
        if corrected:
            seen_px, flow_px = without_mistakes(seen_px, flow_px, frames, crops.side_px)
        camera = PerspectiveCamera(row["focal_px"][0], row["centre_px"][0])
        side = (crops.side_px / 1.2)[:, None].expand(-1, 2)
        boxes_px = torch.cat([crops.centre_px - side / 2, side], -1)
        track = PersonTrack(0, frames, boxes_px, seen_px[..., 2].mean(-1), seen_px)
        lifted = lift_track(network, track, LimbFlow(flow_px), camera, FPS, body)
        ground = ground_of(store.config, index, body)
        evidence = Evidence(seen_px, flow_px, crops.side_px, lifted.stands, ground)
        betas = row["betas"].expand(len(frames), -1)
        params = body.params(rotmat_from_axis_angle(row["pose"]), betas)
        points = (row["joints_px"] - crops.centre_px[:, None]) / (crops.side_px[:, None, None] / 2)
        labels = TrackLabels(params, points)
        yield Case(lifted.motion, evidence, camera, crops, labels, row["stands"])


def ground_of(config: TrackConfig, index: int, body: BodyModel) -> GroundMotion:
    """What the picture would say of the ground, exactly."""
    rotmats, centres_m = track_camera(config, index, body)
    turns, steady = torch.eye(3).repeat(config.frames, 1, 1), torch.zeros(config.frames)
    turns[:-1] = rotmats[1:] @ rotmats[:-1].mT
    steady[:-1] = (centres_m.diff(dim=0).norm(dim=-1) < STEADY_M).float()
    return GroundMotion(turns, steady)


def refined(case: Case, config: TrackFitConfig, body: BodyModel) -> tuple[ClipScore, float]:
    """Scores of a refined track, and `SLIDE` (NaN if nobody stands)."""
    motion = fit_track(case.motion, case.evidence, case.camera, body, config)
    joints_m = body.joints(motion.params)
    joints_cam = joints_m + motion.translation_m[:, None]
    half_px = case.crops.side_px[:, None, None] / 2
    offset = (case.camera.project(joints_cam)[..., :2] - case.crops.centre_px[:, None]) / half_px
    points_px = case.crops.size_px / 2 * (1 + offset)
    weak = fit_weak_camera(joints_m, points_px, case.crops.size_px)
    score = score_bodies(Estimate(motion.params, weak), case.labels, body, "", "")
    truly = replace(case.evidence, stands=case.stands.float())
    return score, 1000 * float(truly.slide_m(joints_cam).nanmean())


LIFTED = replace(TrackFitConfig(), steps=0)
PLAIN, FULL = "capture-lifted-detected", "capture-refined"
RUNS: dict[str, RefineTracks] = {
    PLAIN: RefineTracks(LIFTED, corrected=False),
    "capture-refined-detected": RefineTracks(corrected=False),
    "capture-lifted": RefineTracks(LIFTED),
    "capture-no-flow": RefineTracks(replace(TrackFitConfig(), flow=0.0)),
    "capture-no-feet": RefineTracks(replace(TrackFitConfig(), feet=0.0)),
    FULL: RefineTracks(),
}
_LINES = {
    "network, keypoints as detected": PLAIN,
    "network, mistakes undone": "capture-lifted",
    "refined, keypoints as detected": "capture-refined-detected",
    "refined without flow": "capture-no-flow",
    "refined without the feet's term": "capture-no-feet",
    "refined": FULL,
}
ABOUT = """Synthetic tracks of test recordings, which no training and no choice of a weight has
seen, with the shipped lifting network behind a simulated detector that errs, misses, strays and
takes limbs for each other; means over 30 tracks of 64 frames. Each seed has tracks and mistakes of
its own; the network is one. How the camera turns, and where the ground is steady, is exact."""
TRACKS = Table(
    name="capture-tracks",
    title="Behind the detector",
    reproduces="ours: the parts of `flowhmr capture`",
    rows=tuple(Row(line, "error", run) for line, run in _LINES.items()),
    minutes=6,
    metrics=("pa_mpjpe", "mpjpe", "accel_error", "keypoints_px", SLIDE),
    claims=(
        Claim("The pipeline is better than the network alone", ((FULL, PLAIN),)),
        Claim("with half of its acceleration error or less", ((FULL, PLAIN),), "accel_error", 0.5),
        Claim("To undo mistakes helps", ((FULL, "capture-refined-detected"),)),
        Claim("Flow helps", ((FULL, "capture-no-flow"),)),
        Claim("The feet's term costs no accuracy", ((FULL, "capture-no-feet"),), no_worse=True),
        Claim("Feet slide less by it", ((FULL, "capture-no-feet"),), SLIDE),
    ),
)
TABLES: dict[str, Table] = {TRACKS.name: TRACKS}
