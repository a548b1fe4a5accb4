"""From keypoint tracks and a video to bodies in metres: flow at the limbs, the network."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from flowhmr.body import BodyModel, BodyParams
from flowhmr.cameras import (
    Crop,
    PerspectiveCamera,
    View,
    WeakCamera,
    crop_from_box,
    translation_from_weak,
    view_of,
    warp_image,
)
from flowhmr.data import (
    LIMB_POINTS,
    Journal,
    PersonTrack,
    VideoFrame,
    boxes_from_keypoints,
    crops_along,
    limb_points,
    packed,
    track_input,
    unpacked,
    without_mistakes,
)
from flowhmr.flow import FlowEstimator, estimate_pair, sample_masked_flow
from flowhmr.geometry import collate, map_tensors, to_device
from flowhmr.networks import Lift
from flowhmr.records import Estimate, Lifted, PersonMotion, gaps_in

FLOW_PX = 224
"""Width and height of the window in which flow is estimated."""
FPS = 30.0
"""Frames per second of the tracks that the network was trained on."""


@dataclass(frozen=True, eq=False)
class LimbFlow:
    """The flow around a person's limbs along a video."""

    flow_px: Float[Tensor, "n p 3"]
    """For each of the person's frames: flow at `flowhmr.data.limb_points` until the next frame of
    the video, pixels of the image, and 1 where it is known; zeros elsewhere."""


def limb_flows(
    video: Iterable[VideoFrame],
    tracks: list[PersonTrack],
    estimator: FlowEstimator,
    on_frame: Callable[[int], None] | None = None,
    journal: Journal | None = None,
) -> list[LimbFlow]:
    """Flow around the limbs of several people, in one pass over the video.

    Args:
        video: its frames, in order.
        tracks: people with keypoints.
        estimator: of the flow.
        on_frame: told the number of each frame that was read.
        journal: of the same video, people and estimator; what is in it is not estimated again.

    Raises:
        ValueError: a track without keypoints.
    """
    rows = [{int(f): r for r, f in enumerate(track.frame_indices)} for track in tracks]
    found = [torch.zeros(len(track.frame_indices), LIMB_POINTS, 3) for track in tracks]
    journal = Journal(None, {}) if journal is None else journal
    before: VideoFrame | None = None
    for frame in video:
        if before is not None and frame.index == before.index + 1:
            known = journal.row(before.index)
            if known is None:
                known = {
                    str(number): packed(_one(track, [row[before.index], row[frame.index]],
                                             before, frame, estimator))
                    for number, (track, row) in enumerate(zip(tracks, rows, strict=True))
                    if before.index in row and frame.index in row
                }  # fmt: skip
                journal.add(before.index, known)
            for number, flow_px in known.items():
                at = rows[int(number)][before.index]
                found[int(number)][at] = unpacked(flow_px, LIMB_POINTS, 3)
        before = frame
        if on_frame is not None:
            on_frame(frame.index)
    return [LimbFlow(flow_px) for flow_px in found]


def _one(
    track: PersonTrack,
    rows: list[int],
    before: VideoFrame,
    after: VideoFrame,
    estimator: FlowEstimator,
) -> Float[Tensor, "p 3"]:
    if track.keypoints_px is None:
        raise ValueError(
            f"person {track.person}: got a track without keypoints; expected some; give "
            "--people.keypoints or a detector"
        )
    crops = crop_from_box(track.boxes_px[rows], FLOW_PX)
    points_px, known = limb_points(track.keypoints_px[rows[0]], crops.side_px[0])
    if not bool(known.any()):
        return torch.zeros(LIMB_POINTS, 3)
    still = torch.zeros(())
    window = Crop(crops.centre_px.mean(0), crops.side_px.amax(), still, still, FLOW_PX)
    flow = estimate_pair(
        estimator, warp_image(before.image, window), warp_image(after.image, window)
    )
    there, trusted = sample_masked_flow(
        flow.forward[None], flow.forward_valid[None], window.to_crop(points_px)[None]
    )
    # Of the window's pixels, back to those of the image.
    moved_px = there[0] * (window.side_px / FLOW_PX)
    trusted = trusted[0] & known
    moved_px = torch.where(trusted[:, None], moved_px, torch.zeros_like(moved_px))
    return torch.cat([moved_px, trusted[:, None].to(moved_px.dtype)], -1)


def corrected(track: PersonTrack, limbs: LimbFlow) -> tuple[PersonTrack, LimbFlow]:
    """The same with what the detector mistook put right (`flowhmr.data.without_mistakes`)."""
    assert track.keypoints_px is not None
    side_px = crop_from_box(track.boxes_px, FLOW_PX).side_px
    keypoints_px, flow_px = without_mistakes(
        track.keypoints_px, limbs.flow_px, track.frame_indices, side_px
    )
    return replace(track, keypoints_px=keypoints_px), LimbFlow(flow_px)


