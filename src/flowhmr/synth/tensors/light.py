"""Textures, noise, light and shadows as tensors: twins of parts of `shading` and `lighting`."""

import math

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor
from torch.nn.functional import max_pool2d

from flowhmr.synth.lighting import SHADOW_M, Lighting
from flowhmr.synth.shading import SHADOW_PX
from flowhmr.synth.textures import LEVELS, TEXELS, TEXTURE_PX


def sample_texture(
    textures: UInt8[Tensor, "n l 3"],
    which: Int64[Tensor, "k"],
    u: Float32[Tensor, "k"],
    v: Float32[Tensor, "k"],
    footprint: Float32[Tensor, "k"],
) -> Float32[Tensor, "k 3"]:
    """Colours 0..1 at (u, v) repetitions, over a square of this size, by the rule of `shading`."""
    wide = (footprint * TEXTURE_PX).clamp(min=1)
    # How often it can be halved and stay at 1 or above: exact, unlike a logarithm.
    low = (torch.frexp(wide).exponent - 1).clamp(0, LEVELS - 2)
    share = (3 * (torch.ldexp(wide, -low) - 1).clamp(max=1) - 1).clamp(0, 1)
    level = torch.stack([low, low + 1]).long()
    side = TEXTURE_PX >> level
    first = _first_texel(level) + which * TEXELS
    x = (_fold(u) * side - 0.5).clamp(min=0).minimum(side - 1.0)
    y = (_fold(v) * side - 0.5).clamp(min=0).minimum(side - 1.0)
    i, j = y.long(), x.long()
    fy, fx = y - i, x - j
    i1, j1 = (i + 1).minimum(side - 1), (j + 1).minimum(side - 1)
    texels = torch.stack([i * side + j, i * side + j1, i1 * side + j, i1 * side + j1]) + first
    weights = torch.stack([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy])
    weights = weights * torch.stack([1 - share, share]) / 255
    return (textures.reshape(-1, 3)[texels] * weights[..., None]).sum((0, 1))


def _first_texel(level: Int64[Tensor, "*k"]) -> Int64[Tensor, "*k"]:
    """Where a level begins: the sum of the squares of the sides before it."""
    whole = TEXTURE_PX * TEXTURE_PX
    return torch.div((whole - (whole >> (2 * level))) * 4, 3, rounding_mode="floor")


def _fold(x: Float32[Tensor, "k"]) -> Float32[Tensor, "k"]:
    x = x.abs() % 2
    return torch.where(x > 1, 2 - x, x)


def value_noise_3d(
    noise: Float32[Tensor, "n n n"], at: Float32[Tensor, "k 3"]
) -> Float32[Tensor, "k"]:
    """Smooth noise in 0..1; twin of `shading.value_noise_3d`."""
    n = len(noise)
    whole = at.floor()
    tx, ty, tz = (at - whole).unbind(-1)
    cell = whole.long()
    (i, j, k), (i1, j1, k1) = (cell % n).unbind(-1), ((cell + 1) % n).unbind(-1)
    rows = torch.stack([i * n + j, i1 * n + j, i * n + j1, i1 * n + j1])
    weights = torch.stack([(1 - tx) * (1 - ty), tx * (1 - ty), (1 - tx) * ty, tx * ty])
    near, far = (noise.view(-1)[rows * n + layer] for layer in (k, k1))
    return (weights * (near * (1 - tz) + far * tz)).sum(0)


def light_at(
    light: Float32[Tensor, "11 3"], normal: Float32[Tensor, "k 3"]
) -> tuple[Float32[Tensor, "k 3"], Float32[Tensor, "k"]]:
    """Light from all around on surfaces with unit normals, and how much they face the lamp."""
    x, y, z = normal.unbind(-1)
    harmonics = torch.stack(
        [torch.ones_like(x), y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y], -1
    )
    return (harmonics @ light[:9]).clamp(min=0.02), (normal @ light[10]).clamp(min=0)


def shadow_at(
    shadow: Float32[Tensor, "t s s"],
    middle_m: tuple[float, float],
    frame: Int64[Tensor, "k"],
    x: Float32[Tensor, "k"],
    z: Float32[Tensor, "k"],
) -> Float32[Tensor, "k"]:
    """How much of the light is kept off points of the ground."""
    side = shadow.shape[-1]
    per_m = SHADOW_PX / SHADOW_M
    u = (x - (middle_m[0] - SHADOW_M / 2)) * per_m - 0.5
    v = (z - (middle_m[1] - SHADOW_M / 2)) * per_m - 0.5
    inside = (u >= 0) & (v >= 0) & (u < side - 1) & (v < side - 1)
    u, v = u.clamp(0, side - 1.001), v.clamp(0, side - 1.001)
    i, j = v.long(), u.long()
    fy, fx = v - i, u - j
    first = (frame * side + i) * side + j
    a, b, c, d = shadow.reshape(-1)[torch.stack([first, first + 1, first + side, first + side + 1])]
    top, bottom = a * (1 - fx) + b * fx, c * (1 - fx) + d * fx
    return torch.where(inside, top * (1 - fy) + bottom * fy, 0)


def ground_shadow(
    lighting: Lighting, verts_world: Float32[Tensor, "t v 3"], middle_m: tuple[float, float]
) -> Float32[Tensor, "t s s"]:
    """How much of the light people keep off the ground in each frame; twin of `lighting`'s."""
    lamp, per_m = lighting.table[10], SHADOW_PX / SHADOW_M
    x, y, z = verts_world.unbind(-1)
    steep = max(float(lamp[1]), 0.25)
    fall = y.clamp(max=2.5)
    j = ((x - fall * float(lamp[0]) / steep - middle_m[0] + SHADOW_M / 2) * per_m).floor().long()
    i = ((z - fall * float(lamp[2]) / steep - middle_m[1] + SHADOW_M / 2) * per_m).floor().long()
    inside = (i >= 0) & (i < SHADOW_PX) & (j >= 0) & (j < SHADOW_PX)
    # What falls outside goes to a texel after the last.
    texel = torch.where(inside, i * SHADOW_PX + j, SHADOW_PX * SHADOW_PX)
    out = verts_world.new_zeros((len(verts_world), SHADOW_PX * SHADOW_PX + 1))
    out.scatter_(1, texel, 1.0)
    out = out[:, :-1].reshape(-1, 1, SHADOW_PX, SHADOW_PX)
    out = max_pool2d(out, 3, stride=1, padding=1)[:, 0]
    blur = torch.from_numpy(blur_matrix(max(0.8, lighting.softness_m * per_m))).to(out.device)
    return blur @ out @ blur.T * 0.9


def blur_matrix(sigma_px: float) -> Float32[np.ndarray, "s s"]:
    """What a Gaussian blur of OpenCV's does along an axis of a shadow, mirrored at the borders."""
    reach = (round(sigma_px * 8 + 1) | 1) // 2
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma_px) ** 2)
    at = np.arange(SHADOW_PX)[:, None] + np.arange(-reach, reach + 1)
    period = 2 * (SHADOW_PX - 1)
    at = at % period
    at = np.where(at >= SHADOW_PX, period - at, at)
    out = np.zeros((SHADOW_PX, SHADOW_PX))
    np.add.at(out, (np.arange(SHADOW_PX)[:, None], at), taps / math.fsum(taps))
    return out.astype(np.float32)
