"""Flow made worse by a known amount: what errors of the flow do to a training on it.

Each wrapper is an estimator around another one. What it does to a pair of frames follows from their
content alone, the two directions are spoilt one by one, and the forward-backward check is made on
what comes out, as it is for any estimator.
"""

import hashlib
import math
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from flowhmr.flow.estimators import FlowEstimator

_UNIT_PX = 224
"""Lengths are in pixels of a frame whose longer side is this."""

_CELLS_PER_SIGMA = 4
"""Noise is drawn on a grid that is so fine, and interpolated."""

WRONG_KINDS = ("reversed", "shuffled")


@dataclass(frozen=True)
class NoisyFlow:
    """Smooth Gaussian noise on top of the flow, drawn anew for each pair and direction."""

    estimator: FlowEstimator
    """Whose flow."""
    sd_px: float
    """Standard deviation of each component, pixels of a frame of 224."""
    length_px: float = 28.0
    """Where the correlation has fallen to 1/e, pixels of a frame of 224; an eighth of the frame is
    about a thigh's length."""

    def __post_init__(self) -> None:
        _require("noise's standard deviation", self.sd_px, 0.0, math.inf)
        _require("noise's correlation length", self.length_px, 0.0, float(_UNIT_PX))

    def identity(self) -> str:
        """The estimator's, and the noise."""
        return (
            f"{self.estimator.identity()} + noise sd_px={self.sd_px} "
            f"length_px={self.length_px} numpy={np.__version__} cv2={cv2.__version__}"
        )

    def estimate(
        self, frame1: UInt8[np.ndarray, "h w 3"], frame2: UInt8[np.ndarray, "h w 3"]
    ) -> Float32[np.ndarray, "h w 2"]:
        """The estimator's flow with noise."""
        flow = self.estimator.estimate(frame1, frame2)
        height, width = frame1.shape[:2]
        unit = max(height, width) / _UNIT_PX
        seed = hashlib.sha256(b"noise" + _digest(frame1) + _digest(frame2)).digest()
        random = np.random.default_rng(list(seed))
        # White noise blurred with s is correlated as exp(-d^2 / (4 s^2)).
        noise = _smooth_noise(height, width, self.length_px * unit / 2, random)
        return flow + np.float32(self.sd_px * unit) * noise


@dataclass(frozen=True)
class BlurredFlow:
    """Flow that knows no limbs' edges: a Gaussian blur of the map."""

    estimator: FlowEstimator
    """Whose flow."""
    sigma: float
    """Standard deviation of the blur, share of the frame's longer side."""

    def __post_init__(self) -> None:
        _require("blur", self.sigma, 0.0, 1.0)

    def identity(self) -> str:
        """The estimator's, and the blur."""
        return f"{self.estimator.identity()} + blur sigma={self.sigma} cv2={cv2.__version__}"

    def estimate(
        self, frame1: UInt8[np.ndarray, "h w 3"], frame2: UInt8[np.ndarray, "h w 3"]
    ) -> Float32[np.ndarray, "h w 2"]:
        """The estimator's flow, blurred; the map's border goes on outside it."""
        flow = self.estimator.estimate(frame1, frame2)
        kernel = _kernel(self.sigma * max(frame1.shape[:2]))
        return cv2.sepFilter2D(flow, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE)


@dataclass(frozen=True)
class WrongFlow:
    """A share of the pairs gets the flow of another pair, in both directions.

    Which pairs follows from their frames, and those of a smaller share are among them.
    """

    estimator: FlowEstimator
    """Whose flow."""
    share: float
    """How many of the pairs, 0..1."""
    kind: str = "reversed"
    """``reversed``: the flow of the pair backwards in time, which passes the forward-backward
    check. ``shuffled``: that of the frames with their halves exchanged, left with right and top
    with bottom, so that it belongs to what is elsewhere."""

    def __post_init__(self) -> None:
        _require("share of wrong pairs", self.share, 0.0, 1.0)
        if self.kind not in WRONG_KINDS:
            raise ValueError(
                f"kind of wrong flow: got {self.kind!r}; expected one of {', '.join(WRONG_KINDS)}"
            )

    def identity(self) -> str:
        """The estimator's, and what is wrong."""
        return f"{self.estimator.identity()} + wrong share={self.share} kind={self.kind}"

    def estimate(
        self, frame1: UInt8[np.ndarray, "h w 3"], frame2: UInt8[np.ndarray, "h w 3"]
    ) -> Float32[np.ndarray, "h w 2"]:
        """The estimator's flow of these frames or, if they are among the share, of others."""
        if not self.spoils(frame1, frame2):
            return self.estimator.estimate(frame1, frame2)
        if self.kind == "reversed":
            return self.estimator.estimate(frame2, frame1)
        half = frame1.shape[0] // 2, frame1.shape[1] // 2
        return self.estimator.estimate(*(np.roll(f, half, (0, 1)) for f in (frame1, frame2)))

    def spoils(
        self, frame1: UInt8[np.ndarray, "h w 3"], frame2: UInt8[np.ndarray, "h w 3"]
    ) -> bool:
        """Whether this pair, in either order, is among the share."""
        first, second = sorted((_digest(frame1), _digest(frame2)))
        place = hashlib.sha256(b"wrong" + first + second).digest()[:8]
        return int.from_bytes(place, "little") / 2**64 < self.share


