"""A synthetic clip with everything that is known about it."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from flowhmr.body import BodyModel, BodyParams
from flowhmr.cameras import PerspectiveCamera, WeakCamera, fit_weak_camera
from flowhmr.flow import FlowPair
from flowhmr.raster import visible_vertices
from flowhmr.records import Labels, Sequence
from flowhmr.synth.actors import FPS
from flowhmr.synth.drawing import Drawing, draw
from flowhmr.synth.sensor import Sensor, expose
from flowhmr.synth.stage import Stage, SynthConfig, set_stage
from flowhmr.synth.tensors import draw_torch

BEHIND_M = 0.2
"""A joint this far behind the body's surface is hidden by another limb (Motion HMR, appendix A)."""


@dataclass(frozen=True, eq=False)
class SynthClip:
    """Video of one person and its exact ground truth. Camera axes: X right, Y down, Z away."""

    name: str
    """``synth/<seed>/<index>``."""
    images: UInt8[Tensor, "t h w 3"]
    """RGB, after the camera's electronics."""
    fps: float
    """Frames per second."""
    params: BodyParams
    """Pose ``[t]`` (joint 0 turns the body into camera axes) and shape."""
    translation_m: Float[Tensor, "t 3"]
    """What is added to the body's points to have them in camera axes."""
    camera: PerspectiveCamera
    """The camera ``[t]``, pixels of the images."""
    rotmat_cam_world: Float[Tensor, "t 3 3"]
    """World (y up) to camera axes."""
    centre_world: Float[Tensor, "t 3"]
    """Where the camera is in the world, metres; the ground is at y = 0."""
    weak: WeakCamera
    """Best weak-perspective camera ``[t]`` of the whole image, for the body without translation."""
    weak_residual_px: Float[Tensor, "t"]
    """Root mean square of what that camera misses the vertices by."""
    joints_m: Float[Tensor, "t 24 3"]
    """The chain's joints without the translation, camera axes."""
    joints_px: Float[Tensor, "t 24 2"]
    """Where they are seen."""
    joint_visible: Bool[Tensor, "t 24"]
    """On the image, before all things and not 20 cm behind the body's own surface; never in a
    dropped frame."""
    surface_px: Float[Tensor, "t v 2"]
    """Where the vertices of the dressed body are seen: cloth and hair lifted off the skin."""
    vertex_visible: Bool[Tensor, "t v"]
    """Which of them are seen (hidden by nothing, on the image)."""
    flow: FlowPair
    """Dense flow ``[t-1]`` between neighbouring frames; valid where the point is seen in both
    frames and its motion is known (a background video's is not)."""
    depth_m: Float[Tensor, "t h w"]
    """Z of what each pixel's centre shows; 1e8 and more: sky or nothing."""
    parts: UInt8[Tensor, "t h w"]
    """1 + the joint that the person's surface follows there; 0 elsewhere."""
    people: UInt8[Tensor, "t h w"]
    """1 for the person, 2, 3 for others, 0 elsewhere."""
    dropped: Bool[Tensor, "t"]
    """Frames in which the person counts as lost (Motion HMR's total occlusion): a network's
    features are zero there and its flag is 1. Images stay as they are."""
    text: str
    """What the motion is and where the scene."""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def silhouette(self) -> Bool[Tensor, "t h w"]:
        """Pixels that show the person."""
        return self.people == 1

    def labels(self) -> Labels:
        """What training wants to know, in pixels of the images; hidden joints have weight 0."""
        confidence = self.joint_visible.to(self.joints_px.dtype)
        return Labels(self.params, self.joints_m, self.joints_px, confidence)

    def boxes_px(self) -> Float[Tensor, "t 4"]:
        """The person's box (x, y, w, h): all vertices, whether they are seen or not."""
        low, high = self.surface_px.amin(1), self.surface_px.amax(1)
        return torch.cat([low, high - low], -1)

    def sequence(self) -> Sequence:
        """The clip as video with labels."""
        return Sequence(
            name=self.name,
            person=self.name,
            images=list(self.images.cpu().numpy()),
            times_s=torch.arange(len(self)) / self.fps,
            boxes_px=self.boxes_px(),
            labels=self.labels(),
        )


def synth_clip(
    config: SynthConfig, index: int, body: BodyModel, sensor: Sensor | None = None
) -> SynthClip:
    """Clip ``index`` of a configuration: the same bytes wherever it is made on one kind of CPU.

    Args:
        config: which clips.
        index: number of the clip.
        body: the open body; on a GPU, the clip is made and stays there, the same but for rounding.
        sensor: instead of the clip's own camera electronics; ``Sensor()`` switches them off.

    Raises:
        ValueError: another body; no usable background in the folder of the configuration.
    """
    stage = set_stage(config, index, body)
    device = body.v_template.device
    drawing = draw(stage, body) if device.type == "cpu" else draw_torch(stage, body, device)
    return clip_of(stage, drawing, body, sensor or stage.sensor)


