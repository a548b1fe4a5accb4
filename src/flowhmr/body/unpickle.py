"""Reading pickles of arrays without running anything that is in them.

A pickle is a program: it names functions and has them called. Here every name resolves to an
inert stand-in that only keeps what it is given; arrays are made from the kept bytes afterwards.
Neither chumpy nor the scipy and numpy of the time are needed, and Python 2 files are read as well.
"""

import io
import pickle
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from flowhmr.body.errors import PickleFileError

MAX_BYTES = 2**30
"""Default limit: four times the largest SMPL file."""

_HARMLESS_TYPES = {
    f"{module}.{name}": kind
    for module in ("builtins", "__builtin__")
    for name, kind in (("set", set), ("frozenset", frozenset))
} | {"collections.OrderedDict": OrderedDict}
"""Containers that cannot be turned to anything else, made as they are."""

_KINDS = {
    **{f"{core}.multiarray._reconstruct": "array" for core in ("numpy.core", "numpy._core")},
    **{f"{core}.multiarray.scalar": "scalar" for core in ("numpy.core", "numpy._core")},
    **{f"{core}.numeric._frombuffer": "buffer" for core in ("numpy.core", "numpy._core")},
    "numpy.ndarray": "name",
    "numpy.dtype": "dtype",
    "builtins.object": "name",
    "__builtin__.object": "name",
    "copyreg._reconstructor": "instance",
    "copy_reg._reconstructor": "instance",
    "_codecs.encode": "bytes",
    "builtins.bytes": "empty",
    "__builtin__.bytes": "empty",
}
"""What each allowed name makes."""

_SPARSE = re.compile(r"scipy\.sparse(\._?cs[cr])?\.(cs[cr])_(matrix|array)")
_CHUMPY = re.compile(r"chumpy(\.\w+)*\.(\w+)")
_PLAIN_DTYPE = re.compile(r"(b1|[iuf][1248]|f16|c8|c16|[SU]\d+)")


class _Lines(io.BytesIO):
    """A stream whose last line is not taken for whole when it breaks off."""

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        if not line.endswith(b"\n"):
            raise EOFError("a line breaks off")
        return line


class _StandIn:
    """Keeps the arguments and the state that a pickle gives to some function or class."""

    kind: ClassVar[str] = ""
    origin: ClassVar[str] = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> "_StandIn":
        self = object.__new__(cls)
        self.args = args
        self.state = None
        return self

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args: tuple[Any, ...]
        self.state: Any

    def __setstate__(self, state: Any) -> None:
        self.state = state


# The C unpickler reserves memory for any memo number that a file names; this one does not. Types
# are Any since the type stubs take the two for one.
_PythonUnpickler: Any = pickle._Unpickler


class _Unpickler(_PythonUnpickler):
    """Gives stand-ins for the names that arrays need, and refuses all others."""

    dispatch: ClassVar = dict(_PythonUnpickler.dispatch)

    def load_bytearray8(self) -> None:
        """The same as the base's, which reserves what a file names before it reads it."""
        length = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(length)))

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def find_class(self, module: str, name: str) -> Any:
        origin = f"{module}.{name}"
        if origin in _HARMLESS_TYPES:
            return _HARMLESS_TYPES[origin]
        # A class of its own for each mention: whatever a file does to it ends with the file.
        return type(name, (_StandIn,), {"kind": _kind(origin), "origin": origin})


def _kind(origin: str) -> str:
    if origin in _KINDS:
        return _KINDS[origin]
    if match := _SPARSE.fullmatch(origin):
        return match[2]
    if _CHUMPY.fullmatch(origin):
        return "chumpy"
    raise PickleFileError(
        f"got a pickle that calls {origin}; expected nothing but numpy, scipy.sparse and chumpy "
        "data; it may run code when opened elsewhere: get the file from its publisher again"
    )


def restricted_load(path: str | Path, max_bytes: int = MAX_BYTES) -> Any:
    """Containers, strings, numbers, numpy arrays and scipy.sparse matrices of a pickle.

    chumpy objects come out as the arrays they stand for, tuples, lists, dicts and sets as
    themselves. Python 2 strings are decoded as latin1.

    Args:
        path: a file written by ``pickle``, of Python 2 or 3.
        max_bytes: the largest file that is read.

    Raises:
        PickleFileError: the file is larger, damaged, no pickle, or asks for anything but data
            (names what it asks for).
    """
    path = Path(path)
    size = path.stat().st_size
    if size > max_bytes:
        raise PickleFileError(
            f"{path}: got {size} bytes; expected at most {max_bytes}; raise max_bytes if the file "
            "is meant to be that large"
        )
    content = path.read_bytes()
    refuse_other_formats(path, content)
    try:
        return _Resolver().resolve(_Unpickler(_Lines(content), encoding="latin1").load())
    except PickleFileError as error:
        raise PickleFileError(f"{path}: {error}") from None
    # A damaged pickle can fail in any way; what matters is that it failed and where.
    except Exception as error:
        raise PickleFileError(
            f"{path}: got a pickle of {size} bytes that breaks off or is damaged "
            f"({type(error).__name__}: {error}); expected a whole one; download it again"
        ) from error


