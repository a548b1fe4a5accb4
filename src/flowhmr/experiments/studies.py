"""What experiments look at besides scores: flow against estimates, the flow loss, the clips."""

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from flowhmr.cameras import project_weak
from flowhmr.data import FlowSource, PairConfig, cut_pair, frame_crops
from flowhmr.evaluation import FlowStudy, Footage, choose_starts, score_flow_quality
from flowhmr.experiments.lab import Lab, Results
from flowhmr.flow import estimate_pair, flow_estimator
from flowhmr.geometry import collate, procrustes_align
from flowhmr.losses import FlowLossConfig
from flowhmr.networks import ContextHmr, Hmr
from flowhmr.records import Clip, Estimate, Sequence
from flowhmr.synth import SplitName, set_stage, split_spec
from flowhmr.training import (
    TrainConfig,
    colour_noise,
    estimate_video,
    estimator_of,
    surface_weights,
    video_terms,
)
from flowhmr.view import contact_sheet, draw_body

FIGURE = "figure.png"
"""A picture that belongs to the results."""


@dataclass(frozen=True)
class StudyFlow:
    """Flow quality (of4hmr, section 4.7): image flow against the motion of the estimates."""

    start: str
    """The run whose network is looked at."""
    split: SplitName
    """Which video."""
    study: FlowStudy = field(default_factory=FlowStudy)
    """Gaps and resolutions."""
    pairs: int = 1000
    """How many pairs for each gap."""
    flow: str = "dis"
    """Flow estimator."""
    watched: int = 0
    """The clip that is shown frame by frame (Fig. 6)."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The network that is looked at."""
        return (self.start,)

    def run(self, lab: Lab, folder: Path, seed: int) -> Results:
        """Measure."""
        network = lab.network(self.start, seed)
        videos = lab.video(self.split)
        starts = choose_starts([len(v) for v in videos], max(self.study.gaps), self.pairs, seed)
        footage = [
            Footage(video, frame_crops(video, network.size_px), chosen)
            for video, chosen in zip(videos, starts, strict=True)
            if chosen
        ]
        estimator = estimator_of(network, lab.device)
        flow_between = partial(estimate_pair, flow_estimator(self.flow))
        rows = score_flow_quality(estimator, footage, lab.body, flow_between, self.study)
        video = videos[self.watched]
        whole = [Footage(video, frame_crops(video, network.size_px), None)]
        near = replace(self.study, gaps=(1,), resolutions=("image",))
        shown, *_ = score_flow_quality(estimator, whole, lab.body, flow_between, near)
        return {
            "frames": {"body_px": shown.body_px.tolist(), "image_px": shown.image_px.tolist()},
            "ratios": [
                {
                    "gap": row.gap,
                    "resolution": row.resolution,
                    "read_at": row.read_at,
                    "mean": row.mean,
                    "median": row.median,
                    "pairs": row.pairs,
                    "body_px": float(row.body_px.nanmean()),
                    "image_px": float(row.image_px.nanmean()),
                }
                for row in rows
            ],
        }


@dataclass(frozen=True)
class StudyLoss:
    """Section 5 of of4hmr: the flow loss before and after scaling, and what colour noise does.

    The picture `FIGURE` shows neighbouring frames with their bodies, without noise and with it.
    """

    start: str
    """The run whose network is looked at."""
    splits: tuple[SplitName, ...]
    """Which video."""
    pairs: int = 400
    """How many pairs of each."""
    noise: float = 0.4
    """Strength of the colour noise."""
    cut: PairConfig = field(default_factory=lambda: PairConfig(gap=1, flow_px=128))
    """How pairs are cut."""
    flow: str = "dis"
    """Flow estimator."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The network that is looked at."""
        return (self.start,)

    def run(self, lab: Lab, folder: Path, seed: int) -> Results:
        """Measure, and draw the picture."""
        network = lab.network(self.start, seed).eval()
        source = FlowSource(self.cut, partial(estimate_pair, flow_estimator(self.flow)))
        results: Results = {}
        rows, titles = [], []
        for split in self.splits:
            torch.manual_seed(seed)
            batches = self._batches(lab, split, source, network.size_px, seed)
            found = [_look(network, lab, clip, self.noise) for clip in batches]
            results[split] = {k: torch.cat([f[k] for f in found]) for k in found[0]}
            rows.append(_rigidity_row(network, lab, batches[0], self.noise))
            titles.append(f"{split}: neighbours, bodies; with colour noise, bodies")
        sheet = cv2.cvtColor(contact_sheet(rows, titles, 200), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / FIGURE), sheet)
        return {split: _summary(found) for split, found in results.items()}

    def _batches(
        self, lab: Lab, split: SplitName, source: FlowSource, size_px: int, seed: int
    ) -> list[Clip]:
        videos = lab.video(split)
        starts = choose_starts([len(v) for v in videos], self.cut.gap, self.pairs, seed)
        chosen = [(v, s) for v, each in zip(videos, starts, strict=True) for s in each]
        # Of all videos in each batch: the first is drawn.
        chosen = [chosen[i] for i in np.random.default_rng(seed).permutation(len(chosen))]
        cut = [cut_pair(video, start, size_px, source) for video, start in chosen]
        return [collate(cut[i : i + 25]) for i in range(0, len(cut), 25)]


