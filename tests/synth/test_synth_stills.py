"""Stills: addressed by (seed, index), with labels that are those of the picture."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from flowhmr.body import SMPL_24
from flowhmr.cameras import fit_weak_camera, project_weak
from flowhmr.geometry import geodesic_rad
from flowhmr.records import Labels
from flowhmr.synth import Still, StillConfig, load_motions, render_stills
from flowhmr.synth.stills import sample_view

CONFIG = StillConfig(size_px=64)
COUNT = 24


@pytest.fixture(scope="module")
def stills(body) -> Still:
    return render_stills(CONFIG, range(COUNT), body)


def tensors(still: Still) -> list[torch.Tensor]:
    labels = still.labels
    assert labels.surface is not None
    return [
        still.rgba, labels.params.rotmats, labels.params.betas, labels.joints_m,
        labels.keypoints_px, labels.keypoint_confidence, labels.surface,
    ]  # fmt: skip


@pytest.mark.parametrize("indices", [range(7, 8), range(3, 11), range(20, 24)])
def test_a_still_does_not_depend_on_the_batch_it_is_rendered_in(body, stills, indices):
    """But for a rounding of the last digit: a product of few rows is another computation."""
    part = render_stills(CONFIG, indices, body)
    for some, all_of_them in zip(tensors(part), tensors(stills), strict=True):
        whole = all_of_them[indices.start : indices.stop]
        if some.dtype == torch.uint8:
            difference = (some.int() - whole.int()).abs()
            assert difference.max() <= 1
            assert (difference > 0).float().mean() < 1e-3
        else:
            assert_close(some, whole, atol=3e-5, rtol=0)


def test_the_same_batch_twice_is_the_same_bytes(body, stills):
    for a, b in zip(tensors(render_stills(CONFIG, range(COUNT), body)), tensors(stills)):
        assert torch.equal(a, b)


def test_every_number_follows_from_seed_and_index(body, stills):
    other = render_stills(replace(CONFIG, seed=1), range(2), body)
    assert not torch.equal(other.rgba, stills.rgba[:2])
    assert not torch.equal(stills.rgba[0], stills.rgba[1])
    assert not torch.equal(other.labels.params.betas, stills.labels.params.betas[:2])


def test_other_splits_give_other_people_in_other_poses(body, stills):
    held_out = render_stills(replace(CONFIG, split="test"), range(4), body)
    assert not torch.equal(held_out.labels.params.rotmats, stills.labels.params.rotmats[:4])


def test_joints_are_those_of_the_labelled_body(body, stills):
    labels = stills.labels
    assert torch.equal(body.mesh(labels.params).joints, labels.joints_m)
    assert_close(body.joints(labels.params), labels.joints_m, atol=1e-5, rtol=0)


def test_keypoints_are_in_the_picture_on_the_person(stills):
    keypoints_px = stills.labels.keypoints_px
    assert keypoints_px.min() > 0
    assert keypoints_px.max() < CONFIG.size_px
    for picture, points in zip(stills.rgba.numpy(), keypoints_px.numpy()):
        empty = (picture[..., 3] == 0).astype(np.uint8)
        away_px = cv2.distanceTransform(empty, cv2.DIST_L2, 5)
        columns, rows = points.astype(int).T
        assert away_px[rows, columns].max() <= 2


def test_keypoints_are_nearly_a_weak_perspective_of_the_joints(stills):
    labels = stills.labels
    camera = fit_weak_camera(labels.joints_m, labels.keypoints_px, CONFIG.size_px)
    seen_px = project_weak(labels.joints_m, camera, CONFIG.size_px)[..., :2]
    error_px = (seen_px - labels.keypoints_px).norm(dim=-1).mean(-1)
    assert (camera.scale > 0).all()
    assert error_px.max() < 2 * CONFIG.size_px / 64
    assert error_px.mean() < 0.7


def test_the_person_fills_the_picture_up_to_the_margin(stills):
    for alpha in stills.rgba[..., 3].numpy():
        rows, columns = np.nonzero(alpha)
        extent = max(np.ptp(rows), np.ptp(columns)) + 1
        # Clothes and hair stand up to 3 cm off the skin that the box is made for.
        assert 1.0 <= extent * CONFIG.margin / CONFIG.size_px < 1.1
        middle = [(a.min() + a.max() + 1) / 2 for a in (rows, columns)]
        assert np.abs(np.array(middle) - CONFIG.size_px / 2).max() < 3


def test_colour_never_exceeds_coverage(stills):
    assert (stills.rgba[..., :3] <= stills.rgba[..., 3:]).all()
    assert (stills.rgba[..., 3].flatten(1).amax(1) == 255).all()


def test_the_surface_map_knows_left_from_right(body, stills):
    """At a seen wrist or ankle it shows a point of that limb, not of the other side's."""
    low, high = body.v_template.amin(0), body.v_template.amax(0)
    rest_m = body.joints(body.rest_params())
    right = wrong = 0
    for name in ("wrist", "ankle"):
        for side in ("left_", "right_"):
            mine, other = SMPL_24.indices_of([side + name, mirrored(side) + name])
            for points_px, surface in zip(stills.labels.keypoints_px[:, mine], maps(stills.labels)):
                column, row = (points_px / 4).long().tolist()
                *scaled, seen = surface[row, column].float()
                point_m = low + torch.stack(scaled) / 255 * (high - low)
                if seen:
                    right += bool((point_m - rest_m[mine]).norm() < 0.12)
                    wrong += bool((point_m - rest_m[other]).norm() < 0.12)
    assert right > 0.5 * 4 * COUNT
    assert wrong < 0.1 * right


