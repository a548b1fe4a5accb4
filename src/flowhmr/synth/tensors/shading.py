"""Twin of `flowhmr.synth.shading` in tensor operations: the colours of a whole clip at once.

As there a pixel whose four samples look the same is lit once, in its middle. The others' samples
are collected and lit one by one; everything that is to be lit goes through each step together.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from flowhmr.synth.outfits import MATERIALS
from flowhmr.synth.shading import SUPERSAMPLE
from flowhmr.synth.tensors.fused import fusible, is_fusing
from flowhmr.synth.tensors.light import light_at, sample_texture, shadow_at
from flowhmr.synth.tensors.people import BodyPoints, Cast, body_points, shade_people
from flowhmr.synth.tensors.surfaces import surface_at
from flowhmr.synth.tensors.things import SceneTensors, Seen
from flowhmr.synth.textures import TEXTURE_PX
from flowhmr.synth.things import DOME, FLOOR, KIND, MEDIA, TILE_M, TINT

_SAMPLES = SUPERSAMPLE**2
_REGIONS = 4


@dataclass(frozen=True, eq=False)
class Paints:
    """What colours are made of."""

    textures: UInt8[Tensor, "k l 3"]
    """The place's, mip-mapped."""
    noise: Float32[Tensor, "n n n"]
    """What patterns are made of."""
    light: Float32[Tensor, "11 3"]
    """`Lighting.table`."""
    shadow: Float32[Tensor, "t s s"]
    """How much of the light is kept off the ground."""
    shadow_middle_m: tuple[float, float]
    """Middle (x, z) of that square of the ground."""
    backdrop: Float32[Tensor, "t h w 3"] | None
    """What `MEDIA` shows."""


@dataclass(frozen=True, eq=False)
class Sights:
    """Points of the image that are to be coloured, each with what it shows."""

    pixel: Int64[Tensor, "k"]
    """Number of the pixel, counted through all frames."""
    frame: Int64[Tensor, "k"]
    """Its frame."""
    x_px: Float32[Tensor, "k"]
    """Where the point is, pixels of the image."""
    y_px: Float32[Tensor, "k"]
    """The same, down."""
    depth_m: Float32[Tensor, "k"]
    """Z of what it shows."""


def paint(
    scene: SceneTensors,
    cast: Cast,
    paints: Paints,
    seen: Seen,
    weights: Float32[Tensor, "t hh ww 3"],
) -> Float32[Tensor, "t h w 3"]:
    """Colours 0..1 of all frames, from maps twice as fine.

    Args:
        scene: things and cameras.
        cast: the people.
        paints: what colours are made of.
        seen: what the samples show.
        weights: where on their faces, for those that show people.
    """
    frames, size = len(scene), seen.ids.shape[-1] // SUPERSAMPLE
    ids, depth = _by_pixel(seen.ids), _by_pixel(seen.depth_m)
    on_body = torch.nonzero(ids.view(-1) >= 0)[:, 0]
    fine, frame = _fine(on_body, size)
    points = body_points(cast, ids.view(-1)[on_body].long(), frame, weights.reshape(-1, 3)[fine])
    # Things are told apart by their negative ids, people by these.
    look = (points.who * len(MATERIALS) + points.material) * _REGIONS + points.region
    looks = ids.reshape(-1).index_put((on_body,), look.int()).view(ids.shape)
    is_even = (looks == looks[:, :1]).all(-1)
    images = ids.new_zeros((frames * size * size, 3), dtype=torch.float32)
    # Along a plane the inverse of the depth is linear in the image.
    middle_m = _SAMPLES / (1 / depth).sum(-1)

    shows_thing = ids < 0
    whole = torch.nonzero(is_even & shows_thing[:, 0])[:, 0]
    parts = torch.nonzero((shows_thing & ~is_even[:, None]).view(-1))[:, 0]
    sights = _join(_middles(whole, middle_m, size), _samples(parts, depth, size))
    thing = torch.cat([ids[whole, 0], ids.view(-1)[parts]])
    colours = shade_things(scene, paints, sights, (-1 - thing).long(), _kinds(scene))
    mixed = colours.new_zeros((ids.numel(), 3))
    images[whole], mixed[parts] = colours.tensor_split([len(whole)])

    even_here = is_even[torch.div(on_body, _SAMPLES, rounding_mode="floor")]
    one_look, many_looks = torch.nonzero(even_here)[:, 0], torch.nonzero(~even_here)[:, 0]
    whole = torch.div(on_body[one_look[::_SAMPLES]], _SAMPLES, rounding_mode="floor")
    parts = on_body[many_looks]
    sights = _join(_middles(whole, middle_m, size), _samples(parts, depth, size))
    points = _mean_and_rest(points, one_look, many_looks)
    direction, length = _world_rays(scene, sights)
    colours = shade_people(
        cast, points, paints.textures, paints.noise, -direction / length,
        sights.depth_m / scene.focal_px[sights.frame], paints.light,
    )  # fmt: skip
    images[whole], mixed[parts] = colours.tensor_split([len(whole)])
    mixed = mixed.view(-1, _SAMPLES, 3).mean(1)
    return torch.where(is_even[:, None], images, mixed).view(frames, size, size, 3)


