"""Large JSON files, one entry at a time."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flowhmr.files.errors import DataFileError
from flowhmr.files.pickles import MAX_BYTES
from flowhmr.files.stream import too_large

_SPACE = re.compile(r"\s*")


def json_entries(path: Path, key: str, max_bytes: int = MAX_BYTES) -> Iterator[Any]:
    """The entries of a list in a JSON file: ``{..., "key": [entry, ...], ...}``.

    No more than one of them is held as Python objects.

    Args:
        path: the file.
        key: of the object that the file holds.
        max_bytes: the largest that the file may be.

    Raises:
        DataFileError: damaged, too large, or without such a list.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    if size > max_bytes:
        raise DataFileError(too_large(f"{size} bytes", max_bytes))
    try:
        yield from _entries(path.read_text(encoding="utf-8"), key)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataFileError(
            f"got JSON that is damaged ({error}); expected a whole file; copy it again"
        ) from error


def _entries(text: str, key: str) -> Iterator[Any]:
    decode = json.JSONDecoder().raw_decode

    def after(place: int, sign: str) -> int:
        """Past a sign and the space around it."""
        place = _past_space(text, place)
        if text[place : place + 1] != sign:
            raise json.JSONDecodeError(f"Expecting {sign!r}", text, place)
        return _past_space(text, place + 1)

    first = _past_space(text, 0)
    if text[first : first + 1] != "{":
        raise DataFileError(f'got JSON that is no object; expected one with a list "{key}"')
    place, found = after(0, "{"), False
    while text[place : place + 1] != "}":
        name, place = decode(text, place)
        place = after(place, ":")
        if name == key and text[place : place + 1] == "[":
            found, place = True, after(place, "[")
            while text[place : place + 1] != "]":
                entry, place = decode(text, place)
                yield entry
                place = _past_space(text, place)
                if text[place : place + 1] != "]":
                    place = after(place, ",")
            place += 1
        else:
            _, place = decode(text, place)
        place = _past_space(text, place)
        if text[place : place + 1] != "}":
            place = after(place, ",")
    if not found:
        raise DataFileError(
            f'got JSON without a list "{key}"; expected one; give the file as it was published'
        )


def _past_space(text: str, place: int) -> int:
    match = _SPACE.match(text, place)
    return match.end() if match else place
