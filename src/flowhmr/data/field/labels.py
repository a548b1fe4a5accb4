"""From what a data set says to labels of a body."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flowhmr.body import COCO_17, SMPL_24, BodyModel, JointSet
from flowhmr.cameras import project_weak
from flowhmr.data.field.frames import FieldError, FieldFrames
from flowhmr.records import Labels

SHARED = tuple(
    f"{side}_{name}"
    for name in ("shoulder", "elbow", "wrist", "knee", "ankle")
    for side in ("left", "right")
)
"""Joints whose annotated place is the chain's: hips, neck and head are defined otherwise."""


def usable(frames: FieldFrames) -> Bool[Tensor, "n"]:
    """Rows with a box and a body that the set trusts."""
    if frames.has_body is None:
        return torch.zeros(len(frames), dtype=torch.bool)
    boxes_px = frames.boxes_px
    rows = frames.has_body & boxes_px.isfinite().all(-1) & (boxes_px[:, 2:] > 0).all(-1)
    return rows if frames.valid is None else rows & frames.valid


def field_labels(frames: FieldFrames, body: BodyModel) -> Labels:
    """Labels of the rows, ``[n]``, pixels of the images.

    Pose is SMPL's, and means the same on the open body. Betas mean SMPL's shapes: the open body
    gets its mean shape. The 24 joints are seen where the set's camera puts them; where it has none,
    the limbs' joints are where they were annotated (`SHARED`), the others unknown.

    Raises:
        FieldError: the set has no bodies, or such of SMPL-X where SMPL's shapes are needed.
    """
    if frames.rotmats is None or frames.betas is None:
        raise FieldError("got a set without pose and shape; expected bodies; fit some first")
    rotmats = frames.rotmats
    betas = torch.zeros(len(frames), body.num_betas)
    if body.topology == "smpl":
        if frames.model != "smpl":
            raise FieldError(
                f"got betas of {frames.model}; expected SMPL's; take the poses alone (the open "
                "body: no --body), or fit SMPL to them first"
            )
        known = min(body.num_betas, frames.betas.shape[-1])
        betas[:, :known] = frames.betas[:, :known]
    params = body.params(rotmats, betas)
    joints_m = body.joints(params)
    keypoints_px, confidence = _seen(frames, joints_m)
    return Labels(params, joints_m, keypoints_px, confidence)


def keypoint_labels(frames: FieldFrames, body: BodyModel) -> Labels:
    """Labels ``[n]`` of the rows' 2D keypoints alone, pixels of the images; no row has a body."""
    params = body.rest_params(len(frames))
    joints_m = body.joints(params)
    nobody = torch.zeros(len(frames), dtype=torch.bool)
    return Labels(params, joints_m, *_seen(frames, joints_m, annotated=True), has_body=nobody)


def _seen(
    frames: FieldFrames, joints_m: Float[Tensor, "n 24 3"], annotated: bool = False
) -> tuple[Float[Tensor, "n 24 2"], Float[Tensor, "n 24"]]:
    """Where the joints are seen: by the set's camera, else (or if so asked) as annotated."""
    ones = torch.ones(joints_m.shape[:-1])
    if annotated:
        return _annotated(frames, ones)
    if frames.intrinsics_px is not None and frames.pelvis_m is not None:
        placed = joints_m - joints_m[:, :1] + frames.pelvis_m[:, None]
        seen = placed @ frames.intrinsics_px.mT
        ahead = seen[..., 2:] > 0
        return torch.where(ahead, seen[..., :2] / seen[..., 2:], 0.0), ahead[..., 0].float()
    if frames.weak_camera is not None and frames.crop is not None:
        size_px = frames.crop.size_px
        seen = project_weak(joints_m, frames.weak_camera, size_px)[..., :2]
        return frames.crop.to_image(seen), ones
    return _annotated(frames, ones)


def _annotated(
    frames: FieldFrames, ones: Float[Tensor, "n 24"]
) -> tuple[Float[Tensor, "n 24 2"], Float[Tensor, "n 24"]]:
    """The joints `SHARED`; the others have confidence 0."""
    points, confidence = torch.zeros(*ones.shape, 2), torch.zeros_like(ones)
    if frames.keypoints_px is not None and frames.keypoint_set is not None:
        places = list(SMPL_24.indices_of(SHARED))
        named = named_keypoints(frames.keypoints_px, frames.keypoint_set, SHARED)
        points[:, places], confidence[:, places] = named[..., :2], named[..., 2]
    return points, confidence


def coco_of(frames: FieldFrames) -> Float[Tensor, "n 17 3"]:
    """COCO's 17 of the set's 2D keypoints; (0, 0, 0) where unknown."""
    if frames.keypoints_px is None or frames.keypoint_set is None:
        return torch.zeros(len(frames), len(COCO_17), 3)
    return named_keypoints(frames.keypoints_px, frames.keypoint_set, COCO_17.names)


def named_keypoints(
    points: Float[Tensor, "n k 3"], joints: JointSet, names: tuple[str, ...]
) -> Float[Tensor, "n j 3"]:
    """Keypoints by their names; of SPIN's two definitions the annotated one, else OpenPose's."""
    found = torch.zeros(len(points), len(names), 3)
    for place, name in enumerate(names):
        for known in (f"op_{name}", name):
            if known in joints.names:
                column = points[:, joints.index(known)]
                found[:, place] = torch.where(column[:, 2:] > 0, column, found[:, place])
    return found
