"""The pictures of a data set: read by the names that its files have for them, and cut to crops."""

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from flowhmr.cameras import crop_from_box, warp_image
from flowhmr.data.field.frames import FieldError
from flowhmr.data.video import open_video
from flowhmr.data.video_decode import VideoError
from flowhmr.files import DataFileError, path_inside
from flowhmr.geometry import pick
from flowhmr.records import Clip

VIDEO_KINDS = (".mp4", ".avi", ".mov", ".mkv", ".webm")
"""Names of videos end so: a row then is one of the frames of a file."""


def read_picture(folder: Path, name: str, where: str, frame: int = 0) -> UInt8[np.ndarray, "h w 3"]:
    """A picture, RGB, turned by no EXIF: labels belong to the pixels as they are stored.

    Args:
        folder: what the name is below.
        name: as the set's files have it: of a picture, or of a video.
        where: which row of what, for messages.
        frame: of a video.

    Raises:
        FieldError: it is not there, leads out of the folder, or is no picture.
    """
    path = picture_path(folder, name, where)
    if path.suffix.lower() in VIDEO_KINDS:
        frames = _video(path)
        if frame >= len(frames):
            raise FieldError(
                f"{path}: got no frame {frame} of {len(frames)}; expected it; copy the video again"
            )
        return frames[frame]
    image = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise FieldError(f"{path}: got no picture; expected one; check the folder of pictures")
    return np.ascontiguousarray(image[..., ::-1]).astype(np.uint8, copy=False)


def picture_path(folder: Path, name: str, where: str) -> Path:
    """The file of a picture or video; see `read_picture`.

    Raises:
        FieldError: it is not there, or leads out of the folder.
    """
    try:
        return path_inside(folder, name)
    except DataFileError as error:
        raise FieldError(f"{where}: {error}") from error


@lru_cache(2)
def _video(path: Path) -> list[UInt8[np.ndarray, "h w 3"]]:
    """All frames of a clip: they are asked for one by one."""
    try:
        with open_video(path) as video:
            return [frame.image for frame in video.read()]
    except (VideoError, OSError) as error:
        raise FieldError(f"{path}: got {error}; expected a video") from error


def clip_of_pictures(
    folder: Path,
    names: tuple[str, ...],
    frame_indices: Int[Tensor, "t"],
    boxes_px: Float[Tensor, "t 4"],
    size_px: int,
) -> Clip:
    """A person's crops, one picture at a time in memory; no labels.

    Args:
        folder: what the names are below.
        names: of the pictures, or of the video.
        frame_indices: which frames of the video these are.
        boxes_px: the person's boxes (x, y, w, h) in them.
        size_px: of the crops.

    Raises:
        FieldError: as `read_picture`.
    """
    crops = crop_from_box(boxes_px, size_px)
    frames = torch.empty(len(names), 3, size_px, size_px, dtype=torch.uint8)
    for row, name in enumerate(names):
        picture = read_picture(folder, name, name, int(frame_indices[row]))
        image = warp_image(picture, pick(crops, row))
        frames[row] = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    return Clip(frames, crops, labels=None, flow=None)
