"""Keypoints as a 2D detector would give them, for synthetic video."""

import zlib
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from flowhmr.body import COCO_17, SMPL_24, BodyModel
from flowhmr.cameras import fit_weak_camera, project_weak
from flowhmr.records import Sequence

# What hides a joint of COCO's, as a joint of the chain that is hidden with it.
_FACE = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
_NEAREST = {name: name for name in SMPL_24.names} | dict.fromkeys(_FACE, "head")


@dataclass(frozen=True)
class DetectorNoise:
    """How good the detector is."""

    error: float = 0.015
    """Standard deviation of each coordinate, share of the larger side of the person's box; for a
    person 150 px tall, a good detector is off by 2 to 3 px."""
    missed: float = 0.05
    """Share of visible keypoints that it misses."""
    guessed: float = 0.3
    """Share of hidden keypoints that it reports all the same, with twice the error."""
    seed: int = 0
    """Of all that."""


def with_detections(
    sequences: list[Sequence], body: BodyModel, noise: DetectorNoise
) -> list[Sequence]:
    """The same videos with simulated detections (`Sequence.detected_px`).

    The true positions are the labelled body's keypoints under the best weak-perspective camera of
    the image, which is off by a pixel or two of 224.

    Args:
        sequences: synthetic videos, with labels.
        body: whose parameters the labels are.
        noise: of the detector.

    Raises:
        ValueError: a video without labels.
    """
    return [replace(s, detected_px=_detections(s, body, noise)) for s in sequences]


def _detections(
    sequence: Sequence, body: BodyModel, noise: DetectorNoise
) -> Float[Tensor, "t 17 3"]:
    labels = sequence.labels
    if labels is None:
        raise ValueError(
            f"{sequence.name}: got video without labels; expected synthetic video, whose "
            "detections can be simulated"
        )
    # One stream for each video, whatever comes before it.
    rng = np.random.default_rng([noise.seed, zlib.crc32(sequence.name.encode())])
    height, width = sequence.images[0].shape[:2]
    size_px = max(height, width)
    camera = fit_weak_camera(labels.joints_m, labels.keypoints_px, size_px)
    points_m = body.keypoints(body.mesh(labels.params), COCO_17)
    points_px = project_weak(points_m, camera, size_px)[..., :2]
    shape = tuple(points_px.shape[:2])
    nearest = SMPL_24.indices_of([_NEAREST[name] for name in COCO_17.names])
    shown = labels.keypoint_confidence[:, list(nearest)] > 0
    chance = torch.from_numpy(rng.random(shape))
    found = torch.where(shown, chance >= noise.missed, chance < noise.guessed)
    person_px = sequence.boxes_px[:, 2:].amax(-1)
    spread_px = noise.error * person_px[:, None] * torch.where(shown, 1.0, 2.0)
    offset = torch.from_numpy(rng.standard_normal((*shape, 2))).float()
    seen_px = points_px + offset * spread_px[..., None]
    inside = ((seen_px >= 0) & (seen_px <= seen_px.new_tensor([width, height]))).all(-1)
    confidence = (found & inside).float() * torch.where(shown, 0.9, 0.5)
    return torch.cat([seen_px * (confidence > 0)[..., None], confidence[..., None]], -1)
