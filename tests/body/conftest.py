"""What the tests of the body share."""

import pytest

from flowhmr.body import load_body
from python2_pickles import python2_pickle
from smpl_files import published, smpl_arrays


@pytest.fixture(scope="session")
def smpl_path(tmp_path_factory):
    """A pickle as SMPL is published."""
    path = tmp_path_factory.mktemp("smpl") / "SMPL_NEUTRAL.pkl"
    path.write_bytes(python2_pickle(published(smpl_arrays())))
    return path


@pytest.fixture(scope="session")
def smpl_body(smpl_path):
    """The body in it."""
    return load_body(smpl_path)
