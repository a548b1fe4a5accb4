"""Lift: keypoint tracks and the flow around the limbs -> bodies along a video.

Motion HMR (Doersch and Zisserman 2019) for a laptop: its inputs, 2D keypoints and optical flow,
cross from synthetic people to real ones; here they are read at points instead of being drawn as
images, and dilated convolutions over time take the place of the LSTM.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu, pad

from flowhmr.body import BodyParams
from flowhmr.cameras import WeakCamera
from flowhmr.geometry import rot6d_from_rotmat, rotmat_from_rot6d
from flowhmr.networks.hmr import INITIAL_CAMERA, JOINTS, MeanParams
from flowhmr.records import FEET, Estimate, Lifted, TrackInput

FLOW_UNIT = 0.05
"""Flow of a walking person's limbs from frame to frame, crop half-widths."""
VIEW_UNIT = 0.25
"""The tangent of half the angle that a person takes, about."""
KEYPOINTS = 17


@dataclass(frozen=True)
class LiftConfig:
    """Architecture."""

    width: int = 256
    """Features of a frame."""
    dilations: tuple[int, ...] = (1, 2, 4, 8, 1, 2, 4, 8)
    """Of the blocks; each looks so many frames to both sides."""
    limb_points: int = 60
    """Points at which flow is read (``flowhmr.data.LIMB_POINTS``)."""
    keypoints: bool = True
    """Look at keypoints."""
    flow: bool = True
    """Look at flow."""


class Lift(nn.Module):
    """Bodies of one person in consecutive frames, all at once.

    Args:
        config: architecture.
        mean: where estimates start.
    """

    start: Tensor

    def __init__(self, config: LiftConfig, mean: MeanParams):
        super().__init__()
        self.config, self.body_id, self.num_betas = config, mean.body_id, len(mean.betas)
        width = config.width
        numbers = 3 * KEYPOINTS + 3 * config.limb_points + 2
        self.read = nn.Sequential(nn.Linear(numbers, width), nn.GELU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(_Block(width, reach) for reach in config.dilations)
        self.norm = nn.LayerNorm(width)
        self.frame = nn.Linear(width, 6 * JOINTS + 3)
        self.shape = nn.Linear(width, self.num_betas)
        self.feet = nn.Linear(width, len(FEET))
        for layer in (self.frame, self.shape, self.feet):
            nn.init.normal_(layer.weight, std=0.005)
            nn.init.zeros_(layer.bias)
        pose = rot6d_from_rotmat(mean.rotmats, "spin").flatten()
        start = torch.cat([pose, torch.tensor(INITIAL_CAMERA), mean.betas])
        self.register_buffer("start", start)

    def forward(self, track: TrackInput) -> Lifted:
        """Bodies, cameras of their views, feet ``[b t]``; one shape for all frames of a track.

        Args:
            track: a batch ``[b t]``.
        """
        config = self.config
        flow = track.flow * track.flow.new_tensor([1 / FLOW_UNIT, 1 / FLOW_UNIT, 1.0])
        parts = [
            track.keypoints.flatten(-2) * config.keypoints,
            flow.flatten(-2) * config.flow,
            track.half[..., None] / VIEW_UNIT,
            track.present[..., None],
        ]
        features = self.read(torch.cat(parts, -1))
        for block in self.blocks:
            features = block(features)
        features = self.norm(features)
        pose, camera, betas = self.start.split([6 * JOINTS, 3, self.num_betas])
        pose_change, camera_change = self.frame(features).split([6 * JOINTS, 3], -1)
        rotmats = rotmat_from_rot6d((pose + pose_change).unflatten(-1, (JOINTS, 6)), "spin")
        seen = track.present[..., None]
        whole = (features * seen).sum(1, keepdim=True) / seen.sum(1, keepdim=True).clamp(min=1)
        shape = (betas + self.shape(whole)).expand(-1, features.shape[1], -1)
        params = BodyParams(rotmats, shape.contiguous(), self.body_id)
        bodies = Estimate(params, WeakCamera(camera + camera_change))
        return Lifted(bodies, self.feet(features))


class _Block(nn.Module):
    """A frame with those ``reach`` before and after it: a dilated convolution as one product."""

    def __init__(self, width: int, reach: int):
        super().__init__()
        self.reach = reach
        self.norm = nn.LayerNorm(width)
        self.near = nn.Linear(3 * width, width)
        self.mix = nn.Linear(width, width)

    def forward(self, features: Float[Tensor, "b t c"]) -> Float[Tensor, "b t c"]:
        here = self.norm(features)
        around = pad(here, (0, 0, self.reach, self.reach))
        frames = here.shape[1]
        near = torch.cat([around[:, :frames], here, around[:, 2 * self.reach :]], -1)
        return features + self.mix(gelu(self.near(near)))
