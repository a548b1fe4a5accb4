"""The motion of a scene as the report's player takes it: small integers in base64.

A body is its shaped rest mesh with four skinning weights a vertex; a frame is 24 quaternions and a
translation, 204 bytes. The player skins them. Pose blend shapes stay out: on the shipped motion
capture that moves the open body's surface by 0.7 mm in the mean, by 26 mm at worst in the crease of
a bent limb.
"""

import base64
import math
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from flowhmr.body import SMPL_24, BodyModel, BodyParams
from flowhmr.geometry import map_tensors, pick
from flowhmr.records import PersonMotion, SceneMotion

PERSON_COLOURS = (
    "#2f7ed8", "#e8702a", "#1a9e77", "#c45fa8", "#d9a400", "#4fb3e0", "#8a63c9", "#a3663f",
)  # fmt: skip
"""People in their order, again from the first after the last: the overlay's hues, dark and bright
enough for thin curves on light and dark ground."""

ROTATION_STEPS, WEIGHT_STEPS = 32767, 255
"""What 1 is in the integers of quaternions and of weights."""

_LOOKED_AT = 64
"""Of how many frames of a person the ground is found."""
_IMAGE_UP = torch.tensor([0.0, -1.0, 0.0])
_STEEPEST_DEG = 50.0
"""A mean body that leans further from the image's own vertical says nothing of the camera: people
lie, or do cartwheels."""
_GUESSED_HEIGHT_M, _GUESSED_DEPTH_M = 1.5, 4.0
"""Where the ground is when nobody stands on it: below the camera, and its middle before it."""


def player_scene(scene: SceneMotion, body: BodyModel) -> dict[str, object]:
    """All that the player needs, ready for JSON; arrays are base64 of little-endian numbers.

    Args:
        scene: people in camera axes, metres.
        body: whose parameters they are.

    Raises:
        BodyIdentityError: a person has another body.
        ValueError: a pose, a shape or a translation is not finite.
    """
    body = body.to("cpu")
    scene = replace(scene, people=tuple(map_tensors(p, _on_cpu) for p in scene.people))
    for person in scene.people:
        body.check_identity(f"report, person {person.person}", person.params.body_id)
        _check_finite(person)
    return {
        "version": 1,
        "times_s": _packed(scene.times_s.cpu().numpy(), "<f4"),
        "size_px": list(scene.size_px),
        "focal_px": float(scene.camera.focal_px),
        "centre_px": scene.camera.centre_px.tolist(),
        "world_from_camera": level_world(scene, body).flatten().tolist(),
        "body": _packed_body(body),
        "people": [_packed_person(p, i, body) for i, p in enumerate(scene.people)],
    }


def level_world(scene: SceneMotion, body: BodyModel) -> Float[Tensor, "3 4"]:
    """Camera axes -> a level world: Y up, the ground at y = 0, Z towards the camera, metres.

    A video does not say where down is. Up is the mean direction from feet to neck, the ground is
    where the lowest points of the bodies mostly are, the origin lies on it amid the people. On the
    shipped motion capture up is wrong by 1.4 degrees in the median, by 7 in a tenth.
    """
    if not scene.people:
        rotmat = _level_rotmat(_IMAGE_UP)
        origin_m = torch.tensor([0.0, _GUESSED_HEIGHT_M, _GUESSED_DEPTH_M])
        return torch.cat([rotmat, -(rotmat @ origin_m)[:, None]], 1)
    looks = [_some_frames(person) for person in scene.people]
    joints_cam = torch.cat([body.joints(p) + t_m[:, None] for p, t_m in looks])
    rotmat = _level_rotmat(_up(joints_cam))
    pelvises = joints_cam[:, SMPL_24.index("pelvis")] @ rotmat.T
    lowest = [((body.mesh(p).verts + t_m[:, None]) @ rotmat[1]).amin(1) for p, t_m in looks]
    origin = (pelvises.amin(0) + pelvises.amax(0)) / 2
    origin[1] = torch.cat(lowest).quantile(0.3)
    return torch.cat([rotmat, -origin[:, None]], 1)


