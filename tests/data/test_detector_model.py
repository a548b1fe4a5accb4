"""The simulated keypoint detector errs as it is told to, and only so."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from flowhmr.body import COCO_17
from flowhmr.data import Detected, DetectorModel, detections
from flowhmr.data.detector_model import LIMBS, NOWHERE

FRAMES = 14
LEGS = COCO_17.indices_of([f"{s}_{j}" for s in ("left", "right") for j in ("hip", "knee", "ankle")])
SURE = DetectorModel(
    bias=0.0, noise=(0.0, 0.0), drift=(0.0, 0.0), reports_all=0.0, flips=0.0, lost=0.0,
    lost_person=0.0, merged=0.0, crossed=0.0, stray=0.0, swapped=0.0, flow_noise=0.0,
    flow_lost=0.0, focal=0.0,
)  # fmt: skip
"""Sees what there is to see, and nothing else."""


def walker(frames: int = FRAMES) -> Tensor:
    """Confident keypoints of somebody about 100 px tall, the same in each frame."""
    generator = torch.Generator().manual_seed(0)
    places = torch.rand(17, 2, generator=generator) * torch.tensor([40.0, 100.0]) + 50
    return torch.cat([places, torch.ones(17, 1)], -1).repeat(frames, 1, 1)


def detect(
    model: DetectorModel, seed: int = 0, visible: Tensor | None = None, frames: int = FRAMES
) -> Tensor:
    if visible is None:
        visible = torch.ones(frames, 17, dtype=torch.bool)
    rng = np.random.default_rng(seed)
    return report(model, rng, visible, frames).keypoints_px


def report(
    model: DetectorModel, rng: np.random.Generator, visible: Tensor, frames: int
) -> Detected:
    return detections(walker(frames)[..., :2], visible, torch.full((frames,), 100.0), model, rng)


def legless(frames: int = FRAMES) -> Tensor:
    visible = torch.ones(frames, 17, dtype=torch.bool)
    visible[:, [*LEGS, 0]] = False
    return visible


def test_a_detector_without_errors_gives_the_truth():
    seen = detect(SURE)
    assert_close(seen[..., :2], walker()[..., :2])
    assert ((seen[..., 2] >= 0.6) & (seen[..., 2] <= 1)).all()


def test_hidden_legs_are_reported_in_half_of_the_clips():
    """All of them or none; the nose, as hidden, in none."""
    reported = 0
    for seed in range(100):
        seen = detect(SURE, seed, legless())
        legs = seen[:, list(LEGS), 2] > 0
        assert legs.all() or not legs.any()
        reported += bool(legs.any())
        assert not seen[:, 0].any()
        assert ((seen[:, list(LEGS), 2] >= 0.3) & (seen[:, list(LEGS), 2] < 0.8))[legs].all()
        assert (seen[~legless()][seen[~legless()][:, 2] == 0] == 0).all()
    assert 33 < reported < 67


def test_all_that_is_hidden_may_be_reported():
    model = replace(SURE, reports_all=1.0)
    share = torch.stack([detect(model, s, legless())[:, 0, 2] > 0 for s in range(30)])
    assert share.float().mean() == pytest.approx(0.9, abs=0.04)
    half = replace(SURE, reports_all=0.5)
    clips = [bool((detect(half, s, legless())[:, 0, 2] > 0).any()) for s in range(80)]
    assert 25 < sum(clips) < 55


def errors(model: DetectorModel, visible: Tensor | None = None, frames: int = 400) -> Tensor:
    """In shares of the crop, ``[n t 17 2]``."""
    model = replace(model, reports_all=1.0)
    seen = torch.stack([detect(model, seed, visible, frames) for seed in range(5)])
    return (seen[..., :2] - walker(frames)[..., :2]) / 100


def test_noise_is_new_in_each_frame_and_larger_where_hidden():
    hidden = legless(400)
    off = errors(replace(SURE, noise=(0.01, 0.01)), hidden)
    assert off[:, hidden].std() == pytest.approx(0.01, rel=0.05)
    legs = off[:, :, list(LEGS)]
    legs = legs[legs.abs().amax(-1) < 0.2]  # those that are reported
    assert legs.std() == pytest.approx(0.03, rel=0.05)
    body = off[:, :, 5]
    assert abs(float((body[:, 1:] * body[:, :-1]).mean())) < 0.1 * 0.01**2


def test_drift_is_smooth_and_of_the_size_that_is_asked_for():
    off = errors(replace(SURE, drift=(0.01, 0.01)))
    assert off.std() == pytest.approx(0.01, rel=0.1)
    assert (off[:, 1:] * off[:, :-1]).mean() / off.square().mean() > 0.9
    assert off.diff(dim=1).std() < 0.3 * off.std()


def test_bias_is_constant_along_a_clip_and_the_same_where_hidden():
    off = errors(replace(SURE, bias=0.02), frames=6)
    assert_close(off, off[:, :1].expand_as(off), atol=1e-5, rtol=0)
    assert off.std() == pytest.approx(0.02, rel=0.2)
    assert not torch.allclose(off[0], off[1])


def test_strength_of_noise_is_drawn_for_each_clip():
    model = replace(SURE, noise=(0.004, 0.016))
    sizes = [float((detect(model, s)[..., :2] - walker()[..., :2]).std() / 100) for s in range(40)]
    assert min(sizes) < 0.006
    assert max(sizes) > 0.014


def test_flips_turn_the_state_round():
    turned = [detect(replace(SURE, flips=1.0), seed, legless()) for seed in range(9)]
    assert all(bool((seen[:, 0, 2] > 0).all()) for seen in turned)
    assert not any(bool(seen[:, 5].any()) for seen in turned)
    assert len({bool(seen[0, LEGS[0], 2] > 0) for seen in turned}) == 2
    share = detect(replace(SURE, flips=0.1), 1, frames=300)[..., 2] == 0
    assert share.float().mean() == pytest.approx(0.1, abs=0.02)


def stretches(lost: Tensor) -> list[int]:
    """Lengths of the runs of True."""
    edges = torch.cat([torch.zeros(1), lost.float(), torch.zeros(1)]).diff().nonzero()[:, 0]
    return [int(b - a) for a, b in pairwise(edges.tolist())][::2]


@pytest.mark.parametrize(("name", "longest"), [("lost", 20), ("lost_person", 15)])
def test_a_keypoint_or_everything_is_lost_for_a_while(name, longest):
    lengths = []
    for seed in range(60):
        gone = detect(replace(SURE, **{name: 1.0}), seed, frames=64)[..., 2] == 0
        assert gone.any(0).sum() == (1 if name == "lost" else 17)
        (length,) = stretches(gone.any(1))
        assert gone[gone.any(1)].float().mean() == pytest.approx(1 / 17 if name == "lost" else 1)
        lengths.append(length)
    assert max(lengths) in range(longest - 2, longest + 1)
    assert min(lengths) <= 3
    whole = [bool((detect(replace(SURE, **{name: 0.5}), s)[..., 2] > 0).all()) for s in range(80)]
    assert 25 < sum(whole) < 55


def test_swaps_exchange_left_and_right():
    """Places, and with them what is missing: a hidden wrist is missing on the other side."""
    visible, left = torch.ones(64, 17, dtype=torch.bool), COCO_17.index("left_wrist")
    visible[:, left] = False
    right = COCO_17.mirror[left]
    truth = walker(64)[..., :2]
    lengths = []
    for seed in range(40):
        seen = detect(replace(SURE, swapped=1.0), seed, visible, 64)
        swapped = seen[:, left, 2] > 0
        (length,) = stretches(swapped)
        lengths.append(length)
        for frame in range(64):
            mirrored = bool(swapped[frame])
            place = truth[frame, list(COCO_17.mirror)] if mirrored else truth[frame]
            missing = right if mirrored else left
            known = seen[frame, :, 2] > 0
            assert known.tolist() == [k != missing for k in range(17)]
            assert torch.equal(seen[frame, known, :2], place[known])
            assert not seen[frame, missing].any()
    assert max(lengths) == 6
    assert min(lengths) == 1


def test_a_detector_follows_from_its_random_numbers_and_leaves_the_truth_alone():
    visible = legless()
    before = visible.clone()
    first = detect(DetectorModel(), 3, visible)
    torch.rand(3)
    assert torch.equal(detect(DetectorModel(), 3, visible), first)
    assert torch.equal(visible, before)
    assert not torch.equal(detect(DetectorModel(), 4, visible), first)
    assert first.isfinite().all()
    assert (first[first[..., 2] == 0] == 0).all()


def mistaken(name: str, seed: int) -> Detected:
    visible = torch.ones(64, 17, dtype=torch.bool)
    return report(replace(SURE, **{name: 1.0}), np.random.default_rng(seed), visible, 64)


def sides_of(detected: Detected) -> Tensor:
    """In which frames a keypoint is not itself."""
    return detected.source != torch.arange(17)


def test_sources_say_whose_place_each_keypoint_has():
    truth = walker(64)[..., :2]
    for name in ("merged", "crossed", "swapped"):
        for seed in range(20):
            detected = mistaken(name, seed)
            places = truth[torch.arange(64)[:, None], detected.source]
            assert torch.equal(detected.keypoints_px[..., :2], places)
            assert sides_of(detected).any()
    plain = detections(
        truth, torch.ones(64, 17) > 0, torch.ones(64), SURE, np.random.default_rng(0)
    )
    assert not sides_of(plain).any()


def test_a_limb_is_merged_into_the_other_sides():
    limbs = set()
    for seed in range(60):
        detected = mistaken("merged", seed)
        wrong = sides_of(detected)
        (which,) = {tuple(row.nonzero()[:, 0].tolist()) for row in wrong if row.any()}
        limbs.add(which)
        assert len(which) == 2
        assert stretches(wrong.any(1))[0] <= 20
        confidence = detected.keypoints_px[wrong][:, 2]
        assert float(confidence.min()) >= 0.1
        assert float(confidence.max()) <= 0.6
        assert (detected.keypoints_px[~wrong][:, 2] >= 0.6).all()
    assert limbs == {tuple(sorted(limb[1:])) for limb in LIMBS}


def test_both_legs_or_both_arms_are_crossed_in_a_stretch_or_in_every_second_frame():
    seen, alternating = set(), 0
    for seed in range(60):
        wrong = sides_of(mistaken("crossed", seed))
        (which,) = {tuple(row.nonzero()[:, 0].tolist()) for row in wrong if row.any()}
        seen.add(tuple(COCO_17.names[k] for k in which))
        frames = wrong.any(1).nonzero()[:, 0]
        assert frames[-1] - frames[0] < 12
        steps = set(frames.diff().tolist())
        assert len(steps) <= 1
        assert steps <= {1, 2}
        alternating += steps == {2}
    assert seen == {
        ("left_elbow", "right_elbow", "left_wrist", "right_wrist"),
        ("left_knee", "right_knee", "left_ankle", "right_ankle"),
    }
    assert 10 < alternating < 40


def test_a_stray_limb_keeps_its_lengths_and_is_elsewhere():
    truth = walker(64)[..., :2]
    for seed in range(40):
        detected = mistaken("stray", seed)
        wrong = detected.source == NOWHERE
        (which,) = {tuple(row.nonzero()[:, 0].tolist()) for row in wrong if row.any()}
        (limb,) = [limb for limb in LIMBS if set(limb[1:]) == set(which)]
        assert stretches(wrong.any(1))[0] <= 5
        assert (detected.keypoints_px[wrong][:, 2] >= 0.5).all()
        frames = wrong.any(1)
        there = detected.keypoints_px[..., :2][frames]
        for keypoint in limb[1:]:
            was = truth[frames, keypoint] - truth[frames, limb[0]]
            now = there[:, keypoint] - truth[frames, limb[0]]
            assert torch.allclose(was.norm(dim=-1), now.norm(dim=-1), rtol=1e-3)
            turned = (was * now).sum(-1) / was.norm(dim=-1) / now.norm(dim=-1)
            assert (turned < np.cos(0.4) + 1e-3).all()
        assert torch.equal(detected.keypoints_px[~wrong][:, :2], truth[~wrong])
