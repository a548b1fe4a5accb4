"""Losses of bodies along a video: zero at the truth, each its own error, clip by clip."""

import math
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from flowhmr.body import SMPL_24, BodyParams
from flowhmr.cameras import WeakCamera
from flowhmr.geometry import align_similarity, pick, rotmat_from_axis_angle
from flowhmr.losses import NonFiniteLoss, TrackTerms, TrackWeights, track_terms, weigh
from flowhmr.losses.tracks import FAR
from flowhmr.records import Estimate, TrackLabels

BATCH, FRAMES = 3, 4
NAMES = [field.name for field in fields(TrackTerms)]
HIPS = [SMPL_24.index("left_hip"), SMPL_24.index("right_hip")]


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Float64 normal noise."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def truth(frames: int = FRAMES) -> tuple[Estimate, TrackLabels, Tensor]:
    """An estimate that meets its labels exactly, and the joints of both."""
    pose, betas = noise(BATCH, frames, 24, 3), noise(BATCH, frames, 10)
    params = BodyParams(rotmat_from_axis_angle(pose), betas, "a body")
    camera = WeakCamera(noise(BATCH, frames, 3) * 0.1 + torch.tensor([0.9, 0.1, -0.1]))
    joints_m = 0.3 * noise(BATCH, frames, 24, 3, seed=1)
    points = camera.scale[..., None, None] * joints_m[..., :2] + camera.shift[..., None, :]
    return Estimate(params, camera), TrackLabels(params, points), joints_m


def wrong(frames: int = FRAMES) -> tuple[Estimate, TrackLabels, Tensor, Tensor]:
    """An estimate that is off in all."""
    estimate, labels, target_m = truth(frames)
    pose, betas = noise(BATCH, frames, 24, 3, seed=2), noise(BATCH, frames, 10, seed=3)
    params = replace(estimate.params, rotmats=rotmat_from_axis_angle(pose), betas=betas)
    camera = WeakCamera(estimate.camera.params + 0.1 * noise(BATCH, frames, 3, seed=4))
    joints_m = target_m + 0.1 * noise(BATCH, frames, 24, 3, seed=5)
    return Estimate(params, camera), labels, joints_m, target_m


def test_the_truth_costs_nothing_but_the_cameras_regulariser():
    estimate, labels, joints_m = truth()
    terms = track_terms(estimate, labels, joints_m, joints_m)
    for name in NAMES:
        if name != "camera":
            assert_close(getattr(terms, name), torch.zeros(BATCH).double(), atol=1e-9, rtol=0)
    expected = torch.exp(-20 * estimate.camera.scale).mean(1)
    assert_close(terms.camera, expected)
    assert all(v < 1e-5 for v in terms.camera.tolist())


@pytest.mark.parametrize(
    ("changed", "cost"),
    [
        ("points", {"points": 0.5}),
        ("far", {"points": FAR}),
        ("pose", {"pose": 4 / 9}),
        ("shape", {"shape": 0.25}),
        ("camera", {"camera": 1.0}),
        ("joints", {"joints": 0.1 * 22 / 24}),
        ("steps", {"joints": 0.05 * 22 / 24, "motion": 0.1 * 22 / 24}),
    ],
)
def test_each_term_sees_its_own_error_only(changed, cost):
    estimate, labels, target_m = truth()
    joints_m = target_m
    if changed in ("points", "far"):
        labels = replace(labels, points=labels.points - (0.5 if changed == "points" else 9.0))
    if changed == "pose":
        rotmats = estimate.params.rotmats.clone()
        rotmats[..., 0] += torch.tensor([2.0, 0.0, 0.0])
        labels = replace(labels, params=replace(estimate.params, rotmats=rotmats))
    if changed == "shape":
        betas = estimate.params.betas - 0.5
        labels = replace(labels, params=replace(estimate.params, betas=betas))
    if changed == "camera":
        estimate = replace(estimate, camera=WeakCamera(torch.zeros(BATCH, FRAMES, 3).double()))
        labels = replace(labels, points=torch.zeros(BATCH, FRAMES, 24, 2).double())
    if changed in ("joints", "steps"):
        offset = torch.full((24, 3), 0.1, dtype=torch.float64)
        offset[HIPS] = 0
        # All the time, or in every second frame.
        when = torch.ones(FRAMES) if changed == "joints" else torch.arange(FRAMES) % 2
        joints_m = target_m + offset * when[:, None, None]
        points = estimate.camera.scale[..., None, None] * joints_m[..., :2]
        labels = replace(labels, points=points + estimate.camera.shift[..., None, :])
        cost = {**cost, "aligned": None}
    terms = track_terms(estimate, labels, joints_m, target_m)
    for name in NAMES:
        expected = cost.get(name, 0.0)
        if (name == "camera" and changed != "camera") or expected is None:
            continue
        values = torch.full((BATCH,), expected, dtype=torch.float64)
        assert_close(getattr(terms, name), values, atol=1e-9, rtol=1e-9, msg=name)


