"""Refinement of a track: towards the truth, robustly, window by window, never across gaps."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from flowhmr.body import COCO_17, SMPL_24, BodyIdentityError, BodyParams, open_body
from flowhmr.cameras import PerspectiveCamera
from flowhmr.capture import Evidence, GroundMotion, TrackFitConfig, fit_track
from flowhmr.capture.refine import robust
from flowhmr.data import LIMB_POINTS, limb_points
from flowhmr.geometry import pick, rotmat_from_axis_angle
from flowhmr.records import PersonMotion
from flowhmr.synth import mean_rotmats

CAMERA = PerspectiveCamera(torch.tensor(600.0), torch.tensor([320.0, 240.0]))
FRAMES = 24
QUICK = TrackFitConfig(steps=60)


@pytest.fixture(scope="module")
def body():
    return open_body()


@pytest.fixture(scope="module")
def truth(body) -> PersonMotion:
    """Somebody who swings the arms and walks sideways, four metres away."""
    time = torch.arange(FRAMES) / 30
    turn = torch.zeros(FRAMES, 24, 3)
    turn[:, 16, 0], turn[:, 17, 0] = 0.5 * torch.sin(6 * time), -0.5 * torch.sin(6 * time)
    turn[:, 1, 0] = 0.4 * torch.sin(6 * time)
    rotmats = mean_rotmats() @ rotmat_from_axis_angle(turn)
    betas = torch.tensor([0.5, -0.5, *[0.0] * 8]).expand(FRAMES, -1)
    where = torch.stack([time - 0.4, torch.zeros(FRAMES), 4 + 0 * time], -1)
    params = BodyParams(rotmats.contiguous(), betas.contiguous(), body.body_id)
    return PersonMotion(0, torch.arange(FRAMES), params, where, torch.ones(FRAMES))


def joints_of(motion: PersonMotion, body) -> torch.Tensor:
    return body.joints(motion.params) + motion.translation_m[:, None]


@pytest.fixture(scope="module")
def evidence(truth, body) -> Evidence:
    """What a perfect detector and perfect flow say, the latter along the bones' middles."""
    mesh = body.mesh(truth.params)
    points_cam = body.keypoints(mesh, COCO_17) + truth.translation_m[:, None]
    keypoints_px = CAMERA.project(points_cam)[..., :2]
    seen = torch.cat([keypoints_px, torch.ones(FRAMES, 17, 1)], -1)
    side_px = torch.full((FRAMES,), 300.0)
    places, _ = limb_points(seen, torch.zeros(FRAMES))
    flow = torch.cat([places[1:] - places[:-1], torch.zeros(1, LIMB_POINTS, 2)])
    known = torch.ones(FRAMES, LIMB_POINTS, 1)
    known[-1] = 0
    ground = GroundMotion(torch.eye(3).repeat(FRAMES, 1, 1), torch.ones(FRAMES))
    return Evidence(seen, torch.cat([flow, known], -1), side_px, torch.zeros(FRAMES, 4), ground)


@pytest.fixture(scope="module")
def start(truth) -> PersonMotion:
    """The truth with every joint a little off, differently in each frame."""
    generator = torch.Generator().manual_seed(0)
    off = 0.1 * torch.randn(FRAMES, 24, 3, generator=generator)
    params = replace(truth.params, rotmats=truth.params.rotmats @ rotmat_from_axis_angle(off))
    shift_m = 0.03 * torch.randn(FRAMES, 3, generator=generator)
    return replace(truth, params=params, translation_m=truth.translation_m + shift_m)


def blind(evidence: Evidence) -> Evidence:
    """Nothing seen."""
    keypoints_px = torch.zeros_like(evidence.keypoints_px)
    flow_px = torch.zeros_like(evidence.limb_flow_px)
    return replace(evidence, keypoints_px=keypoints_px, limb_flow_px=flow_px)


def error_mm(motion: PersonMotion, truth: PersonMotion, body) -> float:
    apart = joints_of(motion, body) - joints_of(truth, body)
    return 1000 * float(apart.norm(dim=-1).mean())


def jitter_mm(motion: PersonMotion, body) -> float:
    joints = joints_of(motion, body)
    return 1000 * float((joints[:-2] - 2 * joints[1:-1] + joints[2:]).norm(dim=-1).mean())


