"""How the camera turns, from what stands still around a person: whether a foot slides shows there.

Corners of the picture outside the people are followed from frame to frame (Lucas and Kanade). A
camera that only turns moves them all as one rotation does; one that also travels moves near ones
more than far ones. What matters to a foot is the ground that it stands on: so it is asked how well
the rotation explains the corners close to the person.
"""

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from flowhmr.cameras import PerspectiveCamera, px_from_opencv
from flowhmr.data import Journal, PersonTrack, VideoFrame, packed, unpacked

SIDE_PX = 640
"""The longer side of the pictures in which corners are followed."""
CORNERS = 200
LEAST = 12
"""Fewer corners than this say nothing."""
STILL_PX = 0.75
"""A corner this close to where the rotation puts it is explained, pixels of those pictures."""
AROUND = (0.6, 0.3)
"""How far beside a person's box, and below it, the ground is asked; in the box's larger side."""


@dataclass(frozen=True, eq=False)
class GroundMotion:
    """How the video's camera moves about a person, for each of the person's frames."""

    turns: Float[Tensor, "t 3 3"]
    """Turn camera axes of the frame into those of the video's next frame."""
    steady: Float[Tensor, "t"]
    """How much of the ground beside the person moves as that turn says, 0..1; 0 where nothing is
    known, as in the last frame."""


class GroundWatcher:
    """Told every frame of a video, says how its camera turned.

    Args:
        tracks: people; what they cover is not looked at.
        camera: of the video, pixels of the image.
        journal: of the same video, people and camera; what is in it is not looked at again.
    """

    def __init__(
        self,
        tracks: list[PersonTrack],
        camera: PerspectiveCamera,
        journal: Journal | None = None,
    ):
        self.tracks, self.camera = tracks, camera
        self._journal = Journal(None, {}) if journal is None else journal
        self._rows = [{int(f): r for r, f in enumerate(t.frame_indices)} for t in tracks]
        eye = torch.eye(3)
        self._turns = [eye.repeat(len(t.frame_indices), 1, 1) for t in tracks]
        self._steady = [torch.zeros(len(t.frame_indices)) for t in tracks]
        self._before: tuple[int, np.ndarray] | None = None

    def see(self, frame: VideoFrame) -> None:
        """The next frame, in order."""
        zoom = SIDE_PX / max(frame.image.shape[:2])
        small = _grey(frame.image, zoom)
        if self._before is not None and self._before[0] == frame.index - 1:
            row = self._journal.row(frame.index - 1)
            if row is None:
                row = self._between(self._before[1], small, zoom, frame.index - 1)
                self._journal.add(frame.index - 1, row)
            for number, told in row.items():
                values, at = unpacked(told, 10), self._rows[int(number)][frame.index - 1]
                self._turns[int(number)][at] = values[:9].view(3, 3)
                self._steady[int(number)][at] = values[9]
        self._before = frame.index, small

    def motion(self, number: int) -> GroundMotion:
        """About the track of this number in the list."""
        return GroundMotion(self._turns[number], self._steady[number])

    def _between(
        self, before: np.ndarray, after: np.ndarray, zoom: float, frame: int
    ) -> dict[str, str]:
        """For each person in the frame: the turn, and how much of the ground makes it."""
        boxes_px = [
            (number, self.tracks[number].boxes_px[rows[frame]])
            for number, rows in enumerate(self._rows)
            if frame in rows
        ]
        if not boxes_px:
            return {}
        pairs_px = _followed(before, after, _outside(before, [b * zoom for _, b in boxes_px]))
        if len(pairs_px) < LEAST:
            return {}
        turn, off_px = _turn_between(pairs_px / zoom, self.camera)
        still = off_px * zoom < STILL_PX
        told: dict[str, str] = {}
        for number, box_px in boxes_px:
            near = _beside(pairs_px[:, 0] / zoom, box_px)
            asked = still[near] if int(near.sum()) >= LEAST else still
            told[str(number)] = packed(torch.cat([turn.flatten(), asked.float().mean()[None]]))
        return told


def _grey(image: UInt8[np.ndarray, "h w 3"], zoom: float) -> UInt8[np.ndarray, "h2 w2"]:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)


def _outside(picture: np.ndarray, boxes_px: list[Tensor]) -> UInt8[np.ndarray, "h w"]:
    mask = np.full_like(picture, 255)
    for box_px in boxes_px:
        x, y, w, h = box_px.tolist()
        # Boxes end at the outermost keypoints; hands and feet reach further.
        low, high = (x - 0.1 * w, y - 0.1 * h), (x + 1.1 * w, y + 1.1 * h)
        cv2.rectangle(mask, [round(v) for v in low], [round(v) for v in high], 0, -1)
    return mask


def _followed(before: np.ndarray, after: np.ndarray, mask: np.ndarray) -> Float[Tensor, "n 2 2"]:
    """Corners in both pictures, pixels: those that are found back where they came from."""
    corners = cv2.goodFeaturesToTrack(before, CORNERS, 0.01, 8, mask=mask)
    if corners is None:
        return torch.zeros(0, 2, 2)
    window = {"winSize": (15, 15), "maxLevel": 3}
    there, found, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, None, **window)  # pyright: ignore[reportCallIssue, reportArgumentType]
    back, refound, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None, **window)  # pyright: ignore[reportCallIssue, reportArgumentType]
    returns = np.linalg.norm(back - corners, axis=-1)[:, 0] < 0.5
    kept = (found[:, 0] > 0) & (refound[:, 0] > 0) & returns
    return px_from_opencv(torch.from_numpy(np.concatenate([corners, there], 1)[kept]))


def _turn_between(
    pairs_px: Float[Tensor, "n 2 2"], camera: PerspectiveCamera
) -> tuple[Float[Tensor, "3 3"], Float[Tensor, "n"]]:
    """The rotation that most corners agree on, and how far each is from it in pixels."""
    import roma

    _, agreed = cv2.estimateAffinePartial2D(
        *np.ascontiguousarray(pairs_px.transpose(0, 1)), method=cv2.RANSAC,
        ransacReprojThreshold=float(camera.focal_px) * 1.5e-3,
    )  # fmt: skip
    away = (pairs_px - camera.centre_px) / camera.focal_px
    rays = torch.cat([away, torch.ones_like(away[..., :1])], -1).double()
    rays = rays / rays.norm(dim=-1, keepdim=True)
    sure = torch.from_numpy(agreed[:, 0] > 0) if agreed is not None else torch.ones(len(rays)) > 0
    turn = cast(Tensor, roma.rigid_vectors_registration(rays[sure, 0], rays[sure, 1]))
    seen = camera.project((rays[:, 0] @ turn.mT).float())[..., :2]
    return turn.float(), (seen - pairs_px[:, 1]).norm(dim=-1)


def _beside(points_px: Float[Tensor, "n 2"], box_px: Float[Tensor, "4"]) -> Tensor:
    """Which points are on the ground about the person: beside the legs, and below the feet."""
    x, y, w, h = box_px.tolist()
    side = max(w, h)
    beside, below = AROUND[0] * side, AROUND[1] * side
    low = points_px.new_tensor([x - beside, y + 0.5 * h])
    high = points_px.new_tensor([x + w + beside, y + h + below])
    return ((points_px >= low) & (points_px < high)).all(-1)
