"""Synthetic tracks on disk, and batches of them as a keypoint detector would report them."""

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from flowhmr.body import COCO_17, BodyModel, open_body
from flowhmr.cameras import Crop, PerspectiveCamera, view_of
from flowhmr.data.boxes import boxes_from_keypoints
from flowhmr.data.tracks import LIMB_POINTS, crops_along, limb_points, track_input
from flowhmr.flow import sample_flow
from flowhmr.geometry import axis_angle_from_rotmat, collate, rotmat_from_axis_angle
from flowhmr.records import TrackClip, TrackLabels
from flowhmr.synth import TrackConfig, synth_track, write_whole

FORMAT = 2
CHUNK = 20
FAR = 10.0
"""Joints further off than so many half-widths of the view are said to be so far off."""
READ_AT = 0.012
"""Standard deviation of the places at which flow is read, shares of the person's crop."""
LEGS = COCO_17.indices_of(
    [f"{side}_{joint}" for side in ("left", "right") for joint in ("hip", "knee", "ankle")]
)


class TrackStore:
    """The first tracks of a configuration, drawn into ``folder`` unless they are there.

    What is kept is exact but for the places at which flow was read, a little beside the limbs: a
    detector does not know better.

    Args:
        config: which tracks.
        count: how many; more can be added later.
        folder: parent folder; each configuration lives in a folder of its own.
        workers: processes that draw.
        on_progress: called with (tracks ready, tracks in all) after each file.
    """

    def __init__(
        self,
        config: TrackConfig,
        count: int,
        folder: Path,
        workers: int = 2,
        on_progress: Callable[[int, int], None] | None = None,
    ):
        if count < 1:
            raise ValueError(f"tracks: got a count of {count}; expected at least 1")
        self.config, self.count, self.body = config, count, open_body()
        definition = json.dumps([FORMAT, asdict(config), self.body.body_id], default=str)
        key = hashlib.sha256(definition.encode()).hexdigest()[:16]
        self.folder = folder / f"tracks-{config.motion.split}-{key}"
        self.folder.mkdir(parents=True, exist_ok=True)
        starts = range(0, count, CHUNK)
        missing = [s for s in starts if not self._whole(s)]
        done, job = len(starts) - len(missing), partial(_draw_file, config, self.folder)
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            for number, _ in enumerate(pool.map(job, missing), 1):
                if on_progress is not None:
                    on_progress(min((done + number) * CHUNK, count), count)
        tables = [load_file(self._file(s)) for s in starts]
        self.tables = {k: torch.cat([t[k] for t in tables])[:count] for k in tables[0]}

    def __len__(self) -> int:
        return self.count

    def _file(self, start: int) -> Path:
        return self.folder / f"tracks-{start:06d}.safetensors"

    def _whole(self, start: int) -> bool:
        """Whether a file is there and not cut off, as a full disk or a power cut may leave it."""
        try:
            with safe_open(self._file(start), "pt") as file:
                return file.get_slice("betas").get_shape()[0] == CHUNK
        except (FileNotFoundError, SafetensorError):
            return False


def _draw_file(config: TrackConfig, folder: Path, start: int) -> None:
    torch.set_num_threads(1)
    body = open_body()
    rows = [_row(config, index, body) for index in range(start, start + CHUNK)]
    table = {k: torch.stack([row[k] for row in rows]).contiguous() for k in rows[0]}
    path = folder / f"tracks-{start:06d}.safetensors"
    write_whole(path, lambda temporary: save_file(table, temporary))


def _row(config: TrackConfig, index: int, body: BodyModel) -> dict[str, Tensor]:
    track = synth_track(config, index, body)
    rng = np.random.default_rng([config.seed, index, 78])
    side_px = 1.2 * track.boxes_px[:, 2:].amax(-1)
    beside = torch.from_numpy(rng.standard_normal(track.keypoints_px.shape)).float()
    places_px = track.keypoints_px + READ_AT * side_px[:, None, None] * beside
    sure = torch.ones_like(places_px[..., :1])
    points_px, _ = limb_points(torch.cat([places_px, sure], -1), side_px)
    camera = track.camera
    joints_cam = track.joints_m + track.translation_m[:, None]
    return {
        "keypoints_px": track.keypoints_px,
        "visible": track.visible,
        "stands": track.stands,
        "limb_flow_px": sample_flow(track.flow, points_px[:-1]),
        "pose": axis_angle_from_rotmat(track.params.rotmats),
        "betas": track.params.betas[0],
        "joints_px": camera.project(joints_cam)[..., :2],
        "boxes_px": track.boxes_px,
        "focal_px": camera.focal_px,
        "centre_px": camera.centre_px,
    }