def test_3d_joints_count_about_the_hips():
    """Where the body is said to stand, and how it travels, is the camera's business."""
    estimate, labels, joints_m, target_m = wrong()
    before = track_terms(estimate, labels, joints_m, target_m)
    moved_m = joints_m + noise(BATCH, FRAMES, 1, 3, seed=6)
    after = track_terms(estimate, labels, moved_m, target_m - 3)
    for name in ("joints", "aligned", "motion"):
        assert_close(getattr(after, name), getattr(before, name))
    assert not torch.isclose(after.points, before.points).any()


def test_the_aligned_term_does_not_see_a_similarity():
    estimate, labels, joints_m, target_m = wrong()
    before = track_terms(estimate, labels, joints_m, target_m)
    turn = rotmat_from_axis_angle(noise(BATCH, FRAMES, 3, seed=7))
    scale = noise(BATCH, FRAMES, 1, 1, seed=8).abs() + 0.5
    turned_m = scale * joints_m @ turn.mT + noise(BATCH, FRAMES, 1, 3, seed=9)
    after = track_terms(estimate, labels, turned_m, target_m)
    assert_close(after.aligned, before.aligned)
    assert (after.joints > 2 * before.joints).all()
    assert (before.aligned < before.joints).all()
    mirrored = track_terms(estimate, labels, target_m * torch.tensor([-1.0, 1, 1]), target_m)
    assert (mirrored.aligned > 0.01).all()


def test_motion_is_how_the_joints_move_from_frame_to_frame():
    """A body that stands still misses all of it; the pose it stands in is of no account."""
    estimate, labels, target_m = truth()
    still_m = noise(BATCH, 1, 24, 3, seed=4).expand_as(target_m)
    about_m = target_m - target_m[..., HIPS, :].mean(-2, keepdim=True)
    expected = (about_m[:, 1:] - about_m[:, :-1]).abs().mean((1, 2, 3))
    assert_close(track_terms(estimate, labels, still_m, target_m).motion, expected)


def test_a_batch_is_its_clips():
    estimate, labels, joints_m, target_m = wrong()
    together = track_terms(estimate, labels, joints_m, target_m)
    for i in range(BATCH):
        at = torch.tensor([i])
        alone = track_terms(pick(estimate, at), pick(labels, at), joints_m[at], target_m[at])
        for name in NAMES:
            assert_close(getattr(together, name)[at], getattr(alone, name), msg=name)
    assert all(getattr(together, name).shape == (BATCH,) for name in NAMES)
    assert all(bool((getattr(together, name) > 0).all()) for name in NAMES)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "aligned"])
