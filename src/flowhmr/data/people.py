"""People of a video: who is where, and the images that pairs and crops are cut from."""

import os
import shlex
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from flowhmr.cameras import square_box
from flowhmr.data.box_files import read_boxes
from flowhmr.data.boxes import (
    BoxError,
    PersonTrack,
    boxes_by_hand,
    check_track,
    fill_gaps,
    smooth_boxes,
)
from flowhmr.data.detectors import (
    DetectorProcess,
    KeypointRcnn,
    detect,
    mediapipe_detector,
)
from flowhmr.data.journal import Journal, source_key
from flowhmr.data.keypoints import read_keypoints
from flowhmr.data.video import VideoSource, open_video
from flowhmr.records import Sequence

LARGEST_BYTES = 4e9


class NobodyFound(BoxError):
    """A detector or a file has nobody in the whole video."""


@dataclass(frozen=True)
class PeopleConfig:
    """Where the person's boxes come from: give one of the four."""

    boxes: tuple[Path, ...] = ()
    """Files of boxes, one for each video: .json, .npz or .csv
    (frame,x,y,w,h[,person][,confidence])."""
    keypoints: tuple[Path, ...] = ()
    """Files or folders of 2D keypoints, one for each video: OpenPose or COCO JSON, or our npz."""
    box: tuple[str, ...] = ()
    """Typed in: x,y,w,h for all frames, or FRAME:x,y,w,h keyframes, in pixels."""
    detector: str = ""
    """``mediapipe`` (one person; makes its own environment on first use), ``mediapipe:4`` (up to
    so many people at a time), ``keypoint-rcnn`` (several; weights are downloaded by torchvision),
    ``keypoint-rcnn:FILE``, or ``command:...`` for a program that speaks the detector protocol, its
    words split as a shell does."""
    person: int | None = None
    """Number of the person to take; all by default."""

    def of_video(self, number: int, count: int) -> "PeopleConfig":
        """The part that belongs to one of several videos.

        Raises:
            BoxError: not one file for each video, or one box for several videos.
        """
        for name in ("boxes", "keypoints"):
            files = getattr(self, name)
            if files and len(files) != count:
                raise BoxError(
                    f"--people.{name}: got {len(files)} files for {count} videos; expected one "
                    "for each, in the same order"
                )
        if self.box and count > 1:
            raise BoxError(
                f"--people.box: got it for {count} videos; expected one video; use box files"
            )
        pick = slice(number, number + 1)
        return replace(self, boxes=self.boxes[pick], keypoints=self.keypoints[pick])


def people_of(
    video: VideoSource,
    config: PeopleConfig,
    device: torch.device,
    on_progress: Callable[[int, int | None], None] | None = None,
    journal: Path | None = None,
) -> list[PersonTrack]:
    """The tracks of the people in a video, gaps filled and boxes smoothed.

    Args:
        video: read once, if a detector is to look at it.
        config: where the people are.
        device: where a detector runs that is a network.
        on_progress: told (frames done, frames in all or None) by a detector.
        journal: file in which a detector's finds are kept, so that the same call goes on where it
            was stopped.

    Raises:
        NobodyFound: there is nobody.
        BoxError: no source or several, no such person, boxes that are not of this video.
    """
    given = [n for n in ("boxes", "keypoints", "box", "detector") if getattr(config, n)]
    if len(given) != 1:
        raise BoxError(
            f"person boxes: got {' and '.join(given) or 'nothing that says where people are'}; "
            "expected one of --people.boxes FILE, --people.keypoints FILE, --people.box x,y,w,h, "
            "--people.detector mediapipe"
        )
    if config.boxes:
        tracks = read_boxes(config.boxes[0])
    elif config.keypoints:
        tracks = read_keypoints(config.keypoints[0])
    elif config.box:
        count = video.frame_count or sum(1 for _ in video)
        tracks = [boxes_by_hand(config.box, count, video.size_px)]
    else:
        tracks = _detected(video, config.detector, device, on_progress, journal)
    if config.person is not None:
        numbers = [t.person for t in tracks]
        tracks = [t for t in tracks if t.person == config.person]
        if not tracks:
            raise BoxError(f"person {config.person}: got people {numbers}; expected one of them")
    if not tracks:
        raise NobodyFound("got a video in which nobody was found; give boxes with --people.box")
    for track in tracks:
        check_track(track, video.size_px, video.frame_count)
    return [smooth_boxes(fill_gaps(t)) for t in tracks]


def _detected(
    video: VideoSource,
    name: str,
    device: torch.device,
    on_progress: Callable[[int, int | None], None] | None,
    journal: Path | None,
) -> list[PersonTrack]:
    kind, _, rest = name.partition(":")
    count = rest or "1"
    if kind == "mediapipe" and count.isdecimal() and int(count) > 0:
        process = mediapipe_detector(people=int(count))
    elif kind == "command" and rest.strip():
        process = DetectorProcess(_words(rest))
    elif kind == "keypoint-rcnn":
        process = nullcontext(KeypointRcnn(str(device), Path(rest) if rest else None))
    else:
        raise BoxError(
            f"detector: got {name!r}; expected mediapipe, mediapipe:PEOPLE, keypoint-rcnn, "
            "keypoint-rcnn:FILE or command:PROGRAM"
        )
    key = {"detector": name} | ({} if journal is None else source_key(Path(video.info.path)))
    with process as detector, Journal(journal, key) as kept:
        return detect(video, detector, on_progress, kept)


