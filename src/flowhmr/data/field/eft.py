"""EFT's fits (json), and COCO's keypoints for them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from flowhmr.body import COCO_17
from flowhmr.cameras import Crop, WeakCamera
from flowhmr.data.field.columns import Columns, check_turns, crop_sides, shifted, square_boxes
from flowhmr.data.field.entries import entries, entry_numbers
from flowhmr.data.field.frames import BOX_MARGIN, FieldError, FieldFrames

CROP_PX = 224
"""Size of the crops; the weak camera does not depend on it."""
_SHAPES = {
    "parm_pose": (24, 3, 3),
    "parm_shape": (10,),
    "parm_cam": (3,),
    "bbox_scale": (),
    "bbox_center": (2,),
}


class EftSet:
    """``{"ver": ..., "data": [{"parm_pose": 24 rotation matrices, "parm_shape", "parm_cam",
    "bbox_scale", "bbox_center", "annotId", "imageName", ...}]}``.

    ``parm_cam`` is (s, tx, ty) of the crop, ``u = s x + tx`` from -1 to 1; the crop's side is 200
    times ``bbox_scale``. ``annotId`` numbers COCO's annotations, not its images: with several
    people in a picture only the annotation says who it is.

    Args:
        path: the json.
        coco: COCO's ``person_keypoints_*.json`` for the 2D keypoints of the same annotations.

    Raises:
        FieldError: no such file; says what is wrong.
    """

    def __init__(self, path: Path, coco: Path | None = None) -> None:
        kept: dict[str, list[Any]] = {key: [] for key in (*_SHAPES, "annotId", "imageName")}
        for row, entry in enumerate(entries(path, "data")):
            for key, shape in _SHAPES.items():
                kept[key].append(entry_numbers(path, entry, key, shape, row))
            name = entry.get("imageName")
            if not isinstance(name, str):
                raise FieldError(f"{path}: imageName: got {name!r} in row {row}; expected text")
            kept["imageName"].append(name)
            identity = entry.get("annotId", -1)
            kept["annotId"].append(int(identity) if isinstance(identity, (int, float)) else -1)
        table = {key: np.array(kept[key]) for key in (*_SHAPES, "annotId")}
        table["imageName"] = kept["imageName"]  # pyright: ignore[reportArgumentType]
        self.path, self.columns = path, Columns(path, table, len(kept["imageName"]))
        self.keypoints = None if coco is None else _of_annotations(coco, kept["annotId"])

    def __len__(self) -> int:
        return self.columns.count

    def read(self, rows: Int[np.ndarray, "n"]) -> FieldFrames:
        """Some of its rows."""
        columns = self.columns
        centre = columns.numbers("bbox_center", rows, 2)
        scale = columns.positive("bbox_scale", rows)
        turns = columns.numbers("parm_pose", rows, 24, 3, 3)
        check_turns(columns, "parm_pose", rows, turns)
        still = torch.zeros(len(rows))
        points = None
        if self.keypoints is not None:
            points = shifted(torch.from_numpy(self.keypoints[rows]))
        return FieldFrames(
            rows=rows,
            images=columns.texts("imageName", rows),
            people=("",) * len(rows),
            frame_indices=torch.zeros(len(rows), dtype=torch.int64),
            boxes_px=square_boxes(centre, crop_sides(scale)),
            keypoint_set=None if points is None else COCO_17,
            keypoints_px=points,
            rotmats=turns,
            betas=columns.numbers("parm_shape", rows, 10),
            has_body=torch.ones(len(rows), dtype=torch.bool),
            genders=("neutral",) * len(rows),
            weak_camera=WeakCamera(columns.numbers("parm_cam", rows, 3)),
            crop=Crop(centre + 0.5, crop_sides(scale) * BOX_MARGIN, still, still, CROP_PX),
        )


def _of_annotations(path: Path, wanted: list[int]) -> np.ndarray:
    """COCO's keypoints [n, 17, 3] (x, y, confidence) of annotations by their numbers."""
    places: dict[int, list[int]] = {}
    for place, identity in enumerate(wanted):
        places.setdefault(identity, []).append(place)
    points = np.zeros((len(wanted), 17, 3), np.float32)
    found: set[int] = set()
    for row, entry in enumerate(entries(path, "annotations")):
        identity = entry.get("id")
        if identity in places:
            values = entry_numbers(path, entry, "keypoints", (51,), row).reshape(17, 3)
            # 0 unlabelled, 1 hidden, 2 seen.
            values[:, 2] = values[:, 2] > 0
            points[places[identity]] = values
            found.add(identity)
    if missing := set(places) - found:
        raise FieldError(
            f"{path}: annotations: got none with id {min(missing)} ({len(missing)} missing); "
            "expected the annotations that the fits are of; give the json of the same COCO split"
        )
    return points
