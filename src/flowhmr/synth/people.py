"""People: who is seen. Shape, skin, hair, clothes and shoes of one synthetic person.

Clothes are painted on the body by regions of its rest pose (how far down the arm or leg, how high
up the trunk) and lifted off the skin along the normals, so one mesh serves all.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float32, Int8

from flowhmr.body import SMPL_24, BodyModel, open_body

SKIN, HAIR, TOP, BOTTOM, SHOES = range(5)
MATERIALS = ("skin", "hair", "top", "bottom", "shoes")
PLAIN, STRIPES, CHECKS, BLOTCHES = range(4)

# One row of a material table: two colours, the pattern that mixes them, how it shines.
RGB, RGB2, PATTERN, WAVES, DIRECTION, PHASE, GLOSS = (
    slice(0, 3), slice(3, 6), 6, 7, slice(8, 11), 11, 12,
)  # fmt: skip
MATERIAL_COLUMNS = 13

SKIN_TONES = np.array(
    [
        [0.98, 0.86, 0.78], [0.94, 0.78, 0.67], [0.87, 0.68, 0.54], [0.76, 0.56, 0.41],
        [0.62, 0.43, 0.29], [0.47, 0.31, 0.21], [0.33, 0.21, 0.15], [0.24, 0.16, 0.12],
    ]
)  # fmt: skip
HAIR_TONES = np.array(
    [[0.08, 0.07, 0.07], [0.18, 0.12, 0.09], [0.33, 0.22, 0.14], [0.55, 0.38, 0.2],
     [0.82, 0.68, 0.42], [0.62, 0.62, 0.62], [0.5, 0.2, 0.1]]
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Person:
    """One synthetic person's shape and appearance."""

    betas: Float32[np.ndarray, "k"]
    """Shape coefficients of the body model."""
    face_material: Int8[np.ndarray, "f"]
    """Which of `MATERIALS` each triangle is made of."""
    lift_m: Float32[np.ndarray, "v"]
    """How far cloth and hair stand off the skin at each vertex, metres along the normal."""
    materials: Float32[np.ndarray, "m c"]
    """Colours and patterns, a row per material (columns `RGB` ... `GLOSS`)."""


@dataclass(frozen=True, eq=False)
class _Regions:
    """Where things are on the rest pose, for each triangle or vertex."""

    part: np.ndarray
    """Joint index of the body part, int."""
    limb: np.ndarray
    """0 at shoulder or hip, 1 at wrist or ankle, beyond on hand and foot; -1 on the trunk."""
    height: np.ndarray
    """0 at the hips, 1 at the neck."""
    crown: np.ndarray
    """On the head: how much it belongs to the hair, in metres above and behind the face."""


@cache
def _regions(body_id: str) -> tuple[_Regions, _Regions]:
    body = open_body()
    if body.body_id != body_id:
        raise ValueError(
            f"synthetic people: got body {body_id}; expected the open body {body.body_id}; "
            "clothes are cut for its parts"
        )
    verts = body.v_template.numpy()
    joints = body.mesh(body.rest_params()).joints.numpy()
    faces = body.faces.numpy()
    by_face = _describe(verts[faces].mean(1), body.face_parts.numpy(), joints)
    return by_face, _describe(verts, body.vertex_parts.numpy(), joints)


def _describe(points: np.ndarray, part: np.ndarray, joints: np.ndarray) -> _Regions:
    def at(name: str) -> np.ndarray:
        return joints[SMPL_24.index(name)]

    limb = np.full(len(points), -1.0)
    for near, far, names in (
        ("shoulder", "wrist", ("shoulder", "elbow", "wrist", "hand")),
        ("hip", "ankle", ("hip", "knee", "ankle", "foot")),
    ):
        for side in ("left_", "right_"):
            axis = at(side + far) - at(side + near)
            along = (points - at(side + near)) @ axis / (axis @ axis)
            mine = np.isin(part, [SMPL_24.index(side + n) for n in names])
            limb[mine] = np.clip(along[mine], 0, None)
    feet = [SMPL_24.index(s + n) for s in ("left_", "right_") for n in ("ankle", "foot")]
    hands = [SMPL_24.index(s + n) for s in ("left_", "right_") for n in ("wrist", "hand")]
    limb[np.isin(part, feet)] = np.maximum(limb[np.isin(part, feet)], 1.05)
    limb[np.isin(part, hands)] = np.maximum(limb[np.isin(part, hands)], 1.05)
    hips, neck = at("left_hip")[1], at("neck")[1]
    head = part == SMPL_24.index("head")
    centre = at("head") + np.array([0, 0.05, 0])
    crown = np.where(head, (points - centre) @ np.array([0, 0.6, -0.8]), -1.0)
    return _Regions(part, limb, (points[:, 1] - hips) / (neck - hips), crown)


