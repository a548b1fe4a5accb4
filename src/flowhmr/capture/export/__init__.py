"""Captured motion out of the program: our own npz and back, JSON, BVH, an animated GLB.

The formats are described in ``docs/motion-files.md``.
"""

from flowhmr.capture.export.bvh import save_bvh
from flowhmr.capture.export.gltf import save_glb
from flowhmr.capture.export.npz import MotionFileError, load_motion, save_motion
from flowhmr.capture.export.text import save_json

__all__ = [
    "MotionFileError",
    "load_motion",
    "save_bvh",
    "save_glb",
    "save_json",
    "save_motion",
]
