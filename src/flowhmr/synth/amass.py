"""AMASS: motion capture as SMPL+H or SMPL-X poses (npz) -> `Motion`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from flowhmr.files import DataFileError, plain_data
from flowhmr.geometry import rotmat_from_axis_angle
from flowhmr.synth.motion import Motion, at_rate

_KEYS = ("poses", "trans", "betas", "gender", "mocap_framerate", "mocap_frame_rate")
_HANDS = {156: (22, 37), 165: (25, 40)}
"""Numbers of a frame (SMPL+H's 52 joints, SMPL-X's 55) -> first joints of the index fingers, where
SMPL has its hands. Joint 23 of SMPL+H is the left index finger's second."""
_UPRIGHT = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]], dtype=torch.float64)
"""From AMASS's world (z up) to ours (y up)."""
MIN_FPS, MAX_FPS = 1.0, 1000.0


class AmassError(DataFileError):
    """A file of AMASS that cannot be used; says why."""


@dataclass(frozen=True, eq=False)
class AmassFile:
    """One recording, in the axes and at the rate of its file."""

    rotmats: Float[Tensor, "t 24 3 3"]
    """SMPL's joints of its pose, float64; joint 0 turns into a world with z up."""
    trans_m: Float[Tensor, "t 3"]
    """Its translation: that of the pelvis, but for where the model has its pelvis."""
    fps: float
    """Frames per second."""
    betas: Float[Tensor, "k"]
    """The performer's shape (16 of SMPL+H; the first ten mean what SMPL's mean)."""
    gender: str
    """Whose model: "male", "female" or "neutral"."""


def load_amass(path: Path) -> AmassFile:
    """Read ``poses`` [t, 156 or 165], ``trans``, ``mocap_framerate``, ``betas``, ``gender``.

    Raises:
        AmassError: no such file, or a damaged one.
        OSError: it cannot be read.
    """
    try:
        table = plain_data(path, keys=_KEYS)
    except DataFileError as error:
        raise AmassError(f"{path}: {error}") from error
    missing = {"poses", "trans", "betas", "gender"} - set(table if isinstance(table, dict) else ())
    rate = next((k for k in _KEYS[-2:] if isinstance(table, dict) and k in table), None)
    if missing or rate is None:
        raise AmassError(
            f"{path}: got no {', '.join(sorted(missing)) or _KEYS[-2]}; expected a recording of "
            "AMASS; give the file as it was published"
        )
    fps = _numbers(path, table, rate, ())
    if not MIN_FPS <= float(fps) <= MAX_FPS:
        raise AmassError(
            f"{path}: {rate}: got {float(fps)}; expected {MIN_FPS:g} to {MAX_FPS:g}; get the file "
            "again"
        )
    poses = _numbers(path, table, "poses", (None, tuple(_HANDS)))
    rotvecs = torch.from_numpy(poses).unflatten(-1, (-1, 3))
    kept = [*range(22), *_HANDS[poses.shape[1]]]
    return AmassFile(
        rotmats=rotmat_from_axis_angle(rotvecs[:, kept]),
        trans_m=torch.from_numpy(_numbers(path, table, "trans", (len(poses), (3,)))),
        fps=float(fps),
        betas=torch.from_numpy(_numbers(path, table, "betas", (None,))),
        gender=_gender(path, table["gender"]),
    )


def read_amass(path: Path, *, fps: float = 30.0) -> Motion:
    """A recording as the motion of our body: y up, at another rate.

    The pelvis is where ``trans`` puts it: off by the place of the pelvis in the model, some 0.2 m
    aside and some centimetres high, the same in all frames.

    Args:
        path: the npz.
        fps: frames per second of the result; rotations are interpolated on their arcs.

    Raises:
        AmassError, OSError: see `load_amass`.
    """
    if not 0 < fps < float("inf"):
        raise AmassError(f"fps: got {fps}; expected a positive number")
    file = load_amass(path)
    rotmats = file.rotmats.clone()
    rotmats[:, 0] = _UPRIGHT @ rotmats[:, 0]
    trans = (file.trans_m @ _UPRIGHT.T)[:, None]
    rotmats, trans = at_rate(rotmats, trans, file.fps, fps)
    name = path.stem.removesuffix("_poses").removesuffix("_stageii")
    return Motion(
        rotmats.float(), trans[:, 0].float(), float(fps), name, name.rstrip("_0123456789")
    )


def amass_files(folder: Path) -> list[Path]:
    """The recordings in a folder and those below; a performer's ``shape.npz`` is none.

    Raises:
        AmassError: there are none.
    """
    shapes = ("shape.npz", "_stagei.npz")
    found = [path for path in sorted(folder.rglob("*.npz")) if not path.name.endswith(shapes)]
    if not found:
        raise AmassError(
            f"{folder}: got no .npz of a recording below it; expected AMASS's, as unpacked"
        )
    return found


def _numbers(
    path: Path, table: Mapping[str, Any], key: str, shape: tuple[int | tuple[int, ...] | None, ...]
) -> np.ndarray:
    """A field, float64 and finite; None in a shape is any length above 0."""
    array = np.asarray(table[key])
    wanted = all(
        n > 0 if want is None else n in (want if isinstance(want, tuple) else (want,))
        for n, want in zip(array.shape, shape)
    )
    if array.dtype.kind not in "iuf" or array.ndim != len(shape) or not wanted:
        expected = str(shape).replace("None", "any")
        raise AmassError(
            f"{path}: {key}: got {array.dtype} of shape {array.shape}; expected numbers of shape "
            f"{expected}; give the file as it was published"
        )
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise AmassError(f"{path}: {key}: got a number that is not finite; get the file again")
    return array


def _gender(path: Path, stored: Any) -> str:
    """Text, or bytes, in an array without axes."""
    try:
        value = stored.item() if isinstance(stored, np.ndarray) and stored.size == 1 else stored
    # What numpy raises for letters that Unicode does not have.
    except SystemError:
        value = None
    text = value.decode("latin1") if isinstance(value, bytes) else value
    if not isinstance(text, str) or text not in ("male", "female", "neutral"):
        raise AmassError(
            f"{path}: gender: got {str(text)[:40]!r}; expected male, female or neutral"
        )
    return text
