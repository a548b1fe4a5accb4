"""What the camera makes of the light: exposure, colour, blur, noise, compression.

Plain tensor code: the same numbers come out on every device, up to rounding. Noise is a hash of
(seed, frame, pixel), not a random state.
"""

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import conv2d, grid_sample, pad

from flowhmr.synth import sensor_kernels as kernels

TAPS = 5
"""Samples of motion blur."""
CURVE_STEPS = 4096

Quality = Literal["clean", "phone", "broadcast", "mixed"]


@dataclass(frozen=True)
class Sensor:
    """One clip's camera electronics; strengths 0 leave the picture as it is."""

    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Factor of each channel."""
    mean: float = 0.0
    """Automatic exposure: what the brightness of the clip's middle frame is brought towards, by a
    factor of 2/3 to 2; 0: off."""
    contrast: float = 1.0
    """Steepness about middle grey."""
    gamma: float = 1.0
    """Exponent of the response."""
    vignette: float = 0.0
    """How much darker the corners are, 0..1."""
    blur_px: float = 0.0
    """Standard deviation of the lens's and the resampling's blur."""
    shutter: float = 0.0
    """Share of the time between frames in which light is gathered: motion blur."""
    noise: float = 0.0
    """Standard deviation of the noise in the dark, share of the range."""
    shot_noise: float = 0.0
    """Standard deviation that light adds to it at full brightness."""
    quality: int = 100
    """Of the compression: 100 none, 10 poor (scale of JPEG)."""
    seed: int = 0
    """Of the noise."""

    def metered(self, brightness: float) -> "Sensor":
        """The sensor with its exposure set for a picture of this mean brightness, 0..1."""
        if not self.mean:
            return self
        factor = float(np.clip(self.mean / max(brightness, 1e-3), 2 / 3, 2))
        r, g, b = self.gain
        return replace(self, gain=(r * factor, g * factor, b * factor), mean=0.0)

    @property
    def neutral(self) -> bool:
        """Whether exposure and response change nothing and there is no noise."""
        off = Sensor()
        return all(
            getattr(self, name) == getattr(off, name)
            for name in ("gain", "contrast", "gamma", "vignette", "noise", "shot_noise")
        )


def sample_sensor(kind: Quality, size_px: int, rng: np.random.Generator) -> Sensor:
    """A studio camera (clean), a phone, television of old (broadcast), or any of them."""
    if kind == "mixed":
        kind = str(rng.choice(["clean", "phone", "broadcast"], p=[0.3, 0.45, 0.25]))  # type: ignore
    strength = {"clean": 0.3, "phone": 1.0, "broadcast": 1.6}[kind]
    gain = np.exp(rng.normal(0, 0.05 * strength) + rng.normal(0, 0.035 * strength, 3))
    blurred = rng.random() < {"clean": 0.2, "phone": 0.5, "broadcast": 0.9}[kind]
    shutter = rng.uniform(0.1, 0.7) if rng.random() < 0.5 * strength else 0.0
    low, high = {"clean": (85, 100), "phone": (45, 95), "broadcast": (18, 70)}[kind]
    return Sensor(
        gain=(float(gain[0]), float(gain[1]), float(gain[2])),
        mean=float(rng.uniform(0.36, 0.52)),
        contrast=float(np.exp(rng.normal(0, 0.12 * strength))),
        gamma=float(np.exp(rng.normal(0, 0.12 * strength))),
        vignette=float(rng.uniform(0, 0.3)) if rng.random() < 0.3 * strength else 0.0,
        blur_px=float(rng.uniform(0.25, 0.75) * size_px / 160) if blurred else 0.0,
        shutter=float(shutter),
        noise=float(min(rng.exponential(0.006 * strength), 0.04)),
        shot_noise=float(min(rng.exponential(0.01 * strength), 0.05)),
        quality=int(rng.integers(low, high + 1)),
        seed=int(rng.integers(2**31)),
    )


def expose(
    images: Float[Tensor, "t h w 3"],
    flow: Float[Tensor, "t h w 2"] | None,
    sensor: Sensor,
) -> UInt8[Tensor, "t h w 3"]:
    """Pictures as the camera stores them.

    Args:
        images: colours 0..1; sides are multiples of 8.
        flow: displacement to the next frame in pixels, for motion blur; None: without.
        sensor: the electronics.
    """
    if images.device.type != "cpu":
        return expose_reference(images, flow, sensor)
    curve = (np.linspace(0, 2, CURVE_STEPS + 1) ** sensor.gamma).astype(np.float32)
    basis, steps = _cosine_basis(torch.float32), _quantiser_steps(sensor.quality, torch.float32)
    to_ycc = np.array(_TO_YCC, np.float32)
    to_rgb = np.linalg.inv(np.array(_TO_YCC)).astype(np.float32)
    gain = np.array(sensor.gain)
    out = np.empty(images.shape, np.uint8)
    for frame, picture in enumerate(images.numpy()):
        image = picture.copy()
        if sensor.shutter and flow is not None:
            kernels.blur_along(picture, flow[frame].numpy(), sensor.shutter, TAPS, image)
        if sensor.blur_px:
            reach = 2 * _reach_px(sensor.blur_px) + 1
            image = cv2.GaussianBlur(
                image, (reach, reach), sensor.blur_px, borderType=cv2.BORDER_REPLICATE
            )
        if not sensor.neutral:
            kernels.respond(
                image, gain, sensor.vignette, curve, sensor.contrast, sensor.noise,
                sensor.shot_noise, sensor.seed, frame,
            )  # fmt: skip
        if sensor.quality < 100:
            kernels.compress(image, to_ycc, to_rgb, basis.numpy(), steps.numpy())
        kernels.store(image, out[frame])
    return torch.from_numpy(out)


def expose_reference(
    images: Float[Tensor, "t h w 3"],
    flow: Float[Tensor, "t h w 2"] | None,
    sensor: Sensor,
) -> UInt8[Tensor, "t h w 3"]:
    """Twin of `expose` in tensor operations, all frames at once, on any device."""
    x = images.permute(0, 3, 1, 2)
    if sensor.shutter and flow is not None:
        x = _motion_blur(x, flow, sensor.shutter)
    if sensor.blur_px:
        x = _gaussian(x, sensor.blur_px)
    if not sensor.neutral:
        x = _respond(x, sensor)
        spread = (sensor.noise**2 + sensor.shot_noise**2 * x.clamp(0, 1)).sqrt()
        x = x + spread * _hash_noise(x, sensor.seed)
    if sensor.quality < 100:
        x = _compress(x.clamp(0, 1), sensor.quality)
    return (x.clamp(0, 1) * 255 + 0.5).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _respond(x: Tensor, sensor: Sensor) -> Tensor:
    x = x * x.new_tensor(sensor.gain)[:, None, None]
    if sensor.vignette:
        height, width = x.shape[2:]
        rows = torch.linspace(-1, 1, height, device=x.device)[:, None]
        columns = torch.linspace(-1, 1, width, device=x.device)
        x = x * (1 - sensor.vignette * (rows**2 + columns**2) / 2)
    if sensor.gamma != 1:
        x = x.clamp(min=0) ** sensor.gamma
    return (x - 0.5) * sensor.contrast + 0.5


def _reach_px(sigma: float) -> int:
    return max(1, int(np.ceil(2.5 * sigma)))


def _gaussian(x: Tensor, sigma: float) -> Tensor:
    reach = _reach_px(sigma)
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=x.device) / sigma) ** 2)
    taps = (taps / taps.sum()).to(x.dtype)
    flat = x.reshape(-1, 1, *x.shape[2:])
    flat = conv2d(pad(flat, (reach, reach, 0, 0), mode="replicate"), taps.view(1, 1, 1, -1))
    flat = conv2d(pad(flat, (0, 0, reach, reach), mode="replicate"), taps.view(1, 1, -1, 1))
    return flat.reshape(x.shape)


def _motion_blur(x: Tensor, flow: Tensor, shutter: float) -> Tensor:
    """The mean along each pixel's own path while the shutter is open."""
    height, width = x.shape[2:]
    rows = (torch.arange(height, device=x.device) * 2 + 1) / height - 1
    columns = (torch.arange(width, device=x.device) * 2 + 1) / width - 1
    here = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)
    step = flow * flow.new_tensor([2 / width, 2 / height])
    total = torch.zeros_like(x)
    for share in torch.linspace(-0.5, 0.5, TAPS).tolist():
        grid = here + share * shutter * step
        total += grid_sample(x, grid, padding_mode="border", align_corners=False)
    return total / TAPS


