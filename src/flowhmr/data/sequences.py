"""From a person's sequence of images to crops: frame by frame, and pairs with their flow."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from flowhmr.body import COCO_17
from flowhmr.cameras import Crop, crop_from_box, square_box, warp_image
from flowhmr.data.batches import Batches
from flowhmr.data.labels import labels_in_crop
from flowhmr.flow import FlowPair, carry_pair, resize_pair
from flowhmr.geometry import collate, pick
from flowhmr.records import Before, Clip, Sequence


def frame_crops(sequence: Sequence, size_px: int, margin: float = 1.2) -> Clip:
    """Each frame of a sequence in its own crop, ``[t]`` frames; labels follow."""
    crops = crop_from_box(sequence.boxes_px, size_px, margin)
    labels = None if sequence.labels is None else labels_in_crop(sequence.labels, crops)
    frames = _cut(sequence, list(range(len(sequence))), crops)
    return Clip(
        frames, crops, labels, flow=None, detected_px=_detected(sequence, slice(None), crops)
    )


FAST = 0.95
"""Quantile of the flow's length in a window that stands for the fast limbs of the person in it."""


@dataclass(frozen=True)
class PairConfig:
    """How pairs, or longer windows, are cut."""

    gap: int = 1
    """Frames from the first to the second of a pair, with ``reach`` at most; 1 is best (of4hmr,
    Table 2)."""
    reach: float = 0.0
    """Where things move fast, bring the two frames of a pair closer together, so that they move
    by about this share of the window's width at most: beyond a tenth, flow is lost. 0: never."""
    hop: int = 0
    """Carry flow to the second frame in steps of so many (`flowhmr.flow.carry_pair`), then
    without ``reach``. 0: estimate it directly."""
    margin: float = 1.2
    """Side of a crop over the longest side of the person's box (flow: of the two boxes)."""
    flow_px: int = 256
    """Width and height of the window in which flow is estimated; it is then brought to the
    network's size. Finer is better (of4hmr, Table 2)."""
    frames: int = 2
    """Frames of a window, one such pair after the other; TexturePose takes 5."""
    context: int = 0
    """Frames before each of them to cut as well, for networks with temporal context."""

    def __post_init__(self) -> None:
        for name, least in (("gap", 1), ("frames", 2), ("context", 0), ("hop", 0)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"pairs, {name}: got {getattr(self, name)}; expected {least} or more"
                )

        if self.hop and self.reach:
            raise ValueError(
                f"pairs: got a hop of {self.hop} and a reach of {self.reach:g}; expected one of "
                "them to be 0: carried flow goes the whole gap"
            )

    @property
    def by_flow(self) -> bool:
        """Whether the flow decides which frames are compared, or how."""
        return bool(self.hop or (self.reach and self.gap > 1))

    @property
    def span(self) -> int:
        """Frames from the first to the last of a window, at most."""
        return self.gap * (self.frames - 1)

    def windows_in(self, sequence: Sequence) -> int:
        """How many windows start in a sequence."""
        return max(len(sequence) - self.span, 0)


@dataclass(frozen=True, eq=False)
class Link:
    """The flow from one frame of a sequence to a later one."""

    end: int
    """Which frame that is."""
    window: Crop
    """The window that holds the person in both, no leading axes."""
    flow: FlowPair
    """Pixels of the window."""


@dataclass(frozen=True, eq=False)
class OpenLink:
    """What the flow from one frame of a sequence to a later one is to be estimated from."""

    end: int
    """Which frame that is."""
    window: Crop
    """The window that holds the person in both, no leading axes."""
    frames: UInt8[Tensor, "2 h w 3"]
    """The two images in it."""


@runtime_checkable
class PairSource(Protocol):
    """Gives the flow from a frame of a sequence to a later one."""

    @property
    def config(self) -> PairConfig:
        """How pairs are cut."""
        ...

    def link(self, sequence: Sequence, start: int, size_px: int) -> Link:
        """From frame ``start`` to the one that it is compared with, seen in ``size_px``."""
        ...

    def links(self, sequence: Sequence, size_px: int) -> list[Link]:
        """From each frame that has another ``gap`` after it."""
        ...


