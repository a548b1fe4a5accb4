"""Labelled crops: the same for any order and batch, and labels that are those of the picture."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from flowhmr.body import SMPL_24, BodyModel, open_body
from flowhmr.cameras import fit_weak_camera, project_weak, warp_image
from flowhmr.data import AugmentConfig, StillBatches
from flowhmr.geometry import pick
from flowhmr.records import Clip, Labels
from flowhmr.synth import PoolConfig, StillConfig, StillPool

SIZE = 64
PLAIN = AugmentConfig(
    scale=0.0, shift=0.0, rotate=0.0, flip=0.0, close=0.0, other_person=0.0, occluder=0.0,
    colour=0.0, degrade=0.0,
)  # fmt: skip
MOVED = replace(PLAIN, scale=0.12, shift=0.06, rotate=1.0, flip=0.5, close=0.2)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return open_body()


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> StillPool:
    config = PoolConfig(StillConfig(size_px=96), count=8, backgrounds=4, background_px=64, chunk=8)
    return StillPool(config, tmp_path_factory.mktemp("pool"), workers=1)


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> StillPool:
    """A single person: which still a sample shows is known."""
    config = PoolConfig(StillConfig(size_px=96), count=1, backgrounds=2, background_px=64, chunk=1)
    return StillPool(config, tmp_path_factory.mktemp("one"), workers=1)


def batches(pool: StillPool, augment: AugmentConfig, batch: int = 8, **changed) -> StillBatches:
    settings = {"size_px": SIZE, "seed": 3, "count": 4} | changed
    return StillBatches(pool, batch=batch, augment=augment, **settings)


def tensors(clip: Clip) -> list[torch.Tensor]:
    labels = labels_of(clip)
    assert labels.surface is not None
    return [
        clip.frames, clip.crop.centre_px, clip.crop.side_px, clip.crop.angle_rad,
        clip.crop.mirrored, labels.params.rotmats, labels.params.betas, labels.joints_m,
        labels.keypoints_px, labels.keypoint_confidence, labels.surface,
    ]  # fmt: skip


def labels_of(clip: Clip) -> Labels:
    assert clip.labels is not None
    return clip.labels


def images(clip: Clip) -> np.ndarray:
    return clip.frames[:, 0].permute(0, 2, 3, 1).numpy()


def coverage(pool: StillPool, clip: Clip, index: int) -> np.ndarray:
    """Alpha (s, s) of the only person of a pool in a crop."""
    picture = np.ascontiguousarray(pool.rgba(0))
    return warp_image(picture, pick(pick(clip.crop, index), 0))[..., 3]


def test_a_batch_does_not_depend_on_what_was_asked_for_before(pool):
    first = batches(pool, AugmentConfig())
    inorder = [first[i] for i in range(3)]
    second = batches(pool, AugmentConfig())
    for number in (2, 0, 1):
        for a, b in zip(tensors(second[number]), tensors(inorder[number]), strict=True):
            assert torch.equal(a, b)


def test_samples_do_not_depend_on_the_batch_size(pool):
    large = batches(pool, AugmentConfig(), batch=6)[1]
    small = [batches(pool, AugmentConfig(), batch=2)[i] for i in (3, 4, 5)]
    parts = zip(*(tensors(clip) for clip in small))
    for whole, part in zip(tensors(large), parts, strict=True):
        assert torch.equal(whole, torch.cat(list(part)))


def test_samples_differ_and_follow_the_seed(pool):
    clip = batches(pool, AugmentConfig())[0]
    assert len(images(clip).reshape(8, -1)) == len(np.unique(images(clip).reshape(8, -1), axis=0))
    assert not torch.equal(batches(pool, AugmentConfig(), seed=4)[0].frames, clip.frames)
    assert not torch.equal(batches(pool, AugmentConfig())[1].frames, clip.frames)


def test_a_batch_is_clips_of_one_frame(pool):
    dataset = batches(pool, AugmentConfig(), batch=3)
    clip = dataset[0]
    assert len(dataset) == 4
    assert clip.frames.shape == (3, 1, 3, SIZE, SIZE)
    assert clip.frames.dtype == torch.uint8
    assert clip.flow is None
    assert labels_of(clip).keypoints_px.shape == (3, 1, 24, 2)
    assert labels_of(clip).surface.shape == (3, 1, SIZE // 4, SIZE // 4, 4)  # type: ignore[union-attr]
    assert clip.crop.size_px == SIZE


@pytest.mark.parametrize("augment", [PLAIN, MOVED, AugmentConfig()])
def test_joints_are_those_of_the_labelled_body(body, pool, augment):
    labels = labels_of(batches(pool, augment)[0])
    assert_close(body.joints(labels.params), labels.joints_m, atol=1e-5, rtol=0)


@pytest.mark.parametrize("augment", [PLAIN, MOVED])
def test_keypoints_are_nearly_a_weak_perspective_of_the_joints(pool, augment):
    labels = labels_of(batches(pool, augment, batch=16)[0])
    camera = fit_weak_camera(labels.joints_m, labels.keypoints_px, SIZE)
    seen_px = project_weak(labels.joints_m, camera, SIZE)[..., :2]
    error = (seen_px - labels.keypoints_px).norm(dim=-1).mean(-1)
    assert (error / camera.pixels_per_metre(SIZE)).max() < 0.05
    assert (camera.scale > 0).all()


def test_without_augmentation_the_person_is_whole_and_in_the_middle(pool):
    clip = batches(pool, PLAIN, batch=16)[0]
    keypoints_px = labels_of(clip).keypoints_px[:, 0]
    assert keypoints_px.min() > 0
    assert keypoints_px.max() < SIZE
    extent = (keypoints_px.amax(1) - keypoints_px.amin(1)).amax(-1)
    # The box is around the body's surface; joints are inside.
    assert (extent < SIZE / PLAIN.margin).all()
    assert (extent > 0.6 * SIZE / PLAIN.margin).all()
    assert not clip.crop.angle_rad.any()
    assert not clip.crop.mirrored.any()


@pytest.mark.parametrize("augment", [PLAIN, MOVED])
def test_the_surface_map_is_where_the_person_is_seen(one, augment):
    clip = batches(one, augment, batch=12)[0]
    surface = labels_of(clip).surface
    assert surface is not None
    for index in range(12):
        alpha = coverage(one, clip, index)
        middles = alpha.reshape(SIZE // 4, 4, SIZE // 4, 4)[:, 1:3, :, 1:3].mean((1, 3))
        seen = surface[index, 0, ..., 3].numpy() > 0
        sure = (middles < 5) | (middles > 250)
        assert sure.mean() > 0.7
        assert (seen == (middles > 127))[sure].mean() > 0.97
        assert seen.sum() > 10


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_the_surface_map_knows_the_labelled_sides(body, pool, flip):
    """At a seen wrist or ankle it shows a point of that limb, not of the other side's."""
    labels = labels_of(batches(pool, replace(PLAIN, flip=flip), batch=24)[0])
    assert labels.surface is not None
    low, high = body.v_template.amin(0), body.v_template.amax(0)
    rest_m = body.joints(body.rest_params())
    right = wrong = 0
    for name in ("left_wrist", "right_wrist", "left_ankle", "right_ankle"):
        mine = SMPL_24.index(name)
        other = SMPL_24.mirror[mine]
        for sample in range(24):
            column, row = (labels.keypoints_px[sample, 0, mine] / 4).long().tolist()
            *scaled, seen = labels.surface[sample, 0, row, column].float()
            point_m = low + torch.stack(scaled) / 255 * (high - low)
            if seen:
                right += bool((point_m - rest_m[mine]).norm() < 0.15)
                wrong += bool((point_m - rest_m[other]).norm() < 0.15)
    assert right > 40
    assert wrong < 0.15 * right


