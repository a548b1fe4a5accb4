"""The loop: it learns, it can be killed, it does not depend on workers."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_runs import BOTH, CPU, SIZE, data, network, run, same
from torch import nn
from torch.testing import assert_close

from flowhmr.body import open_body
from flowhmr.cameras import WeakCamera
from flowhmr.data import AugmentConfig, PairBatches, StillBatches
from flowhmr.losses import AnchorWeights, FlowWeights, NonFiniteLoss
from flowhmr.training import CheckpointError, OptimiserConfig, Run, TrainConfig, train
from flowhmr.training.loop import colour_noise, frozen_statistics
from flowhmr.training.state import TrainState, learning_rate
from flowhmr.training.video import surface_weights, video_losses, video_terms, where_body


@pytest.mark.slow
def test_resumed_run_ends_where_the_whole_one_does(tmp_path, pool, video):
    whole = run(BOTH, tmp_path / "whole", pool, video)

    class Killed(RuntimeError):
        pass

    class Fragile(PairBatches):
        def __getitem__(self, number):
            if number == 3:
                raise Killed
            return super().__getitem__(number)

    stills, pairs = data(BOTH, pool, video)
    pairs.__class__ = Fragile
    folder = tmp_path / "killed"
    with pytest.raises(Killed):
        train(BOTH, network(), open_body(), stills, pairs, Run(folder, BOTH, {}), CPU)
    resumed = run(BOTH, folder, pool, video)
    assert same(whole, resumed)
    rows = [(tmp_path / n / "losses.csv").read_text().splitlines() for n in ("whole", "killed")]
    values = [[line.split(",")[2:] for line in r] for r in rows]
    assert values[0] == values[1]


@pytest.mark.slow
def test_kill_nine_at_a_random_moment(tmp_path):
    """A real process, a real SIGKILL, then the same command again."""
    script = tmp_path / "job.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys
            sys.path.insert(0, {str(Path(__file__).parent)!r})
            from pathlib import Path
            import test_training as t
            from flowhmr.synth import PoolConfig, StillConfig, StillPool, ClipConfig, render_clip
            config = t.replace(t.BOTH, steps=12)
            pool = StillPool(
                PoolConfig(StillConfig(size_px=64), count=32, backgrounds=4, chunk=32),
                Path({str(tmp_path)!r}), workers=1,
            )
            video = [render_clip(ClipConfig(frames=5, size_px=96), 0, t.open_body())]
            t.torch.save(t.run(config, Path(sys.argv[1]), pool, video).state_dict(), sys.argv[2])
            """
        )
    )

    def start(name: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", script, tmp_path / name, tmp_path / f"{name}.pt"],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
        )

    assert start("whole").wait() == 0
    rng = np.random.default_rng()
    process = start("killed")
    log = tmp_path / "killed" / "losses.csv"
    moment = int(rng.integers(2, 11))
    while process.poll() is None:
        if log.exists() and len(log.read_text().splitlines()) > moment:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.01)
    process.wait()
    assert start("killed").wait() == 0
    a, b = (torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in ("whole", "killed"))
    assert all(torch.equal(a[k], b[k]) for k in a), f"killed after row {moment}"


@pytest.mark.slow
def test_workers_change_nothing(tmp_path, pool, video):
    config = replace(BOTH, steps=3)
    alone = run(config, tmp_path / "0", pool, video)
    # Not more workers than cores: PyTorch warns of that, and warnings are errors here.
    helped = run(replace(config, workers=1), tmp_path / "1", pool, video)
    assert same(alone, helped)


@pytest.mark.slow
def test_seed_changes_something(tmp_path, pool, video):
    config = replace(BOTH, steps=2)
    a = run(config, tmp_path / "a", pool, video)
    b = run(replace(config, seed=1), tmp_path / "b", pool, video)
    assert not same(a, b)


@pytest.mark.slow
def test_it_learns_a_handful_of_stills(tmp_path, pool):
    class Same(StillBatches):
        def __getitem__(self, number):
            return super().__getitem__(0)

    config = replace(
        BOTH, steps=80, batch=16, pairs=0, log_every=20,
        optimiser=OptimiserConfig(3e-3), checkpoint_every=100,
    )  # fmt: skip
    stills = Same(pool, SIZE, config.batch, AugmentConfig(), config.seed, config.steps)
    train(config, network(), open_body(), stills, None, Run(tmp_path, config, {}), CPU)
    rows = (tmp_path / "losses.csv").read_text().splitlines()
    totals = [float(r.split(",")[2]) for r in rows[1:]]
    assert totals[-1] < 0.6 * totals[0]


