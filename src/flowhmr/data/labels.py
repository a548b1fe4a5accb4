"""Labels follow their image through a crop."""

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from flowhmr.body import SMPL_24, BodyParams, mirror_rotmats
from flowhmr.cameras import Crop
from flowhmr.records import Labels


def labels_in_crop(
    labels: Labels, crop: Crop, surface: UInt8[Tensor, "*b h w 4"] | None = None
) -> Labels:
    """Labels of an image, for a crop of it; leading axes of both are the same.

    The picture's turn turns the body about the view axis, its mirroring swaps left and right.
    A surface map is an image: its crop is given, see `surface_in_crop`.
    """
    turn = _about_view_axis(crop.angle_rad)
    rotmats = labels.params.rotmats.clone()
    rotmats[..., 0, :, :] = turn @ rotmats[..., 0, :, :]
    pivot = labels.joints_m[..., :1, :]
    joints_m = (labels.joints_m - pivot) @ turn.transpose(-1, -2) + pivot
    keypoints_px = crop.to_crop(labels.keypoints_px)
    confidence = labels.keypoint_confidence

    swap = list(SMPL_24.mirror)
    mirrored = crop.mirrored > 0.5
    flip = joints_m.new_tensor([-1.0, 1.0, 1.0])
    joints_m = torch.where(mirrored[..., None, None], joints_m[..., swap, :] * flip, joints_m)
    rotmats = torch.where(mirrored[..., None, None, None], mirror_rotmats(rotmats), rotmats)
    keypoints_px = torch.where(mirrored[..., None, None], keypoints_px[..., swap, :], keypoints_px)
    confidence = torch.where(mirrored[..., None], confidence[..., swap], confidence)
    params = BodyParams(rotmats, labels.params.betas, labels.params.body_id)
    return Labels(params, joints_m, keypoints_px, confidence, surface, labels.has_body)


def _about_view_axis(angle_rad: Float[Tensor, "*b"]) -> Float[Tensor, "*b 3 3"]:
    cos, sin = torch.cos(angle_rad), torch.sin(angle_rad)
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    rows = [[cos, -sin, zero], [sin, cos, zero], [zero, zero, one]]
    return torch.stack([torch.stack(r, -1) for r in rows], -2)


def surface_in_crop(
    surface: UInt8[np.ndarray, "h w 4"], crop: Crop, image_px: int, cells: int
) -> UInt8[np.ndarray, "c c 4"]:
    """The surface map of a square image, cut as ``crop`` cuts the image.

    Args:
        surface: map of the whole image.
        crop: one window, no leading axes.
        image_px: width of the image.
        cells: width of the result.
    """
    matrix = crop.affine().double().numpy()
    matrix[:, :2] *= image_px / surface.shape[1]
    matrix *= cells / crop.size_px
    matrix[:, 2] += matrix[:, :2] @ np.array([0.5, 0.5]) - 0.5
    out = cv2.warpAffine(surface, matrix, (cells, cells), flags=cv2.INTER_NEAREST)
    if crop.mirrored > 0.5:
        # The mirror image of a body's left is seen as a right.
        out[..., 0] = np.where(out[..., 3] > 0, 255 - out[..., 0], 0)
    return out
