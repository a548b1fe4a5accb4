"""The binary form of glTF 2.0: tables of numbers in one buffer, described in JSON beside it.

Written here and not by a library: of what is needed, pygltflib offers the container, twenty lines
of this, at the price of six further packages; the tables and their bounds would be ours all the
same.
"""

import json
import struct
from typing import Any, Literal

import numpy as np

COMPONENTS = {"uint8": 5121, "uint16": 5123, "uint32": 5125, "float32": 5126}
SHAPES = {(): "SCALAR", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}
TARGETS = {"vertices": 34962, "indices": 34963}


class GlbFile:
    """A glTF document while it is put together."""

    def __init__(self, **asset: Any) -> None:
        self.document: dict[str, Any] = {"asset": {"version": "2.0", **asset}}
        self._buffer = bytearray()

    def add(self, kind: str, **entry: Any) -> int:
        """A new entry of a list such as ``nodes``; returns its place there."""
        entries = self.document.setdefault(kind, [])
        entries.append(entry)
        return len(entries) - 1

    def table(
        self,
        values: np.ndarray,
        target: Literal["vertices", "indices"] | None = None,
        bounds: bool = False,
    ) -> int:
        """An accessor to the rows of an array, float32 or an unsigned integer.

        Args:
            values: [n], [n 3], [n 4] or [n 4 4] (matrices as their columns, one after another).
            target: what a graphics card uses the table for.
            bounds: state the smallest and largest values.
        """
        kind, shape = COMPONENTS[values.dtype.name], SHAPES[values.shape[1:]]
        # Little-endian, and each table on a multiple of four.
        content = values.astype(values.dtype.newbyteorder("<"), order="C").tobytes()
        view = {"buffer": 0, "byteOffset": len(self._buffer), "byteLength": len(content)}
        if target is not None:
            view["target"] = TARGETS[target]
        self._buffer += content + bytes(-len(content) % 4)
        entry = {"bufferView": self.add("bufferViews", **view), "componentType": kind}
        entry |= {"count": len(values), "type": shape}
        if bounds:
            rows = values.reshape(len(values), -1)
            entry |= {"min": rows.min(0).tolist(), "max": rows.max(0).tolist()}
        return self.add("accessors", **entry)

    def content(self) -> bytes:
        """The whole file."""
        document = dict(self.document)
        if self._buffer:
            document["buffers"] = [{"byteLength": len(self._buffer)}]
        text = json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
        chunks = _chunk(b"JSON", text + b" " * (-len(text) % 4))
        if self._buffer:
            chunks += _chunk(b"BIN\0", bytes(self._buffer))
        return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack("<I4s", len(content), kind) + content
