"""The motion discriminator: what it looks at, and that it can tell motions apart."""

import torch
from torch import Tensor
from torch.testing import assert_close

from flowhmr.geometry import rotmat_from_axis_angle
from flowhmr.losses import discriminator_terms
from flowhmr.networks import MotionDiscriminatorConfig

SMALL = MotionDiscriminatorConfig(hidden=16, layers=1)


def motions(count: int, jitter: float, seed: int = 0) -> Tensor:
    made = torch.Generator().manual_seed(seed)
    pose = 0.5 * torch.randn(count, 1, 24, 3, generator=made)
    shaken = pose + jitter * torch.randn(count, 8, 24, 3, generator=made)
    return rotmat_from_axis_angle(shaken)


def test_defaults_are_vibes():
    network = MotionDiscriminatorConfig().build()
    assert (network.gru.hidden_size, network.gru.num_layers) == (1024, 2)
    sizes = [m.out_features for m in network.attention if isinstance(m, torch.nn.Linear)]
    assert sizes == [1024, 1024, 1]


def test_it_looks_at_every_frame_and_joint_but_not_at_the_root():
    torch.manual_seed(0)
    network = SMALL.build().eval()
    found = motions(2, 0.1).requires_grad_()
    network(found).sum().backward()
    assert found.grad is not None
    felt = found.grad.abs().sum((-1, -2)) > 0
    assert not bool(felt[:, :, 0].any())
    assert bool(felt[:, :, 1:].all())
    assert network(motions(3, 0.1)[:, :5]).shape == (3,)
    both = motions(2, 0.1)
    assert_close(network(both)[1:], network(both[1:]), msg="one motion has no say in another's")


def test_it_learns_to_tell_calm_from_shaken():
    torch.manual_seed(0)
    network = SMALL.build()
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for step in range(100):
        true, made = network(motions(16, 0.0, step)), network(motions(16, 0.5, 1000 + step))
        optimiser.zero_grad()
        discriminator_terms(true, made).told_apart.mean().backward()
        optimiser.step()
    network.eval()
    assert float((network(motions(50, 0.0, 5000)) > 0.5).float().mean()) > 0.8
    assert float((network(motions(50, 0.5, 6000)) < 0.5).float().mean()) > 0.8
