"""Bodies, joints and boxes drawn over images."""

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from flowhmr.body import JointSet
from flowhmr.cameras import Crop, WeakCamera, opencv_from_px, project_weak
from flowhmr.raster import interpolate, rasterise

BODY_RGB = (90, 170, 250)
LEFT_RGB, RIGHT_RGB, MIDDLE_RGB = (60, 200, 90), (240, 120, 40), (240, 230, 80)


def bodies_in_image(
    points_m: Float[Tensor, "t n 3"], camera: WeakCamera, crop: Crop
) -> Float[Tensor, "t n 3"]:
    """Body points of each crop's estimate, brought back to the image the crop was cut from.

    Args:
        points_m: vertices or joints in camera axes, metres.
        camera: weak-perspective cameras ``[t]`` of the crops.
        crop: windows ``[t]``, upright and not mirrored.

    Returns:
        (u, v, depth) in pixels of the image.
    """
    points_px = project_weak(points_m, camera, crop.size_px)
    zoom = crop.side_px / crop.size_px
    depth = points_px[..., 2:] * zoom[:, None, None]
    return torch.cat([crop.to_image(points_px[..., :2]), depth], -1)


def draw_body(
    image: UInt8[np.ndarray, "h w 3"],
    verts_px: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
    rgb: tuple[int, ...] = BODY_RGB,
    opacity: float = 0.75,
) -> UInt8[np.ndarray, "h w 3"]:
    """The image with a shaded body over it; a body outside the image changes nothing."""
    height, width = image.shape[:2]
    left, top = verts_px[:, :2].amin(0).floor().int().tolist()
    right, bottom = verts_px[:, :2].amax(0).ceil().int().tolist()
    left, right = max(left, 0), min(right, width)
    top, bottom = max(top, 0), min(bottom, height)
    out = image.copy()
    if right <= left or bottom <= top:
        return out
    # Only the window around the body is rasterised and mixed.
    here = verts_px - verts_px.new_tensor([left, top, 0])
    fragments = rasterise(here, faces, bottom - top, right - left)
    light = torch.tensor([-0.35, -0.55, -0.75])
    facing = _vertex_normals(here, faces) @ (light / light.norm())
    covered = fragments.face_ids >= 0
    shade = interpolate(fragments, faces, facing[:, None])[covered].clamp(min=0)
    colour = torch.tensor(rgb, dtype=torch.float32) * (0.35 + 0.75 * shade)
    window = torch.from_numpy(out[top:bottom, left:right])
    mixed = opacity * colour.clamp(max=255) + (1 - opacity) * window[covered].float()
    window[covered] = mixed.to(torch.uint8)
    return out


def _vertex_normals(verts: Tensor, faces: Tensor) -> Tensor:
    corners = verts[faces.long()]
    across = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = torch.zeros_like(verts)
    normals.index_add_(0, faces.long().flatten(), across.repeat_interleave(3, 0))
    return torch.nn.functional.normalize(normals, dim=-1)


def draw_joints(
    image: UInt8[np.ndarray, "h w 3"],
    joints_px: Float[Tensor, "j 2"],
    joints: JointSet,
    thickness_px: int = 2,
) -> UInt8[np.ndarray, "h w 3"]:
    """The image with a skeleton over it: left green, right orange; NaN joints are left out."""
    out = image.copy()
    points = opencv_from_px(joints_px).numpy()
    for a, b in joints.edges:
        if np.isfinite(points[[a, b]]).all():
            colour = _side_colour(joints.names[b])
            cv2.line(out, _at(points[a]), _at(points[b]), colour, thickness_px, cv2.LINE_AA)
    return out


def draw_box(
    image: UInt8[np.ndarray, "h w 3"],
    box_px: Float[Tensor, "4"],
    rgb: tuple[int, int, int] = (255, 255, 0),
) -> UInt8[np.ndarray, "h w 3"]:
    """The image with a box (x, y, w, h) over it."""
    out = image.copy()
    x, y, w, h = opencv_from_px(box_px.view(2, 2)).flatten().tolist()
    cv2.rectangle(out, _at(np.array([x, y])), _at(np.array([x + w, y + h])), rgb, 2)
    return out


def _side_colour(name: str) -> tuple[int, int, int]:
    if name.startswith("left"):
        return LEFT_RGB
    return RIGHT_RGB if name.startswith("right") else MIDDLE_RGB


def _at(point: np.ndarray) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))
