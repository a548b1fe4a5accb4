"""HPOF's raster optical-flow loss (section 3.3): bodies drawn, and the drawing moved by the flow.

Both bodies are drawn in fixed colours. The drawing of the first, carried by the image's flow, says
what the drawing of the second should be. Pixels are compared, not vertices: the outline counts too.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from flowhmr.cameras import pixel_centres_px, sample_map
from flowhmr.flow import FlowPair, inside_map, swap_pair
from flowhmr.raster import render_attributes

DARKEST = 0.25
"""Colours are from here to 1, so that no part of the body looks like the background, which is 0."""


@dataclass(frozen=True)
class RasterFlowConfig:
    """How drawn bodies and image flow are compared. The defaults are the paper's, but for the
    consistency check, which it does not have."""

    held: bool = True
    """The carried drawing is a target without gradient: "treated as the groundtruth" (below
    Eq. 18). Without, both bodies move."""
    both_ways: bool = False
    """Also carry the second drawing back to the first."""
    consistent: bool = True
    """Leave out pixels whose image flow fails the forward-backward check."""


@dataclass(frozen=True)
class RasterFlowWeights:
    """Weight of the raster flow loss; the name is that of `RasterFlowTerms`."""

    raster_flow: float = 1.0
    """Loss of Eq. 19. The paper's 0.0004 is for colours and sums that it does not state."""


@dataclass(frozen=True, eq=False)
class RasterFlowTerms:
    """One value per pair of frames."""

    raster_flow: Float[Tensor, "b"]
    """Mean squared difference of colours (0..1) over the pixels that count and their channels;
    zero, with its gradient, where the pair is dropped."""
    kept: Bool[Tensor, "b"]
    """Pairs in which a pixel that counts shows the body."""


def gradient_colours(v_template: Float[Tensor, "v 3"]) -> Float[Tensor, "v 3"]:
    """The "artificial texture with gradient color": each axis of the body at rest is a channel."""
    low, high = v_template.amin(0), v_template.amax(0)
    return DARKEST + (1 - DARKEST) * (v_template - low) / (high - low)


def raster_flow_terms(
    first_px: Float[Tensor, "b v 3"],
    second_px: Float[Tensor, "b v 3"],
    faces: Int[Tensor, "f 3"],
    colours: Float[Tensor, "v c"],
    image: FlowPair,
    config: RasterFlowConfig,
) -> RasterFlowTerms:
    """The raster flow loss of pairs of frames (Eqs. 17 to 19).

    Eq. 18 moves colours forward; here each pixel of the second frame looks back along the backward
    flow, which leaves neither holes nor two colours at one pixel.

    Args:
        first_px, second_px: (u, v, depth) of the two bodies in pixels of the square crop, see
            `project_weak`.
        faces: triangles of the closed, outward-oriented mesh.
        colours: what to draw each vertex in, see `gradient_colours`.
        image: flow between the frames, pixels of the same crop. May be NaN where it does not count.
        config: which body moves, which pixels count.
    """
    size_px = image.forward.shape[-2]
    both = torch.cat([first_px, second_px])
    first, second = render_attributes(both, faces, colours, size_px, size_px).chunk(2)
    values, kept = _one_way(first, second, image, config)
    if config.both_ways:
        back, kept_back = _one_way(second, first, swap_pair(image), config)
        values, kept = (values + back) / 2, kept & kept_back
    return RasterFlowTerms(torch.where(kept, values, values * 0), kept)


def _one_way(
    first: Float[Tensor, "b h w c"],
    second: Float[Tensor, "b h w c"],
    image: FlowPair,
    config: RasterFlowConfig,
) -> tuple[Float[Tensor, "b"], Bool[Tensor, "b"]]:
    """Eqs. 18 and 19 from the first frame to the second."""
    height, width = first.shape[1:3]
    centres_px = pixel_centres_px(height, width).to(image.backward)
    from_px = centres_px + image.backward
    counted = inside_map(from_px, height, width)
    if config.consistent:
        counted = counted & image.backward_valid
    # Where it does not count, flow may be NaN, and NaN times nothing is NaN.
    from_px = torch.where(counted[..., None], from_px, centres_px).flatten(1, 2)
    source = first.detach() if config.held else first
    carried = sample_map(source, from_px.to(source)).unflatten(1, (height, width))
    squares = (second - carried).square().mean(-1) * counted
    shown = (carried.detach() != 0).any(-1) | (second.detach() != 0).any(-1)
    values = squares.sum((1, 2)) / counted.sum((1, 2)).clamp(min=1)
    return values, (shown & counted).any(-1).any(-1)
