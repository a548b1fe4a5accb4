"""Refine a network with unannotated video alone, anchored to where it started (Eq. 8)."""

from dataclasses import dataclass

from flowhmr.cli import refine
from flowhmr.training import FIT, RefineConfig


@dataclass(frozen=True)
class Arguments(refine.Arguments):
    """Flags of ``flowhmr fit``: those of ``flowhmr refine`` with other defaults."""

    config: RefineConfig = FIT
    """The run."""


run = refine.run
