"""Entries of large JSON files, checked one by one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from flowhmr.data.field.frames import FieldError
from flowhmr.files import DataFileError, json_entries


def entries(path: Path, key: str) -> Iterator[dict[str, Any]]:
    """The objects of a list in a JSON file, see `flowhmr.files.json_entries`.

    Raises:
        FieldError: it cannot be read, or there is something else in the list.
    """
    try:
        for row, entry in enumerate(json_entries(path, key)):
            if not isinstance(entry, dict):
                raise FieldError(f"{path}: {key}: got {entry!r} in row {row}; expected an object")
            yield entry
    except FieldError:
        raise
    except (DataFileError, OSError) as error:
        raise FieldError(f"{path}: {error}") from error


def entry_numbers(
    path: Path, entry: dict[str, Any], key: str, shape: tuple[int, ...], row: int
) -> np.ndarray:
    """Numbers of an entry, float32 of a shape; axes of one count for nothing.

    Raises:
        FieldError: others, or none.
    """
    try:
        array = np.asarray(entry[key], np.float32)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise FieldError(
            f"{path}: {key}: got {type(error).__name__} {error} in row {row}; expected numbers; "
            "give the file as it was published"
        ) from error
    # Some numbers are lists of one.
    if tuple(n for n in array.shape if n != 1) != tuple(n for n in shape if n != 1):
        raise FieldError(
            f"{path}: {key}: got shape {array.shape} in row {row}; expected {shape}; give the file "
            "as it was published"
        )
    return array.reshape(shape)
