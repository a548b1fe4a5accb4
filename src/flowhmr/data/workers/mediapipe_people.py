"""Several people with networks that find and follow one: part of the MediaPipe worker.

Each person is followed from frame to frame by the square that the landmarks give for the next one.
New people are looked for in windows of the picture, one at a time: the detector's input has 224
pixels, and in a whole wide picture it sees the most prominent person at best.

Imports numpy only: it runs in the worker's environment, and in the tests without it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

EVERY = 4
"""Frames from one look for new people to the next, while somebody is followed. A look costs two
thirds of following a person; a wide picture has three large windows and eight small ones, seen in
turn."""
SURE_WHOLE = 0.5
"""Least score in the whole picture, MediaPipe's own."""
SURE_WINDOW = 0.75
"""Least score in a window of it: trees and signs got up to 0.7 there, people from 0.85."""
SAME_ROI = 0.1
"""Squares whose centres are closer than this, in sides of the larger one, hold the same person."""
SAME_BODY = 0.1
"""Bodies whose joints are closer than this (the median), in heights, are the same person."""


class Roi(NamedTuple):
    """A square around a body, turned so that the body stands upright in it."""

    x_px: float
    """Its centre."""
    y_px: float
    side_px: float
    """Its side; with the room that the landmark network wants, about 1.4 times a standing body."""
    turn_rad: float
    """Its rotation, clockwise in the picture."""


class Window(NamedTuple):
    """A part of the picture, in whole pixels."""

    left: int
    top: int
    right: int
    bottom: int


Find = Callable[[np.ndarray], "list[tuple[Roi, float]]"]
"""The people in an image ``[h, w, 3]`` and their scores."""
Follow = Callable[[np.ndarray, Roi], "tuple[np.ndarray, Roi] | None"]
"""Keypoints ``[k, 3]`` (x, y in px, confidence) of the body in a square of an image, and the
square for the next frame; None where there is no body."""


@dataclass(frozen=True, eq=False)
class Person:
    """Somebody who is followed."""

    roi: Roi
    """Where to look in the next frame."""
    keypoints_px: np.ndarray
    """Last seen ``[k, 3]``: x, y, confidence."""
    step_px: np.ndarray
    """Their motion ``[k, 2]`` from the frame before."""
    surprise: float
    """How far they have lately been from where they were expected, in heights. Large for who is
    new, and for who has jumped onto somebody else."""

    def moved(self, keypoints_px: np.ndarray, roi: Roi) -> "Person":
        """The same person one frame later."""
        step_px = keypoints_px[:, :2] - self.keypoints_px[:, :2]
        off = float(np.median(np.linalg.norm(step_px - self.step_px, axis=1)))
        surprise = 0.8 * self.surprise + off / _height_px(self.keypoints_px)
        return Person(roi, keypoints_px, step_px, surprise)


