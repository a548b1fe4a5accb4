"""Checkpoints of the field's networks, as published: read into ours, number for number.

Layouts are those of the public code of SPIN (EFT's are the same), PARE, VIBE and TCMR:

======= ========================================================== ==============================
layout  modules                                                    ours
======= ========================================================== ==============================
spin    ``conv1 ... layer4``, ``fc1 fc2 decpose decshape deccam``, ResNet-50 `Hmr`
        ``init_pose init_shape init_cam``
pare    ``backbone.*`` with ``upsample_stage_2`` ..., ``head`` with `Hmr` with part attention
        ``keypoint_deconv_layers``, ``smpl_deconv_layers``,
        ``keypoint_final_layer``, ``smpl_final_layer``,
        ``pose_mlp``, ``shape_mlp``, ``cam_mlp``
pare-   ``backbone.*``, ``head.fc1 ...``: PARE's HMR; the backbone `Hmr` with that backbone
hmr     a ResNet-50 or an HRNet-W32 that samples its four
        branches at 7x7 (``interp``) or has strided convolutions
        for that (``conv``: ``downsample_stage_1`` ...)
vibe    ``encoder.gru``, ``encoder.linear``, ``regressor.fc1 ...`` `Vibe`, on the features of a
                                                                   ``spin``
tcmr    ``encoder.gru_cur gru_bef gru_aft``, ``linear_*``,         `Tcmr`, likewise
        ``encoder.attention``, ``regressor.fc1 ...``
======= ========================================================== ==============================

What differs in meaning: their (tx, ty) are metres, ``u = s (X + tx)`` (`HmrConfig.shift`); and a 6D
rotation may be written in another order, see `from_published`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from flowhmr.files import DataFileError, plain_data
from flowhmr.geometry import Rot6dLayout
from flowhmr.networks.backbone import BackboneConfig
from flowhmr.networks.hmr import JOINTS, Hmr, HmrConfig, MeanParams
from flowhmr.networks.parts import PartsConfig
from flowhmr.networks.tcmr import TcmrConfig
from flowhmr.networks.temporal import TemporalHmr
from flowhmr.networks.vibe import VibeConfig
from flowhmr.networks.weights import NetworkFileError

Layout = Literal["spin", "pare", "pare-hmr", "vibe", "tcmr"]
Weights = Mapping[str, Tensor]

WRAPPERS = ("gen_state_dict", "state_dict", "model")
"""What published files keep the weights under."""
PREFIXES = ("model.", "module.")
"""What trainers put before every name of the network; PARE's has other things beside it."""
UNUSED = ("smpl.", "final_layer.", "num_batches_tracked")
"""Parts of names of what is stored and not used: SMPL itself, HRNet's keypoint maps."""
_REGRESSOR = {
    "fc1": "regressor.layers.0",
    "fc2": "regressor.layers.3",
    "decpose": "regressor.pose",
    "decshape": "regressor.shape",
    "deccam": "regressor.camera",
}
_PARE = {
    "keypoint_deconv_layers": "parts.where",
    "keypoint_final_layer": "parts.maps",
    "smpl_deconv_layers": "parts.what",
    "smpl_final_layer": "parts.thin",
    "pose_mlp": "regressor.pose",
    "shape_mlp": "regressor.shape",
    "cam_mlp": "regressor.camera",
}
_PARE_UNREAD = ("init_pose", "init_shape", "init_cam", "temperature", "num_batches_tracked")
"""Of PARE's head: what it keeps and, as published, does not use."""
_TCMR = {
    "gru_cur": "all",
    "gru_bef": "past",
    "gru_aft": "future",
    "linear_cur": "widen_all",
    "linear_bef": "widen_past",
    "linear_aft": "widen_future",
    "attention.fc": "attention.squeeze",
    "attention.attention": "attention.score",
}


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The weights in a published file, by their names; nothing in it runs.

    Raises:
        NetworkFileError: no file of weights, or one that asks for more than data.
    """
    try:
        found = plain_data(path)
    except (DataFileError, OSError) as error:
        raise NetworkFileError(
            f"{path}: {error}; if a trainer's settings stand beside the weights, store these alone "
            "where the checkpoint is from: torch.save(torch.load(FILE)['state_dict'], NEW)"
        ) from error
    for key in WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
            break
    arrays = {k: v for k, v in found.items() if isinstance(v, np.ndarray)} if _named(found) else {}
    if not arrays:
        raise NetworkFileError(
            f"{path}: got no named weights; expected a state_dict, alone or under one of "
            f"{', '.join(WRAPPERS)}; give the file as it was published"
        )
    # Copies: what is read from a file lies in its bytes.
    weights = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    for prefix in PREFIXES:
        weights = _split(weights, prefix) or weights
    return weights


def _named(found: Any) -> bool:
    return isinstance(found, dict) and all(isinstance(key, str) for key in found)


def layout_of(weights: Weights) -> Layout:
    """Whose weights these are.

    Raises:
        NetworkFileError: nobody's that is known.
    """
    names = set(weights)
    if "encoder.gru_cur.weight_ih_l0" in names:
        return "tcmr"
    if "encoder.gru.weight_ih_l0" in names:
        return "vibe"
    if any(n.startswith("backbone.") for n in names):
        if any(n.startswith("head.keypoint_deconv_layers.") for n in names):
            return "pare"
        if "head.fc1.weight" in names:
            return "pare-hmr"
    if {"fc1.weight", "conv1.weight"} <= names:
        return "spin"
    first = ", ".join(sorted(names)[:6])
    raise NetworkFileError(
        f"got weights named {first}...; expected those of SPIN or EFT, of PARE or its HMR, of VIBE "
        "or TCMR; give the file as it was published"
    )


def from_published(
    weights: Weights,
    body_id: str,
    features: Weights | None = None,
    rot6d: Rot6dLayout = "spin",
) -> Hmr | TemporalHmr:
    """Our network with published weights, in evaluation mode.

    Args:
        weights: see `read_checkpoint`.
        body_id: neutral SMPL's, whose parameters these networks give.
        features: for VIBE and TCMR, the weights of the SPIN that gives their features.
        rot6d: how the checkpoint writes rotations: all of the published ones "spin". "columns"
            is put in that order; "rows" cannot be, since the other six of nine numbers are said.

    Raises:
        NetworkFileError: weights of another layout or shape, or without their SPIN.
    """
    layout = layout_of(weights)
    if layout == "pare":
        return _pare(weights, body_id, rot6d)
    if layout in ("spin", "pare-hmr"):
        return _hmr(weights, body_id, rot6d)
    if features is None:
        raise NetworkFileError(
            f"got {layout}'s weights alone; expected those of the SPIN that gives its features too "
            "(spin_model_checkpoint.pth.tar): they are not in its file"
        )
    if layout_of(features) not in ("spin", "pare-hmr"):
        raise NetworkFileError(
            f"got {layout_of(features)}'s weights for the features; expected those of the SPIN "
            "that gives them (spin_model_checkpoint.pth.tar); give --features that file"
        )
    own = {n: v for n, v in weights.items() if n.startswith(("encoder.", "regressor."))}
    hmr = _hmr(features, body_id, rot6d)
    own, head = _split(own, "encoder."), _split(own, "regressor.")
    config, mapped = _tcmr(own) if layout == "tcmr" else _vibe(own)
    both = TemporalHmr(hmr, config)
    mapped |= {f"head.{name}": value for name, value in _regressor(head, rot6d).items()}
    _load(both.temporal, mapped, layout)
    return both.eval()


def _hmr(weights: Weights, body_id: str, rot6d: Rot6dLayout) -> Hmr:
    backbone = {n: v for n, v in weights.items() if n.split(".")[0] not in {*_REGRESSOR, "head"}}
    head: Weights = {n: v for n, v in weights.items() if n not in backbone}
    if layout_of(weights) == "pare-hmr":
        backbone, head = _split(weights, "backbone."), _split(weights, "head.")
    backbone = {n: v for n, v in backbone.items() if not n.startswith("init_")}
    head = {**head, **{n: v for n, v in weights.items() if n.startswith("init_")}}
    network = _untrained(HmrConfig(_backbone_config(backbone), shift="metres"), body_id)
    mapped = {f"backbone.{_in_backbone(n)}": v for n, v in _used(backbone).items()}
    _load(network, mapped | _regressor(head, rot6d), layout_of(weights))
    return network.eval()


def _untrained(config: HmrConfig, body_id: str) -> Hmr:
    return Hmr(config, MeanParams(torch.eye(3).expand(JOINTS, 3, 3), torch.zeros(10), body_id))


def _pare(weights: Weights, body_id: str, rot6d: Rot6dLayout) -> Hmr:
    """PARE's own network, as published: HRNet-W32 (``conv``), part maps, a layer each to read."""
    backbone, head = _split(weights, "backbone."), _split(weights, "head.")
    config = _backbone_config(backbone)
    known = {n: v for n, v in head.items() if n.split(".")[0] in _PARE}
    others = sorted(n for n in head.keys() - known.keys() if n.split(".")[-1] not in _PARE_UNREAD)
    if others:
        raise _other_pare(f"it has {', '.join(others[:4])} ({len(others)} in all)")
    if config.pooling != "joined":
        raise _other_pare("its backbone has no upsample_stage_2")
    needed = "keypoint_deconv_layers.0.weight", "smpl_final_layer.weight", "pose_mlp.weight"
    missing = [n for n in needed if n not in known]
    if missing:
        raise _other_pare(f"it has no {', '.join(missing)}")
    first, thinned, pose = (known[n] for n in needed)
    if pose.shape != (1, 6, len(first), JOINTS, 1, 1):
        raise _other_pare(f"pose_mlp.weight {tuple(pose.shape)} after {len(first)} filters")
    layers = sum(f"keypoint_deconv_layers.{3 * n}.weight" in known for n in range(16))
    parts = PartsConfig(layers, filters=len(first), thinned=len(thinned))
    network = _untrained(HmrConfig(config, shift="metres", parts=parts), body_id)
    mapped = {f"backbone.{_in_backbone(n)}": v for n, v in _used(backbone).items()}
    for name, value in known.items():
        if name.split(".")[-1] not in _PARE_UNREAD:
            theirs, _, rest = name.partition(".")
            mapped[f"{_PARE[theirs]}.{rest}"] = value
    # They have numbers, features, parts; and begin nowhere.
    numbers = pose[0, :, :, :, 0, 0][_six(rot6d)]
    mapped |= {"regressor.pose.weight": numbers.permute(2, 0, 1), "start": network.start.zero_()}
    _load(network, mapped, "pare")
    return network.eval()


