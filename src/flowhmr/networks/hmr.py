"""HMR: one image -> SMPL pose, shape and weak-perspective camera (Kanazawa et al. 2018).

The iterative regressor of HMR in the form of SPIN (Kolotouros et al. 2019): three rounds of
residual updates from mean parameters, 6D rotations. Or PARE's part attention in its place, see
`flowhmr.networks.parts`.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from flowhmr.body import BodyParams
from flowhmr.cameras import WeakCamera
from flowhmr.geometry import rot6d_from_rotmat, rotmat_from_rot6d
from flowhmr.networks.backbone import Backbone, BackboneConfig
from flowhmr.networks.parts import PartAttention, PartReadout, PartsConfig
from flowhmr.records import Estimate

INITIAL_CAMERA = (0.9, 0.0, 0.0)
JOINTS = 24
SURFACE_CELLS = 6
Shift = Literal["crop", "metres"]


@dataclass(frozen=True)
class HmrConfig:
    """Architecture of the single-frame network."""

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    """Image features."""
    hidden: int = 1024
    """Width of the regressor's two layers."""
    rounds: int = 3
    """Residual updates from the mean parameters."""
    dropout: float = 0.5
    """After each of the two layers."""
    activation: bool = False
    """ReLU between the two layers: the original HMR has it, SPIN's code and its heirs do not."""
    maps: bool = False
    """Predict, from the stride-16 map, 2D heatmaps of the joints and what part of the surface is
    seen where; the heatmaps' soft-argmax and a coarse surface map go to the regressor. With dense
    targets a network without pre-trained weights learns from far fewer pictures. Not part of the
    published networks."""
    shift: Shift = "crop"
    """What the camera's (tx, ty) are: shares of the crop's half-width, ``u = s X + tx``; or metres,
    ``u = s (X + tx)``, as SPIN and its heirs have them."""
    parts: PartsConfig = field(default_factory=PartsConfig)
    """PARE's part attention in the place of HMR's regressor, if it has layers: over the backbone's
    map for heatmaps, and without ``hidden``, ``rounds``, ``dropout``, ``activation``."""

    def __post_init__(self) -> None:
        if self.maps and self.parts.layers:
            raise ValueError(
                "HMR: got dense maps and part attention; expected one of them at most; set maps to "
                "False or parts.layers to 0"
            )


@dataclass(frozen=True, eq=False)
class MeanParams:
    """Where the regressor starts."""

    rotmats: Float[Tensor, "24 3 3"]
    """Mean pose; joint 0 in camera axes."""
    betas: Float[Tensor, "k"]
    """Mean shape."""
    body_id: str
    """The body they belong to."""


@dataclass(frozen=True, eq=False)
class HmrOutput:
    """What the network says of a batch of crops."""

    estimate: Estimate
    """Bodies and cameras."""
    heatmap_logits: Float[Tensor, "b 24 h w"] | None
    """Un-normalised heatmaps of the joints over the crop, if the network has them."""
    surface: Float[Tensor, "b 4 h w"] | None
    """Rest-pose point (x, y, z), each axis scaled to 0..1 over the body's extent, and the logit
    of there being a body; for `Labels.surface`."""


@dataclass(frozen=True, eq=False)
class Film:
    """Feature-wise affine modulation: ``gamma * feature + beta`` (Perez et al. 2018)."""

    gamma: Float[Tensor, "b f"]
    """Factor of each of the backbone's features; 1 changes nothing."""
    beta: Float[Tensor, "b f"]
    """Added to each; 0 changes nothing."""


@dataclass(frozen=True, eq=False)
class Encoding:
    """What `Hmr.encode` gives and `Hmr.decode` takes."""

    feature: Float[Tensor, "b f"]
    """The backbone's vector, or what is seen at the parts: what a `Film` modulates."""
    read: Float[Tensor, "b m"] | None
    """What the regressor is told of the maps, if the network has them; not modulated."""
    heatmap_logits: Float[Tensor, "b 24 h w"] | None
    """As in `HmrOutput`."""
    surface: Float[Tensor, "b 4 h w"] | None
    """As in `HmrOutput`."""


