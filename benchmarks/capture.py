"""A video captured from end to end: the shipped clip, with the keypoints that ship with it.

    python benchmarks/capture.py [--rounds N] [--json PATH]

`flowhmr capture` in this process, without the program's start and without a keypoint detector (a
process of its own with its own speed, see docs/capture.md), all files written. The peer is reading
the video three times and nothing else, as capture does. Processor time of all threads; decoding and
encoding have several, so that a machine with two cores is done sooner. Stages are shares of the
wall time that the report's table has.
"""

import contextlib
import io
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from loading import all_frames
from suite import Result
from timing import Options, compared, main, turns

from flowhmr.capture import CaptureConfig
from flowhmr.cli.capture import Arguments, run
from flowhmr.data import PeopleConfig, demo_clip

READ = 3
"""How often capture reads a video: flow, cuts, overlay."""
STAGE = re.compile(r"<tr><th>([^<]+)</th><td class=\"share\">.*?<td[^>]*>([\d.]+)</td>")
"""A row of the report's timings."""


@dataclass(frozen=True)
class CaptureOptions(Options):
    """Flags."""

    rounds: int = 2
    """How often the clip is captured."""


def measure(options: CaptureOptions) -> list[Result]:
    """The clip as a whole, then its stages."""
    clip, boxes = demo_clip()
    config = CaptureConfig(people=PeopleConfig(boxes=(boxes,)))
    walls: list[float] = []
    with tempfile.TemporaryDirectory() as name:

        def captured() -> None:
            # A folder of its own: a second capture would find the first one's journals.
            out = Path(name) / str(len(walls))
            began = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                run(Arguments(clip, out=out, config=config, device="cpu"))
            walls.append(time.perf_counter() - began)

        times = turns({"flowhmr": captured, "reading it": all_frames}, options.rounds)
        page = (Path(name) / str(len(walls) - 1) / "report.html").read_text()
    frames = all_frames()
    stages = {stage: float(seconds) for stage, seconds in STAGE.findall(page)}
    total = sum(stages.values())
    return [
        *compared(
            f"the shipped clip, {frames} frames", times, peers={"reading it": READ},
            unit="frames/s", per=frames,
        ),
        Result("wall time, one core", frames / walls[-1], "frames/s", "higher"),
        *(
            Result(f"share of wall time: {stage}", 100 * seconds / total, "%")
            for stage, seconds in stages.items()
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    main(CaptureOptions, measure)
