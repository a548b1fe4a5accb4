"""Clips, estimates and tracks: batches of them, and what does not mix."""

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from torch.testing import assert_close

from flowhmr.body import BodyIdentityError, BodyParams
from flowhmr.cameras import Crop, WeakCamera
from flowhmr.flow import FlowPair
from flowhmr.geometry import RecordError, collate, pick, to_device
from flowhmr.records import Clip, Estimate, Labels, Sequence, Track, join_estimates

FRAMES, SIZE = 2, 8


def params(*batch: int, seed: int = 0) -> BodyParams:
    generator = torch.Generator().manual_seed(seed)
    rotmats = torch.randn(*batch, 24, 3, 3, generator=generator)
    return BodyParams(rotmats, torch.randn(*batch, 10, generator=generator), "some-body")


def clip(seed: int = 0, labelled: bool = True, flow: bool = True) -> Clip:
    generator = torch.Generator().manual_seed(seed)
    window = Crop(
        centre_px=torch.rand(FRAMES, 2, generator=generator),
        side_px=torch.rand(FRAMES, generator=generator) + 1,
        angle_rad=torch.zeros(FRAMES),
        mirrored=torch.zeros(FRAMES),
        size_px=SIZE,
    )
    labels = Labels(
        params=params(FRAMES, seed=seed),
        joints_m=torch.randn(FRAMES, 24, 3, generator=generator),
        keypoints_px=torch.randn(FRAMES, 24, 2, generator=generator),
        keypoint_confidence=torch.rand(FRAMES, 24, generator=generator),
    )
    valid = torch.ones(FRAMES - 1, SIZE, SIZE, dtype=torch.bool)
    maps = torch.randn(2, FRAMES - 1, SIZE, SIZE, 2, generator=generator)
    return Clip(
        frames=torch.randint(0, 255, (FRAMES, 3, SIZE, SIZE), generator=generator).byte(),
        crop=window,
        labels=labels if labelled else None,
        flow=FlowPair(maps[0], maps[1], valid, valid) if flow else None,
        flow_crop=pick(window, torch.arange(FRAMES - 1)) if flow else None,
    )


@pytest.mark.parametrize("flow", [False, True])
@pytest.mark.parametrize("labelled", [False, True])
def test_a_batch_of_clips_is_its_clips(labelled, flow):
    clips = [clip(seed, labelled, flow) for seed in range(3)]
    batch = collate(clips)
    assert batch.frames.shape == (3, FRAMES, 3, SIZE, SIZE)
    assert batch.crop.size_px == SIZE
    assert (batch.labels is None) != labelled
    assert (batch.flow is None) != flow
    assert (batch.flow_crop is None) != flow
    for i, single in enumerate(clips):
        again = pick(batch, i)
        assert torch.equal(again.frames, single.frames)
        assert torch.equal(again.crop.side_px, single.crop.side_px)
        if again.labels and single.labels:
            assert torch.equal(again.labels.params.rotmats, single.labels.params.rotmats)
            assert again.labels.params.body_id == "some-body"
        if again.flow and single.flow:
            assert torch.equal(again.flow.backward_valid, single.flow.backward_valid)


def test_labelled_and_unlabelled_clips_do_not_mix():
    with pytest.raises(RecordError, match=r"Clip\.labels: got Labels, NoneType"):
        collate([clip(), clip(labelled=False)])


def test_bodies_do_not_mix():
    estimates = [
        Estimate(BodyParams(p.rotmats, p.betas, name), WeakCamera(torch.ones(3)))
        for p, name in ((params(), "a"), (params(), "b"))
    ]
    with pytest.raises(RecordError, match=r"Estimate\.params\.body_id: got different values"):
        collate(estimates)


def test_estimates_move_and_batch():
    estimates = [Estimate(params(seed=i), WeakCamera(torch.full((3,), i + 1.0))) for i in range(2)]
    batch = collate(estimates)
    assert_close(batch.camera.scale, torch.tensor([1.0, 2.0]))
    assert to_device(batch, "meta").params.betas.device.type == "meta"


@pytest.mark.parametrize("more", [(), (2,)])
def test_estimates_cut_apart_are_joined_again(more):
    camera = torch.randn(6, *more, 3, generator=torch.Generator().manual_seed(1))
    whole = Estimate(params(6, *more), WeakCamera(camera))
    parts = [pick(whole, torch.arange(a, b)) for a, b in ((0, 1), (1, 4), (4, 6))]
    joined = join_estimates(parts)
    assert torch.equal(joined.params.rotmats, whole.params.rotmats)
    assert torch.equal(joined.params.betas, whole.params.betas)
    assert torch.equal(joined.camera.params, camera)
    assert joined.params.body_id == "some-body"
    backwards = join_estimates(parts[::-1])
    assert torch.equal(backwards.camera.params, camera[[4, 5, 1, 2, 3, 0]])
    assert torch.equal(backwards.params.betas, whole.params.betas[[4, 5, 1, 2, 3, 0]])


def test_estimates_of_several_bodies_are_not_joined():
    estimates = [
        Estimate(BodyParams(p.rotmats, p.betas, name), WeakCamera(torch.ones(2, 3)))
        for p, name in ((params(2), "a"), (params(2), "a"), (params(2), "b"))
    ]
    with pytest.raises(BodyIdentityError, match=r"estimates.*b.*a"):
        join_estimates(estimates)


def test_a_track_keeps_its_frames_and_estimates_together():
    window = clip().crop
    track = Track(
        frame_indices=torch.arange(FRAMES),
        times_s=torch.arange(FRAMES) / 25,
        crop=window,
        estimate=Estimate(params(FRAMES), WeakCamera(torch.ones(FRAMES, 3))),
    )
    last = pick(track, torch.tensor([1]))
    assert last.frame_indices.tolist() == [1]
    assert last.estimate.params.rotmats.shape == (1, 24, 3, 3)


def test_a_sequence_is_as_long_as_its_images():
    images = [np.zeros((4, 6, 3), np.uint8)] * 5
    sequence = Sequence("walk", "me", images, torch.arange(5.0), torch.ones(5, 4), None)
    assert len(sequence) == 5


def test_frames_are_bytes():
    whole = clip()
    with pytest.raises(TypeCheckError):
        Clip(whole.frames.float(), whole.crop, None, None)
