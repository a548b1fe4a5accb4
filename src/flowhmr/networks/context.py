"""Temporal context: earlier frames' estimates modulate the single-frame network (of4hmr, Eq. 5)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from flowhmr.geometry import axis_angle_from_rotmat, rot6d_from_rotmat
from flowhmr.networks.hmr import JOINTS, Encoding, Film, Hmr, HmrOutput
from flowhmr.records import Estimate, join_estimates


@dataclass(frozen=True)
class ContextConfig:
    """Architecture of the context network (of4hmr, appendix E)."""

    length: int = 8
    """Earlier frames that are looked at; the paper has 1, 2, 4 and 8."""
    filters: int = 16
    """Mixtures of these frames that the 1x1 convolution makes."""
    hidden: int = 128
    """Width of the layer after it."""
    slope: float = 0.2
    """Of the leaky ReLU below zero."""
    initial_std: float = 0.01
    """Spread of all weights and biases at the start. Small: the modulated network must begin as the
    single-frame one."""


@torch.no_grad()
def context_vectors(estimate: Estimate) -> Float[Tensor, "*b c"]:
    """What the context network is told of a frame: pose, betas, camera.

    The pose is axis-angle as in the paper, but for joint 0, which is 6D (SPIN's layout): turned
    into camera axes it is close to half a turn, where axis-angle jumps from frame to frame. With
    10 betas ``c`` is 88 (the paper's 85 and 3 more). They carry no gradient: the context is data.
    """
    root, rest = estimate.params.rotmats.float().split([1, JOINTS - 1], -3)
    pose = axis_angle_from_rotmat(rest).flatten(-2)
    facing = rot6d_from_rotmat(root, "spin").flatten(-2)
    betas, camera = estimate.params.betas.float(), estimate.camera.params.float()
    return torch.cat([facing, pose, betas, camera], -1)


class ContextNet(nn.Module):
    """Estimates of earlier frames -> modulation of the backbone's vector.

    Args:
        config: architecture.
        features: length of the backbone's vector.
        num_betas: coefficients of the body's shape.

    Raises:
        ValueError: a context of no frames.
    """

    def __init__(self, config: ContextConfig, features: int, num_betas: int):
        super().__init__()
        if config.length < 1:
            raise ValueError(
                f"context length: got {config.length}; expected 1 or more; without context use "
                "Hmr alone"
            )
        self.config = config
        self.numbers = 6 + 3 * (JOINTS - 1) + num_betas + 3
        self.mix = nn.Conv1d(config.length, config.filters, 1)
        self.join = nn.Linear(config.filters * self.numbers, config.hidden)
        self.gamma = nn.Linear(config.hidden, features, bias=False)
        self.beta = nn.Linear(config.hidden, features, bias=False)
        self.bend = nn.LeakyReLU(config.slope)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=config.initial_std)

    def forward(self, before: Float[Tensor, "b n c"], count: Int[Tensor, "b"]) -> Film:
        """Modulation for frames that follow others.

        Args:
            before: `context_vectors` of the frames before, oldest first: the last slot is the
                frame just before. A frame with fewer than ``n`` fills the last slots.
            count: how many slots are filled, 0 to ``n``. What stands in the others does not
                matter; with none filled the modulation changes nothing.

        Raises:
            ValueError: slots or numbers that are not those of this network.
        """
        expected = (self.config.length, self.numbers)
        if before.shape[1:] != expected:
            raise ValueError(
                f"context: got {tuple(before.shape[1:])} slots and numbers a slot; expected "
                f"{expected}; give one slot for each of the frames before, filled or not"
            )
        # In half precision a gamma this close to 1 would be 1.
        with torch.autocast(before.device.type, enabled=False):
            slots = torch.arange(self.config.length, device=before.device)
            filled = slots >= self.config.length - count[:, None]
            known = torch.where(filled[..., None], before.float(), 0.0)
            hidden = self.bend(self.join(self.bend(self.mix(known)).flatten(1)))
            some = (count > 0)[:, None]
            return Film(
                torch.where(some, 1 + self.gamma(hidden), 1.0),
                torch.where(some, self.beta(hidden), 0.0),
            )


class ContextHmr(nn.Module):
    """A single-frame network that is told what it saw in the frames before.

    Every frame is first estimated alone; then once more, with its features modulated according to
    the first estimates of the frames before it. A frame therefore depends on at most ``length``
    earlier frames and on none after it, and all frames of a clip are computed side by side.

    Args:
        config: architecture of the context.
        hmr: the single-frame network, used as it is, not copied.
    """

    def __init__(self, config: ContextConfig, hmr: Hmr):
        super().__init__()
        self.config = config
        self.hmr = hmr
        self.context = ContextNet(config, hmr.modulated, hmr.num_betas)

    @property
    def body_id(self) -> str:
        """The body it estimates."""
        return self.hmr.body_id

    @property
    def size_px(self) -> int:
        """Width and height of the crops that it takes."""
        return self.hmr.size_px

    @property
    def num_betas(self) -> int:
        """Coefficients of the body's shape."""
        return self.hmr.num_betas

    def forward(self, frames: UInt8[Tensor, "b 3 s s"] | Float[Tensor, "b 3 s s"]) -> HmrOutput:
        """Bodies in single crops, without context: `Hmr.forward`."""
        return self.hmr(frames)

    def conditioned(
        self, encoding: Encoding, before: Float[Tensor, "b n c"], count: Int[Tensor, "b"]
    ) -> HmrOutput:
        """Bodies in frames that follow others; ``before`` and ``count`` as in `ContextNet`.

        Args:
            encoding: ``hmr.encode`` of the frames; ``hmr.decode`` of it is the estimate alone.
            before: `context_vectors` of the estimates alone of the frames before.
            count: how many of them there are.
        """
        return self.hmr.decode(encoding, self.context(before, count))

    def sequence(
        self,
        frames: UInt8[Tensor, "t 3 s s"] | Float[Tensor, "t 3 s s"],
        batch: int = 64,
    ) -> Estimate:
        """Bodies of one person in the frames of a video, in order and without gaps.

        The first frame has no context, the second one frame of it, and so on. ``batch`` frames go
        through the backbone at a time; in evaluation mode it changes no result.

        Args:
            frames: RGB crops, as bytes or as floats in [0, 1], on the network's device.
            batch: bounds the memory.

        Raises:
            ValueError: no frames.
        """
        if len(frames) == 0:
            raise ValueError("sequence: got no frames; expected at least one")
        length = self.config.length
        past = torch.zeros(length, self.context.numbers, device=frames.device)
        parts: list[Estimate] = []
        for start in range(0, len(frames), batch):
            encoding = self.hmr.encode(frames[start : start + batch])
            alone = context_vectors(self.hmr.decode(encoding).estimate)
            line = torch.cat([past, alone])
            before = line.unfold(0, length, 1)[:-1].mT
            count = torch.arange(start, start + len(alone), device=frames.device).clamp(max=length)
            parts.append(self.conditioned(encoding, before, count).estimate)
            past = line[-length:]
        return join_estimates(parts)
