"""The bytes of one stored flow pair: rounded flow, packed masks, a checksum; never pickle.

Flow is rounded to steps of 1/64 px, so that it is off by at most 1/128 px (DIS itself is off by a
quarter of a pixel on average). Where a vector component exceeds 512 px, the pair's step doubles
until 16 bits reach it. Neighbouring pixels differ by little: stored are differences between rows,
low bytes apart from high bytes, then zlib, a third of the plain 16-bit numbers.
"""

import hashlib
import math
import struct
import zlib

import numpy as np
import torch
from jaxtyping import Int16

from flowhmr.flow.maps import FlowPair

FORMAT_VERSION = 1
"""Part of every cache key: raise it when the bytes change their meaning."""

_FINEST_STEP_PX = 1 / 64
_LARGEST_COUNT = np.iinfo(np.int16).max
_DIGEST_BYTES = hashlib.sha256().digest_size
_HEADER = struct.Struct("<IId")
"""Height, width, step in pixels."""


class DamagedEntry(ValueError):
    """Bytes that are not the entry they should be."""


def pack_pair(pair: FlowPair, key: str) -> bytes:
    """The entry of ``pair`` (no batch axis, finite flow) under ``key``."""
    height, width = pair.forward_valid.shape
    flows = torch.stack([pair.forward, pair.backward]).double().numpy()
    step_px = _step_px(float(np.abs(flows).max()))
    counts = np.rint(flows / step_px).astype(np.int16)
    masks = np.stack([pair.forward_valid.numpy(), pair.backward_valid.numpy()])
    body = _HEADER.pack(height, width, step_px) + zlib.compress(
        _squeezable(counts) + np.packbits(masks).tobytes(), level=1
    )
    return _digest(key, body) + body


def unpack_pair(entry: bytes, key: str) -> FlowPair:
    """Inverse of `pack_pair` up to the rounding, which is the same for equal pairs.

    Raises:
        DamagedEntry: the entry is truncated, changed, or belongs to another key.
    """
    digest, body = entry[:_DIGEST_BYTES], entry[_DIGEST_BYTES:]
    if digest != _digest(key, body):
        raise DamagedEntry(f"got {len(entry)} bytes whose checksum is wrong; expected {key}")
    height, width, step_px = _HEADER.unpack_from(body)
    plain = zlib.decompress(body[_HEADER.size :])
    size = 2 * height * width * 2 * 2
    counts = _restored(plain[:size], height, width)
    flows = torch.from_numpy(counts.astype(np.float32) * np.float32(step_px))
    bits = np.unpackbits(np.frombuffer(plain[size:], np.uint8), count=2 * height * width)
    masks = torch.from_numpy(bits.reshape(2, height, width).astype(bool))
    return FlowPair(flows[0], flows[1], masks[0], masks[1])


def _step_px(largest_px: float) -> float:
    """The finest step whose 16-bit counts reach the largest displacement."""
    doublings = math.ceil(math.log2(max(1.0, largest_px / (_FINEST_STEP_PX * _LARGEST_COUNT))))
    return _FINEST_STEP_PX * 2**doublings


def _squeezable(counts: Int16[np.ndarray, "2 h w 2"]) -> bytes:
    # 16-bit differences may wrap; the sums wrap back.
    steps = np.diff(counts, axis=1, prepend=np.int16(0)).astype("<i2", order="C")
    return steps.view(np.uint8).reshape(-1, 2).T.tobytes()


def _restored(plain: bytes, height: int, width: int) -> Int16[np.ndarray, "2 h w 2"]:
    low, high = np.frombuffer(plain, np.uint8).reshape(2, -1)
    counts = (low | high.astype(np.uint16) << 8).view(np.int16).reshape(2, height, width, 2)
    # np.cumsum along this axis takes fifteen times as long.
    for row in range(1, height):
        counts[:, row] += counts[:, row - 1]
    return counts


def _digest(key: str, body: bytes) -> bytes:
    return hashlib.sha256(key.encode() + body).digest()
