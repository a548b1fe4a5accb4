"""Bodies found in a video as labels: with the true ones, the labels are the truth."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from flowhmr.body import SMPL_24, open_body
from flowhmr.cameras import PerspectiveCamera, crop_from_box, fit_weak_camera, warp_image
from flowhmr.data import (
    AugmentConfig,
    BoxError,
    OwnVideo,
    PseudoBatches,
    frame_crops,
    own_videos,
    write_video,
)
from flowhmr.geometry import map_tensors, pick
from flowhmr.records import Clip, Labels, PersonMotion, SceneMotion
from flowhmr.synth import ShotConfig, SynthClip, SynthConfig, synth_clip

BODY = open_body()
SIZE = 48
STILL = SynthConfig(
    frames=6, size_px=128, shot=ShotConfig(motions=(("static", 1.0),), zoom=0.0, close=0.0),
    others=0.0, occluder=0.0, superpixel=0.0, quality="clean",
)  # fmt: skip
PLAIN = AugmentConfig(
    scale=0.0, shift=0.0, rotate=0.0, flip=0.0, close=0.0, occluder=0.0, colour=0.0, degrade=0.0
)
MOVED = replace(PLAIN, scale=0.12, shift=0.06, rotate=1.0, flip=0.5, close=0.2)


@pytest.fixture(scope="module")
def clip() -> SynthClip:
    return synth_clip(STILL, 0, BODY)


@pytest.fixture(scope="module")
def path(clip, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    write_video(path, clip.images.numpy(), 30.0, crf=1)
    return path


def truth(clip: SynthClip, people: int = 1) -> SceneMotion:
    """What a perfect capture would find; more people are copies of the first, further right."""
    camera = pick(clip.camera, 0)
    found = tuple(
        PersonMotion(
            number,
            torch.arange(len(clip)),
            clip.params,
            clip.translation_m + torch.tensor([0.3 * number, 0.0, 0.0]),
            torch.linspace(0.5, 1, len(clip)),
        )
        for number in range(people)
    )
    return SceneMotion(found, camera, (128, 128), torch.arange(len(clip)) / 30)


@pytest.fixture(scope="module")
def own(clip, path) -> list[OwnVideo]:
    return own_videos(path, truth(clip), BODY, SIZE * 4)


def labels_of(clip: Clip) -> Labels:
    assert clip.labels is not None
    return clip.labels


def batches(own: list[OwnVideo], augment: AugmentConfig, batch: int = 12, **changed):
    settings = {"size_px": SIZE, "seed": 3, "count": 4} | changed
    return PseudoBatches(own, BODY, batch=batch, augment=augment, **settings)


def shown(own: list[OwnVideo], found: Clip) -> Tensor:
    """The frames that a batch of one person's crops shows: no two poses are the same."""
    every = own[0].sequence.labels
    assert every is not None
    plain, other = labels_of(found).params.rotmats[:, :, 1:], every.params.rotmats[:, 1:]
    if found.crop.mirrored.any():
        raise AssertionError("mirrored poses are others")
    same = (plain - other).abs().flatten(2).amax(-1) < 1e-6
    assert (same.sum(1) == 1).all()
    return same.int().argmax(1)


def test_with_the_true_bodies_the_labels_are_the_truth(clip, path, own):
    """Crops, places of joints, and joints but for the view's turn."""
    (person,) = own
    verts_cam = BODY.mesh(clip.params).verts + clip.translation_m[:, None]
    points_px = clip.camera.project(verts_cam)[..., :2]
    boxes_px = torch.cat([points_px.amin(1), points_px.amax(1) - points_px.amin(1)], -1)
    exact = replace(clip.sequence(), boxes_px=boxes_px)
    ours, theirs = frame_crops(person.sequence, SIZE), frame_crops(exact, SIZE)
    assert np.abs(ours.frames.numpy().astype(int) - theirs.frames.numpy()).mean() < 3
    mine, true = labels_of(ours), labels_of(theirs)
    assert_close(mine.keypoints_px, true.keypoints_px, atol=0.02, rtol=0)
    assert_close(mine.params.betas, true.params.betas)
    assert_close(mine.params.rotmats[:, 1:], true.params.rotmats[:, 1:])
    turn = mine.params.rotmats[:, 0] @ true.params.rotmats[:, 0].mT
    assert_close(true.joints_m @ turn.mT, mine.joints_m, atol=0.1, rtol=0)
    assert_close(mine.joints_m.diff(dim=1), true.joints_m.diff(dim=1) @ turn.mT, atol=1e-4, rtol=0)


