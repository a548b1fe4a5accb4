"""Filters over the bodies of a video: post-processing without weights."""

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from flowhmr.geometry import axis_angle_from_rotmat, rotmat_from_axis_angle, slerp
from flowhmr.networks.temporal import windows_around
from flowhmr.records import Estimate


def average_filter(estimate: Estimate, reach: int) -> Estimate:
    """Each joint's rotation averaged over the frames around it (TCMR, Table 5; MEVA).

    By spherical interpolation of pairs: the two neighbours at each distance are met half way, and
    these means are put together, each frame with the same weight. A joint that turns at constant
    speed about one axis is left as it is, and time has no direction. Shapes and cameras stay.

    Args:
        estimate: bodies ``[t]`` of consecutive frames.
        reach: frames to either side; beyond the ends the first and the last are repeated. 0
            changes nothing.

    Raises:
        ValueError: a negative reach.
    """
    if reach < 0:
        raise ValueError(f"average filter: got a reach of {reach}; expected 0 or more")
    rotmats = estimate.params.rotmats
    rows = windows_around(len(rotmats), reach, reach).to(rotmats.device)
    mean = rotmats
    for k in range(1, reach + 1):
        around = slerp(rotmats[rows[:, reach - k]], rotmats[rows[:, reach + k]], 0.5)
        mean = slerp(mean, around, 2 / (2 * k + 1))
    return replace(estimate, params=replace(estimate.params, rotmats=mean))


def one_euro_filter(
    estimate: Estimate,
    cutoff_hz: float = 1.0,
    slope: float = 0.3,
    speed_cutoff_hz: float = 1.0,
    fps: float = 30.0,
) -> Estimate:
    """Each joint's rotation through a one-euro filter (Casiez et al. 2012), frame after frame.

    A low-pass filter that lets more through the faster a joint turns: calm at rest, little delay in
    motion. It looks at no later frame. Speed is measured from what was said last. Shapes and
    cameras stay.

    Args:
        estimate: bodies ``[t]`` of consecutive frames.
        cutoff_hz: cut-off frequency at rest.
        slope: how much it rises, Hz for each radian a second.
        speed_cutoff_hz: cut-off frequency of the speed.
        fps: frames per second.

    Raises:
        ValueError: a cut-off or a rate that is not above zero, or a negative slope.
    """
    if min(cutoff_hz, speed_cutoff_hz, fps) <= 0 or slope < 0:
        raise ValueError(
            f"one-euro filter: got cut-offs of {cutoff_hz} and {speed_cutoff_hz} Hz, {fps} frames "
            f"a second, a slope of {slope}; expected numbers above 0, a slope of 0 or more"
        )
    said: list[Tensor] = []
    speed = torch.zeros_like(estimate.params.rotmats[0, ..., 0])
    for frame in estimate.params.rotmats:
        if not said:
            said.append(frame)
            continue
        step = axis_angle_from_rotmat(said[-1].mT @ frame)
        speed = speed.lerp(fps * step, _share(torch.tensor(speed_cutoff_hz), fps))
        share = _share(cutoff_hz + slope * speed.norm(dim=-1, keepdim=True), fps)
        said.append(said[-1] @ rotmat_from_axis_angle(share * step))
    rotmats = torch.stack(said)
    return replace(estimate, params=replace(estimate.params, rotmats=rotmats))


def _share(cutoff_hz: Float[Tensor, "*b"], fps: float) -> Float[Tensor, "*b"]:
    """Of the newest value in a low-pass filter of first order."""
    return 1 / (1 + fps / (2 * math.pi * cutoff_hz))
