"""Shapes written in annotations are checked in every test (jaxtyping + beartype)."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")

import pytest
from jaxtyping import install_import_hook

install_import_hook("flowhmr", "beartype.beartype")


@pytest.fixture(scope="session")
def smpl_folder(tmp_path_factory):
    """SMPL's files, of bodies that are not SMPL's."""
    from licensed_files import write_smpl_folder

    return write_smpl_folder(tmp_path_factory.mktemp("licensed") / "smpl")
