"""Flow on disk: estimated once, found again by content, estimator and settings."""

import hashlib
import logging
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from flowhmr.flow.codec import FORMAT_VERSION, DamagedEntry, pack_pair, unpack_pair
from flowhmr.flow.consistency import Consistency
from flowhmr.flow.estimators import FlowEstimator, estimate_pair, require_frames
from flowhmr.flow.maps import FlowPair

_ENTRY_SUFFIX = ".flow"
_PARTIAL_SUFFIX = ".partial"
_ABANDONED_AFTER_S = 3600.0
"""A writer holds a partial file for milliseconds: an older one has lost its writer."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CacheSize:
    """What a cache folder holds."""

    entries: int
    """Number of stored pairs."""
    bytes: int
    """Their size on disk."""


class FlowCache:
    """Flow pairs of an estimator, stored in a folder that any number of writers may share.

    A pair comes out the same whether it was just computed or found: both went through the stored
    form, which is off by at most 1/128 px (`flowhmr.flow.codec`).

    Entries appear whole, under their final name, or not at all; what a crash or a bad disk leaves
    behind fails its checksum and is computed anew, with a warning. When nothing can be written
    (full disk, read-only folder), flow is computed without being stored, with one warning.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        estimator: FlowEstimator,
        consistency: Consistency | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.estimator = estimator
        self.consistency = consistency or Consistency()
        self._identity = estimator.identity()
        self._warned = False
        self._remove_abandoned()

    def pair(
        self, frame1: UInt8[np.ndarray, "h w 3"], frame2: UInt8[np.ndarray, "h w 3"]
    ) -> FlowPair:
        """Flow between two RGB frames, stored or computed; no batch axis.

        Raises:
            FlowError: the estimator failed.
            ValueError: the two arrays are not RGB frames of one size.
        """
        require_frames(frame1, frame2)
        key = self._key(frame1, frame2)
        found = self._read(key)
        if found is not None:
            return found
        pair = estimate_pair(self.estimator, frame1, frame2, self.consistency)
        entry = pack_pair(pair, key)
        self._write(key, entry)
        return unpack_pair(entry, key)

    def size(self) -> CacheSize:
        """Number and bytes of the entries in the folder, those of other estimators included."""
        sizes = [size for size in map(_bytes_or_none, self._entries()) if size is not None]
        return CacheSize(entries=len(sizes), bytes=sum(sizes))

    def clear(self) -> None:
        """Delete all entries in the folder, those of other estimators included; nothing else."""
        for path in self._entries():
            path.unlink(missing_ok=True)
        self._remove_abandoned()

    def _key(self, frame1: np.ndarray, frame2: np.ndarray) -> str:
        settings = (FORMAT_VERSION, self._identity, self.consistency, frame1.shape)
        digest = hashlib.sha256(repr(settings).encode())
        for frame in (frame1, frame2):
            digest.update(np.ascontiguousarray(frame).data)
        return digest.hexdigest()

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / (key + _ENTRY_SUFFIX)

    def _entries(self) -> Iterator[Path]:
        return self.folder.glob("[0-9a-f][0-9a-f]/*" + _ENTRY_SUFFIX)

    def _read(self, key: str) -> FlowPair | None:
        path = self._path(key)
        try:
            return unpack_pair(path.read_bytes(), key)
        except FileNotFoundError:
            return None
        except (DamagedEntry, OSError) as error:
            _log.warning("flow cache: %s cannot be used and is computed anew: %s", path, error)
            return None

    def _write(self, key: str, entry: bytes) -> None:
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_whole(path, entry, self.folder)
        except OSError as error:
            if not self._warned:
                self._warned = True
                _log.warning(
                    "flow cache: cannot store in %s (%s); flow that is not there yet is computed "
                    "each time; free some space or choose another folder",
                    self.folder,
                    error,
                )

    def _remove_abandoned(self) -> None:
        for path in self.folder.glob("*" + _PARTIAL_SUFFIX):
            try:
                if time.time() - path.stat().st_mtime >= _ABANDONED_AFTER_S:
                    path.unlink()
            except OSError:
                # Another process was faster, or the folder is read-only.
                continue


def _write_whole(path: Path, content: bytes, partials: Path) -> None:
    """Write beside, then rename: readers see the old file, the new one, never a part.

    There is no fsync, which would cost as much as the flow (8 ms): what a power failure may lose
    is found by the checksum.
    """
    partial = partials / (uuid.uuid4().hex + _PARTIAL_SUFFIX)
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _bytes_or_none(path: Path) -> int | None:
    """The file's size; None when another process has just deleted it."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
