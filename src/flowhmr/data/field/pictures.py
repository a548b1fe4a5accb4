"""The pictures of a data set: read by the names that its files have for them, and cut to crops."""

from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from flowhmr.cameras import crop_from_box, warp_image
from flowhmr.data.field.frames import FieldError
from flowhmr.files import DataFileError, path_inside
from flowhmr.geometry import pick
from flowhmr.records import Clip


def read_picture(folder: Path, name: str, where: str) -> UInt8[np.ndarray, "h w 3"]:
    """A picture, RGB, turned by no EXIF: labels belong to the pixels as they are stored.

    Args:
        folder: what the name is below.
        name: as the set's files have it.
        where: which row of what, for messages.

    Raises:
        FieldError: it is not there, leads out of the folder, or is no picture.
    """
    try:
        path = path_inside(folder, name)
    except DataFileError as error:
        raise FieldError(f"{where}: {error}") from error
    image = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise FieldError(f"{path}: got no picture; expected one; check the folder of pictures")
    return np.ascontiguousarray(image[..., ::-1]).astype(np.uint8, copy=False)


def clip_of_pictures(
    folder: Path, names: tuple[str, ...], boxes_px: Float[Tensor, "t 4"], size_px: int
) -> Clip:
    """A person's crops, one picture at a time in memory; no labels.

    Args:
        folder: what the names are below.
        names: of the pictures.
        boxes_px: the person's boxes (x, y, w, h) in them.
        size_px: of the crops.

    Raises:
        FieldError: as `read_picture`.
    """
    crops = crop_from_box(boxes_px, size_px)
    frames = torch.empty(len(names), 3, size_px, size_px, dtype=torch.uint8)
    for row, name in enumerate(names):
        image = warp_image(read_picture(folder, name, name), pick(crops, row))
        frames[row] = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    return Clip(frames, crops, labels=None, flow=None)
