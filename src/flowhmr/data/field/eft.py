"""EFT's fits (json), and COCO's keypoints for them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from flowhmr.body import COCO_17
from flowhmr.cameras import Crop, WeakCamera
from flowhmr.data.field.columns import Columns, crop_sides, shifted, square_boxes
from flowhmr.data.field.frames import BOX_MARGIN, FieldError, FieldFrames
from flowhmr.files import DataFileError, json_entries

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
        for row, entry in enumerate(_entries(path, "data")):
            for key, shape in _SHAPES.items():
                kept[key].append(_numbers(path, entry, key, shape, row))
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
            rotmats=_checked_turns(columns, rows),
            betas=columns.numbers("parm_shape", rows, 10),
            has_body=torch.ones(len(rows), dtype=torch.bool),
            genders=("neutral",) * len(rows),
            weak_camera=WeakCamera(columns.numbers("parm_cam", rows, 3)),
            crop=Crop(centre + 0.5, crop_sides(scale) * BOX_MARGIN, still, still, CROP_PX),
        )


def _checked_turns(columns: Columns, rows: Int[np.ndarray, "n"]) -> torch.Tensor:
    turns = columns.numbers("parm_pose", rows, 24, 3, 3)
    off = (turns @ turns.mT - torch.eye(3)).abs().amax((-1, -2, -3))
    bad = (off > 1e-2) | (torch.linalg.det(turns) < 0).any(-1)
    if bool(bad.any()):
        row = rows[int(bad.nonzero()[0, 0])]
        raise columns.error("parm_pose", f"no rotations in row {row}", "rotation matrices")
    return turns


def _entries(path: Path, key: str) -> Any:
    try:
        for row, entry in enumerate(json_entries(path, key)):
            if not isinstance(entry, dict):
                raise FieldError(f"{path}: {key}: got {entry!r} in row {row}; expected an object")
            yield entry
    except FieldError:
        raise
    except (DataFileError, OSError) as error:
        raise FieldError(f"{path}: {error}") from error


def _numbers(path: Path, entry: dict, key: str, shape: tuple[int, ...], row: int) -> np.ndarray:
    try:
        array = np.asarray(entry[key], np.float32)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise FieldError(
            f"{path}: {key}: got {type(error).__name__} {error} in row {row}; expected numbers; "
            "give the file as it was published"
        ) from error
    # Some numbers are lists of one.
    if tuple(n for n in array.shape if n != 1) != tuple(n for n in shape if n != 1):
        raise FieldError(
            f"{path}: {key}: got shape {array.shape} in row {row}; expected {shape}; give the file "
            "as it was published"
        )
    return array.reshape(shape)


def _of_annotations(path: Path, wanted: list[int]) -> np.ndarray:
    """COCO's keypoints [n, 17, 3] (x, y, confidence) of annotations by their numbers."""
    places: dict[int, list[int]] = {}
    for place, identity in enumerate(wanted):
        places.setdefault(identity, []).append(place)
    points = np.zeros((len(wanted), 17, 3), np.float32)
    found: set[int] = set()
    for row, entry in enumerate(_entries(path, "annotations")):
        identity = entry.get("id")
        if identity in places:
            values = _numbers(path, entry, "keypoints", (51,), row).reshape(17, 3)
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
