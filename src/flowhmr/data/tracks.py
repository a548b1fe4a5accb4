"""Keypoint tracks and the flow around the limbs, as a network of `TrackInput` takes them."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flowhmr.body import COCO_17
from flowhmr.cameras import Crop, View, crop_from_box
from flowhmr.data.boxes import BoxError, PersonTrack, boxes_from_keypoints, smooth_boxes
from flowhmr.records import TrackInput

BONES = tuple(
    COCO_17.indices_of((f"{side}_{a}", f"{side}_{b}"))
    for side in ("left", "right")
    for a, b in (
        ("shoulder", "elbow"), ("elbow", "wrist"), ("shoulder", "hip"), ("hip", "knee"),
        ("knee", "ankle"),
    )
)  # fmt: skip
"""Between whose ends flow is read."""
MIRRORED_BONES = [BONES.index((COCO_17.mirror[a], COCO_17.mirror[b])) for a, b in BONES]
"""For each bone, that of the other side."""
ALONG = (0.2, 0.5, 0.8)
"""Where along a bone."""
ACROSS = (-0.012, 0.012)
"""How far beside it, shares of the crop's width: both sides of a limb say how it turns."""
LIMB_POINTS = len(BONES) * len(ALONG) * len(ACROSS)
MIN_CONFIDENCE = 0.3
CROP_PX = 224
"""Nominal: nothing is cut out but coordinates."""


def limb_points(
    keypoints: Float[Tensor, "*b 17 3"], side: Float[Tensor, "*b"]
) -> tuple[Float[Tensor, "*b p 2"], Bool[Tensor, "*b p"]]:
    """Points on both sides of the limbs, in the order of `BONES`, `ALONG`, `ACROSS`.

    Args:
        keypoints: x, y and confidence, any unit.
        side: width of the person's crop, in that unit.

    Returns:
        The points, and which of them lie on a bone both of whose ends are confident.
    """
    ends = keypoints[..., torch.tensor(BONES), :]
    start, along = ends[..., 0, :2], ends[..., 1, :2] - ends[..., 0, :2]
    length = along.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    across = torch.stack([-along[..., 1], along[..., 0]], -1) / length
    middle = start[..., None, :] + along[..., None, :] * along.new_tensor(ALONG)[:, None]
    reach = across.new_tensor(ACROSS)[:, None] * side[..., None, None, None]
    # bones, along, across
    points = middle[..., None, :] + (across[..., None, :] * reach)[..., None, :, :]
    known = (ends[..., 2] >= MIN_CONFIDENCE).all(-1)
    known = known[..., None].expand(*known.shape, len(ALONG) * len(ACROSS))
    return points.flatten(-4, -2), known.flatten(-2)


def crops_along(keypoints_px: Float[Tensor, "t 17 3"]) -> Crop:
    """A steady crop around the confident keypoints of each frame, upright.

    Between frames in which the person was found, and beyond the first and the last, the box is
    carried over.

    Args:
        keypoints_px: consecutive frames, in pixels of the image; confidence 0 where missing.

    Raises:
        BoxError: too few confident keypoints in all frames.
    """
    boxes_px = boxes_from_keypoints(keypoints_px)
    known = boxes_px.isfinite().all(-1)
    if not bool(known.any()):
        raise BoxError(
            f"keypoints: got {len(keypoints_px)} frames none of which has three confident "
            "keypoints; expected a person; drop this track"
        )
    frames = torch.arange(len(boxes_px))
    carried = [
        np.interp(frames.numpy(), frames[known].numpy(), column.numpy())
        for column in boxes_px[known].T
    ]
    boxes_px = torch.from_numpy(np.stack(carried, -1)).to(boxes_px.dtype)
    track = PersonTrack(0, frames, boxes_px, known.to(boxes_px.dtype), None)
    return crop_from_box(smooth_boxes(track).boxes_px, CROP_PX)


def track_input(
    keypoints_px: Float[Tensor, "t 17 3"],
    crops: Crop,
    limb_flow_px: Float[Tensor, "t p 3"],
    view: View,
) -> TrackInput:
    """One person's consecutive frames as the network takes them.

    Args:
        keypoints_px: in pixels of the image, confidence 0 (all zeros) where nothing was found.
        crops: the crop ``[t]`` of each frame, upright.
        limb_flow_px: flow at the limbs' points until the next frame, pixels of the image, and 1
            where it is known.
        view: the view ``[t]`` of the crops.
    """
    known = keypoints_px[..., 2:] >= MIN_CONFIDENCE
    keypoints = torch.cat([view.see(keypoints_px[..., :2]), keypoints_px[..., 2:]], -1)
    points_px, _ = limb_points(keypoints_px, crops.side_px)
    moved = view.see(points_px + limb_flow_px[..., :2]) - view.see(points_px)
    flow = torch.cat([moved, limb_flow_px[..., 2:]], -1)
    # Nothing in the crop is a quarter of a turn away; what is, is a mistake of the detector's.
    known = known & keypoints.isfinite().all(-1, keepdim=True)
    sure = (limb_flow_px[..., 2:] > 0) & moved.isfinite().all(-1, keepdim=True)
    return TrackInput(
        keypoints=torch.where(known, keypoints, torch.zeros_like(keypoints)),
        flow=torch.where(sure, flow, torch.zeros_like(flow)),
        half=view.half,
        present=known[..., 0].any(-1).to(view.half.dtype),
    )
