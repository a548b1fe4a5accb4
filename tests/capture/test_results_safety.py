"""Result files are data: nothing in them runs, and none reserves more than is there."""

import builtins
import functools
import gzip
import io
import json
import operator
import os
import pickle
import struct
import tracemalloc
import zipfile
import zlib
from collections import OrderedDict, defaultdict
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from result_files import (
    SIZE_PX,
    object_npy,
    packed,
    phalp_frames,
    romp_frame,
    romp_video,
    tram_camera,
    tram_track,
    vibe_people,
    wave,
    wham_people,
)

from flowhmr.capture import ResultFileError, read_results
from flowhmr.files import DataFileError, PickleFileError, data_of_pickle, plain_data
from flowhmr.files.containers import array_of_npy
from joblib_files import joblib_bytes

BOTH = DataFileError


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


class Sets:
    """Pickles as a call, with the state that is set on its result."""

    def __init__(self, function, args, state):
        self.call = function, args, state

    def __reduce__(self):
        return self.call


def gadgets(witness):
    """Ways to run something that leaves a file behind."""
    touch, make = f"touch {witness}", f"open({str(witness)!r}, 'w').close()"
    return {
        "os.system": (Calls(os.system, touch), r"(posix|nt|os)\.system"),
        "eval": (Calls(eval, make), r"builtin\S*\.eval"),
        "exec": (Calls(exec, make), r"builtin\S*\.exec"),
        "getattr": (Calls(getattr, Calls(builtins.__import__, "os"), "system"), "getattr"),
        "partial": (Calls(functools.partial, os.system, touch), r"functools\.partial"),
        "partial called": (
            Calls(tuple, Calls(map, Calls(functools.partial, os.system), [touch])),
            r"builtin\S*\.tuple",
        ),
        "operator": (
            Calls(operator.methodcaller, "system", touch),
            r"operator\.methodcaller",
        ),
        "numpy.load": (Calls(np.load, str(witness)), r"numpy\S*\.load"),
        "numpy.save": (Calls(np.save, str(witness), np.arange(3)), r"numpy\S*\.save"),
        "pickle.loads": (Calls(pickle.loads, pickle.dumps(Calls(os.system, touch))), "loads"),
        "torch.load": (Calls(torch.load, str(witness)), r"torch\.serialization\.load"),
        "factory": (Sets(defaultdict, (functools.partial,), None), r"partial|defaultdict"),
    }


NAMES = list(gadgets(""))


def in_joblib(evil):
    return joblib_bytes({1: {"pose": np.zeros((2, 72)), "betas": evil}})


def in_packed_joblib(evil):
    return packed(in_joblib(evil))


def in_joblib_objects(evil):
    """Arrays of objects are pickled once more inside joblib's file."""
    return joblib_bytes({1: np.array([None, evil, None], dtype=object)})


def in_npy(evil):
    return object_npy({"pred_rotmat": np.zeros(3), "frame": evil})


def in_npz(evil):
    stream = io.BytesIO()
    np.savez(stream, results=np.array({"a.png": evil}, dtype=object))
    return stream.getvalue()


def in_a_storage(evil):
    """A torch tensor carries a file of its own, which is a pickle, too."""
    inner = io.BytesIO()
    for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, evil):
        pickle.dump(value, inner, protocol=2)
    storage = Calls(torch.storage._load_from_bytes, inner.getvalue())
    tensor = Calls(torch._utils._rebuild_tensor_v2, storage, 0, (3,), (1,), False, OrderedDict())
    return pickle.dumps({"pred_rotmat": tensor}, 4)


HIDING = [
    lambda evil: pickle.dumps(evil, 2),
    lambda evil: pickle.dumps({"a": [(evil,)]}, 4),
    lambda evil: pickle.dumps(Calls(OrderedDict, [("x", evil)]), 5),
    lambda evil: gzip.compress(pickle.dumps([evil], 3)),
    in_joblib,
    in_packed_joblib,
    in_joblib_objects,
    in_npy,
    in_npz,
    in_a_storage,
]


