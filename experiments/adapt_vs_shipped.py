"""Whether a network that is fine-tuned on video of another domain gets better there.

Video of SynthMotion's test split (people, clothes, motions and scenes that no training has seen,
drawn by another engine than the shipped network's stills) is written to files, its keypoints are
simulated as a detector would give them, and ``flowhmr adapt`` does the rest: bodies found by
``flowhmr capture`` become labels. Nothing else is known of the video.

    shipped   the network as it comes
    captured  the labels themselves: what was found in the frames that count as labels
    adapted   fine-tuned with them and the flow
    no-flow   fine-tuned with them alone
    exact     fine-tuned with the true bodies and the flow: what better labels could give

Networks are scored on the clips that they were fine-tuned on, as a user would use them, and on
others of the same domain. Finished runs are not done again. About 10 minutes a row on one core.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from flowhmr.body import COCO_17, H36M_14, SMPL_24, BodyModel, open_body
from flowhmr.cameras import fit_weak_camera, project_weak
from flowhmr.capture import CaptureConfig, load_motion
from flowhmr.cli.adapt import Arguments
from flowhmr.cli.adapt import run as run_adapt
from flowhmr.cli.shared import StepProgress, default_cache
from flowhmr.data import (
    DetectorModel,
    OwnVideo,
    PeopleConfig,
    PersonTrack,
    boxes_from_keypoints,
    detections,
    test_clips,
    write_boxes,
    write_video,
)
from flowhmr.evaluation import PROTOCOL, Report, compare_markdown, pa_mpjpe, score_clip
from flowhmr.geometry import pick
from flowhmr.losses import FlowWeights
from flowhmr.networks import BASELINE, load_hmr
from flowhmr.records import Sequence
from flowhmr.synth import ClipStore, split_spec
from flowhmr.training import AdaptConfig, adapt, estimator_of

CPU = torch.device("cpu")
NETWORKS = ("shipped", "adapted", "no-flow", "exact")


def main() -> None:
    """Do what is missing, score, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/adapt_vs_shipped"))
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--rows", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--split", choices=("val", "test"), default="test")
    parser.add_argument("--clips", type=int, default=6, help="to fine-tune on; as many others")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--own", type=float, default=AdaptConfig().own)
    parser.add_argument("--flow", type=float, default=AdaptConfig().train.flow.flow, help="weight")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lift", type=Path, default=None)
    arguments = parser.parse_args()

    body = open_body()
    spec = split_spec(arguments.split, "full")
    clips = replace(spec.clips, frames=arguments.frames, drops=0.0)
    spec = replace(spec, clips=clips, count=2 * arguments.clips)
    told = StepProgress("drawing clips")
    sequences = ClipStore(spec, arguments.cache, workers=1, on_progress=told).sequences()
    mine, others = sequences[: arguments.clips], sequences[arguments.clips :]
    folder = arguments.out / f"{arguments.split}-{arguments.clips}x{arguments.frames}"
    folder.mkdir(parents=True, exist_ok=True)
    videos = [as_video(folder, sequence, body) for sequence in mine]

    reports: list[Report] = []
    for row in arguments.rows:
        settings = f"{arguments.steps}-own{arguments.own:g}-flow{arguments.flow:g}"
        name = f"{row}-{settings}-seed{arguments.seed}"
        run = BASELINE if row == "shipped" else folder / name / "network.safetensors"
        if not run.exists():
            fine_tune(row, run.parent, videos, mine, body, arguments)
        network = load_hmr(run)
        estimator = estimator_of(network, CPU)
        for what, chosen in (("these clips", mine), ("other clips", others)):
            scores = [score_clip(estimator, c, body) for c in test_clips(chosen, network.size_px)]
            reports.append(Report(f"{row}, {what}", arguments.split, tuple(scores)))
        if row == "adapted":
            print(label_quality(run.parent, mine, body))
    table = compare_markdown(reports)
    (folder / f"scores-{arguments.steps}-seed{arguments.seed}.md").write_text(table)
    print(f"{PROTOCOL}\n{table}")


