"""Tables with one row a person and picture: fields by name, checked where they are read."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from flowhmr.data.field.frames import BOX_MARGIN, FieldError
from flowhmr.files import DataFileError, plain_data
from flowhmr.geometry import rotmat_from_axis_angle

GENDERS = {"m": "male", "f": "female", "n": "neutral", "male": "male", "female": "female"}
GENDERS |= {"neutral": "neutral"}


def load_table(path: Path, keys: Collection[str] | None = None) -> Mapping[str, Any]:
    """The dict in a file, see `flowhmr.files.plain_data`.

    Raises:
        FieldError: it cannot be read, or holds something else.
    """
    try:
        table = plain_data(path, keys=keys)
    except DataFileError as error:
        raise FieldError(f"{path}: {error}") from error
    except OSError as error:
        raise FieldError(f"{path}: got {error}; expected a file; check its name") from error
    if not isinstance(table, dict):
        raise FieldError(f"{path}: got a {type(table).__name__}; expected a dict of arrays")
    return table


@dataclass(frozen=True, eq=False)
class Columns:
    """Fields of one table."""

    path: Path
    """Where they are from."""
    table: Mapping[str, Any]
    """Field by name."""
    count: int
    """How many rows each has."""

    def has(self, key: str) -> bool:
        """Whether there is such a field."""
        return self.table.get(key) is not None

    def error(self, key: str, got: str, expected: str, remedy: str = "") -> FieldError:
        """What to raise for a field."""
        remedy = remedy or "give the file as it was published"
        return FieldError(f"{self.path}: {key}: got {got}; expected {expected}; {remedy}")

    def get(self, key: str) -> Any:
        """A field that must be there, with a row for each."""
        if not self.has(key):
            found = ", ".join(sorted(map(str, self.table))[:20])
            raise self.error(key, f"none (found: {found})", "it")
        value = self.table[key]
        length = "no"
        if hasattr(value, "__len__") and not (isinstance(value, np.ndarray) and value.ndim == 0):
            length = len(value)
        if length != self.count:
            raise self.error(key, f"{length} rows", f"{self.count}, as the other fields have")
        return value

    def checked(self, key: str, *tail: int) -> "Columns":
        """This, if the field's rows have such a shape; -1 stands for any length."""
        shape = np.shape(self.get(key))[1:]
        fits = len(shape) == len(tail) and all(w in (-1, n) for n, w in zip(shape, tail))
        if not fits:
            raise self.error(key, f"rows of shape {shape}", f"{tail}".replace("-1", "any"))
        return self

    def numbers(self, key: str, rows: Int[np.ndarray, "n"], *tail: int) -> Float[Tensor, "n ..."]:
        """Some rows of a field, finite, float32."""
        self.checked(key, *tail)
        value = self.get(key)
        taken = value[rows] if isinstance(value, np.ndarray) else [value[row] for row in rows]
        array = np.asarray(taken)
        if array.dtype.kind not in "biuf":
            raise self.error(key, f"values of type {array.dtype}", "numbers")
        with np.errstate(over="ignore", invalid="ignore"):
            array = array.astype(np.float32)
        bad = ~np.isfinite(array.reshape(len(array), -1)).all(1)
        if bad.any():
            raise self.error(
                key, f"a number that is not finite in row {rows[bad.argmax()]}", "none"
            )
        return torch.from_numpy(array)

    def texts(self, key: str, rows: Int[np.ndarray, "n"]) -> tuple[str, ...]:
        """Some rows of a field of text; bytes are decoded."""
        value = self.get(key)
        try:
            found = [value[row] for row in rows]
        # What numpy raises for letters that Unicode does not have.
        except SystemError as error:
            raise self.error(key, f"letters that there are not ({error})", "text") from error
        texts = [t.decode("utf-8", "replace") if isinstance(t, bytes) else t for t in found]
        for row, text in zip(rows, texts):
            if not isinstance(text, str):
                raise self.error(key, f"{text!r} in row {row}", "text")
        return tuple(map(str, texts))

    def genders(self, key: str, rows: Int[np.ndarray, "n"]) -> tuple[str, ...]:
        """Some rows of genders, however they are written."""
        texts = self.texts(key, rows)
        for row, text in zip(rows, texts):
            if text.lower() not in GENDERS:
                raise self.error(key, f"{text!r} in row {row}", "m, f, n, or the whole words")
        return tuple(GENDERS[text.lower()] for text in texts)

    def axis_angle(self, key: str, rows: Int[np.ndarray, "n"]) -> Float[Tensor, "n 24 3 3"]:
        """SMPL's 72 numbers, an axis-angle vector a joint, as rotations."""
        return rotations(self.numbers(key, rows, 72))

    def positive_sizes(self, key: str, rows: Int[np.ndarray, "n"]) -> Float[Tensor, "n 4"]:
        """Some rows of boxes (any two numbers, then width and height above 0)."""
        boxes = self.numbers(key, rows, 4)
        bad = ~(boxes[:, 2:] > 0).all(1)
        if bool(bad.any()):
            row = rows[int(bad.nonzero()[0, 0])]
            raise self.error(key, f"a box without area in row {row}", "w and h above 0")
        return boxes

    def positive(self, key: str, rows: Int[np.ndarray, "n"], *tail: int) -> Float[Tensor, "n ..."]:
        """As `numbers`, all above 0."""
        values = self.numbers(key, rows, *tail)
        bad = (values <= 0).reshape(len(values), -1).any(1)
        if bool(bad.any()):
            row = int(bad.nonzero()[0, 0])
            raise self.error(key, f"{values[row].tolist()} in row {rows[row]}", "more than 0")
        return values


