"""Bodies moved as the image moves: exact flow makes them better, and nothing else moves them."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from flowhmr.body import COCO_17, BodyIdentityError, BodyModel, BodyParams, open_body
from flowhmr.cameras import Crop, WeakCamera, project_weak
from flowhmr.data import FlowSource, PairConfig
from flowhmr.evaluation import acceleration, pa_mpjpe
from flowhmr.flow import FlowPair
from flowhmr.geometry import geodesic_rad, map_tensors, pick, rotmat_from_axis_angle
from flowhmr.losses import AnchorWeights, FlowLossConfig, NonFiniteLoss
from flowhmr.raster import interpolate, rasterise
from flowhmr.records import Estimate, Sequence
from flowhmr.training import (
    FlowLinks,
    SequenceFitConfig,
    fit_sequence,
    flow_disagreement,
    sequence_links,
)
from flowhmr.training.sequence import moving_average

SIZE, FRAMES = 64, 6
NOTHING = SequenceFitConfig(steps=3, flow=0.0)
FEW = SequenceFitConfig(steps=3)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return open_body()


def window(shift_px: Tensor) -> Crop:
    """Windows ``[n]`` of 64 px, moved by these pixels; a tenth larger for each pixel."""
    still = torch.zeros(len(shift_px))
    centre_px = 32 + torch.stack([shift_px, -shift_px], -1)
    return Crop(centre_px, SIZE * (1 + shift_px / 10), still, still, SIZE)


def in_crops(camera: WeakCamera, crops: Crop) -> WeakCamera:
    """A camera of the still window, seen in others."""
    half = crops.side_px[:, None] / 2
    shift = (camera.shift * SIZE / 2 + SIZE / 2 - crops.centre_px) / half
    return WeakCamera(torch.cat([camera.params[:, :1] * (SIZE / 2) / half, shift], -1))


@pytest.fixture(scope="module")
def truth(body) -> Estimate:
    """Someone who faces the camera, waves both arms, bends a knee and drifts sideways."""
    time = torch.arange(FRAMES) / FRAMES
    pose = torch.zeros(FRAMES, 24, 3)
    pose[:, 0, 0] = torch.pi
    pose[:, 16, 2] = -0.9 + 0.8 * time
    pose[:, 17, 2] = 0.9 - 0.5 * time.square()
    pose[:, 4, 2] = 0.3 * time
    camera = torch.stack([torch.full_like(time, 0.85), 0.1 * time, 0.3 - 0.05 * time], -1)
    params = body.params(rotmat_from_axis_angle(pose), torch.zeros(FRAMES, 10))
    return Estimate(params, in_crops(WeakCamera(camera), CROPS))


CROPS = window(torch.tensor([0.0, 0.4, -0.2, 0.1, 0.3, 0.0]))


@pytest.fixture(scope="module")
def links(body, truth) -> FlowLinks:
    """Each frame to the next: the truth's own motion, known where the body is."""
    starts = torch.arange(FRAMES - 1)
    windows = window(0.2 * torch.ones(FRAMES - 1))
    verts_px = project_weak(body.mesh(truth.params).verts, truth.camera, SIZE)
    image_px = CROPS.to_image(verts_px[..., :2])
    maps, known = [], []
    for a, b in ((starts, starts + 1), (starts + 1, starts)):
        here, there = (windows.to_crop(image_px[i]) for i in (a, b))
        seen = torch.cat([here, verts_px[a, :, 2:]], -1)
        fragments = rasterise(seen, body.faces, SIZE, SIZE)
        maps.append(interpolate(fragments, body.faces, there - here))
        known.append(fragments.face_ids >= 0)
    indices = torch.stack([starts, starts + 1], -1)
    return FlowLinks(indices, FlowPair(*maps, *known), windows)


@pytest.fixture(scope="module")
def first(truth) -> Estimate:
    """The truth with joints that jump."""
    chance = torch.Generator().manual_seed(0)
    turns = 0.1 * torch.randn(FRAMES, 24, 3, generator=chance)
    rotmats = truth.params.rotmats @ rotmat_from_axis_angle(turns)
    camera = truth.camera.params + 0.01 * torch.randn(FRAMES, 3, generator=chance)
    return Estimate(replace(truth.params, rotmats=rotmats), WeakCamera(camera))


def tensors(estimate: Estimate) -> list[Tensor]:
    return [estimate.params.rotmats, estimate.params.betas, estimate.camera.params]


def check_same(a: Estimate, b: Estimate, atol: float = 0.0) -> None:
    for x, y in zip(tensors(a), tensors(b), strict=True):
        assert_close(x, y, atol=atol, rtol=0)


