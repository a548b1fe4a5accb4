"""The loss that flow networks learn by: RAFT's, over all of its updates."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from flowhmr.geometry import masked_mean, weighted_mean
from flowhmr.records import FlowExample


@dataclass(frozen=True)
class FlowSequenceConfig:
    """How flow is compared with the true one."""

    gamma: float = 0.8
    """Weight of an update relative to the next (RAFT, Eq. 7)."""
    person: float = 4.0
    """Weight of pixels that show a person; others have 1."""


@dataclass(frozen=True)
class FlowSequenceWeights:
    """Weights; the names are those of `FlowSequenceTerms`."""

    sequence: float = 1.0
    """What is learned by."""
    endpoint: float = 0.0
    """Logged."""
    on_people: float = 0.0
    """Logged."""


@dataclass(frozen=True, eq=False)
class FlowSequenceTerms:
    """One value per pair of frames."""

    sequence: Float[Tensor, "b"]
    """RAFT's loss (Teed and Deng 2020, arXiv 2003.12039, Eq. 7): the L1 distance after each update
    in pixels, weighted mean over the known pixels, summed with weights that grow towards the
    last."""
    endpoint: Float[Tensor, "b"]
    """Mean end-point error after the last update where the flow is known, pixels."""
    on_people: Float[Tensor, "b"]
    """The same where a person is seen; 0 where nobody is."""


def flow_sequence_terms(
    found_px: Sequence[Float[Tensor, "b h w 2"]], truth: FlowExample, config: FlowSequenceConfig
) -> FlowSequenceTerms:
    """Losses of a batch.

    Args:
        found_px: the flow after each update; what is found where the flow is not known is free.
        truth: the true flow.
        config: how they are compared.
    """
    weights = torch.where(truth.person, config.person, 1.0) * truth.known
    apart = torch.stack([flow_px - truth.flow_px for flow_px in found_px])
    each = weighted_mean(apart.abs().sum(-1), weights.expand(apart.shape[:-1]), (2, 3))
    ages = torch.arange(len(found_px) - 1, -1, -1, device=each.device)
    with torch.no_grad():
        error_px = apart[-1].norm(dim=-1)
    return FlowSequenceTerms(
        sequence=(config.gamma ** ages[:, None] * each).sum(0),
        endpoint=masked_mean(error_px, truth.known, (1, 2)),
        on_people=masked_mean(error_px, truth.known & truth.person, (1, 2)),
    )
