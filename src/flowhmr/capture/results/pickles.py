"""Pickles, joblib files and pickled torch tensors as data: nothing that is in them runs.

The sister of `flowhmr.body.restricted_load`, which reads body files, for what other tools write:
joblib puts the bytes of arrays between the instructions of a pickle, numpy pickles arrays of
objects, torch puts a second, older file of its own into each tensor. As there, every name in a
file resolves to an inert stand-in that only keeps what it is given, names that are not on the
list are refused when they are mentioned, and arrays are made from the kept bytes afterwards.
"""

import io
import pickle
import re
from collections.abc import Mapping
from math import prod
from typing import Any, ClassVar

import numpy as np

from flowhmr.body import PickleFileError

MAX_BYTES = 2**32
"""Default limit for a file, for what it unpacks to, and for the arrays made from it."""

_CORES = ("numpy.core", "numpy._core")
_BUILTINS = ("builtins", "__builtin__")

ALLOWED: Mapping[str, str] = {
    **{f"{core}.multiarray._reconstruct": "array" for core in _CORES},
    **{f"{core}.multiarray.scalar": "scalar" for core in _CORES},
    **{f"{core}.numeric._frombuffer": "buffer" for core in _CORES},
    "numpy.ndarray": "name",
    "numpy.memmap": "name",
    "numpy.dtype": "dtype",
    "_codecs.encode": "bytes",
    **{f"{module}.bytes": "empty" for module in _BUILTINS},
    **{f"{module}.{factory}": "name" for module in _BUILTINS for factory in ("dict", "list")},
    "collections.OrderedDict": "dict",
    "collections.defaultdict": "dict",
    "joblib.numpy_pickle.NumpyArrayWrapper": "joblib",
    "torch._utils._rebuild_tensor_v2": "tensor",
    "torch.storage._load_from_bytes": "storage",
}
"""What each allowed name of a result file makes."""

_STORAGES = {
    "torch.DoubleStorage": "<f8",
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "?",
}
_OLD_JOBLIB = re.compile(r"joblib\.numpy_pickle(_compat)?\.Z?NDArrayWrapper")
_PLAIN_DTYPE = re.compile(r"(b1|[iuf][1248]|c8|c16|[SU][1-9]\d*)")
_OTHER_TENSOR = re.compile(
    r"torch\._utils\._rebuild_\w+|torch\.(storage\.)?\w*Storage|torch\.nn\.parameter\.Parameter"
)
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_TORCH_PROTOCOL = 1001


class _Stream(io.BytesIO):
    """A stream whose last line is not taken for whole when it breaks off."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.content = content

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        if not line.endswith(b"\n"):
            raise EOFError("a line breaks off")
        return line

    def array(self, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
        """The array whose bytes come next, seen where they lie; nothing is reserved for it."""
        array = _viewed(self.content, dtype, shape, order, self.tell())
        self.seek(array.nbytes, io.SEEK_CUR)
        return array


class _StandIn:
    """Keeps the arguments and the state that a pickle gives to some function or class."""

    kind: ClassVar[str] = ""
    origin: ClassVar[str] = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> "_StandIn":
        self = object.__new__(cls)
        self.args = args
        self.state = None
        self.follows = None
        return self

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args: tuple[Any, ...]
        self.state: Any
        self.follows: Any

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Dict(dict):
    """A dictionary of any kind; a factory that it is made with is left out."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*(arg for arg in args if isinstance(arg, (list, dict))))


# The C unpickler reserves memory for any memo number that a file names; this one does not. Types
# are Any since the type stubs take the two for one.
_PythonUnpickler: Any = pickle._Unpickler


class _Unpickler(_PythonUnpickler):
    """Gives stand-ins for the allowed names, and refuses all others."""

    dispatch: ClassVar = dict(_PythonUnpickler.dispatch)

    def __init__(self, stream: _Stream, allowed: Mapping[str, str]) -> None:
        super().__init__(stream, encoding="latin1")
        self.stream, self.allowed = stream, allowed

    def find_class(self, module: str, name: str) -> Any:
        origin = f"{module}.{name}"
        kind = self.allowed.get(origin)
        if kind is None:
            raise _refusal(origin)
        # A class of its own for each mention: whatever a file does to it ends with the file.
        base = _Dict if kind == "dict" else _StandIn
        return type(name, (base,), {"kind": kind, "origin": origin})

    def load_bytearray8(self) -> None:
        """The same as the base's, which reserves what a file names before it reads it."""
        length = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(length)))

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def load_build(self) -> None:
        """The same as the base's; joblib's arrays follow their wrapper in the stream."""
        _PythonUnpickler.load_build(self)
        made = self.stack[-1]
        if isinstance(made, _StandIn) and made.kind == "joblib":
            frame = self._unframer.current_frame
            if frame is not None and frame.read(1):
                raise PickleFileError("got a joblib array within a frame; expected it after one")
            made.follows = self._following(made.state)

    dispatch[pickle.BUILD[0]] = load_build

    def _following(self, state: dict[str, Any]) -> Any:
        _, dtype = _dtype_of(state["dtype"])
        if dtype is None:
            return _Unpickler(self.stream, self.allowed).load()
        if state.get("numpy_array_alignment_bytes") is not None:
            self.stream.read(self.stream.read(1)[0])
        return self.stream.array(dtype, state["shape"], state["order"])


