"""Colour of every pixel from what it sees (compiled).

Colours are stored as square roots of linear light ("gamma 2"). A pixel is the mean of four
samples; where all four see one surface it is lit once, in the middle.
"""

import math
from typing import no_type_check

import numba

from flowhmr.synth.outfits import BLOTCHES, CHECKS, FABRIC, PRINT, STRIPES, TRUNK, material_at
from flowhmr.synth.textures import LEVELS, TEXTURE_PX
from flowhmr.synth.things import DOME, FLOOR, MEDIA, surface_at, to_local, to_world

_jit = numba.njit(cache=True, nogil=True, error_model="numpy")

SUPERSAMPLE = 2
SHADOW_PX = 128
PRINT_HALF_M = 0.11
"""Half the width of a print on the chest."""


@_jit
@no_type_check
def _fold(x):
    """Mirrored repetition: 0..1..0..1 as x grows."""
    x -= 2.0 * math.floor(0.5 * x)
    return 2.0 - x if x > 1.0 else x


@_jit
@no_type_check
def _bilinear(texels, first, side, u, v):
    x, y = u * side - 0.5, v * side - 0.5
    x, y = min(max(x, 0.0), side - 1.0), min(max(y, 0.0), side - 1.0)
    i, j = int(y), int(x)
    fy, fx = y - i, x - j
    i1, j1 = min(i + 1, side - 1), min(j + 1, side - 1)
    a, b = first + i * side + j, first + i * side + j1
    c, d = first + i1 * side + j, first + i1 * side + j1
    wa, wb, wc, wd = (1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy
    return (
        wa * texels[a, 0] + wb * texels[b, 0] + wc * texels[c, 0] + wd * texels[d, 0],
        wa * texels[a, 1] + wb * texels[b, 1] + wc * texels[c, 1] + wd * texels[d, 1],
        wa * texels[a, 2] + wb * texels[b, 2] + wc * texels[c, 2] + wd * texels[d, 2],
    )


@_jit
@no_type_check
def sample_texture(texels, u, v, footprint):
    """Colour 0..1 of a mip-mapped texture at (u, v) repetitions, over a square of this size.

    Two levels are mixed in the middle third between them only: that is as smooth to look at.
    """
    wide = max(footprint * TEXTURE_PX, 1.0)
    low, first, side = 0, 0, TEXTURE_PX
    while wide >= 2.0 and low < LEVELS - 2:
        wide *= 0.5
        first += side * side
        side >>= 1
        low += 1
    share = min(max(3.0 * min(wide - 1.0, 1.0) - 1.0, 0.0), 1.0)
    u, v = _fold(u), _fold(v)
    if share == 1.0:
        r, g, b = _bilinear(texels, first + side * side, side >> 1, u, v)
    else:
        r, g, b = _bilinear(texels, first, side, u, v)
        if share > 0.0:
            r1, g1, b1 = _bilinear(texels, first + side * side, side >> 1, u, v)
            r, g, b = r + share * (r1 - r), g + share * (g1 - g), b + share * (b1 - b)
    return r / 255.0, g / 255.0, b / 255.0


@_jit
@no_type_check
def value_noise_3d(noise, x, y, z):
    """Smooth noise in 0..1, repeating after as many units as ``noise`` is wide (a power of 2)."""
    last = noise.shape[0] - 1
    fx, fy, fz = math.floor(x), math.floor(y), math.floor(z)
    tx, ty, tz = x - fx, y - fy, z - fz
    i, j, k = int(fx) & last, int(fy) & last, int(fz) & last
    i1, j1, k1 = (i + 1) & last, (j + 1) & last, (k + 1) & last
    near = (noise[i, j, k] * (1 - tx) + noise[i1, j, k] * tx) * (1 - ty) + (
        noise[i, j1, k] * (1 - tx) + noise[i1, j1, k] * tx
    ) * ty
    far = (noise[i, j, k1] * (1 - tx) + noise[i1, j, k1] * tx) * (1 - ty) + (
        noise[i, j1, k1] * (1 - tx) + noise[i1, j1, k1] * tx
    ) * ty
    return near * (1 - tz) + far * tz


@_jit
@no_type_check
def _harmonics(light, c, nx, ny, nz, xy, yz, zz, zx, aside):
    total = light[0, c] + light[1, c] * ny + light[2, c] * nz + light[3, c] * nx
    total += light[4, c] * xy + light[5, c] * yz + light[6, c] * zz
    return max(total + light[7, c] * zx + light[8, c] * aside, 0.02)


@_jit
@no_type_check
def light_at(light, nx, ny, nz):
    """Light that reaches a surface: diffuse (3), of which from the lamp (a factor).

    light: nine rows of spherical harmonics, then the lamp's colour, then the direction towards it.
    """
    facing = nx * light[10, 0] + ny * light[10, 1] + nz * light[10, 2]
    facing = max(facing, 0.0)
    xy, yz, zx = nx * ny, ny * nz, nz * nx
    zz, aside = 3.0 * nz * nz - 1.0, nx * nx - ny * ny
    r = _harmonics(light, 0, nx, ny, nz, xy, yz, zz, zx, aside)
    g = _harmonics(light, 1, nx, ny, nz, xy, yz, zz, zx, aside)
    b = _harmonics(light, 2, nx, ny, nz, xy, yz, zz, zx, aside)
    return r, g, b, facing


@_jit
@no_type_check
def _shadow_at(shadow, corner, x, z):
    """How much of the light is kept off a point of the ground, 0..1."""
    side = shadow.shape[0]
    u, v = (x - corner[0]) * corner[2] - 0.5, (z - corner[1]) * corner[2] - 0.5
    if u < 0 or v < 0 or u >= side - 1 or v >= side - 1:
        return 0.0
    i, j = int(v), int(u)
    fy, fx = v - i, u - j
    top = shadow[i, j] * (1 - fx) + shadow[i, j + 1] * fx
    bottom = shadow[i + 1, j] * (1 - fx) + shadow[i + 1, j + 1] * fx
    return top * (1 - fy) + bottom * fy


@_jit
@no_type_check
def _lit(r, g, b, lr, lg, lb):
    return (
        min(math.sqrt(r * r * lr), 1.0),
        min(math.sqrt(g * g * lg), 1.0),
        min(math.sqrt(b * b * lb), 1.0),
    )


@_jit
@no_type_check
def shade_thing(thing, pose, textures, x, y, z, facing_eye, pixel_m, light, shadow, corner):
    """Colour of a thing at a point of the world.

    facing_eye: unit vector from the point to the camera, as a tuple; pixel_m: a pixel's width
    there, metres.
    """
    kind = int(thing[0])
    px, py, pz = to_local(pose, x - pose[0], y - pose[1], z - pose[2])
    nx, ny, nz, u, v, which = surface_at(thing, px, py, pz)
    texels = textures[int(which)]
    if kind == DOME:
        r, g, b = sample_texture(texels, u, v, 1.0 / TEXTURE_PX)
        return r * thing[7], g * thing[8], b * thing[9]
    nx, ny, nz = to_world(pose, nx, ny, nz)
    slant = abs(nx * facing_eye[0] + ny * facing_eye[1] + nz * facing_eye[2])
    footprint = pixel_m / math.sqrt(max(slant, 0.04)) / thing[6]
    r, g, b = sample_texture(texels, u / thing[6], v / thing[6], footprint)
    lr, lg, lb, facing = light_at(light, nx, ny, nz)
    shade = _shadow_at(shadow, corner, x, z) if kind == FLOOR else 0.0
    ambient, lamp = 1.0 - 0.6 * shade, facing * (1.0 - shade)
    return _lit(
        r * thing[7], g * thing[8], b * thing[9],
        lr * ambient + light[9, 0] * lamp,
        lg * ambient + light[9, 1] * lamp,
        lb * ambient + light[9, 2] * lamp,
    )  # fmt: skip


@_jit
@no_type_check
def _pattern(material, noise, x, y, z, pixel_m):
    """How much of the second colour is seen at a point of the rest pose, 0..1.

    A pattern finer than pixels fades into its mean.
    """
    kind, waves = int(material[6]), material[7]
    keep = min(max(2.0 - 4.0 * waves * pixel_m, 0.0), 1.0)
    if kind in (STRIPES, CHECKS):
        along = material[8] * x + material[9] * y + material[10] * z
        wave = math.sin(6.2831853 * waves * along + material[11])
        if kind == CHECKS:
            across = material[9] * x + material[10] * y + material[8] * z
            wave *= math.sin(6.2831853 * waves * across)
        # The edge of a stripe is about a pixel wide.
        steep = min(3.0, 0.25 / (waves * pixel_m + 1e-9))
        return 0.5 + keep * (min(max(0.5 + steep * wave, 0.0), 1.0) - 0.5)
    if kind == BLOTCHES:
        coarse = value_noise_3d(noise, waves * x, waves * y, waves * z)
        fine = value_noise_3d(noise, 2.7 * waves * x, 2.7 * waves * y, 2.7 * waves * z)
        mixed = min(max(1.6 * (0.65 * coarse + 0.35 * fine) - 0.3, 0.0), 1.0)
        return 0.5 + keep * (mixed - 0.5)
    return 0.0


@_jit
@no_type_check
def shade_body(material, region, fabric, noise, at, normal, facing_eye, pixel_m, light):
    """Colour of a person.

    material: its row; at: point of the rest pose; normal, facing_eye: unit vectors in the world;
    pixel_m: a pixel's width there, metres.
    """
    x, y, z = at
    nx, ny, nz = normal
    kind = int(material[6])
    r, g, b = material[0], material[1], material[2]
    if kind == FABRIC or (
        kind == PRINT
        and region == TRUNK
        and z > 0.03
        and abs(x) < PRINT_HALF_M
        and abs(y - 0.25) < PRINT_HALF_M
    ):
        width = 0.5 if kind == FABRIC else 2 * PRINT_HALF_M
        r, g, b = sample_texture(fabric, x / width + 0.5, (0.25 - y) / width + 0.5, pixel_m / width)
    elif kind != PRINT:
        mix = _pattern(material, noise, x, y, z, pixel_m)
        r += mix * (material[3] - r)
        g += mix * (material[4] - g)
        b += mix * (material[5] - b)
    if material[13] > 0:
        crease = value_noise_3d(noise, 9 * x, 6 * y, 9 * z) - 0.5
        crease = 1.0 + material[13] * crease
        r, g, b = r * crease, g * crease, b * crease
    lr, lg, lb, facing = light_at(light, nx, ny, nz)
    hx, hy, hz = (
        light[10, 0] + facing_eye[0],
        light[10, 1] + facing_eye[1],
        light[10, 2] + facing_eye[2],
    )
    shine = (nx * hx + ny * hy + nz * hz) / math.sqrt(hx * hx + hy * hy + hz * hz + 1e-9)
    shine = material[12] * max(shine, 0.0) ** 16
    out_r = r * r * (lr + facing * light[9, 0]) + shine * light[9, 0]
    out_g = g * g * (lg + facing * light[9, 1]) + shine * light[9, 1]
    out_b = b * b * (lb + facing * light[9, 2]) + shine * light[9, 2]
    return min(math.sqrt(out_r), 1.0), min(math.sqrt(out_g), 1.0), min(math.sqrt(out_b), 1.0)


@_jit
@no_type_check
def _rest_and_normal(faces, face, weights, rest, normals):
    x, y, z, nx, ny, nz = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for corner in range(3):
        k, w = faces[face, corner], weights[corner]
        x += w * rest[k, 0]
        y += w * rest[k, 1]
        z += w * rest[k, 2]
        nx += w * normals[k, 0]
        ny += w * normals[k, 1]
        nz += w * normals[k, 2]
    return x, y, z, nx, ny, nz


@_jit
@no_type_check
def _ray(view, x_px, y_px):
    """Direction of a pixel's ray in the world, scaled to unit depth, and its length."""
    rotmat, _, lens = view
    x, y = (x_px - lens[1]) / lens[0], (y_px - lens[2]) / lens[0]
    return (
        rotmat[0, 0] * x + rotmat[1, 0] * y + rotmat[2, 0],
        rotmat[0, 1] * x + rotmat[1, 1] * y + rotmat[2, 1],
        rotmat[0, 2] * x + rotmat[1, 2] * y + rotmat[2, 2],
    ), math.sqrt(x * x + y * y + 1.0)


@_jit
@no_type_check
def _thing_colour(n, s, x_px, y_px, view, world, behind):
    """Colour of thing ``n``, seen at depth ``s``; ``behind``: the backdrop there."""
    things, poses, textures, light, shadow, corner = world
    if things[n, 0] == MEDIA:
        return behind[0], behind[1], behind[2]
    d, length = _ray(view, x_px, y_px)
    centre = view[1]
    return shade_thing(
        things[n], poses[n], textures,
        centre[0] + s * d[0], centre[1] + s * d[1], centre[2] + s * d[2],
        (-d[0] / length, -d[1] / length, -d[2] / length),
        s / view[2][0], light, shadow, corner,
    )  # fmt: skip


@_jit
@no_type_check
def _body_colour(who, material, region, point, s, x_px, y_px, view, world, people):
    """Colour of somebody at ``point``: rest pose (3) and a normal of any length (3)."""
    _, _, _, noise, _, _, materials, fabrics = people
    d, length = _ray(view, x_px, y_px)
    size = math.sqrt(point[3] ** 2 + point[4] ** 2 + point[5] ** 2) + 1e-9
    return shade_body(
        materials[who, material], region, world[2][fabrics[who]], noise,
        (point[0], point[1], point[2]),
        (point[3] / size, point[4] / size, point[5] / size),
        (-d[0] / length, -d[1] / length, -d[2] / length), s / view[2][0], world[3],
    )  # fmt: skip


@_jit
@no_type_check
def _body_point(seen, weights, people):
    """Whom a sample shows, what of them, and `_rest_and_normal` there."""
    faces, regions, rest, _, normals, cuts, _, _ = people
    who, face = seen // faces.shape[0], seen % faces.shape[0]
    point = _rest_and_normal(faces, face, weights, rest, normals[who])
    region = regions[face]
    return who, material_at(region, point[0], point[1], point[2], cuts[who]), region, point


@_jit
@no_type_check
def _one_surface(ids, weights, i, j, people):
    """What a pixel's four samples show if that is one material of one body; else who = -1."""
    x, y, z, nx, ny, nz = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    who, material, region = -1, -1, -1
    for sub in range(4):
        seen = ids[i + sub // 2, j + sub % 2]
        if seen < 0:
            return -1, material, region, (x, y, z, nx, ny, nz)
        whose, what, where, point = _body_point(seen, weights[i + sub // 2, j + sub % 2], people)
        if sub > 0 and (whose != who or what != material or where != region):
            return -1, material, region, (x, y, z, nx, ny, nz)
        who, material, region = whose, what, where
        x, y, z = x + point[0] / 4, y + point[1] / 4, z + point[2] / 4
        nx, ny, nz = nx + point[3], ny + point[4], nz + point[5]
    return who, material, region, (x, y, z, nx, ny, nz)


@_jit
@no_type_check
def shade_frame(ids, depth, weights, view, world, people, backdrop, out):
    """Fill ``out`` (h, w, 3), colours 0..1, from maps twice as fine.

    ids, depth, weights: maps of `trace` and `merge_body`; view: (rotmat, centre, lens) of the
    scene's camera, in pixels of ``out``; world: (things, poses, textures, light, shadow, its
    corner); people: (faces, regions of the faces, rest pose, noise, normals in the world (a, v, 3),
    cuts, materials, fabrics (a): rows of the textures); backdrop (h, w, 3): what `MEDIA` shows.
    """
    height, width = out.shape[:2]
    for row in range(height):
        for column in range(width):
            i, j = row * SUPERSAMPLE, column * SUPERSAMPLE
            x_px, y_px = column + 0.5, row + 0.5
            behind = backdrop[row, column]
            a, b, c, d = ids[i, j], ids[i, j + 1], ids[i + 1, j], ids[i + 1, j + 1]
            # Along a plane the inverse of the depth is linear in the image.
            s = 4.0 / (
                1.0 / depth[i, j] + 1.0 / depth[i, j + 1]
                + 1.0 / depth[i + 1, j] + 1.0 / depth[i + 1, j + 1]
            )  # fmt: skip
            if a < 0 and a == b and a == c and a == d:
                r, g, u = _thing_colour(-1 - a, s, x_px, y_px, view, world, behind)
                out[row, column, 0], out[row, column, 1], out[row, column, 2] = r, g, u
                continue
            who, material, region, point = _one_surface(ids, weights, i, j, people)
            if who >= 0:
                r, g, u = _body_colour(
                    who, material, region, point, s, x_px, y_px, view, world, people
                )
                out[row, column, 0], out[row, column, 1], out[row, column, 2] = r, g, u
                continue
            red, green, blue = 0.0, 0.0, 0.0
            for sub in range(4):
                k, m = i + sub // 2, j + sub % 2
                x_px, y_px, seen = (m + 0.5) / SUPERSAMPLE, (k + 0.5) / SUPERSAMPLE, ids[k, m]
                if seen < 0:
                    r, g, u = _thing_colour(-1 - seen, depth[k, m], x_px, y_px, view, world, behind)
                else:
                    who, material, region, point = _body_point(seen, weights[k, m], people)
                    r, g, u = _body_colour(
                        who, material, region, point, depth[k, m], x_px, y_px, view, world, people
                    )
                red, green, blue = red + r / 4, green + g / 4, blue + u / 4
            out[row, column, 0], out[row, column, 1], out[row, column, 2] = red, green, blue
