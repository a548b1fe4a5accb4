"""Forward-backward consistency: where two flow maps agree that they follow the same surface."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from flowhmr.cameras import pixel_centres_px, sample_map
from flowhmr.flow.maps import inside_map


@dataclass(frozen=True)
class Consistency:
    """How far the way there and back may miss: ``|f + b|^2 < relative * (|f|^2 + |b|^2) + c``.

    Sundaram, Brox, Keutzer 2010, section 3, with their numbers.
    """

    relative: float = 0.01
    """Allowance per squared length of the two vectors."""
    absolute_px2: float = 0.5
    """Allowance c in squared pixels of the flow map."""


def consistency_masks(
    forward: Float[Tensor, "*b h w 2"],
    backward: Float[Tensor, "*b h w 2"],
    consistency: Consistency | None = None,
) -> tuple[Bool[Tensor, "*b h w"], Bool[Tensor, "*b h w"]]:
    """Pixels of frame 1 with trustworthy forward flow, and of frame 2 with backward flow.

    Pixels whose flow leaves the image or is not finite are not trustworthy. ``None`` takes the
    published settings.
    """
    rule = consistency or Consistency()
    return _returns(forward, backward, rule), _returns(backward, forward, rule)


def _returns(
    there: Float[Tensor, "*b h w 2"], back: Float[Tensor, "*b h w 2"], rule: Consistency
) -> Bool[Tensor, "*b h w"]:
    """Which pixels come back to where they started."""
    height, width = there.shape[-3:-1]
    landing_px = pixel_centres_px(height, width).to(there) + there
    b_at_landing = sample_map(
        back.reshape(-1, height, width, 2), landing_px.reshape(-1, height * width, 2)
    ).reshape(there.shape)
    miss = (there + b_at_landing).square().sum(-1)
    length = there.square().sum(-1) + b_at_landing.square().sum(-1)
    close = miss < rule.relative * length + rule.absolute_px2
    return close & inside_map(landing_px, height, width)
