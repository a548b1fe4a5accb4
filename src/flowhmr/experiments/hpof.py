"""HPOF's parts (Ji et al. 2021) on SynthMotion: shape, losses, kinds of encoder.

All rows learn over the shipped single-frame network, which stays as it is. Runs are light ones
(`light_temporal`).
"""

from dataclasses import replace

from flowhmr.experiments.lab import Task
from flowhmr.experiments.tables import Claim, Row, Table
from flowhmr.experiments.temporal import ACCEL, ERROR, TrainTemporal
from flowhmr.losses import AccelerationWeights, RasterFlowWeights, RealismWeights
from flowhmr.networks import HpofConfig
from flowhmr.training import light_hpof, with_hpof_losses

PLAIN = light_hpof()
LIGHT = PLAIN.network
assert isinstance(LIGHT, HpofConfig)
WHOLE = with_hpof_losses(PLAIN)
ABOUT = f"""The shipped single-frame network, which was trained on other, simpler pictures and
stays as it is, gives the bodies that HPOF smooths; it learns from SynthMotion's 720 training clips
with labels and is scored on whole test clips of 31 frames. Smaller than the paper's: {LIGHT.width}
channels (1024), {LIGHT.window} frames in sight (81; its Table 2 has 27 as the best),
{PLAIN.train.steps:,} steps of {PLAIN.train.batch} clips. GRU and transformer look as far
back. Poses are said from the mean ones. The losses of HMR and a pull of rotations to what the
single-frame network says of the features averaged over five frames, then the paper's own one after
the other; flow is DIS's, compared in {WHOLE.raster_px} px."""


def hpof(losses: int = 3, **changed) -> TrainTemporal:
    """HPOF with some of its parts changed.

    Args:
        losses: how many of its own: none, acceleration, also the discriminator, also flow.
        changed: of the architecture.
    """
    train = WHOLE.train
    if losses < 3:
        train = replace(train, raster=RasterFlowWeights(0.0))
    if losses < 2:
        train = replace(train, realism=RealismWeights(0.0))
    if losses < 1:
        train = replace(train, acceleration=AccelerationWeights(0.0))
    return TrainTemporal(replace(WHOLE, network=replace(LIGHT, **changed), train=train))


FULL = "hpof-full"
RUNS: dict[str, Task] = {
    "hpof-poses": hpof(0, pooled=False),
    "hpof-shape": hpof(0),
    "hpof-acceleration": hpof(1),
    "hpof-discriminator": hpof(2),
    FULL: hpof(),
    "hpof-no-shape": hpof(pooled=False),
    "hpof-gru": hpof(smoother="gru"),
    "hpof-gru-3": hpof(smoother="gru", layers=3),
    "hpof-transformer": hpof(smoother="transformer"),
    "hpof-1-block": hpof(2, blocks=1),
    "hpof-3-blocks": hpof(2, blocks=3),
}

PVE = "pve"
PARTS = Table(
    name="hpof-parts",
    title="Shape, losses, and kinds of encoder",
    reproduces="HPOF, Table 1 and Figure 6",
    rows=(
        Row("frame by frame, the network as it was", ERROR, "shipped"),
        Row("B_p alone", ERROR, "hpof-poses"),
        Row("+ B_s", ERROR, "hpof-shape"),
        Row("+ acceleration loss", ERROR, "hpof-acceleration"),
        Row("+ discriminator", ERROR, "hpof-discriminator",
            "PA 51.3, MPJPE 77.2, PVE 93.7, accel. 16.5"),
        Row("+ flow loss (HPOF)", ERROR, FULL, "PA 49.4, MPJPE 73.9, PVE 88.2, accel. 16.3"),
        Row("HPOF without B_s", ERROR, "hpof-no-shape",
            "PA 50.2, MPJPE 76.6, PVE 91.4, accel. 16.5"),
        Row("HPOF, GRU of 2 layers", ERROR, "hpof-gru",
            "PA 50.7, MPJPE 77.1, PVE 92.0, accel. 23.8"),
        Row("HPOF, GRU of 3 layers", ERROR, "hpof-gru-3",
            "PA 50.6, MPJPE 77.2, PVE 92.3, accel. 23.1"),
        Row("HPOF, transformer", ERROR, "hpof-transformer",
            "PA 51.9, MPJPE 79.3, PVE 94.0, accel. 25.3"),
    ),
    minutes=40,
    metrics=("pa_mpjpe", "mpjpe", PVE, ACCEL),
    claims=(
        Claim("The flow loss lowers PA-MPJPE", ((FULL, "hpof-discriminator"),)),
        Claim("... and the error of the vertices", ((FULL, "hpof-discriminator"),), PVE),
        Claim("B_s lowers PA-MPJPE", (("hpof-shape", "hpof-poses"), (FULL, "hpof-no-shape"))),
        Claim("... and the error of the vertices",
              (("hpof-shape", "hpof-poses"), (FULL, "hpof-no-shape")), PVE),
        Claim("The acceleration loss makes motion smoother",
              (("hpof-acceleration", "hpof-shape"),), ACCEL),
        Claim("Convolutions are better than the GRU of 2 layers", ((FULL, "hpof-gru"),)),
        Claim("... and smoother", ((FULL, "hpof-gru"),), ACCEL),
        Claim("Convolutions are better than the GRU of 3 layers", ((FULL, "hpof-gru-3"),)),
        Claim("... and smoother", ((FULL, "hpof-gru-3"),), ACCEL),
        Claim("Convolutions are better than the transformer", ((FULL, "hpof-transformer"),)),
    ),
)  # fmt: skip
FRAMES = Table(
    name="hpof-frames",
    title="How many frames B_s and B_p look at",
    reproduces="HPOF, Table 2",
    rows=(
        Row("9 frames (1 block)", ERROR, "hpof-1-block",
            "PA 52.5, MPJPE 80.5, PVE 94.5, accel. 15.3"),
        Row("27 frames (2 blocks)", ERROR, "hpof-discriminator",
            "PA 51.5, MPJPE 79.8, PVE 93.6, accel. 14.2"),
        Row("81 frames (3 blocks)", ERROR, "hpof-3-blocks",
            "PA 55.0, MPJPE 82.3, PVE 96.6, accel. 17.1"),
    ),
    minutes=40,
    metrics=("pa_mpjpe", "mpjpe", PVE, ACCEL),
    claims=(
        Claim("27 frames are better than 9 and than 81",
              (("hpof-discriminator", "hpof-1-block"), ("hpof-discriminator", "hpof-3-blocks"))),
        Claim("... and smoother",
              (("hpof-discriminator", "hpof-1-block"), ("hpof-discriminator", "hpof-3-blocks")),
              ACCEL),
    ),
)  # fmt: skip
TABLES: dict[str, Table] = {table.name: table for table in (PARTS, FRAMES)}
