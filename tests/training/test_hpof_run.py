"""HPOF's losses in training: acceleration, motion discriminator, raster flow."""

import csv
from dataclasses import replace

import pytest
import torch
from small_runs import CPU, network, same
from torch.testing import assert_close

from flowhmr.body import open_body
from flowhmr.cameras import crop_from_box, fit_weak_camera
from flowhmr.flow import FlowPair
from flowhmr.geometry import map_tensors, rotmat_from_axis_angle
from flowhmr.losses import AccelerationWeights, RasterFlowConfig, RasterFlowWeights, RealismWeights
from flowhmr.networks import HpofConfig, MotionDiscriminatorConfig, TemporalOutput
from flowhmr.records import Estimate, FeatureClip, FeatureLink, Labels
from flowhmr.synth import mean_rotmats
from flowhmr.training import (
    OptimiserConfig,
    Run,
    TemporalLoopConfig,
    TemporalTrainingConfig,
    train_temporal,
    with_hpof_losses,
)
from flowhmr.training.temporal_losses import (
    adversarial_objectives,
    raster_terms,
    temporal_objectives,
)

BATCH, SIZE, WINDOW = 2, 48, 40
HMR = network()
HPOF = HpofConfig(frames=4, blocks=1, width=8)
FRAMES = HPOF.window - 1 + HPOF.frames
LOOP = TemporalLoopConfig(
    steps=4,
    batch=BATCH,
    optimiser=OptimiserConfig(1e-3, average=0.9),
    workers=0,
    checkpoint_every=2,
    log_every=1,
    acceleration=AccelerationWeights(60.0),
    realism=RealismWeights(0.5),
    discriminator=MotionDiscriminatorConfig(hidden=8, layers=1),
    raster=RasterFlowWeights(1.0),
)


def link(number: int) -> FeatureLink:
    """Crops of a still image around boxes that differ; no flow, but not everywhere known."""
    boxes_px = torch.tensor([[20.0, 10, 60, 70], [26, 14, 66, 60]]).expand(BATCH, 2, 4)
    window = crop_from_box(torch.tensor([18.0, 8, 72, 72]).expand(BATCH, 4), WINDOW)
    still = torch.zeros(BATCH, WINDOW, WINDOW, 2)
    valid = torch.ones(BATCH, WINDOW, WINDOW, dtype=torch.bool)
    first = torch.arange(BATCH) + HPOF.window - 1
    return FeatureLink(
        first, crop_from_box(boxes_px, SIZE), window, FlowPair(still, still, valid, valid)
    )


class Clips(torch.utils.data.Dataset):
    """Random people; batch number ``i`` follows from ``i``."""

    def __getitem__(self, number: int) -> FeatureClip:
        made = torch.Generator().manual_seed(number)

        def noise(*shape: int) -> torch.Tensor:
            return torch.randn(BATCH, FRAMES, *shape, generator=made)

        body = open_body()
        turn = rotmat_from_axis_angle(0.2 * noise(24, 3))
        params = body.params(mean_rotmats() @ turn, 0.1 * noise(10))
        joints_m = body.joints(params)
        seen_px = (0.7 * joints_m[..., :2] + 1) * SIZE / 2
        labels = Labels(params, joints_m, seen_px, torch.ones(BATCH, FRAMES, 24))
        return FeatureClip(noise(HMR.feature_size), labels, SIZE, link(number))


