"""Motion HMR: crops, flow and keypoints along a video -> bodies (Doersch and Zisserman 2019).

A convolutional network sees each pair of neighbouring frames alone, a bidirectional LSTM carries
what it found over time, and two of HMR's iterative regressors say the body in the pair's first
frame and in its second.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flowhmr.cameras import pixel_centres_px
from flowhmr.networks.backbone import Backbone
from flowhmr.networks.hmr import HmrConfig, MeanParams, Regressor, bodies_of, regress, start_of
from flowhmr.records import Estimate, MotionInput

UNIT_PX = 224
"""Width of the paper's crops, in which its two lengths below are pixels."""
SIGMA_PX = 10.0
"""Standard deviation of a keypoint's heatmap."""
FLOW_PX = 20.0
"""Flow of one in the input."""
HEATMAPS = 12


@dataclass(frozen=True)
class MotionHmrConfig:
    """Architecture, and what it looks at. The paper's best model is the default."""

    hmr: HmrConfig = field(default_factory=lambda: HmrConfig(activation=True))
    """Backbone, and the two regressors; ``maps`` is not for this network."""
    rgb: bool = False
    """Look at the picture."""
    flow: bool = True
    """Look at the flow to the next frame."""
    keypoints: bool = True
    """Look at heatmaps of 2D keypoints."""
    lstm: int = 1024
    """Units of the LSTM in each direction."""
    head: int = 1024
    """Units between the LSTM and each regressor."""

    def __post_init__(self) -> None:
        if not (self.rgb or self.flow or self.keypoints):
            raise ValueError(
                "Motion HMR: got a network that looks at nothing; expected at least one of rgb, "
                "flow and keypoints"
            )
        if self.hmr.parts.layers:
            raise ValueError(
                "Motion HMR: got an HMR with part attention; expected one without, whose regressor "
                "it has twice; set hmr.parts.layers to 0"
            )
        if self.hmr.maps:
            raise ValueError(
                "Motion HMR: got an HMR with dense maps; expected one without; set hmr.maps to "
                "False"
            )

    @property
    def channels(self) -> int:
        """Of the input: RGB 3, flow 3, heatmaps 12, and the flag of a lost person."""
        return 3 * self.rgb + 3 * self.flow + HEATMAPS * self.keypoints + 1


@dataclass(frozen=True, eq=False)
class MotionOutput:
    """What the network says of pairs of frames ``[b n]``."""

    now: Estimate
    """Bodies of the first frames, cameras of the pairs' crops."""
    after: Estimate
    """Of the second frames, in the same crops."""
    feature: Float[Tensor, "b n f"]
    """What the convolutional network made of each pair: before the LSTM."""


