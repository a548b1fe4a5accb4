"""TRAM: ``camera.npy`` and ``hps/hps_track_*.npy`` in the folder of a video."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from flowhmr.cameras import PerspectiveCamera
from flowhmr.capture.results.fields import checked_rotmats, columns, field, numbers, record
from flowhmr.capture.results.track import ForeignTrack, ResultFileError


def is_tram(data: Any) -> bool:
    """Whether this is a track of TRAM's."""
    return isinstance(data, dict) and {"pred_rotmat", "pred_trans", "frame"} <= set(data)


def tram_files(folder: Path) -> list[Path]:
    """The tracks in the folder of a video, or in its ``hps``; none where it is no such folder."""
    found = {
        file.stem: file
        for ending in ("npy", "npz")
        for place in (folder / "hps", folder)
        for file in place.glob(f"hps_track_*.{ending}")
    }
    return sorted(found.values(), key=lambda file: (_number(file), file.name))


def tram_track(
    data: dict[Any, Any], path: Path, size_px: tuple[int, int], load: Callable[[Path], Any]
) -> ForeignTrack:
    """One track; TRAM's camera is looked for beside it and in the folder above.

    Args:
        data: what the file holds.
        path: the track's file; ``k`` of ``hps_track_k`` is the person's number.
        size_px: width and height of the video's images.
        load: what reads ``camera.npy`` or ``camera.npz``.
    """
    camera = record(load(_camera_file(path)), "camera")
    middle = numbers([field(camera, "img_center", "camera")], "img_center", 2)
    if bool((2 * middle - torch.tensor(size_px)).abs().gt(2).any()):
        raise ResultFileError(
            f"camera: got an image centre of {middle[0].tolist()}; expected half of {size_px[0]} x "
            f"{size_px[1]}; give the video that the tool was run on"
        )
    focal_px = numbers([field(camera, "img_focal", "camera")], "img_focal")
    rows = columns(data, path.name, "frame")
    count = len(rows.frame_indices)
    return ForeignTrack(
        tool="tram",
        person=max(_number(path), 0),
        frame_indices=rows.frame_indices,
        rotmats=checked_rotmats(rows.numbers("pred_rotmat", 24, 3, 3), f"{path.name}, pred_rotmat"),
        betas=rows.betas("pred_shape"),
        translation_m=rows.numbers("pred_trans", 3).float(),
        camera=PerspectiveCamera(
            focal_px.float().expand(count).clone(), middle.float().expand(count, 2).clone()
        ),
    )


def _number(path: Path) -> int:
    digits = re.search(r"(\d+)$", path.stem)
    return int(digits[1]) if digits else -1


def _camera_file(path: Path) -> Path:
    for folder in (path.parent, path.parent.parent):
        for name in ("camera.npy", "camera.npz"):
            if (folder / name).exists():
                return folder / name
    raise ResultFileError(
        "got a track of TRAM's without camera.npy beside it or in the folder above; expected its "
        "focal length there; give TRAM's whole folder of the video"
    )
