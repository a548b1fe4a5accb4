"""Procedural motion of what the capture lacks: sitting, the floor, raised arms, running, kicks.

A family (`MOVES`) drafts smooth random curves of joint angles and of places of feet and hands;
`sample_move` poses them, puts the body on the floor y = 0 and turns it to a random side.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from flowhmr.synth.motion import Motion, mirror_motion
from flowhmr.synth.moves.drafts import Draft, Draw, arms, pose_draft, trunk
from flowhmr.synth.moves.floor import (
    crawl,
    cross_legged,
    kneel,
    kneel_one,
    lie_back,
    lie_front,
    lie_side,
    long_sit,
    push_up,
)
from flowhmr.synth.moves.gait import high_knees, run
from flowhmr.synth.moves.posing import BALL_HEIGHT_M, SIDES, Angles, lowest_m, turn


def sample_move(
    rng: np.random.Generator, frames: int, fps: float = 30.0, kind: str | None = None
) -> Motion:
    """A random motion of a family.

    Args:
        rng: all that is random.
        frames: length.
        fps: frames per second.
        kind: one of `MOVES`; by default any.

    Returns:
        A motion on the floor y = 0 (open body, mean shape); its action is the family.

    Raises:
        ValueError: an unknown family, or no frames.
    """
    if kind is not None and kind not in MOVES:
        raise ValueError(f"move: got {kind!r}; expected one of {', '.join(MOVES)}")
    if frames < 1:
        raise ValueError(f"move: got {frames} frames; expected at least 1")
    kind = kind or MOVES[rng.integers(len(MOVES))]
    draw = Draw(rng, frames, fps)
    draft = _FAMILIES[kind](draw)
    rotmats = pose_draft(draft)
    heading = turn(1, np.array(draw.number(-180, 180)))
    rotmats[:, 0] = heading @ rotmats[:, 0]
    posed = torch.from_numpy(rotmats.astype(np.float32))
    clear = np.zeros(frames) if draft.clearance_m is None else draft.clearance_m
    height = clear - lowest_m(posed).double().numpy()
    if draft.clearance_m is not None:
        # In flight feet hang at different heights: the pelvis keeps to its planned arc there.
        lift = np.where(clear > 0, np.nan, height - draft.pelvis_m[:, 1])
        height = np.maximum(draft.pelvis_m[:, 1] + _bridged(lift), height - clear)
    place = draft.pelvis_m - draft.pelvis_m.mean(0)
    place[:, 1] = 0
    place = place @ heading.T
    place[:, 1] = height
    trans_m = torch.from_numpy(place.astype(np.float32))
    motion = Motion(posed, trans_m, fps, f"moves/{kind}", kind)
    return mirror_motion(motion) if draw.chance(0.5) else motion


def sample_rotmats(
    rng: np.random.Generator, frames: int, fps: float, kind: str
) -> Float[Tensor, "t 24 3 3"]:
    """Poses of a family, facing +z, without their place in the world."""
    return torch.from_numpy(pose_draft(_FAMILIES[kind](Draw(rng, frames, fps)))).float()


def _bridged(values: Float[np.ndarray, "t"]) -> Float[np.ndarray, "t"]:
    """Missing values by interpolation."""
    known = np.flatnonzero(np.isfinite(values))
    if len(known) == 0:
        return np.zeros_like(values)
    return np.interp(np.arange(len(values)), known, values[known])


def _standing(draw: Draw, angles: Angles, width: tuple[float, float] = (0.18, 0.4)) -> Draft:
    """Feet side by side, a pelvis that sways over them."""
    half, stagger = draw.number(*width) / 2, draw.number(-0.1, 0.1)
    shift = draw.path(-0.3 * half, 0.3 * half, 2.0)
    height = draw.path(0.95, 1.0, 1.5)
    sway = {
        "root.pitch": draw.path(-3, 5),
        "root.yaw": draw.path(-10, 10, 2.0),
        "root.roll": shift / half * 6,
    }
    draft = Draft(sway | angles, np.stack([shift, height, draw.path(-0.02, 0.03, 1.5)], -1))
    _plant(draw, draft, half, stagger)
    return draft


def _plant(draw: Draw, draft: Draft, half: float, stagger: float, ahead: float = 0.15) -> None:
    """Both feet flat on the floor, ``ahead`` of the origin."""
    for side, sign in zip(SIDES, (1, -1)):
        place = [sign * half, BALL_HEIGHT_M, ahead + sign * stagger]
        draft.balls_m[side] = np.tile(np.array(place), (draw.frames, 1))
        draft.toes_out_deg[side] = draw.number(0, 25)


def _gesture(draw: Draw) -> Draft:
    """Standing and talking, on the phone, hands on hips, arms crossed."""
    free = ("talk", "talk", "hang", "hip", "chin", "front", "side")
    sets = (free, free), (("phone",), (*free, "phone")), (("hip",), ("hip", "talk"))
    sets += ((("crossed",), None), (("behind_head",), None), (("talk", "hang"), ("talk", "hang")))
    left, right = sets[draw.rng.integers(len(sets))]
    return _standing(draw, trunk(draw) | arms(draw, left, right, draw.number(0.6, 1.4)))


def _overhead(draw: Draw) -> Draft:
    """Reaching up with one arm or both, waving."""
    up = ("up", "up", "side_up")
    right = (None, up, ("hang", "talk", "hip"))[draw.rng.integers(3)]
    angles = arms(draw, up, right, draw.number(0.7, 1.4))
    if draw.chance(0.5):
        wave = np.sin(2 * np.pi * draw.phase(draw.number(0.4, 0.9)))
        angles["left_shoulder.twist"] += 20 * wave
        angles["left_elbow.flex"] = 25 + 18 * wave + draw.path(0, 40)
    return _standing(draw, trunk(draw, (-12, 5)) | angles)


def _throw(draw: Draw) -> Draft:
    """Overarm throws with the left arm: cock, fling, follow through."""
    phase = draw.phase(draw.number(1.1, 2.0))
    at = [0.0, 0.35, 0.55, 0.7, 0.85]
    cock, high = draw.number(85, 110), draw.number(90, 130)
    angles = trunk(draw, (0, 1), 3, 1) | arms(draw, ("hang",), ("hang", "talk", "front"))
    angles |= {
        "left_shoulder.flex": draw.cycle(phase, at, [20, 15, high, 55, 25]),
        "left_shoulder.abd": draw.cycle(phase, at, [15, cock, 40, -15, 5]),
        "left_shoulder.twist": draw.cycle(phase, at, [10, -65, -10, 40, 20]),
        "left_elbow.flex": draw.cycle(phase, at, [50, 105, 20, 25, 45]),
        "spine.twist": draw.cycle(phase, at, [0, 35, -15, -35, -10]),
        "spine.flex": draw.cycle(phase, at, [2, -10, 10, 22, 8]),
    }
    draft = _standing(draw, angles, (0.2, 0.35))
    step = draw.number(0.15, 0.3)
    draft.balls_m["right"] = draft.balls_m["right"] + np.array([0, 0, step])
    draft.balls_m["left"] = draft.balls_m["left"] - np.array([0, 0, step])
    draft.pelvis_m[:, 2] += draw.cycle(phase, at, [0, -0.08, 0.08, 0.1, 0.03])
    draft.angles["root.yaw"] = draw.cycle(phase, at, [5, 30, 0, -15, 0])
    return draft


def _sit(draw: Draw) -> Draft:
    """On a chair or stool, maybe with a leg crossed over the other."""
    seat_m = draw.number(0.47, 0.62)
    lap = ("lap", "thigh", "talk", "lap")
    sets = (lap, lap), (("chin",), lap), (("phone",), lap), (("crossed",), None), (("side",), lap)
    sets += ((("up", "front"), None), (("front", "talk"), ("front", "talk")))
    left, right = sets[draw.rng.integers(len(sets))]
    angles = trunk(draw, (5, 35), 8, 15) | arms(draw, left, right, draw.number(0.7, 1.5))
    angles |= {"root.pitch": draw.path(-18, 15, 1.6), "root.roll": draw.path(-3, 3)}
    sway = draw.path(-0.01, 0.01), draw.path(seat_m - 0.01, seat_m), draw.path(-0.01, 0.01)
    draft = Draft(angles, np.stack(sway, -1))
    # Nearer than this a knee bends by more than 70 degrees.
    farthest = np.sqrt(0.66**2 - (seat_m - 0.17) ** 2)
    _plant(draw, draft, draw.number(0.05, 0.25), 0.0, draw.number(0.25, farthest + 0.12))
    if draw.chance(0.35):
        # An ankle on the other knee, or one thigh over the other.
        place, draft.knees_out_deg["left"] = [-0.1, seat_m + 0.02, 0.52], draw.number(50, 75)
        if draw.chance(0.5):
            place, draft.knees_out_deg["left"] = [-0.2, seat_m - draw.number(0.1, 0.25), 0.58], -5.0
        draft.balls_m["left"] = np.tile(np.array(place), (draw.frames, 1))
        draft.balls_m["left"][:, 1] += draw.path(-0.03, 0.03, 0.6)
        draft.heels_deg["left"] = draw.path(0, 40)
    elif draw.chance(0.5):
        side = draw.one("left", "right")
        draft.balls_m[side] = draft.balls_m[side] + draw.path(-0.1, 0.05)[:, None] * [0, 0, 1]
        draft.heels_deg[side] = draw.path(0, 30, 0.8)
    return draft


def _sit_stand(draw: Draw) -> Draft:
    """Standing up from a seat and sitting down again; one of them is well inside the clip."""
    seat_m, hold_s = draw.number(0.45, 0.6), draw.number(0.4, 1.5)
    move_s = draw.number(1.0, 1.8)
    period_s = 2 * (hold_s + move_s)
    middle_s = draw.frames / draw.fps * draw.number(0.35, 0.65)
    start = draw.one("up", "down")
    clock_s = draw.clock_s() - middle_s + (0 if start == "up" else period_s / 2)
    from_rise = (clock_s + period_s / 4) % period_s - period_s / 4
    rise = np.where(from_rise < period_s / 4, from_rise, period_s / 2 - from_rise) / move_s + 0.5
    upright = _smooth_step(rise)
    forward, high = _smooth_step(rise * 1.15), _smooth_step(rise * 1.15 - 0.15)
    lean = 64 * (rise.clip(0, 1) * (1 - rise.clip(0, 1))) ** 3
    angles = trunk(draw, (2, 14), 4, 8)
    angles |= arms(draw, ("thigh", "lap", "hang"), ("thigh", "hang", "front"), 1.2)
    angles["spine.flex"] = angles["spine.flex"] + 15 * lean
    angles["root.pitch"] = draw.number(20, 38) * lean - 5 * (1 - upright)
    back = draw.number(0.36, 0.44)
    pelvis = [draw.path(-0.01, 0.01), seat_m + (0.97 - seat_m) * high, back * (forward - 1)]
    draft = Draft(angles, np.stack(pelvis, -1))
    _plant(draw, draft, draw.number(0.08, 0.2), draw.number(-0.06, 0.06))
    return draft


def _smooth_step(x: Float[np.ndarray, "t"]) -> Float[np.ndarray, "t"]:
    """0 before 0, 1 after 1, with no jump of speed or acceleration."""
    x = x.clip(0, 1)
    return x**3 * (10 - 15 * x + 6 * x**2)


def _squat(draw: Draw) -> Draft:
    """Crouching and squats, flat-footed or on the toes."""
    deepest = draw.number(0.45, 0.62)
    if draw.chance(0.5):
        depth = 0.5 - 0.5 * np.cos(2 * np.pi * draw.phase(draw.number(1.2, 2.5)))
    else:
        depth = draw.path(0.6, 1, 1.2)
    lean, on_toes = draw.number(8, 24), draw.chance(0.4)
    sets = ("front",), ("talk", "thigh"), ("crossed",), ("thigh",), ("up",), ("hip",)
    angles = trunk(draw, (0, 15)) | arms(draw, sets[draw.rng.integers(len(sets))])
    angles["root.pitch"] = lean * depth + draw.path(-4, 4)
    angles["spine.flex"] = angles["spine.flex"] + draw.number(0, 25) * depth
    height = 0.97 - (0.97 - deepest) * depth
    back = (-0.02 if on_toes else -draw.number(0.14, 0.22)) * depth
    draft = Draft(angles, np.stack([draw.path(-0.02, 0.02), height, back], -1))
    _plant(draw, draft, draw.number(0.1, 0.25), draw.number(-0.1, 0.1))
    if on_toes:
        draft.heels_deg = {side: draw.number(25, 45) * depth for side in SIDES}
    return draft


def _lunge(draw: Draw) -> Draft:
    """One foot far ahead, the body going down and up between them."""
    half, low = draw.number(0.3, 0.46), draw.number(0.45, 0.65)
    height = draw.path(low, 0.85, 1.0)
    sets = ("hang",), ("hip",), ("up",), ("thigh", "talk"), ("front", "side")
    angles = trunk(draw, (-5, 15)) | arms(draw, sets[draw.rng.integers(len(sets))])
    angles |= {"root.pitch": draw.path(0, 20), "root.yaw": draw.path(-12, 5)}
    path = [draw.path(-0.02, 0.02), height, draw.path(-0.08, 0.12)]
    draft = Draft(angles, np.stack(path, -1))
    _plant(draw, draft, draw.number(0.06, 0.14), half)
    draft.toes_out_deg["right"] = draw.number(0, 8)
    draft.heels_deg["right"] = 40 + 25 * (0.85 - height) / 0.4
    return draft


def _stretch(draw: Draw) -> Draft:
    """Side bends, toe touches and side lunges on wide-set feet."""
    style = draw.one("bend", "touch", "side")
    half = draw.number(0.15, 0.3) if style != "side" else draw.number(0.4, 0.5)
    angles = trunk(draw, (-2, 10), 4, 12)
    pelvis = [draw.path(-0.04, 0.04), np.full(draw.frames, 0.98), draw.path(-0.02, 0.02)]
    if style == "bend":
        angles |= arms(draw, ("up",), (draw.one("up", "hip", "hang"),))
        bend = draw.path(-40, 40, 1.2)
        angles |= {"spine.bend": bend, "root.roll": 0.2 * bend}
        pelvis[0] = pelvis[0] - bend / 40 * 0.08
    elif style == "touch":
        down = draw.path(0.2, 1, 1.2)
        angles |= arms(draw, ("front",), None) | {"spine.flex": 60 * down, "spine.bend": 0.0}
        angles |= {"root.pitch": draw.number(50, 80) * down, "root.yaw": draw.path(-15, 15)}
        pelvis[2] = pelvis[2] - 0.16 * down
    else:
        angles |= arms(draw, ("talk", "hip", "side", "front"))
        side = draw.path(-1, 1, 1.2)
        angles |= {"root.roll": 8 * side, "root.pitch": 8 + 14 * np.abs(side)}
        pelvis = [0.28 * side, 0.8 - draw.number(0.1, 0.28) * side**2, -0.1 * side**2]
    draft = Draft(angles, np.stack(pelvis, -1))
    _plant(draw, draft, half, 0.0)
    return draft


def _kick(draw: Draw) -> Draft:
    """Kicks with the left leg, forward or to the side."""
    phase = draw.phase(draw.number(1.2, 2.2))
    at = [0.0, 0.2, 0.33, 0.46, 0.64, 0.86]
    sideways, high = draw.chance(0.35), draw.number(0.25, 0.9)
    far = 0.85 - 0.15 * high
    ahead, out = (0.2, far) if sideways else (far, 0.1)
    # The foot passes well below the hip, else the thigh would spin.
    ball_m = [
        draw.cycle(phase, at, [0.1, 0.12, 0.12, out, 0.14, 0.1]),
        draw.cycle(phase, at, [0, 0.3, 0.26, high, 0.26, 0]) + BALL_HEIGHT_M,
        draw.cycle(phase, at, [0.15, 0.0 if sideways else -0.3, 0.25, ahead, 0.3, 0.15]),
    ]
    strike = draw.cycle(phase, at, [0, 0.1, 0.2, 1, 0.3, 0])
    sets = ("talk",), ("run",), ("side",), ("hang", "side")
    angles = trunk(draw, (2, 10), 5, 10) | arms(draw, sets[draw.rng.integers(len(sets))])
    angles |= {
        "root.pitch": draw.path(-3, 6) - (0 if sideways else 14 * high * strike),
        "root.roll": -22 * high * strike if sideways else draw.path(-3, 3),
        "root.yaw": draw.cycle(phase, at, [0, 12, 0, -12, 0, 0]),
    }
    pelvis = np.stack([draw.path(-0.08, -0.05), draw.path(0.9, 0.96), draw.path(-0.02, 0.02)], -1)
    draft = Draft(angles, pelvis)
    _plant(draw, draft, 0.09, 0.0)
    draft.balls_m["left"] = np.stack(ball_m, -1)
    draft.heels_deg["left"] = draw.cycle(phase, at, [0, 50, 15, 15 - 50 * high, 15, 0])
    return draft


_FAMILIES = {
    "gesture": _gesture,
    "overhead": _overhead,
    "throw": _throw,
    "sit": _sit,
    "sit_stand": _sit_stand,
    "squat": _squat,
    "lunge": _lunge,
    "stretch": _stretch,
    "run": run,
    "high_knees": high_knees,
    "kick": _kick,
    "cross_legged": cross_legged,
    "long_sit": long_sit,
    "kneel": kneel,
    "kneel_one": kneel_one,
    "crawl": crawl,
    "push_up": push_up,
    "lie_back": lie_back,
    "lie_front": lie_front,
    "lie_side": lie_side,
}
MOVES = tuple(_FAMILIES)
"""The families of motion."""