def _hash_noise(x: Tensor, seed: int) -> Tensor:
    """Nearly normal noise of unit variance: the sum of four bytes of a hash."""
    count = x[0].numel()
    index = torch.arange(count, device=x.device, dtype=torch.int64)
    frame = torch.arange(len(x), device=x.device, dtype=torch.int64)[:, None]
    h = (index + frame * 0x9E3779B1 + seed * 0x85EBCA77) & 0xFFFFFFFF
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        h = ((h ^ (h >> shift)) * factor) & 0xFFFFFFFF
    h = h ^ (h >> 16)
    total = (h & 255) + (h >> 8 & 255) + (h >> 16 & 255) + (h >> 24)
    return ((total - 510).to(x.dtype) / 147.8).reshape(x.shape)


# The tables of ITU-T T.81, annex K.
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56), (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99), (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)  # fmt: skip
_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def _quantiser_steps(quality: int, dtype: torch.dtype) -> Float[Tensor, "3 8 8"]:
    scale = 50 / quality if quality < 50 else 2 - quality / 50
    return (torch.tensor([_LUMA, _CHROMA, _CHROMA], dtype=dtype) * scale).clamp(min=1) / 255


def _cosine_basis(dtype: torch.dtype) -> Float[Tensor, "8 8"]:
    k = torch.arange(8, dtype=torch.float64)
    basis = torch.cos((2 * k[None] + 1) * k[:, None] * torch.pi / 16) / 2
    basis[0] /= 2**0.5
    return basis.to(dtype)


def _compress(x: Tensor, quality: int) -> Tensor:
    """What JPEG of this quality loses: 8 x 8 cosines, rounded (sides are multiples of 8)."""
    ycc = x.new_tensor(_TO_YCC)
    steps, basis = _quantiser_steps(quality, x.dtype).to(x), _cosine_basis(x.dtype).to(x)
    frames, _, height, width = x.shape
    blocks = torch.einsum("ij,tjhw->tihw", ycc, x - 0.5)
    blocks = blocks.reshape(frames, 3, height // 8, 8, width // 8, 8).transpose(3, 4)
    coefficients = basis @ blocks @ basis.T
    coefficients = (coefficients / steps[:, None, None]).round() * steps[:, None, None]
    blocks = (basis.T @ coefficients @ basis).transpose(3, 4).reshape(frames, 3, height, width)
    return torch.einsum("ij,tjhw->tihw", torch.linalg.inv(ycc), blocks) + 0.5
