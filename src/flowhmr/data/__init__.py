"""Data: what becomes a `flowhmr.records.Clip`."""

from flowhmr.data.augment import AugmentConfig
from flowhmr.data.batches import Batches
from flowhmr.data.benchmark import BenchmarkConfig, benchmark_sequences, test_clips
from flowhmr.data.box_files import read_boxes, write_boxes
from flowhmr.data.boxes import (
    BoxError,
    PersonTrack,
    boxes_by_hand,
    boxes_from_keypoints,
    fill_gaps,
    smooth_boxes,
)
from flowhmr.data.cuts import CutFinder, find_cuts, split_at_cuts
from flowhmr.data.detector_model import Detected, DetectorModel, detections
from flowhmr.data.detectors import (
    DetectorError,
    DetectorProcess,
    KeypointRcnn,
    detect,
    mediapipe_detector,
)
from flowhmr.data.features import (
    FeatureBatches,
    FeatureConfig,
    FeatureSource,
    StoredFeatures,
)
from flowhmr.data.field import (
    KINDS,
    OTHER_KINDS,
    FieldError,
    FieldFrames,
    FieldReport,
    FieldSet,
    Findings,
    FrameStore,
    check_field,
    check_other,
    clip_of_pictures,
    convert_field,
    field_batches,
    field_labels,
    field_videos,
    named_keypoints,
    open_field,
    read_picture,
    video_of_frames,
)
from flowhmr.data.journal import Journal, packed, source_key, unpacked
from flowhmr.data.keypoints import read_keypoints
from flowhmr.data.labelled import LabelledBatches
from flowhmr.data.labels import labels_in_crop
from flowhmr.data.links import StoredLinks
from flowhmr.data.mistakes import without_mistakes
from flowhmr.data.motion_inputs import (
    HEATMAP_JOINTS,
    MotionBatches,
    MotionInputConfig,
    MotionVideo,
    cut_clip,
    enough_visible,
    with_detector,
)
from flowhmr.data.motion_sets import MotionSetConfig, motion_sequences
from flowhmr.data.people import NobodyFound, PeopleConfig, people_of, sequences_of
from flowhmr.data.pseudo import OwnVideo, PseudoBatches, own_videos
from flowhmr.data.sequences import (
    FlowSource,
    Link,
    PairBatches,
    PairConfig,
    PairSource,
    cut_pair,
    frame_crops,
    mixture_weights,
)
from flowhmr.data.stills import StillBatches
from flowhmr.data.track_store import LiftBatches, LiftDataConfig, TrackStore
from flowhmr.data.tracking import DetectedPerson, track_people
from flowhmr.data.tracks import (
    ACROSS,
    ALONG,
    BONES,
    LIMB_POINTS,
    crops_along,
    limb_points,
    track_input,
)
from flowhmr.data.video import (
    VideoFrame,
    VideoSource,
    demo_clip,
    open_video,
    video_info,
    write_video,
)
from flowhmr.data.video_decode import VideoError

__all__ = [
    "ACROSS",
    "ALONG",
    "BONES",
    "HEATMAP_JOINTS",
    "KINDS",
    "LIMB_POINTS",
    "OTHER_KINDS",
    "AugmentConfig",
    "Batches",
    "BenchmarkConfig",
    "BoxError",
    "CutFinder",
    "Detected",
    "DetectedPerson",
    "DetectorError",
    "DetectorModel",
    "DetectorProcess",
    "FeatureBatches",
    "FeatureConfig",
    "FeatureSource",
    "FieldError",
    "FieldFrames",
    "FieldReport",
    "FieldSet",
    "Findings",
    "FlowSource",
    "FrameStore",
    "Journal",
    "KeypointRcnn",
    "LabelledBatches",
    "LiftBatches",
    "LiftDataConfig",
    "Link",
    "MotionBatches",
    "MotionInputConfig",
    "MotionSetConfig",
    "MotionVideo",
    "NobodyFound",
    "OwnVideo",
    "PairBatches",
    "PairConfig",
    "PairSource",
    "PeopleConfig",
    "PersonTrack",
    "PseudoBatches",
    "StillBatches",
    "StoredFeatures",
    "StoredLinks",
    "TrackStore",
    "VideoError",
    "VideoFrame",
    "VideoSource",
    "benchmark_sequences",
    "boxes_by_hand",
    "boxes_from_keypoints",
    "check_field",
    "check_other",
    "clip_of_pictures",
    "convert_field",
    "crops_along",
    "cut_clip",
    "cut_pair",
    "demo_clip",
    "detect",
    "detections",
    "enough_visible",
    "field_batches",
    "field_labels",
    "field_videos",
    "fill_gaps",
    "find_cuts",
    "frame_crops",
    "labels_in_crop",
    "limb_points",
    "mediapipe_detector",
    "mixture_weights",
    "motion_sequences",
    "named_keypoints",
    "open_field",
    "open_video",
    "own_videos",
    "packed",
    "people_of",
    "read_boxes",
    "read_keypoints",
    "read_picture",
    "sequences_of",
    "smooth_boxes",
    "source_key",
    "split_at_cuts",
    "test_clips",
    "track_input",
    "track_people",
    "unpacked",
    "video_info",
    "video_of_frames",
    "with_detector",
    "without_mistakes",
    "write_boxes",
    "write_video",
]
