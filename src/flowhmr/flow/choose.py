"""Estimators by the names that commands accept."""

import re
from pathlib import Path

import torch

from flowhmr.flow.degraded import DEGRADATIONS, DEGRADED_FORMS, degraded
from flowhmr.flow.estimators import DisFlow, FlowEstimator
from flowhmr.flow.raft import RaftFlow

_FORMS = "dis, dis:PRESET, raft, raft:VARIANT or raft:VARIANT:FILE"

# From the right, and by name only: the path of a file may hold a plus sign.
_DEGRADED = re.compile(rf"(?P<rest>.+)\+(?P<last>(?:{'|'.join(DEGRADATIONS)})(?::[^+]*)?)")


def flow_estimator(spec: str, device: torch.device | str | None = None) -> FlowEstimator:
    """The estimator that a text names.

    ``dis`` and ``dis:PRESET`` (ultrafast, fast, medium, fine); ``raft``, ``raft:VARIANT`` (large,
    small) and ``raft:VARIANT:FILE`` with local weights. ``device`` is where RAFT computes. To make
    flow worse (`flowhmr.flow.degraded`), ``+noise:2``, ``+blur:0.05``, ``+wrong:0.3`` or
    ``+scaled:0.5`` may follow, several too: ``dis+blur:0.05+noise:2`` blurs, then adds noise.

    Raises:
        ValueError: the text names no estimator.
    """
    found = _DEGRADED.fullmatch(spec)
    if found:
        return degraded(flow_estimator(found["rest"], device), found["last"])
    name, *options = spec.split(":", 2)
    if name == "dis" and len(options) <= 1:
        return DisFlow(options[0]) if options else DisFlow()
    if name == "raft":
        variant = options[0] if options else "large"
        weights = Path(options[1]) if len(options) == 2 else None
        return RaftFlow(variant, weights, device=device)
    raise ValueError(
        f"flow estimator: got {spec!r}; expected {_FORMS}, and after it, if wanted, + and one of "
        f"{DEGRADED_FORMS}; any other method goes in from Python as flowhmr.flow.FunctionFlow"
    )
