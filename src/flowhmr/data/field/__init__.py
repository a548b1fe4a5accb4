"""The field's own data sets, as published: read row by row, checked, converted."""

from flowhmr.data.field.check import FieldReport, check_field
from flowhmr.data.field.frames import FieldError, FieldFrames, FieldSet
from flowhmr.data.field.kinds import KINDS, open_field
from flowhmr.data.field.labels import field_labels
from flowhmr.data.field.store import FrameStore, convert_field

__all__ = [
    "KINDS",
    "FieldError",
    "FieldFrames",
    "FieldReport",
    "FieldSet",
    "FrameStore",
    "check_field",
    "convert_field",
    "field_labels",
    "open_field",
]
