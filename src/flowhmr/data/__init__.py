"""Data: what becomes a `flowhmr.records.Clip`."""

from flowhmr.data.sequences import FlowSource, PairBatches, PairConfig, frame_crops
from flowhmr.data.stills import AugmentConfig, StillBatches

__all__ = [
    "AugmentConfig",
    "FlowSource",
    "PairBatches",
    "PairConfig",
    "StillBatches",
    "frame_crops",
]
