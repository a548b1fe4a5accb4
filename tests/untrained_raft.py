"""RAFT with random weights, found from every room's tests."""

from pathlib import Path

import torch
from torch import nn


def save_untrained_raft(variant: str, file: Path) -> nn.Module:
    """A network of torchvision with random weights, also saved as users have them."""
    from torchvision.models import optical_flow

    torch.manual_seed(0)
    network = getattr(optical_flow, f"raft_{variant}")(weights=None).eval()
    torch.save(network.state_dict(), file)
    return network
