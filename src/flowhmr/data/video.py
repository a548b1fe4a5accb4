"""Video in and out: any file PyAV decodes, or a folder of images.

Frames come upright (display matrices and EXIF orientation are applied) with square pixels, as
8-bit RGB. Times are those of the file, so that a variable frame rate stays true; ``resample_fps``
puts the frames on a regular grid.
"""

import errno
import os
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import count, islice
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Colorspace
from jaxtyping import UInt8

from flowhmr.data.video_decode import (
    DEFAULT_FPS,
    ImageFolder,
    Shot,
    VideoError,
    VideoFile,
    VideoInfo,
    is_image,
)

CLOCK = 90_000
"""Ticks a second of what is written with times of its own, as MPEG has them."""


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """One image of a video."""

    index: int
    """Position in the video as opened (after resampling), from 0."""
    time_s: float
    """Seconds since the first frame."""
    image: UInt8[np.ndarray, "h w 3"]
    """RGB, upright."""


class VideoSource:
    """Frames of a video, decoded as they are asked for; made by `open_video`.

    Each iteration starts from the first frame. `read` goes on from where the last `read` ended
    when it can, so that reading windows in order decodes each frame once.
    """

    def __init__(self, info: VideoInfo, shots: Callable[[], Iterator[Shot]]):
        self.info = info
        self._shots = shots
        self._live: weakref.WeakSet = weakref.WeakSet()
        self._cursor: Iterator[Shot] | None = None
        self._position = 0
        self._closed = False

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the upright frames."""
        return self.info.size_px

    @property
    def fps(self) -> float:
        """Average frames per second."""
        return self.info.fps

    @property
    def frame_count(self) -> int | None:
        """Number of frames as claimed by the container (see `VideoInfo`)."""
        return self.info.frame_count

    def __enter__(self) -> "VideoSource":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the source cannot be read afterwards."""
        self._closed = True
        for shots in list(self._live):
            shots.close()

    def __iter__(self) -> Iterator[VideoFrame]:
        for index, (time_s, load) in enumerate(self._start()):
            yield VideoFrame(index, time_s, load())

    def read(self, start: int = 0, stop: int | None = None, step: int = 1) -> list[VideoFrame]:
        """Frames ``start, start + step, ...`` before ``stop`` (None: the end), as a list.

        Skipped frames are decoded but not converted. A video that ends before ``stop`` gives
        fewer frames.

        Raises:
            VideoError: the source is closed.
            ValueError: a negative position or a step below 1.
        """
        if start < 0 or (stop is not None and stop < 0) or step < 1:
            raise ValueError(
                f"got start {start}, stop {stop}, step {step}; expected start >= 0, stop >= 0 "
                "and step >= 1; count from the first frame"
            )
        if self._closed or self._cursor is None or start < self._position:
            self._cursor, self._position = self._start(), 0
        frames = []
        count = None if stop is None else max(stop - self._position, 0)
        for time_s, load in islice(self._cursor, count):
            index, self._position = self._position, self._position + 1
            if index >= start and (index - start) % step == 0:
                frames.append(VideoFrame(index, time_s, load()))
        return frames

    def _start(self) -> Iterator[Shot]:
        if self._closed:
            raise VideoError(f"{self.info.path}: got a closed video; read inside its `with` block")
        shots = self._shots()
        self._live.add(shots)
        return shots


def open_video(
    path: Path | str, resample_fps: float | None = None, folder_fps: float = DEFAULT_FPS
) -> VideoSource:
    """Open a video file, an image, or a folder of images in natural order (2 before 10).

    Args:
        path: a file that PyAV (FFmpeg) decodes, an image, or a folder with images of equal size.
        resample_fps: None keeps all frames with their own times. Otherwise frame k is the one
            nearest to the time ``k / resample_fps`` after the first, up to the last frame's
            time; frames are repeated or left out, never blended, and times become regular.
        folder_fps: frames per second of a folder of images.

    Returns:
        The source, whose first frame is known to decode. A file that ends early, or has damaged
        parts, yields the frames that decode and then logs a warning ``VideoTruncated`` with the
        counts.

    Raises:
        VideoError: no such path, nothing in it decodes, no video in it, images of several sizes,
            or an image that cannot be read.
    """
    path = Path(path)
    for name, rate in (("resample_fps", resample_fps), ("folder_fps", folder_fps)):
        if rate is not None and not 0 < rate < float("inf"):
            raise VideoError(f"{name}: got {rate}; expected frames per second above 0")
    if not path.exists():
        raise VideoError(
            f"{path}: got a path that does not exist; expected a video or a folder of images; "
            "check its name"
        )
    still = path.is_dir() or is_image(path)
    reader = ImageFolder(path, folder_fps) if still else VideoFile(path)
    info, shots = reader.info, reader.shots
    if resample_fps is None:
        return VideoSource(info, shots)
    count = info.frame_count
    if count is not None:
        count = int((count - 1) / info.fps * resample_fps + 1e-6) + 1
    resampled = replace(info, fps=float(resample_fps), frame_count=count)
    return VideoSource(resampled, lambda: _resample(shots(), resample_fps))


