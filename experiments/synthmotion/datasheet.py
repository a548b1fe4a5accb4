"""Measure what is in the SynthMotion benchmark: the numbers and figures of its datasheet.

    python experiments/synthmotion/datasheet.py [--clips 120] [--out runs/datasheet]

Writes ``datasheet.md`` (a table, a column a split), ``datasheet.json`` and ``datasheet.png``.
Everything but the share of visible joints is read off the stages, without drawing.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

from flowhmr.body import SMPL_24, open_body
from flowhmr.synth import SPLITS, SplitName, split_spec, synth_clip
from flowhmr.synth.stage import Stage, set_stage

BODY = open_body()
DRAWN = 24


def joint(name: str) -> int:
    """Place of a joint."""
    return SMPL_24.index(name)


def measures(stage: Stage) -> dict[str, np.ndarray | float | str]:
    """What one clip is like."""
    actor, shot = stage.actors[0], stage.shot
    joints = actor.joints_world.double().numpy()
    size = stage.config.size_px
    seen = shot.project(joints)
    pelvis = joints[:, joint("pelvis")]
    to_eye = shot.centres_m - pelvis
    facing = actor.params.rotmats[:, 0, :, 2].double().numpy()
    turn = np.arctan2(to_eye[:, 0], to_eye[:, 2]) - np.arctan2(facing[:, 0], facing[:, 2])
    elevation = np.arctan2(to_eye[:, 1], np.linalg.norm(to_eye[:, [0, 2]], axis=-1))
    rest = BODY.shaped(actor.params.betas[0])
    scene = stage.scene_shot.project(np.broadcast_to(joints[:1].mean(1, keepdims=True),
                                                     (len(stage), 1, 3)))[:, 0]  # fmt: skip
    steps = np.diff(seen, axis=0) * 224 / size
    knees = [
        np.degrees(np.arccos(np.clip((np.trace(r, axis1=-2, axis2=-1) - 1) / 2, -1, 1)))
        for r in actor.params.rotmats[:, [joint("left_knee"), joint("right_knee")]].unbind(1)
    ]
    wrists = joints[:, [joint("left_wrist"), joint("right_wrist")], 1].max(1)
    return {
        "place": stage.place.kind,
        "motion": "made up" if actor.name.startswith("moves/") else "captured",
        "height_m": float(rest[:, 1].max() - rest[:, 1].min()),
        "turn_deg": np.degrees((turn + np.pi) % (2 * np.pi) - np.pi),
        "elevation_deg": np.degrees(elevation),
        "distance_m": np.linalg.norm(to_eye, axis=-1),
        "person_px": (seen[..., 1].max(1) - seen[..., 1].min(1)) * 224 / size,
        "speed_m_s": np.linalg.norm(np.diff(joints - pelvis[:, None], axis=0), axis=-1).ravel()
        * 30,
        "motion_px": np.linalg.norm(steps, axis=-1).ravel(),
        "camera_px": np.linalg.norm(np.diff(scene, axis=0), axis=-1) * 224 / size,
        "low": float((pelvis[:, 1] < 0.6).mean()),
        "overhead": float((wrists > joints[:, joint("head"), 1]).mean()),
        "bent": float((np.max(knees, 0) > 60).mean()),
        "others": float(len(stage.actors) > 1),
        "dropped": float(stage.dropped.mean()),
    }


def table(name: SplitName, clips: int) -> tuple[dict[str, str], list[dict]]:
    """One column of the datasheet, and the measures it was made of."""
    spec = split_spec(name)
    rows = [measures(set_stage(spec.clips, i, BODY)) for i in range(min(clips, spec.count))]
    visible, residual = [], []
    for index in range(DRAWN):
        clip = synth_clip(spec.clips, index, BODY)
        shown = ~clip.dropped
        visible.append(float(clip.joint_visible[shown].float().mean()))
        residual.append(float(clip.weak_residual_px.mean()) * 224 / clip.images.shape[1])

    def spread(key: str, digits: int = 1) -> str:
        values = np.concatenate([np.atleast_1d(row[key]) for row in rows])
        if not len(values):
            return "-"
        low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
        return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"

    def share(key: str) -> str:
        return f"{100 * np.mean([row[key] for row in rows]):.0f} %"

    turns = np.abs(np.concatenate([row["turn_deg"] for row in rows]))
    places = Counter(row["place"] for row in rows)
    return {
        "clips x frames": f"{spec.count:,} x {spec.clips.frames}",
        "places": ", ".join(f"{k} {100 * n / len(rows):.0f} %" for k, n in places.most_common()),
        "made-up motion": f"{100 * np.mean([r['motion'] == 'made up' for r in rows]):.0f} %",
        "height of people, m": spread("height_m", 2),
        "seen from in front / aside / behind": " / ".join(
            f"{100 * np.mean((turns >= a) & (turns < b)):.0f}"
            for a, b in ((0, 60), (60, 120), (120, 181))) + " %",
        "camera looks down by, degrees": spread("elevation_deg", 0),
        "distance, m": spread("distance_m"),
        "person, px of 224": spread("person_px", 0),
        "joint speed about the pelvis, m/s": spread("speed_m_s"),
        "joint motion, px of 224 a frame": spread("motion_px"),
        "camera motion, px of 224 a frame": spread("camera_px"),
        "pelvis lower than 0.6 m": share("low"),
        "a wrist above the head": share("overhead"),
        "a knee bent by more than 60 degrees": share("bent"),
        "clips with other people": share("others"),
        "frames dropped": share("dropped"),
        f"joints visible ({DRAWN} clips)": f"{100 * np.mean(visible):.0f} %",
        f"weak perspective misses by, px of 224 ({DRAWN} clips)": f"{np.mean(residual):.1f}",
    }, rows  # fmt: skip


def figure(rows: dict[str, list[dict]], path: Path) -> None:
    """Histograms, a line a split."""
    keys = (
        ("turn_deg", "heading of the body from the camera, degrees", (-180, 180)),
        ("elevation_deg", "camera looks down by, degrees", (-30, 60)),
        ("person_px", "height of the person, px of 224", (0, 224)),
        ("motion_px", "joint motion, px of 224 a frame", (0, 20)),
        ("speed_m_s", "joint speed about the pelvis, m/s", (0, 6)),
        ("height_m", "height of people, m", (1.4, 2.0)),
    )
    fig, axes = plt.subplots(2, 3, figsize=(12, 6), layout="constrained")
    for axis, (key, label, limits) in zip(axes.flat, keys):
        for name, clips in rows.items():
            values = np.concatenate([np.atleast_1d(c[key]) for c in clips])
            if len(values):
                axis.hist(values, 30, range=limits, density=True, histtype="step", label=name)
        axis.set_xlabel(label)
        axis.set_yticks([])
    axes[0, 0].legend(fontsize=8)
    fig.savefig(path, dpi=90)


def main() -> None:
    """Measure all splits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=120)
    parser.add_argument("--out", type=Path, default=Path("runs/datasheet"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    columns, rows = {}, {}
    for name in SPLITS:
        columns[name], rows[name] = table(name, arguments.clips)
        print(name, json.dumps(columns[name], indent=1), flush=True)
    lines = ["| | " + " | ".join(SPLITS) + " |", "|---" * (len(SPLITS) + 1) + "|"]
    for key in columns["stills"]:
        lines.append(f"| {key} | " + " | ".join(columns[n][key] for n in SPLITS) + " |")
    (arguments.out / "datasheet.md").write_text("\n".join(lines) + "\n")
    (arguments.out / "datasheet.json").write_text(json.dumps(columns, indent=1) + "\n")
    figure(rows, arguments.out / "datasheet.png")


if __name__ == "__main__":
    main()
