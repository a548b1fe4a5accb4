"""People as tensors: dressed bodies, what of an outfit each sample shows, and its colour.

Twins of `outfits.material_at` and of what concerns bodies in `shading`.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64, UInt8
from torch import Tensor

from flowhmr.body import BodyModel
from flowhmr.synth.outfits import (
    ARM,
    ARM_LENGTH,
    BLOTCHES,
    BOTTOM,
    CHECKS,
    COAT,
    CUT,
    DARK,
    FABRIC,
    FACE_Y,
    FACE_Z,
    HAIR,
    HEAD,
    HIP_Y,
    LEG_LENGTH,
    LIPS,
    PRINT,
    SHOES,
    SHOULDER_X,
    SKIN,
    SOCKS,
    STRIPES,
    TOP,
    TRIM,
    TRUNK,
    face_regions,
)
from flowhmr.synth.shading import PRINT_HALF_M
from flowhmr.synth.stage import Stage
from flowhmr.synth.tensors.fused import fusible
from flowhmr.synth.tensors.light import light_at, sample_texture, value_noise_3d


@dataclass(frozen=True, eq=False)
class BodyTables:
    """What is the same for everybody, on a device."""

    faces: Int64[Tensor, "f 3"]
    """Corners of the faces."""
    around: Int64[Tensor, "v n"]
    """Faces at each vertex, filled up with the number of faces."""
    regions: Int64[Tensor, "f"]
    """HEAD, TRUNK, ARM or LEG."""
    rest_m: Float32[Tensor, "v 3"]
    """The rest pose."""


@lru_cache(maxsize=8)
def body_tables(body: BodyModel, device: torch.device) -> BodyTables:
    """The tables of a body, made once for each device."""
    faces = body.faces.cpu().long()
    corners, order = faces.flatten().sort(stable=True)
    first = torch.searchsorted(corners, torch.arange(len(body.v_template)))
    rank = torch.arange(len(corners)) - first[corners]
    around = torch.full((len(body.v_template), int(rank.max()) + 1), len(faces))
    around[corners, rank] = torch.div(order, 3, rounding_mode="floor")
    return BodyTables(
        faces=faces.to(device),
        around=around.to(device),
        regions=torch.from_numpy(face_regions(body).astype(np.int64)).to(device),
        rest_m=body.v_template.float().to(device),
    )


@dataclass(frozen=True, eq=False)
class Cast:
    """The people of a stage, on a device."""

    body: BodyTables
    """Their common body."""
    dressed_world: Float32[Tensor, "a t v 3"]
    """Vertices with clothes."""
    dressed_cam: Float32[Tensor, "a t v 3"]
    """The same in camera axes."""
    normals: Float32[Tensor, "a t v 3"]
    """Unit normals of the naked body, world."""
    lens_px: Float64[Tensor, "t 3"]
    """Focal length and principal point of the camera that sees them."""
    cuts: Float32[Tensor, "n_cuts a"]
    """`outfits.Cut` of each."""
    materials: Float32[Tensor, "c am"]
    """Columns of each one's materials, as rows."""
    fabrics: Int64[Tensor, "a"]
    """Rows of the textures."""

    def seen_px(self, scale: int) -> Float64[Tensor, "a t v 3"]:
        """Samples (x, y), and minus the inverse of the depth, which is linear in the image."""
        x, y, z = self.dressed_cam.double().unbind(-1)
        inverse = 1 / z
        focal, x0, y0 = (self.lens_px * scale).T[..., None]
        return torch.stack([focal * x * inverse + x0, focal * y * inverse + y0, -inverse], -1)


def dress(stage: Stage, body: BodyModel, device: torch.device) -> Cast:
    """Clothe the people of a stage and bring them into camera axes."""
    tables = body_tables(body, device)
    naked = torch.stack([a.verts_world.to(device) for a in stage.actors])
    normals = vertex_normals(naked, tables)
    lift = torch.from_numpy(np.stack([a.outfit.lift_m for a in stage.actors])).to(device)
    dressed = naked + normals * lift[:, None, :, None]
    shot = stage.shot
    centres = torch.from_numpy(shot.centres_m).to(device)[:, None]
    rotmats = torch.from_numpy(shot.rotmats).to(device)
    cam = (dressed.double() - centres) @ rotmats.transpose(1, 2)
    materials = np.stack([a.outfit.materials for a in stage.actors])
    cuts = np.stack([a.outfit.cut for a in stage.actors])
    return Cast(
        body=tables,
        dressed_world=dressed,
        dressed_cam=cam.float(),
        normals=normals,
        lens_px=torch.from_numpy(shot.lens_px).to(device),
        cuts=torch.from_numpy(np.ascontiguousarray(cuts.T)).to(device),
        materials=torch.from_numpy(
            np.ascontiguousarray(materials.reshape(-1, materials.shape[-1]).T)
        ).to(device),
        fabrics=torch.tensor(stage.fabrics, device=device),
    )


