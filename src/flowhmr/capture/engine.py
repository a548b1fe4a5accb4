"""The engine: a video in, the motion of its people out."""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from flowhmr.body import BodyModel
from flowhmr.cameras import PerspectiveCamera
from flowhmr.capture.ground import GroundMotion, GroundWatcher
from flowhmr.capture.lifting import LiftedTrack, LimbFlow, corrected, default_camera, limb_flows
from flowhmr.capture.pictured import pictured
from flowhmr.capture.refine import Evidence, TrackFitConfig, fit_track
from flowhmr.capture.results import ResultFileError, read_results
from flowhmr.capture.taken import Start, begun, starts_of
from flowhmr.data import (
    BoxError,
    Journal,
    NobodyFound,
    PeopleConfig,
    PersonTrack,
    VideoFrame,
    VideoSource,
    boxes_from_keypoints,
    find_cuts,
    open_video,
    people_of,
    source_key,
    split_at_cuts,
)
from flowhmr.flow import flow_estimator
from flowhmr.geometry import pick
from flowhmr.networks import ContextHmr, Hmr, Lift, TemporalHmr
from flowhmr.records import PersonMotion, SceneMotion

logger = logging.getLogger(__name__)

DETECTOR = "mediapipe:4"
"""Asked where nothing says where people are."""

Progress = Callable[[str, int, int | None], None]
"""Told (stage, frames done, frames in all or None)."""


@dataclass(frozen=True)
class CaptureConfig:
    """How a video is captured."""

    people: PeopleConfig = field(default_factory=lambda: PeopleConfig(detector=DETECTOR))
    """Where the people are: a detector, or a file of keypoints, which takes the default detector's
    place. With ``init`` it may be nothing (an empty detector), and then flow alone refines;
    ``person`` is the tool's number."""
    init: Path | None = None
    """Result of another tool to start from (4D-Humans, VIBE, TCMR, PARE, WHAM, TRAM, ROMP,
    MediaPipe): its people are refined and exported; see docs/other-tools.md."""
    focal_px: float = 0.0
    """Focal length of the video's camera, pixels; 0 takes what the file says of it, or the diagonal
    of its images, about what phones have. It decides how far people are, hardly how they move."""
    flow: str = "dis"
    """Flow estimator: dis, dis:medium, raft ..."""
    fit: TrackFitConfig = field(default_factory=TrackFitConfig)
    """Refinement of the motion over the whole track."""

    def __post_init__(self) -> None:
        people = self.people
        if people.detector == DETECTOR and (people.boxes or people.keypoints or people.box):
            object.__setattr__(self, "people", replace(people, detector=""))


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
    work: Path | None = None,
    model: Hmr | ContextHmr | TemporalHmr | None = None,
) -> Captured:
    """The motion of the people in a video; reads it twice, keeps none of its images.

    With ``model`` it is read once more, and each person's crops are kept.

    Args:
        source: a video, an image or a folder of images.
        config: where people are, camera, refinement.
        network: lifts keypoints and flow.
        body: the body that it estimates.
        device: where the network runs.
        on_progress: told about each stage.
        work: folder for what was found in single frames, so that the same call goes on where it was
            stopped.
        model: a network from crops to bodies, whose bodies the motion begins with in place of
            those of ``network``.

    Raises:
        BoxError: nobody found, or people without keypoints.
        ResultFileError: another tool's result that cannot be read, or is of another video.
        PickleFileError: one that asks for more than data.
        VideoError: the source cannot be read.
    """
    say = on_progress or (lambda stage, done, total: None)
    seconds: dict[str, float] = {}
    with open_video(source) as video:
        size_px, count = video.size_px, video.frame_count
        camera = default_camera(size_px, config.focal_px or video.info.focal_px or 0.0)
        with _timed(seconds, "finding people"):
            starts = _starts(video, config, camera, body, device, say, work)
        if model is not None:
            with _timed(seconds, "model"):
                starts = pictured(source, starts, model, camera, body, device)
        tracks = [start.track for start in starts]
        times_s: list[float] = []

        journals = _journals(source, tracks, camera, config.flow, work)
        ground = GroundWatcher(tracks, camera, journals[1])

        def frames() -> Iterator[VideoFrame]:
            for frame in video:
                times_s.append(frame.time_s)
                with _timed(seconds, "ground"):
                    ground.see(frame)
                say("flow", frame.index + 1, count)
                yield frame

        with _timed(seconds, "flow"), journals[0], journals[1]:
            limbs = limb_flows(frames(), tracks, flow_estimator(config.flow), journal=journals[0])
    seconds["flow"] -= seconds["ground"]
    rates = _rates(SceneMotion((), camera, size_px, torch.tensor(times_s)))
    people: list[PersonMotion] = []
    evidence: dict[int, Evidence] = {}
    done, everything = 0, sum(len(start.track) for start in starts)
    for number, (start, limb) in enumerate(zip(starts, limbs, strict=True)):
        frames_before, done = done, done + len(start.track)
        with _timed(seconds, "network"):
            usable = _usable(start, limb, len(times_s))
            if usable is None:
                continue
            start, limb = usable
            lifted = begun(start, limb, network, camera, rates[start.track.frame_indices], body)
        told = evidence_of(start.evidence, limb, ground.motion(number), lifted)
        with _timed(seconds, "refinement"):
            here = partial(_share, say, frames_before, len(start.track), everything)
            motion = fit_track(lifted.motion, told, camera, body, config.fit, here)
        people.append(motion)
        evidence[motion.person] = told
        say("bodies", done, everything)
    if not people:
        raise BoxError(
            f"{source}: got nobody whose keypoints make a body in its {len(times_s)} frames; "
            "expected somebody; give keypoints, or a tool's result, of this video"
        )
    scene = SceneMotion(tuple(people), camera, size_px, torch.tensor(times_s))
    return Captured(scene, evidence, seconds)


