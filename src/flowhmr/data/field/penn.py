"""Penn Action: a MATLAB file a video."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int

from flowhmr.body import JointSet
from flowhmr.data.field.columns import Columns, box_of_points, load_table, shifted
from flowhmr.data.field.frames import FieldError, FieldFrames
from flowhmr.data.field.joined import Parts

PENN_13 = JointSet(
    "penn-13",
    (
        "head",
        *(f"{s}_{n}" for n in ("shoulder", "elbow", "wrist") for s in ("left", "right")),
        *(f"{s}_{n}" for n in ("hip", "knee", "ankle") for s in ("left", "right")),
    ),
)
"""Penn Action's keypoints: no neck, no feet."""


class PennSet(Parts):
    """``labels/*.mat``: ``x``, ``y``, ``visibility`` [frames, 13]; ``frames/NAME/000001.jpg``.

    Boxes are those of the visible keypoints, a tenth wider to each side.

    Args:
        path: the folder of the labels, or one file.

    Raises:
        FieldError: no such file; says what is wrong.
    """

    def __init__(self, path: Path) -> None:
        files = sorted(path.rglob("*.mat")) if path.is_dir() else [path]
        if not files:
            raise FieldError(f"{path}: got no .mat below it; expected Penn Action's labels")
        super().__init__(path, [_Video(file) for file in files])


class _Video:
    def __init__(self, path: Path) -> None:
        table = load_table(path, ("x", "y", "visibility"))
        count = len(table["x"]) if isinstance(table.get("x"), np.ndarray) else 0
        self.path, self.columns = path, Columns(path, table, count)
        for key in ("x", "y", "visibility"):
            self.columns.checked(key, len(PENN_13))

    def __len__(self) -> int:
        return self.columns.count

    def read(self, rows: Int[np.ndarray, "n"]) -> FieldFrames:
        keys = ("x", "y", "visibility")
        columns = [self.columns.numbers(key, rows, len(PENN_13)) for key in keys]
        points = shifted(torch.stack(columns, -1))
        if bool((points[..., 2] > 0).sum(1).eq(0).any()):
            row = rows[int((points[..., 2] > 0).sum(1).eq(0).nonzero()[0, 0])]
            raise self.columns.error("visibility", f"nothing visible in row {row}", "some")
        name = self.path.stem
        return FieldFrames(
            rows=rows,
            images=tuple(f"{name}/{row + 1:06d}.jpg" for row in rows),
            people=(name,) * len(rows),
            frame_indices=torch.from_numpy(rows),
            boxes_px=box_of_points(points, pad=0.1),
            keypoint_set=PENN_13,
            keypoints_px=points,
        )
