"""BVH files: text -> a skeleton and its motion, as the file has them.

A BVH file is a ``HIERARCHY`` (joints with an ``OFFSET`` from their parent and ``CHANNELS``, six or
three numbers a frame in any order), then ``MOTION``: ``Frames:``, ``Frame Time:`` and one line of
numbers a frame. The rotations of a joint are multiplied in the order of its channels and turn the
joint's children, in degrees.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from flowhmr.geometry import rotmat_from_axis_angle

AXES = "xyz"
# Frame times are written with few digits (0.0333333): rates this close to a whole number are it.
RATE_TOLERANCE = 1e-3
# A few frames that far apart would be interpolated to as many as memory does not hold.
MAX_FRAME_S = 10.0


class BvhError(ValueError):
    """A BVH file that cannot be used; says where and why."""


@dataclass(frozen=True, eq=False)
class BvhFile:
    """The content of a BVH file, in its own axes and unit of length."""

    names: tuple[str, ...]
    """Joints, parents before children; an End Site has the empty name."""
    parents: tuple[int, ...]
    """Each joint's parent; -1 for the root."""
    rotmats: Float[Tensor, "t j 3 3"]
    """Parent-relative rotations, float64."""
    offsets: Float[Tensor, "t j 3"]
    """Where each joint is in its parent's axes (the root: in the world), file units, float64."""
    fps: float
    """Frames per second."""


@dataclass(eq=False)
class _Joint:
    """A joint while its block is being read."""

    name: str
    parent: int
    offset: list[float] | None = None
    channels: tuple[str, ...] | None = None


def parse_bvh(path: Path) -> BvhFile:
    """Read a BVH file.

    Raises:
        BvhError: not a BVH file, or a damaged one; with the number of the line.
    """
    lines = _lines(path)
    marks = [i for i, line in enumerate(lines) if line.strip().upper().startswith("MOTION")]
    if not marks:
        raise BvhError(
            f"{path}: got no MOTION in {len(lines)} lines; expected it after the joints; "
            "the file is cut short: copy or export it again"
        )
    joints = _Hierarchy(path, lines[: marks[0]]).read()
    values, frame_time_s = _motion(path, lines, marks[0], joints)
    if frame_time_s > MAX_FRAME_S:
        raise BvhError(
            f"{path}: got {frame_time_s:g} seconds a frame; expected at most {MAX_FRAME_S:g}; "
            "correct 'Frame Time:', or export the file again"
        )
    rotmats, offsets = _pose(joints, torch.from_numpy(values))
    fps = 1 / frame_time_s
    if abs(fps - round(fps)) < RATE_TOLERANCE * fps and round(fps) > 0:
        fps = float(round(fps))
    names, parents = tuple(j.name for j in joints), tuple(j.parent for j in joints)
    return BvhFile(names, parents, rotmats, offsets, fps)


