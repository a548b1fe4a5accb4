"""SURREAL: rendered videos, a MATLAB file of each with bodies and joints, others with maps."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from flowhmr.body import SMPL_24, mirror_rotmats
from flowhmr.data.field.columns import Columns, box_of_points, load_table
from flowhmr.data.field.frames import FieldError, FieldFrames
from flowhmr.data.field.joined import Parts
from flowhmr.geometry import rotmat_from_axis_angle

SIZE_PX = 320, 240
_KEYS = ("joints2D", "joints3D", "pose", "shape", "gender", "zrot", "camLoc")
_INTRINSICS_PX = torch.tensor([[600.0, 0, 160], [0, 600, 120], [0, 0, 1]], dtype=torch.float64)
# A reflection: Blender's camera was given one for its axes, so that the pictures are mirrored.
_FROM_WORLD = torch.tensor([[0.0, 0, -1], [0, 1, 0], [-1, 0, 0]], dtype=torch.float64)
_FLIP = torch.diag(torch.tensor([-1.0, 1, 1], dtype=torch.float64))
_FROM_SMPL = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=torch.float64)
"""A quarter turn about x."""


class SurrealSet(Parts):
    """``*_info.mat``: ``joints2D`` (2, 24, T), ``joints3D`` (3, 24, T), ``pose`` (72, T), ``shape``
    (10, T), ``gender`` (T), ``zrot`` (T), ``camLoc``; beside each its ``.mp4``.

    **The pictures are mirrored against the bodies** (the camera's axes are a reflection): who
    waves with the right hand by ``pose`` and ``joints2D`` is seen waving with the left one. Here
    everything belongs to the picture: joints change sides, poses and roots are those of the
    mirrored body. Joints and the pelvis are before the camera, metres; the root is turned by
    ``zrot``, a quarter turn and the camera. Pixels count from the image's edge: the principal point
    is half the size. Frames are those of the video that ``images`` names. One frame comes without
    its axis.

    Args:
        path: a folder of them (a run, a split), or one ``_info.mat``.

    Raises:
        FieldError: no such file; says what is wrong.
    """

    def __init__(self, path: Path) -> None:
        folder = path if path.is_dir() else path.parent
        files = sorted(path.rglob("*_info.mat")) if path.is_dir() else [path]
        if not files:
            raise FieldError(f"{path}: got no *_info.mat below it; expected SURREAL's videos")
        super().__init__(path, [_Video(file, folder) for file in files])


class _Video:
    """One clip; frames first, as columns are elsewhere."""

    def __init__(self, path: Path, folder: Path) -> None:
        table = load_table(path, _KEYS)
        whole = Columns(path, table, 0)
        for key in _KEYS:
            if not isinstance(table.get(key), np.ndarray):
                raise whole.error(key, f"{type(table.get(key)).__name__}", "numbers")
        count = table["zrot"].size
        rows = {
            "joints2D": _frames_first(whole, "joints2D", (2, 24), count),
            "joints3D": _frames_first(whole, "joints3D", (3, 24), count),
            "pose": _frames_first(whole, "pose", (72,), count),
            "shape": _frames_first(whole, "shape", (10,), count),
            "gender": table["gender"].reshape(-1),
            "zrot": table["zrot"].reshape(-1),
        }
        self.columns = Columns(path, rows, count)
        self.columns.checked("gender")
        self.name = path.relative_to(folder).with_name(path.name.removesuffix("_info.mat"))
        place = Columns(path, {"camLoc": table["camLoc"].reshape(1, -1)}, 1)
        self.camera_m = place.numbers("camLoc", np.zeros(1, int), 3)[0].double()

    def __len__(self) -> int:
        return self.columns.count

    def read(self, rows: Int[np.ndarray, "n"]) -> FieldFrames:
        columns, sides = self.columns, list(SMPL_24.mirror)
        genders = columns.numbers("gender", rows)
        if not bool(((genders == 0) | (genders == 1)).all()):
            raise columns.error("gender", f"{genders.unique().tolist()[:3]}", "0 (female) or 1")
        world_m = columns.numbers("joints3D", rows, 3, 24).double().mT
        joints_m = ((world_m - self.camera_m) @ _FROM_WORLD.T)[:, sides]
        points = columns.numbers("joints2D", rows, 2, 24).mT[:, sides]
        ones = torch.ones(len(rows), 24, 1)
        points = torch.cat([points, ones], -1)
        name = self.name.as_posix()
        return FieldFrames(
            rows=rows,
            images=(f"{name}.mp4",) * len(rows),
            people=(name,) * len(rows),
            frame_indices=torch.from_numpy(rows),
            boxes_px=box_of_points(points, pad=0.1),
            keypoint_set=SMPL_24,
            keypoints_px=points,
            joint_set=SMPL_24,
            joints_cam=torch.cat([joints_m.float(), ones], -1),
            rotmats=self._rotmats(rows).float(),
            betas=columns.numbers("shape", rows, 10),
            has_body=torch.ones(len(rows), dtype=torch.bool),
            genders=tuple("male" if male else "female" for male in genders.tolist()),
            pelvis_m=joints_m[:, 0].float(),
            intrinsics_px=_INTRINSICS_PX.float().expand(len(rows), 3, 3).clone(),
        )

    def _rotmats(self, rows: Int[np.ndarray, "n"]) -> Float[Tensor, "n 24 3 3"]:
        """Of the body as it is seen: a mirror image of the one that was drawn."""
        pose = self.columns.numbers("pose", rows, 72).double()
        turns = rotmat_from_axis_angle(pose.unflatten(-1, (24, 3)))
        upright = self.columns.numbers("zrot", rows).double()[:, None] * torch.tensor([0.0, 0, 1])
        root = _FROM_WORLD @ _FROM_SMPL @ rotmat_from_axis_angle(upright) @ turns[:, 0]
        turns = mirror_rotmats(turns)
        # Two reflections make a rotation.
        turns[:, 0] = root @ _FLIP
        return turns


def _frames_first(columns: Columns, key: str, shape: tuple[int, ...], count: int) -> np.ndarray:
    """An array with its frames along the last axis, which is missing where there is one frame."""
    value = columns.table[key]
    axes = value.reshape(shape) if count == 1 and value.size == math.prod(shape) else value
    if axes.shape == shape and count == 1:
        axes = axes[..., None]
    if axes.shape != (*shape, count):
        raise columns.error(key, f"shape {value.shape}", f"{(*shape, count)}")
    return np.moveaxis(axes, -1, 0)


def surreal_flow(path: Path, frame: int) -> Float[Tensor, "h w 2"]:
    """Flow to the next frame, pixels: x right, y down. The file's x has the other sign.

    Args:
        path: ``*_gtflow.mat``.
        frame: of the video, from 0; its array is ``gtflow_1`` for the first.

    Raises:
        FieldError: no such frame, or another size.
    """
    (flow,) = _maps(path, "gtflow", range(frame, frame + 1), 2)
    return torch.from_numpy(flow * np.array([-1, 1], np.float32))


def surreal_depth(path: Path, frame: int) -> Float[Tensor, "h w"]:
    """Depth in metres, 1e10 where there is no body; see `surreal_flow`."""
    return torch.from_numpy(surreal_depths(path, frame, 1)[0])


def surreal_depths(path: Path, start: int, count: int) -> Float[np.ndarray, "t h w"]:
    """`surreal_depth` of some frames in a row."""
    return _maps(path, "depth", range(start, start + count), 1)


def surreal_people(path: Path, start: int, count: int) -> Bool[np.ndarray, "t h w"]:
    """Where there is a body in some frames in a row; see `surreal_parts`."""
    return _parts(path, range(start, start + count)) > 0


def surreal_parts(path: Path, frame: int) -> UInt8[Tensor, "h w"]:
    """0: no body, else 1 + the joint of `SMPL_24` that the part hangs on, as it is seen.

    The file's numbers are of the body before it was mirrored; sides change as the joints' do.

    Args:
        path: ``*_segm.mat``.
        frame: of the video, from 0.

    Raises:
        FieldError: no such frame, another size, or other numbers.
    """
    seen = np.array([0, *(1 + side for side in SMPL_24.mirror)], np.uint8)
    return torch.from_numpy(seen[_parts(path, range(frame, frame + 1))[0]])


def _parts(path: Path, frames: range) -> Int[np.ndarray, "t h w"]:
    """The file's numbers."""
    stored = _maps(path, "segm", frames, 1)
    for frame, each in zip(frames, stored):
        if each.min() < 0 or each.max() > 24 or (each != each.round()).any():
            raise FieldError(
                f"{path}: segm_{frame + 1}: got {each.min()} to {each.max()}; expected whole "
                "numbers, 0 to 24"
            )
    return stored.astype(np.int64)


def _maps(path: Path, stem: str, frames: range, channels: int) -> Float[np.ndarray, "t h w ..."]:
    """Arrays of some frames; of the others nothing is unpacked into numbers."""
    keys = [f"{stem}_{frame + 1}" for frame in frames]
    table: Any = load_table(path, keys)
    width, height = SIZE_PX
    shape = (height, width, channels)[: 2 + (channels > 1)]
    out = np.empty((len(keys), *shape), np.float32)
    for key, place in zip(keys, out):
        array = table.get(key)
        if (
            not isinstance(array, np.ndarray)
            or array.shape != shape
            or array.dtype.kind not in "iuf"
        ):
            got = getattr(array, "shape", type(array).__name__)
            raise FieldError(f"{path}: {key}: got {got}; expected numbers of shape {shape}")
        place[:] = array
        if not np.isfinite(place).all():
            raise FieldError(f"{path}: {key}: got numbers that are not finite; expected none")
    return out
