"""Clips of SynthMotion on disk: drawn once, read by memory map, resumable chunk by chunk."""

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from flowhmr.body import BodyModel, open_body
from flowhmr.distributed import in_shares
from flowhmr.raster import interpolate, rasterise
from flowhmr.records import Labels, Sequence
from flowhmr.synth.synthmotion import SplitSpec
from flowhmr.synth.truth import SynthClip, synth_clip

FORMAT = 1
CELL_PX = 4
"""Side of a cell of the surface maps, pixels of the image."""
FRAMES_A_FILE = 1_000


class ClipStore:
    """The first clips of a split, drawn into ``folder`` unless they are there.

    Of several processes each draws its share.

    Args:
        spec: which split (``split_spec``).
        folder: parent folder; each split lives in a folder of its own, named by its definition.
        count: how many of its clips; all by default. More can be added later.
        workers: processes that draw.
        on_progress: called with (clips ready, clips in all) after each file.

    Raises:
        OSError: not enough room on the disk.
        ValueError: a count below 1.
    """

    def __init__(
        self,
        spec: SplitSpec,
        folder: Path,
        count: int | None = None,
        workers: int = 2,
        on_progress: Callable[[int, int], None] | None = None,
    ):
        if count is not None and count < 1:
            raise ValueError(f"clips of {spec.name}: got a count of {count}; expected at least 1")
        self.spec, self.count = spec, spec.count if count is None else min(count, spec.count)
        self.body = open_body()
        key = hashlib.sha256(json.dumps([FORMAT, spec.definition()]).encode()).hexdigest()[:16]
        self.folder = folder / f"synthmotion-{spec.name}-{spec.size}-{key}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.chunk = max(1, FRAMES_A_FILE // spec.clips.frames)
        starts = range(0, self.count, self.chunk)
        told = on_progress or (lambda done, total: None)
        in_shares(starts, lambda part: self._make(part, workers, told))
        self._images = [np.load(self._file(s, ".npy"), mmap_mode="r") for s in starts]
        tables = [load_file(self._file(s, ".safetensors")) for s in starts]
        self._tables = {k: torch.cat([t[k] for t in tables])[: self.count] for k in tables[0]}

    def __len__(self) -> int:
        return self.count

    @property
    def frames(self) -> int:
        """How many frames a clip has."""
        return self.spec.clips.frames

    def images(self, clip: int) -> UInt8[np.ndarray, "t h w 3"]:
        """The frames of one clip, RGB."""
        if not 0 <= clip < self.count:
            raise IndexError(f"clip: got number {clip}; expected 0 to {self.count - 1}")
        chunk, row = divmod(clip, self.chunk)
        return self._images[chunk][row]

    def boxes_px(self, clips: Int[Tensor, "n"]) -> Float[Tensor, "n t 4"]:
        """The person's boxes (x, y, w, h), pixels of the images."""
        return self._tables["boxes_px"][clips]

    def labels(self, clips: Int[Tensor, "n"]) -> Labels:
        """The labels of some clips, ``[n, t]``, pixels of the images, with surface maps."""
        row = {k: v[clips] for k, v in self._tables.items()}
        return Labels(
            self.body.params(row["rotmats"], row["betas"]),
            row["joints_m"],
            row["keypoints_px"],
            row["confidence"],
            row["surface"],
        )

    def sequence(self, clip: int) -> Sequence:
        """One clip as video with labels (no surface maps)."""
        row = {k: v[clip] for k, v in self._tables.items()}
        name = f"{self.spec.name}/{clip:03d}"
        frames = self.spec.clips.frames
        return Sequence(
            name=name,
            person=name,
            images=list(self.images(clip)),
            times_s=torch.arange(frames) / float(row["fps"]),
            boxes_px=row["boxes_px"],
            labels=Labels(
                self.body.params(row["rotmats"], row["betas"]),
                row["joints_m"],
                row["keypoints_px"],
                row["confidence"],
            ),
        )

    def sequences(self) -> list[Sequence]:
        """All clips as video."""
        return [self.sequence(i) for i in range(self.count)]

    def _file(self, start: int, suffix: str) -> Path:
        return self.folder / f"clips-{start:06d}{suffix}"

    def _ready(self, start: int) -> int:
        """How many clips a file holds: fewer than wanted where a smaller store ended in it."""
        # The table is written last: where it is, its pictures are.
        table = self._file(start, ".safetensors")
        if not table.exists():
            return 0
        with safe_open(table, "pt") as file:
            return file.get_slice("betas").get_shape()[0]

    def _make(
        self, starts: list[int], workers: int, on_progress: Callable[[int, int], None]
    ) -> None:
        wanted = {s: min(self.chunk, self.count - s) for s in starts}
        missing = [s for s in starts if self._ready(s) < wanted[s]]
        if not missing:
            return
        frame_bytes = self.spec.clips.size_px**2 * 3
        need = sum(wanted[s] for s in missing) * self.spec.clips.frames * frame_bytes * 1.2
        room = shutil.disk_usage(self.folder).free
        if need > room:
            raise OSError(
                f"{self.folder}: got {room / 1e9:.1f} GB of free disk; expected "
                f"{need / 1e9:.1f} GB for the clips; choose another --cache folder"
            )
        job = partial(_draw_file, self.spec, self.folder)
        total = sum(wanted.values())
        done = total - sum(wanted[s] for s in missing)
        jobs = [(s, s + wanted[s]) for s in missing]
        if workers == 1:
            for start, stop in jobs:
                job((start, stop))
                done += stop - start
                on_progress(done, total)
            return
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for (start, stop), _ in zip(jobs, pool.map(job, jobs), strict=True):
                done += stop - start
                on_progress(done, total)


