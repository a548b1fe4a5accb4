"""What networks over the features of a video have in common, and the control among them.

Such a network sees what a single-frame network made of each frame, its static features
(`Hmr.features`), never a picture. Its own file is one architecture; it is kept and used together
with the network whose features it was trained on (`TemporalHmr`).
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from flowhmr.networks.hmr import Hmr, Regressor, Shift, bodies_of, regress
from flowhmr.records import Estimate


@dataclass(frozen=True, eq=False)
class TemporalOutput:
    """What is said of a batch of clips in training; all of it is supervised."""

    estimate: Estimate
    """Bodies and cameras ``[b n]``."""
    frames: tuple[int, ...]
    """Of which frame of the clip each of the ``n`` is. A frame may come several times, or never."""


class BodyHead(nn.Module):
    """HMR's iterative regressor, for features that lie where its own do.

    Args:
        hmr: gives its regressor as it is now, to be trained further; it is copied.

    Raises:
        ValueError: a network with part attention in the place of that regressor.
    """

    start: Tensor
    shift: Shift

    def __init__(self, hmr: Hmr):
        super().__init__()
        if not isinstance(hmr.regressor, Regressor):
            raise ValueError(
                "network over features: got those of a network with part attention (PARE); "
                "expected those of an HMR, whose regressor it goes on from; start from a SPIN, "
                "from PARE's HMR or from the shipped network, or refine this one as it is"
            )
        self.body_id, self.rounds, self.shift = hmr.body_id, hmr.config.rounds, hmr.config.shift
        self.regressor = copy.deepcopy(hmr.regressor)
        self.register_buffer("start", hmr.start.clone())

    def forward(self, features: Float[Tensor, "*b f"]) -> Estimate:
        """Bodies and cameras."""
        return bodies_of(self.numbers(features), self.body_id, self.shift)

    def numbers(self, features: Float[Tensor, "*b f"]) -> Float[Tensor, "*b p"]:
        """What the regressor says, before it is made bodies: pose in 6D, betas, camera."""
        return regress(self.regressor, features, self.start, self.rounds)


class TemporalNetwork(nn.Module, ABC):
    """From the features of consecutive frames of one person to bodies.

    Attributes:
        frames: length of the clips that it is trained on.
        head: the regressor, first that of the single-frame network.
        beyond: how many frames its clips may reach past the first and past the last frame of a
            video; there the first and the last frame are repeated.
    """

    frames: int
    beyond: tuple[int, int]
    head: BodyHead

    @abstractmethod
    def forward(self, features: Float[Tensor, "b t f"]) -> TemporalOutput:
        """Bodies of clips of `frames`, for training."""

    @abstractmethod
    def sequence(self, features: Float[Tensor, "t f"]) -> Estimate:
        """Bodies ``[t]`` of a whole video of any length, one frame or more, in order."""

    def held(self) -> Iterable[nn.Parameter]:
        """Weights that training leaves as they are; none by default."""
        return ()


class OverBodies(TemporalNetwork):
    """A network over what the single-frame network says of each frame, whose regressor is held.

    Args:
        hmr: whose features it takes, and whose regressor it uses; copied.
    """

    def __init__(self, hmr: Hmr):
        super().__init__()
        self.head = BodyHead(hmr)

    def train(self, mode: bool = True) -> "OverBodies":
        """As of any module; the regressor is held, so its dropout stays off."""
        super().train(mode)
        self.head.eval()
        return self

    def held(self) -> Iterable[nn.Parameter]:
        """The regressor's weights."""
        return self.head.parameters()

    def numbers(self, features: Float[Tensor, "*b f"]) -> Float[Tensor, "*b p"]:
        """What the single-frame network says of each frame: pose in 6D, betas, camera."""
        with torch.no_grad():
            return self.head.numbers(features).float()


@runtime_checkable
class TemporalConfig(Protocol):
    """The frozen config of a network over features."""

    def build(self, hmr: Hmr) -> TemporalNetwork:
        """The network, for the features of ``hmr``; its regressor starts as that of ``hmr``."""
        ...


@dataclass(frozen=True)
class FramewiseConfig:
    """The control: no temporal part, only HMR's own regressor, trained on the same clips."""

    frames: int = 16
    """Length of the clips."""

    def build(self, hmr: Hmr) -> "Framewise":
        """The network."""
        return Framewise(self, hmr)


class Framewise(TemporalNetwork):
    """Each frame by itself.

    Args:
        config: architecture.
        hmr: whose features it takes.
    """

    def __init__(self, config: FramewiseConfig, hmr: Hmr):
        super().__init__()
        self.config, self.frames, self.beyond = config, config.frames, (0, 0)
        self.head = BodyHead(hmr)

    def forward(self, features: Float[Tensor, "b t f"]) -> TemporalOutput:
        """Bodies of all frames."""
        return TemporalOutput(self.head(features), tuple(range(features.shape[1])))

    def sequence(self, features: Float[Tensor, "t f"]) -> Estimate:
        """Bodies of all frames."""
        return self.head(features)


class TemporalHmr(nn.Module):
    """A single-frame network and a network over its features: from crops to bodies.

    Args:
        hmr: gives the features; used as it is, not copied.
        config: architecture of the other, and how it is built.
    """

    def __init__(self, hmr: Hmr, config: TemporalConfig):
        super().__init__()
        self.hmr, self.config = hmr, config
        self.temporal = config.build(hmr)

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

    def sequence(
        self, frames: UInt8[Tensor, "t 3 s s"] | Float[Tensor, "t 3 s s"], batch: int = 64
    ) -> Estimate:
        """Bodies of one person in the frames of a video, in order and without gaps.

        Args:
            frames: RGB crops, as bytes or as floats in [0, 1], on the network's device.
            batch: bounds the memory.

        Raises:
            ValueError: no frames.
        """
        if len(frames) == 0:
            raise ValueError("sequence: got no frames; expected at least one")
        features = torch.cat([self.hmr.features(part) for part in frames.split(batch)])
        return self.temporal.sequence(features)


def windows_around(total: int, before: int, after: int) -> Int[Tensor, "t w"]:
    """For each frame of a video the frames around it; beyond the ends the last one is repeated.

    Args:
        total: frames of the video.
        before, after: how many frames of a window are before and after its own frame.
    """
    offsets = torch.arange(-before, after + 1)
    return (torch.arange(total)[:, None] + offsets).clamp(0, total - 1)
