"""How the frames of a file or folder are found, timed and put upright."""

import logging
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import EOFError as EndOfStream
from av.stream import Disposition
from PIL import Image, ImageOps

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
DEFAULT_FPS = 30.0
# Containers that only know their clock (browser recordings) claim its ticks, 1000 or 90000, as
# their frame rate; above this a rate is measured instead of believed.
CREDIBLE_FPS = 250.0

UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What Pillow says of a file that it does not read."""

FOCAL_35MM = "com.apple.quicktime.camera.focal_length.35mm_equivalent"
"""Where phones' videos say it, in millimetres."""
EXIF_IFD, EXIF_FOCAL_35MM = 0x8769, 0xA405
"""Where pictures do (Exif: FocalLengthIn35mmFilm)."""
FILM_DIAGONAL_MM = math.hypot(36.0, 24.0)
LENSES_MM = (5.0, 2000.0)
"""Of lenses that there are: 0 stands for an unknown one, and broken files say anything."""

# A frame that is decoded but not yet converted to RGB: its time in seconds, and the conversion.
Shot = tuple[float, Callable[[], np.ndarray]]


class VideoError(ValueError):
    """A video that cannot be read or written."""


@dataclass(frozen=True, eq=False)
class VideoInfo:
    """What a video says of itself; its first frame did decode."""

    path: Path
    """The file or folder."""
    size_px: tuple[int, int]
    """Width and height of the upright frames."""
    fps: float
    """Average frames per second."""
    frame_count: int | None
    """Number of frames as the container claims; None where it does not count them (mkv, webm, a
    stream). A damaged file yields fewer."""
    focal_px: float | None = None
    """Focal length that the file says (`focal_of`), pixels of these frames; None: it says none."""


class VideoFile:
    """A video file: probed when made, decoded by `shots`."""

    def __init__(self, path: Path):
        if path.stat().st_size == 0:
            raise VideoError(
                f"{path}: got an empty file (0 bytes); expected a video; copy it again"
            )
        self.path = path
        self._warned = False
        try:
            with _opened(path) as container:
                stream = self._stream(container)
                first = next(_decoded(container, stream, []), None)
                if first is None:
                    raise VideoError(
                        f"{path}: got no frame that decodes; expected a {stream.codec_context.name}"
                        " video; the file is damaged: copy it again"
                    )
                ratio = stream.sample_aspect_ratio
                self._coded_px = (
                    round(first.width * float(ratio)) if ratio and ratio > 0 else first.width,
                    first.height,
                )
                self._matrix = _display_matrix(first)
                told = {**container.metadata, **stream.metadata}.get(FOCAL_35MM)
                fps = _rate(container, stream)
                count = stream.frames or None
                duration_s = (container.duration or 0) / av.time_base
                self._expected = count or round(duration_s * fps)
        except (av.FFmpegError, OSError) as error:
            raise VideoError(
                f"{path}: got {error}; expected a video that FFmpeg decodes; if it plays "
                "elsewhere, convert it to H.264 in mp4; a file cut short cannot be opened when "
                "its index stood at the end"
            ) from error
        width, height = self._coded_px
        if abs(self._matrix[0, 1]) > abs(self._matrix[0, 0]):
            width, height = height, width
        focal_px = focal_of(told, (width, height))
        self.info = VideoInfo(path, (width, height), fps, count, focal_px)

    def _stream(self, container: InputContainer) -> av.VideoStream:
        """The first video stream that is not an audio file's cover picture."""
        cover = Disposition.attached_pic
        for stream in container.streams.video:
            if not stream.disposition & cover:
                stream.codec_context.thread_type = "AUTO"
                return stream
        kinds = sorted({stream.type for stream in container.streams})
        raise VideoError(
            f"{self.path}: got {', '.join(kinds) or 'no'} streams; expected a video stream"
        )

    def shots(self) -> Iterator[Shot]:
        """All frames that decode; times strictly increase, from 0."""
        damage: list[str] = []
        count, start_s, last_s = 0, 0.0, 0.0
        # Else two stamps a tick of the clock apart are one in float32, minutes later.
        least_s = min(1e-3, 0.25 / self.info.fps)
        with _opened(self.path) as container:
            for frame in _decoded(container, self._stream(container), damage):
                time_s = 0.0
                if count == 0:
                    start_s = frame.time or 0.0
                else:
                    time_s = -1.0 if frame.time is None else frame.time - start_s
                    if time_s <= last_s:  # no time stamp, or one that runs backwards
                        time_s = last_s + 1 / self.info.fps
                    time_s = max(time_s, last_s + least_s)
                yield time_s, lambda frame=frame: self._upright(frame)
                count, last_s = count + 1, time_s
        self._report(count, damage)

    def _upright(self, frame: av.VideoFrame) -> np.ndarray:
        width, height = self._coded_px
        image = frame.to_ndarray(format="rgb24", width=width, height=height)
        (a, b), (c, d) = self._matrix
        if abs(b) > abs(a):
            image = image.transpose(1, 0, 2)
            a, d = c, b
        return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])

    def _report(self, count: int, damage: list[str]) -> None:
        # Edit lists and rounded durations make honest containers overstate by a frame or two.
        short = self._expected - count > max(1, 0.02 * self._expected)
        if self._warned or not (damage or short):
            return
        self._warned = True
        logger.warning(
            "VideoTruncated: %s: decoded %d of about %d frames%s; going on with these",
            self.path,
            count,
            max(self._expected, count),
            f" ({len(damage)} damaged parts, first: {damage[0]})" if damage else "",
        )