def _up(joints_cam: Float[Tensor, "n 24 3"]) -> Float[Tensor, "3"]:
    feet = joints_cam[:, list(SMPL_24.indices_of(("left_foot", "right_foot")))].mean(1)
    trunks = torch.nn.functional.normalize(joints_cam[:, SMPL_24.index("neck")] - feet, dim=-1)
    mean = torch.nn.functional.normalize(trunks.mean(0), dim=0)
    least = math.cos(math.radians(_STEEPEST_DEG))
    return mean if float(mean @ _IMAGE_UP) > least else _IMAGE_UP


def _level_rotmat(up: Float[Tensor, "3"]) -> Float[Tensor, "3 3"]:
    """Rows are the world's axes in the camera's: right, up, towards the camera."""
    towards = torch.tensor([0.0, 0.0, -1.0])
    if abs(float(towards @ up)) > 0.999:
        towards = torch.tensor([0.0, 1.0, 0.0])
    towards = torch.nn.functional.normalize(towards - (towards @ up) * up, dim=0)
    return torch.stack([torch.linalg.cross(up, towards), up, towards])


def _some_frames(person: PersonMotion) -> tuple[BodyParams, Float[Tensor, "n 3"]]:
    count = min(len(person), _LOOKED_AT)
    rows = torch.linspace(0, len(person) - 1, count).round().long()
    return pick(person.params, rows), person.translation_m[rows]


def _on_cpu(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu()


def _check_finite(person: PersonMotion) -> None:
    named = (
        ("rotations", person.params.rotmats),
        ("shape", person.params.betas),
        ("translation", person.translation_m),
    )
    for name, values in named:
        bad = (~values.flatten(1).isfinite().all(1)).nonzero().flatten()
        if len(bad):
            raise ValueError(
                f"report: got a {name} of person {person.person} that is not finite in frame "
                f"{int(person.frame_indices[bad[0]])}; expected numbers; leave such frames out"
            )


def _packed_body(body: BodyModel) -> dict[str, object]:
    bits = 16 if len(body.v_template) <= 2**16 else 32
    bones, weights = _four_weights(body.weights.numpy())
    return {
        "joints": list(SMPL_24.names),
        "parents": list(SMPL_24.parents or ()),
        "index_bits": bits,
        "faces": _packed(body.faces.numpy(), f"<u{bits // 8}"),
        "bones": _packed(bones, "u1"),
        "weights": _packed(weights, "u1"),
    }


def _four_weights(
    weights: Float[np.ndarray, "v 24"],
) -> tuple[Shaped[np.ndarray, "v 4"], Shaped[np.ndarray, "v 4"]]:
    """The four largest weights as shares of 255 that add up to it, largest first."""
    bones = np.argsort(-weights, 1, kind="stable")[:, :4]
    kept = np.take_along_axis(weights, bones, 1).astype(np.float64)
    steps = np.round(WEIGHT_STEPS * kept / kept.sum(1, keepdims=True))
    steps[:, 0] += WEIGHT_STEPS - steps.sum(1)
    return bones, steps


def _packed_person(person: PersonMotion, index: int, body: BodyModel) -> dict[str, object]:
    import roma

    shaped = body.shaped(person.params.betas[0].to(body.v_template.dtype))
    rest_joints = body.joint_regressor.double() @ shaped.double()
    # In steps of a 32,767th of the largest coordinate: 0.03 mm of a metre.
    step_m = float(shaped.abs().amax()) / 32767
    quats = roma.rotmat_to_unitquat(person.params.rotmats.double()).numpy()
    return {
        "person": person.person,
        "colour": PERSON_COLOURS[index % len(PERSON_COLOURS)],
        "verts": _packed(np.round(shaped.numpy() / step_m), "<i2"),
        "verts_step_m": step_m,
        "rest_joints_m": [round(x, 6) for x in rest_joints.flatten().tolist()],
        "frames": _packed(person.frame_indices.numpy(), "<i4"),
        "rotations": _packed(np.round(quats * ROTATION_STEPS), "<i2"),
        "translation_m": _packed(person.translation_m.numpy(), "<f4"),
    }


def _packed(array: Shaped[np.ndarray, "..."], kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype=kind).tobytes()).decode()


def packed_values(values: Float[Tensor, "t"]) -> str:
    """A curve's numbers, float32; NaN stays."""
    return _packed(values.detach().cpu().numpy(), "<f4")