def test_a_shaky_motion_comes_nearer_to_the_truth_and_calms_down(start, truth, evidence, body):
    fitted = fit_track(start, evidence, CAMERA, body, QUICK)
    assert error_mm(fitted, truth, body) < 0.6 * error_mm(start, truth, body)
    assert jitter_mm(fitted, body) < 0.2 * jitter_mm(start, body)
    joints_cam = joints_of(fitted, body)
    before, after = (e.nanmean() for e in (
        evidence.apart_px(joints_of(start, body), CAMERA), evidence.apart_px(joints_cam, CAMERA),
    ))  # fmt: skip
    assert after < 0.4 * before
    apart = evidence.flow_apart_px(joints_of(start, body), CAMERA).nanmean()
    assert evidence.flow_apart_px(joints_cam, CAMERA).nanmean() < 0.2 * apart


def test_the_truth_agrees_with_its_own_evidence(truth, evidence, body):
    joints_cam = joints_of(truth, body)
    assert float(evidence.apart_px(joints_cam, CAMERA).max()) < 1e-3
    along = evidence.flow_apart_px(joints_cam, CAMERA)
    assert float(along[:-1].max()) < 1e-2
    assert bool(along[-1].isnan())


def test_one_shape_and_rotations_that_are_rotations(start, evidence, body):
    fitted = fit_track(start, evidence, CAMERA, body, replace(QUICK, window=16, overlap=6))
    betas = fitted.params.betas
    assert torch.equal(betas, betas[:1].expand_as(betas))
    assert not torch.equal(betas, start.params.betas)
    unit = fitted.params.rotmats @ fitted.params.rotmats.mT
    assert_close(unit, torch.eye(3).expand_as(unit), atol=1e-4, rtol=0)


def test_windows_make_the_motion_of_the_whole(start, evidence, body):
    whole = fit_track(start, evidence, CAMERA, body, replace(QUICK, shape_rate=0.0))
    shares: list[float] = []
    windows = replace(QUICK, shape_rate=0.0, window=16, overlap=8)
    parts = fit_track(start, evidence, CAMERA, body, windows, shares.append)
    assert len(shares) > 1
    assert shares == [pytest.approx((k + 1) / len(shares)) for k in range(len(shares))]
    moved = error_mm(whole, start, body)
    assert error_mm(parts, whole, body) < 0.2 * moved
    # No jump where one window goes over into the next.
    assert jitter_mm(parts, body) < 1.5 * jitter_mm(whole, body)


def test_the_head_turns_to_the_face(truth, evidence, body):
    """A head bent aside comes back to where the face is seen; without the weight it stays."""
    bent = truth.params.rotmats.clone()
    bent[:, SMPL_24.index("head")] @= rotmat_from_axis_angle(torch.tensor([0.0, 0.0, 0.4]))
    start = replace(truth, params=replace(truth.params, rotmats=bent))

    def off_px(motion: PersonMotion) -> float:
        _, keypoints_m = body.joints_and_keypoints(motion.params, COCO_17)
        points_px = CAMERA.project(keypoints_m + motion.translation_m[:, None])[..., :2]
        return float((points_px - evidence.keypoints_px[..., :2])[:, :5].norm(dim=-1).mean())

    def after(**changed: float) -> float:
        return off_px(fit_track(start, evidence, CAMERA, body, replace(QUICK, **changed)))

    assert after() < 0.65 * off_px(start)
    assert after(face=0.0) > 0.8 * off_px(start)


def test_nothing_reaches_across_a_gap(start, evidence, body):
    frames = torch.cat([torch.arange(12), torch.arange(40, 52)])
    apart = replace(start, frame_indices=frames)
    config = replace(QUICK, shape_rate=0.0)
    fitted = fit_track(apart, evidence, CAMERA, body, config)
    spoilt = evidence.keypoints_px.clone()
    spoilt[12:, :, :2] += 40
    other = fit_track(apart, replace(evidence, keypoints_px=spoilt), CAMERA, body, config)
    assert_close(other.translation_m[:12], fitted.translation_m[:12])
    assert_close(other.params.rotmats[:12], fitted.params.rotmats[:12])
    assert error_mm(other, fitted, body) > 10


def test_a_wild_keypoint_does_little(start, truth, evidence, body):
    wild = evidence.keypoints_px.clone()
    wild[10, COCO_17.index("left_wrist"), :2] += 500
    calm = fit_track(start, evidence, CAMERA, body, QUICK)
    shaken = fit_track(start, replace(evidence, keypoints_px=wild), CAMERA, body, QUICK)
    assert error_mm(shaken, calm, body) < 5


