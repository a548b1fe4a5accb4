"""Places: rooms, streets, parks and the things that stand or move about in them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from flowhmr.synth.shots import Shot
from flowhmr.synth.textures import FABRICS, GROUNDS, SKIES, THINGS, WALLS, Kind, texture
from flowhmr.synth.things import (
    BOX,
    CYLINDER,
    DOME,
    ELLIPSOID,
    FLOOR,
    HALF,
    KIND,
    MEDIA,
    POSE_COLUMNS,
    TEXTURE,
    THING_COLUMNS,
    TILE_M,
    TINT,
    TOP_TEXTURE,
)
from flowhmr.synth.things import WALLS as WALLS_KIND

PlaceKind = Literal["room", "street", "park", "studio"]
INDOORS = ("room", "studio")


@dataclass(frozen=True, eq=False)
class Place:
    """Everything of a scene that is not a person."""

    kind: str
    """Where it is."""
    things: Float32[np.ndarray, "n c"]
    """One row a thing, columns as in `flowhmr.synth.things`."""
    poses: Float64[np.ndarray, "t n p"]
    """Position (metres, world, y up) and cosine and sine of the turn about y, in each frame."""
    textures: UInt8[np.ndarray, "k l 3"]
    """Mip-mapped textures."""

    def frozen(self) -> "Place":
        """The place of the middle frame, all the time."""
        middle = self.poses[len(self.poses) // 2]
        poses = np.repeat(middle[None], len(self.poses), 0)
        return Place(self.kind, self.things, poses, self.textures)


@dataclass(frozen=True)
class PlaceConfig:
    """Where people are seen."""

    kinds: tuple[tuple[PlaceKind, float], ...] = (
        ("room", 0.4), ("street", 0.25), ("park", 0.25), ("studio", 0.1),
    )  # fmt: skip
    """Shares of the kinds of places."""
    movers: float = 0.35
    """Share of places in which a thing moves, unless somebody is in its way."""
    textures: int = 32
    """How many textures there are of each kind."""
    texture_seed: int = 0
    """Which textures: another seed gives others."""


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What a place must leave room for."""

    path_world: Float64[np.ndarray, "t 3"]
    """Middle of the person in each frame."""
    reach_m: float
    """How far the person's body reaches from there, seen from above."""
    top_m: float
    """The highest point of anybody."""
    others_world: Float64[np.ndarray, "m 3"]
    """Where other people are."""
    shot: Shot
    """The camera."""
    seats: tuple[tuple[float, float, float, float], ...] = ()
    """What people sit on: middle (x, z), height and heading."""


class _Builder:
    """Collects things and their textures."""

    def __init__(self, config: PlaceConfig, frames: int, rng: np.random.Generator):
        self.config, self.frames, self.rng = config, frames, rng
        self.rows: list[np.ndarray] = []
        self.poses: list[np.ndarray] = []
        self.textures: list[np.ndarray] = []
        self.names: list[tuple[Kind, int]] = []

    def paint(self, kinds: tuple[Kind, ...]) -> int:
        """A random texture of one of some kinds; its row."""
        return self.paint_with(
            str(self.rng.choice(kinds)), int(self.rng.integers(self.config.textures))
        )

    def paint_with(self, kind: Kind, number: int) -> int:
        """That texture's row."""
        if (kind, number) not in self.names:
            self.names.append((kind, number))
            self.textures.append(texture(kind, self.config.texture_seed, number))
        return self.names.index((kind, number))

    def add(
        self,
        kind: int,
        half_m: tuple[float, float, float],
        at_m: tuple[float, float, float],
        look: int,
        top: int | None = None,
        turn_rad: float = 0.0,
        speed_m: tuple[float, float] = (0.0, 0.0),
        spin_rad: float = 0.0,
    ) -> None:
        """A thing at ``at_m`` in the middle frame; speeds per frame (x, z; about y)."""
        row = np.zeros(THING_COLUMNS)
        row[KIND], row[HALF] = kind, half_m
        row[TEXTURE], row[TOP_TEXTURE] = look, look if top is None else top
        row[TILE_M] = self.rng.uniform(0.8, 3.0)
        row[TINT] = self.rng.uniform(0.75, 1.0) * (1 + self.rng.normal(0, 0.04, 3))
        when = np.arange(self.frames) - self.frames // 2
        turn = turn_rad + spin_rad * when
        pose = np.empty((self.frames, POSE_COLUMNS))
        pose[:, 0], pose[:, 1], pose[:, 2] = (
            at_m[0] + speed_m[0] * when, at_m[1], at_m[2] + speed_m[1] * when,
        )  # fmt: skip
        pose[:, 3], pose[:, 4] = np.cos(turn), np.sin(turn)
        self.rows.append(row)
        self.poses.append(pose)

    def place(self, kind: str) -> Place:
        """What was collected."""
        return Place(
            kind,
            np.stack(self.rows).astype(np.float32),
            np.stack(self.poses, 1),
            np.stack(self.textures),
        )


