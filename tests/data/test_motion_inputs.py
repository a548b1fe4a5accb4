"""What Motion HMR sees: crops of pairs, flow in them, keypoints by the rules, what is lost."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from flowhmr.body import COCO_17, SMPL_24, open_body
from flowhmr.cameras import Crop, crop_from_box
from flowhmr.data import (
    HEATMAP_JOINTS,
    DetectorModel,
    Link,
    MotionBatches,
    MotionInputConfig,
    MotionSetConfig,
    MotionVideo,
    PairConfig,
    cut_clip,
    enough_visible,
    with_detector,
)
from flowhmr.data.motion_inputs import COUNTED, pair_crops, reported_joints, seen_keypoints
from flowhmr.flow import FlowPair
from flowhmr.geometry import rotmat_from_axis_angle
from flowhmr.records import Labels, Sequence
from flowhmr.synth import SynthClip, detected_joints, mean_rotmats, split_spec

SIZE, FRAMES = 32, 8
CHAIN = list(SMPL_24.indices_of(HEATMAP_JOINTS))
PLAIN = MotionInputConfig(
    frames=6, legs=0.0, flips=0.0, lost=0.0, zoom=0.0, shift=0.0, flip=0.0, colour=0.0
)


def sequence(frames: int = FRAMES, seed: int = 0, labelled: bool = True) -> Sequence:
    """Somebody who walks to the right before noise; joint ``k`` is seen at (x, y) of the box."""
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 256, (80, 100, 3), np.uint8) for _ in range(frames)]
    corner = torch.stack([torch.arange(frames) * 2.0 + 20, torch.full((frames,), 15.0)], -1)
    boxes_px = torch.cat([corner, torch.tensor([[20.0, 40.0]]).expand(frames, 2)], -1)
    labels = None
    if labelled:
        body = open_body()
        made = torch.Generator().manual_seed(seed)
        pose = mean_rotmats() @ rotmat_from_axis_angle(
            0.2 * torch.randn(frames, 24, 3, generator=made)
        )
        params = body.params(pose, torch.zeros(frames, body.num_betas))
        places = torch.rand(24, 2, generator=made)
        points_px = corner[:, None] + places * boxes_px[:, None, 2:]
        labels = Labels(params, body.joints(params), points_px, torch.ones(frames, 24))
    return Sequence(f"s{seed}", "p", images, torch.arange(frames) / 30, boxes_px, labels)


class Sliding:
    """All of the image moves by 3 px to the right and 1 px down from frame to frame."""

    def __init__(self, gap: int = 1):
        self.config = PairConfig(gap=gap)

    def link(self, sequence: Sequence, start: int, size_px: int) -> Link:
        window = pair_window(sequence, start, size_px)
        flow = torch.tensor([3.0, 1.0]).expand(size_px, size_px, 2) * (size_px / window.side_px)
        valid = torch.ones(size_px, size_px, dtype=torch.bool)
        return Link(start + 1, window, FlowPair(flow, -flow, valid, valid))

    def links(self, sequence: Sequence, size_px: int) -> list[Link]:
        starts = range(max(len(sequence) - self.config.gap, 0))
        return [self.link(sequence, start, size_px) for start in starts]


class Ramp(Sliding):
    """The flow to the right is a tenth of the pixel's own x in the image."""

    def link(self, sequence: Sequence, start: int, size_px: int) -> Link:
        link = super().link(sequence, start, size_px)
        zoom = size_px / float(link.window.side_px)
        centres = torch.arange(size_px) + 0.5
        x_px = (centres - size_px / 2) / zoom + link.window.centre_px[0]
        flow = torch.stack([0.1 * x_px * zoom, torch.zeros(size_px)], -1)
        flow = flow.expand(size_px, size_px, 2)
        return replace(link, flow=replace(link.flow, forward=flow))


def pair_window(sequence: Sequence, start: int, size_px: int) -> Crop:
    crops = pair_crops(sequence.boxes_px[start : start + 2], size_px, 1.5)
    still = torch.zeros(())
    return Crop(crops.centre_px[0], crops.side_px[0], still, still, size_px)


def video(sequences: list[Sequence] | None = None, rgb: bool = True, links=None) -> MotionVideo:
    return MotionVideo(sequences or [sequence()], SIZE, rgb, links or Sliding())


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_both_frames_of_a_pair_lie_in_its_crop():
    boxes_px = sequence().boxes_px
    crops = pair_crops(boxes_px, SIZE, 1.5)
    assert_close(crops.side_px, torch.full((FRAMES - 1,), 60.0))
    assert_close(crops.centre_px, boxes_px[:-1, :2] + torch.tensor([11.0, 20.0]))
    still = pair_crops(boxes_px[:1].expand(2, 4), SIZE, 1.5)
    alone = crop_from_box(boxes_px[:1], SIZE, 1.5)
    assert torch.equal(still.centre_px, alone.centre_px)
    assert torch.equal(still.side_px, alone.side_px)