def mirrored(side: str) -> str:
    return {"left_": "right_", "right_": "left_"}[side]


def maps(labels: Labels) -> torch.Tensor:
    assert labels.surface is not None
    return labels.surface


def test_without_perturbation_poses_are_the_captures(body):
    config = replace(CONFIG, perturb=0.0, splice=0.0, split="val", size_px=16)
    poses = render_stills(config, range(6), body).labels.params.rotmats[:, 1:]
    captured = torch.cat([m.rotmats[:, 1:] for m in load_motions("val")]).flatten(1)
    assert from_capture(poses, captured).max() < 1e-3
    for changed in (replace(config, perturb=1.0), replace(config, splice=1.0)):
        poses = render_stills(changed, range(6), body).labels.params.rotmats[:, 1:]
        assert (from_capture(poses, captured) > 0.05).sum() >= 4


def from_capture(poses: torch.Tensor, captured: torch.Tensor) -> torch.Tensor:
    """Distance of each pose, or of its mirror image, from the nearest captured one."""
    swap = [j - 1 for j in SMPL_24.mirror[1:]]
    flip = torch.tensor([-1.0, 1.0, 1.0])
    mirrored_poses = flip[:, None] * poses[:, swap] * flip
    # Through a matrix product small distances would be rounding errors.
    exact = "donot_use_mm_for_euclid_dist"
    both = [
        torch.cdist(p.flatten(1), captured, compute_mode=exact).amin(1)
        for p in (poses, mirrored_poses)
    ]
    return torch.minimum(*both)


def test_views_are_mostly_upright_from_all_sides():
    views = torch.stack([sample_view(np.random.default_rng(i)) for i in range(400)])
    eye = torch.eye(3).expand_as(views)
    assert_close(views @ views.transpose(-1, -2), eye, atol=1e-5, rtol=0)
    assert (torch.linalg.det(views) > 0).all()
    up = views[:, :, 1]
    assert (up[:, 1] < -0.7).float().mean() > 0.95, "world's up is the picture's up, -Y"
    # The world's z turns through all headings: as often towards the camera as away from it.
    assert (views[:, 2, 2] > 0).float().mean() == pytest.approx(0.5, abs=0.08)
    assert (views[:, 0, 2] > 0).float().mean() == pytest.approx(0.5, abs=0.08)


def test_a_person_faces_all_ways(stills):
    turns = stills.labels.params.rotmats[:, 0]
    apart = geodesic_rad(turns, turns.roll(1, 0))
    assert apart.max() > 2
