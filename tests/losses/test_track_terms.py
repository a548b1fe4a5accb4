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
from flowhmr.losses.motion import FAR
from flowhmr.records import Estimate, Lifted, TrackClip, TrackInput, TrackLabels

BATCH, FRAMES = 3, 4
NAMES = [field.name for field in fields(TrackTerms)]
HIPS = [SMPL_24.index("left_hip"), SMPL_24.index("right_hip")]


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Float64 normal noise."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def clip_of(labels: TrackLabels, stands: Tensor) -> TrackClip:
    """A clip with these labels; what the network saw of it does not count."""
    seen = TrackInput(noise(BATCH, 1, 17, 3), noise(BATCH, 1, 60, 3), *noise(2, BATCH, 1))
    return TrackClip(seen, labels, stands)


def truth(frames: int = FRAMES) -> tuple[Lifted, TrackClip, Tensor]:
    """What meets its labels exactly, and the joints of both."""
    pose, betas = noise(BATCH, frames, 24, 3), noise(BATCH, frames, 10)
    params = BodyParams(rotmat_from_axis_angle(pose), betas, "a body")
    camera = WeakCamera(noise(BATCH, frames, 3) * 0.1 + torch.tensor([0.9, 0.1, -0.1]))
    joints_m = 0.3 * noise(BATCH, frames, 24, 3, seed=1)
    points = camera.scale[..., None, None] * joints_m[..., :2] + camera.shift[..., None, :]
    stands = noise(BATCH, frames, 4, seed=11) > 0
    sure = 50 * (2 * stands.double() - 1)
    return (
        Lifted(Estimate(params, camera), sure),
        clip_of(TrackLabels(params, points), stands),
        joints_m,
    )


def wrong(frames: int = FRAMES) -> tuple[Lifted, TrackClip, Tensor, Tensor]:
    """What is off in all."""
    found, clip, target_m = truth(frames)
    pose, betas = noise(BATCH, frames, 24, 3, seed=2), noise(BATCH, frames, 10, seed=3)
    params = replace(found.bodies.params, rotmats=rotmat_from_axis_angle(pose), betas=betas)
    camera = WeakCamera(found.bodies.camera.params + 0.1 * noise(BATCH, frames, 3, seed=4))
    joints_m = target_m + 0.1 * noise(BATCH, frames, 24, 3, seed=5)
    said = Lifted(Estimate(params, camera), 3 * noise(BATCH, frames, 4, seed=12))
    return said, clip, joints_m, target_m


def labelled(clip: TrackClip, **changed) -> TrackClip:
    """With other labels."""
    return replace(clip, labels=replace(clip.labels, **changed))


def test_the_truth_costs_nothing_but_the_cameras_regulariser():
    found, clip, joints_m = truth()
    terms = track_terms(found, clip, joints_m, joints_m)
    for name in NAMES:
        if name != "camera":
            assert_close(getattr(terms, name), torch.zeros(BATCH).double(), atol=1e-9, rtol=0)
    expected = torch.exp(-20 * found.bodies.camera.scale).mean(1)
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
        ("stands", {"stands": math.log1p(math.exp(1.5))}),
        ("one foot", {"stands": 50 / 4}),
    ],
)
def test_each_term_sees_its_own_error_only(changed, cost):
    found, clip, target_m = truth()
    estimate, joints_m = found.bodies, target_m
    if changed in ("points", "far"):
        off = 0.5 if changed == "points" else 9.0
        clip = labelled(clip, points=clip.labels.points - off)
    if changed == "pose":
        rotmats = estimate.params.rotmats.clone()
        rotmats[..., 0] += torch.tensor([2.0, 0.0, 0.0])
        clip = labelled(clip, params=replace(estimate.params, rotmats=rotmats))
    if changed == "shape":
        betas = estimate.params.betas - 0.5
        clip = labelled(clip, params=replace(estimate.params, betas=betas))
    if changed == "camera":
        flat = WeakCamera(torch.zeros(BATCH, FRAMES, 3).double())
        found = replace(found, bodies=replace(estimate, camera=flat))
        clip = labelled(clip, points=torch.zeros(BATCH, FRAMES, 24, 2).double())
    if changed in ("joints", "steps"):
        offset = torch.full((24, 3), 0.1, dtype=torch.float64)
        offset[HIPS] = 0
        # All the time, or in every second frame.
        when = torch.ones(FRAMES) if changed == "joints" else torch.arange(FRAMES) % 2
        joints_m = target_m + offset * when[:, None, None]
        points = estimate.camera.scale[..., None, None] * joints_m[..., :2]
        clip = labelled(clip, points=points + estimate.camera.shift[..., None, :])
        cost = {**cost, "aligned": None}
    if changed == "stands":
        found = replace(found, stands=found.stands / 50 * -1.5)
    if changed == "one foot":
        found = replace(found, stands=found.stands * torch.tensor([1.0, 1, -1, 1]))
    terms = track_terms(found, clip, joints_m, target_m)
    for name in NAMES:
        expected = cost.get(name, 0.0)
        if (name == "camera" and changed != "camera") or expected is None:
            continue
        values = torch.full((BATCH,), expected, dtype=torch.float64)
        assert_close(getattr(terms, name), values, atol=1e-9, rtol=1e-9, msg=name)


