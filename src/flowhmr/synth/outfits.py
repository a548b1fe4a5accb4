"""Outfits: what someone wears, said as cuts of the rest pose and the materials they show.

Where a garment ends is a rule on the point of the rest pose (T-pose, metres) that is seen, not on
triangles: hems are sharp at every size. The rest pose's coordinates are also the texture's, so
patterns stay on the cloth. Loose cloth, hair and shoes are lifted off the skin along the normals.
"""

from dataclasses import dataclass, fields
from functools import cache
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Float32, Int8

from flowhmr.body import SMPL_24, BodyModel
from flowhmr.synth.people import HAIR_TONES, SKIN_TONES, random_rgb
from flowhmr.synth.textures import FABRICS, Kind

SKIN, HAIR, TOP, BOTTOM, SHOES, COAT, SOCKS, TRIM, DARK, LIPS = range(10)
MATERIALS = (
    "skin", "hair", "top", "bottom", "shoes", "coat", "socks", "trim", "dark", "lips",
)  # fmt: skip
HEAD, TRUNK, ARM, LEG = range(4)

PLAIN, STRIPES, CHECKS, BLOTCHES, FABRIC, PRINT = range(6)
# Columns of a material: two colours, the pattern that mixes them, folds, gloss.
RGB, RGB2, PATTERN, WAVES, DIRECTION, PHASE, GLOSS, FOLDS = (
    slice(0, 3), slice(3, 6), 6, 7, slice(8, 11), 11, 12, 13,
)  # fmt: skip
MATERIAL_COLUMNS = 14


@dataclass(frozen=True)
class Cut:
    """Where each garment ends. Limbs run from 0 (shoulder, hip) to 1 (wrist, ankle)."""

    sleeve: float = 0.4
    """Sleeves of the top end here."""
    trousers: float = 1.0
    """Trouser legs end here."""
    waist_m: float = 0.05
    """Height of the waistband."""
    neck_m: float = 0.42
    """Height of the neckline."""
    v_neck_m: float = 0.0
    """How far a V-neck reaches down from it."""
    coat_open_m: float = -1.0
    """Half the width of an open coat's gap; negative: no coat."""
    coat_sleeve: float = 1.0
    """Sleeves of the coat end here."""
    coat_hem: float = 0.1
    """The coat ends here on the legs; negative: at the waist."""
    sock: float = 2.0
    """Socks begin here; beyond 1: not seen."""
    shoe: float = 1.0
    """Shoes or boots begin here; beyond 1.5: barefoot."""
    glove: float = 2.0
    """Gloves begin here; beyond 1.5: none."""
    hairline_m: float = 0.03
    """How far above and behind the face's middle hair begins; beyond 0.5: bald."""
    hair_low_m: float = 0.6
    """Long hair falls to this height on neck and back."""
    beard: float = 0.0
    """1 with a beard."""
    hat_m: float = 1.0
    """A hat or cap begins at this height; 1: none."""
    belt: float = 0.0
    """1 with a belt."""
    side_stripe_m: float = 0.0
    """Half the width of a stripe down the trousers' sides."""


CUT = {f.name: place for place, f in enumerate(fields(Cut))}
(
    _SLEEVE, _TROUSERS, _WAIST, _NECK, _V_NECK, _COAT_OPEN, _COAT_SLEEVE, _COAT_HEM, _SOCK, _SHOE,
    _GLOVE, _HAIRLINE, _HAIR_LOW, _BEARD, _HAT, _BELT, _SIDE_STRIPE,
) = CUT.values()  # fmt: skip


@dataclass(frozen=True, eq=False)
class Outfit:
    """One person's shape and looks."""

    betas: Float32[np.ndarray, "k"]
    """Shape coefficients of the body model."""
    cut: Float32[np.ndarray, "c"]
    """`Cut`, in the order of its fields."""
    materials: Float32[np.ndarray, "m n"]
    """Colours and patterns, a row for each of `MATERIALS`."""
    lift_m: Float32[np.ndarray, "v"]
    """How far cloth and hair stand off the skin at each vertex, metres along the normal."""
    fabric: tuple[Kind, int]
    """The texture that `FABRIC` and `PRINT` show: kind and number."""


