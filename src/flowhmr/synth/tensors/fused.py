"""Chains of small tensor operations as few kernels: PyTorch's compiler, where it is asked for.

Operation by operation a clip is some 1,600 kernels that write and read some 30 GB at 224 px; most
of both is between operations on the same pixel.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")

_IS_FUSING: ContextVar[bool] = ContextVar("is_fusing", default=False)


@contextmanager
def fusing(wanted: bool = True) -> Iterator[None]:
    """Within, functions that are `fusible` run compiled; the first time that takes a minute."""
    token = _IS_FUSING.set(wanted)
    try:
        yield
    finally:
        _IS_FUSING.reset(token)


def is_fusing() -> bool:
    """Whether `fusible` functions run compiled here."""
    return _IS_FUSING.get()


def fusible(function: Callable[P, R]) -> Callable[P, R]:
    """A function of tensors that reads nothing back from the device.

    What it branches on must not be a number that changes: with dynamic shapes the compiler takes
    such numbers for unknowns.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if not is_fusing():
            return function(*args, **kwargs)
        return _compiled(function)(*args, **kwargs)

    return run


@lru_cache(maxsize=64)
def _compiled(function: Callable[P, R]) -> Callable[P, R]:
    return torch.compile(function, dynamic=True)