def _look(
    network: Hmr | ContextHmr, lab: Lab, clip: Clip, noise: float
) -> dict[str, Float[Tensor, "_"]]:
    """One value for each pair of a batch."""
    assert clip.labels is not None
    size_px = clip.frames.shape[-1]
    weights = surface_weights(lab.body)
    true_m = clip.labels.joints_m - clip.labels.joints_m[:, :, :1]
    found: dict[str, Tensor] = {}
    for name, strength in (("same", 0.0), ("noise", noise)):
        with torch.no_grad():
            output = estimate_video(network, clip, colour_noise(clip.frames, strength))
            joints_m = lab.body.joints(output.estimate.params).unflatten(0, (-1, 2))
            joints_m = joints_m - joints_m[:, :, :1]
            if not strength:
                for scaled in (False, True):
                    # Unscaled in squared pixels of 224.
                    loss = FlowLossConfig(scaled=scaled, max_flow=1e6, unit=1 / 224)
                    config = TrainConfig(flow_loss=loss)
                    terms = video_terms(output, clip, lab.body, weights, config)
                    lost = torch.full_like(terms.flow, torch.nan)
                    found["scaled" if scaled else "loss"] = torch.where(
                        terms.kept, terms.flow, lost
                    )
                    found["image_flow_px"] = terms.image_flow_px * (224 / size_px)
        errors = (joints_m - true_m).flatten(2)
        found[f"{name}_dot"] = (errors[:, 0] * errors[:, 1]).sum(-1)
        found[f"{name}_squares"] = errors.square().sum(-1).mean(-1)
        found[f"{name}_moved_mm"] = _moved_mm(joints_m)
    found["true_moved_mm"] = _moved_mm(true_m)
    return found


def _moved_mm(joints_m: Float[Tensor, "p 2 j 3"]) -> Float[Tensor, "p"]:
    return (joints_m[:, 1] - joints_m[:, 0]).norm(dim=-1).mean(-1) * 1000


def _summary(found: dict[str, Tensor]) -> dict[str, Any]:
    def correlation(name: str) -> float:
        return float(found[f"{name}_dot"].sum() / found[f"{name}_squares"].sum())

    def values(name: str) -> list[float]:
        kept = found[name][found[name].isfinite()]
        return [float(f"{v:.4g}") for v in kept.tolist()]

    return {
        "loss": values("loss"),
        "scaled": values("scaled"),
        "image_flow_px": float(found["image_flow_px"].mean()),
        "error_correlation": {n: correlation(n) for n in ("same", "noise")},
        "moved_mm": {n: float(found[f"{n}_moved_mm"].mean()) for n in ("same", "noise", "true")},
    }


def _rigidity_row(
    network: Hmr | ContextHmr, lab: Lab, clip: Clip, noise: float
) -> list[np.ndarray]:
    """First pair of a batch: its frames with bodies, then both under colour noise with theirs."""
    row = []
    for strength in (0.0, noise):
        frames = colour_noise(clip.frames[:1], strength)
        with torch.no_grad():
            estimate = network(frames[0]).estimate
        images = (frames[0] * 255).to(torch.uint8).movedim(1, -1).numpy()
        row += [*_with_bodies(images, estimate, lab)]
    return row


def _with_bodies(images: np.ndarray, estimate: Estimate, lab: Lab) -> list[np.ndarray]:
    zoom = 3
    verts_m = lab.body.mesh(estimate.params).verts
    verts_px = project_weak(verts_m, estimate.camera, images.shape[1]) * zoom
    return [
        draw_body(cv2.resize(image, None, fx=zoom, fy=zoom), verts, lab.body.faces)
        for image, verts in zip(images, verts_px, strict=True)
    ]


