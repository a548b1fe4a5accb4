"""Optical flow: maps, estimators, forward-backward consistency, an on-disk cache.

A flow map is a float32 ``[*b h w 2]`` of (x, y) displacements in pixels of that map: what is at
the pixel centre p in frame 1 is at ``p + flow[p]`` in frame 2.
"""

from flowhmr.flow.cache import CacheSize, FlowCache
from flowhmr.flow.carry import CARRIED, carry_pair
from flowhmr.flow.choose import flow_estimator
from flowhmr.flow.consistency import Consistency, consistency_masks
from flowhmr.flow.degraded import (
    BlurredFlow,
    NoisyFlow,
    ScaledFlow,
    WrongFlow,
)
from flowhmr.flow.estimators import (
    DisFlow,
    FlowError,
    FlowEstimator,
    FunctionFlow,
    estimate_pair,
)
from flowhmr.flow.maps import (
    FlowPair,
    inside_map,
    resize_flow,
    resize_pair,
    sample_flow,
    sample_mask,
    sample_masked_flow,
    swap_pair,
)
from flowhmr.flow.raft import RaftFlow, load_raft, new_raft, raft_input, save_raft

__all__ = [
    "CARRIED",
    "BlurredFlow",
    "CacheSize",
    "Consistency",
    "DisFlow",
    "FlowCache",
    "FlowError",
    "FlowEstimator",
    "FlowPair",
    "FunctionFlow",
    "NoisyFlow",
    "RaftFlow",
    "ScaledFlow",
    "WrongFlow",
    "carry_pair",
    "consistency_masks",
    "estimate_pair",
    "flow_estimator",
    "inside_map",
    "load_raft",
    "new_raft",
    "raft_input",
    "resize_flow",
    "resize_pair",
    "sample_flow",
    "sample_mask",
    "sample_masked_flow",
    "save_raft",
    "swap_pair",
]