def _other_pare(found: str) -> NetworkFileError:
    return NetworkFileError(
        f"got PARE's weights in another configuration: {found}; expected the published one "
        "(hrnet_w32-conv, part segmentation, softmax attention, one layer each for pose, shape and "
        "camera); give pare_checkpoint.ckpt or pare_w_3dpw_checkpoint.ckpt"
    )


def _backbone_config(weights: Weights) -> BackboneConfig:
    if "stage4.0.fuse_layers.0.1.0.weight" not in weights:
        return BackboneConfig("resnet50", size_px=224)
    pooling = "sampled"
    if "downsample_stage_1.0.weight" in weights:
        pooling = "strided"
    if "upsample_stage_2.1.weight" in weights:
        pooling = "joined"
    return BackboneConfig("hrnet_w32", size_px=224, pooling=pooling)


def _in_backbone(name: str) -> str:
    for number in (1, 2, 3):
        for stage, ours in (
            (f"downsample_stage_{number}.", "shrink"), (f"upsample_stage_{number + 1}.", "grow")
        ):  # fmt: skip
            if name.startswith(stage):
                return f"{ours}.{number - 1}.{name.removeprefix(stage)}"
    return f"net.{name}"


def _regressor(weights: Weights, rot6d: Rot6dLayout) -> dict[str, Tensor]:
    """HMR's regressor and where it starts, rotations in SPIN's order."""
    missing = [k for k in ("init_pose", "init_shape", "init_cam") if k not in weights]
    if missing:
        raise NetworkFileError(
            f"got a regressor without {', '.join(missing)}; expected the mean parameters among "
            "the weights; store the whole state_dict"
        )
    start = [weights[k].reshape(-1).float() for k in ("init_pose", "init_shape", "init_cam")]
    out = {"start": torch.cat(start)}
    for name, ours in _REGRESSOR.items():
        for part in ("weight", "bias"):
            if f"{name}.{part}" in weights:
                out[f"{ours}.{part}"] = weights[f"{name}.{part}"]
    order = _spin_order(rot6d)
    first, total = out.get("regressor.layers.0.weight"), 6 * JOINTS
    if first is None:
        raise NetworkFileError("got a regressor without fc1; expected HMR's")
    features = first.shape[1] - len(out["start"])
    pose = slice(features, features + total)
    # Copies, since the checkpoint's own are not to be written to.
    first = first.clone()
    first[:, pose] = first[:, pose][:, order]
    out["regressor.layers.0.weight"] = first
    out["start"][:total] = out["start"][:total][order]
    for part in ("weight", "bias"):
        out[f"regressor.pose.{part}"] = out[f"regressor.pose.{part}"][order]
    return out


