"""Frozen tensor records: the only things rooms hand to each other.

A record is a ``@dataclass(frozen=True, eq=False)`` whose fields are tensors, other records,
``None`` or plain values (int, float, str, bool, tuples of them). The functions here are the whole
protocol: map over the tensors, move to a device, stack records into a batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

R = TypeVar("R")


class RecordError(ValueError):
    """Records that cannot be put into one batch."""


def map_tensors(record: R, fn: Callable[[Tensor], Tensor]) -> R:
    """The same record with ``fn`` applied to each tensor in it, nested records included."""
    if not is_dataclass(record) or isinstance(record, type):
        raise TypeError(f"got {type(record).__name__}; expected a dataclass record")
    return replace(record, **{f.name: _map(getattr(record, f.name), fn) for f in fields(record)})


def _map(value: Any, fn: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return fn(value)
    if is_dataclass(value) and not isinstance(value, type):
        return map_tensors(value, fn)
    return value


def to_device(record: R, device: torch.device | str) -> R:
    """The same record with each tensor on ``device``."""
    return map_tensors(record, lambda t: t.to(device))


def detach(record: R) -> R:
    """The same record cut from the autograd graph."""
    return map_tensors(record, Tensor.detach)


def pick(record: R, index: int | Tensor) -> R:
    """The same record with ``index`` applied to the leading axis of each tensor."""
    return map_tensors(record, lambda t: t[index])


def collate(records: Sequence[R]) -> R:
    """Stack records of one type into one record with a new leading axis.

    Tensors (and numpy arrays) of equal shape are stacked; nested records recurse; ``None`` must
    be ``None`` in all; every other value must be equal in all.

    Raises:
        RecordError: no records, or a field whose values cannot be put together (names it).
    """
    if not records:
        raise RecordError("got no records; expected at least one to make a batch of")
    return _collate(records, type(records[0]).__name__)


def _collate(values: Sequence[Any], where: str) -> Any:
    first = values[0]
    kinds = {type(v) for v in values}
    if len(kinds) > 1:
        names = ", ".join(sorted(k.__name__ for k in kinds))
        raise RecordError(f"{where}: got {names} in one batch; expected one type in all records")
    if isinstance(first, np.ndarray):
        values, first = [torch.from_numpy(v) for v in values], torch.from_numpy(first)
    if isinstance(first, Tensor):
        shapes = {tuple(v.shape) for v in values}
        if len(shapes) > 1:
            raise RecordError(f"{where}: got shapes {sorted(shapes)}; expected one shape in all")
        return torch.stack(list(values))
    if is_dataclass(first) and not isinstance(first, type):
        return replace(
            first,
            **{
                f.name: _collate([getattr(v, f.name) for v in values], f"{where}.{f.name}")
                for f in fields(first)
            },
        )
    if any(v != first for v in values):
        raise RecordError(f"{where}: got different values, {first!r} and others; expected equal")
    return first
