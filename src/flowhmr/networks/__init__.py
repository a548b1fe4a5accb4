"""Networks: one model, one file. They take crops and give `flowhmr.records.Estimate`."""

from flowhmr.networks.adversary import Adversary, reverse_gradient
from flowhmr.networks.architectures import ARCHITECTURES, architecture
from flowhmr.networks.backbone import Backbone, BackboneConfig
from flowhmr.networks.context import ContextConfig, ContextHmr, ContextNet, context_vectors
from flowhmr.networks.context_features import ContextFeatures, ContextFeaturesConfig
from flowhmr.networks.filters import average_filter, one_euro_filter
from flowhmr.networks.hmr import Encoding, Film, Hmr, HmrConfig, HmrOutput, MeanParams
from flowhmr.networks.hpof import Hpof, HpofConfig
from flowhmr.networks.lift import Lift, LiftConfig
from flowhmr.networks.motion_discriminator import MotionDiscriminator, MotionDiscriminatorConfig
from flowhmr.networks.motion_hmr import MotionHmr, MotionHmrConfig, MotionOutput
from flowhmr.networks.parts import PartsConfig
from flowhmr.networks.published import from_published, layout_of, read_checkpoint
from flowhmr.networks.smoothnet import SmoothNet, SmoothNetConfig
from flowhmr.networks.tcmr import Tcmr, TcmrConfig
from flowhmr.networks.temporal import (
    BodyHead,
    Framewise,
    FramewiseConfig,
    OverBodies,
    TemporalConfig,
    TemporalHmr,
    TemporalNetwork,
    TemporalOutput,
    windows_around,
)
from flowhmr.networks.vibe import Vibe, VibeConfig
from flowhmr.networks.weights import (
    BASELINE,
    LIFT,
    Network,
    NetworkFileError,
    load_estimator,
    load_hmr,
    load_lift,
    load_motion,
    load_network,
    load_temporal,
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
    "BodyHead",
    "ContextConfig",
    "ContextFeatures",
    "ContextFeaturesConfig",
    "ContextHmr",
    "ContextNet",
    "Encoding",
    "Film",
    "Framewise",
    "FramewiseConfig",
    "Hmr",
    "HmrConfig",
    "HmrOutput",
    "Hpof",
    "HpofConfig",
    "Lift",
    "LiftConfig",
    "MeanParams",
    "MotionDiscriminator",
    "MotionDiscriminatorConfig",
    "MotionHmr",
    "MotionHmrConfig",
    "MotionOutput",
    "Network",
    "NetworkFileError",
    "OverBodies",
    "PartsConfig",
    "SmoothNet",
    "SmoothNetConfig",
    "Tcmr",
    "TcmrConfig",
    "TemporalConfig",
    "TemporalHmr",
    "TemporalNetwork",
    "TemporalOutput",
    "Vibe",
    "VibeConfig",
    "architecture",
    "average_filter",
    "context_vectors",
    "from_published",
    "layout_of",
    "load_estimator",
    "load_hmr",
    "load_lift",
    "load_motion",
    "load_network",
    "load_temporal",
    "one_euro_filter",
    "read_card",
    "read_checkpoint",
    "reverse_gradient",
    "save_network",
    "windows_around",
]
