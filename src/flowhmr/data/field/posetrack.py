"""PoseTrack (2018): a JSON file a video, as COCO has it, with people's numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from flowhmr.body import JointSet
from flowhmr.data.field.columns import Columns, box_of_points, shifted
from flowhmr.data.field.entries import entries, entry_numbers
from flowhmr.data.field.frames import FieldError, FieldFrames
from flowhmr.data.field.joined import Parts

_LIMBS = ("ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
POSETRACK_17 = JointSet(
    "posetrack-17",
    (
        *("nose", "head_bottom", "head_top"),
        *(f"{side}_{name}" for name in _LIMBS for side in ("left", "right")),
    ),
)
"""PoseTrack's keypoints: as many as COCO's, the bottom and top of the head where it has eyes."""


class PosetrackSet(Parts):
    """``annotations/*/*.json``: ``images`` (``file_name``, ``id``, ``frame_id``, ``is_labeled``),
    ``annotations`` (``image_id``, ``track_id``, ``bbox``, ``keypoints`` [51]), ``categories``.

    The order of the keypoints is the one that ``categories`` names, where it does. People without
    keypoints are left out; boxes are (x, y, w, h) as annotated (VIBE's are squares of 0.8 of the
    longer side), where there is none that of the keypoints, a tenth wider to each side. Tracks
    are of any length (VIBE drops those of less than 8 frames).

    Args:
        path: one video's file, or a folder of them.

    Raises:
        FieldError: no such file; says what is wrong.
    """

    def __init__(self, path: Path) -> None:
        files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
        if not files:
            raise FieldError(f"{path}: got no .json below it; expected PoseTrack's annotations")
        videos = [_Video(file) for file in files]
        super().__init__(path, [video for video in videos if len(video)])


class _Video:
    """One video: people by number, each frame by frame."""

    def __init__(self, path: Path) -> None:
        images = {}
        for row, image in enumerate(entries(path, "images")):
            name, frame = image.get("file_name"), image.get("frame_id", row)
            if not isinstance(name, str) or not isinstance(frame, int):
                raise FieldError(
                    f"{path}: images: got file_name {name!r} and frame_id {frame!r} in row {row}; "
                    "expected a name and a whole number"
                )
            images[image.get("id", frame)] = name, frame
        order = _order(path)
        rows = []
        for row, entry in enumerate(entries(path, "annotations")):
            points = _points(path, entry, order, row)
            if points is None:
                continue
            image, person = images.get(entry.get("image_id")), entry.get("track_id")
            if image is None or not isinstance(person, int):
                raise FieldError(
                    f"{path}: got image_id {entry.get('image_id')!r} and track_id {person!r} in "
                    f"row {row}; expected the id of an entry of images, and a number"
                )
            box = np.full(4, np.nan, np.float32)
            if entry.get("bbox"):
                box = entry_numbers(path, entry, "bbox", (4,), row)
            rows.append((person, image[1], image[0], box, points))
        rows.sort(key=lambda row: row[:2])
        table = {
            "track_id": [person for person, *_ in rows],
            "frame_id": np.array([frame for _, frame, *_ in rows], np.int64),
            "file_name": [name for _, _, name, *_ in rows],
            "bbox": np.array([row[3] for row in rows], np.float32).reshape(-1, 4),
            "keypoints": np.array([row[4] for row in rows], np.float32).reshape(-1, 17, 3),
        }
        self.name, self.columns = path.stem, Columns(path, table, len(rows))

    def __len__(self) -> int:
        return self.columns.count

    def read(self, rows: Int[np.ndarray, "n"]) -> FieldFrames:
        columns = self.columns
        points = shifted(columns.numbers("keypoints", rows, 17, 3))
        stored = torch.from_numpy(columns.get("bbox")[rows])
        there = stored.isfinite().all(-1, keepdim=True) & (stored[:, 2:] > 0).all(-1, keepdim=True)
        return FieldFrames(
            rows=rows,
            images=columns.texts("file_name", rows),
            people=tuple(f"{self.name}_{columns.get('track_id')[row]}" for row in rows),
            frame_indices=torch.from_numpy(columns.get("frame_id")[rows]),
            boxes_px=torch.where(there, stored, box_of_points(points, pad=0.1)),
            keypoint_set=POSETRACK_17,
            keypoints_px=points,
        )


def _order(path: Path) -> list[int]:
    """Where each of our keypoints stands in the file's."""
    try:
        names = next(entries(path, "categories"), {}).get("keypoints")
    except FieldError:
        names = None  # a file without categories
    if names is None:
        return list(range(len(POSETRACK_17)))
    if not isinstance(names, list) or sorted(map(str, names)) != sorted(POSETRACK_17.names):
        raise FieldError(
            f"{path}: categories: got keypoints {str(names)[:80]}; expected {POSETRACK_17.names}"
        )
    return [names.index(name) for name in POSETRACK_17.names]


def _points(path: Path, entry: dict[str, Any], order: list[int], row: int) -> np.ndarray | None:
    """Keypoints in our order, confidence 0 or 1; None who has none."""
    if not entry.get("keypoints"):
        return None
    found = entry_numbers(path, entry, "keypoints", (51,), row).reshape(17, 3)[order]
    found[:, 2] = found[:, 2] > 0
    return found if found[:, 2].any() else None
