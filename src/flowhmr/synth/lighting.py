"""Light: from all around in spherical harmonics, and from one lamp or the sun with its shadow."""

from dataclasses import dataclass
from typing import no_type_check

import cv2
import numba
import numpy as np
from jaxtyping import Float32

from flowhmr.synth.places import Place
from flowhmr.synth.shading import SHADOW_PX
from flowhmr.synth.things import BOX, CYLINDER, HALF, KIND

SHADOW_M = 8.0
"""Width of the square of ground that receives people's shadows."""


@dataclass(frozen=True, eq=False)
class Lighting:
    """Light of a clip, in world axes."""

    table: Float32[np.ndarray, "11 3"]
    """Nine coefficients (1, y, z, x, xy, yz, 3z^2-1, xz, x^2-y^2), the lamp's colour, and the unit
    vector towards the lamp."""
    softness_m: float
    """How far a shadow's edge is spread."""


def sample_lighting(indoors: bool, rng: np.random.Generator) -> Lighting:
    """Lamp-lit rooms, overcast or sunny days."""
    table = np.zeros((11, 3))
    tint = 1 + rng.normal(0, 0.06, 3)
    ambient = rng.uniform(0.25, 0.7) if indoors else rng.uniform(0.2, 0.6)
    table[0] = ambient * tint
    table[1] = ambient * rng.uniform(0.05, 0.5) * np.array([0.95, 1.0, 1.1])
    table[2:4] = ambient * rng.normal(0, 0.22, (2, 1)) * (1 + rng.normal(0, 0.1, (2, 3)))
    table[4:9] = ambient * rng.normal(0, 0.06, (5, 1))
    lamp = rng.uniform(0.05, 0.6) if indoors else rng.choice([0.1, rng.uniform(0.4, 1.1)])
    table[9] = lamp * (1 + rng.normal(0, 0.07, 3))
    height = np.radians(rng.uniform(35, 85) if indoors else rng.uniform(18, 75))
    turn = rng.uniform(-np.pi, np.pi)
    table[10] = [np.sin(turn) * np.cos(height), np.sin(height), np.cos(turn) * np.cos(height)]
    exposure = np.exp(rng.normal(0, 0.2)) * 1.45 / (ambient * 1.15 + 0.55 * lamp)
    table[:10] *= exposure
    soft = rng.uniform(0.06, 0.3) if indoors or lamp < 0.2 else rng.uniform(0.02, 0.08)
    return Lighting(table.astype(np.float32), float(soft))


def ground_shadow(
    lighting: Lighting, verts_world: Float32[np.ndarray, "v 3"], middle: tuple[float, float]
) -> Float32[np.ndarray, "s s"]:
    """How much of the light people keep off the ground around ``middle`` (x, z), 0..1.

    The shadow is thrown along the lamp; where the lamp is weak it is what they hide of the sky.
    """
    out = np.zeros((SHADOW_PX, SHADOW_PX), np.float32)
    corner = middle[0] - SHADOW_M / 2, middle[1] - SHADOW_M / 2
    _splat(verts_world, lighting.table[10], corner, SHADOW_PX / SHADOW_M, out)
    sigma = max(0.8, lighting.softness_m * SHADOW_PX / SHADOW_M)
    return cv2.GaussianBlur(cv2.dilate(out, np.ones((3, 3), np.uint8)), (0, 0), sigma)


@numba.njit(cache=True, nogil=True)
@no_type_check
def _splat(verts, lamp, corner, per_metre, out):
    """Mark where vertices throw their shadow; from a low lamp no further than from 15 degrees."""
    x_per_m, z_per_m = lamp[0] / max(lamp[1], 0.25), lamp[2] / max(lamp[1], 0.25)
    for k in range(verts.shape[0]):
        high = min(verts[k, 1], 2.5)
        column = int(np.floor((verts[k, 0] - high * x_per_m - corner[0]) * per_metre))
        row = int(np.floor((verts[k, 2] - high * z_per_m - corner[1]) * per_metre))
        if 0 <= row < out.shape[0] and 0 <= column < out.shape[1]:
            out[row, column] = 0.9


def things_shadow(place: Place, middle: tuple[float, float]) -> Float32[np.ndarray, "s s"]:
    """How much of the light standing things keep off the ground at their feet, 0..1."""
    out = np.zeros((SHADOW_PX, SHADOW_PX), np.float32)
    per_texel = SHADOW_PX / SHADOW_M
    still = np.ptp(place.poses, axis=0).max(-1) < 1e-6
    for thing, pose, stands in zip(place.things, place.poses[0], still):
        half = thing[HALF]
        on_ground = pose[1] - half[1] < 0.05
        if thing[KIND] not in (BOX, CYLINDER) or not (stands and on_ground):
            continue
        wide, deep = float(half[0]), float(half[2] if thing[KIND] == BOX else half[0])
        corners = np.array([[-wide, -deep], [wide, -deep], [wide, deep], [-wide, deep]]) * 1.05
        x = pose[3] * corners[:, 0] + pose[4] * corners[:, 1] + pose[0]
        z = -pose[4] * corners[:, 0] + pose[3] * corners[:, 1] + pose[2]
        at = (np.stack([x, z], -1) - middle + SHADOW_M / 2) * per_texel
        cv2.fillConvexPoly(out, np.round(at).astype(np.int32), 1.0)
    return cv2.GaussianBlur(out, (0, 0), 0.12 * per_texel) * 0.75
