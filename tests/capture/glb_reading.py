"""A GLB read by the specification, without the code that wrote it."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import roma
import torch

TYPES = {5121: np.uint8, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
WIDTHS = {"SCALAR": (), "VEC3": (3,), "VEC4": (4,), "MAT4": (4, 4)}


@dataclass(frozen=True)
class Glb:
    """The two chunks of a file."""

    document: dict[str, Any]
    """glTF's JSON."""
    buffer: bytes
    """What the buffer views look into."""

    def rows(self, accessor: int) -> np.ndarray:
        """The numbers of an accessor."""
        entry = self.document["accessors"][accessor]
        view = self.document["bufferViews"][entry["bufferView"]]
        kind, shape = np.dtype(TYPES[entry["componentType"]]), WIDTHS[entry["type"]]
        size = int(np.prod(shape, dtype=int)) * entry["count"]
        assert view["byteOffset"] % 4 == 0
        assert size * kind.itemsize == view["byteLength"]
        assert view["byteOffset"] + view["byteLength"] <= len(self.buffer)
        flat = np.frombuffer(self.buffer, kind, size, view["byteOffset"])
        return flat.reshape(entry["count"], *shape)

    def named(self, kind: str, name: str) -> dict[str, Any]:
        """The only entry of this name."""
        (entry,) = [e for e in self.document[kind] if e.get("name") == name]
        return entry

    def curves(self) -> dict[tuple[int, str], tuple[np.ndarray, np.ndarray, str]]:
        """(node, path) -> times, values, interpolation."""
        (animation,) = self.document["animations"]
        out = {}
        for channel in animation["channels"]:
            sampler = animation["samplers"][channel["sampler"]]
            target = channel["target"]["node"], channel["target"]["path"]
            assert target not in out
            times, values = self.rows(sampler["input"]), self.rows(sampler["output"])
            out[target] = times, values, sampler["interpolation"]
        return out

    def skinned(self, person: int, key: int) -> torch.Tensor:
        """Vertices [v 3] at a person's keyframe, as the specification moves them."""
        nodes, curves = self.document["nodes"], self.curves()
        node = self.named("nodes", f"person-{person}-body")
        skin = self.document["skins"][node["skin"]]
        (primitive,) = self.document["meshes"][node["mesh"]]["primitives"]

        def local(place: int) -> torch.Tensor:
            turn = torch.from_numpy(curves[place, "rotation"][1][key].copy()).double()
            shift = torch.tensor(nodes[place]["translation"]).double()
            if (place, "translation") in curves:
                shift = torch.from_numpy(curves[place, "translation"][1][key].copy()).double()
            matrix = torch.eye(4).double()
            matrix[:3, :3], matrix[:3, 3] = roma.unitquat_to_rotmat(turn), shift
            return matrix

        world = {skin["joints"][0]: local(skin["joints"][0])}
        waiting = [skin["joints"][0]]
        while waiting:
            parent = waiting.pop()
            for child in nodes[parent].get("children", []):
                world[child] = world[parent] @ local(child)
                waiting.append(child)
        bind = torch.from_numpy(self.rows(skin["inverseBindMatrices"]).copy()).double()
        moves = torch.stack([world[joint] for joint in skin["joints"]]) @ bind.transpose(1, 2)
        table = {k: self.rows(v).copy() for k, v in primitive["attributes"].items()}
        verts = torch.from_numpy(table["POSITION"]).double()
        verts = torch.cat([verts, torch.ones(len(verts), 1)], 1)
        each = moves[torch.from_numpy(table["JOINTS_0"]).long()] @ verts[:, None, :, None]
        return (each[..., :3, 0] * torch.from_numpy(table["WEIGHTS_0"])[..., None]).sum(1)


def read_glb(path: Path) -> Glb:
    """The chunks, lengths checked."""
    content = path.read_bytes()
    assert struct.unpack("<4sII", content[:12]) == (b"glTF", 2, len(content))
    chunks, place = [], 12
    while place < len(content):
        length, kind = struct.unpack("<I4s", content[place : place + 8])
        assert length % 4 == 0
        chunks.append((kind, content[place + 8 : place + 8 + length]))
        place += 8 + length
    assert place == len(content)
    assert [kind for kind, _ in chunks] == [b"JSON", b"BIN\0"][: len(chunks)]
    document = json.loads(chunks[0][1])
    buffers = document.get("buffers", [])
    assert len(buffers) == len(chunks) - 1
    buffer = chunks[1][1] if buffers else b""
    assert all(0 <= len(buffer) - entry["byteLength"] < 4 for entry in buffers)
    return Glb(document, buffer)
