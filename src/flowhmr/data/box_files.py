"""Boxes and keypoints in files: our own JSON, npz and CSV.

The ending names the layout (boxes and frames are as `flowhmr.data.boxes` defines them):

``.json``::

    {"format": "flowhmr-boxes", "version": 1,
     "people": [{"person": 0,
                 "frames": [0, 1, ...],
                 "boxes_px": [[x, y, w, h], ...],
                 "confidence": [1.0, ...],
                 "keypoints_px": [[[x, y, confidence], ... 17 in COCO's order], ...]}]}

    ``confidence`` and ``keypoints_px`` may be left out.

``.npz``: one row for each person and frame, the people one after another: ``person`` [m],
    ``frame`` [m], ``boxes_px`` [m 4], ``confidence`` [m] and, if known, ``keypoints_px`` [m 17 3]
    (NaN for a person without keypoints). ``person`` and ``confidence`` may be left out.

``.csv``: a first line with the names ``frame,x,y,w,h`` and, if wanted, ``person`` and
    ``confidence``, in any order. It holds no keypoints.
"""

import csv
import json
import os
from collections.abc import Iterable
from pathlib import Path
from zipfile import BadZipFile, is_zipfile
from zlib import error as ZlibError

import numpy as np
import torch

from flowhmr.data.boxes import BoxError, PersonTrack, brief

FORMAT = "flowhmr-boxes"
VERSION = 1


def read_boxes(path: Path | str) -> list[PersonTrack]:
    """People of a ``.json``, ``.npz`` or ``.csv`` file (layouts in this module's docstring).

    Returns:
        At least one track, in order of their numbers. Whether they fit a video is for
        `check_track` to say.

    Raises:
        BoxError: a missing file, another ending or layout, or numbers that are no boxes.
    """
    path = Path(path)
    readers = {".json": _read_json, ".npz": _read_npz, ".csv": _read_csv}
    if path.suffix.lower() not in readers:
        raise BoxError(f"{path}: got {path.suffix!r}; expected a .json, .npz or .csv file")
    try:
        tracks = readers[path.suffix.lower()](path)
    except OSError as error:
        raise BoxError(
            f"{path}: got {error}; expected a file with boxes; check its name"
        ) from error
    except BoxError as error:
        raise BoxError(f"{path}: {error}") from error
    except (
        ValueError, TypeError, KeyError, EOFError, NotImplementedError, BadZipFile, ZlibError,
    ) as error:  # fmt: skip
        raise BoxError(
            f"{path}: got {type(error).__name__} {error}; expected the layout that "
            "flowhmr.data.box_files describes"
        ) from error
    if not tracks:
        raise BoxError(f"{path}: got no boxes; expected at least one person")
    return sorted(tracks, key=lambda track: track.person)


def _read_json(path: Path) -> list[PersonTrack]:
    content = json.loads(path.read_text(encoding="utf-8"))
    found = (content.get("format"), content.get("version")) if isinstance(content, dict) else None
    if found != (FORMAT, VERSION):
        raise BoxError(
            f'got a JSON file of format and version {found}; expected "format": "{FORMAT}", '
            f'"version": {VERSION}; keypoint files of other tools are read by read_keypoints'
        )
    tracks = []
    for entry in content["people"]:
        frames = np.asarray(entry["frames"])
        keypoints = entry.get("keypoints_px")
        rows = {
            "person": np.full(len(frames), entry["person"]),
            "frame": frames,
            "boxes_px": np.asarray(entry["boxes_px"], np.float32),
            "confidence": np.asarray(entry.get("confidence", np.ones(len(frames))), np.float32),
            "keypoints_px": None if keypoints is None else np.asarray(keypoints, np.float32),
        }
        tracks += _from_rows(rows)
    people = [track.person for track in tracks]
    if len(set(people)) < len(people):
        raise BoxError(f"got the people {brief(people)}; expected each number once")
    return tracks


def _read_npz(path: Path) -> list[PersonTrack]:
    with path.open("rb") as file:
        if not is_zipfile(file):
            raise BoxError("got a file that is not npz; expected one written by numpy.savez")
        file.seek(0)
        with np.load(file) as content:
            rows = {name: content[name] for name in content.files}
    return _from_rows(rows)


def _read_csv(path: Path) -> list[PersonTrack]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        table = csv.DictReader(file, skipinitialspace=True)
        names = set(table.fieldnames or [])
        missing = {"frame", "x", "y", "w", "h"} - names
        extra = names - {"frame", "x", "y", "w", "h", "person", "confidence"}
        if missing or extra:
            raise BoxError(
                f"got columns {sorted(names)}; expected a first line frame,x,y,w,h and, if wanted, "
                "person and confidence"
            )
        lines = list(table)
    for number, line in enumerate(lines, start=2):
        try:
            [float(line[name]) for name in names]
        except (TypeError, ValueError):
            raise BoxError(f"line {number}: got {line}; expected a number in each column") from None
    column = {name: np.array([float(line[name]) for line in lines]) for name in names}
    rows = {"frame": column["frame"], "boxes_px": np.stack([column[k] for k in "xywh"], -1)}
    return _from_rows(rows | {k: column[k] for k in ("person", "confidence") if k in column})