def test_a_person_off_the_axis_is_turned_until_a_weak_camera_sees_it(clip, path):
    camera = PerspectiveCamera(torch.tensor(80.0), torch.tensor([64.0, 64.0]))
    straight = replace(
        truth(clip).people[0], translation_m=torch.tensor([1.5, 0.0, 3.0]).expand(6, 3)
    )
    aside = replace(truth(clip), people=(straight,), camera=camera)
    (person,) = own_videos(path, aside, BODY, SIZE)
    labels = person.sequence.labels
    assert labels is not None

    def missed_px(joints_m: Tensor) -> Tensor:
        weak = fit_weak_camera(joints_m, labels.keypoints_px, 128)
        seen = (joints_m[..., :2] * weak.scale[:, None, None] + weak.shift[:, None] + 1) * 64
        return (seen - labels.keypoints_px).norm(dim=-1).mean()

    assert len(person.sequence) == 6
    plain, turned = missed_px(BODY.joints(straight.params)), missed_px(labels.joints_m)
    assert turned < 0.03 * float(person.sequence.boxes_px[:, 2:].amax())
    assert turned < 0.6 * plain


@pytest.mark.parametrize("augment", [PLAIN, MOVED])
def test_labels_go_with_their_crop(own, augment):
    augment = replace(augment, flip=0.0)
    found = batches(own, augment)[0]
    rows = shown(own, found)
    labels, sequence = labels_of(found), own[0].sequence
    assert sequence.labels is not None
    back_px = found.crop.to_image(labels.keypoints_px)[:, 0]
    assert_close(back_px, sequence.labels.keypoints_px[rows], atol=1e-3, rtol=0)
    assert_close(BODY.joints(labels.params), labels.joints_m, atol=1e-5, rtol=0)
    for k, row in enumerate(rows.tolist()):
        plain = warp_image(sequence.images[row], pick(pick(found.crop, k), 0))
        cut = found.frames[k, 0].permute(1, 2, 0).numpy()
        assert np.abs(cut.astype(int) - plain).max() <= 1


def test_a_mirrored_sample_mirrors_its_labels(own):
    plain, flipped = (batches(own, replace(PLAIN, flip=f))[0] for f in (0.0, 1.0))
    swap = list(SMPL_24.mirror)
    expected_px = labels_of(plain).keypoints_px[:, :, swap]
    expected_px = torch.stack([SIZE - expected_px[..., 0], expected_px[..., 1]], -1)
    assert_close(labels_of(flipped).keypoints_px, expected_px, atol=1e-3, rtol=0)
    ours, other = labels_of(plain).surface, labels_of(flipped).surface
    assert ours is not None
    assert other is not None
    assert (ours[..., 3] == other.flip(3)[..., 3]).float().mean() > 0.95


def test_the_surface_map_shows_the_person(clip, own):
    """Where the picture does, up to clothes and cells."""
    found = batches(own, PLAIN)[0]
    surface = labels_of(found).surface
    assert surface is not None
    cells = SIZE // 4
    assert surface.shape == (12, 1, cells, cells, 4)
    silhouette = clip.silhouette.numpy().astype(np.uint8)[..., None] * np.uint8(255)
    agreed = []
    for k, row in enumerate(shown(own, found).tolist()):
        crop = crop_from_box(own[0].sequence.boxes_px[row], cells)
        agreed.append(
            (warp_image(silhouette[row], crop)[..., 0] > 127)
            == surface[k, 0, ..., 3].numpy() // 255
        )
    assert np.mean(agreed) > 0.93
    # The head is up in the crop and up on the body (y), the feet down.
    seen = surface[:, 0, ..., 3] > 0
    rows = torch.arange(cells)[None, :, None].expand(12, cells, cells)
    high, low = (
        rows[seen & (surface[:, 0, ..., 1] > 200)],
        rows[seen & (surface[:, 0, ..., 1] < 50)],
    )
    assert high.float().mean() < low.float().mean()


