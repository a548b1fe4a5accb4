"""Procedural steps: running, and knees lifted high."""

import numpy as np

from flowhmr.synth.moves.drafts import Draft, Draw, arms, trunk
from flowhmr.synth.moves.posing import BALL_HEIGHT_M, SIDES

GRAVITY = 9.81
"""Metres per second squared."""
_FOOT_M = 0.24


def _steps(
    draw: Draw, phase: np.ndarray, duty: float, stride_m: float, lift_m: float, knee_m: float
) -> tuple[np.ndarray, np.ndarray]:
    """Ball of a foot from under the pelvis, and its heel: on the floor for ``duty`` of a period.

    There it moves back at one speed, so that it stands still while the pelvis travels.
    """
    phase = phase % 1
    back, swing = 0.55 * stride_m, 1 - duty
    s = ((phase - duty) / swing).clip(0, 1)
    slope = -stride_m / duty * swing
    # Cubic Hermite from the end of the stance to its begin, with the stance's speed at both.
    hermite = (-back) * (1 + 2 * s) * (1 - s) ** 2 + (stride_m - back) * s**2 * (3 - 2 * s)
    hermite += slope * (s * (1 - s) ** 2 - s**2 * (1 - s)) + knee_m * 16 * s**2 * (1 - s) ** 2
    z = np.where(phase < duty, stride_m - back - phase / duty * stride_m, hermite)
    at = [
        0.0,
        0.1 * duty,
        0.5 * duty,
        duty,
        *(duty + swing * np.array([0.45 if knee_m else 0.35, 0.85])),
    ]
    y = draw.cycle(phase, [0.0, *at[3:]], [0, 0, lift_m, 0.2 * lift_m])
    heel = draw.cycle(phase, at, [-8, 0, 8, 50, 70 if knee_m < 0.1 else 25, 5])
    # With raised toes the foot stands on its heel.
    y = y + BALL_HEIGHT_M + _FOOT_M * np.sin(np.radians(-heel.clip(max=0)))
    return np.stack([np.zeros_like(z), y, z + 0.15], -1), heel


def _gait(draw: Draw, period_s: float, duty: float, stride_m: float, knees: bool) -> Draft:
    """Steps with swinging arms and, where feet are down for less than half the time, flight."""
    rate = 1 / period_s
    phase = draw.number(0, 1) + draw.clock_s() * rate
    half = draw.number(0.03, 0.07)
    lift_m = draw.number(0.28, 0.45) if knees else draw.number(0.18, 0.35)
    knee_m = draw.number(0.2, 0.35) if knees else 0.0
    # In flight the pelvis falls freely; between flights the floor pushes it up evenly.
    after = (phase % 0.5) / rate
    down_s, fly_s = duty * period_s, max(0.0, 0.5 - duty) * period_s
    fly = (after - down_s).clip(0)
    clearance = GRAVITY / 2 * fly * (fly_s - fly).clip(0)
    push = GRAVITY / 2 * fly_s * after * (down_s - after).clip(0) / down_s
    height = 0.95 + clearance - push
    if fly_s == 0:
        height = 0.95 - 0.015 * np.cos(4 * np.pi * (phase - duty / 2))
    swing = np.sin(2 * np.pi * (phase - duty / 2 + 0.25))
    angles = trunk(draw, (2, 10), 3, 5) | arms(draw, ("run",), None, 2.0)
    reach = draw.number(20, 40)
    for side, sign in zip(SIDES, (-1, 1)):
        angles[f"{side}_shoulder.flex"] = angles[f"{side}_shoulder.flex"] + sign * reach * swing
        angles[f"{side}_elbow.flex"] = angles[f"{side}_elbow.flex"] + sign * 10 * swing
    turned = draw.number(4, 10) * swing
    angles |= {"root.pitch": draw.number(2, 14), "root.yaw": -turned}
    angles["spine.twist"] = angles["spine.twist"] + 2.2 * turned
    travel = stride_m / duty * rate * draw.clock_s()
    draft = Draft(angles, np.stack([0.01 * swing, height, travel], -1))
    for side, sign, ahead in zip(SIDES, (1, -1), (0.0, 0.5)):
        ball_m, heel = _steps(draw, phase + ahead, duty, stride_m, lift_m, knee_m)
        ball_m = ball_m + np.stack([np.full_like(travel, sign * half), clearance, travel], -1)
        draft.balls_m[side], draft.heels_deg[side] = ball_m, heel
        draft.toes_out_deg[side] = draw.number(0, 8)
    draft.clearance_m = clearance if fly_s else None
    return draft


def run(draw: Draw) -> Draft:
    """Jogging to running, with flight."""
    duty = draw.number(0.28, 0.42)
    return _gait(draw, draw.number(0.6, 0.8), duty, draw.number(0.3, 0.58), knees=False)


def high_knees(draw: Draw) -> Draft:
    """Knees lifted high as on stairs."""
    return _gait(
        draw, draw.number(1.0, 1.7), draw.number(0.5, 0.6), draw.number(0.03, 0.3), knees=True
    )
