"""Refine the shipped network on the shipped clip with its own motion, show what changed, and
capture the person in it in 3D."""

import json
import textwrap
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from flowhmr.body import BodyModel
from flowhmr.cameras import Crop, warp_image
from flowhmr.capture import CaptureConfig, bodies_along
from flowhmr.cli.capture import Arguments as CaptureArguments
from flowhmr.cli.capture import run as run_capture
from flowhmr.cli.evaluate import VideoScore, score_benchmark
from flowhmr.cli.predict import overlay_frames
from flowhmr.cli.shared import (
    StepProgress,
    console,
    default_cache,
    device_of,
    make_folder,
    network_and_body,
)
from flowhmr.data import (
    BenchmarkConfig,
    PairConfig,
    PeopleConfig,
    benchmark_sequences,
    demo_clip,
    frame_crops,
    open_video,
    people_of,
    sequences_of,
    write_video,
)
from flowhmr.evaluation import Report, score_flow, score_jitter
from flowhmr.geometry import pick
from flowhmr.networks import ContextHmr, Hmr, load_hmr
from flowhmr.records import Sequence, Track
from flowhmr.training import RefineConfig, estimator_of, flow_source, refine
from flowhmr.view import Figure, contact_sheet, write_page

SHOWN = 8
TILE_PX = 260


@dataclass(frozen=True)
class Arguments:
    """Flags of ``flowhmr demo``."""

    out: Path = Path("out/demo")
    """Folder for everything it writes."""
    config: RefineConfig = field(default_factory=RefineConfig)
    """The refinement."""
    benchmark: BenchmarkConfig = field(default_factory=BenchmarkConfig)
    """Synthetic test video: refined on without its labels, and scored with them."""
    cache: Path = field(default_factory=default_cache)
    """Where flow and stills are kept."""
    device: str = "auto"
    """cpu, cuda or auto."""


@dataclass(frozen=True, eq=False)
class _Side:
    """One network's results: before or after."""

    name: str
    report: Report
    video: VideoScore
    track: Track


def run(arguments: Arguments) -> None:
    """Refine, score, draw."""
    began = time.monotonic()
    device = device_of(arguments.device)
    network, body = network_and_body(None)
    out = make_folder(arguments.out)
    clip_path, boxes_path = demo_clip()
    people = PeopleConfig(boxes=(boxes_path,))
    with open_video(clip_path) as video:
        tracks = people_of(video, people, device)
    real = sequences_of(clip_path, tracks, arguments.config.pairs.flow_px)
    console.print(f"real clip: {clip_path.name}, {sum(map(len, real))} frames, no annotation used")
    tests = benchmark_sequences(arguments.benchmark, body)
    video = real + [replace(sequence, labels=None) for sequence in tests]

    console.print("scoring the shipped network")
    before = _score("before", network, body, real, tests, arguments, device)
    console.print(f"refining it on {len(video)} unannotated clips")
    folder = out / f"run-{int(time.time())}"
    path = refine(
        arguments.config,
        network,
        body,
        video,
        folder,
        arguments.cache,
        device,
        StepProgress("rendering stills"),
    )
    refined = load_hmr(path)
    console.print("scoring the refined network")
    after = _score("after", refined, body, real, tests, arguments, device)

    table = _table([before, after])
    sheet = _write_sheet(out / "before_after.png", clip_path, [before, after], body)
    overlay = _write_overlay(out / "overlay.mp4", clip_path, after, body)
    minutes = (time.monotonic() - began) / 60
    page = write_page(
        out / "report.html",
        "flowhmr demo: a body estimator refined with the motion in a video",
        [
            f"The shipped network was refined for {arguments.config.train.steps} steps on the "
            f"optical flow of {len(video)} clips without annotation (one real; the rest are the "
            "synthetic test video, whose labels serve the scores only) and on labelled stills of "
            "other synthetic people, motions and scenes. All of it took "
            f"{minutes:.1f} minutes on this machine.",
            table,
            Figure(overlay, "The refined network's bodies over the real clip."),
            Figure(sheet, "The same frames before and after."),
            Figure(folder / "losses.png", "Losses during refinement."),
            textwrap.indent(json.dumps(asdict(arguments.config), indent=2, default=str), "    "),
        ],
    )
    console.print(f"\n{table}")
    for what, where in {
        "overlay video": overlay,
        "before/after sheet": sheet,
        "report page": page,
        "refined network": path,
    }.items():
        console.print(f"{what:18}  {where.resolve()}")
    console.print(f"{'took':18}  {minutes:.1f} minutes")
    console.print("\n3D motion of the same clip, by the network of keypoints and flow")
    whole = CaptureConfig(people=people)
    run_capture(
        CaptureArguments(clip_path, out=out / "capture", config=whole, device=arguments.device)
    )


