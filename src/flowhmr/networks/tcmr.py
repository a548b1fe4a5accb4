"""TCMR: a body in the middle of a clip from the frames before and after it (Choi et al. 2021).

Numbers in brackets are sections of the paper; what it leaves out is as in the published code.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flowhmr.geometry import map_tensors
from flowhmr.networks.hmr import Hmr
from flowhmr.networks.temporal import (
    BodyHead,
    TemporalNetwork,
    TemporalOutput,
    windows_around,
)
from flowhmr.records import Estimate, join_estimates


@dataclass(frozen=True)
class TcmrConfig:
    """Architecture; the defaults are the paper's."""

    frames: int = 16
    """Length of a clip. The current frame, whose body is estimated, is number ``frames // 2``."""
    hidden: int = 1024
    """Units of each GRU, in each direction."""
    layers: int = 2
    """Of each GRU."""
    residual: bool = False
    """Table 1: True adds the current frame's static features to the temporal ones, as VIBE does."""
    forecast: bool = True
    """Table 1: False leaves out PoseForecast, the two encoders of the past and the future."""
    sees_current: bool = False
    """Table 2: True shows these two the current frame as well."""
    supervised: Literal["current", "own", "none"] = "current"
    """Table 3: what PoseForecast's bodies are held to: the current frame; for each the frame next
    to it that it has seen last; or nothing."""

    def __post_init__(self) -> None:
        if self.frames < 3:
            raise ValueError(
                f"TCMR: got clips of {self.frames} frames; expected at least 3: one before the "
                "current frame and one after it"
            )

    @property
    def current(self) -> int:
        """Number of the current frame."""
        return self.frames // 2

    def build(self, hmr: Hmr) -> "Tcmr":
        """The network, for the features of ``hmr``."""
        return Tcmr(self, hmr)


class Tcmr(TemporalNetwork):
    """Bodies of one person, each from a window of features around its frame.

    Args:
        config: architecture.
        hmr: whose features it takes; its regressor is where that of this network starts.
    """

    def __init__(self, config: TcmrConfig, hmr: Hmr):
        super().__init__()
        self.config, self.frames = config, config.frames
        self.beyond = (config.current, config.frames - 1 - config.current)
        size, hidden = hmr.feature_size, config.hidden

        def encoder(both_ways: bool) -> nn.GRU:
            return nn.GRU(size, hidden, config.layers, batch_first=True, bidirectional=both_ways)

        self.all = encoder(both_ways=True)
        self.widen_all = nn.Linear(2 * hidden, size)
        if config.forecast:
            self.past, self.future = encoder(both_ways=False), encoder(both_ways=False)
            self.widen_past, self.widen_future = nn.Linear(hidden, size), nn.Linear(hidden, size)
            self.attention = _Attention(size)
        self.head = BodyHead(hmr)

    def forward(self, features: Float[Tensor, "b t f"]) -> TemporalOutput:
        """Bodies of the current frame: the integrated one, and PoseForecast's two (3.3).

        Raises:
            ValueError: clips of another length.
        """
        integrated, past, future = self.encode(features)
        found, frames = [integrated], [self.config.current]
        if past is not None and future is not None and self.config.supervised != "none":
            apart = 1 if self.config.supervised == "own" else 0
            found += [past, future]
            frames += [self.config.current - apart, self.config.current + apart]
        return TemporalOutput(self.head(torch.stack(found, 1)), tuple(frames))

    def encode(
        self, features: Float[Tensor, "b t f"]
    ) -> tuple[Float[Tensor, "b f"], Float[Tensor, "b f"] | None, Float[Tensor, "b f"] | None]:
        """Temporal features of the current frame: integrated, from the past, from the future.

        The last two are None without PoseForecast.

        Raises:
            ValueError: clips of another length.
        """
        config, current = self.config, self.config.current
        if features.shape[1] != config.frames:
            raise ValueError(
                f"TCMR: got clips of {features.shape[1]} frames; expected {config.frames}; use "
                "sequence() for a video of another length"
            )
        around = self.widen_all(torch.relu(self.all(features)[0][:, current]))
        if config.residual:
            around = around + features[:, current]
        if not config.forecast:
            return around, None, None
        seen = int(config.sees_current)
        # Both end next to the current frame: the future is read from its end.
        past = self.past(features[:, : current + seen])[0][:, -1]
        future = self.future(features[:, current + 1 - seen :].flip(1))[0][:, -1]
        past, future = self.widen_past(past.relu()), self.widen_future(future.relu())
        each = torch.stack([around, past, future], 1)
        return (self.attention(each)[..., None] * each).sum(1), past, future

    def sequence(self, features: Float[Tensor, "t f"]) -> Estimate:
        """Bodies of a video: every frame is once the current one of a window around it."""
        rows = windows_around(len(features), *self.beyond)
        # Side by side, but not all windows of a long video at once.
        return join_estimates([self._current(features[part]) for part in rows.split(64)])

    def follow(self, features: Iterable[Float[Tensor, "f"]]) -> Iterator[Estimate]:
        """`sequence` for a video that is still coming in, in the memory of one window.

        Args:
            features: of one frame after the other.

        Yields:
            The body of each frame (no leading axes), in order, each as soon as the frames after it
            that its window holds have come; at the end those that wait for more.
        """
        before, after = self.beyond
        window: deque[Tensor] = deque(maxlen=self.frames)
        for feature in features:
            if not window:
                window.extend([feature] * before)
            window.append(feature)
            if len(window) == self.frames:
                yield self._newest(window)
        for _ in range(after if window else 0):
            window.append(window[-1])
            if len(window) == self.frames:
                yield self._newest(window)

    def _newest(self, window: Iterable[Tensor]) -> Estimate:
        return map_tensors(self._current(torch.stack(list(window))[None]), lambda t: t[0])

    def _current(self, features: Float[Tensor, "b t f"]) -> Estimate:
        """What counts at test time: the integrated body alone."""
        return self.head(self.encode(features)[0])


class _Attention(nn.Module):
    """How much of each temporal feature goes into the integrated one (3.3).

    The published code has a tanh after the last layer too, so that no weight is more than e^2
    times another.
    """

    def __init__(self, size: int, squeezed: int = 256):
        super().__init__()
        self.squeeze = nn.Linear(size, squeezed)
        self.score = nn.Sequential(
            nn.Linear(3 * squeezed, squeezed),
            nn.Tanh(),
            nn.Linear(squeezed, squeezed),
            nn.Tanh(),
            nn.Linear(squeezed, 3),
            nn.Tanh(),
        )

    def forward(self, each: Float[Tensor, "b 3 f"]) -> Float[Tensor, "b 3"]:
        """Weights that sum to one."""
        return self.score(self.squeeze(each).flatten(1)).softmax(-1)
