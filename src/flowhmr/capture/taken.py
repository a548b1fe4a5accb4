"""What another tool found, taken as the start: where its people stand before our camera, and who of
those found in the video they are."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from flowhmr.body import COCO_17, BodyModel, convert_joints
from flowhmr.cameras import PerspectiveCamera
from flowhmr.capture.lifting import LiftedTrack, LimbFlow, lift_track
from flowhmr.capture.results import ForeignTrack, ResultFileError, seen_px, to_open_body
from flowhmr.data import PersonTrack, boxes_from_keypoints, fill_gaps, smooth_boxes
from flowhmr.geometry import pick
from flowhmr.networks import Lift
from flowhmr.records import PersonMotion

SMPL_PELVIS_M = (-0.0018, -0.2233, 0.0282)
"""Where SMPL's mean body has its pelvis in its own axes, metres, as published skeletons of it say
(the root's offset in PHC's ``smpl_humanoid.xml``). It stays there however the body is turned."""
APART = 0.15
"""Keypoints so far apart, in larger sides of the person's box, are alike by 0.6: bodies of another
size and a tool's mistakes pass, a neighbour does not."""
SAME = 0.3
"""Mean likeness over the common frames from which two tracks are of one person."""
OTHER = 0.05
"""In a frame in which the two are less alike than that, somebody else was found."""
LARGEST = 4.0
"""A body larger than so many images is a mistake."""
CHUNK = 256
"""Frames whose meshes are made at a time."""


@dataclass(frozen=True, eq=False)
class Start:
    """Where the motion of one person begins."""

    track: PersonTrack
    """Where the picture is looked at: keypoints found in the video; in frames without them, those
    of ``motion`` as its camera sees them."""
    motion: PersonMotion | None = None
    """Another tool's, or that of a network of crops, in the frames of ``track``; None: that of the
    network that lifts."""
    found: Bool[Tensor, "t"] | None = None
    """In which frames of ``track`` keypoints were found in the video; None: in all."""

    @property
    def evidence(self) -> PersonTrack:
        """The track with no keypoints but those found in the video."""
        if self.found is None or self.track.keypoints_px is None:
            return self.track
        return replace(self.track, keypoints_px=self.track.keypoints_px * self.found[:, None, None])


def placed(track: ForeignTrack, camera: PerspectiveCamera, body: BodyModel) -> PersonMotion:
    """A tool's poses on our body, before our camera.

    Rotations are copied. The middle of the body's joints comes to lie on the pixel where the tool's
    camera sees it, as far away as makes a metre there as large in the image as it is for the tool.
    With the tool's own perspective camera that is the tool's own place.

    Args:
        track: with poses, and the camera that they are seen by.
        camera: of the video, pixels of the image.
        body: the body that gets the poses, in its mean shape.

    Returns:
        The motion, without frames in which the tool has the body behind the camera.

    Raises:
        ResultFileError: joints only, poses without a camera, or no body before it.
    """
    params = to_open_body(track, body)
    joints_m = body.joints(params)
    own_m = joints_m.mean(1)
    # Where SMPL has the same joints: it turns about its pelvis, and that is not its origin.
    theirs_m = own_m - joints_m[:, 0] + own_m.new_tensor(SMPL_PELVIS_M)
    seen_px, px_per_m = _seen_by_tool(track, theirs_m)
    where_m = before_pinhole(own_m, seen_px, px_per_m, camera)
    ahead = (px_per_m > 0) & where_m.isfinite().all(-1)
    if not bool(ahead.any()):
        raise ResultFileError(
            f"{track.tool}, person {track.person}: got bodies behind the camera in all "
            f"{len(track)} frames; expected some before it; run the tool again"
        )
    motion = PersonMotion(
        track.person, track.frame_indices, params, where_m, torch.ones(len(track))
    )
    return pick(motion, ahead)


def before_pinhole(
    own_m: Float[Tensor, "t 3"],
    seen_px: Float[Tensor, "t 2"],
    px_per_m: Float[Tensor, "t"],
    camera: PerspectiveCamera,
) -> Float[Tensor, "t 3"]:
    """Translations that bring a point of each body to its place before a pinhole camera, metres.

    Args:
        own_m: the point in the body's own axes, turned as the camera's are.
        seen_px: where it is seen in the image.
        px_per_m: how large a metre is there.
        camera: of the image.
    """
    depth_m = (camera.focal_px / px_per_m)[:, None]
    sideways_m = (seen_px - camera.centre_px) / camera.focal_px * depth_m
    return torch.cat([sideways_m, depth_m], -1) - own_m


