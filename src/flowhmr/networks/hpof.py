"""HPOF's temporal encoder: poses smoothed, and one shape, from past frames alone (Ji et al. 2021).

It sees the numbers that a single-frame network says of each frame (pose in 6D, betas, camera), not
its features. Numbers in brackets are sections of the paper.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from flowhmr.geometry import map_tensors
from flowhmr.networks.hmr import JOINTS, Hmr, bodies_of
from flowhmr.networks.temporal import OverBodies, TemporalOutput
from flowhmr.records import Estimate

PART = 256
"""Frames that the transformer sees at once: bounds the memory for long video."""


@dataclass(frozen=True)
class HpofConfig:
    """Architecture; the defaults are the paper's."""

    frames: int = 16
    """Length of the clips that it is trained on, past frames aside."""
    smoother: Literal["convolution", "gru", "transformer"] = "convolution"
    """Of the pose smoother B_p (Table 1)."""
    blocks: int = 3
    """Of the convolutions, after the first layer. They say how far any of them looks back
    (Table 2): 9 frames with one, 27 with two, 81 with three."""
    layers: int = 2
    """Of the GRU or the transformer."""
    width: int = 1024
    """Channels of the convolutions, units of the GRU, features of the transformer and of its
    feed-forward layers."""
    heads: int = 8
    """Of the transformer."""
    dropout: float = 0.25
    """After each convolution, between the GRU's layers, after each part of the transformer."""
    pooled: bool = True
    """B_s: all frames in sight share the mean of their shapes. False (Table 1, w/o B_s): B_p says
    the shape of each frame as well."""
    residual: bool = True
    """B_p says what to change in each frame's own pose and camera; False: in the mean ones. The
    paper does not say; with True an untrained network is the single-frame one."""

    def __post_init__(self) -> None:
        for name in ("frames", "blocks", "layers", "width", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"HPOF, {name}: got {getattr(self, name)}; expected 1 or more")
        if self.smoother == "transformer" and self.width % self.heads:
            raise ValueError(
                f"HPOF: got a width of {self.width} for {self.heads} heads; expected a multiple"
            )

    @property
    def window(self) -> int:
        """How many frames it looks at for one body: that frame and those before it."""
        return 3 ** (self.blocks + 1)

    def build(self, hmr: Hmr) -> "Hpof":
        """The network, for the features of ``hmr``."""
        return Hpof(self, hmr)


class Hpof(OverBodies):
    """Bodies of one person, each from its frame and those before it.

    The single-frame network's regressor, which gives the numbers, stays as it is: the paper trains
    it in a phase before this (3.4). Before the first frame of a video stands the first frame.

    Args:
        config: architecture.
        hmr: whose features it takes, and whose regressor it uses; copied.
    """

    def __init__(self, config: HpofConfig, hmr: Hmr):
        super().__init__(hmr)
        self.config, past = config, config.window - 1
        self.frames, self.beyond = past + config.frames, (past, 0)
        self.encoder = _encoder(config, len(self.head.start))
        self.said = [6 * JOINTS, 0 if config.pooled else hmr.num_betas, 3]
        self.readout = nn.Linear(config.width, sum(self.said))
        nn.init.xavier_uniform_(self.readout.weight, gain=0.01)
        nn.init.zeros_(self.readout.bias)
        self.parts = [6 * JOINTS, hmr.num_betas, 3]

    def forward(self, features: Float[Tensor, "b t f"]) -> TemporalOutput:
        """Bodies of all frames that have a whole window in the clip.

        Raises:
            ValueError: clips shorter than a window.
        """
        past, total = self.config.window - 1, features.shape[1]
        if total <= past:
            raise ValueError(
                f"HPOF: got clips of {total} frames; expected more than the {past} before a body's "
                "own; use sequence() for a short video"
            )
        return TemporalOutput(self._bodies(self.numbers(features)), tuple(range(past, total)))

    def sequence(self, features: Float[Tensor, "t f"]) -> Estimate:
        """Bodies of a video, all frames at once."""
        numbers = self.numbers(features)[None]
        before = numbers[:, :1].expand(-1, self.config.window - 1, -1)
        return map_tensors(self._bodies(torch.cat([before, numbers], 1)), lambda t: t[0])

    def follow(self, features: Iterable[Float[Tensor, "f"]]) -> Iterator[Estimate]:
        """`sequence` for a video that is still coming in, in the memory of one window.

        The window is filled with the first frame; then each new one goes in and the oldest out
        (3.4).

        Args:
            features: of one frame after the other.

        Yields:
            The body of each frame (no leading axes), as soon as that frame has come.
        """
        window: Tensor | None = None
        state: list[Tensor] | None = None
        for feature in features:
            numbers = self.numbers(feature)[None, None]
            window = _pushed(window, numbers, self.config.window)
            seen = self._pooled(window)[:, -1:]
            code, state = self.encoder.step(seen, state)
            yield map_tensors(self._said(code, seen), lambda t: t[0, 0])

    def _bodies(self, numbers: Float[Tensor, "b t p"]) -> Estimate:
        """Bodies of all frames but the ``window - 1`` first."""
        seen = self._pooled(numbers)
        return self._said(self.encoder(seen), seen[:, self.config.window - 1 :])

    def _pooled(self, numbers: Float[Tensor, "b t p"]) -> Float[Tensor, "b t p"]:
        """B_s (Eq. 6): each frame's betas become the mean of those in the window that it ends.

        Before the first of ``numbers`` it stands again.
        """
        if not self.config.pooled:
            return numbers
        pose, betas, camera = numbers.split(self.parts, -1)
        before = betas[:, :1].expand(-1, self.config.window - 1, -1)
        windows = torch.cat([before, betas], 1).unfold(1, self.config.window, 1)
        return torch.cat([pose, windows.mean(-1), camera], -1)

    def _said(self, code: Float[Tensor, "b n w"], seen: Float[Tensor, "b n p"]) -> Estimate:
        """B_p's last layer; betas are B_s's, if there is one."""
        start = seen if self.config.residual else self.head.start.expand_as(seen)
        from_pose, from_betas, from_camera = start.split(self.parts, -1)
        pose, betas, camera = self.readout(code).float().split(self.said, -1)
        shape = seen.split(self.parts, -1)[1] if self.config.pooled else from_betas + betas
        numbers = torch.cat([from_pose + pose, shape, from_camera + camera], -1)
        return bodies_of(numbers, self.head.body_id, self.head.shift)


