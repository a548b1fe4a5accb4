"""What data gives (`Clip`) and what networks give (`Estimate`): the joint between the two."""

from flowhmr.records.clip import (
    Before,
    Clip,
    Labels,
    Sequence,
    TestClip,
    join_labels,
    known_bodies,
    without_unknown,
)
from flowhmr.records.estimate import Estimate, Lifted, Track, join_estimates
from flowhmr.records.features import FeatureClip, FeatureLink
from flowhmr.records.flow_example import FlowExample
from flowhmr.records.motion import PersonMotion, SceneMotion, gaps_in
from flowhmr.records.motion_input import MotionClip, MotionInput, along_frames
from flowhmr.records.track_input import FEET, TrackClip, TrackInput, TrackLabels

__all__ = [
    "FEET",
    "Before",
    "Clip",
    "Estimate",
    "FeatureClip",
    "FeatureLink",
    "FlowExample",
    "Labels",
    "Lifted",
    "MotionClip",
    "MotionInput",
    "PersonMotion",
    "SceneMotion",
    "Sequence",
    "TestClip",
    "Track",
    "TrackClip",
    "TrackInput",
    "TrackLabels",
    "along_frames",
    "gaps_in",
    "join_estimates",
    "join_labels",
    "known_bodies",
    "without_unknown",
]