def sample_place(
    config: PlaceConfig,
    around: Surroundings,
    occluded: bool,
    fabrics: list[tuple[Kind, int]],
    fps: float,
    rng: np.random.Generator,
) -> tuple[Place, list[int]]:
    """A place around a person and a camera.

    Args:
        config: what places are like.
        around: whom and what it leaves room for.
        occluded: put something between the camera and the person.
        fabrics: textures that people's clothes need, added to the place's.
        fps: frames per second, for things that move.
        rng: source of every choice.

    Returns:
        The place, and the row of each fabric in its textures.
    """
    names, shares = zip(*config.kinds)
    kind = names[int(rng.choice(len(names), p=np.array(shares) / sum(shares)))]
    build = _Builder(config, len(around.path_world), rng)
    if kind in INDOORS:
        half_m, middle = _room(build, around, kind)
        _furnish(build, around, half_m, middle, int(rng.integers(0 if kind == "studio" else 2, 9)))
    else:
        _open_air(build, around, kind)
    for seat in around.seats:
        _seat(build, *seat)
    if rng.random() < config.movers:
        _mover(build, around, kind, fps)
    if occluded:
        _occluder(build, around)
    rows = [build.paint_with(*name) for name in fabrics]
    return build.place(kind), rows


def media_place(
    frames: int, fabrics: list[tuple[Kind, int]], config: PlaceConfig
) -> tuple[Place, list[int]]:
    """A place that is a picture or a video and nothing else."""
    build = _Builder(config, frames, np.random.default_rng(0))
    build.add(MEDIA, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), build.paint_with(FABRICS[0], 0))
    rows = [build.paint_with(*name) for name in fabrics]
    return build.place("media"), rows


def _room(build: _Builder, around: Surroundings, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Floor, walls and ceiling about everything that must fit; half sizes and middle (x, z)."""
    rng = build.rng
    plain: tuple[Kind, ...] = ("plain", "plaster")
    ground = plain if kind == "studio" else GROUNDS[2:6]
    build.add(FLOOR, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), build.paint(ground))
    standing = [around.path_world, around.shot.centres_m, around.others_world]
    everything = np.concatenate(standing)[:, [0, 2]]
    low = everything.min(0) - rng.uniform(0.3, 3.5, 2) - around.reach_m * 0.6
    high = everything.max(0) + rng.uniform(0.3, 3.5, 2) + around.reach_m * 0.6
    half, middle = (high - low) / 2, (high + low) / 2
    top = max(2.4 + rng.uniform(0, 1.2), around.top_m + 0.15)
    top = max(top, float(around.shot.centres_m[:, 1].max()) + 0.2)
    build.add(
        WALLS_KIND, (half[0], top, half[1]), (middle[0], 0.0, middle[1]),
        build.paint(plain if kind == "studio" else WALLS), build.paint(plain),
    )  # fmt: skip
    return half, middle


def _is_free(around: Surroundings, x: float, z: float, radius_m: float) -> bool:
    """Whether a thing there stands neither in the person's way nor before the camera."""
    at = np.array([x, z])
    path, eye = around.path_world[:, [0, 2]], around.shot.centres_m[:, [0, 2]]
    line = path - eye
    along = np.clip(((at - eye) * line).sum(-1) / (line * line).sum(-1), 0, 1)
    distance = np.linalg.norm(at - (eye + along[:, None] * line), axis=-1)
    others = np.linalg.norm(around.others_world[:, [0, 2]] - at, axis=-1)
    return bool(
        distance.min() > radius_m + 0.3 + around.reach_m * 0.5
        and np.linalg.norm(path - at, axis=-1).min() > radius_m + around.reach_m
        and (len(others) == 0 or others.min() > radius_m + 0.6)
    )


def _furnish(
    build: _Builder, around: Surroundings, half_m: np.ndarray, middle: np.ndarray, count: int
) -> None:
    rng = build.rng
    for _ in range(count):
        size = rng.uniform(0.15, 0.8, 2)
        high = rng.choice([rng.uniform(0.15, 0.5), rng.uniform(0.5, 1.1)])
        radius = float(np.hypot(*size))
        x, z = middle + rng.uniform(-1, 1, 2) * np.maximum(half_m - radius, 0.05)
        if not _is_free(around, x, z, radius):
            continue
        if rng.random() < 0.75:
            build.add(
                BOX, (size[0], high, size[1]), (x, high, z), build.paint(THINGS),
                build.paint(("plain", "planks")),
                rng.uniform(0, np.pi) if rng.random() < 0.4 else 0.0,
            )  # fmt: skip
        else:
            radius = float(size.min()) * 0.6
            build.add(CYLINDER, (radius, high, radius), (x, high, z), build.paint(THINGS))


def _open_air(build: _Builder, around: Surroundings, kind: str) -> None:
    rng = build.rng
    middle = around.path_world.mean(0)
    ground = ("asphalt", "tiles", "gravel") if kind == "street" else ("grass", "gravel", "court")
    build.add(FLOOR, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), build.paint(ground))
    sky = build.paint(SKIES[:1] if kind == "street" else SKIES[1:])
    at = (middle[0], 0.0, middle[2])
    build.add(DOME, (300.0, 300.0, 300.0), at, sky, turn_rad=rng.uniform(0, 6))
    for _ in range(int(rng.integers(3, 12))):
        angle, far = rng.uniform(-np.pi, np.pi), np.exp(rng.uniform(np.log(3), np.log(35)))
        x, z = middle[0] + far * np.sin(angle), middle[2] + far * np.cos(angle)
        if kind == "street":
            _street_thing(build, around, x, z, far)
        else:
            _park_thing(build, around, x, z, far)


