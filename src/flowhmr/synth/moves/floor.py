"""Procedural motion on the floor: sitting, kneeling, crawling, lying, push-ups."""

import numpy as np

from flowhmr.synth.moves.drafts import Draft, Draw, arms, trunk
from flowhmr.synth.moves.posing import BALL_HEIGHT_M, SIDES, Angles

WRIST_HEIGHT_M = 0.06
SEAT_HEIGHT_M = 0.12
_THIGH_M = 0.376


def _still(draw: Draw, angles: Angles) -> Draft:
    return Draft(angles, np.stack([draw.path(-0.01, 0.01, 2) for _ in range(3)], -1))


def cross_legged(draw: Draw) -> Draft:
    """Sitting on the floor with crossed legs."""
    pitch, over = draw.path(-12, 8, 1.6), draw.number(2, 6)
    sets = ("lap", "thigh"), ("talk", "lap"), ("thigh",), ("chin", "talk"), ("front", "up")
    angles = trunk(draw, (10, 35)) | arms(draw, sets[draw.rng.integers(len(sets))])
    angles["root.pitch"] = pitch
    for side, sign in zip(SIDES, (1, -1)):
        angles |= {
            f"{side}_hip.flex": 101 + pitch + draw.path(-2, 4),
            f"{side}_hip.abd": draw.number(38, 48),
            f"{side}_hip.twist": 80 + sign * over,
            f"{side}_knee.flex": draw.number(118, 132),
            f"{side}_ankle.flex": draw.number(-35, -10),
        }
    return _still(draw, angles)


def long_sit(draw: Draw) -> Draft:
    """Sitting on the floor with the legs ahead, straight or drawn up."""
    propped = draw.chance(0.3)
    pitch = draw.path(-25, -10 if propped else 3, 1.6)
    sets = ("lap", "thigh"), ("talk", "front"), ("thigh", "front")
    angles = trunk(draw, (5, 30)) | arms(draw, sets[draw.rng.integers(len(sets))])
    angles["root.pitch"] = pitch
    for side in SIDES:
        # A knee that is drawn up keeps its heel on the floor.
        up = draw.path(0, draw.number(5, 42), 1.2)
        angles |= {
            f"{side}_hip.flex": 88 + pitch + up,
            f"{side}_hip.abd": draw.path(2, 14, 2),
            f"{side}_hip.twist": draw.number(0, 15),
            f"{side}_knee.flex": up + _below(up),
            f"{side}_ankle.flex": draw.path(-30, 5),
        }
    draft = _still(draw, angles)
    if propped:
        draft.pelvis_m[:, 1] += SEAT_HEIGHT_M
        for side, sign in zip(SIDES, (1, -1)):
            wrist = [sign * draw.number(0.2, 0.35), WRIST_HEIGHT_M, draw.number(-0.38, -0.22)]
            draft.wrists_m[side] = np.tile(np.array(wrist), (draw.frames, 1))
    return draft


def _below(up_deg: np.ndarray) -> np.ndarray:
    """How far below level the shank points when its foot is as low as the hip."""
    return np.degrees(np.arcsin((0.85 * np.sin(np.radians(up_deg))).clip(0, 1)))


def kneel(draw: Draw) -> Draft:
    """On both knees, upright to sitting on the heels."""
    low, high = sorted((draw.number(0, 48), draw.number(0, 48)))
    pitch, hip = draw.path(-4, 18), draw.path(low, high, 1.3)
    sets = ("talk", "front"), ("thigh", "lap"), ("hang",), ("up", "side"), ("hip",), ("crossed",)
    angles = trunk(draw) | arms(draw, sets[draw.rng.integers(len(sets))])
    angles["root.pitch"] = pitch
    spread, tucked = draw.number(2, 18), draw.chance(0.3)
    shank = _shank_deg(tucked)
    for side in SIDES:
        angles |= {
            f"{side}_hip.flex": hip + pitch,
            f"{side}_hip.abd": spread,
            f"{side}_hip.twist": 0.5 * spread,
            f"{side}_knee.flex": 90 + hip + shank,
            f"{side}_ankle.flex": 25.0 if tucked else -60.0,
            f"{side}_foot.flex": 45.0 if tucked else 0.0,
        }
    return _still(draw, angles)


def _shank_deg(tucked: bool) -> float:
    """How much higher the ankle of a kneeling leg is than its knee: toes tucked under, or flat."""
    return 20.0 if tucked else 7.0


