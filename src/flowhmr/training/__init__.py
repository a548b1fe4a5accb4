"""Training: one loop for pre-training, refinement and fitting; run folders; checkpoints."""

from flowhmr.training.config import OptimiserConfig, TrainConfig
from flowhmr.training.loop import estimator_of, train
from flowhmr.training.run import Run, draw_losses, provenance
from flowhmr.training.state import CheckpointError

__all__ = [
    "CheckpointError",
    "OptimiserConfig",
    "Run",
    "TrainConfig",
    "draw_losses",
    "estimator_of",
    "provenance",
    "train",
]