def vertex_normals(
    verts: Float32[Tensor, "a t v 3"], body: BodyTables
) -> Float32[Tensor, "a t v 3"]:
    """Twin of `renderer.vertex_normals`; gathers, so that the sums have one order everywhere."""
    a, b, c = verts[:, :, body.faces].unbind(-2)
    flat = torch.linalg.cross(b - a, c - a)
    flat = torch.cat([flat, torch.zeros_like(flat[:, :, :1])], 2)
    total = flat[:, :, body.around].sum(-2)
    return total / (total.norm(dim=-1, keepdim=True) + 1e-12)


@dataclass(frozen=True, eq=False)
class BodyPoints:
    """What samples show of people."""

    who: Int64[Tensor, "k"]
    """Number of the person."""
    material: Int64[Tensor, "k"]
    """One of `outfits.MATERIALS`."""
    region: Int64[Tensor, "k"]
    """HEAD, TRUNK, ARM or LEG."""
    rest_m: Float32[Tensor, "k 3"]
    """The point of the rest pose."""
    normal: Float32[Tensor, "k 3"]
    """World, of any length."""


@fusible
def body_points(
    cast: Cast, seen: Int64[Tensor, "k"], frame: Int64[Tensor, "k"], weights: Float32[Tensor, "k 3"]
) -> BodyPoints:
    """Look up samples.

    Args:
        cast: the people.
        seen: id of what each sample shows: a face of somebody.
        frame: the sample's frame.
        weights: weights of the face's corners.
    """
    frames, verts = cast.normals.shape[1:3]
    who = torch.div(seen, len(cast.body.faces), rounding_mode="floor")
    face = seen - who * len(cast.body.faces)
    corners = cast.body.faces[face]
    rest = (weights[..., None] * cast.body.rest_m[corners]).sum(1)
    corners = corners + ((who * frames + frame) * verts)[:, None]
    normal = (weights[..., None] * cast.normals.view(-1, 3)[corners]).sum(1)
    region = cast.body.regions[face]
    return BodyPoints(who, material_at(region, rest, cast.cuts[:, who]), region, rest, normal)


def material_at(
    region: Int64[Tensor, "k"], rest_m: Float32[Tensor, "k 3"], cut: Float32[Tensor, "c k"]
) -> Int64[Tensor, "k"]:
    """Twin of `outfits.material_at`: the first rule that holds names the material.

    Args:
        region: HEAD, TRUNK, ARM or LEG.
        rest_m: points of the rest pose.
        cut: each point's `Cut`, in the order of its fields.
    """
    x, y, z = rest_m.unbind(-1)
    ax = x.abs()

    def of(name: str) -> Tensor:
        return cut[CUT[name]]

    hairline, neck = of("hairline_m"), of("neck_m")
    has_hair, has_coat = hairline < 0.5, of("coat_open_m") >= 0
    eye = (z > 0.12) & ((ax - 0.029).abs() < 0.011) & ((y - 0.6).abs() < 0.006)
    brow = (z > 0.12) & ((ax - 0.029).abs() < 0.017) & ((y - 0.619).abs() < 0.004)
    lips = (z > 0.13) & (ax < 0.021) & ((y - 0.529).abs() < 0.005)
    beard = (of("beard") > 0) & (z > 0.06) & (y < 0.546 - 0.3 * ax) & (y > 0.47)
    head = _first(
        SKIN,
        (y > of("hat_m") - 0.25 * (z - FACE_Z), TRIM),
        (eye, DARK),
        (brow, HAIR),
        (lips, LIPS),
        (beard, HAIR),
        (0.6 * (y - FACE_Y) - 0.8 * (z - FACE_Z) > hairline, HAIR),
        (has_hair & (z < 0.05) & (y > of("hair_low_m")), HAIR),
        ((y < 0.46) & (y < neck), TOP),
    )
    gap, hem = of("coat_open_m") * (1.2 - y), of("coat_hem")
    coat = has_coat & (y < neck + 0.02) & ((z < 0.02) | (ax > gap))
    v_neck = neck - of("v_neck_m") * (1 - ax / 0.09).clamp(min=0) * (z > 0.02)
    trunk = _first(
        TOP,
        (has_hair & (z < 0) & (y > of("hair_low_m")) & (ax < 0.12), HAIR),
        (coat & ((hem >= 0) | (y > of("waist_m") - 0.03)), COAT),
        (y > v_neck, SKIN),
        ((of("belt") > 0) & ((y - of("waist_m")).abs() < 0.018), DARK),
        (y < of("waist_m"), BOTTOM),
    )
    limb = (ax - SHOULDER_X) / ARM_LENGTH
    arm = _first(
        SKIN,
        (limb > of("glove"), TRIM),
        (has_coat & (limb < of("coat_sleeve")), COAT),
        (limb < of("sleeve"), TOP),
    )
    limb = (HIP_Y - y) / LEG_LENGTH
    shod = (limb > of("shoe")) | ((limb > 1.03) & (of("shoe") < 1.5))
    trousers = limb < of("trousers")
    leg = _first(
        SKIN,
        (shod & (y < -0.966), DARK),
        (shod, SHOES),
        (has_coat & (limb < hem), COAT),
        (trousers & (ax > 0.15) & ((z - 0.02).abs() < of("side_stripe_m")), TRIM),
        (trousers, BOTTOM),
        (limb > of("sock"), SOCKS),
    )
    return torch.where(
        region == HEAD,
        head,
        torch.where(region == TRUNK, trunk, torch.where(region == ARM, arm, leg)),
    )


