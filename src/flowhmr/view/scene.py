"""The people of a scene drawn over the video they were captured from."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from flowhmr.body import SMPL_24, BodyModel
from flowhmr.geometry import pick
from flowhmr.records import PersonMotion, SceneMotion
from flowhmr.view.overlay import draw_body, draw_joints
from flowhmr.view.report_scene import PERSON_COLOURS

PEOPLE_RGB = [tuple(bytes.fromhex(colour[1:])) for colour in PERSON_COLOURS]
"""Colours of people, by their place in the scene: those of the report."""


class SceneOverlay:
    """Draws a scene's people into the images of its video.

    Args:
        scene: whose people.
        body: whose parameters they are.
        skeleton: draw joints instead of bodies.
    """

    def __init__(self, scene: SceneMotion, body: BodyModel, skeleton: bool = False):
        self.scene, self.body, self.skeleton = scene, body, skeleton
        self._rows = [
            {int(f): r for r, f in enumerate(person.frame_indices)} for person in scene.people
        ]

    def __call__(self, image: UInt8[np.ndarray, "h w 3"], frame: int) -> UInt8[np.ndarray, "h w 3"]:
        """The image of frame number ``frame`` with everyone in it, the nearest in front."""
        here = [
            (person, rows[frame], number)
            for number, (person, rows) in enumerate(zip(self.scene.people, self._rows))
            if frame in rows
        ]
        here.sort(key=lambda one: -float(one[0].translation_m[one[1], 2]))
        for person, row, number in here:
            colour = PEOPLE_RGB[number % len(PEOPLE_RGB)]
            image = self._one(image, person, row, colour)
        return image

    def _one(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        person: PersonMotion,
        row: int,
        rgb: tuple[int, ...],
    ) -> UInt8[np.ndarray, "h w 3"]:
        params = pick(person.params, torch.tensor([row]))
        if self.skeleton:
            seen = self._seen(self.body.joints(params)[0] + person.translation_m[row])
            return draw_joints(image, seen[:, :2], SMPL_24)
        seen = self._seen(self.body.mesh(params).verts[0] + person.translation_m[row])
        # A part of the body behind the camera cannot be drawn.
        if not bool(seen.isfinite().all()):
            return image
        return draw_body(image, seen, self.body.faces, rgb)

    def _seen(self, points_cam: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """(u, v) in pixels and a depth that is linear in the image, about as large as them."""
        camera = self.scene.camera
        seen = camera.project(points_cam)
        depth = seen[:, 2]
        # -1/Z is linear in the image; near the mean depth a metre counts as many pixels as beside.
        linear = -camera.focal_px * depth.mean() / depth
        return torch.cat([seen[:, :2], linear[:, None]], -1)
