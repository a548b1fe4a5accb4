"""People of a data set as video: pictures are read when they are looked at."""

import hashlib
from collections.abc import Callable
from collections.abc import Sequence as Several
from functools import lru_cache, partial
from pathlib import Path
from typing import overload

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from flowhmr.body import BodyModel
from flowhmr.data.field.check import field_batches
from flowhmr.data.field.frames import FieldError, FieldFrames, FieldSet
from flowhmr.data.field.labels import coco_of, field_labels, keypoint_labels, usable
from flowhmr.data.field.pictures import picture_path, read_picture
from flowhmr.geometry import pick
from flowhmr.records import Labels, Sequence, join_labels

ENOUGH = 6
"""Visible keypoints from which a frame without a body is used (HPOF, section 4)."""
KEPT = 4
"""Pictures of a video that stay in memory: a pair's, and the next one's."""


class Pictures(Several):
    """The pictures of a video on the disk.

    Args:
        folder: what the names are below.
        names: of the pictures, in order; of the video, for each of its frames.
        frames: numbers of the frames.
    """

    def __init__(self, folder: Path, names: Several[str], frames: Several[int]):
        self.folder, self.names, self.frames = folder, tuple(names), tuple(frames)
        self._read = lru_cache(KEPT)(self._picture)

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]: ...
    @overload
    def __getitem__(self, index: slice) -> "Pictures": ...
    def __getitem__(self, index: int | slice) -> "np.ndarray | Pictures":
        """One picture, RGB, or some of them.

        Raises:
            FieldError: it cannot be read.
            IndexError: no such row.
        """
        if isinstance(index, slice):
            return Pictures(self.folder, self.names[index], self.frames[index])
        return self._read(range(len(self.names))[index])

    def __reduce__(self) -> tuple:
        # Worker processes read for themselves.
        return Pictures, (self.folder, self.names, self.frames)

    def identity(self) -> bytes:
        """Hash of the names and numbers, and of each file's size and time of change.

        Raises:
            FieldError: a file is not there.
        """
        digest = hashlib.sha256(repr((self.names, self.frames)).encode())
        for name in dict.fromkeys(self.names):
            path = picture_path(self.folder, name, name)
            try:
                about = path.stat()
            except OSError as error:
                raise FieldError(
                    f"{path}: got {error}; expected a picture; check the folder of pictures"
                ) from error
            digest.update(f"{about.st_size} {about.st_mtime_ns} ".encode())
        return digest.digest()

    def _picture(self, row: int) -> UInt8[np.ndarray, "h w 3"]:
        return read_picture(self.folder, self.names[row], self.names[row], self.frames[row])


def field_videos(
    found: FieldSet,
    images: Path,
    fps: float,
    body: BodyModel | None = None,
    step: int = 1,
    least: int = 2,
    bodies: bool = True,
) -> list[Sequence]:
    """One video a person, split where frames miss or are not trusted.

    Args:
        found: the data set, of people in videos.
        images: folder that its image names are below.
        fps: frames a second of the set's numbering.
        body: whose labels the frames get, which then are those with a trusted body; None: no
            labels are asked for, only boxes.
        step: every so many frames.
        least: shorter ones are left out.
        bodies: False: labels are 2D keypoints alone, and frames those with at least `ENOUGH`.

    Raises:
        FieldError: no video, or rows that do not say who is seen.
    """
    parts: dict[str, list[tuple[FieldFrames, np.ndarray]]] = {}
    for frames in field_batches(found):
        good = usable(frames) if body is not None and bodies else _seen(frames)
        if not bodies:
            good &= (coco_of(frames)[..., 2] > 0).sum(-1) >= ENOUGH
        good &= frames.frame_indices % step == 0
        names = np.array(frames.people)
        for person in dict.fromkeys(frames.people):
            rows = np.flatnonzero((names == person) & good.numpy())
            if len(rows):
                parts.setdefault(person, []).append((frames, rows))
    if "" in parts:
        raise FieldError(
            f"{found.path}: got rows that do not say who is seen; expected people in videos; "
            "stills are labels, not video"
        )
    labels_of = None
    if body is not None:
        labels_of = partial(field_labels if bodies else keypoint_labels, body=body)
    runs = [_videos(who, each, images, fps, labels_of, step) for who, each in parts.items()]
    videos = [video for several in runs for video in several if len(video) >= least]
    if not videos:
        raise FieldError(
            f"{found.path}: got no person in {least} frames in a row; expected video; give the "
            "folder with all of its frames"
        )
    return videos


def video_of_frames(
    person: FieldFrames, images: Path, fps: float
) -> tuple[Sequence, Int[Tensor, "t"]]:
    """One person's frames as one video, whatever misses between them; no labels.

    Args:
        person: his frames, in order.
        images: folder that the image names are below.
        fps: frames a second.

    Returns:
        The video, and which of his frames are in it: those with a box.
    """
    boxes_px = person.boxes_px
    good = boxes_px.isfinite().all(-1) & (boxes_px[:, 2:] > 0).all(-1)
    rows = good.nonzero().flatten()
    numbers, known = person.frame_indices[rows], coco_of(person)[rows]
    return Sequence(
        name=person.people[0],
        person=person.people[0],
        images=Pictures(images, [person.images[row] for row in rows.tolist()], numbers.tolist()),
        times_s=(numbers - numbers[:1]) / fps,
        boxes_px=boxes_px[rows],
        labels=None,
        detected_px=known if bool((known[..., 2] > 0).any()) else None,
    ), rows


def _seen(frames: FieldFrames) -> Bool[Tensor, "n"]:
    boxes_px = frames.boxes_px
    seen = boxes_px.isfinite().all(-1) & (boxes_px[:, 2:] > 0).all(-1)
    return seen if frames.valid is None else seen & frames.valid


def _videos(
    person: str,
    parts: list[tuple[FieldFrames, np.ndarray]],
    images: Path,
    fps: float,
    labels_of: Callable[[FieldFrames], Labels] | None,
    step: int,
) -> list[Sequence]:
    numbers = torch.cat([frames.frame_indices[rows] for frames, rows in parts])
    boxes_px = torch.cat([frames.boxes_px[rows] for frames, rows in parts])
    detected_px = torch.cat([coco_of(frames)[rows] for frames, rows in parts])
    names = [frames.images[row] for frames, rows in parts for row in rows]
    labels = None
    if labels_of is not None:
        every = [labels_of(frames) for frames, _ in parts]
        labels = [pick(each, torch.from_numpy(rows)) for each, (_, rows) in zip(every, parts)]
        labels = join_labels(labels)
    order = torch.argsort(numbers, stable=True)
    ends = (numbers[order].diff() != step).nonzero().flatten() + 1
    videos = []
    for part in torch.tensor_split(order, ends.tolist()):
        known = detected_px[part]
        videos.append(
            Sequence(
                name=f"{person}_{int(numbers[part[0]])}",
                person=person,
                images=Pictures(
                    images, [names[row] for row in part.tolist()], numbers[part].tolist()
                ),
                times_s=(numbers[part] - numbers[part[0]]) / fps,
                boxes_px=boxes_px[part],
                labels=None if labels is None else pick(labels, part),
                detected_px=known if bool((known[..., 2] > 0).any()) else None,
            )
        )
    return videos
