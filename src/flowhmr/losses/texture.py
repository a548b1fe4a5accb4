"""The texture loss: a vertex has the same colour wherever it is seen (of4hmr, Eq. 6).

TexturePose (Pavlakos et al., 2019) as of4hmr implements it anew: colours are read at the vertices,
not unwrapped into a texture map.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from flowhmr.cameras import sample_map


@dataclass(frozen=True)
class TextureLossConfig:
    """How the colours of a vertex in several frames are compared."""

    against: Literal["pairs", "median"] = "pairs"
    """``pairs``: every two frames that show the vertex. ``median``: each frame with the median
    colour over all that show it, channel by channel, a measurement without gradient: one frame
    that is off does not pull the others."""
    blur: float = 0.0
    """Standard deviation of a Gaussian blur before the colours are read, share of the crop's width:
    bodies that are further off still find the way. 0 is the paper's plain reading."""

    def __post_init__(self) -> None:
        if not 0 <= self.blur < 1:
            raise ValueError(
                f"texture loss, blur: got {self.blur}; expected a share of the crop's width, from "
                "0 (none) to below 1"
            )


@dataclass(frozen=True)
class TextureWeights:
    """Weight of the texture loss; the name is that of `TextureTerms`."""

    texture: float = 1.0
    """Loss of Eq. 6."""


@dataclass(frozen=True, eq=False)
class TextureTerms:
    """One value per sample, which is several frames of one person."""

    texture: Float[Tensor, "b"]
    """Mean squared distance of colours (RGB, 0..1); zero, with its gradient, where no vertex is
    seen twice."""
    kept: Bool[Tensor, "b"]
    """Samples with a vertex that at least two frames show."""


def texture_terms(
    points_px: Float[Tensor, "b n v 2"],
    visible: Bool[Tensor, "b n v"],
    frames: UInt8[Tensor, "b n 3 s s"] | Float[Tensor, "b n 3 s s"],
    vertex_weights: Float[Tensor, "v"],
    config: TextureLossConfig,
) -> TextureTerms:
    """The texture loss of each sample's ``n`` frames, in any order.

    A mean over everything that is compared: with ``pairs`` each vertex counts once for every two
    frames that show it, with ``median`` once for every frame, always with its weight. Two frames
    that share few vertices thus count little. Vertices that fewer than two frames show do not
    count. Of two frames, ``median`` makes a quarter of ``pairs``; of many, about a half.

    Args:
        points_px: the vertices in each frame, pixels of that frame's own crop. Outside the crop
            or where not visible they do not count and may be NaN.
        visible: where each vertex is seen; a measurement.
        frames: RGB crops, bytes or 0..1, without the colour noise that the network gets.
        vertex_weights: what each vertex counts, for example the surface it stands for.
        config: what is compared.
    """
    seen = visible & _inside(points_px.detach(), frames.shape[-1])
    times = seen.sum(1, keepdim=True)
    colours = _colours(points_px, seen, _smooth(frames, points_px.dtype, config.blur))
    # The sum of |c_i - c_j|^2 over the pairs of k colours is k times that of |c_i - mean|^2: no
    # pair is formed, and nothing of like size is subtracted. The mean's own gradient cancels out,
    # so that it needs none. What is seen once is its own mean and median: it adds nothing.
    if config.against == "pairs":
        centres, each = _mean(colours.detach(), seen), times
        comparisons = times * (times - 1) / 2
    else:
        centres, each = _median(colours.detach(), seen), torch.ones_like(times)
        comparisons = times * (times > 1)
    squares = (colours - centres).square().sum(2)
    weights = vertex_weights * each * seen
    total = (vertex_weights * comparisons).sum((1, 2))
    kept = total > 0
    return TextureTerms(
        texture=(squares * weights).sum((1, 2)) / torch.where(kept, total, 1),
        kept=kept,
    )


def _inside(points_px: Float[Tensor, "*b 2"], size_px: int) -> Bool[Tensor, "*b"]:
    """Which points lie on the crop; those that are not finite do not."""
    x, y = points_px.unbind(-1)
    return (x >= 0) & (x <= size_px) & (y >= 0) & (y <= size_px)


def _smooth(frames: Tensor, dtype: torch.dtype, blur: float) -> Float[Tensor, "b n 3 s s"]:
    """Colours 0..1, blurred; beyond the border there is nothing."""
    smooth = frames.to(dtype) / (1 if frames.is_floating_point() else 255)
    if blur == 0:
        return smooth
    size_px = frames.shape[-1]
    at_px = torch.arange(size_px, dtype=dtype, device=frames.device)
    apart = (at_px[:, None] - at_px) / (blur * size_px)
    kernel = (-apart.square() / 2).softmax(-1)
    return kernel @ smooth @ kernel.T


def _colours(points_px: Tensor, seen: Tensor, frames: Tensor) -> Float[Tensor, "b n 3 v"]:
    """Colours at the points that are seen, with gradient to these; something finite elsewhere."""
    # Moved before reading: the gradient of reading at NaN is NaN whatever multiplies it later,
    # and grid_sample may crash on it.
    somewhere = points_px.new_tensor(frames.shape[-1] / 2)
    at_px = torch.where(seen[..., None], points_px, somewhere).flatten(0, 1)
    colours = sample_map(frames.flatten(0, 1).movedim(1, -1), at_px)
    # Channels before vertices, as they lie in memory: working along an axis of three is slow.
    return colours.transpose(1, 2).unflatten(0, seen.shape[:2])


def _mean(
    colours: Float[Tensor, "b n 3 v"], seen: Bool[Tensor, "b n v"]
) -> Float[Tensor, "b 1 3 v"]:
    """Mean colour of each vertex over the frames that show it."""
    shown = (colours * seen[:, :, None]).sum(1, keepdim=True)
    return shown / seen.sum(1)[:, None, None].clamp(min=1)


def _median(
    colours: Float[Tensor, "b n 3 v"], seen: Bool[Tensor, "b n v"]
) -> Float[Tensor, "b 1 3 v"]:
    """Median of each channel over the frames that show a vertex; of an even number, the middle
    of the two in the middle."""
    last = torch.where(seen[:, :, None], colours, torch.inf).sort(1).values
    times = seen.sum(1)[:, None, None].expand(-1, 1, 3, -1)
    below, above = ((times - 1).clamp(min=0) // 2, times // 2)
    median = (last.gather(1, below) + last.gather(1, above)) / 2
    return torch.where(times > 0, median, 0)
