"""TCMR's ablations (Choi et al. 2021) and what it is compared with, on SynthMotion.

All rows learn from one set of features, those of the shipped single-frame network, which stays as
it is. Runs are light ones (`light_temporal`).
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from flowhmr.data import FeatureConfig, StoredFeatures, motion_sequences
from flowhmr.evaluation import METRICS
from flowhmr.experiments.lab import NETWORK, Lab, Results, Scores, Task
from flowhmr.experiments.tables import Claim, Row, Table
from flowhmr.networks import (
    BASELINE,
    ContextFeaturesConfig,
    FramewiseConfig,
    Hmr,
    SmoothNetConfig,
    TcmrConfig,
    TemporalHmr,
    VibeConfig,
    average_filter,
    load_estimator,
    load_temporal,
    one_euro_filter,
)
from flowhmr.records import Estimate
from flowhmr.synth import SplitName
from flowhmr.training import (
    CHECKPOINT,
    LIGHT_HIDDEN,
    TemporalTrainingConfig,
    first_network,
    light_temporal,
    pretrain_temporal,
    score_temporal,
    stored_features,
    temporal_links,
)

FILTERS: dict[str, Callable[[Estimate], Estimate]] = {
    "average": partial(average_filter, reach=1),
    "one-euro": one_euro_filter,
}


@dataclass(frozen=True)
class TrainTemporal:
    """Train a network over features and score it."""

    config: TemporalTrainingConfig
    """The run; its seed is taken from the experiment's."""
    scored: tuple[SplitName, ...] = ("test",)
    """On what."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing: the features are the shipped network's."""
        return ()

    def run(self, lab: Lab, folder: Path, seed: int) -> Results:
        """Train and score."""
        config = replace(self.config, train=replace(self.config.train, seed=seed))
        if not (folder / NETWORK).exists():
            prepare_temporal(config, lab)
            pretrain_temporal(config, folder, lab.cache, lab.device, lab.told)
            (folder / CHECKPOINT).unlink(missing_ok=True)
        return scores_over(lab, load_temporal(folder / NETWORK), self.scored)


def prepare_temporal(config: TemporalTrainingConfig, lab: Lab) -> StoredFeatures:
    """Clips, features, flow: of several runs at once one makes them, the others wait."""
    with lab.alone("features"):
        sequences = motion_sequences(config.video, lab.cache, lab.told("drawing clips"))
        store = stored_features(
            first_network(config), config.features, sequences, lab.cache, lab.device, lab.told
        )
    if config.train.raster.raster_flow:
        with lab.alone("links"):
            temporal_links(config, sequences, lab.cache, lab.told)
    return store


@dataclass(frozen=True)
class FilterTemporal:
    """The bodies of another run's network, filtered: averaged over three frames (TCMR, Table 5),
    or through a one-euro filter."""

    start: str
    """The run; '': the shipped network, frame by frame."""
    by: Literal["average", "one-euro"] = "average"
    """The filter."""
    scored: tuple[SplitName, ...] = ("test",)
    """On what."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The network whose bodies are filtered."""
        return (self.start,) if self.start else ()

    def run(self, lab: Lab, folder: Path, seed: int) -> Results:
        """Score."""
        file = lab.folder(self.start, seed) / NETWORK if self.start else BASELINE
        network = load_estimator(file)
        if isinstance(network, Hmr):
            network = TemporalHmr(network, FramewiseConfig())
        if not isinstance(network, TemporalHmr):
            raise ValueError(
                f"{file}: got a network with temporal context; expected one of single frames or "
                "over features; filter another run"
            )
        return scores_over(lab, network, self.scored, FILTERS[self.by])


def scores_over(
    lab: Lab,
    both: TemporalHmr,
    splits: tuple[SplitName, ...],
    after: Callable[[Estimate], Estimate] = lambda estimate: estimate,
) -> Results:
    """Of a network, or of what a filter makes of its bodies, on the clips as they are."""
    lab.body.check_identity("network", both.body_id)
    results: Results = {}
    for split in splits:
        videos = lab.video(split)
        with lab.alone("features"):
            store = stored_features(
                both.hmr, FeatureConfig(occluded=0), videos, lab.cache, lab.device, lab.told
            )
        rows = score_temporal(both.temporal, store, lab.body, lab.device, after)
        per_clip = {m: [float(getattr(row, m)) for row in rows] for m in METRICS}
        # All clips are of one length.
        means = {m: sum(v) / len(v) for m, v in per_clip.items()}
        results[split] = asdict(Scores(means, per_clip))
    return results


