"""Part attention, in the place of HMR's regressor: PARE (Kocabas et al. 2021).

One branch says where each of 24 parts of the body is, another what is seen; each part's pose is
read from what is seen where it is, or where it would be if nothing hid it.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

PARTS = 24
"""As many as SMPL's joints; part ``j`` turns with joint ``j``."""


@dataclass(frozen=True)
class PartsConfig:
    """Architecture of the two branches; PARE has 2 layers."""

    layers: int = 0
    """Convolutions of each branch; 0: no part attention, but HMR's regressor."""
    filters: int = 128
    """Channels of each of them, and so of what is read of a part for its pose."""
    thinned: int = 64
    """Channels of what is read of a part for shape and camera."""


class PartAttention(nn.Module):
    """A map of features -> what is seen at each part.

    Args:
        config: architecture, with 1 layer or more.
        channels: of the map.
    """

    def __init__(self, config: PartsConfig, channels: int):
        super().__init__()
        self.config = config
        self.where = _branch(config, channels)
        self.maps = nn.Conv2d(config.filters, 1 + PARTS, 1)
        self.what = _branch(config, channels)
        self.thin = nn.Conv2d(config.filters, config.thinned, 1)
        self.out_features = PARTS * (config.filters + config.thinned)

    def forward(self, joined: Float[Tensor, "b c h w"]) -> Float[Tensor, "b f"]:
        """What `PartReadout` reads: features for poses ``[filters 24]``, then the thinned ones.

        Each is a weighted mean over the map, by the softmax of the part's own map; the first of the
        maps is the background's, which nobody reads.
        """
        logits = self.maps(self.where(joined))[:, 1:]
        weights = logits.float().flatten(2).softmax(-1)
        seen = self.what(joined)
        both = torch.cat([seen, self.thin(seen)], 1).flatten(2)
        return torch.einsum("bcp,bjp->bcj", both, weights.to(both.dtype)).flatten(1)


class PartReadout(nn.Module):
    """What is seen at each part -> what a body's numbers differ by from where they start.

    Args:
        config: architecture.
        num_betas: coefficients of the body's shape.
    """

    def __init__(self, config: PartsConfig, num_betas: int):
        super().__init__()
        self.split = [PARTS * config.filters, PARTS * config.thinned]
        self.pose = PerPart(config.filters, 6)
        self.shape = nn.Linear(self.split[1], num_betas)
        self.camera = nn.Linear(self.split[1], 3)
        for head in (self.shape, self.camera):
            nn.init.xavier_uniform_(head.weight, gain=0.01)
            nn.init.zeros_(head.bias)

    def forward(self, feature: Float[Tensor, "*b f"]) -> Float[Tensor, "*b p"]:
        """Pose in 6D, betas, camera."""
        of_pose, thinned = feature.split(self.split, -1)
        pose = self.pose(of_pose.unflatten(-1, (-1, PARTS))).flatten(-2)
        return torch.cat([pose, self.shape(thinned), self.camera(thinned)], -1)


class PerPart(nn.Module):
    """A linear layer of its own for each part, without bias."""

    def __init__(self, features: int, numbers: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(PARTS, numbers, features))
        nn.init.normal_(self.weight, std=0.01 / features**0.5)

    def forward(self, features: Float[Tensor, "*b c 24"]) -> Float[Tensor, "*b 24 k"]:
        return torch.einsum("...cj,jkc->...jk", features, self.weight)


def _branch(config: PartsConfig, channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs in [channels, *[config.filters] * (config.layers - 1)]:
        layers += [
            nn.Conv2d(inputs, config.filters, 3, padding=1, bias=False),
            nn.BatchNorm2d(config.filters),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)
