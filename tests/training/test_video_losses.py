"""The losses of unannotated video: windows, texture, keypoints, context, and the teacher."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_runs import BOTH, CPU, SIZE, flow_of, network, same
from torch.testing import assert_close

from flowhmr.body import COCO_17, BodyModel, open_body
from flowhmr.bodyflow import body_flow
from flowhmr.cameras import WeakCamera, between_crops, project_weak
from flowhmr.data import PairBatches, PairConfig, frame_crops
from flowhmr.geometry import collate, map_tensors, pick, rotmat_from_axis_angle
from flowhmr.losses import (
    AnchorWeights,
    KeypointLossConfig,
    KeypointWeights,
    TextureLossConfig,
    TextureWeights,
    flow_terms,
)
from flowhmr.networks import ContextConfig, ContextHmr, HmrOutput
from flowhmr.records import Clip, Estimate, Sequence
from flowhmr.synth import ClipConfig, render_clip
from flowhmr.training import OptimiserConfig, Run, TrainConfig, train
from flowhmr.training.loop import colour_noise
from flowhmr.training.state import TrainState
from flowhmr.training.video import (
    estimate_video,
    surface_weights,
    video_losses,
    video_terms,
    where_body,
)

CONTEXT = ContextConfig(length=2, filters=4, hidden=8)
VIDEO = replace(BOTH, steps=2, batch=0, pairs=1, log_every=100, checkpoint_every=100)
EVERYTHING = replace(
    VIDEO, texture=TextureWeights(0.5), keypoints=KeypointWeights(2.0),
    anchor=AnchorWeights(1.0, 0.1, 0.1), teacher="average", checkpoint_every=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return open_body()


@pytest.fixture(scope="module")
def weights(body) -> torch.Tensor:
    return surface_weights(body)


@pytest.fixture(scope="module")
def longer(body) -> Sequence:
    """Six frames: two windows of five. With keypoints that are somewhere on the person."""
    video = render_clip(ClipConfig(frames=6, size_px=96), 0, body)
    assert video.labels is not None
    seen = torch.ones(6, 17, 1)
    detected_px = torch.cat([video.labels.keypoints_px[:, :17], seen], -1)
    return replace(video, detected_px=detected_px)


def batches(video: Sequence, config: TrainConfig, **changed) -> PairBatches:
    """Windows of a video."""
    source = flow_of(PairConfig(flow_px=64, **changed))
    return PairBatches([video], SIZE, max(config.pairs, 1), config.seed, config.steps, source)


@pytest.fixture(scope="module")
def windows(longer) -> Clip:
    """Both windows of five, with context."""
    drawn = batches(longer, VIDEO, frames=5, context=CONTEXT.length)
    assert drawn.pairs == 2
    return collate([drawn.pair(0), drawn.pair(1)])


@pytest.fixture(scope="module")
def output(windows) -> HmrOutput:
    """What a network with a surface map says of them, and for each frame something else."""
    with torch.no_grad():
        found = network(maps=True).eval()(windows.frames.flatten(0, 1))
    torch.manual_seed(1)
    params, camera = found.estimate.params, found.estimate.camera.params
    rotmats = params.rotmats @ rotmat_from_axis_angle(0.1 * torch.randn(10, 24, 3))
    other = Estimate(
        replace(params, rotmats=rotmats, betas=params.betas + 0.3 * torch.randn(10, 10)),
        WeakCamera(camera + 0.05 * torch.randn(10, 3)),
    )
    return replace(found, estimate=other)


def contextual() -> ContextHmr:
    """As training begins."""
    return ContextHmr(CONTEXT, network()).eval()


def attentive(video: Sequence) -> ContextHmr:
    """Tells the frames of a video apart, and hangs on what was before them."""
    hmr = network()
    for module in hmr.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        hmr.train()(frame_crops(video, SIZE).frames)
        for head in (hmr.regressor.pose, hmr.regressor.shape, hmr.regressor.camera):
            head.weight.mul_(10)
    return ContextHmr(replace(CONTEXT, initial_std=0.3), hmr).eval()


def free(output: HmrOutput) -> HmrOutput:
    """The same output with bodies and cameras that take a gradient of their own."""
    estimate = map_tensors(output.estimate, lambda t: t.detach().clone().requires_grad_())
    return replace(output, estimate=estimate)


def gradients(total: torch.Tensor, estimate: Estimate) -> list[torch.Tensor]:
    leaves = [estimate.params.rotmats, estimate.params.betas, estimate.camera.params]
    return list(torch.autograd.grad(total, leaves))


def numbers(estimate: Estimate) -> torch.Tensor:
    params = estimate.params
    return torch.cat([params.rotmats.flatten(-3), params.betas, estimate.camera.params], -1)


@pytest.mark.parametrize("on_body", [False, True])
def test_a_windows_flow_loss_is_that_of_its_pairs(body, weights, longer, windows, output, on_body):
    """One by one, with the crops and the flow that each pair has alone."""
    config = replace(VIDEO, on_body=on_body)
    whole = video_terms(output, windows, body, weights, config)
    assert whole.flow.shape == (2 * 4,)
    assert (whole.flow > 0).sum() >= 6
    pairs = batches(longer, VIDEO)
    for row, (window, k) in enumerate((w, k) for w in range(2) for k in range(4)):
        pair = pairs.pair(window + k)
        two = pick(output, torch.tensor([5 * window + k, 5 * window + k + 1]))
        verts_px = project_weak(body.mesh(two.estimate.params).verts, two.estimate.camera, SIZE)
        assert pair.flow_crop is not None
        ends = between_crops(verts_px, pair.crop, map_tensors(pair.flow_crop, lambda t: t[[0, 0]]))
        moved = body_flow(ends[:1], ends[1:], body.faces, SIZE)
        if on_body:
            assert two.surface is not None
            seen = where_body(two.surface, verts_px[..., :2], SIZE)
            moved = replace(moved, visible=moved.visible & seen.all(0, keepdim=True))
        assert pair.flow is not None
        alone = flow_terms(moved, pair.flow, weights, config.flow_loss)
        for name in ("flow", "kept", "disagreement_px"):
            assert_close(getattr(whole, name)[row], getattr(alone, name)[0], rtol=1e-4, atol=1e-6)


def test_the_part_that_is_seen_can_be_asked_for(body, weights, windows, output):
    rest_m = torch.tensor([[0.0, 0, 0], [1, 2, 1], [0.3, 0, 0]])
    surface = torch.zeros(1, 4, 6, 6)
    surface[:, 3] = 1.0  # the corner of the rest pose everywhere, which is the first vertex
    points_px = torch.full((1, 3, 2), SIZE / 2)
    for near_m, expected in ((0.0, [True] * 3), (0.2, [True, False, False]), (0.5, [1, 0, 1])):
        assert where_body(surface, points_px, SIZE, rest_m, near_m)[0].tolist() == expected
    nowhere = torch.ones_like(output.surface)
    kept = [
        video_terms(
            replace(output, surface=nowhere), windows, body, weights, replace(VIDEO, on_part_m=m)
        ).kept
        for m in (0.0, 0.01)
    ]
    assert kept[0].all()
    assert not kept[1].any()


def test_texture_and_keypoints_are_left_out_without_weight(body, weights, windows, output):
    found = video_losses(output, windows, body, weights, VIDEO)
    assert set(found.objectives) == {"video"}
    assert set(found.facts) == {"flow_kept", "disagreement_px", "image_flow_px"}
    unseen = replace(windows, detected_px=None)
    assert set(video_losses(output, unseen, body, weights, VIDEO).objectives) == {"video"}


@pytest.mark.parametrize(
    ("name", "term", "once", "thrice"),
    [
        ("texture", "texture", TextureWeights(1.0), TextureWeights(3.0)),
        ("keypoints", "keypoints2d", KeypointWeights(1.0), KeypointWeights(3.0)),
    ],
)
def test_texture_and_keypoints_have_weight_and_gradient(
    body, weights, windows, output, name, term, once, thrice
):
    results = []
    for weight in (once, thrice):
        moving = free(output)
        config = replace(VIDEO, **{name: weight})
        found = video_losses(moving, windows, body, weights, config).objectives
        assert set(found) == {"video", name}
        slopes = gradients(found[name].total, moving.estimate)
        results.append((float(found[name].total.detach()), float(found[name].logged[term]), slopes))
    (total, logged, slopes), (total3, logged3, slopes3) = results
    assert total == pytest.approx(logged)
    assert logged > 0
    assert total3 == pytest.approx(3 * total, rel=1e-5)
    assert logged3 == pytest.approx(logged)
    for slope, slope3 in zip(slopes, slopes3):
        # In every frame of every window.
        assert (slope.flatten(1).abs().amax(-1) > 0).all()
        assert_close(slope3, 3 * slope, rtol=1e-3, atol=1e-6)


def test_one_picture_and_one_body_have_no_texture_loss(body, weights, windows, output):
    config = replace(VIDEO, texture=TextureWeights(1.0))
    # Each window its own picture and body: windows are not compared with each other.
    still = replace(windows, frames=windows.frames[:, :1].expand(-1, 5, -1, -1, -1))
    held = map_tensors(output, lambda t: t[[0] * 5 + [5] * 5])
    values = [
        video_losses(out, clip, body, weights, config).objectives["texture"].logged["texture"]
        for out, clip in ((held, still), (held, windows), (output, still))
    ]
    assert values[0] == pytest.approx(0, abs=1e-9)
    assert min(values[1:]) > 1e-4


def test_texture_counts_only_where_the_network_sees_a_body(body, weights, windows, output):
    nobody = replace(output, surface=torch.full_like(output.surface, -1.0))
    config = replace(VIDEO, texture=TextureWeights(1.0))
    for on_body in (True, False):
        rule = replace(config, on_body=on_body)
        found = video_losses(nobody, windows, body, weights, rule).objectives["texture"]
        assert (float(found.total) == 0) == on_body


def test_keypoints_are_those_of_each_frames_own_body(body, weights, windows, output):
    """Detections on the estimated bodies: no loss; moved by 3 px in one frame, a loss there."""
    points_m = body.keypoints(body.mesh(output.estimate.params), COCO_17)
    points_px = project_weak(points_m, output.estimate.camera, SIZE)[..., :2]
    detected_px = torch.cat([points_px, torch.ones_like(points_px[..., :1])], -1)
    clip = replace(windows, detected_px=detected_px.unflatten(0, (2, 5)))
    config = replace(VIDEO, keypoints=KeypointWeights(1.0))
    found = video_losses(output, clip, body, weights, config)
    assert float(found.objectives["keypoints"].logged["keypoints2d"]) == pytest.approx(0, abs=1e-9)
    assert found.facts["keypoints_apart_px"] == pytest.approx(0, abs=1e-3)

    shift_px = torch.zeros(2, 5, 1, 3)
    shift_px[1, 3, :, 0] = 3.0
    moved = replace(clip, detected_px=detected_px.unflatten(0, (2, 5)) + shift_px)
    free_output = free(output)
    found = video_losses(free_output, moved, body, weights, config)
    assert found.facts["keypoints_apart_px"] == pytest.approx(3 / 10, rel=1e-3)
    expected = (3 / (SIZE / 2)) ** 2 / 2 / 10
    total = found.objectives["keypoints"].total
    assert float(total.detach()) == pytest.approx(expected, rel=1e-3)
    slope = gradients(total, free_output.estimate)[2]
    assert int(slope.abs().amax(-1).argmax()) == 5 + 3
    # The body must go where the detections are: to the right.
    assert slope[8, 1] < 0


def test_the_settings_of_both_losses_are_used(body, weights, windows, output):
    config = replace(VIDEO, texture=TextureWeights(1.0), keypoints=KeypointWeights(1.0))
    others = replace(
        config,
        texture_loss=TextureLossConfig(against="median"),
        keypoint_loss=KeypointLossConfig(residual="charbonnier"),
    )
    first, second = (
        video_losses(output, windows, body, weights, c).objectives for c in (config, others)
    )
    assert float(first["texture"].total) != pytest.approx(float(second["texture"].total), rel=0.1)
    assert float(first["keypoints"].total) > 1.01 * float(second["keypoints"].total)


def test_a_weight_without_detections_says_what_to_do(body, weights, windows, output):
    config = replace(VIDEO, keypoints=KeypointWeights(0.7))
    with pytest.raises(ValueError, match=r"without detected keypoints.*weight is 0.7.*--people\."):
        video_losses(output, replace(windows, detected_px=None), body, weights, config)


def test_pairs_without_flow_are_refused(body, weights, windows, output):
    with pytest.raises(ValueError, match="without flow; expected batches of a PairBatches"):
        video_losses(output, replace(windows, flow=None), body, weights, VIDEO)


def test_context_in_a_batch_is_the_context_in_the_video(longer, windows):
    """Frames of windows are estimated as in the whole sequence, context and all."""
    with_context = attentive(longer)
    frames = colour_noise(windows.frames, 0.0)
    with torch.no_grad():
        found = numbers(estimate_video(with_context, windows, frames).estimate)
        whole = numbers(with_context.sequence(frame_crops(longer, SIZE).frames))
        alone = numbers(with_context(frames.flatten(0, 1)).estimate)
    assert_close(found, torch.cat([whole[:5], whole[1:]]), atol=2e-5, rtol=0)
    apart = (found - alone).abs().amax(-1)
    # The first frame of the video has nothing before it.
    assert apart[0] < 2e-5
    assert (apart[1:] > 1e-4).all()


def test_networks_without_context_do_not_look_at_what_was_before(longer, windows):
    with_context = attentive(longer)
    plain = with_context.hmr
    frames = colour_noise(windows.frames, 0.0)
    with torch.no_grad():
        expected = numbers(plain(frames.flatten(0, 1)).estimate)
        assert torch.equal(numbers(estimate_video(plain, windows, frames).estimate), expected)
        # And one with context that is told of none is the network alone.
        untold = replace(windows, before=None)
        found = numbers(estimate_video(with_context, untold, frames).estimate)
    assert_close(found, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_context_gets_gradient_and_the_frames_before_carry_none(longer, windows, precision):
    config = replace(VIDEO, precision=precision)
    state = TrainState(config, attentive(longer), CPU)
    state.network.eval()
    assert isinstance(state.network, ContextHmr)
    recording = []
    state.network.hmr.backbone.register_forward_pre_hook(
        lambda _, inputs: recording.append((len(inputs[0]), torch.is_grad_enabled()))
    )
    few = pick(windows, torch.tensor([1]))
    frames = colour_noise(few.frames, 0.0)
    with state.forward_pass():
        estimate = estimate_video(state.network, few, frames).estimate
    assert recording == [(5 * CONTEXT.length, False), (5, True)]
    numbers(estimate).square().sum().backward()
    for name, parameter in state.network.named_parameters():
        assert parameter.grad is not None, name
        if name.startswith(("context", "hmr.regressor")):
            assert parameter.grad.abs().max() > 0, name


def test_a_network_with_context_trains(tmp_path, body, longer):
    config = replace(VIDEO, steps=1, optimiser=OptimiserConfig(1e-3))
    start = contextual()
    pairs = batches(longer, config, frames=3, context=CONTEXT.length)
    after = train(config, start, body, None, pairs, Run(tmp_path, config, {}), CPU)
    assert isinstance(after, ContextHmr)
    before = start.state_dict()
    assert all(
        not torch.equal(v, before[k]) for k, v in after.state_dict().items() if "context" in k
    )


def test_the_teacher_is_the_initial_network_or_the_average(windows):
    frames = windows.frames[0, :2]
    for teacher in ("initial", "average"):
        config = replace(VIDEO, teacher=teacher, optimiser=OptimiserConfig(1e-2, average=0.5))
        start = network().eval()
        state = TrainState(config, start, CPU)
        at_first = numbers(start(frames).estimate)
        assert torch.equal(numbers(state.teacher(frames).estimate), at_first)
        moving = numbers(state.network.eval()(frames).estimate)
        state.update(moving.sum())
        held = state.teacher(frames).estimate
        assert not held.params.rotmats.requires_grad
        assert torch.equal(numbers(held), at_first) == (teacher == "initial")
        if teacher == "average":
            assert torch.equal(numbers(held), numbers(state.result()(frames).estimate))


def test_the_average_must_be_kept_to_be_a_teacher():
    with pytest.raises(ValueError, match=r"teacher: got 'average' .* optimiser.average above 0"):
        TrainConfig(teacher="average")
    TrainConfig(teacher="average", optimiser=OptimiserConfig(average=0.9))


@pytest.mark.parametrize("teacher", ["initial", "average"])
def test_the_anchor_of_a_run_holds_to_its_teacher(tmp_path, body, video, teacher):
    """An average that forgets at once is the network itself: it holds nothing."""
    config = replace(
        VIDEO, steps=2, teacher=teacher, colour_noise=0.0,
        anchor=AnchorWeights(1.0, 0.1, 0.0), optimiser=OptimiserConfig(1e-3, average=1e-12),
    )  # fmt: skip
    pairs = batches(video[0], config)
    train(config, network(), body, None, pairs, Run(tmp_path, config, {}), CPU)
    head, row = (tmp_path / "losses.csv").read_text().splitlines()
    logged = dict(zip(head.split(","), map(float, row.split(","))))
    assert (logged["anchor_pose"] == 0) == (teacher == "average")


def test_a_run_with_everything_ends_where_the_whole_one_does(tmp_path, body, longer):
    class Killed(RuntimeError):
        pass

    class Fragile(PairBatches):
        def __getitem__(self, number):
            if number == 1:
                raise Killed
            return super().__getitem__(number)

    def run(folder: Path, kind: type[PairBatches]) -> ContextHmr:
        pairs = batches(longer, EVERYTHING, frames=3, context=CONTEXT.length)
        pairs.__class__ = kind
        log = Run(folder, EVERYTHING, {})
        result = train(EVERYTHING, contextual(), body, None, pairs, log, CPU)
        assert isinstance(result, ContextHmr)
        return result

    whole = run(tmp_path / "whole", PairBatches)
    with pytest.raises(Killed):
        run(tmp_path / "killed", Fragile)
    assert same(run(tmp_path / "killed", PairBatches), whole)
    head, row = (tmp_path / "whole" / "losses.csv").read_text().splitlines()
    logged = dict(zip(head.split(","), map(float, row.split(","))))
    assert logged["texture"] > 0
    assert logged["keypoints2d"] > 0
    assert logged["keypoints_apart_px"] > 0
    assert logged["anchor_pose"] > 0