def _kinds(scene: SceneTensors) -> frozenset[int]:
    """Kinds to reckon with; compiled code is the same for all places."""
    kinds = frozenset(scene.kinds)
    return kinds if kinds == {MEDIA} or not is_fusing() else frozenset(range(MEDIA))


def _by_pixel(fine: Tensor) -> Tensor:
    """Maps ``[t, 2 h, 2 w]`` as the four samples of each pixel, ``[t * h * w, 4]``."""
    frames, height, width = fine.shape
    split = fine.view(frames, height // SUPERSAMPLE, SUPERSAMPLE, width // SUPERSAMPLE, SUPERSAMPLE)
    return split.transpose(2, 3).reshape(-1, _SAMPLES)


def _fine(sample: Int64[Tensor, "k"], size: int) -> tuple[Int64[Tensor, "k"], Int64[Tensor, "k"]]:
    """Where a sample, counted by pixels, is in a fine map; and its frame."""
    pixel, sub = torch.div(sample, _SAMPLES, rounding_mode="floor"), sample % _SAMPLES
    line = torch.div(pixel, size, rounding_mode="floor")
    row = line * SUPERSAMPLE + torch.div(sub, SUPERSAMPLE, rounding_mode="floor")
    column = (pixel - line * size) * SUPERSAMPLE + sub % SUPERSAMPLE
    return row * (size * SUPERSAMPLE) + column, torch.div(line, size, rounding_mode="floor")


def _middles(pixel: Int64[Tensor, "k"], depth_m: Float32[Tensor, "n"], size: int) -> Sights:
    line = torch.div(pixel, size, rounding_mode="floor")
    frame = torch.div(line, size, rounding_mode="floor")
    return Sights(
        pixel, frame, pixel - line * size + 0.5, line - frame * size + 0.5, depth_m[pixel]
    )


def _samples(sample: Int64[Tensor, "k"], depth_m: Float32[Tensor, "n 4"], size: int) -> Sights:
    fine, frame = _fine(sample, size)
    side = size * SUPERSAMPLE
    line = torch.div(fine, side, rounding_mode="floor")
    return Sights(
        pixel=torch.div(sample, _SAMPLES, rounding_mode="floor"),
        frame=frame,
        x_px=(fine - line * side + 0.5) / SUPERSAMPLE,
        y_px=(line - frame * side + 0.5) / SUPERSAMPLE,
        depth_m=depth_m.view(-1)[sample],
    )


def _join(one: Sights, other: Sights) -> Sights:
    return Sights(*(torch.cat([getattr(one, n), getattr(other, n)]) for n in one.__annotations__))


def _mean_and_rest(
    points: BodyPoints, one_look: Int64[Tensor, "k4"], many_looks: Int64[Tensor, "m"]
) -> BodyPoints:
    """A point for each pixel that looks the same all over, then the samples of the others."""
    first = torch.cat([one_look[::_SAMPLES], many_looks])
    rest, normal = (
        torch.cat([x[one_look].view(-1, _SAMPLES, 3).mean(1), x[many_looks]])
        for x in (points.rest_m, points.normal)
    )
    return BodyPoints(points.who[first], points.material[first], points.region[first], rest, normal)


def _world_rays(
    scene: SceneTensors, sights: Sights
) -> tuple[Float32[Tensor, "3 k"], Float32[Tensor, "k"]]:
    """Rays of unit depth in the world, and their lengths."""
    world = torch.full_like(sights.frame, scene.things.shape[1])
    direction = _rays(scene, sights, scene.column(sights.frame, world))
    return direction, direction.square().sum(0).sqrt()


def _rays(scene: SceneTensors, sights: Sights, at: Int64[Tensor, "k"]) -> Float32[Tensor, "3 k"]:
    m = scene.rays[:, at]
    return torch.stack([m[k] * sights.x_px + m[k + 1] * sights.y_px + m[k + 2] for k in (0, 3, 6)])


@fusible
def shade_things(
    scene: SceneTensors,
    paints: Paints,
    sights: Sights,
    thing: Int64[Tensor, "k"],
    kinds: frozenset[int],
) -> Float32[Tensor, "k 3"]:
    """Colours of things; twin of `shading.shade_thing`.

    Args:
        scene: things and cameras.
        paints: what colours are made of.
        sights: where things are seen.
        thing: which.
        kinds: all kinds that can occur.
    """
    if paints.backdrop is not None and kinds == {MEDIA}:
        return paints.backdrop.reshape(-1, 3)[sights.pixel]
    at, row = scene.column(sights.frame, thing), scene.things[:, thing]
    ray, pose = _rays(scene, sights, at), scene.poses[:, at]
    local = scene.origins[:, at] + sights.depth_m * ray
    surface = surface_at(row, local, kinds)
    is_sky = row[KIND] == DOME
    slant = (surface.normal * ray).sum(0).abs() / ray.square().sum(0).sqrt()
    pixel_m = sights.depth_m / scene.focal_px[sights.frame]
    tile = torch.where(is_sky, 1, row[TILE_M])
    footprint = pixel_m / slant.clamp(min=0.04).sqrt() / tile
    footprint = torch.where(is_sky, 1 / TEXTURE_PX, footprint)
    rgb = sample_texture(
        paints.textures, surface.texture, surface.u_m / tile, surface.v_m / tile, footprint
    )
    rgb = rgb * row[TINT].T
    diffuse, facing = light_at(paints.light, _to_world(pose, surface.normal).T)
    shade = torch.zeros_like(facing)
    if FLOOR in kinds:
        x, _, z = _to_world(pose, local)
        shade = shadow_at(
            paints.shadow, paints.shadow_middle_m, sights.frame, x + pose[0], z + pose[2]
        )
        shade = torch.where(row[KIND] == FLOOR, shade, 0)
    lamp = (facing * (1 - shade))[:, None] * paints.light[9]
    lit = (rgb * rgb * (diffuse * (1 - 0.6 * shade)[:, None] + lamp)).sqrt().clamp(max=1)
    colours = torch.where(is_sky[:, None], rgb, lit)
    if paints.backdrop is not None:
        behind = paints.backdrop.reshape(-1, 3)[sights.pixel]
        colours = torch.where((row[KIND] == MEDIA)[:, None], behind, colours)
    return colours


def _to_world(pose: Float32[Tensor, "5 k"], v: Float32[Tensor, "3 k"]) -> Float32[Tensor, "3 k"]:
    cos, sin = pose[3], pose[4]
    return torch.stack([cos * v[0] + sin * v[2], v[1], cos * v[2] - sin * v[0]])