def kneel_one(draw: Draw) -> Draft:
    """On the right knee, the left foot ahead."""
    tilt = draw.path(-12, 10, 1.2)
    pitch = draw.path(-3, 15)
    sets = ("thigh", "hip"), ("talk", "front"), ("thigh",), ("up", "talk"), ("hang", "chin")
    angles = trunk(draw) | arms(draw, sets[draw.rng.integers(len(sets))])
    tucked = draw.chance(0.6)
    angles |= {
        "root.pitch": pitch,
        "right_hip.flex": tilt + pitch,
        "right_hip.abd": draw.number(0, 8),
        "right_knee.flex": 90 + tilt + _shank_deg(tucked),
        "right_ankle.flex": 20.0 if tucked else -60.0,
        "right_foot.flex": 45.0 if tucked else 0.0,
    }
    knee_m = 0.06 + _THIGH_M * np.cos(np.radians(tilt)) + 0.095
    ahead = -_THIGH_M * np.sin(np.radians(tilt))
    draft = Draft(angles, np.stack([draw.path(-0.02, 0.02), knee_m, ahead], -1))
    place = [draw.number(0.1, 0.2), BALL_HEIGHT_M, draw.number(0.4, 0.58)]
    draft.balls_m["left"] = np.tile(np.array(place), (draw.frames, 1))
    draft.toes_out_deg["left"] = draw.number(0, 20)
    return draft


def crawl(draw: Draw) -> Draft:
    """On hands and knees, in place or travelling; a knee moves with the opposite hand."""
    period_s, stride_m = draw.number(0.9, 1.5), draw.number(0.0, 0.3)
    phase = draw.number(0, 1) + draw.clock_s() / period_s
    duty = 0.6
    travel = stride_m / duty / period_s * draw.clock_s()
    pitch = draw.number(76, 86) + draw.path(-2, 2)
    sway = np.sin(2 * np.pi * phase)
    angles = trunk(draw, (-6, 14), 3, 3)
    angles |= {"root.pitch": pitch, "root.roll": 3 * sway, "spine.bend": 5 * sway}
    angles["neck.flex"] = draw.path(-45, 10)
    height = 0.06 + _THIGH_M + 0.047
    draft = Draft(angles, np.stack([0.01 * sway, np.full_like(travel, height), travel], -1))
    wide, ahead = draw.number(0.14, 0.22), draw.number(0.4, 0.48)
    for side, sign, late in zip(SIDES, (1, -1), (0.0, 0.5)):
        knee = _swing(phase + late, duty, stride_m)
        tilt = np.degrees(np.arcsin((knee[:, 0] / _THIGH_M).clip(-0.9, 0.9)))
        angles |= {
            f"{side}_hip.flex": pitch + tilt,
            f"{side}_hip.abd": draw.number(0, 8),
            f"{side}_knee.flex": 90 + tilt + _shank_deg(False),
            f"{side}_ankle.flex": draw.number(-64, -56),
        }
        hand = _swing(phase + late + 0.5, duty, stride_m)
        place = [np.full_like(travel, sign * wide), WRIST_HEIGHT_M + 0.25 * hand[:, 1]]
        draft.wrists_m[side] = np.stack([*place, ahead + hand[:, 0] + travel], -1)
    return draft


def _swing(phase: np.ndarray, duty: float, stride_m: float) -> np.ndarray:
    """Place along the way and lift of a limb that carries for ``duty`` of a period."""
    phase = phase % 1
    s = ((phase - duty) / (1 - duty)).clip(0, 1)
    slope = -stride_m / duty * (1 - duty)
    swing = stride_m * (s**2 * (3 - 2 * s) - 0.5) + slope * (s * (1 - s) ** 2 - s**2 * (1 - s))
    along = np.where(phase < duty, stride_m * (0.5 - phase / duty), swing)
    return np.stack([along, stride_m * 16 * s**2 * (1 - s) ** 2], -1)


def push_up(draw: Draw) -> Draft:
    """A plank on straight arms, still or going down and up."""
    wide = draw.number(0.22, 0.36)
    if draw.chance(0.7):
        down = 0.5 - 0.5 * np.cos(2 * np.pi * draw.phase(draw.number(1.0, 2.4)))
    else:
        down = draw.path(0, 0.2)
    shoulder = 0.56 - draw.number(0.1, 0.28) * down
    # A straight line from the ankles, over feet on their balls, to the shoulders.
    ankle_m, body_m, legs_m = 0.19, 1.28, 0.905
    rise = np.arcsin((shoulder - ankle_m) / body_m)
    angles = trunk(draw, (-2, 6), 1, 1) | {"neck.flex": draw.path(-30, 5)}
    angles |= {"root.pitch": 90 - np.degrees(rise), "neck.twist": draw.path(-15, 15)}
    height = ankle_m + legs_m * np.sin(rise) + draw.number(-0.01, 0.04)
    pelvis = np.stack([np.zeros(draw.frames), height, legs_m * np.cos(rise)], -1)
    draft = Draft(angles, pelvis)
    for side, sign in zip(SIDES, (1, -1)):
        ball = np.array([sign * draw.number(0.05, 0.15), 0.04, 0.05])
        wrist = np.array([sign * wide, WRIST_HEIGHT_M, body_m - draw.number(-0.02, 0.08)])
        draft.balls_m[side] = np.tile(ball, (draw.frames, 1))
        draft.wrists_m[side] = np.tile(wrist, (draw.frames, 1))
        draft.heels_deg[side] = 68.0
    return draft


