"""The bytes of one exported clip: one member per layer of ground truth, nothing rounded.

========== ====================== ==========================================================
layer      member                 holds
========== ====================== ==========================================================
(always)   ``json``               `ClipInfo`
frames     ``frames.png``         RGB, the frames of the clip below each other
labels     ``labels.safetensors`` pose, shape, cameras, joints, boxes, dropped frames
surface    ``surface.npz``        ``surface_px``, ``vertex_visible``
flow       ``flow.npz``           both directions and where they are valid
depth      ``depth.npz``          ``depth_m``
masks      ``masks.npz``          ``parts``, ``people``
========== ====================== ==========================================================

Dense float32 maps hardly shrink as they are. They are stored under ``<name>_planes``: 32-bit
differences between frames, low bytes apart from high bytes, which zlib makes a third smaller than
plain floats, faster. To have the floats again without this package::

    steps = np.ascontiguousarray(np.moveaxis(planes, 0, -1)).view("<u4")[..., 0]
    values = np.cumsum(steps, axis=0, dtype="<u4").view("<f4")

Of the default clip's 5.7 MB, flow takes more than half. The codec of estimated flow is no choice
here: it rounds to 1/128 px, too coarse for ground truth.
"""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
import safetensors.numpy
import safetensors.torch
import torch
from jaxtyping import Float32, Shaped, UInt8
from torch import Tensor

from flowhmr.body import BodyParams
from flowhmr.cameras import PerspectiveCamera, WeakCamera
from flowhmr.flow import FlowPair
from flowhmr.synth.truth import SynthClip

Layers = dict[str, Tensor]
"""Decoded arrays by name, time first."""

LONGEST_PNG_PX = 1_000_000
"""libpng reads no image higher than this."""

_PLANES = "_planes"
# Level 6 makes flow an eighth smaller, five times slower: as slow as rendering the clip.
_ZLIB_LEVEL = 1
_LABEL_BYTES = 2048
_MEMBER_BYTES = 8192


@dataclass(frozen=True)
class ClipInfo:
    """What an exported clip is, besides its layers."""

    name: str
    """``synth/<seed>/<index>``."""
    index: int
    """Number of the clip in its configuration."""
    seed: int
    """The configuration's seed."""
    fps: float
    """Frames per second."""
    frames: int
    """Number of frames."""
    height_px: int
    """Height of a frame."""
    width_px: int
    """Width of a frame."""
    text: str
    """What the motion is and where the scene."""
    body_id: str
    """Identity of the body whose pose, shape and vertices these are."""


@dataclass(frozen=True)
class _Layer:
    suffix: str
    """The member's name behind the clip's key."""
    arrays: tuple[str, ...]
    """What it holds."""
    encode: Callable[[SynthClip], bytes]
    """A clip's member."""
    decode: Callable[[bytes, ClipInfo], Layers]
    """Its arrays by name."""


def encode_clip(
    clip: SynthClip, seed: int, index: int, layers: tuple[str, ...]
) -> dict[str, bytes]:
    """The members of a clip by suffix: ``json``, then one per layer; equal for equal clips.

    The bytes also depend on the versions of zlib, libpng and safetensors.
    """
    info = ClipInfo(
        name=clip.name,
        index=index,
        seed=seed,
        fps=clip.fps,
        frames=len(clip),
        height_px=clip.images.shape[1],
        width_px=clip.images.shape[2],
        text=clip.text,
        body_id=clip.params.body_id,
    )
    members = {"json": json.dumps(asdict(info), sort_keys=True).encode()}
    return members | {_LAYERS[name].suffix: _LAYERS[name].encode(clip) for name in layers}


