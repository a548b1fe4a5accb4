"""The optical-flow loss of of4hmr (Eqs. 1 and 2, section 5)."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flowhmr.bodyflow import BodyFlow, VertexFlow, swap_body_flow, vertex_flow
from flowhmr.flow import FlowPair, swap_pair
from flowhmr.geometry import weighted_mean


@dataclass(frozen=True)
class FlowLossConfig:
    """How body flow and image flow are compared. Lengths are shares of the crop's width."""

    residual: Literal["squared", "charbonnier"] = "squared"
    """``squared``: the paper's. ``charbonnier``: grows linearly for vertices that disagree by
    more than the flow's own size, so that those which miss the limb weigh less."""
    max_flow: float = 50 / 224
    """Pairs in which a visible vertex reads a longer image flow are dropped: cuts, occlusions.
    The published code has 50 px in crops of 224."""
    scaled: bool = True
    """Divide by the squared mean image flow over the visible vertices."""
    floor: float = 1 / 224
    """Least mean flow to divide by: in still pairs the flow is noise, which a division by it
    would blow up."""
    consistent: bool = True
    """Leave out vertices whose image flow fails the forward-backward check."""


@dataclass(frozen=True)
class FlowWeights:
    """Weight of the flow loss; the name is that of `FlowTerms`."""

    flow: float = 1.0
    """Loss of Eq. 2."""


@dataclass(frozen=True, eq=False)
class FlowTerms:
    """One value per pair of frames."""

    flow: Float[Tensor, "b"]
    """The loss of both directions; zero, with its gradient, where the pair is dropped."""
    kept: Bool[Tensor, "b"]
    """Pairs that pass the threshold and have visible vertices."""
    disagreement_px: Float[Tensor, "b"]
    """Mean distance of body flow and image flow, pixels of the crop; no gradient."""
    image_flow_px: Float[Tensor, "b"]
    """Mean length of the image flow at the visible vertices, pixels of the crop."""


@dataclass(frozen=True, eq=False)
class _OneWay:
    values: Tensor
    kept: Tensor
    disagreement_px: Tensor
    image_flow_px: Tensor


def flow_terms(
    body: BodyFlow,
    image: FlowPair,
    vertex_weights: Float[Tensor, "v"],
    config: FlowLossConfig,
) -> FlowTerms:
    """The flow loss of both directions, averaged (Eq. 2).

    Args:
        body: where the vertices go from the first frame to the second.
        image: flow between the frames, forward and backward, pixels of the crop.
        vertex_weights: what each vertex counts, for example the surface it stands for; ones give
            the paper's plain mean.
        config: residual, threshold, scale.
    """
    size_px = image.forward.shape[-2]
    there = _one_way(vertex_flow(body, image, config.consistent), vertex_weights, size_px, config)
    back = vertex_flow(swap_body_flow(body), swap_pair(image), config.consistent)
    back = _one_way(back, vertex_weights, size_px, config)
    kept = there.kept & back.kept
    both = (there.values + back.values) / 2
    return FlowTerms(
        flow=torch.where(kept, both, both * 0),
        kept=kept,
        disagreement_px=(there.disagreement_px + back.disagreement_px) / 2,
        image_flow_px=(there.image_flow_px + back.image_flow_px) / 2,
    )


def _one_way(
    flows: VertexFlow, vertex_weights: Tensor, size_px: int, config: FlowLossConfig
) -> _OneWay:
    """Eq. 1 for one direction, with the threshold and the scale of section 5."""
    weights = vertex_weights * flows.counted
    # Norms and sums over an axis of two are several times slower.
    length_px = torch.hypot(*flows.image_px.unbind(-1))
    mean_px = weighted_mean(length_px, weights, -1)
    longest_px = torch.where(flows.counted, length_px, length_px.new_zeros(())).amax(-1)
    kept = flows.counted.any(-1) & (longest_px <= config.max_flow * size_px)
    unit_px = (
        mean_px.clamp(min=config.floor * size_px) if config.scaled else torch.ones_like(mean_px)
    )
    # Masked before squaring: where the image flow is NaN, so would be the gradient.
    apart_px = (flows.body_px - flows.image_px).unbind(-1)
    x, y = (torch.where(flows.counted, a, a.new_zeros(())) for a in apart_px)
    squares = x.square() + y.square()
    relative = squares / unit_px.square()[:, None]
    if config.residual == "charbonnier":
        relative = 2 * (torch.sqrt(1 + relative) - 1)
    return _OneWay(
        values=weighted_mean(relative, weights, -1),
        kept=kept,
        disagreement_px=weighted_mean(squares.detach().sqrt(), weights, -1),
        image_flow_px=mean_px,
    )
