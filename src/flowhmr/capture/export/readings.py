"""What all exports hold of a person: one shape, poses, joints; and what none of them may hold."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from flowhmr.body import BodyModel, BodyParams
from flowhmr.cameras import PerspectiveCamera
from flowhmr.geometry import axis_angle_from_rotmat
from flowhmr.records import PersonMotion, SceneMotion
from flowhmr.synth import write_whole


@dataclass(frozen=True, eq=False)
class Readings:
    """What users of a file want to read without the body at hand."""

    pose: Float[Tensor, "t 72"]
    """Axis-angle of each joint in SMPL's order, radians; joint 0 turns the body into camera
    axes."""
    joints_m: Float[Tensor, "t 24 3"]
    """Where the joints are, camera axes, metres."""
    joints_px: Float[Tensor, "t 24 2"]
    """The joints in the image; not finite for joints behind the camera."""


def check_motion(person: PersonMotion, scene: SceneMotion, body: BodyModel) -> None:
    """Refuse what no file should hold.

    Raises:
        BodyIdentityError: the person has another body.
        ValueError: numbers that are not finite, a shape that changes, or frames that the scene's
            video does not have.
    """
    where = f"export of person {person.person}"
    body.check_identity(where, person.params.body_id)
    numbers = {
        "rotations": person.params.rotmats,
        "betas": person.params.betas,
        "translation_m": person.translation_m,
        "confidence": person.confidence,
    }
    for name, values in numbers.items():
        bad = (~values.isfinite()).reshape(len(person), -1).any(-1).nonzero()
        if len(bad):
            raise ValueError(
                f"{where}: got {name} that are not finite in frame "
                f"{int(person.frame_indices[bad[0, 0]])}; expected numbers; leave the frame out "
                "or fill it in"
            )
    if not torch.equal(person.params.betas, person.params.betas[:1].expand_as(person.params.betas)):
        raise ValueError(
            f"{where}: got betas that change along the video; expected one shape a person; give "
            "all frames the mean of the betas"
        )
    if int(person.frame_indices[-1]) >= len(scene.times_s):
        raise ValueError(
            f"{where}: got frame {int(person.frame_indices[-1])}; expected frames of the scene's "
            f"video of {len(scene.times_s)}; give the scene that the person belongs to"
        )


def check_scene(scene: SceneMotion, body: BodyModel) -> None:
    """`check_motion` for everybody; the camera and the times are finite too."""
    camera = scene.camera
    for name, values in {
        "times_s": scene.times_s,
        "focal_px": camera.focal_px,
        "centre_px": camera.centre_px,
    }.items():
        if not bool(values.isfinite().all()):
            raise ValueError(f"export: got {name} that are not finite; expected numbers")
    for person in scene.people:
        check_motion(person, scene, body)


def params_on(body: BodyModel, params: BodyParams) -> BodyParams:
    """The parameters in the body's type, on its device."""
    return body.params(params.rotmats.to(body.v_template), params.betas.to(body.v_template))


def readings(person: PersonMotion, scene: SceneMotion, body: BodyModel) -> Readings:
    """Poses and joints of a person, on the CPU."""
    joints = body.joints(params_on(body, person.params))
    joints_m = joints.cpu() + person.translation_m.cpu()[:, None].to(joints.dtype)
    camera = PerspectiveCamera(
        scene.camera.focal_px.to(joints_m), scene.camera.centre_px.to(joints_m)
    )
    pose = axis_angle_from_rotmat(person.params.rotmats.cpu()).flatten(-2)
    return Readings(pose, joints_m, camera.project(joints_m)[..., :2])


def write_bytes(path: Path, content: bytes) -> Path:
    """A file that appears when it is complete; its folder is made."""

    def save(temporary: Path) -> None:
        temporary.write_bytes(content)

    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, save)
    return path