class Hmr(nn.Module):
    """Single-frame regressor of SMPL parameters.

    Args:
        config: architecture.
        mean: start of the regression; kept with the weights.
    """

    start: Tensor

    def __init__(self, config: HmrConfig, mean: MeanParams):
        super().__init__()
        self.config = config
        self.body_id = mean.body_id
        self.backbone = Backbone(config.backbone)
        self.num_betas = len(mean.betas)
        self.register_buffer("start", start_of(mean))
        self.map_head = MapHead(self.backbone) if config.maps else None
        self.parts = None
        if config.parts.layers:
            self.parts = PartAttention(config.parts, self.backbone.map_channels)
        extra = 3 * JOINTS + 4 * SURFACE_CELLS**2 if config.maps else 0
        self.modulated = (self.parts or self.backbone).out_features
        """Length of what a `Film` modulates."""
        self.feature_size = self.modulated + extra
        if self.parts is None:
            self.regressor = Regressor(self.feature_size, len(self.start), config)
        else:
            self.regressor = PartReadout(config.parts, self.num_betas)

    @property
    def size_px(self) -> int:
        """Width and height of the crops that it takes."""
        return self.config.backbone.size_px

    def forward(
        self, frames: UInt8[Tensor, "b 3 s s"] | Float[Tensor, "b 3 s s"], film: Film | None = None
    ) -> HmrOutput:
        """Bodies in RGB crops, given as bytes or as floats in [0, 1].

        Without ``film`` the backbone's vector is used as it is.
        """
        return self.decode(self.encode(frames), film)

    def encode(self, frames: UInt8[Tensor, "b 3 s s"] | Float[Tensor, "b 3 s s"]) -> Encoding:
        """The part of `forward` that costs: done once, it serves several calls of `decode`."""
        feature, fine_map = self.backbone(frames)
        if self.parts is not None:
            feature = self.parts(fine_map)
        if self.map_head is None:
            return Encoding(feature, None, None, None)
        logits, surface = self.map_head(fine_map).split([JOINTS, 4], 1)
        points, sharpness = soft_argmax(logits)
        seen = torch.cat([surface[:, :3], torch.ones_like(surface[:, 3:])], 1)
        seen = adaptive_avg_pool2d(seen * surface[:, 3:].sigmoid(), SURFACE_CELLS)
        read = torch.cat([points.flatten(1), sharpness, seen.flatten(1)], -1)
        return Encoding(feature, read, logits, surface)

    def decode(self, encoding: Encoding, film: Film | None = None) -> HmrOutput:
        """Bodies from what `encode` gave, its vector modulated by ``film`` if there is one."""
        feature = encoding.feature
        if film is not None:
            feature = film.gamma * feature + film.beta
        if encoding.read is not None:
            feature = torch.cat([feature, encoding.read], -1)
        if isinstance(self.regressor, PartReadout):
            state = self.start + self.regressor(feature)
        else:
            state = regress(self.regressor, feature, self.start, self.config.rounds)
        bodies = bodies_of(state, self.body_id, self.config.shift)
        return HmrOutput(bodies, encoding.heatmap_logits, encoding.surface)

    def features(
        self, frames: UInt8[Tensor, "b 3 s s"] | Float[Tensor, "b 3 s s"]
    ) -> Float[Tensor, "b f"]:
        """Static features: all that the regressor is told of each crop, `feature_size` numbers."""
        encoding = self.encode(frames)
        parts = [encoding.feature] if encoding.read is None else [encoding.feature, encoding.read]
        return torch.cat(parts, -1)