def test_gradients_are_finite_differences(name):
    """Along a random direction of everything that is estimated."""
    estimate, labels, joints_m, target_m = wrong()
    start = [estimate.params.rotmats, estimate.params.betas, estimate.camera.params, joints_m]
    start = [v.clone().requires_grad_() for v in start]
    ways = [noise(*v.shape, seed=10 + i) for i, v in enumerate(start)]

    def cost(rotmats: Tensor, betas: Tensor, camera: Tensor, joints_m: Tensor) -> Tensor:
        params = replace(estimate.params, rotmats=rotmats, betas=betas)
        said = Estimate(params, WeakCamera(camera))
        return getattr(track_terms(said, labels, joints_m, target_m), name).sum()

    grads = torch.autograd.grad(cost(*start), start, allow_unused=True)
    slope = sum(((g * w).sum() for g, w in zip(grads, ways) if g is not None), torch.tensor(0.0))
    step = 1e-7
    with torch.no_grad():
        up, down = (cost(*(v + s * w for v, w in zip(start, ways))) for s in (step, -step))
    assert float(slope) == pytest.approx(float(up - down) / (2 * step), rel=1e-4)
    assert abs(float(slope)) > 1e-9


def test_the_alignment_is_held_while_the_joints_are_pulled():
    estimate, labels, joints_m, target_m = wrong()
    ours = (joints_m - joints_m[..., HIPS, :].mean(-2, keepdim=True)).requires_grad_()
    theirs = target_m - target_m[..., HIPS, :].mean(-2, keepdim=True)
    aligned = track_terms(estimate, labels, ours, target_m).aligned.sum()
    (pull,) = torch.autograd.grad(aligned, ours)
    onto = align_similarity(ours.detach(), theirs)
    off = onto(ours.detach()) - theirs
    expected = onto.scale[..., None, None] * off.sign() @ onto.rotmat / off[0].numel()
    # About the hips: what moves them moves all.
    expected[..., HIPS, :] -= expected.sum(-2, keepdim=True) / 2
    assert_close(pull, expected)


def test_a_joint_far_off_in_the_picture_pulls_no_more():
    estimate, labels, joints_m = truth()
    camera = estimate.camera.params.clone().requires_grad_()
    far = replace(labels, points=labels.points + FAR + 0.1)
    said = replace(estimate, camera=WeakCamera(camera))
    terms = track_terms(said, far, joints_m, joints_m)
    assert_close(terms.points, torch.full((BATCH,), FAR).double())
    terms.points.sum().backward()
    assert not camera.grad.any()


def test_a_clip_of_one_frame_has_no_motion():
    estimate, labels, joints_m, target_m = wrong(1)
    joints_m.requires_grad_()
    terms = track_terms(estimate, labels, joints_m, target_m)
    assert terms.motion.tolist() == [0] * BATCH
    objective = weigh(terms, TrackWeights(aligned=1.0))
    objective.total.backward()
    assert joints_m.grad.isfinite().all()
    assert joints_m.grad.abs().max() > 0


def test_weights_are_named_like_terms_and_all_are_logged():
    terms = track_terms(*wrong())
    assert {field.name for field in fields(TrackWeights)} == set(NAMES)
    objective = weigh(terms, TrackWeights())
    assert set(objective.logged) == set(NAMES)
    weights = TrackWeights()
    expected = sum(getattr(weights, n) * float(getattr(terms, n).mean()) for n in NAMES)
    assert float(objective.total) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["joints", "points", "shape"])
def test_what_is_not_finite_is_named(name):
    estimate, labels, joints_m, target_m = wrong()
    if name == "joints":
        joints_m[1, 2, 3, 0] = math.nan
    if name == "points":
        estimate.camera.params[1, 2, 1] = math.inf
        labels = replace(labels, points=labels.points + math.inf)
    if name == "shape":
        estimate.params.betas[1] = math.nan
    terms = track_terms(estimate, labels, joints_m, target_m)
    with pytest.raises(NonFiniteLoss, match=f"term '{name}'"):
        weigh(terms, TrackWeights())