def _lines(path: Path) -> list[str]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BvhError(
            f"{path}: got {error.strerror or error}; expected a .bvh file; check its name"
        ) from error
    start = content[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()
    if b"\0" in content or not start.upper().startswith(b"HIERARCHY"):
        raise BvhError(
            f"{path}: line 1: got {start[:24]!r}; expected the word HIERARCHY; this is no BVH "
            "text file: export the motion as BVH"
        )
    return content.decode("utf-8-sig", errors="replace").splitlines()


class _Hierarchy:
    """Reads the words before ``MOTION``, one at a time."""

    def __init__(self, path: Path, lines: list[str]) -> None:
        spaced = (line.replace("{", " { ").replace("}", " } ") for line in lines)
        self.words = [(n, word) for n, line in enumerate(spaced, start=1) for word in line.split()]
        self.path, self.lines, self.place = path, lines, 1  # the first word is HIERARCHY
        self.joints: list[_Joint] = []

    def fail(self, got: str, expected: str) -> NoReturn:
        line = self.words[min(self.place, len(self.words)) - 1][0]
        raise BvhError(
            f"{self.path}: line {line}: got {got}; expected {expected}; the file is damaged: "
            "copy or export it again"
        )

    def word(self, expected: str) -> str:
        if self.place >= len(self.words):
            self.fail("the end of the joints", expected)
        self.place += 1
        return self.words[self.place - 1][1]

    def number(self) -> float:
        word = self.word("a number")
        try:
            value = float(word)
        except ValueError:
            value = np.nan
        return value if np.isfinite(value) else self.fail(repr(word), "a finite number")

    def read(self) -> list[_Joint]:
        stack: list[int] = []
        while self.place < len(self.words) or stack:
            expected = "JOINT, End Site, OFFSET, CHANNELS or }" if stack else "ROOT"
            key = self.word(expected).upper()
            if key == "}" and stack:
                closed = self.joints[stack.pop()]
                if closed.offset is None:
                    self.fail(f"no OFFSET of {closed.name or 'an End Site'}", "OFFSET x y z")
            elif key in (("JOINT", "END") if stack else ("ROOT",)):
                if key == "ROOT" and self.joints:
                    self.fail("a second ROOT", "one person; write one file a person")
                name = self.opened_name()
                self.joints.append(_Joint("" if key == "END" else name, stack[-1] if stack else -1))
                stack.append(len(self.joints) - 1)
            elif key == "OFFSET" and stack:
                self.joints[stack[-1]].offset = [self.number() for _ in range(3)]
            elif key == "CHANNELS" and stack:
                self.joints[stack[-1]].channels = self.channels()
            else:
                self.fail(repr(self.words[self.place - 1][1]), expected)
        if not self.joints:
            self.fail("no joints", "ROOT")
        return self.joints

    def opened_name(self) -> str:
        """The words up to the brace that opens a joint's block: a name may have spaces."""
        first = self.place
        while self.word("{") != "{":
            pass
        return " ".join(word for _, word in self.words[first : self.place - 1])

    def channels(self) -> tuple[str, ...]:
        count = self.word("a number of channels")
        if not (count.isdecimal() and int(count) <= 6):
            self.fail(f"{count!r} channels", "0 to 6")
        found = tuple(self.word(f"{count} channels").lower() for _ in range(int(count)))
        for name in found:
            if name[:1] not in AXES or name[1:] not in ("position", "rotation"):
                self.fail(f"channel {name!r}", f"{count} of Xposition, Yrotation and the like")
        return found


def _motion(
    path: Path, lines: list[str], mark: int, joints: list[_Joint]
) -> tuple[Float[np.ndarray, "t c"], float]:
    """The frames' numbers and the seconds between frames."""
    rows = [(n, line) for n, line in enumerate(lines[mark + 1 :], start=mark + 2) if line.strip()]
    frames = int(_field(path, rows, 0, "Frames:", int))
    frame_time_s = _field(path, rows, 1, "Frame Time:", float)
    width = sum(len(joint.channels or ()) for joint in joints)
    words = [(n, line.split()) for n, line in rows[2:]]
    for number, row in words:
        if len(row) != width:
            raise BvhError(
                f"{path}: line {number}: got {len(row)} numbers; expected {width}, one a channel; "
                "the file is cut short or damaged: copy or export it again"
            )
    if len(words) != frames:
        raise BvhError(
            f"{path}: line {rows[-1][0]}: got {len(words)} lines of frames; expected {frames} as "
            "'Frames:' says; the file is cut short, or that number is wrong: correct it"
        )
    try:
        values = np.array([row for _, row in words], np.float64).reshape(frames, width)
    except ValueError:
        values = np.array([[_float(word) for word in row] for _, row in words])
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        number, row = words[bad[0, 0]]
        raise BvhError(
            f"{path}: line {number}: got {row[bad[0, 1]]!r}; expected a finite number; delete the "
            "frame (and lower 'Frames:') or export the file again"
        )
    return values, frame_time_s


def _field(
    path: Path, rows: list[tuple[int, str]], place: int, key: str, kind: Callable[[str], float]
) -> float:
    """The positive number after ``Frames:`` or ``Frame Time:``."""
    number, line = rows[place] if place < len(rows) else (rows[-1][0] if rows else 0, "")
    text = " ".join(line.split())
    if text.lower().startswith(key.lower()):
        try:
            value = float(kind(text[len(key) :]))
        except ValueError:
            value = 0.0
        if 0 < value < np.inf:
            return value
    raise BvhError(
        f"{path}: line {number}: got {text[:40]!r}; expected '{key}' and a positive number; the "
        "file is cut short or holds no motion: export it again"
    )


def _float(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return np.nan


def _pose(
    joints: list[_Joint], values: Float[Tensor, "t c"]
) -> tuple[Float[Tensor, "t j 3 3"], Float[Tensor, "t j 3"]]:
    """Parent-relative rotations and places from the channels."""
    axes = torch.eye(3, dtype=torch.float64)
    rotmats = axes.expand(len(values), len(joints), 3, 3).clone()
    offsets = torch.tensor([j.offset for j in joints], dtype=torch.float64).repeat(
        len(values), 1, 1
    )
    column = 0
    for place, joint in enumerate(joints):
        moved = offsets[:, place].clone()
        for channel in joint.channels or ():
            axis, value = AXES.index(channel[0]), values[:, column]
            column += 1
            if channel.endswith("position"):
                moved[:, axis] = value
            else:
                turn = rotmat_from_axis_angle(torch.deg2rad(value)[:, None] * axes[axis])
                rotmats[:, place] = rotmats[:, place] @ turn
        # Most programs write a joint's place, which replaces its OFFSET; some write the way from
        # there. What lies nearer to the OFFSET is a place.
        away = (moved - offsets[:, place]).norm(dim=-1).median()
        if moved.norm(dim=-1).median() < away:
            moved += offsets[:, place]
        offsets[:, place] = moved
    return rotmats, offsets
