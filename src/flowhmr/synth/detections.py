"""Keypoints as a detector would report them: which of a clip's joints a network gets to see."""

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from flowhmr.body import SMPL_24
from flowhmr.synth.truth import SynthClip

LEGS = tuple(side + name for side in ("left_", "right_") for name in ("hip", "knee", "ankle"))


def detected_joints(
    clip: SynthClip, rng: np.random.Generator, legs: float = 0.5, flips: float = 0.05
) -> Bool[Tensor, "t 24"]:
    """Which joints count as detected in each frame (Motion HMR, appendix B).

    Detectors often report legs that are hidden, miss what is seen and see what is not. Nothing is
    detected off the image or in a dropped frame.

    Args:
        clip: whose ``joint_visible`` is the truth.
        rng: source of every choice.
        legs: probability that all hidden leg joints of the clip are reported.
        flips: probability that a joint's state in a frame is turned round.
    """
    detected = clip.joint_visible.clone()
    height, width = clip.images.shape[1:3]
    size = clip.joints_px.new_tensor([width, height])
    possible = ((clip.joints_px >= 0) & (clip.joints_px < size)).all(-1) & ~clip.dropped[:, None]
    if rng.random() < legs:
        detected[:, list(SMPL_24.indices_of(LEGS))] = True
    detected ^= torch.from_numpy(rng.random(tuple(detected.shape)) < flips)
    return detected & possible
