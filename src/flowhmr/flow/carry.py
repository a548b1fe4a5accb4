"""Flow carried along: to a frame many frames later, by way of those between.

Estimated directly, flow is lost where things move far; between neighbours it is not. What is
carried drifts by a pixel or so in eight frames of video at 96 px, little beside what bodies that a
network estimates are off by.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flowhmr.cameras import Crop, pixel_centres_px, sample_map
from flowhmr.flow.consistency import Consistency, consistency_masks
from flowhmr.flow.maps import FlowPair, inside_map

CARRIED = Consistency(relative=0.02, absolute_px2=1.0)
"""More allowance than for one pair: the drift of all of them comes together."""


def carry_pair(
    hops: list[tuple[Crop, FlowPair]], window: Crop, consistency: Consistency = CARRIED
) -> FlowPair:
    """The flow from the first frame to the last, of that between neighbours.

    A pixel is trusted if it stays in the windows on its way, and the way back brings it home; the
    masks of the neighbours do not count: where fast limbs move, most of each fails the check of two
    frames, and few pixels would come through all of them.

    Args:
        hops: for each frame but the last, the window (no leading axes) and the flow between it and
            the next, ``[s, s]`` pixels of that window.
        window: where the result is wanted, no leading axes.
        consistency: how far the way there and back may miss.
    """
    size_px = window.size_px
    centres_px = pixel_centres_px(size_px, size_px).to(window.side_px)
    there_px, stayed = _carry([(w, pair.forward) for w, pair in hops], window, centres_px)
    back_px, came = _carry([(w, pair.backward) for w, pair in hops[::-1]], window, centres_px)
    forward, backward = there_px - centres_px, back_px - centres_px
    there, back = consistency_masks(forward[None], backward[None], consistency)
    return FlowPair(forward, backward, stayed & there[0], came & back[0])


def _carry(
    hops: list[tuple[Crop, Tensor]], window: Crop, starts_px: Float[Tensor, "s s 2"]
) -> tuple[Float[Tensor, "s s 2"], Bool[Tensor, "s s"]]:
    """Where pixels of the window go, and which of them stay in sight."""
    points_px = window.to_image(starts_px.flatten(0, 1))
    seen = torch.ones(len(points_px), dtype=torch.bool)
    for crop, flow in hops:
        here_px = crop.to_crop(points_px)
        seen = seen & inside_map(here_px, *flow.shape[:2])
        points_px = crop.to_image(here_px + sample_map(flow[None], here_px[None])[0])
    ends_px = window.to_crop(points_px)
    return ends_px.reshape(starts_px.shape), seen.reshape(starts_px.shape[:2])
