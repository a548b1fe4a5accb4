"""The results page: every table from the run folders, with figures and remarks."""

import math
from pathlib import Path

from flowhmr.experiments.lab import Lab, read_scores
from flowhmr.experiments.of4hmr import FLOW_QUALITY, LABELS, METHODS, SHARES, TABLES
from flowhmr.experiments.tables import Table, markdown, spread
from flowhmr.view import plot_curves

HEAD = """# Results

Made by `flowhmr experiment --results docs/results.md` from the scores in `experiments/runs`; every
table stands beside the command that runs it. `flowhmr experiment --list` says what each costs.

SynthMotion, small size (images of 128 px, crops of {crop_px} px), its test split of 100 clips; mean
± standard deviation over seeds, each with a baseline of its own. Lower is better throughout. The
paper's numbers are on its own data and networks: compare directions, not values. A claim *holds*
when the 95 % interval of the difference over the seeds (Student's t) is below zero, *does not hold*
when it is above, and is *within noise* else; "no worse" allows one percent. Differences are better
minus other, one for each pair of runs that the claim compares.
"""


def results_page(lab: Lab, page: Path, notes: Path, crop_px: int) -> list[Path]:
    """Write the page and its figures.

    Args:
        lab: whose run folders.
        page: the Markdown file; figures go into a folder beside it, named like it.
        notes: folder of remarks, ``<table>.md``, put under their tables.
        crop_px: of the networks, for the page's head.

    Returns:
        What was written.
    """
    figures = page.with_suffix("")
    parts, written = [HEAD.format(crop_px=crop_px)], []
    for name, table in TABLES.items():
        if not any(_finished(lab, run) for run in table.runs):
            continue
        parts.append(markdown(table, lab, f"flowhmr experiment {name}"))
        if table is LABELS:
            written.append(_label_curves(lab, table, figures / "labels.png"))
            parts.append(f"![Error over the labelled share]({figures.name}/labels.png)\n")
        parts += _remarks(notes / f"{name}.md")
    parts += [flow_quality_section(lab), *_remarks(notes / "flow-quality.md")]
    page.write_text("\n".join(part for part in parts if part))
    return [page, *written]


def _finished(lab: Lab, run: str) -> bool:
    return any(read_scores(f) is not None for f in (lab.runs / run).glob("seed-*"))


def _remarks(path: Path) -> list[str]:
    return [path.read_text()] if path.exists() else []


def _label_curves(lab: Lab, table: Table, path: Path) -> Path:
    curves, paper = {}, {}
    for line, (name, published) in METHODS.items():
        points = []
        for percent, share in SHARES.items():
            found = spread(lab, f"{name}-{percent}", "pa_mpjpe", table.split)
            if found.by_seed:
                points.append((share, found.mean, found.deviation))
        if points:
            curves[line] = points
        known = [
            (share, float(v)) for share, v in zip(SHARES.values(), published, strict=True) if v
        ]
        if known:
            paper[line] = known
    return plot_curves(path, curves, y_label="PA-MPJPE (mm)", paper=paper, beside=True)


def flow_quality_section(lab: Lab) -> str:
    """Mean and median ratios (of4hmr, Table 2), each a mean over seeds."""
    found: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for column, run in FLOW_QUALITY.items():
        for folder in sorted((lab.runs / run).glob("seed-*")):
            scores = read_scores(folder)
            for row in scores["results"]["ratios"] if scores else []:
                oracle = " (oracle)" if row["read_at"] == "truth" else ""
                key = (f"{row['gap']}{oracle}", column, row["resolution"])
                found.setdefault(key, []).append((row["mean"], row["median"]))
    if not found:
        return ""
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
    return "\n".join(lines) + "\n"


def _mean_pair(values: list[tuple[float, float]]) -> str:
    if not values or any(math.isnan(v) for pair in values for v in pair):
        return ""
    mean, median = (sum(v) / len(values) for v in zip(*values, strict=True))
    return f"{mean:.1f} / {median:.1f}"
