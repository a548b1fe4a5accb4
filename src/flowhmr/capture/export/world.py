"""A person in the axes other programs expect: y up, looking back at the camera along +z.

Camera axes (X right, Y down, Z away) are turned by pi about X. The camera then stands at the
origin, level, and looks along -z, as glTF's cameras do. Nothing is aligned with the ground.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from flowhmr.body import BodyModel
from flowhmr.capture.export.readings import check_motion
from flowhmr.geometry import axis_angle_from_rotmat, rotmat_from_axis_angle
from flowhmr.records import PersonMotion, SceneMotion


@dataclass(frozen=True, eq=False)
class WorldMotion:
    """A person's motion with y up; float64, on the CPU."""

    times_s: Float[Tensor, "t"]
    """When, from the video's first frame on; strictly increasing even in float32."""
    rotmats: Float[Tensor, "t 24 3 3"]
    """Parent-relative rotations; joint 0 turns the body into the world."""
    pelvis_m: Float[Tensor, "t 3"]
    """Where joint 0 is."""
    rest_joints_m: Float[Tensor, "24 3"]
    """Joints of the person's own shape in T-pose, body axes."""

    def __len__(self) -> int:
        return len(self.times_s)


def to_world(points_cam: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3"]:
    """Points in camera axes with y up; its own inverse."""
    return points_cam * points_cam.new_tensor([1.0, -1.0, -1.0])


def world_motion(person: PersonMotion, scene: SceneMotion, body: BodyModel) -> WorldMotion:
    """The person's own frames, y up.

    Raises:
        BodyIdentityError: the person has another body.
        ValueError: as `check_motion`, or times that do not increase.
    """
    check_motion(person, scene, body)
    video_s = scene.times_s.detach().cpu()
    if not bool((video_s.float().diff() > 0).all()) or not bool(video_s.isfinite().all()):
        raise ValueError(
            "export: got times of frames that do not increase; expected each frame later than the "
            "one before; correct times_s, for example to frame number / frame rate"
        )
    shape = person.params.betas[:1].to(body.v_template)
    still = body.params(body.rest_params(1).rotmats, shape)
    rest_joints_m = body.joints(still)[0].cpu().double()
    rotmats = person.params.rotmats.detach().cpu().double().clone()
    rotmats[:, 0] = to_world(rotmats[:, 0].transpose(-1, -2)).transpose(-1, -2)
    pelvis_m = to_world(rest_joints_m[0] + person.translation_m.detach().cpu().double())
    times_s = video_s.double()[person.frame_indices.cpu()]
    return WorldMotion(times_s, rotmats, pelvis_m, rest_joints_m)


def evenly(
    motion: WorldMotion, person: PersonMotion, scene: SceneMotion
) -> tuple[WorldMotion, float]:
    """The motion at even distances from the person's first frame to the last, without gaps.

    A video with even frames keeps them, and missing ones are interpolated: rotations on the
    shortest arc, the pelvis along a line. A video of variable frame rate is sampled at its median
    rate.

    Returns:
        The motion and the seconds between its frames.
    """
    video_s = scene.times_s.detach().cpu().double()
    even_s = scene.even_step_s
    if even_s is not None:
        first, last = int(person.frame_indices[0]), int(person.frame_indices[-1])
        return sample(motion, video_s[first : last + 1]), even_s
    step_s = 1 / scene.fps
    count = int(float(motion.times_s[-1] - motion.times_s[0]) / step_s + 1e-3) + 1
    steps = torch.arange(count, dtype=torch.float64)
    return sample(motion, motion.times_s[0] + step_s * steps), step_s


def sample(motion: WorldMotion, times_s: Float[Tensor, "q"]) -> WorldMotion:
    """The motion at other times, held beyond its ends."""
    own_s = motion.times_s
    before = (torch.searchsorted(own_s, times_s, right=True) - 1).clamp(0, len(own_s) - 1)
    after = (before + 1).clamp(max=len(own_s) - 1)
    length_s = (own_s[after] - own_s[before]).clamp(min=1e-9)
    share = ((times_s - own_s[before]) / length_s).clamp(0, 1)
    start, end = motion.rotmats[before], motion.rotmats[after]
    way = axis_angle_from_rotmat(start.transpose(-1, -2) @ end)
    return replace(
        motion,
        times_s=times_s,
        rotmats=start @ rotmat_from_axis_angle(share[:, None, None] * way),
        pelvis_m=motion.pelvis_m[before].lerp(motion.pelvis_m[after], share[:, None]),
    )