def test_a_flipped_sample_is_the_mirror_image_of_the_unflipped(one):
    plain, flipped = (batches(one, replace(PLAIN, flip=f), batch=3)[0] for f in (0.0, 1.0))
    swap = list(SMPL_24.mirror)
    expected_px = labels_of(plain).keypoints_px[:, :, swap]
    expected_px = torch.stack([SIZE - expected_px[..., 0], expected_px[..., 1]], -1)
    assert_close(labels_of(flipped).keypoints_px, expected_px, atol=1e-3, rtol=0)
    assert_close(
        labels_of(flipped).joints_m,
        labels_of(plain).joints_m[:, :, swap] * torch.tensor([-1.0, 1.0, 1.0]),
        atol=1e-5,
        rtol=0,
    )
    for index in range(3):
        inside = coverage(one, plain, index) == 255
        a, b = images(plain)[index].astype(int), images(flipped)[index, :, ::-1].astype(int)
        assert inside.sum() > 100
        assert np.abs(a - b)[inside].max() <= 2
        assert flipped.crop.mirrored[index, 0] == 1


def test_the_person_covers_the_background_and_nothing_else(one):
    """The same person before two backgrounds: equal inside, different outside."""
    a, b = (batches(one, PLAIN, batch=1, seed=seed)[0] for seed in (0, 1))
    alpha = coverage(one, a, 0)
    difference = np.abs(images(a)[0].astype(int) - images(b)[0]).max(-1)
    assert difference[alpha == 255].max() <= 1
    assert (difference[alpha == 0] > 5).mean() > 0.5


