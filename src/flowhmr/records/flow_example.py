"""What a flow network learns from."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, UInt8
from torch import Tensor


@dataclass(frozen=True, eq=False)
class FlowExample:
    """Two frames and the true flow from the first to the second."""

    frames: UInt8[Tensor, "*b 2 3 h w"]
    """RGB."""
    flow_px: Float[Tensor, "*b h w 2"]
    """Where what is seen in each pixel of the first frame goes; 0 where it is not known."""
    known: Bool[Tensor, "*b h w"]
    """Pixels whose point is seen in both frames and whose motion is known."""
    person: Bool[Tensor, "*b h w"]
    """Pixels of the first frame that show a person."""
