"""kill -9 at the worst moments of a run: what is begun again ends as if nothing had happened."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SCRIPT = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
import torch
import flowhmr.data.features as features
from flowhmr.experiments import Lab, TrainTemporal, perform_all
from flowhmr.networks import TcmrConfig
from flowhmr.synth import ClipStore, split_spec
from flowhmr.training import OptimiserConfig, TemporalLoopConfig, light_temporal
from flowhmr.training.state import LoopState

folder, moment = Path(sys.argv[1]), sys.argv[2]
write, save, update = features.save_file, LoopState.save, LoopState.update
shards, updates = [], []

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def writing(tensors, path):
    shards.append(path)
    write(tensors, path)
    if moment == "features" and len(shards) == 3:
        whole = Path(path).read_bytes()
        Path(path).write_bytes(whole[: len(whole) // 2])
        die()

def saving(self, path, step):
    save(self, path, step)
    if moment == "checkpoint" and step == 4:
        die()

def updating(self, loss):
    done = update(self, loss)
    updates.append(loss)
    if moment == "step" and len(updates) == 3:
        die()
    return done

features.save_file, LoopState.save, LoopState.update = writing, saving, updating
video = Lab.video
Lab.video = lambda self, split: video(self, split)[:1]
Lab.store = lambda self, split: ClipStore(split_spec(split), self.cache, count=1, workers=1)
config = light_temporal(TcmrConfig(frames=6, hidden=8))
loop = TemporalLoopConfig(
    steps=5, batch=2, workers=0, threads=1, checkpoint_every=2, log_every=1,
    optimiser=OptimiserConfig(1e-3, average=0.9, decay=2), anchor=config.train.anchor,
)
clips = replace(config.video, splits=("studio",), count=2)
runs = {"tcmr": TrainTemporal(replace(config, video=clips, train=loop))}
lab = Lab(folder / "runs", folder / "cache", torch.device("cpu"))
perform_all(lab, runs, [0], runs, print)
print("shards", len(shards), "updates", len(updates))
"""


def begin(folder: Path, moment: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", SCRIPT, str(folder), moment]
    return subprocess.run(words, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs kill -9")
def test_killed_in_features_steps_and_checkpoints_a_run_ends_as_it_would_have(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = begin(whole, "never")
    assert done.returncode == 0, done.stderr
    # Two clips and their occluded copies, one clip to score on.
    assert "shards 5 updates 5" in done.stdout
    for moment in ("features", "step", "checkpoint"):
        stopped = begin(killed, moment)
        assert stopped.returncode == -signal.SIGKILL, stopped.stderr
        assert not (killed / "runs" / "tcmr" / "seed-0" / "scores.json").exists()
    last = begin(killed, "never")
    assert last.returncode == 0, last.stderr
    # Steps 3 and 4 were done after the checkpoint at 2, whose successor was not finished.
    assert "shards 1 updates 3" in last.stdout
    one, other = (folder / "runs" / "tcmr" / "seed-0" for folder in (whole, killed))
    networks = [load_file(at / "network.safetensors") for at in (one, other)]
    assert networks[0].keys() == networks[1].keys()
    assert all(torch.equal(networks[0][k], networks[1][k]) for k in networks[0])
    scores = [json.loads((at / "scores.json").read_text())["results"] for at in (one, other)]
    assert scores[0] == scores[1]
    assert rows(one) == rows(other)
    features = [
        {
            path.name: load_file(path)["features"]
            for path in (at / "cache/features").glob("*.safetensors")
        }
        for at in (whole, killed)
    ]
    assert features[0].keys() == features[1].keys()
    assert all(torch.equal(features[0][k], features[1][k]) for k in features[0])


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "losses.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
