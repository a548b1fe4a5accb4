"""Mistakes of keypoint detectors that show in the motion, undone before anything is made of them.

Seen from the side, legs cover each other, and detectors take one for the other for some frames, or
in every second one; now and then a limb is somewhere else for a moment. A network that is told so
lands between the two. What is true shows in the motion: a limb goes where the optical flow says.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from flowhmr.body import COCO_17
from flowhmr.data.tracks import ACROSS, ALONG, BONES, MIN_CONFIDENCE, MIRRORED_BONES

GROUPS = (("knee", "ankle"), ("elbow", "wrist"), ("hip", "shoulder"), ("eye", "ear"))
"""Keypoints that are taken for the other side's together."""
STRAYING = COCO_17.indices_of(
    [f"{s}_{n}" for s in ("left", "right") for n in ("knee", "ankle", "elbow", "wrist")]
)
"""Keypoints that are elsewhere now and then."""
UNIT = 0.02
"""A keypoint that moves otherwise than the flow by so much, in shares of the person's crop, begins
to speak against a hypothesis."""
MOST = 10.0
"""What a keypoint's step may cost, in units. Of hypotheses about sides, all pay as much where it is
not known."""
CHANGE = 1.0
"""What it costs to take the detector's word for the sides in one frame and not in the next."""
AGAINST = 0.3
"""What it costs, in each frame, not to take it: of two long stretches that contradict each other
the shorter is put back."""
ASTRAY = 4.0
"""What it costs to leave a keypoint out in a frame."""
LONGEST = 8
"""In so many known frames in a row a keypoint may be elsewhere."""

_MIRROR = list(COCO_17.mirror)


def without_mistakes(
    keypoints_px: Float[Tensor, "t 17 3"],
    limb_flow_px: Float[Tensor, "t p 3"],
    frame_indices: Int[Tensor, "t"],
    side_px: Float[Tensor, "t"],
) -> tuple[Float[Tensor, "t 17 3"], Float[Tensor, "t p 3"]]:
    """Keypoints with the sides put right and without strays, and the flow that goes with them.

    Args:
        keypoints_px: of one person, x and y in pixels of the image, and confidence.
        limb_flow_px: flow at the limbs' points (`flowhmr.data.limb_points`) until the next frame
            of the video, pixels of the image, and 1 where it is known.
        frame_indices: which frames of the video; across a gap, sides are not compared, and across
            a long one nothing is.
        side_px: width of the person's crop.
    """
    swapped = swapped_sides(keypoints_px, limb_flow_px, frame_indices, side_px)
    keypoints_px, limb_flow_px = undo_swaps(keypoints_px, limb_flow_px, swapped)
    stray = stray_keypoints(keypoints_px, limb_flow_px, frame_indices, side_px)
    keypoints_px = torch.where(stray[..., None], torch.zeros(()), keypoints_px)
    on_stray = stray[:, torch.tensor(BONES)].any(-1)
    return keypoints_px, _forgotten(limb_flow_px, on_stray)


def swapped_sides(
    keypoints_px: Float[Tensor, "t 17 3"],
    limb_flow_px: Float[Tensor, "t p 3"],
    frame_indices: Int[Tensor, "t"],
    side_px: Float[Tensor, "t"],
) -> Bool[Tensor, "t 17"]:
    """Which keypoints are the other side's: the likeliest path through both hypotheses, by group.

    Arguments as those of `without_mistakes`.
    """
    swapped = torch.zeros(keypoints_px.shape[:2], dtype=torch.bool)
    moved_px = _moved(limb_flow_px)
    for group in GROUPS:
        own = _both_sides(group)
        hypotheses = own, [_MIRROR[k] for k in own]
        costs = torch.zeros(len(keypoints_px) - 1, 2, 2)
        for before, a in enumerate(hypotheses):
            for after, b in enumerate(hypotheses):
                cost, known = _steps(keypoints_px, moved_px, side_px, a, b)
                costs[:, before, after] = torch.where(known, cost, MOST).sum(-1)
        costs += CHANGE * (1 - torch.eye(2))
        swapped[:, own] = _path(costs, frame_indices, AGAINST)[:, None]
    return swapped


