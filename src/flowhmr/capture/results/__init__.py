"""What other tools found in a video, read without running anything that is in their files."""

from flowhmr.capture.results.mediapipe import MEDIAPIPE_33
from flowhmr.capture.results.read import read_results
from flowhmr.capture.results.track import ForeignTrack, ResultFileError, seen_px, to_open_body

__all__ = [
    "MEDIAPIPE_33",
    "ForeignTrack",
    "ResultFileError",
    "read_results",
    "seen_px",
    "to_open_body",
]
