"""The open body that ships with the package; its card is ``assets/OPEN_BODY.md``."""

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import numpy as np
import torch
from jaxtyping import Float

from flowhmr.body.joints import SMPL_24
from flowhmr.body.keypoints import Terms, open_body_rules
from flowhmr.body.model import BodyModel, Regressor, body_id_of

OPEN_BODY_KEYS = frozenset(
    {
        "v_template",
        "shapedirs",
        "posedirs_feature",
        "posedirs_vertex",
        "posedirs_value",
        "posedirs_scale",
        "weights_index",
        "weights_value",
        "regressor_joint",
        "regressor_vertex",
        "regressor_value",
        "posed_regressor_joint",
        "posed_regressor_vertex",
        "posed_regressor_value",
        "f",
        "symmetry",
        "part_vertex",
        "part_face",
        "landmark_names",
        "landmark_vertex",
        "keypoint_sets",
    }
)
"""What a file of the open body's layout holds."""


@cache
def open_body() -> BodyModel:
    """The open body, float32 on the CPU, read once per process.

    6,890 vertices, 13,776 triangles, closed and exactly mirror-symmetric; 10 betas ~ N(0, 1) over
    adults. y up, facing +z, the left at +x, T-pose, metres, the mean body's pelvis joint at the
    origin. Networks speak in camera axes (X right, Y down, Z away from the camera), and the
    global rotation carries that: a person who stands upright and faces the camera has a global
    rotation of pi about x.

    The counts are SMPL's, the topology is not: SMPL's vertex ids, regressors and betas mean
    nothing here, and are refused.
    """
    source = files("flowhmr.body").joinpath("assets/open_body.npz")
    with source.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        return body_from_arrays({key: arrays[key] for key in OPEN_BODY_KEYS})


def body_from_arrays(arrays: Mapping[str, np.ndarray]) -> BodyModel:
    """A body from arrays of the open body's layout (sparse, in small types)."""
    v_template = arrays["v_template"].astype(np.float32)
    symmetry = arrays["symmetry"].astype(np.int64)
    dense = {
        "v_template": v_template,
        "shapedirs": _symmetric(arrays["shapedirs"].astype(np.float32), symmetry),
        "posedirs": _posedirs(arrays, len(v_template)),
        "joint_regressor": _regressor(arrays, "regressor", len(v_template)),
        "weights": _weights(arrays),
        "faces": arrays["f"].astype(np.int64),
    }
    body_id = body_id_of("open-body", dense)
    posed = _regressor(arrays, "posed_regressor", len(v_template))
    names = [_full_name(str(name)) for name in arrays["landmark_names"]]
    return BodyModel(
        body_id=body_id,
        topology="open-body",
        **{name: torch.from_numpy(array) for name, array in dense.items()},
        vertex_parts=torch.from_numpy(arrays["part_vertex"].astype(np.int64)),
        face_parts=torch.from_numpy(arrays["part_face"].astype(np.int64)),
        symmetry=torch.from_numpy(symmetry),
        landmarks=dict(zip(names, arrays["landmark_vertex"].tolist())),
        keypoint_rules=open_body_rules(_keypoint_sets(arrays)),
        regressors=(Regressor(SMPL_24, torch.from_numpy(posed), body_id),),
    )


def _full_name(name: str) -> str:
    """``left_heel`` for the file's ``l_heel``, ``@left_heel`` for ``@l_heel``."""
    sides = {"l_": "left_", "r_": "right_"}
    return re.sub("^(@?)(l_|r_)", lambda m: m[1] + sides[m[2]], name)


def _keypoint_sets(arrays: Mapping[str, np.ndarray]) -> dict[str, list[Terms]]:
    stored = json.loads(str(arrays["keypoint_sets"]))
    return {
        name: [tuple((_full_name(source), weight) for source, weight in row) for row in rows]
        for name, rows in stored.items()
    }


def _symmetric(
    shapedirs: Float[np.ndarray, "v 3 k"], symmetry: np.ndarray
) -> Float[np.ndarray, "v 3 k"]:
    """Undo what storing them as float16 did to their symmetry: up to 4 micrometres a beta."""
    flip = np.array([-1, 1, 1], np.float32)[:, None]
    return (shapedirs + flip * shapedirs[symmetry]) / 2


def _posedirs(arrays: Mapping[str, np.ndarray], vertices: int) -> Float[np.ndarray, "207 v 3"]:
    posedirs = np.zeros((9 * (len(SMPL_24) - 1), vertices, 3), np.float32)
    values = arrays["posedirs_value"].astype(np.float32) * np.float32(arrays["posedirs_scale"])
    posedirs[arrays["posedirs_feature"], arrays["posedirs_vertex"]] = values
    return posedirs


def _weights(arrays: Mapping[str, np.ndarray]) -> Float[np.ndarray, "v 24"]:
    """Dense weights; integers add up exactly, which gives the body one identity everywhere."""
    steps = arrays["weights_value"].astype(np.int64)
    weights = np.zeros((len(steps), len(SMPL_24)), np.float32)
    shares = (steps / steps.sum(1, keepdims=True)).astype(np.float32)
    np.put_along_axis(weights, arrays["weights_index"].astype(np.int64), shares, 1)
    return weights


def _regressor(
    arrays: Mapping[str, np.ndarray], name: str, vertices: int
) -> Float[np.ndarray, "24 v"]:
    regressor = np.zeros((len(SMPL_24), vertices), np.float32)
    place = arrays[f"{name}_joint"], arrays[f"{name}_vertex"]
    regressor[place] = arrays[f"{name}_value"]
    return regressor