def video_info(path: Path | str) -> VideoInfo:
    """What a video says of itself.

    Raises:
        VideoError: as `open_video`.
    """
    with open_video(path) as video:
        return video.info


def _resample(shots: Iterator[Shot], fps: float) -> Iterator[Shot]:
    """The nearest shot to each tick of a regular clock; of two equally near, the earlier."""
    tick = 0
    last: Shot | None = None
    for shot in shots:
        while last is not None and tick / fps <= (last[0] + shot[0]) / 2:
            yield tick / fps, last[1]
            tick += 1
        last = shot
    # The last frame lasts no longer than its own time: ticks beyond it have no frame.
    while last is not None and tick / fps <= last[0] + 1e-6:
        yield tick / fps, last[1]
        tick += 1


def write_video(
    path: Path | str,
    frames: Iterable[UInt8[np.ndarray, "h w 3"]],
    fps: float,
    crf: int = 18,
    times_s: Sequence[float] | None = None,
) -> None:
    """Write RGB frames as H.264 (yuv420p, BT.709) in mp4; the file appears only when complete.

    Odd widths and heights grow by one pixel that repeats the border, since yuv420p needs even.

    Args:
        path: where to write; an old file is replaced.
        frames: images of equal size, taken one by one.
        fps: frames per second.
        crf: x264's constant rate factor; lower is better and larger.
        times_s: seconds of each frame, increasing, for a variable frame rate; frames beyond them
            are left out. None: evenly spaced.

    Raises:
        VideoError: no frames, frames of several sizes, a rate that is not positive, a folder that
            cannot be written to, a full disk.
    """
    path = Path(path)
    if not 0 < fps < float("inf"):
        raise VideoError(f"{path}: got {fps} frames per second; expected a rate above 0")
    try:
        handle, name = tempfile.mkstemp(suffix=".mp4", prefix=f".{path.stem}-", dir=path.parent)
        os.close(handle)
        os.chmod(name, 0o644)
        temporary = Path(name)
        try:
            rate = Fraction(fps).limit_denominator(100_000)
            clock, ticks = 1 / rate, count()
            if times_s is not None:
                clock = Fraction(1, CLOCK)
                ticks = (round(time_s * CLOCK) for time_s in times_s)
            _encode(temporary, zip(frames, ticks), rate, clock, crf, path)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except (av.FFmpegError, OSError) as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise VideoError(
            f"{path}: got {error} while writing; expected a folder that can be written to, with "
            f"free space; {'free some space' if full else 'choose another place'} and try again"
        ) from error


def _encode(
    temporary: Path,
    frames: Iterable[tuple[np.ndarray, int]],
    rate: Fraction,
    clock: Fraction,
    crf: int,
    path: Path,
) -> None:
    size: tuple[int, ...] | None = None
    with av.open(str(temporary), "w", options={"movflags": "faststart"}) as container:
        options = {"crf": str(crf), "preset": "veryfast"}
        if clock != 1 / rate:  # out of their order, uneven frames would make the video seem shorter
            options["bf"] = "0"
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = clock
        for index, (image, tick) in enumerate(frames):
            if size is None:
                size = image.shape
                stream.height, stream.width = size[0] + size[0] % 2, size[1] + size[1] % 2
                stream.codec_context.colorspace = Colorspace.ITU709
            if image.shape != size:
                raise VideoError(
                    f"{path}: got a frame {index} of shape {image.shape}; expected {size} as the "
                    "first; resize the frames before writing"
                )
            even = np.pad(image, ((0, size[0] % 2), (0, size[1] % 2), (0, 0)), mode="edge")
            frame = av.VideoFrame.from_ndarray(even, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
            frame.pts, frame.time_base = tick, clock
            container.mux(stream.encode(frame))
        if size is None:
            raise VideoError(f"{path}: got no frames; expected at least one")
        container.mux(stream.encode(None))


def demo_clip() -> tuple[Path, Path]:
    """The packaged demo: a video of a walking person, and her boxes and keypoints.

    Its source and licence stand in the README.md and LICENSE.txt beside it.
    """
    folder = Path(__file__).parent / "assets" / "demo"
    return folder / "clip.mp4", folder / "boxes.json"