def sample_person(rng: np.random.Generator, body: BodyModel) -> Person:
    """A random adult in random clothes."""
    by_face, by_vertex = _regions(body.body_id)
    cut = _sample_cut(rng)
    materials = np.stack([_skin(rng), _hair(rng), _cloth(rng), _cloth(rng), _cloth(rng)])
    if rng.random() < 0.1:
        materials[BOTTOM] = materials[TOP]
    lift_m = np.array([0, rng.uniform(0, 0.03), *(rng.exponential(0.008, 2).clip(0, 0.03)), 0.004])
    return Person(
        betas=(rng.standard_normal(body.num_betas) * 1.1).clip(-3, 3).astype(np.float32),
        face_material=_dress(by_face, cut),
        lift_m=lift_m[_dress(by_vertex, cut)].astype(np.float32),
        materials=materials.astype(np.float32),
    )


@dataclass(frozen=True, eq=False)
class _Cut:
    sleeve: float
    trousers: float
    waist: float
    neckline: float
    hairline_m: float
    barefoot: bool
    bare_chest: bool


def _sample_cut(rng: np.random.Generator) -> _Cut:
    return _Cut(
        sleeve=float(rng.choice([0.0, rng.uniform(0.2, 0.6), rng.uniform(0.9, 1.04)])),
        trousers=float(rng.choice([rng.uniform(0.15, 0.6), rng.uniform(0.85, 1.04)], p=[0.4, 0.6])),
        waist=float(rng.uniform(0.05, 0.35)),
        neckline=float(rng.uniform(0.9, 1.05)),
        hairline_m=float(rng.uniform(0.0, 0.06)) if rng.random() < 0.92 else 1.0,
        barefoot=bool(rng.random() < 0.1),
        bare_chest=bool(rng.random() < 0.06),
    )


def _dress(where: _Regions, cut: _Cut) -> np.ndarray:
    arm_parts = [SMPL_24.index(s + n) for s in ("left_", "right_")
                 for n in ("shoulder", "elbow", "wrist", "hand")]  # fmt: skip
    arm = np.isin(where.part, arm_parts)
    leg = (where.limb >= 0) & ~arm
    trunk = where.limb < 0
    face_or_neck = np.isin(where.part, [SMPL_24.index("head"), SMPL_24.index("neck")])
    out = np.full(len(where.part), SKIN, np.int8)
    if not cut.bare_chest:
        out[trunk & ~face_or_neck & (where.height < cut.neckline)] = TOP
        out[arm & (where.limb < cut.sleeve)] = TOP
    out[leg & (where.limb < cut.trousers)] = BOTTOM
    out[trunk & (where.height < cut.waist)] = BOTTOM
    if not cut.barefoot:
        out[leg & (where.limb > 1.0)] = SHOES
    out[where.crown > cut.hairline_m] = HAIR
    return out


def _row(rgb: np.ndarray, rgb2: np.ndarray | None = None) -> np.ndarray:
    row = np.zeros(MATERIAL_COLUMNS)
    row[RGB] = rgb.clip(0, 1)
    row[RGB2] = (rgb if rgb2 is None else rgb2).clip(0, 1)
    row[DIRECTION] = [0, 1, 0]
    return row


def _tone(table: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    at = rng.uniform(0, len(table) - 1)
    low = int(at)
    high = min(low + 1, len(table) - 1)
    mixed = table[low] + (at - low) * (table[high] - table[low])
    return mixed * rng.uniform(0.92, 1.08, 3)


def _skin(rng: np.random.Generator) -> np.ndarray:
    row = _row(_tone(SKIN_TONES, rng))
    row[GLOSS] = rng.uniform(0, 0.25)
    return row


def _hair(rng: np.random.Generator) -> np.ndarray:
    tone = _tone(HAIR_TONES, rng)
    row = _row(tone, tone * rng.uniform(0.5, 1.0))
    row[PATTERN], row[WAVES] = BLOTCHES, rng.uniform(20, 60)
    return row


def random_rgb(rng: np.random.Generator) -> np.ndarray:
    """A colour as clothes and things have them: greys, blues and dark tones more than others."""
    kind = rng.random()
    if kind < 0.35:
        return np.full(3, rng.uniform(0.03, 0.97)) + rng.normal(0, 0.03, 3)
    if kind < 0.5:
        return np.array([0.15, 0.22, 0.38]) * rng.uniform(0.4, 2.0) + rng.normal(0, 0.04, 3)
    rgb = rng.random(3)
    return rgb.mean() + (rgb - rgb.mean()) * rng.uniform(0.2, 1.0)


def _cloth(rng: np.random.Generator) -> np.ndarray:
    row = _row(random_rgb(rng), random_rgb(rng))
    row[PATTERN] = rng.choice([PLAIN, STRIPES, CHECKS, BLOTCHES], p=[0.45, 0.2, 0.1, 0.25])
    row[WAVES] = rng.uniform(4, 40)
    slanted = rng.random() < 0.5
    direction = rng.standard_normal(3) * [0.5, 1, 0.3] if slanted else np.array([0.0, 1, 0])
    row[DIRECTION] = direction / np.linalg.norm(direction)
    row[PHASE] = rng.uniform(0, 2 * np.pi)
    row[GLOSS] = rng.uniform(0, 0.15)
    return row
