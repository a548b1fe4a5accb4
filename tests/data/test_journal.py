"""Journals: what was written is there again, after a kill as well; never what is another's."""

import json
import os
from pathlib import Path

import pytest

from flowhmr.data import Journal, source_key

KEY = {"source": "a.mp4", "settings": {"people": 2}}


def fill(path: Path, frames: range, key: dict = KEY) -> None:
    with Journal(path, key) as journal:
        for frame in frames:
            journal.add(frame, {"x": frame / 3, "who": [1, None]})


def rows_of(path: Path, key: dict = KEY) -> dict[int, object]:
    with Journal(path, key) as journal:
        return {k: journal.row(k) for k in range(20) if journal.row(k) is not None}


def test_rows_come_back_and_more_are_added(tmp_path):
    path = tmp_path / "people.jsonl"
    fill(path, range(3))
    fill(path, range(3, 5))
    found = rows_of(path)
    assert list(found) == [0, 1, 2, 3, 4]
    assert found[4] == {"x": 4 / 3, "who": [1, None]}
    assert rows_of(path) == found, "reading changes nothing"


@pytest.mark.parametrize("lost", range(1, 40, 6))
def test_a_line_that_is_cut_off_is_dropped_and_written_again(tmp_path, lost):
    path = tmp_path / "people.jsonl"
    fill(path, range(5))
    whole = path.read_bytes()
    path.write_bytes(whole[:-lost])
    found = rows_of(path)
    assert found
    assert list(found) == list(range(len(found)))
    fill(path, range(len(found), 5))
    assert path.read_bytes() == whole


def test_damage_ends_what_is_taken_over(tmp_path):
    path = tmp_path / "people.jsonl"
    fill(path, range(5))
    lines = path.read_bytes().split(b"\n")
    for junk in (b"\x00\xff\x00", b"7", b"[1,2,3]", b'{"a": 1}', b'["x", 1]'):
        path.write_bytes(b"\n".join([*lines[:3], junk, *lines[4:]]))
        assert list(rows_of(path)) == [0, 1]
        fill(path, range(2, 5))
        assert list(rows_of(path)) == [0, 1, 2, 3, 4]


def test_another_key_begins_anew(tmp_path):
    path = tmp_path / "people.jsonl"
    fill(path, range(3))
    assert rows_of(path, KEY | {"source": "b.mp4"}) == {}
    assert rows_of(path) == {}, "the old rows are gone"
    path.write_bytes(b"something else entirely")
    fill(path, range(2))
    assert list(rows_of(path)) == [0, 1]


def test_without_a_file_rows_are_kept_in_memory(tmp_path):
    with Journal(None, KEY) as journal:
        journal.add(7, [1])
        assert journal.row(7) == [1]
        assert journal.row(8) is None
    assert not list(tmp_path.iterdir())


def test_rows_are_on_disk_before_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr("flowhmr.data.journal.WRITE_EVERY_S", -1.0)
    path = tmp_path / "people.jsonl"
    with Journal(path, KEY) as journal:
        journal.add(0, "here")
        assert json.loads(path.read_bytes().split(b"\n")[1]) == [0, "here"]


def test_a_source_is_known_by_its_file_and_its_changes(tmp_path):
    video, folder = tmp_path / "a.mp4", tmp_path / "images"
    video.write_bytes(b"1234")
    folder.mkdir()
    (folder / "1.png").write_bytes(b"12")
    first = source_key(video)
    assert first == source_key(video)
    images = source_key(folder)
    assert images["bytes"] == 2
    (folder / "capture").mkdir()
    (folder / "notes.txt").write_text("results beside the images")
    assert source_key(folder) == images
    os.utime(video, ns=(1, 1))
    assert source_key(video) != first
    with pytest.raises(FileNotFoundError):
        source_key(tmp_path / "b.mp4")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full device")
def test_a_full_disk_is_told(tmp_path):
    path = tmp_path / "people.jsonl"
    fill(path, range(3))

    def onto_a_full_disk() -> None:
        with Path("/dev/full").open("wb") as full, Journal(path, KEY) as journal:
            journal._file.close()
            journal._file = full
            for frame in range(3, 5000):
                journal.add(frame, "x" * 100)

    with pytest.raises(OSError, match=r"people.jsonl: got No space left .*; free some and start"):
        onto_a_full_disk()
    assert list(rows_of(path)) == [0, 1, 2], "what was written before is there"


def test_a_file_that_cannot_be_written_is_told(tmp_path):
    path = tmp_path / "nowhere" / "people.jsonl"
    with pytest.raises(OSError, match=r"people.jsonl: got No such file .* can be written to"):
        Journal(path, KEY)
