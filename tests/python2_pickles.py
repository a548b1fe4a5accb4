"""Pickles as Python 2, numpy, scipy and chumpy of the time wrote them, without any of them."""

import pickle
import struct
import sys
from contextlib import contextmanager
from io import BytesIO
from types import ModuleType

PUBLISHED_MODULES = (
    (b"numpy._core.multiarray", b"numpy.core.multiarray"),
    (b"scipy.sparse._csc", b"scipy.sparse.csc"),
)
"""Where numpy and scipy kept their classes when the files were published."""


class Ch:
    """Pickles as chumpy's leaf does."""

    def __init__(self, x):
        self.x = x
        self._dirty_vars = {"x"}
        self._itr = None


class Select:
    """Pickles as chumpy's node of selected elements does."""

    def __init__(self, a, idxs, preferred_shape):
        self.a, self.idxs, self.preferred_shape = a, idxs, preferred_shape
        self._dirty_vars = set()


class Reshape:
    """Pickles as chumpy's reshaped node does."""

    def __init__(self, a, newshape):
        self.a, self.newshape = a, newshape


class transpose:
    """Pickles as chumpy's transposed node does (its class is lower case)."""

    def __init__(self, a, axes):
        self.a, self.axes = a, axes


class MatVecMult:
    """Pickles as a chumpy node whose value would have to be computed."""

    def __init__(self, mtx, vec):
        self.mtx, self.vec = mtx, vec


NODES = {
    Ch: "chumpy.ch",
    Select: "chumpy.reordering",
    Reshape: "chumpy.reordering",
    transpose: "chumpy.reordering",
    MatVecMult: "chumpy.ch_ops",
}


@contextmanager
def chumpy_importable():
    """Let pickle find the stand-ins where chumpy's classes live, for writing only."""
    homes = {cls: cls.__module__ for cls in NODES}
    modules = {name: ModuleType(name) for name in ("chumpy", *NODES.values())}
    sys.modules.update(modules)
    for cls, module in NODES.items():
        cls.__module__ = module
        setattr(modules[module], cls.__name__, cls)
    try:
        yield
    finally:
        for cls, home in homes.items():
            cls.__module__ = home
        for name in modules:
            del sys.modules[name]


class _Python2Pickler(pickle._Pickler):
    """Writes text and bytes alike, as Python 2's str."""

    def _save_str2(self, value):
        data = value.encode("latin1") if isinstance(value, str) else value
        self.write(b"T" + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch = pickle._Pickler.dispatch | {str: _save_str2, bytes: _save_str2}


def python2_pickle(value):
    """The bytes that Python 2, numpy and scipy of the time would have written (protocol 2)."""
    stream = BytesIO()
    with chumpy_importable():
        _Python2Pickler(stream, protocol=2).dump(value)
    written = stream.getvalue()
    for today, then in PUBLISHED_MODULES:
        written = written.replace(b"c" + today, b"c" + then)
    return written
