"""Which data sets are read, by name."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from flowhmr.data.field.bedlam import BedlamSet
from flowhmr.data.field.coco import CocoSet
from flowhmr.data.field.eft import EftSet
from flowhmr.data.field.frames import FieldError, FieldFrames, FieldSet
from flowhmr.data.field.h36m import Human36mSet
from flowhmr.data.field.h36m_cdf import Human36mCdfSet
from flowhmr.data.field.humandata import HumanDataSet
from flowhmr.data.field.insta import InstaSet
from flowhmr.data.field.mpii3d import Mpii3dSet
from flowhmr.data.field.other_kinds import OTHER_KINDS
from flowhmr.data.field.penn import PennSet
from flowhmr.data.field.posetrack import PosetrackSet
from flowhmr.data.field.spin import SpinSet
from flowhmr.data.field.surreal import SurrealSet
from flowhmr.data.field.threedpw import ThreeDpwSet
from flowhmr.data.field.vibe import VibeSet
from flowhmr.files import DataFileError


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
    "h36m": Kind(
        lambda path, beside: Human36mSet(path), "the folder of Human36M_subject*_camera.json"
    ),
    "h36m-cdf": Kind(
        lambda path, beside: Human36mCdfSet(path), "Human3.6M's folder, with its pose features"
    ),
    "mpii3d": Kind(lambda path, beside: Mpii3dSet(path), "the folder of MPI-INF-3DHP"),
    "coco": Kind(lambda path, beside: CocoSet(path), "COCO's person_keypoints_*.json"),
    "penn": Kind(lambda path, beside: PennSet(path), "the labels folder of Penn Action"),
    "bedlam": Kind(lambda path, beside: BedlamSet(path), "BEDLAM's npz"),
    "humandata": Kind(lambda path, beside: HumanDataSet(path), "a HumanData npz of MMHuman3D"),
    "surreal": Kind(lambda path, beside: SurrealSet(path), "SURREAL's folder, or one *_info.mat"),
    "insta": Kind(lambda path, beside: InstaSet(path), "InstaVariety's folder, or one .tfrecord"),
    "posetrack": Kind(
        lambda path, beside: PosetrackSet(path), "PoseTrack's annotations, or one video's .json"
    ),
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
    if kind in OTHER_KINDS:
        raise FieldError(
            f"kind: got {kind!r}, which has no rows of people in pictures; expected one of "
            f"{', '.join(KINDS)}; {OTHER_KINDS[kind].use}"
        )
    if kind not in KINDS:
        raise FieldError(f"kind: got {kind!r}; expected one of {', '.join(KINDS)}")
    if beside is not None and not KINDS[kind].beside:
        raise FieldError(f"{beside}: got a second file for {kind}; expected {path} alone")
    with _ours(path):
        return _Guarded(KINDS[kind].open(path, beside))


# The last one: numpy's, for letters that Unicode does not have.
_ODD = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, SystemError)


class _Guarded:
    """A set whose errors are all `FieldError`: values of any kind may stand anywhere in a file."""

    def __init__(self, found: FieldSet) -> None:
        self.found = found

    @property
    def path(self) -> Path:
        return self.found.path

    def __len__(self) -> int:
        return len(self.found)

    def read(self, rows: Int[np.ndarray, "n"]) -> FieldFrames:
        with _ours(self.path):
            return self.found.read(rows)


@contextmanager
def _ours(path: Path) -> Iterator[None]:
    try:
        yield
    except FieldError:
        raise
    except DataFileError as error:
        raise FieldError(f"{path}: {error}") from error
    except OSError as error:
        raise FieldError(f"{path}: got {error}; expected a file; check its name") from error
    except _ODD as error:
        raise FieldError(
            f"{path}: got {type(error).__name__} {error}; expected the layout that docs/data.md "
            "describes; give the file as it was published"
        ) from error
