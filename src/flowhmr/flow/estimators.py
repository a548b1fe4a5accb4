"""One interface for optical flow: DIS, RAFT (`flowhmr.flow.raft`), any function."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
import torch
from jaxtyping import Float32, UInt8

from flowhmr.flow.consistency import Consistency, consistency_masks
from flowhmr.flow.maps import FlowPair

DIS_PRESETS = ("ultrafast", "fast", "medium", "fine")
"""OpenCV's, and ``fine``: medium at full resolution without the variational refinement. On people
the refinement smooths limbs into the background, which at medium makes them 16 % slower; without it
fewer pixels pass the forward-backward check, and those that pass are right (benchmarks/flow.py)."""

DIS_LEAST_SIDE_PX = 32
"""Smaller frames are padded: on wide frames less than 32 px high OpenCV 5.0's DIS returns NaN or
crashes the process (seen from 8 x 224 to 31 x 224); from 32 px no shape up to 8000 px failed."""


class FlowError(RuntimeError):
    """An estimator that cannot run, or that returned something which is no flow map."""


@runtime_checkable
class FlowEstimator(Protocol):
    """What computes the flow from one frame to another."""

    def identity(self) -> str:
        """A stable text that changes whenever the results may: method, settings, library."""
        ...

    def estimate(
        self, frame1: UInt8[np.ndarray, "h w 3"], frame2: UInt8[np.ndarray, "h w 3"]
    ) -> Float32[np.ndarray, "h w 2"]:
        """Flow from frame 1 to frame 2 (RGB) in pixels, as `flowhmr.flow` defines it."""
        ...


@dataclass(frozen=True)
class DisFlow:
    """Dense inverse search (Kroeger et al. 2016) on the CPU; needs no weights.

    Each call makes its own OpenCV object (microseconds), so that threads share nothing.
    """

    preset: str = "fine"
    """One of `DIS_PRESETS`."""

    def __post_init__(self) -> None:
        if self.preset not in DIS_PRESETS:
            raise ValueError(
                f"DIS preset: got {self.preset!r}; expected one of {', '.join(DIS_PRESETS)}"
            )

    def identity(self) -> str:
        """Method, preset and OpenCV's version."""
        return f"dis preset={self.preset} least_side_px={DIS_LEAST_SIDE_PX} cv2={cv2.__version__}"

    def estimate(
        self, frame1: UInt8[np.ndarray, "h w 3"], frame2: UInt8[np.ndarray, "h w 3"]
    ) -> Float32[np.ndarray, "h w 2"]:
        """Flow from the grey values of the two frames."""
        height, width = frame1.shape[:2]
        grey1, grey2 = (
            pad_frame(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), least_px=DIS_LEAST_SIDE_PX)
            for frame in (frame1, frame2)
        )
        # OpenCV's type stubs demand the third argument, which is an optional initial flow.
        flow = self._method().calc(grey1, grey2, None)  # pyright: ignore
        return np.ascontiguousarray(flow[:height, :width])

    def _method(self) -> cv2.DISOpticalFlow:
        opencv = "MEDIUM" if self.preset == "fine" else self.preset.upper()
        number = getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{opencv}")
        method = cv2.DISOpticalFlow.create(number)
        if self.preset == "fine":
            method.setFinestScale(0)
            method.setVariationalRefinementIterations(0)
        return method


@dataclass(frozen=True)
class FunctionFlow:
    """Any function of two frames as an estimator."""

    function: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """Takes two RGB frames uint8 [h w 3], returns the flow [h w 2] in pixels from the first to
    the second, as a floating-point array."""
    name: str
    """Stands for the function and its settings in cache keys: change it with them."""

    def identity(self) -> str:
        """The name given."""
        return f"function name={self.name}"

    def estimate(
        self, frame1: UInt8[np.ndarray, "h w 3"], frame2: UInt8[np.ndarray, "h w 3"]
    ) -> Float32[np.ndarray, "h w 2"]:
        """What the function returns, checked.

        Raises:
            FlowError: the function returned no finite floating-point array [h w 2].
        """
        flow = self.function(frame1, frame2)
        expected = f"expected a floating-point numpy array of shape {(*frame1.shape[:2], 2)}"
        if not isinstance(flow, np.ndarray):
            raise FlowError(f"{self.name}: got {type(flow).__name__}; {expected}")
        if flow.shape != (*frame1.shape[:2], 2) or not np.issubdtype(flow.dtype, np.floating):
            raise FlowError(f"{self.name}: got {flow.dtype} of shape {flow.shape}; {expected}")
        return flow.astype(np.float32)


def estimate_pair(
    estimator: FlowEstimator,
    frame1: UInt8[np.ndarray, "h w 3"],
    frame2: UInt8[np.ndarray, "h w 3"],
    consistency: Consistency | None = None,
) -> FlowPair:
    """Flow in both directions between two RGB frames, with consistency masks; no batch axis.

    Raises:
        FlowError: the estimator returned numbers that are not finite.
        ValueError: the two arrays are not RGB frames of one size.
    """
    require_frames(frame1, frame2)
    forward, backward = (
        torch.from_numpy(_finite(estimator.estimate(*frames), estimator))
        for frames in ((frame1, frame2), (frame2, frame1))
    )
    return FlowPair(forward, backward, *consistency_masks(forward, backward, consistency))


def require_frames(frame1: np.ndarray, frame2: np.ndarray) -> None:
    """Raise ValueError unless these are two RGB frames of one size."""
    for frame in (frame1, frame2):
        if frame.dtype != np.uint8 or frame.shape != (*frame1.shape[:2], 3):
            raise ValueError(
                f"frames for flow: got {frame1.dtype} {frame1.shape} and {frame2.dtype} "
                f"{frame2.shape}; expected two RGB frames, uint8 [h w 3], of one size"
            )


def pad_frame(frame: np.ndarray, least_px: int, multiple_px: int = 1) -> np.ndarray:
    """Border pixels repeated to the right and below, up to a least side and a multiple."""
    below, right = (
        -(-max(side, least_px) // multiple_px) * multiple_px - side for side in frame.shape[:2]
    )
    return cv2.copyMakeBorder(frame, 0, below, 0, right, cv2.BORDER_REPLICATE)


def _finite(flow: np.ndarray, estimator: FlowEstimator) -> np.ndarray:
    if not np.isfinite(flow).all():
        bad = int((~np.isfinite(flow).all(-1)).sum())
        raise FlowError(
            f"{estimator.identity()}: got {bad} of {flow[..., 0].size} pixels with NaN or infinite "
            "flow; expected finite numbers everywhere; leave unknown flow at 0"
        )
    return flow
