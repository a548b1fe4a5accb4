"""VIBE's and TCMR's databases (``.pt``, written by joblib): flat arrays over all sequences."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int

from flowhmr.body import H36M_14, SPIN_49, JointSet
from flowhmr.data.field.columns import Columns, load_table, rotations, running_count, shifted
from flowhmr.data.field.frames import FieldFrames

COMMON_14 = JointSet("common-14", (*H36M_14.names[:-1], "head_top"))
"""VIBE's "common" 2D joints: LSP's order and definitions."""
_2D = {14: COMMON_14, 49: SPIN_49}
_3D = {14: H36M_14, 49: SPIN_49}


class VibeSet:
    """``vid_name`` (a person in a sequence), ``frame_id``, ``img_name``, ``bbox`` and what else
    there is of ``joints2D``, ``joints3D``, ``pose``, ``shape``, ``valid`` or ``valid_i``; one row a
    frame.

    Boxes are (centre x, centre y, w, h). 14 joints are "common" in 2D and Human3.6M's in 3D (head
    top and head differ), 49 SPIN's. Bodies are in camera axes. Rows whose pose is all zeros, as
    sets without bodies have it, have none. ``features`` are not read: they were made of crops
    of 1.2 (VIBE) or 1.3 (TCMR) boxes, and do not mix.

    Files that are not packed stay on the disk; memory is used for the rows that are read.

    Raises:
        FieldError: no such file; says what is wrong.
    """

    def __init__(self, path: Path) -> None:
        table = load_table(path)
        names = table.get("vid_name")
        self.path, self.columns = path, Columns(path, table, 0 if names is None else len(names))
        columns = self.columns.checked("vid_name").checked("bbox", 4)
        for key, tail in (("pose", (72,)), ("shape", (10,)), ("valid", ()), ("frame_id", ())):
            if columns.has(key):
                columns.checked(key, *tail)
        self.set_2d = self._joints("joints2D", _2D)
        self.set_3d = self._joints("joints3D", _3D)
        self.frames = self._frames()

    def __len__(self) -> int:
        return self.columns.count

    def _joints(self, key: str, sets: dict[int, JointSet]) -> JointSet | None:
        if not self.columns.has(key):
            return None
        size = np.shape(self.columns.checked(key, -1, 3).get(key))[1]
        if size not in sets:
            raise self.columns.error(key, f"{size} joints", " or ".join(map(str, sets)))
        return sets[size]

    def _frames(self) -> np.ndarray:
        """Numbers of the frames in their videos: ``frame_id`` where it has whole numbers."""
        if self.columns.has("frame_id"):
            stored = self.columns.get("frame_id")
            if isinstance(stored, np.ndarray) and stored.dtype.kind in "iu":
                return stored
        return running_count(self.columns.get("vid_name"))

    def read(self, rows: Int[np.ndarray, "n"]) -> FieldFrames:
        """Some of its rows."""
        columns = self.columns
        boxes = columns.positive_sizes("bbox", rows)
        valid = next((key for key in ("valid", "valid_i") if columns.has(key)), None)
        rotmats = betas = has_body = None
        if columns.has("pose") and columns.has("shape"):
            pose = columns.numbers("pose", rows, 72)
            rotmats, has_body = rotations(pose), (pose != 0).any(-1)
            betas = columns.numbers("shape", rows, 10)
        points = joints = None
        if self.set_2d is not None:
            points = shifted(columns.numbers("joints2D", rows, len(self.set_2d), 3))
        if self.set_3d is not None:
            joints = columns.numbers("joints3D", rows, len(self.set_3d), 3)
            joints = torch.cat([joints, torch.ones_like(joints[..., :1])], -1)
        images = columns.texts("img_name", rows) if columns.has("img_name") else ("",) * len(rows)
        return FieldFrames(
            rows=rows,
            images=images,
            people=columns.texts("vid_name", rows),
            frame_indices=torch.from_numpy(self.frames[rows].astype(np.int64)),
            boxes_px=torch.cat([boxes[:, :2] + 0.5 - boxes[:, 2:] / 2, boxes[:, 2:]], -1),
            keypoint_set=self.set_2d,
            keypoints_px=points,
            joint_set=self.set_3d,
            joints_cam=joints,
            rotmats=rotmats,
            betas=betas,
            has_body=has_body,
            valid=None if valid is None else columns.numbers(valid, rows).bool(),
        )