def _street_thing(build: _Builder, around: Surroundings, x: float, z: float, far: float) -> None:
    rng = build.rng
    draw = rng.random()
    turn = rng.choice([0.0, rng.uniform(0, np.pi)])
    if draw < 0.4 and far > 9:
        wide, deep, high = rng.uniform(2, 6), rng.uniform(2, 5), rng.uniform(2, 8)
        if _is_free(around, x, z, float(np.hypot(wide, deep))):
            look = build.paint(("facade", "bricks", "plaster"))
            build.add(BOX, (wide, high, deep), (x, high, z), look, None, turn)
    elif draw < 0.7 and _is_free(around, x, z, 2.3):
        _car(build, x, z, turn)
    elif _is_free(around, x, z, 0.15):
        radius, high = rng.uniform(0.03, 0.12), rng.uniform(0.5, 3)
        build.add(CYLINDER, (radius, high, radius), (x, high, z), build.paint(("plain",)))


def _car(
    build: _Builder, x: float, z: float, turn: float, speed_m: tuple[float, float] = (0.0, 0.0)
) -> None:
    paint, glass = build.paint(("plain",)), build.paint(("facade", "plain"))
    build.add(BOX, (2.1, 0.4, 0.85), (x, 0.65, z), paint, None, turn, speed_m)
    build.add(BOX, (1.1, 0.3, 0.75), (x, 1.3, z), glass, paint, turn, speed_m)


def _park_thing(build: _Builder, around: Surroundings, x: float, z: float, far: float) -> None:
    rng = build.rng
    draw = rng.random()
    if draw < 0.6 and _is_free(around, x, z, 0.8 if far < 6 else 1.6):
        trunk, crown = rng.uniform(0.08, 0.3), rng.uniform(0.6, 2.2)
        stem = rng.uniform(0.6, 1.6)
        build.add(CYLINDER, (trunk, stem, trunk), (x, stem, z), build.paint(("planks", "gravel")))
        size = (crown, crown * rng.uniform(0.7, 1.5), crown)
        build.add(ELLIPSOID, size, (x, 2 * stem + size[1] * 0.7, z), build.paint(("grass",)))
    elif draw < 0.8 and _is_free(around, x, z, 1.0):
        size = rng.uniform(0.3, 0.9, 3)
        build.add(ELLIPSOID, tuple(size), (x, size[1] * 0.6, z), build.paint(("grass", "gravel")))
    elif _is_free(around, x, z, 1.2):
        high = rng.uniform(0.2, 0.5)
        build.add(
            BOX, (rng.uniform(0.4, 1.2), high, 0.25), (x, high, z),
            build.paint(("planks", "bricks")), None, rng.uniform(0, np.pi),
        )  # fmt: skip


def _way_is_free(
    build: _Builder,
    around: Surroundings,
    at: tuple[float, float],
    speed: tuple[float, float],
    radius_m: float,
) -> bool:
    """Whether something that moves runs into nobody and nothing."""
    when = np.arange(build.frames) - build.frames // 2
    way = np.array(at) + when[:, None] * np.array(speed)

    def gap(points: np.ndarray) -> np.ndarray:
        apart = way[:, None] - points[:, [0, 2]]
        return np.linalg.norm(apart, axis=-1).min(0, initial=np.inf)

    solid = [row[KIND] in (BOX, CYLINDER, ELLIPSOID) for row in build.rows]
    sizes = np.array([np.hypot(*row[HALF][[0, 2]]) for row in build.rows])[solid]
    things = np.array([pose[0, :3] for pose in build.poses])[solid]
    return bool(
        (gap(around.path_world) > radius_m + around.reach_m).all()
        and (gap(around.others_world) > radius_m + 0.8).all()
        and (gap(things) > radius_m + sizes).all()
    )