@pytest.mark.parametrize("name", ["occluder", "other_person", "colour", "degrade"])
def test_what_is_done_to_the_picture_leaves_the_labels_alone(pool, name):
    plain = batches(pool, PLAIN)[0]
    changed = batches(pool, replace(PLAIN, **{name: 1.0}))[0]
    assert torch.equal(labels_of(changed).keypoints_px, labels_of(plain).keypoints_px)
    assert torch.equal(labels_of(changed).params.rotmats, labels_of(plain).params.rotmats)
    different = (changed.frames != plain.frames).flatten(1).any(1)
    assert different.float().mean() > 0.7


def test_a_close_crop_shows_a_part_of_the_body(pool):
    def outside(clip: Clip) -> float:
        keypoints_px = labels_of(clip).keypoints_px
        return float(((keypoints_px < 0) | (keypoints_px > SIZE)).any(-1).float().mean())

    close = batches(pool, replace(PLAIN, close=1.0), batch=16)[0]
    assert outside(batches(pool, PLAIN, batch=16)[0]) == 0
    assert outside(close) > 0.1
    assert (close.crop.side_px < 0.81 * 96 / 1.12 * PLAIN.margin).all()


def test_turns_stay_below_twice_their_spread(pool):
    clip = batches(pool, replace(PLAIN, rotate=1.0, rotate_deg=10.0), batch=64)[0]
    degrees = torch.rad2deg(clip.crop.angle_rad)
    assert degrees.abs().max() <= 20.001
    assert degrees.std() == pytest.approx(9.5, abs=2.5)


def test_a_ramp_leads_from_plain_pictures_to_full_augmentation():
    full = AugmentConfig(ramp=100)
    start, end = full.at(0), full.at(100)
    assert end == replace(full, ramp=0) == full.at(10**6)
    always = {"margin": full.margin, "flip": full.flip, "rotate_deg": full.rotate_deg}
    for field in fields(AugmentConfig):
        expected = always.get(field.name, 0.0)
        assert getattr(start, field.name) == expected, field.name
    half = full.at(50)
    assert half.occluder == pytest.approx(full.occluder / 2)
    assert half.flip == full.flip
    assert AugmentConfig().at(0) == AugmentConfig()


def test_the_first_batches_of_a_ramp_are_plain(pool):
    ramped = batches(pool, replace(AugmentConfig(), ramp=2))
    plain = batches(pool, replace(PLAIN, flip=AugmentConfig().flip))
    full = batches(pool, AugmentConfig())
    assert torch.equal(ramped[0].frames, plain[0].frames)
    assert torch.equal(ramped[2].frames, full[2].frames)
    assert not torch.equal(ramped[1].frames, full[1].frames)
