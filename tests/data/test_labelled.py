"""Crops of labelled stills: addressed by number, of the given stills only, labels in place."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from flowhmr.body import SMPL_24, BodyModel, open_body
from flowhmr.cameras import crop_from_box, warp_image
from flowhmr.data import AugmentConfig, LabelledBatches
from flowhmr.geometry import pick
from flowhmr.records import Clip, Labels
from flowhmr.synth import ClipStore, SplitSpec, split_spec

SIZE = 48
IMAGE = 64
PLAIN = AugmentConfig(
    scale=0.0, shift=0.0, rotate=0.0, flip=0.0, close=0.0, other_person=0.0, occluder=0.0,
    colour=0.0, degrade=0.0,
)  # fmt: skip
MOVED = replace(PLAIN, scale=0.12, shift=0.06, rotate=1.0, flip=0.5, close=0.2)


def tiny(name, **changed) -> SplitSpec:
    spec = split_spec(name)
    return replace(spec, clips=replace(spec.clips, size_px=IMAGE, **changed), count=6)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return open_body()


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> ClipStore:
    spec = tiny("stills", others=0.0)
    return ClipStore(spec, tmp_path_factory.mktemp("store"), workers=1)


def batches(
    store: ClipStore, augment: AugmentConfig, indices=range(6), batch: int = 8, **changed
) -> LabelledBatches:
    settings = {"size_px": SIZE, "seed": 3, "count": 4} | changed
    return LabelledBatches(store, indices, batch=batch, augment=augment, **settings)


def labels_of(clip: Clip) -> Labels:
    assert clip.labels is not None
    return clip.labels


def surface_of(clip: Clip) -> Tensor:
    surface = labels_of(clip).surface
    assert surface is not None
    return surface


def images(clip: Clip) -> np.ndarray:
    return clip.frames[:, 0].permute(0, 2, 3, 1).numpy()


def tensors(clip: Clip) -> list[Tensor]:
    labels = labels_of(clip)
    return [
        clip.frames, clip.crop.centre_px, clip.crop.side_px, clip.crop.angle_rad,
        clip.crop.mirrored, labels.params.rotmats, labels.params.betas, labels.joints_m,
        labels.keypoints_px, labels.keypoint_confidence, surface_of(clip),
    ]  # fmt: skip


def which(store: ClipStore, clip: Clip) -> Tensor:
    """The stills that a batch shows: no two people have the same betas."""
    every = store.labels(torch.arange(len(store))).params.betas[:, 0]
    same = (labels_of(clip).params.betas == every).all(-1)
    assert (same.sum(1) == 1).all()
    return same.int().argmax(1)


def test_a_batch_does_not_depend_on_what_was_asked_for_before(store):
    first = batches(store, AugmentConfig())
    inorder = [first[i] for i in range(3)]
    second = batches(store, AugmentConfig())
    for number in (2, 0, 1):
        for a, b in zip(tensors(second[number]), tensors(inorder[number]), strict=True):
            assert torch.equal(a, b)


def test_samples_do_not_depend_on_the_batch_size(store):
    large = batches(store, AugmentConfig(), batch=6)[1]
    small = [batches(store, AugmentConfig(), batch=2)[i] for i in (3, 4, 5)]
    parts = zip(*(tensors(clip) for clip in small))
    for whole, part in zip(tensors(large), parts, strict=True):
        assert torch.equal(whole, torch.cat(list(part)))


def test_samples_differ_and_follow_the_seed(store):
    clip = batches(store, AugmentConfig())[0]
    assert len(np.unique(images(clip).reshape(8, -1), axis=0)) == 8
    assert not torch.equal(batches(store, AugmentConfig(), seed=4)[0].frames, clip.frames)
    assert not torch.equal(batches(store, AugmentConfig())[1].frames, clip.frames)


def test_a_batch_is_clips_of_one_frame(store):
    dataset = batches(store, AugmentConfig(), batch=3)
    clip = dataset[0]
    assert len(dataset) == 4
    assert clip.frames.shape == (3, 1, 3, SIZE, SIZE)
    assert clip.frames.dtype == torch.uint8
    assert clip.flow is None
    assert clip.crop.size_px == SIZE
    labels = labels_of(clip)
    assert labels.keypoints_px.shape == (3, 1, 24, 2)
    assert labels.joints_m.dtype == torch.float32
    assert surface_of(clip).shape == (3, 1, SIZE // 4, SIZE // 4, 4)
    assert surface_of(clip).dtype == torch.uint8


def test_all_of_the_given_stills_are_used_and_no_other(store):
    clip = batches(store, AugmentConfig(), indices=[1, 4, 5], batch=40)[0]
    assert set(which(store, clip).tolist()) == {1, 4, 5}


def test_no_pixel_of_an_unlabelled_still_is_used(store, monkeypatch):
    """Nor as the texture of what stands before the person."""
    read = []
    look = ClipStore.images
    monkeypatch.setattr(ClipStore, "images", lambda s, i: read.append(int(i)) or look(s, i))
    batches(store, replace(AugmentConfig(), occluder=1.0), indices=[0, 2], batch=30)[0]
    assert set(read) == {0, 2}
    assert len(read) == 60


def test_without_augmentation_it_is_the_plain_crop(store):
    clip = batches(store, PLAIN, batch=12)[0]
    stills = which(store, clip)
    crop = crop_from_box(store.boxes_px(stills)[:, 0], SIZE, PLAIN.margin)
    assert_close(clip.crop.centre_px[:, 0], crop.centre_px)
    assert_close(clip.crop.side_px[:, 0], crop.side_px)
    assert not clip.crop.angle_rad.any()
    assert not clip.crop.mirrored.any()
    for index, still in enumerate(stills.tolist()):
        expected = warp_image(store.images(still)[0], pick(pick(clip.crop, index), 0))
        # The colour table rounds down.
        assert np.abs(images(clip)[index].astype(int) - expected).max() <= 1


@pytest.mark.parametrize("augment", [PLAIN, MOVED])
def test_keypoints_land_where_they_are_in_the_image(store, augment):
    clip = batches(store, augment, batch=16)[0]
    labels, stored = labels_of(clip), store.labels(which(store, clip))
    swap = torch.tensor(SMPL_24.mirror)
    mirrored = clip.crop.mirrored[:, 0] > 0.5
    back_px = clip.crop.to_image(labels.keypoints_px)[:, 0]
    back_px = torch.where(mirrored[:, None, None], back_px[:, swap], back_px)
    assert_close(back_px, stored.keypoints_px[:, 0], atol=1e-3, rtol=0)
    weights = labels.keypoint_confidence[:, 0]
    weights = torch.where(mirrored[:, None], weights[:, swap], weights)
    assert torch.equal(weights, stored.keypoint_confidence[:, 0])


@pytest.mark.parametrize("augment", [PLAIN, MOVED])
def test_joints_are_those_of_the_labelled_body(body, store, augment):
    labels = labels_of(batches(store, augment)[0])
    assert_close(body.joints(labels.params), labels.joints_m, atol=1e-5, rtol=0)


def test_a_flipped_sample_is_the_mirror_image_of_the_unflipped(store):
    plain, flipped = (batches(store, replace(PLAIN, flip=f), batch=6)[0] for f in (0.0, 1.0))
    swap = list(SMPL_24.mirror)
    expected_px = labels_of(plain).keypoints_px[:, :, swap]
    expected_px = torch.stack([SIZE - expected_px[..., 0], expected_px[..., 1]], -1)
    assert_close(labels_of(flipped).keypoints_px, expected_px, atol=1e-3, rtol=0)
    away = torch.tensor([-1.0, 1.0, 1.0])
    expected_m = labels_of(plain).joints_m[:, :, swap] * away
    assert_close(labels_of(flipped).joints_m, expected_m, atol=1e-5, rtol=0)
    assert np.abs(images(plain).astype(int) - images(flipped)[:, :, ::-1]).max() <= 2
    # The maps mirror as the pictures do, up to the cells' grid.
    ours, other = surface_of(plain)[:, 0], surface_of(flipped)[:, 0].flip(2)
    assert (ours[..., 3] == other[..., 3]).float().mean() > 0.95
    both = (ours[..., 3] > 0) & (other[..., 3] > 0)
    across = (255 - ours[..., 0].int() - other[..., 0].int()).abs()[both]
    assert (across <= 8).float().mean() > 0.8


@pytest.mark.parametrize("augment", [PLAIN, MOVED])
def test_the_surface_map_moves_with_the_picture(store, augment):
    """A cell of the crop shows what the image's cell at the same place shows."""
    clip = batches(store, augment, batch=12)[0]
    stored = store.labels(which(store, clip)).surface
    assert stored is not None
    cells = SIZE // 4
    rows, columns = torch.meshgrid(*[(torch.arange(cells) + 0.5) * 4] * 2, indexing="ij")
    middles_px = torch.stack([columns, rows], -1).reshape(1, 1, -1, 2).expand(12, -1, -1, -1)
    there = clip.crop.to_image(middles_px.float())[:, 0] / 4
    inside = ((there >= 0) & (there < IMAGE // 4)).all(-1)
    at = there.long().clamp(0, IMAGE // 4 - 1)
    expected = stored[torch.arange(12)[:, None], 0, at[..., 1], at[..., 0]]
    expected = torch.where(inside[..., None], expected, 0).int()
    mirrored = (clip.crop.mirrored > 0.5) & (expected[..., 3] > 0)
    expected[..., 0] = torch.where(mirrored, 255 - expected[..., 0], expected[..., 0])
    found = surface_of(clip).reshape(12, -1, 4).int()
    # On the border between two cells either may be read.
    sure = ((there - there.floor() - 0.5).abs() < 0.45).all(-1)
    assert torch.equal(found[sure], expected[sure])
    assert (found[..., 3] > 0).sum(1).min() > 3


@pytest.mark.parametrize("name", ["occluder", "colour", "degrade"])
def test_what_is_done_to_the_picture_leaves_the_labels_alone(store, name):
    plain = batches(store, PLAIN)[0]
    changed = batches(store, replace(PLAIN, **{name: 1.0}))[0]
    for a, b in zip(tensors(plain)[1:], tensors(changed)[1:], strict=True):
        assert torch.equal(a, b)
    different = (changed.frames != plain.frames).flatten(1).any(1)
    assert different.float().mean() > 0.7


def test_the_first_batches_of_a_ramp_are_plain(store):
    ramped = batches(store, replace(AugmentConfig(), ramp=2))
    plain = batches(store, replace(PLAIN, flip=AugmentConfig().flip))
    full = batches(store, AugmentConfig())
    assert torch.equal(ramped[0].frames, plain[0].frames)
    assert torch.equal(ramped[2].frames, full[2].frames)
    assert not torch.equal(ramped[1].frames, full[1].frames)


def test_nothing_labelled_is_refused(store):
    with pytest.raises(ValueError, match=r"got 0 of .*expected at least one.*use the split"):
        batches(store, PLAIN, indices=[])


def test_video_is_refused(tmp_path):
    video = ClipStore(tiny("stills", frames=2), tmp_path, count=1, workers=1)
    with pytest.raises(ValueError, match=r"clips of 2 frames; expected .*of one frame"):
        batches(video, PLAIN, indices=[0])


def test_more_labelled_stills_than_the_store_holds_are_refused(store):
    with pytest.raises(ValueError, match=f"got number 99 of a store of {len(store)}"):
        batches(store, AugmentConfig(), indices=[0, 99])