class People:
    """Who is in a frame, given the frames before it.

    Args:
        find: looks for people in an image.
        follow: looks at one of them.
        most: people followed at a time.
    """

    def __init__(self, find: Find, follow: Follow, most: int):
        self.find = find
        self.follow = follow
        self.most = most
        self.followed: "list[Person]" = []
        self._frames = 0
        self._looks = 0

    def __call__(self, image: np.ndarray) -> "list[np.ndarray]":
        """Keypoints ``[k, 3]`` of those in an image ``[h, w, 3]``, longest followed first."""
        here: "list[Person]" = []
        lost: "list[Roi]" = []
        for person in self.followed:
            seen = self._look_at(image, person.roi)
            if seen is None:
                lost.append(person.roi)
            else:
                here.append(person.moved(*seen))
        here = without_doubles(here)
        if len(here) < self.most:
            self._look_around(image, here, lost)
        self.followed = here
        self._frames += 1
        return [person.keypoints_px for person in here]

    def look_afresh(self, image: np.ndarray) -> "list[np.ndarray]":
        """The same for an image that has nothing to do with those before it."""
        self.followed, self._frames = [], 0
        return self(image)

    def _look_at(self, image: np.ndarray, roi: Roi) -> "tuple[np.ndarray, Roi] | None":
        # MediaPipe's graph does not survive a square without an area.
        if not all(np.isfinite(roi)) or roi.side_px < 4:
            return None
        return self.follow(image, roi)

    def _look_around(self, image: np.ndarray, here: "list[Person]", lost: "list[Roi]") -> None:
        size_px = (image.shape[1], image.shape[0])
        found = []
        for window, least in self._due(size_px, not here, lost):
            part = image[window.top : window.bottom, window.left : window.right]
            for roi, score in self.find(np.ascontiguousarray(part)):
                if score >= least:
                    inside = roi._replace(x_px=roi.x_px + window.left, y_px=roi.y_px + window.top)
                    found.append((score, inside))
        for _, roi in sorted(found, reverse=True):
            if len(here) == self.most:
                return
            if any(_same_roi(roi, person.roi) for person in here):
                continue
            seen = self._look_at(image, roi)
            if seen is not None and not any(same_body(seen[0], p.keypoints_px) for p in here):
                keypoints_px, after = seen
                here.append(Person(after, keypoints_px, np.zeros_like(keypoints_px[:, :2]), 1.0))

    def _due(
        self, size_px: "tuple[int, int]", alone: bool, lost: "list[Roi]"
    ) -> "Iterator[tuple[Window, float]]":
        """The windows to look at now, with the least scores there."""
        whole, large, small = windows_of(size_px)
        if self._frames == 0:
            yield whole, SURE_WHOLE
            yield from ((window, SURE_WINDOW) for window in large + small)
            return
        for roi in lost:
            window = around(roi, size_px)
            if window is not None:
                yield window, SURE_WHOLE
        if alone and self._frames % 2:
            yield whole, SURE_WHOLE
        elif alone or self._frames % EVERY == 0:
            # Large and small ones in turn: there are more small ones, for people who are rarer.
            windows = small if self._looks % 2 else large
            yield windows[self._looks // 2 % len(windows)], SURE_WINDOW
            self._looks += 1


def windows_of(size_px: "tuple[int, int]") -> "tuple[Window, list[Window], list[Window]]":
    """The whole picture, squares of its shorter side, and squares of two thirds of that.

    Neighbours overlap by a third or more, so that people of up to that size are whole in one.
    """
    width, height = size_px
    short = min(size_px)
    layers = []
    for side in (short, max(1, round(short * 2 / 3))):
        lefts, tops = _starts(width, side), _starts(height, side)
        layers.append([Window(x, y, x + side, y + side) for x in lefts for y in tops])
    return Window(0, 0, width, height), layers[0], layers[1]


def around(roi: Roi, size_px: "tuple[int, int]") -> "Window | None":
    """The window for one who was lost there; None outside the picture."""
    if not all(np.isfinite(roi)):
        return None
    half = 0.65 * roi.side_px
    left, right = (int(np.clip(roi.x_px + d, 0, size_px[0])) for d in (-half, half))
    top, bottom = (int(np.clip(roi.y_px + d, 0, size_px[1])) for d in (-half, half))
    return Window(left, top, right, bottom) if min(right - left, bottom - top) >= 16 else None


def without_doubles(people: "list[Person]") -> "list[Person]":
    """Of those who are on the same body only the one who moved there as expected."""
    kept: "list[Person]" = []
    for person in sorted(people, key=lambda p: p.surprise):
        if not any(same_body(person.keypoints_px, other.keypoints_px) for other in kept):
            kept.append(person)
    return [person for person in people if person in kept]


def same_body(a_px: np.ndarray, b_px: np.ndarray) -> bool:
    """Whether two sets of keypoints ``[k, 3]`` lie on each other."""
    apart_px = np.median(np.linalg.norm(a_px[:, :2] - b_px[:, :2], axis=1))
    return bool(apart_px < SAME_BODY * max(_height_px(a_px), _height_px(b_px)))


def _same_roi(a: Roi, b: Roi) -> bool:
    apart_px = np.hypot(a.x_px - b.x_px, a.y_px - b.y_px)
    return bool(apart_px < SAME_ROI * max(a.side_px, b.side_px))


def _height_px(keypoints_px: np.ndarray) -> float:
    """The longer side of the box around them, at least a pixel."""
    return float(max(1.0, np.ptp(keypoints_px[:, :2], axis=0).max()))


def _starts(length: int, side: int) -> "list[int]":
    count = int(np.ceil((length - side) / (0.66 * side))) + 1
    return [round(start) for start in np.linspace(0, length - side, count)]
