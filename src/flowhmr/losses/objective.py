"""From per-sample terms to the one number that is minimised.

A record of terms and a record of weights belong together: every weight's name is a term's name.
"""

from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


class NonFiniteLoss(ArithmeticError):
    """A loss or its gradient is NaN or infinite; the run must stop before it spoils the weights."""


@dataclass(frozen=True, eq=False)
class Objective:
    """A weighted sum of terms."""

    total: Float[Tensor, ""]
    """What is minimised."""
    logged: dict[str, Float[Tensor, ""]]
    """Each term's mean over the batch before weighing, without gradient, for the log; on its
    device, so that nothing waits for it."""


def weigh(terms: Any, weights: Any) -> Objective:
    """Mean over the batch of each weighted term, summed.

    Args:
        terms: a record; the fields that ``weights`` names are per-sample values ``[b]`` or None.
        weights: a frozen config of floats. A field ``overall``, if it has one, multiplies the sum.

    Raises:
        NonFiniteLoss: a term on the CPU has a value that is not finite (names the term and the
            sample). To look at one on a GPU would be to wait for it: there the training loop
            leaves the step out, and the log says so.
        ValueError: a weight asks for a term that this batch does not have.
    """
    parts, logged, device = [], {}, None
    for field in fields(weights):
        if field.name == "overall":
            continue
        weight, values = getattr(weights, field.name), getattr(terms, field.name)
        if values is None:
            if weight:
                raise ValueError(
                    f"term {field.name!r}: got none from this network or batch; expected values, "
                    f"since its weight is {weight}; set the weight to 0"
                )
            continue
        if values.device.type == "cpu":
            _check_finite(field.name, values)
        mean = values.mean()
        logged[field.name] = mean.detach()
        device = mean.device
        if weight:
            parts.append(weight * mean)
    total = torch.stack(parts).sum() if parts else torch.zeros((), device=device)
    return Objective(total * getattr(weights, "overall", 1.0), logged)


def _check_finite(name: str, values: Float[Tensor, "b"]) -> None:
    bad = (~torch.isfinite(values)).nonzero()
    if len(bad):
        raise NonFiniteLoss(
            f"term {name!r}: got {values[bad[0, 0]].item()} for sample {int(bad[0, 0])} of the "
            "batch; expected finite values; lower the learning rate or look at that sample; the "
            "last checkpoint is intact"
        )
