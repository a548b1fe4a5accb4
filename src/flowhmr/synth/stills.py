"""Labelled stills: one person, cut out, with exact labels, addressed by (seed, index).

A still keeps its coverage, so that training puts it before another background each time it is
seen: a pool rendered once gives millions of different pictures.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from flowhmr.body import BodyModel, mirror_rotmats
from flowhmr.geometry import rotmat_from_axis_angle
from flowhmr.records import Labels
from flowhmr.synth.motion import (
    Motion,
    Split,
    load_motions,
    perturb_rotmats,
    sample_window,
    splice_rotmats,
)
from flowhmr.synth.people import sample_person
from flowhmr.synth.renderer import Look, render_people
from flowhmr.synth.scenes import sample_light


@dataclass(frozen=True)
class StillConfig:
    """Which stills to make."""

    split: Split = "train"
    """Motion capture split the poses come from."""
    seed: int = 0
    """Every number of a still follows from (seed, index)."""
    size_px: int = 128
    """Width and height of the picture."""
    margin: float = 1.12
    """Side of the picture over the larger side of the person's box."""
    perturb: float = 1.0
    """Strength of the random turns of the joints; 0 keeps the capture's poses."""
    splice: float = 0.3
    """Share of stills with the legs of one recording under the arms of another."""


@dataclass(frozen=True, eq=False)
class Still:
    """A cut-out person; batched with a leading axis."""

    rgba: UInt8[Tensor, "*b s s 4"]
    """Colour and coverage."""
    labels: Labels
    """In pixels of the picture."""


def sample_view(rng: np.random.Generator) -> Float[Tensor, "3 3"]:
    """World (y up) to camera axes: any heading, a camera at human height more often than not."""
    heading = rng.uniform(-np.pi, np.pi)
    elevation = np.radians(rng.normal(5, 12))
    roll = np.radians(rng.normal(0, 4))
    turns = np.array([[0, heading, 0], [np.pi - elevation, 0, 0], [0, 0, roll]], np.float32)
    around_y, around_x, around_z = rotmat_from_axis_angle(torch.from_numpy(turns))
    return around_z @ around_x @ around_y


def _sample_pose(
    motions: tuple[Motion, ...], config: StillConfig, rng: np.random.Generator
) -> Float[Tensor, "24 3 3"]:
    def any_frame() -> Tensor:
        motion, start = sample_window(motions, 1, rng)
        frame = motion.rotmats[start]
        return mirror_rotmats(frame) if rng.random() < 0.5 else frame

    pose = any_frame()
    if rng.random() < config.splice:
        pose = splice_rotmats(pose, any_frame())
    return perturb_rotmats(pose, config.perturb * rng.uniform(0, 1.5), rng)


def render_stills(config: StillConfig, indices: range, body: BodyModel) -> Still:
    """The stills of a range of indices, as one batch."""
    motions = load_motions(config.split)
    looks, rotmats, betas, distances = [], [], [], []
    for index in indices:
        rng = np.random.default_rng([config.seed, index])
        pose = _sample_pose(motions, config, rng)
        pose[0] = sample_view(rng) @ pose[0]
        person = sample_person(rng, body)
        looks.append(Look(person, sample_light(rng)))
        rotmats.append(pose)
        betas.append(torch.from_numpy(person.betas))
        distances.append(np.exp(rng.uniform(np.log(2.5), np.log(15))))
    params = body.params(torch.stack(rotmats), torch.stack(betas))
    mesh = body.mesh(params)
    distance_m = torch.tensor(np.array(distances), dtype=torch.float32)
    verts_px, keypoints_px, ppm = _frame(mesh.verts, mesh.joints, distance_m, config)
    size = config.size_px
    picture = render_people(body, verts_px, looks, size, size, ppm)
    confidence = torch.ones(keypoints_px.shape[:-1])
    surface = torch.from_numpy(picture.surface)
    labels = Labels(params, mesh.joints, keypoints_px, confidence, surface)
    return Still(torch.from_numpy(picture.rgba), labels)


def _frame(
    verts_m: Tensor, joints_m: Tensor, distance_m: Tensor, config: StillConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Perspective from a distance, zoomed so that the person fills the picture."""
    centre = (verts_m.amax(1) + verts_m.amin(1)) / 2
    offset = torch.cat([-centre[:, :2], distance_m[:, None] - centre[:, 2:]], -1)[:, None]

    def rays(points: Tensor) -> Tensor:
        moved = points + offset
        return moved[..., :2] / moved[..., 2:]

    seen = rays(verts_m)
    low, high = seen.amin(1), seen.amax(1)
    focal_px = config.size_px / (config.margin * (high - low).amax(-1))
    middle = ((low + high) / 2)[:, None]
    zoom = focal_px[:, None, None]
    ppm = focal_px / distance_m
    depth = (verts_m + offset)[..., 2:] * ppm[:, None, None]
    verts_px = torch.cat([(seen - middle) * zoom + config.size_px / 2, depth], -1)
    return verts_px, (rays(joints_m) - middle) * zoom + config.size_px / 2, ppm
