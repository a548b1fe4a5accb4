"""Body flow and image flow against the true motion of keypoints."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from flowhmr.body import open_body
from flowhmr.cameras import WeakCamera, crop_from_box, fit_weak_camera, project_weak
from flowhmr.evaluation import (
    FlowQuality,
    FlowStudy,
    Footage,
    TrueBody,
    choose_starts,
    flow_quality_markdown,
    score_flow_quality,
)
from flowhmr.flow import FlowPair
from flowhmr.geometry import rotmat_from_axis_angle
from flowhmr.records import Clip, Estimate, Labels, Sequence

FRAMES, SIDE = 6, 96
CROP = 48
STUDY = FlowStudy(gaps=(1, 2), resolutions=("crop", "window", "image"), crop_px=CROP)
STEP_PX = torch.tensor([2.0, -1.0])
"""How far the person moves from frame to frame, pixels of an image of `SIDE`."""


def film(zoom: float = 1.0) -> Footage:
    """A stiff person who wanders through images of ``zoom * SIDE``; each image holds its number."""
    pose = rotmat_from_axis_angle(torch.zeros(1, 24, 3))
    pose[:, 0] = rotmat_from_axis_angle(torch.tensor([math.pi, 0.0, 0.0]))
    params = open_body().params(pose.repeat(FRAMES, 1, 1, 1), torch.zeros(FRAMES, 10))
    joints_m, side = open_body().joints(params), round(SIDE * zoom)
    moved_px = torch.arange(FRAMES)[:, None] * STEP_PX + torch.tensor([0.0, 6.0])
    camera = WeakCamera(torch.cat([torch.full((FRAMES, 1), 0.6), moved_px * 2 / SIDE], -1))
    seen_px = project_weak(joints_m, camera, side)[..., :2]
    low, high = seen_px.amin(1), seen_px.amax(1)
    boxes_px = torch.cat([low, high - low], -1)
    images = [np.full((side, side, 3), i, np.uint8) for i in range(FRAMES)]
    crop = crop_from_box(boxes_px, CROP)
    labels = Labels(params, joints_m, seen_px, torch.ones(FRAMES, 24))
    in_crop = replace(labels, keypoints_px=crop.to_crop(seen_px))
    frames = torch.zeros(FRAMES, 3, CROP, CROP, dtype=torch.uint8)
    sequence = Sequence("walk", "ann", images, torch.arange(FRAMES) / 25, boxes_px, labels)
    return Footage(sequence, Clip(frames, crop, in_crop, None))


def uniform(flow_px: Tensor, window_px: float, share: float = 1.0) -> Callable[..., FlowPair]:
    """Flow that carries all pixels as far as the person goes between the images it is given.

    Args:
        flow_px: from one image to the next, pixels of the image.
        window_px: side of the window in the image; the flow is in pixels of the frames given.
        share: how much of the true motion it sees.
    """

    def between(frame1: np.ndarray, frame2: np.ndarray) -> FlowPair:
        height, width = frame1.shape[:2]
        gap = float(frame2.max()) - float(frame1.max())
        there = (flow_px * gap * share * width / window_px).expand(height, width, 2).clone()
        valid = torch.ones(height, width, dtype=torch.bool)
        return FlowPair(there, -there, valid, valid)

    return between


def moving_with(footage: Footage, share: float) -> Callable[[Clip], Estimate]:
    """An estimator whose bodies make only this share of the true way."""

    def estimator(clip: Clip) -> Estimate:
        labels = footage.sequence.labels
        assert labels is not None
        said_px = labels.keypoints_px[:1] + share * (labels.keypoints_px - labels.keypoints_px[:1])
        camera = fit_weak_camera(labels.joints_m, clip.crop.to_crop(said_px), clip.crop.size_px)
        return Estimate(labels.params, camera)

    return estimator


def only(rows: list[FlowQuality], **wanted: object) -> FlowQuality:
    (row,) = (r for r in rows if all(getattr(r, k) == v for k, v in wanted.items()))
    return row


def image_flow(footage: Footage, share: float, zoom: float = 1.0) -> Callable[..., FlowPair]:
    """Flow of whole images."""
    return uniform(STEP_PX * zoom, SIDE * zoom, share)


IMAGE = replace(STUDY, resolutions=("image",))


# --- laws


def test_the_ratio_is_that_of_the_two_shares_which_are_missed() -> None:
    """Bodies miss half of the motion, flow misses a fifth of it: 2.5 at every gap."""
    footage = film()
    rows = score_flow_quality(
        moving_with(footage, 0.5), [footage], open_body(), image_flow(footage, 0.8), IMAGE
    )
    assert [(r.gap, r.read_at) for r in rows] == [
        (1, "body"), (1, "truth"), (2, "body"), (2, "truth"),
    ]  # fmt: skip
    for row in rows:
        assert row.pairs == FRAMES - row.gap
        torch.testing.assert_close(row.ratios, torch.full_like(row.ratios, 2.5), rtol=1e-3, atol=0)
        assert row.mean == pytest.approx(2.5, rel=1e-3)
        assert row.median == pytest.approx(2.5, rel=1e-3)
    one, two = only(rows, gap=1, read_at="truth"), only(rows, gap=2, read_at="truth")
    torch.testing.assert_close(two.image_px, 2 * one.image_px[:4], rtol=1e-3, atol=0)


def test_perfect_flow_has_a_large_ratio_and_no_infinite_one() -> None:
    footage = film()
    rows = score_flow_quality(
        moving_with(footage, 0.5), [footage], open_body(), image_flow(footage, 1.0), IMAGE
    )
    for row in rows:
        assert bool(torch.isfinite(row.ratios).all())
        torch.testing.assert_close(row.ratios, row.body_px / STUDY.least_px)
        assert row.mean > 10
        assert row.raised == 1


def test_perfect_bodies_beside_imperfect_flow_have_a_ratio_below_one() -> None:
    footage = film()
    rows = score_flow_quality(TrueBody(), [footage], open_body(), image_flow(footage, 0.8), IMAGE)
    for row in rows:
        assert float(row.body_px.max()) < 1e-2
        assert float(row.ratios.max()) < 1
        assert row.raised == 0


def test_where_both_are_right_neither_is_better() -> None:
    footage = film()
    rows = score_flow_quality(TrueBody(), [footage], open_body(), image_flow(footage, 1.0), IMAGE)
    assert {r.mean for r in rows} == {1.0}


def test_the_size_of_the_images_leaves_ratios_and_distances() -> None:
    small, large = (
        score_flow_quality(
            moving_with(footage, 0.5), [footage], open_body(), image_flow(footage, 0.8, z), IMAGE
        )
        for z in (1.0, 2.0)
        for footage in [film(z)]
    )
    for a, b in zip(small, large, strict=True):
        torch.testing.assert_close(a.ratios, b.ratios, rtol=1e-3, atol=0)
        torch.testing.assert_close(a.body_px, b.body_px, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("resolution", ["crop", "window"])
def test_windows_give_what_the_image_gives_when_flow_is_the_same(resolution: str) -> None:
    """Flow is told in pixels of the window it was estimated in, and read where the window is."""
    footage = film()
    side_px = 1.2 * float(footage.sequence.boxes_px[0, 2:].max())
    study = replace(STUDY, resolutions=(resolution,), gaps=(1,))
    rows = score_flow_quality(
        moving_with(footage, 0.5), [footage], open_body(), uniform(STEP_PX, side_px, 0.8), study
    )
    for row in rows:
        torch.testing.assert_close(row.ratios, torch.full_like(row.ratios, 2.5), rtol=5e-3, atol=0)


def test_flow_is_estimated_at_the_resolution_asked() -> None:
    footage, seen = film(2.0), []

    def between(frame1: np.ndarray, frame2: np.ndarray) -> FlowPair:
        seen.append(frame1.shape)
        return uniform(STEP_PX, SIDE)(frame1, frame2)

    starts = replace(footage, starts=(0,))
    study = replace(STUDY, gaps=(1,))
    score_flow_quality(moving_with(footage, 0.5), [starts], open_body(), between, study)
    side_px = round(1.2 * float(footage.sequence.boxes_px[0, 2:].max()))
    assert seen == [(CROP, CROP, 3), (side_px, side_px, 3), (2 * SIDE, 2 * SIDE, 3)]


def test_a_body_beside_the_person_reads_the_flow_beside_it_and_the_oracle_does_not() -> None:
    """The picture moves right of the person only; the body, which moves as it should, is there."""
    footage = film()
    labels = footage.sequence.labels
    assert labels is not None
    edge = int(labels.keypoints_px[..., 0].max()) + 4

    def beside(clip: Clip) -> Estimate:
        shown_px = clip.crop.to_crop(labels.keypoints_px + torch.tensor([60.0, 0.0]))
        return Estimate(labels.params, fit_weak_camera(labels.joints_m, shown_px, CROP))

    def between(frame1: np.ndarray, frame2: np.ndarray) -> FlowPair:
        pair = uniform(STEP_PX, SIDE)(frame1, frame2)
        pair.forward[:, edge:] = 9
        return pair

    study = replace(IMAGE, gaps=(1,))
    rows = score_flow_quality(beside, [footage], open_body(), between, study)
    assert only(rows, read_at="truth").image_px.max() < 1e-3
    assert only(rows, read_at="body").image_px.min() > 5
    for row in rows:
        assert float(row.body_px.max()) < 1e-2


# --- which keypoints and which pairs


def hidden(footage: Footage, frame: int, joints: slice) -> Footage:
    """With joints that are not seen, and labelled with nonsense, in one frame."""
    labels = footage.sequence.labels
    assert labels is not None
    confidence, points_px = labels.keypoint_confidence.clone(), labels.keypoints_px.clone()
    confidence[frame, joints], points_px[frame, joints] = 0, torch.nan
    labels = replace(labels, keypoint_confidence=confidence, keypoints_px=points_px)
    return replace(footage, sequence=replace(footage.sequence, labels=labels))


def test_only_keypoints_seen_in_both_frames_count() -> None:
    footage = film()
    partly = hidden(footage, 2, slice(0, 20))
    run = partial(score_flow_quality, moving_with(footage, 0.5), body=open_body(), study=IMAGE)
    rows = run([partly], flow_between=image_flow(footage, 0.8))
    for row in rows:
        torch.testing.assert_close(row.ratios, torch.full_like(row.ratios, 2.5), rtol=1e-3, atol=0)


def test_pairs_without_keypoints_leave_a_gap_in_the_series_and_nothing_in_the_means() -> None:
    footage = film()
    partly = hidden(footage, 2, slice(None))
    study = replace(IMAGE, gaps=(1,))
    rows = score_flow_quality(
        moving_with(footage, 0.5), [partly], open_body(), image_flow(footage, 0.8), study
    )
    for row in rows:
        assert torch.isfinite(row.ratios).tolist() == [True, False, False, True, True]
        assert torch.isnan(row.body_px).tolist() == torch.isnan(row.image_px).tolist()
        assert row.pairs == 3
        assert row.mean == pytest.approx(2.5, rel=1e-3)
        assert row.raised == 0


def test_no_pairs_have_no_mean() -> None:
    rows = score_flow_quality(TrueBody(), [], open_body(), uniform(STEP_PX, SIDE))
    assert len(rows) == 4 * 2 * 2
    assert rows[0].pairs == 0
    assert all(math.isnan(v) for v in (rows[0].mean, rows[0].median, rows[0].raised))


def test_pairs_begin_where_they_are_told_to_and_videos_follow_each_other() -> None:
    footage = film()
    said, flow = moving_with(footage, 0.5), image_flow(footage, 0.8)
    study = replace(IMAGE, gaps=(2,))
    everything = score_flow_quality(said, [footage], open_body(), flow, study)[0]
    videos = [replace(footage, starts=s) for s in ((3, 0), (), (2,))]
    row = score_flow_quality(said, iter(videos), open_body(), flow, study)[0]
    torch.testing.assert_close(row.body_px, everything.body_px[[3, 0, 2]])


def test_a_start_without_a_second_frame_is_refused() -> None:
    footage = replace(film(), starts=(1, 4))
    with pytest.raises(ValueError, match="walk: got first frames 1 to 4; expected 0 to 3, for 6"):
        score_flow_quality(
            TrueBody(), [footage], open_body(), image_flow(footage, 1.0), replace(IMAGE, gaps=(2,))
        )


def test_video_without_labels_is_refused() -> None:
    footage = film()
    bare = replace(footage, sequence=replace(footage.sequence, labels=None))
    with pytest.raises(ValueError, match="walk: got a video without labels"):
        score_flow_quality(TrueBody(), [bare], open_body(), image_flow(footage, 1.0))
    with pytest.raises(ValueError, match="got a clip without labels"):
        TrueBody()(replace(footage.clip, labels=None))


def test_the_true_body_fits_what_is_seen() -> None:
    footage = film()
    labels = footage.clip.labels
    assert labels is not None
    confidence, points_px = labels.keypoint_confidence.clone(), labels.keypoints_px.clone()
    confidence[:, 10:], points_px[:, 10:] = 0, 1e6
    confidence[1] = 0
    partly = replace(labels, keypoint_confidence=confidence, keypoints_px=points_px)
    got = TrueBody()(replace(footage.clip, labels=partly)).camera.params
    expected = TrueBody()(footage.clip).camera.params
    assert bool(torch.isnan(got[1, 1:]).all())
    torch.testing.assert_close(got[[0, 2, 3]], expected[[0, 2, 3]], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"gaps": ()}, "gaps: got"),
        ({"gaps": (1, 0)}, "each at least 1"),
        ({"resolutions": ()}, "expected some of"),
        ({"least_px": 0.0}, "got 0.0 px; expected more than 0"),
    ],
)
def test_a_study_of_nothing_is_refused(change: dict, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        FlowStudy(**change)


# --- the choice of pairs


def test_the_choice_follows_from_the_seed_and_repeats_no_pair() -> None:
    lengths = [10, 3, 40, 8]
    chosen = choose_starts(lengths, 7, 20, 1)
    assert chosen == choose_starts(lengths, 7, 20, 1)
    assert chosen != choose_starts(lengths, 7, 20, 2)
    assert [len(set(s)) for s in chosen] == [len(s) for s in chosen]
    assert sum(map(len, chosen)) == 20
    for starts, frames in zip(chosen, lengths):
        assert list(starts) == sorted(starts)
        assert all(s >= 0 and s + 7 < frames for s in starts)


def test_fewer_pairs_are_some_of_the_more() -> None:
    few, many = (choose_starts([30, 30], 1, count, 0) for count in (10, 25))
    assert all(set(a) <= set(b) for a, b in zip(few, many))


def test_more_pairs_than_there_are_is_all() -> None:
    assert choose_starts([4, 2, 3], 2, 99, 0) == [(0, 1), (), (0,)]


def test_videos_that_are_too_short_are_refused() -> None:
    with pytest.raises(ValueError, match="got 2 videos of at most 7 frames; expected one longer"):
        choose_starts([7, 3], 7, 10, 0)


# --- the table


def test_the_table_has_the_papers_form() -> None:
    near = torch.tensor([1.0, 1.0, 1.0])
    rows = [
        FlowQuality(gap, resolution, at, near * far * torch.tensor([1.0, 2.0, 6.0]), near, 0.05)
        for gap, far in ((1, 1.0), (3, 2.0))
        for resolution in ("crop", "image")
        for at in ("body", "truth")
    ]
    lines = flow_quality_markdown(rows).splitlines()
    assert lines[0] == "| gap | crop | image |"
    assert lines[2:4] == ["| 1 | 3.0 / 2.0 | 3.0 / 2.0 |", "| 3 | 6.0 / 4.0 | 6.0 / 4.0 |"]
    assert lines[4] == "| 1 (oracle) | 3.0 / 2.0 | 3.0 / 2.0 |"
