"""What a network over the features of a video is told of a person."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from flowhmr.records.clip import Labels


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
