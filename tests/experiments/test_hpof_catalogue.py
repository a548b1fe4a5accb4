"""The runs and the table of HPOF: what differs between them, and that they can be run."""

import json
from dataclasses import replace

import pytest
import torch

from flowhmr.experiments import Lab, TrainTemporal, perform_all
from flowhmr.experiments.hpof import FULL, LIGHT, RUNS, TABLES
from flowhmr.experiments.lab import NETWORK, SCORES, differences, plain
from flowhmr.networks import BASELINE, HpofConfig, MotionDiscriminatorConfig, load_hmr
from flowhmr.training import with_hpof_losses

TRAINED = {name: task for name, task in RUNS.items() if isinstance(task, TrainTemporal)}
POOLED, ACCELERATION = "network.pooled", "train.acceleration.acceleration"
REALISM, RASTER = "train.realism.realism", "train.raster.raster_flow"
STEPS = (
    ("hpof-poses", "hpof-shape", {POOLED}),
    ("hpof-shape", "hpof-acceleration", {ACCELERATION}),
    ("hpof-acceleration", "hpof-discriminator", {REALISM}),
    ("hpof-discriminator", FULL, {RASTER}),
    ("hpof-no-shape", FULL, {POOLED}),
    ("hpof-gru", FULL, {"network.smoother"}),
    ("hpof-gru-3", "hpof-gru", {"network.layers"}),
    ("hpof-transformer", FULL, {"network.smoother"}),
    ("hpof-1-block", "hpof-discriminator", {"network.blocks"}),
    ("hpof-3-blocks", "hpof-discriminator", {"network.blocks"}),
)


def test_every_run_is_shown():
    shown = {row.run for table in TABLES.values() for row in table.rows}
    assert shown == {*RUNS, "shipped"}


@pytest.mark.parametrize(("one", "other", "changed"), STEPS)
def test_rows_differ_in_what_they_are_called_by_alone(one, other, changed):
    found = differences(RUNS[one], plain(RUNS[other]))
    assert set(found) == {f"config.{part}" for part in changed}


def test_the_whole_has_the_papers_weights():
    config = TRAINED[FULL].config
    assert with_hpof_losses(config) == config
    for task in TRAINED.values():
        assert not {"val", "test"} & set(task.config.video.splits)
        assert task.config.start == "", "over the shipped network"


def test_every_network_can_be_built():
    hmr = load_hmr(BASELINE)
    for task in TRAINED.values():
        network = task.config.network
        built = network.build(hmr)
        assert built.frames == network.window - 1 + LIGHT.frames
        # Windows may begin before the first frame: clips are as short as they are.
        assert task.config.video.frames + built.beyond[0] >= built.frames


@pytest.mark.slow
def test_a_run_with_all_losses_from_clips_to_scores(tmp_path, monkeypatch):
    config = TRAINED[FULL].config
    network = HpofConfig(frames=6, blocks=1, width=8)
    train = replace(
        config.train, steps=2, batch=2, checkpoint_every=1, log_every=1,
        discriminator=MotionDiscriminatorConfig(hidden=8),
    )  # fmt: skip
    video = replace(config.video, splits=("studio",), count=1)
    runs = {"hpof": TrainTemporal(replace(config, network=network, video=video, train=train))}
    lab, said = Lab(tmp_path / "runs", tmp_path / "cache", torch.device("cpu")), []
    few = Lab.video
    monkeypatch.setattr(Lab, "video", lambda self, split: few(self, split)[:1])
    monkeypatch.setattr(Lab, "store", lambda self, split: one_clip(split, self.cache))
    perform_all(lab, runs, [0], runs, said.append)
    folder = lab.folder("hpof", 0)
    scores = json.loads((folder / SCORES).read_text())["results"]["test"]["metrics"]
    assert (folder / NETWORK).exists()
    assert 20 < scores["pa_mpjpe"] < 500
    assert len(list((tmp_path / "cache" / "links").iterdir())) == 1
    header, *rows = (folder / "losses.csv").read_text().splitlines()
    assert {"acceleration", "realism", "told_apart", "raster_flow"} <= set(header.split(","))
    assert len(rows) == 2


def one_clip(split, cache):
    from flowhmr.synth import ClipStore, split_spec

    return ClipStore(split_spec(split), cache, count=1, workers=1)


def test_receptive_fields_are_the_papers():
    frames = [TRAINED[row.run].config.network.window for row in TABLES["hpof-frames"].rows]
    assert frames == [9, 27, 81]
