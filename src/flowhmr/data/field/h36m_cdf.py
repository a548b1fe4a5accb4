"""Human3.6M's own files: a cdf a video and camera."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int

from flowhmr.body import SPIN_H36M_17
from flowhmr.data.field.columns import Columns, box_of_points, shifted
from flowhmr.data.field.frames import FieldError, FieldFrames
from flowhmr.data.field.joined import Parts
from flowhmr.files import DataFileError, data_of_cdf

PICKED = (11, 6, 7, 8, 1, 2, 3, 12, 24, 14, 15, 17, 18, 19, 25, 26, 27)
"""Which of the 32 joints the usual 17 are, left leg first (SPIN)."""
_3D, _2D = "D3_Positions_mono", "D2_Positions"


class Human36mCdfSet(Parts):
    """``S9/MyPoseFeatures/D3_Positions_mono/Directions 1.54138969.cdf`` (``Pose`` [1, n, 96]:
    32 joints, millimetres, the camera's axes), and the same name below ``D2_Positions``
    ([1, n, 64], pixels).

    17 joints in SPIN's order come out, metres. Boxes are those of the 2D joints, a tenth wider to
    each side. Pictures are frames of ``S9/Videos/Directions 1.54138969.mp4``, 50 a second. There
    are no bodies and no cameras in these files.

    Args:
        path: the data set's folder, or a subject's.

    Raises:
        FieldError: no such file; says what is wrong.
    """

    def __init__(self, path: Path) -> None:
        files = [f for f in sorted(path.rglob("*.cdf")) if f.parent.name.endswith(_3D)]
        if not files:
            raise FieldError(
                f"{path}: got no {_3D}/*.cdf below it; expected Human3.6M's pose features, unpacked"
            )
        super().__init__(path, [_Video(file, path) for file in files])


class _Video:
    """One action before one camera."""

    def __init__(self, path: Path, root: Path) -> None:
        beside = path.parent.with_name(path.parent.name.replace(_3D, _2D)) / path.name
        fields = {"Pose": _pose(path, 96), "Pose2D": _pose(beside, 64)}
        self.columns = Columns(path, fields, len(fields["Pose"])).checked("Pose2D", 64)
        self.name = (path.parents[2].relative_to(root) / "Videos" / path.stem).as_posix()

    def __len__(self) -> int:
        return self.columns.count

    def read(self, rows: Int[np.ndarray, "n"]) -> FieldFrames:
        columns, kept = self.columns, list(PICKED)
        joints_m = columns.numbers("Pose", rows, 96).unflatten(-1, (32, 3))[:, kept] / 1000
        points = columns.numbers("Pose2D", rows, 64).unflatten(-1, (32, 2))[:, kept]
        ones = torch.ones(len(rows), len(kept), 1)
        points = shifted(torch.cat([points, ones], -1))
        return FieldFrames(
            rows=rows,
            images=(f"{self.name}.mp4",) * len(rows),
            people=(self.name,) * len(rows),
            frame_indices=torch.from_numpy(rows),
            boxes_px=box_of_points(points, pad=0.1),
            keypoint_set=SPIN_H36M_17,
            keypoints_px=points,
            joint_set=SPIN_H36M_17,
            joints_cam=torch.cat([joints_m, ones], -1),
        )


def _pose(path: Path, width: int) -> np.ndarray:
    """The frames of a file, [n, width]."""
    try:
        found = data_of_cdf(path, ("Pose",)).get("Pose")
    except DataFileError as error:
        raise FieldError(f"{path}: {error}") from error
    except OSError as error:
        raise FieldError(f"{path}: got {error}; expected 3D and 2D poses side by side") from error
    if found is None or found.ndim != 3 or found.shape[0] != 1 or found.shape[2] != width:
        got = "none" if found is None else f"shape {found.shape}"
        raise FieldError(f"{path}: Pose: got {got}; expected (1, frames, {width})")
    return found[0]
