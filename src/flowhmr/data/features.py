"""Static features of many sequences: computed once by a network, then read; clips of them.

Networks over features are small beside the one that makes the features: made anew at every step,
they would take most of a run. So occluders, too, stand in copies that are made beforehand.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from flowhmr.cameras import crop_from_box
from flowhmr.data.augment import occlude, piece_of, recolour
from flowhmr.data.batches import Batches
from flowhmr.data.labels import labels_in_crop
from flowhmr.data.links import sequence_key
from flowhmr.data.sequences import PairSource, frame_crops
from flowhmr.distributed import in_shares
from flowhmr.geometry import collate, pick
from flowhmr.records import FeatureClip, FeatureLink, Labels, Sequence, known_bodies
from flowhmr.synth import write_whole

FORMAT = 1
TINT = 0.5
"""How much the colours of an occluder differ from those of the video that it is taken from."""

FeatureSource = Callable[[UInt8[Tensor, "n 3 s s"]], Float[Tensor, "n f"]]
"""Gives the features of RGB crops; `flowhmr.networks.Hmr.features`, some crops at a time."""


@dataclass(frozen=True)
class FeatureConfig:
    """Which crops the features are of."""

    margin: float = 1.2
    """Side of a crop over the longest side of the person's box."""
    occluded: int = 1
    """Copies of each sequence with things pasted before the person, beside the one as it is
    (TCMR, section 4)."""
    occluder: float = 0.5
    """Share of such a copy's frames in which something is; in each by itself."""

    def __post_init__(self) -> None:
        if self.occluded < 0:
            raise ValueError(f"features: got {self.occluded} occluded copies; expected 0 or more")


class StoredFeatures:
    """The features of some sequences, a shard a sequence, in a folder and mapped into memory.

    A shard is found by what it was made from: the network, the crops' settings, the images and
    boxes. Each is written whole or not at all: a process that was killed goes on where it was. Of
    several processes each makes its share.

    Args:
        source: makes what is missing.
        network: names the network that ``source`` asks, weights and all.
        config: which crops.
        sequences: all that will be asked for.
        size_px: of the crops.
        folder: where shards are kept.
        on_progress: told (sequences ready, sequences in all).

    Raises:
        OSError: the folder cannot be written to.
        ValueError: no sequences.
    """

    def __init__(
        self,
        source: FeatureSource,
        network: str,
        config: FeatureConfig,
        sequences: list[Sequence],
        size_px: int,
        folder: Path,
        on_progress: Callable[[int, int], None] | None = None,
    ):
        if not sequences:
            raise ValueError("features: got no sequences; expected at least one")
        self.config, self.sequences, self.size_px = config, sequences, size_px
        self._source, self._folder = source, folder
        folder.mkdir(parents=True, exist_ok=True)
        settings = json.dumps([FORMAT, network, size_px, config.margin], sort_keys=True)
        tables: dict[int, list[Float[Tensor, "t f"]]] = {}

        def make(part: list[int]) -> None:
            for done, number in enumerate(part, 1):
                sequence = sequences[number]
                key = sequence_key(settings, sequence)
                tables[number] = [self._shard(key, sequence, copy) for copy in range(self.copies)]
                if on_progress is not None:
                    on_progress(done, len(part))

        in_shares(range(len(sequences)), make)
        self.tables = [tables[number] for number in range(len(sequences))]
        self.labels = [self._labels(sequence) for sequence in sequences]

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def copies(self) -> int:
        """Of each sequence: the one as it is, which is number 0, and the occluded ones."""
        return 1 + self.config.occluded

    def clip(self, number: int, copy: int, rows: Int[Tensor, "t"]) -> FeatureClip:
        """Some frames of a sequence.

        Args:
            number: of the sequence.
            copy: which of its `copies`.
            rows: which frames, in any order, any as often as wanted.
        """
        known = self.labels[number]
        labels = None if known is None else pick(known, rows)
        return FeatureClip(self.tables[number][copy][rows], labels, self.size_px)

    def _labels(self, sequence: Sequence) -> Labels | None:
        if sequence.labels is None:
            return None
        crops = crop_from_box(sequence.boxes_px, self.size_px, self.config.margin)
        return labels_in_crop(sequence.labels, crops)

    def _shard(self, key: str, sequence: Sequence, copy: int) -> Float[Tensor, "t f"]:
        name = f"{key}-occluded-{self.config.occluder:g}-{copy}" if copy else key
        path = self._folder / f"{name}.safetensors"
        try:
            return load_file(path)["features"]
        except (FileNotFoundError, SafetensorError):
            pass
        frames = frame_crops(sequence, self.size_px, self.config.margin).frames
        if copy:
            rng = np.random.default_rng([int(key[:12], 16), copy])
            frames = self._occluded(frames, sequence, rng)
        features = self._source(frames).contiguous()
        write_whole(path, lambda temporary: save_file({"features": features}, temporary))
        return load_file(path)["features"]

    def _occluded(
        self, frames: UInt8[Tensor, "t 3 s s"], sequence: Sequence, rng: np.random.Generator
    ) -> UInt8[Tensor, "t 3 s s"]:
        """Things before the person, of pieces of the video in other colours."""
        out = frames.clone()
        for frame in out:
            if rng.random() >= self.config.occluder:
                continue
            image = sequence.images[int(rng.integers(len(sequence)))]
            piece = recolour(rng, piece_of(rng, image, self.size_px), TINT)
            seen = occlude(rng, frame.permute(1, 2, 0).numpy(), piece)
            frame.copy_(torch.from_numpy(seen).permute(2, 0, 1))
        return out


