"""Pickles are read as data: what is data comes back, what is not is refused and never runs."""

import gzip
import io
import os
import pickle
import re
import struct
import zipfile
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import sparse

from flowhmr.files import DataFileError, PickleFileError, plain_data
from python2_pickles import Ch, MatVecMult, Reshape, Select, python2_pickle, transpose

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("pickles") / "file.pkl"


def load(path, content):
    path.write_bytes(content)
    return plain_data(path)


def same(a, b):
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or a != a)


arrays = npst.arrays(
    st.one_of(
        npst.boolean_dtypes(),
        npst.integer_dtypes(),
        npst.unsigned_integer_dtypes(),
        npst.floating_dtypes(endianness="<"),
        npst.floating_dtypes(endianness=">"),
        npst.complex_number_dtypes(sizes=(64, 128)),
        npst.unicode_string_dtypes(max_len=4),
        npst.byte_string_dtypes(max_len=4),
    ),
    npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    arrays,
)
data = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
    ),
    max_leaves=8,
)


@given(value=data, protocol=st.sampled_from(PROTOCOLS))
@settings(max_examples=150, deadline=None)
def test_data_comes_back_as_it_was(path, value, protocol):
    assert same(value, load(path, pickle.dumps(value, protocol)))


@given(array=arrays, protocol=st.sampled_from(PROTOCOLS))
@settings(max_examples=50, deadline=None)
def test_transposed_arrays_come_back_as_they_were(path, array, protocol):
    assert same(array.T, load(path, pickle.dumps(array.T, protocol)))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numpy_scalars_sets_and_ordered_dicts(path, protocol):
    value = {"a": np.float32(1.5), "b": {1, 2}, "c": frozenset("x"), "d": OrderedDict(y=1, x=2)}
    loaded = load(path, pickle.dumps(value, protocol))
    assert loaded == value
    assert loaded["a"].dtype == np.float32
    assert list(loaded["d"]) == ["y", "x"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("layout", ["csc", "csr"])
@pytest.mark.parametrize("kind", ["matrix", "array"])
def test_sparse_matrices(path, protocol, layout, kind):
    dense = np.arange(12.0).reshape(3, 4) * (np.arange(4) % 2)
    value = getattr(sparse, f"{layout}_{kind}")(dense)
    loaded = load(path, pickle.dumps({"J": value}, protocol))["J"]
    assert loaded.format == layout
    assert np.array_equal(loaded.toarray(), dense)


def test_shared_parts_are_read_once(path):
    shared = np.arange(3)
    loaded = load(path, pickle.dumps([shared, shared]))
    assert loaded[0] is loaded[1]


def test_python_2_files_of_the_time(path):
    dense = np.arange(12.0).reshape(3, 4)
    value = {"text": "caf\xe9", "array": dense.T, "J": sparse.csc_matrix(dense), "n": np.int64(7)}
    written = python2_pickle(value)
    assert b"cnumpy.core.multiarray\n" in written
    assert b"cscipy.sparse.csc\ncsc_matrix\n" in written
    loaded = load(path, written)
    assert loaded["text"] == "caf\xe9"
    assert same(loaded["array"], dense.T)
    assert np.array_equal(loaded["J"].toarray(), dense)
    assert loaded["n"] == 7


CUBE = np.arange(24.0).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("node", "value"),
    [
        (Ch(CUBE), CUBE),
        (Select(Ch(CUBE), np.array([5, 0]), (2, 1)), [[5], [0]]),
        (Select(Reshape(Ch(CUBE), (24,)), np.arange(6), (2, 3)), [[0, 1, 2], [3, 4, 5]]),
        (transpose(Ch(CUBE), (2, 0, 1)), CUBE.transpose(2, 0, 1)),
        (transpose(Ch(CUBE), None), CUBE.T),
        (Select(CUBE, np.arange(24), (4, 6)), CUBE.reshape(4, 6)),
    ],
)
def test_chumpy_nodes_are_what_they_stand_for(path, node, value):
    loaded = load(path, python2_pickle({"node": node}))["node"]
    assert np.array_equal(loaded, value)


