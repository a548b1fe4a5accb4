"""RAFT (Teed and Deng 2020) as torchvision builds it, with torchvision's or one's own weights."""

import hashlib
import io
import json
import logging
import os
import pickle
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPException
from importlib.metadata import version
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn

from flowhmr.flow.consistency import consistency_masks
from flowhmr.flow.estimators import FlowError, pad_frame
from flowhmr.flow.maps import FlowPair

RAFT_VARIANTS = ("large", "small")

_LEAST_SIDE_PX = 128
"""torchvision's networks refuse less."""
_STRIDE_PX = 8
"""Sides have to be multiples of this."""
_SMALL_STATE = 96
"""Channels of ``raft_small``'s recurrent state."""
_UPSAMPLING = 128
"""Channels between that and the weights of its learned upsampling."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RaftFlow:
    """RAFT on the CPU or a GPU; the network is built at the first call."""

    variant: str = "large"
    """torchvision's ``raft_large`` or ``raft_small``."""
    weights: Path | None = None
    """A file with the network's state dict; ``None`` downloads torchvision's own weights."""
    updates: int = 20
    """Recurrent refinements (of4hmr uses 20)."""
    device: torch.device | str | None = None
    """Where to compute; ``None`` is torch's default device. Not part of the identity: devices
    agree up to rounding, and a cache filled on a GPU serves a machine without one."""

    def __post_init__(self) -> None:
        if self.variant not in RAFT_VARIANTS:
            raise ValueError(
                f"RAFT variant: got {self.variant!r}; expected one of {', '.join(RAFT_VARIANTS)}"
            )
        if self.updates < 1:
            raise ValueError(f"RAFT updates: got {self.updates}; expected at least 1")

    def identity(self) -> str:
        """Method, settings, torchvision's version and a hash of the weights.

        Raises:
            FlowError: the file with the weights does not exist.
        """
        return (
            f"raft variant={self.variant} updates={self.updates} weights={self._weights_hash} "
            f"torchvision={_torchvision_release()}"
        )

    def estimate(
        self, frame1: UInt8[np.ndarray, "h w 3"], frame2: UInt8[np.ndarray, "h w 3"]
    ) -> Float32[np.ndarray, "h w 2"]:
        """Flow after the last update.

        Raises:
            FlowError: the weights cannot be downloaded or do not fit the network.
        """
        height, width = frame1.shape[:2]
        padded = [
            torch.from_numpy(pad_frame(frame, _LEAST_SIDE_PX, _STRIDE_PX))[None]
            for frame in (frame1, frame2)
        ]
        return self._flow(*padded)[0, :height, :width].contiguous().cpu().numpy()

    def pairs(self, frames: UInt8[Tensor, "n 2 h w 3"]) -> FlowPair:
        """Flow ``[n h w]`` in both directions between pairs of RGB frames, with consistency masks.

        All at once, and left on the device; numbers as those of `estimate_pair`, up to rounding.

        Raises:
            FlowError: as `estimate`.
            ValueError: sides that RAFT does not take.
        """
        height, width = frames.shape[2:4]
        if min(height, width) < _LEAST_SIDE_PX or height % _STRIDE_PX or width % _STRIDE_PX:
            raise ValueError(
                f"RAFT: got batches of {width} x {height} px; expected sides of at least "
                f"{_LEAST_SIDE_PX} px and multiples of {_STRIDE_PX}; set the flow's width so"
            )
        first, second = frames.unbind(1)
        flow = self._flow(torch.cat([first, second]), torch.cat([second, first]))
        # What inference mode has made has no place in what is differentiated.
        forward, backward = flow.clone().chunk(2)
        return FlowPair(forward, backward, *consistency_masks(forward, backward))

    def _flow(
        self, first: UInt8[Tensor, "n h w 3"], second: UInt8[Tensor, "n h w 3"]
    ) -> Float32[Tensor, "n h w 2"]:
        network, batches = self._network, (self._input(first), self._input(second))
        with torch.inference_mode():
            return network(*batches, num_flow_updates=self.updates)[-1].permute(0, 2, 3, 1)

    def _input(self, frames: UInt8[Tensor, "n h w 3"]) -> Float32[Tensor, "n 3 h w"]:
        return raft_input(frames.to(self._device).permute(0, 3, 1, 2)).contiguous()

    @property
    def _device(self) -> torch.device:
        return torch.get_default_device() if self.device is None else torch.device(self.device)

    @cached_property
    def _network(self) -> nn.Module:
        if self.weights is None:
            network = build_raft(self.variant, _download(self.variant))
        else:
            network = load_raft(self.weights, self.variant)
        return network.eval().to(self._device)

    @cached_property
    def _weights_hash(self) -> str:
        if self.weights is None:
            # torchvision ends the names of its files with the first digits of their SHA-256.
            return Path(_official(self.variant).url).stem.rsplit("-", 1)[1]
        return hashlib.sha256(_read_file(self.weights, self.variant)).hexdigest()[:8]


