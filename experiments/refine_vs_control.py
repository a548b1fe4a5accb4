"""Does the flow loss help? Refinement against its control, from the same checkpoint.

    python experiments/refine_vs_control.py --clips-seed 9002             # the result
    python experiments/refine_vs_control.py --split val --seeds 0 --rows control flow w03

Each run starts from the shipped network and takes the same number of steps on the same labelled
batches; `ROWS` has the configs:

control  supervised steps alone (no video);
flow     the same, plus the optical-flow loss on unannotated video, and the anchor that goes with
         it: on the synthetic video that is scored, without its labels, as a user refines on the
         video to be estimated; and, unless on validation video, on the real demo clip.

The other rows are variants. Settings are chosen with ``--split val``: of 60 validation clips the 20
that move most, as real people who run and play do. The real clip is then left out altogether.
Finished runs are not done again. About 7 minutes a seed on two cores.
"""

import argparse
import json
import statistics
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from flowhmr.body import BodyModel
from flowhmr.cli.evaluate import score_benchmark
from flowhmr.cli.shared import default_cache, load_people, network_and_body
from flowhmr.data import (
    AugmentConfig,
    BenchmarkConfig,
    PairConfig,
    PeopleConfig,
    benchmark_sequences,
    demo_clip,
    frame_crops,
)
from flowhmr.evaluation import Estimator, score_flow, score_jitter
from flowhmr.losses import AnchorWeights, FlowWeights
from flowhmr.networks import load_hmr
from flowhmr.records import Sequence
from flowhmr.training import FIT, RefineConfig, estimator_of, flow_source, refine

CPU = torch.device("cpu")
FLOW = RefineConfig()


def row(
    weight: float = 0.1,
    anchor: float = 30.0,
    gap: int = 6,
    reach: float = 0.1,
    scaled: bool = False,
    hard: bool = False,
    settled: bool = False,
    camera: float = 30.0,
    video: bool = True,
) -> RefineConfig:
    """One setting.

    Args:
        weight: of the flow loss.
        anchor: pull of the video's poses to those of the network it starts from (Eq. 8).
        gap: frames between the two of a pair, at most.
        reach: how far things may move between them, share of the window; 0: any way.
        scaled: measure disagreement in the pair's mean flow, as the paper does.
        hard: stills at full augmentation, not as at the end of the shipped network's training.
        settled: learning rate falling to zero.
        camera: pull of its cameras.
        video: False for a control.
    """
    unit = 1 / 224 if scaled else 1 / 96
    train = replace(
        FLOW.train,
        pairs=FLOW.train.pairs if video else 0,
        flow=FlowWeights(weight if video else 0.0),
        flow_loss=replace(FLOW.train.flow_loss, scaled=scaled, unit=unit),
        anchor=AnchorWeights(anchor, anchor / 10, camera if anchor else 0.0),
        optimiser=replace(FLOW.train.optimiser, decay=FLOW.train.steps if settled else 0),
    )
    pairs = replace(FLOW.pairs, gap=gap, reach=reach)
    return replace(
        FLOW, train=train, pairs=pairs, augment=AugmentConfig() if hard else FLOW.augment
    )


ROWS = {
    "control": row(video=False),
    "flow": row(),
    "free-camera": row(camera=0.0),
    "hard-control": row(hard=True, video=False),
    "hard-gap6-w01": row(0.01, 0.0, 6, 0.0, scaled=True, hard=True, camera=0.0),
    "hard-gap3-w01": row(0.01, 0.0, 3, 0.0, scaled=True, hard=True, camera=0.0),
    "hard-gap1-w01": row(0.01, 0.0, 1, 0.0, scaled=True, hard=True, camera=0.0),
    "gap1-w01": row(0.01, 0.0, 1, 0.0, scaled=True, camera=0.0),
    "gap1-w03-anchor1": row(0.03, 1.0, 1, 0.0, scaled=True, camera=0.0),
    "w01": row(0.01, 0.0, scaled=True, camera=0.0),
    "w03": row(0.03, 0.0, scaled=True, camera=0.0),
    "w03-anchor1": row(0.03, 1.0, scaled=True, camera=0.0),
    "w10-anchor1": row(0.1, 1.0, scaled=True, camera=0.0),
    "w10-anchor3-settled": row(0.1, 3.0, scaled=True, settled=True, camera=0.0),
    "w10-anchor10": row(0.1, 10.0, scaled=True, camera=0.0),
    "reach05-w20-anchor10": row(0.2, 10.0, reach=0.05, scaled=True, camera=0.0),
    "plain-w06-anchor10": row(0.06, 10.0, camera=0.0),
    "anchor30": row(0.0),
    "fit": FIT,
}


