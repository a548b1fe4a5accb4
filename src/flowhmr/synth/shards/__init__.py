"""Synthetic clips on disk as WebDataset shards: written once, resumable, read by number.

A shard is a plain tar file ``synth-000000.tar``; clip 12 is its members ``000012.json``,
``000012.frames.png`` and so on (`flowhmr.synth.shards.codec`). ``index.json`` beside the shards
lists them with their checksums and says what was exported.

A shard counts once the index names it. It is written under another name, synced and renamed
before that, so that a process killed at any time leaves nothing behind that counts and is not
whole. The same configuration gives the same bytes for any number of workers. One export at a time
may write to a folder; that can be many processes that torchrun started, each of which makes its
share and keeps an index of its own until all are done.
"""

import errno
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any, BinaryIO

import torch
from torch.utils.data import Dataset

from flowhmr import __version__
from flowhmr.body import open_body
from flowhmr.distributed import first_before_others, is_first, meet, this_share
from flowhmr.synth.shards.codec import (
    ALL_LAYERS,
    LONGEST_PNG_PX,
    ClipInfo,
    Layers,
    decode_clip,
    decode_info,
    decode_layers,
    encode_clip,
    most_bytes,
)
from flowhmr.synth.shards.index import (
    AGAIN,
    FORMAT,
    INDEX_NAME,
    OWN_INDEX,
    PARTIAL_SUFFIX,
    Shard,
    ShardIndex,
    differences,
    read_index,
    sha256,
    write_index,
    write_whole,
)
from flowhmr.synth.shards.storage import ShardCache, storage_of
from flowhmr.synth.stage import SynthConfig
from flowhmr.synth.truth import SynthClip, synth_clip

# Clips differ in size: the next shard may be larger than the largest so far.
_SPARE = 1.25


@dataclass(frozen=True)
class ExportConfig:
    """What an export holds."""

    clips: SynthConfig = field(default_factory=SynthConfig)
    """Which clips."""
    count: int = 1000
    """Clips 0 to count - 1 are exported."""
    per_shard: int = 64
    """Clips per file: the unit that is made, or made again after an interruption. About 6 MB a
    clip of 31 frames of 128 px with all layers."""
    layers: tuple[str, ...] = ALL_LAYERS
    """Which ground truth is written: some of frames, labels, surface, flow, depth and masks."""

    def __post_init__(self) -> None:
        if self.count < 1 or self.per_shard < 1:
            raise ValueError(
                f"export: got {self.count} clips, {self.per_shard} per shard; expected at least "
                "one of each"
            )
        _require_layers(self.layers, ALL_LAYERS, "export")
        high = self.clips.frames * self.clips.size_px
        if "frames" in self.layers and high > LONGEST_PNG_PX:
            raise ValueError(
                f"export: got clips of {self.clips.frames} frames of {self.clips.size_px} px; "
                f"expected at most {LONGEST_PNG_PX // self.clips.size_px} frames, which one PNG "
                "can hold; export shorter clips"
            )


