"""Does the flow loss help? Refinement against its control, from the same checkpoint.

    python experiments/refine_vs_control.py [--out runs/refine_vs_control] [--seeds 0 1 2]

For each seed two runs start from the shipped network and take the same number of steps on the same
labelled batches:

control  supervised steps alone (no video);
flow     the same, plus the optical-flow loss on unannotated video: the real demo clip and the
         synthetic test video, without its labels, as a user refines on the video to be estimated;
strong   (with --strong) the same with five times the weight;
other    (with --other) as flow, on other video: synthetic clips of the training motions.

Scored on the synthetic test video (motions, people and scenes of no labelled still) and on the real
clip, whose annotation nobody has. Finished runs are not done again. About 7 minutes a seed on two
cores.
"""

import argparse
import json
import statistics
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from flowhmr.cli.evaluate import score_benchmark
from flowhmr.cli.shared import default_cache, load_people, network_and_body
from flowhmr.data import (
    BenchmarkConfig,
    PairConfig,
    PeopleConfig,
    benchmark_sequences,
    demo_clip,
    frame_crops,
)
from flowhmr.evaluation import Estimator, score_flow, score_jitter
from flowhmr.losses import FlowWeights
from flowhmr.networks import load_hmr
from flowhmr.synth import ClipConfig, render_clip
from flowhmr.training import RefineConfig, estimator_of, flow_source, refine

CPU = torch.device("cpu")
FLOW = RefineConfig()
CONTROL = replace(FLOW, train=replace(FLOW.train, pairs=0, flow=FlowWeights(0.0)))
SYNTHETIC = ClipConfig(split="train", seed=1)


@dataclass(frozen=True)
class Score:
    """One network."""

    row: str
    seed: int
    pa_mpjpe: float
    mpjpe: float
    accel_error: float
    disagreement_px: float
    jitter: float


LABELS = {
    "pa_mpjpe": "PA-MPJPE (mm)",
    "mpjpe": "MPJPE (mm)",
    "accel_error": "accel. error (mm/frame²)",
    "disagreement_px": "real clip: flow disagreement (px of 224)",
    "jitter": "real clip: accel. (mm/frame²)",
}


def main() -> None:
    """Run what is missing, score, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/refine_vs_control"))
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--strong", action="store_true", help="also with five times the weight")
    parser.add_argument("--other", type=int, default=0, help="clips of other video; 0: no such row")
    parser.add_argument("--benchmark", type=int, default=24)
    arguments = parser.parse_args()

    network, body = network_and_body(None)
    size_px = network.config.backbone.size_px
    clip_path, boxes_path = demo_clip()
    real = load_people((clip_path,), PeopleConfig(boxes=(boxes_path,)), FLOW.pairs.flow_px, CPU)
    tests = benchmark_sequences(BenchmarkConfig(count=arguments.benchmark), body)
    unlabelled = [replace(sequence, labels=None) for sequence in tests]
    rows = {"control": (CONTROL, []), "flow": (FLOW, real + unlabelled)}
    if arguments.strong:
        strong = replace(FLOW, train=replace(FLOW.train, flow=FlowWeights(0.05)))
        rows["strong"] = (strong, real + unlabelled)
    if arguments.other:
        other = [render_clip(SYNTHETIC, i, body) for i in range(arguments.other)]
        rows["other"] = (FLOW, real + other)
    source = flow_source(PairConfig(), FLOW.flow, arguments.cache)
    longest = max(real, key=len)
    pairs = [source.pair(longest, i, size_px) for i in range(len(longest) - 1)]
    frames = frame_crops(longest, size_px)

    def score(row: str, seed: int, estimator: Estimator) -> Score:
        report = score_benchmark(row, estimator, size_px, tests, body)
        return Score(
            row,
            seed,
            report.mean("pa_mpjpe"),
            report.mean("mpjpe"),
            report.mean("accel_error"),
            score_flow(estimator, pairs, body).disagreement_px,
            score_jitter(estimator, frames, body),
        )

    scores = [score("shipped network", 0, estimator_of(network, CPU))]
    for seed in arguments.seeds:
        for row, (config, video) in rows.items():
            seeded = replace(config, train=replace(config.train, seed=seed))
            folder = arguments.out / f"{row}-{seed}"
            path, known = folder / "network.safetensors", folder / "score.json"
            if not path.exists():
                refine(seeded, network, body, video, folder, arguments.cache, CPU)
            if not known.exists():
                found = score(row, seed, estimator_of(load_hmr(path), CPU))
                known.write_text(json.dumps(asdict(found)))
            scores.append(Score(**json.loads(known.read_text())))
            print(scores[-1], flush=True)
    (arguments.out / "scores.json").write_text(json.dumps([asdict(s) for s in scores], indent=2))
    table = markdown(scores)
    (arguments.out / "table.md").write_text(table)
    print(table)


def markdown(scores: list[Score]) -> str:
    """Mean and spread (standard deviation over seeds) of each row."""
    rows = list(dict.fromkeys(s.row for s in scores))
    lines = ["| | " + " | ".join(rows) + " |", "|---|" + "---|" * len(rows)]
    for name, label in LABELS.items():
        cells = []
        for row in rows:
            values = [getattr(s, name) for s in scores if s.row == row]
            spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.2f}{spread}")
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