def _spin_order(rot6d: Rot6dLayout) -> Tensor:
    """Where in a checkpoint's 144 numbers each of SPIN's stands."""
    return (6 * torch.arange(JOINTS)[:, None] + _six(rot6d)).flatten()


def _six(rot6d: Rot6dLayout) -> Tensor:
    """Where in a checkpoint's six numbers each of SPIN's stands."""
    if rot6d == "rows":
        raise NetworkFileError(
            "6D layout: got 'rows' (PyTorch3D's); expected 'spin' or 'columns': the first two rows "
            "of a rotation do not say its first two columns; train further in that layout's code"
        )
    one = torch.arange(6)
    if rot6d == "columns":
        # Two columns of three, one after the other; SPIN's are interleaved.
        one = one.view(2, 3).T.flatten()
    return one


def _vibe(weights: Weights) -> tuple[VibeConfig, dict[str, Tensor]]:
    if "linear.weight" not in weights:
        raise NetworkFileError(
            "got VIBE's weights without encoder.linear; expected those of its published models "
            "(add_linear)"
        )
    config = VibeConfig(
        hidden=weights["gru.weight_hh_l0"].shape[1],
        layers=_layers(weights, "gru"),
        direction="both" if "gru.weight_ih_l0_reverse" in weights else "forward",
    )
    return config, {n.replace("linear.", "widen."): v for n, v in weights.items()}