class FeatureBatches(Batches[FeatureClip]):
    """Batch number ``i`` of labelled clips of features ``[batch, frames]``.

    A batch follows from (seed, i) alone.

    Args:
        store: the features; its copies are drawn alike.
        frames: length of the clips.
        beyond: how many frames a clip may reach past the first and past the last frame of a
            sequence, which are repeated there.
        batch: clips per batch.
        seed: of the run.
        count: how many batches there are.
        links: gives the flow between neighbours; each clip then has that of one pair of frames
            that are neither before nor after what it is about (``beyond``).
        link_px: width and height of the window in which flow is asked for.
        keypoint_share: of the clips, those of sequences without bodies
            (`flowhmr.records.Labels.has_body`).

    Raises:
        ValueError: a sequence without labels, or none that is long enough; flow between other
            frames than neighbours, or for clips that are about one frame; a share of nothing, or
        sequences without bodies and no share.
    """

    def __init__(
        self,
        store: StoredFeatures,
        frames: int,
        beyond: tuple[int, int],
        batch: int,
        seed: int,
        count: int,
        links: PairSource | None = None,
        link_px: int = 0,
        keypoint_share: float = 0.0,
    ):
        for sequence, labels in zip(store.sequences, store.labels):
            if labels is None:
                raise ValueError(
                    f"{sequence.name}: got video without labels; expected some to learn from"
                )
        before, after = beyond
        self.store, self.frames = store, frames
        self.links, self.link_px, self._firsts = links, link_px, range(before, frames - 1 - after)
        if links is not None and (links.config.gap != 1 or not self._firsts):
            raise ValueError(
                f"clips of features: got flow between frames {links.config.gap} apart for clips "
                f"about {frames - before - after} of their frames; expected neighbours, and two "
                "frames at least"
            )
        self.batch, self.seed, self.count = batch, seed, count
        self._share, starts = keypoint_share, ([], [])
        for number, (sequence, labels) in enumerate(zip(store.sequences, store.labels)):
            assert labels is not None
            mine = starts[0 if bool(known_bodies(labels).any()) else 1]
            mine += [
                (number, start) for start in range(-before, len(sequence) + after - frames + 1)
            ]
        self._starts, self._flat_starts = starts
        if bool(self._flat_starts) != (keypoint_share > 0) or keypoint_share >= 1:
            raise ValueError(
                f"clips of features: got a share of {keypoint_share:g} for {len(starts[1])} clips "
                "with keypoints alone; expected one above 0 and below 1 where there are some"
            )
        if not self._starts:
            longest = max(len(sequence) for sequence in store.sequences)
            raise ValueError(
                f"clips of features: got sequences of at most {longest} frames for clips of "
                f"{frames}; expected one as long; give longer video or shorter clips"
            )

    def samples(self, number: int, rows: range) -> FeatureClip:
        """Some clips of a batch."""
        drawn = []
        for row in rows:
            rng = np.random.default_rng([self.seed, 11, number * self.batch + row])
            flat = self._share > 0 and rng.random() < self._share
            starts = self._flat_starts if flat else self._starts
            which, start = starts[int(rng.integers(len(starts)))]
            when = torch.arange(start, start + self.frames)
            when = when.clamp(0, len(self.store.sequences[which]) - 1)
            clip = self.store.clip(which, int(rng.integers(self.store.copies)), when)
            if self._share and clip.labels is not None:
                labels = replace(clip.labels, has_body=known_bodies(clip.labels))
                clip = replace(clip, labels=labels)
            if self.links is not None:
                first = self._firsts[int(rng.integers(len(self._firsts)))]
                link = self._link(self.links, which, first, int(when[first]))
                clip = replace(clip, link=link)
            drawn.append(clip)
        return collate(drawn)

    def _link(self, links: PairSource, which: int, first: int, row: int) -> FeatureLink:
        """From frame ``row`` of a sequence, which is number ``first`` of the clip, to the next."""
        sequence, store = self.store.sequences[which], self.store
        link = links.link(sequence, row, self.link_px)
        boxes_px = sequence.boxes_px[[row, row + 1]]
        crops = crop_from_box(boxes_px, store.size_px, store.config.margin)
        return FeatureLink(torch.tensor(first), crops, link.window, link.flow)