def test_chumpy_nodes_to_be_computed_are_refused(path):
    node = MatVecMult(np.eye(3), Ch(np.ones(3)))
    with pytest.raises(PickleFileError, match=r"got a chumpy.ch_ops.MatVecMult.*numpy.array\("):
        load(path, python2_pickle(node))


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("call", "name"),
    [
        ((os.system, "touch {}"), "system"),
        ((eval, "open({!r}, 'w')"), r"\.eval"),
        ((exec, "open({!r}, 'w')"), r"\.exec"),
        ((open, "{}", "w"), r"(io|_io)\.open"),
        ((getattr, "", "join"), "getattr"),
        ((np.save, "{}", 1), "save"),
        ((bytearray, 10), "bytearray"),
        ((pickle.loads, b""), "loads"),
    ],
    ids=lambda value: getattr(value[0], "__name__", None) if isinstance(value, tuple) else "",
)
@pytest.mark.parametrize(
    "hide",
    [
        lambda evil: evil,
        lambda evil: {"shapedirs": [1, (evil,)]},
        lambda evil: np.array([None, evil], dtype=object),
        lambda evil: Calls(OrderedDict, [("x", evil)]),
    ],
    ids=["bare", "nested", "in an object array", "as an argument"],
)
def test_calls_are_refused_by_name_and_never_made(tmp_path, protocol, call, name, hide):
    witness = tmp_path / "witness"
    function, *args = call
    args = [arg.format(str(witness)) if isinstance(arg, str) else arg for arg in args]
    content = pickle.dumps(hide(Calls(function, *args)), protocol)
    with pytest.raises(PickleFileError, match=rf"calls \S*({name}); expected nothing but numpy"):
        load(tmp_path / "file.pkl", content)
    assert not witness.exists()


@pytest.mark.parametrize("module", ["chumpy.os", "numpy", "scipy.sparse", "numpy.core.multiarray"])
def test_near_misses_of_allowed_names_make_nothing(path, module):
    """Not even in a module that is allowed."""
    content = f"c{module}\nsystem\n(S'true'\ntR.".encode()
    with pytest.raises(PickleFileError):
        load(path, content)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"c__builtin__\nbytes\n(I1000000000000\ntR.", r"got __builtin__.bytes called"),
        (b"c_codecs\nencode\n(Vabc\nVrot13\ntR.", r"stored as 'rot13'; expected 'latin1'"),
        (b"cnumpy\nndarray\n(I1\ntR.", r"got numpy.ndarray called"),
        (b"ccopyreg\n_reconstructor\n(cbuiltins\nobject\nNNtR.", r"got builtins.object called"),
    ],
)
def test_allowed_names_do_only_what_arrays_need(path, content, complaint):
    with pytest.raises(PickleFileError, match=complaint):
        load(path, content)


def test_dotted_names_reach_nothing(path):
    content = b"\x80\x04\x8c\x0fnumpy.core.multi\x8c\x0aa.os.systemz\x93."
    with pytest.raises(PickleFileError):
        load(path, content)


def test_arrays_of_objects_are_lists(path):
    assert load(path, pickle.dumps(np.array([{}, None], dtype=object))) == [{}, None]
    with pytest.raises(PickleFileError, match=r"objects of shape .*store lists"):
        load(path, pickle.dumps(np.array([[{}, None]], dtype=object)))
    with pytest.raises(PickleFileError):
        load(path, pickle.dumps(np.zeros(2, dtype=[("a", "f4")])))


def test_names_are_no_data(path):
    with pytest.raises(PickleFileError, match=r"expected data"):
        load(path, pickle.dumps([np.ndarray], 2))


def test_a_file_cannot_change_how_the_next_is_read(path):
    """BUILD sets attributes of whatever a name resolves to."""
    poison = (
        b"\x80\x02cnumpy\ndtype\n(NX\x0c\x00\x00\x00__setstate__q\x00}X\x01\x00\x00\x00aNs\x86b."
    )
    slots = b"\x80\x02cnumpy\ndtype\nN}(X\x04\x00\x00\x00kindX\x04\x00\x00\x00nameu\x86b."
    for content in (poison, slots):
        with pytest.raises(PickleFileError):
            load(path, content)
    assert same(load(path, pickle.dumps(np.arange(3))), np.arange(3))


def test_sparse_indices_out_of_range_are_refused(path):
    """scipy would write there."""
    matrix = sparse.csc_matrix(np.eye(3))
    matrix.indices[1] = 1_000_000
    with pytest.raises(PickleFileError, match=r"damaged.*indices must be < 3"):
        load(path, pickle.dumps(matrix))


def test_data_that_contains_itself_is_refused(path):
    loop = [1]
    loop.append(loop)
    with pytest.raises(PickleFileError, match=r"contains itself"):
        load(path, pickle.dumps(loop))


def test_huge_memo_numbers_reserve_no_memory(path):
    content = b"\x80\x02K\x07r" + struct.pack("<I", 2**32 - 1) + b"."
    assert load(path, content) == 7


def test_huge_lengths_reserve_no_memory(path):
    """BYTEARRAY8 names its length before its content."""
    content = b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"."
    with pytest.raises(PickleFileError, match=r"breaks off"):
        load(path, content)


