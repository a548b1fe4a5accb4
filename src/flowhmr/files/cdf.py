"""NASA's Common Data Format (Human3.6M's poses), within bounds.

Read are single files of version 2.6 to 3, their numbers plain or packed with gzip, in either byte
order and majority. Layout: "CDF Internal Format Description", NASA Goddard Space Flight Center.
"""

import zlib
from collections.abc import Collection, Iterator
from math import prod
from pathlib import Path

import numpy as np

from flowhmr.files.errors import DataFileError
from flowhmr.files.pickles import MAX_BYTES
from flowhmr.files.stream import mapped, too_large, viewed

_VERSIONS = {0xCDF30001: 8, 0xCDF26002: 4}
"""First numbers of a file -> bytes of an offset in it."""
_PLAIN, _WHOLE_PACKED = 0x0000FFFF, 0xCCCC0001
_BIG_ENDIAN = (1, 2, 5, 7, 9, 11, 12, 18)
_LITTLE_ENDIAN = (4, 6, 13, 16, 17, 19)
_TYPES = {
    1: "i1", 2: "i2", 4: "i4", 8: "i8", 11: "u1", 12: "u2", 14: "u4", 21: "f4", 22: "f8",
    41: "i1", 44: "f4", 45: "f8",
}  # fmt: skip
_R_VARIABLE, _VALUES, _Z_VARIABLE, _PACKING, _PACKED_VALUES = 3, 7, 8, 11, 13
_INDEX, _GZIP = 6, 5
_BLOCK_BYTES = 200
"""About what it takes to know where a block of records is."""
_BROKEN = "the file breaks off or is damaged: copy it again"


def data_of_cdf(
    path: Path, keys: Collection[str] | None = None, max_bytes: int = MAX_BYTES
) -> dict[str, np.ndarray]:
    """The variables of a file that hold numbers: ``[records, *dimensions]``.

    Args:
        path: the file.
        keys: read these variables only, where they are there; all if None.
        max_bytes: the largest that the file may be, and what it may unpack to.

    Raises:
        DataFileError: another kind of file, a damaged or larger one, or one packed otherwise.
        OSError: it cannot be read.
    """
    content = mapped(path, max_bytes)
    first, second = (int.from_bytes(content[at : at + 4], "big") for at in (0, 4))
    if first not in _VERSIONS or second not in (_PLAIN, _WHOLE_PACKED):
        raise DataFileError(
            f"got a file that begins with {bytes(content[:8])!r}; expected a CDF file of version "
            "2.6 to 3; give the file as it was published"
        )
    if second == _WHOLE_PACKED:
        raise DataFileError("got a CDF file that is packed as a whole; expected variables packed")
    try:
        return _Reader(content, _VERSIONS[first], max_bytes).variables(keys)
    except DataFileError:
        raise
    # A damaged file can fail in any way.
    except Exception as error:
        raise DataFileError(
            f"got a damaged CDF file ({type(error).__name__}: {error}); {_BROKEN}"
        ) from error


class _Record:
    """Takes the fields of one record in order."""

    def __init__(self, content: memoryview, place: int, wide: int) -> None:
        if not 8 <= place <= len(content) - wide - 4:
            raise DataFileError(f"got a CDF record at byte {place}; expected one inside; {_BROKEN}")
        self.wide, self.place = wide, 0
        size = int.from_bytes(content[place : place + wide], "big")
        if size < wide + 4 or place + size > len(content):
            raise DataFileError(
                f"got a CDF record of {size} bytes at byte {place}; expected a whole file; "
                f"{_BROKEN}"
            )
        self.body = content[place : place + size]
        self.offset()
        self.kind = self.number()

    def take(self, size: int) -> memoryview:
        """The next bytes."""
        if self.place + size > len(self.body):
            raise DataFileError(
                f"got a CDF record that ends too early; expected a whole file; {_BROKEN}"
            )
        self.place += size
        return self.body[self.place - size : self.place]

    def number(self) -> int:
        """Four bytes, with a sign."""
        return int.from_bytes(self.take(4), "big", signed=True)

    def offset(self) -> int:
        """A place in the file, or a size."""
        return int.from_bytes(self.take(self.wide), "big", signed=True)

    def numbers(self, count: int) -> list[int]:
        """Some of them."""
        if not 0 <= count <= len(self.body) // 4:
            raise DataFileError(
                f"got {count} numbers in a CDF record; expected a whole file; {_BROKEN}"
            )
        return [self.number() for _ in range(count)]


