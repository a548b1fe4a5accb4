"""From a person's sequence of images to crops: frame by frame, and pairs with their flow."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from flowhmr.cameras import Crop, crop_from_box, square_box, warp_image
from flowhmr.data.labels import labels_in_crop
from flowhmr.flow import FlowPair, resize_pair
from flowhmr.geometry import collate, map_tensors, pick
from flowhmr.records import Clip, Sequence


def frame_crops(sequence: Sequence, size_px: int, margin: float = 1.2) -> Clip:
    """Each frame of a sequence in its own crop, ``[t]`` frames; labels follow."""
    crops = crop_from_box(sequence.boxes_px, size_px, margin)
    frames = [
        _channels_first(warp_image(image, pick(crops, i)))
        for i, image in enumerate(sequence.images)
    ]
    labels = None if sequence.labels is None else labels_in_crop(sequence.labels, crops)
    return Clip(torch.stack(frames), crops, labels, flow=None)


FAST = 0.95
"""Quantile of the flow's length in a window that stands for the fast limbs of the person in it."""


@dataclass(frozen=True)
class PairConfig:
    """How pairs are cut."""

    gap: int = 1
    """Frames from the first to the second of a pair, with ``reach`` at most; 1 is best (of4hmr,
    Table 2)."""
    reach: float = 0.0
    """Where things move fast, bring the two frames of a pair closer together, so that they move
    by about this share of the window's width at most: beyond a tenth, flow is lost. 0: never."""
    margin: float = 1.2
    """Side of a crop over the longest side of the person's box (flow: of the two boxes)."""
    flow_px: int = 256
    """Width and height of the window in which flow is estimated; it is then brought to the
    network's size. Finer is better (of4hmr, Table 2)."""


class PairBatches(torch.utils.data.Dataset):
    """Batch number ``i`` of unlabelled pairs of frames with the flow between them.

    Each frame is cut around its own box, as single frames are; the flow between them belongs to
    a window that holds both. A batch follows from (seed, i) alone.

    Args:
        sequences: one person's images each.
        size_px: crop of the network.
        batch: pairs per batch.
        seed: of the run.
        count: how many batches there are.
        source: cuts the pairs and gives their flow.
        weights: how often a pair of each sequence is drawn; ones by default.

    Raises:
        ValueError: no sequence is longer than the gap.
    """

    def __init__(
        self,
        sequences: list[Sequence],
        size_px: int,
        batch: int,
        seed: int,
        count: int,
        source: "FlowSource",
        weights: list[float] | None = None,
    ):
        self.sequences, self.source = sequences, source
        self.size_px, self.batch, self.seed, self.count = size_px, batch, seed, count
        gap = source.config.gap
        each = weights or [1.0] * len(sequences)
        self._pairs = [(s, i) for s, q in enumerate(sequences) for i in range(len(q) - gap)]
        if not self._pairs:
            longest = max((len(q) for q in sequences), default=0)
            raise ValueError(
                f"unannotated video: got {len(sequences)} sequences of at most {longest} frames; "
                f"expected one longer than the gap of {gap}; give longer video or a smaller gap"
            )
        share = np.array([each[s] for s, _ in self._pairs])
        self._share = share / share.sum()

    def __len__(self) -> int:
        return self.count

    @property
    def pairs(self) -> int:
        """How many different pairs there are."""
        return len(self._pairs)

    def __getitem__(self, number: int) -> Clip:
        """Clips of two frames, ``[batch, 2]``."""
        drawn = []
        for k in range(self.batch):
            rng = np.random.default_rng([self.seed, 3, number * self.batch + k])
            drawn.append(int(rng.choice(len(self._pairs), p=self._share)))
        return collate([self.pair(which) for which in drawn])

    def pair(self, which: int) -> Clip:
        """Pair ``which`` of all, without labels: synthetic video has some, and mixes with real."""
        sequence, start = self._pairs[which]
        clip = self.source.pair(self.sequences[sequence], start, self.size_px)
        return replace(clip, labels=None)


class FlowSource:
    """Cuts a pair of frames and gives the flow between them.

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
        """Frames ``start`` and ``start + gap``, each in its own crop, with their flow."""
        rows = [start, start + self._gap(sequence, start, size_px)]
        images, boxes_px = [sequence.images[row] for row in rows], sequence.boxes_px[rows]
        window, flow = self._flow(sequence, rows, size_px)
        crops = crop_from_box(boxes_px, size_px, self.config.margin)
        cut = [warp_image(im, pick(crops, k)) for k, im in enumerate(images)]
        labels = sequence.labels
        if labels is not None:
            labels = labels_in_crop(pick(labels, torch.tensor(rows)), crops)
        return Clip(
            torch.stack([_channels_first(image) for image in cut]),
            crops,
            labels,
            flow=map_tensors(flow, lambda t: t[None]),
            flow_crop=map_tensors(window, lambda t: t[None]),
        )

    def _gap(self, sequence: Sequence, start: int, size_px: int) -> int:
        """How far the second frame may be for flow to hold, from what moves at ``start``."""
        if self.config.gap == 1 or not self.config.reach:
            return self.config.gap
        _, flow = self._flow(sequence, [start, start + 1], size_px)
        # Of a limb in the window, not of the window; but not of a few lost pixels.
        fast_px = float(flow.forward.norm(dim=-1).flatten().quantile(FAST))
        furthest = self.config.reach * size_px / max(fast_px, 1e-6)
        return int(min(max(furthest, 1), self.config.gap))

    def _flow(self, sequence: Sequence, rows: list[int], size_px: int) -> tuple[Crop, FlowPair]:
        """The window that holds both frames' person, and the flow in it."""
        window = self._window(sequence.boxes_px[rows], size_px)
        fine = replace(window, size_px=max(self.config.flow_px, size_px))
        flow = self.flow_between(*(warp_image(sequence.images[row], fine) for row in rows))
        return window, resize_pair(flow, size_px, size_px)

    def _window(self, boxes_px: Float[Tensor, "2 4"], size_px: int) -> Crop:
        low = boxes_px[:, :2].amin(0)
        high = (boxes_px[:, :2] + boxes_px[:, 2:]).amax(0)
        centre_px, _ = square_box(torch.cat([low, high - low]), self.config.margin)
        # The side of the larger box, not of their union: the person keeps the size that single
        # frames are cut to.
        _, side_px = square_box(boxes_px, self.config.margin)
        still = torch.zeros(())
        return Crop(centre_px, side_px.amax(), angle_rad=still, mirrored=still, size_px=size_px)


def _channels_first(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