def _opened(path: Path) -> InputContainer:
    """FFmpeg takes what stands before a colon for a protocol, but for whole paths."""
    return av.open(str(path.absolute()))


def _decoded(
    container: InputContainer, stream: av.VideoStream, damage: list[str]
) -> Iterator[av.VideoFrame]:
    """Frames in order of display; what does not decode is noted in ``damage`` and left out."""
    packets = container.demux(stream)
    ended = False
    while not ended:
        frames = []
        try:
            packet = next(packets, None)
            ended = packet is None
            # After a read error nobody has asked the decoder for the frames it still holds.
            frames = stream.decode(packet)
        except EndOfStream:
            continue
        except (av.FFmpegError, OSError) as error:
            damage.append(str(error))
        for frame in frames:
            assert isinstance(frame, av.VideoFrame)
            yield frame


def _display_matrix(frame: av.VideoFrame) -> np.ndarray:
    """Where the decoded x axis (first row) and y axis (second row) point on the display."""
    try:
        data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        # PyAV gives none of a frame's side data when one is of a kind it does not know (EXIF).
        turn = np.deg2rad(frame.rotation)
        return np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    if data is None:
        return np.eye(2)
    return np.frombuffer(bytes(data), np.int32)[:9].reshape(3, 3)[:2, :2] / 65536


def _rate(container: InputContainer, stream: av.VideoStream) -> float:
    """Average frames per second, as claimed where that is credible."""
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    return rate if 0 < rate <= CREDIBLE_FPS else _measured_rate(container, stream)


def _measured_rate(container: InputContainer, stream: av.VideoStream) -> float:
    """Frames per second over the first seconds, from time stamps alone."""
    packets = islice(container.demux(stream), 120)
    times = sorted(p.pts * p.time_base for p in packets if p.pts is not None and p.time_base)
    if len(times) < 2 or times[-1] == times[0]:
        return DEFAULT_FPS
    return float((len(times) - 1) / (times[-1] - times[0]))


def is_image(path: Path) -> bool:
    """Whether a name is that of an image, which Pillow reads (it knows EXIF better than FFmpeg)."""
    return path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "."


class ImageFolder:
    """A folder of images, or one image: headers are checked when made, `shots` reads pixels."""

    def __init__(self, path: Path, fps: float):
        files = filter(is_image, path.iterdir()) if path.is_dir() else [path]
        self.files = sorted(files, key=natural_order)
        if not self.files:
            raise VideoError(
                f"{path}: got a folder without images; expected files ending in "
                f"{', '.join(sorted(IMAGE_SUFFIXES))}"
            )
        size_px = _image_size(self.files[0])
        for file in self.files[1:]:
            if (other := _image_size(file)) != size_px:
                raise VideoError(
                    f"{file}: got {other[0]}x{other[1]} pixels; expected {size_px[0]}x{size_px[1]} "
                    f"as {self.files[0].name}; put images of one size into a folder of their own"
                )
        focal_px = _image_focal(self.files[0], size_px)
        self.info = VideoInfo(path, size_px, float(fps), len(self.files), focal_px)

    def shots(self) -> Iterator[Shot]:
        """All images, ``1 / fps`` apart."""
        for index, file in enumerate(self.files):
            yield index / self.info.fps, lambda file=file: _read_image(file)


def natural_order(path: Path) -> list[tuple[int, int, str]]:
    """Sort key of file names: runs of digits compare as numbers, letters without case."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(p), p) if p.isdecimal() else (1, 0, p) for p in parts if p]


def focal_of(told_mm: object, size_px: tuple[int, int]) -> float | None:
    """The focal length in pixels from its equivalent on 35 mm film, which has the same field of
    view along the diagonal (CIPA DCG-001); None where what is told is no lens's.

    Args:
        told_mm: what a file says.
        size_px: width and height of its images.
    """
    try:
        focal_mm = float(str(told_mm))
    except ValueError:
        return None
    if not LENSES_MM[0] <= focal_mm <= LENSES_MM[1]:
        return None
    return focal_mm / FILM_DIAGONAL_MM * math.hypot(*size_px)


def _image_focal(file: Path, size_px: tuple[int, int]) -> float | None:
    try:
        with Image.open(file) as image:
            return focal_of(image.getexif().get_ifd(EXIF_IFD).get(EXIF_FOCAL_35MM), size_px)
    except UNREADABLE as error:
        raise _unreadable(file, error) from error


def _image_size(file: Path) -> tuple[int, int]:
    try:
        with Image.open(file) as image:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return image.size[::-1] if turned else image.size
    except UNREADABLE as error:
        raise _unreadable(file, error) from error


def _read_image(file: Path) -> np.ndarray:
    try:
        with Image.open(file) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
                grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
                return np.repeat(grey[..., None], 3, -1)
            if image.mode == "P":
                image = image.convert("RGBA")
            return np.array(image.convert("RGB"))
    except UNREADABLE as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> VideoError:
    return VideoError(f"{file}: got {error}; expected an image; replace the file or take it out")
