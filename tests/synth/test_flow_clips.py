"""Clips for who learns flow: the engine's own flow, between frames that are further apart too."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from flowhmr.body import BodyModel
from flowhmr.cameras import pixel_centres_px
from flowhmr.flow import sample_flow, sample_mask
from flowhmr.geometry import pick
from flowhmr.synth import FlowClip, FlowClipConfig, FlowClipPool, flow_clip, set_stage, synth_clip
from flowhmr.synth import flow_clips as module

BASE = replace(FlowClipConfig().clips, size_px=64, frames=5, others=0.0)
FAR = FlowClipConfig(replace(BASE, frames=9), frames=3, reach=4)


@pytest.fixture(autouse=True)
def few_a_file(monkeypatch):
    """Two clips a file."""
    monkeypatch.setattr(module, "CHUNK", 2)


def test_neighbouring_frames_are_those_of_the_clip(body: BodyModel) -> None:
    """All frames, one apart: the clip itself, its pictures' motion blur too."""
    config = FlowClipConfig(BASE, frames=5, reach=1)
    for index in range(2):
        found, clip = flow_clip(config, index, body), synth_clip(BASE, index, body)
        assert found.gaps.tolist() == [1, 1, 1, 1]
        for name in ("images", "people"):
            assert torch.equal(getattr(found, name), getattr(clip, name)), name
        for ours, theirs in zip(vars(found.flow).values(), vars(clip.flow).values()):
            assert torch.equal(ours, theirs)


def test_flow_over_a_gap_is_the_flow_of_the_frames_between_one_after_the_other(
    body: BodyModel,
) -> None:
    """Where a point is seen in all frames and its neighbours move alike."""
    found = flow_clip(FAR, 1, body)
    assert found.gaps.tolist() != [1, 1]
    clip = synth_clip(FAR.clips, 1, body)
    rng_first = _first_frame(found, clip.people)
    size = FAR.clips.size_px
    points = pixel_centres_px(size, size).flatten(0, 1)[None]
    known = torch.ones(points.shape[:-1], dtype=torch.bool)
    for t in range(rng_first, rng_first + int(found.gaps[0])):
        step = pick(clip.flow, torch.tensor([t]))
        known &= sample_mask(step.forward_valid, points)
        points = points + sample_flow(step.forward, points)
    moved = (points - pixel_centres_px(size, size).flatten(0, 1))[0]
    known = known[0] & found.flow.forward_valid[0].flatten()
    wrong = (moved - found.flow.forward[0].flatten(0, 1)).norm(dim=-1)[known]
    assert known.float().mean() > 0.5
    assert wrong.quantile(0.9) < 0.1


def _first_frame(found: FlowClip, people: torch.Tensor) -> int:
    """Which frame of the whole clip was taken first."""
    return int((people == found.people[0]).float().mean((1, 2)).argmax())


def test_some_frames_of_a_stage_are_those_frames(body: BodyModel) -> None:
    stage = set_stage(FAR.clips, 0, body)
    some = stage.at(torch.tensor([1, 4]).numpy())
    assert len(some) == 2
    for actor, whole in zip(some.actors, stage.actors):
        assert torch.equal(actor.joints_world, whole.joints_world[[1, 4]])
        assert torch.equal(actor.params.rotmats, whole.params.rotmats[[1, 4]])
    assert (some.shot.lens_px == stage.shot.lens_px[[1, 4]]).all()
    assert (some.place.poses == stage.place.poses[[1, 4]]).all()


def test_the_pool_holds_what_is_drawn(body: BodyModel, tmp_path: Path) -> None:
    pool = FlowClipPool(FAR, 2, tmp_path, workers=1)
    assert (len(pool), pool.pairs) == (2, 4)
    for number in range(4):
        clip, first = flow_clip(FAR, number // 2, body), number % 2
        flow = pick(clip.flow, first)
        for backward in (False, True):
            example = pool.example(number, backward)
            frames = clip.images[first : first + 2].permute(0, 3, 1, 2)
            assert torch.equal(example.frames, frames.flip(0) if backward else frames)
            known = flow.backward_valid if backward else flow.forward_valid
            assert torch.equal(example.known, known)
            flow_px = (flow.backward if backward else flow.forward) * known[..., None]
            assert (example.flow_px - flow_px).abs().max() <= 0.5 / module.STEPS_A_PX
            assert torch.equal(example.person, clip.people[first + backward] > 0)
    with pytest.raises(IndexError, match="number 4; expected 0 to 3"):
        pool.example(4)


def test_a_pool_goes_on_and_draws_a_cut_off_file_anew(tmp_path: Path) -> None:
    drawn: list[tuple[int, int]] = []
    FlowClipPool(FAR, 2, tmp_path, workers=1)
    pool = FlowClipPool(FAR, 4, tmp_path, 1, lambda ready, total: drawn.append((ready, total)))
    assert drawn == [(4, 4)]
    before = pool.example(3)
    file = pool.folder / "clips-000000.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    again = FlowClipPool(FAR, 4, tmp_path, 1, lambda ready, total: drawn.append((ready, total)))
    assert drawn[1:] == [(4, 4)]
    assert torch.equal(again.example(3).flow_px, before.flow_px)
    FlowClipPool(FAR, 4, tmp_path, 1, lambda ready, total: drawn.append((ready, total)))
    assert len(drawn) == 2


def test_frames_that_do_not_fit_into_a_clip_are_refused() -> None:
    with pytest.raises(ValueError, match="got 4 frames up to 3 apart, out of 9"):
        FlowClipConfig(FAR.clips, frames=4, reach=3)
    with pytest.raises(ValueError, match="count of 0"):
        FlowClipPool(FAR, 0, Path("nowhere"))


def test_clips_to_learn_from_are_not_those_of_a_split() -> None:
    config = FlowClipConfig()
    assert config.clips.motion.split == "train"
    splits = ("stills", "studio", "street", "sport", "val", "test")
    assert config.clips.seed not in [module.split_spec(name).clips.seed for name in splits]
