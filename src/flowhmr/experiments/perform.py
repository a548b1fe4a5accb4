"""Run what was asked for, and what that needs, seed by seed or several runs at once."""

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import cv2
import torch

from flowhmr.experiments.lab import NETWORK, Lab, Results, Task
from flowhmr.synth import SizeName

OUTPUT = "output.txt"
"""What a run says while others run beside it."""


@dataclass(frozen=True)
class Job:
    """One run of one seed that is to be done."""

    name: str
    """Of the run."""
    seed: int
    """Of the run."""
    task: Task
    """What it does."""

    def __str__(self) -> str:
        return f"{self.name}, seed {self.seed}"


def in_order(wanted: Iterable[str], runs: Mapping[str, Task]) -> list[str]:
    """Names of runs, each once and after those whose networks it starts from.

    Raises:
        ValueError: a run is asked for or needed that there is not, or one needs itself.
    """
    order: list[str] = []

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in order:
            return
        if name not in runs:
            by = f"needed by {above[-1]!r}" if above else "asked for"
            raise ValueError(
                f"run {name!r}: got no such run, {by}; expected one of {', '.join(runs)}"
            )
        if name in above:
            circle = " -> ".join((*above[above.index(name) :], name))
            raise ValueError(
                f"run {name!r}: got a circle ({circle}, each starts from the next); expected runs "
                "that start from others; change what one of them starts from"
            )
        for needed in runs[name].needs:
            visit(needed, (*above, name))
        order.append(name)

    for name in wanted:
        visit(name, ())
    return order


def perform_all(
    lab: Lab,
    wanted: Iterable[str],
    seeds: Iterable[int],
    runs: Mapping[str, Task],
    say: Callable[[str], None],
    at_once: int = 1,
) -> None:
    """Perform runs for each seed; one that is done is left alone.

    A network that a run starts from is trained again where only its scores are left (a fresh
    checkout keeps scores, not networks), and so is what that one starts from.

    Args:
        lab: where.
        wanted: names of runs.
        seeds: which; all runs of one seed come before those of the next, unless they have to wait.
        runs: what they are.
        say: told what was done.
        at_once: how many runs, each in a process of its own that has its share of the cores and
            writes what it says into `OUTPUT` in its folder. The small networks of the benchmark
            keep one core busy, not two.

    Raises:
        ValueError: no such run, or a folder that holds results of other settings.
        ChildProcessError: the system ended one of the processes.
    """
    order = in_order(wanted, runs)
    for name in order:
        # Tables show every seed that is there.
        for seed in lab.seeds(name):
            lab.check(name, runs[name], seed)
    jobs = [job for seed in seeds for job in _to_do(lab, order, seed, runs)]
    began = time.monotonic()

    def done(job: Job, results: Results, number: int) -> None:
        left = (time.monotonic() - began) / number * (len(jobs) - number) / 60
        ends = f", about {left:.0f} min left" if number < len(jobs) else ""
        say(f"{job}: {_brief(results)} ({number} of {len(jobs)}{ends})")

    if at_once > 1 and len(jobs) > 1:
        _perform_at_once(lab, jobs, done, min(at_once, len(jobs)))
        return
    for number, job in enumerate(jobs, 1):
        done(job, lab.perform(job.name, job.task, job.seed)["results"], number)


def _to_do(lab: Lab, order: list[str], seed: int, runs: Mapping[str, Task]) -> list[Job]:
    for name in order:
        lab.check(name, runs[name], seed)
    # From the last back to what they start from.
    starts: set[str] = set()
    for name in reversed(order):
        if name in starts and not (lab.folder(name, seed) / NETWORK).exists():
            lab.forget(name, seed)
        if not lab.finished(name, seed):
            starts.update(runs[name].needs)
    return [Job(name, seed, runs[name]) for name in order if not lab.finished(name, seed)]


def _perform_at_once(
    lab: Lab, jobs: list[Job], done: Callable[[Job, Results, int], None], at_once: int
) -> None:
    threads = max(torch.get_num_threads() // at_once, 1)
    waiting, running, number = list(jobs), dict[Future, Job](), 0
    with ProcessPoolExecutor(at_once, get_context("spawn"), _begin, (threads,)) as pool:
        try:
            while waiting or running:
                undone = {(j.name, j.seed) for j in (*waiting, *running.values())}
                for job in list(waiting):
                    free = not any((need, job.seed) in undone for need in job.task.needs)
                    if free and len(running) < at_once:
                        waiting.remove(job)
                        place = (lab.runs, lab.cache, str(lab.device), lab.size)
                        running[pool.submit(_perform, place, job)] = job
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    job, number = running.pop(future), number + 1
                    done(job, future.result(), number)
        except BrokenProcessPool as error:
            raise ChildProcessError(
                f"got a process ended by the system while {at_once} runs were done at once; "
                "expected all to live (three gigabytes of memory each); start the same command "
                "again with fewer --jobs: it goes on where this one ended"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _begin(threads: int) -> None:
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


@lru_cache(maxsize=1)
def _lab(runs: Path, cache: Path, device: str, size: SizeName) -> Lab:
    """Of this process: what one run has loaded, the next one has."""
    return Lab(runs, cache, torch.device(device), size, _print)


def _perform(place: tuple[Path, Path, str, SizeName], job: Job) -> Results:
    lab = _lab(*place)
    folder = lab.folder(job.name, job.seed)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / OUTPUT).open("a") as file, redirect_stdout(file), redirect_stderr(file):
        return lab.perform(job.name, job.task, job.seed)["results"]


def _print(what: str, done: int, total: int) -> None:
    if done == total or done % 40 == 0:
        print(f"{what}: {done} of {total}", flush=True)


def _brief(results: Results) -> str:
    shown = []
    for split, scores in results.items():
        metrics = scores.get("metrics", {}) if isinstance(scores, dict) else {}
        if "pa_mpjpe" in metrics:
            shown.append(
                f"{split} PA-MPJPE {metrics['pa_mpjpe']:.1f} mm, "
                f"accel. error {metrics['accel_error']:.1f} mm/frame²"
            )
    return "; ".join(shown) or "done"
