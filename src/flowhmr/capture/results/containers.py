"""From a result file to plain data: what kind of file it is, unpacked within bounds."""

import bz2
import io
import json
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from flowhmr.capture.results.pickles import MAX_BYTES, data_of_pickle
from flowhmr.capture.results.track import ResultFileError

_LZMA_BYTES = 2**28
"""Memory for unpacking, which lzma files ask for by themselves."""

_PACKED: tuple[tuple[bytes, Callable[[], Any]], ...] = (
    (b"\x1f\x8b", lambda: zlib.decompressobj(31)),
    (b"x", lambda: zlib.decompressobj(15)),
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
    (rb"$", "an empty file", "run the tool again"),
)


def plain_data(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """What a joblib file, pickle, ``.npy``, ``.npz`` or JSON file holds, as containers and arrays.

    The content says what it is, not the name. An npz comes out as a dict of its arrays.

    Args:
        path: the file.
        max_bytes: the largest that it may be, packed and unpacked.

    Raises:
        PickleFileError: a pickle that is damaged or asks for more than data.
        ResultFileError: too large, or no file of these kinds.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    if size > max_bytes:
        raise _too_large(f"{size} bytes", max_bytes)
    content = path.read_bytes()
    for pattern, what, remedy in _OTHER_FORMATS:
        if re.match(pattern, content, re.IGNORECASE):
            raise ResultFileError(f"got {what}; expected a tool's results; {remedy}")
    for prefix, unpacker in _PACKED:
        if content.startswith(prefix):
            content = _unpacked(content, unpacker(), max_bytes)
            break
    if content.startswith(b"PK\x03\x04"):
        return _npz(content, max_bytes)
    if content.startswith(b"\x93NUMPY"):
        return array_of_npy(content, max_bytes)
    if content.startswith(b"\x80"):
        return data_of_pickle(content, max_bytes)
    if content.lstrip()[:1] in (b"{", b"["):
        return _json(content)
    raise ResultFileError(
        f"got a file that begins with {content[:8]!r}; expected joblib, pickle (protocol 2 or "
        "later), npy, npz or JSON; give the file that the tool wrote"
    )


def array_of_npy(content: bytes, max_bytes: int = MAX_BYTES) -> Any:
    """The array of an ``.npy`` file; objects in it as plain data, see `data_of_pickle`.

    Raises:
        PickleFileError: as `data_of_pickle` raises.
        ResultFileError: damaged, or larger than what is there.
    """
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read(stream)
    # A damaged header can fail in any way.
    except Exception as error:
        raise ResultFileError(
            f"got a damaged npy header ({error}); expected version 1 or 2; run the tool again"
        ) from error
    start = stream.tell()
    if dtype == np.dtype(object):
        return data_of_pickle(content, max_bytes, start)
    wanted = prod(shape) * dtype.itemsize
    if dtype.hasobject or min(shape, default=0) < 0 or wanted > len(content) - start:
        raise ResultFileError(
            f"got an npy array of shape {shape} and type {dtype}, {wanted} bytes; expected "
            f"numbers, at most the {len(content) - start} bytes that are there; copy the file again"
        )
    if wanted == 0:
        return np.empty(shape, dtype)
    flat = np.frombuffer(content, dtype, wanted // dtype.itemsize, start)
    return flat.reshape(shape, order="F" if fortran else "C")


def _npz(content: bytes, max_bytes: int) -> dict[str, Any]:
    arrays, left = {}, max_bytes
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            if any(name.endswith("data.pkl") for name in names):
                raise ResultFileError(
                    "got a file of torch.save; expected joblib, pickle, npy, npz or JSON; where "
                    "torch runs, store its values as numpy arrays with numpy.savez"
                )
            for name in names:
                with archive.open(name) as member:
                    raw = member.read(left + 1)
                left -= len(raw)
                if left < 0:
                    raise _too_large("an npz that unpacks to more", max_bytes)
                if raw.startswith(b"\x93NUMPY"):
                    arrays[name.removesuffix(".npy")] = array_of_npy(raw, max_bytes)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ResultFileError(f"got a damaged npz ({error}); copy it again") from error
    return arrays


def _unpacked(content: bytes, unpacker: Any, max_bytes: int) -> bytes:
    """What is packed, or an error once it is more than ``max_bytes``."""
    try:
        unpacked = unpacker.decompress(content, max_bytes + 1)
    except (zlib.error, OSError, lzma.LZMAError, ValueError) as error:
        raise ResultFileError(
            f"got a packed file that is damaged ({error}); expected zlib, gzip, bz2, xz or lzma "
            "as joblib writes them; copy it again"
        ) from error
    if len(unpacked) > max_bytes:
        raise _too_large("a packed file that unpacks to more", max_bytes)
    if not unpacker.eof:
        raise ResultFileError(
            "got a packed file that breaks off; expected a whole one; copy it again"
        )
    return unpacked


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ResultFileError(f"got JSON that is damaged ({error}); write it again") from error


def _too_large(what: str, max_bytes: int) -> ResultFileError:
    return ResultFileError(
        f"got {what}; expected at most {max_bytes} bytes; leave the vertices ('verts') out of the "
        "file, or cut the video into parts"
    )
