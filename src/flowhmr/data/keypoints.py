"""2D keypoints of other tools, as tracks with COCO's 17 keypoints.

Read here: a folder of OpenPose JSON (one file a frame), COCO keypoint JSON (annotations or
results), and our own files with keypoints (`flowhmr.data.box_files`). The files put pixel centres
on integers; tracks put pixel corners there (the rule of `flowhmr.cameras`).
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from flowhmr.body import COCO_17, OPENPOSE_25, JointSet
from flowhmr.cameras import px_from_opencv
from flowhmr.data.box_files import read_boxes
from flowhmr.data.boxes import BoxError, PersonTrack, boxes_from_keypoints, track_from_keypoints
from flowhmr.data.video_decode import natural_order

# What OpenPose wrote before BODY_25, named COCO by it: COCO's 17 and the neck.
OPENPOSE_18 = JointSet(
    "openpose-18",
    (
        "nose",
        "neck",
        "right_shoulder",
        "right_elbow",
        "right_wrist",
        "left_shoulder",
        "left_elbow",
        "left_wrist",
        "right_hip",
        "right_knee",
        "right_ankle",
        "left_hip",
        "left_knee",
        "left_ankle",
        "right_eye",
        "left_eye",
        "right_ear",
        "left_ear",
    ),
)


@dataclass(frozen=True, eq=False)
class DetectedPerson:
    """A person found in one frame."""

    keypoints_px: Float[Tensor, "17 3"]
    """COCO's 17: x and y in pixels of the image, confidence 0..1; (0, 0, 0) where missing."""
    confidence: float
    """How sure the source is of the person, 0..1."""


def read_keypoints(path: Path | str) -> list[PersonTrack]:
    """People with keypoints of an OpenPose folder, a COCO JSON file or a file of our own.

    Frames are numbered by the file names in an OpenPose folder
    (``<name>_<12 digits>_keypoints.json``, else their natural order); by the natural order of
    ``images`` in COCO annotations; by the last number in ``image_id`` in a COCO result list. COCO's
    visibility flags become confidence 1 (labelled, hidden or not) or 0. People who carry no
    ``track_id`` are linked by `link_people`.

    Returns:
        At least one track; keypoints that a file marks missing, or gives as NaN, are (0, 0, 0).

    Raises:
        BoxError: a missing path, another layout (the file is named), or nobody in it.
    """
    path = Path(path)
    if not path.exists():
        raise BoxError(
            f"{path}: got a path that does not exist; expected a folder of OpenPose's JSON, a COCO "
            "JSON file or a file of our own; check its name"
        )
    if path.is_dir():
        tracks = link_people(_read_openpose(path))
    elif path.suffix.lower() == ".json" and not _is_ours(_load(path)):
        tracks = _read_coco(path, _load(path))
    else:
        tracks = read_boxes(path)
        if any(track.keypoints_px is None for track in tracks):
            raise BoxError(f"{path}: got boxes only; expected keypoints; use read_boxes for boxes")
    if not tracks:
        raise BoxError(f"{path}: got nobody with 3 confident keypoints; expected at least one")
    return tracks


def coco_from_named(
    keypoints_px: Float[Tensor, "*b j 3"], names: Sequence[str]
) -> Float[Tensor, "*b 17 3"]:
    """COCO's 17 of any keypoints, by name; those without a counterpart, or NaN, are (0, 0, 0)."""
    place = {name: i for i, name in enumerate(names)}
    empty = torch.zeros_like(keypoints_px[..., 0, :])
    found = [keypoints_px[..., place[n], :] if n in place else empty for n in COCO_17.names]
    coco = torch.stack(found, -2)
    known = coco.isfinite().all(-1, keepdim=True) & (coco[..., 2:] > 0)
    return torch.where(known, coco, 0.0)


def link_people(
    frames: Iterable[tuple[int, Sequence[DetectedPerson]]],
    size_px: tuple[int, int] | None = None,
    min_iou: float = 0.3,
    max_gap: int = 15,
) -> list[PersonTrack]:
    """Link the people of each frame into tracks, greedily by the overlap of their boxes.

    In each frame the pair (track, person) with the largest intersection over union goes first.
    This follows people apart from each other; it does not bring back who was hidden for long, nor
    tell two people who cross.

    Args:
        frames: frame numbers, increasing, with who is there.
        size_px: width and height of the picture; people outside it are left out.
        min_iou: smallest overlap with the track's last box.
        max_gap: a track that misses more frames than this has ended.

    Returns:
        Tracks numbered from 0 in order of appearance.
    """
    tracks: list[list[tuple[int, Tensor]]] = []
    boxes: list[Tensor] = []
    for frame, people in frames:
        found = [boxes_from_keypoints(person.keypoints_px) for person in people]
        live = [t for t, rows in enumerate(tracks) if frame - rows[-1][0] <= max_gap + 1]
        pairs = [
            (overlap, t, p)
            for p, box in enumerate(found)
            for t in live
            if (overlap := _iou(boxes[t], box)) >= min_iou
        ]
        chosen: dict[int, int] = {}
        for _, t, p in sorted(pairs, reverse=True):
            if p not in chosen and t not in chosen.values():
                chosen[p] = t
        for p, box in enumerate(found):
            if p not in chosen:
                chosen[p] = len(tracks)
                tracks.append([])
                boxes.append(box)
            tracks[chosen[p]].append((frame, people[p].keypoints_px))
            boxes[chosen[p]] = box
    linked = [
        track_from_keypoints(
            0, torch.tensor([f for f, _ in rows]), torch.stack([k for _, k in rows]), size_px
        )
        for rows in tracks
    ]
    return _numbered([track for track in linked if track is not None])


