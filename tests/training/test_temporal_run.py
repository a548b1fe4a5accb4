"""Training over features: it learns, it can be killed, what it says is scored."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_runs import CPU, network, same
from torch.testing import assert_close

from flowhmr.body import open_body
from flowhmr.cameras import fit_weak_camera
from flowhmr.data import FeatureConfig, MotionSetConfig, StoredFeatures, frame_crops
from flowhmr.geometry import map_tensors, rotmat_from_axis_angle
from flowhmr.losses import AnchorWeights, SupervisedWeights
from flowhmr.networks import (
    FramewiseConfig,
    HpofConfig,
    TcmrConfig,
    TemporalConfig,
    TemporalHmr,
    TemporalNetwork,
    TemporalOutput,
    VibeConfig,
    average_filter,
    load_temporal,
    read_card,
    save_network,
)
from flowhmr.records import Estimate, FeatureClip, Labels, Sequence
from flowhmr.synth import mean_rotmats
from flowhmr.training import (
    CheckpointError,
    OptimiserConfig,
    Run,
    TemporalLoopConfig,
    TemporalTrainingConfig,
    estimator_of,
    light_temporal,
    pretrain_temporal,
    score_temporal,
    stored_features,
    train_temporal,
    weights_key,
)
from flowhmr.training.temporal_losses import temporal_objectives, temporal_terms

BATCH, FRAMES, SIZE = 3, 5, 48
SMALL = TcmrConfig(frames=FRAMES, hidden=8)
SHORT = TemporalLoopConfig(
    steps=4,
    batch=BATCH,
    optimiser=OptimiserConfig(1e-3, average=0.9, warmup=2, decay=2, clip_norm=1.0),
    workers=0,
    checkpoint_every=2,
    log_every=1,
)
HMR = network()


class Clips(torch.utils.data.Dataset):
    """Random people; batch number ``i`` follows from ``i``."""

    def __getitem__(self, number: int) -> FeatureClip:
        made = torch.Generator().manual_seed(number)

        def noise(*shape: int) -> torch.Tensor:
            return torch.randn(BATCH, FRAMES, *shape, generator=made)

        body = open_body()
        params = body.params(
            mean_rotmats() @ rotmat_from_axis_angle(0.2 * noise(24, 3)), 0.1 * noise(10)
        )
        joints_m = body.joints(params)
        seen_px = (0.7 * joints_m[..., :2] + 1) * SIZE / 2
        labels = Labels(params, joints_m, seen_px, torch.ones(BATCH, FRAMES, 24))
        return FeatureClip(noise(HMR.feature_size), labels, SIZE)


def built(config: TemporalConfig = SMALL) -> TemporalNetwork:
    torch.manual_seed(5)
    return config.build(HMR)


def run(config: TemporalLoopConfig, folder: Path, clips=None) -> TemporalNetwork:
    into = Run(folder, config, {})
    return train_temporal(config, built(), open_body(), clips or Clips(), into, CPU)


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
        def __getitem__(self, number: int) -> FeatureClip:
            if number == 3:
                raise Killed
            return super().__getitem__(number)

    whole = run(SHORT, tmp_path / "whole")
    with pytest.raises(Killed):
        run(SHORT, tmp_path / "killed", Fragile())
    assert same(run(SHORT, tmp_path / "killed"), whole)
    assert not whole.training
    assert not same(whole, built())
    assert [row["step"] for row in rows(tmp_path / "whole")] == [1, 2, 3, 4]
    with pytest.raises(CheckpointError, match="other weights"):
        run(replace(SHORT, weights=SupervisedWeights(pose=2.0)), tmp_path / "whole")


def test_the_weights_are_the_papers():
    weights = TemporalLoopConfig().weights
    each = (weights.keypoints, weights.joints, weights.pose, weights.shape)
    assert [weights.overall * w for w in each] == pytest.approx([300, 300, 60, 0.06])


def test_it_learns_one_batch(tmp_path):
    class Same(Clips):
        def __getitem__(self, number: int) -> FeatureClip:
            return super().__getitem__(0)

    config = replace(SHORT, steps=60, optimiser=OptimiserConfig(3e-3), checkpoint_every=60)
    run(config, tmp_path, Same())
    first, *_, last = rows(tmp_path)
    assert last["total"] < 0.5 * first["total"]
    assert all(last[name] < first[name] for name in ("keypoints", "joints", "pose"))


def test_what_a_network_holds_stays_as_it_is(tmp_path):
    """HPOF's regressor, which neither gradients nor weight decay nor the average may move."""
    config = replace(SHORT, optimiser=replace(SHORT.optimiser, weight_decay=0.1))
    hpof = HpofConfig(frames=3, blocks=1, width=8)

    class Longer(Clips):
        def __getitem__(self, number: int) -> FeatureClip:
            parts = [super(Longer, self).__getitem__(3 * number + k) for k in range(3)]
            joined = torch.cat([p.features for p in parts], 1)
            rows = torch.arange(11) % FRAMES
            labels = map_tensors(parts[0].labels, lambda t: t[:, rows])
            return FeatureClip(joined[:, :11], labels, SIZE)

    start, into = built(hpof), Run(tmp_path, config, {})
    end = train_temporal(config, start, open_body(), Longer(), into, CPU)
    for name, value in start.state_dict().items():
        if name.startswith("head."):
            assert torch.equal(value, end.state_dict()[name]), name
    assert not torch.equal(start.state_dict()["readout.weight"], end.state_dict()["readout.weight"])


