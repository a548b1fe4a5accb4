"""What a detector mistook is put right, and nothing else is touched."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from flowhmr.body import COCO_17
from flowhmr.data import BONES, without_mistakes
from flowhmr.data.mistakes import (
    AGAINST,
    ASTRAY,
    LONGEST,
    _path,
    _walk,
    stray_keypoints,
    swapped_sides,
    undo_swaps,
)
from flowhmr.data.tracks import ACROSS, ALONG

FRAMES, SIDE = 40, 300.0
MIRROR = list(COCO_17.mirror)
LEGS = list(COCO_17.indices_of(["left_knee", "right_knee", "left_ankle", "right_ankle"]))
FRAME_INDICES, SIDE_PX = torch.arange(FRAMES), torch.full((FRAMES,), SIDE)


def walker() -> tuple[Tensor, Tensor]:
    """Somebody who walks by, seen from the side: limbs swing past each other; and his flow."""
    time = torch.arange(FRAMES) / 6 + 1
    keypoints = torch.zeros(FRAMES, 17, 3)
    keypoints[..., 2] = 0.9
    heights = {"ear": 20, "eye": 18, "shoulder": 60, "elbow": 105, "wrist": 140, "hip": 150,
               "knee": 210, "ankle": 270, "nose": 22}  # fmt: skip
    swings = {"elbow": 20, "wrist": 40, "knee": 25, "ankle": 60}
    for number, name in enumerate(COCO_17.names):
        side, _, joint = name.rpartition("_")
        way = {"left": 1, "right": -1}.get(side, 0)
        keypoints[:, number, 0] = 100 + 8 * time + way * swings.get(joint, 3) * time.sin()
        keypoints[:, number, 1] = heights[joint]
    return keypoints, flow_of(keypoints)


def flow_of(keypoints: Tensor) -> Tensor:
    """How the limbs' points move, exactly."""
    moved = torch.cat([keypoints[1:, :, :2] - keypoints[:-1, :, :2], torch.zeros(1, 17, 2)])
    start, end = moved[:, torch.tensor(BONES)].unbind(2)
    share = torch.tensor(ALONG)[:, None]
    along = start[:, :, None] + share * (end - start)[:, :, None]
    flow = along[:, :, :, None].expand(-1, -1, -1, len(ACROSS), -1).flatten(1, 3)
    known = torch.ones(FRAMES, flow.shape[1], 1)
    known[-1] = 0
    return torch.cat([flow, known], -1) * known


def shaken(keypoints: Tensor, size: float = 2.0) -> Tensor:
    noise = torch.randn(keypoints[..., :2].shape, generator=torch.Generator().manual_seed(0))
    return torch.cat([keypoints[..., :2] + size * noise, keypoints[..., 2:]], -1)


def mirrored(keypoints: Tensor, frames: list[int], which: list[int]) -> tuple[Tensor, Tensor]:
    """What is seen where some keypoints are taken for the other side's, and the flow read there."""
    seen, flow = keypoints.clone(), flow_of(keypoints).unflatten(1, (len(BONES), -1))
    rows = torch.tensor(frames)[:, None]
    seen[rows, which] = keypoints[rows, [MIRROR[k] for k in which]]
    there = flow.clone()
    for bone, (a, b) in enumerate(BONES):
        other = flow[frames, BONES.index((MIRROR[a], MIRROR[b]))]
        share = ((a in which) + (b in which)) / 2
        there[frames, bone] = share * other + (1 - share) * flow[frames, bone]
    return seen, there.flatten(1, 2)


@pytest.mark.parametrize("frames", [[7], list(range(12, 20)), list(range(20, 30, 2)), [0, 1], [39]])
def test_legs_taken_for_each_other_are_put_back(frames):
    keypoints = shaken(walker()[0])
    seen, _ = without_mistakes(*mirrored(keypoints, frames, LEGS), FRAME_INDICES, SIDE_PX)
    # Where the legs pass each other it does not matter which is which.
    apart = (keypoints[:, LEGS[2]] - keypoints[:, LEGS[3]])[:, :2].norm(dim=-1) > 20
    assert apart[frames].any()
    assert torch.equal(seen[apart][:, LEGS[2:]], keypoints[apart][:, LEGS[2:]])


def test_the_whole_body_is_put_back_with_its_flow():
    keypoints, flow = walker()
    everything = mirrored(keypoints, list(range(10, 16)), list(range(17)))
    seen, flow_put_back = without_mistakes(*everything, FRAME_INDICES, SIDE_PX)
    limbs = [k for k in range(17) if COCO_17.names[k].split("_")[-1] in ("knee", "ankle", "wrist")]
    assert torch.equal(seen[:, limbs], keypoints[:, limbs])
    lower = [n for n, (a, b) in enumerate(BONES) if a in limbs and b in limbs]
    there = flow_put_back.unflatten(1, (len(BONES), -1))[:, lower]
    assert torch.equal(there, flow.unflatten(1, (len(BONES), -1))[:, lower])


def test_flow_that_was_read_between_two_limbs_is_unknown():
    keypoints, flow = walker()
    swapped = torch.zeros(FRAMES, 17, dtype=torch.bool)
    swapped[5, LEGS] = True
    _, there = undo_swaps(keypoints, flow, swapped)
    there = there.unflatten(1, (len(BONES), -1))
    torn = torch.tensor([(a in LEGS) != (b in LEGS) for a, b in BONES])
    assert torn.sum() == 2
    assert not there[5, torn].any()
    assert torch.equal(there[:5], flow.unflatten(1, (len(BONES), -1))[:5])
    assert there[5, ~torn, :, 2].all()


