"""Human3.6M as one JSON a subject: cameras, joints in world axes and, beside them, SMPL's poses."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from flowhmr.body import H36M_17
from flowhmr.data.field.columns import (
    Columns,
    box_of_points,
    check_turns,
    load_table,
    rotations,
)
from flowhmr.data.field.frames import FieldError, FieldFrames
from flowhmr.data.field.joined import Parts

_CAMERA = {"R": (3, 3), "t": (3,), "f": (2,), "c": (2,)}


class Human36mSet(Parts):
    """``Human36M_subject*_camera.json``, ``..._joint_3d.json`` and, if there,
    ``..._SMPL_NeuralAnnot.json``, by action, subaction and frame.

    The files are in millimetres and world axes: here a camera's, metres. Joints come in the order
    of the data set, the right leg first (SPIN and TCMR swap the legs). 2D keypoints are the 3D
    joints as the camera sees them; boxes are theirs, a tenth wider to each side. SMPL's root is
    turned by the camera.

    Args:
        path: the folder with the files.
        subjects: numbers of the subjects; all that are there by default.

    Raises:
        FieldError: no such file; says what is wrong.
    """

    def __init__(self, path: Path, subjects: tuple[int, ...] = ()) -> None:
        files = {int(m[1]): f for f in path.glob("*_camera.json") if (m := _subject(f))}
        wanted = subjects or sorted(files)
        if not wanted or not set(wanted) <= set(files):
            raise FieldError(
                f"{path}: got subjects {sorted(files)}; expected {list(wanted) or 'some'}, a "
                "Human36M_subject*_camera.json each; give the folder with the annotations"
            )
        super().__init__(path, [part for s in wanted for part in _videos(path, s, files[s])])


def _subject(file: Path) -> re.Match[str] | None:
    return re.search(r"subject(\d+)_camera\.json$", file.name)


def _videos(folder: Path, subject: int, cameras_file: Path) -> list["_Video"]:
    stem = cameras_file.name.removesuffix("_camera.json")
    file = folder / f"{stem}_joint_3d.json"
    actions = load_table(file)
    bodies_file = folder / f"{stem}_SMPL_NeuralAnnot.json"
    bodies = load_table(bodies_file) if bodies_file.exists() else {}
    cameras = {
        number: _camera(cameras_file, number, c) for number, c in load_table(cameras_file).items()
    }
    videos = []
    for action, subactions in actions.items():
        for subaction, frames in _dict(file, subactions, action).items():
            where = f"{action}/{subaction}"
            frames = _dict(file, frames, where)
            try:
                order = sorted(frames, key=int)
                joints = np.array([frames[f] for f in order], np.float64).reshape(len(order), -1)
                fields = {"joint_3d": joints, "frame": np.array([int(f) for f in order])}
            except (TypeError, ValueError) as error:
                raise FieldError(
                    f"{file}: {where}: got {error}; expected frames of 17 joints, x, y, z each"
                ) from error
            fields |= _bodies(bodies_file, bodies, action, subaction, order)
            for number, camera in cameras.items():
                try:
                    name = (
                        f"s_{subject:02d}_act_{int(action):02d}_subact_{int(subaction):02d}_ca_"
                        f"{int(number):02d}"
                    )
                except ValueError as error:
                    raise FieldError(f"{file}: {where}: got {error}; expected numbers") from error
                videos.append(_Video(file, name, fields, camera))
    if not videos:
        raise FieldError(f"{file}: got no frames; expected actions, subactions and their frames")
    return videos


def _dict(path: Path, value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise FieldError(f"{path}: {where}: got {type(value).__name__}; expected an object")
    return value


def _camera(path: Path, number: str, camera: Any) -> dict[str, np.ndarray]:
    try:
        found = {k: np.asarray(camera[k], np.float64).reshape(s) for k, s in _CAMERA.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise FieldError(
            f"{path}: camera {number}: got {type(error).__name__} {error}; expected R, t, f, c"
        ) from error
    check_turns(
        Columns(path, {}, 0),
        f"camera {number}",
        np.zeros(1, int),
        torch.from_numpy(found["R"])[None],
    )
    return found


def _bodies(
    path: Path, bodies: Any, action: str, subaction: str, order: list[str]
) -> dict[str, np.ndarray]:
    """Pose and shape of the frames, and which have them."""
    if not bodies:
        return {}
    found = _dict(path, bodies.get(action, {}), action).get(subaction, {})
    pose, shape = np.zeros((len(order), 72)), np.zeros((len(order), 10))
    has = np.zeros(len(order))
    for row, frame in enumerate(order):
        if frame in found:
            try:
                pose[row] = np.asarray(found[frame]["pose"], np.float64).reshape(72)
                shape[row] = np.asarray(found[frame]["shape"], np.float64).reshape(10)
            except (KeyError, TypeError, ValueError) as error:
                raise FieldError(
                    f"{path}: {action}/{subaction}/{frame}: got {type(error).__name__} {error}; "
                    "expected pose (72) and shape (10)"
                ) from error
            has[row] = 1
    return {"pose": pose, "shape": shape, "has_body": has}


class _Video:
    """One action before one camera."""

    def __init__(
        self, path: Path, name: str, fields: dict[str, np.ndarray], camera: dict[str, np.ndarray]
    ) -> None:
        self.name, self.camera = name, camera
        self.columns = Columns(path, fields, len(fields["frame"]))
        self.columns.checked("joint_3d", 3 * len(H36M_17))

    def __len__(self) -> int:
        return self.columns.count

    def read(self, rows: Int[np.ndarray, "n"]) -> FieldFrames:
        columns, size = self.columns, len(H36M_17)
        camera = {k: torch.from_numpy(v) for k, v in self.camera.items()}
        world_mm = columns.numbers("joint_3d", rows, 3 * size).double().unflatten(-1, (size, 3))
        joints_m = (world_mm @ camera["R"].T + camera["t"]) / 1000
        intrinsics = torch.eye(3, dtype=torch.float64)
        intrinsics[0, 0], intrinsics[1, 1] = camera["f"]
        intrinsics[:2, 2] = camera["c"] + 0.5
        seen = joints_m @ intrinsics.T
        ahead = seen[..., 2:] > 0
        points = torch.where(ahead, seen[..., :2] / seen[..., 2:], 0.0)
        points = torch.cat([points, ahead.double()], -1).float()
        rotmats = betas = has_body = None
        if columns.has("pose"):
            rotmats = rotations(columns.numbers("pose", rows, 72))
            rotmats[:, 0] = (camera["R"] @ rotmats[:, 0].double()).float()
            betas = columns.numbers("shape", rows, 10)
            has_body = columns.numbers("has_body", rows).bool()
        frames = columns.get("frame")[rows].astype(np.int64)
        ones = torch.ones(len(rows), size, 1)
        return FieldFrames(
            rows=rows,
            images=tuple(f"{self.name}/{self.name}_{frame + 1:06d}.jpg" for frame in frames),
            people=(self.name,) * len(rows),
            frame_indices=torch.from_numpy(frames),
            boxes_px=box_of_points(points, pad=0.1),
            keypoint_set=H36M_17,
            keypoints_px=points,
            joint_set=H36M_17,
            joints_cam=torch.cat([joints_m.float(), ones], -1),
            rotmats=rotmats,
            betas=betas,
            has_body=has_body,
            genders=None if betas is None else ("neutral",) * len(rows),
            intrinsics_px=intrinsics.float().expand(len(rows), 3, 3).clone(),
        )
