"""Everybody in a video as one animated, skinned GLB: opens in Blender, three.js, game engines.

Axes are glTF's (y up, metres); the camera stands at the origin and looks along -z. Each person
is a group of joints, a skin with the four largest influences of each vertex, and the mesh of the
person's own shape in T-pose. Pose-dependent blend shapes are left out.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8
from torch import Tensor

from flowhmr.body import SMPL_24, BodyModel
from flowhmr.capture.export.glb import GlbFile
from flowhmr.capture.export.readings import check_scene, write_bytes
from flowhmr.capture.export.world import WorldMotion, world_motion
from flowhmr.records import PersonMotion, SceneMotion, gaps_in

INFLUENCES = 4
NEAREST_M = 0.05
COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#0072b2", "#d55e00", "#999999")
"""sRGB, one a person; told apart with any colour vision (Okabe and Ito)."""


def save_glb(path: Path | str, scene: SceneMotion, body: BodyModel) -> Path:
    """Write everybody's motion as a GLB; the file appears when it is complete.

    One animation with the video's times: rotations of all joints and the pelvis's place, linear
    in between (rotations on the arc). A person is shown during each unbroken stretch of frames,
    up to the frame after it; elsewhere the person's group has scale 0.

    Args:
        path: the file, by custom ``.glb``; its folder is made.
        scene: the motion, camera axes, metres.
        body: the body of its people.

    Returns:
        The path.

    Raises:
        BodyIdentityError: a person has another body.
        ValueError: numbers that are not finite, a person whose shape changes, or times that do
            not increase.
        OSError: the file cannot be written; nothing is left behind.
    """
    check_scene(scene, body)
    notes = {"body_id": body.body_id, "frames_per_second": round(scene.fps, 4)}
    file = GlbFile(generator="flowhmr", extras=notes)
    roots, animation = [_camera(file, scene)], _Animation(file)
    skinning = _skinning(file, body) if scene.people else None
    for place, person in enumerate(scene.people):
        name, motion = f"person-{person.person}", world_motion(person, scene, body)
        joints = _joints(file, motion)
        group = file.add("nodes", name=name, children=[joints[0]])
        skin = file.add(
            "skins",
            name=name,
            joints=joints,
            skeleton=joints[0],
            inverseBindMatrices=file.table(_inverse_bind(motion.rest_joints_m)),
        )
        material = _material(file, name, COLOURS[place % len(COLOURS)])
        primitive = {"material": material, "attributes": _surface(file, person, body)}
        if skinning is not None:
            primitive["indices"] = skinning.triangles
            primitive["attributes"] |= {"JOINTS_0": skinning.joints, "WEIGHTS_0": skinning.weights}
        mesh = file.add("meshes", name=name, primitives=[primitive])
        # At the root of the scene: glTF moves a skinned mesh with its joints alone.
        roots += [group, file.add("nodes", name=f"{name}-body", mesh=mesh, skin=skin)]
        _move(animation, motion, joints)
        _show(animation, person, scene, group)
    animation.finish()
    file.document["scene"] = file.add("scenes", name="video", nodes=roots)
    return write_bytes(Path(path), file.content())


def largest_influences(
    weights: Float[Tensor, "v 24"],
) -> tuple[UInt8[np.ndarray, "v 4"], Float32[np.ndarray, "v 4"]]:
    """The joints that each vertex follows most and how much, largest first, summing to one.

    Influences of no weight name joint 0, as the Khronos validator asks.
    """
    kept, joints = weights.detach().cpu().double().topk(INFLUENCES, -1)
    kept = (kept / kept.sum(-1, keepdim=True)).float()
    # What rounding to float32 leaves over goes to the largest.
    kept[:, 0] = (1 - kept[:, 1:].double().sum(-1)).float()
    joints = torch.where(kept > 0, joints, 0)
    return joints.to(torch.uint8).numpy(), kept.numpy()


def unit_quaternions(rotmats: Float[Tensor, "t *j 3 3"]) -> Float32[np.ndarray, "t *j 4"]:
    """Rotations as (x, y, z, w), of signs such that each frame is nearest to the one before."""
    import roma

    turns = roma.rotmat_to_unitquat(rotmats.double())
    same = torch.where((turns[1:] * turns[:-1]).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    turns[1:] *= same.cumprod(0)
    return torch.nn.functional.normalize(turns, dim=-1).float().numpy()


class _Animation:
    """The curves of all people, in one animation."""

    def __init__(self, file: GlbFile) -> None:
        self.file = file
        self.channels: list[dict[str, Any]] = []
        self.samplers: list[dict[str, Any]] = []

    def times(self, times_s: np.ndarray) -> int:
        """An accessor to seconds; several curves may share it."""
        return self.file.table(times_s.astype(np.float32), bounds=True)

    def curve(
        self, node: int, path: str, times: int, values: np.ndarray, how: Literal["LINEAR", "STEP"]
    ) -> None:
        """How a property of a node goes along its times."""
        output = self.file.table(values.astype(np.float32))
        self.samplers.append({"input": times, "output": output, "interpolation": how})
        target = {"node": node, "path": path}
        self.channels.append({"sampler": len(self.samplers) - 1, "target": target})

    def finish(self) -> None:
        """Add the animation to the file, unless nobody moves."""
        if self.channels:
            parts = {"channels": self.channels, "samplers": self.samplers}
            self.file.add("animations", name="motion", **parts)


@dataclass(frozen=True)
class _Skinning:
    """Accessors that all people share."""

    triangles: int
    """Vertex numbers."""
    joints: int
    """Four joints a vertex."""
    weights: int
    """How much the vertex follows each."""


def _skinning(file: GlbFile, body: BodyModel) -> _Skinning:
    joints, weights = largest_influences(body.weights)
    # No vertex may have the largest number of the type: it would begin a new strip.
    kind = np.uint16 if len(body.v_template) < 2**16 else np.uint32
    return _Skinning(
        file.table(body.faces.cpu().numpy().astype(kind).reshape(-1), "indices"),
        file.table(joints, "vertices"),
        file.table(weights, "vertices"),
    )


def _camera(file: GlbFile, scene: SceneMotion) -> int:
    """The video's camera, as if its principal point were the middle of the picture."""
    width, height = scene.size_px
    lens = {
        "yfov": 2 * math.atan(height / 2 / float(scene.camera.focal_px)),
        "aspectRatio": width / height,
        "znear": NEAREST_M,
    }
    camera = file.add("cameras", name="video", type="perspective", perspective=lens)
    return file.add("nodes", name="camera", camera=camera)


