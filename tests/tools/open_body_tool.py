"""The open body's script as a package, and small bodies to try its steps on."""

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import install_import_hook
from scipy.spatial.transform import Rotation

_FOLDER = Path(__file__).parents[2] / "tools" / "open_body"


def _load_package(name: str) -> None:
    """The script's folder as a package of this name: `tools` is not on the path of the tests."""
    spec = importlib.util.spec_from_file_location(
        name, _FOLDER / "__init__.py", submodule_search_locations=[str(_FOLDER)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


_load_package("open_body")
with install_import_hook("open_body", "beartype.beartype"):
    anny_source = importlib.import_module("open_body.anny_source")
    bodies = importlib.import_module("open_body.bodies")
    body_file = importlib.import_module("open_body.body_file")
    build = importlib.import_module("open_body.build")
    compare = importlib.import_module("open_body.compare")
    correctives = importlib.import_module("open_body.correctives")
    decimate = importlib.import_module("open_body.decimate")
    geometry = importlib.import_module("open_body.geometry")
    landmarks = importlib.import_module("open_body.landmarks")
    poses = importlib.import_module("open_body.poses")
    population = importlib.import_module("open_body.population")
    regressors = importlib.import_module("open_body.regressors")
    shape_space = importlib.import_module("open_body.shape_space")
    skeleton = importlib.import_module("open_body.skeleton")
    skin = importlib.import_module("open_body.skin")
    skinning = importlib.import_module("open_body.skinning")
    t_pose = importlib.import_module("open_body.t_pose")

TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
A_POSE_M = {
    "pelvis": (0, 1.0, 0),
    "spine1": (0, 1.1, 0),
    "spine2": (0, 1.2, 0.01),
    "spine3": (0, 1.3, 0),
    "neck": (0, 1.5, 0),
    "head": (0, 1.6, 0.02),
    "hip": (0.1, 0.95, 0),
    "knee": (0.16, 0.52, 0.02),
    "ankle": (0.2, 0.1, 0),
    "foot": (0.22, 0.03, 0.12),
    "collar": (0.06, 1.45, 0),
    "shoulder": (0.18, 1.42, 0),
    "elbow": (0.36, 1.2, -0.02),
    "wrist": (0.52, 1.0, 0.03),
    "hand": (0.58, 0.92, 0.05),
}


def sphere(columns: int = 12, rows: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """A unit UV sphere with poles on the y axis, vertices and outward faces; x -> -x maps it
    to itself if ``columns`` is even."""
    polar = np.pi * np.arange(1, rows) / rows
    around = 2 * np.pi * np.arange(columns) / columns
    ring = np.stack([np.sin(around), np.zeros(columns), np.cos(around)], 1)
    middle = np.sin(polar)[:, None, None] * ring + np.cos(polar)[:, None, None] * [0, 1, 0]
    verts = np.concatenate([[[0, 1, 0]], middle.reshape(-1, 3), [[0, -1, 0]]])
    faces = []
    for column in range(columns):
        after = (column + 1) % columns
        faces.append([0, 1 + column, 1 + after])
        for row in range(rows - 2):
            upper, lower = 1 + row * columns, 1 + (row + 1) * columns
            faces += [
                [upper + column, lower + column, lower + after],
                [upper + column, lower + after, upper + after],
            ]
        last = 1 + (rows - 2) * columns
        faces.append([last + column, len(verts) - 1, last + after])
    return verts, np.array(faces)


def mirror_of(verts: np.ndarray) -> np.ndarray:
    distance = np.linalg.norm(verts[:, None] - verts[None] * [-1, 1, 1], axis=-1)
    assert distance.min(1).max() < 1e-9
    return distance.argmin(1)


def bone_heads(rng: np.random.Generator, count: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """A-posed bone heads of stick people with anny's bone names, symmetric."""
    heads: dict[str, np.ndarray] = {}
    for joint, bone in skeleton._MIDLINE_HEADS.items():
        jitter = rng.normal(0, 0.005, (count, 3)) * [0, 1, 1]
        heads[bone] = np.array(A_POSE_M[joint]) + jitter
    for joint, bones in skeleton._SIDE_HEADS.items():
        for number, bone in enumerate(bones):
            across = np.array([0, 0.005, -0.02]) * (number - (len(bones) - 1) / 2)
            left = np.array(A_POSE_M[joint]) + across + rng.normal(0, 0.005, (count, 3))
            heads[bone + ".L"], heads[bone + ".R"] = left, left * [-1, 1, 1]
    return np.stack(list(heads.values()), 1), tuple(heads)


def stick_person() -> Any:
    """A body maker of four points around each joint; blend shapes of height and weight."""
    rng = np.random.default_rng(5)
    heads_m, names = bone_heads(rng, 1)
    joints_m = skeleton.joints_from_bone_heads(heads_m, names)[0]
    star = 0.05 * np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, 0, 1.0], [0, -0.5, -0.5]])
    verts_m = (joints_m[:, None] + star).reshape(-1, 3)
    mirror = (skeleton.MIRROR_JOINT[:, None] * 5 + [1, 0, 2, 3, 4]).reshape(-1)
    bone_of_joint = [
        next(b for b, name in enumerate(names) if skeleton.part_of_bone(name) == joint)
        for joint in range(24)
    ]
    bone_weights = np.eye(len(names))[np.repeat(bone_of_joint, 5)]
    mask = np.zeros((1, sum(anny_source.PHENOTYPE_LEVELS.values())), bool)
    return bodies.BodyMaker(
        skin=skin.Skin(np.arange(len(verts_m)), TETRAHEDRON, mirror, (0, 1)),
        template_m=verts_m.astype(np.float32),
        shapes_m=np.zeros((1, verts_m.size), np.float32),
        bone_heads_m=heads_m[0],
        bone_head_shapes_m=np.zeros((1, heads_m[0].size)),
        blend_mask=mask,
        bone_weights=bone_weights,
        bone_names=names,
    )


def random_people(count: int, rng: np.random.Generator) -> Any:
    values = {name: rng.random(count) for name in list(anny_source.PHENOTYPE_LEVELS)[1:]}
    return bodies.Phenotypes(**values, race=rng.dirichlet([1, 1, 1], count))


def random_motion(rng: np.random.Generator, count: int, degrees: float) -> Any:
    vectors = np.radians(degrees) * rng.uniform(-1, 1, (count * 24, 3))
    rotations = Rotation.from_rotvec(vectors).as_matrix().reshape(count, 24, 3, 3)
    return skinning.PartMotion(rotations, *rng.normal(0, 0.3, (2, count, 24, 3)))


def random_weights(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.dirichlet([0.2] * 24, count)


def mesh_volume(verts: np.ndarray, faces: np.ndarray) -> float:
    return float(bodies.volume_m3(verts[None], faces)[0])