def _tcmr(weights: Weights) -> tuple[TcmrConfig, dict[str, Tensor]]:
    config = TcmrConfig(
        hidden=weights["gru_cur.weight_hh_l0"].shape[1], layers=_layers(weights, "gru_cur")
    )
    out = {}
    for name, value in weights.items():
        theirs = next((k for k in _TCMR if name.startswith(f"{k}.")), None)
        if theirs is not None:
            out[_TCMR[theirs] + name.removeprefix(theirs)] = value
    # They have the past before the whole and the future; we have the whole first.
    order = torch.tensor([1, 0, 2])
    squeezed = out["attention.score.0.weight"]
    out["attention.score.0.weight"] = squeezed.unflatten(1, (3, -1))[:, order].flatten(1)
    for part in ("weight", "bias"):
        out[f"attention.score.4.{part}"] = out[f"attention.score.4.{part}"][order]
    return config, out


def _layers(weights: Weights, gru: str) -> int:
    return sum(f"{gru}.weight_ih_l{n}" in weights for n in range(16))


def _split(weights: Weights, prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): v for n, v in weights.items() if n.startswith(prefix)}


def _used(weights: Weights) -> dict[str, Tensor]:
    return {n: v for n, v in weights.items() if not any(part in n for part in UNUSED)}


def _load(network: torch.nn.Module, weights: Weights, layout: str) -> None:
    """All of the network's weights, each once.

    Raises:
        NetworkFileError: weights that miss, that are too many, of another shape, or not finite.
    """
    expected = {n: v for n, v in network.state_dict().items() if "num_batches_tracked" not in n}
    missing, more = (
        sorted(expected.keys() - weights.keys()),
        sorted(weights.keys() - expected.keys()),
    )
    wrong = [
        f"{n} {tuple(weights[n].shape)} (expected {tuple(v.shape)})"
        for n, v in expected.items()
        if n in weights and weights[n].shape != v.shape
    ]
    bad = [n for n, v in weights.items() if not bool(torch.isfinite(v).all())]
    for what, names in (
        ("without", missing), ("that we do not know:", more), ("of other shapes:", wrong),
        ("that are not finite:", bad),
    ):  # fmt: skip
        if names:
            raise NetworkFileError(
                f"got {layout}'s weights {what} {', '.join(names[:4])} ({len(names)} in all); "
                "expected those of its published models; give the file as it was published"
            )
    network.load_state_dict({n: v.float() for n, v in weights.items()}, strict=False)
