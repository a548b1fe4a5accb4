"""Numbers as figures: PNG files, 900 pixels wide."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_PX, HEIGHT_PX = 900, 480
_DPI = 100

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#444444")
"""Told apart with any colour vision (Okabe and Ito), more or less dark."""

_MARKERS = "osD^vPX*"


def plot_curves(
    path: Path,
    curves: Mapping[str, Sequence[tuple[float, float, float]]],
    *,
    y_label: str,
    x_label: str = "labelled share",
    paper: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    beside: bool = False,
    title: str = "",
) -> Path:
    """Methods over the labelled share (logarithmic), with a band of one deviation each.

    Args:
        path: PNG to write; its folder is made.
        curves: for each method (share 0..1, mean, standard deviation); a deviation of NaN, as of
            a single run, draws no band.
        y_label: what is measured, with its unit.
        x_label: what the share is of.
        paper: published (share, value), dashed; a method of the same name has the same colour.
        beside: the paper's curves in a panel of their own with its own scale: for numbers from
            other data, of which only the course compares.
        title: above the figure.

    Returns:
        ``path``.

    Raises:
        ValueError: no curves, an empty one, or shares that are not above 0.
    """
    published = paper or {}
    everything = [*curves.values(), *published.values()]
    if not curves or not all(everything) or min(p[0] for c in everything for p in c) <= 0:
        raise ValueError(
            f"curves: got {dict(curves)} and {dict(published)}; expected at least one point for "
            "each method, at shares above 0; leave out methods without results"
        )
    figure = _new_figure(title)
    panels = 2 if published and beside else 1
    axes = [figure.add_subplot(1, panels, i + 1) for i in range(panels)]
    colour = _colours([*curves, *published])
    for i, (name, points) in enumerate(curves.items()):
        x, mean, sd = np.array(sorted(points), float).T
        style = {"color": colour[name], "marker": _MARKERS[i % len(_MARKERS)], "markersize": 6}
        axes[0].plot(x, mean, label=name, linewidth=2, **style)
        axes[0].fill_between(x, mean - sd, mean + sd, color=colour[name], alpha=0.15, linewidth=0)
    for name, points in published.items():
        x, value = np.array(sorted(points), float).T
        axes[-1].plot(
            x, value, "--", label=f"{name} (paper)", color=colour[name], linewidth=1.5, marker="."
        )
    for panel in axes:
        _share_axis(panel, sorted({p[0] for c in everything for p in c}))
        panel.set_xlabel(x_label)
    axes[0].set_ylabel(y_label)
    if panels == 2:
        axes[0].set_title("here", fontsize=11)
        axes[1].set_title("paper", fontsize=11)
    return _save(figure, path)


def plot_histograms(
    path: Path,
    before: Mapping[str, Float[np.ndarray, "_"]],
    after: Mapping[str, Float[np.ndarray, "_"]],
    *,
    before_label: str = "flow loss before scaling (px²)",
    after_label: str = "flow loss after scaling",
    bins: int = 40,
    title: str = "",
) -> Path:
    """Values of several data sets before and after scaling, side by side (of4hmr, Fig. 8).

    Both panels are logarithmic and span as many decades, so that how far values spread compares;
    values that are not above 0 or not finite are left out. Bars are shares of each data set, so
    that sets of different sizes compare.

    Args:
        path: PNG to write; its folder is made.
        before, after: values of each data set.
        before_label, after_label: what they are, with units.
        bins: how many of them.
        title: above the figure.

    Returns:
        ``path``.

    Raises:
        ValueError: a panel has no value that can be drawn.
    """
    from matplotlib.ticker import NullFormatter

    panels = []
    for values, label in ((before, before_label), (after, after_label)):
        decades = {n: np.log10(v[np.isfinite(v) & (v > 0)]) for n, v in values.items()}
        every = np.concatenate([np.zeros(0), *decades.values()])
        if not len(every):
            raise ValueError(f"histogram of {label}: got no finite values above 0; expected some")
        panels.append((decades, label, every.min(), every.max()))
    # Of two decades one has a labelled tick.
    span = max(2.0, *(high - low for _, _, low, high in panels))
    figure = _new_figure(title)
    colour, first = _colours([*before, *after]), None
    for decades, label, low, high in panels:
        axes = figure.add_subplot(1, 2, 1 if first is None else 2, sharey=first)
        edges = (low + high) / 2 + span * np.linspace(-0.5, 0.5, bins + 1)
        # Rounding must not put the extremes outside.
        edges[0], edges[-1] = min(edges[0], low), max(edges[-1], high)
        for name, v in decades.items():
            shares = np.histogram(v, edges)[0] / max(len(v), 1)
            named = None if first and name in before else name
            axes.stairs(shares, 10**edges, fill=True, alpha=0.2, color=colour[name])
            axes.stairs(shares, 10**edges, linewidth=1.5, color=colour[name], label=named)
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(_percent())
        axes.set_xlabel(label)
        first = first or axes
    figure.axes[0].set_ylabel("share of the pairs")
    return _save(figure, path)


def plot_frames(
    path: Path,
    body_px: Float[np.ndarray, "t"],
    image_px: Float[np.ndarray, "t"],
    *,
    first_frame: int = 0,
    y_label: str = "distance from truth (px of 224)",
    title: str = "",
) -> Path:
    """How far the motion of bodies and of the image is from the true one, frame by frame.

    Args:
        path: PNG to write; its folder is made.
        body_px: distance of body flow; NaN leaves a gap.
        image_px: distance of image flow.
        first_frame: number of the first pair's first frame.
        y_label: what is measured, with its unit.
        title: above the figure.

    Returns:
        ``path``.
    """
    from matplotlib.ticker import MaxNLocator

    figure = _new_figure(title, HEIGHT_PX * 3 // 4)
    axes = figure.add_subplot()
    frames = first_frame + np.arange(len(body_px))
    for values, name, colour in (
        (body_px, r"bodies, $|F_B - F_{GT}|$", COLOURS[1]),
        (image_px, r"image flow, $|F_{OF} - F_{GT}|$", COLOURS[0]),
    ):
        axes.plot(frames, values, label=name, color=colour, linewidth=1.8)
        if np.isfinite(values).any():
            axes.axhline(float(np.nanmean(values)), color=colour, linewidth=1, linestyle=":")
    axes.set_xlabel("frame (dotted: mean)")
    axes.set_ylabel(y_label)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _save(figure, path)


def plot_bars(
    path: Path,
    groups: Mapping[str, Mapping[str, tuple[float, float]]],
    *,
    y_label: str,
    from_zero: bool = True,
    title: str = "",
) -> Path:
    """Groups of bars with their numbers and error bars of one deviation.

    Args:
        path: PNG to write; its folder is made.
        groups: for each group (under the axis), for each method (in the legend) mean and standard
            deviation; a method may be missing, a deviation may be NaN.
        y_label: what is measured, with its unit.
        from_zero: start the axis at 0; else below the smallest bar, which exaggerates differences.
        title: above the figure.

    Returns:
        ``path``.

    Raises:
        ValueError: nothing to draw.
    """
    methods = list(dict.fromkeys(m for bars in groups.values() for m in bars))
    if not methods:
        raise ValueError(f"bars: got {dict(groups)}; expected at least one bar")
    figure = _new_figure(title)
    axes = figure.add_subplot()
    colour, width = _colours(methods), 0.8 / len(methods)
    largest = max(abs(mean) for bars in groups.values() for mean, _ in bars.values())
    digits = max(0, 2 - math.floor(math.log10(largest or 1.0)))
    drawn: list[float] = []
    for i, method in enumerate(methods):
        here = [g for g, bars in enumerate(groups.values()) if method in bars]
        mean, sd = np.array([b[method] for b in groups.values() if method in b], float).T
        x = np.array(here) + (i - (len(methods) - 1) / 2) * width
        error = np.where(np.isfinite(sd), sd, 0.0)
        axes.bar(
            x, mean, width * 0.92, yerr=error, capsize=3, label=method, color=colour[method],
            error_kw={"elinewidth": 1.2, "ecolor": "#222222"},
        )  # fmt: skip
        drawn += [*(mean - error), *(mean + error)]
        for place, value, reach in zip(x, mean, error):
            axes.annotate(
                f"{value:.{digits}f}", (place, value + reach), xytext=(0, 2), ha="center",
                textcoords="offset points", fontsize=8,
            )  # fmt: skip
    axes.set_xticks(range(len(groups)), list(groups))
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel(y_label)
    if not from_zero:
        spread = max(drawn) - min(drawn) or 1.0
        axes.set_ylim(min(drawn) - spread / 4, max(drawn) + spread / 4)
    return _save(figure, path)


def _new_figure(title: str, height_px: int = HEIGHT_PX) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure((WIDTH_PX / _DPI, height_px / _DPI), dpi=_DPI, layout="constrained")
    if title:
        figure.suptitle(title, fontsize=13)
    return figure


def _save(figure: "Figure", path: Path) -> Path:
    """Legend outside the data, light grid, no frame, then the file."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#dddddd", linewidth=0.8)
        axes.set_axisbelow(True)
    entries = [axes.get_legend_handles_labels() for axes in figure.axes]
    handles, labels = ([e for part in side for e in part] for side in zip(*entries))
    columns = min(len(labels), 4)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")
    return path


def _colours(names: list[str]) -> dict[str, str]:
    return {n: COLOURS[i % len(COLOURS)] for i, n in enumerate(dict.fromkeys(names))}


def _percent():
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda share, _: f"{100 * share:.3g} %")


def _share_axis(axes: "Axes", shares: list[float]) -> None:
    """Logarithmic, with the shares themselves as ticks, as many as fit."""
    from matplotlib.ticker import NullLocator

    axes.set_xscale("log")
    kept = shares[:1]
    for _, share in pairwise(shares):
        if share / kept[-1] > 1.15:
            kept.append(share)
    axes.set_xticks(kept)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(_percent())