class PairBatches(Batches[Clip]):
    """Batch number ``i`` of unlabelled pairs of frames with the flow between them.

    Each frame is cut around its own box, as single frames are; the flow between them belongs to
    a window that holds both. A batch follows from (seed, i) alone.

    Args:
        sequences: one person's images each.
        size_px: crop of the network.
        batch: pairs per batch.
        seed: of the run.
        count: how many batches there are.
        source: gives the flow, or what it is to be estimated from, and says how pairs are cut.
        weights: how often a pair of each sequence is drawn; ones by default
            (`mixture_weights`).

    Raises:
        ValueError: no sequence is long enough.
    """

    def __init__(
        self,
        sequences: list[Sequence],
        size_px: int,
        batch: int,
        seed: int,
        count: int,
        source: "PairSource | FrameSource",
        weights: list[float] | None = None,
    ):
        self.sequences, self.source = sequences, source
        self.size_px, self.batch, self.seed, self.count = size_px, batch, seed, count
        config = source.config
        each = weights or [1.0] * len(sequences)
        self._pairs = [(s, i) for s, q in enumerate(sequences) for i in range(config.windows_in(q))]
        if not self._pairs:
            longest = max((len(q) for q in sequences), default=0)
            raise ValueError(
                f"unannotated video: got {len(sequences)} sequences of at most {longest} frames; "
                f"expected one longer than the gap of {config.span}; give longer video or a "
                "smaller gap"
            )
        share = np.array([each[s] for s, _ in self._pairs])
        self._share = share / share.sum()
        self._detected = any(q.detected_px is not None for q in sequences)

    @property
    def pairs(self) -> int:
        """How many different pairs there are."""
        return len(self._pairs)

    def samples(self, number: int, rows: range) -> Clip:
        """Clips of two frames (or ``PairConfig.frames``), ``[rows, 2]``."""
        drawn = []
        for row in rows:
            rng = np.random.default_rng([self.seed, 3, number * self.batch + row])
            drawn.append(int(rng.choice(len(self._pairs), p=self._share)))
        return collate([self.pair(which) for which in drawn])

    def pair(self, which: int) -> Clip:
        """Pair ``which`` of all, without labels: synthetic video has some, and mixes with real.

        Where some sequences have detected keypoints, the others get some of confidence 0.
        """
        sequence, start = self._pairs[which]
        clip = cut_pair(self.sequences[sequence], start, self.size_px, self.source)
        detected_px = clip.detected_px
        if self._detected and detected_px is None:
            detected_px = torch.zeros(len(clip.frames), len(COCO_17), 3)
        return replace(clip, labels=None, detected_px=detected_px)


def mixture_weights(
    sets: list[list[Sequence]], shares: list[float], config: PairConfig | None = None
) -> list[float]:
    """Weights for `PairBatches` with which sets of videos are drawn in given shares.

    Args:
        sets: the sequences of each set; `PairBatches` gets them one set after the other.
        shares: how often each set is drawn, any unit; within a set all pairs count the same.
        config: how pairs are cut, `PairConfig`'s defaults if not given. It matters where sets
            have sequences of different length.

    Raises:
        ValueError: as many shares as sets are expected, none of them negative, not all zero; a
            set has a share but no pairs.
    """
    config = config or PairConfig()
    if len(sets) != len(shares) or min(shares, default=0) < 0 or not sum(shares):
        raise ValueError(
            f"mixture: got shares {shares} for {len(sets)} sets of video; expected one share of "
            "at least 0 for each set, and one above 0"
        )
    weights: list[float] = []
    for number, (each, share) in enumerate(zip(sets, shares)):
        pairs = sum(config.windows_in(s) for s in each)
        if share and not pairs:
            raise ValueError(
                f"mixture: got share {share} for set {number} of {len(each)} sequences, none of "
                f"them longer than the gap of {config.span}; give longer video, or a share of 0"
            )
        weights += [share / pairs if share else 0.0] * len(each)
    return weights


def cut_pair(
    sequence: Sequence, start: int, size_px: int, source: "PairSource | FrameSource"
) -> Clip:
    """Frame ``start`` and those after it that ``source`` compares it with, each in its own crop.

    ``[frames]``, with the flow between neighbours ``[frames - 1]`` (or, of a `FrameSource`, what it
    is to be estimated from) and, if asked for, what was before each of them.
    """
    config = source.config
    links = [source.link(sequence, start, size_px)]
    while len(links) < config.frames - 1:
        links.append(source.link(sequence, links[-1].end, size_px))
    rows = [start, *(link.end for link in links)]
    crops = crop_from_box(sequence.boxes_px[rows], size_px, config.margin)
    labels = sequence.labels
    if labels is not None:
        labels = labels_in_crop(pick(labels, torch.tensor(rows)), crops)
    before = None
    if config.context:
        before = _before(sequence, rows, size_px, config)
    flow = [link.flow for link in links if isinstance(link, Link)]
    frames = [link.frames for link in links if isinstance(link, OpenLink)]
    return Clip(
        _cut(sequence, rows, crops),
        crops,
        labels,
        flow=collate(flow) if flow else None,
        flow_crop=collate([link.window for link in links]),
        detected_px=_detected(sequence, rows, crops),
        before=before,
        flow_frames=torch.stack(frames) if frames else None,
    )


def _before(sequence: Sequence, rows: list[int], size_px: int, config: PairConfig) -> Before:
    """What was before each of the frames ``rows``."""
    shape = (len(rows), config.context, 3, size_px, size_px)
    frames = torch.zeros(shape, dtype=torch.uint8)
    for slots, row in zip(frames, rows):
        earlier = list(range(max(row - config.context, 0), row))
        if earlier:
            crops = crop_from_box(sequence.boxes_px[earlier], size_px, config.margin)
            slots[-len(earlier) :] = _cut(sequence, earlier, crops)
    return Before(frames, torch.tensor(rows).clamp(max=config.context))


