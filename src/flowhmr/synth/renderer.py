"""The picture of a person: textured, shaded, anti-aliased colour with coverage, on CPU."""

from dataclasses import dataclass
from typing import no_type_check

import numba
import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from flowhmr.body import BodyModel
from flowhmr.raster import rasterise
from flowhmr.synth.people import BLOTCHES, CHECKS, STRIPES, Person
from flowhmr.synth.scenes import Light
from flowhmr.synth.shading import value_noise_3d

SUPERSAMPLE = 2
CELL_PX = 4
NOISE_CELLS = 32


@dataclass(frozen=True, eq=False)
class Picture:
    """Pictures of people without their surroundings."""

    rgba: UInt8[np.ndarray, "b h w 4"]
    """RGB multiplied by coverage, and coverage (alpha); see `paste`."""
    surface: UInt8[np.ndarray, "b h2 w2 4"]
    """`flowhmr.records.Labels.surface`, a cell for `CELL_PX` x `CELL_PX` pixels."""


@dataclass(frozen=True, eq=False)
class Look:
    """What the picture of a person needs besides the geometry."""

    person: Person
    """Clothes and colours."""
    light: Light
    """Where light comes from, in camera axes."""


def render_people(
    body: BodyModel,
    verts_px: Float[Tensor, "b v 3"],
    looks: list[Look],
    height: int,
    width: int,
    pixels_per_metre: Float[Tensor, "b"],
) -> Picture:
    """Pictures of posed bodies.

    Args:
        body: the body whose rest pose carries the patterns.
        verts_px: posed vertices in pixels, depth in the same unit (x right, y down, z away).
        looks: appearance, one per body.
        height, width: of the pictures.
        pixels_per_metre: size of the body, to lift clothes off the skin.
    """
    faces = body.faces
    faces_np = faces.numpy().astype(np.int32)
    rest_m = body.v_template.float().numpy()
    noise = _noise_volume()
    lifted = np.ascontiguousarray(verts_px.float().numpy()).copy()
    normals = np.empty_like(lifted)
    for i, look in enumerate(looks):
        vertex_normals(lifted[i], faces_np, normals[i])
        lifted[i] += normals[i] * (look.person.lift_m * float(pixels_per_metre[i]))[:, None]
    fine = torch.from_numpy(lifted * np.float32(SUPERSAMPLE))
    size = (height * SUPERSAMPLE, width * SUPERSAMPLE)
    fragments = rasterise(fine, faces, *size)
    face_ids, barycentrics = fragments.face_ids.numpy(), fragments.barycentrics.numpy()
    rgba = np.zeros((len(looks), height, width, 4), np.uint8)
    surface = np.zeros((len(looks), height // CELL_PX, width // CELL_PX, 4), np.uint8)
    lowest, highest = rest_m.min(0), rest_m.max(0)
    scaled_rest = (rest_m - lowest) / (highest - lowest)
    for i, look in enumerate(looks):
        person, light = look.person, look.light
        _shade(
            face_ids[i], barycentrics[i], faces_np, normals[i], rest_m,
            person.face_material, person.materials,
            np.stack([light.ambient_rgb, light.sky_rgb, light.lamp_rgb, light.lamp_direction]),
            noise, rgba[i],
        )  # fmt: skip
        _surface(face_ids[i], barycentrics[i], faces_np, scaled_rest, surface[i])
    return Picture(rgba, surface)


def paste(
    picture: UInt8[np.ndarray, "h w 4"], background: UInt8[np.ndarray, "h w 3"]
) -> UInt8[np.ndarray, "h w 3"]:
    """A picture over a background: ``rgb + (1 - alpha) * background``."""
    seen_through = 255 - picture[..., 3:].astype(np.uint16)
    return picture[..., :3] + ((seen_through * background + 127) // 255).astype(np.uint8)


def _noise_volume() -> Float32[np.ndarray, "n n n"]:
    return np.random.default_rng(0).random((NOISE_CELLS,) * 3, dtype=np.float32)


@numba.njit(cache=True, nogil=True)
@no_type_check
def vertex_normals(verts, faces, out):
    """Area-weighted unit normals, outward in a frame with x right, y down, z away."""
    out[:] = 0
    for t in range(faces.shape[0]):
        a, b, c = faces[t, 0], faces[t, 1], faces[t, 2]
        ux, uy, uz = verts[b, 0] - verts[a, 0], verts[b, 1] - verts[a, 1], verts[b, 2] - verts[a, 2]
        wx, wy, wz = verts[c, 0] - verts[a, 0], verts[c, 1] - verts[a, 1], verts[c, 2] - verts[a, 2]
        nx, ny, nz = uy * wz - uz * wy, uz * wx - ux * wz, ux * wy - uy * wx
        for k in (a, b, c):
            out[k, 0] += nx
            out[k, 1] += ny
            out[k, 2] += nz
    for k in range(out.shape[0]):
        length = np.sqrt(out[k, 0] ** 2 + out[k, 1] ** 2 + out[k, 2] ** 2) + np.float32(1e-12)
        out[k] /= length


@numba.njit(cache=True, nogil=True)
@no_type_check
def _pattern(material, noise, x, y, z):
    """How much of the second colour is seen at a point of the rest pose (metres), 0..1."""
    kind = material[6]
    waves = material[7]
    if kind in (STRIPES, CHECKS):
        along = material[8] * x + material[9] * y + material[10] * z
        wave = np.sin(6.2831853 * waves * along + material[11])
        if kind == CHECKS:
            across = material[9] * x + material[10] * y + material[8] * z
            wave *= np.sin(6.2831853 * waves * across)
        return min(max(0.5 + 3.0 * wave, 0.0), 1.0)
    if kind == BLOTCHES:
        coarse = value_noise_3d(noise, waves * x, waves * y, waves * z)
        fine = value_noise_3d(noise, 2.7 * waves * x, 2.7 * waves * y, 2.7 * waves * z)
        return min(max(1.6 * (0.65 * coarse + 0.35 * fine) - 0.3, 0.0), 1.0)
    return 0.0


@numba.njit(cache=True, nogil=True)
@no_type_check
def _shade(
    face_ids, barycentrics, faces, normals, rest_m, face_material, materials, light, noise, out
):
    """Colour each fine pixel and average SUPERSAMPLE x SUPERSAMPLE of them into one of ``out``."""
    height, width = out.shape[0], out.shape[1]
    for row in range(height):
        for column in range(width):
            red, green, blue, covered = 0.0, 0.0, 0.0, 0
            for sub in range(SUPERSAMPLE * SUPERSAMPLE):
                i = row * SUPERSAMPLE + sub // SUPERSAMPLE
                j = column * SUPERSAMPLE + sub % SUPERSAMPLE
                face = face_ids[i, j]
                if face < 0:
                    continue
                covered += 1
                x, y, z, nx, ny, nz = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
                for corner in range(3):
                    k, w = faces[face, corner], barycentrics[i, j, corner]
                    x += w * rest_m[k, 0]
                    y += w * rest_m[k, 1]
                    z += w * rest_m[k, 2]
                    nx += w * normals[k, 0]
                    ny += w * normals[k, 1]
                    nz += w * normals[k, 2]
                length = np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
                nx, ny, nz = nx / length, ny / length, nz / length
                material = materials[face_material[face]]
                mix = _pattern(material, noise, x, y, z)
                facing = max(nx * light[3, 0] + ny * light[3, 1] + nz * light[3, 2], 0.0)
                sky = 0.5 - 0.5 * ny
                # Half vector between the lamp and the eye (which looks along +z).
                hx, hy, hz = light[3, 0], light[3, 1], light[3, 2] - 1.0
                shine = (nx * hx + ny * hy + nz * hz) / np.sqrt(hx * hx + hy * hy + hz * hz + 1e-9)
                shine = material[12] * max(shine, 0.0) ** 16
                for c in range(3):
                    albedo = material[c] + mix * (material[3 + c] - material[c])
                    lit = light[0, c] + sky * light[1, c] + facing * light[2, c]
                    # Gamma 2: squares are linear light.
                    value = min(np.sqrt(albedo * albedo * lit + shine * light[2, c]), 1.0)
                    if c == 0:
                        red += value
                    elif c == 1:
                        green += value
                    else:
                        blue += value
            share = 255.0 / (SUPERSAMPLE * SUPERSAMPLE)
            out[row, column, 0] = np.uint8(red * share)
            out[row, column, 1] = np.uint8(green * share)
            out[row, column, 2] = np.uint8(blue * share)
            out[row, column, 3] = np.uint8(covered * share)


@numba.njit(cache=True, nogil=True)
@no_type_check
def _surface(face_ids, barycentrics, faces, scaled_rest, out):
    """The rest-pose point seen in the middle of each cell."""
    step = SUPERSAMPLE * CELL_PX
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            i, j = row * step + step // 2, column * step + step // 2
            face = face_ids[i, j]
            if face < 0:
                continue
            for c in range(3):
                value = 0.0
                for corner in range(3):
                    value += barycentrics[i, j, corner] * scaled_rest[faces[face, corner], c]
                out[row, column, c] = np.uint8(min(max(value, 0.0), 1.0) * 255)
            out[row, column, 3] = 255