def raft_input(frames: UInt8[Tensor, "*b 3 h w"]) -> Float32[Tensor, "*b 3 h w"]:
    """RGB frames as torchvision's networks expect them: values in [-1, 1]."""
    return frames.float() / 127.5 - 1


def new_raft(variant: str = "small", learned_upsampling: bool = True) -> nn.Module:
    """A network of torchvision with random weights.

    Args:
        variant: torchvision's ``raft_large`` or ``raft_small``.
        learned_upsampling: have the small one, too, learn how its flow, an eighth of the frames'
            size, is brought up to theirs (RAFT, section 3.3). torchvision's interpolates, which
            cannot follow limbs that are no wider than such a cell.
    """
    from torchvision.models.optical_flow import raft_large, raft_small
    from torchvision.models.optical_flow.raft import MaskPredictor

    if variant == "large":
        return raft_large(weights=None)
    learned = MaskPredictor(in_channels=_SMALL_STATE, hidden_size=_UPSAMPLING)
    return raft_small(weights=None, mask_predictor=learned if learned_upsampling else None)


def build_raft(variant: str, state: dict[str, Tensor]) -> nn.Module:
    """A network of given weights; with learned upsampling if they have it.

    Raises:
        RuntimeError: they do not fit.
    """
    # On the meta device the initialisation that is replaced anyway draws no random numbers.
    with torch.device("meta"):
        network = new_raft(variant, any(name.startswith("mask_predictor.") for name in state))
    network.load_state_dict(
        {k: v.float() if v.is_floating_point() else v for k, v in state.items()}, assign=True
    )
    return network


def save_raft(path: Path, network: nn.Module, notes: dict[str, Any], half: bool = False) -> None:
    """Write a network's weights, whole or not at all; `load_raft` reads them.

    Args:
        path: a ``.safetensors`` file.
        network: torchvision's.
        notes: JSON-able facts for the card (command, seed, time, hardware ...).
        half: store in half precision (for shipping).
    """
    state = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    if half:
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(state, temporary, {"notes": json.dumps(notes)})
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _official(variant: str) -> Any:
    from torchvision.models.optical_flow import Raft_Large_Weights, Raft_Small_Weights

    return (Raft_Large_Weights if variant == "large" else Raft_Small_Weights).DEFAULT


def _torchvision_release() -> str:
    # "0.27.0+cu126" and "0.27.0+cpu" are one release.
    return version("torchvision").split("+")[0]


def _read_file(path: Path, variant: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FlowError(
            f"RAFT weights: got {path}, which cannot be read ({error}); expected the state dict "
            f"of torchvision's raft_{variant}, to be had from {_official(variant).url}"
        ) from error


def load_raft(path: Path, variant: str) -> nn.Module:
    """A network from a file: `save_raft`'s, or a state dict of torchvision's.

    Raises:
        FlowError: not such a file, or it does not fit the network.
    """
    content = _read_file(path, variant)
    try:
        if path.suffix == ".safetensors":
            state = load(content)
        else:
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        network = build_raft(variant, state)
    except (
        RuntimeError, TypeError, ValueError, AttributeError, EOFError, SafetensorError,
        pickle.UnpicklingError,
    ) as error:  # fmt: skip
        said = shorten(str(error), 200, placeholder=" ...")
        raise FlowError(
            f"RAFT weights: got {path}, which does not fit raft_{variant} ({said}); expected "
            f"the state dict of torchvision's raft_{variant}, as in {_official(variant).url}, or "
            "for small a network of `flowhmr flownet`"
        ) from error
    for name, tensor in network.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise FlowError(
                f"RAFT weights: got {path} with NaN or infinity in {name}; expected finite "
                "weights; train or download them again"
            )
    return network


def _download(variant: str) -> dict[str, Tensor]:
    """torchvision's weights from its own store in the user's cache, downloaded when missing."""
    url = _official(variant).url
    _log.info("RAFT weights: %s, downloaded unless it is in torch's cache", url)
    try:
        return torch.hub.load_state_dict_from_url(
            url, map_location="cpu", progress=False, check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError, HTTPException) as error:
        name = url.rsplit("/", 1)[1]
        raise FlowError(
            f"RAFT weights: got {type(error).__name__} ({error}) for {url}; expected to download "
            f"{name}; fetch that file on a machine with network and pass it, "
            f"raft:{variant}:/path/to/{name} (in Python RaftFlow(weights=Path(...))), put it into "
            f"{Path(torch.hub.get_dir()) / 'checkpoints'}, or use dis, which needs no weights"
        ) from error