def _numbered(tracks: list[PersonTrack]) -> list[PersonTrack]:
    return [
        PersonTrack(i, t.frame_indices, t.boxes_px, t.confidence, t.keypoints_px)
        for i, t in enumerate(tracks)
    ]


def _iou(a: Tensor, b: Tensor) -> float:
    """Intersection over union of two boxes (x, y, w, h); 0 for NaN."""
    low = torch.maximum(a[:2], b[:2])
    high = torch.minimum(a[:2] + a[2:], b[:2] + b[2:])
    shared = float((high - low).clamp(min=0).prod())
    union = float(a[2:].prod() + b[2:].prod()) - shared
    return shared / union if union > 0 else 0.0


def _load(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BoxError(f"{path}: got {error}; expected a JSON file with keypoints") from error


def _is_ours(content: object) -> bool:
    return isinstance(content, dict) and "people" in content and "format" in content


def _read_openpose(folder: Path) -> list[tuple[int, list[DetectedPerson]]]:
    files = sorted(folder.glob("*.json"), key=natural_order)
    if not files:
        raise BoxError(f"{folder}: got no .json file; expected OpenPose's, one a frame")
    numbers = [re.search(r"_(\d{12})_keypoints\.json$", file.name) for file in files]
    frames = []
    for index, (file, number) in enumerate(zip(files, numbers)):
        content = _load(file)
        try:
            people = [_openpose_person(person) for person in content["people"]]  # type: ignore[index]
        except (KeyError, TypeError, ValueError) as error:
            raise BoxError(
                f"{file}: got {type(error).__name__} {error}; expected OpenPose's JSON: people "
                "with pose_keypoints_2d of 25 or 18 times x, y, confidence"
            ) from error
        frames.append((int(number[1]) if all(numbers) and number else index, people))
    return frames


def _openpose_person(person: dict) -> DetectedPerson:
    old = "pose_keypoints" in person  # the name in files of 2017
    flat = person["pose_keypoints" if old else "pose_keypoints_2d"]
    joints = {75: OPENPOSE_25, 54: OPENPOSE_18}.get(len(flat))
    if joints is None:
        raise ValueError(f"{len(flat)} numbers for a person")
    return _person(np.array(flat, np.float32).reshape(-1, 3), joints)


def _person(keypoints: np.ndarray, joints: JointSet) -> DetectedPerson:
    """From x, y (pixel centres on integers) and confidence, or COCO's flag 0, 1 or 2."""
    points = torch.from_numpy(keypoints)
    points = torch.cat([px_from_opencv(points[:, :2]), points[:, 2:].clamp(0, 1)], -1)
    coco = coco_from_named(points, joints.names)
    return DetectedPerson(coco, float(coco[:, 2].mean()))


def _read_coco(path: Path, content: object) -> list[PersonTrack]:
    try:
        if isinstance(content, dict):
            images = sorted(content["images"], key=lambda i: natural_order(Path(i["file_name"])))
            frame_of = {image["id"]: index for index, image in enumerate(images)}
            entries = [e for e in content["annotations"] if sum(e["keypoints"][2::3]) > 0]
            people = [(frame_of[e["image_id"]], e, _coco_person(e)) for e in entries]
        else:
            assert isinstance(content, list)
            people = [(_last_number(e["image_id"]), e, _coco_person(e)) for e in content]
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise BoxError(
            f"{path}: got {type(error).__name__} {error}; expected COCO keypoints: images and "
            "annotations with image_id and 17 times x, y, flag, or a list of results"
        ) from error
    people.sort(key=lambda row: row[0])
    if people and all("track_id" in entry for _, entry, _ in people):
        return _by_identity(people)
    frames: dict[int, list[DetectedPerson]] = {}
    for frame, _, person in people:
        frames.setdefault(frame, []).append(person)
    return link_people(frames.items())


def _coco_person(entry: dict) -> DetectedPerson:
    return _person(np.array(entry["keypoints"], np.float32).reshape(17, 3), COCO_17)


def _last_number(image_id: int | str) -> int:
    numbers = re.findall(r"\d+", str(image_id))
    if not numbers:
        raise ValueError(f"image_id {image_id!r} without a number")
    return int(numbers[-1])


def _by_identity(people: list[tuple[int, dict, DetectedPerson]]) -> list[PersonTrack]:
    tracks = []
    for identity in sorted({entry["track_id"] for _, entry, _ in people}):
        mine = {frame: p for frame, entry, p in people if entry["track_id"] == identity}
        keypoints_px = torch.stack([p.keypoints_px for p in mine.values()])
        tracks.append(track_from_keypoints(0, torch.tensor(list(mine)), keypoints_px))
    return _numbered([track for track in tracks if track is not None])
