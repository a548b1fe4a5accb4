"""Masked and weighted means."""

import pytest
import torch
from torch.testing import assert_close

from flowhmr.geometry import masked_mean, weighted_mean

NAN, INF = float("nan"), float("inf")


def test_masked_mean_is_the_mean_of_what_is_kept():
    values = torch.arange(12.0).reshape(3, 4)
    mask = torch.tensor([[1, 0, 0, 1], [1, 1, 1, 1], [0, 0, 1, 0]], dtype=torch.bool)
    expected = torch.stack([row[keep].mean() for row, keep in zip(values, mask)])
    assert_close(masked_mean(values, mask, -1), expected)
    assert_close(masked_mean(values, mask, (0, 1)), values[mask].mean())


def test_a_mask_is_broadcast():
    values = torch.arange(24.0).reshape(2, 3, 4)
    mask = torch.tensor([True, False, True])[:, None]
    assert_close(masked_mean(values, mask, 1), values[:, [0, 2]].mean(1))
    assert_close(masked_mean(values, mask, (0, 1, 2)), values[:, [0, 2]].mean())


@pytest.mark.parametrize("poison", [NAN, INF, -INF])
@pytest.mark.parametrize("weighted", [False, True])
def test_what_is_left_out_does_not_get_through(weighted, poison):
    values = torch.tensor([1.0, poison, 3.0], requires_grad=True)
    mask = torch.tensor([True, False, True])
    mean = weighted_mean(values, mask.float(), 0) if weighted else masked_mean(values, mask, 0)
    assert mean == 2
    (gradient,) = torch.autograd.grad(mean, values)
    assert gradient.tolist() == [0.5, 0, 0.5]


@pytest.mark.parametrize("weighted", [False, True])
def test_of_nothing_the_mean_is_zero_and_so_is_its_gradient(weighted):
    values = torch.tensor([[1.0, NAN], [3.0, 5.0]], requires_grad=True)
    mask = torch.tensor([[False, False], [True, True]])
    mean = weighted_mean(values, mask.float(), 1) if weighted else masked_mean(values, mask, 1)
    assert mean.tolist() == [0, 4]
    (gradient,) = torch.autograd.grad(mean.sum(), values)
    assert gradient.tolist() == [[0, 0], [0.5, 0.5]]


def test_weighted_mean_is_the_weighted_mean():
    values, weights = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([1.0, 2.0, 1.0])
    assert weighted_mean(values, weights, 0) == pytest.approx(11 / 4)
    assert_close(weighted_mean(values, 5 * weights, 0), weighted_mean(values, weights, 0))


def test_weights_are_broadcast():
    values = torch.arange(6.0).reshape(2, 3)
    weights = torch.tensor([1.0, 0.0, 3.0])
    assert_close(weighted_mean(values, weights, 1), (values[:, 0] + 3 * values[:, 2]) / 4)


def test_gradients():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(2, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(2, 4, generator=generator, dtype=torch.float64).requires_grad_()
    mask = torch.tensor([True, False, True, True])
    assert torch.autograd.gradcheck(lambda v: masked_mean(v, mask, -1), values)
    assert torch.autograd.gradcheck(lambda v, w: weighted_mean(v, w, -1), (values, weights))
