"""HumanData: the npz that MMHuman3D makes of other data sets."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from flowhmr.body import OPENPOSE_25, SMPL_24, JointSet
from flowhmr.data.field.columns import GENDERS, Columns, load_table, rotations, shifted
from flowhmr.data.field.frames import FieldFrames


def _both(words: str, sides: str = "left right") -> tuple[str, ...]:
    return tuple(f"{side}_{word}" for side in sides.split() for word in words.split())


def _numbered(stem: str, numbers: str) -> tuple[str, ...]:
    return tuple(f"{stem}_{number}" for number in numbers.split())


HUMANDATA_190 = JointSet(
    "humandata-190",
    (
        *SMPL_24.names[:22],
        *("jaw", "left_eyeball", "right_eyeball"),
        *_both(
            " ".join(
                f"{f}_{i}" for f in ("index", "middle", "pinky", "ring", "thumb") for i in "123"
            )
        ),
        *("nose", "right_eye", "left_eye", "right_ear", "left_ear"),
        *_both("big_toe small_toe heel"),
        *_both("thumb index middle ring pinky"),
        *_numbered("right_eyebrow", "1 2 3 4 5"),
        *_numbered("left_eyebrow", "5 4 3 2 1"),
        *_numbered("nosebridge", "1 2 3 4"),
        *("right_nose_2", "right_nose_1", "nose_middle", "left_nose_1", "left_nose_2"),
        *_numbered("right_eye", "1 2 3 4 5 6"),
        *_numbered("left_eye", "4 3 2 1 6 5"),
        *_numbered("right_mouth", "1 2 3"),
        "mouth_top",
        *_numbered("left_mouth", "3 2 1 5 4"),
        "mouth_bottom",
        *_numbered("right_mouth", "4 5"),
        *("right_lip_1", "right_lip_2", "lip_top", "left_lip_2", "left_lip_1", "left_lip_3"),
        *("lip_bottom", "right_lip_3"),
        *_numbered("right_contour", "1 2 3 4 5 6 7 8"),
        "contour_middle",
        *_numbered("left_contour", "8 7 6 5 4 3 2 1"),
        *("right_hip_extra", "left_hip_extra", "neck_extra", "head_top", "pelvis_extra"),
        *("thorax_extra", "spine_extra", "jaw_extra", "head_extra"),
        *(f"op_{name}" for name in OPENPOSE_25.names),
        "spine4",
        *("left_clavicle", "right_clavicle", "left_hand_3dhp", "right_hand_3dhp"),
        *("left_toe", "right_toe", "head_h36m", "head_top_h36m", "head_bottom"),
        *("left_hand", "right_hand"),
    ),
)
"""MMHuman3D's joints of all conventions: SMPL-X's, then OpenPose's (``op_``) and others' own."""


class HumanDataSet:
    """``image_path``, ``bbox_xywh``, ``keypoints2d*``, ``keypoints3d*`` with their masks, ``smpl``
    or ``smplx`` and ``meta``.

    Where ``__keypoints_compressed__`` is set, the columns of joints that the mask leaves out are
    not in the file; they come out with confidence 0. Of several arrays of keypoints the plain one
    is read, else those as annotated (``_original``), else the first by name. Bodies are in camera
    axes. Of SMPL-X the 22 joints of the body are kept; its betas are not SMPL's (``model``). Boxes
    count from the image's edge.

    Args:
        path: the npz.

    Raises:
        FieldError: no such file; says what is wrong.
    """

    def __init__(self, path: Path) -> None:
        table = dict(load_table(path))
        images = table.get("image_path")
        count = len(images) if isinstance(images, (list, np.ndarray)) and np.ndim(images) else 0
        self.path, self.columns = path, Columns(path, table, count)
        self.columns.get("image_path")
        boxes = np.shape(self.columns.get("bbox_xywh"))
        if boxes[1:] not in ((4,), (5,)):
            raise self.columns.error("bbox_xywh", f"rows of shape {boxes[1:]}", "(5,) or (4,)")
        self.box_numbers = boxes[1]
        self.key_2d, self.key_3d = self._key("keypoints2d"), self._key("keypoints3d")
        self.places = {key: self._places(key) for key in (self.key_2d, self.key_3d) if key}
        self.model = next((m for m in ("smpl", "smplx") if isinstance(table.get(m), dict)), "")
        self.body = None if not self.model else self._body(table[self.model], count)
        self.genders = self._genders(table.get("meta"), count)

    def __len__(self) -> int:
        return self.columns.count

    def _key(self, stem: str) -> str:
        """The array of keypoints to read; "" where there is none."""
        ends = ("_mask", "_convention")
        found = sorted(k for k in self.columns.table if k.startswith(stem) and not k.endswith(ends))
        for key in (stem, f"{stem}_original", *found):
            if key in found:
                return key
        return ""

    def _places(self, key: str) -> np.ndarray:
        """Which joints the columns of the keypoints are."""
        columns, size = self.columns, len(HUMANDATA_190)
        packed = bool(np.all(columns.table.get("__keypoints_compressed__", False)))
        mask = columns.table.get(f"{key}_mask")
        if mask is None and not packed:
            return self._fitting(key, np.arange(size))
        known = np.asarray(mask)
        if known.shape != (size,) or known.dtype.kind not in "biuf":
            raise columns.error(f"{key}_mask", f"shape {known.shape}", f"{size} numbers, 0 or 1")
        if packed:
            return self._fitting(key, np.flatnonzero(known == 1))
        self._fitting(key, np.arange(size))
        return np.flatnonzero(known == 1)

    def _fitting(self, key: str, places: np.ndarray) -> np.ndarray:
        shape = np.shape(self.columns.get(key))
        numbers = 3 if key == self.key_2d else 4
        if shape[1:] != (len(places), numbers):
            raise self.columns.error(
                key, f"rows of shape {shape[1:]}", f"{(len(places), numbers)}, as its mask has it"
            )
        return places

    def _points(self, key: str, rows: Int[np.ndarray, "n"]) -> Float[Tensor, "n 190 c"]:
        """Keypoints of all joints; zeros where the mask leaves one out."""
        shape = np.shape(self.columns.get(key))
        stored = self.columns.numbers(key, rows, *shape[1:])
        if shape[1] == len(HUMANDATA_190):
            stored = stored[:, torch.from_numpy(self.places[key])]
        points = torch.zeros(len(rows), len(HUMANDATA_190), shape[2])
        points[:, torch.from_numpy(self.places[key])] = stored
        return points

    def _body(self, found: Mapping[str, Any], count: int) -> Columns:
        """Pose and shape, one row each, under one key each."""
        columns, joints = Columns(self.path, found, count), 23 if self.model == "smpl" else 21
        shapes = (("global_orient", 3), ("body_pose", 3 * joints), ("betas", -1))
        flat = {}
        for key, size in shapes:
            value = np.asarray(columns.get(key))
            flat[key] = value.reshape(count, -1) if count else value
            if size > 0 and flat[key].shape != (count, size):
                raise columns.error(
                    f"{self.model}, {key}", f"shape {value.shape}", f"({count}, {size})"
                )
        if flat["betas"].shape[1] < 10:
            raise columns.error(f"{self.model}, betas", f"{flat['betas'].shape[1]}", "at least 10")
        return Columns(self.path, flat, count)

    def _genders(self, meta: Any, count: int) -> tuple[str, ...] | None:
        """Of ``meta``, where they are words; some converters store numbers of their own."""
        found = meta.get("gender") if isinstance(meta, dict) else None
        if not isinstance(found, (list, np.ndarray)) or len(found) != count:
            return None
        words = tuple(str(word).lower() for word in found)
        return tuple(GENDERS[w] for w in words) if all(w in GENDERS for w in words) else None

    def read(self, rows: Int[np.ndarray, "n"]) -> FieldFrames:
        """Some of its rows."""
        columns = self.columns
        boxes = columns.numbers("bbox_xywh", rows, self.box_numbers)[:, :4]
        bad = ~(boxes[:, 2:] > 0).all(1)
        if bool(bad.any()):
            row = rows[int(bad.nonzero()[0, 0])]
            raise columns.error("bbox_xywh", f"a box without area in row {row}", "w and h above 0")
        joints = self._points(self.key_3d, rows) if self.key_3d else None
        if joints is not None:
            joints = torch.cat([joints[..., :3], joints[..., 3:].clamp(0, 1)], -1)
        rotmats = betas = None
        if self.body is not None:
            pose = torch.zeros(len(rows), 72)
            for key, start in (("global_orient", 0), ("body_pose", 3)):
                stored = np.shape(self.body.get(key))[1]
                pose[:, start : start + stored] = self.body.numbers(key, rows, stored)
            rotmats = rotations(pose)
            betas = self.body.numbers("betas", rows, np.shape(self.body.get("betas"))[1])[:, :10]
        return FieldFrames(
            rows=rows,
            images=columns.texts("image_path", rows),
            people=("",) * len(rows),
            frame_indices=torch.zeros(len(rows), dtype=torch.int64),
            boxes_px=boxes,
            keypoint_set=HUMANDATA_190 if self.key_2d else None,
            keypoints_px=shifted(self._points(self.key_2d, rows)) if self.key_2d else None,
            joint_set=None if joints is None else HUMANDATA_190,
            joints_cam=joints,
            rotmats=rotmats,
            betas=betas,
            has_body=None if rotmats is None else torch.ones(len(rows), dtype=torch.bool),
            model=self.model or "smpl",
            genders=None if self.genders is None else tuple(self.genders[row] for row in rows),
        )