@cache
def face_regions(body: BodyModel) -> Int8[np.ndarray, "f"]:
    """Which of HEAD, TRUNK, ARM, LEG each triangle belongs to."""
    return _regions(body.face_parts.cpu().numpy())


def _regions(parts: np.ndarray) -> Int8[np.ndarray, "n"]:
    def those(*names: str) -> list[int]:
        return [SMPL_24.index(side + n) for n in names for side in ("left_", "right_")]

    out = np.full(len(parts), TRUNK, np.int8)
    out[np.isin(parts, [SMPL_24.index("head"), SMPL_24.index("neck")])] = HEAD
    out[np.isin(parts, those("shoulder", "elbow", "wrist", "hand"))] = ARM
    out[np.isin(parts, those("hip", "knee", "ankle", "foot"))] = LEG
    return out


# Lines of the rest pose, metres: where limbs begin and how long they are, the face's middle.
SHOULDER_X, ARM_LENGTH = 0.175, 0.489
HIP_Y, LEG_LENGTH = -0.095, 0.809
FACE_Y, FACE_Z = 0.608, 0.073


@numba.njit(cache=True, nogil=True)
@no_type_check
def material_at(region, x, y, z, cut):
    """What is seen at a point of the rest pose: one of the material numbers."""
    ax = abs(x)
    if region == HEAD:
        if y > cut[_HAT] - 0.25 * (z - FACE_Z):
            return TRIM
        if z > 0.12 and abs(ax - 0.029) < 0.011 and abs(y - 0.6) < 0.006:
            return DARK
        if z > 0.12 and abs(ax - 0.029) < 0.017 and abs(y - 0.619) < 0.004:
            return HAIR
        if z > 0.13 and ax < 0.021 and abs(y - 0.529) < 0.005:
            return LIPS
        if cut[_BEARD] > 0 and z > 0.06 and y < 0.546 - 0.3 * ax and y > 0.47:
            return HAIR
        if 0.6 * (y - FACE_Y) - 0.8 * (z - FACE_Z) > cut[_HAIRLINE]:
            return HAIR
        if cut[_HAIRLINE] < 0.5 and z < 0.05 and y > cut[_HAIR_LOW]:
            return HAIR
        if y < 0.46 and y < cut[_NECK]:
            return TOP
        return SKIN
    if region == TRUNK:
        if cut[_HAIRLINE] < 0.5 and z < 0.0 and y > cut[_HAIR_LOW] and ax < 0.12:
            return HAIR
        neck = cut[_NECK]
        if z > 0.02:
            neck -= cut[_V_NECK] * max(0.0, 1.0 - ax / 0.09)
        if cut[_COAT_OPEN] >= 0 and y < cut[_NECK] + 0.02:
            gap = cut[_COAT_OPEN] * (1.2 - y)
            if (z < 0.02 or ax > gap) and (cut[_COAT_HEM] >= 0 or y > cut[_WAIST] - 0.03):
                return COAT
        if y > neck:
            return SKIN
        if cut[_BELT] > 0 and abs(y - cut[_WAIST]) < 0.018:
            return DARK
        if y < cut[_WAIST]:
            return BOTTOM
        return TOP
    if region == ARM:
        limb = (ax - SHOULDER_X) / ARM_LENGTH
        if limb > cut[_GLOVE]:
            return TRIM
        if cut[_COAT_OPEN] >= 0 and limb < cut[_COAT_SLEEVE]:
            return COAT
        return TOP if limb < cut[_SLEEVE] else SKIN
    limb = (HIP_Y - y) / LEG_LENGTH
    if limb > cut[_SHOE] or (limb > 1.03 and cut[_SHOE] < 1.5):
        return DARK if y < -0.966 else SHOES
    if cut[_COAT_OPEN] >= 0 and limb < cut[_COAT_HEM]:
        return COAT
    if limb < cut[_TROUSERS]:
        if ax > 0.15 and abs(z - 0.02) < cut[_SIDE_STRIPE]:
            return TRIM
        return BOTTOM
    return SOCKS if limb > cut[_SOCK] else SKIN


