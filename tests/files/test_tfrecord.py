"""TFRecord files: records, checksums, features of every wire type; damage is refused."""

import struct

import numpy as np
import pytest

from flowhmr.files import DataFileError, example_of, tf_records
from flowhmr.files.tfrecord import masked_crc


def record(body):
    length = struct.pack("<Q", len(body))
    crcs = [struct.pack("<I", masked_crc(part)) for part in (length, body)]
    return length + crcs[0] + body + crcs[1]


def length_delimited(number, content):
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def example(**features):
    entries = (
        length_delimited(1, name.encode()) + length_delimited(2, stored)
        for name, stored in features.items()
    )
    return length_delimited(1, b"".join(length_delimited(1, entry) for entry in entries))


@pytest.fixture
def saved(tmp_path):
    def saved(content):
        path = tmp_path / "a.tfrecord"
        path.write_bytes(content)
        return path

    return saved


def test_the_checksum_is_crc_32c():
    """The check value of its definition (RFC 3720, appendix B.4), before it is masked."""
    crc = 0xE3069283
    assert masked_crc(b"123456789") == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32
    assert masked_crc(b"\0" * 32) == ((0x8A9136AA >> 15 | 0x8A9136AA << 17) + 0xA282EAD8) % 2**32


def test_features_packed_or_one_by_one(saved):
    floats = struct.pack("<2f", 1.5, -2.0)
    one_by_one = bytes([1 << 3 | 5]) + floats[:4] + bytes([1 << 3 | 5]) + floats[4:]
    features = {
        "a": length_delimited(2, length_delimited(1, floats)),
        "b": length_delimited(2, one_by_one),
        "c": length_delimited(3, length_delimited(1, b"\x05\x96\x01" + b"\xff" * 9 + b"\x01")),
        "d": length_delimited(3, b"\x08\x07\x08\x08"),
        "e": length_delimited(1, length_delimited(1, b"xy") + length_delimited(1, b"")),
        "f": b"",
    }
    records = tf_records(saved(record(example(**features)) + record(example(z=features["d"]))))
    found = example_of(records[0])
    assert found["a"].tolist() == found["b"].tolist() == [1.5, -2.0]
    assert found["c"].tolist() == [5, 150, -1]
    assert found["d"].tolist() == [7, 8]
    assert found["e"] == [b"xy", b""]
    assert found["f"] == []
    assert found["a"].dtype == np.float32
    assert example_of(records[1]).keys() == {"z"}
    assert example_of(records[0], ("a", "q")).keys() == {"a"}


def test_damage_is_refused(saved):
    whole = record(example(a=length_delimited(3, b"\x08\x07")))
    for broken, complaint in (
        (whole[:-3], "got a record of .* bytes at byte 0"),
        (whole + b"abc", "got no TFRecord at byte"),
        (b"\0" + whole[1:], "got no TFRecord at byte 0"),
        (b"<html>", "got no TFRecord at byte 0"),
    ):
        with pytest.raises(DataFileError, match=complaint):
            tf_records(saved(broken))
    wrong = bytearray(whole)
    wrong[-6] ^= 1
    with pytest.raises(DataFileError, match="checksum is wrong"):
        example_of(tf_records(saved(bytes(wrong)))[0])
    for body, complaint in (
        (b"\x0a\x7fab", "got a field of 127 bytes"),
        (b"\x0b", "wire type 3"),
        (b"\x0a\xff", "a number that does not end"),
        (b"\x08\x01", "a number in the place of a message"),
        (length_delimited(1, length_delimited(1, b"")), "a feature without a name"),
        (example(a=length_delimited(2, length_delimited(1, b"abc"))), "got 3 bytes of floats"),
    ):
        with pytest.raises(DataFileError, match=complaint):
            example_of(tf_records(saved(record(body)))[0])


def test_large_files_are_refused(saved):
    with pytest.raises(DataFileError, match="expected at most 10 bytes"):
        tf_records(saved(record(b"x" * 99)), max_bytes=10)