def test_a_clip_as_at_test_time():
    of = sequence()
    clip = cut_clip(video([of]), of, range(1, 7), PLAIN, None)
    crops = pair_crops(of.boxes_px[1:7], SIZE, 1.5)
    assert clip.input.frames.shape == (5, 3, SIZE, SIZE)
    for labels, rows in ((clip.now, slice(1, 6)), (clip.after, slice(2, 7))):
        points_px = crops.to_crop(of.labels.keypoints_px[rows])
        assert_close(labels.points, points_px * (2 / SIZE) - 1)
        assert torch.equal(labels.params.rotmats, of.labels.params.rotmats[rows])
    expected_px = crops.to_crop(of.labels.keypoints_px[1:6][:, CHAIN])
    assert_close(clip.input.keypoints_px[..., :2], expected_px)
    assert (clip.input.keypoints_px[..., 2] == 1).all()
    assert not clip.input.occluded.any()
    moved = torch.tensor([3.0, 1.0]) * SIZE / 60
    flow_px = clip.input.flow_px.float().movedim(1, -1)
    assert_close(flow_px, moved.expand_as(flow_px), atol=1e-3, rtol=0)


def test_maps_that_nobody_looks_at_are_not_made():
    of = sequence()
    clip = cut_clip(MotionVideo([of], SIZE, False, None), of, range(4), PLAIN, None)
    assert clip.input.frames is None
    assert clip.input.flow_px is None
    with pytest.raises(ValueError, match="flow between frames 2 apart; expected neighbours"):
        MotionVideo([of], SIZE, False, Sliding(2))


@pytest.mark.parametrize("mirrored", [False, True])
def test_flow_keypoints_and_labels_follow_the_crop(mirrored):
    """Where a joint is, the flow is that of its place in the image, in the crop's pixels."""
    of = sequence()
    source = Ramp()
    config = replace(PLAIN, zoom=0.1, shift=0.05, flip=float(mirrored))
    clip = cut_clip(video([of], links=source), of, range(6), config, rng(1))
    plain = pair_crops(of.boxes_px[:6], SIZE, 1.5)
    swap = list(SMPL_24.mirror)
    points = of.labels.keypoints_px[:5]
    seen_px = (clip.now.points + 1) * SIZE / 2
    seen_px = seen_px[:, swap] if mirrored else seen_px
    # The crop is known by what it does to the joints: an axis-aligned change of scale and place.
    first, last = points[0, 0], points[0, 1]
    zoom = (seen_px[0, 1] - seen_px[0, 0]) / (last - first)
    assert_close(zoom[0], -zoom[1] if mirrored else zoom[1])
    assert not torch.isclose(zoom[1], SIZE / plain.side_px[0], rtol=1e-3)
    expected = seen_px[:, :1] + (points - points[:, :1]) * zoom
    assert_close(seen_px, expected, atol=1e-3, rtol=0)
    told = clip.input.keypoints_px
    names = [n.replace("left", "L").replace("right", "left").replace("L", "right")
             for n in HEATMAP_JOINTS]  # fmt: skip
    which = list(SMPL_24.indices_of(names if mirrored else HEATMAP_JOINTS))
    raw = (clip.now.points + 1) * SIZE / 2
    assert_close(told[..., :2], raw[:, CHAIN], atol=1e-3, rtol=0)
    assert_close(told[..., :2], expected[:, which], atol=1e-3, rtol=0)
    x_px = points[0, 0, 0] + (torch.arange(SIZE) + 0.5 - seen_px[0, 0, 0]) / zoom[0]
    low, high = plain.centre_px[0, 0] - 29, plain.centre_px[0, 0] + 29
    inside = (x_px > low) & (x_px < high)
    flow = clip.input.flow_px[0, 0].float()
    assert_close(flow[:, inside], (0.1 * x_px * zoom[0])[inside].expand(SIZE, -1), atol=0.02,
                 rtol=0)  # fmt: skip


