"""Fields of other tools' records: taken by name, checked, made tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from flowhmr.capture.results.track import ResultFileError
from flowhmr.geometry import rotmat_from_axis_angle


def record(value: Any, where: str) -> Mapping[Any, Any]:
    """The value, if it is a dict."""
    if not isinstance(value, dict):
        raise ResultFileError(f"{where}: got {type(value).__name__}; expected a dict")
    return value


def field(entry: Mapping[Any, Any], key: str, where: str) -> Any:
    """What stands under a name.

    Raises:
        ResultFileError: nothing does; names what there is.
    """
    if key not in entry or entry[key] is None:
        names = ", ".join(map(repr, list(entry)[:20]))
        raise ResultFileError(
            f"{where}: got {names}; expected {key!r} among them; run the tool again with its "
            "own settings for what is saved"
        )
    return entry[key]


def numbers(value: Any, what: str, *tail: int) -> Float[Tensor, "t ..."]:
    """Finite numbers, float64 ``[t, *tail]``; axes of one before the last ones are taken out.

    Raises:
        ResultFileError: other numbers than that.
    """
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"values of type {array.dtype}")
        # A copy: what is read from a file lies in its bytes.
        with np.errstate(invalid="ignore"):
            tensor = torch.from_numpy(array.astype(np.float64))
    except (ValueError, TypeError) as error:
        raise ResultFileError(f"{what}: got {error}; expected numbers") from error
    if tensor.ndim == 0 or _without_ones(tensor.shape[1:]) != _without_ones(tail):
        axes = ", ".join(map(str, ("t", *tail)))
        raise ResultFileError(f"{what}: got shape {tuple(tensor.shape)}; expected [{axes}]")
    rows = len(tensor)
    if rows == 0:
        raise ResultFileError(f"{what}: got no rows; expected at least one frame")
    tensor = tensor.reshape(rows, *tail)
    bad = ~torch.isfinite(tensor).reshape(rows, -1).all(-1)
    if bool(bad.any()):
        raise ResultFileError(
            f"{what}: got numbers that are not finite in row {int(bad.nonzero()[0, 0])} of {rows}; "
            "expected none; leave such frames out"
        )
    return tensor


def _without_ones(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)


def frame_numbers(value: Any, what: str) -> Int[Tensor, "t"]:
    """Whole numbers of frames."""
    values = numbers(value, what)
    if bool((values != values.round()).any()):
        raise ResultFileError(f"{what}: got {values[:5].tolist()}...; expected whole numbers")
    return values.long()


def whole_number(value: Any, where: str) -> int:
    """The number of a person or a frame, also when written as text."""
    try:
        number = int(value)
        if not isinstance(value, str) and number != value:
            raise ValueError
    except (ValueError, TypeError, OverflowError):
        raise ResultFileError(f"{where}: got {value!r}; expected a whole number") from None
    return number


def checked_rotmats(rotmats: Float[Tensor, "t 24 3 3"], what: str) -> Float[Tensor, "t 24 3 3"]:
    """The matrices, if they are rotations up to what float32 networks give."""
    eye = torch.eye(3, dtype=rotmats.dtype)
    off = (rotmats @ rotmats.transpose(-1, -2) - eye).abs().amax((-1, -2))
    if bool((off > 1e-2).any()) or bool((torch.linalg.det(rotmats) < 0).any()):
        raise ResultFileError(
            f"{what}: got matrices that are no rotations (off by {float(off.max()):.3g}); expected "
            "rotation matrices of 24 joints"
        )
    return rotmats.float()


@dataclass(frozen=True, eq=False)
class Columns:
    """A person's fields: one row for each of his frames."""

    entry: Mapping[Any, Any]
    """Field by name."""
    where: str
    """Whose they are, for messages."""
    frame_indices: Int[Tensor, "t"]
    """The frames."""

    def numbers(self, key: str, *tail: int) -> Float[Tensor, "t ..."]:
        """The field as float64 ``[t, *tail]``, see `numbers`."""
        return self._counted(key, numbers(self.get(key), self._what(key), *tail))

    def axis_angle(self, key: str) -> Float[Tensor, "t 24 3 3"]:
        """SMPL's 72 numbers, an axis-angle vector a joint, as rotations."""
        return rotmat_from_axis_angle(self.numbers(key, 72).unflatten(-1, (24, 3))).float()

    def betas(self, key: str) -> Float[Tensor, "t 10"]:
        """The first ten betas."""
        array = np.asarray(self.get(key))
        if array.ndim < 1 or array.shape[-1] < 10:
            raise ResultFileError(f"{self._what(key)}: got shape {array.shape}; expected [t, 10]")
        return self._counted(key, numbers(array[..., :10], self._what(key), 10)).float()

    def get(self, key: str) -> Any:
        """The field as it is, see `field`."""
        return field(self.entry, key, self.where)

    def _what(self, key: str) -> str:
        return f"{self.where}, {key}"

    def _counted(self, key: str, values: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        if len(values) != len(self.frame_indices):
            raise ResultFileError(
                f"{self._what(key)}: got {len(values)} rows; expected "
                f"{len(self.frame_indices)}, one for each frame"
            )
        return values


def columns(entry: Any, where: str, frames: str) -> Columns:
    """The fields of a person's dict.

    Args:
        entry: the dict.
        where: for messages.
        frames: the field with his frames.
    """
    entry = record(entry, where)
    return Columns(entry, where, frame_numbers(field(entry, frames, where), f"{where}, {frames}"))
