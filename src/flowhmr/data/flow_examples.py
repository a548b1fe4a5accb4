"""Pairs of frames for flow networks: crops of drawn clips, varied."""

from dataclasses import dataclass, field

import cv2
import numpy as np
import torch

from flowhmr.data.augment import degrade, recolour
from flowhmr.data.batches import Batches
from flowhmr.geometry import collate
from flowhmr.records import FlowExample
from flowhmr.synth import FlowClipConfig, FlowClipPool


@dataclass(frozen=True)
class FlowDataConfig:
    """What a flow network learns from."""

    clips: FlowClipConfig = field(default_factory=FlowClipConfig)
    """Which clips."""
    count: int = 1_000
    """How many of them; of 6 frames each, drawn at 160 px, a thousand take 1.8 GB."""
    size_px: int = 128
    """Sides of the crops; RAFT takes multiples of 8, from 128."""
    zoom: tuple[float, float] = (0.8, 1.3)
    """How far a crop may be zoomed, out and in."""
    flip: float = 0.5
    """Share of pairs that are mirrored."""
    colour: float = 0.3
    """How much both frames' colours are changed (`data.augment.recolour`)."""
    colour_apart: float = 0.08
    """How much each frame's own are, besides."""
    degrade: float = 0.3
    """Share of frames that are blurred, noisy, coarse or compressed."""
    erase: float = 0.2
    """Share of pairs of whose second frame a box is wiped out (RAFT's occlusion augmentation)."""

    def __post_init__(self) -> None:
        side, low = self.clips.clips.size_px, self.size_px / self.zoom[0]
        if not 0 < self.zoom[0] <= self.zoom[1] or low > side:
            raise ValueError(
                f"flow crops: got {self.size_px} px, zoomed {self.zoom[0]} to {self.zoom[1]} "
                f"times, out of clips of {side} px; expected crops that fit in: "
                f"zoom from {self.size_px / side:.2f}"
            )


class FlowBatches(Batches[FlowExample]):
    """Batch number ``i`` of pairs, in both directions of time.

    Args:
        pool: drawn clips.
        config: how they are varied.
        batch: pairs per batch.
        seed: of the run; a batch follows from (seed, i) alone.
        count: how many batches there are.
    """

    def __init__(
        self, pool: FlowClipPool, config: FlowDataConfig, batch: int, seed: int, count: int
    ):
        self.pool, self.config = pool, config
        self.batch, self.seed, self.count = batch, seed, count

    def samples(self, number: int, rows: range) -> FlowExample:
        """Some pairs of a batch."""
        first = number * self.batch
        return collate([self._draw(first + row) for row in rows])

    def _draw(self, number: int) -> FlowExample:
        rng, config = np.random.default_rng([self.seed, 11, number]), self.config
        pair, backward = int(rng.integers(self.pool.pairs)), bool(rng.random() < 0.5)
        example = self.pool.example(pair, backward)
        frames, size = example.frames.permute(0, 2, 3, 1).numpy(), config.size_px
        low, high = config.zoom
        zoom = np.exp(rng.uniform(np.log(low), np.log(high)))
        side = min(round(size / float(zoom)), frames.shape[1])
        y, x = rng.integers(0, frames.shape[1] - side + 1, 2)
        window = np.s_[y : y + side, x : x + side]
        smooth = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
        cut = [cv2.resize(frame[window], (size, size), interpolation=smooth) for frame in frames]

        def nearest(values: np.ndarray) -> np.ndarray:
            # Between two surfaces there is no flow between theirs.
            return cv2.resize(values[window], (size, size), interpolation=cv2.INTER_NEAREST_EXACT)

        flow_px = nearest(example.flow_px.numpy()) * np.float32(size / side)
        marks = nearest(np.stack([example.known.byte(), example.person.byte()], -1)) > 0
        if rng.random() < config.flip:
            cut = [frame[:, ::-1] for frame in cut]
            flow_px, marks = flow_px[:, ::-1] * np.array([-1, 1], np.float32), marks[:, ::-1]
        seen = np.stack(self._recolour(cut, rng)).transpose(0, 3, 1, 2)
        return FlowExample(
            torch.from_numpy(np.ascontiguousarray(seen)),
            torch.from_numpy(np.ascontiguousarray(flow_px)),
            *torch.from_numpy(np.ascontiguousarray(marks)).unbind(-1),
        )

    def _recolour(self, frames: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
        config, common = self.config, int(rng.integers(2**31))
        out = []
        for frame in frames:
            varied = recolour(np.random.default_rng(common), frame, config.colour)
            varied = recolour(rng, varied, config.colour_apart)
            out.append(degrade(rng, varied) if rng.random() < config.degrade else varied)
        if rng.random() < config.erase:
            size = config.size_px
            low, extent = rng.integers(0, size, 2), rng.integers(size // 8, size // 2, 2)
            box = np.s_[low[0] : low[0] + extent[0], low[1] : low[1] + extent[1]]
            out[1][box] = out[1].mean((0, 1))
        return out