def moved(a: Estimate, b: Estimate) -> Tensor:
    """Largest change of each frame's rotations."""
    return (a.params.rotmats - b.params.rotmats).abs().amax((1, 2, 3))


def errors(estimate: Estimate, truth: Estimate, body: BodyModel) -> tuple[float, float]:
    """PA error (mm) and error of the acceleration (mm/frame^2)."""
    joints_m, target_m = (body.joints(e.params) for e in (estimate, truth))
    apart = acceleration(joints_m - joints_m[:, :1]) - acceleration(target_m - target_m[:, :1])
    return float(pa_mpjpe(joints_m, target_m).mean()), float(apart.norm(dim=-1).mean())


def no_links(size_px: int = SIZE) -> FlowLinks:
    one = Sequence("s", "p", [np.zeros((8, 8, 3), np.uint8)], torch.zeros(1), BOX[None], None)
    return sequence_links(one, size_px, FlowSource(PairConfig(), no_motion))


BOX = torch.tensor([1.0, 1.0, 6.0, 6.0])


def no_motion(first: np.ndarray, second: np.ndarray) -> FlowPair:
    flow = torch.zeros(*first.shape[:2], 2)
    valid = torch.ones(first.shape[:2], dtype=torch.bool)
    return FlowPair(flow, flow, valid, valid)


def test_exact_flow_brings_jumping_bodies_closer_to_the_truth(body, truth, first, links):
    config = SequenceFitConfig(steps=20, pose_rate=0.02, anchor=AnchorWeights(3.0, 0.3, 3.0))
    steps = []
    fit = fit_sequence(
        first, CROPS, links, body, config, on_step=lambda step, terms: steps.append((step, terms))
    )
    pa, accel = errors(first, truth, body)
    new_pa, new_accel = errors(fit.estimate, truth, body)
    assert new_pa < 0.95 * pa
    assert new_accel < 0.6 * accel
    assert fit.history[-1]["flow"] < 0.2 * fit.history[0]["flow"]
    assert steps == list(enumerate(fit.history, 1))
    assert len(fit.history) == config.steps
    apart_px = [
        flow_disagreement(e, CROPS, links, body, config) for e in (first, fit.estimate, truth)
    ]
    assert float(apart_px[2].max()) < 0.1 < 0.5 * float(apart_px[1].mean() + 0.2)
    assert bool((apart_px[1] < apart_px[0]).all())
    rotmats = fit.estimate.params.rotmats
    eye = torch.eye(3).expand_as(rotmats)
    assert_close(rotmats @ rotmats.mT, eye, atol=1e-5, rtol=0)
    assert bool((torch.linalg.det(rotmats) > 0.9).all())
    assert not any(t.requires_grad for t in tensors(fit.estimate))


def test_the_anchor_alone_moves_nothing(body, first, links):
    fit = fit_sequence(first, CROPS, links, body, NOTHING)
    check_same(fit.estimate, first)
    assert fit.history[0] == {"anchor_pose": 0, "anchor_shape": 0, "anchor_camera": 0}


def test_flow_counts_only_where_the_network_sees_that_part(body, first, links):
    """Maps that see nobody, or the wrong part, leave the bodies alone; without maps they move."""
    maps = torch.zeros(len(first.camera.params), 4, 6, 6)
    nobody = maps.clone()
    nobody[:, 3] = -3.0
    # The lowest corner of the body's box: far from all of the skin.
    corner = maps.clone()
    corner[:, 3] = 3.0
    for surface in (nobody, corner):
        fit = fit_sequence(first, CROPS, links, body, FEW, surface=surface)
        check_same(fit.estimate, first)
    anywhere = fit_sequence(
        first, CROPS, links, body, replace(FEW, on_part_m=0.0), surface=corner
    ).estimate
    plain = fit_sequence(first, CROPS, links, body, FEW).estimate
    check_same(anywhere, plain)
    assert not torch.equal(plain.params.rotmats, first.params.rotmats)


def test_a_stronger_anchor_holds_tighter(body, first, links):
    far, near = (
        fit_sequence(
            first, CROPS, links, body, replace(FEW, steps=6, anchor=AnchorWeights(a, a, a))
        ).estimate
        for a in (0.0, 1e4)
    )
    assert float(moved(near, first).mean()) < 0.5 * float(moved(far, first).mean())


def test_frames_without_flow_stay(body, first, links):
    """No link, or one whose flow is too long to be believed."""
    fit = fit_sequence(first, CROPS, pick(links, torch.arange(3)), body, FEW)
    assert_close(moved(fit.estimate, first)[4:], torch.zeros(2), atol=0, rtol=0)
    assert bool((moved(fit.estimate, first)[:4] > 1e-3).all())
    wild = replace(links.flow, forward=links.flow.forward + SIZE)
    fit = fit_sequence(first, CROPS, replace(links, flow=wild), body, FEW)
    check_same(fit.estimate, first)
    assert flow_disagreement(first, CROPS, replace(links, flow=wild), body, FEW).isnan().all()