def _score(
    name: str,
    network: Hmr | ContextHmr,
    body: BodyModel,
    real: list[Sequence],
    tests: list[Sequence],
    arguments: Arguments,
    device: torch.device,
) -> _Side:
    estimator = estimator_of(network, device)
    size_px = network.size_px
    report = score_benchmark(name, estimator, size_px, tests, body)
    neighbours = PairConfig()
    source = flow_source(neighbours, arguments.config.flow, arguments.cache)
    longest = max(real, key=len)
    starts = range(len(longest) - neighbours.gap)
    flow = score_flow(estimator, (source.pair(longest, s, size_px) for s in starts), body)
    jitter = score_jitter(estimator, frame_crops(longest, size_px), body)
    clip_path, boxes_path = demo_clip()
    with open_video(clip_path) as video:
        tracks = people_of(video, PeopleConfig(boxes=(boxes_path,)), device)
    track = bodies_along(clip_path, tracks, network, device)[tracks[0].person]
    return _Side(name, report, VideoScore(name, longest.name, flow, jitter), track)


def _table(sides: list[_Side]) -> str:
    rows: list[tuple[str, Callable[[_Side], float]]] = [
        ("real clip: flow disagreement (px of 224)", lambda s: s.video.flow.disagreement_px),
        ("real clip: jitter, accel. (mm/frame²)", lambda s: s.video.accel),
        ("synthetic test video: PA-MPJPE (mm)", lambda s: s.report.mean("pa_mpjpe")),
        ("synthetic test video: MPJPE (mm)", lambda s: s.report.mean("mpjpe")),
        ("synthetic test video: accel. error (mm/frame²)", lambda s: s.report.mean("accel_error")),
    ]
    lines = ["| | " + " | ".join(s.name for s in sides) + " |", "|---|" + "---|" * len(sides)]
    lines += [f"| {w} | " + " | ".join(f"{v(s):.2f}" for s in sides) + " |" for w, v in rows]
    return "\n".join(lines) + "\n"


def _write_sheet(path: Path, clip_path: Path, sides: list[_Side], body: BodyModel) -> Path:
    track = sides[0].track
    rows = torch.linspace(0, len(track.frame_indices) - 1, SHOWN).long().tolist()
    windows = {
        int(track.frame_indices[r]): replace(pick(track.crop, r), size_px=TILE_PX) for r in rows
    }
    pictures = [_pictures(clip_path, None, windows, body)]
    pictures += [_pictures(clip_path, side.track, windows, body) for side in sides]
    titles = ["the clip", *(s.name for s in sides)]
    Image.fromarray(contact_sheet(pictures, titles, TILE_PX)).save(path)
    return path


def _pictures(
    clip_path: Path, track: Track | None, windows: dict[int, Crop], body: BodyModel
) -> list[np.ndarray]:
    """Frames by number, each cut to its window around the person."""
    with open_video(clip_path) as video:
        frames = (f for f in video if f.index in windows)
        drawn = overlay_frames(frames, {} if track is None else {0: track}, body)
        return [warp_image(d, w) for d, w in zip(drawn, windows.values(), strict=True)]


def _write_overlay(path: Path, clip_path: Path, side: _Side, body: BodyModel) -> Path:
    with open_video(clip_path) as video:
        write_video(path, overlay_frames(video, {0: side.track}, body), video.fps)
    return path
