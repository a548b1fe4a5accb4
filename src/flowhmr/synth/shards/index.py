"""The index of an export: which shards are finished, and how a file comes to be whole."""

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

FORMAT = 1
"""Raise it when the bytes change their meaning."""

INDEX_NAME = "index.json"
"""Beside the shards."""

OWN_INDEX = ".index-{}.json"
"""What one of several processes has finished, until all are done."""

PARTIAL_SUFFIX = ".partial"
"""Ends the names of files that are being written."""

AGAIN = "run the same export again: finished shards are kept"
"""The remedy for most that can go wrong."""

_EXPECTED = "expected the index of exported clips; give the folder of `flowhmr synth export`"
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class Shard:
    """One finished tar file."""

    name: str
    """Its name in the export's folder."""
    sha256: str
    """Checksum of the file, hexadecimal."""
    bytes: int
    """Size of the file."""
    first: int
    """Number of its first clip."""
    clips: int
    """How many clips it holds."""

    def __post_init__(self) -> None:
        plain = re.fullmatch(r"\w[\w.-]*", self.name) and self.bytes > 0 and self.clips > 0
        if not plain or not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f"{self}: expected a plain name, a SHA-256 and what it holds")


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """What ``index.json`` says."""

    made_from: dict[str, Any]
    """Format, version of flowhmr, ``body_id`` and the configuration, as JSON has them."""
    shards: tuple[Shard, ...]
    """Finished shards, by number."""


def read_index(folder: Path, name: str = INDEX_NAME) -> ShardIndex:
    """What an export's folder holds.

    Raises:
        ValueError: there is no index, or it is none of this package's.
    """
    path = folder / name
    try:
        return parse_index(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise ValueError(f"{path}: got no such file; {_EXPECTED}") from None


def parse_index(content: bytes, where: str) -> ShardIndex:
    """What the bytes of an ``index.json`` say.

    Args:
        content: of the file.
        where: it was read, for messages.

    Raises:
        ValueError: it is none of this package's.
    """
    try:
        index = json.loads(content.decode())
        shards = tuple(Shard(**shard) for shard in index.pop("shards"))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{where}: got no readable index ({error!r}); {_EXPECTED}") from error
    if index.get("format") != FORMAT:
        raise ValueError(
            f"{where}: got format {index.get('format')}; expected {FORMAT}; read it with the "
            f"version of flowhmr that wrote it ({index.get('flowhmr')}) or export again"
        )
    return ShardIndex(index, shards)


def write_index(folder: Path, index: ShardIndex, name: str = INDEX_NAME) -> None:
    """Replace the index of a folder: readers see the old one or the new one."""
    content = index.made_from | {"shards": [asdict(shard) for shard in index.shards]}
    text = json.dumps(content, indent=1) + "\n"
    write_whole(folder / name, lambda file: file.write(text.encode()))


def differences(got: Any, expected: Any, name: str = "") -> Iterator[str]:
    """What differs between two things as JSON has them, by the names of the keys."""
    if isinstance(got, dict) and isinstance(expected, dict):
        for key in sorted(got.keys() | expected.keys()):
            inner = f"{name}.{key}" if name else key
            yield from differences(got.get(key), expected.get(key), inner)
    elif got != expected:
        yield f"{name}: got {got}, expected {expected}"


def write_whole(path: Path, write: Callable[[BinaryIO], object], remedy: str = AGAIN) -> None:
    """Write beside, sync, rename: not even a power failure leaves half a file of this name.

    Args:
        path: of the file.
        write: is given it, open.
        remedy: what to do where the disk is full, once there is space.

    Raises:
        OSError: the file cannot be written; nothing of it is left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL_SUFFIX}")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        message = f"got a full disk; expected room for the file; free some space and {remedy}"
        raise OSError(error.errno, message, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def sha256(file: BinaryIO) -> str:
    """Checksum of what is left of a file, hexadecimal."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
