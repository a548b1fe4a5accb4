"""Which data sets are read, by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flowhmr.data.field.eft import EftSet
from flowhmr.data.field.frames import FieldError, FieldSet
from flowhmr.data.field.spin import SpinSet
from flowhmr.data.field.threedpw import ThreeDpwSet
from flowhmr.data.field.vibe import VibeSet


@dataclass(frozen=True)
class Kind:
    """A layout of a data set's files."""

    open: Callable[[Path, Path | None], FieldSet]
    """Opens a path, with the other file that the layout may have beside it."""
    path: str
    """What the path is."""
    beside: str = ""
    """What the other file is; "" where there is none."""


KINDS: Mapping[str, Kind] = {
    "spin": Kind(SpinSet, "SPIN's npz", "SPIN's static fits (.npy)"),
    "3dpw": Kind(
        lambda path, beside: ThreeDpwSet(path), "3DPW's sequenceFiles, a split, or one .pkl"
    ),
    "eft": Kind(EftSet, "EFT's json", "COCO's person_keypoints_*.json"),
    "vibe": Kind(lambda path, beside: VibeSet(path), "a database of VIBE or TCMR (.pt)"),
}
"""Layouts by name."""


def open_field(kind: str, path: Path, beside: Path | None = None) -> FieldSet:
    """A data set of the field.

    Args:
        kind: its layout, of `KINDS`.
        path: its file or folder.
        beside: the layout's other file, where it has one.

    Raises:
        FieldError: an unknown layout, or a file that is not of it.
    """
    if kind not in KINDS:
        raise FieldError(f"kind: got {kind!r}; expected one of {', '.join(KINDS)}")
    if beside is not None and not KINDS[kind].beside:
        raise FieldError(f"{beside}: got a second file for {kind}; expected {path} alone")
    return KINDS[kind].open(path, beside)
