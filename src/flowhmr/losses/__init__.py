"""Losses: pure functions with one value per sample, and the objectives that weigh them."""

from flowhmr.losses.anchor import AnchorTerms, AnchorWeights, anchor_terms
from flowhmr.losses.flow import FlowLossConfig, FlowTerms, FlowWeights, flow_terms
from flowhmr.losses.objective import NonFiniteLoss, Objective, weigh
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

__all__ = [
    "AnchorTerms",
    "AnchorWeights",
    "FlowLossConfig",
    "FlowTerms",
    "FlowWeights",
    "NonFiniteLoss",
    "Objective",
    "PredictedMaps",
    "SupervisedTerms",
    "SupervisedWeights",
    "anchor_terms",
    "flow_terms",
    "heatmap_loss",
    "joint_loss",
    "keypoint_loss",
    "supervised_terms",
    "surface_loss",
    "weigh",
]
