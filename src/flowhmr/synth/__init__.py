"""Synthetic people: seeded stills and clips with exact labels, from the open body alone."""

from flowhmr.synth.clips import ClipConfig, render_clip
from flowhmr.synth.motion import (
    Motion,
    Split,
    load_motions,
    mean_rotmats,
    mirror_motion,
)
from flowhmr.synth.pool import PoolConfig, StillPool
from flowhmr.synth.renderer import paste
from flowhmr.synth.scenes import compress, sample_background
from flowhmr.synth.stills import Still, StillConfig, render_stills

__all__ = [
    "ClipConfig",
    "Motion",
    "PoolConfig",
    "Split",
    "Still",
    "StillConfig",
    "StillPool",
    "compress",
    "load_motions",
    "mean_rotmats",
    "mirror_motion",
    "paste",
    "render_clip",
    "render_stills",
    "sample_background",
]