def _seen_by_tool(
    track: ForeignTrack, points_m: Float[Tensor, "t 3"]
) -> tuple[Float[Tensor, "t 2"], Float[Tensor, "t"]]:
    """Where in the image a tool's camera sees points of its bodies, and pixels per metre there."""
    seen = seen_px(track, points_m[:, None])[:, 0]
    if track.translation_m is not None and track.camera is not None:
        return seen, track.camera.focal_px / (points_m + track.translation_m)[:, 2]
    assert track.weak_camera is not None
    assert track.crop is not None
    return seen, track.weak_camera.scale * track.crop.side_px / 2


def starts_of(
    tracks: list[ForeignTrack],
    found: list[PersonTrack],
    camera: PerspectiveCamera,
    size_px: tuple[int, int],
    body: BodyModel,
) -> list[Start]:
    """The people of a tool's result, each with the keypoints found of him in the video.

    Those whom nobody in the video matches have their own limbs looked at. Those whom the tool does
    not have are left out.

    Args:
        tracks: the tool's; poses, or joints in the image, which the network then lifts.
        found: people with keypoints in the video; they may be other people, or none.
        camera: of the video.
        size_px: width and height of its images.
        body: the body that gets the poses.

    Raises:
        ResultFileError: a person who is in no frame in the picture, or joints without their place
            in it.
    """
    posed = [_in_sight(placed(t, camera, body), t, camera, size_px, body)
             for t in tracks if t.rotmats is not None]  # fmt: skip
    partner = matches([start.track for start in posed], found)
    return [
        *(_joined(s, found[partner[k]]) if k in partner else s for k, s in enumerate(posed)),
        *(_pointed(t, size_px) for t in tracks if t.rotmats is None),
    ]


def _in_sight(
    motion: PersonMotion,
    track: ForeignTrack,
    camera: PerspectiveCamera,
    size_px: tuple[int, int],
    body: BodyModel,
) -> Start:
    """The frames in which the body is in the picture, looked at where its limbs are."""
    points_cam = torch.cat(
        [
            body.keypoints(body.mesh(pick(motion.params, rows)), COCO_17)
            for rows in torch.arange(len(motion)).split(CHUNK)
        ]
    )
    points_px = camera.project(points_cam + motion.translation_m[:, None])[..., :2]
    ahead = points_px.isfinite().all(-1, keepdim=True)
    points_px = torch.where(ahead, points_px, torch.zeros_like(points_px))
    inside = ahead & _inside(points_px, size_px)
    whole_px = boxes_from_keypoints(torch.cat([points_px, ahead.to(points_px.dtype)], -1))
    seen = torch.cat([points_px, inside.to(points_px.dtype)], -1)
    kept = boxes_from_keypoints(seen).isfinite().all(-1)
    kept &= whole_px[:, 2:].amax(-1) < LARGEST * max(size_px)
    if not bool(kept.any()):
        raise _elsewhere(track, size_px)
    seen = torch.where(seen[..., 2:] > 0, seen, torch.zeros_like(seen))
    looked = PersonTrack(
        motion.person, motion.frame_indices, whole_px.nan_to_num(1.0), motion.confidence, seen
    )
    looked = smooth_boxes(pick(looked, kept))
    return Start(looked, pick(motion, kept), torch.zeros(len(looked), dtype=torch.bool))


def _pointed(track: ForeignTrack, size_px: tuple[int, int]) -> Start:
    """Joints in the image, as keypoints."""
    if track.joints_px is None or track.joint_set is None:
        raise ResultFileError(
            f"{track.tool}, person {track.person}: got joints without their place in the image; "
            "expected that too, since it is what the network lifts; write pose_landmarks as well"
        )
    sure = track.joint_confidence
    if sure is None:
        sure = torch.ones_like(track.joints_px[..., 0])
    joints = torch.cat([track.joints_px, sure.clamp(0, 1)[..., None]], -1)
    keypoints_px = convert_joints(joints, track.joint_set, COCO_17)
    inside = _inside(keypoints_px[..., :2], size_px)
    keypoints_px = torch.where(inside, keypoints_px, torch.zeros_like(keypoints_px))
    boxes_px = boxes_from_keypoints(keypoints_px)
    kept = boxes_px.isfinite().all(-1)
    if not bool(kept.any()):
        raise _elsewhere(track, size_px)
    found = PersonTrack(
        track.person, track.frame_indices[kept], boxes_px[kept],
        keypoints_px[kept][..., 2].mean(-1), keypoints_px[kept],
    )  # fmt: skip
    return Start(smooth_boxes(fill_gaps(found)))


