"""Two processes on one machine, joined by gloo, as torchrun would start them."""

import os
import socket
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

PATIENCE_S = 540.0


def on_two(work: Callable[..., Any], folder: Path, *arguments: Any) -> list[Any]:
    """What ``work(*arguments)`` returns in each of two joined processes.

    Args:
        work: a function of a module, so that the processes find it.
        folder: for what they return.
        arguments: of the function; pickled.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(["flowhmr.training"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = [
        context.Process(target=_one, args=(rank, port, folder, work, arguments))
        for rank in range(2)
    ]
    for process in running:
        process.start()
    for process in running:
        process.join(PATIENCE_S)
    for process in running:
        if process.exitcode is None:
            process.kill()
    assert [process.exitcode for process in running] == [0, 0]
    return [torch.load(_result(folder, rank), weights_only=False) for rank in range(2)]


def _result(folder: Path, rank: int) -> Path:
    return folder / f"returned-{rank}.pt"


def _one(rank: int, port: int, folder: Path, work: Callable[..., Any], arguments: Any) -> None:
    os.environ |= {
        "RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}",
    }  # fmt: skip
    torch.set_num_threads(1)
    from flowhmr.distributed import joined

    try:
        with joined():
            torch.save(work(*arguments), _result(folder, rank))
    except BaseException:
        traceback.print_exc()
        os._exit(1)  # the other one must not wait
