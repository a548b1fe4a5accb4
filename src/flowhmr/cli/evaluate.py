"""Score networks: on synthetic test video (3D errors), on any video (flow disagreement), or by a
protocol of the field on its own data."""

import dataclasses
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro

from flowhmr.body import BodyModel
from flowhmr.cli.protocol import ProtocolFlags, score_by_protocol
from flowhmr.cli.shared import (
    console,
    default_cache,
    device_of,
    estimator_and_body,
    load_people,
    make_folder,
)
from flowhmr.data import (
    BenchmarkConfig,
    PairConfig,
    PeopleConfig,
    benchmark_sequences,
    frame_crops,
    test_clips,
)
from flowhmr.evaluation import (
    Estimator,
    FlowScore,
    MeanPose,
    Report,
    compare_markdown,
    score_clip,
    score_flow,
    score_jitter,
)
from flowhmr.records import Sequence
from flowhmr.synth import mean_rotmats
from flowhmr.training import estimator_of, flow_source


@dataclass(frozen=True)
class Arguments:
    """Flags of ``flowhmr evaluate``."""

    network: tuple[Path, ...] = ()
    """Networks to score; the shipped one by default. The mean pose is always scored beside
    them."""
    benchmark: BenchmarkConfig = dataclasses.field(default_factory=BenchmarkConfig)
    """Synthetic test video; ``--benchmark.count 0`` leaves it out."""
    video: tuple[Path, ...] = ()
    """Videos to measure flow disagreement and jitter on."""
    people: PeopleConfig = dataclasses.field(default_factory=PeopleConfig)
    """Where the people are in them."""
    pairs: PairConfig = dataclasses.field(default_factory=PairConfig)
    """How pairs of those videos are cut."""
    flow: str = "dis"
    """Flow estimator for the disagreement."""
    field: tyro.conf.OmitArgPrefixes[ProtocolFlags] = dataclasses.field(
        default_factory=ProtocolFlags
    )
    """By a named protocol, on the field's own data."""
    out: Path = Path("out/evaluate")
    """Folder for the tables (JSON and Markdown)."""
    cache: Path = dataclasses.field(default_factory=default_cache)
    """Where flow is kept."""
    device: str = "auto"
    """cpu, cuda or auto."""


@dataclass(frozen=True)
class VideoScore:
    """A network on unlabelled video."""

    network: str
    """Whose scores."""
    video: str
    """Which video and person."""
    flow: FlowScore
    """Disagreement with the flow."""
    accel: float
    """mm/frame^2, jitter."""


def run(arguments: Arguments) -> None:
    """Score, print the means, write the tables."""
    device = device_of(arguments.device)
    if arguments.field.protocol:
        score_by_protocol(arguments.field, arguments.network, arguments.out, device)
        return
    files = arguments.network or (None,)
    loaded = [(str(p) if p else "shipped network", *estimator_and_body(p)) for p in files]
    body = loaded[0][2]
    make_folder(arguments.out)
    if arguments.benchmark.count:
        sequences = benchmark_sequences(arguments.benchmark, body)
        floor = MeanPose(body.params(mean_rotmats(), torch.zeros(body.num_betas)))
        rows = [("mean pose", floor, 96)]
        rows += [(name, estimator_of(n, device), n.size_px) for name, n, _ in loaded]
        reports = [score_benchmark(name, e, size, sequences, body) for name, e, size in rows]
        for number, report in enumerate(reports):
            report.write(arguments.out, f"synthetic-{number}")
        table = compare_markdown(reports)
        (arguments.out / "synthetic.md").write_text(table)
        console.print(f"synthetic test video, {arguments.benchmark.count} clips\n{table}")
        for report in reports[1:]:
            share = report.mean("pa_mpjpe") / reports[0].mean("pa_mpjpe")
            console.print(f"{report.estimator}: PA-MPJPE is {share:.0%} of the mean pose's")
    if arguments.video:
        video = load_people(arguments.video, arguments.people, arguments.pairs.flow_px, device)
        scores = []
        for name, network, _ in loaded:
            size_px = network.size_px
            estimator = estimator_of(network, device)
            scores += [score_video(name, estimator, size_px, s, body, arguments) for s in video]
        (arguments.out / "video.json").write_text(json.dumps([asdict(s) for s in scores], indent=2))
        console.print(video_markdown(scores))
    console.print(f"tables: {arguments.out}")


def score_benchmark(
    name: str, estimator: Estimator, size_px: int, sequences: list[Sequence], body: BodyModel
) -> Report:
    """A network (or the mean pose) on labelled sequences."""
    clips = test_clips(sequences, size_px)
    return Report(
        name, "synthetic test video", tuple(score_clip(estimator, c, body) for c in clips)
    )


def score_video(
    name: str,
    estimator: Estimator,
    size_px: int,
    sequence: Sequence,
    body: BodyModel,
    arguments: Arguments,
) -> VideoScore:
    """A network on one person of an unlabelled video."""
    source = flow_source(arguments.pairs, arguments.flow, arguments.cache)
    starts = range(len(sequence) - arguments.pairs.gap)
    flow = score_flow(estimator, (source.pair(sequence, s, size_px) for s in starts), body)
    jitter = score_jitter(estimator, frame_crops(sequence, size_px), body)
    return VideoScore(name, sequence.name, flow, jitter)


def video_markdown(scores: list[VideoScore]) -> str:
    """A table of `VideoScore`."""
    lines = [
        "| network | video | pairs | flow disagreement (px of 224) | image flow (px) | "
        "accel. (mm/frame²) |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {s.network} | {s.video} | {s.flow.pairs} | {s.flow.disagreement_px:.2f} | "
        f"{s.flow.image_flow_px:.2f} | {s.accel:.1f} |"
        for s in scores
    ]
    return "\n".join(lines) + "\n"
