"""Pairs of frames with the exact flow between them, near and far apart, for who learns flow."""

import hashlib
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, Int16, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, cat, from_numpy, get_num_threads, set_num_threads, stack, where

from flowhmr.body import BodyModel, open_body
from flowhmr.distributed import in_shares
from flowhmr.flow import FlowPair
from flowhmr.records import FlowExample
from flowhmr.synth.drawing import draw
from flowhmr.synth.sensor import expose
from flowhmr.synth.stage import SynthConfig, set_stage
from flowhmr.synth.store import write_whole
from flowhmr.synth.synthmotion import split_spec

FORMAT = 1
CHUNK = 10
"""Clips a file: the unit that is drawn, or drawn again after an interruption."""
STEPS_A_PX = 128
"""Flow is stored in such steps, as 16-bit numbers: up to 255 px, 0.004 px off at most."""
PERSON, FORWARD, BACKWARD = 0x0F, 0x10, 0x20
"""Parts of the stored marks: who is seen, and whether the flow to the next frame and to the one
before is known."""


def _any_place() -> SynthConfig:
    # People, clothes and places as in SynthMotion's stills, in motion; clips of their own.
    return replace(split_spec("stills").clips, seed=70_000, frames=31, size_px=160)


@dataclass(frozen=True)
class FlowClipConfig:
    """Which clips to make."""

    clips: SynthConfig = field(default_factory=_any_place)
    """The clips from which frames are taken."""
    frames: int = 6
    """How many are taken of each."""
    reach: int = 6
    """Frames of the clip from one that is taken to the next: 1 to so many."""

    def __post_init__(self) -> None:
        if self.frames < 2 or self.reach < 1 or self.span > self.clips.frames:
            raise ValueError(
                f"flow clips: got {self.frames} frames up to {self.reach} apart, out of "
                f"{self.clips.frames}; expected at least 2, 1 or more apart, that always fit in"
            )

    @property
    def span(self) -> int:
        """Frames of a clip that may be needed."""
        return (self.frames - 1) * self.reach + 1


@dataclass(frozen=True, eq=False)
class FlowClip:
    """Frames of synthetic video, each 1 to a few video frames after the one before."""

    images: UInt8[Tensor, "t h w 3"]
    """RGB, after the camera's electronics."""
    gaps: Int[Tensor, "g"]
    """Video frames from each to the next; ``t - 1`` of them."""
    flow: FlowPair
    """Exact flow ``[t-1]`` between neighbours; valid where the point is seen in both and its motion
    is known."""
    people: UInt8[Tensor, "t h w"]
    """1 for the person the clip is about, 2, 3 for others, 0 elsewhere."""


