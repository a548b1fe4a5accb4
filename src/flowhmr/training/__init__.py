"""Training: one loop for pre-training, refinement and fitting; run folders; checkpoints."""

from flowhmr.training.adapt import AdaptConfig, adapt
from flowhmr.training.config import LoopConfig, OptimiserConfig, TrainConfig
from flowhmr.training.lift import (
    LiftLoopConfig,
    LiftTrainingConfig,
    pretrain_lift,
    score_lift,
    train_lift,
)
from flowhmr.training.loop import colour_noise, estimator_of, train
from flowhmr.training.motion import (
    MotionLoopConfig,
    MotionTrainingConfig,
    estimate_along,
    light_training,
    motion_video,
    pretrain_motion,
    score_motion,
    train_motion,
)
from flowhmr.training.pretrain import BASELINE_WEIGHTS, PretrainConfig, pretrain
from flowhmr.training.real import RealStills, fitting_weights
from flowhmr.training.refine import FIT, RefineConfig, flow_source, refine
from flowhmr.training.run import CHECKPOINT, Run, draw_losses, provenance
from flowhmr.training.sequence import (
    FlowLinks,
    SequenceFit,
    SequenceFitConfig,
    fit_sequence,
    flow_disagreement,
    sequence_links,
    surface_of,
)
from flowhmr.training.state import CheckpointError
from flowhmr.training.temporal import (
    LIGHT_HIDDEN,
    TemporalTrainingConfig,
    feature_source,
    first_network,
    light_hpof,
    light_temporal,
    pretrain_temporal,
    score_temporal,
    stored_features,
    temporal_links,
    train_temporal,
    weights_key,
    with_hpof_losses,
)
from flowhmr.training.temporal_losses import TemporalLoopConfig
from flowhmr.training.video import estimate_video, surface_weights, video_terms

__all__ = [
    "BASELINE_WEIGHTS",
    "CHECKPOINT",
    "FIT",
    "LIGHT_HIDDEN",
    "AdaptConfig",
    "CheckpointError",
    "FlowLinks",
    "LiftLoopConfig",
    "LiftTrainingConfig",
    "LoopConfig",
    "MotionLoopConfig",
    "MotionTrainingConfig",
    "OptimiserConfig",
    "PretrainConfig",
    "RealStills",
    "RefineConfig",
    "Run",
    "SequenceFit",
    "SequenceFitConfig",
    "TemporalLoopConfig",
    "TemporalTrainingConfig",
    "TrainConfig",
    "adapt",
    "colour_noise",
    "draw_losses",
    "estimate_along",
    "estimate_video",
    "estimator_of",
    "feature_source",
    "first_network",
    "fit_sequence",
    "fitting_weights",
    "flow_disagreement",
    "flow_source",
    "light_hpof",
    "light_temporal",
    "light_training",
    "motion_video",
    "pretrain",
    "pretrain_lift",
    "pretrain_motion",
    "pretrain_temporal",
    "provenance",
    "refine",
    "score_lift",
    "score_motion",
    "score_temporal",
    "sequence_links",
    "stored_features",
    "surface_of",
    "surface_weights",
    "temporal_links",
    "train",
    "train_lift",
    "train_motion",
    "train_temporal",
    "video_terms",
    "weights_key",
    "with_hpof_losses",
]