def _cut(sequence: Sequence, rows: list[int], crops: Crop) -> UInt8[Tensor, "t 3 s s"]:
    """The frames ``rows`` of a sequence in the crops ``[t]``."""
    images = (warp_image(sequence.images[row], pick(crops, k)) for k, row in enumerate(rows))
    return torch.stack(
        [torch.from_numpy(np.ascontiguousarray(i.transpose(2, 0, 1))) for i in images]
    )


def _detected(
    sequence: Sequence, rows: list[int] | slice, crops: Crop
) -> Float[Tensor, "t 17 3"] | None:
    if sequence.detected_px is None:
        return None
    found = sequence.detected_px[rows]
    return torch.cat([crops.to_crop(found[..., :2]), found[..., 2:]], -1)


class FlowSource:
    """Estimates the flow between frames of a sequence.

    Args:
        config: gap, margin, resolution of the flow.
        flow_between: gives the flow of two RGB frames: ``FlowCache(...).pair``, or
            ``functools.partial(estimate_pair, estimator)``.
    """

    def __init__(
        self, config: PairConfig, flow_between: Callable[[np.ndarray, np.ndarray], FlowPair]
    ):
        self.config, self.flow_between = config, flow_between

    def pair(self, sequence: Sequence, start: int, size_px: int) -> Clip:
        """`cut_pair` with this source."""
        return cut_pair(sequence, start, size_px, self)

    def link(self, sequence: Sequence, start: int, size_px: int) -> Link:
        """From ``start`` to the frame ``gap`` after it, or nearer where things move fast."""
        gap = self.config.gap
        if self.config.hop:
            return self._carried(sequence, start, size_px, self._flow)
        if gap > 1 and self.config.reach:
            near = self._flow(sequence, start, 1, size_px)
            # Of a limb in the window, not of the window; but not of a few lost pixels.
            fast_px = float(near.flow.forward.norm(dim=-1).flatten().quantile(FAST))
            furthest = self.config.reach * size_px / max(fast_px, 1e-6)
            gap = int(min(max(furthest, 1), gap))
            if gap == 1:
                return near
        return self._flow(sequence, start, gap, size_px)

    def links(self, sequence: Sequence, size_px: int) -> list[Link]:
        """`link` from each frame, each hop estimated once."""
        starts = range(max(len(sequence) - self.config.gap, 0))
        if self.config.hop:
            flow = cache(self._flow)
            return [self._carried(sequence, start, size_px, flow) for start in starts]
        return [self.link(sequence, start, size_px) for start in starts]

    def _carried(
        self,
        sequence: Sequence,
        start: int,
        size_px: int,
        flow: Callable[[Sequence, int, int, int], Link],
    ) -> Link:
        end, hop = start + self.config.gap, self.config.hop
        rows = range(start, end, hop)
        hops = [flow(sequence, row, min(hop, end - row), size_px) for row in rows]
        window = _window(sequence.boxes_px[[start, end]], size_px, self.config.margin)
        return Link(end, window, carry_pair([(h.window, h.flow) for h in hops], window))

    def _flow(self, sequence: Sequence, start: int, gap: int, size_px: int) -> Link:
        """The window that holds the person in both frames, and the flow in it."""
        window, images = _seen_from(sequence, [start, start + gap], size_px, self.config)
        flow = self.flow_between(*images)
        return Link(start + gap, window, resize_pair(flow, size_px, size_px))


class FrameSource:
    """Gives what flow is to be estimated from: for an estimator that batches suit better.

    Args:
        config: as `FlowSource` has it.

    Raises:
        ValueError: pairs that cannot be cut before the flow is known.
    """

    def __init__(self, config: PairConfig):
        if config.by_flow:
            raise ValueError(
                f"pairs: got a hop of {config.hop} and a reach of {config.reach:g} for flow that "
                "is not known yet; expected 0 for both, or a gap of 1"
            )
        self.config = config

    def link(self, sequence: Sequence, start: int, size_px: int) -> OpenLink:
        """From ``start`` to the frame ``gap`` after it."""
        rows = [start, start + self.config.gap]
        window, images = _seen_from(sequence, rows, size_px, self.config)
        return OpenLink(rows[1], window, torch.from_numpy(np.stack(images)))


def _seen_from(
    sequence: Sequence, rows: list[int], size_px: int, config: PairConfig
) -> tuple[Crop, list[UInt8[np.ndarray, "h w 3"]]]:
    """The window that holds the person in both frames, and the finer images in it."""
    window = _window(sequence.boxes_px[rows], size_px, config.margin)
    fine = replace(window, size_px=max(config.flow_px, size_px))
    return window, [warp_image(sequence.images[row], fine) for row in rows]


def _window(boxes_px: Float[Tensor, "2 4"], size_px: int, margin: float) -> Crop:
    low = boxes_px[:, :2].amin(0)
    high = (boxes_px[:, :2] + boxes_px[:, 2:]).amax(0)
    centre_px, _ = square_box(torch.cat([low, high - low]), margin)
    # The side of the larger box, not of their union: the person keeps the size that single
    # frames are cut to.
    _, side_px = square_box(boxes_px, margin)
    still = torch.zeros(())
    return Crop(centre_px, side_px.amax(), angle_rad=still, mirrored=still, size_px=size_px)