def flow_clip(config: FlowClipConfig, index: int, body: BodyModel) -> FlowClip:
    """Clip ``index`` of a configuration; follows from (seed, index) alone.

    Only the frames that are taken are drawn.

    Args:
        config: which clips.
        index: number of the clip.
        body: the open body, on the CPU.

    Raises:
        ValueError: another body.
    """
    rng = np.random.default_rng([config.clips.seed, index, 79])
    gaps = rng.integers(1, config.reach + 1, config.frames - 1)
    first = int(rng.integers(config.clips.frames - gaps.sum()))
    stage = set_stage(config.clips, index, body)
    stage = stage.at(first + np.concatenate([[0], gaps.cumsum()]))
    drawing = draw(stage, body)
    apart = from_numpy(gaps)
    # The shutter is open for a share of a video frame, however far the next picture is.
    per_frame = drawing.forward / apart[:, None, None, None]
    back = drawing.backward[-1:] / apart[-1]
    sensor = stage.sensor.metered(float(drawing.images[len(stage) // 2].mean()))
    ids = drawing.maps.ids
    people = where(ids >= 0, ids.div(len(body.faces), rounding_mode="floor") + 1, 0)
    return FlowClip(
        images=expose(drawing.images, cat([per_frame, -back]).float(), sensor),
        gaps=apart,
        flow=FlowPair(
            drawing.forward, drawing.backward, drawing.forward_valid, drawing.backward_valid
        ),
        people=people.byte(),
    )


class FlowClipPool:
    """The first flow clips of a configuration, drawn into ``folder`` unless they are there.

    Flow is kept in steps of 1/128 px. Of several processes each draws its share.

    Args:
        config: which clips.
        count: how many; more can be added later.
        folder: parent folder; each configuration lives in a folder of its own.
        workers: processes that draw; 1 draws in this one.
        on_progress: called with (clips ready, clips in all) after each file.

    Raises:
        OSError: not enough room on the disk.
        ValueError: a count below 1.
    """

    def __init__(
        self,
        config: FlowClipConfig,
        count: int,
        folder: Path,
        workers: int = 2,
        on_progress: Callable[[int, int], None] | None = None,
    ):
        if count < 1:
            raise ValueError(f"flow clips: got a count of {count}; expected at least 1")
        self.config, self.count = config, count
        definition = json.dumps([FORMAT, asdict(config), open_body().body_id], default=str)
        key = hashlib.sha256(definition.encode()).hexdigest()[:16]
        self.folder = folder / f"flow-{config.clips.motion.split}-{key}"
        self.folder.mkdir(parents=True, exist_ok=True)
        starts = range(0, count, CHUNK)
        told = on_progress or (lambda done, total: None)
        in_shares(starts, lambda part: self._make(part, workers, told))

    def __len__(self) -> int:
        return self.count

    @property
    def pairs(self) -> int:
        """Pairs of neighbours, each counted once."""
        return self.count * (self.config.frames - 1)

    def example(self, number: int, backward: bool = False) -> FlowExample:
        """Two neighbours as they were drawn, from the first to the second or back.

        Args:
            number: pair ``number % (frames - 1)`` of clip ``number // (frames - 1)``.
            backward: in time.

        Raises:
            IndexError: there are not so many.
        """
        if not 0 <= number < self.pairs:
            raise IndexError(f"pair: got number {number}; expected 0 to {self.pairs - 1}")
        clip, first = divmod(number, self.config.frames - 1)
        chunk, row = divmod(clip, CHUNK)
        start = first + int(backward)
        with safe_open(self._file(chunk * CHUNK), "pt") as file:
            images = file.get_slice("images")[row : row + 1, first : first + 2][0]
            marks = file.get_slice("marks")[row : row + 1, start : start + 1][0, 0]
            stored = file.get_slice("backward" if backward else "forward")
            flow = stored[row : row + 1, first : first + 1][0, 0]
        frames = images.permute(0, 3, 1, 2)
        return FlowExample(
            frames=frames.flip(0) if backward else frames,
            flow_px=flow.float() / STEPS_A_PX,
            known=(marks & (BACKWARD if backward else FORWARD)) > 0,
            person=(marks & PERSON) > 0,
        )

    def _file(self, start: int) -> Path:
        return self.folder / f"clips-{start:06d}.safetensors"

    def _whole(self, start: int) -> bool:
        """Whether a file is there and not cut off, as a full disk or a power cut may leave it."""
        try:
            with safe_open(self._file(start), "pt") as file:
                return file.get_slice("gaps").get_shape()[0] == CHUNK
        except (FileNotFoundError, SafetensorError):
            return False

    def _make(
        self, starts: list[int], workers: int, on_progress: Callable[[int, int], None]
    ) -> None:
        missing = [s for s in starts if not self._whole(s)]
        if not missing:
            return
        clip_bytes = self.config.frames * self.config.clips.size_px**2 * 12
        need, room = len(missing) * CHUNK * clip_bytes, shutil.disk_usage(self.folder).free
        if need > room:
            raise OSError(
                f"{self.folder}: got {room / 1e9:.1f} GB of free disk; expected "
                f"{need / 1e9:.1f} GB for the clips; choose another --cache folder or fewer clips"
            )
        ready, job = len(starts) - len(missing), partial(_draw_file, self.config, self.folder)
        with ExitStack() as until:
            each = map
            if workers > 1:
                pool = ProcessPoolExecutor(workers, get_context("spawn"))
                each = until.enter_context(pool).map
            for number, _ in enumerate(each(job, missing), 1):
                on_progress((ready + number) * CHUNK, len(starts) * CHUNK)


def _draw_file(config: FlowClipConfig, folder: Path, start: int) -> None:
    body, threads = open_body(), get_num_threads()
    set_num_threads(1)
    try:
        rows = [_row(flow_clip(config, i, body)) for i in range(start, start + CHUNK)]
    finally:
        set_num_threads(threads)
    table = {name: stack([row[name] for row in rows]) for name in rows[0]}
    path = folder / f"clips-{start:06d}.safetensors"
    write_whole(path, lambda temporary: save_file(table, temporary))


def _row(clip: FlowClip) -> dict[str, Tensor]:
    marks, flow = clip.people.clamp(max=PERSON), clip.flow
    forward, known = _steps(flow.forward, flow.forward_valid)
    backward, known_back = _steps(flow.backward, flow.backward_valid)
    marks[:-1] |= known.byte() * FORWARD
    marks[1:] |= known_back.byte() * BACKWARD
    return {
        "images": clip.images,
        "gaps": clip.gaps.byte(),
        "forward": forward,
        "backward": backward,
        "marks": marks,
    }


def _steps(
    flow: Float[Tensor, "t h w 2"], valid: Bool[Tensor, "t h w"]
) -> tuple[Int16[Tensor, "t h w 2"], Bool[Tensor, "t h w"]]:
    """Flow as it is stored, 0 where it is not known or too large."""
    steps = (flow * STEPS_A_PX).round()
    known = valid & (steps.abs() < 2**15).all(-1)
    return (steps * known[..., None]).short(), known