def _words(command: str) -> list[str]:
    """A command's words: quotes hold a path with spaces together."""
    try:
        return shlex.split(command, posix=os.name == "posix")
    except ValueError as error:
        raise BoxError(
            f"detector: got command:{command} ({error}); expected words as a shell splits them; "
            "close or quote the quotation mark"
        ) from error


def sequences_of(path: Path, tracks: list[PersonTrack], crop_px: int) -> list[Sequence]:
    """Each person's stretches of consecutive frames, with their images.

    Only the part of the picture around the person is kept, and no finer than ``crop_px`` for the
    side of a crop needs: a minute of video fits in memory.

    Args:
        path: video or folder of images.
        tracks: people of that video.
        crop_px: finest crop that will be cut, for example that of the flow.

    Raises:
        BoxError: the images would not fit in memory.
    """
    with open_video(path) as video:
        windows = {t.person: _Window.around(t, video.size_px, crop_px) for t in tracks}
        need = sum(len(t) * windows[t.person].bytes for t in tracks)
        if need > LARGEST_BYTES:
            raise BoxError(
                f"{path}: got {need / 1e9:.1f} GB of crops; expected at most "
                f"{LARGEST_BYTES / 1e9:.0f} GB in memory; cut the video into parts"
            )
        rows = {t.person: {int(f): i for i, f in enumerate(t.frame_indices)} for t in tracks}
        images: dict[int, dict[int, np.ndarray]] = {t.person: {} for t in tracks}
        times: dict[int, float] = {}
        for frame in video:
            times[frame.index] = frame.time_s
            for person, window in windows.items():
                if frame.index in rows[person]:
                    images[person][frame.index] = window.cut(frame.image)
    out = []
    for track in tracks:
        for part, stretch in enumerate(_stretches(track.frame_indices, images[track.person])):
            pick = torch.tensor([rows[track.person][f] for f in stretch])
            out.append(
                Sequence(
                    name=f"{path.name}#{track.person}.{part}",
                    person=str(track.person),
                    images=[images[track.person][f] for f in stretch],
                    times_s=torch.tensor([times[f] for f in stretch]),
                    boxes_px=windows[track.person].boxes(track.boxes_px[pick]),
                    labels=None,
                    detected_px=None
                    if track.keypoints_px is None
                    else windows[track.person].keypoints(track.keypoints_px[pick]),
                )
            )
    return out


def _stretches(frames: Tensor, found: dict[int, np.ndarray]) -> list[list[int]]:
    stretches: list[list[int]] = []
    for frame in frames.tolist():
        if frame not in found:  # the video ended early
            continue
        if stretches and frame == stretches[-1][-1] + 1:
            stretches[-1].append(frame)
        else:
            stretches.append([frame])
    return stretches


@dataclass(frozen=True, eq=False)
class _Window:
    """The part of the picture a person moves through, and how much coarser it is kept."""

    left: int
    top: int
    right: int
    bottom: int
    zoom: float

    @staticmethod
    def around(track: PersonTrack, size_px: tuple[int, int], crop_px: int) -> "_Window":
        centre, side = square_box(track.boxes_px, margin=1.4)
        low = (centre - side[:, None] / 2).amin(0).floor().int().tolist()
        high = (centre + side[:, None] / 2).amax(0).ceil().int().tolist()
        left, top = max(low[0], 0), max(low[1], 0)
        right, bottom = min(high[0], size_px[0]), min(high[1], size_px[1])
        return _Window(left, top, right, bottom, min(1.0, crop_px / float(side.median())))

    @property
    def size(self) -> tuple[int, int]:
        width = max(1, round((self.right - self.left) * self.zoom))
        return width, max(1, round((self.bottom - self.top) * self.zoom))

    @property
    def bytes(self) -> int:
        return 3 * self.size[0] * self.size[1]

    def cut(self, image: np.ndarray) -> np.ndarray:
        part = image[self.top : self.bottom, self.left : self.right]
        if self.zoom == 1.0:
            return part.copy()
        return cv2.resize(part, self.size, interpolation=cv2.INTER_AREA)

    def boxes(self, boxes_px: Tensor) -> Tensor:
        corner = boxes_px.new_tensor([self.left, self.top, 0, 0])
        factor = boxes_px.new_tensor(self.size) / boxes_px.new_tensor(
            [self.right - self.left, self.bottom - self.top]
        )
        return (boxes_px - corner) * factor.repeat(2)

    def keypoints(self, keypoints_px: Tensor) -> Tensor:
        """Keypoints ``[n, 17, 3]`` follow their images."""
        corners = torch.cat([keypoints_px[..., :2], torch.zeros_like(keypoints_px[..., :2])], -1)
        return torch.cat([self.boxes(corners)[..., :2], keypoints_px[..., 2:]], -1)
