"""COCO's person keypoints."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int

from flowhmr.body import COCO_17
from flowhmr.data.field.columns import Columns, shifted
from flowhmr.data.field.entries import entries, entry_numbers
from flowhmr.data.field.frames import FieldError, FieldFrames


class CocoSet:
    """``{"images": [{"id", "file_name"}], "annotations": [{"image_id", "bbox", "keypoints"}]}``.

    People without keypoints and crowds are left out. Boxes are (x, y, w, h) from the left and top
    edge of the image. Keypoints of flag 0 are unknown, hidden and seen ones (1, 2) are known.

    Args:
        path: ``person_keypoints_*.json``.

    Raises:
        FieldError: no such file; says what is wrong.
    """

    def __init__(self, path: Path) -> None:
        names = {image.get("id"): image.get("file_name") for image in entries(path, "images")}
        images, boxes, points = [], [], []
        for row, entry in enumerate(entries(path, "annotations")):
            found = entry_numbers(path, entry, "keypoints", (51,), row).reshape(17, 3)
            if entry.get("iscrowd") or not (found[:, 2] > 0).any():
                continue
            if not isinstance(names.get(entry.get("image_id")), str):
                raise FieldError(
                    f"{path}: image_id: got {entry.get('image_id')!r} in row {row}; expected the "
                    "id of an entry of images; give the file as it was published"
                )
            images.append(names[entry["image_id"]])
            boxes.append(entry_numbers(path, entry, "bbox", (4,), row))
            points.append(found)
        table = {
            "file_name": images,
            "bbox": np.array(boxes, np.float32).reshape(-1, 4),
            "keypoints": np.array(points, np.float32).reshape(-1, 17, 3),
        }
        self.path, self.columns = path, Columns(path, table, len(images))

    def __len__(self) -> int:
        return self.columns.count

    def read(self, rows: Int[np.ndarray, "n"]) -> FieldFrames:
        """Some of its rows."""
        return FieldFrames(
            rows=rows,
            images=self.columns.texts("file_name", rows),
            people=("",) * len(rows),
            frame_indices=torch.zeros(len(rows), dtype=torch.int64),
            boxes_px=self.columns.positive_sizes("bbox", rows),
            keypoint_set=COCO_17,
            keypoints_px=shifted(self.columns.numbers("keypoints", rows, 17, 3)),
        )
