"""The field's own data sets, as published: what is in one, or its bodies as labels for training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from flowhmr.body import load_body, open_body
from flowhmr.cli.shared import StepProgress, console
from flowhmr.data import (
    KINDS,
    OTHER_KINDS,
    FieldReport,
    Findings,
    check_field,
    check_other,
    convert_field,
    open_field,
)

Kinds = Annotated[str, tyro.conf.arg(metavar="KIND", help=f"Layout: {', '.join(KINDS)}.")]
AllKinds = Annotated[
    str, tyro.conf.arg(metavar="KIND", help=f"Layout: {', '.join([*KINDS, *OTHER_KINDS])}.")
]


@dataclass(frozen=True)
class Check:
    """Counts, ranges and the first inconsistency."""

    kind: tyro.conf.Positional[AllKinds]
    """Layout of the set (docs/data.md)."""
    path: tyro.conf.Positional[Path]
    """Its file or folder."""
    beside: Path | None = None
    """The other file that some layouts have: static fits (spin), COCO's json (eft), SMPL's file
    (regressor), the csv (kinetics)."""
    images: Path | None = None
    """The folder that its image names are below, to see whether they are there."""


@dataclass(frozen=True)
class Convert:
    """The rows with a trusted body, as one npz that training reads."""

    kind: tyro.conf.Positional[Kinds]
    """Layout of the set (docs/data.md)."""
    path: tyro.conf.Positional[Path]
    """Its file or folder."""
    out: tyro.conf.Positional[Path]
    """The npz to write."""
    beside: Path | None = None
    """The other file that some layouts have: static fits (spin), COCO's json (eft)."""
    body: Path | None = None
    """SMPL's file, for its shapes; the open body in its mean shape by default."""


@dataclass(frozen=True)
class Arguments:
    """Flags of ``flowhmr data``."""

    command: tyro.conf.OmitSubcommandPrefixes[
        tyro.conf.OmitArgPrefixes[
            Annotated[Check, tyro.conf.subcommand("check")]
            | Annotated[Convert, tyro.conf.subcommand("convert")]
        ]
    ]


def run(arguments: Arguments) -> None:
    """Check or convert."""
    command = arguments.command
    if isinstance(command, Check):
        report = _check(command)
        for line in report.lines():
            console.print(line, markup=False, highlight=False)
        if report.problem:
            raise ValueError(f"{command.path}: {report.problem}")
        return
    found = open_field(command.kind, command.path, command.beside)
    body = open_body() if command.body is None else load_body(command.body)
    count = convert_field(found, command.kind, body, command.out, StepProgress("reading"))
    console.print(f"{count} of {len(found)} rows: {command.out}")


def _check(command: Check) -> FieldReport | Findings:
    if command.kind not in OTHER_KINDS:
        found = open_field(command.kind, command.path, command.beside)
        return check_field(found, command.images, StepProgress("reading"))
    if command.images is not None:
        raise ValueError(f"--images: got {command.images} for {command.kind}; expected none")
    return check_other(command.kind, command.path, command.beside, StepProgress("reading"))
