"""The optical-flow loss of of4hmr (Eqs. 1 and 2, section 5)."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flowhmr.bodyflow import BodyFlow, VertexFlow, swap_body_flow, vertex_flow
from flowhmr.flow import FlowPair, swap_pair


@dataclass(frozen=True)
class FlowLossConfig:
    """How body flow and image flow are compared. Lengths are shares of the crop's width."""

    residual: Literal["squared", "charbonnier"] = "squared"
    """``squared``: the paper's. ``charbonnier``: grows linearly for vertices that disagree by
    more than what they are measured in, so that those which miss the limb weigh less."""
    max_flow: float = 50 / 224
    """Pairs in which a visible vertex reads a longer image flow are dropped: cuts, occlusions.
    The published code has 50 px in crops of 224."""
    scaled: bool = True
    """Measure disagreement in the pair's mean image flow over the visible vertices: the same in
    slow and in fast video, so that a pixel counts less in fast video."""
    unit: float = 1 / 224
    """Without ``scaled``, what disagreement is measured in; with it, the least mean flow to divide
    by: in still pairs the flow is noise, which a division by it would blow up."""
    consistent: bool = True
    """Leave out vertices whose image flow fails the forward-backward check; not in the paper."""


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
    # Component by component, here and below: what works along an axis of two is several times
    # slower.
    ends, starts = body.end_px.unbind(-1), body.start_px.unbind(-1)
    moved_px = [end - start for end, start in zip(ends, starts, strict=True)]
    there = vertex_flow(body, image, config.consistent)
    there = _one_way(moved_px, there, vertex_weights, size_px, config)
    back = vertex_flow(swap_body_flow(body), swap_pair(image), config.consistent)
    back = _one_way([-d for d in moved_px], back, vertex_weights, size_px, config)
    kept = there.kept & back.kept
    both = (there.values + back.values) / 2
    return FlowTerms(
        flow=torch.where(kept, both, both * 0),
        kept=kept,
        disagreement_px=(there.disagreement_px + back.disagreement_px) / 2,
        image_flow_px=(there.image_flow_px + back.image_flow_px) / 2,
    )


def _one_way(
    moved_px: list[Tensor],
    flows: VertexFlow,
    vertex_weights: Tensor,
    size_px: int,
    config: FlowLossConfig,
) -> _OneWay:
    """Eq. 1 for one direction, with the threshold and the scale of section 5."""
    weights = vertex_weights * flows.counted
    total = weights.sum(-1, keepdim=True)
    shares = weights / torch.where(total > 0, total, torch.ones_like(total))
    # Where it does not count, image flow may be NaN, and NaN times nothing is NaN.
    nothing = flows.image_px.new_zeros(())
    image_px = [torch.where(flows.counted, a, nothing) for a in flows.image_px.unbind(-1)]
    length_px = torch.hypot(*image_px)
    mean_px = _mean(length_px, shares)
    kept = flows.counted.any(-1) & (length_px.amax(-1) <= config.max_flow * size_px)
    least_px = torch.full_like(mean_px, config.unit * size_px)
    unit_px = torch.maximum(mean_px, least_px) if config.scaled else least_px
    x, y = (b - a for b, a in zip(moved_px, image_px, strict=True))
    squares = x.square() + y.square()
    relative = squares / unit_px.square()[:, None]
    if config.residual == "charbonnier":
        relative = 2 * (torch.sqrt(1 + relative) - 1)
    return _OneWay(
        values=_mean(relative, shares),
        kept=kept,
        disagreement_px=_mean(squares.detach().sqrt(), shares),
        image_flow_px=mean_px,
    )


def _mean(values: Float[Tensor, "b v"], shares: Float[Tensor, "b v"]) -> Float[Tensor, "b"]:
    return torch.linalg.vecdot(values, shares)