@pytest.mark.parametrize("gadget", NAMES)
@pytest.mark.parametrize("hide", HIDING, ids=lambda hide: getattr(hide, "__name__", ""))
def test_calls_are_refused_by_name_and_never_made(tmp_path, gadget, hide):
    witness = tmp_path / "witness"
    evil, name = gadgets(witness)[gadget]
    path = tmp_path / "vibe_output.pkl"
    path.write_bytes(hide(evil))
    with pytest.raises(PickleFileError, match=rf"vibe_output.pkl: .*({name}).*; expected"):
        read_results(path, SIZE_PX)
    assert not witness.exists()


def test_the_gadgets_would_run(tmp_path):
    """Else the test above could not fail."""
    witness = tmp_path / "witness"
    for gadget in ("os.system", "eval", "exec", "numpy.save", "pickle.loads", "partial called"):
        evil, _ = gadgets(witness)[gadget]
        pickle.loads(pickle.dumps(evil))
        found = list(tmp_path.iterdir())
        assert len(found) == 1, gadget
        found[0].unlink()


def test_methods_of_allowed_names_are_out_of_reach():
    for module, name in (
        ("numpy", "ndarray.tofile"),
        ("collections", "OrderedDict.fromkeys"),
        ("joblib.numpy_pickle", "NumpyArrayWrapper.read"),
        ("torch.storage", "_load_from_bytes.__globals__"),
    ):
        content = (
            b"\x80\x04\x8c" + bytes([len(module)]) + module.encode()
            + b"\x8c" + bytes([len(name)]) + name.encode() + b"\x93."
        )  # fmt: skip
        with pytest.raises(PickleFileError, match=name.replace(".", r"\.")):
            data_of_pickle(content)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02ctorch._utils\n_rebuild_qtensor\n)R.",
        b"\x80\x02ctorch.storage\nUntypedStorage\n)R.",
    ],
)
def test_other_tensors_come_with_a_way_around(content):
    with pytest.raises(PickleFileError, match=r"got a torch tensor stored by.*numpy\.savez"):
        data_of_pickle(content)


def test_the_way_around_is_not_offered_for_what_is_no_tensor():
    with pytest.raises(PickleFileError) as caught:
        data_of_pickle(b"\x80\x02ctorch.hub\nload\n)R.")
    assert "allow_pickle" not in str(caught.value)


def test_a_file_cannot_change_how_the_next_is_read():
    """BUILD sets attributes of whatever a name resolves to."""
    for name in (
        b"cnumpy\ndtype\n",
        b"ccollections\ndefaultdict\n",
        b"ccollections\nOrderedDict\n",
    ):
        for state in (b"}X\x05\x00\x00\x00itemsNs", b"N}X\x05\x00\x00\x00itemsNs\x86"):
            with suppress(PickleFileError):
                data_of_pickle(b"\x80\x02" + name + state + b"b.")
    value = {"a": OrderedDict(b=defaultdict(dict, c=np.arange(3)))}
    loaded = data_of_pickle(pickle.dumps(value))
    assert loaded["a"]["b"]["c"].tolist() == [0, 1, 2]


def test_dictionaries_keep_their_items_however_they_were_made():
    """Python 2 gave an OrderedDict its items when it was made, Python 3 afterwards."""
    for value in (
        OrderedDict(a=1, b=2),
        Calls(OrderedDict, [("a", 1), ("b", 2)]),
        Calls(defaultdict, dict, {"a": 1, "b": 2}),
        defaultdict(list, a=1, b=2),
    ):
        assert data_of_pickle(pickle.dumps(value)) == {"a": 1, "b": 2}


def test_allowed_names_do_only_what_arrays_need():
    for content in (
        b"\x80\x02c__builtin__\nlist\n)R.",
        b"\x80\x02c__builtin__\nbytes\n\x8a\x05\x00\x00\x00\x00\x10\x85R.",
        b"\x80\x02cnumpy\nndarray\nK\x01\x85R.",
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.",
    ):
        with pytest.raises(PickleFileError, match=r"only to be named|stored as 'rot13'"):
            data_of_pickle(content)


def test_data_that_contains_itself_is_refused():
    loop = {}
    loop["loop"] = loop
    with pytest.raises(PickleFileError, match="contains itself"):
        data_of_pickle(pickle.dumps(loop))


HUGE = 10**11 // 8


