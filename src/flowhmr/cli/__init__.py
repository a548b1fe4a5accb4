"""The command line. This module imports nothing heavy: ``flowhmr --help`` must answer at once."""

import importlib
import os
import sys

COMMANDS = {
    "demo": (
        "flowhmr.cli.demo",
        "the whole way on the shipped clip: refine a network, capture 3D motion, show both",
    ),
    "capture": (
        "flowhmr.cli.capture",
        "the motion of the people in a video, in 3D: BVH, GLB, overlay, report",
    ),
    "predict": ("flowhmr.cli.predict", "bodies in an image or a video: npz and overlay"),
    "refine": ("flowhmr.cli.refine", "refine a network with unannotated video and labelled stills"),
    "adapt": (
        "flowhmr.cli.adapt",
        "make the network your own: fine-tune it on what is captured in your videos",
    ),
    "fit": ("flowhmr.cli.fit", "refine a network with unannotated video alone, no labels"),
    "optimise": (
        "flowhmr.cli.optimise",
        "move the bodies of a video as its pictures move, without training",
    ),
    "evaluate": (
        "flowhmr.cli.evaluate",
        "score networks: synthetic video, flow of a video, or the field's protocols and data",
    ),
    "pretrain": ("flowhmr.cli.pretrain", "train a network on synthetic stills"),
    "lift": (
        "flowhmr.cli.lift",
        "train the network that lifts keypoints and flow along a video to 3D",
    ),
    "motion": (
        "flowhmr.cli.motion",
        "train Motion HMR: flow and keypoints along a video, drawn as maps, to 3D",
    ),
    "flownet": (
        "flowhmr.cli.flownet",
        "train a network for optical flow (RAFT-small) on synthetic people",
    ),
    "train": (
        "flowhmr.cli.train",
        "train TCMR or VIBE: a network over the features of all frames of a video",
    ),
    "experiment": (
        "flowhmr.cli.experiment",
        "reproduce the papers' tables on the built-in benchmark",
    ),
    "reproduce": (
        "flowhmr.cli.reproduce",
        "the papers' experiments on their own data sets, for who has these",
    ),
    "synth": (
        "flowhmr.cli.synth",
        "synthetic people: preview clips, export shards, check the benchmark",
    ),
    "data": (
        "flowhmr.cli.data",
        "the field's own data sets: check what is in one, convert it for training",
    ),
    "import": (
        "flowhmr.cli.imports",
        "published checkpoints (SPIN, EFT, PARE, VIBE, TCMR) as networks of ours",
    ),
    "info": ("flowhmr.cli.info", "versions, devices, assets and their licences"),
}


def usage() -> str:
    """What ``flowhmr --help`` says."""
    width = max(map(len, COMMANDS))
    rows = [f"  {name:<{width}}  {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        [
            "flowhmr: human mesh recovery that learns from the motion in unannotated video.",
            "",
            "usage: flowhmr COMMAND [flags]     flowhmr COMMAND --help",
            "",
            *rows,
        ]
    )


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the process's exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if words[0] in ("-V", "--version"):
        from flowhmr import __version__

        print(f"flowhmr {__version__}")
        return 0
    if words[0] not in COMMANDS:
        print(f"flowhmr: got {words[0]!r}; expected one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        return importlib.import_module("flowhmr.cli.shared").run_command(words[0], words[1:])
    except BrokenPipeError:
        # Whoever read the output (``| head``) has seen enough; what is left must go somewhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:  # PyTorch takes seconds to import
        print(f"flowhmr {words[0]}: interrupted before it began", file=sys.stderr)
        return 130
