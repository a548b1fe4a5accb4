"""Labelled pictures of the field in the place of synthetic stills."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from flowhmr.body import BodyModel
from flowhmr.data import AugmentConfig, FrameStore, LabelledBatches
from flowhmr.losses import SupervisedWeights
from flowhmr.training.config import TrainConfig


@dataclass(frozen=True)
class RealStills:
    """Which; none by default."""

    file: str = ""
    """What `flowhmr data convert` wrote; '': synthetic stills."""
    images: str = ""
    """Folder that its image names are below."""
    share: float = 1.0
    """Of its rows, drawn at random: 0.1 for of4hmr's COCO 10 %. Smaller shares are parts of larger
    ones."""
    seed: int = 0
    """Of that draw; it is not the run's, so that runs of several seeds learn from the same rows."""

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"real stills, share: got {self.share}; expected more than 0, up to 1")

    def __bool__(self) -> bool:
        return bool(self.file)

    def batches(
        self,
        body: BodyModel,
        size_px: int,
        batch: int,
        augment: AugmentConfig,
        train: TrainConfig,
    ) -> LabelledBatches:
        """Batches of labelled crops, one for each step of a run.

        Raises:
            FieldError: another file, or one of another body.
        """
        store = FrameStore(Path(self.file), Path(self.images), body)
        rows = np.random.default_rng(self.seed).permutation(len(store))
        kept = rows[: max(1, round(self.share * len(rows)))].tolist()
        return LabelledBatches(store, kept, size_px, batch, augment, train.seed, train.steps)


def fitting_weights(weights: SupervisedWeights, maps: bool, real: bool) -> SupervisedWeights:
    """No weight on what is not there: maps of networks that have none, surfaces of real pictures.

    Args:
        weights: of the labelled loss.
        maps: whether the network says maps.
        real: whether labels are of real pictures.
    """
    if not maps:
        weights = replace(weights, heatmaps=0.0)
    return weights if maps and not real else replace(weights, surface=0.0)
