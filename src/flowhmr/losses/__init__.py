"""Losses: pure functions with one value per sample, and the objectives that weigh them."""

from flowhmr.losses.anchor import AnchorTerms, AnchorWeights, anchor_terms
from flowhmr.losses.clips import (
    AccelerationTerms,
    AccelerationWeights,
    DiscriminatorTerms,
    DiscriminatorWeights,
    RealismTerms,
    RealismWeights,
    acceleration_terms,
    discriminator_terms,
    realism_terms,
)
from flowhmr.losses.flow import FlowLossConfig, FlowTerms, FlowWeights, flow_terms
from flowhmr.losses.flow_sequence import (
    FlowSequenceConfig,
    FlowSequenceTerms,
    FlowSequenceWeights,
    flow_sequence_terms,
)
from flowhmr.losses.keypoints import (
    KeypointLossConfig,
    KeypointTerms,
    KeypointWeights,
    keypoint_terms,
)
from flowhmr.losses.motion import (
    AdversaryTerms,
    AdversaryWeights,
    MotionTerms,
    MotionWeights,
    adversary_terms,
    both_heads,
    motion_terms,
)
from flowhmr.losses.objective import NonFiniteLoss, Objective, weigh
from flowhmr.losses.raster_flow import (
    RasterFlowConfig,
    RasterFlowTerms,
    RasterFlowWeights,
    gradient_colours,
    raster_flow_terms,
)
from flowhmr.losses.supervised import (
    PredictedMaps,
    SupervisedTerms,
    SupervisedWeights,
    heatmap_loss,
    joint_loss,
    keypoint_loss,
    supervised_terms,
    surface_loss,
)
from flowhmr.losses.texture import (
    TextureLossConfig,
    TextureTerms,
    TextureWeights,
    texture_terms,
)
from flowhmr.losses.tracks import TrackTerms, TrackWeights, track_terms

__all__ = [
    "AccelerationTerms",
    "AccelerationWeights",
    "AdversaryTerms",
    "AdversaryWeights",
    "AnchorTerms",
    "AnchorWeights",
    "DiscriminatorTerms",
    "DiscriminatorWeights",
    "FlowLossConfig",
    "FlowSequenceConfig",
    "FlowSequenceTerms",
    "FlowSequenceWeights",
    "FlowTerms",
    "FlowWeights",
    "KeypointLossConfig",
    "KeypointTerms",
    "KeypointWeights",
    "MotionTerms",
    "MotionWeights",
    "NonFiniteLoss",
    "Objective",
    "PredictedMaps",
    "RasterFlowConfig",
    "RasterFlowTerms",
    "RasterFlowWeights",
    "RealismTerms",
    "RealismWeights",
    "SupervisedTerms",
    "SupervisedWeights",
    "TextureLossConfig",
    "TextureTerms",
    "TextureWeights",
    "TrackTerms",
    "TrackWeights",
    "acceleration_terms",
    "adversary_terms",
    "anchor_terms",
    "both_heads",
    "discriminator_terms",
    "flow_sequence_terms",
    "flow_terms",
    "gradient_colours",
    "heatmap_loss",
    "joint_loss",
    "keypoint_loss",
    "keypoint_terms",
    "motion_terms",
    "raster_flow_terms",
    "realism_terms",
    "supervised_terms",
    "surface_loss",
    "texture_terms",
    "track_terms",
    "weigh",
]
