"""The supervised loss of SPIN and EFT, term by term."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from flowhmr.body import SMPL_24, BodyParams
from flowhmr.cameras import WeakCamera, pixel_centres_px, project_weak
from flowhmr.geometry import pick, rotmat_from_axis_angle
from flowhmr.losses import (
    PredictedMaps,
    heatmap_loss,
    joint_loss,
    keypoint_loss,
    supervised_terms,
    surface_loss,
)
from flowhmr.records import Estimate, Labels

SIZE, BATCH = 96, 3
NAN = float("nan")
NO_MAPS = PredictedMaps(None, None)


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Float64 normal noise."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def truth() -> tuple[Estimate, Tensor, Labels]:
    """An estimate, its joints, and labels that it meets exactly."""
    params = BodyParams(rotmat_from_axis_angle(noise(BATCH, 24, 3)), noise(BATCH, 10), "a body")
    camera = WeakCamera(torch.tensor([[0.9, 0.1, -0.1]], dtype=torch.float64).repeat(BATCH, 1))
    joints_m = 0.3 * noise(BATCH, 24, 3, seed=1)
    labels = Labels(
        params=params,
        joints_m=joints_m,
        keypoints_px=project_weak(joints_m, camera, SIZE)[..., :2],
        keypoint_confidence=torch.ones(BATCH, 24, dtype=torch.float64),
    )
    return Estimate(params, camera), joints_m, labels


def random_surface(batch: int, cells: int, seed: int = 0) -> Tensor:
    """Rest-pose points (b, c, c, 4), uint8, with a body in about half of the cells."""
    generator = torch.Generator().manual_seed(seed)
    surface = torch.randint(0, 256, (batch, cells, cells, 4), generator=generator)
    surface[..., 3] = 255 * (surface[..., 3] > 127)
    return (surface * (surface[..., 3:] > 0)).byte()


def test_the_truth_costs_nothing_but_the_cameras_regulariser():
    estimate, joints_m, labels = truth()
    terms = supervised_terms(estimate, joints_m, NO_MAPS, labels, SIZE)
    for name in ("keypoints", "joints", "pose", "shape"):
        assert_close(getattr(terms, name), torch.zeros(BATCH, dtype=torch.float64))
    assert_close(terms.camera, torch.full((BATCH,), math.exp(-9) ** 2, dtype=torch.float64))
    assert terms.heatmaps is None
    assert terms.surface is None


@pytest.mark.parametrize(
    ("changed", "cost"),
    [("keypoints", 4.0), ("joints", 0.01), ("pose", 1 / 9), ("shape", 0.25), ("camera", 1.0)],
)
def test_each_term_sees_its_own_error_only(changed, cost):
    estimate, joints_m, labels = truth()
    if changed == "keypoints":
        labels = replace(labels, keypoints_px=labels.keypoints_px + SIZE)
    if changed == "joints":
        offset = torch.full((24, 3), 0.1, dtype=torch.float64)
        hips = [SMPL_24.index("left_hip"), SMPL_24.index("right_hip")]
        offset[hips[0]], offset[hips[1]] = 0.1, -0.1
        labels = replace(labels, joints_m=labels.joints_m + offset)
    if changed == "pose":
        rotmats = estimate.params.rotmats.clone()
        rotmats[..., 0] += torch.tensor([1.0, 0.0, 0.0])
        labels = replace(labels, params=replace(estimate.params, rotmats=rotmats))
    if changed == "shape":
        params = replace(estimate.params, betas=estimate.params.betas + 0.5)
        labels = replace(labels, params=params)
    if changed == "camera":
        estimate = Estimate(estimate.params, WeakCamera(torch.zeros(BATCH, 3).double()))
        seen = project_weak(joints_m, estimate.camera, SIZE)[..., :2]
        labels = replace(labels, keypoints_px=seen)
    terms = supervised_terms(estimate, joints_m, NO_MAPS, labels, SIZE)
    for name in ("keypoints", "joints", "pose", "shape", "camera"):
        expected = {changed: cost, **({} if changed == "camera" else {"camera": math.exp(-18)})}
        values = torch.full((BATCH,), expected.get(name, 0.0), dtype=torch.float64)
        assert_close(getattr(terms, name), values, atol=1e-12, rtol=1e-6)


def test_a_batch_is_its_samples():
    estimate, joints_m, labels = truth()
    labels = replace(
        labels,
        keypoints_px=labels.keypoints_px + 9 * noise(BATCH, 24, 2, seed=4),
        surface=random_surface(BATCH, 6),
    )
    joints_m = joints_m + noise(BATCH, 24, 3, seed=5)
    maps = PredictedMaps(noise(BATCH, 24, 6, 6), noise(BATCH, 4, 6, 6))
    terms = supervised_terms(estimate, joints_m, maps, labels, SIZE)
    for i in range(BATCH):
        at = torch.tensor([i])
        args = pick(estimate, at), joints_m[at], pick(maps, at), pick(labels, at)
        alone = supervised_terms(*args, SIZE)
        for name, values in vars(terms).items():
            assert_close(values[i], getattr(alone, name)[0])


# --- keypoints


def test_keypoints_count_in_crop_half_widths_whatever_the_crops_size():
    target = torch.zeros(1, 4, 2)
    points = torch.tensor([[[SIZE / 2, 0.0], [0.0, 0.0], [0.0, SIZE / 4], [0.0, 0.0]]])
    expected = torch.tensor([(1 + 0.25) / 8])
    assert_close(keypoint_loss(points, target, torch.ones(1, 4), SIZE), expected)
    assert_close(keypoint_loss(3 * points, target, torch.ones(1, 4), 3 * SIZE), expected)


def test_keypoints_count_by_their_confidence():
    target, points = torch.zeros(1, 2, 2), torch.full((1, 2, 2), SIZE / 2)
    points[:, 1] *= 3
    confidence = torch.tensor([[1.0, 0.5]])
    assert_close(keypoint_loss(points, target, confidence, SIZE), torch.tensor([(1 + 4.5) / 2]))


@pytest.mark.parametrize("poison", [NAN, float("inf")])
def test_unknown_keypoints_are_ignored(poison):
    points = (10 * noise(2, 5, 2)).requires_grad_()
    target, confidence = noise(2, 5, 2, seed=1), torch.ones(2, 5, dtype=torch.float64)
    confidence[0, 1:3], confidence[1] = 0, 0
    poisoned = torch.where(confidence[..., None] > 0, target, poison)
    value = keypoint_loss(points, poisoned, confidence, SIZE)
    assert_close(value, keypoint_loss(points, target, confidence, SIZE))
    assert value[1] == 0
    (gradient,) = torch.autograd.grad(value.sum(), points)
    assert not gradient[confidence == 0].any()
    assert gradient[confidence > 0].isfinite().all()
    assert gradient[confidence > 0].all()


def test_unknown_bodies_are_ignored():
    """Their numbers mean nothing, and may be NaN: none gets into values or gradients."""
    estimate, joints_m, labels = truth()
    labels.params.rotmats[1], labels.params.betas[1], labels.joints_m[1] = NAN, NAN, NAN
    labels = replace(labels, has_body=torch.tensor([True, False, True]))
    rotmats, betas, joints_m = (
        (t.nan_to_num(0.5) + 0.1).requires_grad_()
        for t in (estimate.params.rotmats, estimate.params.betas, joints_m)
    )
    estimate = replace(estimate, params=replace(estimate.params, rotmats=rotmats, betas=betas))
    terms = supervised_terms(estimate, joints_m * 1.1, NO_MAPS, labels, SIZE)
    for values in (terms.joints, terms.pose, terms.shape):
        assert (values > 0).tolist() == [True, False, True]
    total = (terms.joints + terms.pose + terms.shape).sum()
    for gradient in torch.autograd.grad(total, [rotmats, betas, joints_m]):
        assert gradient.isfinite().all()
        assert not gradient[1].any()


def test_keypoint_gradients():
    points = (10 * noise(2, 3, 2)).requires_grad_()
    confidence = torch.tensor([[1.0, 0.3, 0.0]] * 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda p: keypoint_loss(p, torch.zeros_like(p), confidence, SIZE), points
    )


# --- joints


def test_where_the_body_stands_does_not_count():
    joints_m = noise(BATCH, 24, 3)
    target_m = noise(BATCH, 24, 3, seed=1)
    moved = joint_loss(joints_m + noise(BATCH, 1, 3, seed=2), target_m + 7)
    assert_close(moved, joint_loss(joints_m, target_m))


def test_the_root_is_the_middle_of_the_hips():
    target_m = noise(1, 24, 3)
    joints_m = target_m.clone()
    joints_m[:, SMPL_24.index("pelvis")] += 0.6
    assert_close(joint_loss(joints_m, target_m), torch.tensor([0.36 / 24], dtype=torch.float64))


# --- heatmaps


def heatmap(logits: Tensor, x: float, y: float, confidence: float = 1.0) -> Tensor:
    """The loss of one joint's heatmap for a target in pixels of the crop."""
    target_px = torch.tensor([[[x, y]]], dtype=torch.float64)
    return heatmap_loss(logits, target_px, torch.tensor([[confidence]]).double(), SIZE)


