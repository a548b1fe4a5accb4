"""The protocol of records: map, pick, collate."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from flowhmr.geometry import RecordError, collate, detach, map_tensors, pick, to_device


@dataclass(frozen=True, eq=False)
class Inner:
    points: Any
    unit: str


@dataclass(frozen=True, eq=False)
class Outer:
    values: Tensor
    inner: Inner
    extra: Inner | None
    size: int
    names: tuple[str, ...]


def outer(seed: int = 0, extra: bool = True) -> Outer:
    generator = torch.Generator().manual_seed(seed)
    inner = Inner(torch.randn(4, 3, generator=generator), "m")
    values = torch.randn(2, generator=generator)
    return Outer(values, inner, inner if extra else None, 5, ("a", "b"))


def test_map_reaches_each_tensor_and_nothing_else():
    before = outer(extra=False)
    after = map_tensors(before, lambda t: 2 * t)
    assert_close(after.values, 2 * before.values)
    assert_close(after.inner.points, 2 * before.inner.points)
    assert (after.extra, after.size, after.names, after.inner.unit) == (None, 5, ("a", "b"), "m")


@pytest.mark.parametrize("value", [{"values": torch.zeros(2)}, torch.zeros(2), Outer])
def test_map_asks_for_a_record(value):
    with pytest.raises(TypeError, match="expected a dataclass record"):
        map_tensors(value, lambda t: t)


def test_detach_cuts_the_graph_and_to_device_moves():
    record = map_tensors(outer(), lambda t: t.requires_grad_())
    assert not detach(record).inner.points.requires_grad
    moved = to_device(record, "meta")
    assert moved.values.device.type == moved.inner.points.device.type == "meta"


@pytest.mark.parametrize("extra", [False, True])
def test_pick_undoes_collate(extra):
    records = [outer(seed, extra) for seed in range(3)]
    batch = collate(records)
    assert batch.inner.points.shape == (3, 4, 3)
    assert (batch.extra is not None) == extra
    for i, record in enumerate(records):
        picked = pick(batch, i)
        assert_close(picked.values, record.values)
        assert_close(picked.inner.points, record.inner.points)
        assert (picked.size, picked.names, picked.inner.unit) == (5, ("a", "b"), "m")


def test_pick_takes_several():
    batch = collate([outer(seed) for seed in range(3)])
    assert_close(pick(batch, torch.tensor([2, 0])).values, batch.values[[2, 0]])


def test_collate_takes_numpy_arrays():
    arrays = [np.full((2, 3), i, np.float32) for i in range(3)]
    batch = collate([Inner(array, "m") for array in arrays])
    assert_close(batch.points, torch.from_numpy(np.stack(arrays)))


def test_collate_keeps_the_floating_type():
    assert collate([Inner(torch.zeros(1, dtype=torch.float64), "m")]).points.dtype == torch.float64


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ({"values": torch.zeros(3)}, r"Outer\.values: got shapes \[\(2,\), \(3,\)\]"),
        ({"inner": Inner(torch.zeros(4, 2), "m")}, r"Outer\.inner\.points: got shapes"),
        ({"inner": Inner(torch.zeros(4, 3), "mm")}, r"Outer\.inner\.unit: got different values"),
        ({"extra": None}, r"Outer\.extra: got Inner, NoneType"),
        ({"size": 6}, r"Outer\.size: got different values, 5"),
        ({"names": ("a",)}, r"Outer\.names: got different values"),
        ({"values": None}, r"Outer\.values: got NoneType, Tensor"),
    ],
)
def test_collate_names_the_field_that_does_not_fit(odd, message):
    with pytest.raises(RecordError, match=message):
        collate([outer(), outer(1), replace(outer(2), **odd)])


def test_collate_of_nothing():
    with pytest.raises(RecordError, match="got no records"):
        collate([])
