"""Several runs at once, each in a process of its own: real processes."""

import os
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from flowhmr.experiments import Lab, perform_all
from flowhmr.experiments.lab import NETWORK
from flowhmr.experiments.perform import OUTPUT


@dataclass(frozen=True)
class Fake:
    start: str = ""
    end: str = "well"

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.start,) if self.start else ()

    def run(self, lab: Lab, folder, seed: int) -> dict[str, Any]:
        for name in self.needs:
            assert (lab.folder(name, seed) / NETWORK).exists(), f"{name} is not there"
        with (lab.runs / "log").open("a") as log:
            log.write(f"{folder.parent.name}/{seed}\n")
        if self.end == "error":
            raise RuntimeError("power cut")
        if self.end == "killed":
            os._exit(1)
        print("on", lab.device, "with", torch.get_num_threads(), "threads")
        lab.on_progress("guessing", 40, 100)
        (folder / NETWORK).write_text("weights")
        metrics = {"pa_mpjpe": 1.0 + seed, "accel_error": os.getpid()}
        return {"test": {"metrics": metrics, "per_clip": {}}}


CHAIN = {"a": Fake(), "b": Fake("a"), "c": Fake("b"), "other": Fake()}


def perform(lab: Lab, *wanted: str, seeds=(0,), runs=CHAIN) -> list[str]:
    said: list[str] = []
    perform_all(lab, wanted, seeds, runs, said.append, at_once=2)
    return said


def done(lab: Lab) -> list[str]:
    return (lab.runs / "log").read_text().split()


def test_all_is_done_once_and_after_what_it_needs(lab):
    said = perform(lab, "c", "other", seeds=(0, 1))
    order = done(lab)
    assert sorted(order) == [f"{n}/{s}" for n in ("a", "b", "c", "other") for s in (0, 1)]
    for seed in (0, 1):
        assert order.index(f"a/{seed}") < order.index(f"b/{seed}") < order.index(f"c/{seed}")
    assert len(said) == 8
    assert said[-1].endswith("(8 of 8)")
    pids = {
        lab.perform(n, CHAIN[n], s)["results"]["test"]["metrics"]["accel_error"]
        for n in CHAIN
        for s in (0, 1)
    }
    assert os.getpid() not in pids
    assert len(pids) <= 2
    threads = max(torch.get_num_threads() // 2, 1)
    text = (lab.folder("c", 1) / OUTPUT).read_text()
    assert text == f"on cpu with {threads} threads\nguessing: 40 of 100\n"
    assert perform(lab, "c", "other", seeds=(0, 1)) == []


def test_an_error_ends_it_and_what_is_done_stays(lab):
    broken = CHAIN | {"b": Fake("a", "error")}
    with pytest.raises(RuntimeError, match="power cut"):
        perform(lab, "c", "other", runs=broken)
    assert lab.finished("a", 0)
    assert lab.finished("other", 0)
    assert not lab.finished("b", 0)
    assert "c/0" not in done(lab)


def test_a_process_that_the_system_ended_is_told_with_the_remedy(lab):
    runs = CHAIN | {"b": Fake("a", "killed")}
    with pytest.raises(ChildProcessError, match=r"got a process ended .*; expected .*fewer --jobs"):
        perform(lab, "b", runs=runs)
    assert lab.finished("a", 0)