def test_each_output_is_held_to_the_frame_that_it_is_of():
    """The truth about other frames of the clip changes nothing."""
    clip, body = Clips()[0], open_body()
    assert clip.labels is not None
    params = map_tensors(clip.labels.params, lambda t: t[:, [2, 1]])
    joints_m = body.joints(params)
    camera = fit_weak_camera(joints_m, clip.labels.keypoints_px[:, [2, 1]], SIZE)
    said = TemporalOutput(Estimate(params, camera), (2, 1))
    terms = temporal_terms(said, clip, body)
    assert terms.pose.shape == (2 * BATCH,)
    for name in ("keypoints", "joints", "pose", "shape"):
        assert_close(getattr(terms, name), torch.zeros(2 * BATCH), atol=1e-6, rtol=0)
    crossed = temporal_terms(replace(said, frames=(1, 2)), clip, body)
    assert float(crossed.pose.min()) > 1e-3
    with pytest.raises(ValueError, match="clips without labels"):
        temporal_terms(said, replace(clip, labels=None), body)


def test_the_anchor_holds_to_the_single_frame_networks_bodies_averaged():
    """Zero for those, whatever the labels say; weights and reach are felt."""
    clip, body, head = Clips()[0], open_body(), built(FramewiseConfig()).eval().head
    config = replace(SHORT, anchor=AnchorWeights(480.0, 0.0, 0.0), anchor_reach=1)
    around = torch.cat([clip.features[:, :1], clip.features, clip.features[:, -1:]], 1)
    calm = around.unfold(1, 3, 1).mean(-1)
    said = TemporalOutput(head(calm[:, [1, 3]]), (1, 3))
    labels, anchor = temporal_objectives(said, clip, body, config, head)
    assert labels.logged["pose"] > 1e-3
    assert anchor.logged["anchor_pose"] < 1e-10
    alone = TemporalOutput(head(clip.features[:, [1, 3]]), (1, 3))
    _, jumping = temporal_objectives(alone, clip, body, config, head)
    assert jumping.logged["anchor_pose"] > 1e-6
    assert float(jumping.total.detach()) == pytest.approx(
        480 * float(jumping.logged["anchor_pose"]), rel=1e-4
    )
    _, still = temporal_objectives(alone, clip, body, replace(config, anchor_reach=0), head)
    assert still.logged["anchor_pose"] < 1e-10
    assert len(temporal_objectives(alone, clip, body, SHORT, head)) == 1


# --- with video


def walker(frames: int) -> Sequence:
    body, made = open_body(), torch.Generator().manual_seed(0)
    turn = 0.3 * torch.randn(frames, 24, 3, generator=made)
    params = body.params(mean_rotmats() @ rotmat_from_axis_angle(turn), torch.zeros(frames, 10))
    joints_m = body.joints(params)
    points_px = 20 * joints_m[..., :2] + 40
    boxes_px = torch.tensor([20.0, 20.0, 40.0, 40.0]).expand(frames, 4).contiguous()
    labels = Labels(params, joints_m, points_px, torch.ones(frames, 24))
    images = [torch.randint(0, 256, (80, 90, 3), dtype=torch.uint8, generator=made).numpy()
              for _ in range(frames)]  # fmt: skip
    return Sequence("walker", "anna", images, torch.arange(frames) / 30, boxes_px, labels)