@pytest.mark.slow
def test_flow_loss_alone_brings_body_and_flow_together(tmp_path, pool, video):
    """Eq. 8 on one clip: with a weak anchor the disagreement falls."""
    config = replace(
        BOTH, steps=60, batch=0, pairs=4, log_every=10, checkpoint_every=100,
        optimiser=OptimiserConfig(3e-4), anchor=AnchorWeights(0.01, 0.01, 0.0),
        flow=FlowWeights(1.0),
    )  # fmt: skip
    run(config, tmp_path, pool, video)
    head, *rows = (tmp_path / "losses.csv").read_text().splitlines()
    at = head.split(",").index("disagreement_px")
    values = [float(r.split(",")[at]) for r in rows]
    assert values[-1] < 0.8 * values[0]


@pytest.mark.slow
def test_run_folder_holds_what_was_done(tmp_path, pool, video):
    run(BOTH, tmp_path, pool, video)
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"config.json", "losses.csv", "losses.png", "checkpoint.safetensors"}
    head = (tmp_path / "losses.csv").read_text().splitlines()[0].split(",")
    assert {"step", "seconds", "total", "keypoints", "joints", "pose", "shape", "flow"} <= set(head)
    assert '"commit"' in (tmp_path / "config.json").read_text()
    assert "step" not in load_file(tmp_path / "checkpoint.safetensors")


@pytest.mark.slow
def test_other_settings_do_not_continue_a_run(tmp_path, pool, video):
    config = replace(BOTH, steps=2)
    run(config, tmp_path, pool, video)
    changed = replace(config, flow=FlowWeights(0.2))
    with pytest.raises(CheckpointError, match=r"other flow.*--run"):
        run(changed, tmp_path, pool, video)


@pytest.mark.slow
def test_a_setting_younger_than_the_checkpoint_has_its_default(tmp_path, pool, video):
    config = replace(BOTH, steps=2)
    whole = run(config, tmp_path / "whole", pool, video)
    run(config, tmp_path / "old", pool, video)
    path = tmp_path / "old" / "checkpoint.safetensors"
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    kept = {k: v for k, v in json.loads(metadata["config"]).items() if k != "frozen"}
    save_file(tensors, path, metadata | {"config": json.dumps(kept)})
    assert same(run(config, tmp_path / "old", pool, video), whole)
    with pytest.raises(CheckpointError, match="other frozen"):
        run(replace(config, frozen=True), tmp_path / "old", pool, video)


@pytest.mark.slow
def test_the_length_may_change_until_the_learning_rate_falls(tmp_path, pool, video):
    short = replace(BOTH, steps=4, optimiser=replace(BOTH.optimiser, decay=0))
    longer = replace(BOTH, steps=7, optimiser=replace(BOTH.optimiser, decay=3))
    run(short, tmp_path / "both", pool, video)
    then = run(longer, tmp_path / "both", pool, video)
    assert same(then, run(longer, tmp_path / "straight", pool, video))
    with pytest.raises(CheckpointError, match="other steps"):
        run(replace(longer, steps=9), tmp_path / "both", pool, video)


@pytest.mark.slow
def test_the_clock_goes_on_over_restarts(tmp_path, pool, video):
    config = replace(BOTH, log_every=1, optimiser=replace(BOTH.optimiser, decay=0))
    run(replace(config, steps=3), tmp_path, pool, video)
    run(config, tmp_path, pool, video)
    rows = [r.split(",") for r in (tmp_path / "losses.csv").read_text().splitlines()[1:]]
    assert [float(r[0]) for r in rows] == [1, 2, 3, 4, 5, 6]
    seconds = [float(r[1]) for r in rows]
    assert seconds == sorted(seconds)


def test_a_table_begun_with_fewer_columns_goes_on(tmp_path, pool, video):
    config = replace(BOTH, steps=4, checkpoint_every=1, optimiser=replace(BOTH.optimiser, decay=0))
    run(replace(config, steps=2), tmp_path, pool, video)
    table = tmp_path / "losses.csv"
    head, *rows = table.read_text().splitlines()
    place = head.split(",").index("gradient")
    fewer = [r.split(",")[:place] + r.split(",")[place + 1 :] for r in (head, *rows)]
    table.write_text("".join(",".join(r) + "\n" for r in fewer))
    run(config, tmp_path, pool, video)
    found = [r.split(",") for r in table.read_text().splitlines()]
    assert found[:3] == fewer
    assert [len(r) for r in found] == [len(fewer[0])] * 5
    total = found[0].index("total")
    assert all(float(r[total]) > 0 for r in found[1:])


