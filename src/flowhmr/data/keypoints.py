"""2D keypoints of other tools, as tracks with COCO's 17 keypoints.

Read here: a folder of OpenPose JSON (one file a frame), COCO keypoint JSON (annotations or
results), and our own files with keypoints (`flowhmr.data.box_files`). The files put pixel centres
on integers; tracks put pixel corners there (the rule of `flowhmr.cameras`).
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from flowhmr.body import COCO_17, OPENPOSE_25, JointSet
from flowhmr.cameras import px_from_opencv
from flowhmr.data.box_files import read_boxes
from flowhmr.data.boxes import BoxError, PersonTrack, track_from_keypoints
from flowhmr.data.tracking import DetectedPerson, track_people
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


def read_keypoints(path: Path | str) -> list[PersonTrack]:
    """People with keypoints of an OpenPose folder, a COCO JSON file or a file of our own.

    Frames are numbered by the file names in an OpenPose folder
    (``<name>_<12 digits>_keypoints.json``, else their natural order); by the natural order of
    ``images`` in COCO annotations; by the last number in ``image_id`` in a COCO result list. COCO's
    visibility flags become confidence 1 (labelled, hidden or not) or 0. People who carry no
    ``track_id`` are followed by `flowhmr.data.tracking.track_people`.

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
        tracks = track_people(_read_openpose(path))
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


def _numbered(tracks: list[PersonTrack]) -> list[PersonTrack]:
    return [
        PersonTrack(i, t.frame_indices, t.boxes_px, t.confidence, t.keypoints_px)
        for i, t in enumerate(tracks)
    ]


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
    # What is too large for a float is no place in a picture: left out, as NaN is.
    with np.errstate(over="ignore"):
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
    return track_people(frames.items())


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