def lie_back(draw: Draw) -> Draft:
    """On the back, legs straight, drawn up or in the air."""
    sets = ("side", "hang"), ("front", "up"), ("behind_head",), ("talk", "hang"), ("up", "hang")
    angles = trunk(draw, (0, 12), 6, 6) | arms(draw, sets[draw.rng.integers(len(sets))])
    angles |= _off_the_floor(angles, 2.0, 150.0)
    angles |= {"root.pitch": -90.0, "root.turn": draw.path(-5, 5), "neck.flex": draw.path(5, 40)}
    for side in SIDES:
        up = draw.path(0, draw.number(5, 95), 1.0)
        angles |= {
            f"{side}_hip.flex": up + 3,
            f"{side}_hip.abd": draw.path(0, 18, 1.5),
            f"{side}_hip.twist": draw.number(0, 20),
            f"{side}_knee.flex": draw.path(0.05, 1, 1.0) * (up + _below(up.clip(0, 90))),
            f"{side}_ankle.flex": draw.path(-35, 5),
        }
    return _still(draw, angles)


def _off_the_floor(angles: Angles, low: float, high: float) -> Angles:
    """Arms kept between behind and before a lying body."""
    names = [f"{side}_shoulder.flex" for side in SIDES]
    return {name: np.clip(angles[name], low, high) for name in names}


def lie_front(draw: Draw) -> Draft:
    """On the front, flat or propped on the elbows, feet on the floor or in the air."""
    propped = draw.chance(0.5)
    angles = trunk(draw, (-4, 2), 4, 4) | {"root.pitch": 88.0, "root.turn": draw.path(-3, 3)}
    angles["neck.flex"] = draw.path(-40, -10)
    hands_up = draw.number(0, 1)
    for side in SIDES:
        arm = {"flex": 0.0, "abd": draw.number(80, 135), "twist": -88.0, "elbow": 75.0}
        if propped:
            arm = {"flex": 62.0, "abd": 10.0, "twist": 20.0, "elbow": 90.0}
        elif hands_up < 0.4:
            arm = {"flex": -4.0, "abd": 20.0, "twist": 20.0, "elbow": 15.0}
        angles |= {
            f"{side}_shoulder.flex": arm["flex"] + draw.path(-5, 5),
            f"{side}_shoulder.abd": arm["abd"] + draw.path(-6, 10),
            f"{side}_shoulder.twist": arm["twist"] + draw.path(-8, 8),
            f"{side}_elbow.flex": arm["elbow"] + draw.path(-12, 12),
            f"{side}_hip.flex": draw.path(-6, 0),
            f"{side}_hip.abd": draw.path(2, 16),
            f"{side}_knee.flex": draw.path(0, draw.number(5, 110), 0.9),
            f"{side}_ankle.flex": draw.path(-50, -38),
        }
    if propped:
        angles["spine.flex"] = draw.path(-48, -40)
    return _still(draw, angles)


def lie_side(draw: Draw) -> Draft:
    """On the right side, legs drawn up, the upper arm and leg moving."""
    angles = trunk(draw, (5, 30), 4, 8) | arms(draw, ("front", "talk", "hang"), ("front",))
    angles |= {"root.pitch": -90.0, "root.turn": draw.path(-102, -74, 1.5)}
    angles |= {"neck.bend": draw.path(-5, 15), "neck.twist": draw.path(-15, 15)}
    # The lower arm lies before the body, not under it.
    angles["right_shoulder.abd"] = angles["right_shoulder.abd"] - 22
    bent = draw.number(5, 70)
    for side, lift in zip(SIDES, (draw.number(0, 35), 0.0)):
        angles |= {
            f"{side}_hip.flex": bent + draw.path(-5, 20),
            f"{side}_hip.abd": draw.path(0, 1, 0.9) * lift - 3,
            f"{side}_knee.flex": 1.1 * bent + draw.path(0, 30),
            f"{side}_ankle.flex": draw.path(-30, 0),
        }
    return _still(draw, angles)
