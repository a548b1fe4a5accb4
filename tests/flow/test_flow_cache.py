"""The cache: found or computed is the same; nothing that goes wrong on disk gets out."""

import errno
import logging
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowhmr.flow import (
    Consistency,
    DisFlow,
    FlowCache,
    FlowPair,
    FunctionFlow,
    consistency_masks,
    estimate_pair,
)
from flowhmr.flow.codec import DamagedEntry, pack_pair, unpack_pair

Frames = tuple[np.ndarray, np.ndarray]
KEY = "0" * 64


@dataclass(frozen=True)
class CountedDis:
    """DIS that counts its calls."""

    calls: list[int] = field(default_factory=list)
    preset: str = "ultrafast"

    def identity(self) -> str:
        return DisFlow(self.preset).identity()

    def estimate(self, frame1: np.ndarray, frame2: np.ndarray) -> np.ndarray:
        self.calls.append(1)
        return DisFlow(self.preset).estimate(frame1, frame2)


def assert_same(a: FlowPair, b: FlowPair) -> None:
    for left, right in zip(vars(a).values(), vars(b).values()):
        assert left.dtype == right.dtype
        assert torch.equal(left, right)


def only_entry(folder: Path) -> Path:
    (entry,) = folder.rglob("*.flow")
    return entry


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_found_pair_is_the_computed_one(tmp_path: Path, shifted_frames: Frames) -> None:
    estimator = CountedDis()
    computed = FlowCache(tmp_path, estimator).pair(*shifted_frames)
    assert len(estimator.calls) == 2
    assert_same(FlowCache(tmp_path, estimator).pair(*shifted_frames), computed)
    assert len(estimator.calls) == 2


def test_rounding_is_at_most_half_a_step(tmp_path: Path, shifted_frames: Frames) -> None:
    plain = estimate_pair(DisFlow(), *shifted_frames)
    stored = FlowCache(tmp_path, DisFlow()).pair(*shifted_frames)
    for name in ("forward", "backward"):
        assert float((getattr(plain, name) - getattr(stored, name)).abs().max()) <= 1 / 128
    assert torch.equal(plain.forward_valid, stored.forward_valid)
    assert torch.equal(plain.backward_valid, stored.backward_valid)


def test_each_part_of_the_key_counts(tmp_path: Path, shifted_frames: Frames) -> None:
    frame1, frame2 = shifted_frames
    changed = frame1.copy()
    changed[-1, -1, -1] ^= 1
    calls: list[int] = []
    dis, fast = CountedDis(calls), CountedDis(calls, "fast")
    asked = [
        (FlowCache(tmp_path, dis), frame1, frame2),
        (FlowCache(tmp_path, dis), frame2, frame1),
        (FlowCache(tmp_path, dis), changed, frame2),
        (FlowCache(tmp_path, dis), frame1, changed),
        (FlowCache(tmp_path, dis), frame1.reshape(80, 64, 3), frame2.reshape(80, 64, 3)),
        (FlowCache(tmp_path, fast), frame1, frame2),
        (FlowCache(tmp_path, dis, Consistency(absolute_px2=0.4)), frame1, frame2),
        (FlowCache(tmp_path, dis, Consistency(relative=0.02)), frame1, frame2),
    ]
    for known, (cache, *frames) in enumerate(asked):
        cache.pair(*frames)
        assert len(calls) == 2 * (known + 1)
        assert cache.size().entries == known + 1
    for cache, *frames in asked:
        cache.pair(*frames)
    assert len(calls) == 2 * len(asked)


def test_the_name_of_a_function_is_part_of_the_key(tmp_path: Path, shifted_frames: Frames) -> None:
    for name, value in (("one", 1.0), ("two", 2.0)):
        estimator = FunctionFlow(lambda a, b, v=value: np.full((*a.shape[:2], 2), v), name)
        assert bool((FlowCache(tmp_path, estimator).pair(*shifted_frames).forward == value).all())