@dataclass(frozen=True)
class DetectorModel:
    """How a keypoint detector errs. Lengths are shares of the person's crop."""

    bias: float = 0.012
    """Standard deviation of what is constant along a clip, keypoint by keypoint: detectors do not
    agree on where a hip is."""
    noise: tuple[float, float] = (0.004, 0.016)
    """Of what is new in each frame; drawn for each clip."""
    drift: tuple[float, float] = (0.004, 0.014)
    """Of what changes slowly; drawn for each clip."""
    hidden: float = 3.0
    """Noise and drift are so many times as large where the keypoint is hidden."""
    reports_all: float = 0.5
    """Share of clips in which hidden keypoints are reported all the same (in the rest the legs are
    in half of the clips: Motion HMR, appendix B)."""
    flips: float = 0.03
    """Share of keypoints whose state is turned round."""
    lost: float = 0.5
    """Share of clips in which a keypoint is lost for up to 20 frames."""
    lost_person: float = 0.15
    """Share of clips in which everything is lost, for up to 15 frames."""
    swapped: float = 0.1
    """Share of clips in which left and right are swapped for up to 6 frames."""
    flow_noise: float = 0.003
    """Standard deviation of the flow."""
    flow_lost: float = 0.05
    """Share of flow vectors that are something else, and as many that are missing."""
    focal: float = 0.15
    """Standard deviation of the logarithm of the focal length that is given."""


def detections(
    keypoints_px: Float[Tensor, "t 17 2"],
    visible: Bool[Tensor, "t 17"],
    side_px: Float[Tensor, "t"],
    model: DetectorModel,
    rng: np.random.Generator,
) -> Float[Tensor, "t 17 3"]:
    """The keypoints as a detector would give them, with confidences; zeros where missing.

    Args:
        keypoints_px: where they are.
        visible: which are seen.
        side_px: width of the person's crop.
        model: of the detector.
        rng: source of every choice.
    """
    t = len(keypoints_px)

    def normal(*shape: int) -> Tensor:
        return torch.from_numpy(rng.standard_normal(shape)).float()

    def chance(*shape: int) -> Tensor:
        return torch.from_numpy(rng.random(shape)).float()

    slow = torch.from_numpy(_slow(rng, t, 34)).float().unflatten(-1, (17, 2))
    error = rng.uniform(*model.noise) * normal(t, 17, 2) + rng.uniform(*model.drift) * slow
    error = error * torch.where(visible[..., None], 1.0, model.hidden) + model.bias * normal(17, 2)
    seen_px = keypoints_px + side_px[:, None, None] * error

    found = visible.clone()
    if rng.random() < model.reports_all:
        found |= chance(t, 17) < 0.9
    elif rng.random() < 0.5:
        found[:, list(LEGS)] = True
    found ^= chance(t, 17) < model.flips
    if rng.random() < model.lost:
        found[_stretch(rng, t, 20), int(rng.integers(17))] = False
    if rng.random() < model.lost_person:
        found[_stretch(rng, t, 15)] = False
    swapped = _stretch(rng, t, 6) if rng.random() < model.swapped else slice(0)
    sure = torch.where(visible, 0.6 + 0.4 * chance(t, 17), 0.3 + 0.5 * chance(t, 17))
    confidence = (sure * found)[..., None]
    seen = torch.cat([seen_px * (confidence > 0), confidence], -1)
    # What is known of a keypoint goes with it, be it that it is missing.
    seen[swapped] = seen[swapped][:, list(COCO_17.mirror)]
    return seen


def _slow(rng: np.random.Generator, frames: int, channels: int) -> np.ndarray:
    """Smooth noise of standard deviation 1."""
    width = 4
    kernel = np.exp(-0.5 * (np.arange(-3 * width, 3 * width + 1) / width) ** 2)
    white = rng.standard_normal((frames + 6 * width, channels))
    smooth = [np.convolve(column, kernel, "valid") for column in white.T]
    return np.stack(smooth, -1) / np.sqrt((kernel**2).sum())


def _stretch(rng: np.random.Generator, frames: int, longest: int) -> slice:
    start = int(rng.integers(frames))
    return slice(start, start + 1 + int(rng.integers(longest)))