def test_3d_joints_count_about_the_hips():
    """Where the body is said to stand, and how it travels, is the camera's business."""
    found, clip, joints_m, target_m = wrong()
    before = track_terms(found, clip, joints_m, target_m)
    moved_m = joints_m + noise(BATCH, FRAMES, 1, 3, seed=6)
    after = track_terms(found, clip, moved_m, target_m - 3)
    for name in ("joints", "aligned", "motion"):
        assert_close(getattr(after, name), getattr(before, name))
    assert not torch.isclose(after.points, before.points).any()


def test_the_aligned_term_does_not_see_a_similarity():
    found, clip, joints_m, target_m = wrong()
    before = track_terms(found, clip, joints_m, target_m)
    turn = rotmat_from_axis_angle(noise(BATCH, FRAMES, 3, seed=7))
    scale = noise(BATCH, FRAMES, 1, 1, seed=8).abs() + 0.5
    turned_m = scale * joints_m @ turn.mT + noise(BATCH, FRAMES, 1, 3, seed=9)
    after = track_terms(found, clip, turned_m, target_m)
    assert_close(after.aligned, before.aligned)
    assert (after.joints > 2 * before.joints).all()
    assert (before.aligned < before.joints).all()
    mirrored = track_terms(found, clip, target_m * torch.tensor([-1.0, 1, 1]), target_m)
    assert (mirrored.aligned > 0.01).all()


def test_motion_is_how_the_joints_move_from_frame_to_frame():
    """A body that stands still misses all of it; the pose it stands in is of no account."""
    found, clip, target_m = truth()
    still_m = noise(BATCH, 1, 24, 3, seed=4).expand_as(target_m)
    about_m = target_m - target_m[..., HIPS, :].mean(-2, keepdim=True)
    expected = (about_m[:, 1:] - about_m[:, :-1]).abs().mean((1, 2, 3))
    assert_close(track_terms(found, clip, still_m, target_m).motion, expected)


def test_a_batch_is_its_clips():
    found, clip, joints_m, target_m = wrong()
    together = track_terms(found, clip, joints_m, target_m)
    for i in range(BATCH):
        at = torch.tensor([i])
        alone = track_terms(pick(found, at), pick(clip, at), joints_m[at], target_m[at])
        for name in NAMES:
            assert_close(getattr(together, name)[at], getattr(alone, name), msg=name)
    assert all(getattr(together, name).shape == (BATCH,) for name in NAMES)
    assert all(bool((getattr(together, name) > 0).all()) for name in NAMES)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "aligned"])
def test_gradients_are_finite_differences(name):
    """Along a random direction of everything that is estimated."""
    found, clip, joints_m, target_m = wrong()
    params, camera = found.bodies.params, found.bodies.camera
    start = [params.rotmats, params.betas, camera.params, joints_m, found.stands]
    start = [v.clone().requires_grad_() for v in start]
    ways = [noise(*v.shape, seed=10 + i) for i, v in enumerate(start)]

    def cost(rotmats: Tensor, betas: Tensor, camera: Tensor, joints_m: Tensor, stands: Tensor):
        bodies = Estimate(replace(params, rotmats=rotmats, betas=betas), WeakCamera(camera))
        return getattr(track_terms(Lifted(bodies, stands), clip, joints_m, target_m), name).sum()

    grads = torch.autograd.grad(cost(*start), start, allow_unused=True)
    slope = sum(((g * w).sum() for g, w in zip(grads, ways) if g is not None), torch.tensor(0.0))
    step = 1e-7
    with torch.no_grad():
        up, down = (cost(*(v + s * w for v, w in zip(start, ways))) for s in (step, -step))
    assert float(slope) == pytest.approx(float(up - down) / (2 * step), rel=1e-4)
    assert abs(float(slope)) > 1e-9