TEXT = b"X" + struct.pack("<I", 5000) + b"a" * 5000
NUMBERS = b"](" + 1000 * b"K\x07" + b"e"
BUFFER = b"cnumpy.core.numeric\n_frombuffer\n(h\x00cnumpy\ndtype\nX\x02\x00\x00\x00u1\x89\x88\x87R"


@pytest.mark.parametrize(
    ("part", "copy"),
    [
        (TEXT, b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"),
        (TEXT, BUFFER + b"M\x88\x13\x85X\x01\x00\x00\x00CtR"),
        (NUMBERS, b"cbuiltins\nset\nh\x00\x85R"),
        (NUMBERS, b"cbuiltins\nfrozenset\nh\x00\x85R"),
        (NUMBERS, b"ctorch\nSize\nh\x00\x85R"),
        (NUMBERS, b"cchumpy.ch\nCh\n)\x81}X\x01\x00\x00\x00xh\x00sb"),
        (b"](" + 1000 * b"K\x07K\x07\x86" + b"e", b"ccollections\nOrderedDict\nh\x00\x85R"),
    ],
    ids=["bytes", "array", "set", "frozenset", "size", "chumpy", "dict"],
)
def test_copies_of_one_part_take_no_more_than_allowed(path, part, copy):
    """A memo gives a part again and again: copies grow with the square of the file."""

    def content(times):
        return b"\x80\x04" + part + b"\x940](" + times * copy + b"e."

    path.write_bytes(content(2))
    assert len(plain_data(path, max_bytes=300_000)) == 2
    path.write_bytes(content(200))
    with pytest.raises(PickleFileError, match=r"copies of its parts that are larger than allowed"):
        plain_data(path, max_bytes=300_000)


@pytest.mark.parametrize("shape", [(1000, 0), (10, 1)])
def test_tensors_of_arrays_are_refused(path, shape):
    """An array of shape (1000, 0) is a thousand long: what lies behind it would be read."""
    array = pickle.dumps(np.zeros(shape), 2)[2:-1]
    content = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + array
    content += b"K\x00K\x0a\x85K\x01\x85tR."
    with pytest.raises(PickleFileError, match=rf"{re.escape(str(shape))} numbers; expected a stor"):
        load(path, content)


def test_shapes_that_the_bytes_do_not_fill_are_refused(path):
    content = pickle.dumps(np.zeros(3), 2).replace(b"K\x03\x85", b"J\xff\xff\xff\x7f\x85", 1)
    with pytest.raises(PickleFileError, match=r"damaged"):
        load(path, content)


@pytest.fixture(scope="module")
def whole():
    """A file with one of each thing."""
    matrix = sparse.csc_matrix(np.eye(3))
    return python2_pickle({"a": Ch(CUBE), "J": matrix, "s": "text", "b": Select(CUBE, [1], (1,))})


@given(share=st.floats(0, 1, exclude_max=True))
@example(share=0.0)
@settings(max_examples=60, deadline=None)
def test_files_that_break_off_are_refused_at_any_length(path, whole, share):
    with pytest.raises(DataFileError, match=r"breaks off|empty file|copy it again"):
        load(path, whole[: int(share * len(whole))])


@given(where=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
@settings(max_examples=200, deadline=None)
def test_damaged_files_are_read_or_refused(path, whole, where, value):
    content = bytearray(whole)
    content[int(where * len(content))] = value
    with suppress(DataFileError):
        load(path, bytes(content))


@given(content=st.binary(max_size=40))
@settings(max_examples=200, deadline=None)
def test_noise_is_read_or_refused(path, content):
    with suppress(DataFileError):
        load(path, content)


def test_large_files_are_refused_unread(path):
    path.write_bytes(pickle.dumps(list(range(1000))))
    with pytest.raises(DataFileError, match=r"expected at most 1000 bytes; raise max_bytes"):
        plain_data(path, max_bytes=1000)


def zipped():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("SMPL.pkl", b"")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "git-lfs pointer.*lfs pull",
        ),
        (b"\n<!DOCTYPE html><html>Please sign in</html>", "web page.*log in"),
        (b"<html><body>404</body></html>", "web page"),
        (zipped(), "zip archive.*unpack"),
        (gzip.compress(b".")[:-4], "packed file that breaks off"),
        (b"\x93NUMPY\x01\x00", "damaged npy header"),
        (b"", "empty file"),
    ],
    ids=["lfs", "page", "error page", "zip", "gzip", "npy", "empty"],
)
def test_other_files_are_called_by_their_name(path, content, what):
    with pytest.raises(DataFileError, match=f"got an? {what}"):
        load(path, content)


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        plain_data(Path(tmp_path) / "none.pkl")