@dataclass(frozen=True)
class Score:
    """One network."""

    row: str
    seed: int
    pa_mpjpe: float
    mpjpe: float
    accel_error: float
    keypoints_px: float
    disagreement_px: float
    real_disagreement_px: float | None
    real_accel: float | None


LABELS = {
    "pa_mpjpe": "PA-MPJPE (mm)",
    "mpjpe": "MPJPE (mm)",
    "accel_error": "accel. error (mm/frame²)",
    "keypoints_px": "2D joints (px of 224)",
    "disagreement_px": "disagreement with flow (px of 224)",
    "real_disagreement_px": "real clip: disagreement (px of 224)",
    "real_accel": "real clip: accel. (mm/frame²)",
}


def main() -> None:
    """Run what is missing, score, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/refine_vs_control"))
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--split", choices=["val", "test"], default="test")
    parser.add_argument("--clips-seed", type=int, default=BenchmarkConfig().clips.seed)
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=["control", "flow"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()

    network, body = network_and_body(None)
    size_px = network.config.backbone.size_px
    video = synthetic_video(arguments.split, arguments.clips_seed, body)
    real: list[Sequence] = []
    if arguments.split == "test":
        clip_path, boxes_path = demo_clip()
        people = PeopleConfig(boxes=(boxes_path,))
        real = [max(load_people((clip_path,), people, FLOW.pairs.flow_px, CPU), key=len)]
    source = flow_source(PairConfig(), FLOW.flow, arguments.cache)
    pairs = [source.pair(s, i, size_px) for s in video for i in range(0, len(s) - 1, 5)]
    real_pairs = [source.pair(s, i, size_px) for s in real for i in range(len(s) - 1)]
    real_frames = [frame_crops(s, size_px) for s in real]

    def score(row: str, seed: int, estimator: Estimator) -> Score:
        report = score_benchmark(row, estimator, size_px, video, body)
        on_real = score_flow(estimator, real_pairs, body).disagreement_px if real else None
        jitter = score_jitter(estimator, real_frames[0], body) if real else None
        return Score(
            row,
            seed,
            report.mean("pa_mpjpe"),
            report.mean("mpjpe"),
            report.mean("accel_error"),
            report.mean("keypoints_px"),
            score_flow(estimator, pairs, body).disagreement_px,
            on_real,
            jitter,
        )

    out = arguments.out / f"{arguments.split}-{arguments.clips_seed}"
    unlabelled = [replace(sequence, labels=None) for sequence in real + video]
    scores = [score("shipped network", 0, estimator_of(network, CPU))]
    print(scores[-1], flush=True)
    for seed in arguments.seeds:
        for row in arguments.rows:
            config = replace(ROWS[row], train=replace(ROWS[row].train, seed=seed))
            folder = out / f"{row}-{seed}"
            path, known = folder / "network.safetensors", folder / "score.json"
            if not path.exists():
                refine(config, network, body, unlabelled, folder, arguments.cache, CPU)
            if not known.exists():
                found = score(row, seed, estimator_of(load_hmr(path), CPU))
                known.write_text(json.dumps(asdict(found)))
            scores.append(Score(**json.loads(known.read_text())))
            print(scores[-1], flush=True)
    (out / "scores.json").write_text(json.dumps([asdict(s) for s in scores], indent=2))
    table = markdown(scores)
    (out / "table.md").write_text(table)
    print(table)


def synthetic_video(split: str, seed: int, body: BodyModel) -> list[Sequence]:
    """24 test clips; of 60 validation clips the 20 with the most motion in the image."""
    clips = replace(BenchmarkConfig().clips, split=split, seed=seed)
    if split == "test":
        return benchmark_sequences(BenchmarkConfig(clips), body)
    return sorted(benchmark_sequences(BenchmarkConfig(clips, 60), body), key=motion)[-20:]


def motion(sequence: Sequence) -> float:
    """Mean way of the joints from frame to frame, share of the person's box."""
    assert sequence.labels is not None
    way_px = sequence.labels.keypoints_px.diff(dim=0).norm(dim=-1).mean()
    return float(way_px / sequence.boxes_px[:, 2:].amax(-1).mean())


def markdown(scores: list[Score]) -> str:
    """Mean and spread (standard deviation over seeds) of each row."""
    names = [n for n in LABELS if getattr(scores[0], n) is not None]
    lines = ["| | " + " | ".join(LABELS[n] for n in names) + " |", "|" + "---|" * (len(names) + 1)]
    for row in dict.fromkeys(s.row for s in scores):
        cells = [row]
        for name in names:
            values = [getattr(s, name) for s in scores if s.row == row]
            spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.2f}{spread}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