def test_the_alignment_is_held_while_the_joints_are_pulled():
    found, clip, joints_m, target_m = wrong()
    ours = (joints_m - joints_m[..., HIPS, :].mean(-2, keepdim=True)).requires_grad_()
    theirs = target_m - target_m[..., HIPS, :].mean(-2, keepdim=True)
    aligned = track_terms(found, clip, ours, target_m).aligned.sum()
    (pull,) = torch.autograd.grad(aligned, ours)
    onto = align_similarity(ours.detach(), theirs)
    off = onto(ours.detach()) - theirs
    expected = onto.scale[..., None, None] * off.sign() @ onto.rotmat / off[0].numel()
    # About the hips: what moves them moves all.
    expected[..., HIPS, :] -= expected.sum(-2, keepdim=True) / 2
    assert_close(pull, expected)


def test_a_joint_far_off_in_the_picture_pulls_no_more():
    found, clip, joints_m = truth()
    camera = found.bodies.camera.params.clone().requires_grad_()
    far = labelled(clip, points=clip.labels.points + FAR + 0.1)
    said = replace(found, bodies=replace(found.bodies, camera=WeakCamera(camera)))
    terms = track_terms(said, far, joints_m, joints_m)
    assert_close(terms.points, torch.full((BATCH,), FAR).double())
    terms.points.sum().backward()
    assert not camera.grad.any()


def test_stands_is_the_cross_entropy_of_each_foot_in_each_frame():
    """Minus the logarithm of how likely what is true was said to be, in nats."""
    found, clip, joints_m, target_m = wrong()
    likely = 1 / (1 + torch.exp(-found.stands))
    expected = torch.where(clip.stands, likely, 1 - likely).log().neg().mean((1, 2))
    assert_close(track_terms(found, clip, joints_m, target_m).stands, expected)
    # Who does not know pays a bit for each foot.
    unsure = replace(found, stands=torch.zeros_like(found.stands))
    terms = track_terms(unsure, clip, joints_m, target_m)
    assert_close(terms.stands, torch.full((BATCH,), math.log(2)).double())
    # Who is sure and wrong pays what is said, without overflow, and is pulled back.
    sure = (-1e4 * (2 * clip.stands.double() - 1)).requires_grad_()
    stands = track_terms(replace(found, stands=sure), clip, joints_m, target_m).stands
    assert_close(stands, torch.full((BATCH,), 1e4).double())
    stands.sum().backward()
    assert_close(sure.grad, sure.detach().sign() / (4 * FRAMES))


def test_feet_and_bodies_do_not_pull_at_each_other():
    found, clip, joints_m, target_m = wrong()
    params, camera = found.bodies.params, found.bodies.camera
    bodies = [v.requires_grad_() for v in (params.rotmats, params.betas, camera.params, joints_m)]
    feet = found.stands.requires_grad_()
    terms = track_terms(found, clip, joints_m, target_m)
    pulls = torch.autograd.grad(
        terms.stands.sum(), [*bodies, feet], allow_unused=True, retain_graph=True
    )
    assert all(p is None or not p.any() for p in pulls[:-1])
    expected = (torch.sigmoid(feet.detach()) - clip.stands.double()) / (4 * FRAMES)
    assert_close(pulls[-1], expected)
    rest = sum((getattr(terms, n).sum() for n in NAMES if n != "stands"), torch.tensor(0.0))
    (pull,) = torch.autograd.grad(rest, [feet], allow_unused=True)
    assert pull is None or not pull.any()


def test_a_clip_of_one_frame_has_no_motion():
    found, clip, joints_m, target_m = wrong(1)
    joints_m.requires_grad_()
    terms = track_terms(found, clip, joints_m, target_m)
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


@pytest.mark.parametrize("name", ["joints", "points", "shape", "stands"])
def test_what_is_not_finite_is_named(name):
    found, clip, joints_m, target_m = wrong()
    if name == "joints":
        joints_m[1, 2, 3, 0] = math.nan
    if name == "points":
        found.bodies.camera.params[1, 2, 1] = math.inf
        clip = labelled(clip, points=clip.labels.points + math.inf)
    if name == "shape":
        found.bodies.params.betas[1] = math.nan
    if name == "stands":
        found.stands[1, 2, 3] = math.nan
    terms = track_terms(found, clip, joints_m, target_m)
    with pytest.raises(NonFiniteLoss, match=f"term '{name}'"):
        weigh(terms, TrackWeights())
