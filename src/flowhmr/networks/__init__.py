"""Networks: one model, one file. They take crops and give `flowhmr.records.Estimate`."""

from flowhmr.networks.architectures import ARCHITECTURES, architecture
from flowhmr.networks.backbone import Backbone, BackboneConfig
from flowhmr.networks.context import ContextConfig, ContextHmr, ContextNet, context_vectors
from flowhmr.networks.hmr import Encoding, Film, Hmr, HmrConfig, HmrOutput, MeanParams
from flowhmr.networks.lift import Lift, LiftConfig
from flowhmr.networks.weights import (
    BASELINE,
    LIFT,
    NetworkFileError,
    load_hmr,
    load_lift,
    load_network,
    read_card,
    save_network,
)

__all__ = [
    "ARCHITECTURES",
    "BASELINE",
    "LIFT",
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
    "NetworkFileError",
    "architecture",
    "context_vectors",
    "load_hmr",
    "load_lift",
    "load_network",
    "read_card",
    "save_network",
]