_OTHER_FORMATS = (
    (rb"version https://git-lfs", "a git-lfs pointer", "fetch the file itself with git lfs pull"),
    (rb"\s*<(!doctype|html|\?xml)", "a web page", "log in at the publisher's and download again"),
    (rb"PK\x03\x04", "a zip archive", "unpack it first; an npz file is one, too"),
    (rb"\x1f\x8b", "a gzip file", "unpack it first"),
    (rb"\x93NUMPY", "an npy array", "read it with numpy.load"),
    (rb"$", "an empty file", "download it again"),
)


def refuse_other_formats(path: Path, content: bytes) -> None:
    """Raise PickleFileError for what is often found where a pickle should be."""
    for pattern, what, remedy in _OTHER_FORMATS:
        if re.match(pattern, content, re.IGNORECASE):
            raise PickleFileError(f"{path}: got {what}; expected a pickle; {remedy}")


class _Resolver:
    """Turns what an unpickler left behind into arrays and plain containers."""

    def __init__(self) -> None:
        self.done: dict[int, Any] = {}
        self.open: set[int] = set()

    def resolve(self, value: Any) -> Any:
        """The value with each stand-in replaced by the data it stands for."""
        if value is None or isinstance(value, (str, bytes, bytearray, int, float, complex)):
            return value
        if id(value) in self.done:
            return self.done[id(value)]
        if id(value) in self.open:
            raise PickleFileError("got data that contains itself; expected a tree of arrays")
        self.open.add(id(value))
        result = self._made(value)
        self.open.remove(id(value))
        self.done[id(value)] = result
        return result

    def _made(self, value: Any) -> Any:
        if isinstance(value, _StandIn):
            return self._data(value, type(value))
        if isinstance(value, dict):
            return {self.resolve(key): self.resolve(item) for key, item in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return type(value)(self.resolve(item) for item in value)
        raise PickleFileError(f"got {value!r} as a value; expected data")

    def _data(self, value: _StandIn, made_by: type[_StandIn]) -> Any:
        match made_by.kind:
            case "array":
                return self._array(value)
            case "buffer":
                content, dtype, shape, order = value.args
                return _array(self.resolve(content), self.resolve(dtype), shape, order)
            case "scalar":
                dtype, content = value.args
                return _array(self.resolve(content), self.resolve(dtype), (), "C")[()]
            case "dtype":
                return _dtype(value.args[0], value.state)
            case "bytes":
                text, encoding = value.args
                if encoding != "latin1":
                    raise PickleFileError(f"got bytes stored as {encoding!r}; expected 'latin1'")
                return text.encode("latin1")
            case "csc" | "csr" as layout:
                return self._sparse(layout, self.resolve(value.state))
            case "empty" if not value.args:
                return b""
            case "chumpy":
                return self._chumpy(made_by.origin, value.state)
            case "instance" if issubclass(value.args[0], _StandIn):
                return self._data(value, value.args[0])
        raise PickleFileError(f"got {made_by.origin} called; expected it only to be named")

    def _array(self, value: _StandIn) -> np.ndarray:
        shape, dtype, fortran, content = value.state[-4:]
        content, dtype = self.resolve(content), self.resolve(dtype)
        return _array(content, dtype, shape, "F" if fortran else "C")

    def _sparse(self, layout: str, state: dict[str, Any]) -> Any:
        from scipy import sparse

        make = {"csc": sparse.csc_matrix, "csr": sparse.csr_matrix}[layout]
        shape = state.get("_shape", state.get("shape"))
        matrix = make((state["data"], state["indices"], state["indptr"]), shape=shape)
        # Unchecked indices would be written to wherever they point.
        matrix.check_format(full_check=True)
        return matrix

    def _chumpy(self, origin: str, state: dict[str, Any]) -> np.ndarray:
        """The value of a node of chumpy's expression graph, from what is stored in it."""
        node = origin.rpartition(".")[2]
        if node == "Ch" and "x" in state:
            return np.asarray(self.resolve(state["x"]))
        if node in ("Select", "Reshape", "transpose"):
            source = np.asarray(self.resolve(state["a"]))
            if node == "Reshape":
                return source.reshape(self.resolve(state["newshape"]))
            if node == "transpose":
                return source.transpose(self.resolve(state.get("axes")))
            chosen = source.ravel()[self.resolve(state["idxs"])]
            return chosen.reshape(self.resolve(state.get("preferred_shape", chosen.shape)))
        raise PickleFileError(
            f"got a {origin} object; expected chumpy's Ch, Select, Reshape or transpose, whose "
            "values are in the file; where chumpy runs, store numpy.array(value) instead"
        )


def _dtype(name: str, state: tuple[Any, ...] | None) -> np.dtype:
    """A numpy type of plain numbers or strings."""
    if not _PLAIN_DTYPE.fullmatch(name):
        raise PickleFileError(
            f"got an array of numpy type {name!r}; expected numbers or strings of fixed length; "
            "arrays of objects are not read: store them as lists or as arrays of numbers"
        )
    return np.dtype(name).newbyteorder(state[1] if state else "=")


def _array(
    content: bytes | bytearray | str, dtype: np.dtype, shape: tuple[int, ...], order: str
) -> np.ndarray:
    """An array from its bytes, which Python 2 files hold as text."""
    raw = content.encode("latin1") if isinstance(content, str) else content
    array = np.frombuffer(raw, dtype)
    return array.reshape(shape, order="F" if order == "F" else "C").copy()
