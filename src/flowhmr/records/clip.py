"""What data gives."""

from collections.abc import Sequence as Several
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from flowhmr.body import BodyParams
from flowhmr.cameras import Crop
from flowhmr.flow import FlowPair


@dataclass(frozen=True, eq=False)
class Labels:
    """What is known of the person in a frame, in camera axes (X right, Y down, Z away)."""

    params: BodyParams
    """Pose (joint 0 turns the body into camera axes) and shape."""
    joints_m: Float[Tensor, "*b 24 3"]
    """The 24 joints of the body's chain, metres, turned but not moved: as ``body.joints`` gives."""
    keypoints_px: Float[Tensor, "*b 24 2"]
    """Where the 24 joints are seen, pixels of the image or crop that the labels belong to."""
    keypoint_confidence: Float[Tensor, "*b 24"]
    """Weight of each keypoint, 0..1."""
    surface: UInt8[Tensor, "*b h w 4"] | None = None
    """Coarse map of what part of the body is seen where, if that is known: the rest-pose point
    (x, y, z), each axis scaled to 0..255 over the body's extent, and 255 where there is a body.
    Covers the same square as the image or crop."""
    has_body: Bool[Tensor, "*b"] | None = None
    """Frames of which pose, shape and 3D joints are known; None: all. Of the others, whose numbers
    mean nothing and may be NaN, there are 2D joints alone."""


def join_labels(parts: list[Labels]) -> Labels:
    """Labels one after the other along their leading axis; surface maps are left out."""
    params = [part.params for part in parts]
    has_body = None
    if any(part.has_body is not None for part in parts):
        has_body = torch.cat([known_bodies(part) for part in parts])
    return Labels(
        BodyParams(
            torch.cat([p.rotmats for p in params]),
            torch.cat([p.betas for p in params]),
            params[0].body_id,
        ),
        torch.cat([part.joints_m for part in parts]),
        torch.cat([part.keypoints_px for part in parts]),
        torch.cat([part.keypoint_confidence for part in parts]),
        has_body=has_body,
    )


def known_bodies(labels: Labels) -> Bool[Tensor, "*b"]:
    """`Labels.has_body`, written out."""
    if labels.has_body is not None:
        return labels.has_body
    betas = labels.params.betas
    return torch.ones(betas.shape[:-1], dtype=torch.bool, device=betas.device)


def without_unknown(labels: Labels) -> Labels:
    """The same with zeros for the numbers of bodies that are not known, which may be NaN: NaN
    times nothing is NaN, and so is its gradient."""
    if labels.has_body is None:
        return labels
    known = labels.has_body[..., None]
    params = BodyParams(
        torch.where(known[..., None, None], labels.params.rotmats, 0.0),
        torch.where(known, labels.params.betas, 0.0),
        labels.params.body_id,
    )
    joints_m = torch.where(known[..., None], labels.joints_m, 0.0)
    return replace(labels, params=params, joints_m=joints_m)


@dataclass(frozen=True, eq=False)
class Before:
    """What was seen before each frame of a clip, for networks with temporal context."""

    frames: UInt8[Tensor, "*b t n 3 s s"]
    """The ``n`` frames before each of the ``t``, in order, each in its own crop; zeros where the
    video had not begun."""
    count: Int[Tensor, "*b t"]
    """How many of them there are: the last ``count`` of the ``n``."""


@dataclass(frozen=True, eq=False)
class Clip:
    """Square crops of one person in ``t`` frames (1 for a still), labelled or not.

    Batched by `flowhmr.geometry.collate`: a batch has one leading axis more.
    """

    frames: UInt8[Tensor, "*b t 3 s s"]
    """RGB crops."""
    crop: Crop
    """The windows ``[*b t]`` that were cut from the image."""
    labels: Labels | None
    """In pixels of the crop; ``[*b t]``."""
    flow: FlowPair | None
    """Between neighbouring frames of the clip, pixels of ``flow_crop``; ``[*b t-1]``."""
    flow_crop: Crop | None = None
    """The windows ``[*b t-1]`` in which the flow was seen, the same for both its frames; None where
    there is no flow."""
    detected_px: Float[Tensor, "*b t 17 3"] | None = None
    """COCO's keypoints as a detector saw them: pixels of the crop and confidence 0..1."""
    before: Before | None = None
    """The frames before these, if they were asked for."""
    flow_frames: UInt8[Tensor, "*b t-1 2 h w 3"] | None = None
    """Where the flow is still to be estimated: what both frames look like in ``flow_crop``, finer
    than it."""


@dataclass(frozen=True, eq=False)
class Sequence:
    """A person in a video, whole images: what crops, pairs and tests are cut from."""

    name: str
    """Where it comes from."""
    person: str
    """Who it is, for tables per person."""
    images: Several[UInt8[np.ndarray, "h w 3"]]
    """RGB images of equal size, in order; a list of them, or what reads them when asked."""
    times_s: Float[Tensor, "t"]
    """When each image was taken."""
    boxes_px: Float[Tensor, "t 4"]
    """The person's box (x, y, w, h) in each image."""
    labels: Labels | None
    """In pixels of the images; ``[t]``."""
    detected_px: Float[Tensor, "t 17 3"] | None = None
    """COCO's keypoints as a detector or a file gives them: pixels of the images and confidence
    0..1; None where nobody looked."""

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class TestClip:
    """A clip to score on."""

    __test__ = False

    name: str
    """Where it comes from."""
    person: str
    """Who is seen, for tables per person."""
    clip: Clip
    """``[t]`` crops with labels."""
