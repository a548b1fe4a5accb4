"""The runs and tables of TCMR: what differs between them, and that they can be run."""

import json
from dataclasses import replace

import pytest
import torch

from flowhmr.experiments import FilterTemporal, Lab, TrainTemporal, markdown, perform_all
from flowhmr.experiments.lab import NETWORK, SCORES, differences, plain
from flowhmr.experiments.temporal import FULL, RUNS, TABLES
from flowhmr.networks import BASELINE, TcmrConfig, VibeConfig, load_hmr, load_temporal
from flowhmr.training import CHECKPOINT, TemporalLoopConfig, light_temporal

TRAINED = {name: task for name, task in RUNS.items() if isinstance(task, TrainTemporal)}
CHANGED = {
    "tcmr-residual": {"residual"},
    "tcmr-no-forecast": {"forecast"},
    "tcmr-residual-no-forecast": {"residual", "forecast"},
    "tcmr-sees-current": {"sees_current"},
    "tcmr-supervised-own": {"supervised"},
    "tcmr-supervised-none": {"supervised"},
}


def test_every_run_is_shown():
    shown = {row.run for table in TABLES.values() for row in table.rows}
    assert shown == {*RUNS, "shipped", "hpof-full"}


@pytest.mark.parametrize("name", CHANGED)
def test_an_ablation_is_what_its_name_says_and_nothing_else(name):
    found = differences(TRAINED[name], plain(RUNS[FULL]))
    assert set(found) == {f"config.network.{part}" for part in CHANGED[name]}


def test_rows_differ_in_their_network_alone():
    for name, task in TRAINED.items():
        assert replace(task.config, network=TRAINED[FULL].config.network) == TRAINED[FULL].config
        assert not {"val", "test"} & set(task.config.video.splits), name
        assert task.config.start == "", "features of the shipped network"
        task.config.video.specs()
    filtered = {n: t for n, t in RUNS.items() if isinstance(t, FilterTemporal)}
    assert {n: (t.start, t.by) for n, t in filtered.items()} == {
        "tcmr-filter": (FULL, "average"),
        "vibe-filter": ("vibe", "average"),
        "shipped-filter": ("", "average"),
        "shipped-one-euro": ("", "one-euro"),
    }
    assert {n: t.needs for n, t in filtered.items()}["shipped-filter"] == ()


def test_every_network_can_be_built():
    hmr = load_hmr(BASELINE)
    for task in TRAINED.values():
        network = task.config.network
        built = network.build(hmr)
        assert built.frames == network.frames
        assert isinstance(built.beyond, tuple)


@pytest.mark.slow
def test_a_run_from_clips_to_a_table(tmp_path, monkeypatch):
    """Two steps and a filter over what they come to; what is done is not done again."""
    loop = TemporalLoopConfig(steps=2, batch=2, workers=0, checkpoint_every=1, log_every=1)
    runs = {}
    for name, network in (("tcmr-full", TcmrConfig(hidden=8)), ("vibe", VibeConfig(hidden=8))):
        config = light_temporal(network)
        video = replace(config.video, splits=("studio",), count=1)
        runs[name] = TrainTemporal(replace(config, video=video, train=loop))
    runs |= {"tcmr-filter": FilterTemporal("tcmr-full"), "vibe-filter": FilterTemporal("vibe")}
    runs |= {"shipped-filter": FilterTemporal(""), "one-euro": FilterTemporal("", "one-euro")}
    lab, said = Lab(tmp_path / "runs", tmp_path / "cache", torch.device("cpu")), []
    few = Lab.video
    monkeypatch.setattr(Lab, "video", lambda self, split: few(self, split)[:1])
    monkeypatch.setattr(Lab, "store", lambda self, split: one_clip(split, self.cache))
    perform_all(lab, runs, [0], runs, said.append)
    scores = {}
    for name in runs:
        folder = lab.folder(name, 0)
        scores[name] = json.loads((folder / SCORES).read_text())["results"]["test"]["metrics"]
        assert not (folder / CHECKPOINT).exists()
        assert (folder / NETWORK).exists() == (name in ("tcmr-full", "vibe"))
        assert 20 < scores[name]["pa_mpjpe"] < 500
    assert scores["shipped-filter"] != scores["one-euro"]
    assert scores["vibe-filter"]["accel_error"] < scores["vibe"]["accel_error"]
    assert scores["vibe-filter"]["keypoints_px"] != scores["vibe"]["keypoints_px"]
    assert load_temporal(lab.folder("vibe", 0) / NETWORK).config == runs["vibe"].config.network
    count = len(said)
    perform_all(lab, runs, [0], runs, said.append)
    assert len(said) == count
    text = markdown(TABLES["tcmr-systems"], lab, "command")
    assert f"{scores['tcmr-full']['pa_mpjpe']:.1f} (1 seed)" in text


def one_clip(split, cache):
    from flowhmr.synth import ClipStore, split_spec

    return ClipStore(split_spec(split), cache, count=1, workers=1)
