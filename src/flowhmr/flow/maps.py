"""Flow maps: the record of a pair of frames, resizing, sampling at points.

A flow map is ``[*b h w 2]``: (x, y) displacement in pixels of that map. What is at the pixel
centre p in frame 1 is at ``p + flow[p]`` in frame 2.
"""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor, cat
from torch.nn.functional import interpolate

from flowhmr.cameras import resize_px, sample_map

_NEGLIGIBLE_SHARE = 1e-3
"""An invalid pixel with less weight than this in a sample does not spoil it: sample positions
carry rounding errors of that size on maps of a few thousand pixels."""


@dataclass(frozen=True, eq=False)
class FlowPair:
    """Flow between two frames in both directions, and where each can be trusted."""

    forward: Float[Tensor, "*b h w 2"]
    """Flow from frame 1 to frame 2, on the pixels of frame 1."""
    backward: Float[Tensor, "*b h w 2"]
    """Flow from frame 2 to frame 1, on the pixels of frame 2."""
    forward_valid: Bool[Tensor, "*b h w"]
    """Pixels of frame 1 whose forward flow is consistent with the backward flow."""
    backward_valid: Bool[Tensor, "*b h w"]
    """Pixels of frame 2 whose backward flow is consistent with the forward flow."""


def swap_pair(pair: FlowPair) -> FlowPair:
    """The same pair with frame 1 and frame 2 exchanged."""
    return FlowPair(pair.backward, pair.forward, pair.backward_valid, pair.forward_valid)


def resize_flow(
    flow: Float[Tensor, "*b h w 2"], height: int, width: int
) -> Float[Tensor, "*b {height} {width} 2"]:
    """The flow map of the resized frames, vectors rescaled with the size.

    Bilinear when the map grows, averaging when it shrinks.
    """
    from_size = (flow.shape[-3], flow.shape[-2])
    resized = _resize_channels(flow.movedim(-1, -3), height, width).movedim(-3, -1)
    return resize_px(resized, from_size, (height, width))


def resize_pair(pair: FlowPair, height: int, width: int) -> FlowPair:
    """The pair for resized frames; a pixel stays valid when it is made of valid pixels only."""
    return FlowPair(
        forward=resize_flow(pair.forward, height, width),
        backward=resize_flow(pair.backward, height, width),
        forward_valid=_resize_mask(pair.forward_valid, height, width),
        backward_valid=_resize_mask(pair.backward_valid, height, width),
    )


def sample_flow(
    flow: Float[Tensor, "b h w 2"], points_px: Float[Tensor, "b n 2"]
) -> Float[Tensor, "b n 2"]:
    """Flow at points, bilinear; outside the map that of its border (see `sample_mask`)."""
    return sample_map(flow, points_px)


def sample_mask(
    mask: Bool[Tensor, "b h w"], points_px: Float[Tensor, "b n 2"]
) -> Bool[Tensor, "b n"]:
    """Where a bilinear sample can be trusted: inside the map, and made of valid pixels only."""
    spoilt = sample_map((~mask)[..., None].to(points_px.dtype), points_px)[..., 0]
    return (spoilt < _NEGLIGIBLE_SHARE) & inside_map(points_px, *mask.shape[1:])


def sample_masked_flow(
    flow: Float[Tensor, "b h w 2"], mask: Bool[Tensor, "b h w"], points_px: Float[Tensor, "b n 2"]
) -> tuple[Float[Tensor, "b n 2"], Bool[Tensor, "b n"]]:
    """`sample_flow` and `sample_mask` in one pass."""
    # Channel by channel: interleaving three of them is several times slower.
    channels = cat([flow.movedim(-1, 1), (~mask)[:, None].to(flow.dtype)], 1)
    sampled = sample_map(channels.movedim(1, -1), points_px)
    trusted = sampled[..., 2] < _NEGLIGIBLE_SHARE
    return sampled[..., :2], trusted & inside_map(points_px, *mask.shape[1:])


def inside_map(points_px: Float[Tensor, "*b 2"], height: int, width: int) -> Bool[Tensor, "*b"]:
    """Which points lie on the image, its edge included; points that are not finite do not."""
    # Comparing and reducing over an axis of two is several times slower.
    x, y = points_px.unbind(-1)
    return (x >= 0) & (x <= width) & (y >= 0) & (y <= height)


def _resize_mask(
    mask: Bool[Tensor, "*b h w"], height: int, width: int
) -> Bool[Tensor, "*b {height} {width}"]:
    spoilt = _resize_channels((~mask)[..., None, :, :].float(), height, width)[..., 0, :, :]
    return spoilt < _NEGLIGIBLE_SHARE


def _resize_channels(
    maps: Float[Tensor, "*b c h w"], height: int, width: int
) -> Float[Tensor, "*b c {height} {width}"]:
    flat = maps.reshape(-1, *maps.shape[-3:])
    # antialias makes the bilinear kernel cover all source pixels when the map shrinks.
    resized = interpolate(
        flat, (height, width), mode="bilinear", align_corners=False, antialias=True
    )
    return resized.reshape(*maps.shape[:-2], height, width)
