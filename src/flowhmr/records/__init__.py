"""What data gives (`Clip`) and what networks give (`Estimate`): the joint between the two."""

from flowhmr.records.clip import Before, Clip, Labels, Sequence, TestClip
from flowhmr.records.estimate import Estimate, Track, join_estimates

__all__ = [
    "Before",
    "Clip",
    "Estimate",
    "Labels",
    "Sequence",
    "TestClip",
    "Track",
    "join_estimates",
]
