"""Rotations, alignment, tensor records and masked means: what every other room stands on."""

from flowhmr.geometry.align import Similarity, align_similarity, procrustes_align
from flowhmr.geometry.masked import masked_mean, weighted_mean
from flowhmr.geometry.records import (
    RecordError,
    collate,
    detach,
    map_tensors,
    pick,
    to_device,
)
from flowhmr.geometry.rotations import (
    Rot6dLayout,
    axis_angle_from_rotmat,
    geodesic_rad,
    rot6d_from_rotmat,
    rotmat_from_axis_angle,
    rotmat_from_rot6d,
    slerp,
)

__all__ = [
    "RecordError",
    "Rot6dLayout",
    "Similarity",
    "align_similarity",
    "axis_angle_from_rotmat",
    "collate",
    "detach",
    "geodesic_rad",
    "map_tensors",
    "masked_mean",
    "pick",
    "procrustes_align",
    "rot6d_from_rotmat",
    "rotmat_from_axis_angle",
    "rotmat_from_rot6d",
    "slerp",
    "to_device",
    "weighted_mean",
]