@pytest.mark.slow
def test_damaged_checkpoint_says_what_to_do(tmp_path, pool, video):
    run(replace(BOTH, steps=2), tmp_path, pool, video)
    file = tmp_path / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="delete it"):
        run(replace(BOTH, steps=2), tmp_path, pool, video)


def test_non_finite_loss_stops_and_keeps_the_checkpoint(tmp_path, pool, video):
    config = replace(BOTH, steps=4)
    run(replace(config, steps=2), tmp_path, pool, video)
    start = network()
    with torch.no_grad():
        start.regressor.camera.bias.fill_(torch.nan)
    with pytest.raises(NonFiniteLoss, match="keypoints"):
        run(config, tmp_path / "nan", pool, video, start)
    assert not (tmp_path / "nan" / "checkpoint.safetensors").exists()


@pytest.mark.slow
def test_full_disk_says_so_and_keeps_the_old_checkpoint(tmp_path, pool, video, monkeypatch):
    run(replace(BOTH, steps=2), tmp_path, pool, video)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()

    def no_room(self, path, step):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TrainState, "save", no_room)
    longer = replace(BOTH, steps=2, checkpoint_every=1)
    (tmp_path / "fresh").mkdir()
    (tmp_path / "fresh" / "checkpoint.safetensors").write_bytes(before)
    with pytest.raises(OSError, match="free some disk"):
        Run(tmp_path / "fresh", longer, {})._save(TrainState(longer, network(), CPU), 1)
    assert (tmp_path / "fresh" / "checkpoint.safetensors").read_bytes() == before
    assert not list((tmp_path / "fresh").glob(".checkpoint*"))


def test_video_pass_leaves_batch_statistics_alone():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    x = torch.randn(8, 3, 9, 9)
    with frozen_statistics(model):
        a, b = model(x), model(x)
        a.sum().backward()
    assert torch.equal(a, b)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert model.training
    assert model[1].training
    assert model[1].weight.grad is not None
    model(x)
    assert not torch.equal(before["1.running_mean"], model[1].running_mean)


def test_colour_noise_is_per_frame_and_channel():
    frames = torch.full((3, 2, 3, 4, 4), 100, dtype=torch.uint8)
    noisy = colour_noise(frames, 0.4)
    factor = noisy / (100 / 255)
    assert factor.min() >= 0.6 - 1e-5
    assert factor.max() <= 1.4 + 1e-5
    assert torch.equal(factor.amin((-2, -1)), factor.amax((-2, -1)))
    assert len(factor[..., 0, 0].flatten().unique()) == 18
    assert torch.equal(colour_noise(frames, 0.0), frames / 255)
    assert colour_noise(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8), 0.9).max() <= 1


def test_learning_rate_course():
    config = TrainConfig(steps=100, optimiser=OptimiserConfig(1.0, warmup=10, decay=20))
    rates = [learning_rate(config, s) for s in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:80] == [1.0] * 70
    assert rates[85] == pytest.approx(0.5)  # a quarter of the way down: 1 - sqrt(1/4)
    assert 0 < rates[99] < 0.03
    assert rates == sorted(rates[:50]) + sorted(rates[50:], reverse=True)


def test_a_run_shorter_than_its_fall_begins_at_the_full_rate():
    short, longer = (
        TrainConfig(steps=10, optimiser=OptimiserConfig(1.0, decay=d)) for d in (10, 1000)
    )
    rates = [learning_rate(longer, s) for s in range(10)]
    assert rates[0] == 1.0
    assert rates == [learning_rate(short, s) for s in range(10)]


@pytest.mark.parametrize("by_surface", [True, False])
def test_vertices_count_by_their_surface_or_all_the_same(
    tmp_path, pool, video, monkeypatch, by_surface
):
    told = []

    def seen(output, clip, body, vertex_weights, config):
        told.append(vertex_weights)
        return video_losses(output, clip, body, vertex_weights, config)

    monkeypatch.setattr("flowhmr.training.loop.video_losses", seen)
    run(replace(BOTH, steps=1, by_surface=by_surface), tmp_path, pool, video)
    weights = surface_weights(open_body())
    assert torch.equal(told[0], weights if by_surface else torch.ones_like(weights))


def test_surface_weights_sum_to_the_surface():
    body = open_body()
    weights = surface_weights(body)
    assert weights.mean() == pytest.approx(1.0, abs=1e-4)
    assert (weights > 0).all()
    head = body.vertex_parts == 15
    assert weights[head].mean() < 0.6


