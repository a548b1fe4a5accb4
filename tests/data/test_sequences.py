"""Crops and pairs of a sequence: frames in their own crops, flow in a window that holds both."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from flowhmr.body import BodyModel, open_body
from flowhmr.cameras import Crop, between_crops, warp_image
from flowhmr.data import (
    FlowSource,
    PairBatches,
    PairConfig,
    cut_pair,
    frame_crops,
    mixture_weights,
)
from flowhmr.flow import DisFlow, FlowCache, FlowPair, FunctionFlow, estimate_pair
from flowhmr.geometry import map_tensors, pick
from flowhmr.records import Before, Clip, Labels, Sequence
from flowhmr.synth import ClipConfig, render_clip

SIZE = 48
DIS = partial(estimate_pair, DisFlow("medium"))


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return open_body()


@pytest.fixture(scope="module")
def clip(body) -> Sequence:
    """Synthetic video with labels."""
    return render_clip(ClipConfig(frames=5, size_px=96), 0, body)


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth random picture."""
    noise = np.random.default_rng(seed).random((height // 6 + 2, width // 6 + 2, 3))
    smooth = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return (255 * smooth.clip(0, 1)).astype(np.uint8)


def sliding(step_px: tuple[float, float], frames: int = 3) -> Sequence:
    """A picture that moves by so much from frame to frame, before a person's box that stands."""
    big = texture(200, 240)
    images = []
    for t in range(frames):
        dx, dy = step_px[0] * t - 40, step_px[1] * t - 40
        matrix = np.array([[1.0, 0.0, dx], [0.0, 1.0, dy]])
        images.append(cv2.warpAffine(big, matrix, (160, 120)))
    boxes_px = torch.tensor([[60.0, 30.0, 40.0, 60.0]]).expand(frames, 4).clone()
    return Sequence("sliding", "0", images, torch.arange(frames) / 30, boxes_px, None)


def no_flow(frame1: np.ndarray, frame2: np.ndarray) -> FlowPair:
    height, width = frame1.shape[:2]
    zero, trusted = torch.zeros(height, width, 2), torch.ones(height, width, dtype=torch.bool)
    return FlowPair(zero, zero, trusted, trusted)


def batches(sequences: list[Sequence], config: PairConfig | None = None, **changed) -> PairBatches:
    source = FlowSource(config or PairConfig(flow_px=SIZE), no_flow)
    settings = {"size_px": SIZE, "batch": 4, "seed": 0, "count": 3, "source": source} | changed
    return PairBatches(sequences, **settings)


def labels_of(clip: Clip | Sequence) -> Labels:
    assert clip.labels is not None
    return clip.labels


def flow_of(clip: Clip) -> FlowPair:
    assert clip.flow is not None
    return clip.flow


def test_each_frame_is_cut_around_its_own_box(clip):
    crops = frame_crops(clip, SIZE)
    assert crops.frames.shape == (5, 3, SIZE, SIZE)
    assert_close(crops.crop.centre_px, clip.boxes_px[:, :2] + clip.boxes_px[:, 2:] / 2)
    assert_close(crops.crop.side_px, 1.2 * clip.boxes_px[:, 2:].amax(-1))
    for i, image in enumerate(clip.images):
        expected = warp_image(image, pick(crops.crop, i)).transpose(2, 0, 1)
        assert np.array_equal(crops.frames[i].numpy(), expected)
    wide = frame_crops(clip, SIZE, margin=2.0)
    assert_close(wide.crop.side_px, 2.0 * clip.boxes_px[:, 2:].amax(-1))


def test_labels_follow_their_frames(body, clip):
    crops = frame_crops(clip, SIZE)
    labels, before = labels_of(crops), labels_of(clip)
    assert_close(labels.keypoints_px, crops.crop.to_crop(before.keypoints_px))
    assert_close(labels.joints_m, before.joints_m, atol=1e-6, rtol=0)
    assert_close(body.joints(labels.params), labels.joints_m, atol=1e-5, rtol=0)
    inside = ((labels.keypoints_px > 0) & (labels.keypoints_px < SIZE)).all(-1)
    assert inside.float().mean() > 0.95
    assert frame_crops(replace(clip, labels=None), SIZE).labels is None


def window_of(clip: Clip) -> Crop:
    assert clip.flow_crop is not None
    return clip.flow_crop


def test_the_frames_of_a_pair_are_cut_as_single_frames_are(clip):
    pair = FlowSource(PairConfig(flow_px=SIZE), no_flow).pair(clip, 2, SIZE)
    alone = frame_crops(clip, SIZE)
    assert torch.equal(pair.frames, alone.frames[2:4])
    assert_close(pair.crop.centre_px, alone.crop.centre_px[2:4])


def test_a_batch_of_pairs_has_one_flow_window_each(clip):
    pairs = batches([clip])[0]
    assert pairs.frames.shape == (4, 2, 3, SIZE, SIZE)
    assert pairs.crop.side_px.shape == (4, 2)
    assert window_of(pairs).side_px.shape == (4, 1)
    assert flow_of(pairs).forward.shape == (4, 1, SIZE, SIZE, 2)


def test_the_flows_window_holds_both_boxes(clip):
    pair = FlowSource(PairConfig(flow_px=SIZE), no_flow).pair(clip, 2, SIZE)
    low = clip.boxes_px[2:4, :2].amin(0)
    high = (clip.boxes_px[2:4, :2] + clip.boxes_px[2:4, 2:]).amax(0)
    assert_close(window_of(pair).centre_px[0], (low + high) / 2)
    assert_close(window_of(pair).side_px[0], 1.2 * clip.boxes_px[2:4, 2:].max())
    labels = labels_of(pair)
    expected = pair.crop.to_crop(labels_of(clip).keypoints_px[2:4])
    assert_close(labels.keypoints_px, expected)


def test_a_pair_is_the_frames_it_says(clip):
    config = PairConfig(gap=2, flow_px=SIZE)
    dataset = batches([clip], config)
    assert dataset.pairs == 3
    pair = dataset.pair(1)
    for place, frame in enumerate((1, 3)):
        expected = warp_image(clip.images[frame], pick(pair.crop, place)).transpose(2, 0, 1)
        assert np.array_equal(pair.frames[place].numpy(), expected)


@pytest.mark.parametrize("size_px", [SIZE, 96])
@pytest.mark.parametrize("step_px", [(2.0, 0.0), (-1.5, 2.5)])
def test_flow_of_a_sliding_picture_is_its_step_in_pixels_of_the_crop(step_px, size_px):
    source = FlowSource(PairConfig(flow_px=144), DIS)
    pair = source.pair(sliding(step_px), 0, size_px)
    zoom = size_px / float(pair.crop.side_px[0])
    expected = torch.tensor(step_px) * zoom
    flow = flow_of(pair)
    inner = slice(size_px // 8, -size_px // 8)
    for direction, sign in ((flow.forward, 1), (flow.backward, -1)):
        error = (direction[0, inner, inner] - sign * expected).norm(dim=-1)
        assert error.median() < 0.1
        assert error.mean() < 0.2
    assert flow.forward_valid[0, inner, inner].float().mean() > 0.95


def test_flow_of_a_picture_at_rest_is_nothing():
    source = FlowSource(PairConfig(flow_px=96), DIS)
    pair = source.pair(sliding((0.0, 0.0)), 1, SIZE)
    flow = flow_of(pair)
    assert flow.forward.abs().max() < 0.05
    assert flow.backward.abs().max() < 0.05
    assert flow.forward_valid.all()
    assert torch.equal(pair.frames[0], pair.frames[1])


def test_twice_the_gap_is_twice_the_flow():
    flows = []
    for gap in (1, 2):
        source = FlowSource(PairConfig(gap=gap, flow_px=96), DIS)
        flows.append(flow_of(source.pair(sliding((2.0, 1.0)), 0, SIZE)).forward[0, 12:-12, 12:-12])
    assert_close(flows[1].mean((0, 1)), 2 * flows[0].mean((0, 1)), atol=0.1, rtol=0)


@pytest.mark.parametrize(("step_px", "frames_apart"), [(0.0, 6), (1.6, 4), (3.0, 2), (9.0, 1)])
def test_what_moves_fast_is_paired_closer_together(step_px, frames_apart):
    # The window is 72 px wide: a reach of 0.1 is 7.2 px.
    source = FlowSource(PairConfig(gap=6, reach=0.1, flow_px=144), DIS)
    pair = source.pair(sliding((step_px, 0.0), frames=7), 0, SIZE)
    moved_px = flow_of(pair).forward[0, 12:-12, 12:-12, 0].median()
    assert float(moved_px) == pytest.approx(frames_apart * step_px * SIZE / 72, abs=0.8)
    last = warp_image(sliding((step_px, 0.0), frames=7).images[frames_apart], pick(pair.crop, 1))
    assert np.array_equal(pair.frames[1].numpy(), last.transpose(2, 0, 1))


@pytest.mark.parametrize(("flow_px", "seen_px"), [(20, SIZE), (100, 100)])
def test_flow_is_estimated_no_coarser_than_the_crop(clip, flow_px, seen_px):
    seen = []

    def noted(frame1: np.ndarray, frame2: np.ndarray) -> FlowPair:
        seen.append((frame1.shape, frame2.shape))
        return no_flow(frame1, frame2)

    pair = FlowSource(PairConfig(flow_px=flow_px), noted).pair(clip, 0, SIZE)
    assert seen == [((seen_px, seen_px, 3),) * 2]
    assert flow_of(pair).forward.shape == (1, SIZE, SIZE, 2)


@pytest.mark.parametrize("hop", [1, 2])
def test_flow_is_carried_further_than_it_can_be_estimated(hop):
    # 20 px in a window of 72.
    far, video = PairConfig(gap=5, hop=hop, flow_px=144), sliding((4.0, 0.0), frames=7)
    link = FlowSource(far, DIS).link(video, 1, SIZE)
    assert link.end == 6
    inner = (slice(8, -8), slice(2, -18))
    moved_px = link.flow.forward[inner][..., 0].median()
    assert float(moved_px) == pytest.approx(20 * SIZE / 72, abs=0.1)
    assert link.flow.forward_valid[inner].float().mean() > 0.85
    direct = FlowSource(replace(far, hop=0), DIS).link(video, 1, SIZE)
    assert direct.flow.forward_valid[inner].float().mean() < 0.2


def test_the_links_of_a_sequence_are_each_of_them_with_every_hop_estimated_once(clip):
    asked = []

    def counted(frame1: np.ndarray, frame2: np.ndarray) -> FlowPair:
        asked.append((frame1.tobytes(), frame2.tobytes()))
        return DIS(frame1, frame2)

    source = FlowSource(PairConfig(gap=3, hop=1, flow_px=SIZE), counted)
    links = source.links(clip, SIZE)
    assert len(asked) == len(set(asked)) == len(clip) - 1
    assert [link.end for link in links] == [3, 4]
    for start, link in enumerate(links):
        again = source.link(clip, start, SIZE)
        assert torch.equal(link.flow.forward, again.flow.forward)
        assert torch.equal(link.flow.backward_valid, again.flow.backward_valid)
        assert torch.equal(link.window.centre_px, again.window.centre_px)
    direct = FlowSource(PairConfig(gap=3, flow_px=SIZE), DIS)
    assert [link.end for link in direct.links(clip, SIZE)] == [3, 4]
    assert direct.links(clip, SIZE * 2)[1].window.size_px == SIZE * 2


def test_carried_flow_goes_the_whole_gap():
    with pytest.raises(ValueError, match=r"got a hop of 1 and a reach of 0.1; expected one of"):
        PairConfig(gap=6, reach=0.1, hop=1)


def test_a_batch_follows_from_seed_and_number(clip):
    def same(a: Clip, b: Clip) -> bool:
        return torch.equal(a.frames, b.frames) and torch.equal(a.crop.centre_px, b.crop.centre_px)

    first, second = batches([clip]), batches([clip])
    second[0]
    assert len(first) == 3
    assert same(first[2], second[2])
    assert same(first[0], second[0])
    assert not same(first[0], first[1])
    assert not same(first[0], batches([clip], seed=1)[0])


def test_pairs_do_not_depend_on_the_batch_size(clip):
    whole = batches([clip], batch=4)[1]
    halves = [batches([clip], batch=2)[i] for i in (2, 3)]
    assert torch.equal(whole.frames, torch.cat([h.frames for h in halves]))


def test_every_pair_of_every_sequence_can_be_drawn(clip):
    short = replace(sliding((0.0, 0.0), frames=2), person="b")
    dataset = batches([clip, short], batch=64)
    assert dataset.pairs == 4 + 1
    drawn = dataset[0].crop.centre_px[:, 0]
    known = torch.stack([dataset.pair(i).crop.centre_px[0] for i in range(5)])
    counts = [int(torch.isclose(drawn, centre).all(-1).sum()) for centre in known]
    assert sum(counts) == 64
    assert min(counts) >= 4


@pytest.mark.slow
def test_weights_say_how_often_a_sequence_is_drawn(clip):
    other = sliding((0.0, 0.0), frames=5)
    centre_px = torch.tensor([80.0, 60.0])

    def share(weights: list[float] | None) -> float:
        drawn = batches([clip, other], batch=200, weights=weights)[0].crop.centre_px[:, 0]
        return float(torch.isclose(drawn, centre_px).all(-1).float().mean())

    assert share(None) == pytest.approx(0.5, abs=0.12)
    assert share([1.0, 3.0]) == pytest.approx(0.75, abs=0.12)
    assert share([1.0, 0.0]) == 0


def test_sequences_shorter_than_the_gap_are_left_out(clip):
    dataset = batches([sliding((0.0, 0.0), frames=3), clip], PairConfig(gap=3, flow_px=SIZE))
    assert dataset.pairs == 2


@pytest.mark.parametrize("sequences", [[], [sliding((0.0, 0.0), frames=2)]])
def test_video_without_a_pair_is_refused(sequences):
    with pytest.raises(ValueError, match=r"expected one longer than the gap of 2; give longer"):
        batches(sequences, PairConfig(gap=2))


def test_flow_is_estimated_once_when_a_cache_is_given(clip, tmp_path: Path):
    calls = []

    def slide(frame1: np.ndarray, frame2: np.ndarray) -> np.ndarray:
        calls.append(frame1.shape)
        return np.full((*frame1.shape[:2], 2), 0.5, np.float32)

    def read() -> Clip:
        cache = FlowCache(tmp_path, FunctionFlow(slide, "slide"))
        return batches([clip], source=FlowSource(PairConfig(flow_px=64), cache.pair)).pair(1)

    first = read()
    assert len(calls) == 2, "forward and backward"
    again = read()
    assert len(calls) == 2
    assert torch.equal(flow_of(first).forward, flow_of(again).forward)
    expected = torch.full((1, SIZE, SIZE, 2), 0.5 * SIZE / 64)
    assert_close(flow_of(first).forward, expected, atol=1e-2, rtol=0)


def test_pairs_carry_no_labels_and_so_synthetic_video_mixes_with_real(clip):
    real = sliding((1.0, 0.0), frames=5)
    pairs = batches([clip, real], batch=16)[0]
    assert pairs.labels is None
    assert len(pairs.crop.side_px.unique()) > 1
    source = FlowSource(PairConfig(flow_px=SIZE), no_flow)
    assert source.pair(real, 0, SIZE).labels is None
    assert labels_of(source.pair(clip, 0, SIZE)).keypoints_px.shape == (2, 24, 2)


def test_the_person_moves_as_the_flow_says(clip):
    """On the trunk of a synthetic person the keypoints' motion is the flow at them."""
    source = FlowSource(PairConfig(flow_px=192), DIS)
    trunk = [0, 3, 6, 9]
    errors, moved = [], []
    for start in range(4):
        pair = source.pair(clip, start, 96)
        points_px = between_crops(
            labels_of(pair).keypoints_px[:, trunk], pair.crop, window_of(pair)
        )
        at = points_px[0].long().clamp(0, 95)
        flow = map_tensors(flow_of(pair), lambda t: t[0]).forward[at[:, 1], at[:, 0]]
        errors.append((flow - (points_px[1] - points_px[0])).norm(dim=-1))
        moved.append((points_px[1] - points_px[0]).norm(dim=-1))
    assert torch.stack(errors).mean() < 1.0
    assert torch.stack(errors).mean() < torch.stack(moved).mean()


def numbered(frames: int, number: int = 0, name: str = "numbered") -> Sequence:
    """Plain images, in which frame ``t`` has the brightness ``number + t``."""
    images = [np.full((32, 32, 3), number + t, np.uint8) for t in range(frames)]
    boxes_px = torch.tensor([[12.0, 10.0, 8.0, 12.0]]).repeat(frames, 1)
    return Sequence(name, "0", images, torch.arange(frames) / 30, boxes_px, None)


def brightness(clip: Clip) -> list[int]:
    """Of each frame, in its middle; of a batch, frame by frame."""
    middle = clip.frames.shape[-1] // 2
    return clip.frames[..., 0, middle, middle].flatten().tolist()


def before_of(clip: Clip) -> Before:
    assert clip.before is not None
    return clip.before


def detected_of(clip: Clip) -> torch.Tensor:
    assert clip.detected_px is not None
    return clip.detected_px


def with_keypoints(sequence: Sequence) -> Sequence:
    """The first 17 labelled keypoints, as if a detector had seen them."""
    confidence = torch.rand(len(sequence), 17, 1, generator=torch.Generator().manual_seed(0))
    points_px = labels_of(sequence).keypoints_px[:, :17]
    return replace(sequence, detected_px=torch.cat([points_px, confidence], -1))


def test_the_links_of_a_window_follow_one_another_each_with_its_own_gap():
    path_px = np.array([0.0, 1, 2, 3, 5.4, 7.8, 13.8, 19.8])
    """How far things have moved in each frame: slowly, faster, fast."""

    def moved(frame1: np.ndarray, frame2: np.ndarray) -> FlowPair:
        first, second = (int(f[SIZE // 2, SIZE // 2, 0]) for f in (frame1, frame2))
        flow = no_flow(frame1, frame2)
        return replace(flow, forward=flow.forward + float(path_px[second] - path_px[first]))

    # A reach of 0.15 is 7.2 px; the length of (1, 1) px is 1.4 px.
    config = PairConfig(gap=3, reach=0.15, flow_px=SIZE, frames=4)
    window = FlowSource(config, moved).pair(numbered(10), 0, SIZE)
    rows = [0, 3, 5, 6]
    assert brightness(window) == rows
    assert_close(
        flow_of(window).forward[:, 20, 20, 0].double(), torch.from_numpy(np.diff(path_px[rows]))
    )
    assert window_of(window).side_px.shape == (3,)


def test_a_window_is_its_pairs_one_after_the_other(clip):
    # Labels and all.
    window = FlowSource(PairConfig(flow_px=SIZE, frames=4), DIS).pair(clip, 1, SIZE)
    for k in range(3):
        pair = FlowSource(PairConfig(flow_px=SIZE), DIS).pair(clip, 1 + k, SIZE)
        assert torch.equal(window.frames[k : k + 2], pair.frames)
        assert torch.equal(window.crop.side_px[k : k + 2], pair.crop.side_px)
        assert torch.equal(labels_of(window).joints_m[k : k + 2], labels_of(pair).joints_m)
        assert torch.equal(flow_of(window).forward[k], flow_of(pair).forward[0])
        assert torch.equal(flow_of(window).backward_valid[k], flow_of(pair).backward_valid[0])
        assert torch.equal(window_of(window).centre_px[k], window_of(pair).centre_px[0])


def test_only_windows_that_end_within_their_sequence_are_drawn():
    config = PairConfig(gap=2, frames=3, flow_px=8)
    assert config.span == 4
    dataset = batches([numbered(4), numbered(7)], config, size_px=8)
    assert dataset.pairs == config.windows_in(numbered(7)) == 3
    assert [brightness(dataset.pair(i)) for i in range(3)] == [[i, i + 2, i + 4] for i in range(3)]
    with pytest.raises(ValueError, match=r"sequences of at most 4 frames; .* the gap of 4; give"):
        batches([numbered(4)], config)


@pytest.mark.parametrize("changed", [{"gap": 0}, {"frames": 1}, {"context": -1}, {"hop": -1}])
def test_pairs_that_are_none_are_refused(changed):
    (name,) = changed
    with pytest.raises(ValueError, match=rf"pairs, {name}: got -?\d; expected \d or more"):
        PairConfig(**changed)


def test_context_is_the_crops_of_the_frames_before(clip):
    config = PairConfig(gap=2, flow_px=SIZE, frames=3, context=3, margin=1.5)
    window = FlowSource(config, no_flow).pair(clip, 0, SIZE)
    before, alone = before_of(window), frame_crops(clip, SIZE, margin=1.5).frames
    assert before.frames.shape == (3, 3, 3, SIZE, SIZE)
    assert before.count.tolist() == [0, 2, 3]
    for frames, count, row in zip(before.frames, before.count.tolist(), (0, 2, 4)):
        assert torch.equal(frames[3 - count :], alone[row - count : row])
        assert not frames[: 3 - count].any()
    assert FlowSource(PairConfig(flow_px=SIZE), no_flow).pair(clip, 2, SIZE).before is None


def test_keypoints_follow_their_crop(clip):
    # They lie on labelled ones: they go where these go.
    sequence = with_keypoints(clip)
    window = FlowSource(PairConfig(gap=2, flow_px=SIZE), no_flow).pair(sequence, 1, SIZE)
    for cut, rows in ((frame_crops(sequence, SIZE), [0, 1, 2, 3, 4]), (window, [1, 3])):
        assert_close(detected_of(cut)[..., :2], labels_of(cut).keypoints_px[:, :17])
        assert sequence.detected_px is not None
        assert torch.equal(detected_of(cut)[..., 2], sequence.detected_px[rows, :, 2])
    assert frame_crops(clip, SIZE).detected_px is None
    assert (
        cut_pair(clip, 0, SIZE, FlowSource(PairConfig(flow_px=SIZE), no_flow)).detected_px is None
    )


def test_windows_with_context_and_keypoints_make_batches(clip):
    config = PairConfig(flow_px=SIZE, frames=3, context=2)
    batch = batches([with_keypoints(clip), with_keypoints(clip)], config)[0]
    assert batch.frames.shape == (4, 3, 3, SIZE, SIZE)
    assert flow_of(batch).forward.shape == (4, 2, SIZE, SIZE, 2)
    assert window_of(batch).centre_px.shape == (4, 2, 2)
    assert detected_of(batch).shape == (4, 3, 17, 3)
    assert before_of(batch).frames.shape == (4, 3, 2, 3, SIZE, SIZE)
    assert before_of(batch).count.shape == (4, 3)
    again = pick(batch, 1)
    single = next(
        c
        for c in (batches([with_keypoints(clip)], config).pair(i) for i in range(3))
        if torch.equal(c.frames, again.frames)
    )
    assert torch.equal(before_of(again).frames, before_of(single).frames)
    assert torch.equal(detected_of(again), detected_of(single))


def test_video_without_keypoints_mixes_with_video_that_has_some(clip):
    plain = sliding((1.0, 0.0), frames=5)
    batch = batches([with_keypoints(clip), plain], batch=16)[0]
    stands = torch.isclose(batch.crop.centre_px[:, 0], torch.tensor([80.0, 60.0])).all(-1)
    assert 0 < stands.sum() < 16
    confidence = detected_of(batch)[..., 2]
    assert (confidence[stands] == 0).all()
    assert (confidence[~stands] > 0).any(-1).all()
    assert batches([plain])[0].detected_px is None


@pytest.mark.slow
@pytest.mark.parametrize("copies", [1, 4])
def test_a_mixtures_shares_do_not_depend_on_the_sizes_of_its_sets(copies):
    long, short = [numbered(40, 0)], [numbered(n, 100) for n in (2, 3, 3, 5)] * copies
    config = PairConfig(frames=3, flow_px=4)
    weights = mixture_weights([long, short], [1.0, 3.0], config)
    sets = {"size_px": 4, "batch": 200, "weights": weights}
    drawn = brightness(batches([*long, *short], config, **sets)[0])[::3]
    # Three standard deviations.
    assert np.mean([b >= 100 for b in drawn]) == pytest.approx(0.75, abs=0.092)
    # In each copy windows start at frame 0 (three of them), 1 and 2, all equally likely.
    later = np.mean([b > 100 for b in drawn if b >= 100])
    assert later == pytest.approx(2 / 5, abs=0.12)


def test_a_mixtures_shares_are_those_of_its_pairs():
    sets = [[numbered(9), numbered(2)], [numbered(4)], [numbered(6)]]
    weights = mixture_weights(sets, [2.0, 0.0, 6.0])
    pairs = [8, 1, 3, 5]
    drawn = np.array(weights) * pairs
    assert drawn / drawn.sum() == pytest.approx([0.25 * 8 / 9, 0.25 / 9, 0, 0.75])
    assert weights[0] == weights[1]


@pytest.mark.parametrize("shares", [[1.0], [1.0, -0.5], [0.0, 0.0], []])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(ValueError, match=r"mixture: got shares .* for 2 sets of video; expected"):
        mixture_weights([[numbered(3)], [numbered(3)]], shares)


@pytest.mark.parametrize("empty", [[], [numbered(2)]])
def test_a_share_of_nothing_is_refused(empty):
    config = PairConfig(gap=2)
    with pytest.raises(ValueError, match=r"got share 1.0 for set 1 of \d sequences, none of them"):
        mixture_weights([[numbered(3)], empty], [1.0, 1.0], config)
    assert mixture_weights([[numbered(3)], empty], [1.0, 0.0], config)[0] > 0
