"""2D keypoints of a detector on the video of a data set, in the place of the set's own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from flowhmr.body import COCO_17
from flowhmr.data.boxes import BoxError, boxes_from_keypoints
from flowhmr.data.detectors import Detector
from flowhmr.data.field.frames import FieldError
from flowhmr.data.field.pictures import VIDEO_KINDS
from flowhmr.data.field.video import Pictures
from flowhmr.data.journal import Journal, packed, unpacked
from flowhmr.data.keypoints import read_keypoints
from flowhmr.data.video import VideoFrame
from flowhmr.records import Sequence

SAME = 0.3
"""Overlap of the box around a detection with the set's from which it is the same person."""
ENDINGS = ("", ".json", ".npz")
"""A video's keypoints are in a folder (OpenPose's) or a file of its name and one of these."""

InPicture = Callable[[Pictures, int], Float[Tensor, "n 17 3"]]
"""Gives the people in one of some pictures: COCO's 17, pixels of the picture and confidence."""


@dataclass(frozen=True)
class KeypointFiles:
    """Keypoints that a tool has written, one file or folder for each video.

    Frames count from the first picture of a video.
    """

    folder: Path
    """Holds for each video a file or folder that `read_keypoints` reads, named as the folder of
    the video's pictures (``s_01_act_02_subact_01_ca_01``, ``s_01_act_02_subact_01_ca_01.json``)."""

    @contextmanager
    def of_video(self, video: str) -> Iterator[InPicture]:
        """The people of a video.

        Raises:
            FieldError: no file, several, or one that cannot be read.
        """
        name = video.replace("/", "_")
        found = [p for ending in ENDINGS if (p := self.folder / (name + ending)).exists()]
        if len(found) != 1:
            raise FieldError(
                f"{self.folder}: got {[p.name for p in found]} for video {video}; expected one of "
                f"{', '.join(name + ending for ending in ENDINGS)}; put one there for each video"
            )
        people: dict[int, list[Tensor]] = {}
        try:
            tracks = read_keypoints(found[0])
        except BoxError as error:
            raise FieldError(f"{error}") from error
        for track in tracks:
            assert track.keypoints_px is not None
            for frame, points in zip(track.frame_indices.tolist(), track.keypoints_px):
                people.setdefault(frame, []).append(points)
        yield lambda pictures, row: _stacked(people.get(pictures.frames[row], []))


@dataclass(frozen=True)
class KeypointDetector:
    """A detector that looks at the pictures; what it finds is kept."""

    detector: Detector
    """Says who is in a picture."""
    name: str
    """What finds are known by, with the folder of the pictures."""
    folder: Path
    """Where they are kept, a file a video; a run that was stopped goes on."""

    @contextmanager
    def of_video(self, video: str) -> Iterator[InPicture]:
        """The people of a video."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{video.replace('/', '_')}.jsonl"
        with Journal(path, {"detector": self.name, "video": video}) as journal:

            def found(pictures: Pictures, row: int) -> Float[Tensor, "n 17 3"]:
                frame = pictures.frames[row]
                rows = journal.row(frame)
                if rows is None:
                    people = self.detector(VideoFrame(frame, 0.0, pictures[row]))
                    rows = [packed(person.keypoints_px) for person in people]
                    journal.add(frame, rows)
                return _stacked([unpacked(text, len(COCO_17), 3) for text in rows])

            yield found


def with_keypoints(
    videos: list[Sequence],
    source: KeypointFiles | KeypointDetector,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Sequence]:
    """People of a data set with the keypoints of a detector.

    In each picture the people found are those of the set whose boxes theirs overlap most, one to
    one; who is not found has keypoints of confidence 0.

    Args:
        videos: of `field_videos`.
        source: of the keypoints.
        on_progress: told (pictures done, in all).

    Raises:
        FieldError: as the source.
    """
    by_video: dict[str, dict[int, list[tuple[int, int]]]] = {}
    for number, sequence in enumerate(videos):
        for row, frame in enumerate(_pictures(sequence).frames):
            shown = by_video.setdefault(_video_of(_pictures(sequence).names[row]), {})
            shown.setdefault(frame, []).append((number, row))
    points = [torch.zeros(len(v), len(COCO_17), 3) for v in videos]
    done, total = 0, sum(len(shown) for shown in by_video.values())
    for video, shown in by_video.items():
        with source.of_video(video) as people_in:
            for where in shown.values():
                number, row = where[0]
                found = people_in(_pictures(videos[number]), row)
                boxes_px = torch.stack([videos[n].boxes_px[r] for n, r in where])
                for mine, theirs in _pairs(boxes_px, boxes_from_keypoints(found)):
                    number, row = where[mine]
                    points[number][row] = found[theirs]
                done += 1
                on_progress(done, total)
    return [replace(v, detected_px=known) for v, known in zip(videos, points)]


def _pairs(
    boxes_px: Float[Tensor, "m 4"], others_px: Float[Tensor, "n 4"]
) -> Iterator[tuple[int, int]]:
    """Which boxes are the same."""
    low, high = boxes_px[:, None, :2], boxes_px[:, None, :2] + boxes_px[:, None, 2:]
    other_low, other_high = others_px[None, :, :2], others_px[None, :, :2] + others_px[None, :, 2:]
    shared = (torch.minimum(high, other_high) - torch.maximum(low, other_low)).clamp(0).prod(-1)
    either = boxes_px[:, None, 2:].prod(-1) + others_px[None, :, 2:].prod(-1) - shared
    like = np.nan_to_num((shared / either).numpy())
    for mine, theirs in zip(*linear_sum_assignment(-like)):
        if like[mine, theirs] >= SAME:
            yield int(mine), int(theirs)


def _stacked(people: list[Tensor]) -> Float[Tensor, "n 17 3"]:
    return torch.stack(people) if people else torch.zeros(0, len(COCO_17), 3)


def _pictures(sequence: Sequence) -> Pictures:
    if not isinstance(sequence.images, Pictures):
        raise FieldError(
            f"{sequence.name}: got {type(sequence.images).__name__}; expected a data set's pictures"
        )
    return sequence.images


def _video_of(name: str) -> str:
    """What stands for the video of a picture: its folder, or the video's file."""
    path = PurePosixPath(name)
    return str(path.with_suffix("") if path.suffix.lower() in VIDEO_KINDS else path.parent)
