"""Labelled training crops from whole pictures: SynthMotion's stills, augmented.

Sample number ``i`` of a run follows from (seed, i) alone: batches do not depend on the number of
workers, and a resumed run sees what the interrupted one would have seen.
"""

from collections.abc import Sequence as Several
from dataclasses import dataclass

import numpy as np
import torch

from flowhmr.cameras import Crop
from flowhmr.data.augment import AugmentConfig, vary_crop
from flowhmr.data.labels import labels_in_crop, surface_in_crop
from flowhmr.data.stills import CELL_PX
from flowhmr.geometry import collate, map_tensors
from flowhmr.records import Clip, Labels
from flowhmr.synth import ClipStore


class LabelledBatches(torch.utils.data.Dataset):
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
        store: ClipStore,
        indices: Several[int],
        size_px: int,
        batch: int,
        augment: AugmentConfig,
        seed: int,
        count: int,
    ):
        if not len(indices) or store.spec.clips.frames != 1:
            raise ValueError(
                f"labelled stills: got {len(indices)} of clips of {store.spec.clips.frames} "
                "frames; expected at least one, of one frame; use the split 'stills'"
            )
        if max(indices) >= len(store):
            raise ValueError(
                f"labelled stills: got number {max(indices)} of a store of {len(store)}; expected "
                "a store that holds them all; draw more"
            )
        self.store, self.indices, self.size_px, self.batch = store, indices, size_px, batch
        self.augment, self.seed, self.count = augment, seed, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Clip:
        """Clips of one frame, ``[batch, 1]``."""
        first = number * self.batch
        augment = self.augment.at(number)
        drawn = [self._draw(index, augment) for index in range(first, first + self.batch)]
        crop = map_tensors(collate([d.crop for d in drawn]), lambda t: t[:, None])
        labels = self.store.labels(torch.tensor([d.still for d in drawn]))
        maps = [self._surface(labels, k, d) for k, d in enumerate(drawn)]
        surface = torch.from_numpy(np.stack(maps))
        labels = labels_in_crop(labels, crop, surface[:, None])
        frames = torch.from_numpy(np.stack([d.image.transpose(2, 0, 1) for d in drawn]))
        return Clip(frames[:, None], crop, labels, flow=None)

    def _surface(self, labels: Labels, row: int, drawn: "_Drawn") -> np.ndarray:
        assert labels.surface is not None
        image_px = self.store.spec.clips.size_px
        cells = self.size_px // CELL_PX
        return surface_in_crop(labels.surface[row, 0].numpy(), drawn.crop, image_px, cells)

    def _draw(self, index: int, augment: AugmentConfig) -> "_Drawn":
        """Sample ``index`` of the run, without its labels."""
        rng = np.random.default_rng([self.seed, 4, index])
        which = self.indices[int(rng.integers(len(self.indices)))]
        box_px = self.store.boxes_px(torch.tensor([which]))[0, 0].numpy()
        picture = self.store.images(which)[0]
        image, crop = vary_crop(rng, picture, box_px, self._other, augment, self.size_px)
        return _Drawn(image, crop, which)

    def _other(self, rng: np.random.Generator) -> np.ndarray:
        """Another labelled picture."""
        return self.store.images(self.indices[int(rng.integers(len(self.indices)))])[0]


@dataclass(frozen=True, eq=False)
class _Drawn:
    image: np.ndarray
    crop: Crop
    still: int