@dataclass(frozen=True)
class LiftDataConfig:
    """What a lifting network learns from."""

    tracks: TrackConfig = field(default_factory=TrackConfig)
    """Which tracks."""
    count: int = 10_000
    """How many different ones."""
    frames: int = 48
    """Length of the windows that are cut from them."""
    detector: DetectorModel = field(default_factory=DetectorModel)
    """What stands between them and the network."""

    def __post_init__(self) -> None:
        # Before the tracks are drawn, which takes hours.
        if not 1 <= self.frames <= self.tracks.frames:
            raise ValueError(
                f"windows: got {self.frames} frames of tracks of {self.tracks.frames}; expected "
                "at least 1 and at most as many"
            )


class LiftBatches(torch.utils.data.Dataset):
    """Batch number ``i`` of windows ``[batch, frames]`` of stored tracks, seen by a detector.

    Args:
        store: the tracks.
        config: windows and detector.
        batch: windows per batch.
        seed: of the run; a batch follows from (seed, i) alone.
        count: how many batches there are.
    """

    def __init__(
        self, store: TrackStore, config: LiftDataConfig, batch: int, seed: int, count: int
    ):
        if config.frames > store.config.frames:
            raise ValueError(
                f"windows: got {config.frames} frames of tracks of {store.config.frames}; expected "
                "at most as many"
            )
        self.store, self.config = store, config
        self.batch, self.seed, self.count = batch, seed, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> TrackClip:
        """One batch."""
        drawn = []
        for k in range(self.batch):
            rng = np.random.default_rng([self.seed, 7, number * self.batch + k])
            track = int(rng.integers(len(self.store)))
            start = int(rng.integers(self.store.config.frames - self.config.frames + 1))
            drawn.append(self.window(track, start, rng))
        return collate(drawn)

    def window(self, track: int, start: int, rng: np.random.Generator) -> TrackClip:
        """Some frames of one track as the detector sees them."""
        when = slice(start, start + self.config.frames)
        row = {k: v[track][when] for k, v in self.store.tables.items() if k != "betas"}
        model = self.config.detector
        side_px = 1.2 * row["boxes_px"][:, 2:].amax(-1)
        seen_px = detections(row["keypoints_px"], row["visible"], side_px, model, rng)
        while bool(boxes_from_keypoints(seen_px).isnan().all()):
            seen_px = detections(row["keypoints_px"], row["visible"], side_px, model, rng)
        crops = crops_along(seen_px)
        flow_px = self.seen_flow_px(row["limb_flow_px"], seen_px, crops, rng)
        focal_px = row["focal_px"] * float(np.exp(model.focal * rng.standard_normal()))
        view = view_of(crops, PerspectiveCamera(focal_px, row["centre_px"]))
        betas = self.store.tables["betas"][track].expand(self.config.frames, -1)
        rotmats = rotmat_from_axis_angle(row["pose"])
        ahead = view.rotmats @ rotmats[:, 0]
        params = self.store.body.params(torch.cat([ahead[:, None], rotmats[:, 1:]], 1), betas)
        # Joints far outside the image, of people who nearly touch the camera.
        points = view.see(row["joints_px"]).nan_to_num(0).clamp(-FAR, FAR)
        seen = track_input(seen_px, crops, flow_px, view)
        return TrackClip(seen, TrackLabels(params, points), row["stands"])

    def seen_flow_px(
        self,
        flow_px: Float[Tensor, "t2 p 2"],
        seen_px: Float[Tensor, "t 17 3"],
        crops: Crop,
        rng: np.random.Generator,
    ) -> Float[Tensor, "t p 3"]:
        """The limbs' flow as an estimator would give it, and 1 where it is known."""
        model, frames = self.config.detector, len(seen_px)
        last = torch.zeros(frames - len(flow_px), LIMB_POINTS, 2)
        flow_px = torch.cat([flow_px, last])
        _, known = limb_points(seen_px, crops.side_px)
        noise = torch.from_numpy(rng.standard_normal(flow_px.shape)).float()
        lost = torch.from_numpy(rng.random(flow_px.shape[:2]))
        # Something else: as if the point were on another limb, or beside the body.
        strength = torch.where(lost < model.flow_lost, 10.0, 1.0)[..., None]
        flow_px = flow_px + crops.side_px[:, None, None] * model.flow_noise * strength * noise
        known = known & (lost < 1 - model.flow_lost)
        if len(last):
            known[-1] = False
        return torch.cat([flow_px, known[..., None].to(flow_px.dtype)], -1)