def surface_maps(clip: SynthClip, body: BodyModel) -> UInt8[Tensor, "t h2 w2 4"]:
    """`Labels.surface` of a clip's images, a cell for `CELL_PX` x `CELL_PX` pixels.

    The body under the clothes, where the picture shows the person in the middle of the cell.
    """
    verts_cam = body.mesh(clip.params).verts + clip.translation_m[:, None]
    seen = clip.camera.project(verts_cam)
    # Depth in the unit of u and v near the body.
    per_metre = (clip.camera.focal_px / clip.translation_m[:, 2])[:, None]
    seen = torch.cat([seen[..., :2], seen[..., 2:] * per_metre[..., None]], -1)
    height, width = (side // CELL_PX for side in clip.images.shape[1:3])
    middle = slice(CELL_PX // 2, None, CELL_PX)
    shown = clip.silhouette[:, middle, middle]
    return rest_map(seen / CELL_PX, body, height, width) * shown[..., None]


def rest_map(
    verts_px: Float[Tensor, "*b v 3"], body: BodyModel, height: int, width: int
) -> UInt8[Tensor, "*b h w 4"]:
    """`Labels.surface` of bodies that nothing hides, seen in ``height`` by ``width`` cells.

    Args:
        verts_px: posed vertices; x, y and depth in cells.
        body: whose vertices they are.
        height, width: of the map.
    """
    fragments = rasterise(verts_px, body.faces, height, width)
    rest_m = body.v_template
    low, high = rest_m.amin(0), rest_m.amax(0)
    rest = ((rest_m - low) / (high - low)).expand(*verts_px.shape[:-2], -1, -1)
    points = interpolate(fragments, body.faces, rest).clamp(0, 1)
    known = (fragments.face_ids >= 0)[..., None]
    full = torch.cat([points, torch.ones_like(points[..., :1])], -1) * 255
    return (full * known).to(torch.uint8)


def _draw_file(spec: SplitSpec, folder: Path, clips: tuple[int, int]) -> None:
    body = open_body()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        drawn = [_row(synth_clip(spec.clips, i, body), body) for i in range(*clips)]
    finally:
        torch.set_num_threads(threads)
    table = {k: torch.stack([row[k] for row in drawn]).contiguous() for k in drawn[0]}
    images = table.pop("images").numpy()
    target = folder / f"clips-{clips[0]:06d}"
    write_whole(target.with_suffix(".npy"), lambda path: save_npy(path, images))
    write_whole(target.with_suffix(".safetensors"), lambda path: save_file(table, path))


def _row(clip: SynthClip, body: BodyModel) -> dict[str, Tensor]:
    labels = clip.labels()
    return {
        "images": clip.images,
        "fps": torch.tensor(clip.fps),
        "boxes_px": clip.boxes_px(),
        "rotmats": labels.params.rotmats,
        "betas": labels.params.betas,
        "joints_m": labels.joints_m,
        "keypoints_px": labels.keypoints_px,
        "confidence": labels.keypoint_confidence,
        "surface": surface_maps(clip, body),
    }


def save_npy(path: Path, array: np.ndarray) -> None:
    """One array as ``.npy``, whatever the path's name ends in."""
    with path.open("wb") as file:
        np.save(file, array)


def write_whole(target: Path, save: Callable[[Path], None]) -> None:
    """Write beside the target, then rename: a reader never sees half a file."""
    # Processes of two machines may have one number.
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        save(temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
