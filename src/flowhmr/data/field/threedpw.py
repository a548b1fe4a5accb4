"""3DPW's sequence files: pickles of Python 2, bodies in world axes, a moving camera."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from flowhmr.data.field.columns import (
    GENDERS,
    Columns,
    box_of_points,
    check_turns,
    load_table,
    rotations,
    shifted,
)
from flowhmr.data.field.frames import FieldError, FieldFrames
from flowhmr.data.field.joined import Parts
from flowhmr.data.keypoints import OPENPOSE_18


class ThreeDpwSet(Parts):
    """``sequenceFiles/*/NAME.pkl``: people of some sequences, one after the other.

    The files have poses and joints in world axes: here the camera turns them (``cam_poses``) into
    its own. ``poses2d`` is [frames, 3, 18], OpenPose's 18, and comes out as [frames, 18, 3]. Boxes
    are those of the 24 joints in the image. ``valid`` is ``campose_valid``. SMPL's translation
    is left out: the pelvis is where ``jointPositions`` has it, which needs no body model.

    Args:
        path: one sequence's file, or a folder of them (a split).

    Raises:
        FieldError: no such file; says what is wrong.
    """

    def __init__(self, path: Path) -> None:
        files = sorted(path.rglob("*.pkl")) if path.is_dir() else [path]
        if not files:
            raise FieldError(f"{path}: got no .pkl below it; expected 3DPW's sequenceFiles")
        super().__init__(path, [person for file in files for person in _people(file)])


class _Person:
    """One person of one sequence."""

    def __init__(self, path: Path, number: int, table: dict[str, Any], count: int) -> None:
        self.columns, self.number = Columns(path, table, count), number
        for key, tail in (
            ("poses", (72,)),
            ("jointPositions", (72,)),
            ("poses2d", (3, 18)),
            ("cam_poses", (4, 4)),
            ("campose_valid", ()),
            ("img_frame_ids", ()),
        ):
            self.columns.checked(key, *tail)
        betas = np.asarray(table["betas"]).reshape(-1)
        if len(betas) < 10 or betas.dtype.kind not in "iuf":
            raise self.columns.error("betas", f"{len(betas)} betas", "at least 10")
        shape = Columns(path, {"betas": betas[None, :10]}, 1)
        self.betas = shape.numbers("betas", np.zeros(1, int), 10)[0]
        gender = str(table["genders"]).lower()
        if gender not in GENDERS:
            raise self.columns.error("genders", repr(gender), "m or f")
        self.gender = GENDERS[gender]
        intrinsics = np.asarray(table["cam_intrinsics"])
        if intrinsics.shape != (3, 3) or not np.isfinite(intrinsics).all():
            raise self.columns.error("cam_intrinsics", f"shape {intrinsics.shape}", "(3, 3)")
        self.intrinsics = torch.from_numpy(intrinsics.astype(np.float64))

    def __len__(self) -> int:
        return self.columns.count

    def read(self, rows: Int[np.ndarray, "n"]) -> FieldFrames:
        columns, name = self.columns, str(self.columns.table["sequence"])
        T_cam_world = columns.numbers("cam_poses", rows, 4, 4).double()
        R_cam_world = T_cam_world[:, :3, :3]
        valid = columns.numbers("campose_valid", rows).bool()
        # Where the set does not trust its camera, anything may stand.
        check_turns(columns, "cam_poses", rows[valid.numpy()], R_cam_world[valid])
        rotmats = rotations(columns.numbers("poses", rows, 72)).double()
        rotmats[:, 0] = R_cam_world @ rotmats[:, 0]
        joints_world = columns.numbers("jointPositions", rows, 72).double().unflatten(-1, (24, 3))
        joints_cam = joints_world @ R_cam_world.mT + T_cam_world[:, None, :3, 3]
        seen = joints_cam @ self.intrinsics.T
        ahead = seen[..., 2:] > 0
        seen = torch.where(ahead, seen / seen[..., 2:], 0.0)
        # OpenCV's pixels, as the keypoints are.
        joints_px = torch.cat([seen[..., :2] + 0.5, ahead.double()], -1)
        frames = columns.numbers("img_frame_ids", rows).long()
        intrinsics = self.intrinsics.clone()
        intrinsics[:2, 2] += 0.5
        return FieldFrames(
            rows=rows,
            images=tuple(f"{name}/image_{frame:05d}.jpg" for frame in frames.tolist()),
            people=(f"{name}_{self.number}",) * len(rows),
            frame_indices=frames,
            boxes_px=box_of_points(joints_px).float(),
            keypoint_set=OPENPOSE_18,
            keypoints_px=shifted(columns.numbers("poses2d", rows, 3, 18).mT),
            joint_set=None,
            rotmats=rotmats.float(),
            betas=self.betas.expand(len(rows), 10).clone(),
            has_body=torch.ones(len(rows), dtype=torch.bool),
            genders=(self.gender,) * len(rows),
            pelvis_m=joints_cam[:, 0].float(),
            intrinsics_px=intrinsics.float().expand(len(rows), 3, 3).clone(),
            valid=valid,
        )


def _people(path: Path) -> list[_Person]:
    table = dict(load_table(path))
    whole = Columns(path, table, 0)
    missing = [k for k in ("poses", "cam_poses", "cam_intrinsics", "betas") if not whole.has(k)]
    if missing:
        raise whole.error(", ".join(missing), "none", "a sequence of 3DPW")
    table.setdefault("sequence", path.stem)
    count = len(table["img_frame_ids"]) if "img_frame_ids" in table else 0
    shared = {k: table.get(k) for k in ("sequence", "cam_poses", "cam_intrinsics", "img_frame_ids")}
    own = ("poses", "betas", "genders", "poses2d", "jointPositions", "campose_valid")
    people = len(table["poses"])
    for key in own:
        if not whole.has(key) or len(table[key]) != people:
            raise whole.error(key, f"{len(table.get(key) or ())} people", str(people))
    return [
        _Person(path, number, shared | {k: table[k][number] for k in own}, count)
        for number in range(people)
    ]
