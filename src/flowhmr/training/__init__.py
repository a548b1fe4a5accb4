"""Training: one loop for pre-training, refinement and fitting; run folders; checkpoints."""

from flowhmr.training.config import OptimiserConfig, TrainConfig
from flowhmr.training.loop import estimator_of, train
from flowhmr.training.pretrain import PretrainConfig, pretrain
from flowhmr.training.refine import FIT, RefineConfig, flow_source, refine
from flowhmr.training.run import Run, draw_losses, provenance
from flowhmr.training.state import CheckpointError

__all__ = [
    "FIT",
    "CheckpointError",
    "OptimiserConfig",
    "PretrainConfig",
    "RefineConfig",
    "Run",
    "TrainConfig",
    "draw_losses",
    "estimator_of",
    "flow_source",
    "pretrain",
    "provenance",
    "refine",
    "train",
]
