"""Networks: one model, one file. They take crops and give `flowhmr.records.Estimate`."""

from flowhmr.networks.backbone import Backbone, BackboneConfig
from flowhmr.networks.hmr import Hmr, HmrConfig, HmrOutput, MeanParams
from flowhmr.networks.weights import BASELINE, NetworkFileError, load_hmr, read_card, save_hmr

__all__ = [
    "BASELINE",
    "Backbone",
    "BackboneConfig",
    "Hmr",
    "HmrConfig",
    "HmrOutput",
    "MeanParams",
    "NetworkFileError",
    "load_hmr",
    "read_card",
    "save_hmr",
]
