"""Reading body files: SMPL's pickles and npz files, the open body's npz, regressors.

The layouts follow the published loaders of these files; the licensed files themselves are not at
hand here, and the tests write files of the same layouts.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from flowhmr.body.errors import BodyFileError
from flowhmr.body.joints import H36M_17, SMPL_24, SPIN_EXTRA_9, SPIN_H36M_17, JointSet
from flowhmr.body.keypoints import REGRESSOR_FILES, SMPL_LANDMARKS, smpl_rules
from flowhmr.body.model import BodyModel, Regressor, body_id_of, parts_of_faces
from flowhmr.body.open_body import OPEN_BODY_KEYS, body_from_arrays, open_body
from flowhmr.files import DataFileError, plain_data

MAX_BYTES = 2**30
"""The largest file: four times the largest of SMPL's."""
VERTICES, FACES, JOINTS = 6890, 13776, len(SMPL_24)
_NO_PARENT = np.uint32(2**32 - 1)
_SMPL_KEYS = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table", "f")
_OTHER_BODIES = {10475: "SMPL-X", 5023: "FLAME", 778: "MANO", 3889: "SMAL", 18056: "GHUM"}
_OTHER_TREES = {52: "SMPL+H", 55: "SMPL-X", 16: "MANO", 5: "FLAME", 35: "SMAL"}


def load_body(path: str | Path, num_betas: int = 10) -> BodyModel:
    """A body from a file, float32 on the CPU.

    Read are SMPL's pickles (v1.0.0 and v1.1.0; male, female, neutral; as published, with chumpy
    objects, or cleaned), npz files with the same keys, and npz files of the open body's layout.
    Nothing in a file is run. Triangles that look inward are turned.

    Args:
        path: the file.
        num_betas: how many shape directions to keep, the first ones; files hold 10 or 300.

    Raises:
        BodyFileError: the file is damaged, runs code, holds another body, lacks a part, or has a
            part of another shape or with impossible values; the message says what to do.
    """
    path = Path(path)
    try:
        arrays = plain_data(path, MAX_BYTES, OPEN_BODY_KEYS | {*_SMPL_KEYS, "vert_sym_idxs"})
    except DataFileError as error:
        raise BodyFileError(f"{path}: {error}") from error
    if not isinstance(arrays, dict):
        raise BodyFileError(
            f"{path}: got a {type(arrays).__name__}; expected the dict of a body, with "
            f"{', '.join(_SMPL_KEYS)}"
        )
    if arrays.keys() >= OPEN_BODY_KEYS:
        return body_from_arrays(arrays)
    return _SmplFile(path, arrays).body(num_betas)


def load_regressor(path: str | Path, joints: JointSet, body: BodyModel) -> Regressor:
    """A joint regressor of SMPL's vertices, bound to one SMPL body.

    Args:
        path: ``J_regressor_h36m.npy`` (17 x 6890) or ``J_regressor_extra.npy`` (9 x 6890).
        joints: `H36M_17` for the first (its rows come in `SPIN_H36M_17`'s order and are
            reordered), `SPIN_EXTRA_9` for the second.
        body: the SMPL body whose meshes it is for.

    Raises:
        BodyFileError: another body than SMPL, another shape, rows in another order.
    """
    path = Path(path)
    rows = {H36M_17.name: SPIN_H36M_17, SPIN_EXTRA_9.name: SPIN_EXTRA_9}.get(joints.name)
    if rows is None:
        raise BodyFileError(
            f"{path}: got joint set {joints.name}; expected {' or '.join(REGRESSOR_FILES)}"
        )
    if body.topology != "smpl":
        raise BodyFileError(
            f"{path}: got a regressor of SMPL's vertices for body {body.body_id}; expected an "
            "SMPL body: the counts are the same, but each vertex lies elsewhere; "
            "this body's own keypoints come from body.keypoints(mesh, joint_set)"
        )
    try:
        matrix = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise BodyFileError(f"{path}: got no npy array ({error}); expected one") from error
    if matrix.shape != (len(rows), VERTICES):
        raise BodyFileError(
            f"{path}: got shape {matrix.shape}; expected {(len(rows), VERTICES)}, that is "
            f"{REGRESSOR_FILES[joints.name]}"
        )
    if matrix.dtype.kind not in "fiu":
        raise BodyFileError(f"{path}: got {matrix.dtype}; expected numbers; get the file again")
    if not _holds(matrix).all():
        raise BodyFileError(
            f"{path}: got numbers that are not finite, or too large; get the file again"
        )
    ordered = torch.from_numpy(matrix).to(body.v_template)[list(rows.indices_of(joints.names))]
    _check_sides(path, ordered @ body.v_template, joints)
    return Regressor(joints, ordered, body.body_id)


