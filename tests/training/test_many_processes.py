"""The same run on one process and on two; what happens when one of two is killed."""

import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import BOTH, network, run
from torch import Tensor

from flowhmr.body import open_body
from flowhmr.data import AugmentConfig, PseudoBatches, StillBatches
from flowhmr.data.pseudo import OwnVideo
from flowhmr.losses import AnchorWeights
from flowhmr.records import Sequence
from flowhmr.synth import ClipConfig, PoolConfig, StillConfig, StillPool, render_clip
from flowhmr.training.adapt import BothBatches
from flowhmr.training.loop import check_shares
from two_processes import on_two

POOL = PoolConfig(StillConfig(size_px=64), count=32, backgrounds=4, chunk=32)
STEPS = 3
KINDS = {
    # Batch norm learns its statistics, dropout drops half.
    "pretrain": replace(BOTH, steps=STEPS, pairs=0),
    "refine": replace(
        BOTH, steps=STEPS, batch=2, pairs=4, frozen=True, anchor=AnchorWeights(1.0, 1.0, 1.0)
    ),
}

SMALL = {
    "network.backbone.name": "mobilenetv3_small_050", "network.backbone.size-px": 48,
    "network.hidden": 32, "network.dropout": 0.5, "pool.stills.size-px": 64, "pool.count": 32,
    "pool.backgrounds": 4, "pool.chunk": 32, "train.steps": 8, "train.batch": 4,
    "train.workers": 0, "train.precision": "float32", "train.checkpoint-every": 2,
    "train.log-every": 1, "train.optimiser.warmup": 2, "train.optimiser.decay": 2,
}  # fmt: skip
FLAGS = [f"--config.{name}={value}" for name, value in SMALL.items()] + ["--device=cpu"]


def trained(kind: str, folder: Path, pool: StillPool, video: list[Sequence]) -> dict[str, Any]:
    """Weights and rows of a run, as the process sees them at its end."""
    found = run(KINDS[kind], folder / kind, pool, video)
    return {"weights": found.state_dict(), "wrote": (folder / kind / "losses.csv").exists()}


def on_this_process(folder: Path, pools: Path) -> dict[str, Any]:
    pool = StillPool(POOL, pools, workers=1)
    video = [render_clip(ClipConfig(frames=5, size_px=96), 0, open_body())]
    found: dict[str, Any] = {kind: trained(kind, folder, pool, video) for kind in KINDS}
    for name, config in (
        ("odd stills", replace(BOTH, batch=5)),
        ("odd pairs", replace(BOTH, pairs=3)),
    ):
        try:
            check_shares(config)
        except ValueError as error:
            found[name] = str(error)
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory, pool, video) -> tuple[Path, dict[str, Any], list[dict[str, Any]]]:
    """Folder, result of one process, results of two."""
    folder = tmp_path_factory.mktemp("runs")
    pools = pool.folder.parent
    one = {kind: trained(kind, folder / "one", pool, video) for kind in KINDS}
    return folder, one, on_two(on_this_process, folder, folder / "two", pools)


def movement(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """How far two states are apart."""
    return float(sum((a[k].double() - b[k].double()).square().sum() for k in a).sqrt())


def rows(folder: Path) -> list[list[float]]:
    head, *lines = (folder / "losses.csv").read_text().splitlines()
    keep = [i for i, name in enumerate(head.split(",")) if name != "seconds"]
    return [[float(line.split(",")[i]) for i in keep] for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_do_what_one_does(runs, kind):
    folder, one, two = runs
    start = network().state_dict()
    moved = movement(one[kind]["weights"], start)
    assert moved > 0.01
    first, second = (each[kind]["weights"] for each in two)
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert movement(first, one[kind]["weights"]) < 0.01 * moved
    expected, found = rows(folder / "one" / kind), rows(folder / "two" / kind)
    assert len(found) == STEPS
    for a, b in zip(found, expected, strict=True):
        assert a == pytest.approx(b, rel=2e-3, abs=1e-4)


@pytest.mark.slow
def test_a_batch_that_does_not_divide_is_refused_before_anything_is_prepared(runs):
    for each in runs[2]:
        assert "train.batch: got 5" in each["odd stills"]
        assert "4 or 6" in each["odd stills"]
        assert "train.pairs: got 3" in each["odd pairs"]


def test_shares_of_two_sets_are_the_batch(pool, video):
    """Also the share in which one set ends and the other begins."""
    own = [OwnVideo(video[0], torch.ones(len(video[0])))]
    first = PseudoBatches(own, open_body(), 48, 2, AugmentConfig(), 0, 2)
    both = BothBatches(first, StillBatches(pool, 48, 4, AugmentConfig(), 0, 2))
    assert (both.batch, len(both)) == (6, 2)
    parts = [both.samples(1, range(k, k + 2)).frames for k in (0, 2, 4)]
    across = both.samples(1, range(1, 4)).frames
    assert torch.equal(torch.cat(parts), both[1].frames)
    assert torch.equal(across, both[1].frames[1:4])


@pytest.mark.slow
def test_one_of_two_is_killed_and_the_run_ends_as_it_would_have(tmp_path, pool):
    """A real SIGKILL; torchrun starts both again and they go on from the checkpoint."""
    job = tmp_path / "job.py"
    job.write_text(
        textwrap.dedent(
            """
            import os, signal, sys, threading, time
            from pathlib import Path

            def end_soon(folder):
                while not (folder / "checkpoint.safetensors").exists():
                    time.sleep(0.01)
                (folder / "killed").touch()
                os.kill(os.getpid(), signal.SIGKILL)

            if __name__ == "__main__":  # the processes that prepare data read this file too
                begun, share = os.environ.get("TORCHELASTIC_RESTART_COUNT"), os.environ.get("RANK")
                if begun == "0" and share == "1":
                    folder = Path(sys.argv[sys.argv.index("--run") + 1])
                    threading.Thread(target=end_soon, args=[folder], daemon=True).start()
                from flowhmr.cli import main

                sys.exit(main(sys.argv[1:]))
            """
        )
    )
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}

    def start(name: str, *how: str) -> Path:
        folder = tmp_path / name
        given = ["--run", str(folder), "--cache", str(pool.folder.parent), *FLAGS]
        command = [sys.executable, *how, str(job), "pretrain", *given]
        done = subprocess.run(
            command,
            check=False,
            env=environment | {"OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return folder

    # "--": torchrun would take our --run for an abbreviation of a flag of its own.
    whole, killed = start("whole"), start("killed", *launcher, "--max-restarts", "1", "--")
    assert (killed / "killed").exists()
    found, expected = rows(killed), rows(whole)
    assert [row[0] for row in found] == [1, 2, 3, 4, 5, 6, 7, 8]
    for a, b in zip(found, expected, strict=True):
        assert a == pytest.approx(b, rel=5e-3, abs=1e-3)
    assert (killed / "network.safetensors").exists()
    assert sorted(p.name for p in killed.iterdir() if p.name != "killed") == sorted(
        p.name for p in whole.iterdir()
    )