def test_where_body_reads_the_surface_map():
    surface = torch.full((1, 4, 6, 6), -3.0)
    surface[0, 3, 2:4, 1:3] = 3.0  # cells of 8 px: x 8..24, y 16..32
    points = torch.tensor([[[16.0, 24.0], [40.0, 24.0], [16.0, 4.0], [-5.0, 24.0]]])
    assert where_body(surface, points, 48).tolist() == [[True, False, False, False]]


def test_a_vertex_on_another_limb_is_not_on_its_part():
    """The map sees the rest pose's lowest corner everywhere: a vertex is there or elsewhere."""
    rest_m = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0], [-0.9, -1.0, -1.0]])
    surface = torch.zeros(1, 4, 6, 6)
    surface[:, 3] = 3.0
    points = torch.full((1, 3, 2), 24.0)
    assert where_body(surface, points, 48, rest_m, 0.2).tolist() == [[True, False, True]]
    assert where_body(surface, points, 48, rest_m, 0.05).tolist() == [[True, False, False]]
    assert where_body(surface, points, 48, rest_m, 0.0).all()


def test_fixed_levels_stay_as_they_are_and_the_rest_learns(tmp_path, pool, video):
    start = network()
    after = run(replace(BOTH, fixed_levels=2, frozen=True), tmp_path, pool, video, start)
    fixed = {id(p) for p in start.backbone.early(2)}
    moved = {
        name: not torch.equal(p, dict(after.named_parameters())[name])
        for name, p in start.named_parameters()
    }
    early = {name for name, p in start.named_parameters() if id(p) in fixed}
    assert early
    assert not any(moved[name] for name in early)
    assert all(moved[name] for name in moved if name.startswith("regressor.layers"))
    assert any(moved[name] for name in moved if name.startswith("backbone.") and name not in early)


def test_flow_counts_only_where_the_network_sees_a_body(pool, video):
    """With a surface map that sees nobody, every pair is dropped; without the rule none is."""
    start = network(maps=True).eval()
    _, pairs = data(replace(BOTH, steps=1), pool, video)
    clip = pairs[0]
    with torch.no_grad():
        output = start(clip.frames.flatten(0, 1))
    nobody = replace(output, surface=torch.full_like(output.surface, -1.0))
    weights = surface_weights(open_body())
    kept = {
        on_body: video_terms(nobody, clip, open_body(), weights, replace(BOTH, on_body=on_body))
        for on_body in (True, False)
    }
    assert not kept[True].kept.any()
    assert kept[False].kept.all()


def test_the_flow_loss_is_that_of_the_image_wherever_the_crops_are(pool, video):
    """The same bodies of the image, seen in other crops: the same loss."""
    _, pairs = data(replace(BOTH, steps=1), pool, video)
    clip, body = pairs[0], open_body()
    weights = surface_weights(body)
    with torch.no_grad():
        output = network().eval()(clip.frames.flatten(0, 1))
    zoom, shift = torch.tensor([[0.9, 1.2]]), torch.tensor([[[0.1, -0.05], [-0.08, 0.02]]])
    side_px = clip.crop.side_px * zoom
    moved = replace(clip, crop=replace(
        clip.crop, side_px=side_px, centre_px=clip.crop.centre_px + shift * side_px[..., None]
    ))  # fmt: skip
    camera = output.estimate.camera
    zoom, shift = zoom.repeat(2, 1).flatten()[:, None], shift.repeat(2, 1, 1).flatten(0, 1)
    own = WeakCamera(torch.cat([camera.scale[:, None] / zoom, camera.shift / zoom - 2 * shift], 1))
    there = replace(output, estimate=replace(output.estimate, camera=own))
    expected = video_terms(output, clip, body, weights, BOTH)
    found = video_terms(there, moved, body, weights, BOTH)
    assert expected.flow.min() > 0
    assert_close(found.flow, expected.flow, rtol=1e-3, atol=1e-5)
    assert not torch.isclose(
        video_terms(output, moved, body, weights, BOTH).flow, expected.flow
    ).any()


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
def test_frozen_leaves_batch_norm_as_it_was_in_the_labelled_pass_too(tmp_path, pool, video, frozen):
    start = network()
    config = replace(BOTH, frozen=frozen, optimiser=OptimiserConfig(1e-3))
    after = run(config, tmp_path, pool, video, start).state_dict()
    before = start.state_dict()
    statistics = [k for k in before if "running" in k]
    assert statistics
    assert all(torch.equal(after[k], before[k]) for k in statistics) == frozen
    assert any(not torch.equal(after[k], before[k]) for k in before if k not in statistics)
