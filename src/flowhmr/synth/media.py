"""Real backgrounds: short clips out of a folder of videos and images.

Motion HMR, section 3.1 and appendix A: the person moves over a real video, and follows the motion
of its camera. An image serves too, under a camera that pans over it like one in a hand.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from jaxtyping import Float32, UInt8
from PIL import Image, ImageOps
from scipy.ndimage import gaussian_filter1d

from flowhmr.flow import DisFlow

VIDEO_SUFFIXES = {".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v"}
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
FLOW_PX = 96
"""Side of the images whose flow gives the drift: the median of a whole image needs no detail. On
known pans of photographs at 256 px the steps are 0.02 px off on average, the same way in all
frames; DIS's preset ``fast`` at 128 px takes a tenth of the time (0.4 ms) and is 0.11 px off."""
IMAGE_CROP = (0.5, 0.9)
"""Side of the window that pans over an image, shares of the image's shorter side."""
LONGEST = 3.0
"""Of an image that is longer, in shorter sides, a random piece is used."""
STEADY = 0.2
"""Share of images under a camera that stands still."""
FASTEST = 0.025
"""Largest step of the pan between two frames, share of the window's side."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Backdrop:
    """Background images of one clip and how the scene moves in them."""

    images: UInt8[np.ndarray, "t s s 3"]
    """Square RGB images."""
    drift_px: Float32[np.ndarray, "t 2"]
    """Where the scene has moved to (x right, y down), relative to the middle frame: the running
    sum of each frame's median flow."""
    exact_flow: bool
    """True for a still under a known pan: every background pixel moves by the difference of the
    drift. False for video, of which only the median flow is estimated."""
    name: str
    """The file, relative to the folder."""


class BackdropFolder:
    """Videos and images under a folder, at any depth, as backgrounds of clips."""

    def __init__(self, folder: Path):
        """List the folder; nothing is opened yet.

        Raises:
            ValueError: the folder is missing, or holds no video and no image.
        """
        self.folder = folder
        suffixes = VIDEO_SUFFIXES | IMAGE_SUFFIXES
        expected = f"expected a folder with files ending in {', '.join(sorted(suffixes))}"
        if not folder.is_dir():
            raise ValueError(
                f"backgrounds: got {folder}, which is no folder; {expected}; correct the path"
            )
        found = (f for f in folder.rglob("*") if f.suffix.lower() in suffixes and f.is_file())
        self.names = sorted(f.relative_to(folder).as_posix() for f in found if f.name[0] != ".")
        """Files, relative to the folder."""
        if not self.names:
            raise ValueError(
                f"backgrounds: got {folder} without a video or image; {expected}; put some there"
            )
        self._warned: set[str] = set()

    def __len__(self) -> int:
        """Number of files."""
        return len(self.names)

    def sample(
        self,
        rng: np.random.Generator,
        frames: int,
        size_px: int,
        fps: float = 30.0,
        static: bool = False,
    ) -> Backdrop:
        """A random clip out of a random file.

        The same files and the same state of ``rng`` give the same clip, whatever was sampled
        before. A file that cannot be read is reported once in the log, and another one is taken.

        Args:
            rng: where the choice comes from; two numbers are drawn.
            frames: length. A video that is shorter plays forth and back.
            size_px: width and height of the images.
            fps: frames per second of the clip.
            static: the middle frame stands still through the whole clip.

        Raises:
            ValueError: a length, size or rate that is none, or no file of the folder can be read.
        """
        if frames < 1 or size_px < 1 or not 0 < fps < np.inf:
            raise ValueError(
                f"backgrounds: got {frames} frames of {size_px} px at {fps} per second; expected "
                "at least one frame, one pixel and a rate above 0"
            )
        first, seed = int(rng.integers(len(self))), int(rng.integers(2**63))
        last_error = None
        for index in self._order(first, seed):
            # A file's own numbers, the same whether or not another one failed before it.
            own_rng = np.random.default_rng([seed, 0])
            try:
                clip = self._load(self.names[index], own_rng, frames, size_px, fps)
            except ValueError as error:
                last_error = error
                self._warn(self.names[index], error)
                continue
            return _stand_still(clip) if static else clip
        raise ValueError(
            f"backgrounds: got no readable file in {self.folder} ({len(self)} files, last: "
            f"{last_error}); expected videos that FFmpeg decodes or images; replace them"
        ) from last_error

    def _order(self, first: int, seed: int) -> Iterator[int]:
        """The file chosen, then, only where it fails, all others."""
        yield first
        rest = np.random.default_rng([seed, 1]).permutation(len(self))
        yield from (int(index) for index in rest if index != first)

    def _load(
        self, name: str, rng: np.random.Generator, frames: int, size_px: int, fps: float
    ) -> Backdrop:
        path = self.folder / name
        if path.suffix.lower() in IMAGE_SUFFIXES:
            images, drift_px = pan_image(path, rng, frames, size_px)
            return Backdrop(images, drift_px, exact_flow=True, name=name)
        images = read_run(path, rng, frames, size_px, fps)
        return Backdrop(images, median_drift(images), exact_flow=False, name=name)

    def _warn(self, name: str, error: ValueError) -> None:
        if name not in self._warned:
            self._warned.add(name)
            logger.warning("BackgroundSkipped: %s; going on with other files", error)


