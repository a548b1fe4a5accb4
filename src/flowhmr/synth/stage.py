"""The stage: everything about a clip that is decided before a pixel is drawn.

Each of a clip's aspects draws from a random stream of its own, (seed, index, stream), so that a
change to one leaves the others as they are.
"""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Int

from flowhmr.body import BodyModel
from flowhmr.synth.actors import FPS, Actor, MotionConfig, sample_actor
from flowhmr.synth.lighting import Lighting, sample_lighting
from flowhmr.synth.media import Backdrop, BackdropFolder
from flowhmr.synth.places import (
    INDOORS,
    Place,
    PlaceConfig,
    Surroundings,
    media_place,
    sample_place,
)
from flowhmr.synth.sensor import Quality, Sensor, sample_sensor
from flowhmr.synth.shots import Shot, ShotConfig, sample_shot

_STREAMS = (
    "subject", "others", "shot", "place", "light", "sensor", "media", "occluder", "superpixel",
    "blob", "drops",
)  # fmt: skip


@dataclass(frozen=True)
class SynthConfig:
    """Which clips to make."""

    seed: int = 0
    """Every number of a clip follows from (seed, index)."""
    frames: int = 31
    """Length of a clip; 1 for stills."""
    size_px: int = 128
    """Width and height of the images; a multiple of 8."""
    motion: MotionConfig = field(default_factory=MotionConfig)
    """How people move."""
    shot: ShotConfig = field(default_factory=ShotConfig)
    """How they are filmed."""
    place: PlaceConfig = field(default_factory=PlaceConfig)
    """Where they are."""
    quality: Quality = "mixed"
    """What the camera makes of it."""
    others: float = 0.2
    """Share of clips with other people about."""
    occluder: float = 0.25
    """Share of clips with a thing between the camera and the person."""
    superpixel: float = 0.5
    """Share of clips for which a super-pixel of the background is tried as an occluder (Motion
    HMR, appendix A); about half of the tries hide something and not too much."""
    drops: float = 0.15
    """Share of clips with a run of frames in which the person is lost altogether."""
    longest_drop: int = 15
    """The longest such run, frames."""
    backgrounds: Path | None = None
    """A folder of videos and images to use as backgrounds."""
    media: float = 0.5
    """Share of clips with a background from that folder."""
    background: Literal["moving", "static"] = "moving"
    """Motion HMR's table 2: "static" freezes the scene and its camera."""
    follow_camera: bool = True
    """Motion HMR's table 2: False leaves the camera's motion to the scene, not to people."""
    occlusion: bool = True
    """Motion HMR's table 2: False hides nobody, in space or time."""

    def __post_init__(self) -> None:
        if self.frames < 1 or self.size_px < 16 or self.size_px % 8:
            raise ValueError(
                f"synthetic clips: got {self.frames} frames of {self.size_px} px; expected at "
                "least one frame, and a size from 16 px that is a multiple of 8"
            )


@dataclass(frozen=True, eq=False)
class Stage:
    """One clip, ready to be drawn."""

    actors: tuple[Actor, ...]
    """The person the clip is about, then other people."""
    shot: Shot
    """The camera as people see it."""
    scene_shot: Shot
    """The camera as the scene sees it: the same, but for ablations and media."""
    place: Place
    """The scene."""
    fabrics: tuple[int, ...]
    """For each actor the row of its fabric in the place's textures."""
    lighting: Lighting
    """The light."""
    sensor: Sensor
    """The camera's electronics."""
    backdrop: Backdrop | None
    """The background from a file, if it is one."""
    try_superpixel: bool
    """Whether a super-pixel of the background may hide a part of the person."""
    dropped: Bool[np.ndarray, "t"]
    """Frames in which the person is lost."""
    config: SynthConfig
    """What was asked for."""
    index: int
    """Number of the clip."""

    def __len__(self) -> int:
        return len(self.shot)

    def at(self, frames: Int[np.ndarray, "n"]) -> "Stage":
        """Some of the frames, as if there were nothing between them."""
        backdrop = self.backdrop
        if backdrop is not None:
            images, drift_px = backdrop.images[frames], backdrop.drift_px[frames]
            backdrop = replace(backdrop, images=images, drift_px=drift_px)
        return replace(
            self,
            actors=tuple(actor.at(frames) for actor in self.actors),
            shot=self.shot.at(frames),
            scene_shot=self.scene_shot.at(frames),
            place=replace(self.place, poses=self.place.poses[frames]),
            backdrop=backdrop,
            dropped=self.dropped[frames],
        )


def random_stream(config: SynthConfig, index: int, name: str) -> np.random.Generator:
    """The random numbers of one aspect of a clip."""
    return np.random.default_rng([config.seed, index, _STREAMS.index(name)])