def test_what_is_right_is_left_alone():
    keypoints, flow = walker()
    keypoints = shaken(keypoints, 3.0)
    seen, there = without_mistakes(keypoints, flow, FRAME_INDICES, SIDE_PX)
    assert torch.equal(seen, keypoints)
    assert torch.equal(there, flow)


def test_the_shorter_of_two_stretches_is_put_back():
    keypoints, _ = walker()
    first = swapped_sides(*mirrored(keypoints, list(range(8)), LEGS), FRAME_INDICES, SIDE_PX)
    assert first[:8, LEGS].any()
    assert not first[8:].any()
    rest = list(range(8, FRAMES))
    later = swapped_sides(*mirrored(keypoints, rest, LEGS), FRAME_INDICES, SIDE_PX)
    assert later[:8, LEGS].any()
    assert not later[10:].any()


def test_frames_that_do_not_follow_each_other_are_not_compared():
    keypoints, _ = walker()
    frames = FRAME_INDICES + 50 * (FRAME_INDICES >= 20)
    half = mirrored(keypoints, list(range(20, FRAMES)), LEGS)
    assert not swapped_sides(*half, frames, SIDE_PX).any()
    assert swapped_sides(*half, FRAME_INDICES, SIDE_PX).any()


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_limb_that_is_elsewhere_for_a_moment_is_left_out(length):
    keypoints, flow = walker()
    ankle = COCO_17.index("left_ankle")
    seen = shaken(keypoints)
    seen[15 : 15 + length, ankle, 0] += 150
    found, there = without_mistakes(seen, flow, FRAME_INDICES, SIDE_PX)
    stray = found[..., 2] == 0
    assert stray.nonzero().tolist() == [[frame, ankle] for frame in range(15, 15 + length)]
    assert not found[stray].any()
    of_ankle = torch.tensor([ankle in bone for bone in BONES])
    unknown = there.unflatten(1, (len(BONES), -1))[..., 2] == 0
    assert unknown[15 : 15 + length, of_ankle].all()
    assert not unknown[:15].any()


def test_a_glimpse_between_two_long_pauses_is_kept():
    keypoints, flow = walker()
    ankle = COCO_17.index("left_ankle")
    keypoints[15:17, ankle, 0] += 150
    frames = FRAME_INDICES + 50 * (FRAME_INDICES >= 15) + 50 * (FRAME_INDICES >= 17)
    assert not stray_keypoints(keypoints, flow, frames, SIDE_PX).any()
    assert stray_keypoints(keypoints, flow, FRAME_INDICES, SIDE_PX)[15:17, ankle].all()


def test_a_kick_that_the_flow_shows_is_kept():
    keypoints, _ = walker()
    ankle = COCO_17.index("left_ankle")
    keypoints[15:19, ankle, 0] += 150
    assert not stray_keypoints(keypoints, flow_of(keypoints), FRAME_INDICES, SIDE_PX).any()


def test_what_was_not_detected_is_neither_swapped_nor_stray():
    keypoints, flow = walker()
    wrist = COCO_17.index("right_wrist")
    keypoints[10:30, wrist] = 0
    keypoints[33, wrist, 2] = 0.1
    found, _ = without_mistakes(keypoints, flow, FRAME_INDICES, SIDE_PX)
    assert torch.equal(found, keypoints)
    nothing = torch.zeros_like(keypoints)
    found, _ = without_mistakes(nothing, torch.zeros_like(flow), FRAME_INDICES, SIDE_PX)
    assert not found.any()


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_short_tracks(frames):
    keypoints, flow = walker()
    part = slice(frames)
    seen, there = without_mistakes(
        keypoints[part], flow[part], FRAME_INDICES[part], SIDE_PX[part]
    )  # fmt: skip
    assert torch.equal(seen, keypoints[part])
    assert torch.equal(there, flow[part])


@pytest.mark.parametrize("seed", range(6))
def test_the_path_is_the_cheapest_of_all(seed):
    costs = torch.rand(6, 2, 2, generator=torch.Generator().manual_seed(seed))

    def cost(states: tuple[int, ...]) -> float:
        steps = sum(float(costs[k, a, b]) for k, (a, b) in enumerate(itertools.pairwise(states)))
        return steps + AGAINST * sum(states)

    best = min(itertools.product((0, 1), repeat=7), key=cost)
    assert _path(costs, torch.arange(7), AGAINST).int().tolist() == list(best)


@pytest.mark.parametrize("seed", range(6))
def test_the_walk_is_the_cheapest_of_all(seed):
    count = 7
    costs = np.random.default_rng(seed).uniform(0, 12, (count, LONGEST + 1))
    costs += ASTRAY * np.arange(LONGEST + 1)
    costs[np.arange(count)[:, None] <= np.arange(LONGEST + 1)] = np.inf

    def cost(kept: tuple[int, ...]) -> float:
        steps = sum(costs[b, b - a - 1] for a, b in itertools.pairwise(kept))
        return steps + ASTRAY * (kept[0] + count - 1 - kept[-1])

    walks = [w for n in range(1, count + 1) for w in itertools.combinations(range(count), n)]
    best = min(walks, key=cost)
    assert np.flatnonzero(_walk(costs)).tolist() == list(best)
