"""InstaVariety, as HMMR prepared it: TFRecord files, a record a video, pictures in them."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Int, UInt8

from flowhmr.body import JointSet
from flowhmr.data.field.columns import Columns, box_of_points, shifted
from flowhmr.data.field.frames import FieldError, FieldFrames
from flowhmr.data.field.joined import Parts
from flowhmr.files import DataFileError, example_of, tf_records


def _pairs(words: str, first: str = "left", second: str = "right") -> tuple[str, ...]:
    return tuple(f"{side}_{word}" for word in words.split() for side in (first, second))


INSTA_25 = JointSet(
    "insta-25",
    (
        *("right_heel", "right_knee", "right_hip", "left_hip", "left_knee", "left_heel"),
        *("right_wrist", "right_elbow", "right_shoulder"),
        *("left_shoulder", "left_elbow", "left_wrist", "neck", "head_top", "nose"),
        *_pairs("eye ear"),
        *_pairs("big_toe small_toe"),
        *_pairs("ankle"),
    ),
)
"""Of OpenPose, in LSP's order with heels in the place of ankles, which come last."""
_KEYS = ("meta/N", "image/xys", "image/visibilities", "image/face_pts", "image/toe_pts")
_PICTURES = ("image/encoded",)
_NORMALISED = ("image/phis", "image/phi")
CROP_PX = 224


class InstaSet(Parts):
    """``*.tfrecord``: ``meta/N``, ``image/xys`` (N, 2, 14), ``visibilities`` (N, 14), ``face_pts``
    (N, 3, 5), ``toe_pts`` (N, 3, 6), ``encoded`` (JPEG).

    14 + 5 + 6 = 25 keypoints, in pixels of the pictures in the file; files with features
    (``image/phis``) have them from -1 to 1 of 224 px instead. Boxes are those of the keypoints,
    a tenth wider to each side. There are no bodies. Pictures have no files of their own:
    ``images`` names record and frame, `pictures` gives them.

    Args:
        path: a file, or a folder of them.

    Raises:
        FieldError: no such file; says what is wrong.
    """

    def __init__(self, path: Path) -> None:
        files = sorted(path.rglob("*.tfrecord")) if path.is_dir() else [path]
        if not files:
            raise FieldError(f"{path}: got no .tfrecord below it; expected InstaVariety's")
        super().__init__(path, [video for file in files for video in _videos(file)])

    def pictures(self, rows: Int[np.ndarray, "n"]) -> list[UInt8[np.ndarray, "h w 3"]]:
        """The rows' pictures, RGB.

        Raises:
            FieldError: one that cannot be read.
        """
        parts = np.searchsorted(self.starts, rows, "right") - 1
        return [self.parts[p].picture(int(r - self.starts[p])) for p, r in zip(parts, rows)]


def _videos(file: Path) -> list["_Video"]:
    try:
        return [_Video(file, n, record) for n, record in enumerate(tf_records(file))]
    except FieldError:
        raise
    except DataFileError as error:
        raise FieldError(f"{file}: {error}") from error


class _Video:
    """One record; its pictures are looked for when they are asked for."""

    def __init__(self, path: Path, number: int, record: memoryview) -> None:
        self.path, self.record, self.name = path, record, f"{path.stem}/{number:06d}"
        found = example_of(record, (*_KEYS, *_NORMALISED))
        whole = Columns(path, found, 0)
        count = _numbers(whole, "meta/N", (1,))[0]
        if not 0 < count <= 10**6:
            raise whole.error("meta/N", f"{count} in record {number}", "1 or more")
        count = int(count)
        places = _numbers(whole, "image/xys", (count, 2, 14))
        visible = _numbers(whole, "image/visibilities", (count, 1, 14))
        face = _numbers(whole, "image/face_pts", (count, 3, 5))
        toes = np.zeros((count, 3, 6))
        if len(found.get("image/toe_pts", ())):
            toes = _numbers(whole, "image/toe_pts", (count, 3, 6))
        points = np.concatenate([np.concatenate([places, visible], 1), face, toes], 2)
        points = points.transpose(0, 2, 1).astype(np.float32)
        if any(len(found.get(key, ())) for key in _NORMALISED):
            points[..., :2] = (points[..., :2] + 1) / 2 * CROP_PX
        self.columns = Columns(path, {"image/xys": points}, count)

    def __len__(self) -> int:
        return self.columns.count

    def read(self, rows: Int[np.ndarray, "n"]) -> FieldFrames:
        points = shifted(self.columns.numbers("image/xys", rows, 25, 3))
        unseen = (points[..., 2] > 0).sum(1) == 0
        if bool(unseen.any()):
            row = rows[int(unseen.nonzero()[0, 0])]
            raise self.columns.error("image/visibilities", f"nothing seen in row {row}", "some")
        return FieldFrames(
            rows=rows,
            images=tuple(f"{self.name}/{row:06d}.jpg" for row in rows),
            people=(self.name,) * len(rows),
            frame_indices=torch.from_numpy(rows),
            boxes_px=box_of_points(points, pad=0.1),
            keypoint_set=INSTA_25,
            keypoints_px=points,
        )

    def picture(self, row: int) -> UInt8[np.ndarray, "h w 3"]:
        """A picture of the record, RGB."""
        found: Any = example_of(self.record, _PICTURES).get(_PICTURES[0], [])
        if not isinstance(found, list) or len(found) != len(self):
            raise self.columns.error(_PICTURES[0], f"{len(found)} pictures", f"{len(self)}")
        packed = np.frombuffer(found[row], np.uint8)
        image = cv2.imdecode(packed, cv2.IMREAD_COLOR) if packed.size else None
        if image is None:
            raise self.columns.error(_PICTURES[0], f"no picture in row {row}", "a JPEG")
        return np.ascontiguousarray(image[..., ::-1]).astype(np.uint8, copy=False)


def _numbers(columns: Columns, key: str, shape: tuple[int, ...]) -> np.ndarray:
    found = columns.table.get(key)
    size = int(np.prod(shape))
    if not isinstance(found, np.ndarray) or found.size != size:
        got = "none" if found is None else f"{len(found)} values"
        raise columns.error(key, got, f"{size} numbers")
    return found.reshape(shape)