def start_of(mean: MeanParams) -> Float[Tensor, "p"]:
    """What a regressor starts from: pose in 6D, betas, camera."""
    pose = rot6d_from_rotmat(mean.rotmats, "spin").flatten()
    return torch.cat([pose, mean.betas, torch.tensor(INITIAL_CAMERA)])


def bodies_of(state: Float[Tensor, "*b p"], body_id: str, shift: Shift = "crop") -> Estimate:
    """The bodies and cameras that a regressor's numbers stand for; ``shift`` as in `HmrConfig`."""
    # Rotations in half precision would be off by millimetres at the hands.
    with torch.autocast(state.device.type, enabled=False):
        pose, betas, camera = state.float().split(
            [6 * JOINTS, state.shape[-1] - 6 * JOINTS - 3, 3], -1
        )
        rotmats = rotmat_from_rot6d(pose.unflatten(-1, (JOINTS, 6)), "spin")
        if shift == "metres":
            scale = camera[..., :1]
            camera = torch.cat([scale, scale * camera[..., 1:]], -1)
    return Estimate(BodyParams(rotmats, betas, body_id), WeakCamera(camera))


def regress(
    regressor: "Regressor", feature: Float[Tensor, "*b f"], start: Float[Tensor, "p"], rounds: int
) -> Float[Tensor, "*b p"]:
    """Residual updates from ``start``; `bodies_of` says what the numbers are."""
    state = start.expand(*feature.shape[:-1], -1)
    for _ in range(rounds):
        state = state + regressor(torch.cat([feature, state], -1))
    return state


class MapHead(nn.Module):
    """Joint heatmaps and surface map at stride 4 from the backbone's map of stride 16."""

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.up = max(1, backbone.map_stride // 4)
        self.mix = nn.Conv2d(backbone.map_channels, 128, 1)
        self.out = nn.Conv2d(128, (JOINTS + 4) * self.up**2, 3, padding=1)

    def forward(self, fine_map: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 28 h2 w2"]:
        """24 heatmaps (logits), then the surface."""
        return nn.functional.pixel_shuffle(self.out(torch.relu(self.mix(fine_map))), self.up)


def soft_argmax(
    logits: Float[Tensor, "b k h w"],
) -> tuple[Float[Tensor, "b k 2"], Float[Tensor, "b k"]]:
    """Mean position of each heatmap in [-1, 1] (crop edges), and the mass of its largest cell."""
    height, width = logits.shape[-2:]
    mass = logits.float().flatten(2).softmax(-1)
    x = (torch.arange(width, device=logits.device) + 0.5) * (2 / width) - 1
    y = (torch.arange(height, device=logits.device) + 0.5) * (2 / height) - 1
    cells = mass.unflatten(-1, (height, width))
    points = torch.stack([(cells.sum(2) * x).sum(-1), (cells.sum(3) * y).sum(-1)], -1)
    return points, mass.amax(-1)


class Regressor(nn.Module):
    """One residual update of (pose, shape, camera)."""

    def __init__(self, features: int, parameters: int, config: HmrConfig):
        super().__init__()
        between = nn.ReLU() if config.activation else nn.Identity()
        self.layers = nn.Sequential(
            nn.Linear(features + parameters, config.hidden),
            between,
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, config.hidden),
            between,
            nn.Dropout(config.dropout),
        )
        self.pose = nn.Linear(config.hidden, 6 * JOINTS)
        self.shape = nn.Linear(config.hidden, parameters - 6 * JOINTS - 3)
        self.camera = nn.Linear(config.hidden, 3)
        for head in (self.pose, self.shape, self.camera):
            nn.init.xavier_uniform_(head.weight, gain=0.01)
            nn.init.zeros_(head.bias)

    def forward(self, x: Float[Tensor, "*b f"]) -> Float[Tensor, "*b p"]:
        hidden = self.layers(x)
        return torch.cat([self.pose(hidden), self.shape(hidden), self.camera(hidden)], -1)
