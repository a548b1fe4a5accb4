"""The temporal part of networks over features, ms a frame: over a whole video, and frame by frame.

    python benchmarks/temporal.py [--json PATH] [--rounds N] [--frames N]

Networks of the papers' sizes with random weights over random features of the shipped network;
features are there already, so that only what comes after them is timed, the last regressor or
layer included. HPOF's Table 1 has 1.9 ms for its convolutions, 4.0 and 6.4 for GRUs of 2 and 3
layers, 4.3 for its transformer, on a GTX 1080, without saying of how many frames at once. Times
are medians of the processor time of one thread over rounds in which all take turns.

On one core of a busy 2-core AMD EPYC VM, torch 2.12.0, --rounds 3, 64 frames, ms a frame:

                                    whole video   frame by frame
    HPOF, convolutions              .71           8.2
    HPOF, convolutions, 2 blocks    .35           6.0
    HPOF, GRU of 2 layers           2.3           5.1
    HPOF, GRU of 3 layers           3.2           7.8
    HPOF, transformer               .97           33
    VIBE, forward                   1.1
    TCMR                            18            65

Over a whole video the convolutions are 3.2 times as fast as the GRU of two layers; frame by frame
they are not (.57): ours carries its state from frame to frame, and then both only read weights, of
which the convolutions have more. The GRU of HPOF begins with 80 frames that VIBE's does without.
"""

import argparse
import json
import platform
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
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

NETWORKS: dict[str, TemporalConfig] = {
    "HPOF, convolutions": HpofConfig(),
    "HPOF, convolutions, 2 blocks": HpofConfig(blocks=2),
    "HPOF, GRU of 2 layers": HpofConfig(smoother="gru"),
    "HPOF, GRU of 3 layers": HpofConfig(smoother="gru", layers=3),
    "HPOF, transformer": HpofConfig(smoother="transformer"),
    "VIBE, forward": VibeConfig(direction="forward"),
    "TCMR": TcmrConfig(),
}
RATIO = 2.0
"""How many times as fast as GRUs the convolutions are to be (HPOF's Table 1)."""


@dataclass(frozen=True)
class Result:
    """One measured number."""

    name: str
    value: float
    unit: str
    better: str
    """"lower" or "higher"."""
    target: float | None = None
    """The value to reach; None for numbers that are only reported."""

    def line(self) -> str:
        """The number as one line of the report."""
        text = f"{self.name:<56}{self.value:>10.3g} {self.unit}"
        if self.target is None:
            return text
        reached = self.value >= self.target
        return f"{text:<76} target >= {self.target:g}: {'reached' if reached else 'MISSED'}"


def run(network: TemporalNetwork, features: Tensor, online: bool) -> None:
    """All bodies, at once or one after the other."""
    if online and isinstance(network, Hpof | Tcmr):
        for _ in network.follow(iter(features)):
            pass
    else:
        network.sequence(features)


@torch.no_grad()
def measure(frames: int, rounds: int) -> list[Result]:
    """Times of all networks in both ways, and ratios."""
    hmr = load_hmr(BASELINE)
    torch.manual_seed(0)
    built = {name: config.build(hmr).eval() for name, config in NETWORKS.items()}
    features = torch.randn(frames, hmr.feature_size)
    results = []
    for way, online in (("whole video", False), ("frame by frame", True)):
        taken: dict[str, list[float]] = {name: [] for name in built}
        for turn in range(rounds + 1):
            for name, network in built.items():
                if online and not isinstance(network, Hpof | Tcmr):
                    continue
                start = time.process_time()
                run(network, features, online)
                if turn:  # the first round warms up
                    taken[name].append((time.process_time() - start) * 1000 / frames)
        for name, each in taken.items():
            if each:
                results.append(
                    Result(f"{way}: {name}", statistics.median(each), "ms a frame", "lower")
                )
        ours = taken["HPOF, convolutions"]
        for name in ("HPOF, GRU of 2 layers", "HPOF, GRU of 3 layers"):
            ratio = statistics.median(b / a for a, b in zip(ours, taken[name], strict=True))
            results.append(
                Result(f"{way}: {name} over convolutions", ratio, "times", "higher", RATIO)
            )
    return results


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="Temporal parts, ms a frame.")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=64)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = measure(arguments.frames, arguments.rounds)
    for result in results:
        print(result.line())
    if arguments.json is not None:
        about = {"machine": platform.machine(), "torch": torch.__version__}
        content = about | {"results": [asdict(result) for result in results]}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
