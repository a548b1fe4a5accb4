"""CDF files: versions, orders, packing, blocks; damage is refused."""

import struct

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


@pytest.mark.parametrize("packed", [False, True])
def test_records_that_were_reserved_but_not_written_are_left_out(saved, packed):
    """A block is as long as its variable's blocking factor; the last one is seldom full."""
    content = cdf_bytes(VALUES, packed=packed)
    last = (45).to_bytes(4, "big")
    assert content.count(last + (4).to_bytes(4, "big")) == 1
    content = content.replace(last + (4).to_bytes(4, "big"), last + (3).to_bytes(4, "big"))
    assert np.array_equal(data_of_cdf(saved(content))["Pose"], VALUES[:4])


def test_values_that_are_named_again_and_again_count(saved):
    """All blocks of an index lie in the same place: the values grow with its square."""
    values = np.zeros((200, 50))
    content = bytearray(cdf_bytes(values, blocks=200))
    first = content.index(struct.pack(">qi", 12 + 400, 7))
    at = content.index(struct.pack(">qi", 12 + 16 + 200 * 16, 6)) + 28 + 200 * 8
    content[at : at + 200 * 8] = 200 * first.to_bytes(8, "big")
    short = bytes(content[: first + 412])
    assert data_of_cdf(saved(short))["Pose"].shape == (200, 50)
    with pytest.raises(DataFileError, match="unpacks to more"):
        data_of_cdf(saved(short), max_bytes=60_000)