def read_run(
    path: Path, rng: np.random.Generator, frames: int, size_px: int, fps: float
) -> UInt8[np.ndarray, "t s s 3"]:
    """A random run of a video, cropped to a random square: at least half of the shorter side.

    Frames are those nearest in time to each ``1 / fps``. A shorter video plays forth and back.

    Raises:
        ValueError: the file does not decode.
    """
    window = rng.random(3)
    try:
        with av.open(str(path)) as container:
            stream = _video_stream(path, container)
            # The run starts with the first whole frame after this moment.
            latest_s = _length_s(container, stream) - frames / fps - 1 / _rate(stream)
            start_s = float(rng.uniform(0, max(0.0, latest_s)))
            kept = _nearest_frames(container, stream, start_s, frames, fps, window, size_px)
            if not kept:  # the file claims to be longer than it is
                kept = _nearest_frames(container, stream, 0.0, frames, fps, window, size_px)
    except (av.FFmpegError, OSError) as error:
        raise ValueError(
            f"{path}: got {error}; expected a video that FFmpeg decodes; replace the file or take "
            "it out"
        ) from error
    if not kept:
        raise ValueError(f"{path}: got no frame that decodes; expected a video; take it out")
    there_and_back = kept + kept[-2:0:-1]
    return np.stack([there_and_back[i % len(there_and_back)] for i in range(frames)])


def median_drift(images: UInt8[np.ndarray, "t s s 3"]) -> Float32[np.ndarray, "t 2"]:
    """How far the scene has moved relative to the middle frame, pixels (x right, y down).

    The running sum of the median flow of neighbouring frames (appendix A). The flow is DIS; the
    paper's TV-L1 is not part of OpenCV's main package.
    """
    side = images.shape[1]
    small_px = min(side, FLOW_PX)
    small = [_resized(image, small_px) for image in images]
    flows = [DisFlow().estimate(a, b) for a, b in pairwise(small)]
    steps = [np.median(flow.reshape(-1, 2), 0) * side / small_px for flow in flows]
    return _relative_to_middle(np.cumsum([np.zeros(2), *steps], 0))


def pan_image(
    path: Path, rng: np.random.Generator, frames: int, size_px: int
) -> tuple[UInt8[np.ndarray, "t s s 3"], Float32[np.ndarray, "t 2"]]:
    """An image under a camera in a hand: the images, and how far the scene has moved in each.

    Raises:
        ValueError: the file does not decode.
    """
    share = rng.uniform(*IMAGE_CROP)
    image = _part(_read_image(path, round(size_px / share)), rng)
    side = share * min(image.shape[:2])
    # One pixel of the image is one pixel of the clip from here on, so that the pan only shifts.
    height, width = (max(size_px, round(n * size_px / side)) for n in image.shape[:2])
    image = cv2.resize(image, (width, height), interpolation=_interpolation(size_px < side))
    room = np.array([width - size_px, height - size_px])
    path_px = _hand_path(rng, frames, size_px, room)
    slack = room - np.ptp(path_px, axis=0)
    corner = path_px - path_px.min(0) + slack * rng.random(2)
    images = [_shifted(image, x, y, size_px) for x, y in corner.tolist()]
    return np.stack(images), _relative_to_middle(-corner)