@pytest.mark.parametrize("aligned", [False, True])
def test_joblib_arrays_larger_than_the_file_are_refused_unmade(aligned):
    content = joblib_bytes(np.zeros(3), protocol=2, aligned=aligned)
    changed = content.replace(b"K\x03\x85", b"\x8a\x05" + HUGE.to_bytes(5, "little") + b"\x85")
    assert changed != content
    with pytest.raises(PickleFileError, match=r"100000000000 bytes; expected at most"):
        data_of_pickle(changed)


def test_pickled_arrays_larger_than_their_bytes_are_refused_unmade():
    content = pickle.dumps(np.zeros(3), 2)
    changed = content.replace(b"K\x03\x85", b"\x8a\x05" + HUGE.to_bytes(5, "little") + b"\x85")
    assert changed != content
    with pytest.raises(PickleFileError, match=r"100000000000 bytes; expected at most"):
        data_of_pickle(changed)


@pytest.mark.parametrize("version", [1, 2])
def test_npy_arrays_larger_than_the_file_are_refused_unmade(version):
    stream = io.BytesIO()
    header = {"shape": (HUGE,), "fortran_order": False, "descr": "<f8"}
    write = (np.lib.format.write_array_header_1_0, np.lib.format.write_array_header_2_0)
    write[version - 1](stream, header)
    with pytest.raises(DataFileError, match=r"100000000000 bytes"):
        array_of_npy(stream.getvalue() + b"\0" * 64)


