"""What the refinement of a captured motion gains, term by term, on held-out synthetic tracks.

Tracks of validation recordings (seed 7; the weights were chosen on such) whose lens does not change
go through the simulated detector, the lifting network and ``flowhmr.capture.fit_track``. The
camera's turn is the exact one, and the ground counts as steady where the camera does not travel.
Feet that truly stand (slower than 0.3 m/s) are watched for how far they move over the ground.
"""

import argparse
from dataclasses import dataclass, replace
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
from flowhmr.cli.lift import HELD_OUT
from flowhmr.cli.shared import default_cache
from flowhmr.data import (
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
from flowhmr.geometry import rotmat_from_axis_angle
from flowhmr.networks import LIFT, Lift, load_lift
from flowhmr.records import Estimate, PersonMotion, TrackLabels
from flowhmr.synth.actors import sample_actor
from flowhmr.synth.shots import Shot, sample_shot

TRACKS = replace(HELD_OUT, seed=7)
COUNT, FRAMES = 60, HELD_OUT.frames
AS_DETECTED = {
    "network, keypoints as detected": {"steps": 0},
    "refined, keypoints as detected": {},
}
ROWS = {
    "network": {"steps": 0},
    "refined without flow": {"flow": 0.0},
    "refined without the feet's term": {"feet": 0.0},
    "refined": {},
}
METRICS = ("mpjpe", "pa_mpjpe", "accel_error", "keypoints_px")


@dataclass(frozen=True, eq=False)
class Case:
    """A lifted track, what the picture says of it, and the truth."""

    motion: PersonMotion
    evidence: Evidence
    camera: PerspectiveCamera
    crops: Crop
    labels: TrackLabels
    stands: Tensor


def main() -> None:
    """Lift, refine in all ways, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--lift", type=Path, default=LIFT)
    parser.add_argument("--tracks", type=int, default=14)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    body, network = open_body(), load_lift(arguments.lift).eval()
    store = TrackStore(TRACKS, COUNT, arguments.cache, workers=1)
    batches = LiftBatches(store, LiftDataConfig(TRACKS, COUNT, FRAMES), 1, 0, 1)
    print("| | MPJPE | PA-MPJPE | accel. error | 2D joints (px of 224) | feet slide (mm/frame) |")
    print("|---|---|---|---|---|---|")
    for correct, rows in ((False, AS_DETECTED), (True, ROWS)):
        found = (case_of(batches, index, network, body, correct) for index in range(COUNT))
        cases = [case for case in found if case is not None][: arguments.tracks]
        for name, changed in rows.items():
            config = replace(TrackFitConfig(), **changed)
            scores, slides = zip(*(refined(case, config, body) for case in cases))
            cells = [float(np.mean([getattr(s, m) for s in scores])) for m in METRICS]
            cells.append(float(np.nanmean(slides)))
            print(f"| {name} | {' | '.join(f'{v:.1f}' for v in cells)} |", flush=True)
    said = [float(((c.evidence.stands > 0.5) == c.stands).float().mean()) for c in cases]
    print(f"\n{len(cases)} tracks; feet rightly said to stand or not: {np.mean(said):.3f}")


def case_of(
    batches: LiftBatches, index: int, network: Lift, body: BodyModel, correct: bool
) -> Case | None:
    """Nothing where the lens changes or nobody is found."""
    row = {name: values[index] for name, values in batches.store.tables.items()}
    steady_lens = float(row["focal_px"].std()) <= 1e-3 * float(row["focal_px"].mean())
    if not steady_lens or float(row["centre_px"].std(0).max()) > 0.01:
        return None
    rng = np.random.default_rng([0, 9, index])
    side_px = 1.2 * row["boxes_px"][:, 2:].amax(-1)
    model = batches.config.detector
    told = detections(row["keypoints_px"], row["visible"], side_px, model, rng)
    if bool(boxes_from_keypoints(told.keypoints_px).isnan().all()):
        return None
    crops = crops_along(told.keypoints_px)
    seen_px, frames = told.keypoints_px, torch.arange(FRAMES)
    flow_px = batches.seen_flow_px(row["limb_flow_px"], told, crops, rng)
    if correct:
        seen_px, flow_px = without_mistakes(seen_px, flow_px, frames, crops.side_px)
    camera = PerspectiveCamera(row["focal_px"][0], row["centre_px"][0])
    side = (crops.side_px / 1.2)[:, None].expand(-1, 2)
    boxes_px = torch.cat([crops.centre_px - side / 2, side], -1)
    track = PersonTrack(0, torch.arange(FRAMES), boxes_px, seen_px[..., 2].mean(-1), seen_px)
    lifted = lift_track(network, track, LimbFlow(flow_px), camera, 30.0, body)
    evidence = Evidence(seen_px, flow_px, crops.side_px, lifted.stands, ground_of(index, body))
    params = body.params(rotmat_from_axis_angle(row["pose"]), row["betas"].expand(FRAMES, -1))
    points = (row["joints_px"] - crops.centre_px[:, None]) / (crops.side_px[:, None, None] / 2)
    labels = TrackLabels(params, points)
    return Case(lifted.motion, evidence, camera, crops, labels, row["stands"])


def ground_of(index: int, body: BodyModel) -> GroundMotion:
    """The camera of a track, drawn once more as `synth_track` draws it."""
    rng = np.random.default_rng([TRACKS.seed, index, 77])
    actor = sample_actor(TRACKS.motion, FRAMES, body, 1, rng)
    joints_world = actor.joints_world.double().numpy()
    shot: Shot = sample_shot(TRACKS.shot, joints_world, TRACKS.size_px, rng)
    rotmats = torch.from_numpy(shot.rotmats)
    turns, steady = torch.eye(3).repeat(FRAMES, 1, 1), torch.zeros(FRAMES)
    turns[:-1] = (rotmats[1:] @ rotmats[:-1].mT).float()
    travelled_m = np.linalg.norm(np.diff(shot.centres_m, axis=0), axis=1)
    steady[:-1] = torch.from_numpy((travelled_m < 0.002).astype(np.float32))
    return GroundMotion(turns, steady)


def refined(case: Case, config: TrackFitConfig, body: BodyModel) -> tuple[ClipScore, float]:
    """Scores, and how far feet that truly stand slide, mm a frame (NaN if none does)."""
    motion = fit_track(case.motion, case.evidence, case.camera, body, config)
    joints_m = body.joints(motion.params)
    joints_cam = joints_m + motion.translation_m[:, None]
    points_px = (
        case.crops.size_px
        / 2
        * (
            1
            + (case.camera.project(joints_cam)[..., :2] - case.crops.centre_px[:, None])
            / (case.crops.side_px[:, None, None] / 2)
        )
    )
    weak = fit_weak_camera(joints_m, points_px, case.crops.size_px)
    score = score_bodies(Estimate(motion.params, weak), case.labels, body, "", "")
    truly = replace(case.evidence, stands=case.stands.float())
    return score, 1000 * float(truly.slide_m(joints_cam).nanmean())


if __name__ == "__main__":
    main()