@dataclass(frozen=True)
class ScaledFlow:
    """Flow that is too long or too short everywhere."""

    estimator: FlowEstimator
    """Whose flow."""
    factor: float
    """What it is multiplied with."""

    def __post_init__(self) -> None:
        _require("flow's factor", self.factor, -math.inf, math.inf)

    def identity(self) -> str:
        """The estimator's, and the factor."""
        return f"{self.estimator.identity()} + scaled factor={self.factor}"

    def estimate(
        self, frame1: UInt8[np.ndarray, "h w 3"], frame2: UInt8[np.ndarray, "h w 3"]
    ) -> Float32[np.ndarray, "h w 2"]:
        """The estimator's flow, multiplied."""
        return self.estimator.estimate(frame1, frame2) * np.float32(self.factor)


DEGRADATIONS = ("noise", "blur", "wrong", "scaled")

DEGRADED_FORMS = (
    "noise:SD or noise:SD:LENGTH (px of 224), blur:SIGMA (share of the frame), wrong:SHARE or "
    "wrong:SHARE:KIND (of the pairs; reversed, shuffled), scaled:FACTOR"
)


def degraded(estimator: FlowEstimator, text: str) -> FlowEstimator:
    """The estimator with what one of `DEGRADED_FORMS` does to it.

    Raises:
        ValueError: the text names no degradation, or one with a number that it cannot have.
    """
    name, *options = text.split(":")
    try:
        if name == "noise" and len(options) in (1, 2):
            return NoisyFlow(estimator, *map(float, options))
        if name == "blur" and len(options) == 1:
            return BlurredFlow(estimator, float(options[0]))
        if name == "wrong" and len(options) in (1, 2):
            return WrongFlow(estimator, float(options[0]), *options[1:])
        if name == "scaled" and len(options) == 1:
            return ScaledFlow(estimator, float(options[0]))
    except ValueError as error:
        raise ValueError(
            f"degraded flow: got {text!r} ({error}); expected one of {DEGRADED_FORMS}"
        ) from error
    raise ValueError(f"degraded flow: got {text!r}; expected one of {DEGRADED_FORMS}")


def _require(what: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"{what}: got {value}; expected a finite number in [{low:g}, {high:g}]")


def _digest(frame: np.ndarray) -> bytes:
    """Of a frame's pixels and shape."""
    content = hashlib.sha256(repr(frame.shape).encode())
    content.update(np.ascontiguousarray(frame).data)
    return content.digest()


def _smooth_noise(
    height: int, width: int, sigma_px: float, random: np.random.Generator
) -> Float32[np.ndarray, "{height} {width} 2"]:
    """White noise after a blur of ``sigma_px``, brought to standard deviation 1 everywhere."""
    cell_px = max(1.0, sigma_px / _CELLS_PER_SIGMA)
    rows, columns = (math.ceil(side / cell_px) for side in (height, width))
    down, across = _kernel(sigma_px * rows / height), _kernel(sigma_px * columns / width)
    # What the blur reaches is noise too, so that the border is no special place.
    top, left = len(down) // 2, len(across) // 2
    white = random.standard_normal((rows + 2 * top, columns + 2 * left, 2), np.float32)
    blurred = cv2.sepFilter2D(white, -1, across, down)[top : top + rows, left : left + columns]
    unit = math.sqrt(float((down**2).sum() * (across**2).sum()))
    noise = np.ascontiguousarray(blurred) / np.float32(unit)
    if (rows, columns) == (height, width):
        return noise
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def _kernel(sigma: float) -> Float32[np.ndarray, "k"]:
    """A Gaussian of sum 1; a single 1 without width."""
    if sigma == 0:
        return np.ones(1, np.float32)
    reach = math.ceil(4 * sigma)
    values = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return (values / values.sum()).astype(np.float32)
