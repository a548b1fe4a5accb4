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
from flowhmr.training.video import estimate_video, surface_weights, video_terms

__all__ = [
    "BASELINE_WEIGHTS",
    "CHECKPOINT",
    "FIT",
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
    "RefineConfig",
    "Run",
    "SequenceFit",
    "SequenceFitConfig",
    "TrainConfig",
    "adapt",
    "colour_noise",
    "draw_losses",
    "estimate_along",
    "estimate_video",
    "estimator_of",
    "fit_sequence",
    "flow_disagreement",
    "flow_source",
    "light_training",
    "motion_video",
    "pretrain",
    "pretrain_lift",
    "pretrain_motion",
    "provenance",
    "refine",
    "score_lift",
    "score_motion",
    "sequence_links",
    "surface_of",
    "surface_weights",
    "train",
    "train_lift",
    "train_motion",
    "video_terms",
]