class MotionHmr(nn.Module):
    """Bodies of one person in consecutive frames.

    Args:
        config: architecture.
        mean: where the regressors start; kept with the weights.

    Raises:
        ValueError: no such backbone, or one that does not begin with a convolution of RGB.
    """

    start: Tensor

    def __init__(self, config: MotionHmrConfig, mean: MeanParams):
        super().__init__()
        self.config, self.body_id, self.num_betas = config, mean.body_id, len(mean.betas)
        self.backbone = Backbone(config.hmr.backbone)
        widen(self.backbone, config.channels, keep=config.rgb or config.flow)
        self.lstm = nn.LSTM(
            self.backbone.out_features, config.lstm, batch_first=True, bidirectional=True
        )
        self.register_buffer("start", start_of(mean))
        self.now, self.after = (_Head(config, len(self.start)) for _ in range(2))

    @property
    def size_px(self) -> int:
        """Width and height of the crops that it takes."""
        return self.config.hmr.backbone.size_px

    def forward(self, seen: MotionInput) -> MotionOutput:
        """Bodies in both frames of each pair.

        Args:
            seen: clips ``[b n]`` of `size_px`.

        Raises:
            ValueError: without a map that the network looks at.
        """
        maps = self.maps(seen)
        batch, pairs = maps.shape[:2]
        feature, _ = self.backbone.features(maps.flatten(0, 1))
        feature = feature.unflatten(0, (batch, pairs))
        # In half precision what is remembered over a clip drifts; it takes no time to speak of.
        with torch.autocast(feature.device.type, enabled=False):
            recalled, _ = self.lstm(feature.float())
        now, after = (
            bodies_of(head(recalled, self.start), self.body_id, self.config.hmr.shift)
            for head in (self.now, self.after)
        )
        return MotionOutput(now, after, feature.float())

    def maps(self, seen: MotionInput) -> Float[Tensor, "b n c s s"]:
        """What the first convolution gets: picture, flow, heatmaps, flag; zeros where lost."""
        config, size = self.config, self.size_px
        kept = 1 - seen.occluded
        parts = []
        # Channels come last in memory, as the convolutions want them: these maps are the largest
        # tensors of a step, and each copy of them costs as much as a layer.
        if config.rgb:
            frames = _asked("frames", seen.frames)
            rgb = self.backbone.normalised(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
            parts.append(rgb.movedim(2, -1) * kept[..., None, None, None])
        if config.flow:
            unit = kept * (UNIT_PX / size / FLOW_PX)
            flow = _asked("flow", seen.flow_px).float() * unit[..., None, None, None]
            across, down = flow.split(1, 2)
            # norm() over two of these takes eighty times as long.
            parts += [each.movedim(2, -1) for each in (flow, torch.hypot(across, down))]
        if config.keypoints:
            x_px, y_px, shown = seen.keypoints_px.unbind(-1)
            shown = shown * kept[..., None]
            parts.append(_heatmaps_last(torch.stack([x_px, y_px, shown], -1), size))
        lost = seen.occluded[..., None, None, None]
        parts.append(lost.expand(-1, -1, size, size, 1))
        return torch.cat(parts, -1).movedim(-1, 2)


def heatmaps(
    keypoints_px: Float[Tensor, "*b k 3"], size_px: int
) -> Float[Tensor, "*b k {size_px} {size_px}"]:
    """1 at each reported keypoint, falling off as a Gaussian; zeros for those that are not.

    Args:
        keypoints_px: x, y and 1 where reported, else 0.
        size_px: width and height of the crop.
    """
    return _heatmaps_last(keypoints_px, size_px).movedim(-1, -3)


def _heatmaps_last(
    keypoints_px: Float[Tensor, "*b k 3"], size_px: int
) -> Float[Tensor, "*b {size_px} {size_px} k"]:
    centres_px = pixel_centres_px(1, size_px)[0, :, 0].to(keypoints_px)
    unit = size_px * (SIGMA_PX / UNIT_PX)
    # A Gaussian of two axes is the product of two of one.
    apart = (centres_px[:, None, None] - keypoints_px[..., None, :, :2]) / unit
    across, down = (-0.5 * apart.square()).exp().unbind(-1)
    return (down * keypoints_px[..., None, :, 2])[..., :, None, :] * across[..., None, :, :]


def widen(backbone: Backbone, channels: int, keep: bool) -> None:
    """Let a backbone take so many channels instead of three.

    Args:
        backbone: changed in place; call its ``features``.
        channels: of the input.
        keep: the first three channels get the weights of RGB, as in the paper; those of the others
            are random.

    Raises:
        ValueError: the backbone does not begin with a convolution of RGB.
    """
    name = backbone.config.name
    found = next(
        ((n, m) for n, m in backbone.net.named_modules() if isinstance(m, nn.Conv2d)), None
    )
    if found is None or found[1].in_channels != 3:
        raise ValueError(
            f"backbone {name}: got a first layer that is no convolution of RGB; expected one, so "
            "that it can take other maps; choose a ResNet, HRNet, EfficientNet or MobileNet"
        )
    layer = found[1]
    out, _, *kernel = layer.weight.shape
    weight = torch.empty(out, channels, *kernel)
    nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")
    if keep:
        weight[:, :3] = layer.weight.detach()
    layer.in_channels = channels
    layer.weight = nn.Parameter(weight.to(memory_format=torch.channels_last))


class _Head(nn.Module):
    """From what is recalled of a clip to the body of one frame of each pair."""

    def __init__(self, config: MotionHmrConfig, parameters: int):
        super().__init__()
        self.rounds = config.hmr.rounds
        self.layer = nn.Sequential(nn.Linear(2 * config.lstm, config.head), nn.ReLU())
        self.regressor = Regressor(config.head, parameters, config.hmr)

    def forward(
        self, recalled: Float[Tensor, "b n f"], start: Float[Tensor, "p"]
    ) -> Float[Tensor, "b n p"]:
        return regress(self.regressor, self.layer(recalled), start, self.rounds)


def _asked(name: str, maps: Tensor | None) -> Tensor:
    if maps is None:
        raise ValueError(
            f"Motion HMR: got clips without {name}; expected them, since the network looks at "
            "them; cut clips with the maps that its config names"
        )
    return maps