def truth(clip: FeatureClip) -> TemporalOutput:
    assert clip.labels is not None
    frames = tuple(range(HPOF.window - 1, FRAMES))
    labels = map_tensors(clip.labels, lambda t: t[:, list(frames)])
    camera = fit_weak_camera(labels.joints_m, labels.keypoints_px, SIZE)
    return TemporalOutput(Estimate(labels.params, camera), frames)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Drawing the curves takes longer than these runs."""
    monkeypatch.setattr(Run, "draw", lambda self: None)


def test_with_all_losses_killed_and_resumed_it_ends_where_the_whole_run_does(tmp_path):
    class Killed(RuntimeError): ...

    class Fragile(Clips):
        def __getitem__(self, number: int) -> FeatureClip:
            if number == 3:
                raise Killed
            return super().__getitem__(number)

    def run(folder: str, clips: Clips):
        torch.manual_seed(5)
        into = Run(tmp_path / folder, LOOP, {})
        return train_temporal(LOOP, HPOF.build(HMR), open_body(), clips, into, CPU)

    whole = run("whole", Clips())
    with pytest.raises(Killed):
        run("killed", Fragile())
    resumed = run("killed", Clips())
    assert same(resumed, whole)
    assert not any("discriminator" in name for name in whole.state_dict())
    with (tmp_path / "whole" / "losses.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name in ("acceleration", "realism", "told_apart", "raster_flow", "pose"):
        assert all(float(row[name]) > 0 for row in rows), name
    # The rate of the discriminator is that of the network: it moves, so its scores do.
    assert rows[0]["told_apart"] != rows[-1]["told_apart"]


def test_the_truth_has_no_acceleration_error():
    clip = Clips()[0]
    found = temporal_objectives(truth(clip), clip, open_body(), LOOP)
    assert found[1].logged["acceleration"] < 1e-9
    other = truth(Clips()[1])
    wrong = temporal_objectives(other, clip, open_body(), LOOP)
    assert wrong[1].logged["acceleration"] > 1e-4
    assert [set(o.logged) for o in wrong[1:]] == [{"acceleration"}, {"raster_flow"}]


def test_network_and_discriminator_do_not_teach_each_other():
    torch.manual_seed(0)
    clip, judge = Clips()[0], LOOP.discriminator.build().eval()
    said = truth(Clips()[1])
    rotmats = said.estimate.params.rotmats.clone().requires_grad_()
    params = replace(said.estimate.params, rotmats=rotmats)
    said = replace(said, estimate=replace(said.estimate, params=params))
    fooled, learnt = adversarial_objectives(said, clip, judge, LOOP)
    fooled.total.backward()
    assert rotmats.grad is not None
    assert bool((rotmats.grad[:, :, 1:] != 0).any())
    assert all(p.grad is None for p in judge.parameters())
    rotmats.grad = None
    learnt.total.backward()
    assert rotmats.grad is None
    assert all(p.grad is not None for p in judge.parameters())
    assert clip.labels is not None
    true, made = (
        judge(m) for m in (clip.labels.params.rotmats[:, HPOF.window - 1 :], rotmats.detach())
    )
    assert_close(fooled.total, 0.5 * (made - 1).square().mean())
    assert_close(learnt.total, ((true - 1).square() + made.square()).mean())


@pytest.mark.parametrize("moved_px", [0.0, 10.8])  # five pixels of the window
def test_bodies_are_compared_in_the_flows_window(moved_px):
    """A body that moves in the image as the flow says loses nothing, whatever its crops are."""
    body, clip = open_body(), Clips()[0]
    assert clip.link is not None
    said = truth(clip)
    params = map_tensors(said.estimate.params, lambda t: t[:, :1].expand_as(t).contiguous())
    joints_m = body.joints(params)
    image_px = joints_m[..., :2] * 22 + torch.tensor([52.0, 42.0])
    cameras = torch.zeros(*joints_m.shape[:2], 3)
    for sample in range(BATCH):
        for k in range(2):
            crop = map_tensors(clip.link.crops, lambda t, at=(sample, k): t[at])
            frame = sample + k
            shift = torch.tensor([moved_px * k, 0.0])
            points_px = crop.to_crop(image_px[sample, frame] + shift)
            cameras[sample, frame] = fit_weak_camera(
                joints_m[sample, frame], points_px, SIZE
            ).params
    camera = replace(said.estimate.camera, params=cameras)
    said = replace(said, estimate=Estimate(params, camera))

    def lost(flow_px: float) -> float:
        assert clip.link is not None
        zoom = WINDOW / clip.link.window.side_px[0]
        forward = torch.zeros(BATCH, WINDOW, WINDOW, 2)
        forward[..., 0] = flow_px * zoom
        flow = replace(clip.link.flow, forward=forward, backward=-forward)
        moved = replace(clip, link=replace(clip.link, flow=flow))
        terms = raster_terms(said, moved, body, RasterFlowConfig())
        assert bool(terms.kept.all())
        return float(terms.raster_flow.max())

    right, wrong = lost(moved_px), min(lost(moved_px + 6.48), lost(moved_px - 6.48))
    assert right < 0.02 * wrong


def test_what_lacks_frames_or_flow_is_refused():
    clip, body = Clips()[0], open_body()
    said = replace(truth(clip), frames=(8, 8, 8, 8))
    with pytest.raises(ValueError, match="expected consecutive ones; set the weights"):
        temporal_objectives(said, clip, body, LOOP)
    with pytest.raises(ValueError, match="clips without flow; expected batches with links"):
        raster_terms(truth(clip), replace(clip, link=None), body, RasterFlowConfig())


def test_the_papers_weights():
    loop = with_hpof_losses(TemporalTrainingConfig(HpofConfig())).train
    assert loop.acceleration.acceleration == 60
    assert loop.realism.realism == 0.5
    assert loop.raster.raster_flow == pytest.approx(0.0004 * 224 * 224 * 3, rel=0.01)
    assert loop.discriminator == MotionDiscriminatorConfig()


class TestKeypointsAlone:
    """Clips whose bodies are not known teach by their 2D joints, and by flow."""

    LOOP = replace(LOOP, keypoint_share=0.5)

    def half(self, number: int = 0) -> FeatureClip:
        """A batch of which the second half has no bodies: its numbers mean nothing."""
        clip = Clips()[number]
        assert clip.labels is not None
        known = torch.ones(BATCH, FRAMES, dtype=torch.bool)
        known[BATCH // 2 :] = False
        return replace(clip, labels=replace(clip.labels, has_body=known))

    def objectives(self, clip: FeatureClip, said: TemporalOutput):
        torch.manual_seed(0)
        judge = LOOP.discriminator.build().eval()
        found = temporal_objectives(said, clip, open_body(), self.LOOP)
        return [*found, *adversarial_objectives(said, clip, judge, self.LOOP)]

    @pytest.mark.parametrize("anything", [7.0, torch.nan])
    def test_what_their_bodies_are_makes_no_difference(self, anything):
        clip, said = self.half(), truth(Clips()[1])
        assert clip.labels is not None
        rotmats = clip.labels.params.rotmats.clone()
        rotmats[BATCH // 2 :] = anything
        joints_m = clip.labels.joints_m.clone()
        joints_m[BATCH // 2 :] = anything
        params = replace(clip.labels.params, rotmats=rotmats)
        other = replace(clip, labels=replace(clip.labels, params=params, joints_m=joints_m))
        for one, two in zip(self.objectives(clip, said), self.objectives(other, said)):
            assert_close(one.total, two.total)
        # Their 2D joints do.
        moved = clip.labels.keypoints_px.clone()
        moved[BATCH // 2 :] += 5.0
        other = replace(clip, labels=replace(clip.labels, keypoints_px=moved))
        first, second = (self.objectives(c, said)[0] for c in (clip, other))
        assert first.logged["keypoints"] != second.logged["keypoints"]
        assert first.logged["pose"] == second.logged["pose"]

    def test_the_others_weigh_more(self):
        """Half a batch with bodies counts as a whole one of the same would."""
        clip = self.half()
        said = truth(Clips()[1])
        half = BATCH // 2
        first = map_tensors(clip, lambda t: t[:half])
        alone = replace(said, estimate=map_tensors(said.estimate, lambda t: t[:half]))
        weights = replace(LOOP.weights, keypoints=0.0, camera=0.0)
        loop = replace(self.LOOP, weights=weights, raster=RasterFlowWeights(0.0))
        whole = temporal_objectives(said, clip, open_body(), loop)
        plain = replace(loop, keypoint_share=0.0)
        part = temporal_objectives(alone, first, open_body(), plain)
        for one, two in zip(whole, part):
            assert_close(one.total, two.total)

    def test_a_share_of_all_is_refused(self):
        with pytest.raises(ValueError, match="keypoint_share: got 1"):
            replace(LOOP, keypoint_share=1.0)
