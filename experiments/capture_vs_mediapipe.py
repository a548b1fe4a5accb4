"""Against what a user would pick: ``flowhmr capture`` beside MediaPipe's own 3D landmarks.

Synthetic test video (SynthMotion's test split: people, clothes, motions and places of no training)
is drawn at 720 x 720 and written to files. Both see the files: MediaPipe Pose 0.10.21 (complexity
1, followed from frame to frame) gives world landmarks; capture, with the same MediaPipe's 2D
keypoints, gives bodies. Twelve joints that both have are compared with the truth after a similarity
per frame (PA-MPJPE), in the frames in which both found the person. What each calls a hip or a
shoulder is its own: the truth is the body's joint, which favours capture, so a second figure takes
out of each joint its mean offset over all clips, in the torso's axes.
"""

import argparse
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flowhmr.body import SMPL_24, BodyModel, open_body
from flowhmr.capture import MEDIAPIPE_33, CaptureConfig, capture
from flowhmr.data import NobodyFound, PeopleConfig, write_video
from flowhmr.data.workers import detector_environment
from flowhmr.geometry import align_similarity
from flowhmr.networks import LIFT, load_lift
from flowhmr.synth import SynthClip, split_spec, synth_clip

JOINTS = [
    f"{side}_{joint}"
    for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    for side in ("left", "right")
]
SCRIPT = """
import sys, cv2, numpy as np, mediapipe
pose = mediapipe.solutions.pose.Pose(model_complexity=1)
video, rows = cv2.VideoCapture(sys.argv[1]), []
while True:
    there, image = video.read()
    if not there:
        break
    found = pose.process(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)).pose_world_landmarks
    rows.append([[p.x, p.y, p.z] for p in found.landmark] if found else [[np.nan] * 3] * 33)
np.save(sys.argv[2], np.array(rows, np.float32))
"""
CPU = torch.device("cpu")


def main() -> None:
    """Draw, capture, compare, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/capture_vs_mediapipe"))
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--lift", type=Path, default=LIFT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    body, network = open_body(), load_lift(arguments.lift)
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[Tensor]] = {"MediaPipe": [], "network": [], "capture": []}
    truths: list[Tensor] = []
    for index in range(arguments.clips):
        clip, video = drawn(arguments.out, index, arguments.frames, body)
        found = world_landmarks(video)
        ours = {
            "network": captured(video, network, body, steps=0),
            "capture": captured(video, network, body, steps=100),
        }
        both = found.isfinite().all((1, 2))
        for joints_m in ours.values():
            both &= joints_m.isfinite().all((1, 2))
        print(f"clip {index}: both in {int(both.sum())} of {len(both)} frames", flush=True)
        truths.append(picked(clip.joints_m, SMPL_24.names)[both])
        rows["MediaPipe"].append(picked(found, MEDIAPIPE_33.names)[both])
        for name, joints_m in ours.items():
            rows[name].append(picked(joints_m, SMPL_24.names)[both])
    table = table_of(rows, truths)
    (arguments.out / "table.md").write_text(table)
    print(table)


def drawn(folder: Path, index: int, frames: int, body: BodyModel) -> tuple[SynthClip, Path]:
    """A clip of the test split at 720 px, and its video."""
    config = replace(
        split_spec("test", "full").clips, size_px=720, frames=frames, drops=0.0, others=0.0
    )
    clip = synth_clip(config, index, body)
    video = folder / f"{index:02d}.mp4"
    write_video(video, clip.images.numpy(), clip.fps)
    return clip, video


def world_landmarks(video: Path) -> Tensor:
    """MediaPipe's, metres, ``[t 33 3]``; NaN where it found nobody."""
    out = video.with_suffix(".npy")
    subprocess.run(
        [str(detector_environment()), "-c", SCRIPT, str(video), str(out)],
        check=True, capture_output=True,
    )  # fmt: skip
    return torch.from_numpy(np.load(out)).double()


def captured(video: Path, network: torch.nn.Module, body: BodyModel, steps: int) -> Tensor:
    """Joints ``[t 24 3]`` of whoever is longest in the video; NaN in other frames."""
    config = CaptureConfig(people=PeopleConfig(detector="mediapipe"))
    config = replace(config, fit=replace(config.fit, steps=steps))
    try:
        scene = capture(video, config, network, body, CPU, work=make(video)).scene  # pyright: ignore[reportArgumentType]
    except NobodyFound:
        return torch.full((1, 24, 3), torch.nan)
    person = max(scene.people, key=len)
    joints_m = torch.full((len(scene.times_s), 24, 3), torch.nan, dtype=torch.float64)
    joints_m[person.frame_indices] = body.joints(person.params).double()
    return joints_m


def make(video: Path) -> Path:
    """A folder for what is found in the frames, used twice."""
    folder = video.with_suffix("")
    folder.mkdir(exist_ok=True)
    return folder


def picked(joints_m: Tensor, names: tuple[str, ...]) -> Tensor:
    """The twelve joints."""
    return joints_m[:, [names.index(name) for name in JOINTS]].double()


def table_of(rows: dict[str, list[Tensor]], truths: list[Tensor]) -> str:
    """PA-MPJPE and acceleration error, mm, mean over clips with the spread between them.

    The difference to the first row's PA-MPJPE comes with its standard error.
    """
    lines = [
        "| | PA-MPJPE (mm) | without each joint's own offset (mm) | accel. error (mm/frame²) | "
        "against MediaPipe, clip by clip (mm) | better in |",
        "|---|---|---|---|---|---|",
    ]
    theirs: list[float] = []
    for name, clips in rows.items():
        aligned = [align_similarity(a, b)(a) for a, b in zip(clips, truths) if len(a)]
        kept = [t for t in truths if len(t)]
        plain = [per_clip(a, t) for a, t in zip(aligned, kept)]
        turns = [torso_axes(t) for t in kept]
        off = torch.cat([(a - t) @ turn for a, t, turn in zip(aligned, kept, turns)]).mean(0)
        moved = [a - off @ turn.mT for a, turn in zip(aligned, turns)]
        apart = [per_clip(a, t) for a, t in zip(moved, kept)]
        bend = [per_clip(a.diff(n=2, dim=0), t.diff(n=2, dim=0)) for a, t in zip(aligned, kept)]
        cells = [f"{np.mean(v):.1f} ± {np.std(v, ddof=1):.1f}" for v in (plain, apart, bend)]
        theirs = theirs or plain
        gain = np.array(plain) - np.array(theirs)
        cells.append(f"{gain.mean():+.1f} ± {gain.std(ddof=1) / np.sqrt(len(gain)):.1f}")
        cells.append(f"{int((gain < 0).sum())} of {len(gain)} clips")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def per_clip(found: Tensor, truth: Tensor) -> float:
    """Mean distance, mm."""
    return 1000 * float((found - truth).norm(dim=-1).mean())


def torso_axes(joints_m: Tensor) -> Tensor:
    """Columns: the torso's right to left, down to up, back to front."""
    left, right, left_hip, right_hip = (joints_m[:, k] for k in (0, 1, 6, 7))
    up = (left + right - left_hip - right_hip) / 2
    across = left - right
    front = torch.linalg.cross(across, up)
    up = torch.linalg.cross(front, across)
    axes = torch.stack([across, up, front], -1)
    return axes / axes.norm(dim=-2, keepdim=True)


if __name__ == "__main__":
    main()
