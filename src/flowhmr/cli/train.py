"""Train a network over the features of video (TCMR, VIBE, HPOF) on synthetic clips, and score it.

`config:tcmr`, `config:vibe` and `config:hpof` are the papers', for a GPU; `config:tcmr-light` and
the other light ones train on a CPU. Flags of any of them come after its name. The single-frame
network that gives the features is `--config.start`, the shipped one by default; it stays as it is,
and the file that is written holds both.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Union

import tyro

from flowhmr.body import open_body
from flowhmr.cli.shared import StepProgress, console, default_cache, device_of, make_folder
from flowhmr.data import MotionSetConfig, motion_sequences
from flowhmr.distributed import leave
from flowhmr.evaluation import Report, compare_markdown
from flowhmr.networks import (
    ContextFeaturesConfig,
    FramewiseConfig,
    HpofConfig,
    SmoothNetConfig,
    TcmrConfig,
    VibeConfig,
    load_temporal,
)
from flowhmr.training import (
    LIGHT_HIDDEN,
    TemporalTrainingConfig,
    light_hpof,
    light_temporal,
    pretrain_temporal,
    score_temporal,
    stored_features,
    with_hpof_losses,
)

HELD_OUT = MotionSetConfig(("val",))
"""Clips to score on. Settings are chosen by what a run says at its end: the test clips are left to
`flowhmr evaluate` and to the tables."""
PRESETS: dict[str, TemporalTrainingConfig] = {
    "tcmr": TemporalTrainingConfig(),
    "tcmr-light": light_temporal(TcmrConfig(hidden=LIGHT_HIDDEN)),
    "vibe": TemporalTrainingConfig(VibeConfig()),
    "vibe-light": light_temporal(VibeConfig(hidden=LIGHT_HIDDEN)),
    "hpof": with_hpof_losses(TemporalTrainingConfig(HpofConfig())),
    "hpof-light": with_hpof_losses(light_hpof()),
    "smoothnet-light": light_temporal(SmoothNetConfig(frames=16, width=128, inner=64)),
    "context-light": light_temporal(ContextFeaturesConfig()),
    "framewise-light": light_temporal(FramewiseConfig()),
}

ABOUT = {
    "tcmr": "TCMR as in its paper, for a GPU.",
    "tcmr-light": "TCMR with small GRUs on small images, for a CPU.",
    "vibe": "VIBE's encoder (--config.network.direction forward: that of its code).",
    "vibe-light": "The same with small GRUs on small images, for a CPU.",
    "hpof": "HPOF as in its paper (--config.network.smoother gru, transformer), for a GPU.",
    "hpof-light": "HPOF with two blocks of few channels on small images, for a CPU.",
    "smoothnet-light": "SmoothNet, a filter that is learnt, with few units.",
    "context-light": "of4hmr's context network over features.",
    "framewise-light": "The control: no temporal part, the regressor alone learns.",
}

if TYPE_CHECKING:
    Preset = TemporalTrainingConfig
else:
    # The preset says which network it is; its flags need no second choice.
    Settled = tyro.conf.AvoidSubcommands[TemporalTrainingConfig]
    Preset = Union[  # noqa: UP007 - the parts come from a table
        tuple(
            Annotated[Settled, tyro.conf.subcommand(name, default=config, description=ABOUT[name])]
            for name, config in PRESETS.items()
        )
    ]


@dataclass(frozen=True)
class Arguments:
    """Flags of ``flowhmr train``."""

    run: Path
    """Run folder. Start the same command again to go on after an interruption."""
    config: Preset = field(default_factory=lambda: PRESETS["tcmr-light"])
    """The run."""
    score: int = 60
    """Held-out clips to score on at the end, of other people, clothes, motions and scenes."""
    cache: Path = field(default_factory=default_cache)
    """Where clips and features are kept."""
    device: str = "auto"
    """cpu, cuda or auto."""


def run(arguments: Arguments) -> None:
    """Train, score, say where the network is."""
    device, body, config = device_of(arguments.device), open_body(), arguments.config
    make_folder(arguments.run)
    path = pretrain_temporal(config, arguments.run, arguments.cache, device, StepProgress)
    console.print(f"network: {path}\nlosses:  {arguments.run / 'losses.png'}")
    if not leave() or not arguments.score:
        return
    both = load_temporal(path)
    held_out = replace(HELD_OUT, size=config.video.size, count=arguments.score)
    sequences = motion_sequences(held_out, arguments.cache, StepProgress("drawing clips"))
    crops = replace(config.features, occluded=0)
    store = stored_features(both.hmr, crops, sequences, arguments.cache, device, StepProgress)
    reports = []
    alone = FramewiseConfig().build(both.hmr)
    for name, network in (("frame by frame, as it was", alone), (str(path), both.temporal)):
        scores = score_temporal(network, store, body, device)
        reports.append(Report(name, "SynthMotion, val", tuple(scores)))
    reports[-1].write(arguments.run, "scores")
    console.print(f"{len(store)} held-out clips\n{compare_markdown(reports)}")