def clip_of(stage: Stage, drawing: Drawing, body: BodyModel, sensor: Sensor) -> SynthClip:
    """The record of a drawn stage, on the device of the drawing and the body."""
    subject, size = stage.actors[0], stage.config.size_px
    device = drawing.images.device

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(device)

    rotmat, centre = tensor(stage.shot.rotmats), tensor(stage.shot.centres_m)
    lens_px, dropped = tensor(stage.shot.lens_px), tensor(stage.dropped)

    def to_camera(points_world: Tensor) -> Tensor:
        return (points_world.double() - centre[:, None]) @ rotmat.transpose(1, 2)

    turned = rotmat.float() @ subject.params.rotmats[:, 0]
    rotmats = torch.cat([turned[:, None], subject.params.rotmats[:, 1:]], 1)
    params = body.params(rotmats, subject.params.betas.contiguous())
    # The pelvis is turned about itself: joints are carried over relative to it.
    joints_cam, joints_m = to_camera(subject.joints_world), body.joints(params).double()
    translation = (joints_cam - joints_m).mean(1)
    weak, residual = _weak_fit(to_camera(subject.verts_world), translation, lens_px, size)
    surface = _project(drawing.dressed_cam[0].double(), lens_px)
    joints_px = _project(joints_cam, lens_px)[..., :2]
    ids, faces, depth_m = drawing.maps.ids, len(body.faces), drawing.maps.depth_m
    subject_here = (ids >= 0) & (ids < faces)
    parts = (body.face_parts[ids.clamp(0, faces - 1).long()] + 1) * subject_here
    people = torch.where(ids >= 0, torch.div(ids, faces, rounding_mode="floor") + 1, 0)
    seen = _joint_visible(joints_px, joints_cam[..., 2], drawing, subject_here)
    sensor = sensor.metered(float(drawing.images[len(stage) // 2].mean()))
    return SynthClip(
        name=f"synth/{stage.config.seed}/{stage.index}",
        images=expose(drawing.images, _shutter_flow(drawing), sensor),
        fps=FPS,
        params=params,
        translation_m=translation.float(),
        camera=PerspectiveCamera(lens_px[:, 0].float(), lens_px[:, 1:].float()),
        rotmat_cam_world=rotmat.float(),
        centre_world=centre.float(),
        weak=weak,
        weak_residual_px=residual,
        joints_m=joints_m.float(),
        joints_px=joints_px.float(),
        joint_visible=seen & ~dropped[:, None],
        surface_px=surface[..., :2].float(),
        vertex_visible=_vertex_visible(surface, body, drawing, subject_here),
        flow=FlowPair(
            drawing.forward, drawing.backward, drawing.forward_valid, drawing.backward_valid
        ),
        depth_m=depth_m,
        parts=parts.to(torch.uint8),
        people=people.to(torch.uint8),
        dropped=dropped,
        text=f"{subject.name} in {stage.backdrop.name if stage.backdrop else stage.place.kind}",
    )


def _project(
    points_cam: Float[Tensor, "t n 3"], lens_px: Float[Tensor, "t 3"]
) -> Float[Tensor, "t n 3"]:
    """(u, v) in pixels and Z in metres."""
    x, y, depth = points_cam.unbind(-1)
    focal_px, x_px, y_px = lens_px.T[..., None]
    return torch.stack([focal_px * x / depth + x_px, focal_px * y / depth + y_px, depth], -1)


def _weak_fit(
    verts_cam: Tensor, translation_m: Tensor, lens_px: Tensor, size: int
) -> tuple[WeakCamera, Tensor]:
    target = _project(verts_cam, lens_px)[..., :2].float()
    verts_m = (verts_cam - translation_m[:, None]).float()
    weak = fit_weak_camera(verts_m, target, size)
    shown = (verts_m[..., :2] * weak.scale[:, None, None] + weak.shift[:, None] + 1) * size / 2
    return weak, (shown - target).square().sum(-1).mean(-1).sqrt()


def _at_pixels(maps: Tensor, points_px: Tensor) -> tuple[Tensor, Tensor]:
    """The value of each frame's map in the pixel that holds a point, and which are inside."""
    height, width = maps.shape[1:]
    x, y = points_px[..., 0], points_px[..., 1]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    column = torch.where(inside, x, 0).long()
    row = torch.where(inside, y, 0).long()
    return maps[torch.arange(len(maps), device=maps.device)[:, None], row, column], inside


def _joint_visible(
    joints_px: Tensor, joints_z_m: Tensor, drawing: Drawing, subject: Tensor
) -> Bool[Tensor, "t 24"]:
    hidden, inside = _at_pixels(drawing.hidden, joints_px)
    surface_m, _ = _at_pixels(drawing.maps.depth_m, joints_px)
    own, _ = _at_pixels(subject, joints_px)
    behind_self = own & (joints_z_m > surface_m + BEHIND_M)
    behind_others = ~own & (joints_z_m > surface_m)
    return inside & ~hidden & ~behind_self & ~behind_others


def _vertex_visible(
    surface: Tensor, body: BodyModel, drawing: Drawing, subject: Tensor
) -> Bool[Tensor, "t v"]:
    """Exact against the body's own surface, to the pixel against everything else."""
    depth_m = drawing.maps.depth_m
    # In pixels near the body, and linear in the image under perspective.
    distance = surface[..., 2].mean(1)[:, None]
    per_metre = (surface[..., :2].amax(1) - surface[..., :2].amin(1)).amax(-1)[:, None]
    flat = torch.cat([surface[..., :2], (-per_metre * distance / surface[..., 2])[..., None]], -1)
    shown = visible_vertices(flat, body.faces, *depth_m.shape[1:])
    hidden, _ = _at_pixels(drawing.hidden, surface)
    own, _ = _at_pixels(subject, surface)
    nearest_m, _ = _at_pixels(depth_m, surface)
    return shown & ~hidden & (own | (surface[..., 2] <= nearest_m))


def _shutter_flow(drawing: Drawing) -> Tensor | None:
    """How each pixel moves while the shutter is open; of the last frame, as it came there."""
    if len(drawing.forward) == 0:
        return None
    return torch.cat([drawing.forward, -drawing.backward[-1:]])
