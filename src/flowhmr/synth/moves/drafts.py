"""Drafts of motion: smooth random curves of joint angles and of places of feet and hands."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d

from flowhmr.body import SMPL_24
from flowhmr.synth.moves.posing import (
    BALL_HEIGHT_M,
    SIDES,
    Angles,
    Side,
    ankle_of_ball,
    plant_foot,
    plant_hand,
    pose,
    rest_joints_m,
    turn,
)

_LEG_M = 0.805

Number = float | int
Range = tuple[Number, Number]
ArmPose = dict[str, Range]


def _arm(flex: Range, abd: Range, twist: Range, elbow: Range) -> ArmPose:
    return {
        "shoulder.flex": flex,
        "shoulder.abd": abd,
        "shoulder.twist": twist,
        "elbow.flex": elbow,
    }


# Degrees; see `posing` for what the angles mean.
ARMS = {
    "hang": _arm((-10, 15), (6, 16), (-10, 25), (5, 35)),
    "talk": _arm((0, 45), (8, 35), (0, 50), (55, 110)),
    "hip": _arm((-28, -18), (42, 52), (55, 70), (85, 100)),
    "phone": _arm((35, 55), (15, 40), (-5, 20), (132, 145)),
    "chin": _arm((40, 60), (0, 12), (15, 30), (128, 140)),
    "crossed": _arm((28, 38), (4, 12), (62, 75), (85, 100)),
    "up": _arm((125, 170), (-5, 35), (-20, 30), (0, 50)),
    "side_up": _arm((10, 60), (105, 150), (-40, 10), (5, 80)),
    "behind_head": _arm((60, 95), (85, 110), (-60, -40), (115, 135)),
    "side": _arm((-10, 30), (60, 95), (-40, 20), (0, 60)),
    "front": _arm((60, 105), (-10, 25), (-10, 30), (0, 60)),
    "lap": _arm((5, 25), (4, 14), (10, 35), (50, 80)),
    "thigh": _arm((20, 40), (8, 18), (-5, 20), (25, 55)),
    "run": _arm((-30, 20), (8, 18), (15, 30), (75, 105)),
}


@dataclass(frozen=True, eq=False)
class Draw:
    """A random source on a time axis."""

    rng: np.random.Generator
    """Where all numbers come from."""
    frames: int
    """Length of the curves."""
    fps: float
    """Frames per second."""

    def number(self, low: Number, high: Number) -> float:
        """A number between two others."""
        return float(self.rng.uniform(low, high))

    def chance(self, share: float) -> bool:
        """True as often as said."""
        return bool(self.rng.random() < share)

    def one(self, *names: str) -> str:
        """One of some names."""
        return names[self.rng.integers(len(names))]

    def clock_s(self) -> Float[np.ndarray, "t"]:
        """Seconds since the first frame."""
        return np.arange(self.frames) / self.fps

    def keys(
        self, draw: Callable[[], Float[np.ndarray, "k"]], every_s: Number
    ) -> Float[np.ndarray, "t k"]:
        """A smooth curve through random values, one about every ``every_s`` seconds.

        Half of them are held for a while. The curve stays in the hull of its values: it is their
        broken line, smoothed in time.
        """
        pad = int(np.ceil(2 * every_s * self.fps))
        times, values = [0.0], [draw()]
        while times[-1] < self.frames + 2 * pad:
            if self.chance(0.5):
                times.append(times[-1] + self.fps * every_s * self.number(0.2, 0.8))
                values.append(values[-1])
            times.append(times[-1] + self.fps * every_s * self.number(0.6, 1.4))
            values.append(draw())
        table, grid = np.stack(values), np.arange(self.frames + 2 * pad)
        line = np.stack([np.interp(grid, times, column) for column in table.T], -1)
        return gaussian_filter1d(line, 0.2 * every_s * self.fps, axis=0)[pad:][: self.frames]

    def path(self, low: Number, high: Number, every_s: Number = 1.2) -> Float[np.ndarray, "t"]:
        """A smooth curve between two numbers."""
        return self.keys(lambda: self.rng.uniform(low, high, 1), every_s)[:, 0]

    def cycle(
        self, phase: Float[np.ndarray, "t"], at: Sequence[Number], values: Sequence[Number]
    ) -> Float[np.ndarray, "t"]:
        """A periodic curve through values at phases in [0, 1), without overshoot."""
        from scipy.interpolate import PchipInterpolator

        times = np.concatenate([np.array(at) - 1, at, np.array(at) + 1])
        return PchipInterpolator(times, np.tile(values, 3))(phase % 1)

    def phase(self, period_s: Number) -> Float[np.ndarray, "t"]:
        """How many periods have passed, from a random start; the tempo varies slightly."""
        rate = 1 + self.path(-0.05, 0.05, 2 * period_s)
        return self.number(0, 1) + np.cumsum(rate) / (self.fps * period_s)


@dataclass(eq=False)
class Draft:
    """A motion before it is posed; the body faces +z and y is up."""

    angles: Angles
    """Degrees, see `posing`."""
    pelvis_m: Float[np.ndarray, "t 3"]
    """The pelvis in the world; the height only matters where feet or hands are planted."""
    balls_m: dict[str, Float[np.ndarray, "t 3"]] = field(default_factory=dict)
    """Balls of the planted feet in the world, by side; other legs follow their angles."""
    heels_deg: dict[str, Float[np.ndarray, "t"] | float] = field(default_factory=dict)
    """How far heels are raised."""
    toes_out_deg: dict[str, float] = field(default_factory=dict)
    """How far planted feet point outward."""
    knees_out_deg: dict[str, float] = field(default_factory=dict)
    """How far their knees point outward; if not said, as far as the feet."""
    wrists_m: dict[str, Float[np.ndarray, "t 3"]] = field(default_factory=dict)
    """Wrists of the planted hands in the world, by side."""
    clearance_m: Float[np.ndarray, "t"] | None = None
    """Height of the lowest vertex above the floor, where the body flies."""

    def foot(self, side: Side) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Place of the ball, yaw and raised heel of a planted foot, frame by frame."""
        frames = len(self.pelvis_m)
        outward = self.toes_out_deg.get(side, 0.0) * (1 if side == "left" else -1)
        heel = np.broadcast_to(self.heels_deg.get(side, 0.0), (frames,))
        return self.balls_m[side], np.full(frames, outward), heel


