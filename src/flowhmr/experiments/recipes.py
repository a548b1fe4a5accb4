"""Settings that the experiments share: the baselines, our recipe for refinement, the paper's."""

from dataclasses import replace

from flowhmr.data import AugmentConfig, PairConfig
from flowhmr.experiments.tasks import BACKBONE, Pretrain
from flowhmr.losses import (
    AnchorWeights,
    FlowLossConfig,
    FlowWeights,
    KeypointWeights,
    TextureWeights,
)
from flowhmr.networks import HmrConfig, architecture
from flowhmr.training import BASELINE_WEIGHTS, OptimiserConfig, RefineConfig, TrainConfig

SHARES = {10: 0.1, 20: 0.2, 50: 0.5, 100: 1.0}
"""Labelled shares of the stills, by percent."""
CROP_PX = 96
"""Crops of the small size, those of the shipped network."""

# As hard as at the end of the shipped network's training, and somewhat harder.
AUGMENT = AugmentConfig(ramp=2).at(1)
# To be long enough that more labelled steps hardly help: else any refinement with labels looks
# good, and one that is held to its start looks bad. Everything learns, batch norm too: networks
# from random weights take the same loop.
BL_LOOP = TrainConfig(
    steps=1_000,
    batch=64,
    optimiser=OptimiserConfig(
        3e-4, weight_decay=0.01, warmup=50, decay=800, clip_norm=0.5, average=0.99
    ),
    supervised=BASELINE_WEIGHTS,
    precision="bfloat16",
    checkpoint_every=100,
)
# The paper's BL starts from ImageNet's weights, of which flowhmr has none: the backbone of the
# shipped network stands in for them. It was trained on the stills of another, simpler engine; the
# heads are fresh, so that what is known of poses comes from the labels. (From random weights 1,500
# steps end above the mean pose.)
NETWORK = architecture("lite0", CROP_PX)


def baseline(share: float, network: HmrConfig = NETWORK, weights: str = BACKBONE) -> Pretrain:
    """BL on a share of the labels."""
    return Pretrain(share, network, BL_LOOP, weights, AUGMENT)


# Ours: what `flowhmr refine` does, on shorter batches, with the first levels of the backbone kept
# (a third of the time), flow only where the network sees the vertex's own part, and a third of the
# flow's weight (`flowhmr experiment weights`).
REFINE = RefineConfig()
FAR_PAIRS = replace(REFINE.pairs, flow_px=128)
"""As far apart as flow holds. The small images have no more to give than 128 px."""
NEIGHBOURS = PairConfig(gap=1, flow_px=128)
"""The paper's pairs."""
CARRIED_PAIRS = PairConfig(gap=8, hop=1, flow_px=128)
"""Further apart than flow can be estimated."""
OURS_LOOP = replace(
    REFINE.train,
    steps=200,
    batch=24,
    pairs=12,
    flow=FlowWeights(0.03),
    fixed_levels=3,
    on_part_m=0.25,
    precision="bfloat16",
    checkpoint_every=100,
)
OURS_FLOW = OURS_LOOP.flow_loss
# A larger texture weight makes bodies drift (`flowhmr experiment weights`).
TEXTURE, KEYPOINTS = TextureWeights(5.0), KeypointWeights(80.0)
# The paper's: neighbours, squared residuals in the pair's mean flow, no anchor while there are
# labels, batch norm frozen in the video's pass only, every visible vertex, all the same.
PAPER_FLOW = FlowLossConfig(consistent=False)
PAPER_LOOP = replace(
    OURS_LOOP,
    flow=FlowWeights(0.003),
    flow_loss=PAPER_FLOW,
    frozen=False,
    on_body=False,
    on_part_m=0.0,
    by_surface=False,
    fixed_levels=0,
    anchor=AnchorWeights(0.0, 0.0, 0.0),
)
