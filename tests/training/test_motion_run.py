"""Training of Motion HMR: it learns, it can be killed, it is scored frame by frame."""

import csv
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import CPU, same
from torch import Tensor
from torch.testing import assert_close

from flowhmr.body import SMPL_24, open_body
from flowhmr.cameras import fit_weak_camera
from flowhmr.data import (
    HEATMAP_JOINTS,
    MotionInputConfig,
    MotionSetConfig,
    MotionVideo,
    motion_sequences,
)
from flowhmr.geometry import map_tensors, rotmat_from_axis_angle
from flowhmr.losses import AdversaryWeights, MotionWeights
from flowhmr.networks import (
    BackboneConfig,
    HmrConfig,
    MeanParams,
    MotionHmr,
    MotionHmrConfig,
    MotionOutput,
    load_motion,
    read_card,
)
from flowhmr.records import Estimate, Labels, MotionClip, MotionInput, Sequence, TrackLabels
from flowhmr.synth import mean_rotmats
from flowhmr.training import (
    CheckpointError,
    MotionLoopConfig,
    MotionTrainingConfig,
    OptimiserConfig,
    Run,
    estimate_along,
    light_training,
    pretrain_motion,
    score_motion,
    train_motion,
)

BATCH, PAIRS, SIZE = 2, 3, 32
BACKBONE = BackboneConfig("mobilenetv3_small_050", size_px=SIZE)
TINY = MotionHmrConfig(HmrConfig(BACKBONE, hidden=16, dropout=0.1), lstm=8, head=8)
SHORT = MotionLoopConfig(
    steps=4,
    batch=BATCH,
    optimiser=OptimiserConfig(1e-3, average=0.9, warmup=2, decay=2, clip_norm=1.0),
    dann_hidden=8,
    workers=0,
    checkpoint_every=2,
    log_every=1,
)


class Clips(torch.utils.data.Dataset):
    """Random people, seen somehow; batch number ``i`` follows from ``i``."""

    def __init__(self, labelled: bool = True):
        self.labelled = labelled

    def __getitem__(self, number: int) -> MotionClip:
        made = torch.Generator().manual_seed(number)

        def noise(*shape: int) -> Tensor:
            return torch.randn(BATCH, PAIRS, *shape, generator=made)

        body, labels = open_body(), []
        for _ in range(2):
            rotmats = mean_rotmats() @ rotmat_from_axis_angle(0.2 * noise(24, 3))
            params = body.params(rotmats, noise(10))
            labels.append(TrackLabels(params, 0.7 * body.joints(params)[..., :2]))
        keypoints = (labels[0].points[..., SMPL_24.indices_of(HEATMAP_JOINTS), :] + 1) * SIZE / 2
        told = torch.cat([keypoints, torch.ones_like(keypoints[..., :1])], -1)
        seen = MotionInput(None, noise(2, SIZE, SIZE), told, torch.zeros(BATCH, PAIRS))
        return MotionClip(seen, *(labels if self.labelled else (None, None)))


def network(seed: int = 0) -> MotionHmr:
    torch.manual_seed(seed)
    body = open_body()
    return MotionHmr(TINY, MeanParams(mean_rotmats(), torch.zeros(body.num_betas), body.body_id))


def run(config: MotionLoopConfig, folder: Path, clips=None, target=None) -> MotionHmr:
    clips = Clips() if clips is None else clips
    return train_motion(config, network(), open_body(), clips, target, Run(folder, config, {}), CPU)


def rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "losses.csv").open() as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Drawing the curves takes longer than these runs."""
    monkeypatch.setattr(Run, "draw", lambda self: None)


def test_killed_and_resumed_it_ends_where_the_whole_run_does(tmp_path):
    class Killed(RuntimeError): ...

    class Fragile(Clips):
        def __getitem__(self, number: int) -> MotionClip:
            if number == 3:
                raise Killed
            return super().__getitem__(number)

    config = replace(SHORT, dann=AdversaryWeights(0.5))
    whole = run(config, tmp_path / "whole", target=Clips(labelled=False))
    with pytest.raises(Killed):
        run(config, tmp_path / "killed", Fragile(), Clips(labelled=False))
    assert same(run(config, tmp_path / "killed", target=Clips(labelled=False)), whole)
    assert not whole.training
    assert not same(whole, network())
    log = rows(tmp_path / "whole")
    assert [row["step"] for row in log] == [1, 2, 3, 4]
    for row in log:
        terms = {f.name: row[f.name] for f in fields(MotionWeights)}
        total = sum(getattr(MotionWeights(), name) * value for name, value in terms.items())
        assert row["total"] == pytest.approx(total + 0.5 * row["adversary"], rel=1e-4)
    without = run(SHORT, tmp_path / "without")
    assert not same(without, whole), "the adversary is felt"
    with pytest.raises(CheckpointError, match="other weights"):
        run(replace(config, weights=MotionWeights(pose=1.0)), tmp_path / "whole",
            target=Clips())  # fmt: skip


def test_it_learns_one_batch(tmp_path):
    class Same(Clips):
        def __getitem__(self, number: int) -> MotionClip:
            return super().__getitem__(0)

    optimiser = OptimiserConfig(3e-3, clip_norm=1.0)
    config = replace(SHORT, steps=40, optimiser=optimiser, checkpoint_every=40)
    run(config, tmp_path, Same())
    first, *_, last = rows(tmp_path)
    assert last["total"] < 0.75 * first["total"]
    assert all(last[name] < first[name] for name in ("aligned", "points"))


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(ValueError, match="without labels; expected synthetic"):
        run(SHORT, tmp_path / "a", Clips(labelled=False))
    with pytest.raises(ValueError, match="got no clips of another domain"):
        run(replace(SHORT, dann=AdversaryWeights(1.0)), tmp_path / "b")
    with pytest.raises(ValueError, match="got 56 frames of video of 31"):
        MotionTrainingConfig(inputs=MotionInputConfig(frames=56))


def test_presets_are_the_papers_and_a_light_one():
    full, light = MotionTrainingConfig(), light_training()
    assert full.network.hmr.backbone == BackboneConfig("resnet50")
    assert (full.network.lstm, full.network.head, full.network.hmr.rounds) == (1024, 1024, 3)
    assert full.network.channels == 3 + 12 + 1
    assert (full.inputs.frames, light.inputs.frames) == (31, 8)
    body = open_body()
    mean = MeanParams(mean_rotmats(), torch.zeros(body.num_betas), body.body_id)
    assert 2e6 < sum(p.numel() for p in MotionHmr(light.network, mean).parameters()) < 6e6


# --- scoring


def bodies(labels: TrackLabels) -> Estimate:
    """The truth as an estimate ``[1 n]``, with the cameras that fit it."""
    joints_m = open_body().joints(labels.params)
    camera = fit_weak_camera(joints_m, (labels.points + 1) * SIZE / 2, SIZE)
    return map_tensors(Estimate(labels.params, camera), lambda t: t[None])


def walker(frames: int) -> Sequence:
    rng = np.random.default_rng(0)
    body, made = open_body(), torch.Generator().manual_seed(0)
    turn = 0.3 * torch.randn(frames, 24, 3, generator=made)
    params = body.params(mean_rotmats() @ rotmat_from_axis_angle(turn), torch.zeros(frames, 10))
    joints_m = body.joints(params)
    middle = torch.stack([torch.arange(frames) + 40.0, torch.full((frames,), 40.0)], -1)
    points_px = 20 * joints_m[..., :2] + middle[:, None]
    boxes_px = torch.cat([middle - 20, torch.full((frames, 2), 40.0)], -1)
    confidence = torch.ones(frames, 24)
    confidence[4:5] = 0
    labels = Labels(params, joints_m, points_px, confidence)
    images = [rng.integers(0, 256, (80, 100, 3), np.uint8)] * frames
    return Sequence("walker", "anna", images, torch.arange(frames) / 30, boxes_px, labels)


def test_each_frame_of_a_video_is_said_once_and_in_order():
    """Two clips of four and what is left of a third; frames that no clip begins end one."""
    of, config = walker(10), MotionInputConfig(frames=4)
    video = MotionVideo([of], SIZE, False, None)
    asked = []

    class Told(MotionHmr):
        def forward(self, seen: MotionInput) -> MotionOutput:
            asked.append(len(seen.occluded[0]))
            found = super().forward(seen)

            def marked(estimate: Estimate, value: float) -> Estimate:
                betas = torch.full_like(estimate.params.betas, value) + len(asked)
                return replace(estimate, params=replace(estimate.params, betas=betas))

            return MotionOutput(marked(found.now, 0.0), marked(found.after, 0.5), found.feature)

    body = open_body()
    told = Told(
        replace(TINY, flow=False), MeanParams(mean_rotmats(), torch.zeros(10), body.body_id)
    )
    estimate, truth = estimate_along(told, video, of, config, CPU)
    assert asked == [3, 3, 3]
    said = estimate.params.betas[:, 0].tolist()
    assert said == [1, 1, 1, 1.5, 2, 2, 2, 2.5, 3, 3.5]
    assert_close(truth.params.rotmats, of.labels.params.rotmats)
    with pytest.raises(ValueError, match="got 1 frames; expected at least 2"):
        estimate_along(told, video, walker(1), config, CPU)
    assert len(estimate_along(told, video, walker(3), config, CPU)[0].params.betas) == 3


def test_the_truth_scores_zero_and_frames_out_of_view_do_not_count(monkeypatch):
    of, config = walker(8), MotionInputConfig(frames=4)
    video, body = MotionVideo([of], SIZE, False, None), open_body()

    def truth(network, video, sequence, config, device):
        _, labels = estimate_along(network, video, sequence, config, device)
        found = map_tensors(bodies(labels), lambda t: t[0])
        rotmats = found.params.rotmats.clone()
        rotmats[4] = rotmats[0]
        return replace(found, params=replace(found.params, rotmats=rotmats)), labels

    monkeypatch.setattr("flowhmr.training.motion.estimate_along", truth)
    net = MotionHmr(replace(TINY, flow=False), MeanParams(mean_rotmats(), torch.zeros(10),
                                                          body.body_id))  # fmt: skip
    (score,) = score_motion(net, video, config, body, CPU)
    assert (score.name, score.person, score.frames) == ("walker", "anna", 7)
    assert score.pa_mpjpe < 1e-2
    assert score.mpjpe < 1e-2
    assert score.keypoints_px < 1e-2
    assert score.accel_error > 1, "over all frames"
    hidden = replace(of.labels, keypoint_confidence=torch.zeros(8, 24))
    assert score_motion(net, replace(video, sequences=[replace(of, labels=hidden)]), config,
                        body, CPU) == []  # fmt: skip
    with pytest.raises(ValueError, match="without labels"):
        score_motion(net, replace(video, sequences=[replace(of, labels=None)]), config, body, CPU)


# --- with clips


@pytest.mark.slow
def test_a_run_from_its_config_alone(tmp_path):
    """RGB, flow and keypoints, with the adversary, on clips of the benchmark."""
    sets = MotionSetConfig(("studio",), count=2)
    config = MotionTrainingConfig(
        network=replace(TINY, rgb=True),
        inputs=MotionInputConfig(frames=5),
        video=sets,
        target=MotionSetConfig(("val",), count=1),
        flow_px=32,
        train=replace(SHORT, steps=2, dann=AdversaryWeights(0.2)),
    )
    told = []
    path = pretrain_motion(
        config, tmp_path / "run", tmp_path, CPU, lambda what: lambda *n: told.append((what, n))
    )
    assert ("drawing clips", (2, 2)) in told
    assert ("estimating flow", (2, 2)) in told
    assert load_motion(path).config == config.network
    assert read_card(path)["notes"]["trained_by"] == "motion"
    assert len(rows(tmp_path / "run")) == 2
    assert len(motion_sequences(sets, tmp_path)) == 2
