"""VIBE's motion discriminator (Kocabas et al. 2020), which HPOF takes over: is a motion human?"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from flowhmr.geometry import rot6d_from_rotmat
from flowhmr.networks.hmr import JOINTS

NUMBERS = 6 * (JOINTS - 1)
"""Of a pose; the root's rotation is not looked at: it belongs to the camera."""


@dataclass(frozen=True)
class MotionDiscriminatorConfig:
    """Architecture, of VIBE's sizes. There poses are in axis-angle, dropout is 0.2, and the last
    layer of the attention ends with a tanh and dropout as well."""

    hidden: int = 1024
    """Units of the GRU and of the attention."""
    layers: int = 2
    """Of the GRU."""
    attention: int = 3
    """Layers that say how much each frame counts."""
    dropout: float = 0.1
    """Within the attention."""

    def build(self) -> "MotionDiscriminator":
        """With random weights."""
        return MotionDiscriminator(self)


class MotionDiscriminator(nn.Module):
    """Scores motions: towards 1 for true ones, towards 0 for made ones (least squares).

    Args:
        config: architecture.
    """

    def __init__(self, config: MotionDiscriminatorConfig):
        super().__init__()
        hidden = config.hidden
        self.gru = nn.GRU(NUMBERS, hidden, config.layers, batch_first=True)
        parts: list[nn.Module] = []
        for _ in range(config.attention - 1):
            parts += [nn.Linear(hidden, hidden), nn.Tanh(), nn.Dropout(config.dropout)]
        self.attention = nn.Sequential(*parts, nn.Linear(hidden, 1))
        self.score = nn.Linear(hidden, 1)

    def forward(self, rotmats: Float[Tensor, "b n 24 3 3"]) -> Float[Tensor, "b"]:
        """Scores of motions of any length."""
        codes, _ = self.gru(rot6d_from_rotmat(rotmats[:, :, 1:], "spin").flatten(2))
        weights = self.attention(codes).softmax(1)
        return self.score((weights * codes).sum(1))[:, 0]