def rotations(axis_angle: Float[Tensor, "n 72"]) -> Float[Tensor, "n 24 3 3"]:
    """SMPL's pose as rotation matrices (computed in float64)."""
    return rotmat_from_axis_angle(axis_angle.double().unflatten(-1, (24, 3))).float()


def shifted(points: Float[Tensor, "n k 3"]) -> Float[Tensor, "n k 3"]:
    """x, y, confidence of a file, pixel centres on integers, as ours; 0 where not seen."""
    confidence = points[..., 2:].clamp(0, 1)
    moved = torch.cat([points[..., :2] + 0.5, confidence], -1)
    return torch.where(confidence > 0, moved, 0.0)


def square_boxes(centre: Float[Tensor, "n 2"], side_px: Float[Tensor, "n"]) -> Float[Tensor, "n 4"]:
    """Square boxes about centres that a file gives, pixel centres on integers."""
    side = side_px[:, None].expand(-1, 2)
    return torch.cat([centre + 0.5 - side / 2, side], -1)


def crop_sides(scale: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """Sides of boxes of which SPIN's ``scale`` (the crop's side over 200 px) is the crop.

    The set's own factor (1.2, or 0.9 for Human3.6M's test images) is in the scale already.
    """
    return 200 * scale / BOX_MARGIN


def box_of_points(points_px: Float[Tensor, "n k 3"], pad: float = 0.0) -> Float[Tensor, "n 4"]:
    """The box around the points with confidence, and ``pad`` of its longer side to each side."""
    seen = points_px[..., 2:] > 0
    low = torch.where(seen, points_px[..., :2], torch.inf).amin(1)
    high = torch.where(seen, points_px[..., :2], -torch.inf).amax(1)
    more = pad * (high - low).amax(-1, keepdim=True)
    return torch.cat([low - more, high - low + 2 * more], -1)


def check_turns(
    columns: Columns, key: str, rows: Int[np.ndarray, "n"], turns: Float[Tensor, "n *k 3 3"]
) -> None:
    """Raise FieldError where a field has matrices that are no rotations."""
    if not len(turns):
        return
    off = (turns @ turns.mT - torch.eye(3, dtype=turns.dtype)).abs().amax((-1, -2))
    bad = ((off > 1e-2) | (torch.linalg.det(turns) < 0)).reshape(len(turns), -1).any(-1)
    if bool(bad.any()):
        row = rows[int(bad.nonzero()[0, 0])]
        raise columns.error(key, f"no rotation in row {row}", "rotation matrices")


def running_count(people: Sequence[Any] | np.ndarray) -> Int[np.ndarray, "n"]:
    """0, 1, 2... along each run of equal entries."""
    names = np.asarray(people)
    starts = np.flatnonzero(np.concatenate([[True], names[1:] != names[:-1]]))
    lengths = np.diff(np.append(starts, len(names)))
    return np.arange(len(names)) - np.repeat(starts, lengths)
