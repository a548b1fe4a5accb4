"""Bodies in SMPL's format: files -> model -> shaped -> posed mesh, joint sets, the open body."""

from flowhmr.body.errors import BodyFileError, BodyIdentityError
from flowhmr.body.files import load_body, load_regressor
from flowhmr.body.joints import (
    COCO_17,
    H36M_14,
    H36M_17,
    JOINT_SETS,
    OPENPOSE_25,
    SMPL_24,
    SPIN_24,
    SPIN_49,
    SPIN_EXTRA_9,
    SPIN_H36M_17,
    JointSet,
    convert_joints,
    joint_set,
)
from flowhmr.body.keypoints import KeypointRule
from flowhmr.body.mirror import mirror_params, mirror_rotmats
from flowhmr.body.model import BodyModel, BodyParams, Mesh, Regressor
from flowhmr.body.open_body import open_body
from flowhmr.body.reference import mesh_reference
from flowhmr.body.smpl_folder import Gender, load_smpl

__all__ = [
    "COCO_17",
    "H36M_14",
    "H36M_17",
    "JOINT_SETS",
    "OPENPOSE_25",
    "SMPL_24",
    "SPIN_24",
    "SPIN_49",
    "SPIN_EXTRA_9",
    "SPIN_H36M_17",
    "BodyFileError",
    "BodyIdentityError",
    "BodyModel",
    "BodyParams",
    "Gender",
    "JointSet",
    "KeypointRule",
    "Mesh",
    "Regressor",
    "convert_joints",
    "joint_set",
    "load_body",
    "load_regressor",
    "load_smpl",
    "mesh_reference",
    "mirror_params",
    "mirror_rotmats",
    "open_body",
]
