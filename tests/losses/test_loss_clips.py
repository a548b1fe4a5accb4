"""Acceleration and the discriminator's losses: their formulas and laws."""

import pytest
import torch
from torch.testing import assert_close

from flowhmr.losses import acceleration_terms, discriminator_terms, realism_terms


def motion(seed: int, frames: int = 6) -> torch.Tensor:
    made = torch.Generator().manual_seed(seed)
    return torch.randn(2, frames, 24, 3, generator=made, dtype=torch.float64)


def test_acceleration_is_equation_twelve():
    ours, truth = motion(0), motion(1)
    for joints in (ours, truth):
        joints[:, :, 1:3] = torch.stack([joints[:, :, 1], -joints[:, :, 1]], 2)  # hips about 0
    error = ours - truth
    by_hand = torch.stack(
        [error[:, t] + error[:, t + 2] - 2 * error[:, t + 1] for t in range(4)], 1
    )
    found = acceleration_terms(ours, truth).acceleration
    assert_close(found, by_hand.square().mean((1, 2, 3)))


def test_a_steady_error_is_no_acceleration():
    truth = motion(1)
    time = torch.arange(6, dtype=torch.float64)[:, None, None]
    drift = motion(2, 1) + 0.1 * time * motion(3, 1)
    assert_close(acceleration_terms(truth + drift, truth).acceleration, torch.zeros(2).double())
    walk = torch.randn(2, 6, 1, 3, dtype=torch.float64)
    assert_close(acceleration_terms(truth + walk, truth).acceleration, torch.zeros(2).double())


def test_acceleration_has_a_gradient_and_wants_three_frames():
    ours = motion(0, 3).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda joints: acceleration_terms(joints, motion(1, 3)).acceleration, (ours,)
    )
    with pytest.raises(ValueError, match="got 2 frames; expected at least 3"):
        acceleration_terms(motion(0, 2), motion(1, 2))


def test_least_squares_adversaries():
    true, made = torch.tensor([1.0, 0.5, 0.0]), torch.tensor([0.0, 0.5, 2.0])
    assert_close(discriminator_terms(true, made).told_apart, torch.tensor([0.0, 0.5, 5.0]))
    assert_close(realism_terms(made).realism, torch.tensor([1.0, 0.25, 1.0]))
