"""The temporal part of networks over features, ms a frame: over a whole video, and frame by frame.

    python benchmarks/temporal.py [--rounds N] [--frames N] [--json PATH]

Networks of the papers' sizes with random weights over random features of the shipped network;
features are there already, so that only what comes after them is timed, the last regressor or
layer included. HPOF's Table 1 has 1.9 ms for its convolutions, 4.0 and 6.4 for GRUs of 2 and 3
layers, 4.3 for its transformer, on a GTX 1080, without saying of how many frames at once.

Frame by frame ours carries its state from frame to frame, and so does a GRU: then both only read
weights, of which the convolutions have more. The limit is arithmetic over a whole video, and
memory, each weight read once a frame, frame by frame.
"""

from dataclasses import dataclass

import torch
from suite import Result
from timing import Least, Options, Work, compared, flops_of, limits, main, turns
from torch import Tensor

from flowhmr.networks import (
    BASELINE,
    Hpof,
    HpofConfig,
    Tcmr,
    TcmrConfig,
    TemporalConfig,
    TemporalNetwork,
    VibeConfig,
    load_hmr,
)

OURS = "HPOF, convolutions"
NETWORKS: dict[str, TemporalConfig] = {
    OURS: HpofConfig(),
    "HPOF, convolutions, 2 blocks": HpofConfig(blocks=2),
    "HPOF, GRU of 2 layers": HpofConfig(smoother="gru"),
    "HPOF, GRU of 3 layers": HpofConfig(smoother="gru", layers=3),
    "HPOF, transformer": HpofConfig(smoother="transformer"),
    "VIBE, forward": VibeConfig(direction="forward"),
    "TCMR": TcmrConfig(),
}
RATIO = 2.0
"""How many times as fast as GRUs the convolutions are to be (HPOF's Table 1)."""
BESIDE = ("HPOF, GRU of 2 layers", "HPOF, GRU of 3 layers")


def run(network: TemporalNetwork, features: Tensor, online: bool) -> None:
    """All bodies, at once or one after the other."""
    if online and isinstance(network, Hpof | Tcmr):
        for _ in network.follow(iter(features)):
            pass
    else:
        network.sequence(features)


def running(network: TemporalNetwork, features: Tensor, online: bool) -> Work:
    """The same as a call."""
    return torch.no_grad()(lambda: run(network, features, online))


@dataclass(frozen=True)
class TemporalOptions(Options):
    """Flags."""

    rounds: int = 5
    """How often everything is measured."""
    frames: int = 64
    """Of the video."""


def measure(options: TemporalOptions) -> list[Result]:
    """All networks in both ways."""
    hmr = load_hmr(BASELINE)
    torch.manual_seed(0)
    built = {name: config.build(hmr).eval() for name, config in NETWORKS.items()}
    features = torch.randn(options.frames, hmr.feature_size)
    return [
        result
        for online in (False, True)
        for result in one_way(built, features, online, options.rounds)
    ]


def one_way(
    built: dict[str, TemporalNetwork], features: Tensor, online: bool, rounds: int
) -> list[Result]:
    """All networks over a whole video, or as its frames come."""
    work = {
        name: running(network, features, online)
        for name, network in built.items()
        if not online or isinstance(network, Hpof | Tcmr)
    }
    times = turns(work | limits(), rounds)
    results, frames = [], len(features)
    for name, call in work.items():
        weights = sum(p.nbytes for p in built[name].parameters())
        least = Least(bytes=frames * weights) if online else Least(flops=flops_of(call))
        results += compared(
            f"{'frame by frame' if online else 'whole video'}: {name}", times, name,
            BESIDE if name == OURS else (), unit="ms/frame", per=frames, least=least,
            target_ratios=None if online else dict.fromkeys(BESIDE, RATIO),
        )  # fmt: skip
    return results


if __name__ == "__main__":
    main(TemporalOptions, measure)
