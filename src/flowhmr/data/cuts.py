"""Where a video cuts to another shot.

A cut is where hardly any part of the picture can be found again in the next one, wherever it may
have moved to. A pan moves all parts alike, a person who passes the camera leaves the others where
they were, and correlation of what is finer than light and shade sees no change of exposure.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from flowhmr.data.boxes import PersonTrack
from flowhmr.data.video import VideoFrame

LONG_PX = 128
"""Longer side of the small grey pictures that are compared."""
PART_PX = 16
"""Side of the square parts that are looked for."""
ALIKE = 0.8
"""Correlation of whole pictures above which they are of one shot and no part is looked for."""
FOUND = 0.6
"""Correlation at which a part counts as found."""
TOGETHER_PX = 6
"""Found parts must have moved as others did, to within this: in another shot, what is found by
chance is found anywhere."""
CUT_SHARE = 0.25
"""A smaller share of the parts found together is another shot. Between shots it was at most 0.13;
within one at least 0.32 for pans by a third of the picture, zooms by a fifth and turns by 5 degrees
a frame. A pan that starts at once with a blur of a sixth of the picture falls below."""
SETTLE_FRAMES = 3
"""A shot lasts longer than this: odd frames between frames of one shot are a flash, and pictures
that keep changing are a whip pan, or noise."""

_MIN_DEVIATION = 3.0
_MIN_PARTS = 4
_FLAT_STEP = 25.0


class CutFinder:
    """Finds cuts while the frames go by; holds two small pictures.

    A cut is known `SETTLE_FRAMES` after it; there is none in the last frames.
    """

    def __init__(self) -> None:
        self.cuts: list[int] = []
        """Frame numbers where a new shot begins."""
        self._last: _Small | None = None
        self._calm = True
        self._change: _Change | None = None

    def see(self, frame: VideoFrame) -> None:
        """Take the next frame."""
        last, new = self._last, _Small.of(frame.image)
        self._last = new
        if last is None:
            return
        changed = _found_share(last, new) < CUT_SHARE
        change = self._change
        if change is not None and _found_share(change.before, new) >= CUT_SHARE:
            self._change, changed = None, False  # back in the shot from before: a flash
        elif change is None:
            if changed and self._calm:
                self._change = _Change(last, frame.index, frame.index)
        elif changed:
            lasts = frame.index - change.began
            self._change = replace(change, at=frame.index) if lasts < SETTLE_FRAMES else None
        elif frame.index - change.at == SETTLE_FRAMES:
            self.cuts.append(change.at)
            self._change = None
        self._calm = not changed


def find_cuts(video: Iterable[VideoFrame]) -> list[int]:
    """Frame numbers where a new shot begins, in one pass with bounded memory.

    Dissolves are no cuts, nor is a jump of somebody before a camera that stays.

    Args:
        video: its frames, in order.
    """
    finder = CutFinder()
    for frame in video:
        finder.see(frame)
    return finder.cuts


def split_at_cuts(tracks: Sequence[PersonTrack], cuts: Sequence[int]) -> list[PersonTrack]:
    """Tracks that end at cuts; who follows is somebody else, with a number above all others.

    For boxes and keypoints of files, whose numbers may run on across a cut.

    Args:
        tracks: any.
        cuts: frames that begin a new shot.
    """
    edges = torch.tensor(sorted(cuts), dtype=torch.long)
    number = max((track.person for track in tracks), default=-1)
    parts = []
    for track in tracks:
        shots = torch.searchsorted(edges, track.frame_indices, right=True)
        for shot in shots.unique().tolist():
            rows = shots == shot
            person = track.person
            if shot != int(shots[0]):
                person = number = number + 1
            keypoints_px = track.keypoints_px
            part = PersonTrack(
                person,
                track.frame_indices[rows],
                track.boxes_px[rows],
                track.confidence[rows],
                None if keypoints_px is None else keypoints_px[rows],
            )
            parts.append(part)
    return parts


@dataclass(frozen=True, eq=False)
class _Small:
    """What is compared of a picture."""

    grey: Float[np.ndarray, "h w"]
    fine: Float[np.ndarray, "h w"]
    """Without what is coarser than a part."""

    @staticmethod
    def of(image: UInt8[np.ndarray, "h w 3"]) -> "_Small":
        zoom = LONG_PX / max(image.shape[:2])
        width, height = (max(PART_PX, round(side * zoom)) for side in image.shape[1::-1])
        if zoom < 1 / 4:  # means of 16 pixels a pixel say enough, in a tenth of the time
            image = cv2.resize(image, (4 * width, 4 * height), interpolation=cv2.INTER_NEAREST)
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
        return _Small(grey, grey - cv2.GaussianBlur(grey, (0, 0), PART_PX / 2))

    def parts(self) -> list[tuple[int, int]]:
        """Left and top of the parts that something can be recognised in."""
        height, width = self.fine.shape
        return [
            (x, y)
            for y in range(0, height - PART_PX + 1, PART_PX)
            for x in range(0, width - PART_PX + 1, PART_PX)
            if self.fine[y : y + PART_PX, x : x + PART_PX].std() >= _MIN_DEVIATION
        ]


@dataclass(frozen=True, eq=False)
class _Change:
    """What may turn out to be a cut."""

    before: _Small
    began: int
    at: int
    """First frame of the new shot, as far as is known."""


def _found_share(before: _Small, after: _Small) -> float:
    """Share of the parts of one picture that are in the other, all moved about alike."""
    a, b = before.fine, after.fine
    if a.shape != b.shape:
        return 0.0
    if float((a * b).sum()) > ALIKE * np.sqrt(float((a * a).sum()) * float((b * b).sum())) > 0:
        return 1.0
    parts, wanted, where = before.parts(), a, b
    if len(parts) < _MIN_PARTS:  # black, or sky: look for what is new
        parts, wanted, where = after.parts(), b, a
    if len(parts) < _MIN_PARTS:
        return float(abs(before.grey.mean() - after.grey.mean()) < _FLAT_STEP)
    moved = []
    for x, y in parts:
        part = wanted[y : y + PART_PX, x : x + PART_PX]
        _, best, _, place = cv2.minMaxLoc(cv2.matchTemplate(where, part, cv2.TM_CCOEFF_NORMED))
        if best >= FOUND:
            moved.append((place[0] - x, place[1] - y))
    if not moved:
        return 0.0
    steps = np.array(moved)
    together = (abs(steps[:, None] - steps[None]) <= TOGETHER_PX).all(-1).sum(1).max()
    return float(together - 1) / (len(parts) - 1)  # one alone is together with nothing
