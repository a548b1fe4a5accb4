"""How far two open body files are apart, in units of what they describe.

``python -m tools.open_body.compare A.npz B.npz``
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_SAME_THINGS = (
    ("parents", "parents"),
    ("mirror map", "symmetry"),
    ("joint names", "joint_names"),
    ("landmark names", "landmark_names"),
    ("landmark vertices", "landmark_vertex"),
    ("parts of vertices", "part_vertex"),
    ("keypoint sets", "keypoint_sets"),
)


@dataclass(frozen=True)
class Difference:
    """One line of the comparison."""

    quantity: str
    """What is compared."""
    value: float
    """The largest difference; infinite where the shapes differ."""
    unit: str
    """Its unit."""
    allowed: float
    """What the noise of another machine's arithmetic may change."""

    def is_noise(self) -> bool:
        """Whether the difference is within what is allowed."""
        return self.value <= self.allowed

    def __str__(self) -> str:
        verdict = "ok" if self.is_noise() else f"MORE THAN {self.allowed:g}"
        return f"{self.quantity:24s} {self.value:10.3g} {self.unit:10s} {verdict}"


def compare(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> list[Difference]:
    """Each quantity of two open body files, read as `read_npz` gives them.

    The order of the triangles and the corner each starts at do not count.

    Raises:
        ValueError: an array that the other file has is missing in one.
    """
    if missing := ours.keys() ^ theirs.keys():
        raise ValueError(
            f"open body files: got {sorted(missing)} in one of two; expected the same arrays"
        )
    same = [
        Difference("faces with their parts", _unequal(_faces(ours), _faces(theirs)), "unequal", 0.0)
    ] + [
        Difference(quantity, _unequal(ours[key], theirs[key]), "unequal", 0.0)
        for quantity, key in _SAME_THINGS
    ]
    return same + [
        Difference(quantity, _largest(value, other), unit, allowed)
        for (quantity, unit, allowed, value), (*_, other) in zip(_measured(ours), _measured(theirs))
    ]


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an npz file."""
    with np.load(path) as archive:
        return dict(archive)


def _measured(arrays: Mapping[str, np.ndarray]) -> list[tuple[str, str, float, np.ndarray]]:
    """(quantity, unit, allowed difference, dense values) of a file.

    Allowed is one step where the file rounds (2^-14 m in the largest float16 shape directions,
    1/65535 in the weights, .1 mm in the pose blend shapes); elsewhere a small multiple of the
    noise seen between environments.
    """
    verts_m = arrays["v_template"].astype(float)
    rest, posed = (_dense_regressor(arrays, name) for name in ("regressor", "posed_regressor"))
    return [
        ("vertices of the mean", "mm", 0.005, 1e3 * verts_m),
        ("shape directions", "mm/beta", 0.0611, 1e3 * arrays["shapedirs"].astype(float)),
        ("skinning weights", "", 2e-5, _dense_weights(arrays)),
        ("joints of the mean", "mm", 0.005, 1e3 * rest @ verts_m),
        ("rest regressor", "", 1e-3, rest),
        ("posed regressor", "", 1e-3, posed),
        ("pose blend shapes", "mm", 0.1001, _dense_posedirs_mm(arrays)),
        ("explained variance", "", 1e-5, np.array(json.loads(str(arrays["info"]))["explained"])),
    ]


def _faces(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Rows (three vertices, part) in an order of their own: lowest corner first, then sorted."""
    faces = arrays["f"].astype(int)
    corners = (faces.argmin(1)[:, None] + np.arange(3)) % 3
    rows = np.c_[np.take_along_axis(faces, corners, 1), arrays["part_face"]]
    return rows[np.lexsort(rows.T[::-1])]


def _dense_weights(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    weights = np.zeros((len(arrays["v_template"]), len(arrays["parents"])))
    index = arrays["weights_index"].astype(int)
    np.put_along_axis(weights, index, arrays["weights_value"] / 65535, 1)
    return weights


def _dense_regressor(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    regressor = np.zeros((len(arrays["parents"]), len(arrays["v_template"])))
    regressor[arrays[f"{name}_joint"], arrays[f"{name}_vertex"]] = arrays[f"{name}_value"]
    return regressor


def _dense_posedirs_mm(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    joints, vertices = len(arrays["parents"]), len(arrays["v_template"])
    offsets_mm = np.zeros((9 * (joints - 1), vertices, 3))
    values_mm = 1e3 * float(arrays["posedirs_scale"]) * arrays["posedirs_value"]
    offsets_mm[arrays["posedirs_feature"], arrays["posedirs_vertex"]] = values_mm
    return offsets_mm


def _unequal(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float((ours != theirs).sum()) if ours.shape == theirs.shape else np.inf


def _largest(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else np.inf


def report(ours: Path, theirs: Path) -> bool:
    """Print the differences of two files; whether all of them are noise."""
    differences = compare(read_npz(ours), read_npz(theirs))
    print(f"{ours} against {theirs}")
    for difference in differences:
        print(f"  {difference}")
    return all(difference.is_noise() for difference in differences)


def main(paths: Sequence[str]) -> int:
    """The command; its exit status is 0 if the files agree up to noise."""
    if len(paths) != 2:
        raise SystemExit(f"got {len(paths)} paths; expected two open body files")
    return 0 if report(Path(paths[0]), Path(paths[1])) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