def _check_sides(path: Path, places: Float[torch.Tensor, "k 3"], joints: JointSet) -> None:
    """The template's left is at +x: a row order that swaps the sides shows there."""
    left = [i for i, name in enumerate(joints.names) if name.startswith("left_")]
    right = [joints.mirror[i] for i in left]
    swapped = (places[left, 0] <= places[right, 0]).nonzero().flatten().tolist()
    if swapped:
        names = ", ".join(joints.names[left[i]] for i in swapped)
        raise BodyFileError(
            f"{path}: got rows that put {names} on the right of the template; expected the rows "
            "of SPIN's file, left leg first; another order of the same joints must be reordered"
        )


class _SmplFile:
    """The content of a file with SMPL's keys, checked part by part."""

    def __init__(self, path: Path, content: Mapping[Any, Any]) -> None:
        self.path = path
        self.content = content

    def body(self, num_betas: int) -> BodyModel:
        """The body of this file."""
        self._check_what_body()
        arrays = {
            "v_template": self._floats("v_template", (VERTICES, 3)),
            "shapedirs": self._shapedirs(num_betas),
            "posedirs": self._posedirs(),
            "joint_regressor": self._floats("J_regressor", (JOINTS, VERTICES)),
            "weights": self._weights(),
        }
        self._check_tree()
        faces = _outward(self._faces(), arrays["v_template"])
        parts = arrays["weights"].argmax(1)
        symmetry = self._symmetry()
        return BodyModel(
            body_id=body_id_of("smpl", {**arrays, "faces": faces}),
            topology="smpl",
            v_template=torch.from_numpy(arrays["v_template"]),
            shapedirs=torch.from_numpy(arrays["shapedirs"]),
            posedirs=torch.from_numpy(arrays["posedirs"]),
            joint_regressor=torch.from_numpy(arrays["joint_regressor"]),
            weights=torch.from_numpy(arrays["weights"]),
            faces=torch.from_numpy(faces),
            vertex_parts=torch.from_numpy(parts),
            face_parts=torch.from_numpy(parts_of_faces(parts, faces)),
            symmetry=None if symmetry is None else torch.from_numpy(symmetry),
            landmarks=SMPL_LANDMARKS,
            keypoint_rules=smpl_rules(),
        )

    def _refuse(self, name: str, got: str, expected: str, remedy: str) -> BodyFileError:
        return BodyFileError(f"{self.path}: {name}: got {got}; expected {expected}; {remedy}")

    def _check_what_body(self) -> None:
        """Other bodies of the family share the keys: name them before their shapes."""
        tree = _shape(self.content.get("kintree_table"))
        vertices = _shape(self.content.get("v_template"))
        other = _OTHER_TREES.get(tree[-1] if tree else 0) or _OTHER_BODIES.get(
            vertices[0] if vertices else 0
        )
        if other:
            raise BodyFileError(
                f"{self.path}: got {other}'s file ({vertices[0] if vertices else '?'} vertices, "
                f"{tree[-1] if tree else '?'} joints); expected SMPL's ({VERTICES} vertices, "
                f"{JOINTS} joints); its parameters are no SMPL parameters: get the SMPL file"
            )
        missing = [key for key in _SMPL_KEYS if key not in self.content]
        if missing:
            raise BodyFileError(
                f"{self.path}: got no {', '.join(missing)} (found: "
                f"{', '.join(sorted(map(str, self.content))) or 'nothing'}); expected SMPL's "
                f"{', '.join(_SMPL_KEYS)}; this may be a file of parameters, not of a body"
            )

    def _array(self, name: str, shapes: Collection[tuple[int, ...]]) -> np.ndarray:
        """A part of one of these shapes, dense, of numbers."""
        value = self.content[name]
        expected = " or ".join(map(str, shapes))
        if _shape(value) not in shapes:
            got = f"shape {_shape(value)}" if _shape(value) is not None else type(value).__name__
            raise self._refuse(
                name, got, expected, "layouts are not guessed: store it in SMPL's own"
            )
        dense = value.toarray() if hasattr(value, "toarray") else value
        if dense.dtype.kind not in "fiu":
            raise self._refuse(name, f"{dense.dtype}", "numbers", "store it as an array of numbers")
        if not _holds(dense).all():
            count = int((~_holds(dense)).sum())
            raise self._refuse(
                name,
                f"{count} numbers that are not finite, or too large",
                "none",
                "get the file again",
            )
        return dense

    def _floats(self, name: str, *shapes: tuple[int, ...]) -> Float[np.ndarray, "..."]:
        return self._array(name, shapes).astype(np.float32)

    def _shapedirs(self, num_betas: int) -> Float[np.ndarray, "v 3 k"]:
        shape = _shape(self.content["shapedirs"]) or ()
        stored = shape[-1] if shape else 0
        # 207 and 217 directions are pose directions, alone or appended to ten betas.
        known = (VERTICES, 3, stored) if stored <= 300 and stored not in (207, 217) else None
        if shape != known:
            raise self._refuse(
                "shapedirs",
                f"shape {shape}",
                f"({VERTICES}, 3, k) with k = 10 or 300 shape directions",
                "layouts are not guessed: transpose it, or cut the pose directions off",
            )
        if not 1 <= num_betas <= stored:
            raise self._refuse(
                "shapedirs", f"{stored} betas", f"at least {num_betas}", "ask for fewer num_betas"
            )
        return np.ascontiguousarray(self._floats("shapedirs", shape)[..., :num_betas])

    def _posedirs(self) -> Float[np.ndarray, "207 v 3"]:
        """Also smplx's own form, features first, and vertices and axes flattened."""
        features = 9 * (JOINTS - 1)
        flat = 3 * VERTICES
        shapes = ((VERTICES, 3, features), (flat, features), (features, flat))
        posedirs = self._floats("posedirs", *shapes)
        if posedirs.shape == (features, flat):
            posedirs = posedirs.T
        return np.ascontiguousarray(posedirs.reshape(flat, features).T).reshape(-1, VERTICES, 3)

    def _weights(self) -> Float[np.ndarray, "v 24"]:
        weights = self._floats("weights", (VERTICES, JOINTS))
        worst = float(np.abs(weights.sum(1) - 1).max())
        if worst > 1e-3 or weights.min() < -1e-6:
            raise self._refuse(
                "weights",
                f"rows up to {worst:.3g} away from a sum of one, least weight {weights.min():.3g}",
                "weights >= 0 that sum to one",
                "get the file again",
            )
        return weights

    def _check_tree(self) -> None:
        table = self._array("kintree_table", [(2, JOINTS)]).astype(np.int64)
        parents = np.where(table[0] == _NO_PARENT, -1, table[0])
        if tuple(parents) != SMPL_24.parents or (table[1] != np.arange(JOINTS)).any():
            raise self._refuse(
                "kintree_table", f"parents {parents.tolist()}", "SMPL's tree", "get the SMPL file"
            )

    def _faces(self) -> Int[np.ndarray, "f 3"]:
        faces = self._array("f", [(FACES, 3)])
        if faces.dtype.kind not in "iu" or faces.max() >= VERTICES or faces.min() < 0:
            raise self._refuse(
                "f",
                f"{faces.dtype} from {faces.min()} to {faces.max()}",
                f"integers from 0 to {VERTICES - 1}",
                "get the file again",
            )
        faces = faces.astype(np.int64)
        if np.array_equal(faces, open_body().faces.numpy()):
            raise self._refuse(
                "f", "the open body's triangles", "SMPL's", "use flowhmr.body.open_body()"
            )
        return faces

    def _symmetry(self) -> Int[np.ndarray, "v"] | None:
        """The file's mirror map, if it has one that leads each vertex back to itself."""
        stored = self.content.get("vert_sym_idxs")
        if not isinstance(stored, np.ndarray) or stored.shape != (VERTICES,):
            return None
        if stored.dtype.kind not in "iu":
            return None
        symmetry = stored.astype(np.int64)
        inside = symmetry.min() >= 0 and symmetry.max() < VERTICES
        back = inside and np.array_equal(symmetry[symmetry], np.arange(VERTICES))
        return symmetry if back else None


LARGEST = 1e12
"""Of all numbers in a body's file: none is a thousandth of it, and float32 holds its square."""


def _holds(values: np.ndarray) -> Bool[np.ndarray, "..."]:
    """Which numbers are such as a body has."""
    return np.abs(values) < LARGEST


def _shape(value: Any) -> tuple[int, ...] | None:
    """The shape of an array, dense or sparse; None for anything else."""
    shape = getattr(value, "shape", None)
    return tuple(shape) if isinstance(shape, tuple) else None


def _outward(faces: Int[np.ndarray, "f 3"], verts: Float[np.ndarray, "v 3"]) -> np.ndarray:
    """The triangles counter-clockwise from outside: such a mesh encloses a positive volume."""
    a, b, c = verts[faces].astype(np.float64).transpose(1, 0, 2)
    volume = np.einsum("fc,fc->", a, np.cross(b, c))
    return faces if volume >= 0 else np.ascontiguousarray(faces[:, ::-1])