LIGHT = TcmrConfig(hidden=LIGHT_HIDDEN)
LIGHT_SMOOTHNET = SmoothNetConfig(frames=16, width=128, inner=64)
TRAIN = light_temporal(LIGHT).train
ABOUT = f"""Features of the shipped single-frame network, which was trained on other, simpler
pictures and stays as it is; the networks over them learn from SynthMotion's 720 training clips with
labels and are scored on whole test clips of 31 frames. Smaller than the paper's: GRUs of
{LIGHT.hidden} units a direction (1024), {TRAIN.steps:,} steps of {TRAIN.batch} clips at a rate of
{TRAIN.optimiser.learning_rate:g} that falls to zero (30 epochs at 5e-5), rotations held to what the
single-frame network says of the features averaged over five frames (no such thing). TCMR's windows
reach past the ends of a clip in training as in the test: half of so short a clip is near an end."""


def tcmr(**changed) -> TrainTemporal:
    """TCMR with some of its parts changed."""
    return TrainTemporal(light_temporal(replace(LIGHT, **changed)))


def vibe(direction: Literal["both", "forward"]) -> TrainTemporal:
    """VIBE's encoder."""
    return TrainTemporal(light_temporal(VibeConfig(hidden=LIGHT_HIDDEN, direction=direction)))


FULL = "tcmr-full"
RUNS: dict[str, Task] = {
    FULL: tcmr(),
    "tcmr-residual": tcmr(residual=True),
    "tcmr-no-forecast": tcmr(forecast=False),
    "tcmr-residual-no-forecast": tcmr(residual=True, forecast=False),
    "tcmr-sees-current": tcmr(sees_current=True),
    "tcmr-supervised-own": tcmr(supervised="own"),
    "tcmr-supervised-none": tcmr(supervised="none"),
    "tcmr-filter": FilterTemporal(FULL),
    "vibe": vibe("both"),
    "vibe-forward": vibe("forward"),
    "vibe-filter": FilterTemporal("vibe"),
    "framewise": TrainTemporal(light_temporal(FramewiseConfig())),
    "shipped-filter": FilterTemporal(""),
    "shipped-one-euro": FilterTemporal("", "one-euro"),
    "smoothnet": TrainTemporal(light_temporal(LIGHT_SMOOTHNET)),
    "context-features": TrainTemporal(light_temporal(ContextFeaturesConfig())),
}

