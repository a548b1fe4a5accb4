"""SmoothNet: each number of a body is smoothed along time by the same weights (Zeng et al. 2022).

A filter that is learnt: it sees what a single-frame network says of each frame, no features, and
mixes frames, never joints.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flowhmr.geometry import map_tensors
from flowhmr.networks.hmr import Hmr, bodies_of
from flowhmr.networks.temporal import OverBodies, TemporalOutput
from flowhmr.records import Estimate

PART = 64
"""Windows that are smoothed at once: bounds the memory for long video."""


@dataclass(frozen=True)
class SmoothNetConfig:
    """Architecture; the defaults are the published ones."""

    frames: int = 32
    """Length of a window."""
    width: int = 512
    """Of the first layer."""
    inner: int = 256
    """Of the layers inside the blocks."""
    blocks: int = 3
    """Residual blocks."""
    dropout: float = 0.5
    """After the layers of the blocks."""

    def __post_init__(self) -> None:
        if self.frames < 2:
            raise ValueError(f"SmoothNet: got windows of {self.frames} frames; expected 2 or more")

    def build(self, hmr: Hmr) -> "SmoothNet":
        """The network, for the features of ``hmr``."""
        return SmoothNet(self, hmr)


class SmoothNet(OverBodies):
    """Bodies of a window, from those that the single-frame network said of its frames.

    It says what to change in them, so that an untrained network is almost the single-frame one
    (the published one says the numbers themselves).

    Args:
        config: architecture.
        hmr: whose features it takes, and whose regressor it uses; copied.
    """

    def __init__(self, config: SmoothNetConfig, hmr: Hmr):
        super().__init__(hmr)
        self.config, self.frames, self.beyond = config, config.frames, (0, 0)
        self.widen = nn.Sequential(nn.Linear(config.frames, config.width), nn.LeakyReLU(0.1))
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.blocks))
        self.readout = nn.Linear(config.width, config.frames)
        nn.init.xavier_uniform_(self.readout.weight, gain=0.01)
        nn.init.zeros_(self.readout.bias)

    def forward(self, features: Float[Tensor, "b t f"]) -> TemporalOutput:
        """Bodies of all frames of a window.

        Raises:
            ValueError: clips of another length.
        """
        if features.shape[1] != self.frames:
            raise ValueError(
                f"SmoothNet: got clips of {features.shape[1]} frames; expected {self.frames}; use "
                "sequence() for a video of another length"
            )
        numbers = self.smoothed(self.numbers(features).mT).mT
        return TemporalOutput(
            bodies_of(numbers, self.head.body_id, self.head.shift), tuple(range(self.frames))
        )

    def sequence(self, features: Float[Tensor, "t f"]) -> Estimate:
        """Bodies of a video: each the mean over all windows that its frame is in.

        A video shorter than a window ends with its last frame repeated.
        """
        numbers, total = self.numbers(features), len(features)
        lacking = max(0, self.frames - total)
        rows = torch.cat([numbers, numbers[-1:].expand(lacking, -1)])
        windows = rows.unfold(0, self.frames, 1)
        said = torch.cat([self.smoothed(part) for part in windows.split(PART)])
        mean, count = torch.zeros_like(rows), rows.new_zeros(len(rows), 1)
        for k in range(self.frames):
            mean[k : k + len(said)] += said[..., k]
            count[k : k + len(said)] += 1
        found = bodies_of(mean / count, self.head.body_id, self.head.shift)
        return map_tensors(found, lambda t: t[:total])

    def smoothed(self, numbers: Float[Tensor, "b p t"]) -> Float[Tensor, "b p t"]:
        """The numbers of windows, each along its own time."""
        codes = self.widen(numbers)
        for block in self.blocks:
            codes = block(codes)
        return numbers + self.readout(codes)


class _Block(nn.Module):
    """Two layers and what came in."""

    def __init__(self, config: SmoothNetConfig):
        super().__init__()

        def layer(inputs: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Linear(inputs, outputs), nn.Dropout(config.dropout), nn.LeakyReLU(0.2)
            )

        width, inner = config.width, config.inner
        self.layers = nn.Sequential(layer(width, inner), layer(inner, width))

    def forward(self, x: Float[Tensor, "b p w"]) -> Float[Tensor, "b p w"]:
        return x + self.layers(x)