@dataclass(frozen=True, eq=False)
class LiftedTrack:
    """What the network says of one person along a video."""

    motion: PersonMotion
    """In metres before the video's camera."""
    stands: Float[Tensor, "t 4"]
    """For each frame of the motion, how likely each of the joints `flowhmr.records.FEET` stands in
    the world, 0..1."""


@torch.no_grad()
def lift_track(
    network: Lift,
    track: PersonTrack,
    limbs: LimbFlow,
    camera: PerspectiveCamera,
    fps: float | Float[Tensor, "t"],
    body: BodyModel,
) -> LiftedTrack:
    """One person's motion before the camera, stretch by stretch of consecutive frames.

    The shape is the mean over all frames, weighted by how many keypoints were seen.

    Args:
        network: lifts; in evaluation mode, on any device.
        track: with keypoints.
        limbs: flow along the same frames.
        camera: of the video, pixels of the image.
        fps: frames per second of the video, or after each frame of the track, where they change;
            the network knows 30, its flow is scaled to that.
        body: the body that the network estimates.
    """
    body.check_identity("network", network.body_id)
    assert track.keypoints_px is not None
    device = next(network.parameters()).device
    rate = torch.as_tensor(fps, dtype=torch.float32).expand(len(track.frame_indices)) / FPS
    parts: list[Lifted] = []
    views: list[View] = []
    kept: list[Tensor] = []
    for rows in gaps_in(track.frame_indices):
        keypoints_px = track.keypoints_px[rows]
        if bool(boxes_from_keypoints(keypoints_px).isnan().all()):
            continue
        crop = crops_along(keypoints_px)
        view = view_of(crop, camera)
        flow_px = limbs.flow_px[rows].clone()
        flow_px[..., :2] *= rate[rows, None, None]
        told = track_input(keypoints_px, crop, flow_px, view)
        found = network(to_device(collate([told]), device))
        parts.append(map_tensors(found, lambda t: t[0].cpu()))
        views.append(view)
        kept.append(rows)
    if not parts:
        raise ValueError(
            f"person {track.person}: got no frame with confident keypoints; expected some; drop "
            "this person"
        )
    rows = torch.cat(kept)
    weight = track.keypoints_px[rows][..., 2].sum(-1, keepdim=True).clamp(min=1e-3)
    betas = torch.cat([p.bodies.params.betas for p in parts])
    betas = (betas * weight).sum(0) / weight.sum()
    placed = [
        before_camera(part.bodies, betas, view, body)
        for part, view in zip(parts, views, strict=True)
    ]
    shape = betas.expand(len(rows), -1).contiguous()
    motion = PersonMotion(
        track.person,
        track.frame_indices[rows],
        BodyParams(torch.cat([rotmats for rotmats, _ in placed]), shape, body.body_id),
        torch.cat([translation_m for _, translation_m in placed]),
        track.confidence[rows],
    )
    return LiftedTrack(motion, torch.cat([p.stands for p in parts]).sigmoid())


def before_camera(
    bodies: Estimate, betas: Float[Tensor, "k"], view: View, body: BodyModel
) -> tuple[Float[Tensor, "t 24 3 3"], Float[Tensor, "t 3"]]:
    """Bodies seen by weak cameras of views, before the image's camera.

    At the body's depth a metre is as large in the view of a pinhole camera as in the weak one, and
    its origin falls on the same place.

    Args:
        bodies: ``[t]``, in the axes of the views.
        betas: the shape that they are to have.
        view: the views ``[t]``.
        body: whose parameters they are.

    Returns:
        Rotations, joint 0 into camera axes, and translations in metres.
    """
    rotmats, camera = bodies.params.rotmats, bodies.camera.params
    weak = WeakCamera(torch.cat([camera[:, :1].clamp(min=1e-6), camera[:, 1:]], -1))
    # A view is a picture two half-widths wide.
    placed_m = translation_from_weak(weak, 1 / view.half, 2)
    back = view.rotmats.mT
    turned = torch.cat([(back @ rotmats[:, 0])[:, None], rotmats[:, 1:]], 1)
    shape = betas.expand(len(rotmats), -1).contiguous()
    ahead_m = body.joints(body.params(rotmats, shape)) + placed_m[:, None]
    own_m = body.joints(body.params(turned, shape))
    # A body turns about its pelvis, which is not its origin.
    return turned, (ahead_m @ view.rotmats - own_m).mean(1)


def default_camera(size_px: tuple[int, int], focal_px: float = 0.0) -> PerspectiveCamera:
    """The camera of a video that does not say which it was.

    Args:
        size_px: width and height of the images.
        focal_px: focal length, if it is known; 0 takes the images' diagonal (a field of view of 53
            degrees across it), which is near what phones have.

    Raises:
        ValueError: it is negative, or no number.
    """
    if not 0 <= focal_px < float("inf"):
        raise ValueError(
            f"focal length: got {focal_px} pixels; expected one above 0, or 0 for the diagonal of "
            "the images; see --config.focal-px"
        )
    width, height = size_px
    focal = focal_px or float(np.hypot(width, height))
    return PerspectiveCamera(torch.tensor(focal), torch.tensor([width / 2, height / 2]))
