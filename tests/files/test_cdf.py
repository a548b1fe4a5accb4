"""CDF files: versions, orders, packing, blocks; damage is refused."""

import numpy as np
import pytest

from flowhmr.files import DataFileError, data_of_cdf
from more_field_files import cdf_bytes

VALUES = np.random.default_rng(0).normal(size=(5, 4, 3))


@pytest.fixture
def saved(tmp_path):
    def saved(content):
        path = tmp_path / "a.cdf"
        path.write_bytes(content)
        return path

    return saved


@pytest.mark.parametrize("wide", [8, 4])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("columns_first", [False, True])
def test_variables_are_read(saved, wide, packed, order, columns_first):
    path = saved(cdf_bytes(VALUES, "Pose", wide, packed, order, columns_first))
    assert np.array_equal(data_of_cdf(path)["Pose"], VALUES)
    assert data_of_cdf(path, ("Other",)) == {}


def test_damage_is_refused(saved):
    whole = cdf_bytes(VALUES)
    for broken, complaint in (
        (b"<html>", "expected a CDF file of version"),
        (whole[:-3], "got a CDF record of"),
        (whole[:200], "got a CDF record of"),
        (whole[:4] + b"\xcc\xcc\0\1" + whole[8:], "packed as a whole"),
        (whole.replace(b"\0\0\0\x2d", b"\0\0\0\x2d", 1)[:-1], "CDF record"),
    ):
        with pytest.raises(DataFileError, match=complaint):
            data_of_cdf(saved(broken))
    packed = cdf_bytes(VALUES, packed=True)
    at = packed.index(b"\x1f\x8b")
    with pytest.raises(DataFileError, match="damaged CDF file"):
        data_of_cdf(saved(packed[:at] + b"xx" + packed[at + 2 :]))
    with pytest.raises(DataFileError, match="unpacks to more"):
        data_of_cdf(saved(cdf_bytes(np.zeros((50, 400)), packed=True, blocks=1)), max_bytes=9_000)


def test_chains_that_go_in_circles_end(saved):
    """A variable's record that names itself as the next one."""
    content = bytearray(cdf_bytes(VALUES))
    at = content.index(b"Pose") - 84
    assert content[at + 8 : at + 12] == b"\0\0\0\x08"
    content[at + 12 : at + 20] = at.to_bytes(8, "big")
    with pytest.raises(DataFileError, match="records without end"):
        data_of_cdf(saved(bytes(content)))
