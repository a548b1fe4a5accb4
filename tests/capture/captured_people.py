"""A tiny motion of three real recordings before a camera; two people are away for some frames."""

from collections.abc import Mapping
from types import MappingProxyType

import torch

from flowhmr.body import open_body
from flowhmr.cameras import PerspectiveCamera
from flowhmr.records import PersonMotion, SceneMotion
from flowhmr.synth import load_motions

BODY = open_body()
FLIP = torch.tensor([1.0, -1.0, -1.0])
"""From camera axes to y up, and back."""
FRAMES = MappingProxyType({0: range(8), 3: (0, 1, 4, 5, 7), 7: range(2, 6)})
"""Frames of each person."""


def captured_person(number: int, frames: torch.Tensor) -> PersonMotion:
    """A piece of a recording, every fourth frame, some four metres away, of a random shape."""
    motion = load_motions("val")[number]
    rows = 40 + 4 * frames
    rotmats = motion.rotmats[rows].clone()
    rotmats[:, 0] = FLIP[:, None] * rotmats[:, 0]
    betas = torch.randn(BODY.num_betas, generator=torch.Generator().manual_seed(number))
    path_m = (motion.trans_world_m[rows] - motion.trans_world_m[40]) * FLIP
    return PersonMotion(
        person=number,
        frame_indices=frames,
        params=BODY.params(rotmats, betas.expand(len(frames), -1)),
        translation_m=path_m + torch.tensor([0.3 * number - 1, 0.1, 4.0]),
        confidence=torch.linspace(0, 1, len(frames)),
    )


def captured_scene(
    people: Mapping[int, range | tuple[int, ...]] = FRAMES,
    count: int = 8,
    fps: float = 25.0,
) -> SceneMotion:
    """Several people in a video of ``count`` frames, 640 x 480."""
    camera = PerspectiveCamera(torch.tensor(600.0), torch.tensor([320.0, 240.0]))
    tracks = (captured_person(n, torch.tensor(list(f))) for n, f in people.items())
    return SceneMotion(tuple(tracks), camera, (640, 480), torch.arange(count) / fps)


def points_up(person: PersonMotion, points: torch.Tensor) -> torch.Tensor:
    """Points of the body where the person stands, y up."""
    return (points + person.translation_m[:, None]) * FLIP
