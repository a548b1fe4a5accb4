"""Synthetic people: seeded stills and clips with exact labels, from the open body alone."""

from flowhmr.synth.actors import MotionConfig
from flowhmr.synth.amass import AmassError, AmassFile, amass_files, load_amass, read_amass
from flowhmr.synth.bvh import BvhError, load_bvh_folder, read_bvh
from flowhmr.synth.clips import ClipConfig, render_clip
from flowhmr.synth.detections import detected_joints
from flowhmr.synth.flow_clips import FlowClip, FlowClipConfig, FlowClipPool, flow_clip
from flowhmr.synth.media import Backdrop, BackdropFolder
from flowhmr.synth.motion import (
    Motion,
    Split,
    load_motions,
    mean_rotmats,
    mirror_motion,
)
from flowhmr.synth.places import PlaceConfig
from flowhmr.synth.pool import PoolConfig, StillPool
from flowhmr.synth.renderer import paste
from flowhmr.synth.scenes import compress, sample_background
from flowhmr.synth.sensor import Sensor
from flowhmr.synth.shards import ALL_LAYERS, ExportConfig, ShardCache, ShardClips, export_shards
from flowhmr.synth.shards.video import shard_videos
from flowhmr.synth.shots import ShotConfig
from flowhmr.synth.slic import choose_occluder, superpixels
from flowhmr.synth.stage import SynthConfig, set_stage
from flowhmr.synth.stills import Still, StillConfig, render_stills
from flowhmr.synth.store import ClipStore, rest_map, write_whole
from flowhmr.synth.synthmotion import (
    LABELLED,
    LABELLED_SHARES,
    SPLITS,
    TEST_MOVES,
    SizeName,
    SplitName,
    SplitSpec,
    SynthClips,
    load_split,
    split_spec,
)
from flowhmr.synth.tracks import SynthTrack, TrackConfig, synth_track, track_camera
from flowhmr.synth.truth import SynthClip, synth_clip

__all__ = [
    "ALL_LAYERS",
    "LABELLED",
    "LABELLED_SHARES",
    "SPLITS",
    "TEST_MOVES",
    "AmassError",
    "AmassFile",
    "Backdrop",
    "BackdropFolder",
    "BvhError",
    "ClipConfig",
    "ClipStore",
    "ExportConfig",
    "FlowClip",
    "FlowClipConfig",
    "FlowClipPool",
    "Motion",
    "MotionConfig",
    "PlaceConfig",
    "PoolConfig",
    "Sensor",
    "ShardCache",
    "ShardClips",
    "ShotConfig",
    "SizeName",
    "Split",
    "SplitName",
    "SplitSpec",
    "Still",
    "StillConfig",
    "StillPool",
    "SynthClip",
    "SynthClips",
    "SynthConfig",
    "SynthTrack",
    "TrackConfig",
    "amass_files",
    "choose_occluder",
    "compress",
    "detected_joints",
    "export_shards",
    "flow_clip",
    "load_amass",
    "load_bvh_folder",
    "load_motions",
    "load_split",
    "mean_rotmats",
    "mirror_motion",
    "paste",
    "read_amass",
    "read_bvh",
    "render_clip",
    "render_stills",
    "rest_map",
    "sample_background",
    "set_stage",
    "shard_videos",
    "split_spec",
    "superpixels",
    "synth_clip",
    "synth_track",
    "track_camera",
    "write_whole",
]
