"""Files that are not rows of people in pictures: what is in them, and what reads them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from flowhmr.body import H36M_17, SPIN_EXTRA_9, BodyModel, load_body, load_regressor
from flowhmr.data.field.frames import FieldError
from flowhmr.data.field.kinetics import listed, videos_of
from flowhmr.data.keypoints import read_keypoints
from flowhmr.data.video import video_info
from flowhmr.files import DataFileError, plain_data
from flowhmr.synth import amass_files, load_amass, read_bvh

Progress = Callable[[int, int], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Findings:
    """What is in such a file or folder."""

    said: tuple[str, ...]
    """For people to read."""
    problem: str | None = None
    """The first inconsistency; None where there is none."""

    def lines(self) -> list[str]:
        """All of it."""
        return [*self.said, f"first inconsistency: {self.problem or 'none'}"]


@dataclass(frozen=True)
class OtherKind:
    """A layout."""

    check: Callable[[Path, Path | None, Progress], Findings]
    """Reads a path, with the other file that the layout may have beside it."""
    path: str
    """What the path is."""
    use: str
    """What reads it as it is: there are no rows to convert."""
    beside: str = ""
    """What the other file is; "" where there is none."""


class _Span:
    """Least and greatest of numbers."""

    def __init__(self) -> None:
        self.low, self.high = float("inf"), -float("inf")

    def add(self, values: Iterable[float | int]) -> None:
        for value in values:
            self.low, self.high = min(self.low, value), max(self.high, value)

    def __str__(self) -> str:
        return f"{self.low:.4g} to {self.high:.4g}" if self.high >= self.low else "none"


@contextmanager
def _problem(found: list[str]) -> Iterator[None]:
    """Keeps what is wrong with a file, and goes on."""
    try:
        yield
    except (ValueError, OSError) as error:
        found.append(str(error))


def _each(items: list[T], on_progress: Progress) -> Iterator[T]:
    for done, item in enumerate(items):
        yield item
        on_progress(done + 1, len(items))


def _amass(path: Path, beside: Path | None, on_progress: Progress) -> Findings:
    files = amass_files(path) if path.is_dir() else [path]
    problems: list[str] = []
    frames, seconds, read, short = 0, 0.0, 0, 0
    rates, betas, genders = _Span(), _Span(), set[str]()
    for file in _each(files, on_progress):
        with _problem(problems):
            found = load_amass(file)
            read, frames = read + 1, frames + len(found.rotmats)
            length_s = len(found.rotmats) / found.fps
            seconds, short = seconds + length_s, short + (length_s * 25 < 60)
            rates.add([found.fps])
            betas.add(found.betas.tolist())
            genders.add(found.gender)
    said = (
        f"{read} of {len(files)} recordings read; {frames} frames, {seconds / 3600:.3g} hours",
        f"frames per second: {rates}; {short} shorter than 60 frames at 25 a second",
        f"genders: {', '.join(sorted(genders)) or 'none'}; betas: {betas}",
    )
    return Findings(said, next(iter(problems), None))


def _bvh(path: Path, beside: Path | None, on_progress: Progress) -> Findings:
    files = sorted(path.rglob("*.bvh")) if path.is_dir() else [path]
    problems: list[str] = [] if files else [f"{path}: got no .bvh below it; expected some"]
    read, frames, heights = 0, 0, _Span()
    for file in _each(files, on_progress):
        with _problem(problems):
            motion = read_bvh(file)
            read, frames = read + 1, frames + len(motion)
            heights.add(motion.trans_world_m[:, 1].tolist())
    said = (
        f"{read} of {len(files)} recordings read; {frames} frames at 30 a second",
        f"height of the pelvis, m: {heights}",
    )
    return Findings(said, next(iter(problems), None))


def _openpose(path: Path, beside: Path | None, on_progress: Progress) -> Findings:
    tracks = read_keypoints(path)
    seen = [
        t.keypoints_px[t.keypoints_px[..., 2] > 0] for t in tracks if t.keypoints_px is not None
    ]
    places, boxes = _Span(), _Span()
    for points in seen:
        places.add([float(points[:, :2].min()), float(points[:, :2].max())] if len(points) else [])
    for track in tracks:
        boxes.add(track.boxes_px[:, 2:].flatten().tolist())
    frames = {int(i) for track in tracks for i in track.frame_indices}
    said = (
        f"{len(tracks)} people in {len(frames)} frames, {min(frames)} to {max(frames)}",
        f"seen keypoints (COCO's 17): {sum(map(len, seen))}; 2D keypoints, px: {places}",
        f"box sides, px: {boxes}",
    )
    return Findings(said)


def _smpl(path: Path, beside: Path | None, on_progress: Progress) -> Findings:
    files = [path]
    if path.is_dir():
        files = sorted(file for end in ("pkl", "npz") for file in path.rglob(f"*.{end}"))
    problems: list[str] = [] if files else [f"{path}: got no .pkl or .npz; expected SMPL's"]
    said = []
    for file in _each(files, on_progress):
        with _problem(problems):
            said.append(f"{file.name}: {_said_of(load_body(file))}")
    return Findings(tuple(said), next(iter(problems), None))


def _said_of(body: BodyModel) -> str:
    low, high = body.v_template.aminmax(dim=0)
    return (
        f"{body.body_id}, {len(body.v_template)} vertices, {len(body.faces)} triangles, "
        f"{body.num_betas} betas used, {float(high[1] - low[1]):.3f} m tall"
    )


def _regressor(path: Path, beside: Path | None, on_progress: Progress) -> Findings:
    if beside is None:
        raise FieldError(
            f"{path}: got no body; expected SMPL's file, whose vertices the columns are; give it "
            "with --beside"
        )
    body = load_body(beside)
    matrix = plain_data(path)
    shape = matrix.shape if isinstance(matrix, np.ndarray) else type(matrix).__name__
    joints = {9: SPIN_EXTRA_9, 17: H36M_17}.get(len(matrix) if np.ndim(matrix) == 2 else 0)
    if joints is None:
        raise FieldError(
            f"{path}: got {shape}; expected 17 rows (J_regressor_h36m.npy) or 9 "
            "(J_regressor_extra.npy)"
        )
    regressor = load_regressor(path, joints, body)
    sums = regressor.matrix.sum(1)
    said = (
        f"{joints.name} of {body.body_id}: {len(joints)} rows",
        f"weights: {float(regressor.matrix.min()):.3g} to {float(regressor.matrix.max()):.3g}; "
        f"sums of rows: {float(sums.min()):.6g} to {float(sums.max()):.6g}",
    )
    if bool((sums - 1).abs().gt(1e-2).any()):
        row = joints.names[int((sums - 1).abs().argmax())]
        return Findings(
            said, f"{row}: got weights that do not sum to one; expected one; get the file again"
        )
    return Findings(said)


def _kinetics(path: Path, beside: Path | None, on_progress: Progress) -> Findings:
    videos = videos_of(path)
    problems: list[str] = []
    read, frames, rates, sides = 0, 0, _Span(), _Span()
    for video in _each(videos, on_progress):
        with _problem(problems):
            info = video_info(video.path)
            read, frames = read + 1, frames + (info.frame_count or 0)
            rates.add([info.fps])
            sides.add(info.size_px)
    said = [
        f"{read} of {len(videos)} videos open, of {len({v.label for v in videos})} classes; "
        f"{frames} frames, as their containers say",
        f"frames per second: {rates}; sides, px: {sides}",
    ]
    if beside is not None:
        wanted = listed(beside)
        there = {(v.source, v.start_s): v for v in videos}
        known = [there[key] for key in wanted if key in there]
        other = [v for v in known if v.label != wanted[v.source, v.start_s]]
        said.append(f"{len(known)} of the {len(wanted)} videos that {beside.name} lists are there")
        if other:
            label = wanted[other[0].source, other[0].start_s]
            problems.append(
                f"{other[0].path}: got class {other[0].label!r}; expected {label!r}, as {beside} "
                "says"
            )
    return Findings(tuple(said), next(iter(problems), None))


_MOTION = "give the folder to --source.clips.motion.bvh"
OTHER_KINDS: Mapping[str, OtherKind] = {
    "amass": OtherKind(_amass, "AMASS's folder, or one recording (.npz)", _MOTION),
    "bvh": OtherKind(_bvh, "a folder of BVH files, or one", _MOTION),
    "openpose": OtherKind(
        _openpose, "a folder of OpenPose's JSON, one a frame", "give the folder as keypoints"
    ),
    "smpl": OtherKind(_smpl, "SMPL's file, or a folder of them", "give it with --body"),
    "regressor": OtherKind(
        _regressor, "J_regressor_h36m.npy or J_regressor_extra.npy",
        "flowhmr.body.load_regressor reads it", "SMPL's file",
    ),
    "kinetics": OtherKind(
        _kinetics, "a folder of videos, a folder a class", "give the videos to any command",
        "Kinetics' csv",
    ),
}  # fmt: skip
"""Layouts by name."""


def check_other(
    kind: str,
    path: Path,
    beside: Path | None = None,
    on_progress: Progress = lambda done, total: None,
) -> Findings:
    """Read all of it and say what is in it.

    Args:
        kind: its layout, of `OTHER_KINDS`.
        path: its file or folder.
        beside: the layout's other file, where it has one.
        on_progress: called with (files read, files in all).

    Raises:
        FieldError: an unknown layout, or one that takes no other file.
        ValueError, OSError: it cannot be read at all.
    """
    if kind not in OTHER_KINDS:
        raise FieldError(f"kind: got {kind!r}; expected one of {', '.join(OTHER_KINDS)}")
    if beside is not None and not OTHER_KINDS[kind].beside:
        raise FieldError(f"{beside}: got a second file for {kind}; expected {path} alone")
    if not path.exists():
        raise FieldError(f"{path}: got nothing there; expected {OTHER_KINDS[kind].path}")
    try:
        return OTHER_KINDS[kind].check(path, beside, on_progress)
    except DataFileError as error:
        said = str(error)
        raise FieldError(said if said.startswith(str(path)) else f"{path}: {said}") from error
