"""A pool of stills on disk: rendered once, read by memory map, resumable chunk by chunk."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from flowhmr.body import open_body
from flowhmr.distributed import first_before_others, in_shares
from flowhmr.records import Labels
from flowhmr.synth.scenes import sample_background
from flowhmr.synth.stills import StillConfig, render_stills
from flowhmr.synth.store import save_npy, write_whole

logger = logging.getLogger(__name__)

FORMAT = 2
BATCH = 32


@dataclass(frozen=True)
class PoolConfig:
    """What a pool holds."""

    stills: StillConfig = field(default_factory=StillConfig)
    """How each still is made."""
    count: int = 60_000
    """How many stills."""
    backgrounds: int = 2_000
    """How many background pictures."""
    background_px: int = 160
    """Width and height of the backgrounds."""
    chunk: int = 2_000
    """Stills per file: the unit that is rendered, or rendered again after an interruption."""

    def key(self) -> str:
        """Names the content; the count is not part of it, since a larger pool goes on where a
        smaller one ends."""
        content = {k: v for k, v in asdict(self).items() if k != "count"}
        text = json.dumps([FORMAT, open_body().body_id, content], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class StillPool:
    """Stills and backgrounds of a `PoolConfig`, rendered into ``folder`` unless they are there.

    Of several processes each renders its share.

    Args:
        config: what the pool holds.
        folder: parent folder; each pool lives in a folder of its own, named by its key.
        workers: processes that render.
        on_progress: called with (stills ready, stills in all) after each chunk.
    """

    def __init__(
        self,
        config: PoolConfig,
        folder: Path,
        workers: int = 2,
        on_progress: Callable[[int, int], None] | None = None,
    ):
        self.config = config
        self.folder = folder / f"pool-{config.key()}"
        self.folder.mkdir(parents=True, exist_ok=True)
        starts = range(0, config.count, config.chunk)
        told = on_progress or (lambda done, total: None)
        with first_before_others():
            if not (self.folder / "backgrounds.npy").exists():
                _render_backgrounds(self.config, self.folder)
        in_shares(starts, lambda part: self._make(part, workers, told))
        self._rgba = [np.load(self._file(s, ".npy"), mmap_mode="r") for s in starts]
        tables = [load_file(self._file(s, ".safetensors")) for s in starts]
        self._tables = {k: torch.cat([t[k] for t in tables]) for k in tables[0]}
        self.backgrounds: UInt8[np.ndarray, "n h w 3"] = np.load(
            self.folder / "backgrounds.npy", mmap_mode="r"
        )

    def __len__(self) -> int:
        return self.config.count

    def rgba(self, index: int) -> UInt8[np.ndarray, "s s 4"]:
        """The picture of one still."""
        chunk, row = divmod(index, self.config.chunk)
        return self._rgba[chunk][row]

    def labels(self, indices: Int[Tensor, "n"]) -> Labels:
        """The labels of some stills, in pixels of their pictures."""
        return _labels_from_table({k: v[indices] for k, v in self._tables.items()})

    def _file(self, start: int, suffix: str) -> Path:
        return self.folder / f"stills-{start:07d}{suffix}"

    def _ready(self, start: int) -> int:
        """How many stills a chunk holds: fewer than wanted where a smaller pool ended in it."""
        # The table is written last: where it is, its pictures are.
        table = self._file(start, ".safetensors")
        if not table.exists():
            return 0
        with safe_open(table, "pt") as file:
            return file.get_slice("betas").get_shape()[0]

    def _make(
        self, starts: list[int], workers: int, on_progress: Callable[[int, int], None]
    ) -> None:
        wanted = {s: min(self.config.chunk, self.config.count - s) for s in starts}
        missing = [s for s in starts if self._ready(s) < wanted[s]]
        job = partial(_render_chunk, self.config, self.folder)
        if not missing:
            return
        total = sum(wanted.values())
        done = total - sum(wanted[s] for s in missing)
        room = shutil.disk_usage(self.folder).free
        need = len(missing) * self.config.chunk * self.config.stills.size_px**2 * 4
        if need > room:
            raise OSError(
                f"{self.folder}: got {room / 1e9:.1f} GB of free disk; expected "
                f"{need / 1e9:.1f} GB for the pool; choose another --cache folder or fewer stills"
            )
        if workers == 1:
            for start in missing:
                job(start)
                done += wanted[start]
                on_progress(done, total)
            return
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for start, _ in zip(missing, pool.map(job, missing), strict=True):
                done += wanted[start]
                on_progress(done, total)


def _table_from_labels(labels: Labels) -> dict[str, Tensor]:
    assert labels.surface is not None
    return {
        "rotmats": labels.params.rotmats.contiguous(),
        "betas": labels.params.betas.contiguous(),
        "joints_m": labels.joints_m.contiguous(),
        "keypoints_px": labels.keypoints_px.contiguous(),
        "surface": labels.surface.contiguous(),
    }


def _labels_from_table(row: dict[str, Tensor]) -> Labels:
    keypoints_px = row["keypoints_px"]
    return Labels(
        open_body().params(row["rotmats"], row["betas"]),
        row["joints_m"],
        keypoints_px,
        torch.ones_like(keypoints_px[..., 0]),
        row["surface"],
    )


def _render_chunk(config: PoolConfig, folder: Path, start: int) -> None:
    body = open_body()
    end = min(start + config.chunk, config.count)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        parts = [
            render_stills(config.stills, range(i, min(i + BATCH, end)), body)
            for i in range(start, end, BATCH)
        ]
    finally:
        torch.set_num_threads(threads)
    rgba = torch.cat([p.rgba for p in parts]).numpy()
    tables = [_table_from_labels(p.labels) for p in parts]
    table = {k: torch.cat([t[k] for t in tables]) for k in tables[0]}
    target = folder / f"stills-{start:07d}"
    write_whole(target.with_suffix(".npy"), lambda path: save_npy(path, rgba))
    write_whole(target.with_suffix(".safetensors"), lambda path: save_file(table, path))


def _render_backgrounds(config: PoolConfig, folder: Path) -> None:
    side = config.background_px
    images = np.stack(
        [
            sample_background(np.random.default_rng([config.stills.seed, 1, i]), side, side)
            for i in range(config.backgrounds)
        ]
    )
    write_whole(folder / "backgrounds.npy", lambda path: save_npy(path, images))
