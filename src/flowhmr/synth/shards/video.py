"""Exported clips as video: pictures are read when they are looked at."""

import hashlib
from collections.abc import Sequence as Several
from functools import lru_cache
from pathlib import Path
from typing import overload

import numpy as np
import torch
from jaxtyping import UInt8

from flowhmr.records import Sequence
from flowhmr.synth.shards import ShardClips
from flowhmr.synth.shards.storage import ShardCache

KEPT = 4
"""Clips whose pictures stay in memory, in each process."""


class ClipPictures(Several):
    """The pictures of an exported clip.

    Args:
        frames: reads whole clips.
        clip: number of the clip.
        rows: which of its frames.
    """

    def __init__(self, frames: "_Frames", clip: int, rows: range):
        self._frames, self._clip, self._rows = frames, clip, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]: ...
    @overload
    def __getitem__(self, index: slice) -> "ClipPictures": ...
    def __getitem__(self, index: int | slice) -> "np.ndarray | ClipPictures":
        """One picture, RGB, or some of them.

        Raises:
            IndexError: no such frame.
            OSError, ValueError: the clip cannot be read.
        """
        if isinstance(index, slice):
            return ClipPictures(self._frames, self._clip, self._rows[index])
        return self._frames.read(self._clip)[self._rows[index]]

    def identity(self) -> bytes:
        """Hash of the shard's checksum and of which clip and frames of it these are."""
        shard = self._frames.clips.shard_of(self._clip)
        return hashlib.sha256(repr((shard.sha256, self._clip, self._rows)).encode()).digest()


def shard_videos(place: Path | str, cache: ShardCache | None = None) -> list[Sequence]:
    """The clips of an export as video without labels. All shards are read once, for the boxes.

    Args:
        place: a folder, or a URL: see `ShardClips`.
        cache: where the shards of a URL are kept.

    Raises:
        ValueError: as `ShardClips`; single pictures.
        OSError: something cannot be fetched.
    """
    clips = ShardClips(place, ("frames", "labels"), cache=cache)
    frames = _Frames(clips)
    videos = []
    for number in range(len(clips)):
        info = clips.info_of(number)
        if info.frames < 2:
            raise ValueError(
                f"{clips.name}: got clips of one frame; expected video; export clips of more frames"
            )
        name = f"{clips.name}#{number}"
        boxes_px = clips.layers_of(number, ("labels",))["boxes_px"]
        pictures = ClipPictures(frames, number, range(info.frames))
        times_s = torch.arange(info.frames) / info.fps
        videos.append(Sequence(name, name, pictures, times_s, boxes_px, labels=None))
    return videos


class _Frames:
    """Reads the pictures of clips, and keeps those asked for last."""

    def __init__(self, clips: ShardClips):
        self.clips = clips
        self.read = lru_cache(KEPT)(self._read)

    def __reduce__(self) -> tuple:
        # Worker processes read for themselves.
        return _Frames, (self.clips,)

    def _read(self, clip: int) -> UInt8[np.ndarray, "t h w 3"]:
        return self.clips.layers_of(clip, ("frames",))["images"].numpy()