def undo_swaps(
    keypoints_px: Float[Tensor, "t 17 3"],
    limb_flow_px: Float[Tensor, "t p 3"],
    swapped: Bool[Tensor, "t 17"],
) -> tuple[Float[Tensor, "t 17 3"], Float[Tensor, "t p 3"]]:
    """Keypoints and the limbs' flow with what belongs to the other side given back.

    Where one end of a bone was the other side's and the other end was not, the flow was read
    between two limbs: it becomes unknown.
    """
    keypoints_px = torch.where(swapped[..., None], keypoints_px[:, _MIRROR], keypoints_px)
    flow = limb_flow_px.unflatten(1, (len(BONES), -1))
    ends = swapped[:, torch.tensor(BONES)]
    flow = torch.where(ends.all(-1)[..., None, None], flow[:, MIRRORED_BONES], flow)
    return keypoints_px, _forgotten(flow.flatten(1, 2), ends[..., 0] != ends[..., 1])


def stray_keypoints(
    keypoints_px: Float[Tensor, "t 17 3"],
    limb_flow_px: Float[Tensor, "t p 3"],
    frame_indices: Int[Tensor, "t"],
    side_px: Float[Tensor, "t"],
) -> Bool[Tensor, "t 17"]:
    """Which known keypoints are elsewhere for a moment.

    Of the frames in which a keypoint is known those are kept that are the cheapest to walk through:
    a step costs more the further it is from where the flow at its start leads, compared with the
    person's other keypoints (in a somersault all flow fails), and each frame left out costs
    `ASTRAY`. Arguments as those of `without_mistakes`.
    """
    stray = torch.zeros(keypoints_px.shape[:2], dtype=torch.bool)
    moved_px = _moved(limb_flow_px)
    reach_px = _reach(keypoints_px, moved_px, side_px)
    within_px = torch.cat([reach_px.new_zeros(1), reach_px]).cumsum(0)
    for keypoint in STRAYING:
        rows = (keypoints_px[:, keypoint, 2] >= MIN_CONFIDENCE).nonzero()[:, 0]
        costs = torch.full((len(rows), LONGEST + 1), torch.inf)
        for back in range(1, min(LONGEST + 1, len(rows) - 1) + 1):
            i, j = rows[:-back], rows[back:]
            frames = frame_indices[j] - frame_indices[i]
            goes_px = keypoints_px[i, keypoint, :2] + frames[:, None] * moved_px[i, keypoint]
            off_px = keypoints_px[j, keypoint, :2] - goes_px
            cost = _cost(off_px / (within_px[j] - within_px[i])[:, None])
            # After a pause it may be anywhere.
            cost = torch.where(frames > LONGEST + 1, torch.zeros(()), cost)
            costs[back:, back - 1] = cost + ASTRAY * (back - 1)
        kept = _walk(costs.double().numpy())
        stray[rows, keypoint] = torch.from_numpy(~kept)
    return stray


def _walk(costs: Float[np.ndarray, "n b"]) -> Bool[np.ndarray, "n"]:
    """Which of ``n`` places the cheapest walk visits.

    Args:
        costs: of each place, from the place before it, the one before that, and so on; infinite
            where there is none.
    """
    count, longest = costs.shape
    best, came = np.zeros(count), np.full(count, -1)
    for place in range(count):
        # Or all before it are left out.
        best[place] = ASTRAY * place
        befores = np.arange(place - 1, max(place - 1 - longest, -1), -1)
        ways = best[befores] + costs[place, : len(befores)]
        if len(ways) and ways.min() <= best[place]:
            best[place], came[place] = ways.min(), befores[ways.argmin()]
    kept = np.zeros(count, dtype=bool)
    place = int((best + ASTRAY * np.arange(count - 1, -1, -1)).argmin()) if count else -1
    while place >= 0:
        kept[place] = True
        place = int(came[place])
    return kept


