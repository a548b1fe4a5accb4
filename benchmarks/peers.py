"""Libraries that benchmarks measure beside; `requirements.txt` names their versions."""

import ctypes
import importlib
from typing import Any


def library(name: str) -> Any:
    """A module of a peer.

    Raises:
        SystemExit: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise SystemExit(
            f"got no {error.name}; expected the libraries of benchmarks/requirements.txt; `make "
            "bench` installs them beside flowhmr, --no-peers goes without"
        ) from error


def open3d() -> Any:
    """open3d, whose RaycastingScene is Embree."""
    # open3d links libusb, which slim systems lack; loaded first, the wheel's copy serves it.
    ctypes.CDLL(str(library("libusb_package").get_library_path()), ctypes.RTLD_GLOBAL)
    return library("open3d")