class _StorageUnpickler(_Unpickler):
    """Reads the reference to a storage in torch's older files."""

    def persistent_load(self, pid: Any) -> _StandIn:
        kind, storage, key, _, count, *_ = pid
        if kind != "storage":
            raise PickleFileError(f"got a torch reference to {kind!r}; expected 'storage'")
        made = storage()
        made.state = str(key), int(count)
        return made


def _refusal(origin: str) -> PickleFileError:
    if _OLD_JOBLIB.fullmatch(origin):
        return PickleFileError(
            "got a file of joblib before 0.10, whose arrays are files of their own; expected "
            "them inside; where the tool runs, store joblib.load(FILE) again with a new joblib"
        )
    if _OTHER_TENSOR.fullmatch(origin):
        return PickleFileError(
            f"got a torch tensor stored by {origin}; expected plain numbers; if the file is your "
            'own, where the tool runs: d = numpy.load("F.npy", allow_pickle=True).item(); '
            'numpy.savez("F.npz", **{k: numpy.asarray(v) for k, v in d.items()})'
        )
    return PickleFileError(
        f"got a pickle that calls {origin}; expected nothing but numpy arrays, torch tensors and "
        "plain data; it may run code when opened elsewhere: ask for the file again from who made "
        "it, or store its values as numpy arrays in a dict"
    )


def data_of_pickle(content: bytes, max_bytes: int = MAX_BYTES, start: int = 0) -> Any:
    """Containers, strings, numbers and numpy arrays of a pickle or an unpacked joblib file.

    Torch tensors come out as arrays, arrays of objects as lists (without axes, as the one object).
    Arrays may share memory with ``content`` and are not to be written to.

    Args:
        content: the file's bytes.
        max_bytes: how much the arrays may take that are made larger than their bytes.
        start: where the pickle begins.

    Raises:
        PickleFileError: it is damaged, or asks for anything but data (names what it asks for).
    """
    stream = _Stream(content)
    stream.seek(start)
    try:
        return _Resolver(max_bytes).resolve(_Unpickler(stream, ALLOWED).load())
    except PickleFileError:
        raise
    # A damaged pickle can fail in any way; what matters is that it failed.
    except Exception as error:
        raise PickleFileError(
            f"got a pickle of {len(content)} bytes that breaks off or is damaged "
            f"({type(error).__name__}: {error}); expected a whole one; copy it again"
        ) from error