@numba.njit(cache=True, nogil=True)
@no_type_check
def _lift_vertices(regions, rest, cut, lifts, flare, out):
    for k in range(rest.shape[0]):
        x, y, z = rest[k, 0], rest[k, 1], rest[k, 2]
        material = material_at(regions[k], x, y, z, cut)
        lift = lifts[material]
        if material == BOTTOM and regions[k] == LEG:
            lift += flare * max(0.0, (HIP_Y - y) / LEG_LENGTH) / max(cut[_TROUSERS], 0.3)
        if material == TOP and regions[k] == ARM:
            lift += flare * 0.7 * (abs(x) - SHOULDER_X) / ARM_LENGTH
        out[k] = lift


def sample_outfit(rng: np.random.Generator, body: BodyModel, textures: int) -> Outfit:
    """A random adult in random clothes.

    Args:
        rng: source of every choice.
        body: the open body: cuts are made for its rest pose.
        textures: how many textures of each kind there are to choose from.

    Raises:
        ValueError: another body.
    """
    if body.topology != "open-body":
        raise ValueError(
            f"synthetic people: got body {body.body_id}; expected the open body; clothes are cut "
            "for its rest pose"
        )
    cut = _sample_cut(rng)
    packed = np.array([getattr(cut, name) for name in CUT], np.float32)
    materials = _sample_materials(rng)
    return Outfit(
        betas=(rng.standard_normal(body.num_betas) * 1.1).clip(-3, 3).astype(np.float32),
        cut=packed,
        materials=materials,
        lift_m=_sample_lift(rng, body, packed),
        fabric=(str(rng.choice(FABRICS)), int(rng.integers(textures))),
    )


def _sample_cut(rng: np.random.Generator) -> Cut:
    coat = rng.random() < 0.25
    long_hair = rng.random() < 0.35
    return Cut(
        sleeve=float(rng.choice([0.08, rng.uniform(0.2, 0.6), rng.uniform(0.9, 1.02)])),
        trousers=float(rng.choice([rng.uniform(0.15, 0.6), rng.uniform(0.85, 1.03)], p=[0.4, 0.6])),
        waist_m=float(rng.uniform(-0.06, 0.1)),
        neck_m=float(rng.uniform(0.38, 0.47)) if rng.random() > 0.04 else -1.0,
        v_neck_m=float(rng.uniform(0.04, 0.16)) if rng.random() < 0.25 else 0.0,
        coat_open_m=float(rng.uniform(0.0, 0.12)) if coat else -1.0,
        coat_sleeve=float(rng.choice([0.05, rng.uniform(0.9, 1.02)], p=[0.2, 0.8])),
        coat_hem=float(rng.choice([-1.0, rng.uniform(0.02, 0.35)])),
        sock=float(rng.uniform(0.75, 1.0)) if rng.random() < 0.5 else 2.0,
        shoe=float(rng.choice([1.0, rng.uniform(0.75, 0.95), 2.0], p=[0.75, 0.15, 0.1])),
        glove=1.02 if rng.random() < 0.06 else 2.0,
        hairline_m=float(rng.uniform(0.0, 0.05)) if rng.random() < 0.92 else 1.0,
        hair_low_m=float(rng.uniform(0.25, 0.5)) if long_hair else 0.6,
        beard=float(rng.random() < 0.18),
        hat_m=float(rng.uniform(0.635, 0.67)) if rng.random() < 0.12 else 1.0,
        belt=float(rng.random() < 0.3),
        side_stripe_m=float(rng.uniform(0.01, 0.03)) if rng.random() < 0.15 else 0.0,
    )


