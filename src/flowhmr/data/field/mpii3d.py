"""MPI-INF-3DHP: training videos by camera, and the test set (MATLAB 7.3, which needs h5py)."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int

from flowhmr.body import JointSet
from flowhmr.data.field.columns import Columns, box_of_points, load_table, shifted
from flowhmr.data.field.frames import FieldError, FieldFrames
from flowhmr.data.field.joined import Parts

CAMERAS = (0, 1, 2, 4, 5, 6, 7, 8)
"""Those at the height of a person, which the field trains on."""


def _limbs(chain: str) -> tuple[str, ...]:
    return tuple(f"{side}_{name}" for side in ("left", "right") for name in chain.split())


MPII3D_28 = JointSet(
    "mpii3d-28",
    (
        *("spine3", "spine4", "spine2", "spine", "pelvis", "neck", "head", "head_top"),
        *_limbs("clavicle shoulder elbow wrist hand"),
        *_limbs("hip knee ankle foot toe"),
    ),
)
"""MPI-INF-3DHP's joints, as its own tools name them."""

MPII3D_17 = JointSet(
    "mpii3d-17",
    (
        *("head_top", "neck", "right_shoulder", "right_elbow", "right_wrist"),
        *("left_shoulder", "left_elbow", "left_wrist", "right_hip", "right_knee", "right_ankle"),
        *("left_hip", "left_knee", "left_ankle", "pelvis", "spine", "head_h36m"),
    ),
)
"""The joints of its test set."""


class Mpii3dSet(Parts):
    """``S*/Seq*/annot.mat`` (training) or ``TS*/annot_data.mat`` (test), as found below a folder.

    3D joints are millimetres in camera axes in the files, metres here. Training: 28 joints of the
    cameras 0, 1, 2, 4 to 8. Test: 17 joints by ``univ_annot3``, which has all people of one size;
    ``valid`` is ``valid_frame``. Boxes are those of the 2D joints, a tenth wider to each side.
    There are no bodies.

    Args:
        path: the folder.

    Raises:
        FieldError: no such file; says what is wrong.
    """

    def __init__(self, path: Path) -> None:
        train = [file for file in sorted(path.rglob("annot.mat")) if file.is_file()]
        test = [file for file in sorted(path.rglob("annot_data.mat")) if file.is_file()]
        if not train and not test:
            raise FieldError(
                f"{path}: got no annot.mat or annot_data.mat below it; expected the folder of "
                "MPI-INF-3DHP, with S1... or TS1... in it"
            )
        parts = [part for file in train for part in _training(file, path)]
        super().__init__(path, [*parts, *(_test(file, path) for file in test)])


def _training(file: Path, root: Path) -> list["_Video"]:
    table = load_table(file, ("annot2", "annot3"))
    whole = Columns(file, table, 0)
    videos = []
    for key in ("annot2", "annot3"):
        cells = table.get(key)
        if not isinstance(cells, np.ndarray) or cells.dtype != object:
            raise whole.error(key, type(cells).__name__, "a cell array, one a camera")
    cameras = [c for c in CAMERAS if c < min(table["annot2"].size, table["annot3"].size)]
    for camera in cameras:
        points, joints = (table[k].ravel(order="F")[camera] for k in ("annot2", "annot3"))
        name = (file.parent.relative_to(root) / "imageFrames" / f"video_{camera}").as_posix()
        fields = {"annot2": points, "annot3": joints}
        videos.append(_Video(file, name, "frame_{:06d}.jpg", fields, MPII3D_28))
    return videos


def _test(file: Path, root: Path) -> "_Video":
    table = load_table(file, ("annot2", "univ_annot3", "valid_frame"))
    whole = Columns(file, table, 0)
    if not whole.has("valid_frame"):
        raise whole.error("valid_frame", "none", "it")
    count = np.asarray(table["valid_frame"]).size
    fields = {"valid_frame": np.asarray(table["valid_frame"]).reshape(-1)}
    for key, size in (("annot2", 2), ("univ_annot3", 3)):
        shape = np.asarray(table.get(key)).shape
        if shape != (count, 1, len(MPII3D_17), size):
            expected = (count, 1, len(MPII3D_17), size)
            raise whole.error(key, f"shape {shape}", f"{expected}, the axes as HDF5 stores them")
        fields[key] = table[key][:, 0].reshape(count, -1)
    name = (file.parent.relative_to(root) / "imageSequence").as_posix()
    return _Video(file, name, "img_{:06d}.jpg", fields, MPII3D_17)


class _Video:
    """One person before one camera."""

    def __init__(
        self, path: Path, name: str, file: str, fields: dict[str, np.ndarray], joints: JointSet
    ) -> None:
        self.name, self.file, self.joints = name, file, joints
        self.key_3d = "univ_annot3" if "univ_annot3" in fields else "annot3"
        count = len(fields["annot2"]) if np.ndim(fields["annot2"]) else 0
        self.columns = Columns(path, fields, count)
        self.columns.checked("annot2", 2 * len(joints)).checked(self.key_3d, 3 * len(joints))

    def __len__(self) -> int:
        return self.columns.count

    def read(self, rows: Int[np.ndarray, "n"]) -> FieldFrames:
        columns, size = self.columns, len(self.joints)
        points = columns.numbers("annot2", rows, 2 * size).unflatten(-1, (size, 2))
        joints_mm = columns.numbers(self.key_3d, rows, 3 * size).unflatten(-1, (size, 3))
        ones = torch.ones(len(rows), size, 1)
        points = shifted(torch.cat([points, ones], -1))
        valid = None
        if columns.has("valid_frame"):
            valid = columns.numbers("valid_frame", rows).bool()
        return FieldFrames(
            rows=rows,
            images=tuple(f"{self.name}/{self.file.format(row + 1)}" for row in rows),
            people=(self.name,) * len(rows),
            frame_indices=torch.from_numpy(rows),
            boxes_px=box_of_points(points, pad=0.1),
            keypoint_set=self.joints,
            keypoints_px=points,
            joint_set=self.joints,
            joints_cam=torch.cat([joints_mm / 1000, ones], -1),
            valid=valid,
        )
