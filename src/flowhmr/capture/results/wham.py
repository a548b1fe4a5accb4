"""WHAM: ``wham_output.pkl``, written by joblib."""

import math
from typing import Any

import torch

from flowhmr.cameras import PerspectiveCamera
from flowhmr.capture.results.fields import columns, whole_number
from flowhmr.capture.results.track import ForeignTrack


def is_wham(entry: dict[Any, Any]) -> bool:
    """Whether this is a person of such a file."""
    return {"pose", "trans", "betas", "frame_ids"} <= set(entry) and "bboxes" not in entry


def wham_tracks(people: dict[Any, Any], size_px: tuple[int, int]) -> list[ForeignTrack]:
    """People of such a file, in camera axes (world pose and trajectory are left out).

    The file does not hold the camera. WHAM takes the image's diagonal for the focal length unless
    it was given a calibration; so does this.
    """
    tracks = []
    for number, entry in people.items():
        where = f"person {number}"
        rows = columns(entry, where, "frame_ids")
        track = ForeignTrack(
            tool="wham",
            person=whole_number(number, where),
            frame_indices=rows.frame_indices,
            rotmats=rows.axis_angle("pose"),
            betas=rows.betas("betas"),
            translation_m=rows.numbers("trans", 3).float(),
            camera=centred_camera(math.hypot(*size_px), size_px, len(rows.frame_indices)),
        )
        tracks.append(track)
    return tracks


def centred_camera(focal_px: float, size_px: tuple[int, int], count: int) -> PerspectiveCamera:
    """The same camera in all frames, looking at the image's middle."""
    middle = torch.tensor(size_px, dtype=torch.float32) / 2
    return PerspectiveCamera(torch.full((count,), focal_px), middle.expand(count, 2).clone())
