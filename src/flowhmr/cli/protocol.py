"""``flowhmr evaluate --protocol``: scores on the field's own data sets, as it has them."""

from dataclasses import dataclass
from pathlib import Path

import torch

from flowhmr.cli.shared import StepProgress, console, estimator_and_body, make_folder
from flowhmr.data import open_field
from flowhmr.evaluation import protocol
from flowhmr.experiments import (
    FieldEstimator,
    NetworkEstimator,
    ResultFiles,
    SmplBodies,
    score_field,
)


@dataclass(frozen=True)
class ProtocolFlags:
    """By a named protocol of the field, on its own data (docs/protocols.md)."""

    protocol: str = ""
    """3dpw-spin, 3dpw-pare, 3dpw-bedlam, 3dpw-vibe, 3dpw-tcmr, 3dpw-wham, 3dpw-doersch, h36m-p1,
    h36m-p2, h36m-tcmr, h36m-tcmr-frontal or mpii3d. Networks, and results of other tools, are then
    scored on that set instead of synthetic video."""
    data: Path | None = None
    """The test set as published: 3DPW's sequenceFiles/test, the folder of Human3.6M's JSON files or
    of MPI-INF-3DHP's TS1 ... TS6."""
    images: Path | None = None
    """Folder that the set's image names are below (3DPW: imageFiles)."""
    smpl: Path | None = None
    """Folder of SMPL's files (SMPL_NEUTRAL.pkl, SMPL_MALE.pkl, SMPL_FEMALE.pkl, or their older
    names) and J_regressor_h36m.npy."""
    results: tuple[Path, ...] = ()
    """Result files of VIBE, TCMR, PARE, WHAM, PHALP/4D-Humans, TRAM or ROMP: one file, or a folder
    with one for each video, the video's name in its name."""


def score_by_protocol(
    flags: ProtocolFlags, networks: tuple[Path, ...], out: Path, device: torch.device
) -> None:
    """Score, print the means, write the tables.

    Raises:
        ValueError: a flag that is missing, or an unknown protocol.
    """
    rule = protocol(flags.protocol)
    if flags.data is None or flags.images is None:
        raise ValueError(
            f"--protocol {rule.name}: got no --data or no --images; expected the test set and the "
            "folder of its pictures; give both"
        )
    if flags.smpl is None and (flags.results or rule.truth != "captured"):
        raise ValueError(
            f"--protocol {rule.name}: got no --smpl; expected the folder of SMPL's files: the "
            "truth, or the results, are bodies of SMPL's; give it"
        )
    bodies = None if flags.smpl is None else SmplBodies(flags.smpl)
    scored: list[FieldEstimator] = []
    for path in networks or (() if flags.results else (None,)):
        network, body = estimator_and_body(path, flags.smpl)
        name = "shipped network" if path is None else str(path)
        scored.append(NetworkEstimator(name, network, body, flags.images, device))
    if bodies is not None:
        scored += [ResultFiles(path, bodies("neutral"), flags.images) for path in flags.results]
    make_folder(out)
    found = open_field(rule.data, flags.data)
    for number, estimator in enumerate(scored):
        told = StepProgress("scoring people")
        report = score_field(rule, found, estimator, bodies, flags.images, told)
        report.write(out, f"{rule.name}-{number}")
        table = report.to_markdown(rows=False)
        console.print(table, markup=False, highlight=False, soft_wrap=True)
    console.print(f"tables: {out}")