def _usable(start: Start, limb: LimbFlow, frames: int) -> tuple[Start, LimbFlow] | None:
    """A person's frames that the video has, put right; None, and a warning, if nothing is left.

    A file may go on where a video was cut short, or does not say how long it is.
    """
    there = start.track.frame_indices < frames
    if not bool(there.all()):
        logger.warning(
            "person %d: got frames up to %d; the video has %d frames: going on with these",
            start.track.person,
            int(start.track.frame_indices[-1]),
            frames,
        )
    if bool(there.any()):
        start, limb = pick(start, there), pick(limb, there)
        track, limb = corrected(start.track, limb)
        if _has_keypoints(track):
            return replace(start, track=track), limb
    logger.warning("person %d: got too few keypoints in every frame; left out", start.track.person)
    return None


def _share(say: Progress, before: int, frames: int, everything: int, share: float) -> None:
    say("bodies", before + round(share * frames), everything)


def _rates(scene: SceneMotion) -> Float[Tensor, "n"]:
    """Frames per second after each frame: phones take them when they can.

    Stamps that cannot be true (two frames at once, a long pause) count as the video's usual step.
    """
    usual_s = 1 / scene.fps
    steps_s = torch.cat([scene.times_s.diff(), scene.times_s.new_full((1,), usual_s)])
    likely = (steps_s > 0.3 * usual_s) & (steps_s < 4 * usual_s)
    return 1 / torch.where(likely, steps_s, usual_s)


def _starts(
    video: VideoSource,
    config: CaptureConfig,
    camera: PerspectiveCamera,
    body: BodyModel,
    device: torch.device,
    say: Progress,
    work: Path | None,
) -> list[Start]:
    """The people to follow: those found in the video, or those of another tool."""
    journal = work and work / "people.jsonl"

    def found(people: PeopleConfig) -> list[PersonTrack]:
        tracks = people_of(
            video, people, device, lambda done, total: say("people", done, total), journal
        )
        # A detector's tracks end at cuts; a file does not know of them.
        if not people.detector:
            tracks = split_at_cuts(tracks, find_cuts(video))
        return [track for track in tracks if _has_keypoints(track)]

    if config.init is None:
        tracks = found(config.people)
        if not tracks:
            raise BoxError(
                f"{video.info.path}: got people without keypoints; expected keypoints: flow and "
                "keypoints are what the network sees; use --people.detector mediapipe or "
                "--people.keypoints"
            )
        return [Start(track) for track in tracks]
    theirs = read_results(config.init, video.size_px, video.frame_count)
    wanted, people = config.people.person, replace(config.people, person=None)
    chosen = [track for track in theirs if wanted in (None, track.person)]
    if not chosen:
        raise ResultFileError(
            f"{config.init}: person {wanted}: got people {[track.person for track in theirs]}; "
            "expected one of them"
        )
    # Joints in the image are keypoints already.
    if people == PeopleConfig() or all(track.rotmats is None for track in chosen):
        return starts_of(chosen, [], camera, video.size_px, body)
    try:
        tracks = found(people)
    except NobodyFound:
        tracks = []
    return starts_of(chosen, tracks, camera, video.size_px, body)


def _journals(
    source: Path,
    tracks: list[PersonTrack],
    camera: PerspectiveCamera,
    flow: str,
    work: Path | None,
) -> tuple[Journal, Journal]:
    """Of the limbs' flow, and of the ground."""
    if work is None:
        return Journal(None, {}), Journal(None, {})
    digest = hashlib.sha256()
    for track in tracks:
        assert track.keypoints_px is not None
        for values in (track.frame_indices, track.boxes_px, track.keypoints_px):
            digest.update(values.numpy().tobytes())
    key = source_key(source) | {"people": digest.hexdigest()}
    return (
        Journal(work / "flow.jsonl", key | {"flow": flow}),
        Journal(work / "ground.jsonl", key | {"focal_px": float(camera.focal_px)}),
    )


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
    """Whether there are enough in any frame."""
    if track.keypoints_px is None:
        return False
    return bool(boxes_from_keypoints(track.keypoints_px).isfinite().any())


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - began