def test_the_truth_scores_zero_and_only_plain_frames_are_scored(tmp_path):
    of, asked = walker(6), []
    store = stored_features(HMR, FeatureConfig(), [of], tmp_path, CPU)

    class Truth(TemporalNetwork):
        def forward(self, features: torch.Tensor) -> TemporalOutput:
            raise AssertionError("to score is not to train")

        def sequence(self, features: torch.Tensor) -> Estimate:
            asked.append(features)
            assert store.labels[0] is not None
            params = store.labels[0].params
            points = store.labels[0].keypoints_px
            return Estimate(params, fit_weak_camera(open_body().joints(params), points, SIZE))

    (score,) = score_temporal(Truth(), store, open_body(), CPU)
    assert (score.name, score.person, score.frames) == ("walker", "anna", 6)
    assert max(score.pa_mpjpe, score.mpjpe, score.pve, score.keypoints_px) < 1e-2
    assert score.accel_error < 1e-2
    with torch.no_grad():
        plain = HMR.eval().features(frame_crops(of, SIZE).frames)
    assert_close(asked[0], plain, atol=1e-5, rtol=1e-5)
    (calm,) = score_temporal(Truth(), store, open_body(), CPU, lambda e: average_filter(e, 1))
    assert calm.accel < 0.7 * score.accel, "the filter is felt"
    unknown = stored_features(HMR, FeatureConfig(), [replace(of, labels=None)], tmp_path, CPU)
    with pytest.raises(ValueError, match="without labels; expected some to score"):
        score_temporal(Truth(), unknown, open_body(), CPU)


def test_with_its_single_frame_network_it_estimates_clips():
    both = TemporalHmr(HMR, SMALL).eval()
    seen = frame_crops(walker(6), SIZE)
    found = estimator_of(both, CPU, batch=4)(seen)
    with torch.no_grad():
        whole = both.sequence(seen.frames)
    assert_close(found.params.rotmats, whole.params.rotmats, atol=1e-5, rtol=0)
    assert not torch.equal(found.params.rotmats, HMR.eval()(seen.frames).estimate.params.rotmats)


def test_features_belong_to_the_weights(tmp_path):
    store = stored_features(HMR, FeatureConfig(occluded=0), [walker(3)], tmp_path, CPU)
    assert isinstance(store, StoredFeatures)
    files = set((tmp_path / "features").iterdir())
    stored_features(network(), FeatureConfig(occluded=0), [walker(3)], tmp_path, CPU)
    assert set((tmp_path / "features").iterdir()) == files
    other = network(seed=1)
    stored_features(other, FeatureConfig(occluded=0), [walker(3)], tmp_path, CPU)
    assert len(list((tmp_path / "features").iterdir())) == 2
    assert weights_key(HMR) == weights_key(network()) != weights_key(other)


def test_presets_are_the_papers_and_light_ones():
    full = TemporalTrainingConfig()
    assert full.network == TcmrConfig(frames=16, hidden=1024, layers=2)
    assert full.train.optimiser.learning_rate == 5e-5
    assert full.train.batch == light_temporal(VibeConfig()).train.batch == 32
    for config in (full, light_temporal(TcmrConfig())):
        assert set(config.video.splits) == {"studio", "street", "sport"}
    with pytest.raises(ValueError, match="got 40 frames of video of 31"):
        TemporalTrainingConfig(TcmrConfig(frames=40))


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [SMALL, VibeConfig(FRAMES, 8), HpofConfig(3, blocks=1, width=8), FramewiseConfig(FRAMES)],
    ids=str,
)
def test_a_run_from_its_config_alone(tmp_path, kind):
    """On clips of the benchmark; the network is read back with the one it began with."""
    start = tmp_path / "start.safetensors"
    save_network(start, HMR, {})
    config = TemporalTrainingConfig(
        network=kind,
        start=str(start),
        video=MotionSetConfig(("studio",), count=2),
        train=replace(SHORT, steps=2),
    )
    told = []
    path = pretrain_temporal(
        config, tmp_path / "run", tmp_path, CPU, lambda what: lambda *n: told.append((what, n))
    )
    assert ("drawing clips", (2, 2)) in told
    assert ("computing features", (2, 2)) in told
    both = load_temporal(path)
    assert both.config == kind
    assert same(both.hmr, HMR)
    assert read_card(path)["notes"]["trained_by"] == "train"
    assert len(rows(tmp_path / "run")) == 2
