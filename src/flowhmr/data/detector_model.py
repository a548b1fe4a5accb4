"""How a keypoint detector errs: exact keypoints in, what it would have reported out."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from flowhmr.body import COCO_17

MIRROR = torch.tensor(COCO_17.mirror)
LEGS = COCO_17.indices_of([f"{s}_{j}" for s in ("left", "right") for j in ("hip", "knee", "ankle")])
LIMBS = tuple(
    COCO_17.indices_of([f"{side}_{joint}" for joint in joints])
    for joints in (("hip", "knee", "ankle"), ("shoulder", "elbow", "wrist"))
    for side in ("left", "right")
)
"""Where each hangs, and the two that are mistaken together."""
NOWHERE = -1


@dataclass(frozen=True)
class DetectorModel:
    """How a keypoint detector errs. Lengths are shares of the person's crop."""

    bias: float = 0.012
    """Standard deviation of what is constant along a clip, keypoint by keypoint: detectors do not
    agree on where a hip is."""
    noise: tuple[float, float] = (0.004, 0.016)
    """Of what is new in each frame; drawn for each clip."""
    drift: tuple[float, float] = (0.004, 0.014)
    """Of what changes slowly; drawn for each clip."""
    hidden: float = 3.0
    """Noise and drift are so many times as large where the keypoint is hidden."""
    reports_all: float = 0.5
    """Share of clips in which hidden keypoints are reported all the same (in the rest the legs are
    in half of the clips: Motion HMR, appendix B)."""
    flips: float = 0.03
    """Share of keypoints whose state is turned round."""
    lost: float = 0.5
    """Share of clips in which a keypoint is lost for up to 20 frames."""
    lost_person: float = 0.15
    """Share of clips in which everything is lost, for up to 15 frames."""
    merged: float = 0.2
    """Share of clips in which a limb is reported where the other side's is, for up to 20 frames,
    with little confidence."""
    crossed: float = 0.2
    """Share of clips in which both legs, or both arms, are taken for each other for up to 12
    frames, or in every second one of them."""
    stray: float = 0.15
    """Share of clips in which a limb is reported somewhere else for up to 5 frames."""
    swapped: float = 0.1
    """Share of clips in which left and right are swapped for up to 6 frames."""
    flow_noise: float = 0.003
    """Standard deviation of the flow."""
    flow_lost: float = 0.05
    """Share of flow vectors that are something else, and as many that are missing."""
    focal: float = 0.15
    """Standard deviation of the logarithm of the focal length that is given."""


@dataclass(frozen=True, eq=False)
class Detected:
    """What a detector reports of a person."""

    keypoints_px: Float[Tensor, "t 17 3"]
    """COCO's, and confidence; zeros where missing."""
    source: Int[Tensor, "t 17"]
    """Which of the true keypoints each one is: itself, as a rule; `NOWHERE`: none."""


def detections(
    keypoints_px: Float[Tensor, "t 17 2"],
    visible: Bool[Tensor, "t 17"],
    side_px: Float[Tensor, "t"],
    model: DetectorModel,
    rng: np.random.Generator,
) -> Detected:
    """The keypoints as a detector would give them.

    Args:
        keypoints_px: where they are.
        visible: which are seen.
        side_px: width of the person's crop.
        model: of the detector.
        rng: source of every choice.
    """
    t = len(keypoints_px)

    def normal(*shape: int) -> Tensor:
        return torch.from_numpy(rng.standard_normal(shape)).float()

    def chance(*shape: int) -> Tensor:
        return torch.from_numpy(rng.random(shape)).float()

    slow = torch.from_numpy(_slow(rng, t, 34)).float().unflatten(-1, (17, 2))
    error = rng.uniform(*model.noise) * normal(t, 17, 2) + rng.uniform(*model.drift) * slow
    error = error * torch.where(visible[..., None], 1.0, model.hidden) + model.bias * normal(17, 2)
    seen_px = keypoints_px + side_px[:, None, None] * error

    found = visible.clone()
    if rng.random() < model.reports_all:
        found |= chance(t, 17) < 0.9
    elif rng.random() < 0.5:
        found[:, list(LEGS)] = True
    found ^= chance(t, 17) < model.flips
    if rng.random() < model.lost:
        found[_stretch(rng, t, 20), int(rng.integers(17))] = False
    if rng.random() < model.lost_person:
        found[_stretch(rng, t, 15)] = False
    sure = torch.where(visible, 0.6 + 0.4 * chance(t, 17), 0.3 + 0.5 * chance(t, 17))
    confidence = (sure * found)[..., None]
    seen = torch.cat([seen_px * (confidence > 0), confidence], -1)

    source = torch.arange(17).repeat(t, 1)
    if rng.random() < model.merged:
        _, *limb = LIMBS[rng.integers(4)]
        when, other = _stretch(rng, t, 20), MIRROR[limb]
        there, known = seen[when][:, other], seen[when][:, other, 2:] > 0
        little = (0.1 + 0.5 * chance(t, 1, 1)[when]).expand(-1, 2, -1)
        seen[when][:, limb] = torch.cat([there[..., :2], little], -1) * known
        source[when][:, limb] = other
    if rng.random() < model.crossed:
        legs = 2 * int(rng.integers(2))
        both = [*LIMBS[legs][1:], *LIMBS[legs + 1][1:]]
        when = _stretch(rng, t, 12)
        when = slice(when.start, when.stop, 1 + int(rng.integers(2)))
        seen[when][:, both] = seen[when][:, MIRROR[both]]
        source[when][:, both] = source[when][:, MIRROR[both]]
    if rng.random() < model.stray:
        hangs, *limb = LIMBS[rng.integers(4)]
        when, angle = _stretch(rng, t, 5), rng.uniform(0.4, 2 * np.pi - 0.4)
        turn = torch.tensor([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        pivot_px = keypoints_px[when][:, [hangs]]
        there_px = pivot_px + (keypoints_px[when][:, limb] - pivot_px) @ turn.float()
        much = (0.5 + 0.5 * chance(t, 1, 1)[when]).expand(-1, 2, -1)
        seen[when][:, limb] = torch.cat([there_px, much], -1)
        source[when][:, limb] = NOWHERE
    if rng.random() < model.swapped:
        when = _stretch(rng, t, 6)
        # What is known of a keypoint goes with it, be it that it is missing.
        seen[when], source[when] = seen[when][:, MIRROR], source[when][:, MIRROR]
    return Detected(seen, source)


def _slow(rng: np.random.Generator, frames: int, channels: int) -> np.ndarray:
    """Smooth noise of standard deviation 1."""
    width = 4
    kernel = np.exp(-0.5 * (np.arange(-3 * width, 3 * width + 1) / width) ** 2)
    white = rng.standard_normal((frames + 6 * width, channels))
    smooth = [np.convolve(column, kernel, "valid") for column in white.T]
    return np.stack(smooth, -1) / np.sqrt((kernel**2).sum())


def _stretch(rng: np.random.Generator, frames: int, longest: int) -> slice:
    start = int(rng.integers(frames))
    return slice(start, start + 1 + int(rng.integers(longest)))