class _Encoder(nn.Module):
    """Codes of all frames but the first ``window - 1``; none depends on a later frame."""

    window: int

    def step(
        self, newest: Float[Tensor, "b 1 p"], state: list[Tensor] | None
    ) -> tuple[Float[Tensor, "b 1 w"], list[Tensor]]:
        """The code of one frame more, and what to remember of it.

        Args:
            newest: the frame.
            state: of the frame before; None for the first, which then fills the window.
        """
        window = _pushed(None if state is None else state[0], newest, self.window)
        return self(window), [window]


class _Convolutions(_Encoder):
    """Dilated convolutions of three frames each, without padding (Fig. 3)."""

    def __init__(self, numbers: int, config: HpofConfig):
        super().__init__()
        self.window = config.window
        self.first = _Layer(3 * numbers, config)
        self.near = nn.ModuleList(_Layer(3 * config.width, config) for _ in range(config.blocks))
        self.mix = nn.ModuleList(_Layer(config.width, config) for _ in range(config.blocks))

    def forward(self, numbers: Float[Tensor, "b t p"]) -> Float[Tensor, "b n w"]:
        codes = self.first(_triples(numbers, 1).flatten(2))
        for block in range(len(self.near)):
            codes = self._deeper(block, codes)
        return codes

    def step(
        self, newest: Float[Tensor, "b 1 p"], state: list[Tensor] | None
    ) -> tuple[Float[Tensor, "b 1 w"], list[Tensor]]:
        """As in `_Encoder`; what is remembered is what each convolution looks back at."""
        kept = [_pushed(None if state is None else state[0], newest, 3)]
        codes = self.first(_triples(kept[0], 1).flatten(2))
        for block in range(len(self.near)):
            back = None if state is None else state[block + 1]
            kept.append(_pushed(back, codes, 2 * 3 ** (block + 1) + 1))
            codes = self._deeper(block, kept[-1])
        return codes, kept

    def _deeper(self, block: int, codes: Float[Tensor, "b t w"]) -> Float[Tensor, "b n w"]:
        """One block; the residual loses its first frames, as the convolution does."""
        three = _triples(codes, 3 ** (block + 1))
        return three[:, :, 2] + self.mix[block](self.near[block](three.flatten(2)))


