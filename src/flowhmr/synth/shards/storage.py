"""Where an export lies: in a folder, or at a URL whose shards are fetched when they are needed."""

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from ssl import SSLError
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from urllib.request import Request, urlopen

from filelock import FileLock, Timeout

from flowhmr import __version__
from flowhmr.synth.shards.index import (
    AGAIN,
    INDEX_NAME,
    PARTIAL_SUFFIX,
    Shard,
    ShardIndex,
    parse_index,
    read_index,
    sha256,
    write_whole,
)

PAUSES_S = (1.0, 4.0, 16.0)
"""Waited between one attempt to fetch a file and the next; after the last one, it is an error."""
TIMEOUT_S = 60.0
"""An HTTP server that says nothing for so long is not waited for."""

_BLOCK = 1 << 20
_WAIT_S = 0.2
_AGENT = f"flowhmr/{__version__}"
_AGAIN = "start again (fetched shards are kept), or choose another cache folder"


@dataclass(frozen=True)
class ShardCache:
    """Where shards of URLs are kept. Any number of processes may share it; what they have not used
    for longest goes first."""

    folder: Path
    """Created when missing, on a file system whose locks hold for all who share it."""
    most_gb: float = 50.0
    """All files in it together take no more, those that are being fetched included."""

    def __post_init__(self) -> None:
        if not self.most_gb > 0:
            raise ValueError(f"shard cache: got at most {self.most_gb:g} GB; expected more than 0")


def storage_of(place: Path | str, cache: ShardCache | None) -> "Folder | Remote":
    """What reads the export at a place: a folder, or a URL, for which there must be a cache.

    Raises:
        ValueError: a URL without a cache.
    """
    scheme, split, rest = str(place).partition("://")
    if not split:
        return Folder(Path(place))
    if scheme == "file":
        # file:///shards and file://localhost/shards.
        return Folder(Path(unquote(rest[rest.find("/") :])))
    url = str(place)
    if cache is None:
        raise ValueError(
            f"{shown(url)}: got a URL and no cache; expected a folder that its shards can be "
            "fetched into; give cache=ShardCache(folder)"
        )
    return Remote(url, cache)


@dataclass(frozen=True)
class Folder:
    """An export on a disk."""

    path: Path
    """The folder that `export_shards` wrote."""

    @property
    def name(self) -> str:
        """For messages."""
        return str(self.path)

    def index(self) -> ShardIndex:
        """See `read_index`."""
        return read_index(self.path)

    def open(self, shard: Shard, verify: bool) -> BinaryIO:
        """A shard.

        Raises:
            ValueError: it is missing or damaged.
        """
        path = self.path / shard.name
        try:
            file = path.open("rb")
        except FileNotFoundError:
            message = f"{path}: got no such file; expected a shard; {AGAIN}"
            raise ValueError(message) from None
        fault = _fault(file, shard, verify)
        if fault:
            file.close()
            raise ValueError(f"{path}: got {fault}; delete the file, then {AGAIN}")
        return file


