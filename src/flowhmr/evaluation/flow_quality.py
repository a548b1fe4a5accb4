"""Does image flow know more of the true motion than the network? The ratios of of4hmr, Table 2.

For two frames of labelled video three motions are compared at the keypoints seen in both: the true
one (F_GT), that of the two estimated bodies (F_B), and that of the image (F_OF). Above 1, the ratio
``|F_B - F_GT| / |F_OF - F_GT|`` says that image flow has something to teach the network.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from flowhmr.body import BodyModel
from flowhmr.cameras import Crop, WeakCamera, fit_weak_camera, project_weak, square_box, warp_image
from flowhmr.evaluation.scores import UNIT_PX, Estimator
from flowhmr.flow import FlowPair, sample_flow
from flowhmr.records import Clip, Estimate, Sequence

Resolution = Literal["crop", "window", "image"]
"""Where flow is estimated. ``crop``: in a window around the person, resized to the network's crop
(the paper's LR). ``window``: in the same window with the image's own pixels. ``image``: in the
whole image (HR)."""

ReadAt = Literal["body", "truth"]
"""Where image flow is read. ``body``: at the estimated keypoint of the first frame, as the flow
loss does, so that a body which misses the limb reads the background (the paper's rows for gaps 1 to
7). ``truth``: at the true keypoint (its oracle row; the other two motions stay what they are)."""

FlowBetween = Callable[[np.ndarray, np.ndarray], FlowPair]
"""Flow of two RGB frames: ``FlowCache(...).pair`` or ``partial(estimate_pair, estimator)``."""


@dataclass(frozen=True)
class FlowStudy:
    """What is compared."""

    gaps: tuple[int, ...] = (1, 3, 5, 7)
    """Frames from the first to the second of a pair."""
    resolutions: tuple[Resolution, ...] = ("crop", "image")
    """Where flow is estimated."""
    crop_px: int = 224
    """Width and height of ``crop``."""
    margin: float = 1.2
    """Side of the windows over the longest side of the person's two boxes."""
    least_px: float = 0.05
    """Smaller distances count as this one in ratios, above the line and below it, pixels of a
    window of 224: no division by zero, and two motions that are both right have the ratio 1."""

    def __post_init__(self) -> None:
        if not self.gaps or min(self.gaps) < 1:
            raise ValueError(f"gaps: got {self.gaps}; expected one or more, each at least 1")
        if not self.resolutions or not set(self.resolutions) <= set(get_args(Resolution)):
            raise ValueError(
                f"resolutions: got {self.resolutions}; expected some of {get_args(Resolution)}"
            )
        if not self.least_px > 0:
            raise ValueError(f"least distance: got {self.least_px} px; expected more than 0")


@dataclass(frozen=True, eq=False)
class Footage:
    """One person's labelled video, and which pairs of its frames are looked at."""

    sequence: Sequence
    """The whole images, with labels in their pixels."""
    clip: Clip
    """The same frames as the estimator takes them, each in a crop of its own, not mirrored."""
    starts: tuple[int, ...] | None = None
    """First frames of the pairs, see `choose_starts`; None takes all that a gap allows."""


@dataclass(frozen=True, eq=False)
class FlowQuality:
    """How far bodies and image flow are from the true motion, pair by pair, in the order given.

    Distances are means over the keypoints seen in both frames, in pixels of a window of 224 around
    the person; NaN in pairs without such keypoints, which no mean, median or count includes.
    """

    gap: int
    """Frames from the first to the second of a pair."""
    resolution: Resolution
    """Where flow was estimated."""
    read_at: ReadAt
    """Where it was read."""
    body_px: Float[Tensor, "n"]
    """``|F_B - F_GT|``."""
    image_px: Float[Tensor, "n"]
    """``|F_OF - F_GT|``."""
    least_px: float
    """Distances below this one count as this one in the ratios."""

    @property
    def ratios(self) -> Float[Tensor, "n"]:
        """``|F_B - F_GT| / |F_OF - F_GT|`` of each pair; above 1 where flow knows more."""
        return self.body_px.clamp(min=self.least_px) / self.image_px.clamp(min=self.least_px)

    @property
    def pairs(self) -> int:
        """How many pairs have a ratio."""
        return len(self._counted)

    @property
    def mean(self) -> float:
        """Mean ratio over pairs; NaN without any."""
        return float(self._counted.mean()) if self.pairs else math.nan

    @property
    def median(self) -> float:
        """Median ratio over pairs; NaN without any."""
        return float(self._counted.quantile(0.5)) if self.pairs else math.nan

    @property
    def raised(self) -> float:
        """Share of the pairs in which the distance of the image flow was below the least one."""
        low = self.image_px[torch.isfinite(self.image_px)] < self.least_px
        return float(low.float().mean()) if self.pairs else math.nan

    @property
    def _counted(self) -> Tensor:
        ratios = self.ratios
        return ratios[torch.isfinite(ratios)]


class TrueBody:
    """The labels as an estimator: each true body under the best weak camera of its crop.

    The camera is fitted to the keypoints that are seen; where none is, its shift is NaN.
    """

    def __call__(self, clip: Clip) -> Estimate:
        """True pose and shape of each frame.

        Raises:
            ValueError: the clip has no labels.
        """
        labels = clip.labels
        if labels is None:
            raise ValueError("true bodies: got a clip without labels; expected one with 3D labels")
        fitted = []
        for joints_m, seen_px, confidence in zip(
            labels.joints_m, labels.keypoints_px, labels.keypoint_confidence
        ):
            seen = confidence > 0
            fitted.append(fit_weak_camera(joints_m[seen], seen_px[seen], clip.crop.size_px).params)
        return Estimate(labels.params, WeakCamera(torch.stack(fitted)))


def choose_starts(lengths: list[int], reach: int, count: int, seed: int) -> list[tuple[int, ...]]:
    """First frames of ``count`` pairs, drawn from all videos without repetition.

    A smaller ``count`` gives a part of the same pairs. With the largest gap as ``reach``, the same
    first frames serve all gaps.

    Args:
        lengths: frames of each video.
        reach: a first frame has at least so many frames after it.
        count: how many pairs; all there are, if they are fewer.
        seed: of the choice.

    Returns:
        For each video its first frames, ascending.

    Raises:
        ValueError: no video is longer than ``reach``.
    """
    places = [(v, i) for v, frames in enumerate(lengths) for i in range(frames - reach)]
    if not places:
        raise ValueError(
            f"pairs for flow quality: got {len(lengths)} videos of at most "
            f"{max(lengths, default=0)} frames; expected one longer than the reach of {reach}; "
            "give longer video or smaller gaps"
        )
    order = np.random.default_rng(seed).permutation(len(places))[:count]
    starts: list[list[int]] = [[] for _ in lengths]
    for place in sorted(order.tolist()):
        starts[places[place][0]].append(places[place][1])
    return [tuple(s) for s in starts]


@torch.no_grad()
def score_flow_quality(
    estimator: Estimator,
    footage: Iterable[Footage],
    body: BodyModel,
    flow_between: FlowBetween,
    study: FlowStudy | None = None,
) -> list[FlowQuality]:
    """The ratios for each gap, each resolution and both places to read the flow at, in this order.

    One video with all its starts gives the series of the paper's plot over frames. Each video is
    estimated once, as a whole.

    Args:
        estimator: whose bodies.
        footage: labelled videos; drawn one after the other.
        body: the model of the estimates and the labels.
        flow_between: flow of two images.
        study: what is compared; by default what the paper compares.

    Raises:
        ValueError: a video without labels, or with a start whose pair does not fit into it.
    """
    study = study or FlowStudy()
    rows: dict[tuple[int, Resolution], _Distances] = {
        (gap, resolution): _Distances() for gap in study.gaps for resolution in study.resolutions
    }
    for video in footage:
        points_px = _estimated_px(estimator, video, body)
        for gap in study.gaps:
            for start in _starts(video, gap):
                pair = _Pair(video.sequence, points_px, start, start + gap, study)
                for resolution in study.resolutions:
                    rows[gap, resolution].add(pair, flow_between, resolution)
    return [
        FlowQuality(gap, resolution, at, *row.tensors(at), study.least_px)
        for (gap, resolution), row in rows.items()
        for at in get_args(ReadAt)
    ]


def flow_quality_markdown(rows: list[FlowQuality]) -> str:
    """The paper's table: mean and median ratio for gaps (rows) and resolutions (columns)."""
    columns = list(dict.fromkeys(r.resolution for r in rows))
    lines = ["| gap | " + " | ".join(columns) + " |", "|" + "---|" * (len(columns) + 1)]
    for at in get_args(ReadAt):
        for gap in dict.fromkeys(r.gap for r in rows):
            cells = {r.resolution: r for r in rows if (r.gap, r.read_at) == (gap, at)}
            texts = [f"{c.mean:.1f} / {c.median:.1f}" for c in map(cells.get, columns) if c]
            if texts:
                name = f"{gap} (oracle)" if at == "truth" else f"{gap}"
                lines.append(f"| {name} | " + " | ".join(texts) + " |")
    return "\n".join(lines) + "\n"


def _estimated_px(estimator: Estimator, video: Footage, body: BodyModel) -> Float[Tensor, "t 24 2"]:
    """Where the estimated joints are in the images."""
    if video.sequence.labels is None:
        raise ValueError(
            f"{video.sequence.name}: got a video without labels; expected one with 2D keypoints"
        )
    estimate, crop = estimator(video.clip), video.clip.crop
    shown = project_weak(body.joints(estimate.params), estimate.camera, crop.size_px)
    return crop.to_image(shown[..., :2])


def _starts(video: Footage, gap: int) -> Iterable[int]:
    frames = len(video.sequence)
    if video.starts is None:
        return range(frames - gap)
    if video.starts and not 0 <= min(video.starts) <= max(video.starts) < frames - gap:
        raise ValueError(
            f"{video.sequence.name}: got first frames {min(video.starts)} to {max(video.starts)}; "
            f"expected 0 to {frames - gap - 1}, for {frames} frames and a gap of {gap}; choose "
            "them with the largest gap as their reach"
        )
    return video.starts


class _Pair:
    """Two frames of a video, and how far true and estimated keypoints move; pixels of the image."""

    def __init__(
        self, sequence: Sequence, points_px: Tensor, first: int, second: int, study: FlowStudy
    ):
        assert sequence.labels is not None
        confidence, truth_px = sequence.labels.keypoint_confidence, sequence.labels.keypoints_px
        seen = (confidence[first] > 0) & (confidence[second] > 0)
        self.images = sequence.images[first], sequence.images[second]
        self.window = _window(sequence.boxes_px[[first, second]], study)
        self.per_px = UNIT_PX / float(self.window.side_px)
        self.truth_px, self.body_px = truth_px[first, seen], points_px[first, seen]
        self.truth_moved_px = truth_px[second, seen] - self.truth_px
        self.body_moved_px = points_px[second, seen] - self.body_px

    def apart(self, moved_px: Tensor) -> float:
        """Mean distance of a motion from the true one, pixels of a window of 224."""
        return float((moved_px - self.truth_moved_px).norm(dim=-1).mean()) * self.per_px


def _window(boxes_px: Float[Tensor, "2 4"], study: FlowStudy) -> Crop:
    """Around both boxes, as large as the crop of the larger one: the person keeps its size."""
    low, high = boxes_px[:, :2].amin(0), (boxes_px[:, :2] + boxes_px[:, 2:]).amax(0)
    _, side_px = square_box(boxes_px, study.margin)
    still = torch.zeros(())
    return Crop((low + high) / 2, side_px.amax(), still, still, study.crop_px)


@dataclass
class _Distances:
    """Distances from the true motion as they come in."""

    body: list[float] = field(default_factory=list)
    image: dict[ReadAt, list[float]] = field(
        default_factory=lambda: {at: [] for at in get_args(ReadAt)}
    )

    def add(self, pair: _Pair, flow_between: FlowBetween, resolution: Resolution) -> None:
        self.body.append(pair.apart(pair.body_moved_px))
        if not len(pair.truth_px):
            for at in self.image:
                self.image[at].append(math.nan)
            return
        read = _flow_reader(pair, flow_between, resolution)
        self.image["body"].append(pair.apart(read(pair.body_px)))
        self.image["truth"].append(pair.apart(read(pair.truth_px)))

    def tensors(self, at: ReadAt) -> tuple[Tensor, Tensor]:
        return torch.tensor(self.body), torch.tensor(self.image[at])


def _flow_reader(
    pair: _Pair, flow_between: FlowBetween, resolution: Resolution
) -> Callable[[Tensor], Tensor]:
    """Reads the image flow at points; both in pixels of the image."""
    if resolution == "image":
        whole = flow_between(*pair.images).forward[None]
        return lambda points_px: sample_flow(whole, points_px[None])[0]
    window, side_px = pair.window, float(pair.window.side_px)
    if resolution == "window":
        still = torch.zeros(())
        window = Crop(window.centre_px, window.side_px, still, still, max(1, round(side_px)))
    flow = flow_between(*(warp_image(image, window) for image in pair.images)).forward[None]
    grown = side_px / window.size_px
    return lambda points_px: sample_flow(flow, window.to_crop(points_px)[None])[0] * grown