def export_shards(
    config: ExportConfig,
    folder: Path,
    workers: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Make clips and write them to ``folder``, unless they are there; what is missing is made.

    Of several processes each makes its share.

    Args:
        config: what to export.
        folder: where; created when missing.
        workers: processes that render, each a shard at a time.
        on_progress: called with (clips ready, clips in all) after each shard; of several
            processes, those that were ready and this one's.

    Returns:
        The export's ``index.json``.

    Raises:
        ValueError: no worker; the folder holds an export of something else, or is not the same
            for all processes.
        OSError: the disk is full, or too full for the next shards.
    """
    if workers < 1:
        raise ValueError(f"export: got {workers} workers; expected at least one")
    folder.mkdir(parents=True, exist_ok=True)
    made_from, share = _made_from(config), this_share()
    own_name = INDEX_NAME if share.count == 1 else OWN_INDEX.format(share.index)
    with first_before_others():
        finished = _finished(config, made_from, folder)
        if is_first():
            _gather(folder, made_from, finished)
    numbers = range(-(-config.count // config.per_shard))
    missing = [number for number in share.of(numbers) if number not in finished]

    def check_room(shards_at_once: int) -> None:
        _check_room(config, folder, list(finished.values()), shards_at_once)

    for shard in _made(partial(_make_shard, config, folder), missing, workers, check_room):
        finished[shard.first // config.per_shard] = shard
        shards = tuple(finished[number] for number in sorted(finished))
        write_index(folder, ShardIndex(made_from, shards), own_name)
        if on_progress:
            on_progress(sum(s.clips for s in shards), config.count)
    meet()
    with first_before_others():
        if is_first():
            finished = _finished(config, made_from, folder)
            _gather(folder, made_from, finished)
    ready = len(read_index(folder).shards)
    if ready != len(numbers):
        raise ValueError(
            f"{folder}: got {ready} shards of {share.count} processes; expected {len(numbers)}; "
            "choose a folder that all of them see"
        )
    return folder / INDEX_NAME


def _gather(folder: Path, made_from: dict[str, Any], finished: dict[int, Shard]) -> None:
    """One index of all that is finished; nothing else that an earlier export left."""
    shards = tuple(finished[number] for number in sorted(finished))
    write_index(folder, ShardIndex(made_from, shards))
    for pattern in (f".*{PARTIAL_SUFFIX}", OWN_INDEX.format("*")):
        for left_over in folder.glob(pattern):
            left_over.unlink()


class ShardClips(Dataset[SynthClip]):
    """The clips of an export, by number.

    May be handed to the workers of a ``DataLoader``: no file stays open between two clips.

    Args:
        folder: where `export_shards` wrote them, or the URL of such a folder: ``https://``,
            ``s3://``, ``gs://`` and all else that fsspec reads. Of a URL, the index is read at
            once, and a shard is fetched when a clip of it is first asked for.
        layers: what to read; all that was exported by default.
        verify: check a shard's checksum when it is first read, in each process. Without it, only
            the size of a shard is checked. What is fetched is always checked on its way.
        cache: where the shards of a URL are kept.

    Raises:
        ValueError: no index, an unfinished export, or one without these layers; a URL that nothing
            installed reads, or without a cache.
        OSError: the index cannot be fetched.
    """

    def __init__(
        self,
        folder: Path | str,
        layers: tuple[str, ...] | None = None,
        verify: bool = True,
        cache: ShardCache | None = None,
    ):
        self._storage = storage_of(folder, cache)
        self.name = self._storage.name
        self.index = self._storage.index()
        config = self.index.made_from["config"]
        exported = tuple(config["layers"])
        self.layers = exported if layers is None else layers
        _require_layers(self.layers, exported, self.name)
        self._count: int = config["count"]
        self._per_shard: int = config["per_shard"]
        ready = sum(shard.clips for shard in self.index.shards)
        if ready != self._count:
            raise ValueError(
                f"{self.name}: got an unfinished export of {ready} clips; expected {self._count}; "
                f"{AGAIN}"
            )
        self._verify = verify
        self._members: dict[str, dict[str, tuple[int, int]]] = {}

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> SynthClip:
        """One clip, as it was before the export.

        Raises:
            IndexError: there is no such clip.
            ValueError: not all layers are read; a shard is missing or damaged.
        """
        missing = [name for name in ALL_LAYERS if name not in self.layers]
        if missing:
            raise ValueError(
                f"{self.name}: got the layers {', '.join(self.layers)}; a SynthClip takes "
                f"{', '.join(missing)} too; use layers_of, or export and read all layers"
            )
        return self._decoded(index, decode_clip)

    def layers_of(self, index: int, layers: tuple[str, ...] | None = None) -> Layers:
        """The arrays of one clip's layers by name: ``images``, ``rotmats``, ``flow_forward``...

        Args:
            index: number of the clip.
            layers: which of those that are read; all by default.

        Raises:
            IndexError: there is no such clip.
            ValueError: a shard is missing or damaged.
        """
        wanted = self.layers if layers is None else layers
        return self._decoded(index, lambda members: decode_layers(members, wanted))

    def shard_of(self, index: int) -> Shard:
        """The file that a clip is in."""
        return self.index.shards[index // self._per_shard]

    def info_of(self, index: int) -> ClipInfo:
        """Name, size and body of one clip.

        Raises:
            IndexError: there is no such clip.
            ValueError: a shard is missing or damaged.
        """
        return self._decoded(index, decode_info)

    def _decoded(self, index: int, decode: Callable[[dict[str, bytes]], Any]) -> Any:
        if not 0 <= index < self._count:
            raise IndexError(f"{self.name}: got clip {index}; expected 0 to {self._count - 1}")
        shard = self.shard_of(index)
        first = shard.name not in self._members
        with self._storage.open(shard, self._verify and first) as file:
            where = f"{self.name}/{shard.name}"
            if first:
                self._members[shard.name] = _members(file, where)
            key = _key(index) + "."
            try:
                return decode(
                    {
                        name.removeprefix(key): _read(file, *place)
                        for name, place in self._members[shard.name].items()
                        if name.startswith(key)
                    }
                )
            except (OSError, ValueError) as error:
                raise ValueError(f"{where}: clip {index} cannot be read: {error}") from error


def _members(file: BinaryIO, where: str) -> dict[str, tuple[int, int]]:
    """Where each member of a shard begins, and its size."""
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            return {member.name: (member.offset_data, member.size) for member in tar}
    except tarfile.TarError as error:
        raise ValueError(
            f"{where}: got no tar file ({error}); expected a shard; delete the file, then {AGAIN}"
        ) from error


def _require_layers(layers: tuple[str, ...], known: tuple[str, ...], owner: str) -> None:
    if not layers or len(set(layers)) != len(layers) or not set(layers) <= set(known):
        raise ValueError(
            f"{owner}: got the layers {', '.join(layers) or '(none)'}; expected some of "
            f"{', '.join(known)}, each once"
        )


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _key(index: int) -> str:
    return f"{index:06d}"


def _made_from(config: ExportConfig) -> dict[str, Any]:
    """What decides about the bytes, as it looks once read from JSON."""
    content = {
        "format": FORMAT,
        "flowhmr": __version__,
        "body_id": open_body().body_id,
        "config": asdict(config),
    }
    return json.loads(json.dumps(content, default=os.fspath))


def _finished(config: ExportConfig, made_from: dict[str, Any], folder: Path) -> dict[int, Shard]:
    """The shards by number that an earlier export of the same clips has finished."""
    names = [INDEX_NAME, *(path.name for path in folder.glob(OWN_INDEX.format("*")))]
    sizes = {file.name: file.stat().st_size for file in folder.glob("*.tar")}
    finished: dict[int, Shard] = {}
    for name in names:
        if not (folder / name).exists():
            continue
        index = read_index(folder, name)
        other = list(differences(made_from, index.made_from))
        if other:
            raise ValueError(
                f"{folder}: holds another export; {'; '.join(other)}; choose another folder, or "
                "the settings that it was made with"
            )
        for shard in index.shards:
            if sizes.get(shard.name) == shard.bytes:
                finished[shard.first // config.per_shard] = shard
    return finished


def _made(
    job: Callable[[int], Shard],
    numbers: list[int],
    workers: int,
    check_room: Callable[[int], None],
) -> Iterator[Shard]:
    """Shards as they are finished, which is not the order of their numbers."""
    if workers == 1:
        for number in numbers:
            check_room(1)
            yield job(number)
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_end_with_parent) as pool:
        waiting, running = iter(numbers), set()
        while True:
            for number in waiting:
                check_room(len(running) + 1)
                running.add(pool.submit(job, number))
                if len(running) == workers:
                    break
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()


def _end_with_parent() -> None:
    """Workers of a killed process would wait for work for ever."""
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    Thread(target=follow, daemon=True).start()


def _check_room(
    config: ExportConfig, folder: Path, finished: list[Shard], shards_at_once: int
) -> None:
    clip_bytes = max((shard.bytes / shard.clips * _SPARE for shard in finished), default=0.0)
    if not finished:
        verts = len(open_body().v_template)
        clip_bytes = most_bytes(config.clips.frames, config.clips.size_px, verts, config.layers)
    need = clip_bytes * min(config.per_shard, config.count) * shards_at_once
    free = shutil.disk_usage(folder).free
    if need > free:
        raise OSError(
            errno.ENOSPC,
            f"got {free / 1e9:.2f} GB of free disk; expected {need / 1e9:.2f} GB for the next "
            f"shards; free some space and {AGAIN}, or choose fewer layers or clips per shard",
            str(folder),
        )


def _make_shard(config: ExportConfig, folder: Path, number: int) -> Shard:
    body = open_body()
    first = number * config.per_shard
    indices = range(first, min(first + config.per_shard, config.count))
    path = folder / f"synth-{number:06d}.tar"

    def write(file: BinaryIO) -> None:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for index in indices:
                clip = synth_clip(config.clips, index, body)
                members = encode_clip(clip, config.clips.seed, index, config.layers)
                for suffix, content in members.items():
                    # Time and owner stay 0: equal clips, equal bytes.
                    member = tarfile.TarInfo(f"{_key(index)}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        write_whole(path, write)
    finally:
        torch.set_num_threads(threads)
    with path.open("rb") as file:
        checksum = sha256(file)
    return Shard(path.name, checksum, path.stat().st_size, first, len(indices))