def _inside(points_px: Float[Tensor, "t k 2"], size_px: tuple[int, int]) -> Bool[Tensor, "t k 1"]:
    size = points_px.new_tensor(size_px)
    return ((points_px >= 0) & (points_px < size)).all(-1, keepdim=True)


def _elsewhere(track: ForeignTrack, size_px: tuple[int, int]) -> ResultFileError:
    return ResultFileError(
        f"{track.tool}, person {track.person}: got a person who is in none of {len(track)} frames "
        f"in a picture of {size_px[0]} x {size_px[1]}; expected results of this video; give the "
        f"video that {track.tool} was run on, turned as it was there"
    )


def matches(ours: list[PersonTrack], found: list[PersonTrack]) -> dict[int, int]:
    """Which person of one list is which of another, by their keypoints in the common frames.

    One to one, so that most frames agree in all.

    Args:
        ours: people with keypoints.
        found: others.

    Returns:
        Number in the first list -> number in the second; people without a partner miss.
    """
    if not ours or not found:
        return {}
    total = np.zeros((len(ours), len(found)))
    for row, one in enumerate(ours):
        for column, other in enumerate(found):
            like, known = _likeness(one, other)
            if bool(known.any()) and float(like[known].mean()) >= SAME:
                total[row, column] = float(like[known].sum())
    pairs = zip(*linear_sum_assignment(-total), strict=True)
    return {int(r): int(c) for r, c in pairs if total[r, c] > 0}


def _likeness(one: PersonTrack, other: PersonTrack) -> tuple[Float[Tensor, "t"], Bool[Tensor, "t"]]:
    """How near another's keypoints are in each frame of one, 0..1, and in which that is known."""
    assert one.keypoints_px is not None
    theirs_px, there = _keypoints_at(other, one)
    known = (one.keypoints_px[..., 2] >= 0.3) & (theirs_px[..., 2] >= 0.3)
    side_px = one.boxes_px[:, 2:].amax(-1)
    off = (one.keypoints_px[..., :2] - theirs_px[..., :2]).norm(dim=-1) / (APART * side_px[:, None])
    like = (torch.exp(-0.5 * off.square()) * known).sum(-1) / known.sum(-1).clamp(min=1)
    return like, there & (known.sum(-1) >= 3)


def _keypoints_at(
    found: PersonTrack, track: PersonTrack
) -> tuple[Float[Tensor, "t 17 3"], Bool[Tensor, "t"]]:
    """Keypoints of one person in the frames of another, zeros elsewhere, and where there are some.

    Fewer than make a box are none.
    """
    assert found.keypoints_px is not None
    rows = torch.searchsorted(found.frame_indices, track.frame_indices)
    rows = rows.clamp(max=len(found) - 1)
    keypoints_px = found.keypoints_px[rows]
    there = found.frame_indices[rows] == track.frame_indices
    there = there & boxes_from_keypoints(keypoints_px).isfinite().all(-1)
    return torch.where(there[:, None, None], keypoints_px, 0.0), there


def _joined(start: Start, found: PersonTrack) -> Start:
    """A start whose keypoints are those found in the video, in the frames where they are."""
    track = start.track
    like, _ = _likeness(track, found)
    keypoints_px, there = _keypoints_at(found, track)
    there = there & (like >= OTHER)
    assert track.keypoints_px is not None
    boxes_px = torch.where(
        there[:, None], boxes_from_keypoints(keypoints_px).nan_to_num(1.0), track.boxes_px
    )
    keypoints_px = torch.where(there[:, None, None], keypoints_px, track.keypoints_px)
    joined = replace(track, boxes_px=boxes_px, keypoints_px=keypoints_px)
    return replace(start, track=smooth_boxes(joined), found=there)


def begun(
    start: Start,
    limbs: LimbFlow,
    network: Lift,
    camera: PerspectiveCamera,
    fps: float | Float[Tensor, "t"],
    body: BodyModel,
) -> LiftedTrack:
    """The motion that a person starts with, and which feet stand.

    The network lifts what is seen. Where somebody else has the motion, that is taken, and of the
    network's answer only the feet.

    Args:
        start: the person.
        limbs: flow along the frames of ``start.track``.
        network, camera, fps, body: as `lift_track` takes them.
    """
    lifted = lift_track(network, start.track, limbs, camera, fps, body)
    if start.motion is None:
        return lifted
    stands = torch.zeros(len(start.motion), lifted.stands.shape[-1])
    stands[torch.isin(start.motion.frame_indices, lifted.motion.frame_indices)] = lifted.stands
    return LiftedTrack(start.motion, stands)
