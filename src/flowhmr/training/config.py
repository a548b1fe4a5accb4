"""What a training run is: one frozen config for pre-training, refinement and fitting."""

from dataclasses import dataclass, field
from typing import Literal

from flowhmr.losses import (
    AnchorWeights,
    FlowLossConfig,
    FlowWeights,
    KeypointLossConfig,
    KeypointWeights,
    SupervisedWeights,
    TextureLossConfig,
    TextureWeights,
)


@dataclass(frozen=True)
class OptimiserConfig:
    """How weights are moved."""

    learning_rate: float = 5e-5
    """Adam's step."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""
    warmup: int = 0
    """Steps over which the learning rate rises from zero."""
    decay: int = 0
    """Last steps, over which the learning rate falls to zero (all, in a run of fewer); 0 keeps
    it."""
    clip_norm: float = 0.0
    """Largest gradient norm; 0 does not clip."""
    average: float = 0.0
    """Keep an exponential moving average of the weights with this decay and use it as the result;
    0 uses the last weights."""


@dataclass(frozen=True)
class LoopConfig:
    """What all training loops have in common."""

    steps: int = 1000
    """Updates of the weights."""
    batch: int = 64
    """Labelled crops (or clips) per step; 0 trains without labels."""
    seed: int = 0
    """Of everything that is drawn."""
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    """Learning rate and its course."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the network's forward pass; losses are always float32."""
    threads: int = 0
    """CPU threads; 0 leaves PyTorch's choice."""
    workers: int = 1
    """Processes that prepare batches."""
    checkpoint_every: int = 500
    """Steps between checkpoints: at most this much is lost when the run is killed."""
    log_every: int = 20
    """Steps between rows of losses.csv."""


@dataclass(frozen=True)
class TrainConfig(LoopConfig):
    """One run of the training loop."""

    pairs: int = 0
    """Pairs (or windows, ``PairConfig.frames``) of unannotated video per step; 0 trains without
    video."""
    supervised: SupervisedWeights = field(default_factory=SupervisedWeights)
    """Weights of the labelled loss."""
    supervised_scale: float = 1.0
    """w_sup of Eq. 4."""
    flow: FlowWeights = field(default_factory=lambda: FlowWeights(0.0))
    """w_of of Eq. 4."""
    flow_loss: FlowLossConfig = field(default_factory=FlowLossConfig)
    """How body flow and image flow are compared."""
    frozen: bool = False
    """Run the labelled crops as the video's: batch norm as at test time, its statistics left alone,
    no dropout. Else the two losses train two functions that share weights, and the flow loss is
    free to harm the one that is used at test time."""
    on_body: bool = True
    """Compare flows only where the network itself sees a body (its surface map, if it has one) in
    both frames: a vertex beside the limb would read the background's flow."""
    on_part_m: float = 0.0
    """With ``on_body``, compare only where the part that the network sees is, in the rest pose, at
    most this far from the vertex: one that lies on another limb would read that limb's flow. 0:
    any part will do."""
    by_surface: bool = True
    """In flow and texture loss a vertex counts as much as the surface that it stands for: half of
    the open body's are in head, hands and feet. False: all the same, as in the paper."""
    texture: TextureWeights = field(default_factory=lambda: TextureWeights(0.0))
    """Weight of the texture loss (TexturePose, Eq. 6)."""
    texture_loss: TextureLossConfig = field(default_factory=TextureLossConfig)
    """How colours are compared."""
    keypoints: KeypointWeights = field(default_factory=lambda: KeypointWeights(0.0))
    """Weight of detected 2D keypoints in the video (of4hmr, section 4.4)."""
    keypoint_loss: KeypointLossConfig = field(default_factory=KeypointLossConfig)
    """How they are compared."""
    anchor: AnchorWeights = field(default_factory=lambda: AnchorWeights(0.0, 0.0, 0.0))
    """Pull of the video's estimates to those of the teacher (Eq. 8)."""
    teacher: Literal["initial", "average"] = "initial"
    """Whom the anchor holds to: the initial network (the paper's), or the moving average of the
    weights, which learns with the student (mean teacher)."""
    fixed_levels: int = 0
    """Feature levels of the backbone, from the first on, whose weights are left as they are: they
    take most of the time, and change least."""
    colour_noise: float = 0.4
    """Each frame of a pair gets its own per-channel factor U(1 - x, 1 + x) before the network."""

    def __post_init__(self) -> None:
        if self.teacher == "average" and not self.optimiser.average:
            raise ValueError(
                "teacher: got 'average' with an optimiser that keeps none; expected "
                "optimiser.average above 0"
            )
