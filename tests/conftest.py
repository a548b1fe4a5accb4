"""Shapes written in annotations are checked in every test (jaxtyping + beartype)."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")

from jaxtyping import install_import_hook

install_import_hook("flowhmr", "beartype.beartype")
