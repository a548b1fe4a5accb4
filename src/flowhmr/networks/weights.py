"""Network files: safetensors with the architecture and the body inside."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from flowhmr.networks.backbone import BackboneConfig
from flowhmr.networks.context import ContextConfig, ContextHmr
from flowhmr.networks.context_features import ContextFeaturesConfig
from flowhmr.networks.hmr import Hmr, HmrConfig, MeanParams
from flowhmr.networks.hpof import HpofConfig
from flowhmr.networks.lift import Lift, LiftConfig
from flowhmr.networks.motion_hmr import MotionHmr, MotionHmrConfig
from flowhmr.networks.parts import PartsConfig
from flowhmr.networks.smoothnet import SmoothNetConfig
from flowhmr.networks.tcmr import TcmrConfig
from flowhmr.networks.temporal import FramewiseConfig, TemporalHmr
from flowhmr.networks.vibe import VibeConfig

FORMAT = "flowhmr-hmr-1"
CONTEXT_FORMAT = "flowhmr-context-1"
LIFT_FORMAT = "flowhmr-lift-1"
MOTION_FORMAT = "flowhmr-motion-1"
TEMPORAL_FORMAT = "flowhmr-temporal-1"
FORMATS = (FORMAT, CONTEXT_FORMAT, LIFT_FORMAT, MOTION_FORMAT, TEMPORAL_FORMAT)
TEMPORAL = {
    c.__name__: c
    for c in (
        TcmrConfig, VibeConfig, HpofConfig, SmoothNetConfig, ContextFeaturesConfig, FramewiseConfig
    )
}  # fmt: skip
"""Networks over features, by the name that their files have for them."""

Network = Hmr | ContextHmr | Lift | MotionHmr | TemporalHmr

BASELINE = Path(__file__).parent / "assets" / "baseline.safetensors"
"""The shipped network of images; its card stands beside it."""
LIFT = BASELINE.with_name("lift.safetensors")
"""The shipped network of keypoint tracks."""


class NetworkFileError(ValueError):
    """A file that does not hold one of our networks."""


def save_network(path: Path, network: Network, notes: dict[str, Any], half: bool = False) -> None:
    """Write weights, architecture and body identity to one file, whole or not at all.

    Args:
        path: a ``.safetensors`` file.
        network: what to save.
        notes: JSON-able facts for the card (command, seed, time, hardware ...).
        half: store in half precision (for shipping).
    """
    tensors = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    if half:
        tensors = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
    base = network.hmr if isinstance(network, ContextHmr | TemporalHmr) else network
    config = dataclasses.asdict(base.config)
    hmr = config["hmr"] if isinstance(base, MotionHmr) else config
    if "backbone" in hmr:
        hmr["backbone"]["weights"] = ""
    kinds = {Lift: LIFT_FORMAT, MotionHmr: MOTION_FORMAT}
    metadata = {
        "format": kinds.get(type(base), FORMAT),
        "config": json.dumps(config),
        "body_id": base.body_id,
        "num_betas": str(base.num_betas),
        "notes": json.dumps(notes),
    }
    if isinstance(network, ContextHmr):
        metadata |= {
            "format": CONTEXT_FORMAT,
            "context": json.dumps(dataclasses.asdict(network.config)),
        }
    if isinstance(network, TemporalHmr):
        about = {"kind": type(network.config).__name__, **vars(network.config)}
        metadata |= {"format": TEMPORAL_FORMAT, "temporal": json.dumps(about)}
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(tensors, temporary, metadata)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_card(path: Path) -> dict[str, Any]:
    """The facts stored with a network: architecture, body, notes.

    ``format`` says what kind of network it is; ``context`` is the architecture of the temporal
    context and ``temporal`` that of the network over features, None where there is none.

    Raises:
        NetworkFileError: not one of our files.
    """
    if not path.is_file():
        raise NetworkFileError(
            f"{path}: got no such file; expected a network (.safetensors); check its name, "
            "or train one with `flowhmr pretrain`"
        )
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise NetworkFileError(
            f"{path}: got a file that is not safetensors, or is cut off ({error}); expected a "
            "network saved by `flowhmr pretrain` or `flowhmr refine`; download or train it again"
        ) from error
    if metadata.get("format") not in FORMATS:
        raise NetworkFileError(
            f"{path}: got format {metadata.get('format')!r}; expected one of "
            f"{', '.join(FORMATS)}; this safetensors file holds something else"
        )
    parts = {"context": CONTEXT_FORMAT, "temporal": TEMPORAL_FORMAT}
    try:
        return {
            "format": metadata["format"],
            "config": json.loads(metadata["config"]),
            "body_id": metadata["body_id"],
            "num_betas": int(metadata["num_betas"]),
            "notes": json.loads(metadata["notes"]),
            **{
                part: json.loads(metadata[part]) if metadata["format"] == kind else None
                for part, kind in parts.items()
            },
        }
    except (KeyError, ValueError) as error:
        raise NetworkFileError(
            f"{path}: got a card that does not read ({type(error).__name__} {error}); expected "
            "config, body_id, num_betas, notes and, with temporal context, context, with a network "
            "over features, temporal; download or train it again"
        ) from error


def load_hmr(path: Path) -> Hmr:
    """A single-frame network from its file, in evaluation mode on the CPU.

    Raises:
        NetworkFileError: as `load_network`, or the network has temporal context.
    """
    network = load_network(path)
    if isinstance(network, ContextHmr):
        raise NetworkFileError(
            f"{path}: got a network with temporal context; expected a single-frame network; use "
            "the one it was refined from, or read this one with load_network"
        )
    return network


def load_network(path: Path) -> Hmr | ContextHmr:
    """A network of images from its file, with temporal context or without; evaluation mode, CPU.

    Raises:
        NetworkFileError: the file is not ours, is damaged, does not fit its own architecture, or
            holds another kind of network.
    """
    network = load_estimator(path)
    if isinstance(network, TemporalHmr):
        raise NetworkFileError(
            f"{path}: got a network over the features of a video; expected one of single images; "
            "score it or predict with it, or read it with load_temporal"
        )
    return network


def load_estimator(path: Path) -> Hmr | ContextHmr | TemporalHmr:
    """Any network from crops to bodies, of images or of a video's features; as `load_network`.

    Raises:
        NetworkFileError: as `load_network`.
    """
    network = _load(path)
    if isinstance(network, Lift):
        raise NetworkFileError(
            f"{path}: got a network of keypoint tracks; expected one of images; give it to "
            "`flowhmr capture --network`, or read it with load_lift"
        )
    if isinstance(network, MotionHmr):
        raise NetworkFileError(
            f"{path}: got a network of flow and keypoints along a video; expected one of images; "
            "read it with load_motion"
        )
    return network


def load_temporal(path: Path) -> TemporalHmr:
    """A network over features with the one that gives them, in evaluation mode on the CPU.

    Raises:
        NetworkFileError: as `load_network`.
    """
    network = _load(path)
    if not isinstance(network, TemporalHmr):
        raise NetworkFileError(
            f"{path}: got another kind of network; expected one over the features of a video; "
            "train one with `flowhmr train`"
        )
    return network


def load_lift(path: Path) -> Lift:
    """A network of keypoint tracks from its file, in evaluation mode on the CPU.

    Raises:
        NetworkFileError: as `load_network`.
    """
    network = _load(path)
    if not isinstance(network, Lift):
        motion = isinstance(network, MotionHmr)
        kind = "a Motion HMR" if motion else "a network of images"
        use = "" if motion else ", or give this one to `flowhmr capture --model`"
        raise NetworkFileError(
            f"{path}: got {kind}; expected one of keypoint tracks; train one with `flowhmr lift`"
            f"{use}"
        )
    return network


def load_motion(path: Path) -> MotionHmr:
    """A Motion HMR from its file, in evaluation mode on the CPU.

    Raises:
        NetworkFileError: as `load_network`.
    """
    network = _load(path)
    if not isinstance(network, MotionHmr):
        raise NetworkFileError(
            f"{path}: got another kind of network; expected a Motion HMR; train one with "
            "`flowhmr motion`"
        )
    return network


def _load(path: Path) -> Network:
    card = read_card(path)
    config, context = card["config"], card["context"]
    mean = MeanParams(
        torch.eye(3).expand(24, 3, 3), torch.zeros(card["num_betas"]), card["body_id"]
    )
    try:
        if card["format"] == LIFT_FORMAT:
            dilations = tuple(config["dilations"])
            network = Lift(LiftConfig(**{**config, "dilations": dilations}), mean)
        elif card["format"] == MOTION_FORMAT:
            config = {**config, "hmr": _hmr_config(config["hmr"])}
            network = MotionHmr(MotionHmrConfig(**config), mean)
        else:
            hmr = network = Hmr(_hmr_config(config), mean)
            if context is not None:
                network = ContextHmr(ContextConfig(**context), hmr)
            if card["temporal"] is not None:
                about = dict(card["temporal"])
                network = TemporalHmr(hmr, TEMPORAL[about.pop("kind")](**about))
    except (KeyError, TypeError, ValueError) as error:
        raise NetworkFileError(
            f"{path}: got an architecture that cannot be built ({error}); expected one of this "
            "version; use the version of flowhmr that wrote the file, or train it again"
        ) from error
    with safe_open(path, "pt") as file:
        state: dict[str, Tensor] = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise NetworkFileError(
                f"{path}: got NaN or infinity in {name}; expected finite weights"
            )
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise NetworkFileError(
            f"{path}: got weights that do not fit the architecture stored with them ({error})"
        ) from error
    return network.eval()


def _hmr_config(stored: dict[str, Any]) -> HmrConfig:
    # Files from before there was part attention do not speak of it.
    parts = PartsConfig(**stored.get("parts", {}))
    backbone = BackboneConfig(**stored["backbone"])
    return HmrConfig(**{**stored, "backbone": backbone, "parts": parts})
