"""Flow between the frames of many sequences, at the network's size: estimated once, then read.

For runs that see every pair of their videos, many times over; `flowhmr.flow.FlowCache` keeps fine
flow and suits those that see a few.
"""

import copy
import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from flowhmr.cameras import Crop
from flowhmr.data.sequences import Link, PairSource
from flowhmr.distributed import in_shares
from flowhmr.flow import FlowPair
from flowhmr.records import Sequence
from flowhmr.synth import write_whole

FORMAT = 1


class StoredLinks:
    """The links of some sequences, kept in a folder (half precision) and mapped into memory.

    Of several processes each estimates its share.

    Args:
        source: estimates what is missing.
        estimator: names the flow estimator; part of what a file is found by.
        sequences: all that will be asked for.
        size_px: of the network's crops, and of the stored flow.
        folder: where files are kept, one for each sequence.
        workers: threads that estimate.
        on_progress: told (sequences ready, sequences in all); the same images count once.

    Raises:
        OSError: the folder cannot be written to.
        ValueError: two different sequences of one name.
    """

    def __init__(
        self,
        source: PairSource,
        estimator: str,
        sequences: list[Sequence],
        size_px: int,
        folder: Path,
        workers: int = 2,
        on_progress: Callable[[int, int], None] | None = None,
    ):
        self.config, self.size_px, self._source = source.config, size_px, source
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        # One window of frames needs the same links as another: not part of the key.
        settings = {k: v for k, v in asdict(self.config).items() if k not in ("frames", "context")}
        settings = json.dumps([FORMAT, estimator, size_px, settings], sort_keys=True)
        tables: dict[str, dict[str, Tensor]] = {}
        with ThreadPoolExecutor(workers) as pool:
            keys = list(pool.map(partial(sequence_key, settings), sequences))
            named = _by_name(sequences, keys)
            # Each file once: two threads must not write the same one.
            distinct = dict(zip(keys, sequences))

            def make(part: list[str]) -> None:
                made = pool.map(self._table, part, [distinct[key] for key in part])
                for number, (key, table) in enumerate(zip(part, made), 1):
                    tables[key] = table
                    if on_progress is not None:
                        on_progress(number, len(part))

            in_shares(list(distinct), make)
        self._tables = {name: tables[key] for name, key in named.items()}

    def windows(self, frames: int, context: int) -> "StoredLinks":
        """The same links for windows of so many frames, with so many before each."""
        other = copy.copy(self)
        other.config = replace(self.config, frames=frames, context=context)
        return other

    def link(self, sequence: Sequence, start: int, size_px: int) -> Link:
        """See `PairSource`.

        Raises:
            ValueError: a sequence or a size that was not prepared, or a frame without another
                ``gap`` after it.
        """
        table = self._tables.get(sequence.name)
        if table is None or size_px != self.size_px:
            raise ValueError(
                f"links: got sequence {sequence.name!r} at {size_px} px; expected one of the "
                f"{len(self._tables)} prepared, at {self.size_px} px"
            )
        starts = len(table["end"]) if table else 0
        if not 0 <= start < starts:
            raise ValueError(
                f"links: got frame {start} of sequence {sequence.name!r}; expected one of its "
                f"first {starts}, those with another {self.config.gap} frames later"
            )
        row = {k: v[start] for k, v in table.items()}
        still = torch.zeros(())
        window = Crop(row["centre_px"], row["side_px"], still, still, size_px)
        masks = row["valid"].numpy()
        bits = np.unpackbits(masks, axis=-1, count=size_px * size_px).astype(bool)
        valid = torch.from_numpy(bits).unflatten(-1, (size_px, size_px))
        flow = row["flow"].float()
        return Link(int(row["end"]), window, FlowPair(flow[0], flow[1], valid[0], valid[1]))

    def links(self, sequence: Sequence, size_px: int) -> list[Link]:
        """`link` from each frame."""
        starts = range(max(len(sequence) - self.config.gap, 0))
        return [self.link(sequence, start, size_px) for start in starts]

    def _table(self, key: str, sequence: Sequence) -> dict[str, Tensor]:
        path = self._folder / f"{key}.safetensors"
        # Mapped: what is not looked at takes no memory, processes share what is.
        try:
            return load_file(path)
        except (FileNotFoundError, SafetensorError):
            pass
        rows = [_packed(link) for link in self._source.links(sequence, self.size_px)]
        table = {k: torch.stack([row[k] for row in rows]) for k in rows[0]} if rows else {}
        write_whole(path, lambda temporary: save_file(table, temporary))
        return load_file(path)


@runtime_checkable
class OnDisk(Protocol):
    """Images that are read when asked for."""

    def identity(self) -> bytes:
        """Tells them from other ones without reading them."""
        ...


def sequence_key(settings: str, sequence: Sequence) -> str:
    """What is made of a sequence under some settings is found by this: settings, images, boxes."""
    digest = hashlib.sha256(settings.encode())
    digest.update(sequence.boxes_px.numpy().tobytes())
    if isinstance(sequence.images, OnDisk):
        digest.update(sequence.images.identity())
        return digest.hexdigest()[:24]
    for image in sequence.images:
        digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()[:24]


def _by_name(sequences: list[Sequence], keys: list[str]) -> dict[str, str]:
    """The key of each name; what is asked for later is known by its name."""
    named: dict[str, str] = {}
    for sequence, key in zip(sequences, keys):
        if named.setdefault(sequence.name, key) != key:
            raise ValueError(
                f"links: got two different sequences of the name {sequence.name!r}; expected a "
                "name for each; rename one of the videos"
            )
    return named


def _packed(link: Link) -> dict[str, Tensor]:
    masks = torch.stack([link.flow.forward_valid, link.flow.backward_valid]).flatten(1)
    return {
        "end": torch.tensor(link.end),
        "centre_px": link.window.centre_px,
        "side_px": link.window.side_px,
        "flow": torch.stack([link.flow.forward, link.flow.backward]).half(),
        "valid": torch.from_numpy(np.packbits(masks.numpy(), axis=-1)),
    }