def _from_rows(rows: dict) -> list[PersonTrack]:
    """One track a person of a table with a row for each person and frame."""
    frames, boxes = np.asarray(rows["frame"]), np.asarray(rows["boxes_px"], np.float32)
    count = len(frames)
    people = np.asarray(rows.get("person", np.zeros(count, np.int64)))
    confidence = np.asarray(rows.get("confidence", np.ones(count)), np.float32)
    keypoints = rows.get("keypoints_px")
    keypoints = np.full((count, 17, 3), np.nan) if keypoints is None else np.asarray(keypoints)
    shapes = [a.shape for a in (people, frames, boxes, confidence, keypoints)]
    if shapes != [(count,), (count,), (count, 4), (count,), (count, 17, 3)]:
        raise BoxError(
            f"got person, frame, boxes, confidence, keypoints of shapes {shapes}; expected [m], "
            "[m], [m 4], [m], [m 17 3] with the same m"
        )
    for name, values in (("person", people), ("frame", frames)):
        if not (np.issubdtype(values.dtype, np.number) and (values == np.rint(values)).all()):
            raise BoxError(f"got {name} {brief(values.tolist())}; expected whole numbers")
    tracks = []
    for person in np.unique(people):
        mine = np.flatnonzero(people == person)
        mine = mine[np.argsort(frames[mine], kind="stable")]
        points = torch.tensor(keypoints[mine], dtype=torch.float32)
        # A place without a number is no place, whatever its confidence.
        known = points.isfinite().all(-1, keepdim=True)
        points[..., 2].clamp_(0, 1)
        track = PersonTrack(
            int(person),
            torch.tensor(frames[mine].astype(np.int64)),
            torch.tensor(boxes[mine]),
            torch.tensor(confidence[mine]),
            torch.where(known, points, 0.0) if bool(known.any()) else None,
        )
        tracks.append(track)
    return tracks


def write_boxes(path: Path | str, tracks: Iterable[PersonTrack]) -> None:
    """Write tracks as ``.json``, ``.npz`` or ``.csv`` (which leaves the keypoints out).

    JSON keeps hundredths of a pixel and thousandths of confidence, the others all digits. The
    file appears only when complete.

    Raises:
        BoxError: another ending, or no tracks.
    """
    path, tracks = Path(path), list(tracks)
    writers = {".json": _write_json, ".npz": _write_npz, ".csv": _write_csv}
    if path.suffix.lower() not in writers:
        raise BoxError(
            f"{path}: got {path.suffix!r}; expected a name ending in .json, .npz or .csv"
        )
    if not tracks:
        raise BoxError(f"{path}: got no tracks; expected at least one person")
    temporary = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix.lower()}")
    try:
        writers[path.suffix.lower()](temporary, tracks)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_json(path: Path, tracks: list[PersonTrack]) -> None:
    people = []
    for track in tracks:
        entry = {
            "person": track.person,
            "frames": track.frame_indices.tolist(),
            "boxes_px": np.round(track.boxes_px.double().numpy(), 2).tolist(),
            "confidence": np.round(track.confidence.double().numpy(), 3).tolist(),
        }
        if track.keypoints_px is not None:
            keypoints = np.round(track.keypoints_px.double().numpy(), 2)
            keypoints[..., 2] = np.round(track.keypoints_px[..., 2].double().numpy(), 3)
            entry["keypoints_px"] = keypoints.tolist()
        people.append(entry)
    content = {"format": FORMAT, "version": VERSION, "people": people}
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")


def _write_npz(path: Path, tracks: list[PersonTrack]) -> None:
    rows = _rows(tracks)
    if any(track.keypoints_px is not None for track in tracks):
        unknown = [torch.full((len(t), 17, 3), torch.nan) for t in tracks]
        points = [u if t.keypoints_px is None else t.keypoints_px for t, u in zip(tracks, unknown)]
        rows["keypoints_px"] = torch.cat(points).numpy()
    np.savez_compressed(path, **rows)  # pyright: ignore[reportArgumentType]


def _write_csv(path: Path, tracks: list[PersonTrack]) -> None:
    rows = _rows(tracks)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["person", "frame", "x", "y", "w", "h", "confidence"])
        for person, frame, box, confidence in zip(*rows.values()):
            writer.writerow([person, frame, *map(repr, box.tolist()), repr(float(confidence))])


def _rows(tracks: list[PersonTrack]) -> dict[str, np.ndarray]:
    return {
        "person": np.concatenate([np.full(len(t), t.person) for t in tracks]),
        "frame": torch.cat([t.frame_indices for t in tracks]).numpy(),
        "boxes_px": torch.cat([t.boxes_px for t in tracks]).numpy(),
        "confidence": torch.cat([t.confidence for t in tracks]).numpy(),
    }