def test_without_evidence_only_the_shaking_goes(start, evidence, body):
    nothing = blind(evidence)
    fitted = fit_track(start, nothing, CAMERA, body, QUICK)
    assert bool(fitted.params.rotmats.isfinite().all())
    assert jitter_mm(fitted, body) < jitter_mm(start, body)
    assert_close(fitted.params.betas, start.params.betas)


def test_no_steps_change_nothing_and_another_body_is_refused(start, evidence, body):
    assert fit_track(start, evidence, CAMERA, body, TrackFitConfig(steps=0)) is start
    other = replace(start, params=replace(start.params, body_id="another"))
    with pytest.raises(BodyIdentityError):
        fit_track(other, evidence, CAMERA, body, QUICK)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_few_frames_are_fitted_too(start, evidence, body, frames):
    few = replace(
        start,
        frame_indices=start.frame_indices[:frames],
        params=BodyParams(start.params.rotmats[:frames], start.params.betas[:frames], body.body_id),
        translation_m=start.translation_m[:frames],
        confidence=start.confidence[:frames],
    )
    told = pick(evidence, torch.arange(frames))
    fitted = fit_track(few, told, CAMERA, body, QUICK)
    assert len(fitted) == frames
    assert bool(fitted.translation_m.isfinite().all())


def test_residuals_are_squares_near_and_lengths_far():
    near, far = torch.tensor([[0.01, 0.0]]), torch.tensor([[30.0, 40.0]])
    assert float(robust(near)) == pytest.approx(0.5 * 0.01**2, rel=0.01)
    assert float(robust(far)) == pytest.approx(49.0, rel=0.01)


def standing(evidence: Evidence, foot: int, turns: torch.Tensor | None = None) -> Evidence:
    """The same, and that a foot stands all the time."""
    stands = torch.zeros(FRAMES, 4)
    stands[:, foot] = 1
    ground = evidence.ground if turns is None else replace(evidence.ground, turns=turns)
    return replace(evidence, stands=stands, ground=ground)


def test_a_foot_that_stands_is_held(start, evidence, body):
    """The walker slides along: the picture says so, and here the foot is told to stay."""
    nothing = blind(evidence)
    told = standing(nothing, 2)
    free = fit_track(start, told, CAMERA, body, replace(QUICK, feet=0.0))
    held = fit_track(start, told, CAMERA, body, QUICK)
    slides_m = [told.slide_m(joints_of(m, body)).nanmean() for m in (start, free, held)]
    assert slides_m[2] < 0.5 * slides_m[1]
    other = fit_track(start, standing(nothing, 1), CAMERA, body, QUICK)
    assert told.slide_m(joints_of(other, body)).nanmean() > 1.5 * slides_m[2]


def test_feet_that_may_not_stand_or_a_camera_that_travels_count_nothing(start, evidence, body):
    free = fit_track(start, evidence, CAMERA, body, QUICK)
    told = standing(evidence, 2)
    moving = replace(told, ground=replace(told.ground, steady=torch.zeros(FRAMES)))
    for same in (
        fit_track(start, moving, CAMERA, body, QUICK),
        fit_track(start, told, CAMERA, body, replace(QUICK, feet=0.0)),
    ):
        assert_close(same.translation_m, free.translation_m)
        assert_close(same.params.rotmats, free.params.rotmats)
    assert moving.slide_m(joints_of(start, body)).isnan().all()


def test_sliding_is_measured_over_the_ground_not_before_the_camera(truth, evidence, body):
    """A camera that turns moves a foot that stands, and the feet say that they slide not."""
    turn = rotmat_from_axis_angle(torch.tensor([0.0, 0.02, 0.0]))
    still = joints_of(truth, body)[:1].expand(FRAMES, -1, -1).clone()
    for t in range(1, FRAMES):
        still[t] = still[t - 1] @ turn.mT
    told = standing(evidence, 3, turn.repeat(FRAMES, 1, 1))
    slides_m = told.slide_m(still)
    assert slides_m[:-1].abs().max() < 1e-5
    assert slides_m[-1].isnan()
    blind = standing(evidence, 3).slide_m(still)
    foot = still[:, 11]
    assert_close(blind[:-1], (foot[1:] - foot[:-1]).norm(dim=-1))
    assert blind[0] > 0.05
