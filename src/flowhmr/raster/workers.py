"""Splitting a batch of meshes over threads."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch


def over_batch(count: int, work: Callable[[int, int], None]) -> None:
    """Call ``work(first, last)`` on slices that make up ``range(count)``, at most one a thread.

    Uses up to ``torch.get_num_threads()`` threads; ``work`` must release the GIL to gain from
    them. One slice runs in the caller's thread, without a pool.
    """
    threads = torch.get_num_threads()
    slices = min(count, threads)
    if slices <= 1:
        work(0, count)
        return
    bounds = [count * i // slices for i in range(slices + 1)]
    for _ in _pool(os.getpid(), threads).map(work, bounds[:-1], bounds[1:]):
        pass


@lru_cache(maxsize=1)
def _pool(pid: int, threads: int) -> ThreadPoolExecutor:
    """The pool of this process: a forked child inherits its parent's without the threads."""
    return ThreadPoolExecutor(threads, thread_name_prefix=f"raster-{pid}")
