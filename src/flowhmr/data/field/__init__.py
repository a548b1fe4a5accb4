"""The field's own data sets, as published: read row by row, checked, converted."""

from flowhmr.data.field.check import FieldReport, check_field, field_batches
from flowhmr.data.field.composite import CompositeBatches, CompositeConfig, Composites
from flowhmr.data.field.detected import KeypointDetector, KeypointFiles, with_keypoints
from flowhmr.data.field.frames import FieldError, FieldFrames, FieldSet
from flowhmr.data.field.kinds import KINDS, open_field
from flowhmr.data.field.labels import field_labels, named_keypoints
from flowhmr.data.field.other_kinds import OTHER_KINDS, Findings, check_other
from flowhmr.data.field.pictures import clip_of_pictures, read_picture
from flowhmr.data.field.store import FrameStore, convert_field
from flowhmr.data.field.video import field_videos, video_of_frames

__all__ = [
    "KINDS",
    "OTHER_KINDS",
    "CompositeBatches",
    "CompositeConfig",
    "Composites",
    "FieldError",
    "FieldFrames",
    "FieldReport",
    "FieldSet",
    "Findings",
    "FrameStore",
    "KeypointDetector",
    "KeypointFiles",
    "check_field",
    "check_other",
    "clip_of_pictures",
    "convert_field",
    "field_batches",
    "field_labels",
    "field_videos",
    "named_keypoints",
    "open_field",
    "read_picture",
    "video_of_frames",
    "with_keypoints",
]
