"""TFRecord files of ``tf.train.Example``, within bounds and without TensorFlow.

A record is its length, a checksum of that, its bytes, and a checksum of these (CRC-32C, rotated).
Its bytes are a protocol buffer: features by name, each a list of bytes, of floats or of integers.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import no_type_check

import numpy as np
from numba import njit

from flowhmr.files.errors import DataFileError
from flowhmr.files.pickles import MAX_BYTES
from flowhmr.files.stream import mapped

Features = dict[str, "list[bytes] | np.ndarray"]
_REMEDY = "the file breaks off or is damaged: copy it again"
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5


def tf_records(path: Path, max_bytes: int = MAX_BYTES) -> list[memoryview]:
    """The records of a file, seen where they lie; checksums are compared when one is read.

    Raises:
        DataFileError: damaged, too large, or another kind of file.
        OSError: it cannot be read.
    """
    content, place, found = mapped(path, max_bytes), 0, []
    while place < len(content):
        head = bytes(content[place : place + 12])
        length = int.from_bytes(head[:8], "little")
        if len(head) < 12 or int.from_bytes(head[8:], "little") != masked_crc(head[:8]):
            raise DataFileError(
                f"got no TFRecord at byte {place}; expected one, its length's checksum right; "
                f"{_REMEDY}"
            )
        if place + length + 16 > len(content):
            raise DataFileError(
                f"got a record of {length} bytes at byte {place}; expected at most the "
                f"{len(content) - place - 16} that are there; {_REMEDY}"
            )
        # With the checksum that follows.
        found.append(content[place + 12 : place + 16 + length])
        place += length + 16
    return found


def example_of(record: memoryview, keys: Collection[str] | None = None) -> Features:
    """The features of a record of `tf_records`: bytes as a list, numbers as arrays.

    Args:
        record: it, with its checksum.
        keys: read these only, where they are there; all if None.

    Raises:
        DataFileError: damaged, or something else than a ``tf.train.Example``.
    """
    body = record[:-4]
    if int.from_bytes(record[-4:], "little") != masked_crc(bytes(body)):
        raise DataFileError(f"got a record whose checksum is wrong; expected it right; {_REMEDY}")
    found: Features = {}
    for field, features in _fields(body):
        if field != 1:
            continue
        for _, entry in _fields(_message(features)):
            parts = dict(_fields(_message(entry)))
            try:
                name = bytes(_message(parts[1])).decode("utf-8")
            except (KeyError, UnicodeDecodeError) as error:
                raise DataFileError(
                    f"got a feature without a name ({error}); expected a whole file; {_REMEDY}"
                ) from error
            if keys is None or name in keys:
                found[name] = _values(_message(parts.get(2, memoryview(b""))))
    return found


def _values(feature: memoryview) -> "list[bytes] | np.ndarray":
    """A list of bytes (1), of floats (2) or of integers (3)."""
    for kind, stored in _fields(feature):
        items = [value for field, value in _fields(_message(stored)) if field == 1]
        if kind == 1:
            return [bytes(_message(item)) for item in items]
        if kind == 2:
            return np.concatenate([_floats(item) for item in items] or [np.empty(0, np.float32)])
        if kind == 3:
            return np.array([n for item in items for n in _integers(item)], np.int64)
    return []


def _floats(item: "memoryview | int") -> np.ndarray:
    raw = _message(item)
    if len(raw) % 4:
        raise DataFileError(f"got {len(raw)} bytes of floats; expected a multiple of 4; {_REMEDY}")
    return np.frombuffer(raw, "<f4")


def _integers(item: "memoryview | int") -> list[int]:
    """Packed, or one of them."""
    if isinstance(item, int):
        return [_signed(item)]
    values, place = [], 0
    while place < len(item):
        value, place = _varint(item, place)
        values.append(_signed(value))
    return values


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def _message(value: "memoryview | int") -> memoryview:
    if isinstance(value, int):
        raise DataFileError(
            f"got a number in the place of a message; expected a whole file; {_REMEDY}"
        )
    return value


def _fields(message: memoryview) -> "Iterator[tuple[int, memoryview | int]]":
    """Number and value of each field: bytes as they lie, a varint as an integer."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        kind = tag & 7
        if kind == _VARINT:
            value, place = _varint(message, place)
            yield tag >> 3, value
            continue
        if kind == _BYTES:
            size, place = _varint(message, place)
        elif kind in (_FIXED_64, _FIXED_32):
            size = 8 if kind == _FIXED_64 else 4
        else:
            raise DataFileError(
                f"got a field of wire type {kind}; expected 0, 1, 2 or 5; {_REMEDY}"
            )
        if place + size > len(message):
            raise DataFileError(
                f"got a field of {size} bytes; expected at most {len(message) - place}; {_REMEDY}"
            )
        yield tag >> 3, message[place : place + size]
        place += size


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, lowest first, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            break
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), place
    raise DataFileError(f"got a number that does not end; expected a whole file; {_REMEDY}")


def masked_crc(raw: bytes) -> int:
    """The checksum of TFRecord files: CRC-32C, rotated and shifted."""
    crc = int(_crc(np.frombuffer(raw, np.uint8)))
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


@njit(cache=True, nogil=True)
@no_type_check
def _crc(raw):
    table = np.empty(256, np.uint32)
    for n in range(256):
        value = np.uint32(n)
        for _ in range(8):
            if value & np.uint32(1):
                value = (value >> np.uint32(1)) ^ np.uint32(0x82F63B78)
            else:
                value = value >> np.uint32(1)
        table[n] = value
    crc = np.uint32(0xFFFFFFFF)
    for i in range(raw.size):
        crc = table[(crc ^ np.uint32(raw[i])) & np.uint32(0xFF)] ^ (crc >> np.uint32(8))
    return crc ^ np.uint32(0xFFFFFFFF)
