"""Detectors that run as processes of their own, in environments of their own.

``mediapipe_pose.py`` is a script, never imported here: it runs under the Python of the
environment that `detector_environment` makes, with ``mediapipe_people.py`` beside it.
"""

from flowhmr.data.workers.environment import DetectorError, detector_environment

__all__ = ["DetectorError", "detector_environment"]