def decode_info(members: Mapping[str, Any]) -> ClipInfo:
    """What a clip is, from its members by suffix.

    Raises:
        ValueError: the clip's ``json`` is missing or is none of this package's.
    """
    try:
        return ClipInfo(**json.loads(members["json"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"exported clip: got no usable json member ({error!r}); expected one written by this "
            "version of flowhmr; export the clips again"
        ) from error


def decode_layers(members: Mapping[str, Any], layers: tuple[str, ...]) -> Layers:
    """The arrays of some layers, as they were exported.

    Args:
        members: bytes by suffix, as `encode_clip` gives them and WebDataset reads them.
        layers: which.

    Raises:
        ValueError: a layer is missing or damaged.
    """
    info = decode_info(members)
    missing = [name for name in layers if _LAYERS[name].suffix not in members]
    if missing:
        raise ValueError(
            f"{info.name}: got no {', '.join(missing)}; expected {', '.join(layers)}; export the "
            "clips with these layers, or ask for others"
        )
    arrays: Layers = {}
    for name in layers:
        layer = _LAYERS[name]
        try:
            found = layer.decode(members[layer.suffix], info)
            if found.keys() != set(layer.arrays):
                raise ValueError(f"it holds {', '.join(found)}, not {', '.join(layer.arrays)}")
        # A damaged archive fails in as many ways as there are bytes in its headers.
        except Exception as error:
            raise ValueError(
                f"{info.name}: got a damaged layer {name} ({error}); expected the bytes that were "
                "exported; export the clip again"
            ) from error
        arrays |= found
    return arrays


def decode_clip(members: Mapping[str, Any]) -> SynthClip:
    """The clip that was exported, bit by bit.

    Args:
        members: bytes by suffix; a WebDataset sample that was not decoded is such a mapping.

    Raises:
        ValueError: a layer is missing or damaged.
    """
    info, a = decode_info(members), decode_layers(members, ALL_LAYERS)
    return SynthClip(
        name=info.name,
        images=a["images"],
        fps=info.fps,
        params=BodyParams(a["rotmats"], a["betas"], info.body_id),
        translation_m=a["translation_m"],
        camera=PerspectiveCamera(a["focal_px"], a["principal_px"]),
        rotmat_cam_world=a["rotmat_cam_world"],
        centre_world=a["centre_world"],
        weak=WeakCamera(a["weak_camera"]),
        weak_residual_px=a["weak_residual_px"],
        joints_m=a["joints_m"],
        joints_px=a["joints_px"],
        joint_visible=a["joint_visible"],
        surface_px=a["surface_px"],
        vertex_visible=a["vertex_visible"],
        flow=FlowPair(
            a["flow_forward"],
            a["flow_backward"],
            a["flow_forward_valid"],
            a["flow_backward_valid"],
        ),
        depth_m=a["depth_m"],
        parts=a["parts"],
        people=a["people"],
        dropped=a["dropped"],
        text=info.text,
    )


def most_bytes(frames: int, size_px: int, verts: int, layers: tuple[str, ...]) -> int:
    """No clip takes more, however little it shrinks.

    Args:
        frames: length of the clip.
        size_px: width and height of its frames.
        verts: vertices of the body.
        layers: what is exported of it.
    """
    pixels = frames * size_px**2
    plain = {
        "frames": 3 * pixels,
        "labels": _LABEL_BYTES * frames,
        "surface": (8 + 1) * verts * frames,
        "flow": 2 * (8 + 1) * pixels,
        "depth": 4 * pixels,
        "masks": 2 * pixels,
    }
    return sum(plain[name] * 21 // 20 + _MEMBER_BYTES for name in layers) + _MEMBER_BYTES


def _encode_frames(clip: SynthClip) -> bytes:
    rows = clip.images.numpy().reshape(-1, clip.images.shape[2], 3)
    return cv2.imencode(".png", cv2.cvtColor(rows, cv2.COLOR_RGB2BGR))[1].tobytes()


def _decode_frames(payload: bytes, info: ClipInfo) -> Layers:
    rows = cv2.imdecode(np.frombuffer(payload, np.uint8), cv2.IMREAD_COLOR)
    if rows is None:
        raise ValueError("no readable PNG")
    rows = cv2.cvtColor(rows, cv2.COLOR_BGR2RGB)
    shape = (info.frames, info.height_px, info.width_px, 3)
    return {"images": torch.from_numpy(rows.reshape(shape))}


def _encode_labels(clip: SynthClip) -> bytes:
    tensors = {
        "rotmats": clip.params.rotmats,
        "betas": clip.params.betas,
        "translation_m": clip.translation_m,
        "focal_px": clip.camera.focal_px,
        "principal_px": clip.camera.centre_px,
        "rotmat_cam_world": clip.rotmat_cam_world,
        "centre_world": clip.centre_world,
        "weak_camera": clip.weak.params,
        "weak_residual_px": clip.weak_residual_px,
        "joints_m": clip.joints_m,
        "joints_px": clip.joints_px,
        "joint_visible": clip.joint_visible,
        "boxes_px": clip.boxes_px(),
        "dropped": clip.dropped,
    }
    return safetensors.numpy.save({k: v.contiguous().numpy() for k, v in tensors.items()})


def _decode_labels(payload: bytes, info: ClipInfo) -> Layers:
    return safetensors.torch.load(payload)


def _encode_surface(clip: SynthClip) -> bytes:
    return _npz(surface_px=clip.surface_px, vertex_visible=clip.vertex_visible)


def _encode_flow(clip: SynthClip) -> bytes:
    return _npz(
        flow_forward=clip.flow.forward,
        flow_backward=clip.flow.backward,
        flow_forward_valid=clip.flow.forward_valid,
        flow_backward_valid=clip.flow.backward_valid,
    )


def _encode_depth(clip: SynthClip) -> bytes:
    return _npz(depth_m=clip.depth_m)


def _encode_masks(clip: SynthClip) -> bytes:
    return _npz(parts=clip.parts, people=clip.people)


def _npz(**tensors: Tensor) -> bytes:
    """``np.load`` reads it; unlike ``np.savez_compressed`` the level can be chosen."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, tensor in tensors.items():
            array = tensor.contiguous().numpy()
            if array.dtype == np.float32:
                name, array = name + _PLANES, _planes(array)
            content = io.BytesIO()
            np.save(content, array, allow_pickle=False)
            # A ZipInfo of its own has a fixed date.
            entry = zipfile.ZipInfo(name + ".npy")
            archive.writestr(entry, content.getvalue(), zipfile.ZIP_DEFLATED, _ZLIB_LEVEL)
    return buffer.getvalue()


def _decode_npz(payload: bytes, info: ClipInfo) -> Layers:
    arrays: Layers = {}
    with zipfile.ZipFile(io.BytesIO(payload)) as archive:
        for file in archive.namelist():
            # Whole, and not by np.load: it stops before the end, where the checksum is compared.
            array = np.load(io.BytesIO(archive.read(file)), allow_pickle=False)
            name = file.removesuffix(".npy")
            if name.endswith(_PLANES):
                name, array = name.removesuffix(_PLANES), _from_planes(array)
            arrays[name] = torch.from_numpy(array)
    return arrays


def _planes(values: Float32[np.ndarray, "t *rest"]) -> UInt8[np.ndarray, "4 t *rest"]:
    bits = np.ascontiguousarray(values, "<f4").view("<u4")
    # Differences may wrap; the sums wrap back.
    steps = bits.copy()
    steps[1:] -= bits[:-1]
    return np.ascontiguousarray(np.moveaxis(_bytes_last(steps), -1, 0))


def _from_planes(planes: UInt8[np.ndarray, "4 t *rest"]) -> Float32[np.ndarray, "t *rest"]:
    steps = np.ascontiguousarray(np.moveaxis(planes, 0, -1)).view("<u4")
    bits = steps.reshape(planes.shape[1:])
    # Slices, since numpy warns when single numbers wrap.
    for frame in range(1, len(bits)):
        bits[frame : frame + 1] += bits[frame - 1 : frame]
    return bits.view("<f4")


def _bytes_last(array: Shaped[np.ndarray, "*n"]) -> UInt8[np.ndarray, "*n 4"]:
    return array[..., None].view(np.uint8)


_LABELS = (
    "rotmats", "betas", "translation_m", "focal_px", "principal_px", "rotmat_cam_world",
    "centre_world", "weak_camera", "weak_residual_px", "joints_m", "joints_px", "joint_visible",
    "boxes_px", "dropped",
)  # fmt: skip
_FLOW = ("flow_forward", "flow_backward", "flow_forward_valid", "flow_backward_valid")
_SURFACE = ("surface_px", "vertex_visible")

_LAYERS = {
    "frames": _Layer("frames.png", ("images",), _encode_frames, _decode_frames),
    "labels": _Layer("labels.safetensors", _LABELS, _encode_labels, _decode_labels),
    "surface": _Layer("surface.npz", _SURFACE, _encode_surface, _decode_npz),
    "flow": _Layer("flow.npz", _FLOW, _encode_flow, _decode_npz),
    "depth": _Layer("depth.npz", ("depth_m",), _encode_depth, _decode_npz),
    "masks": _Layer("masks.npz", ("parts", "people"), _encode_masks, _decode_npz),
}

ALL_LAYERS = tuple(_LAYERS)
"""Layers of ground truth: a `SynthClip` takes all of them."""