@dataclass(frozen=True)
class StudyErrors:
    """How long errors last, and so what agreement between frames could gain at most.

    Flow says how a body moves, not where it is: it can take out what differs between the errors of
    two frames, and leaves what they have in common. Here the errors of the aligned joints are
    averaged over time (a Gaussian), as if all that differs within its width were gone; and, for
    what a filter can do, the joints themselves.
    """

    start: str
    """The run whose network is looked at."""
    split: SplitName = "val"
    """On which video."""
    widths: tuple[int, ...] = (1, 2, 4, 8)
    """Standard deviations of the Gaussian, frames."""
    gaps: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Frames between errors whose correlation is told."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The network that is looked at."""
        return (self.start,)

    def run(self, lab: Lab, folder: Path, seed: int) -> Results:
        """Measure: mm over all joints of the chain, and correlations (1: the same error)."""
        network = lab.network(self.start, seed)
        estimator = estimator_of(network, lab.device)
        lasting: dict[str, list[float]] = {str(w): [] for w in (0, *self.widths)}
        filtered: dict[str, list[float]] = {str(w): [] for w in (0, *self.widths)}
        dots: dict[str, list[float]] = {str(g): [] for g in self.gaps}
        squares: dict[str, list[float]] = {str(g): [] for g in self.gaps}
        for test in lab.test_clips(self.split, network.size_px):
            assert test.clip.labels is not None
            joints_m = lab.body.joints(estimator(test.clip).params)
            true_m = lab.body.joints(test.clip.labels.params)
            centred_m = true_m - true_m.mean(1, keepdim=True)
            error_m = procrustes_align(joints_m, centred_m) - centred_m
            for width in (0, *self.widths):
                lasting[str(width)].append(_mean_mm(_smoothed(error_m, width)))
                aligned_m = procrustes_align(_smoothed(joints_m, width), centred_m)
                filtered[str(width)].append(_mean_mm(aligned_m - centred_m))
            for gap in self.gaps:
                if gap < len(error_m):
                    first, then = error_m[:-gap], error_m[gap:]
                    dots[str(gap)].append(float((first * then).sum()))
                    both = first.square().sum() + then.square().sum()
                    squares[str(gap)].append(float(both) / 2)
        return {
            "split": self.split,
            "lasting_mm": {w: float(np.mean(v)) for w, v in lasting.items()},
            "filtered_mm": {w: float(np.mean(v)) for w, v in filtered.items()},
            "correlation": {g: sum(v) / sum(squares[g]) for g, v in dots.items() if v},
        }


def _smoothed(values: Float[Tensor, "t j 3"], frames: int) -> Float[Tensor, "t j 3"]:
    if not frames:
        return values
    return torch.from_numpy(gaussian_filter1d(values.numpy(), frames, axis=0, mode="nearest"))


def _mean_mm(errors_m: Float[Tensor, "t j 3"]) -> float:
    return 1000 * float(errors_m.norm(dim=-1).mean())


@dataclass(frozen=True)
class StudyClips:
    """How fast, how hidden, and with whom each clip of a split is: what its subsets are cut by."""

    split: SplitName = "test"
    """Which clips."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    def run(self, lab: Lab, folder: Path, seed: int) -> Results:
        """Measure."""
        spec = split_spec(self.split, lab.size)
        videos = lab.video(self.split)
        stages = [set_stage(spec.clips, i, lab.body) for i in range(len(videos))]
        return {
            "speed_px": [_speed_px(v) for v in videos],
            "hidden": [_hidden(v) for v in videos],
            "others": [len(stage.actors) - 1 for stage in stages],
        }


def _speed_px(video: Sequence) -> float:
    """Mean way of the joints from frame to frame, pixels of a crop of 224."""
    assert video.labels is not None
    sides_px = video.boxes_px[:-1, 2:].amax(-1) * PairConfig().margin
    moved_px = video.labels.keypoints_px.diff(dim=0).norm(dim=-1).mean(-1)
    return float((moved_px / sides_px * 224).mean())


def _hidden(video: Sequence) -> float:
    """Share of the joints that are not seen."""
    assert video.labels is not None
    return float((video.labels.keypoint_confidence == 0).float().mean())
