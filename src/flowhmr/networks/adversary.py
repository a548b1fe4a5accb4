"""Domain-adversarial training (Ganin and Lempitsky 2015): features that do not say their domain."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Adversary(nn.Module):
    """Tells real from synthetic by a feature; what made the feature learns to mislead it.

    Args:
        features: length of the feature.
        hidden: width of its two hidden layers.
    """

    def __init__(self, features: int, hidden: int = 1024):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, feature: Float[Tensor, "*b f"]) -> Float[Tensor, "*b"]:
        """Log-odds that a feature is of the other domain; its gradient is turned round."""
        return self.layers(reverse_gradient(feature))[..., 0]


def reverse_gradient(x: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """``x`` itself; backward, the gradient with its sign changed."""
    return _Reversed.apply(x)  # pyright: ignore[reportReturnType]


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return -grad
