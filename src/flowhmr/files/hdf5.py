"""HDF5 files, MATLAB's of version 7.3 among them, by h5py where it is installed."""

import importlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from flowhmr.files.errors import DataFileError
from flowhmr.files.stream import too_large

_MARK = b"\x89HDF\r\n\x1a\n"
_DEPTH = 16
_ENTRY_BYTES = 200
"""About what an entry of a group takes, whatever is in it."""


def is_hdf5(content: memoryview) -> bool:
    """Whether these are the bytes of such a file; MATLAB puts 512 of its own before it."""
    return any(bytes(content[at : at + len(_MARK)]) == _MARK for at in (0, 512))


def data_of_hdf5(path: Path, max_bytes: int, keys: Collection[str] | None = None) -> dict[str, Any]:
    """Groups as dicts, data sets as arrays with the axes as they are stored.

    MATLAB stores columns first: the axes of an array in a 7.3 file come in the reverse of MATLAB's
    order, and are left so. References in cells are followed; a cell array is an array of objects.

    Args:
        path: the file.
        max_bytes: how much all arrays may take.
        keys: read these only, of what is at the top; all if None.

    Raises:
        DataFileError: h5py is missing; the file is damaged, too large, or refers to other files.
    """
    try:
        h5py: Any = importlib.import_module("h5py")
    except ImportError as error:
        raise DataFileError(
            "got an HDF5 file (MATLAB's of version 7.3 are such); expected h5py to be installed to "
            "read it; pip install 'flowhmr[hdf5]'"
        ) from error
    try:
        with h5py.File(path, "r") as file:
            reader = _Reader(h5py, file, max_bytes)
            names = [name for name in file if not name.startswith("#")]
            return {n: reader.item(file, n) for n in names if keys is None or n in keys}
    except DataFileError:
        raise
    # A damaged file can fail in any way.
    except Exception as error:
        raise DataFileError(
            f"got a damaged HDF5 file ({type(error).__name__}: {error}); expected a whole one; "
            "copy or download it again"
        ) from error


class _Reader:
    """Reads one file within bounds."""

    def __init__(self, h5py: Any, file: Any, max_bytes: int) -> None:
        self.h5py, self.file = h5py, file
        self.left_bytes = self.max_bytes = max_bytes

    def item(self, group: Any, name: str, depth: int = 0) -> Any:
        """What stands under a name in a group."""
        if depth > _DEPTH:
            raise DataFileError(f"got HDF5 groups more than {_DEPTH} deep; expected fewer")
        if not isinstance(group.get(name, getlink=True), self.h5py.HardLink):
            raise DataFileError(
                f"got a link to elsewhere under {name!r}; expected the data in the file itself; "
                "store it there"
            )
        return self.value(group[name], depth)

    def value(self, found: Any, depth: int) -> Any:
        """A group or a data set as plain data."""
        if isinstance(found, self.h5py.Group):
            # Groups may hold each other under many names.
            self._use(_ENTRY_BYTES * len(found), f"a group of {len(found)}")
            return {name: self.item(found, name, depth + 1) for name in found}
        if not isinstance(found, self.h5py.Dataset):
            raise DataFileError(f"got {found!r}; expected a group or a data set")
        if found.is_virtual or found.external:
            raise DataFileError(
                f"got the data set {found.name!r} whose numbers are in another file; expected them "
                "in this one"
            )
        self._use(found.size * found.dtype.itemsize if found.size else 0, f"{found.shape}")
        if self.h5py.check_ref_dtype(found.dtype) is not None:
            return self._cells(found, depth)
        if found.dtype.kind not in "biufSU":
            raise DataFileError(
                f"got the data set {found.name!r} of type {found.dtype}; expected numbers or text"
            )
        return found[()]

    def _use(self, size: int, what: str) -> None:
        self.left_bytes -= size
        if self.left_bytes < 0:
            raise DataFileError(too_large(f"an HDF5 file with {what}", self.max_bytes))

    def _cells(self, found: Any, depth: int) -> np.ndarray:
        if depth > _DEPTH:
            raise DataFileError(f"got MATLAB cells more than {_DEPTH} deep; expected fewer")
        references = found[()]
        cells = np.empty(references.size, object)
        for place, reference in enumerate(references.flat):
            cells[place] = self.value(self.file[reference], depth + 1)
        return cells.reshape(references.shape)
