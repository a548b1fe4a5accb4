"""From a video to the motion of its people, and out of the program again."""

from flowhmr.capture.engine import CaptureConfig, Captured, Progress, capture, evidence_of
from flowhmr.capture.export import (
    MotionFileError,
    load_motion,
    save_bvh,
    save_glb,
    save_json,
    save_motion,
)
from flowhmr.capture.ground import GroundMotion, GroundWatcher
from flowhmr.capture.lifting import (
    LiftedTrack,
    LimbFlow,
    before_camera,
    default_camera,
    lift_track,
    limb_flows,
)
from flowhmr.capture.pictured import bodies_along, pictured, standing
from flowhmr.capture.refine import Evidence, TrackFitConfig, fit_track
from flowhmr.capture.results import (
    MEDIAPIPE_33,
    ForeignTrack,
    ResultFileError,
    read_results,
    seen_px,
    to_open_body,
)
from flowhmr.capture.taken import Start, begun, matches, placed, starts_of
from flowhmr.capture.trust import TrustConfig, trusted

__all__ = [
    "MEDIAPIPE_33",
    "CaptureConfig",
    "Captured",
    "Evidence",
    "ForeignTrack",
    "GroundMotion",
    "GroundWatcher",
    "LiftedTrack",
    "LimbFlow",
    "MotionFileError",
    "Progress",
    "ResultFileError",
    "Start",
    "TrackFitConfig",
    "TrustConfig",
    "before_camera",
    "begun",
    "bodies_along",
    "capture",
    "default_camera",
    "evidence_of",
    "fit_track",
    "lift_track",
    "limb_flows",
    "load_motion",
    "matches",
    "pictured",
    "placed",
    "read_results",
    "save_bvh",
    "save_glb",
    "save_json",
    "save_motion",
    "seen_px",
    "standing",
    "starts_of",
    "to_open_body",
    "trusted",
]