METRICS_SHOWN = ("pa_mpjpe", "mpjpe", "pve", "accel_error")
ERROR, ACCEL = "error", "accel_error"
PARTS = Table(
    name="tcmr-parts",
    title="Without the residual, with PoseForecast",
    reproduces="TCMR, Table 1",
    rows=(
        Row("residual, no PoseForecast", ERROR, "tcmr-residual-no-forecast",
            "PA 55.6, accel. 29.2"),
        Row("residual, PoseForecast", ERROR, "tcmr-residual", "PA 55.0, accel. 24.9"),
        Row("no residual, no PoseForecast", ERROR, "tcmr-no-forecast", "PA 54.2, accel. 8.7"),
        Row("no residual, PoseForecast (TCMR)", ERROR, FULL, "PA 53.9, accel. 7.7"),
    ),
    minutes=20,
    metrics=METRICS_SHOWN,
    claims=(
        Claim("Without the residual motion is smoother",
              (("tcmr-no-forecast", "tcmr-residual-no-forecast"), (FULL, "tcmr-residual")), ACCEL),
        Claim("... and bodies are no worse",
              (("tcmr-no-forecast", "tcmr-residual-no-forecast"), (FULL, "tcmr-residual")),
              no_worse=True),
        Claim("PoseForecast makes motion smoother",
              (("tcmr-residual", "tcmr-residual-no-forecast"), (FULL, "tcmr-no-forecast")), ACCEL),
        Claim("... and bodies are no worse",
              (("tcmr-residual", "tcmr-residual-no-forecast"), (FULL, "tcmr-no-forecast")),
              no_worse=True),
    ),
)  # fmt: skip
FORECAST = Table(
    name="tcmr-forecast",
    title="What PoseForecast sees, and what it is held to",
    reproduces="TCMR, Tables 2 and 3",
    rows=(
        Row("sees the current frame", ERROR, "tcmr-sees-current", "PA 53.8, accel. 10.3"),
        Row("held to nothing", ERROR, "tcmr-supervised-none", "PA 55.1, accel. 8.3"),
        Row("held to the frames that it saw last", ERROR, "tcmr-supervised-own",
            "PA 54.1, accel. 8.5"),
        Row("does not see it, held to it (TCMR)", ERROR, FULL, "PA 53.9, accel. 7.7"),
    ),
    minutes=20,
    metrics=METRICS_SHOWN,
    claims=(
        Claim("Not to see the current frame is smoother", ((FULL, "tcmr-sees-current"),), ACCEL),
        Claim("To be held to the current frame is smoother than to be held to others",
              ((FULL, "tcmr-supervised-own"),), ACCEL),
        Claim("... and than to be held to nothing", ((FULL, "tcmr-supervised-none"),), ACCEL),
        Claim("... and bodies are better", ((FULL, "tcmr-supervised-none"),)),
    ),
)  # fmt: skip
SYSTEMS = Table(
    name="tcmr-systems",
    title="Frame by frame, filters, context, VIBE, TCMR, HPOF",
    reproduces="TCMR, Tables 4 and 5",
    rows=(
        Row("frame by frame, the network as it was", ERROR, "shipped"),
        Row("frame by frame, its regressor trained on the clips", ERROR, "framewise"),
        Row("frame by frame, averaged", ERROR, "shipped-filter"),
        Row("frame by frame, one-euro filter", ERROR, "shipped-one-euro"),
        Row("SmoothNet (a filter that is learnt)", ERROR, "smoothnet"),
        Row("of4hmr's context network, 8 frames", ERROR, "context-features"),
        Row("VIBE, forward (its code)", ERROR, "vibe-forward"),
        Row("VIBE, both ways (its paper)", ERROR, "vibe", "PA 57.6, MPJPE 91.9, accel. 25.4"),
        Row("VIBE, averaged", ERROR, "vibe-filter", "PA 57.8, MPJPE 91.6, accel. 13.5"),
        Row("TCMR", ERROR, FULL, "PA 52.7, MPJPE 86.5, accel. 7.1"),
        Row("TCMR, averaged", ERROR, "tcmr-filter", "PA 55.0, MPJPE 88.7, accel. 6.5"),
        Row("HPOF", ERROR, "hpof-full", "PA 49.4, MPJPE 73.9, accel. 16.3"),
    ),
    minutes=20,
    metrics=METRICS_SHOWN,
    claims=(
        Claim("TCMR is smoother than VIBE", ((FULL, "vibe"),), ACCEL),
        Claim("... and than VIBE with a filter", ((FULL, "vibe-filter"),), ACCEL),
        Claim("TCMR's bodies are better than VIBE's", ((FULL, "vibe"),)),
        Claim("VIBE's bodies are better than frame by frame", (("vibe", "framewise"),)),
        Claim("TCMR is smoother than a one-euro filter over single frames",
              ((FULL, "shipped-one-euro"),), ACCEL),
        Claim("... and its bodies are better", ((FULL, "shipped-one-euro"),)),
        Claim("TCMR is smoother than SmoothNet", ((FULL, "smoothnet"),), ACCEL),
        Claim("... and its bodies are better", ((FULL, "smoothnet"),)),
        Claim("A filter makes TCMR smoother", (("tcmr-filter", FULL),), ACCEL),
    ),
)  # fmt: skip
TABLES: dict[str, Table] = {table.name: table for table in (PARTS, FORECAST, SYSTEMS)}