def test_a_mirrored_clip_is_the_clip_in_a_mirror():
    of = sequence()
    straight = cut_clip(video([of]), of, range(6), PLAIN, rng())
    mirror = cut_clip(video([of]), of, range(6), replace(PLAIN, flip=1.0), rng())
    assert_close(
        mirror.input.frames.flip(-1).float(), straight.input.frames.float(), atol=1, rtol=0
    )
    swap = list(SMPL_24.mirror)
    flip = torch.tensor([-1.0, 1.0])
    assert_close(mirror.now.points, straight.now.points[:, swap] * flip, atol=1e-5, rtol=0)
    assert_close(mirror.input.flow_px[:, 0], -straight.input.flow_px[:, 0].flip(-1))
    body = open_body()
    joints_m, other_m = (body.joints(c.now.params) for c in (mirror, straight))
    joints_m, other_m = (j - j[:, :1] for j in (joints_m, other_m))
    expected_m = (other_m * torch.tensor([-1.0, 1, 1]))[:, swap]
    assert_close(joints_m, expected_m, atol=2e-2, rtol=0)


def test_a_clip_has_one_change_of_crop_and_one_light():
    of = replace(sequence(), images=[sequence().images[0]] * FRAMES)
    of = replace(of, boxes_px=of.boxes_px[:1].expand(FRAMES, 4))
    config = replace(PLAIN, zoom=0.2, shift=0.1, colour=0.4)
    clip = cut_clip(video([of]), of, range(6), config, rng())
    assert (clip.input.frames == clip.input.frames[0]).all()
    plain = cut_clip(video([of]), of, range(6), PLAIN, rng())
    assert not torch.equal(clip.input.frames, plain.input.frames)


# --- keypoints


def test_rules_are_those_of_the_clip_engine():
    """The same states as `flowhmr.synth.detected_joints` for the joints that both have."""

    made = torch.Generator().manual_seed(0)
    joints_px = 80 * torch.rand(40, 24, 2, generator=made) - 10
    inside = ((joints_px >= 0) & (joints_px < torch.tensor([60.0, 50.0]))).all(-1)
    seen = inside & (torch.rand(40, 24, generator=made) < 0.6)
    clip = object.__new__(SynthClip)
    vars(clip).update(
        images=torch.zeros(40, 50, 60, 3),
        joints_px=joints_px,
        joint_visible=seen,
        dropped=torch.zeros(40, dtype=torch.bool),
    )
    visible, possible = seen[:, CHAIN], inside[:, CHAIN]
    for legs in (0.0, 1.0):
        config = replace(PLAIN, legs=legs)
        expected = detected_joints(clip, rng(), legs, 0.0)[:, CHAIN]
        assert torch.equal(reported_joints(visible, possible, config, rng()), expected)


def test_hidden_legs_are_reported_in_half_of_the_clips_and_states_flip():
    visible = torch.zeros(200, 12, dtype=torch.bool)
    possible = ~visible
    legs = [not n.endswith(("shoulder", "elbow", "wrist")) for n in HEATMAP_JOINTS]
    config = MotionInputConfig()
    source, shown = rng(), []
    for _ in range(60):
        found = reported_joints(visible, possible, config, source)
        assert float(found[:, ~torch.tensor(legs)].float().mean()) == pytest.approx(0.05, abs=0.02)
        shown.append(float(found[:, legs].float().mean()))
    assert all(min(abs(s - 0.05), abs(s - 0.95)) < 0.02 for s in shown)
    assert 0.3 < np.mean([s > 0.5 for s in shown]) < 0.7
    assert not reported_joints(visible, visible, config, source).any(), "off the image"


def test_what_is_lost():
    of = sequence()
    confidence = torch.ones(FRAMES, 24)
    confidence[2] = 0
    counted = list(SMPL_24.indices_of(COUNTED))
    confidence[4, counted[6:]] = 0
    confidence[5, counted[7:]] = 0
    labels = replace(of.labels, keypoint_confidence=confidence)
    of = replace(of, labels=labels)
    assert enough_visible(labels).tolist() == [True, True, False, True, False, True, True, True]
    _, lost = seen_keypoints(of, range(FRAMES), PLAIN, None)
    assert lost.nonzero().flatten().tolist() == [2, 4], "six are too few, seven are not"
    found, lost = seen_keypoints(of, range(FRAMES), PLAIN, rng())
    assert lost.nonzero().flatten().tolist() == [2], "training learns from the others"
    assert not found[2].any()
    lengths = []
    config = replace(PLAIN, lost=1.0, longest=3)
    for seed in range(40):
        found, lost = seen_keypoints(of, range(FRAMES), config, rng(seed))
        assert not found[lost].any(), "of a lost frame nothing is told"
        lengths.append(int(lost.sum()))
    assert min(lengths) >= 1
    assert max(lengths) == 4


