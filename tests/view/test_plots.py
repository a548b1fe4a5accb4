"""Figures: files of the right size that show what they are given."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flowhmr.view import plot_bars, plot_curves, plot_frames, plot_histograms
from flowhmr.view.plots import COLOURS, HEIGHT_PX, WIDTH_PX

NAN = float("nan")
CURVES = {
    "BL": [(0.1, 65.3, 1.0), (0.2, 62.2, 0.5), (1.0, 58.2, 0.4)],
    "OF": [(1.0, 57.1, NAN), (0.1, 61.3, 0.8)],
}
PAPER = {"OF": [(0.1, 61.3), (1.0, 57.1)]}
BARS = {"10 %": {"BL": (65.3, 1.0), "OF": (61.3, NAN)}, "all": {"OF": (57.1, 0.5)}}
RANDOM = np.random.default_rng(0)
SPREAD = {"a": np.exp(RANDOM.normal(-2, 2, 300)), "b": np.exp(RANDOM.normal(3, 1, 50))}
CLOSE = {"a": np.exp(RANDOM.normal(0, 0.3, 300)), "b": np.exp(RANDOM.normal(0, 0.3, 50))}


def pixels(path: Path) -> np.ndarray:
    assert path.read_bytes().startswith(b"\x89PNG")
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def count(picture: np.ndarray, colour: str) -> int:
    """Pixels of exactly this colour."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return int((picture == rgb).all(-1).sum())


@pytest.mark.parametrize(
    ("draw", "height_px"),
    [
        (lambda p: plot_curves(p, CURVES, y_label="PA-MPJPE (mm)"), HEIGHT_PX),
        (lambda p: plot_curves(p, CURVES, y_label="mm", paper=PAPER, beside=True), HEIGHT_PX),
        (lambda p: plot_histograms(p, SPREAD, CLOSE, title="both"), HEIGHT_PX),
        (lambda p: plot_frames(p, np.arange(9.0), np.ones(9)), HEIGHT_PX * 3 // 4),
        (lambda p: plot_bars(p, BARS, y_label="mm", from_zero=False), HEIGHT_PX),
    ],
)
def test_a_figure_is_a_png_of_the_size_told_wherever_it_goes(
    draw: Callable[[Path], Path], height_px: int, tmp_path: Path
) -> None:
    path = tmp_path / "new" / "folder" / "figure.png"
    assert draw(path) == path
    assert pixels(path).shape == (height_px, WIDTH_PX, 3)


def test_each_method_has_its_colour_and_the_papers_curve_that_of_its_method(
    tmp_path: Path,
) -> None:
    bare = pixels(plot_curves(tmp_path / "a.png", CURVES, y_label="mm"))
    both = pixels(plot_curves(tmp_path / "b.png", CURVES, y_label="mm", paper=PAPER))
    assert min(count(bare, c) for c in COLOURS[:2]) > 100
    assert count(bare, COLOURS[2]) == count(both, COLOURS[2]) == 0
    assert not np.array_equal(bare, both)


def test_the_same_points_make_the_same_file_however_they_are_given(tmp_path: Path) -> None:
    shuffled = {name: points[::-1] for name, points in CURVES.items()}
    a = plot_curves(tmp_path / "a.png", CURVES, y_label="mm")
    b = plot_curves(tmp_path / "b.png", shuffled, y_label="mm")
    assert a.read_bytes() == b.read_bytes()


def test_a_band_is_as_wide_as_the_deviation_on_both_sides(tmp_path: Path) -> None:
    def tinted(sd: float) -> tuple[int, int]:
        """Pixels above and below a level line that are neither grey nor as blue as the line."""
        curves = {
            "BL": [(0.1, 55.0, sd), (1.0, 55.0, sd)],
            "OF": [(0.1, 80.0, 0.0), (1.0, 30.0, 0.0)],
        }
        picture = pixels(plot_curves(tmp_path / "x.png", curves, y_label="mm")).astype(int)
        red, _, blue = picture.transpose(2, 0, 1)
        band = ((blue - red > 20) & (red > 200))[:, 200:700].sum(1)
        line = int(np.nonzero((picture[:, 300] == [0, 0x72, 0xB2]).all(-1))[0][0])
        return int(band[:line].sum()), int(band[line:].sum())

    (above, below), (wide_above, _) = tinted(3.0), tinted(6.0)
    assert above > 1000
    assert below == pytest.approx(above, rel=0.15)
    assert wide_above == pytest.approx(2 * above, rel=0.15)


def test_a_single_run_at_a_single_share_can_be_drawn(tmp_path: Path) -> None:
    plot_curves(tmp_path / "x.png", {"BL": [(1.0, 50.0, NAN)]}, y_label="mm")
    plot_bars(tmp_path / "y.png", {"all": {"BL": (0.0, NAN)}}, y_label="mm", from_zero=False)
    plot_histograms(tmp_path / "z.png", {"a": np.ones(1)}, {"a": np.ones(3)})
    plot_frames(tmp_path / "w.png", np.full(4, NAN), np.full(4, NAN))


def test_values_that_no_logarithm_has_are_left_out(tmp_path: Path) -> None:
    spoilt = {k: np.concatenate([v, [0.0, -1.0, np.nan, np.inf]]) for k, v in SPREAD.items()}
    a = pixels(plot_histograms(tmp_path / "a.png", SPREAD, CLOSE))
    b = pixels(plot_histograms(tmp_path / "b.png", spoilt, CLOSE))
    assert np.array_equal(a, b)


def test_frames_without_a_distance_leave_a_gap(tmp_path: Path) -> None:
    steady, broken = np.ones(40), np.ones(40)
    broken[10:30] = np.nan
    whole, gap = (
        count(pixels(plot_frames(tmp_path / "x.png", v, np.full(40, 3.0))), COLOURS[1])
        for v in (steady, broken)
    )
    assert whole > 1.3 * gap


@pytest.mark.parametrize(
    "curves",
    [{}, {"BL": []}, {"BL": [(0.0, 60.0, 1.0)]}],
)
def test_curves_that_cannot_be_drawn_are_refused(curves: dict, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected at least one point for each method"):
        plot_curves(tmp_path / "x.png", curves, y_label="mm")
    assert not list(tmp_path.iterdir())


def test_nothing_is_no_figure(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected at least one bar"):
        plot_bars(tmp_path / "x.png", {"all": {}}, y_label="mm")
    with pytest.raises(ValueError, match="after: got no finite values above 0"):
        plot_histograms(tmp_path / "x.png", SPREAD, {"a": np.zeros(3)}, after_label="after")
