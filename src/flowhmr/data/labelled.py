"""Labelled training crops from whole pictures, augmented: SynthMotion's stills, or real ones.

Sample number ``i`` of a run follows from (seed, i) alone: batches do not depend on the number of
workers, and a resumed run sees what the interrupted one would have seen.
"""

from collections.abc import Sequence as Several
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from flowhmr.cameras import Crop
from flowhmr.data.augment import AugmentConfig, vary_crop
from flowhmr.data.batches import Batches
from flowhmr.data.labels import labels_in_crop, surface_in_crop
from flowhmr.data.stills import CELL_PX
from flowhmr.geometry import collate, map_tensors
from flowhmr.records import Clip, Labels


@runtime_checkable
class LabelledStills(Protocol):
    """Pictures with labels, each of one person: `ClipStore`, `FrameStore`."""

    def __len__(self) -> int: ...

    @property
    def frames(self) -> int:
        """How many frames a clip has; 1 for stills."""
        ...

    def images(self, clip: int, /) -> UInt8[np.ndarray, "t h w 3"]:
        """The frames of one clip, RGB."""
        ...

    def boxes_px(self, clips: Int[Tensor, "n"], /) -> Float[Tensor, "n t 4"]:
        """The person's boxes (x, y, w, h), pixels of the images."""
        ...

    def labels(self, clips: Int[Tensor, "n"], /) -> Labels:
        """The labels of some clips, ``[n, t]``, pixels of the images."""
        ...


class LabelledBatches(Batches[Clip]):
    """Batch number ``i`` of labelled crops.

    Pictures are used as they are, with what is behind and before the person: nothing is cut out.
    ``AugmentConfig.other_person`` does not apply.

    Args:
        store: stills (clips of one frame).
        indices: which of them count as labelled (``SplitSpec.labelled``).
        size_px: of the crops.
        batch: samples per batch.
        augment: how they are varied.
        seed: of the run.
        count: how many batches there are.

    Raises:
        ValueError: nothing is labelled, the store holds video, or fewer stills than that.
    """

    def __init__(
        self,
        store: LabelledStills,
        indices: Several[int],
        size_px: int,
        batch: int,
        augment: AugmentConfig,
        seed: int,
        count: int,
    ):
        if not len(indices) or store.frames != 1:
            raise ValueError(
                f"labelled stills: got {len(indices)} of clips of {store.frames} "
                "frames; expected at least one, of one frame; use the split 'stills'"
            )
        if max(indices) >= len(store):
            raise ValueError(
                f"labelled stills: got number {max(indices)} of a store of {len(store)}; expected "
                "a store that holds them all; draw more"
            )
        self.store, self.indices, self.size_px, self.batch = store, indices, size_px, batch
        self.augment, self.seed, self.count = augment, seed, count

    def samples(self, number: int, rows: range) -> Clip:
        """Clips of one frame, ``[rows, 1]``."""
        first = number * self.batch
        augment = self.augment.at(number)
        drawn = [self._draw(first + row, augment) for row in rows]
        crop = map_tensors(collate([d.crop for d in drawn]), lambda t: t[:, None])
        labels = self.store.labels(torch.tensor([d.still for d in drawn]))
        surface = None
        if labels.surface is not None:
            maps = [self._surface(m, d) for m, d in zip(labels.surface[:, 0], drawn)]
            surface = torch.from_numpy(np.stack(maps))[:, None]
        labels = labels_in_crop(labels, crop, surface)
        frames = torch.from_numpy(np.stack([d.image.transpose(2, 0, 1) for d in drawn]))
        return Clip(frames[:, None], crop, labels, flow=None)

    def _surface(self, surface: UInt8[Tensor, "h w 4"], drawn: "_Drawn") -> np.ndarray:
        cells = self.size_px // CELL_PX
        return surface_in_crop(surface.numpy(), drawn.crop, drawn.picture_px, cells)

    def _draw(self, index: int, augment: AugmentConfig) -> "_Drawn":
        """Sample ``index`` of the run, without its labels."""
        rng = np.random.default_rng([self.seed, 4, index])
        which = self.indices[int(rng.integers(len(self.indices)))]
        box_px = self.store.boxes_px(torch.tensor([which]))[0, 0].numpy()
        picture = self.store.images(which)[0]
        image, crop = vary_crop(rng, picture, box_px, self._other, augment, self.size_px)
        return _Drawn(image, crop, which, picture.shape[1])

    def _other(self, rng: np.random.Generator) -> np.ndarray:
        """Another labelled picture."""
        return self.store.images(self.indices[int(rng.integers(len(self.indices)))])[0]


@dataclass(frozen=True, eq=False)
class _Drawn:
    image: np.ndarray
    crop: Crop
    still: int
    picture_px: int
