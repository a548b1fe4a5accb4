"""What a long pass over a video has found so far, on disk, so that it can go on where it was."""

import base64
import errno
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowhmr.data.video_decode import is_image

WRITE_EVERY_S = 5.0


class Journal:
    """Rows of JSON by frame number, appended to a file; a kill loses the last seconds at most.

    A journal of another key (another video, other settings) is begun anew. A line that is cut off
    or damaged ends what is taken over.

    Args:
        path: the file; None keeps nothing.
        key: what the rows follow from; anything JSON can hold.

    Raises:
        OSError: the file cannot be written; says what to do.
    """

    def __init__(self, path: Path | None, key: dict[str, Any]):
        self.path = path
        self._rows: dict[int, Any] = {}
        self._file = None
        if path is None:
            return
        header = json.dumps(key, sort_keys=True, default=str)
        kept = self._read(path, header)
        with self._told():
            self._file = path.open("r+b" if kept else "wb")
            self._file.truncate(kept)
            self._file.seek(kept)
            if not kept:
                self._file.write(header.encode() + b"\n")
        self._written = time.monotonic()

    def _read(self, path: Path, header: str) -> int:
        """Take over the rows of a file of the same key; how many of its bytes are whole."""
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return 0
        lines = content.split(b"\n")[:-1]
        if not lines or lines[0] != header.encode():
            return 0
        kept = len(lines[0]) + 1
        for line in lines[1:]:
            try:
                frame, row = json.loads(line)
                self._rows[int(frame)] = row
            except (ValueError, TypeError):
                break
            kept += len(line) + 1
        return kept

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            with self._told():
                file.close()

    def row(self, frame: int) -> Any | None:
        """What was found in a frame, if the pass had come that far."""
        return self._rows.get(frame)

    def add(self, frame: int, row: Any) -> None:
        """Remember what was found in a frame.

        Raises:
            OSError: the disk is full; says what to do.
        """
        self._rows[frame] = row
        if self._file is None:
            return
        with self._told():
            self._file.write(json.dumps([frame, row], separators=(",", ":")).encode() + b"\n")
            if time.monotonic() - self._written > WRITE_EVERY_S:
                self._file.flush()
                os.fsync(self._file.fileno())
                self._written = time.monotonic()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            wanted = (
                "free space; free some" if full else "a file that can be written to; make it so"
            )
            raise OSError(
                f"{self.path}: got {error.strerror} while writing; expected {wanted} and start the "
                "same command again: what was written is kept"
            ) from error


def packed(values: Tensor) -> str:
    """Numbers as a row can hold them, exactly (float32)."""
    return base64.b64encode(values.numpy().astype("<f4").tobytes()).decode()


def unpacked(text: str, *shape: int) -> Tensor:
    """Inverse of `packed`."""
    values = np.frombuffer(base64.b64decode(text), "<f4").astype(np.float32)
    return torch.from_numpy(values).reshape(shape)


def source_key(path: Path) -> dict[str, Any]:
    """What tells a video or a folder of images from another one, without reading it.

    Raises:
        OSError: there is no such file.
    """
    # Results may be written beside the images.
    files = sorted(filter(is_image, path.iterdir())) if path.is_dir() else [path]
    stats = [file.stat() for file in files]
    return {
        "source": str(path.resolve()),
        "bytes": sum(s.st_size for s in stats),
        "changed": max((s.st_mtime_ns for s in stats), default=0),
    }