def test_tensors_that_repeat_little_memory_are_bounded():
    """A stride of zero would make any size out of one number."""
    inner = io.BytesIO()
    torch.save(torch.zeros(4)._typed_storage(), inner, _use_new_zipfile_serialization=False)

    def tensor(offset, size, stride):
        storage = Calls(torch.storage._load_from_bytes, inner.getvalue())
        made = Calls(
            torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, OrderedDict()
        )
        return pickle.dumps(made, 4)

    assert data_of_pickle(tensor(1, (3, 2), (0, 2))).shape == (3, 2)
    with pytest.raises(PickleFileError, match="larger than allowed"):
        data_of_pickle(tensor(0, (10**6, 10**6), (0, 0)))
    for offset, size, stride in (
        (0, (5,), (1,)),
        (2, (2,), (2,)),
        (0, (2,), (-1,)),
        (-1, (2,), (1,)),
    ):
        with pytest.raises(PickleFileError, match=r"storage of 4|got a tensor of size"):
            data_of_pickle(tensor(offset, size, stride))


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_packed_files_unpack_within_bounds(tmp_path, pack):
    path = tmp_path / "bomb.pkl"
    path.write_bytes(pack(b"\x80\x04" + b"\0" * 10**7))
    assert path.stat().st_size < 10**5
    tracemalloc.start()
    with pytest.raises(ResultFileError, match="unpacks to more; expected at most 100000 bytes"):
        read_results(path, SIZE_PX, max_bytes=100_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**6


def test_an_npz_unpacks_within_bounds(tmp_path):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(4):
            archive.writestr(f"{i}.npy", b"\x93NUMPY" + b"\0" * 50_000)
    with pytest.raises(ResultFileError):
        read_results(path, SIZE_PX, max_bytes=100_000)
    with pytest.raises(DataFileError, match=r"unpacks to more|damaged npy"):
        plain_data(path, max_bytes=100_000)


def test_large_files_are_refused_unread(tmp_path):
    path = tmp_path / "large.pkl"
    path.write_bytes(pickle.dumps(list(range(1000))))
    with pytest.raises(ResultFileError, match="expected at most 1000 bytes"):
        read_results(path, SIZE_PX, max_bytes=1000)


def test_lengths_that_a_pickle_names_reserve_no_memory():
    for content in (
        b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".",
        b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b".",
        b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b".",
    ):
        with pytest.raises(PickleFileError, match="breaks off"):
            data_of_pickle(content)
    assert data_of_pickle(b"\x80\x02K\x07r" + struct.pack("<I", 2**32 - 1) + b".") == 7


@pytest.fixture(scope="module")
def whole():
    """One file of each kind."""
    tensors = object_npy(tram_track(2, make=lambda a: torch.from_numpy(np.array(a))))
    npz = io.BytesIO()
    np.savez(npz, **romp_video(2))
    return [
        joblib_bytes({1: vibe_people()[1] | {"joints3d": np.array([None, {}], dtype=object)}}),
        packed(joblib_bytes({"a": np.arange(4), "b": np.float32(1)}, protocol=3, aligned=False)),
        tensors,
        object_npy(tram_camera()),
        npz.getvalue(),
    ]


@given(kind=st.integers(0, 4), share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=60, deadline=None)
def test_files_that_break_off_are_refused_at_any_length(tmp_path_factory, whole, kind, share):
    path = tmp_path_factory.getbasetemp() / "broken"
    path.write_bytes(whole[kind][: int(share * len(whole[kind]))])
    with pytest.raises(BOTH):
        plain_data(path)


@given(kind=st.integers(0, 4), where=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
@settings(max_examples=60, deadline=None)
def test_damaged_files_are_read_or_refused(tmp_path_factory, whole, kind, where, value):
    path = tmp_path_factory.getbasetemp() / "damaged"
    content = bytearray(whole[kind])
    content[int(where * len(content))] = value
    path.write_bytes(content)
    with suppress(BOTH):
        read_results(path, SIZE_PX)


ODD = (None, 3, -1.5, "x", [], {}, (1, [2]), np.zeros((2, 2)), np.array("2020"), float("inf"))


def nodes(value, path=()):
    """Ways to all values in a tree, a few of each long list."""
    yield path
    if isinstance(value, dict):
        for key in list(value)[:12]:
            yield from nodes(value[key], (*path, key))
    elif isinstance(value, list):
        for i in (0, len(value) - 1)[: len(value)]:
            yield from nodes(value[i], (*path, i))


def changed(value, path, odd):
    """The tree with one value exchanged."""
    if not path:
        return odd
    if isinstance(value, dict):
        return value | {path[0]: changed(value[path[0]], path[1:], odd)}
    return [
        changed(v, path[1:], odd) if i == path[0] % len(value) else v for i, v in enumerate(value)
    ]


@pytest.mark.parametrize(
    "tree",
    [
        vibe_people(),
        {"a.jpg": next(iter(phalp_frames().values()))},
        wham_people(2),
        romp_video(2),
        romp_video(2, tracked=False),
        {"results": romp_frame(2)},
        [{"pose_world_landmarks": [[{"x": 1, "y": 2, "z": 3.0}] * 33], "pose_landmarks": []}],
        {"pose_world_landmarks": wave(2, 33, 4), "pose_landmarks": wave(2, 33, 3), "frame": [3, 4]},
    ],
    ids=["vibe", "phalp", "wham", "romp", "romp untracked", "romp picture", "json", "npz"],
)
def test_values_of_any_other_kind_are_read_or_refused(tmp_path, tree):
    path, refused = tmp_path / "file", 0
    for i, place in enumerate(nodes(tree)):
        path.write_bytes(pickle.dumps(changed(tree, place, ODD[i % len(ODD)])))
        try:
            read_results(path, SIZE_PX)
        except BOTH:
            refused += 1
    assert refused > 2


@given(content=st.binary(max_size=40))
@settings(max_examples=60, deadline=None)
def test_noise_is_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "noise"
    path.write_bytes(content)
    with pytest.raises(BOTH):
        read_results(path, SIZE_PX)


def torch_zip():
    stream = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-lfs pointer"),
        (b"\n<!DOCTYPE html><html>Please sign in</html>", "a web page"),
        (b"", "an empty file"),
        (b"\x04\x22\x4d\x18abc", "lz4"),
        (b"ZF0x10", "before 0.10"),
        (torch_zip(), r"a dict of 1 \('a'\); expected the layout"),
        (b"\x89PNG\r\n", "begins with"),
        (b"[1, 2", "JSON that is damaged"),
        (json.dumps({"a": {"b": 1}}).encode(), r"a dict of 1 \('a'\), the first with a dict of 1"),
        (pickle.dumps([1, 2]), "a list; expected the layout of one of 4D-Humans"),
        (b"\x80\x02cjoblib.numpy_pickle\nNDArrayWrapper\n)R.", "joblib before 0.10"),
    ],
)
def test_other_files_are_called_by_their_name(tmp_path, content, complaint):
    path = tmp_path / "file.pkl"
    path.write_bytes(content)
    with pytest.raises(BOTH, match=complaint):
        read_results(path, SIZE_PX)


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(ResultFileError, match=r"none.pkl: got .*No such file.*check its name"):
        read_results(tmp_path / "none.pkl", SIZE_PX)
