"""From a file to plain data: what kind of file it is, unpacked within bounds."""

import bz2
import json
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from flowhmr.files.errors import DataFileError
from flowhmr.files.hdf5 import data_of_hdf5, is_hdf5
from flowhmr.files.matlab import MATLAB_5, data_of_matlab
from flowhmr.files.pickles import MAX_BYTES, data_of_pickle, data_of_torch
from flowhmr.files.stream import Stream, mapped, too_large, viewed

_LZMA_BYTES = 2**28
"""Memory for unpacking, which lzma files ask for by themselves."""

_PACKED: tuple[tuple[bytes, Callable[[], Any]], ...] = (
    (b"\x1f\x8b", lambda: zlib.decompressobj(31)),
    (b"x\x01", lambda: zlib.decompressobj(15)),
    (b"x\x5e", lambda: zlib.decompressobj(15)),
    (b"x\x9c", lambda: zlib.decompressobj(15)),
    (b"x\xda", lambda: zlib.decompressobj(15)),
    (b"BZ", bz2.BZ2Decompressor),
    (b"\xfd7zXZ", lambda: lzma.LZMADecompressor(memlimit=_LZMA_BYTES)),
    (b"\x5d\x00", lambda: lzma.LZMADecompressor(memlimit=_LZMA_BYTES)),
)
"""First bytes of what joblib packs files with, and what unpacks them."""

_OTHER_FORMATS = (
    (rb"version https://git-lfs", "a git-lfs pointer", "fetch the file itself with git lfs pull"),
    (rb"\s*<(!doctype|html|\?xml)", "a web page", "log in where it lies and download it again"),
    (rb"ZF", "a file of joblib before 0.10", "store it again with a new joblib"),
    (rb"\x04\x22\x4d\x18", "a joblib file packed with lz4", "store it with compress=('zlib', 3)"),
    (rb"$", "an empty file", "copy or download it again"),
)

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def plain_data(path: Path, max_bytes: int = MAX_BYTES, keys: Collection[str] | None = None) -> Any:
    """What a data file holds, as containers and arrays. Nothing that is in it runs.

    Read are pickles (of Python 2 too), joblib files, what ``torch.save`` writes, ``.npy``,
    ``.npz``, ``.mat`` (version 5 to 7, and 7.3, which needs h5py), HDF5 and JSON. The content says
    what it is, not the name. An npz, a mat or an HDF5 file comes out as a dict. Arrays that lie in
    the file as they are stay there (the file is mapped): a database of gigabytes takes memory only
    where it is looked at. They are not to be written to.

    Args:
        path: the file.
        max_bytes: the largest that it may be, packed and unpacked.
        keys: of an npz, a mat or an HDF5 file read these only, where they are there; all if None.

    Raises:
        PickleFileError: a pickle that is damaged or asks for more than data (names what).
        DataFileError: too large, damaged, or no file of these kinds.
        OSError: it cannot be read.
    """
    content = mapped(path, max_bytes)
    head = bytes(content[:128])
    for pattern, what, remedy in _OTHER_FORMATS:
        if re.match(pattern, head, re.IGNORECASE):
            raise DataFileError(f"got {what}; expected a data file; {remedy}")
    for prefix, unpacker in _PACKED:
        if head.startswith(prefix):
            content = memoryview(_unpacked(content, unpacker(), max_bytes))
            head = bytes(content[:128])
            break
    if head.startswith(b"PK\x03\x04"):
        return _zip(content, max_bytes, keys)
    if head.startswith(b"\x93NUMPY"):
        return array_of_npy(content, max_bytes)
    if is_hdf5(content):
        return data_of_hdf5(path, max_bytes, keys)
    if head.startswith(MATLAB_5):
        return data_of_matlab(content, max_bytes, keys)
    if head.lstrip()[:1] in (b"{", b"["):
        return _json(content)
    # Pickles of protocol 0 and 1 have no mark of their own at the beginning.
    if head.startswith(b"\x80") or bytes(content[-1:]) == b".":
        return data_of_pickle(content, max_bytes)
    raise DataFileError(
        f"got a file that begins with {head[:8]!r}; expected a pickle, joblib, torch, npy, npz, "
        "mat, HDF5 or JSON file, whole; give the file as it was published, or copy it again"
    )


