"""Estimators by the names that commands accept."""

from pathlib import Path

import torch

from flowhmr.flow.estimators import DisFlow, FlowEstimator
from flowhmr.flow.raft import RaftFlow

_FORMS = "dis, dis:PRESET, raft, raft:VARIANT or raft:VARIANT:FILE"


def flow_estimator(spec: str, device: torch.device | str | None = None) -> FlowEstimator:
    """The estimator that a text names.

    ``dis`` and ``dis:PRESET`` (ultrafast, fast, medium, fine); ``raft``, ``raft:VARIANT`` (large,
    small) and ``raft:VARIANT:FILE`` with local weights. ``device`` is where RAFT computes.

    Raises:
        ValueError: the text names no estimator.
    """
    name, *options = spec.split(":", 2)
    if name == "dis" and len(options) <= 1:
        return DisFlow(options[0]) if options else DisFlow()
    if name == "raft":
        variant = options[0] if options else "large"
        weights = Path(options[1]) if len(options) == 2 else None
        return RaftFlow(variant, weights, device=device)
    raise ValueError(
        f"flow estimator: got {spec!r}; expected {_FORMS}; any other method goes in from Python as "
        "flowhmr.flow.FunctionFlow"
    )