def set_stage(config: SynthConfig, index: int, body: BodyModel) -> Stage:
    """Decide everything about clip ``index``.

    Raises:
        ValueError: another body than the open one; no usable background in the folder.
    """

    def rng(name: str) -> np.random.Generator:
        return random_stream(config, index, name)

    textures = config.place.textures
    subject = sample_actor(config.motion, config.frames, body, textures, rng("subject"))
    joints = subject.joints_world.double().cpu().numpy()
    shot = sample_shot(config.shot, joints, config.size_px, rng("shot"))
    backdrop = _sample_backdrop(config, rng("media"))
    others = () if backdrop else _sample_others(config, subject, shot, body, rng("others"))
    actors = (subject, *others)
    fabrics = [actor.outfit.fabric for actor in actors]
    if backdrop is None:
        around = _surroundings(actors, shot, body)
        hidden = config.occlusion and rng("occluder").random() < config.occluder
        place, rows = sample_place(config.place, around, hidden, fabrics, FPS, rng("place"))
    else:
        place, rows = media_place(config.frames, fabrics, config.place)
        shot = _drifting(shot.frozen(), backdrop)
    scene_shot = shot
    if config.background == "static":
        shot = scene_shot = shot.frozen()
        place = place.frozen()
    elif not config.follow_camera:
        shot = shot.frozen()
    return Stage(
        actors=actors,
        shot=shot,
        scene_shot=scene_shot,
        place=place,
        fabrics=tuple(rows),
        lighting=sample_lighting(place.kind in INDOORS, rng("light")),
        sensor=sample_sensor(config.quality, config.size_px, rng("sensor")),
        backdrop=backdrop,
        try_superpixel=config.occlusion and rng("superpixel").random() < config.superpixel,
        dropped=_sample_drops(config, rng("drops")),
        config=config,
        index=index,
    )


@lru_cache(maxsize=4)
def _folder(path: Path) -> BackdropFolder:
    return BackdropFolder(path)


def _sample_backdrop(config: SynthConfig, rng: np.random.Generator) -> Backdrop | None:
    if config.backgrounds is None:
        return None
    # Looked at even where it is not used: a wrong folder fails in the first clip.
    folder = _folder(config.backgrounds)
    if rng.random() >= config.media:
        return None
    still = config.background == "static"
    return folder.sample(rng, config.frames, config.size_px, FPS, static=still)


def _drifting(shot: Shot, backdrop: Backdrop) -> Shot:
    """People follow the background's estimated motion (Motion HMR, section 3.1)."""
    lens = shot.lens_px.copy()
    lens[:, 1:] += backdrop.drift_px
    return replace(shot, lens_px=lens)


def _surroundings(actors: tuple[Actor, ...], shot: Shot, body: BodyModel) -> Surroundings:
    joints = [actor.joints_world.double().cpu().numpy() for actor in actors]
    path = (joints[0].min(1) + joints[0].max(1)) / 2
    reach = np.linalg.norm((joints[0] - path[:, None])[..., [0, 2]], axis=-1).max() + 0.1
    others = [other.mean(1) for other in joints[1:]]
    return Surroundings(
        path_world=path,
        reach_m=float(reach),
        top_m=max(float(j[..., 1].max()) for j in joints) + 0.2,
        others_world=np.concatenate(others) if others else np.zeros((0, 3)),
        shot=shot,
        seats=tuple(seat for actor in actors if (seat := actor.seat(body)) is not None),
    )


def _sample_others(
    config: SynthConfig,
    subject: Actor,
    shot: Shot,
    body: BodyModel,
    rng: np.random.Generator,
) -> tuple[Actor, ...]:
    """One or two people beside, behind or (where things may occlude) before the subject."""
    if rng.random() >= config.others:
        return ()
    found: list[Actor] = []
    middle = subject.joints_world.mean((0, 1)).double().cpu().numpy()
    eye = shot.centres_m.mean(0)
    for _ in range(int(rng.integers(1, 3))):
        other = sample_actor(config.motion, config.frames, body, config.place.textures, rng)
        away = (middle - eye)[[0, 2]] / np.linalg.norm((middle - eye)[[0, 2]])
        deep, wide = rng.uniform(-0.2, 3.5), rng.uniform(-2.2, 2.2)
        in_front = rng.random() < 0.2
        if not config.occlusion:
            # Behind the subject's arms, whatever they reach for.
            deep = max(deep, 1.0)
        elif in_front:
            deep = -0.4 * np.linalg.norm(middle - eye)
        at = middle[[0, 2]] + deep * away + wide * np.array([away[1], -away[0]])
        other = other.moved(
            torch.tensor([at[0], 0.0, at[1]], dtype=torch.float32, device=other.root_world.device)
        )
        if _fits(other, [subject, *found], shot):
            found.append(other)
    return tuple(found)


def _fits(other: Actor, present: list[Actor], shot: Shot) -> bool:
    """Nobody within arm's reach of somebody else, or on the lens."""
    joints = other.joints_world.double().cpu().numpy()
    if shot.to_camera(joints)[..., 2].min() < 0.8:
        return False
    gaps = [
        (other.joints_world[:, :, None] - one.joints_world[:, None]).norm(dim=-1).amin()
        for one in present
    ]
    return bool(min(gaps) > 0.35)


def _sample_drops(config: SynthConfig, rng: np.random.Generator) -> Bool[np.ndarray, "t"]:
    dropped = np.zeros(config.frames, bool)
    longest = min(config.longest_drop, config.frames - 1)
    if config.occlusion and longest >= 1 and rng.random() < config.drops:
        length = int(rng.integers(1, longest + 1))
        start = int(rng.integers(0, config.frames - length + 1))
        dropped[start : start + length] = True
    return dropped