def arms(
    draw: Draw,
    left: tuple[str, ...],
    right: tuple[str, ...] | None = None,
    every_s: Number = 1.0,
) -> Angles:
    """Arms that move between poses of `ARMS`; the right one like the left if not said."""
    out: Angles = {}
    hands = {"elbow.twist": (-40, 60), "wrist.flex": (-30, 30), "wrist.bend": (-15, 15)}
    curves = None
    for side, names in (("left", left), ("right", right)):
        if names is not None or curves is None:
            rows = [[*ARMS[name].values(), *hands.values()] for name in names or left]
            table = np.array(rows)

            def one(table: np.ndarray = table) -> np.ndarray:
                low, high = table[draw.rng.integers(len(table))].T
                return draw.rng.uniform(low, high)

            curves = draw.keys(one, every_s)
        out |= {f"{side}_{a}": curves[:, i] for i, a in enumerate((*ARMS[left[0]], *hands))}
    return out


def trunk(
    draw: Draw, flex: Range = (-4, 12), bend: Number = 6, twist: Number = 15, every_s: Number = 1.5
) -> Angles:
    """A spine and a head that look around."""
    return {
        "spine.flex": draw.path(*flex, every_s),
        "spine.bend": draw.path(-bend, bend, every_s),
        "spine.twist": draw.path(-twist, twist, every_s),
        "neck.flex": draw.path(-20, 30, every_s),
        "neck.bend": draw.path(-12, 12, every_s),
        "neck.twist": draw.path(-45, 45, every_s),
    }


def pose_draft(draft: Draft) -> Float[np.ndarray, "t 24 3 3"]:
    """Parent-relative rotations: angles, then legs and arms that reach their places.

    The pelvis of the draft is lowered where planted feet would be out of reach: at each moment by
    as much as it takes, and by one amount throughout where the body flies, which keeps its arc.
    """
    pelvis_m = draft.pelvis_m
    rotmats = pose(draft.angles, len(pelvis_m))
    planted: list[Side] = [side for side in SIDES if side in draft.balls_m]
    for side in planted:
        ball_m, yaw_deg, heel_deg = draft.foot(side)
        hip = rest_joints_m()[SMPL_24.index(f"{side}_hip")]
        ankle_m = ankle_of_ball(side, ball_m, yaw_deg, heel_deg)
        offset = rotmats[:, 0] @ hip
        apart = (ankle_m - pelvis_m - offset)[:, ::2]
        # A foot in the air does not pull the body down.
        free = 3 * (ball_m[:, 1] - 2 * BALL_HEIGHT_M).clip(0)
        rise = np.sqrt((_LEG_M**2 - (apart**2).sum(-1)).clip(0.04)) + free
        excess = 0.01 * np.logaddexp(0, (pelvis_m + offset - ankle_m)[:, 1] / 0.01 - rise / 0.01)
        pelvis_m[:, 1] -= excess.max() if draft.clearance_m is not None else excess
    for side in planted:
        ball_m, yaw_deg, heel_deg = draft.foot(side)
        sign = 1 if side == "left" else -1
        out_deg = draft.knees_out_deg.get(side, draft.toes_out_deg.get(side, 0.0))
        knee = turn(1, np.array(sign * out_deg)) @ np.array([0, 0, 1.0])
        plant_foot(rotmats, side, ball_m - pelvis_m, yaw_deg, heel_deg, knee)
    for side in SIDES:
        if side in draft.wrists_m:
            plant_hand(rotmats, side, draft.wrists_m[side] - pelvis_m, palm_down=True)
    return rotmats