def _sample_lift(
    rng: np.random.Generator, body: BodyModel, cut: Float32[np.ndarray, "c"]
) -> Float32[np.ndarray, "v"]:
    lifts = np.zeros(len(MATERIALS))
    lifts[HAIR] = rng.uniform(0.003, 0.03)
    lifts[[TOP, BOTTOM]] = rng.exponential(0.008, 2).clip(0.002, 0.03)
    lifts[COAT] = rng.uniform(0.012, 0.035)
    lifts[SHOES], lifts[SOCKS], lifts[TRIM] = 0.007, 0.002, 0.012
    flare = rng.uniform(0, 0.035) if rng.random() < 0.4 else 0.0
    rest_m = body.v_template.cpu().numpy()
    out = np.empty(len(rest_m), np.float32)
    regions = _regions(body.vertex_parts.cpu().numpy())
    _lift_vertices(regions, rest_m, cut, lifts.astype(np.float32), flare, out)
    return out


def _sample_materials(rng: np.random.Generator) -> Float32[np.ndarray, "m n"]:
    rows = np.zeros((len(MATERIALS), MATERIAL_COLUMNS))
    rows[:, DIRECTION] = [0, 1, 0]
    for material in (TOP, BOTTOM, COAT, SHOES, SOCKS, TRIM):
        _paint_cloth(rng, rows[material])
    skin, hair = _tone(rng, SKIN_TONES), _tone(rng, HAIR_TONES)
    rows[SKIN, RGB] = rows[SKIN, RGB2] = skin
    rows[SKIN, GLOSS] = rng.uniform(0.02, 0.25)
    rows[HAIR, RGB], rows[HAIR, RGB2] = hair, hair * rng.uniform(0.5, 1)
    rows[HAIR, PATTERN], rows[HAIR, WAVES] = BLOTCHES, rng.uniform(20, 60)
    rows[LIPS, RGB] = skin * [0.9, 0.62, 0.62]
    rows[DARK, RGB] = rng.uniform(0.02, 0.2)
    if rng.random() < 0.3:
        rows[BOTTOM, RGB] = rows[BOTTOM, RGB2] = np.array([0.15, 0.22, 0.38]) * rng.uniform(0.6, 2)
        rows[BOTTOM, PATTERN] = PLAIN
    if rng.random() < 0.1:
        rows[BOTTOM] = rows[TOP]
    if rng.random() < 0.25:
        rows[TOP, PATTERN] = PRINT
    return rows.clip(-100, 100).astype(np.float32)


def _tone(rng: np.random.Generator, table: np.ndarray) -> np.ndarray:
    at = rng.uniform(0, len(table) - 1)
    low = int(at)
    mixed = table[low] + (at - low) * (table[min(low + 1, len(table) - 1)] - table[low])
    return (mixed * rng.uniform(0.92, 1.08, 3)).clip(0.02, 1)


def _paint_cloth(rng: np.random.Generator, row: np.ndarray) -> None:
    row[RGB], row[RGB2] = random_rgb(rng).clip(0.02, 0.97), random_rgb(rng).clip(0.02, 0.97)
    kinds = [PLAIN, STRIPES, CHECKS, BLOTCHES, FABRIC]
    row[PATTERN] = rng.choice(kinds, p=[0.46, 0.18, 0.1, 0.14, 0.12])
    row[WAVES] = rng.uniform(4, 40)
    slanted = rng.standard_normal(3) * [0.5, 1, 0.3]
    straight = np.array([[0.0, 1, 0], [1, 0, 0]])[int(rng.random() < 0.3)]
    direction = slanted if rng.random() < 0.4 else straight
    row[DIRECTION] = direction / np.linalg.norm(direction)
    row[PHASE] = rng.uniform(0, 2 * np.pi)
    row[GLOSS] = rng.uniform(0, 0.15)
    row[FOLDS] = rng.uniform(0.05, 0.5)