class _Resolver:
    """Turns what an unpickler left behind into arrays and plain containers."""

    def __init__(self, max_bytes: int) -> None:
        self.left_bytes = max_bytes
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
            return self._data(value)
        if isinstance(value, dict):
            return {self.resolve(key): self.resolve(item) for key, item in dict.items(value)}
        if isinstance(value, (list, tuple, set, frozenset)):
            return type(value)(self.resolve(item) for item in value)
        if isinstance(value, np.ndarray):
            return value
        raise PickleFileError(f"got {value!r} as a value; expected data")

    def _data(self, value: _StandIn) -> Any:
        match value.kind:
            case "array":
                shape, dtype, fortran, content = value.state[-4:]
                return self._array(content, dtype, shape, "F" if fortran else "C")
            case "buffer":
                content, dtype, shape, order = value.args
                return self._array(content, dtype, shape, order)
            case "scalar":
                dtype, content = value.args
                return self._array(content, dtype, (), "C")[()]
            case "joblib" if value.follows is not None:
                return self.resolve(value.follows)
            case "bytes":
                text, encoding = value.args
                if encoding != "latin1":
                    raise PickleFileError(f"got bytes stored as {encoding!r}; expected 'latin1'")
                return text.encode("latin1")
            case "empty" if not value.args:
                return b""
            case "storage":
                (content,) = value.args
                return _torch_storage(self.resolve(content))
            case "tensor":
                return self._tensor(*value.args)
        raise PickleFileError(f"got {value.origin} called; expected it only to be named")

    def _array(self, content: Any, dtype: Any, shape: tuple[int, ...], order: str) -> Any:
        name, plain = _dtype_of(dtype)
        content = self.resolve(content)
        if plain is None:
            return _of_objects(content, shape)
        raw = content.encode("latin1") if isinstance(content, str) else bytes(content)
        array = _viewed(raw, plain, shape, order)
        if array.nbytes != len(raw):
            raise PickleFileError(
                f"got {len(raw)} bytes for an array of {name} of shape {shape}; expected "
                f"{array.nbytes}"
            )
        return array

    def _tensor(
        self, storage: _StandIn, offset: int, size: tuple, stride: tuple, *_: Any
    ) -> np.ndarray:
        """A tensor's values, where it lies in its storage."""
        values = self.resolve(storage)
        whole = all(isinstance(n, int) and n >= 0 for n in (offset, *size, *stride))
        if not whole or len(size) != len(stride):
            raise PickleFileError(f"got a tensor of size {size} and stride {stride}")
        if prod(size) == 0:
            return np.empty(size, values.dtype)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride))
        if last >= len(values):
            raise PickleFileError(
                f"got a tensor that ends at number {last} of a storage of {len(values)}"
            )
        # Strides of zero make much of little.
        self.left_bytes -= prod(size) * values.itemsize
        if self.left_bytes < 0:
            raise PickleFileError(
                f"got tensors larger than allowed (one of {size}); raise the limit"
            )
        strides = tuple(step * values.itemsize for step in stride)
        return np.lib.stride_tricks.as_strided(values[offset:], size, strides).copy()


def _dtype_of(value: Any) -> tuple[str, np.dtype | None]:
    """Name and numpy type of plain numbers or strings; None for objects."""
    if not isinstance(value, _StandIn) or value.kind != "dtype" or not value.args:
        raise PickleFileError(f"got {value!r} as the type of an array; expected a numpy type")
    name, state = value.args[0], value.state
    if name in ("O", "O8", "O4"):
        return name, None
    if not isinstance(name, str) or not _PLAIN_DTYPE.fullmatch(name):
        raise PickleFileError(
            f"got an array of numpy type {name!r}; expected numbers, strings or objects"
        )
    return name, np.dtype(name).newbyteorder(state[1] if state else "=")


def _viewed(
    content: bytes, dtype: np.dtype, shape: tuple[int, ...], order: str, start: int = 0
) -> np.ndarray:
    """The array that lies in ``content`` from ``start`` on; no copy."""
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise PickleFileError(f"got an array of shape {shape!r}; expected whole numbers")
    count = prod(shape)
    if count * dtype.itemsize > len(content) - start:
        raise PickleFileError(
            f"got an array of shape {shape} and type {dtype}, {count * dtype.itemsize} bytes; "
            f"expected at most the {len(content) - start} bytes that are there; the file breaks "
            "off or is damaged: copy it again"
        )
    if count == 0:
        return np.empty(shape, dtype)
    flat = np.frombuffer(content, dtype, count, start)
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _of_objects(values: Any, shape: tuple[int, ...]) -> Any:
    """An array of objects as a list; without axes, as its one object."""
    if not isinstance(values, list) or len(shape) > 1 or prod(shape) != len(values):
        raise PickleFileError(
            f"got an array of objects of shape {shape}; expected one axis or none; store lists"
        )
    return values if shape else values[0]


def _torch_storage(content: bytes) -> np.ndarray:
    """The numbers of a storage, from what ``torch.save`` wrote of it in its older format."""
    stream = _Stream(content)
    magic, protocol, system = (_Unpickler(stream, {}).load() for _ in range(3))
    if (magic, protocol) != (_TORCH_MAGIC, _TORCH_PROTOCOL) or not system["little_endian"]:
        raise PickleFileError(
            f"got a torch storage of protocol {protocol!r}; expected {_TORCH_PROTOCOL}, little "
            "endian; where torch runs, store tensor.numpy() instead of the tensor"
        )
    storage = _StorageUnpickler(stream, dict.fromkeys(_STORAGES, "torch numbers")).load()
    keys = _Unpickler(stream, {}).load()
    key, count = storage.state
    if keys != [key]:
        raise PickleFileError(
            f"got torch storages {keys!r}; expected the one of the tensor, {key!r}"
        )
    written = int.from_bytes(stream.read(8), "little")
    if written != count:
        raise PickleFileError(f"got a torch storage of {written} numbers; expected {count}")
    return stream.array(np.dtype(_STORAGES[storage.origin]), (count,), "C")
