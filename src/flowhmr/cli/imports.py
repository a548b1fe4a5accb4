"""Published checkpoints (SPIN, EFT, PARE and its HMR, VIBE, TCMR) as networks of ours."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from flowhmr.body import load_smpl
from flowhmr.cli.shared import console
from flowhmr.geometry import Rot6dLayout
from flowhmr.networks import from_published, layout_of, read_checkpoint, save_network


@dataclass(frozen=True)
class Arguments:
    """Flags of ``flowhmr import``."""

    checkpoint: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CHECKPOINT")]
    """The published file, whose layout is seen from its names: SPIN or EFT, PARE with its part
    attention (pare_checkpoint.ckpt), PARE's HMR, VIBE, TCMR. Nothing in it runs."""
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """The network to write (.safetensors)."""
    smpl: Path
    """Folder with SMPL's neutral body (SMPL_NEUTRAL.pkl, or its older names): these networks give
    its parameters, and our files say whose they give."""
    features: Path | None = None
    """For VIBE and TCMR: the checkpoint of the SPIN whose features they take
    (spin_model_checkpoint.pth.tar)."""
    rot6d: Rot6dLayout = "spin"
    """How the checkpoint writes a rotation in six numbers: "spin" in all published ones; "columns"
    is 4D-Humans' order."""


def run(arguments: Arguments) -> None:
    """Read, write, say what it is."""
    weights = read_checkpoint(arguments.checkpoint)
    features = None if arguments.features is None else read_checkpoint(arguments.features)
    body = load_smpl(arguments.smpl)
    network = from_published(weights, body.body_id, features, arguments.rot6d)
    layout = layout_of(weights)
    notes = {"imported_from": arguments.checkpoint.name, "layout": layout}
    save_network(arguments.out, network, notes)
    console.print(f"{layout}: {arguments.out}\nbody: {body.body_id}")
    console.print(
        f"score it with: flowhmr evaluate --protocol NAME --network {arguments.out} --smpl "
        f"{arguments.smpl} ...",
        soft_wrap=True,
    )