class _Reader:
    """Reads the variables of one file."""

    def __init__(self, content: memoryview, wide: int, max_bytes: int) -> None:
        self.content, self.wide = content, wide
        self.left_bytes = self.max_bytes = max_bytes
        head = self.record(8)
        self.directory = head.offset()
        _, _, encoding, flags = head.numbers(4)
        if encoding not in _BIG_ENDIAN + _LITTLE_ENDIAN:
            raise DataFileError(f"got CDF encoding {encoding}; expected IEEE numbers; {_BROKEN}")
        self.order = ">" if encoding in _BIG_ENDIAN else "<"
        self.rows_first, self.single = bool(flags & 1), bool(flags & 2)
        if not self.single:
            raise DataFileError("got a CDF file of several files; expected a single one")

    def record(self, place: int) -> _Record:
        """The record at a place."""
        return _Record(self.content, place, self.wide)

    def variables(self, keys: Collection[str] | None) -> dict[str, np.ndarray]:
        """All of them, or those that are asked for."""
        top = self.record(self.directory)
        firsts = [top.offset(), top.offset()]
        top.take(2 * self.wide)  # attributes, the end of the file
        top.numbers(3)
        dims = top.numbers(2)[0]
        top.offset()
        top.numbers(3)
        shared = top.numbers(dims)
        found: dict[str, np.ndarray] = {}
        for first in firsts:
            for place in self.chain(first):
                name, values = self.variable(place, shared, keys)
                if values is not None:
                    found[name] = values
        return found

    def chain(self, place: int) -> Iterator[int]:
        """The places of records, each of which begins with that of the next."""
        seen: set[int] = set()
        while place > 0 and place not in seen:
            seen.add(place)
            yield place
            place = self.record(place).offset()
        if place > 0:
            raise DataFileError(f"got CDF records without end; expected a whole file; {_BROKEN}")

    def variable(
        self, place: int, shared: list[int], keys: Collection[str] | None
    ) -> tuple[str, np.ndarray | None]:
        """Name and values of one; None if it is not asked for, or text."""
        record = self.record(place)
        if record.kind not in (_R_VARIABLE, _Z_VARIABLE):
            raise DataFileError(
                f"got a CDF record of kind {record.kind} for a variable; expected a whole file; "
                f"{_BROKEN}"
            )
        record.offset()
        kind, last = record.numbers(2)
        index = record.offset()
        record.offset()
        flags = record.number()
        record.numbers(4)
        elements = record.numbers(2)[0]
        packing = record.offset()
        record.number()
        name = bytes(record.take(256 if self.wide == 8 else 64)).split(b"\0")[0].decode("latin1")
        if (keys is not None and name not in keys) or kind not in _TYPES or elements != 1:
            return name, None
        shape = record.numbers(record.number()) if record.kind == _Z_VARIABLE else shared
        varies = record.numbers(len(shape))
        if not flags & 1 or not all(varies) or min(shape, default=1) < 0:
            raise DataFileError(f"got the CDF variable {name!r} that is constant along an axis")
        if flags & 4 and self.packing(packing) != _GZIP:
            raise DataFileError(f"got the CDF variable {name!r} packed; expected gzip or plain")
        dtype = np.dtype(self.order + _TYPES[kind])
        blocks = self.blocks(index, last + 1, dtype.itemsize * prod(shape))
        if not blocks:
            return name, np.empty((0, *shape), dtype)
        # Of several dimensions, the first or the last one runs fastest.
        stored = tuple(shape if self.rows_first else shape[::-1])
        values = np.concatenate([viewed(b, dtype, (n, *stored), "C") for n, b in blocks])
        # Blocks may be longer than what was written to them.
        values = values[: last + 1]
        return name, values if self.rows_first else values.transpose(0, *range(len(shape), 0, -1))

    def packing(self, place: int) -> int:
        """How a variable is packed."""
        record = self.record(place)
        return record.number() if record.kind == _PACKING else -1

    def blocks(self, place: int, count: int, size: int) -> list[tuple[int, memoryview]]:
        """Values of a variable: how many records, and their bytes, in order."""
        found = list(self._indexed(place, size, 0))
        found.sort(key=lambda block: block[0])
        expected = 0
        for first, records, _ in found:
            if first != expected:
                raise DataFileError(f"got CDF records from {first} on; expected {expected} first")
            expected += records
        if expected < count:
            raise DataFileError(f"got {expected} CDF records; expected {count}; {_BROKEN}")
        return [(records, block) for _, records, block in found]

    def _indexed(self, place: int, size: int, depth: int) -> Iterator[tuple[int, int, memoryview]]:
        if depth > 8:
            raise DataFileError(
                f"got CDF indices more than 8 deep; expected a whole file; {_BROKEN}"
            )
        for at in self.chain(place):
            record = self.record(at)
            record.offset()
            entries, used = record.numbers(2)
            first, last = record.numbers(entries), record.numbers(entries)
            offsets = [record.offset() for _ in range(entries)]
            for low, high, where in list(zip(first, last, offsets))[: max(used, 0)]:
                values = self.record(where)
                if values.kind == _INDEX:
                    yield from self._indexed(where, size, depth + 1)
                    continue
                records = high - low + 1
                # An index may name the same values again and again.
                self.take(records * size + _BLOCK_BYTES)
                if low < 0 or records < 1:
                    raise DataFileError(
                        f"got CDF records {low} to {high}; expected a whole file; {_BROKEN}"
                    )
                yield low, records, self._values(values, records * size)

    def take(self, size: int) -> None:
        """Use some of what all values may take."""
        self.left_bytes -= size
        if self.left_bytes < 0:
            raise DataFileError(too_large("a CDF file that unpacks to more", self.max_bytes))

    def _values(self, record: _Record, size: int) -> memoryview:
        if record.kind == _VALUES:
            return record.take(size)
        if record.kind != _PACKED_VALUES:
            raise DataFileError(
                f"got a CDF record of kind {record.kind} for values; expected a whole file; "
                f"{_BROKEN}"
            )
        record.number()
        packed = record.take(record.offset())
        raw = zlib.decompressobj(31).decompress(packed, size)
        if len(raw) != size:
            raise DataFileError(f"got {len(raw)} bytes of CDF values; expected {size}; {_BROKEN}")
        return memoryview(raw)