def test_a_frame_does_not_feel_how_long_the_video_is(body, first, links):
    some = torch.arange(3)
    short = fit_sequence(
        pick(first, some), pick(CROPS, some), pick(links, some[:2]), body, FEW
    ).estimate
    long = fit_sequence(first, CROPS, pick(links, some[:2]), body, FEW).estimate
    check_same(pick(long, some), short, atol=1e-6)


def test_the_chunk_changes_nothing(body, truth, first, links):
    points_px = keypoints(body, truth)
    config = replace(FEW, keypoints=1.0)
    whole, parts = (
        fit_sequence(first, CROPS, links, body, replace(config, chunk=chunk), points_px)
        for chunk in (64, 2)
    )
    check_same(whole.estimate, parts.estimate, atol=1e-5)
    assert whole.history[0] == pytest.approx(parts.history[0], rel=1e-4)


def test_smoothing_lowers_acceleration(body, truth, first):
    config = replace(NOTHING, steps=20, smooth=100.0, window=4)
    pa, accel = errors(first, truth, body)
    fit = fit_sequence(first, CROPS, no_links(), body, config)
    new_pa, new_accel = errors(fit.estimate, truth, body)
    assert new_accel < 0.7 * accel
    assert new_pa < 1.1 * pa
    assert fit.history[-1]["smooth_pose"] < fit.history[0]["smooth_pose"]


def test_the_last_steps_are_small(body, first):
    """Else the steps themselves would jitter."""
    config = replace(NOTHING, steps=12, smooth=100.0)
    history = fit_sequence(first, CROPS, no_links(), body, config).history
    changes = [abs(b["anchor_pose"] - a["anchor_pose"]) for a, b in pairwise(history)]
    assert changes[-1] < 0.1 * max(changes)


def test_rotations_are_averaged_as_rotations():
    """About the half turn, where axis-angle vectors jump to the other side."""
    around = torch.tensor([-0.3, 0.1, 0.2, -0.2, -0.1, 0.3])
    turns = torch.zeros(6, 24, 3)
    turns[..., 2] = torch.pi + around[:, None]
    camera = WeakCamera(torch.arange(18.0).view(6, 3))
    estimate = Estimate(BodyParams(rotmat_from_axis_angle(turns), around[:, None], "none"), camera)
    average = moving_average(estimate, 2)
    wanted = torch.stack([around[max(i - 1, 0) : i + 2].mean() for i in range(6)])
    turns[..., 2] = torch.pi + wanted[:, None]
    apart = geodesic_rad(average.params.rotmats, rotmat_from_axis_angle(turns))
    # The nearest rotation is the mean angle to third order.
    assert float(apart.max()) < 0.01
    assert_close(average.params.betas[:, 0], wanted)
    assert_close(average.camera.params[1:-1], camera.params[1:-1])
    backwards = moving_average(map_tensors(estimate, lambda t: t.flip(0)), 2)
    check_same(map_tensors(backwards, lambda t: t.flip(0)), average, atol=1e-6)
    check_same(moving_average(estimate, 0), estimate, atol=1e-6)
    all_alike = moving_average(estimate, 99)
    assert float((all_alike.params.rotmats - all_alike.params.rotmats[:1]).abs().max()) < 1e-6


def test_one_frame_has_nothing_to_agree_with(body, first):
    some = torch.arange(1)
    config = replace(FEW, smooth=10.0, steps=60)
    fit = fit_sequence(pick(first, some), pick(CROPS, some), no_links(), body, config)
    check_same(fit.estimate, pick(first, some), atol=1e-3)


def keypoints(body: BodyModel, estimate: Estimate) -> Tensor:
    points_m = body.keypoints(body.mesh(estimate.params), COCO_17)
    points_px = project_weak(points_m, estimate.camera, SIZE)[..., :2]
    return torch.cat([points_px, torch.ones_like(points_px[..., :1])], -1)


def test_keypoints_pull(body, truth, first):
    points_px = keypoints(body, truth)
    points_px[0] = torch.nan
    points_px[1, :, 2] = 0
    config = replace(NOTHING, steps=10, keypoints=10.0, anchor=AnchorWeights(0.1, 0.1, 0.1))
    fit = fit_sequence(first, CROPS, no_links(), body, config, points_px).estimate
    wanted = keypoints(body, truth)
    before, after = ((keypoints(body, e) - wanted)[2:].norm(dim=-1).mean() for e in (first, fit))
    assert float(after) < 0.5 * float(before)
    check_same(pick(fit, torch.arange(2)), pick(first, torch.arange(2)))


