"""Networks: one model, one file. They take crops and give `flowhmr.records.Estimate`."""

from flowhmr.networks.adversary import Adversary, reverse_gradient
from flowhmr.networks.architectures import ARCHITECTURES, architecture
from flowhmr.networks.backbone import Backbone, BackboneConfig
from flowhmr.networks.context import ContextConfig, ContextHmr, ContextNet, context_vectors
from flowhmr.networks.hmr import Encoding, Film, Hmr, HmrConfig, HmrOutput, MeanParams
from flowhmr.networks.lift import Lift, LiftConfig
from flowhmr.networks.motion_hmr import MotionHmr, MotionHmrConfig, MotionOutput
from flowhmr.networks.weights import (
    BASELINE,
    LIFT,
    NetworkFileError,
    load_hmr,
    load_lift,
    load_motion,
    load_network,
    read_card,
    save_network,
)

__all__ = [
    "ARCHITECTURES",
    "BASELINE",
    "LIFT",
    "Adversary",
    "Backbone",
    "BackboneConfig",
    "ContextConfig",
    "ContextHmr",
    "ContextNet",
    "Encoding",
    "Film",
    "Hmr",
    "HmrConfig",
    "HmrOutput",
    "Lift",
    "LiftConfig",
    "MeanParams",
    "MotionHmr",
    "MotionHmrConfig",
    "MotionOutput",
    "NetworkFileError",
    "architecture",
    "context_vectors",
    "load_hmr",
    "load_lift",
    "load_motion",
    "load_network",
    "read_card",
    "reverse_gradient",
    "save_network",
]
