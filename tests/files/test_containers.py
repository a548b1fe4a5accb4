"""Data files of all kinds: what others write is read back, and nothing is reserved unseen."""

import io
import json
import os
import pickle
import struct
import tracemalloc
import zipfile
import zlib
from collections import OrderedDict
from contextlib import suppress

import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowhmr.files import DataFileError, PickleFileError, json_entries, path_inside, plain_data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("containers")


def read(folder, content, **options):
    """Of a file of its own: arrays stay in the file that they are read from."""
    path = folder / f"file{len(list(folder.iterdir()))}"
    path.write_bytes(content)
    return plain_data(path, **options)


def saved(value, **options):
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def mat(value, **options):
    stream = io.BytesIO()
    scipy.io.savemat(stream, value, **options)
    return stream.getvalue()


def npz(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


BOTH_TORCH = pytest.mark.parametrize("new", [True, False], ids=["zip", "before 1.6"])
TENSORS = {
    "step": 3,
    "names": ["a", ("b", None)],
    "state": OrderedDict(
        w=torch.arange(12.0).reshape(3, 4).T,
        n=torch.tensor(7),
        half=torch.ones(2).half(),
        flags=torch.tensor([True, False]),
        empty=torch.zeros(0, 3),
    ),
}


@BOTH_TORCH
def test_torch_files_are_read_as_arrays(folder, new):
    content = saved(TENSORS, _use_new_zipfile_serialization=new)
    loaded = read(folder, content)
    assert loaded["step"] == 3
    assert loaded["names"] == ["a", ("b", None)]
    for name, tensor in TENSORS["state"].items():
        assert np.array_equal(loaded["state"][name], tensor.numpy())
        assert loaded["state"][name].dtype == tensor.numpy().dtype


@BOTH_TORCH
def test_tensors_that_share_their_numbers_and_parameters(folder, new):
    base = torch.arange(6.0)
    value = {
        "a": base[1:4],
        "b": base.reshape(2, 3),
        "p": torch.nn.Parameter(base),
        "s": base.size(),
    }
    loaded = read(folder, saved(value, _use_new_zipfile_serialization=new))
    assert loaded["a"].tolist() == [1, 2, 3]
    assert loaded["b"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert loaded["p"].tolist() == base.tolist()
    assert loaded["s"] == (6,)


@BOTH_TORCH
def test_torch_files_run_nothing(folder, tmp_path, new):
    witness = tmp_path / "witness"
    evil = Calls(os.system, f"touch {witness}")
    with pytest.raises(PickleFileError, match=r"calls (posix|nt)\.system; expected nothing but"):
        read(folder, saved({"state": [torch.ones(2), evil]}, _use_new_zipfile_serialization=new))
    assert not witness.exists()


def test_whole_modules_are_refused(folder):
    with pytest.raises(PickleFileError, match=r"calls torch\.nn\.modules\.linear\.Linear"):
        read(folder, saved(torch.nn.Linear(2, 2)))


def test_torch_storages_that_are_not_filled_are_refused(folder):
    content = saved(torch.zeros(1000))
    source, target = zipfile.ZipFile(io.BytesIO(content)), io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in source.namelist():
            archive.writestr(name, source.read(name)[: 100 if "/data/" in name else None])
    with pytest.raises(PickleFileError, match="4000 bytes; expected at most the 100"):
        read(folder, target.getvalue())


def test_arrays_of_an_npz_stay_in_the_file(folder):
    """A database of gigabytes takes memory only where it is looked at."""
    large = np.arange(4_000_000.0)
    content = npz(large=large, text=np.array(["a", "bc"]), meta=np.array({"gender": ["f"]}))
    path = folder / "large.npz"
    path.write_bytes(content)
    tracemalloc.start()
    loaded = plain_data(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
    assert np.array_equal(loaded["large"], large)
    assert loaded["text"].tolist() == ["a", "bc"]
    assert loaded["meta"] == {"gender": ["f"]}
    assert plain_data(path, keys=["text", "other"]).keys() == {"text"}
    with pytest.raises(ValueError, match="read-only"):
        loaded["large"][0] = 1


def test_packed_members_count_and_plain_ones_are_checked(folder):
    stream = io.BytesIO()
    np.savez_compressed(stream, a=np.zeros(100_000), b=np.zeros(100_000))
    assert read(folder, stream.getvalue())["b"].shape == (100_000,)
    with pytest.raises(DataFileError, match="unpacks to more; expected at most 1000000"):
        read(folder, stream.getvalue(), max_bytes=1_000_000)
    with pytest.raises(DataFileError, match="two files of one name"):
        read(folder, twice_named())


def twice_named():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.npy", b"1")
        archive.writestr("b.npy", b"2")
    return stream.getvalue().replace(b"b.npy", b"a.npy")


MATLAB = {
    "numbers": np.arange(6.0).reshape(2, 3),
    "small": np.array([[1, -2]], np.int16),
    "single": np.ones((2, 2, 2), np.float32),
    "flags": np.array([[True, False]]),
    "text": "golf_swing",
    "lines": np.array(["abc", "xyz"]),
    "struct": {"x": np.eye(2), "name": "S1", "inner": {"n": 5}},
}


@pytest.mark.parametrize("packed", [True, False])
def test_matlab_files(folder, packed):
    cells = np.empty((2, 3), object)
    for i in np.ndindex(2, 3):
        cells[i] = np.full((2, i[0] + 1), 10.0 * i[0] + i[1])
    loaded = read(folder, mat({**MATLAB, "cells": cells}, do_compression=packed))
    for name in ("numbers", "small", "single", "flags"):
        assert np.array_equal(loaded[name], MATLAB[name])
        assert loaded[name].dtype == (MATLAB[name].dtype if name != "flags" else bool)
    assert loaded["text"] == "golf_swing"
    assert loaded["lines"] == ["abc", "xyz"]
    assert np.array_equal(loaded["struct"]["x"], np.eye(2))
    assert loaded["struct"]["name"] == "S1"
    assert loaded["struct"]["inner"]["n"] == 5
    assert loaded["cells"].shape == (2, 3)
    for i in np.ndindex(2, 3):
        assert np.array_equal(loaded["cells"][i], cells[i])
    assert read(folder, mat(MATLAB), keys=["text"]) == {"text": "golf_swing"}


def test_matlab_structures_in_an_array(folder):
    rows = np.zeros((1, 2), dtype=[("a", object), ("b", object)])
    rows[0, 0], rows[0, 1] = (1.0, "x"), (2.0, "y")
    loaded = read(folder, mat({"rows": rows}))["rows"]
    assert [(r["a"].item(), r["b"]) for r in loaded] == [(1, "x"), (2, "y")]


def test_matlab_files_unpack_within_bounds(folder):
    content = mat({"zeros": np.zeros(4_000_000)}, do_compression=True)
    assert len(content) < 100_000
    with pytest.raises(DataFileError, match="unpacks to more; expected at most 1000000"):
        read(folder, content, max_bytes=1_000_000)


def matlab_array(kind, dims, *rest):
    def element(number, content):
        return struct.pack("<II", number, len(content)) + content + bytes(-len(content) % 8)

    body = element(6, struct.pack("<II", kind, 0)) + element(5, struct.pack("<2i", *dims))
    body += element(1, b"a") + b"".join(element(*r) for r in rest)
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    return header + element(14, body)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (matlab_array(6, (10**5, 10**5), (9, bytes(16))), "80000000000 bytes; expected at most"),
        (matlab_array(1, (10**5, 10**5)), "got 10000000000 MATLAB cells in 0 bytes"),
        (matlab_array(6, (-1, 2), (9, bytes(16))), r"shape \(-1, 2\)"),
        (matlab_array(16, (1, 1)), "got a function in a MATLAB file"),
        (matlab_array(3, (1, 1)), "got an object in a MATLAB file"),
        (matlab_array(5, (1, 1)), "got a sparse array"),
        (matlab_array(6, (1, 2), (9, bytes(16)))[:-8], "breaks off"),
    ],
    ids=["numbers", "cells", "negative", "function", "object", "sparse", "short"],
)
def test_matlab_arrays_that_are_not_there_are_refused_unmade(folder, content, complaint):
    with pytest.raises(DataFileError, match=complaint):
        read(folder, content)


def test_hdf5_needs_h5py(folder):
    """Or reads what MATLAB 7.3 stores: axes reversed, cells as references."""
    h5py = pytest.importorskip("h5py", reason="pip install 'flowhmr[hdf5]'")
    path = folder / "test.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["univ_annot3"] = np.arange(24.0).reshape(2, 1, 4, 3)
        file["#refs#/a"] = np.ones((2, 1))
        file["#refs#/b"] = np.zeros((1, 2))
        made = file.create_dataset("cells", (2, 1), h5py.ref_dtype)
        made[0, 0], made[1, 0] = file["#refs#/a"].ref, file["#refs#/b"].ref
        file["group/n"] = 3
    loaded = plain_data(path)
    assert loaded.keys() == {"univ_annot3", "cells", "group"}
    assert loaded["univ_annot3"].shape == (2, 1, 4, 3)
    assert [c.shape for c in loaded["cells"].flat] == [(2, 1), (1, 2)]
    assert loaded["group"]["n"] == 3
    with pytest.raises(DataFileError, match="expected at most 1000 bytes"):
        plain_data(path, max_bytes=1000)


def test_hdf5_files_lead_nowhere_else(folder):
    h5py = pytest.importorskip("h5py", reason="pip install 'flowhmr[hdf5]'")
    secret = folder / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["a"] = np.arange(3.0)
    raw = folder / "raw"
    raw.write_bytes(bytes(24))
    makers = {
        "link": lambda f: f.__setitem__("a", h5py.ExternalLink(secret.name, "/a")),
        "external": lambda f: f.create_dataset("a", (3,), "f8", external=[(str(raw), 0, 24)]),
        "bomb": lambda f: f.create_dataset("a", (10**6, 10**6), "f8", chunks=(100, 100)),
    }
    complaints = {
        "link": "link to elsewhere",
        "external": "another file",
        "bomb": "expected at most",
    }
    for name, make in makers.items():
        with h5py.File(folder / f"{name}.h5", "w") as file:
            make(file)
        with pytest.raises(DataFileError, match=complaints[name]):
            plain_data(folder / f"{name}.h5")


def test_hdf5_groups_that_hold_each_other_twice_count(folder):
    """Ten names a level, ten to the power of the levels in all."""
    h5py = pytest.importorskip("h5py", reason="pip install 'flowhmr[hdf5]'")
    path = folder / "laughs.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("0")
        for level in range(1, 4):
            above = file.create_group(f"{level}")
            for name in range(10):
                above[f"{name}"] = group
            group = above
    assert plain_data(path, keys=["1"]).keys() == {"1"}
    with pytest.raises(DataFileError, match="a group of 10; expected at most 50000"):
        plain_data(path, max_bytes=50_000)


def test_json_lists_are_read_one_entry_at_a_time(folder):
    path = folder / "large.json"
    content = {"ver": [1, {"data": [0]}], "data": [{"i": i, "x": [0.5] * 20} for i in range(50)]}
    for text in (json.dumps(content), json.dumps(content, indent=1), " " + json.dumps(content)):
        path.write_text(text)
        assert list(json_entries(path, "data")) == content["data"]
        assert next(json_entries(path, "ver")) == 1
    with pytest.raises(DataFileError, match='without a list "images"; expected one'):
        list(json_entries(path, "images"))
    with pytest.raises(DataFileError, match="expected at most 100 bytes"):
        list(json_entries(path, "data", max_bytes=100))
    for broken in (text[:900], text.replace('"i": 7,', '"i": 7', 1), "[1]", "[" * 10**5, ""):
        path.write_text(broken)
        with pytest.raises(DataFileError, match=r"damaged|no object|without a list"):
            list(json_entries(path, "data"))


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../x.jpg", "a/../../x.jpg", "C:\\x.jpg", "..\\x.jpg", "\\\\h\\x", "", "a\0b"],
)
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path, name):
    with pytest.raises(DataFileError, match=r"got the file name .*; expected one below"):
        path_inside(tmp_path, name)


def test_names_inside_are_joined(tmp_path):
    assert path_inside(tmp_path, "S1/a..b.jpg") == tmp_path / "S1" / "a..b.jpg"
    assert path_inside(tmp_path, "S1\\a.jpg") == tmp_path / "S1" / "a.jpg"


WHOLE = [
    saved(TENSORS),
    saved(TENSORS, _use_new_zipfile_serialization=False),
    mat(MATLAB, do_compression=True),
    mat(MATLAB, do_compression=False),
    npz(a=np.arange(9.0), b=np.array({"x": [1, np.eye(2)]})),
    zlib.compress(pickle.dumps(TENSORS["names"])),
]


@given(
    kind=st.integers(0, len(WHOLE) - 1),
    where=st.floats(0, 1, exclude_max=True),
    value=st.binary(min_size=1, max_size=6),
    keep=st.floats(0, 1),
)
@settings(max_examples=200, deadline=None)
def test_damaged_files_are_read_or_refused(folder, kind, where, value, keep):
    content = bytearray(WHOLE[kind])
    place = int(where * len(content))
    content[place : place + len(value)] = value
    whole = keep > 0.5
    with suppress(DataFileError):
        read(folder, bytes(content if whole else content[: int(2 * keep * len(content))]))
