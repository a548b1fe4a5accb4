"""Bytes that are read where they lie: of a file that is mapped, not copied."""

import mmap
from math import prod
from pathlib import Path

import numpy as np

from flowhmr.files.errors import DataFileError, PickleFileError


def mapped(path: Path, max_bytes: int) -> memoryview:
    """The bytes of a file, of which only those are read that are looked at.

    Raises:
        DataFileError: it is larger than ``max_bytes``.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size > max_bytes:
            raise DataFileError(too_large(f"{size} bytes", max_bytes))
        if size == 0:
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def too_large(what: str, max_bytes: int) -> str:
    """The message for it."""
    return (
        f"got {what}; expected at most {max_bytes} bytes; raise max_bytes if the file is meant to "
        "be that large, else leave out what is not needed (vertices, features)"
    )


class Stream:
    """Reads bytes one after the other, as a file would.

    Args:
        content: the bytes.
        start: where to begin.
    """

    def __init__(self, content: memoryview, start: int = 0) -> None:
        self.content, self.place = content, start

    def read(self, size: int = -1) -> bytes:
        """The next bytes, fewer where there are no more."""
        end = len(self.content) if size < 0 else min(self.place + size, len(self.content))
        taken = bytes(self.content[self.place : end])
        self.place += len(taken)
        return taken

    def readline(self) -> bytes:
        """To the end of the line; a last line that breaks off is not taken for whole."""
        start, step = self.place, 256
        while start < len(self.content):
            at = bytes(self.content[start : start + step]).find(b"\n")
            if at >= 0:
                return self.read(start + at + 1 - self.place)
            start, step = start + step, 2 * step
        raise EOFError("a line breaks off")

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place."""
        self.place = max((0, self.place, len(self.content))[whence] + offset, 0)
        return self.place

    def tell(self) -> int:
        """The place."""
        return self.place

    def seekable(self) -> bool:
        """It is."""
        return True

    def array(self, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
        """The array whose bytes come next, seen where they lie; nothing is reserved for it."""
        array = viewed(self.content, dtype, shape, order, self.place)
        self.place += array.nbytes
        return array


def viewed(
    content: memoryview, dtype: np.dtype, shape: tuple[int, ...], order: str, start: int = 0
) -> np.ndarray:
    """The array that lies in ``content`` from ``start`` on; no copy, not to be written to.

    Raises:
        PickleFileError: it would be larger than what is there.
    """
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise PickleFileError(f"got an array of shape {shape!r}; expected whole numbers")
    count = prod(shape)
    if count * dtype.itemsize > len(content) - start:
        raise PickleFileError(
            f"got an array of shape {shape} and type {dtype}, {count * dtype.itemsize} bytes; "
            f"expected at most the {len(content) - start} bytes that are there; the file breaks "
            "off or is damaged: copy it again"
        )
    if count == 0:
        return np.empty(shape, dtype)
    flat = np.frombuffer(content, dtype, count, start)
    return flat.reshape(shape, order="F" if order == "F" else "C")
