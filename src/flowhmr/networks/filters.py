"""Filters over the bodies of a video: post-processing without weights."""

from dataclasses import replace

from flowhmr.geometry import slerp
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
