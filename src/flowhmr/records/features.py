"""What a network over the features of a video is told of a person."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from flowhmr.cameras import Crop
from flowhmr.flow import FlowPair
from flowhmr.records.clip import Labels


@dataclass(frozen=True, eq=False)
class FeatureLink:
    """The flow between two neighbouring frames of each clip; any leading axes."""

    first: Int[Tensor, "*b"]
    """Which frame of the clip is the first of the two."""
    crops: Crop
    """The crops ``[*b 2]`` that their features are of."""
    window: Crop
    """The window in which the flow was seen, the same for both."""
    flow: FlowPair
    """Pixels of the window."""


@dataclass(frozen=True, eq=False)
class FeatureClip:
    """Consecutive frames ``[t]`` of one person as a single-frame network sees them.

    Batched by `flowhmr.geometry.collate`.
    """

    features: Float[Tensor, "*b t f"]
    """What `flowhmr.networks.Hmr.features` says of each frame's crop."""
    labels: Labels | None
    """The truth ``[*b t]`` in pixels of the crops, without surface maps; None where unknown."""
    size_px: int
    """Width and height of the crops."""
    link: FeatureLink | None = None
    """One pair of frames with the flow between them, for losses that want it."""