class _Layer(nn.Module):
    """A convolution whose frames are brought side by side, batch norm, ReLU, dropout."""

    def __init__(self, inputs: int, config: HpofConfig):
        super().__init__()
        self.linear = nn.Linear(inputs, config.width, bias=False)
        self.norm = nn.BatchNorm1d(config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Float[Tensor, "b t c"]) -> Float[Tensor, "b t w"]:
        normed = self.norm(self.linear(x).flatten(0, 1)).unflatten(0, x.shape[:2])
        return self.dropout(normed.relu())


def _triples(x: Float[Tensor, "b t c"], dilation: int) -> Float[Tensor, "b n 3 c"]:
    """Each frame behind the two that are ``dilation`` and twice as much before it."""
    return torch.stack([x[:, : -2 * dilation], x[:, dilation:-dilation], x[:, 2 * dilation :]], 2)


class _Gru(_Encoder):
    """A GRU that looks at no later frame. It begins a window early and remembers all since."""

    def __init__(self, numbers: int, config: HpofConfig):
        super().__init__()
        self.window = config.window
        between = config.dropout if config.layers > 1 else 0.0
        self.gru = nn.GRU(numbers, config.width, config.layers, batch_first=True, dropout=between)

    def forward(self, numbers: Float[Tensor, "b t p"]) -> Float[Tensor, "b n w"]:
        return self.gru(numbers)[0][:, self.window - 1 :]

    def step(
        self, newest: Float[Tensor, "b 1 p"], state: list[Tensor] | None
    ) -> tuple[Float[Tensor, "b 1 w"], list[Tensor]]:
        """As in `_Encoder`; what is remembered is the GRU's own state."""
        frames = newest.expand(-1, self.window, -1) if state is None else newest
        codes, remembered = self.gru(frames, None if state is None else state[0])
        return codes[:, -1:], [remembered]


class _Transformer(_Encoder):
    """Layers in which each frame attends to itself and some before it, together one window.

    Where a frame stands is told by how far it is from the one that looks at it: no place in a
    video is special.
    """

    def __init__(self, numbers: int, config: HpofConfig):
        super().__init__()
        self.window = config.window
        self.read = nn.Linear(numbers, config.width)
        reach = 1 + (config.window - 1) // config.layers
        self.layers = nn.ModuleList(_Attending(config, reach) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, numbers: Float[Tensor, "b t p"]) -> Float[Tensor, "b n w"]:
        past, codes = self.window - 1, []
        for start in range(0, numbers.shape[1] - past, PART):
            part = self.read(numbers[:, start : start + past + PART])
            for layer in self.layers:
                part = layer(part)
            codes.append(self.norm(part[:, past:]))
        return torch.cat(codes, 1)


class _Attending(nn.Module):
    """A layer of the transformer, norms first."""

    def __init__(self, config: HpofConfig, reach: int):
        super().__init__()
        width = config.width
        self.heads, self.reach = config.heads, reach
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.ask = nn.Linear(width, 3 * width)
        self.answer = nn.Linear(width, width)
        self.nearness = nn.Parameter(torch.zeros(config.heads, reach))
        self.feed = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Float[Tensor, "b t w"]) -> Float[Tensor, "b t w"]:
        asked = self.ask(self.norms[0](x)).unflatten(-1, (3, self.heads, -1))
        query, key, value = asked.movedim(2, 0).transpose(2, 3)
        found = scaled_dot_product_attention(query, key, value, self._bias(x.shape[1]))
        x = x + self.dropout(self.answer(found.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.feed(self.norms[1](x)))

    def _bias(self, frames: int) -> Float[Tensor, "h t t"]:
        """Added to the attention: by distance within reach, minus infinity elsewhere."""
        place = torch.arange(frames, device=self.nearness.device)
        apart = place[:, None] - place
        seen = (apart >= 0) & (apart < self.reach)
        bias = self.nearness[:, apart.clamp(0, self.reach - 1)]
        return bias.masked_fill(~seen, -torch.inf)


def _encoder(config: HpofConfig, numbers: int) -> _Encoder:
    kinds = {"convolution": _Convolutions, "gru": _Gru, "transformer": _Transformer}
    return kinds[config.smoother](numbers, config)


def _pushed(
    window: Float[Tensor, "b s p"] | None, newest: Float[Tensor, "b 1 p"], frames: int
) -> Float[Tensor, "b s p"]:
    """A window of so many frames with one frame more; the oldest leaves. The first fills it."""
    if window is None:
        return newest.expand(-1, frames, -1)
    return torch.cat([window[:, 1:], newest], 1)