def _both_sides(group: Sequence[str]) -> list[int]:
    return list(COCO_17.indices_of([f"{s}_{name}" for name in group for s in ("left", "right")]))


def _forgotten(
    limb_flow_px: Float[Tensor, "t p 3"], bones: Bool[Tensor, "t b"]
) -> Float[Tensor, "t p 3"]:
    """Flow along some bones made unknown."""
    flow = limb_flow_px.unflatten(1, (len(BONES), -1))
    return torch.where(bones[..., None, None], torch.zeros(()), flow).flatten(1, 2)


def _moved(limb_flow_px: Float[Tensor, "t p 3"]) -> Float[Tensor, "t 17 2"]:
    """How keypoints move: as the nearest points of the bones that end there; 0 where unknown."""
    flow = limb_flow_px.unflatten(1, (len(BONES), len(ALONG), len(ACROSS)))
    total = torch.zeros(len(flow), len(COCO_17), 3)
    for number, ends in enumerate(BONES):
        for keypoint, nearest in zip(ends, (0, -1), strict=True):
            there = flow[:, number, nearest]
            known = there[..., 2:]
            total[:, keypoint] += torch.cat([there[..., :2] * known, known], -1).sum(1)
    return total[..., :2] / total[..., 2:].clamp(min=1)


def _reach(
    keypoints_px: Float[Tensor, "t 17 3"],
    moved_px: Float[Tensor, "t 17 2"],
    side_px: Float[Tensor, "t"],
) -> Float[Tensor, "t1"]:
    """How far off the flow a keypoint's step may be: `UNIT`, and what half of them are."""
    off_px = (keypoints_px[1:, :, :2] - keypoints_px[:-1, :, :2] - moved_px[:-1]).norm(dim=-1)
    sure = torch.minimum(keypoints_px[:-1, :, 2], keypoints_px[1:, :, 2]) >= MIN_CONFIDENCE
    usual_px = torch.where(sure, off_px, torch.nan).nanmedian(-1).values.nan_to_num(0.0)
    return UNIT * side_px[:-1] + usual_px


def _steps(
    keypoints_px: Float[Tensor, "t 17 3"],
    moved_px: Float[Tensor, "t 17 2"],
    side_px: Float[Tensor, "t"],
    before: list[int],
    after: list[int],
) -> tuple[Float[Tensor, "t1 k"], Bool[Tensor, "t1 k"]]:
    """What it costs that keypoints of a frame are others of the next, and where both are known."""
    goes_px = keypoints_px[:-1, before, :2] + moved_px[:-1, before]
    cost = _cost((keypoints_px[1:, after, :2] - goes_px) / (UNIT * side_px[:-1, None, None]))
    sure = torch.minimum(keypoints_px[:-1, before, 2], keypoints_px[1:, after, 2])
    return cost, sure >= MIN_CONFIDENCE


def _cost(off: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b"]:
    return (torch.sqrt(1 + off.square().sum(-1)) - 1).clamp(max=MOST)


def _path(
    costs: Float[Tensor, "t1 2 2"], frame_indices: Int[Tensor, "t"], second: float
) -> Bool[Tensor, "t"]:
    """In which frames the cheapest path (Viterbi) is in the second state, at ``second`` a frame."""
    follows = (frame_indices.diff() == 1)[:, None, None]
    steps = torch.where(follows, costs, torch.zeros(())).double().numpy()
    own = np.array([0.0, second])
    best, came = own, np.zeros((len(steps), 2), dtype=np.int64)
    for frame, step in enumerate(steps):
        ways = best[:, None] + step
        came[frame] = ways.argmin(0)
        best = ways.min(0) + own
    states = [int(best.argmin())]
    for row in came[::-1]:
        states.append(int(row[states[-1]]))
    return torch.tensor(states[::-1], dtype=torch.bool)