def _first(otherwise: int, *rules: tuple[Bool[Tensor, "k"], int]) -> Int64[Tensor, "k"]:
    out = torch.full_like(rules[0][0], otherwise, dtype=torch.int64)
    for holds, material in reversed(rules):
        out = torch.where(holds, material, out)
    return out


@fusible
def shade_people(
    cast: Cast,
    points: BodyPoints,
    textures: UInt8[Tensor, "m l 3"],
    noise: Float32[Tensor, "n n n"],
    facing_eye: Float32[Tensor, "3 k"],
    pixel_m: Float32[Tensor, "k"],
    light: Float32[Tensor, "11 3"],
) -> Float32[Tensor, "k 3"]:
    """Colours of people; twin of `shading.shade_body`.

    Args:
        cast: the people.
        points: what is seen of them.
        textures: of the place, which has the clothes' too.
        noise: what patterns are made of.
        facing_eye: unit vectors from the points to the camera, world.
        pixel_m: width of a pixel there.
        light: `Lighting.table`.
    """
    per_person = cast.materials.shape[1] // len(cast.fabrics)
    look = cast.materials[:, points.who * per_person + points.material]
    kind = look[6]
    x, y, z = points.rest_m.unbind(-1)
    on_chest = (
        (points.region == TRUNK) & (z > 0.03) & (x.abs() < PRINT_HALF_M)
        & ((y - 0.25).abs() < PRINT_HALF_M)
    )  # fmt: skip
    width = torch.where(kind == FABRIC, 0.5, 2 * PRINT_HALF_M)
    picture = sample_texture(
        textures, cast.fabrics[points.who], x / width + 0.5, (0.25 - y) / width + 0.5,
        pixel_m / width,
    )  # fmt: skip
    mix = _pattern(look, noise, points.rest_m, pixel_m)[:, None]
    first, second = look[0:3].T, look[3:6].T
    shows_picture = (kind == FABRIC) | ((kind == PRINT) & on_chest)
    rgb = torch.where(shows_picture[:, None], picture, first + mix * (second - first))
    crease = value_noise_3d(noise, points.rest_m * points.rest_m.new_tensor([9, 6, 9])) - 0.5
    rgb = rgb * (1 + look[13].clamp(min=0) * crease)[:, None]
    normal = points.normal / (points.normal.norm(dim=-1, keepdim=True) + 1e-9)
    diffuse, facing = light_at(light, normal)
    half = light[10] + facing_eye.T
    shine = (normal * half).sum(-1) / (half.square().sum(-1) + 1e-9).sqrt()
    shine = (look[12] * shine.clamp(min=0) ** 16)[:, None]
    lamp = light[9]
    out = rgb * rgb * (diffuse + facing[:, None] * lamp) + shine * lamp
    return out.sqrt().clamp(max=1)


def _pattern(
    look: Float32[Tensor, "c k"],
    noise: Float32[Tensor, "n n n"],
    rest_m: Float32[Tensor, "k 3"],
    pixel_m: Float32[Tensor, "k"],
) -> Float32[Tensor, "k"]:
    """How much of the second colour is seen, 0..1; twin of `shading._pattern`."""
    kind, waves = look[6], look[7]
    keep = (2 - 4 * waves * pixel_m).clamp(0, 1)
    x, y, z = rest_m.unbind(-1)
    along = look[8] * x + look[9] * y + look[10] * z
    across = look[9] * x + look[10] * y + look[8] * z
    wave = torch.sin(6.2831853 * waves * along + look[11])
    wave = torch.where(kind == CHECKS, wave * torch.sin(6.2831853 * waves * across), wave)
    steep = (0.25 / (waves * pixel_m + 1e-9)).clamp(max=3)
    stripes = (0.5 + steep * wave).clamp(0, 1)
    coarse = value_noise_3d(noise, waves[:, None] * rest_m)
    fine = value_noise_3d(noise, 2.7 * waves[:, None] * rest_m)
    blotches = (1.6 * (0.65 * coarse + 0.35 * fine) - 0.3).clamp(0, 1)
    mixed = torch.where(kind == BLOTCHES, blotches, stripes)
    has_pattern = (kind == STRIPES) | (kind == CHECKS) | (kind == BLOTCHES)
    return torch.where(has_pattern, 0.5 + keep * (mixed - 0.5), 0)
