"""What data gives (`Clip`) and what networks give (`Estimate`): the joint between the two."""

from flowhmr.records.clip import Clip, Labels, Sequence, TestClip
from flowhmr.records.estimate import Estimate, Track

__all__ = ["Clip", "Estimate", "Labels", "Sequence", "TestClip", "Track"]
