"""A person's motion as BVH: the body's 24 joints with the person's own bones, y up, centimetres.

Rotations are written as Z, X, Y (``Rz @ Rx @ Ry``); of the angles that give the same rotation
those nearest to the frame before are taken, so that curves do not jump.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from flowhmr.body import SMPL_24, BodyModel
from flowhmr.capture.export.readings import write_bytes
from flowhmr.capture.export.world import evenly, world_motion
from flowhmr.records import PersonMotion, SceneMotion

CM_PER_M = 100.0
TURNS = "Zrotation Xrotation Yrotation"


def save_bvh(path: Path | str, person: PersonMotion, scene: SceneMotion, body: BodyModel) -> Path:
    """Write one person as BVH; the file appears when it is complete.

    World axes are the camera's turned by pi about X: y up, the camera at the origin looking along
    -z. The file begins with the person's first frame; frames missing in between are interpolated
    (rotations on the shortest arc), and a video of variable frame rate is sampled at its median
    rate, since BVH knows one frame time.

    Args:
        path: a ``.bvh`` file, or a folder that gets ``person-<number>.bvh``; folders are made.
        person: whom to write.
        scene: the video the person was seen in.
        body: the person's body.

    Returns:
        The file.

    Raises:
        BodyIdentityError: the person has another body.
        ValueError: numbers that are not finite, a shape that changes, times that do not increase,
            or a person of another video.
        OSError: the file cannot be written; nothing is left behind.
    """
    path = Path(path)
    if path.suffix.lower() != ".bvh":
        path = path / f"person-{person.person}.bvh"
    motion, step_s = evenly(world_motion(person, scene, body), person, scene)
    tips_m = _tips(person, body, motion.rest_joints_m)
    hierarchy, order = _hierarchy(motion.rest_joints_m * CM_PER_M, tips_m * CM_PER_M)
    lines = [*hierarchy, "MOTION"]
    lines += [f"Frames: {len(motion)}", f"Frame Time: {step_s:.8f}"]
    angles = nearest_zxy_deg(motion.rotmats[:, order]).reshape(len(motion), -1)
    rows = np.concatenate([motion.pelvis_m.numpy() * CM_PER_M, angles], 1)
    pattern = " ".join(["%.4f"] * rows.shape[1])
    # Adding 0 turns -0.0 into 0.0.
    lines += [pattern % tuple(row) for row in (rows.round(4) + 0.0).tolist()]
    return write_bytes(path, "\n".join([*lines, ""]).encode())


def nearest_zxy_deg(rotmats: Float[Tensor, "t j 3 3"]) -> Float[np.ndarray, "t j 3"]:
    """Angles about Z, X, Y in degrees, each frame's nearest to the frame before.

    ``(z, x, y)`` and ``(z + 180, 180 - x, y + 180)`` are the same rotation, as are whole turns.
    """
    import roma

    z, x, y = roma.rotmat_to_euler("ZXY", rotmats.double(), as_tuple=True, degrees=True)
    same = torch.stack([torch.stack([z, x, y], -1), torch.stack([z + 180, 180 - x, y + 180], -1)])
    ways = same.numpy()
    out = ways[0].copy()
    joints = np.arange(out.shape[1])
    for t in range(1, len(out)):
        near = ways[:, t] - 360 * np.round((ways[:, t] - out[t - 1]) / 360)
        out[t] = near[np.abs(near - out[t - 1]).sum(-1).argmin(0), joints]
    return out


def _hierarchy(
    rest_cm: Float[Tensor, "24 3"], tips_cm: Float[Tensor, "24 3"]
) -> tuple[list[str], list[int]]:
    """The lines before ``MOTION``, and the joints in the order in which they come up there.

    A joint without children ends in its tip.
    """
    parents, lines, order = SMPL_24.parents or (), ["HIERARCHY"], []

    def block(head: str, offset_cm: Tensor, depth: int) -> None:
        numbers = " ".join(f"{round(value, 4) + 0.0:.4f}" for value in offset_cm.tolist())
        pad = "\t" * depth
        lines.extend([f"{pad}{head}", f"{pad}{{", f"{pad}\tOFFSET {numbers}"])

    def joint(place: int, depth: int) -> None:
        order.append(place)
        name, pad = SMPL_24.names[place], "\t" * (depth + 1)
        if depth == 0:
            # The root's place is in its channels; an OFFSET would be added to it by some programs.
            block(f"ROOT {name}", torch.zeros(3), depth)
            lines.append(f"{pad}CHANNELS 6 Xposition Yposition Zposition {TURNS}")
        else:
            block(f"JOINT {name}", rest_cm[place] - rest_cm[parents[place]], depth)
            lines.append(f"{pad}CHANNELS 3 {TURNS}")
        children = [child for child, parent in enumerate(parents) if parent == place]
        for child in children:
            joint(child, depth + 1)
        if not children:
            block("End Site", tips_cm[place], depth + 1)
            lines.append(f"{pad}}}")
        lines.append("\t" * depth + "}")

    joint(0, 0)
    return lines, order


def _tips(
    person: PersonMotion, body: BodyModel, rest_joints_m: Float[Tensor, "24 3"]
) -> Float[Tensor, "24 3"]:
    """From each joint to the end of its part in the direction of its bone, metres."""
    verts = body.shaped(person.params.betas[0].to(body.v_template)).cpu().double()
    parts, parents = body.vertex_parts.cpu(), torch.tensor(SMPL_24.parents)
    bones = rest_joints_m - rest_joints_m[parents.clamp(min=0)]
    ways = torch.nn.functional.normalize(bones, dim=-1)
    along = ((verts - rest_joints_m[parts]) * ways[parts]).sum(-1)
    lengths = torch.zeros(len(parents), dtype=along.dtype).scatter_reduce(0, parts, along, "amax")
    return ways * lengths[:, None]
