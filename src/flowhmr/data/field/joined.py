"""A data set of several parts (files, people), one after the other."""

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int

from flowhmr.data.field.frames import FieldError, FieldFrames


@runtime_checkable
class Part(Protocol):
    """One of them."""

    def __len__(self) -> int: ...

    def read(self, rows: Int[np.ndarray, "n"]) -> FieldFrames:
        """Some of its rows, counted from its own first."""
        ...


class Parts:
    """All rows of some parts.

    Args:
        path: what they are found in.
        parts: at least one.
    """

    def __init__(self, path: Path, parts: Sequence[Part]) -> None:
        self.path, self.parts = path, parts
        self.starts = np.cumsum([0, *map(len, parts)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def read(self, rows: Int[np.ndarray, "n"]) -> FieldFrames:
        """Some of the rows, of one layout."""
        if not len(rows) or rows.min() < 0 or rows.max() >= len(self):
            raise FieldError(f"{self.path}: got rows {rows[:5]}; expected some of {len(self)}")
        which = np.searchsorted(self.starts, rows, "right") - 1
        found, order = [], []
        for number in np.unique(which):
            mine = np.flatnonzero(which == number)
            found.append(self.parts[number].read(rows[mine] - self.starts[number]))
            order.append(mine)
        back = np.argsort(np.concatenate(order))
        names = [f.name for f in fields(FieldFrames) if f.name != "rows"]
        values = {n: _joined([getattr(part, n) for part in found], back) for n in names}
        return replace(found[0], rows=rows, **values)


def _joined(values: list[Any], back: Int[np.ndarray, "n"]) -> Any:
    """One field of several parts, in the order in which the rows were asked for."""
    first = values[0]
    if isinstance(first, torch.Tensor):
        return torch.cat(values)[torch.from_numpy(back)]
    if isinstance(first, tuple):
        every = [text for part in values for text in part]
        return tuple(every[i] for i in back)
    if any(value != first for value in values):
        raise FieldError(
            f"got parts of {first} and of others; expected one layout; read them apart"
        )
    return first
