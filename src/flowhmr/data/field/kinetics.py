"""Kinetics: folders of video, a folder a class."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from flowhmr.data.field.frames import FieldError
from flowhmr.data.field.pictures import VIDEO_KINDS

_NAME = re.compile(r"(?P<source>.+)_(?P<start>\d{6})_(?P<end>\d{6})")
_COLUMNS = {"label", "youtube_id", "time_start"}


@dataclass(frozen=True)
class ClassVideo:
    """One of them."""

    path: Path
    """The file."""
    label: str
    """What is done in it: its folder's name, "_" read as a space; "" below no class."""
    source: str
    """Where it was cut from: YouTube's identity, which may have "_" in it, or the whole name."""
    start_s: int
    """Second of the source at which it begins; 0 where its name does not say."""


def videos_of(folder: Path) -> list[ClassVideo]:
    """``CLASS/IDENTITY_000010_000020.mp4``, by path; splits may be folders above the classes.

    Raises:
        FieldError: no folder, or no video in it.
    """
    if not folder.is_dir():
        raise FieldError(f"{folder}: got no folder; expected one with a folder a class")
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in VIDEO_KINDS]
    found = [_video(path, folder) for path in paths if path.is_file() and path.name[0] != "."]
    if not found:
        raise FieldError(
            f"{folder}: got no video below it; expected {', '.join(VIDEO_KINDS)}; unpack the "
            "archives of the set first"
        )
    return found


def _video(path: Path, folder: Path) -> ClassVideo:
    name = _NAME.fullmatch(path.stem)
    label = "" if path.parent == folder else path.parent.name.replace("_", " ")
    if name is None:
        return ClassVideo(path, label, path.stem, 0)
    return ClassVideo(path, label, name["source"], int(name["start"]))


def listed(path: Path) -> dict[tuple[str, int], str]:
    """Kinetics' csv (``label, youtube_id, time_start, ...``): (identity, start) -> class.

    Raises:
        FieldError: it cannot be read, or is another table.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = list(csv.DictReader(text.splitlines()))
        missing = _COLUMNS - set(rows[0] if rows else ())
        if missing:
            raise ValueError(f"no column {', '.join(sorted(missing))}")
        return {
            (row["youtube_id"], int(float(row["time_start"]))): row["label"].replace("_", " ")
            for row in rows
        }
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, csv.Error) as error:
        raise FieldError(
            f"{path}: got {error}; expected Kinetics' csv: label, youtube_id, time_start, "
            "time_end, split"
        ) from error