def test_flow_that_is_not_finite_is_flow_that_is_not_known(body, first, links):
    hole = (slice(None), slice(20, 30), slice(25, 40))
    flow = links.flow
    forward, valid = flow.forward.clone(), flow.forward_valid.clone()
    forward[hole], valid[hole] = 7.0, False
    without = replace(links, flow=replace(flow, forward=forward, forward_valid=valid))
    forward = forward.clone()
    forward[hole] = torch.nan
    spoilt = replace(links, flow=replace(flow, forward=forward))
    a, b = (fit_sequence(first, CROPS, x, body, FEW).estimate for x in (without, spoilt))
    # Samples beside the hole may take a thousandth of a pixel from in it.
    check_same(a, b, atol=2e-3)
    assert all(bool(t.isfinite().all()) for t in tensors(b))
    assert bool((moved(b, first) > 0).all())
    config = replace(FEW, flow_loss=FlowLossConfig(consistent=False))
    with pytest.raises(ValueError, match=r"not finite.*expected finite flow"):
        fit_sequence(first, CROPS, spoilt, body, config)


def test_one_shape_for_all(body, first, links):
    betas = torch.linspace(-1, 1, FRAMES)[:, None].expand(-1, 10).contiguous()
    varied = replace(first, params=replace(first.params, betas=betas))
    fit = fit_sequence(varied, CROPS, links, body, replace(NOTHING, one_shape=True)).estimate
    assert_close(fit.params.betas, torch.zeros(FRAMES, 10), atol=1e-5, rtol=0)
    fit = fit_sequence(varied, CROPS, links, body, replace(FEW, one_shape=True)).estimate
    assert_close(fit.params.betas, fit.params.betas[:1].expand(FRAMES, -1), atol=0, rtol=0)
    assert float(fit.params.betas.abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("indices", "said"), [([[0, 6]], "from frame 0 to 6"), ([[-1, 2]], "-1"), ([[2, 2]], "2 to 2")]
)
def test_links_to_frames_that_are_not_there(body, first, links, indices, said):
    wrong = replace(pick(links, torch.arange(1)), indices=torch.tensor(indices))
    with pytest.raises(ValueError, match=rf"{said}.*expected two frames out of 0\.\.5"):
        fit_sequence(first, CROPS, wrong, body, FEW)


def test_inputs_that_do_not_belong_together(body, first, links):
    other = replace(first, params=replace(first.params, body_id="another"))
    with pytest.raises(BodyIdentityError):
        fit_sequence(other, CROPS, links, body, FEW)
    with pytest.raises(ValueError, match=r"crops of shape \(5,\); expected one of each"):
        fit_sequence(first, pick(CROPS, torch.arange(5)), links, body, FEW)
    few = replace(links, flow=pick(links.flow, torch.arange(4)))
    with pytest.raises(ValueError, match="5 links with 4 flows"):
        fit_sequence(first, CROPS, few, body, FEW)
    with pytest.raises(ValueError, match="no keypoints for a weight of 2"):
        fit_sequence(first, CROPS, links, body, replace(FEW, keypoints=2.0))
    with pytest.raises(ValueError, match=r"keypoints of 2 frames; expected 6"):
        fit_sequence(first, CROPS, links, body, FEW, torch.zeros(2, 17, 3))
    bad = replace(first, camera=WeakCamera(first.camera.params * torch.nan))
    with pytest.raises(NonFiniteLoss):
        fit_sequence(bad, CROPS, links, body, NOTHING)
    for wrong in ({"smooth": -1.0}, {"chunk": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}: got"):
            replace(FEW, **wrong)


def test_links_of_a_video(body, first):
    images = [np.zeros((8, 8, 3), np.uint8)] * 5
    boxes_px = BOX + torch.arange(5.0)[:, None] * torch.tensor([0.1, 0.0, 0.0, 0.0])
    sequence = Sequence("s", "p", images, torch.arange(5.0), boxes_px, None)
    for gap, ends in ((1, [1, 2, 3, 4]), (3, [3, 4, 4, 4])):
        cut = sequence_links(sequence, 16, FlowSource(PairConfig(gap=gap, flow_px=16), no_motion))
        assert cut.indices.tolist() == [[i, end] for i, end in enumerate(ends)]
        assert cut.flow.forward.shape == (4, 16, 16, 2)
        low, high = boxes_px[0, 0], boxes_px[ends[0], 0] + 6
        assert_close(cut.flow_crop.centre_px[0, 0], (low + high) / 2)
    none = no_links(16)
    assert len(none) == 0
    assert flow_disagreement(first, CROPS, none, body, FEW).shape == (0,)
    assert none.flow_crop.size_px == 16
