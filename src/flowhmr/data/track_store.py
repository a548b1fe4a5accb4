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
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from flowhmr.body import BodyModel, open_body
from flowhmr.cameras import Crop, PerspectiveCamera, view_of
from flowhmr.data.batches import Batches
from flowhmr.data.boxes import boxes_from_keypoints
from flowhmr.data.detector_model import Detected, DetectorModel, detections
from flowhmr.data.tracks import (
    BONES,
    LIMB_POINTS,
    MIRRORED_BONES,
    crops_along,
    limb_points,
    track_input,
)
from flowhmr.distributed import in_shares
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


class TrackStore:
    """The first tracks of a configuration, drawn into ``folder`` unless they are there.

    What is kept is exact but for the places at which flow was read, a little beside the limbs: a
    detector does not know better. Of several processes each draws its share.

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
        told = on_progress or (lambda done, total: None)
        in_shares(starts, lambda part: self._make(part, workers, told))
        tables = [load_file(self._file(s)) for s in starts]
        self.tables = {k: torch.cat([t[k] for t in tables])[:count] for k in tables[0]}

    def __len__(self) -> int:
        return self.count

    def _make(
        self, starts: list[int], workers: int, on_progress: Callable[[int, int], None]
    ) -> None:
        missing = [s for s in starts if not self._whole(s)]
        total = sum(min(CHUNK, self.count - s) for s in starts)
        done, job = len(starts) - len(missing), partial(_draw_file, self.config, self.folder)
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            for number, _ in enumerate(pool.map(job, missing), 1):
                on_progress(min((done + number) * CHUNK, total), total)

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


class LiftBatches(Batches[TrackClip]):
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

    def samples(self, number: int, rows: range) -> TrackClip:
        """Some clips of a batch."""
        drawn = []
        for row in rows:
            rng = np.random.default_rng([self.seed, 7, number * self.batch + row])
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
        told = detections(row["keypoints_px"], row["visible"], side_px, model, rng)
        while bool(boxes_from_keypoints(told.keypoints_px).isnan().all()):
            told = detections(row["keypoints_px"], row["visible"], side_px, model, rng)
        crops = crops_along(told.keypoints_px)
        flow_px = self.seen_flow_px(row["limb_flow_px"], told, crops, rng)
        focal_px = row["focal_px"] * float(np.exp(model.focal * rng.standard_normal()))
        view = view_of(crops, PerspectiveCamera(focal_px, row["centre_px"]))
        betas = self.store.tables["betas"][track].expand(self.config.frames, -1)
        rotmats = rotmat_from_axis_angle(row["pose"])
        ahead = view.rotmats @ rotmats[:, 0]
        params = self.store.body.params(torch.cat([ahead[:, None], rotmats[:, 1:]], 1), betas)
        # Joints far outside the image, of people who nearly touch the camera.
        points = view.see(row["joints_px"]).nan_to_num(0).clamp(-FAR, FAR)
        seen = track_input(told.keypoints_px, crops, flow_px, view)
        return TrackClip(seen, TrackLabels(params, points), row["stands"])

    def seen_flow_px(
        self,
        flow_px: Float[Tensor, "t2 p 2"],
        told: Detected,
        crops: Crop,
        rng: np.random.Generator,
    ) -> Float[Tensor, "t p 3"]:
        """The limbs' flow as an estimator would give it, and 1 where it is known.

        It is read where the detector has the limbs.
        """
        model, frames = self.config.detector, len(told.source)
        last = torch.zeros(frames - len(flow_px), LIMB_POINTS, 2)
        flow = torch.cat([flow_px, last]).unflatten(1, (len(BONES), -1))
        bones = torch.tensor(BONES)
        ends, mirrored = told.source[:, bones], bones[MIRRORED_BONES]
        flow = torch.where(_all_are(ends, mirrored), flow[:, MIRRORED_BONES], flow)
        elsewhere = ~(_all_are(ends, mirrored) | _all_are(ends, bones))[..., 0]
        flow_px = flow.flatten(1, 2)
        _, known = limb_points(told.keypoints_px, crops.side_px)
        noise = torch.from_numpy(rng.standard_normal(flow_px.shape)).float()
        lost = torch.from_numpy(rng.random(flow_px.shape[:2]))
        # Something else: as if the point were on another limb, or beside the body.
        strange = (lost < model.flow_lost) | elsewhere.expand(-1, -1, flow.shape[2]).flatten(1)
        strength = torch.where(strange, 10.0, 1.0)[..., None]
        flow_px = flow_px + crops.side_px[:, None, None] * model.flow_noise * strength * noise
        known = known & (lost < 1 - model.flow_lost)
        if len(last):
            known[-1] = False
        return torch.cat([flow_px, known[..., None].to(flow_px.dtype)], -1)


def _all_are(source: Int[Tensor, "t b 2"], bones: Int[Tensor, "b 2"]) -> Bool[Tensor, "t b 1 1"]:
    return (source == bones).all(-1)[..., None, None]