def tensors(found: Clip) -> list[Tensor]:
    out: list[Tensor] = []
    map_tensors(found, lambda t: out.append(t) or t)
    return out


def test_a_sample_follows_from_its_number(own):
    large = batches(own, AugmentConfig(), batch=6)[1]
    small = [batches(own, AugmentConfig(), batch=2)[i] for i in (4, 3, 5)]
    parts = zip(*(tensors(small[i]) for i in (1, 0, 2)), strict=True)
    for whole, part in zip(tensors(large), parts, strict=True):
        assert torch.equal(whole, torch.cat(part))
    assert not torch.equal(batches(own, AugmentConfig(), batch=6, seed=4)[1].frames, large.frames)


def test_frames_are_drawn_as_they_are_trusted(own):
    few = [replace(own[0], trust=torch.tensor([0.0, 0.2, 0.0, 1.0, 0.0, 0.0]))]
    dataset = batches(few, PLAIN, batch=200)
    counts = np.bincount(shown(few, dataset[0]).numpy(), minlength=6)
    assert dataset.frames == 2
    assert set(np.flatnonzero(counts)) == {1, 3}
    assert 3 < counts[3] / counts[1] < 8
    none = [replace(own[0], trust=torch.zeros(6))]
    with pytest.raises(ValueError, match=r"got 6 frames, none .* expected some .* or ask for less"):
        batches(none, PLAIN)


def test_several_people_and_stretches_of_frames(clip, path):
    scene = truth(clip, people=2)
    gone = torch.tensor([0, 1, 4, 5])
    second = pick_rows(scene.people[1], gone)
    both = own_videos(path, replace(scene, people=(scene.people[0], second)), BODY, SIZE)
    assert [(o.sequence.person, len(o.sequence)) for o in both] == [("0", 6), ("1", 2), ("1", 2)]
    assert_close(both[2].trust, second.confidence[2:])
    (alone,) = own_videos(path, replace(scene, people=scene.people[1:]), BODY, SIZE)
    assert alone.sequence.labels is not None
    assert both[2].sequence.labels is not None
    assert_close(both[2].sequence.labels.params.rotmats, alone.sequence.labels.params.rotmats[4:])
    people = {float(b) for b in labels_of(batches(both, PLAIN, batch=60)[0]).params.betas[:, 0, 0]}
    assert len(people) == 1  # the same person twice, here


def pick_rows(person: PersonMotion, rows: Tensor) -> PersonMotion:
    return replace(
        person,
        frame_indices=person.frame_indices[rows],
        params=pick(person.params, rows),
        translation_m=person.translation_m[rows],
        confidence=person.confidence[rows],
    )


def test_long_videos_are_thinned_to_runs(clip, path, monkeypatch):
    monkeypatch.setattr("flowhmr.data.pseudo.RUN", 2)
    found = own_videos(path, truth(clip), BODY, SIZE, most=4)
    assert [len(o.sequence) for o in found] == [2, 2]
    assert_close(found[1].trust, truth(clip).people[0].confidence[4:])


def test_who_is_not_on_the_image_is_left_out(clip, path):
    scene = truth(clip)
    moved_m = scene.people[0].translation_m.clone()
    moved_m[0, 0] += 100
    moved_m[5, 2] = 0.1
    part = replace(scene.people[0], translation_m=moved_m)
    (person,) = own_videos(path, replace(scene, people=(part,)), BODY, SIZE)
    assert len(person.sequence) == 4
    assert_close(person.trust, scene.people[0].confidence[1:5])
    away = replace(part, translation_m=moved_m + torch.tensor([100.0, 0, 0]))
    with pytest.raises(BoxError, match=r"nobody is on the image; expected at least one"):
        own_videos(path, replace(scene, people=(away,)), BODY, SIZE)


def test_the_motion_of_another_video_is_refused(clip, path):
    scene = truth(clip)
    late = replace(scene.people[0], frame_indices=torch.arange(6) + 3)
    longer = replace(scene, people=(late,), times_s=torch.arange(9) / 30)
    with pytest.raises(BoxError, match=r"got 3 frames of person 0; expected the 6 of the motion"):
        own_videos(path, longer, BODY, SIZE)
