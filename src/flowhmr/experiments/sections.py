"""Sections of the results page that are no tables of runs: what the studies found."""

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flowhmr.experiments.lab import Lab, Stored, read_scores
from flowhmr.experiments.of4hmr import (
    CLIP_STUDY,
    ERROR_STUDIES,
    FLOW_QUALITY,
    LABELS,
    LOSS_STUDY,
    METHODS,
)
from flowhmr.experiments.studies import FIGURE
from flowhmr.experiments.tables import SHOWN, Spread
from flowhmr.view import plot_frames, plot_histograms


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    text: str
    """Markdown; '' where nothing was run."""
    files: tuple[Path, ...] = ()
    """Figures that were written."""


def stored(lab: Lab, run: str) -> list[Stored]:
    """What all finished seeds of a run left behind."""
    found = [read_scores(folder) for folder in sorted((lab.runs / run).glob("seed-*"))]
    return [scores for scores in found if scores is not None]


def flow_quality_section(lab: Lab, figures: Path) -> Section:
    """Mean and median ratios (of4hmr, Table 2), each a mean over seeds; one clip (Fig. 6)."""
    found: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for column, run in FLOW_QUALITY.items():
        for scores in stored(lab, run):
            for row in scores["results"]["ratios"]:
                oracle = " (oracle)" if row["read_at"] == "truth" else ""
                key = (f"{row['gap']}{oracle}", column, row["resolution"])
                found.setdefault(key, []).append((row["mean"], row["median"]))
    if not found:
        return Section("")
    gaps = list(dict.fromkeys(gap for gap, _, _ in found))
    gaps.sort(key=lambda gap: ("oracle" in gap, int(gap.split()[0])))
    columns = list(dict.fromkeys((column, where) for _, column, where in found))
    lines = [
        "## Flow quality",
        "",
        "of4hmr, Table 2 (section 4.7): error of the bodies' motion over that of the image flow, "
        "mean / median over 1000 pairs; above 1 flow knows more. `flowhmr experiment "
        + " ".join(FLOW_QUALITY.values())
        + "`",
        "",
        "| gap (frames) | " + " | ".join(f"{c}, {where}" for c, where in columns) + " |",
        "|" + "---|" * (len(columns) + 1),
    ]
    for gap in gaps:
        cells = [_mean_pair(found.get((gap, c, where), [])) for c, where in columns]
        lines.append("| " + " | ".join([gap, *cells]) + " |")
    shown = {c: stored(lab, run) for c, run in FLOW_QUALITY.items()}
    shown = {c: scores[0] for c, scores in shown.items() if scores}
    column, scores = next(iter(shown.items()))
    frames = {k: np.array(v, float) for k, v in scores["results"]["frames"].items()}
    written = plot_frames(
        figures / "flow-quality.png", frames["body_px"], frames["image_px"], title=column
    )
    lines += ["", f"![One clip, frame by frame]({figures.name}/{written.name})"]
    return Section("\n".join(lines) + "\n", (written,))


def _mean_pair(values: list[tuple[float, float]]) -> str:
    if not values or any(math.isnan(v) for pair in values for v in pair):
        return ""
    mean, median = (sum(v) / len(values) for v in zip(*values, strict=True))
    return f"{mean:.1f} / {median:.1f}"


def loss_section(lab: Lab, figures: Path) -> Section:
    """The flow loss before and after scaling, and what colour noise does (of4hmr, section 5)."""
    runs = stored(lab, LOSS_STUDY)
    if not runs:
        return Section("")
    splits: dict[str, dict[str, Any]] = runs[0]["results"]
    histograms = plot_histograms(
        figures / "flow-loss.png",
        {split: np.array(found["loss"]) for split, found in splits.items()},
        {split: np.array(found["scaled"]) for split, found in splits.items()},
    )
    files, picture = [histograms], lab.folder(LOSS_STUDY, runs[0]["seed"]) / FIGURE
    lines = [
        "## The flow loss before and after scaling, and colour noise",
        "",
        "of4hmr, section 5 (Fig. 8), on neighbouring frames, before refinement: how far bodies "
        "move from frame to frame in truth, as they are estimated, and with colour noise, and how "
        "much the errors of neighbours have in common (1: the same error). `flowhmr experiment "
        f"{LOSS_STUDY}`",
        "",
        "| | image flow (px of 224) | joints move, truth (mm) | estimates | with noise "
        "| correlation of errors | with noise |",
        "|" + "---|" * 7,
    ]
    for split in splits:
        each = [scores["results"][split] for scores in runs]
        values = [
            Spread({s: pick(found) for s, found in enumerate(each)})
            for pick in (
                lambda found: found["image_flow_px"],
                lambda found: found["moved_mm"]["true"],
                lambda found: found["moved_mm"]["same"],
                lambda found: found["moved_mm"]["noise"],
                lambda found: found["error_correlation"]["same"],
                lambda found: found["error_correlation"]["noise"],
            )
        ]
        lines.append("| " + " | ".join([split, *map(str, values)]) + " |")
    lines += ["", f"![Loss before and after scaling]({figures.name}/{histograms.name})"]
    if picture.exists():
        files.append(Path(shutil.copyfile(picture, figures / "rigidity.png")))
        lines += ["", f"![Neighbours without and with colour noise]({figures.name}/rigidity.png)"]
    return Section("\n".join(lines) + "\n", tuple(files))