def as_video(folder: Path, sequence: Sequence, body: BodyModel) -> tuple[Path, Path]:
    """A clip as a user has it: a video, and the keypoints that a detector found in it."""
    name = sequence.name.replace("/", "-")
    video, keypoints = folder / f"{name}.mp4", folder / f"{name}.npz"
    if video.exists() and keypoints.exists():
        return video, keypoints
    labels = sequence.labels
    assert labels is not None
    # Nobody's face is a joint of the chain; a weak camera places it well within a detector's error.
    size_px = sequence.images[0].shape[0]
    weak = fit_weak_camera(labels.joints_m, labels.keypoints_px, size_px)
    places_m = body.keypoints(body.mesh(labels.params), COCO_17)
    exact_px = project_weak(places_m, weak, size_px)[..., :2]
    visible = torch.stack([labels.keypoint_confidence[:, _joint(n)] for n in COCO_17.names], -1) > 0
    side_px = 1.2 * sequence.boxes_px[:, 2:].amax(-1)
    rng = np.random.default_rng([12, int(name[-3:])])
    found = detections(exact_px, visible, side_px, DetectorModel(), rng).keypoints_px
    boxes_px = boxes_from_keypoints(found)
    rows = boxes_px.isfinite().all(-1).nonzero()[:, 0]
    track = PersonTrack(0, rows, boxes_px[rows], found[rows, :, 2].mean(-1), found[rows])
    write_boxes(keypoints, [track])
    fps = float(1 / sequence.times_s.diff().mean())
    write_video(video, sequence.images, fps)
    return video, keypoints


def _joint(keypoint: str) -> int:
    return SMPL_24.index(keypoint if keypoint in SMPL_24.names else "head")


def fine_tune(
    row: str,
    folder: Path,
    videos: list[tuple[Path, Path]],
    truth: list[Sequence],
    body: BodyModel,
    arguments: argparse.Namespace,
) -> None:
    """One row."""
    config = AdaptConfig(own=arguments.own)
    train = replace(
        config.train,
        steps=arguments.steps,
        seed=arguments.seed,
        flow=FlowWeights(arguments.flow),
        workers=0,
    )
    if row == "no-flow":
        train = replace(train, pairs=0, flow=FlowWeights(0.0))
    config = replace(config, train=train)
    if row == "exact":
        own = [OwnVideo(sequence, torch.ones(len(sequence))) for sequence in truth]
        adapt(config, load_hmr(BASELINE), body, own, folder, arguments.cache, CPU)
        return
    people = PeopleConfig(keypoints=tuple(keypoints for _, keypoints in videos))
    run_adapt(
        Arguments(
            source=tuple(video for video, _ in videos),
            run=folder,
            capture=CaptureConfig(people=people),
            config=config,
            lift=arguments.lift,
            cache=arguments.cache,
            device="cpu",
        )
    )


def label_quality(folder: Path, truth: list[Sequence], body: BodyModel) -> str:
    """How far the labels are from the truth, trusted or not."""
    files = sorted((folder / "captured").glob("*.npz"))
    kept, left = [], []
    for file, sequence in zip(files, truth, strict=True):
        (person,) = load_motion(file).people
        labels = sequence.labels
        assert labels is not None
        rows = person.frame_indices
        true_m = body.keypoints(body.mesh(pick(labels.params, rows)), H36M_14)
        found_m = body.keypoints(body.mesh(person.params), H36M_14)
        apart = pa_mpjpe(found_m, true_m)
        kept.append(apart[person.confidence > 0])
        left.append(apart[person.confidence == 0])
    mean = {k: torch.cat(v) for k, v in (("count as labels", kept), ("are left out", left))}
    lines = [f"{len(v)} frames {k}: PA-MPJPE {float(v.mean()):.1f} mm" for k, v in mean.items()]
    return "captured: " + "; ".join(lines)


if __name__ == "__main__":
    main()
