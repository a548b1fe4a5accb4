"""One run on many processes: who this is of how many, shares of work, sums over all of them.

Everything here does nothing at all in a process that is alone.
"""

from flowhmr.distributed.group import (
    asked_share,
    average_gradients,
    broadcast,
    first_before_others,
    in_shares,
    is_first,
    joined,
    leave,
    local_index,
    mean_of,
    meet,
    require_same,
    this_share,
)
from flowhmr.distributed.share import Share
from flowhmr.distributed.whole_batch import own_rows, whole_batch

__all__ = [
    "Share",
    "asked_share",
    "average_gradients",
    "broadcast",
    "first_before_others",
    "in_shares",
    "is_first",
    "joined",
    "leave",
    "local_index",
    "mean_of",
    "meet",
    "own_rows",
    "require_same",
    "this_share",
    "whole_batch",
]
