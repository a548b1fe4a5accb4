"""Labelled frames of real pictures: one npz of ours beside the pictures, made of any data set.

``.npz``, not packed, one row for each person and picture:

``format`` ("flowhmr-frames"), ``version`` (1), ``kind``, ``body_id``
``image`` [n]: name of a picture, or of the video whose frame it is, below the folder of pictures
``person`` [n] ("" for stills); ``frame`` [n]
``boxes_px`` [n 4]: x, y, w, h
``rotmats`` [n 24 3 3], ``betas`` [n k]: of the body ``body_id``, joint 0 into camera axes
``joints_m`` [n 24 3]: as `flowhmr.records.Labels`
``keypoints_px`` [n 24 2], ``confidence`` [n 24]: of the body's 24 joints
``detected_px`` [n 17 3]: COCO's keypoints as the set has them; confidence 0 where unknown
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from flowhmr.body import COCO_17, BodyModel
from flowhmr.data.field.check import field_batches
from flowhmr.data.field.columns import Columns, load_table
from flowhmr.data.field.frames import FieldError, FieldFrames, FieldSet
from flowhmr.data.field.labels import coco_of, field_labels, usable
from flowhmr.data.field.pictures import read_picture
from flowhmr.geometry import map_tensors
from flowhmr.records import Labels
from flowhmr.synth import write_whole

FORMAT, VERSION = "flowhmr-frames", 1


def convert_field(
    found: FieldSet,
    kind: str,
    body: BodyModel,
    path: Path,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write the rows of a data set that have a trusted body; returns how many they are.

    The file appears only when complete.

    Raises:
        FieldError: no such row, or values that cannot be.
    """
    parts: list[dict[str, np.ndarray]] = []
    for frames in field_batches(found):
        rows = usable(frames)
        if bool(rows.any()):
            parts.append(_table(frames, body, rows.numpy()))
        on_progress(int(frames.rows[-1]) + 1, len(found))
    if not parts:
        raise FieldError(
            f"{found.path}: got no row with a trusted body; expected at least one; give fits of "
            "bodies (SPIN's static fits, EFT), or another set"
        )
    table = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    head = {"format": FORMAT, "version": VERSION, "kind": kind, "body_id": body.body_id}

    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(file, **head, **table)  # pyright: ignore[reportArgumentType]

    write_whole(path, save)
    return len(table["frame"])


def _table(frames: FieldFrames, body: BodyModel, rows: np.ndarray) -> dict[str, np.ndarray]:
    labels = field_labels(frames, body)
    columns = {
        "frame": frames.frame_indices,
        "boxes_px": frames.boxes_px,
        "rotmats": labels.params.rotmats,
        "betas": labels.params.betas,
        "joints_m": labels.joints_m,
        "keypoints_px": labels.keypoints_px,
        "confidence": labels.keypoint_confidence,
        "detected_px": coco_of(frames),
    }
    names = {"image": np.array(frames.images, str), "person": np.array(frames.people, str)}
    return {k: v[rows] for k, v in (names | {k: t.numpy() for k, t in columns.items()}).items()}


class FrameStore:
    """Such a file with its pictures: labelled stills for `LabelledBatches`.

    Args:
        path: the npz.
        images: the folder that its image names are below.
        body: whose parameters are expected.

    Raises:
        FieldError: another file, or one of another body.
    """

    frames = 1
    """Of a clip."""

    def __init__(self, path: Path, images: Path, body: BodyModel) -> None:
        table = load_table(path)
        found = str(table.get("format")), int(table.get("version", 0))
        if found != (FORMAT, VERSION):
            raise FieldError(
                f"{path}: got a file of format and version {found}; expected {(FORMAT, VERSION)}; "
                "make one with `flowhmr data convert`"
            )
        self.path, self.folder, self.body = path, images, body
        self.columns = Columns(path, table, len(table["frame"]) if "frame" in table else 0)
        body.check_identity(str(path), str(table.get("body_id")))
        for key, tail in (
            ("boxes_px", (4,)),
            ("rotmats", (24, 3, 3)),
            ("betas", (body.num_betas,)),
            ("joints_m", (24, 3)),
            ("keypoints_px", (24, 2)),
            ("confidence", (24,)),
            ("detected_px", (len(COCO_17), 3)),
            ("image", ()),
            ("person", ()),
        ):
            self.columns.checked(key, *tail)

    def __len__(self) -> int:
        return self.columns.count

    def images(self, still: int) -> UInt8[np.ndarray, "1 h w 3"]:
        """The picture of one row, RGB, with an axis for its one frame: a file of its own, or a
        frame of the video that the row names.

        Raises:
            FieldError: it is not there, leads out of the folder, or is no picture.
        """
        (name,) = self.columns.texts("image", np.array([still]))
        frame = int(self.columns.numbers("frame", np.array([still]))[0])
        return read_picture(self.folder, name, f"{self.path}, row {still}", frame)[None]

    def boxes_px(self, stills: Int[Tensor, "n"]) -> Float[Tensor, "n 1 4"]:
        """The person's boxes (x, y, w, h), pixels of the pictures."""
        return self.columns.positive_sizes("boxes_px", stills.numpy())[:, None]

    def labels(self, stills: Int[Tensor, "n"]) -> Labels:
        """The labels of some rows, ``[n, 1]``, pixels of the pictures; no surface maps."""
        return map_tensors(self._labels(stills.numpy()), lambda t: t[:, None])

    def _labels(self, rows: Int[np.ndarray, "n"]) -> Labels:
        columns = self.columns
        rotmats = columns.numbers("rotmats", rows, 24, 3, 3)
        betas = columns.numbers("betas", rows, self.body.num_betas)
        return Labels(
            self.body.params(rotmats, betas),
            columns.numbers("joints_m", rows, 24, 3),
            columns.numbers("keypoints_px", rows, 24, 2),
            columns.numbers("confidence", rows, 24),
        )