def _joints(file: GlbFile, motion: WorldMotion) -> list[int]:
    """A node a joint, in the pose of the person's first frame."""
    turns = unit_quaternions(motion.rotmats[:1])[0]
    parents, first = SMPL_24.parents or (), len(file.document.setdefault("nodes", []))
    for place, name in enumerate(SMPL_24.names):
        offset = motion.rest_joints_m[place] - motion.rest_joints_m[parents[place]]
        where = {"translation": offset.tolist() if place else motion.pelvis_m[0].tolist()}
        children = [first + child for child, parent in enumerate(parents) if parent == place]
        links = {"children": children} if children else {}
        file.add("nodes", name=name, rotation=turns[place].tolist(), **where, **links)
    return list(range(first, first + len(parents)))


def _inverse_bind(rest_joints_m: Float[Tensor, "24 3"]) -> Float32[np.ndarray, "24 4 4"]:
    """From the body's axes to each joint's, at rest; columns one after another."""
    matrices = np.tile(np.eye(4, dtype=np.float32), (len(rest_joints_m), 1, 1))
    matrices[:, 3, :3] = -rest_joints_m.numpy()
    return matrices


def _surface(file: GlbFile, person: PersonMotion, body: BodyModel) -> dict[str, int]:
    """The person's shape in T-pose: vertices and normals."""
    verts = body.shaped(person.params.betas[0].to(body.v_template)).detach().cpu()
    normals = _normals(verts.double(), body.faces.cpu())
    return {
        "POSITION": file.table(verts.float().numpy(), "vertices", bounds=True),
        "NORMAL": file.table(normals.float().numpy(), "vertices"),
    }


def _normals(verts: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"]) -> Float[Tensor, "v 3"]:
    """Of length one, weighted by the triangles' areas; +z where a vertex has no triangle."""
    a, b, c = verts[faces].unbind(1)
    across = torch.linalg.cross(b - a, c - a)
    normals = torch.zeros_like(verts).index_add(0, faces.T.flatten(), across.repeat(3, 1))
    normals[normals.norm(dim=-1) == 0] = normals.new_tensor([0.0, 0.0, 1.0])
    return torch.nn.functional.normalize(normals, dim=-1)


def _material(file: GlbFile, name: str, colour: str) -> int:
    srgb = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [round(v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4, 4) for v in srgb]
    look = {"baseColorFactor": [*linear, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.8}
    return file.add("materials", name=name, pbrMetallicRoughness=look)


def _move(animation: _Animation, motion: WorldMotion, joints: list[int]) -> None:
    times = animation.times(motion.times_s.numpy())
    animation.curve(joints[0], "translation", times, motion.pelvis_m.numpy(), "LINEAR")
    turns = unit_quaternions(motion.rotmats)
    for place, node in enumerate(joints):
        animation.curve(node, "rotation", times, turns[:, place], "LINEAR")


def _show(animation: _Animation, person: PersonMotion, scene: SceneMotion, group: int) -> None:
    """Scale 0 while the person is away: glTF's way to hide what a skin moves."""
    frames, times_s = person.frame_indices.cpu(), scene.times_s.detach().cpu()
    switches = {0: 0.0}
    for rows in gaps_in(frames):
        switches[int(frames[rows[0]])] = 1.0
        switches[int(frames[rows[-1]]) + 1] = 0.0
    switches.pop(len(times_s), None)
    if len(switches) > 1:
        times = animation.times(times_s[list(switches)].numpy())
        scales = np.repeat([[value] for value in switches.values()], 3, 1)
        animation.curve(group, "scale", times, scales, "STEP")
