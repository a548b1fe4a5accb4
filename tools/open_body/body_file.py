"""The npz file of the open body: compact arrays, the same bytes for the same numbers."""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from .correctives import STEP_M, PoseBlendShapes
from .landmarks import KeypointSets, majority_part
from .shape_space import ShapeSpace
from .skeleton import JOINT_NAMES, PARENTS

_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
_WEIGHT_STEPS = 65535


@dataclass(frozen=True, eq=False)
class OpenBody:
    """Everything the file holds; metres, y up, T-pose, the mean body's pelvis at the origin."""

    space: ShapeSpace
    """Mean body and the shape directions of the file's betas."""
    explained: Float[np.ndarray, "d"]
    """Shares of the variance of these directions and of some more."""
    faces: Int[np.ndarray, "f 3"]
    """Outward triangles."""
    mirror: Int[np.ndarray, "v"]
    """The vertex on the other side."""
    weights: Float[np.ndarray, "v 24"]
    """Skinning weights."""
    weights_cut: float
    """Largest weight lost by keeping only each vertex's strongest ones."""
    rest_regressor: Float[np.ndarray, "24 v"]
    """Joints of T-posed bodies from their vertices."""
    posed_regressor: Float[np.ndarray, "24 v"]
    """Joints of posed bodies from their vertices."""
    pose_blend_shapes: PoseBlendShapes
    """Offsets per pose feature."""
    landmarks: Mapping[str, int]
    """Vertices by name."""
    keypoints: KeypointSets
    """Keypoint sets of joints and landmarks."""


def packed(body: OpenBody) -> dict[str, np.ndarray]:
    """The arrays of the file: sparse where sparse, in the smallest types that lose nothing real."""
    influences = int((body.weights > 0).sum(1).max())
    strongest = np.argsort(-body.weights, 1)[:, :influences]
    weights = np.take_along_axis(body.weights, strongest, 1)
    part = body.weights.argmax(1)
    info = {
        "explained": body.explained.tolist(),
        "weights_truncation_max": body.weights_cut,
    }
    steps = body.pose_blend_shapes.steps
    feature, vertex = np.nonzero(steps.any(-1))
    return {
        "v_template": body.space.mean_m.astype(np.float32),
        "shapedirs": body.space.directions_m.astype(np.float16),
        "weights_index": strongest.astype(np.uint8),
        "weights_value": np.round(weights * _WEIGHT_STEPS).astype(np.uint16),
        **_packed_regressor("regressor", body.rest_regressor),
        "f": body.faces.astype(np.uint16),
        "parents": PARENTS.astype(np.int8),
        "symmetry": body.mirror.astype(np.uint16),
        "joint_names": np.array(JOINT_NAMES),
        "info": np.array(json.dumps(info)),
        "posedirs_feature": feature.astype(np.uint8),
        "posedirs_vertex": vertex.astype(np.uint16),
        "posedirs_value": steps[feature, vertex],
        "posedirs_scale": np.array(STEP_M, np.float32),
        "landmark_names": np.array(list(body.landmarks)),
        "landmark_vertex": np.array(list(body.landmarks.values()), np.uint16),
        **_packed_regressor("posed_regressor", body.posed_regressor),
        "part_vertex": part.astype(np.uint8),
        "part_face": majority_part(part, body.faces).astype(np.uint8),
        "keypoint_sets": np.array(json.dumps(body.keypoints)),
    }


def _packed_regressor(name: str, regressor: Float[np.ndarray, "24 v"]) -> dict[str, np.ndarray]:
    joint, vertex = np.nonzero(regressor)
    return {
        f"{name}_joint": joint.astype(np.uint8),
        f"{name}_vertex": vertex.astype(np.uint16),
        f"{name}_value": regressor[joint, vertex].astype(np.float32),
    }


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """A compressed npz whose bytes depend on the arrays alone (no clock, no system, no user)."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=_ZIP_EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            with archive.open(entry, "w") as stream:
                np.lib.format.write_array(stream, np.asanyarray(array), allow_pickle=False)
