"""VIBE's temporal encoder (Kocabas et al. 2020), without its motion discriminator.

TCMR's baseline: a GRU over the static features, which are added to what it says.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flowhmr.networks.hmr import Hmr
from flowhmr.networks.temporal import BodyHead, TemporalNetwork, TemporalOutput
from flowhmr.records import Estimate


@dataclass(frozen=True)
class VibeConfig:
    """Architecture."""

    frames: int = 16
    """Length of the clips that it is trained on."""
    hidden: int = 1024
    """Units of the GRU, in each direction."""
    layers: int = 2
    """Of the GRU."""
    direction: Literal["both", "forward"] = "both"
    """``both``: bidirectional, as in the paper; ``forward``: as in its published code, which looks
    at no later frame."""
    residual: bool = True
    """Add the static features to the temporal ones."""

    def build(self, hmr: Hmr) -> "Vibe":
        """The network, for the features of ``hmr``."""
        return Vibe(self, hmr)


class Vibe(TemporalNetwork):
    """Bodies of one person in consecutive frames, all at once.

    Args:
        config: architecture.
        hmr: whose features it takes; its regressor is where that of this network starts.
    """

    def __init__(self, config: VibeConfig, hmr: Hmr):
        super().__init__()
        self.config, self.frames, self.beyond = config, config.frames, (0, 0)
        size, both = hmr.feature_size, config.direction == "both"
        self.gru = nn.GRU(size, config.hidden, config.layers, batch_first=True, bidirectional=both)
        self.widen = nn.Linear((1 + both) * config.hidden, size)
        self.head = BodyHead(hmr)

    def forward(self, features: Float[Tensor, "b t f"]) -> TemporalOutput:
        """Bodies of all frames."""
        return TemporalOutput(self.bodies(features), tuple(range(features.shape[1])))

    def sequence(self, features: Float[Tensor, "t f"]) -> Estimate:
        """Bodies of a video: the GRU runs over the whole of it."""
        return self.bodies(features)

    def bodies(self, features: Float[Tensor, "*b t f"]) -> Estimate:
        """Bodies of all frames."""
        temporal = self.widen(torch.relu(self.gru(features)[0]))
        return self.head(temporal + features if self.config.residual else temporal)