@dataclass(frozen=True)
class Remote:
    """An export at a URL: HTTP by the standard library, everything else by fsspec.

    A shard lies in the cache under its checksum, which is compared before it gets that name: half a
    shard, or another one, is never read.
    """

    url: str
    """Of the folder that holds ``index.json``."""
    cache: ShardCache
    """Where shards are kept."""

    @property
    def name(self) -> str:
        """The URL without what may be secret in it."""
        return shown(self.url)

    def index(self) -> ShardIndex:
        """What the URL holds, asked for anew each time.

        Raises:
            ValueError: there is no index, or it is none of this package's.
            OSError: it cannot be fetched.
        """
        where = f"{self.name}/{INDEX_NAME}"
        for left in _attempts():
            try:
                with _reading(self.url, INDEX_NAME) as source:
                    content = source.read()
            except FileNotFoundError as error:
                raise ValueError(
                    f"{where}: got no such file ({error}); expected the index of exported clips; "
                    "give the URL of the folder that `flowhmr synth export` wrote"
                ) from error
            except _BROKEN as error:
                _pause(left, error, where)
            else:
                return parse_index(content, where)
        raise AssertionError("the last attempt returns or raises")

    def open(self, shard: Shard, verify: bool) -> BinaryIO:
        """A shard, fetched unless it is in the cache.

        Raises:
            ValueError: it is not at the URL, or is another file than the index says.
            OSError: it cannot be fetched or stored.
        """
        path = self.cache.folder / f"{shard.sha256}.tar"
        while True:
            try:
                file = path.open("rb")
            except FileNotFoundError:
                # Others may make room for theirs before it is opened: then once more.
                self._fetch(shard, path)
                continue
            if not _fault(file, shard, verify):
                with suppress(FileNotFoundError):
                    os.utime(path)
                return file
            file.close()
            path.unlink(missing_ok=True)

    def _fetch(self, shard: Shard, path: Path) -> None:
        where = f"{self.name}/{shard.name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with _lock_of(path):
            if path.exists():
                return
            # Those of processes that were killed: who lives holds the lock.
            for partial in path.parent.glob(f".{path.name}.*{PARTIAL_SUFFIX}"):
                partial.unlink(missing_ok=True)
            for left in _attempts():
                try:
                    write_whole(path, lambda file: self._copy(shard, path, file), _AGAIN)
                except FileNotFoundError as error:
                    raise ValueError(
                        f"{where}: got no such file ({error}); expected a shard that the index "
                        "names; upload the export's folder again"
                    ) from error
                except _BROKEN as error:
                    _pause(left, error, where)
                except _WrongFile as error:
                    if not left:
                        raise ValueError(
                            f"{where}: got {error}; check the connection, or upload the export's "
                            f"folder again, its {INDEX_NAME} last"
                        ) from error
                    time.sleep(left)
                else:
                    return

    def _copy(self, shard: Shard, path: Path, file: BinaryIO) -> None:
        """Download into a file that counts at its full size from the beginning."""
        while True:
            with FileLock(self.cache.folder / ".room.lock"):
                if self._make_room(shard, path):
                    file.truncate(shard.bytes)
                    break
            time.sleep(_WAIT_S)
        digest, size = hashlib.sha256(), 0
        with _reading(self.url, shard.name) as source:
            while size <= shard.bytes and (block := source.read(_BLOCK)):
                digest.update(block)
                size += len(block)
                file.write(block)
        if size < shard.bytes:
            raise _WrongFile(f"{size} bytes; expected {shard.bytes}")
        if size > shard.bytes:
            raise _WrongFile(f"a file of more bytes; expected {shard.bytes}")
        if digest.hexdigest() != shard.sha256:
            raise _WrongFile(
                f"a file with the checksum {digest.hexdigest()}; expected {shard.sha256}"
            )

    def _make_room(self, shard: Shard, path: Path) -> bool:
        """Remove what was not used for longest; False while others fetch what fills the cache."""
        most = int(self.cache.most_gb * 1e9)
        if shard.bytes > most:
            raise ValueError(
                f"{self.cache.folder}: got a cache of at most {self.cache.most_gb:g} GB; expected "
                f"room for a shard of {shard.bytes / 1e9:.3g} GB; allow a larger cache"
            )
        coming = _sizes(self.cache.folder.glob(f".*.tar.*{PARTIAL_SUFFIX}"))
        for partial in list(coming):
            other = partial.with_name(partial.name[1:].partition(".tar.")[0] + ".tar")
            if other == path:
                del coming[partial]
            elif not _is_held(_lock_of(other)):
                partial.unlink(missing_ok=True)
                del coming[partial]
        ready = _sizes(self.cache.folder.glob("*.tar"))
        used = shard.bytes + sum(s.st_size for s in (*ready.values(), *coming.values()))
        for oldest in sorted(ready, key=lambda each: ready[each].st_mtime_ns):
            if used <= most:
                break
            oldest.unlink(missing_ok=True)
            used -= ready[oldest].st_size
        if shard.bytes > shutil.disk_usage(self.cache.folder).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return used <= most


