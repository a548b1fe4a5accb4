"""MediaPipe's pose landmarks: joints only.

Layouts:

``.json``: a list with one result a frame, each ``dataclasses.asdict`` of MediaPipe's
    ``PoseLandmarkerResult``::

        [{"pose_landmarks": [[{"x": 0.5, "y": 0.4, "z": -0.1, "visibility": 0.9}, ... 33]],
          "pose_world_landmarks": [[{"x": 0.1, ...}, ... 33]]},
         ...]

    with one person or none in each (``num_poses=1``). ``"frame"`` may give the frame's number,
    which else is its place in the list.

``.npz``: ``pose_world_landmarks`` [t 33 3 or more] (x, y, z, visibility; NaN in frames without the
    person) and, if known, ``pose_landmarks`` of the same layout and ``frame`` [t].

World landmarks are in metres from the middle between the hips, landmarks in widths and heights of
the image; x to the right, y down, z away from the camera.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from flowhmr.body import JointSet
from flowhmr.capture.results.fields import field, frame_numbers, numbers, record
from flowhmr.capture.results.track import ForeignTrack, ResultFileError

_SIDES = (
    "eye_inner eye eye_outer",
    "ear",
    "mouth",
    "shoulder",
    "elbow",
    "wrist",
    "pinky",
    "index",
    "thumb",
    "hip",
    "knee",
    "ankle",
    "heel",
    "foot_index",
)

MEDIAPIPE_33 = JointSet(
    "mediapipe-33",
    (
        "nose",
        *(
            f"{side}_{name}"
            for names in _SIDES
            for side in ("left", "right")
            for name in names.split()
        ),
    ),
)
"""MediaPipe's landmarks by this package's names (``mouth_left`` is ``left_mouth``)."""


def is_mediapipe(data: Any) -> bool:
    """Whether these are such results."""
    if isinstance(data, list):
        return len(data) > 0 and isinstance(data[0], dict) and "pose_world_landmarks" in data[0]
    return isinstance(data, dict) and "pose_world_landmarks" in data


def mediapipe_tracks(data: Any, size_px: tuple[int, int]) -> list[ForeignTrack]:
    """The person of such results, in the frames in which he was found.

    Raises:
        ResultFileError: another layout, several people in a frame, or nobody in any.
    """
    if isinstance(data, list):
        frames, world, image = _from_json(data)
    elif isinstance(data["pose_world_landmarks"], list):
        frames, world, image = _from_json([data])  # a single picture's
    else:
        world = _array(data["pose_world_landmarks"], "pose_world_landmarks")
        image = data.get("pose_landmarks")
        image = None if image is None else _array(image, "pose_landmarks")
        frames = data.get("frame", np.arange(len(world)))
    found = np.asarray(np.isfinite(world[..., :3]).all((1, 2)))
    if len(frames) != len(world) or (image is not None and len(image) != len(world)):
        raise ResultFileError("got rows of different counts; expected one for each frame")
    if not found.any():
        raise ResultFileError("got nobody in any frame; expected the person in at least one")
    points = numbers(world[found], "pose_world_landmarks", len(MEDIAPIPE_33), world.shape[-1])
    joints_px = boxes_px = None
    if image is not None:
        seen = numbers(image[found][..., :2], "pose_landmarks", len(MEDIAPIPE_33), 2)
        joints_px = (seen * torch.tensor(size_px)).float()
        low, high = joints_px.amin(1), joints_px.amax(1)
        boxes_px = torch.cat([low, high - low], -1)
    return [
        ForeignTrack(
            tool="mediapipe",
            person=0,
            frame_indices=frame_numbers(np.asarray(frames)[found], "frame"),
            boxes_px=boxes_px,
            joint_set=MEDIAPIPE_33,
            joints_cam=points[..., :3].float(),
            joint_confidence=points[..., 3].float() if points.shape[-1] > 3 else None,
            joints_px=joints_px,
        )
    ]


def _array(value: Any, what: str) -> Float[np.ndarray, "t 33 c"]:
    array = np.asarray(value)
    if array.ndim != 3 or array.shape[1] != len(MEDIAPIPE_33) or array.shape[2] < 3:
        raise ResultFileError(f"{what}: got shape {array.shape}; expected [t, 33, 3 or more]")
    return array.astype(np.float64)


def _from_json(results: list[Any]) -> tuple[list[int], np.ndarray, np.ndarray | None]:
    """Frames, world landmarks and landmarks with visibility; NaN where nobody is."""
    frames, world, image = [], [], []
    for place, result in enumerate(results):
        where = f"result {place}"
        result = record(result, where)
        frames.append(result.get("frame", place))
        world.append(_landmarks(field(result, "pose_world_landmarks", where), where))
        image.append(_landmarks(result.get("pose_landmarks") or [], where))
    seen = np.asarray(np.isfinite(np.stack(world)).all((1, 2)))
    known = np.asarray(np.isfinite(np.stack(image)).all((1, 2)))
    return frames, np.stack(world), np.stack(image) if bool((known | ~seen).all()) else None


def _landmarks(people: Any, where: str) -> Float[np.ndarray, "33 4"]:
    if not isinstance(people, list) or len(people) > 1:
        raise ResultFileError(
            f"{where}: got {len(people) if isinstance(people, list) else people!r} people; "
            "expected a list of one or none, since MediaPipe does not tell them apart; run it with "
            "num_poses=1, on one person's crops where there are more"
        )
    if not people:
        return np.full((len(MEDIAPIPE_33), 4), np.nan)
    try:
        rows = [[p["x"], p["y"], p["z"], _sure(p)] for p in people[0]]
        points = np.asarray(rows, np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise ResultFileError(
            f"{where}: got landmarks without numbers x, y, z ({error!r}); expected 33 of them"
        ) from error
    if points.shape != (len(MEDIAPIPE_33), 4):
        raise ResultFileError(f"{where}: got {len(points)} landmarks; expected 33")
    return points


def _sure(landmark: dict[str, Any]) -> float:
    visibility = landmark.get("visibility")
    return 1.0 if visibility is None else visibility
