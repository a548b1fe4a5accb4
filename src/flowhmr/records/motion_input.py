"""What a network that looks at crops, flow and keypoints along a video is told of a person."""

from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from flowhmr.geometry import collate, map_tensors
from flowhmr.records.track_input import TrackLabels

R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class MotionInput:
    """Pairs ``[n]`` of neighbouring frames of one person, ``n + 1`` frames in order.

    Both frames of a pair are seen in one square window. Batched by `flowhmr.geometry.collate`.
    Maps that a network does not look at are None.
    """

    frames: UInt8[Tensor, "*b n 3 s s"] | None
    """RGB crops of each pair's first frame."""
    flow_px: Float[Tensor, "*b n 2 s s"] | None
    """Flow (u, v) from the first frame to the second, pixels of the crop; any float type."""
    keypoints_px: Float[Tensor, "*b n 12 3"]
    """Where `flowhmr.data.HEATMAP_JOINTS` are in the first frame: x and y in pixels of the crop,
    and 1 where they are reported, else 0 (x and y are zero then)."""
    occluded: Float[Tensor, "*b n"]
    """1 where the person is lost altogether in the first frame: the maps are then of no account."""


@dataclass(frozen=True, eq=False)
class MotionClip:
    """A sample to learn from, or to score on."""

    input: MotionInput
    """What the network sees."""
    now: TrackLabels | None
    """The truth ``[*b n]`` about each pair's first frame, points in half-widths of the crop; None
    for video without labels."""
    after: TrackLabels | None
    """About each pair's second frame, in the same crop."""


def along_frames(now: R, after: R) -> R:
    """What is said of each frame ``[n + 1]`` by what is said of the pairs ``[n]``.

    Of a frame that begins a pair it is what that pair says of its first frame; the last frame ends
    the last pair only (Motion HMR, appendix B).

    Args:
        now: about the pairs' first frames, any record without other leading axes.
        after: about their second frames.
    """
    return map_tensors(collate([now, after]), lambda t: torch.cat([t[0], t[1, -1:]]))
