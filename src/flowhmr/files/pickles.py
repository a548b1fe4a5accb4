"""Pickles, joblib files and torch files as data: nothing that is in them runs.

A pickle is a program: it names functions and has them called. Here every name resolves to an
inert stand-in that only keeps what it is given; names that are not on the list are refused when
they are mentioned, and arrays are made from the kept bytes afterwards. joblib puts the bytes of
arrays between the instructions of a pickle, numpy pickles arrays of objects, torch keeps the
numbers of tensors beside it. Neither chumpy nor joblib nor the scipy and numpy of the time are
needed, and Python 2 files are read as well.
"""

import pickle
import re
from collections.abc import Callable, Mapping
from math import prod
from typing import Any, ClassVar

import numpy as np

from flowhmr.files.errors import PickleFileError
from flowhmr.files.stream import Stream, viewed

MAX_BYTES = 2**32
"""Default limit for a file, for what it unpacks to, and for the arrays made from it."""

_CORES = ("numpy.core", "numpy._core")
_BUILTINS = ("builtins", "__builtin__")

STORAGES = {
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
"""Numpy types of torch's storages."""

ALLOWED: Mapping[str, str] = {
    **{f"{core}.multiarray._reconstruct": "array" for core in _CORES},
    **{f"{core}.multiarray.scalar": "scalar" for core in _CORES},
    **{f"{core}.numeric._frombuffer": "buffer" for core in _CORES},
    "numpy.ndarray": "name",
    "numpy.memmap": "name",
    "numpy.dtype": "dtype",
    "_codecs.encode": "bytes",
    "copyreg._reconstructor": "instance",
    "copy_reg._reconstructor": "instance",
    **{f"{module}.bytes": "empty" for module in _BUILTINS},
    **{f"{module}.{name}": "name" for module in _BUILTINS for name in ("dict", "list", "object")},
    "collections.OrderedDict": "dict",
    "collections.defaultdict": "dict",
    **{f"{module}.{name}": name for module in _BUILTINS for name in ("set", "frozenset")},
    "joblib.numpy_pickle.NumpyArrayWrapper": "joblib",
    "torch._utils._rebuild_tensor_v2": "tensor",
    "torch._utils._rebuild_parameter": "parameter",
    "torch.Size": "size",
    "torch.storage._load_from_bytes": "storage",
    **dict.fromkeys(STORAGES, "numbers"),
}
"""What each allowed name makes; besides scipy.sparse and chumpy."""

_ENTRY_BYTES = 100
"""About what an entry of a dictionary, a set or a tuple takes."""
_SPARSE = re.compile(r"scipy\.sparse(\._?cs[cr])?\.(cs[cr])_(matrix|array)")
_CHUMPY = re.compile(r"chumpy(\.\w+)*\.(\w+)")
_OLD_JOBLIB = re.compile(r"joblib\.numpy_pickle(_compat)?\.Z?NDArrayWrapper")
_PLAIN_DTYPE = re.compile(r"(b1|[iuf][1248]|f16|c8|c16|[SU][1-9]\d*)")
_OTHER_TENSOR = re.compile(r"torch\._utils\._rebuild_\w+|torch\.(storage\.)?\w*Storage")
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_TORCH_PROTOCOL = 1001
LEGACY_TORCH = pickle.dumps(_TORCH_MAGIC, 2)
"""First bytes of what ``torch.save`` wrote before torch 1.6."""


class _Room:
    """How much memory what is made larger than its bytes may take: a file may name one part, and
    have it copied, any number of times."""

    def __init__(self, max_bytes: int) -> None:
        self.left_bytes = max_bytes

    def take(self, size: int) -> None:
        """Use some of it.

        Raises:
            PickleFileError: there is not so much left.
        """
        self.left_bytes -= size
        if self.left_bytes < 0:
            raise PickleFileError(
                f"got copies of its parts that are larger than allowed (one of {size} bytes); "
                "expected parts that are stored once; raise max_bytes if it is meant to"
            )


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

    room: ClassVar[_Room]

    def __init__(self, *args: Any) -> None:
        taken = [arg for arg in args if isinstance(arg, (list, dict))]
        self.room.take(_ENTRY_BYTES * sum(map(len, taken)))
        super().__init__(*taken)


# The C unpickler reserves memory for any memo number that a file names; this one does not. Types
# are Any since the type stubs take the two for one.
_PythonUnpickler: Any = pickle._Unpickler


class _Unpickler(_PythonUnpickler):
    """Gives stand-ins for the allowed names, and refuses all others."""

    dispatch: ClassVar = dict(_PythonUnpickler.dispatch)

    def __init__(self, stream: Stream, room: _Room, torch_file: bool = False) -> None:
        super().__init__(stream, encoding="latin1")
        self.stream, self.room, self.torch_file = stream, room, torch_file

    def find_class(self, module: str, name: str) -> Any:
        origin = f"{module}.{name}"
        kind = _kind(origin)
        # A class of its own for each mention: whatever a file does to it ends with the file.
        base = _Dict if kind == "dict" else _StandIn
        return type(name, (base,), {"kind": kind, "origin": origin, "room": self.room})

    def persistent_load(self, pid: Any) -> _StandIn:
        """Torch's files name the storages of their tensors so."""
        if not self.torch_file:
            raise PickleFileError("got a reference to something outside; expected a whole pickle")
        kind, storage, key, _, count, *_ = pid
        if kind != "storage" or storage.kind != "numbers":
            raise PickleFileError(f"got a torch reference to {kind!r}; expected 'storage'")
        made = storage()
        made.state = str(key), int(count)
        return made

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
            return _Unpickler(self.stream, self.room).load()
        if state.get("numpy_array_alignment_bytes") is not None:
            self.stream.read(self.stream.read(1)[0])
        return self.stream.array(dtype, state["shape"], state["order"])


def _kind(origin: str) -> str:
    if origin in ALLOWED:
        return ALLOWED[origin]
    if match := _SPARSE.fullmatch(origin):
        return match[2]
    if _CHUMPY.fullmatch(origin):
        return "chumpy"
    if _OLD_JOBLIB.fullmatch(origin):
        raise PickleFileError(
            "got a file of joblib before 0.10, whose arrays are files of their own; expected "
            "them inside; where the tool runs, store joblib.load(FILE) again with a new joblib"
        )
    if _OTHER_TENSOR.fullmatch(origin):
        raise PickleFileError(
            f"got a torch tensor stored by {origin}; expected plain numbers; if the file is your "
            'own, where the tool runs: d = numpy.load("F.npy", allow_pickle=True).item(); '
            'numpy.savez("F.npz", **{k: numpy.asarray(v) for k, v in d.items()})'
        )
    raise PickleFileError(
        f"got a pickle that calls {origin}; expected nothing but numpy arrays, scipy.sparse "
        "matrices, chumpy values, torch tensors and plain data; it may run code when opened "
        "elsewhere: get the file from who published it again, or store its values as numpy "
        "arrays in a dict"
    )


def data_of_pickle(content: bytes | memoryview, max_bytes: int = MAX_BYTES, start: int = 0) -> Any:
    """What a pickle, an unpacked joblib file or a torch file from before 1.6 holds.

    Containers, strings, numbers and arrays. Torch tensors and chumpy's values come out as arrays,
    arrays of objects as lists (without axes, as the one object), dictionaries of any kind as
    dicts. Python 2 strings are decoded as latin1. Arrays may share memory with ``content`` and
    are not to be written to.

    Args:
        content: the file's bytes.
        max_bytes: how much may be taken by what is made larger than its bytes, or of the same
            bytes several times.
        start: where the pickle begins.

    Raises:
        PickleFileError: it is damaged, or asks for anything but data (names what it asks for).
    """
    return _data_of(memoryview(content), _Room(max_bytes), start)


def _data_of(content: memoryview, room: _Room, start: int = 0) -> Any:
    stream = Stream(content, start)
    if bytes(stream.content[start : start + len(LEGACY_TORCH)]) == LEGACY_TORCH:
        return _guarded(stream, lambda: _legacy_torch(stream, room))
    return _guarded(stream, lambda: _Resolver(room).resolve(_Unpickler(stream, room).load()))


def data_of_torch(
    content: bytes | memoryview, storages: Mapping[str, memoryview], max_bytes: int = MAX_BYTES
) -> Any:
    """As `data_of_pickle`, of the pickle in a ``torch.save`` archive.

    Args:
        content: its ``data.pkl``.
        storages: the bytes of its ``data/*`` by their names.
        max_bytes: how much the tensors may take.
    """
    stream, room = Stream(memoryview(content)), _Room(max_bytes)

    def numbers(key: str, dtype: np.dtype, count: int) -> np.ndarray:
        return viewed(storages[key], dtype, (count,), "C")

    def load() -> Any:
        return _Resolver(room, numbers).resolve(_Unpickler(stream, room, torch_file=True).load())

    return _guarded(stream, load)


def _guarded(stream: Stream, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except PickleFileError:
        raise
    # A damaged pickle can fail in any way; what matters is that it failed.
    except Exception as error:
        raise PickleFileError(
            f"got a pickle of {len(stream.content)} bytes that breaks off or is damaged "
            f"({type(error).__name__}: {error}); expected a whole one; copy or download it again"
        ) from error


def _legacy_torch(stream: Stream, room: _Room) -> Any:
    """What ``torch.save`` wrote in its older format: pickles, then the storages' numbers."""
    magic, protocol, system = (_Unpickler(stream, room).load() for _ in range(3))
    if (magic, protocol) != (_TORCH_MAGIC, _TORCH_PROTOCOL) or not system["little_endian"]:
        raise PickleFileError(
            f"got a torch file of protocol {protocol!r}; expected {_TORCH_PROTOCOL}, little "
            "endian; where torch runs, store tensor.numpy() instead of the tensor"
        )
    value = _Unpickler(stream, room, torch_file=True).load()
    keys = _Unpickler(stream, room).load()
    if isinstance(value, _StandIn) and value.kind == "numbers" and keys != [value.state[0]]:
        raise PickleFileError(f"got torch storages {keys!r}; expected {value.state[0]!r}")
    # The types stand with the tensors: found first, then the numbers in the order of the keys.
    types = dict(_referenced(value, set()))
    arrays: dict[str, np.ndarray] = {}
    for key in keys:
        origin, count = types[key]
        written = int.from_bytes(stream.read(8), "little")
        if written != count:
            raise PickleFileError(f"got a torch storage of {written} numbers; expected {count}")
        arrays[key] = stream.array(np.dtype(STORAGES[origin]), (count,), "C")
    return _Resolver(room, lambda key, dtype, count: arrays[key]).resolve(value)


def _referenced(value: Any, seen: set[int]) -> Any:
    """Key, type and length of each storage that is referred to in a value."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, _StandIn):
        if value.kind == "numbers" and value.state is not None:
            yield value.state[0], (value.origin, value.state[1])
        inner: Any = (*value.args, value.state)
    elif isinstance(value, dict):
        inner = dict.values(value)
    else:
        inner = value if isinstance(value, (list, tuple)) else ()
    for item in inner:
        yield from _referenced(item, seen)


class _Resolver:
    """Turns what an unpickler left behind into arrays and plain containers."""

    def __init__(
        self,
        room: _Room,
        numbers: Callable[[str, np.dtype, int], np.ndarray] | None = None,
    ) -> None:
        self.room = room
        self.numbers = numbers
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
            return {self.resolve(key): self.resolve(item) for key, item in dict.items(value)}
        if isinstance(value, (list, tuple, set, frozenset)):
            return type(value)(self.resolve(item) for item in value)
        if isinstance(value, np.ndarray):
            return value
        raise PickleFileError(f"got {value!r} as a value; expected data")

    def _data(self, value: _StandIn, made_by: type[_StandIn]) -> Any:
        match made_by.kind:
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
                self.room.take(len(text))
                return text.encode("latin1")
            case "empty" if not value.args:
                return b""
            case "set" | "frozenset" as kind:
                items = self._entries(value.args[0]) if value.args else []
                return set(items) if kind == "set" else frozenset(items)
            case "csc" | "csr" as layout:
                return self._sparse(layout, self.resolve(value.state))
            case "chumpy":
                return self._chumpy(made_by.origin, value.state)
            case "instance" if issubclass(value.args[0], _StandIn):
                return self._data(value, value.args[0])
            case "storage":
                (content,) = value.args
                return _data_of(memoryview(self.resolve(content)), self.room)
            case "numbers" if value.state is not None and self.numbers is not None:
                key, count = value.state
                return self.numbers(key, np.dtype(STORAGES[made_by.origin]), count)
            case "tensor":
                return self._tensor(*value.args)
            case "parameter":
                return self.resolve(value.args[0])
            case "size":
                return tuple(self._entries(value.args[0]))
        raise PickleFileError(f"got {made_by.origin} called; expected it only to be named")

    def _entries(self, items: Any) -> Any:
        """The entries of a list that something else is made of."""
        found = self.resolve(items)
        self.room.take(_ENTRY_BYTES * len(found))
        return found

    def _array(self, content: Any, dtype: Any, shape: tuple[int, ...], order: str) -> Any:
        name, plain = _dtype_of(dtype)
        content = self.resolve(content)
        if plain is None:
            return _of_objects(content, shape)
        if not isinstance(content, bytes):
            self.room.take(len(content))
        # Python 2 files hold bytes as text.
        raw = content.encode("latin1") if isinstance(content, str) else bytes(content)
        array = viewed(memoryview(raw), plain, shape, order)
        if array.nbytes != len(raw):
            raise PickleFileError(
                f"got {len(raw)} bytes for an array of {name} of shape {shape}; expected "
                f"{array.nbytes}; the file is damaged: copy it again"
            )
        return array

    def _tensor(
        self, storage: _StandIn, offset: int, size: tuple, stride: tuple, *_: Any
    ) -> np.ndarray:
        """A tensor's values, where it lies in its storage."""
        values, size = self.resolve(storage), tuple(self.resolve(size))
        whole = all(isinstance(n, int) and n >= 0 for n in (offset, *size, *stride))
        if not whole or len(size) != len(stride):
            raise PickleFileError(f"got a tensor of size {size} and stride {stride}")
        # An array of shape (n, 0) has a length, and no numbers.
        if not isinstance(values, np.ndarray) or values.ndim != 1 or not values.flags.c_contiguous:
            raise PickleFileError(
                f"got a tensor of {np.shape(values)} numbers; expected a storage, one after the "
                "other; get the file again"
            )
        if prod(size) == 0:
            return np.empty(size, values.dtype)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride))
        if last >= len(values):
            raise PickleFileError(
                f"got a tensor that ends at number {last} of a storage of {len(values)}"
            )
        strides = tuple(step * values.itemsize for step in stride)
        array = np.lib.stride_tricks.as_strided(values[offset:], size, strides, writeable=False)
        if array.flags.c_contiguous:
            return array
        # Strides of zero make much of little.
        self.room.take(array.nbytes)
        return array.copy()

    def _sparse(self, layout: str, state: dict[str, Any]) -> Any:
        from scipy import sparse

        make = {"csc": sparse.csc_matrix, "csr": sparse.csr_matrix}[layout]
        shape = state.get("_shape", state.get("shape"))
        # What scipy may copy.
        self.room.take(sum(state[key].nbytes for key in ("data", "indices", "indptr")))
        matrix = make((state["data"], state["indices"], state["indptr"]), shape=shape)
        # Unchecked indices would be written to wherever they point.
        matrix.check_format(full_check=True)
        return matrix

    def _chumpy(self, origin: str, state: dict[str, Any]) -> np.ndarray:
        """The value of a node of chumpy's expression graph, from what is stored in it."""
        node = origin.rpartition(".")[2]
        if node == "Ch" and "x" in state:
            stored = self.resolve(state["x"])
            if isinstance(stored, list):
                self.room.take(_ENTRY_BYTES * len(stored))
            return np.asarray(stored)
        if node in ("Select", "Reshape", "transpose"):
            source = np.asarray(self.resolve(state["a"]))
            if node == "Reshape":
                return source.reshape(self.resolve(state["newshape"]))
            if node == "transpose":
                return source.transpose(self.resolve(state.get("axes")))
            places = np.asarray(self.resolve(state["idxs"]))
            self.room.take(source.nbytes + places.nbytes + places.size * source.itemsize)
            chosen = source.ravel()[places]
            return chosen.reshape(self.resolve(state.get("preferred_shape", chosen.shape)))
        raise PickleFileError(
            f"got a {origin} object; expected chumpy's Ch, Select, Reshape or transpose, whose "
            "values are in the file; where chumpy runs, store numpy.array(value) instead"
        )


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


def _of_objects(values: Any, shape: tuple[int, ...]) -> Any:
    """An array of objects as a list; without axes, as its one object."""
    if not isinstance(values, list) or len(shape) > 1 or prod(shape) != len(values):
        raise PickleFileError(
            f"got an array of objects of shape {shape}; expected one axis or none; store lists"
        )
    return values if shape else values[0]
