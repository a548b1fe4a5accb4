"""of4hmr's context network over static features, beside TCMR, VIBE and HPOF.

What `flowhmr.networks.ContextHmr` does with pictures, for features that are kept: the estimates of
earlier frames modulate the backbone's part of a frame's features.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from flowhmr.geometry import map_tensors
from flowhmr.networks.context import ContextConfig, ContextNet, context_vectors
from flowhmr.networks.hmr import Hmr
from flowhmr.networks.temporal import BodyHead, TemporalNetwork, TemporalOutput
from flowhmr.records import Estimate


@dataclass(frozen=True)
class ContextFeaturesConfig:
    """Architecture."""

    frames: int = 16
    """Length of the clips that it is trained on."""
    length: int = 8
    """Earlier frames that are looked at; the paper has 1, 2, 4 and 8."""

    def build(self, hmr: Hmr) -> "ContextFeatures":
        """The network, for the features of ``hmr``."""
        return ContextFeatures(self, hmr)


class ContextFeatures(TemporalNetwork):
    """Each frame with what was seen in the frames before it.

    Args:
        config: architecture.
        hmr: whose features it takes; its regressor is where that of this network starts.
    """

    def __init__(self, config: ContextFeaturesConfig, hmr: Hmr):
        super().__init__()
        self.config, self.frames, self.beyond = config, config.frames, (0, 0)
        self.modulated = hmr.modulated
        self.context = ContextNet(ContextConfig(config.length), self.modulated, hmr.num_betas)
        self.head = BodyHead(hmr)

    def forward(self, features: Float[Tensor, "b t f"]) -> TemporalOutput:
        """Bodies of all frames; the first of a clip has no context, the second one frame of it."""
        return TemporalOutput(self.bodies(features), tuple(range(features.shape[1])))

    def sequence(self, features: Float[Tensor, "t f"]) -> Estimate:
        """Bodies of all frames."""
        return map_tensors(self.bodies(features[None]), lambda t: t[0])

    def bodies(self, features: Float[Tensor, "b t f"]) -> Estimate:
        """Bodies of all frames."""
        batch, total, length = *features.shape[:2], self.config.length
        alone = context_vectors(self.head(features))
        line = torch.cat([alone.new_zeros(batch, length, alone.shape[-1]), alone], 1)
        before = line.unfold(1, length, 1)[:, :-1].mT.flatten(0, 1)
        count = torch.arange(total, device=features.device).clamp(max=length).repeat(batch)
        film = self.context(before, count)
        vector, read = features.flatten(0, 1).split(
            [self.modulated, features.shape[-1] - self.modulated], -1
        )
        told = torch.cat([film.gamma * vector + film.beta, read], -1)
        return self.head(told.unflatten(0, (batch, total)))
