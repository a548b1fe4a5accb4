"""A captured motion as JSON for people and small scripts: rounded, one line a frame."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from flowhmr.body import SMPL_24, BodyModel
from flowhmr.capture.export.readings import check_scene, readings, write_bytes
from flowhmr.records import PersonMotion, SceneMotion

FORMAT = "flowhmr-motion"
VERSION = 1
AXES = "camera: X right, Y down, Z away; metres"
# A tenth of a millimetre, a hundredth of a pixel, a thousandth of a degree.
METRES, PIXELS, RADIANS, SHARES, SECONDS = 4, 2, 5, 3, 6


def save_json(path: Path | str, scene: SceneMotion, body: BodyModel) -> Path:
    """Write a motion as strict JSON (no NaN); the file appears when it is complete.

    A frame of a person is one line: ``frame``, ``time_s``, ``confidence``, ``translation_m`` [3],
    ``pose`` [24][3] (axis-angle, radians), ``joints_m`` [24][3] (camera axes, translation
    included), ``joints_px`` [24][2] (null where a joint is behind the camera).

    Args:
        path: the file, by custom ``.json``; its folder is made.
        scene: the motion, camera axes, metres.
        body: the body of its people.

    Returns:
        The path.

    Raises:
        BodyIdentityError: a person has another body.
        ValueError: numbers that are not finite, or a person whose shape changes.
        OSError: the file cannot be written; nothing is left behind.
    """
    check_scene(scene, body)
    head = {
        "format": FORMAT,
        "version": VERSION,
        "body_id": body.body_id,
        "axes": AXES,
        "size_px": list(scene.size_px),
        "camera": {
            "focal_px": _rounded(scene.camera.focal_px, SHARES),
            "centre_px": _rounded(scene.camera.centre_px, SHARES),
        },
        "times_s": _rounded(scene.times_s, SECONDS),
        "joint_names": list(SMPL_24.names),
        "joint_parents": list(SMPL_24.parents or ()),
    }
    lines = [f"  {json.dumps(key)}: {_line(value)}," for key, value in head.items()]
    people = ",\n".join(_person(person, scene, body) for person in scene.people)
    text = "\n".join(["{", *lines, '  "people": [', *([people] if people else []), "  ]", "}", ""])
    return write_bytes(Path(path), text.encode())


def _person(person: PersonMotion, scene: SceneMotion, body: BodyModel) -> str:
    read = readings(person, scene, body)
    columns = {
        "frame": person.frame_indices.tolist(),
        "time_s": _rounded(scene.times_s.cpu()[person.frame_indices.cpu()], SECONDS),
        "confidence": _rounded(person.confidence, SHARES),
        "translation_m": _rounded(person.translation_m, METRES),
        "pose": _rounded(read.pose.unflatten(-1, (-1, 3)), RADIANS),
        "joints_m": _rounded(read.joints_m, METRES),
        "joints_px": _rounded(read.joints_px, PIXELS),
    }
    frames = (dict(zip(columns, row)) for row in zip(*columns.values(), strict=True))
    lines = ",\n".join(f"        {_line(frame)}" for frame in frames)
    head = f'      "person": {person.person},\n      "betas": '
    betas = _line(_rounded(person.params.betas[0], METRES))
    return f'    {{\n{head}{betas},\n      "frames": [\n{lines}\n      ]\n    }}'


def _line(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


def _rounded(values: Tensor, digits: int) -> Any:
    """Nested lists with few digits; None where a number is not finite."""
    # Adding 0 turns -0.0 into 0.0.
    array = np.round(values.detach().cpu().double().numpy(), digits) + 0.0
    bad = ~np.isfinite(array)
    if bad.any():
        array = array.astype(object)
        array[bad] = None
    return array.tolist()