def test_the_best_heatmap_is_the_gaussian_at_the_target():
    cells = 8
    x, y = 40.0, 59.0
    centres_px = pixel_centres_px(cells, cells).double() * SIZE / cells
    apart = ((centres_px - torch.tensor([x, y])) / (SIZE / cells)).square().sum(-1)
    logits = (-apart / (2 * 0.8**2))[None, None].requires_grad_()
    best = heatmap(logits, x, y)
    (gradient,) = torch.autograd.grad(best.sum(), logits)
    assert gradient.abs().max() < 1e-6
    for seed in range(5):
        assert heatmap(logits + 0.1 * noise(1, 1, cells, cells, seed=seed), x, y) > best


def test_a_step_downhill_raises_the_cell_at_the_target():
    logits = torch.zeros(1, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(heatmap(logits, 3.5 * 12, 5.5 * 12).sum(), logits)
    row, column = divmod(int(gradient.flatten().argmin()), 8)
    assert (row, column) == (5, 3)
    assert gradient[0, 0, 0, 0] > 0


def test_flat_heatmaps_cost_the_logarithm_of_their_cells():
    flat = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    assert_close(heatmap(flat, 10, 10), torch.tensor([math.log(64)]), check_dtype=False)


@pytest.mark.parametrize("outside", [(-1, 5), (5, SIZE + 1), (NAN, 5), (float("inf"), 5)])
def test_joints_outside_the_crop_do_not_count(outside):
    logits = noise(1, 2, 8, 8).requires_grad_()
    target_px = torch.tensor([[[20.0, 30.0], outside]], dtype=torch.float64)
    confidence = torch.ones(1, 2, dtype=torch.float64)
    value = heatmap_loss(logits, target_px, confidence, SIZE)
    assert_close(value, heatmap(logits[:, :1], 20, 30))
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert gradient[:, 0].all()
    assert not gradient[:, 1].any()


def test_heatmaps_count_by_the_confidence_of_their_joints():
    logits = noise(1, 2, 8, 8)
    target_px = torch.tensor([[[20.0, 30.0], [70.0, 3.0]]], dtype=torch.float64)
    confidence = torch.tensor([[1.0, 0.25]], dtype=torch.float64)
    alone = [heatmap(logits[:, k : k + 1], *target_px[0, k].tolist()) for k in range(2)]
    expected = (alone[0] + 0.25 * alone[1]) / 1.25
    assert_close(heatmap_loss(logits, target_px, confidence, SIZE), expected)
    assert heatmap(logits[:, :1], 20, 30, confidence=0.0) == 0


# --- surface


def perfect_surface(target: Tensor) -> Tensor:
    """What a network should say of the surface, float32 (b, 4, c, c)."""
    said = target.permute(0, 3, 1, 2).float() / 255
    return torch.cat([said[:, :3], 200 * (said[:, 3:] - 0.5)], 1)


def test_the_right_surface_costs_nothing():
    target = random_surface(2, 6)
    assert_close(surface_loss(perfect_surface(target), target), torch.zeros(2))


def test_points_count_where_there_is_a_body():
    target = random_surface(1, 6)
    said, body = perfect_surface(target), target[:, None, ..., 3] > 0
    beside = torch.where(body, said, torch.cat([said[:, :3] + 5, said[:, 3:]], 1))
    assert_close(surface_loss(beside, target), torch.zeros(1))
    off = torch.cat([said[:, :1] + 0.3, said[:, 1:2] - 0.6, said[:, 2:]], 1)
    assert_close(surface_loss(off, target), torch.tensor([0.3]))


def test_not_knowing_where_the_body_is_costs_a_bit():
    target = random_surface(2, 6)
    said = perfect_surface(target)
    said[:, 3] = 0
    assert_close(surface_loss(said, target), torch.full((2,), math.log(2)))


def test_no_body_costs_nothing_to_place():
    target = torch.zeros(1, 6, 6, 4, dtype=torch.uint8)
    said = noise(1, 4, 6, 6).float()
    said[:, 3] = -100
    said.requires_grad_()
    value = surface_loss(said, target)
    assert_close(value, torch.zeros(1))
    assert torch.autograd.grad(value.sum(), said)[0].isfinite().all()


# --- all together


def test_gradients_reach_the_whole_estimate():
    estimate, joints_m, labels = truth()

    def total(rotmats: Tensor, betas: Tensor, camera: Tensor, joints: Tensor) -> Tensor:
        found = Estimate(BodyParams(rotmats, betas, "a body"), WeakCamera(camera))
        terms = supervised_terms(found, joints, NO_MAPS, labels, SIZE)
        return terms.keypoints + terms.joints + terms.pose + terms.shape + terms.camera

    inputs = [
        (x + 0.1 * noise(*x.shape, seed=k)).requires_grad_()
        for k, x in enumerate(
            (estimate.params.rotmats, estimate.params.betas, estimate.camera.params, joints_m)
        )
    ]
    assert torch.autograd.gradcheck(total, inputs, fast_mode=True)
    assert all(g.any() for g in torch.autograd.grad(total(*inputs).sum(), inputs))
