"""A network of single frames made somebody's own: fine-tuned on the bodies found in their video.

Motion HMR's bodies, refined over whole tracks, are the labels of the frames that they were found
in; the flow between the same frames, and synthetic stills, are the rest of the loss. Neither paper
does this.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from flowhmr.body import BodyModel
from flowhmr.data import Batches, OwnVideo, PseudoBatches
from flowhmr.geometry import collate, pick
from flowhmr.losses import AnchorWeights, FlowWeights
from flowhmr.networks import ContextHmr, Hmr
from flowhmr.records import Clip
from flowhmr.training.config import TrainConfig
from flowhmr.training.refine import REFINE_LOOP, RefineConfig, finish, prepare

# No anchor: what the network says of the video is what is to be changed. Less flow than where there
# is one: labels that are smooth already leave it little to say (experiments/README.md).
ADAPT_LOOP = replace(
    REFINE_LOOP, steps=400, flow=FlowWeights(0.03), anchor=AnchorWeights(0.0, 0.0, 0.0)
)


@dataclass(frozen=True)
class AdaptConfig(RefineConfig):
    """Everything that defines a fine-tuning, besides the network, the video and its bodies."""

    own: float = 0.5
    """Share of the labelled crops that show the video, with its bodies as labels; the rest are
    synthetic stills, so that the network keeps what it knows."""
    train: TrainConfig = ADAPT_LOOP
    """The loop."""

    def __post_init__(self) -> None:
        if not 0 < self.own <= 1 or not self.train.batch:
            raise ValueError(
                f"adapt: got a share of {self.own} of {self.train.batch} labelled crops; expected "
                "a share above 0 and at most 1 of at least one crop; without labels use "
                "`flowhmr fit`"
            )


def adapt(
    config: AdaptConfig,
    network: Hmr | ContextHmr,
    body: BodyModel,
    video: list[OwnVideo],
    folder: Path,
    cache: Path,
    device: torch.device,
    on_pool: Callable[[int, int], None] | None = None,
) -> Path:
    """Fine-tune a network on video and the bodies that were found in it.

    Args:
        config: the run.
        network: where to start.
        body: the body it estimates.
        video: people with their bodies, which need not all be trusted: the flow is compared in all
            frames.
        folder: run folder; a run that was interrupted goes on.
        cache: where flow and stills are kept.
        device: where to compute.
        on_pool: told about the rendering of the pool: (stills ready, stills in all).

    Returns:
        The network's file in the run folder.

    Raises:
        ValueError: no frame is trusted.
    """
    loop = config.train
    own = max(1, round(loop.batch * config.own))
    labelled: Batches[Clip] = PseudoBatches(
        video, body, network.size_px, own, config.augment, loop.seed, loop.steps
    )
    sequences = [person.sequence for person in video]
    parts = prepare(config, network, sequences, loop.batch - own, cache, on_pool, body, device)
    if parts.labelled is not None:
        labelled = BothBatches(labelled, parts.labelled)
    return finish(config, replace(parts, labelled=labelled), body, folder, device, "adapt")


class BothBatches(Batches[Clip]):
    """Batch number ``i`` of one set of labelled crops, then that of another."""

    def __init__(self, first: Batches[Clip], second: Batches[Clip]):
        self.first, self.second = first, second
        self.batch, self.count = first.batch + second.batch, min(len(first), len(second))

    def samples(self, number: int, rows: range) -> Clip:
        """Clips of one frame."""
        middle = self.first.batch
        of_first = range(min(rows.start, middle), min(rows.stop, middle))
        of_second = range(max(rows.start, middle) - middle, max(rows.stop, middle) - middle)
        parts = [(self.first, of_first), (self.second, of_second)]
        clips = [whole.samples(number, some) for whole, some in parts if some]
        return collate([pick(clip, k) for clip in clips for k in range(len(clip.frames))])
