"""SPIN's npz: one row a person and picture."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from flowhmr.body import SPIN_24, SPIN_49
from flowhmr.data.field.columns import (
    Columns,
    crop_sides,
    load_table,
    rotations,
    shifted,
    square_boxes,
)
from flowhmr.data.field.frames import FieldError, FieldFrames
from flowhmr.files import DataFileError, plain_data

_KEYS = [
    "imgname",
    "center",
    "scale",
    "part",
    "openpose",
    "pose",
    "shape",
    "has_smpl",
    "S",
    "gender",
]  # the rest stays


class SpinSet:
    """``imgname``, ``center``, ``scale`` and what else there is of ``part`` (the 24 joints of
    SPIN, 2D), ``openpose`` (25), ``pose``, ``shape``, ``has_smpl``, ``S`` (3D), ``gender``.

    ``center`` and ``scale`` are the crop's: its side is 200 times the scale, whatever factor was
    put into it. Bodies are in camera axes.

    Args:
        path: the npz.
        fits: SPIN's static fits of the set (``.npy``, [n, 82]: pose and betas), in the place of
            the file's own.

    Raises:
        FieldError: no such file; says what is wrong.
    """

    def __init__(self, path: Path, fits: Path | None = None) -> None:
        table = load_table(path, _KEYS)
        count = len(table["imgname"]) if "imgname" in table else 0
        self.path, self.columns = path, Columns(path, table, count)
        self.columns.get("imgname")
        self.columns.checked("center", 2).checked("scale")
        for key, tail in (("part", (24, 3)), ("openpose", (25, 3)), ("S", (24, 4))):
            if self.columns.has(key):
                self.columns.checked(key, *tail)
        self.fits = None if fits is None else _fits(fits, count)

    def __len__(self) -> int:
        return self.columns.count

    def read(self, rows: Int[np.ndarray, "n"]) -> FieldFrames:
        """Some of its rows."""
        columns = self.columns
        points = [
            shifted(columns.numbers(key, rows, size, 3))
            if columns.has(key)
            else torch.zeros(len(rows), size, 3)
            for key, size in (("openpose", 25), ("part", 24))
        ]
        bodies = self._bodies(rows)
        return FieldFrames(
            rows=rows,
            images=columns.texts("imgname", rows),
            people=("",) * len(rows),
            frame_indices=torch.zeros(len(rows), dtype=torch.int64),
            boxes_px=square_boxes(
                columns.numbers("center", rows, 2), crop_sides(columns.positive("scale", rows))
            ),
            keypoint_set=SPIN_49,
            keypoints_px=torch.cat(points, 1),
            joint_set=SPIN_24 if columns.has("S") else None,
            joints_cam=columns.numbers("S", rows, 24, 4) if columns.has("S") else None,
            rotmats=bodies and rotations(bodies[0]),
            betas=bodies and bodies[1],
            has_body=bodies and bodies[2],
            genders=columns.genders("gender", rows) if columns.has("gender") else None,
        )

    def _bodies(self, rows: Int[np.ndarray, "n"]) -> tuple[Tensor, Tensor, Tensor] | None:
        """Pose, shape and which rows have them."""
        every = torch.ones(len(rows), dtype=torch.bool)
        if self.fits is not None:
            found = self.fits.numbers("fits", rows, 82)
            return found[:, :72], found[:, 72:], every
        columns = self.columns
        if not (columns.has("pose") and columns.has("shape")):
            return None
        if columns.has("has_smpl"):
            every = columns.numbers("has_smpl", rows).bool()
        return columns.numbers("pose", rows, 72), columns.numbers("shape", rows, 10), every


def _fits(path: Path, count: int) -> Columns:
    try:
        array = plain_data(path)
    except (DataFileError, OSError) as error:
        raise FieldError(f"{path}: {error}") from error
    if not isinstance(array, np.ndarray):
        raise FieldError(f"{path}: got a {type(array).__name__}; expected an npy array [n, 82]")
    return Columns(path, {"fits": array}, count).checked("fits", 82)
