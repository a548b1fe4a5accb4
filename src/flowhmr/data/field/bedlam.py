"""BEDLAM's npz: one row a person and rendered picture."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from flowhmr.body import SMPL_24, JointSet
from flowhmr.data.field.columns import (
    Columns,
    crop_sides,
    load_table,
    rotations,
    square_boxes,
)
from flowhmr.data.field.frames import FieldFrames

BODY_22 = JointSet("smpl-body-22", SMPL_24.names[:22])
"""The joints that SMPL, SMPL+H and SMPL-X share."""
_KEYS = (
    *("imgname", "center", "scale", "pose_cam", "trans_cam", "shape", "gtkps", "cam_int"),
    *("cam_ext", "gender"),
)
"""What is read; vertices (proj_verts) are not."""


class BedlamSet:
    """``imgname``, ``center``, ``scale``, ``pose_cam`` (72 numbers of SMPL, or 66 and more of
    SMPL-X), ``shape``, ``gtkps``, ``cam_int``, ``cam_ext``, ``trans_cam``, ``gender``.

    Poses are in camera axes. The pictures are rendered, their principal point is half their size:
    pixels count from the image's edge, and nothing moves by half a pixel. The body stands at
    ``trans_cam`` plus the last column of ``cam_ext``; where its pelvis is, only its model says, so
    that ``pelvis_m`` is unknown. Of SMPL-X's pose the 22 joints of the body are kept; its betas
    are not SMPL's (``model``). Keypoints are the same 22, all with confidence 1.

    Args:
        path: the npz.

    Raises:
        FieldError: no such file; says what is wrong.
    """

    def __init__(self, path: Path) -> None:
        table = load_table(path, _KEYS)
        names = table.get("imgname")
        count = 0 if names is None or not np.ndim(names) else len(names)
        self.path, self.columns = path, Columns(path, table, count)
        columns = self.columns
        columns.get("imgname")
        columns.checked("center", 2).checked("scale").checked("pose_cam", -1).checked("shape", -1)
        width = np.shape(columns.get("pose_cam"))[1]
        if width != 72 and (width < 66 or width % 3):
            raise columns.error("pose_cam", f"{width} numbers", "72 (SMPL), or 66 to 165 (SMPL-X)")
        betas = np.shape(columns.get("shape"))[1]
        if betas < 10:
            raise columns.error("shape", f"{betas} betas", "at least 10")
        self.width, self.betas = width, betas
        for key, tail in (("cam_int", (3, 3)), ("cam_ext", (4, 4)), ("trans_cam", (3,))):
            if columns.has(key):
                columns.checked(key, *tail)
        if columns.has("gtkps"):
            joints, size = np.shape(columns.checked("gtkps", -1, -1).get("gtkps"))[1:]
            if joints < len(BODY_22) or size not in (2, 3):
                raise columns.error("gtkps", f"rows of shape {(joints, size)}", "(22 or more, 2)")
            self.points = joints, size

    def __len__(self) -> int:
        return self.columns.count

    def translation_m(self, rows: Int[np.ndarray, "n"]) -> Float[Tensor, "n 3"]:
        """SMPL's (or SMPL-X's) translation before the camera: both parts of it.

        Raises:
            FieldError: the file does not say.
        """
        trans = self.columns.numbers("trans_cam", rows, 3)
        return trans + self.columns.numbers("cam_ext", rows, 4, 4)[:, :3, 3]

    def read(self, rows: Int[np.ndarray, "n"]) -> FieldFrames:
        """Some of its rows."""
        columns = self.columns
        pose = columns.numbers("pose_cam", rows, self.width)
        is_smpl = self.width == 72
        body = torch.zeros(len(rows), 72)
        kept = 72 if is_smpl else 3 * len(BODY_22)
        body[:, :kept] = pose[:, :kept]
        points = None
        if columns.has("gtkps"):
            places = columns.numbers("gtkps", rows, *self.points)[:, : len(BODY_22), :2]
            points = torch.cat([places, torch.ones(len(rows), len(BODY_22), 1)], -1)
        scale = columns.positive("scale", rows)
        # Squares are about centres of pixels elsewhere.
        centre = columns.numbers("center", rows, 2) - 0.5
        return FieldFrames(
            rows=rows,
            images=columns.texts("imgname", rows),
            people=("",) * len(rows),
            frame_indices=torch.zeros(len(rows), dtype=torch.int64),
            boxes_px=square_boxes(centre, crop_sides(scale)),
            keypoint_set=None if points is None else BODY_22,
            keypoints_px=points,
            rotmats=rotations(body),
            betas=columns.numbers("shape", rows, self.betas)[:, :10],
            has_body=torch.ones(len(rows), dtype=torch.bool),
            model="smpl" if is_smpl else "smplx",
            genders=columns.genders("gender", rows) if columns.has("gender") else None,
            intrinsics_px=self._intrinsics(rows),
        )

    def _intrinsics(self, rows: Int[np.ndarray, "n"]) -> Float[Tensor, "n 3 3"] | None:
        if not self.columns.has("cam_int"):
            return None
        found = self.columns.numbers("cam_int", rows, 3, 3)
        bad = ~(found[:, [0, 1], [0, 1]] > 0).all(1)
        if bool(bad.any()):
            row = rows[int(bad.nonzero()[0, 0])]
            raise self.columns.error("cam_int", f"no focal length in row {row}", "more than 0")
        return found
