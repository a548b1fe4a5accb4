"""The results page: every table from the run folders, with figures and remarks."""

from pathlib import Path

from flowhmr.experiments.catalogue import OF4HMR, PAPERS, Paper
from flowhmr.experiments.lab import Lab, read_scores
from flowhmr.experiments.of4hmr import LABELS, METHODS, SHARES
from flowhmr.experiments.sections import (
    Section,
    errors_section,
    flow_quality_section,
    loss_section,
    subsets_section,
)
from flowhmr.experiments.tables import Table, markdown, spread
from flowhmr.view import plot_curves

HEAD = """# Results

Made by `flowhmr experiment --results docs/results.md` from the scores in `experiments/runs`; every
table stands beside the command that runs it. `flowhmr experiment --list` says what each costs.

SynthMotion, small size (images of 128 px), its test split of 100 clips; mean ± standard deviation
over seeds. Lower is better throughout. The papers' numbers are on their own data and networks:
compare directions, not values. A claim *holds* when the 95 % interval of the difference over the
seeds (Student's t) is below zero, *does not hold* when it is above, and is *within noise* else; "no
worse" allows one percent. Differences are better minus other, one for each pair of runs that the
claim compares; where one of them goes the other way, a claim *holds on average*.
"""


def results_page(lab: Lab, page: Path, notes: Path) -> list[Path]:
    """Write the page and its figures.

    Args:
        lab: whose run folders.
        page: the Markdown file; figures go into a folder beside it, named like it.
        notes: folder of remarks, ``<table>.md``, put under their tables.

    Returns:
        What was written.
    """
    figures = page.with_suffix("")
    parts, written = [HEAD], [page]
    for paper in PAPERS.values():
        found = _of_paper(lab, paper, notes, figures)
        if found.text:
            parts += [f"# {paper.title}\n\n{paper.about}\n", found.text]
            written += found.files
    page.write_text("\n".join(parts))
    return written


def _of_paper(lab: Lab, paper: Paper, notes: Path, figures: Path) -> Section:
    """What was run of a paper's tables and studies."""
    parts, files = [], []
    for table in paper.tables:
        if not any(_finished(lab, run) for run in table.runs):
            continue
        parts.append(markdown(table, lab, f"flowhmr experiment {table.name}"))
        if table is LABELS:
            files.append(_label_curves(lab, table, figures / "labels.png"))
            parts.append(f"![Error over the labelled share]({figures.name}/labels.png)\n")
        parts += _remarks(notes / f"{table.name}.md")
    sections = {}
    if paper is OF4HMR:
        sections = {
            "subsets": subsets_section(lab),
            "errors": errors_section(lab),
            "flow-quality": flow_quality_section(lab, figures),
            "flow-loss": loss_section(lab, figures),
        }
    for name, section in sections.items():
        if section.text:
            parts += [section.text, *_remarks(notes / f"{name}.md")]
            files += section.files
    return Section("\n".join(part for part in parts if part), tuple(files))


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