def array_of_npy(content: bytes | memoryview, max_bytes: int = MAX_BYTES) -> Any:
    """The array of an ``.npy`` file; objects in it as plain data, see `data_of_pickle`.

    Raises:
        PickleFileError: as `data_of_pickle` raises.
        DataFileError: damaged, or larger than what is there.
    """
    stream = Stream(memoryview(content))
    try:
        version = np.lib.format.read_magic(stream)  # pyright: ignore[reportArgumentType]
        shape, fortran, dtype = _HEADERS[version](stream)
    # A damaged header can fail in any way.
    except Exception as error:
        raise DataFileError(
            f"got a damaged npy header ({error}); expected version 1 or 2; copy the file again"
        ) from error
    if dtype == np.dtype(object):
        return data_of_pickle(content, max_bytes, stream.tell())
    if dtype.hasobject:
        raise DataFileError(f"got an npy array of type {dtype}; expected numbers; store it as such")
    return viewed(stream.content, dtype, shape, "F" if fortran else "C", stream.tell())


def _zip(content: memoryview, max_bytes: int, keys: Collection[str] | None) -> Any:
    """An npz, or what ``torch.save`` writes."""
    with _damage("zip archive"):
        archive = zipfile.ZipFile(Stream(content))  # pyright: ignore[reportArgumentType]
        names = [name for name in archive.namelist() if not name.endswith("/")]
    if len(set(names)) < len(names):
        raise DataFileError("got a zip archive with two files of one name; get the file again")
    read = _Members(archive, content, max_bytes)
    pickles = [name for name in names if PurePosixPath(name).name == "data.pkl"]
    if len(pickles) == 1:
        return _torch(read, pickles[0].removesuffix("data.pkl"), names, max_bytes)
    if not any(name.endswith(".npy") for name in names):
        raise DataFileError(
            f"got a zip archive with {', '.join(map(repr, names[:3])) or 'nothing'}; expected an "
            "npz or a torch file; unpack it first, and give the file that is in it"
        )
    wanted = {name: name.removesuffix(".npy") for name in names if name.endswith(".npy")}
    return {
        key: array_of_npy(read(name), max_bytes)
        for name, key in wanted.items()
        if keys is None or key in keys
    }


def _torch(read: "_Members", prefix: str, names: Collection[str], max_bytes: int) -> Any:
    if prefix + "byteorder" in names and bytes(read(prefix + "byteorder")) != b"little":
        raise DataFileError(
            "got a torch file of big-endian numbers; expected little; store it on another machine"
        )
    folder = prefix + "data/"
    storages = {n.removeprefix(folder): read(n) for n in names if n.startswith(folder)}
    return data_of_torch(read(prefix + "data.pkl"), storages, max_bytes)


class _Members:
    """Gives the files in a zip archive: where they lie, if they are not packed."""

    def __init__(self, archive: zipfile.ZipFile, content: memoryview, max_bytes: int) -> None:
        self.archive, self.content = archive, content
        self.left_bytes = self.max_bytes = max_bytes

    def __call__(self, name: str) -> memoryview:
        with _damage("zip archive"):
            entry = self.archive.getinfo(name)
            # Opening checks the entry's own header against the directory.
            with self.archive.open(entry) as member:
                if entry.compress_type == zipfile.ZIP_STORED:
                    start = entry.header_offset + 26
                    lengths = np.frombuffer(self.content, "<u2", 2, start)
                    start += 4 + int(lengths.sum())
                    if start + entry.file_size > len(self.content):
                        raise EOFError("a file in it breaks off")
                    return self.content[start : start + entry.file_size]
                raw = member.read(self.left_bytes + 1)
        self.left_bytes -= len(raw)
        if self.left_bytes < 0:
            raise DataFileError(too_large("an archive that unpacks to more", self.max_bytes))
        return memoryview(raw)


@contextmanager
def _damage(what: str) -> Iterator[None]:
    try:
        yield
    except DataFileError:
        raise
    # Directory, headers and packed bytes can be damaged in any way.
    except Exception as error:
        raise DataFileError(
            f"got a damaged {what} ({type(error).__name__}: {error}); expected a whole one; copy "
            "or download it again"
        ) from error


def _unpacked(content: memoryview, unpacker: Any, max_bytes: int) -> bytes:
    """What is packed, or an error once it is more than ``max_bytes``."""
    try:
        unpacked = unpacker.decompress(content, max_bytes + 1)
    except (zlib.error, OSError, lzma.LZMAError, ValueError) as error:
        raise DataFileError(
            f"got a packed file that is damaged ({error}); expected zlib, gzip, bz2, xz or lzma "
            "as joblib writes them; copy it again"
        ) from error
    if len(unpacked) > max_bytes:
        raise DataFileError(too_large("a packed file that unpacks to more", max_bytes))
    if not unpacker.eof:
        raise DataFileError(
            "got a packed file that breaks off; expected a whole one; copy it again"
        )
    return unpacked


def _json(content: memoryview) -> Any:
    try:
        return json.loads(bytes(content))
    except (ValueError, RecursionError) as error:
        raise DataFileError(
            f"got JSON that is damaged ({error}); expected a whole file; copy it again"
        ) from error