def test_masks_follow_the_consistency_settings(tmp_path: Path, shifted_frames: Frames) -> None:
    strict = Consistency(relative=0.0, absolute_px2=0.01)
    pair = FlowCache(tmp_path, DisFlow(), strict).pair(*shifted_frames)
    raw = estimate_pair(DisFlow(), *shifted_frames)
    expected, _ = consistency_masks(raw.forward, raw.backward, strict)
    assert torch.equal(pair.forward_valid, expected)
    assert not torch.equal(pair.forward_valid, raw.forward_valid)


def test_frames_need_not_be_contiguous(tmp_path: Path, shifted_frames: Frames) -> None:
    cache = FlowCache(tmp_path, CountedDis())
    plain = cache.pair(*shifted_frames)
    strided = tuple(np.asfortranarray(frame) for frame in shifted_frames)
    assert_same(cache.pair(strided[0], strided[1]), plain)
    assert cache.size().entries == 1


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "garbage", "renamed"])
def test_a_damaged_entry_is_computed_anew_with_a_warning(
    damage: str, tmp_path: Path, shifted_frames: Frames, caplog: pytest.LogCaptureFixture
) -> None:
    estimator = CountedDis()
    cache = FlowCache(tmp_path, estimator)
    whole = cache.pair(*shifted_frames)
    path = only_entry(tmp_path)
    entry = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(entry[: len(entry) // 2])
    elif damage == "flipped":
        path.write_bytes(entry[:100] + bytes([entry[100] ^ 1]) + entry[101:])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "garbage":
        path.write_bytes(os.urandom(500))
    else:
        cache.pair(shifted_frames[1], shifted_frames[0])
        (other,) = set(tmp_path.rglob("*.flow")) - {path}
        path.write_bytes(other.read_bytes())
    before = len(estimator.calls)
    with caplog.at_level(logging.WARNING):
        assert_same(cache.pair(*shifted_frames), whole)
    assert len(estimator.calls) == before + 2
    assert "cannot be used and is computed anew" in caplog.text
    assert path.read_bytes() == entry


def test_an_interrupted_write_leaves_nothing(
    tmp_path: Path, shifted_frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    cache = FlowCache(tmp_path, CountedDis())
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cache.pair(*shifted_frames)
    assert files_in(tmp_path) == []
    cache.pair(*shifted_frames)
    assert cache.size().entries == 1


def test_a_second_writer_of_the_same_entry_is_not_in_the_way(
    tmp_path: Path,
    shifted_frames: Frames,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache, second = FlowCache(tmp_path, CountedDis()), FlowCache(tmp_path, CountedDis())
    rename = os.replace

    def second_comes_between(partial: Path, path: Path) -> None:
        monkeypatch.setattr(os, "replace", rename)
        second.pair(*shifted_frames)
        rename(partial, path)

    monkeypatch.setattr(os, "replace", second_comes_between)
    with caplog.at_level(logging.WARNING):
        pair = cache.pair(*shifted_frames)
    assert caplog.text == ""
    assert files_in(tmp_path) == [only_entry(tmp_path)]
    assert_same(cache.pair(*shifted_frames), pair)


def test_abandoned_partial_files_are_removed_and_those_in_work_are_not(tmp_path: Path) -> None:
    old, young, foreign = (tmp_path / n for n in ("a.partial", "b.partial", "notes.txt"))
    for path in (old, young, foreign):
        path.write_bytes(b"half an entry")
    for path in (old, foreign):
        os.utime(path, (0, 0))
    FlowCache(tmp_path, DisFlow())
    assert sorted(files_in(tmp_path)) == [young, foreign]


def test_a_full_disk_costs_the_cache_only(
    tmp_path: Path,
    shifted_frames: Frames,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole_write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        whole_write(path, content[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    expected = FlowCache(tmp_path / "other", CountedDis()).pair(*shifted_frames)
    cache = FlowCache(tmp_path / "full", CountedDis())
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(Path, "write_bytes", full)
        for _ in range(3):
            assert_same(cache.pair(*shifted_frames), expected)
    assert [record.getMessage().count("No space left") for record in caplog.records] == [1]
    assert files_in(tmp_path / "full") == []
    cache.pair(*shifted_frames)
    assert cache.size().entries == 1


def test_a_folder_that_cannot_be_made_costs_the_cache_only(
    tmp_path: Path, shifted_frames: Frames, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"in the way")
    with caplog.at_level(logging.WARNING):
        FlowCache(tmp_path / "file" / "cache", CountedDis()).pair(*shifted_frames)
    assert "cannot store" in caplog.text


def test_size_and_clear_touch_entries_only(tmp_path: Path, shifted_frames: Frames) -> None:
    cache = FlowCache(tmp_path, CountedDis())
    assert (cache.size().entries, cache.size().bytes) == (0, 0)
    cache.pair(*shifted_frames)
    assert (cache.size().entries, cache.size().bytes) == (1, only_entry(tmp_path).stat().st_size)
    kept = [tmp_path / "precious.txt", tmp_path / "videos" / "a.flow"]
    for path in kept:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"mine")
    cache.clear()
    assert sorted(files_in(tmp_path)) == sorted(kept)
    assert cache.size().entries == 0


def test_two_may_clear_at_once(
    tmp_path: Path, shifted_frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = Path.unlink

    def other_was_faster(path: Path, missing_ok: bool = False) -> None:
        os.remove(path)
        unlink(path, missing_ok=missing_ok)

    cache = FlowCache(tmp_path, CountedDis())
    cache.pair(*shifted_frames)
    monkeypatch.setattr(Path, "unlink", other_was_faster)
    cache.clear()
    assert files_in(tmp_path) == []


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 20),
    st.integers(1, 20),
    st.sampled_from([0.0, 0.01, 1.0, 100.0, 512.0, 3000.0, 1e5]),
    st.integers(0, 100),
)
def test_packing_rounds_to_half_a_step_and_keeps_the_rest(
    height: int, width: int, reach_px: float, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    flows = reach_px * (2 * torch.rand(2, height, width, 2, generator=random) - 1)
    masks = torch.rand(2, height, width, generator=random) > 0.5
    pair = FlowPair(flows[0], flows[1], masks[0], masks[1])
    got = unpack_pair(pack_pair(pair, KEY), KEY)
    bound = max(1 / 128, float(flows.abs().max()) / 32767)
    assert float((got.forward - pair.forward).abs().max()) <= bound
    assert float((got.backward - pair.backward).abs().max()) <= bound
    assert torch.equal(got.forward_valid, pair.forward_valid)
    assert torch.equal(got.backward_valid, pair.backward_valid)
    assert_same(unpack_pair(pack_pair(got, KEY), KEY), got)


def test_each_flipped_bit_is_noticed() -> None:
    flow = torch.ones(2, 3, 2)
    valid = torch.ones(2, 3, dtype=torch.bool)
    entry = pack_pair(FlowPair(flow, -flow, valid, valid), KEY)
    for position in range(8 * len(entry)):
        damaged = bytearray(entry)
        damaged[position // 8] ^= 1 << (position % 8)
        with pytest.raises(DamagedEntry):
            unpack_pair(bytes(damaged), KEY)


WRITER = """
import sys, numpy as np
from flowhmr.flow import DisFlow, FlowCache
frames = [np.roll(np.load(sys.argv[2]), i, 1) for i in range(12)]
cache = FlowCache(sys.argv[1], DisFlow("ultrafast"))
for round in range(4):
    for a, b in zip(frames, frames[1:]):
        assert abs(float(cache.pair(a, b).forward[32, 40, 0]) - 1) < 0.5
    if round < 3:
        cache.clear()
"""


@pytest.mark.slow
def test_two_processes_write_and_clear_the_same_folder(
    tmp_path: Path, shifted_frames: Frames
) -> None:
    np.save(tmp_path / "frame.npy", shifted_frames[0])
    command = [sys.executable, "-c", WRITER, str(tmp_path / "cache"), str(tmp_path / "frame.npy")]
    writers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for writer in writers:
        _, messages = writer.communicate(timeout=600)
        assert (writer.returncode, messages) == (0, "")
    assert all(path.suffix == ".flow" for path in files_in(tmp_path / "cache"))
    frames = shifted_frames[0], np.roll(shifted_frames[0], 1, 1)
    found = FlowCache(tmp_path / "cache", CountedDis()).pair(*frames)
    assert_same(found, FlowCache(tmp_path / "fresh", CountedDis()).pair(*frames))