def errors_section(lab: Lab) -> Section:
    """How long errors last: what the agreement of frames could gain."""
    runs = {line: stored(lab, run) for line, run in ERROR_STUDIES.items()}
    runs = {line: each for line, each in runs.items() if each}
    if not runs:
        return Section("")
    lines = [
        "## How long errors last",
        "",
        "Flow can take out what differs between the errors of two frames, and leaves what they "
        "have in common. PA-MPJPE (mm, the chain's joints, validation video) as it is, if all "
        "were gone that changes within so many frames (standard deviation of a Gaussian), and with "
        "the joints themselves filtered so; correlation of the errors of frames so far apart (1: "
        f"the same error). `flowhmr experiment {' '.join(ERROR_STUDIES.values())}`",
    ]
    parts = {
        "errors averaged over": "lasting_mm",
        "joints filtered over": "filtered_mm",
        "frames apart (correlation)": "correlation",
    }
    for heading, part in parts.items():
        columns = list(next(iter(runs.values()))[0]["results"][part])
        lines += [
            "",
            f"| {heading} | " + " | ".join(columns) + " |",
            "|---" * (len(columns) + 1) + "|",
        ]
        for line, each in runs.items():
            cells = [
                str(Spread({s["seed"]: s["results"][part][column] for s in each}))
                for column in columns
            ]
            lines.append("| " + " | ".join([line, *cells]) + " |")
    return Section("\n".join(lines) + "\n")


def subsets_section(lab: Lab, metric: str = "pa_mpjpe") -> Section:
    """The test clips by speed, by what is hidden and by company, at the smallest label share."""
    clips = next((s["results"] for s in stored(lab, CLIP_STUDY)), None)
    runs = {line: stored(lab, f"{name}-10") for line, (name, _) in METHODS.items()}
    if clips is None or not any(runs.values()):
        return Section("")
    columns = subsets(clips)
    lines = [
        "## Fast motion, occlusion, several people",
        "",
        f"The runs of `{LABELS.name}` at 10 % of the labels, {SHOWN[metric]}, on parts of the test "
        "clips: thirds by how fast the joints move in the picture and by how many of them are "
        f"hidden; those with other people about. `flowhmr experiment {CLIP_STUDY} {LABELS.name}`",
        "",
        "| | " + " | ".join(f"{name} ({len(rows)} clips)" for name, rows in columns.items()) + " |",
        "|" + "---|" * (len(columns) + 1),
    ]
    for line, each in runs.items():
        cells = []
        for rows in columns.values():
            values = {
                s["seed"]: float(
                    np.mean([s["results"]["test"]["per_clip"][metric][i] for i in rows])
                )
                for s in each
            }
            cells.append(str(Spread(values)))
        if each:
            lines.append("| " + " | ".join([line, *cells]) + " |")
    return Section("\n".join(lines) + "\n")


def subsets(clips: dict[str, list[float]]) -> dict[str, list[int]]:
    """Numbers of the clips in each part.

    Args:
        clips: what `StudyClips` measured.
    """
    by_speed, by_hidden = (np.argsort(clips[k], kind="stable") for k in ("speed_px", "hidden"))
    third = len(by_speed) // 3
    with_others = [i for i, others in enumerate(clips["others"]) if others]
    return {
        "slowest third": by_speed[:third].tolist(),
        "fastest third": by_speed[-third:].tolist(),
        "least hidden third": by_hidden[:third].tolist(),
        "most hidden third": by_hidden[-third:].tolist(),
        "alone": sorted(set(range(len(by_speed))) - set(with_others)),
        "with others": with_others,
    }