def _part(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random piece of a panorama, over its whole shorter side; other images as they are."""
    longest = round(LONGEST * min(image.shape[:2]))
    y, x = (int(rng.integers(max(0, side - longest) + 1)) for side in image.shape[:2])
    return image[y : y + longest, x : x + longest]


def _hand_path(rng: np.random.Generator, frames: int, size_px: int, room: np.ndarray) -> np.ndarray:
    """A smooth path of the window [t 2], pixels; its extent fits into ``room``."""
    if rng.random() < STEADY:
        return np.zeros((frames, 2))
    velocity = rng.normal(0, 1, 2) * rng.uniform(0, 1)
    for sigma in (2.0, 6.0):  # tremor and sway
        velocity = velocity + gaussian_filter1d(rng.standard_normal((frames, 2)), sigma, axis=0)
    path_px = np.cumsum(velocity, 0)
    speed = np.abs(np.diff(path_px, axis=0)).max(initial=1e-6)
    path_px = path_px * (rng.uniform(0.05, 1) * FASTEST * size_px / speed)
    extent = np.ptp(path_px, axis=0).clip(1e-6)
    return path_px * (room / extent).clip(max=1.0)


def _shifted(image: np.ndarray, x: float, y: float, size_px: int) -> np.ndarray:
    """The window of ``image`` whose corner is at (x, y), at sub-pixel precision."""
    shift = np.array([[1.0, 0.0, -x], [0.0, 1.0, -y]])
    # Linear, because OpenCV's sharper kernel moves things by up to 0.05 px: cubic with -0.75 does
    # not keep a ramp.
    return cv2.warpAffine(
        image, shift, (size_px, size_px), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def _stand_still(clip: Backdrop) -> Backdrop:
    middle = clip.images[len(clip.images) // 2]
    images = np.repeat(middle[None], len(clip.images), axis=0)
    return Backdrop(images, np.zeros_like(clip.drift_px), exact_flow=True, name=clip.name)


def _relative_to_middle(path_px: np.ndarray) -> Float32[np.ndarray, "t 2"]:
    return (path_px - path_px[len(path_px) // 2]).astype(np.float32)


def _read_image(path: Path, least_px: int) -> UInt8[np.ndarray, "h w 3"]:
    """An upright RGB image; a JPEG larger than needed (shorter side) is decoded smaller."""
    try:
        with Image.open(path) as opened:
            scale = least_px / min(opened.size)
            opened.draft(None, (round(opened.width * scale), round(opened.height * scale)))
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
                grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
                return np.repeat(grey[..., None], 3, -1)
            if image.mode == "P":
                image = image.convert("RGBA")
            return np.array(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{path}: got {error}; expected an image; replace the file or take it out"
        ) from error


def _video_stream(path: Path, container: InputContainer) -> av.VideoStream:
    """The first video stream that is not an audio file's cover picture."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            stream.codec_context.thread_type = "AUTO"
            return stream
    raise ValueError(f"{path}: got no video stream; expected one; take the file out")


def _length_s(container: InputContainer, stream: av.VideoStream) -> float:
    """Seconds, as the file claims, else (browser recordings) as its time stamps show."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.duration:
        return container.duration / av.time_base
    times = [p.pts * p.time_base for p in container.demux(stream) if p.pts and p.time_base]
    return float(max(times, default=0.0) - _origin_s(stream))


def _rate(stream: av.VideoStream) -> float:
    """Frames per second."""
    return float(stream.average_rate or 30)


def _origin_s(stream: av.VideoStream) -> float:
    """Time stamp of the first frame, seconds."""
    return float((stream.start_time or 0) * (stream.time_base or 0))


def _nearest_frames(
    container: InputContainer,
    stream: av.VideoStream,
    start_s: float,
    count: int,
    fps: float,
    window: np.ndarray,
    size_px: int,
) -> list[np.ndarray]:
    """Up to ``count`` square images, ``1 / fps`` apart from ``start_s`` on; fewer at the end."""
    kept: list[np.ndarray] = []
    before_s, before = 0.0, None
    for now_s, frame in _decoded_from(container, stream, start_s):
        if now_s < start_s and before is None:
            continue
        if before is None:
            # From a frame's own time on: halfway between two frames, time stamps rounded to
            # milliseconds would double one frame and drop the next.
            start_s = now_s
        elif wanted := _due(start_s, len(kept), count, fps, (before_s + now_s) / 2):
            kept += [_square(before, window, size_px)] * wanted
        before_s, before = now_s, frame
        if len(kept) == count:
            return kept
    if before is not None:
        wanted = _due(start_s, len(kept), count, fps, before_s + 0.5 / _rate(stream))
        kept += [_square(before, window, size_px)] * wanted
    return kept


def _due(start_s: float, done: int, count: int, fps: float, until_s: float) -> int:
    """How many of the clip's frames that are still to come lie before a moment."""
    return max(0, min(count, int(np.ceil((until_s - start_s) * fps))) - done)


def _decoded_from(
    container: InputContainer, stream: av.VideoStream, start_s: float
) -> Iterator[tuple[float, av.VideoFrame]]:
    """Frames with their times in seconds from the video's start; times increase.

    The first is a keyframe at or before ``start_s`` where the file can be seeked in.
    """
    origin_s = _origin_s(stream)
    base = stream.time_base
    if base:
        container.seek(int((start_s + origin_s) / base), stream=stream)
    last_s = -1 / _rate(stream)
    for frame in container.decode(stream):
        now_s = last_s + 1 / _rate(stream) if frame.time is None else frame.time - origin_s
        if now_s > last_s:
            last_s = now_s
            yield now_s, frame


def _square(frame: av.VideoFrame, window: np.ndarray, size_px: int) -> np.ndarray:
    """The upright crop of a frame; ``window`` holds its size and place, each from 0 to 1."""
    image = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
    height, width = image.shape[:2]
    side = round(min(height, width) * (1 - window[0] / 2))
    x, y = (round(w * (n - side)) for w, n in zip(window[1:], (width, height)))
    return _resized(np.ascontiguousarray(image[y : y + side, x : x + side]), size_px)


def _resized(image: np.ndarray, size_px: int) -> np.ndarray:
    side = image.shape[0]
    if side == size_px:
        return image
    return cv2.resize(image, (size_px, size_px), interpolation=_interpolation(size_px < side))


def _interpolation(shrinks: bool) -> int:
    return cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