def _mover(build: _Builder, around: Surroundings, kind: str, fps: float) -> None:
    """A ball, a trolley or a car that passes behind or beside the person."""
    rng = build.rng
    eye, middle = around.shot.centres_m.mean(0), around.path_world.mean(0)
    away = (middle - eye)[[0, 2]]
    away /= np.linalg.norm(away)
    side = np.array([away[1], -away[0]]) * rng.choice([-1.0, 1.0])
    indoors = kind in INDOORS
    back = rng.uniform(0.3, 1.2) if indoors else rng.uniform(2.5, 9)
    x, z = middle[[0, 2]] + (around.reach_m + back) * away + side * rng.uniform(-1, 1)
    step = side * rng.uniform(0.3, 1.5 if indoors else 7) / fps
    speed = (float(step[0]), float(step[1]))
    car = kind == "street" and rng.random() < 0.7
    if not _way_is_free(build, around, (x, z), speed, 2.3 if car else 0.7):
        return
    if car:
        _car(build, x, z, float(np.arctan2(-side[1], side[0])), speed)
    elif rng.random() < 0.5:
        radius = rng.uniform(0.1, 0.4)
        size = (radius, radius, radius)
        build.add(
            ELLIPSOID, size, (x, radius, z), build.paint(THINGS), None, 0.0, speed,
            rng.uniform(-3, 3) / fps,
        )  # fmt: skip
    else:
        high = rng.uniform(0.2, 0.9)
        size = (rng.uniform(0.1, 0.5), high, rng.uniform(0.1, 0.5))
        build.add(
            BOX, size, (x, high, z), build.paint(THINGS), None, rng.uniform(0, 3), speed,
            rng.uniform(-1, 1) / fps,
        )  # fmt: skip


def _seat(build: _Builder, x: float, z: float, top_m: float, heading: float) -> None:
    """A box, a stool or a chair under somebody."""
    rng = build.rng
    half, look = top_m / 2, build.paint(("planks", "plain", "carpet", "plaster"))
    draw = rng.random()
    if draw < 0.3:
        radius = rng.uniform(0.14, 0.2)
        build.add(CYLINDER, (radius, half, radius), (x, half, z), look)
        return
    wide = rng.uniform(0.2, 0.3) if draw < 0.85 else rng.uniform(0.5, 0.9)
    build.add(BOX, (wide, half, 0.2), (x, half, z), look, None, heading)
    if rng.random() < 0.6:
        back = top_m + rng.uniform(0.25, 0.5)
        at = (x - 0.3 * np.sin(heading), back / 2, z - 0.3 * np.cos(heading))
        build.add(BOX, (wide, back / 2, 0.03), at, look, None, heading)


def _occluder(build: _Builder, around: Surroundings) -> None:
    """Something between the camera and a part of the person, in the middle frame."""
    rng = build.rng
    frame = len(around.path_world) // 2
    eye, body = around.shot.centres_m[frame], around.path_world[frame]
    share = rng.uniform(0.35, 0.7)
    aim = body + around.reach_m * rng.uniform(-1, 1) * np.array([0.6, 0, 0.6])
    x, z = eye[[0, 2]] + share * (aim - eye)[[0, 2]]
    if np.linalg.norm(around.path_world[:, [0, 2]] - [x, z], axis=-1).min() < around.reach_m + 0.15:
        return
    line_m = eye[1] + share * (body[1] - eye[1])
    draw = rng.random()
    if draw < 0.45:
        radius = rng.uniform(0.02, 0.11) * share
        low = max(0.3, line_m * 0.6)
        high = rng.uniform(low, max(1.6, 1.2 * low))
        build.add(CYLINDER, (radius, high, radius), (x, high, z), build.paint(THINGS))
    elif draw < 0.85:
        # A table, a wall, a hedge: hides what is below a line through the body.
        high = max(0.1, (line_m + rng.uniform(-0.45, 0.05) * share) / 2)
        size = (rng.uniform(0.15, 0.7), high, rng.uniform(0.05, 0.2))
        turn = np.arctan2(body[0] - eye[0], body[2] - eye[2]) + rng.normal(0, 0.3)
        build.add(BOX, size, (x, high, z), build.paint(THINGS), None, turn)
    else:
        radius = rng.uniform(0.05, 0.16) * share
        at = (x, max(radius, line_m + rng.uniform(-0.4, 0.4) * share), z)
        build.add(ELLIPSOID, (radius, radius, radius), at, build.paint(THINGS))
