"""The engine: a video in, the motion of its people out."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from flowhmr.body import BodyModel
from flowhmr.capture.ground import GroundMotion, GroundWatcher
from flowhmr.capture.lifting import (
    LiftedTrack,
    LimbFlow,
    default_camera,
    lift_track,
    limb_flows,
)
from flowhmr.capture.refine import Evidence, TrackFitConfig, fit_track
from flowhmr.data import BoxError, PeopleConfig, PersonTrack, VideoFrame, open_video, people_of
from flowhmr.flow import flow_estimator
from flowhmr.geometry import pick
from flowhmr.networks import Lift
from flowhmr.records import PersonMotion, SceneMotion

Progress = Callable[[str, int, int | None], None]
"""Told (stage, frames done, frames in all or None)."""


@dataclass(frozen=True)
class CaptureConfig:
    """How a video is captured."""

    people: PeopleConfig = field(default_factory=lambda: PeopleConfig(detector="mediapipe"))
    """Where the people are: a detector, or a file of keypoints."""
    focal_px: float = 0.0
    """Focal length of the video's camera, pixels; 0 takes the diagonal of its images, about what
    phones have. It decides how far people are, hardly how they move."""
    flow: str = "dis"
    """Flow estimator: dis, dis:medium, raft ..."""
    fit: TrackFitConfig = field(default_factory=TrackFitConfig)
    """Refinement of the motion over the whole track."""


@dataclass(frozen=True, eq=False)
class Captured:
    """What was found in a video."""

    scene: SceneMotion
    """The people's motion."""
    evidence: dict[int, Evidence]
    """For each person, row by row of the motion, what the picture says."""
    seconds: dict[str, float]
    """How long each stage took."""


def capture(
    source: Path,
    config: CaptureConfig,
    network: Lift,
    body: BodyModel,
    device: torch.device,
    on_progress: Progress | None = None,
) -> Captured:
    """The motion of the people in a video; reads it twice, keeps none of its images.

    Args:
        source: a video, an image or a folder of images.
        config: where people are, camera, refinement.
        network: lifts keypoints and flow.
        body: the body that it estimates.
        device: where the network runs.
        on_progress: told about each stage.

    Raises:
        BoxError: nobody found, or people without keypoints.
        VideoError: the source cannot be read.
    """
    say = on_progress or (lambda stage, done, total: None)
    seconds: dict[str, float] = {}
    with open_video(source) as video:
        size_px, count = video.size_px, video.frame_count
        with _timed(seconds, "finding people"):
            found = people_of(
                video, config.people, device, lambda done, total: say("people", done, total)
            )
        tracks = [track for track in found if _has_keypoints(track)]
        if not tracks:
            raise BoxError(
                f"{source}: got people without keypoints; expected keypoints: flow and keypoints "
                "are what the network sees; use --people.detector mediapipe or --people.keypoints"
            )
        times_s: list[float] = []

        camera = default_camera(size_px, config.focal_px)
        ground = GroundWatcher(tracks, camera)

        def frames() -> Iterator[VideoFrame]:
            for frame in video:
                times_s.append(frame.time_s)
                with _timed(seconds, "ground"):
                    ground.see(frame)
                say("flow", frame.index + 1, count)
                yield frame

        with _timed(seconds, "flow"):
            limbs = limb_flows(frames(), tracks, flow_estimator(config.flow))
    seconds["flow"] -= seconds["ground"]
    fps = SceneMotion((), camera, size_px, torch.tensor(times_s)).fps
    people: list[PersonMotion] = []
    evidence: dict[int, Evidence] = {}
    for number, (track, limb) in enumerate(zip(tracks, limbs, strict=True), 1):
        with _timed(seconds, "network"):
            lifted = lift_track(network, track, limb, camera, fps, body)
        told = evidence_of(track, limb, ground.motion(number - 1), lifted)
        with _timed(seconds, "refinement"):
            motion = fit_track(lifted.motion, told, camera, body, config.fit)
        people.append(motion)
        evidence[motion.person] = told
        say("bodies", number, len(tracks))
    scene = SceneMotion(tuple(people), camera, size_px, torch.tensor(times_s))
    return Captured(scene, evidence, seconds)


def evidence_of(
    track: PersonTrack, limbs: LimbFlow, ground: GroundMotion, lifted: LiftedTrack
) -> Evidence:
    """What the picture says in the frames of a motion."""
    assert track.keypoints_px is not None
    rows = torch.searchsorted(track.frame_indices, lifted.motion.frame_indices)
    side_px = 1.2 * track.boxes_px[rows, 2:].amax(-1)
    return Evidence(
        track.keypoints_px[rows], limbs.flow_px[rows], side_px, lifted.stands, pick(ground, rows)
    )


def _has_keypoints(track: PersonTrack) -> bool:
    return track.keypoints_px is not None and bool((track.keypoints_px[..., 2] >= 0.3).any())


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - began
