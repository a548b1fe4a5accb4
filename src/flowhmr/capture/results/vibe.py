"""VIBE, TCMR and PARE: one layout (``vibe_output.pkl`` and so on, written by joblib)."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from flowhmr.cameras import Crop, WeakCamera
from flowhmr.capture.results.fields import columns, whole_number
from flowhmr.capture.results.track import CROP_PX, ForeignTrack, ResultFileError, Tool

TCMR_BOX = 1.2
"""TCMR stores its detector's boxes times this, which are its windows."""


def is_vibe(entry: Mapping[Any, Any]) -> bool:
    """Whether this is a person of such a file."""
    return {"pose", "betas", "bboxes", "frame_ids"} <= set(entry) and bool(
        {"orig_cam", "pred_cam"} & set(entry)
    )


def vibe_tracks(people: dict[Any, Any], size_px: tuple[int, int], name: str) -> list[ForeignTrack]:
    """People of such a file.

    Args:
        people: person -> his arrays.
        size_px: width and height of the video's images.
        name: the file's name: VIBE's and TCMR's contents do not differ, but the boxes do.
    """
    tracks = []
    for number, entry in people.items():
        where = f"person {number}"
        rows = columns(entry, where, "frame_ids")
        tool = _tool(rows.entry, name)
        boxes = rows.numbers("bboxes", 4)
        if not bool((boxes[:, 2:] > 0).all()):
            raise ResultFileError(f"{where}: got boxes without area; expected cx, cy, w, h")
        if rows.entry.get("orig_cam") is not None:
            params = crop_from_orig_camera(rows.numbers("orig_cam", 4), boxes, size_px, where)
        else:
            params = scaled_shift(rows.numbers("pred_cam", 3))
        wide = boxes[:, 2:] / (TCMR_BOX if tool == "tcmr" else 1.0)
        track = ForeignTrack(
            tool=tool,
            person=whole_number(number, where),
            frame_indices=rows.frame_indices,
            rotmats=rows.axis_angle("pose"),
            betas=rows.betas("betas"),
            weak_camera=WeakCamera(params.float()),
            crop=window(boxes[:, :2], boxes[:, 2]),
            boxes_px=torch.cat([boxes[:, :2] - wide / 2, wide], -1).float(),
        )
        tracks.append(track)
    return tracks


def _tool(entry: Mapping[Any, Any], name: str) -> Tool:
    if "smpl_joints2d" in entry:
        return "pare"
    return "tcmr" if "tcmr" in name.lower() else "vibe"


def window(centre_px: Float[Tensor, "t 2"], side_px: Float[Tensor, "t"]) -> Crop:
    """Upright square windows."""
    still = torch.zeros_like(side_px).float()
    return Crop(centre_px.float(), side_px.float(), still, still, CROP_PX)


def scaled_shift(found: Float[Tensor, "t 3"]) -> Float[Tensor, "t 3"]:
    """HMR's (s, tx, ty), where ``u = s (X + tx)``, as ours, where ``u = s X + tx``."""
    return torch.cat([found[:, :1], found[:, :1] * found[:, 1:]], -1)


def crop_from_orig_camera(
    found: Float[Tensor, "t 4"],
    boxes: Float[Tensor, "t 4"],
    size_px: tuple[int, int],
    where: str,
) -> Float[Tensor, "t 3"]:
    """The camera of the whole image, ``u = ((sx (X + tx)) + 1) / 2 * W``, as one of the box.

    Args:
        found: (sx, sy, tx, ty) of the tool.
        boxes: (cx, cy, w, h) in pixels, w the side of the window.
        size_px: (W, H).
        where: for messages.

    Raises:
        ResultFileError: the image that the tool saw had another shape.
    """
    size = torch.tensor(size_px, dtype=found.dtype)
    per_metre = found[:, :2] * size
    if not torch.allclose(per_metre[:, 0], per_metre[:, 1], rtol=1e-3):
        ratio = float((found[:, 1] / found[:, 0]).median())
        raise ResultFileError(
            f"{where}: got a camera for images of {ratio:.4g} times as wide as high; expected "
            f"{size_px[0]} x {size_px[1]}; give the video that the tool was run on, turned as it "
            "was there"
        )
    side = boxes[:, 2:3]
    shift = (found[:, :2] * found[:, 2:] * size + size - 2 * boxes[:, :2]) / side
    return torch.cat([per_metre[:, :1] / side, shift], -1)