class _WrongFile(Exception):
    """What was fetched is not what the index says."""


_BROKEN = (ConnectionError, TimeoutError, SSLError, HTTPException, URLError)
"""Another attempt may go well."""


def shown(url: str) -> str:
    """A URL without a password, and without a query, which may hold a signature."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}"


@contextmanager
def _reading(url: str, name: str) -> Iterator[BinaryIO]:
    """A file below a URL.

    Raises:
        FileNotFoundError: there is none.
        ValueError: nothing that is installed reads such URLs.
        OSError: it cannot be read; one of `_BROKEN` where another attempt may help.
    """
    protocol = urlsplit(url).scheme
    opened = _by_http if protocol in ("http", "https") else _by_fsspec
    try:
        with opened(url, name) as file:
            yield file
    except PermissionError as error:
        raise PermissionError(
            f"{shown(url)}/{name}: got {error}; expected to be let in; check the URL, and that the "
            "credentials for it are set"
        ) from error


@contextmanager
def _by_http(url: str, name: str) -> Iterator[BinaryIO]:
    parts = urlsplit(url)
    whole = urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name)}"))
    request = Request(whole, headers={"User-Agent": _AGENT})
    try:
        with urlopen(request, timeout=TIMEOUT_S) as file:
            yield file
    except HTTPError as error:
        error.close()
        if error.code in (404, 410):
            raise FileNotFoundError(str(error)) from error
        if error.code < 500 and error.code not in (408, 429):
            raise PermissionError(str(error)) from error
        raise ConnectionError(str(error)) from error


@contextmanager
def _by_fsspec(url: str, name: str) -> Iterator[BinaryIO]:
    import fsspec

    try:
        system, root = fsspec.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ValueError(
            f"{shown(url)}: got a URL that nothing installed here reads ({error}); expected https, "
            "file, or a protocol whose library for fsspec is installed; for s3:// it is "
            "`pip install s3fs`, for gs:// `pip install gcsfs`, for az:// `pip install adlfs`"
        ) from error
    try:
        with system.open(f"{root.rstrip('/')}/{name}", "rb") as file:
            yield file
    except (OSError, _WrongFile):
        raise
    except Exception as error:  # each library has its own, without a common ancestor
        raise ConnectionError(f"{type(error).__name__}: {error}") from error


def _fault(file: BinaryIO, shard: Shard, verify: bool) -> str:
    """What is wrong with a shard's file; nothing if it is the index's."""
    size = os.fstat(file.fileno()).st_size
    if size != shard.bytes:
        return f"{size} bytes; expected {shard.bytes}"
    if verify and (found := sha256(file)) != shard.sha256:
        return f"a file with the checksum {found}; expected {shard.sha256}"
    return ""


def _attempts() -> Iterator[float]:
    """Seconds to wait after each attempt that fails; 0: it was the last."""
    yield from (*PAUSES_S, 0.0)


def _pause(left_s: float, error: Exception, where: str) -> None:
    if not left_s:
        raise ConnectionError(
            f"{where}: got {error}; expected the file, in {len(PAUSES_S) + 1} attempts; check the "
            "URL and the connection, then start again: fetched shards are kept"
        ) from error
    time.sleep(left_s)


def _lock_of(path: Path) -> FileLock:
    """Held by who fetches a shard; the system lets go of it for a process that is killed."""
    return FileLock(path.with_name(f".{path.name}.lock"))


def _is_held(lock: FileLock) -> bool:
    try:
        with lock.acquire(blocking=False):
            return False
    except Timeout:
        return True


def _sizes(paths: Iterator[Path]) -> dict[Path, os.stat_result]:
    """What is known of the files that are still there."""
    found = {}
    for path in paths:
        with suppress(FileNotFoundError):
            found[path] = path.stat()
    return found
