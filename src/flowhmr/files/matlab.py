"""MATLAB's files of version 5 to 7, within bounds.

scipy reads them too, but reserves what a file declares, and unpacks it, before it looks whether it
is there. Read here are numbers, text, cells and structures. Layout: "MAT-File Format", MathWorks.
"""

import zlib
from collections.abc import Collection
from math import prod
from typing import Any

import numpy as np

from flowhmr.files.errors import DataFileError
from flowhmr.files.stream import too_large, viewed

MATLAB_5 = b"MATLAB 5.0 MAT-file"
_NUMBERS = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
"""Numpy types of the elements' types of data."""
_CLASSES = {
    6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8",
}  # fmt: skip
"""Numpy types of the classes of arrays, which numbers may be stored smaller than."""
_CELL, _STRUCT, _CHAR = 1, 2, 4
_OTHERS = {3: "an object", 5: "a sparse array", 16: "a function", 17: "an object"}
_ARRAY, _PACKED = 14, 15
_TEXT = {2: "latin1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_DEPTH = 32
_BROKEN = "the file breaks off or is damaged: copy it again"


def data_of_matlab(
    content: memoryview, max_bytes: int, keys: Collection[str] | None = None
) -> dict[str, Any]:
    """The variables of a file.

    Numbers come out as arrays ``[rows, columns, ...]``, text as str (or a list of str), a cell
    array as a numpy array of objects of its shape, a structure as a dict (or a list of dicts).

    Args:
        content: the file's bytes.
        max_bytes: how much it may unpack to.
        keys: read these variables only, where they are there; all if None.

    Raises:
        DataFileError: damaged, larger, or with other variables than these.
    """
    order = {b"IM": "<", b"MI": ">"}.get(bytes(content[126:128]))
    if order is None:
        raise DataFileError("got a damaged MATLAB header; expected version 5; copy the file again")
    reader = _Reader(order, max_bytes)
    found: dict[str, Any] = {}
    try:
        place = 128
        while place < len(content):
            kind, body, place = reader.element(content, place)
            if kind == _PACKED:
                kind, body, _ = reader.element(reader.unpacked(body), 0)
            if kind != _ARRAY:
                raise DataFileError(f"got a MATLAB element of type {kind}; expected arrays")
            name, value = reader.array(body, keys)
            if keys is None or name in keys:
                found[name] = value
    except DataFileError:
        raise
    # A damaged file can fail in any way.
    except Exception as error:
        raise DataFileError(
            f"got a damaged MATLAB file ({type(error).__name__}: {error}); {_BROKEN}"
        ) from error
    return found


class _Reader:
    """Reads the elements of one file."""

    def __init__(self, order: str, max_bytes: int) -> None:
        self.order, self.max_bytes = order, max_bytes
        self.left_bytes = max_bytes

    def unpacked(self, packed: memoryview) -> memoryview:
        """An element that is packed."""
        raw = zlib.decompressobj().decompress(packed, self.left_bytes + 1)
        self._use(len(raw))
        return memoryview(raw)

    def _use(self, size: int) -> None:
        self.left_bytes -= size
        if self.left_bytes < 0:
            raise DataFileError(too_large("a MATLAB file that unpacks to more", self.max_bytes))

    def element(self, content: memoryview, place: int) -> tuple[int, memoryview, int]:
        """Type and bytes of the element at a place, and where the next one begins."""
        kind, size = (int(n) for n in np.frombuffer(content, self.order + "u4", 2, place))
        if kind >> 16:  # a small one, in the second half of its tag
            return kind & 0xFFFF, content[place + 4 : place + 4 + (kind >> 16)], place + 8
        end = place + 8 + size
        if end > len(content):
            raise DataFileError(
                f"got a MATLAB element of {size} bytes; expected at most the "
                f"{len(content) - place - 8} that are there; {_BROKEN}"
            )
        # Packed elements alone are not filled up to a multiple of eight.
        return kind, content[place + 8 : end], end if kind == _PACKED else end + -size % 8

    def array(
        self, body: memoryview, keys: Collection[str] | None = None, depth: int = 0
    ) -> tuple[str, Any]:
        """Name and value of an array; the value is left out if the name is not in ``keys``."""
        if depth > _DEPTH:
            raise DataFileError(f"got MATLAB cells more than {_DEPTH} deep; expected fewer")
        if not len(body):
            return "", np.empty((0, 0))
        _, flags, place = self.element(body, 0)
        bits = int(np.frombuffer(flags, self.order + "u4", 1)[0])
        kind, is_complex, logical = bits & 0xFF, bits & 0x800, bits & 0x200
        if kind in _OTHERS:
            raise DataFileError(
                f"got {_OTHERS[kind]} in a MATLAB file; expected numbers, text, cells and "
                "structures; store it as one of these"
            )
        _, dims, place = self.element(body, place)
        shape = tuple(int(n) for n in np.frombuffer(dims, self.order + "i4"))
        if min(shape, default=-1) < 0:
            raise DataFileError(f"got a MATLAB array of shape {shape}; {_BROKEN}")
        _, label, place = self.element(body, place)
        name = bytes(label).decode("ascii")
        if depth == 0 and keys is not None and name not in keys:
            return name, None
        rest = body[place:]
        if kind == _CELL:
            return name, self._cells(rest, shape, depth)
        if kind == _STRUCT:
            return name, self._structs(rest, shape, depth)
        if is_complex:
            raise DataFileError(f"got complex numbers ({name!r}) in a MATLAB file; expected real")
        kind_of_data, values, _ = self.element(rest, 0)
        if kind == _CHAR:
            return name, self._text(values, kind_of_data, shape)
        if kind not in _CLASSES:
            raise DataFileError(f"got a MATLAB array of class {kind}; {_BROKEN}")
        array = viewed(values, np.dtype(self.order + _NUMBERS[kind_of_data]), shape, "F")
        target = np.dtype(bool) if logical else np.dtype(_CLASSES[kind])
        # Stored smaller than it is: an array of zeros would unpack to more than the file.
        self._use(array.size * target.itemsize if array.dtype != target else 0)
        return name, array.astype(target, copy=False)

    def _text(self, raw: memoryview, kind: int, shape: tuple[int, ...]) -> str | list[str]:
        coding = _TEXT[kind]
        if coding in ("utf-16", "utf-32"):
            coding += "-le" if self.order == "<" else "-be"
        text = bytes(raw).decode(coding)
        if len(shape) != 2 or shape[0] <= 1:
            return text
        rows, columns = shape
        if rows * columns != len(text):
            raise DataFileError(f"got {len(text)} letters for {rows} rows of {columns}; {_BROKEN}")
        return [text[row::rows] for row in range(rows)]

    def _children(self, rest: memoryview, count: int, depth: int) -> list[Any]:
        # Each takes eight bytes at the least.
        if count * 8 > len(rest):
            raise DataFileError(
                f"got {count} MATLAB cells in {len(rest)} bytes; expected no more than there are; "
                f"{_BROKEN}"
            )
        values, place = [], 0
        for _ in range(count):
            kind, body, place = self.element(rest, place)
            if kind != _ARRAY:
                raise DataFileError(f"got a MATLAB element of type {kind} in a cell; {_BROKEN}")
            values.append(self.array(body, None, depth + 1)[1])
        return values

    def _cells(self, rest: memoryview, shape: tuple[int, ...], depth: int) -> np.ndarray:
        values = self._children(rest, prod(shape), depth)
        cells = np.empty(len(values), object)
        for place, value in enumerate(values):  # an assignment of all would look into them
            cells[place] = value
        return cells.reshape(shape, order="F")

    def _structs(self, rest: memoryview, shape: tuple[int, ...], depth: int) -> Any:
        _, length, place = self.element(rest, 0)
        width = int(np.frombuffer(length, self.order + "i4", 1)[0])
        _, names, place = self.element(rest, place)
        if width < 1 or len(names) % width:
            raise DataFileError(f"got names of MATLAB fields of width {width}; {_BROKEN}")
        starts = range(0, len(names), width)
        fields = [bytes(names[s : s + width]).split(b"\0")[0].decode("ascii") for s in starts]
        if not fields:
            return {}
        count = prod(shape)
        values = self._children(rest[place:], count * len(fields), depth)
        rows = [
            dict(zip(fields, values[row * len(fields) : (row + 1) * len(fields)]))
            for row in range(count)
        ]
        return rows[0] if count == 1 else rows
