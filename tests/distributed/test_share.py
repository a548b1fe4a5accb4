"""Shares: together they are the whole, each part once; in a process alone nothing happens."""

from itertools import chain

import pytest
import torch
from torch import nn

from flowhmr.distributed import (
    Share,
    average_gradients,
    in_shares,
    joined,
    leave,
    mean_of,
    own_rows,
    this_share,
    whole_batch,
)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("items", [0, 1, 7, 24])
def test_every_item_is_in_one_share(count, items):
    parts = [Share(index, count).of(range(items)) for index in range(count)]
    assert sorted(chain(*parts)) == list(range(items))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_rows_of_all_shares_are_the_batch_in_order(count):
    rows = [Share(index, count).rows(24) for index in range(count)]
    assert list(chain(*rows)) == list(range(24))
    assert len(set(map(len, rows))) == 1


@pytest.mark.parametrize(("batch", "remedy"), [(10, "9 or 12"), (2, "set it to 3")])
def test_a_batch_that_does_not_divide_says_what_would(batch, remedy):
    with pytest.raises(ValueError, match=rf"train.batch: got {batch} .* 3 processes.*{remedy}"):
        Share(1, 3).rows(batch, "train.batch")


@pytest.mark.parametrize("share", [(1, 1), (-1, 2), (0, 0)])
def test_no_such_share(share):
    with pytest.raises(ValueError, match="expected a number from 0"):
        Share(*share)


def test_alone_nothing_happens(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    made = []
    with joined() as share, whole_batch():
        assert share == this_share() == Share()
        in_shares(range(3), made.append)
        parameter = nn.Parameter(torch.ones(2))
        parameter.grad = torch.tensor([1.0, 2.0])
        average_gradients([parameter])
        assert mean_of({"loss": 2.0}) == {"loss": 2.0}
        assert torch.equal(own_rows(parameter.grad), torch.tensor([1.0, 2.0]))
        assert leave()
    assert made == [[0, 1, 2]]
