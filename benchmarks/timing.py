"""Work that takes turns, beside the machine's limits; and what every benchmark's script does.

Times are processor time of this process with all its threads, since the machine may be busy with
other work: where several threads run it is more than what a clock says. Wall time is named so.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
import tyro
from suite import Result, about, shown, write_json
from torch.utils.flop_counter import FlopCounterMode

Work = Callable[[], object]
"""A call without arguments; its result is ignored, unless it is a `Measured`."""
COPIED_BYTES = 1 << 26
"""Of each array of the copy: beyond every cache. They are read and written."""
PRODUCT_SIDE = 1024
"""Of the matrices of the product: 2 x 1024^3 operations."""
PRODUCT_FLOPS = 2.0 * PRODUCT_SIDE**3
CONVOLVED = (4, 256, 28, 28)
"""Images, channels, height and width of the 3x3 convolution to as many channels."""


@dataclass(frozen=True)
class Measured:
    """What work returns that measures itself, because some of it does not count."""

    ms: float


@dataclass(frozen=True)
class Least:
    """What a call cannot do without, whoever writes it."""

    bytes: float = 0.0
    """Moved between memory and processor, each once."""
    flops: float = 0.0
    """Floating-point operations; a multiplication and an addition are two."""

    def units(self) -> dict[str, float]:
        """How many calls of each limit's work (`limits`) that is."""
        of = {
            "memory": self.bytes / (2 * COPIED_BYTES),
            "arithmetic": self.flops / PRODUCT_FLOPS,
        }
        return {name: share for name, share in of.items() if share}


@dataclass(frozen=True)
class Times:
    """Milliseconds of a call, a round each, by the name of the work."""

    ms: Mapping[str, list[float]]

    def median(self, name: str) -> float:
        """The usual time of a call."""
        return statistics.median(self.ms[name])

    def ratio(self, ours: str, other: str) -> float:
        """How many times longer the other takes: the median over rounds."""
        return statistics.median(b / a for a, b in zip(self.ms[ours], self.ms[other], strict=True))


def turns(work: Mapping[str, Work], rounds: int, clock: Callable[[], float] | None = None) -> Times:
    """Time pieces of work that take turns, so that what disturbs one disturbs all.

    A round that does not count comes first: it compiles and warms up.

    Args:
        work: by name.
        rounds: how often each is called.
        clock: seconds; processor time by default.
    """
    read = clock or time.process_time
    ms: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(rounds + 1):
        for name, call in work.items():
            began = read()
            said = call()
            spent = said.ms if isinstance(said, Measured) else 1e3 * (read() - began)
            if turn:
                ms[name].append(spent)
    return Times(ms)


def limits() -> dict[str, Work]:
    """The work that shows the machine's limits, to take its turns beside the rest.

    "arithmetic" is what a product of matrices would take at the speed of a large product or of a
    large convolution, whichever is faster: they come from two libraries, of which one may not know
    the processor (on AMD's, MKL's product reaches half of what oneDNN's convolution does).
    """
    source, target = np.ones(COPIED_BYTES, np.uint8), np.zeros(COPIED_BYTES, np.uint8)
    a, b = torch.randn(2, PRODUCT_SIDE, PRODUCT_SIDE)
    count, channels, height, width = CONVOLVED
    images = torch.randn(CONVOLVED).to(memory_format=torch.channels_last)
    weights = torch.randn(channels, channels, 3, 3).to(memory_format=torch.channels_last)
    convolved_flops = 2.0 * 9 * channels**2 * height * width * count

    def copy() -> None:
        np.copyto(target, source)

    @torch.no_grad()
    def compute() -> Measured:
        began = time.process_time()
        torch.mm(a, b)
        between = time.process_time()
        torch.nn.functional.conv2d(images, weights, padding=1)
        convolved = (time.process_time() - between) * PRODUCT_FLOPS / convolved_flops
        return Measured(1e3 * min(between - began, convolved))

    return {"memory": copy, "arithmetic": compute}


def compared(
    name: str,
    times: Times,
    ours: str = "flowhmr",
    peers: Sequence[str] | Mapping[str, float] = (),
    *,
    unit: str = "ms",
    per: float = 1.0,
    target: float | None = None,
    target_ratios: Mapping[str, float] | None = None,
    least: Least | None = None,
    tolerance: float = 0.25,
) -> list[Result]:
    """What turns say of one piece of work: a result beside each peer, and beside each limit.

    Args:
        name: what it does.
        times: of all.
        ours: the work.
        peers: what it stands beside, out of ``times``; if not one to one, with how many of its
            calls do as much as one of ours.
        unit: of the value: milliseconds, or with "/s" at the end a rate.
        per: how many (meshes, frames, ...) a call handles: the value is that of one.
        target: value to reach.
        target_ratios: ratios to reach, by peer.
        least: what the work cannot do without; ``times`` must hold `limits` then.
        tolerance: of the ratios.
    """
    rate = unit.endswith("/s")

    def value(ms: float) -> float:
        return 1e3 * per / ms if rate else ms / per

    better = "higher" if rate else "lower"
    alone = Result(name, value(times.median(ours)), unit, better, tolerance=tolerance)
    units = dict(peers) if isinstance(peers, Mapping) else dict.fromkeys(peers, 1.0)
    units |= least.units() if least else {}
    found = [
        replace(
            alone,
            peer=peer,
            peer_value=value(share * times.median(peer)),
            ratio=share * times.ratio(ours, peer),
            target_ratio=(target_ratios or {}).get(peer),
        )
        for peer, share in units.items()
    ] or [alone]
    return [replace(found[0], target=target), *found[1:]]


def flops_of(work: Work) -> float:
    """Floating-point operations of a call, those of products and convolutions.

    Of forward passes only: what it says of the backward pass of grouped convolutions is too much.
    """
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def training_flops(forward: Work) -> float:
    """Of a forward and a backward pass, which is a product more for the input and one more for the
    weights of each of the forward pass."""
    return 3 * flops_of(forward)


@dataclass(frozen=True)
class Options:
    """Flags of every benchmark."""

    json: Path | None = None
    """Write the numbers to this file too."""
    rounds: int = 15
    """How often everything is measured."""
    peers: bool = True
    """Measure beside the libraries of requirements.txt (otherwise only beside what is there)."""


O = TypeVar("O", bound=Options)


def main(options_type: type[O], measure: Callable[[O], list[Result]]) -> None:
    """What a benchmark's script does: read flags, measure on one core, print, write."""
    script = sys.modules["__main__"]
    options = tyro.cli(options_type, description=script.__doc__)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if hasattr(os, "sched_setaffinity"):  # one core for all, whatever threads a peer starts
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    results = measure(options)
    print(shown(results, Path(str(script.__file__)).stem))
    if options.json:
        rows = [asdict(result) for result in results]
        write_json(options.json, {"about": about(), "results": rows})