def test_a_lost_frame_is_flagged_and_keeps_its_labels():
    of = sequence()
    config = replace(PLAIN, lost=1.0, longest=2)
    clip = cut_clip(video([of]), of, range(6), config, rng(3))
    assert 1 <= clip.input.occluded.sum() <= 2
    plain = cut_clip(video([of]), of, range(6), PLAIN, rng(3))
    assert_close(clip.now.points, plain.now.points)


def test_detections_are_taken_as_they_are():
    of = sequence()
    found_px = torch.zeros(FRAMES, 17, 3)
    wrist = COCO_17.index("left_wrist")
    found_px[:, list(COCO_17.indices_of(HEATMAP_JOINTS))] = torch.tensor([30.0, 20.0, 0.9])
    found_px[:, wrist] = torch.tensor([33.0, 22.0, 0.9])
    found_px[1, wrist, 2] = 0.1
    found_px[3, :, 2] = 0.0
    of = replace(of, detected_px=found_px)
    for source in (None, rng()):
        told, lost = seen_keypoints(of, range(FRAMES), replace(PLAIN, flips=1.0), source)
        ours = HEATMAP_JOINTS.index("left_wrist")
        assert told[0, ours].tolist() == [33.0, 22.0, 1.0]
        assert told[1, ours].tolist() == [0.0, 0.0, 0.0]
        assert told[..., 2].sum() == 12 * 7 - 1
        assert lost.nonzero().flatten().tolist() == [3]


def test_simulated_detections():
    of = sequence()
    exact = DetectorModel(
        bias=0.0, noise=(0.0, 0.0), drift=(0.0, 0.0), reports_all=0.0, flips=0.0, lost=0.0,
        lost_person=0.0, merged=0.0, crossed=0.0, stray=0.0, swapped=0.0,
    )  # fmt: skip
    (found,) = with_detector([of], exact)
    told, _ = seen_keypoints(found, range(FRAMES), PLAIN, None)
    assert_close(told[..., :2], of.labels.keypoints_px[:, CHAIN])
    one, two, three = (with_detector([of], DetectorModel(), s)[0] for s in (0, 0, 1))
    assert torch.equal(one.detected_px, two.detected_px)
    assert not torch.equal(one.detected_px, three.detected_px)
    told, _ = seen_keypoints(of, range(FRAMES), replace(PLAIN, detector=exact), rng())
    assert_close(told[..., :2], of.labels.keypoints_px[:, CHAIN])
    told, _ = seen_keypoints(of, range(FRAMES), replace(PLAIN, detector=DetectorModel()), rng())
    assert not torch.allclose(told[..., :2], of.labels.keypoints_px[:, CHAIN])
    with pytest.raises(ValueError, match="without labels; expected synthetic"):
        with_detector([sequence(labelled=False)], exact)


def test_video_without_labels_or_keypoints():
    of = sequence(labelled=False)
    clip = cut_clip(video([of]), of, range(6), PLAIN, rng())
    assert clip.now is None
    assert clip.after is None
    assert not clip.input.keypoints_px.any()
    assert not clip.input.occluded.any()


# --- batches and sets


def test_a_batch_follows_from_its_number():
    both = [sequence(), sequence(12, 1), sequence(5, 2)]
    config = replace(MotionInputConfig(), frames=6)

    def batch(number: int, seed: int = 0):
        return MotionBatches(video(both), config, 3, seed, 4)[number]

    one, again = batch(1), batch(1)
    assert one.input.frames.shape == (3, 5, 3, SIZE, SIZE)
    assert one.now.points.shape == (3, 5, 24, 2)
    for a, b in ((one, again), (one.input, again.input)):
        assert all(torch.equal(v, getattr(b, k)) for k, v in vars(a).items() if torch.is_tensor(v))
    assert not torch.equal(one.input.flow_px, batch(2).input.flow_px)
    assert not torch.equal(one.input.flow_px, batch(1, seed=1).input.flow_px)


def test_too_short_video_is_refused():
    with pytest.raises(ValueError, match="1 sequences of at most 8 frames; expected some of 31"):
        MotionBatches(video(), MotionInputConfig(), 1, 0, 1)
    with pytest.raises(ValueError, match="got 1 frames"):
        MotionInputConfig(frames=1)


def test_sets_are_the_benchmarks_own_unless_changed():
    assert MotionSetConfig().specs() == [split_spec(s) for s in ("studio", "street", "sport")]
    (still,) = MotionSetConfig(("test",), background="static").specs()
    assert still.clips.background == "static"
    assert still.definition() != split_spec("test").definition()
    for wrong in (MotionSetConfig(()), MotionSetConfig(("stills",))):
        with pytest.raises(ValueError, match="expected some with video"):
            wrong.specs()
