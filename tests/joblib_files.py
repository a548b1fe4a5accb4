"""Files as joblib writes them, without joblib."""

import io
import pickle
import sys
import types
from contextlib import contextmanager

import numpy as np


class NumpyArrayWrapper:
    """Pickles as joblib's stand-in for an array whose bytes follow."""


NumpyArrayWrapper.__module__ = "joblib.numpy_pickle"


@contextmanager
def joblib_in_sight():
    """As if joblib were installed, for as long as its class is pickled by name."""
    module = types.ModuleType("joblib.numpy_pickle")
    module.NumpyArrayWrapper = NumpyArrayWrapper
    names = {"joblib": types.ModuleType("joblib"), "joblib.numpy_pickle": module}
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update(names)
    try:
        yield
    finally:
        for name, old in before.items():
            if old is None:
                del sys.modules[name]
            else:
                sys.modules[name] = old


class JoblibPickler(pickle._Pickler):
    """joblib's NumpyPickler; since joblib 1.2 arrays begin at multiples of 16."""

    def __init__(self, stream, protocol, aligned):
        super().__init__(stream, protocol)
        self.stream, self.aligned = stream, aligned

    def save(self, obj, save_persistent_id=True):
        if type(obj) is not np.ndarray:
            return super().save(obj, save_persistent_id)
        wrapper = NumpyArrayWrapper()
        fortran = obj.flags.f_contiguous and not obj.flags.c_contiguous
        wrapper.subclass, wrapper.shape, wrapper.order = np.ndarray, obj.shape, "CF"[fortran]
        wrapper.dtype, wrapper.allow_mmap = obj.dtype, True
        if self.aligned:
            wrapper.numpy_array_alignment_bytes = 16
        super().save(wrapper)
        if self.proto >= 4:
            self.framer.commit_frame(force=True)
        if obj.dtype.hasobject:
            pickle.dump(obj, self.stream, protocol=2)
            return None
        if self.aligned:
            padding = 16 - (self.stream.tell() + 1) % 16
            self.stream.write(bytes([padding]) + b"\xff" * padding)
        self.stream.write(obj.tobytes("F" if fortran else "C"))
        return None


def joblib_bytes(value, protocol=4, aligned=True):
    """What ``joblib.dump`` writes, not packed."""
    stream = io.BytesIO()
    with joblib_in_sight():
        JoblibPickler(stream, protocol, aligned).dump(value)
    return stream.getvalue()
