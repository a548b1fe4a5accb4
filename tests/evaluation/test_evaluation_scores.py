"""Scores of estimators on clips of the open body."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from flowhmr.body import H36M_14, BodyParams, open_body
from flowhmr.cameras import Crop, WeakCamera, project_weak
from flowhmr.evaluation import (
    Estimator,
    MeanPose,
    Report,
    acceleration_error,
    mpjpe,
    pa_mpjpe,
    score_clip,
    score_flow,
    score_jitter,
)
from flowhmr.flow import FlowPair
from flowhmr.geometry import rotmat_from_axis_angle
from flowhmr.records import Clip, Estimate, Labels, TestClip

SIZE = 64
ROOT = (H36M_14.index("left_hip"), H36M_14.index("right_hip"))


def random_params(frames: int, seed: int = 0, size: float = 0.2) -> BodyParams:
    """People who face the camera in about the rest pose."""
    generator = torch.Generator().manual_seed(seed)
    pose = size * torch.randn(frames, 24, 3, generator=generator)
    rotmats = rotmat_from_axis_angle(pose)
    rotmats[:, 0] = rotmats[:, 0] @ rotmat_from_axis_angle(torch.tensor([math.pi, 0.0, 0.0]))
    return open_body().params(rotmats, torch.randn(1, 10, generator=generator).repeat(frames, 1))


def cameras(shift: Tensor) -> WeakCamera:
    """Cameras whose bodies stand at these places (t, 2), crop half-widths."""
    return WeakCamera(torch.cat([torch.full((len(shift), 1), 0.7), shift], -1))


def clip(params: BodyParams, flow: FlowPair | None = None) -> Clip:
    """Black crops with labels."""
    frames = params.rotmats.shape[0]
    zeros = torch.zeros(frames)
    joints_m = open_body().joints(params)
    seen_px = project_weak(joints_m, cameras(torch.zeros(frames, 2)), SIZE)[..., :2]
    return Clip(
        frames=torch.zeros(frames, 3, SIZE, SIZE, dtype=torch.uint8),
        crop=Crop(torch.zeros(frames, 2), zeros + SIZE, zeros, zeros, SIZE),
        labels=Labels(params, joints_m, seen_px, torch.ones(frames, 24)),
        flow=flow,
        flow_crop=Crop(torch.zeros(1, 2), zeros[:1] + SIZE, zeros[:1], zeros[:1], SIZE),
    )


def always(params: BodyParams, camera: WeakCamera | None = None) -> Estimator:
    """An estimator that sees nothing and says this."""
    return lambda clip: Estimate(params, camera or cameras(torch.zeros(clip.frames.shape[0], 2)))


def constant_flow(flow: tuple[float, float], back: tuple[float, float]) -> FlowPair:
    valid = torch.ones(1, SIZE, SIZE, dtype=torch.bool)
    there, home = (torch.tensor(f).float().expand(1, SIZE, SIZE, 2).clone() for f in (flow, back))
    return FlowPair(there, home, valid, valid.clone())


# --- labelled clips


def test_the_truth_scores_zero_but_for_its_own_motion():
    params = random_params(5)
    score = score_clip(always(params), TestClip("walk", "ann", clip(params)), open_body())
    assert (score.name, score.person, score.frames) == ("walk", "ann", 5)
    assert score.mpjpe == score.pve == score.accel_error == 0
    assert score.pa_mpjpe == pytest.approx(0, abs=1e-3)
    assert score.keypoints_px == pytest.approx(0, abs=1e-3)
    assert score.accel > 10


def test_scores_are_the_means_of_the_metrics_by_the_protocol():
    truth, said = random_params(6), random_params(6, seed=1)
    score = score_clip(always(said), TestClip("walk", "ann", clip(truth)), open_body())
    joints, target = (open_body().keypoints(open_body().mesh(p), H36M_14) for p in (said, truth))
    assert score.mpjpe == pytest.approx(float(mpjpe(joints, target, ROOT).mean()))
    assert score.pa_mpjpe == pytest.approx(float(pa_mpjpe(joints, target).mean()))
    assert score.accel_error == pytest.approx(
        float(acceleration_error(joints, target, ROOT).mean())
    )
    assert score.pa_mpjpe < score.mpjpe


def test_a_body_that_stands_beside_the_person_is_off_in_the_picture_only():
    truth = random_params(4)
    beside = cameras(torch.tensor([[0.0, 0.0], [0.3, 0.0], [0.0, -0.4], [0.3, 0.4]]))
    score = score_clip(always(truth, beside), TestClip("walk", "ann", clip(truth)), open_body())
    # Half-widths of a crop, which stands for 224 px whatever its size.
    assert score.keypoints_px == pytest.approx(112 * (0.0 + 0.3 + 0.4 + 0.5) / 4, rel=1e-4)
    assert score.mpjpe == score.pve == score.accel_error == 0


def test_a_body_turned_as_a_whole_has_no_aligned_error():
    truth = random_params(4)
    rotmats = truth.rotmats.clone()
    rotmats[:, 0] = rotmat_from_axis_angle(torch.tensor([0.3, 0.8, 0.1])) @ rotmats[:, 0]
    said = replace(truth, rotmats=rotmats)
    score = score_clip(always(said), TestClip("walk", "ann", clip(truth)), open_body())
    assert score.pa_mpjpe == pytest.approx(0, abs=1e-2)
    assert score.mpjpe > 50
    assert score.pve > 50


def test_where_the_camera_puts_the_body_does_not_count():
    truth = random_params(4)
    test = TestClip("walk", "ann", clip(truth))
    wandering = cameras(torch.randn(4, 2, generator=torch.Generator().manual_seed(0)))
    assert score_clip(always(truth, wandering), test, open_body()).mpjpe == 0


def test_a_still_estimate_has_no_jitter_but_the_error_of_what_it_missed():
    truth = random_params(6)
    still = random_params(1)
    said = open_body().params(still.rotmats.repeat(6, 1, 1, 1), still.betas.repeat(6, 1))
    score = score_clip(always(said), TestClip("walk", "ann", clip(truth)), open_body())
    own = score_clip(always(truth), TestClip("walk", "ann", clip(truth)), open_body())
    assert score.accel == pytest.approx(0, abs=1e-3)
    assert score.accel_error == pytest.approx(own.accel, rel=1e-4)


def test_jitter_is_the_acceleration_of_the_estimate():
    said = random_params(6)
    unlabelled = replace(clip(said), labels=None)
    score = score_clip(
        always(said), TestClip("walk", "ann", clip(random_params(6, 1))), open_body()
    )
    assert score_jitter(always(said), unlabelled, open_body()) == pytest.approx(score.accel)


def test_a_still_has_no_acceleration_and_spoils_no_report():
    params = random_params(1)
    still = score_clip(always(params), TestClip("still", "ann", clip(params)), open_body())
    assert math.isnan(still.accel)
    moving = random_params(5)
    walk = score_clip(always(moving), TestClip("walk", "ann", clip(moving)), open_body())
    assert Report("truth", "here", (still, walk)).mean("accel") == walk.accel


def test_a_clip_without_labels_is_refused():
    unlabelled = TestClip("walk", "ann", replace(clip(random_params(3)), labels=None))
    with pytest.raises(ValueError, match="walk: got a clip without labels"):
        score_clip(always(random_params(3)), unlabelled, open_body())


# --- flow


def standing_twice() -> BodyParams:
    """The same person in two frames."""
    once = random_params(1)
    return open_body().params(once.rotmats.repeat(2, 1, 1, 1), once.betas.repeat(2, 1))


def test_a_body_that_moves_with_the_image_has_no_disagreement():
    params = standing_twice()
    camera = cameras(torch.tensor([[0.0, 0.0], [3.0, -4.0]]) / (SIZE / 2))
    pair = clip(params, constant_flow((3, -4), (-3, 4)))
    score = score_flow(always(params, camera), [pair], open_body())
    assert score.pairs == 1
    assert score.disagreement_px == pytest.approx(0, abs=1e-3)
    assert score.image_flow_px == pytest.approx(5 * 224 / SIZE, rel=1e-5)


def test_bodies_are_compared_in_the_flows_window_wherever_their_crops_are():
    """Seen in crops that move and zoom, the same bodies in the image have the same flow."""
    params = standing_twice()
    camera = cameras(torch.tensor([[0.0, 0.0], [3.0, -4.0]]) / (SIZE / 2))
    pair = clip(params, constant_flow((3, -4), (-3, 4)))
    zoom, moved_px = torch.tensor([[0.8], [1.3]]), torch.tensor([[5.0, -2.0], [-7.0, 3.0]])
    crop = replace(pair.crop, centre_px=moved_px, side_px=SIZE * zoom[:, 0])
    inside = (camera.shift - moved_px / (SIZE / 2)) / zoom
    own = WeakCamera(torch.cat([camera.scale[:, None] / zoom, inside], -1))
    score = score_flow(always(params, own), [replace(pair, crop=crop)], open_body())
    assert score.disagreement_px == pytest.approx(0, abs=1e-3)
    assert score.image_flow_px == pytest.approx(5 * 224 / SIZE, rel=1e-5)


def test_a_body_that_never_moves_scores_the_images_flow_both_ways_averaged():
    params = standing_twice()
    pairs = [clip(params, constant_flow(f, b)) for f, b in (((2, 0), (0, 1)), ((0, 3), (0, 6)))]
    score = score_flow(always(params), iter(pairs), open_body())
    assert score.pairs == 2
    assert score.disagreement_px == pytest.approx((2 + 1 + 3 + 6) / 4 * 224 / SIZE, rel=1e-5)
    assert score.image_flow_px == pytest.approx(score.disagreement_px)


def test_inconsistent_flow_is_left_out():
    params = standing_twice()
    flow = constant_flow((1, 0), (-1, 0))
    flow.forward[:, : SIZE // 2] = 50
    flow.forward_valid[:, : SIZE // 2 + 1] = False
    score = score_flow(always(params), [clip(params, flow)], open_body())
    assert score.image_flow_px == pytest.approx(224 / SIZE, rel=1e-5)
    flow.forward_valid[:] = False
    flow.backward_valid[:] = False
    nothing = score_flow(always(params), [clip(params, flow)], open_body())
    assert math.isnan(nothing.disagreement_px)


def test_a_pair_without_flow_is_refused():
    params = random_params(2)
    with pytest.raises(ValueError, match="got a pair without flow"):
        score_flow(always(params), [clip(params)], open_body())


# --- the floor


def test_the_mean_pose_says_the_same_of_every_crop():
    mean = random_params(1)
    mean = open_body().params(mean.rotmats[0], mean.betas[0])
    estimate = MeanPose(mean)(clip(random_params(4)))
    assert_close(estimate.params.rotmats, mean.rotmats.expand(4, 24, 3, 3))
    assert_close(estimate.params.betas, mean.betas.expand(4, 10))
    assert estimate.params.body_id == open_body().body_id
    assert_close(estimate.camera.params, torch.tensor([[0.9, 0, 0]]).expand(4, 3))
    score = score_clip(MeanPose(mean), TestClip("walk", "ann", clip(random_params(4))), open_body())
    assert score.accel == pytest.approx(0, abs=1e-3)
