"""Exports at URLs: fetched when needed, whole or not at all, into a cache that stays small."""

import errno
import importlib.util
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import fsspec
import pytest

from flowhmr.synth.places import PlaceConfig
from flowhmr.synth.shards import ExportConfig, ShardCache, ShardClips, export_shards, storage
from flowhmr.synth.shards import index as shard_index
from flowhmr.synth.shards.index import read_index
from flowhmr.synth.shards.video import shard_videos
from flowhmr.synth.stage import SynthConfig

CLIPS = SynthConfig(frames=2, size_px=32, place=PlaceConfig(textures=2))
CONFIG = ExportConfig(CLIPS, count=5, per_shard=2, layers=("frames", "labels"))
NAMES = [f"synth-00000{number}.tar" for number in range(3)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    return export_shards(CONFIG, tmp_path_factory.mktemp("export") / "shards").parent


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch) -> None:
    monkeypatch.setattr(storage, "PAUSES_S", (1e-3, 1e-3))


@pytest.fixture
def cache(tmp_path) -> ShardCache:
    return ShardCache(tmp_path / "cache")


@dataclass
class Server:
    """The export behind HTTP, with faults."""

    url: str
    folder: Path
    asked: Counter[str] = field(default_factory=Counter)
    """Requests by name."""
    broken: Counter[str] = field(default_factory=Counter)
    """How often the connection breaks half way."""
    refused: dict[str, int] = field(default_factory=dict)
    """Status by name."""
    stalled: Event | None = None
    """Half of a shard is sent, then nothing until this is set."""


class Handler(SimpleHTTPRequestHandler):
    def __init__(self, *args, server_of_test: Server, **kwargs):
        self.test = server_of_test
        super().__init__(*args, directory=str(server_of_test.folder), **kwargs)

    def log_message(self, *args) -> None:
        pass

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].rpartition("/")[2]
        self.test.asked[name] += 1
        if name in self.test.refused:
            self.send_error(self.test.refused[name])
            return
        stalls = self.test.stalled is not None and name.endswith(".tar")
        if not stalls and not self.test.broken[name]:
            super().do_GET()
            return
        self.test.broken[name] -= not stalls
        content = (self.test.folder / name).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        if stalls:
            self.test.stalled.wait(60)
        self.close_connection = True


@pytest.fixture
def server(exported, tmp_path) -> Iterator[Server]:
    test = Server("", Path(shutil.copytree(exported, tmp_path / "served")))
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, server_of_test=test))
    http.daemon_threads = True
    test.url = f"http://127.0.0.1:{http.server_port}"
    thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield test
    if test.stalled is not None:
        test.stalled.set()
    http.shutdown()
    http.server_close()
    thread.join()


def shards_in(cache: ShardCache) -> list[str]:
    """All files but locks."""
    if not cache.folder.exists():
        return []
    return sorted(p.name for p in cache.folder.iterdir() if not p.name.endswith(".lock"))


def cached(folder: Path, *numbers: int) -> list[str]:
    """What shards are called in a cache."""
    shards = read_index(folder).shards
    return sorted(f"{shards[number].sha256}.tar" for number in numbers)


def assert_all_equal(read: ShardClips, exported: Path) -> None:
    expected = ShardClips(exported)
    assert len(read) == len(expected) == 5
    for index in (4, 0, 1, 3, 2):
        assert read.info_of(index) == expected.info_of(index)
        found = read.layers_of(index)
        for name, value in expected.layers_of(index).items():
            assert found[name].numpy().tobytes() == value.numpy().tobytes(), name


def test_a_shard_is_fetched_once_and_when_it_is_needed(server, cache, exported):
    read = ShardClips(server.url, cache=cache)
    assert server.asked == {"index.json": 1}
    assert not shards_in(cache)
    for index in (2, 3, 2):
        read.layers_of(index)
    assert server.asked == {"index.json": 1, NAMES[1]: 1}
    assert shards_in(cache) == cached(exported, 1)
    # Workers of a DataLoader, and the next start, find what is there.
    assert_all_equal(pickle.loads(pickle.dumps(read)), exported)
    assert_all_equal(ShardClips(server.url + "/", cache=cache), exported)
    assert server.asked == {"index.json": 2} | dict.fromkeys(NAMES, 1)


def test_fsspec_reads_what_is_not_http(cache, exported):
    memory = fsspec.filesystem("memory")
    for path in exported.iterdir():
        memory.pipe_file(f"/bucket/a set/{path.name}", path.read_bytes())
    try:
        assert_all_equal(ShardClips("memory://bucket/a set", cache=cache), exported)
        memory.rm_file(f"/bucket/a set/{NAMES[0]}")
        empty = ShardCache(cache.folder / "other")
        with pytest.raises(ValueError, match=rf"memory://bucket/a set/{NAMES[0]}: got no such"):
            ShardClips("memory://bucket/a set", cache=empty).info_of(0)
    finally:
        memory.rm("/bucket", recursive=True)


def test_a_file_url_is_read_where_it_is(exported):
    assert_all_equal(ShardClips(exported.as_uri()), exported)
    assert_all_equal(ShardClips(str(exported)), exported)


def test_a_broken_connection_is_tried_again(server, cache, exported):
    server.broken = Counter({"index.json": 2, NAMES[0]: 2})
    assert_all_equal(ShardClips(server.url, cache=cache), exported)
    assert server.asked == {"index.json": 3, NAMES[0]: 3, NAMES[1]: 1, NAMES[2]: 1}


def test_a_connection_that_stays_broken_is_an_error(server, cache):
    read = ShardClips(server.url, cache=cache)
    server.broken = Counter({"index.json": 9, NAMES[0]: 9})
    with pytest.raises((OSError, ValueError), match=rf"{NAMES[0]}: got .*; check the connection"):
        read.info_of(0)
    with pytest.raises(OSError, match=r"index\.json: got .* in 3 attempts; check the URL"):
        ShardClips(server.url, cache=cache)
    assert not shards_in(cache)


def test_a_server_that_fails_is_tried_again_and_one_that_refuses_is_not(server, cache):
    server.refused["index.json"] = 503
    with pytest.raises(OSError, match=r"got HTTP Error 503: .* in 3 attempts"):
        ShardClips(server.url, cache=cache)
    server.refused["index.json"] = 403
    with pytest.raises(PermissionError, match=r"index\.json: got HTTP Error 403: .*; expected"):
        ShardClips(server.url, cache=cache)
    assert server.asked == {"index.json": 4}


def test_another_shard_than_the_indexs_is_refused(server, cache):
    path = server.folder / NAMES[1]
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    read = ShardClips(server.url, cache=cache, verify=False)
    with pytest.raises(ValueError, match=rf"{NAMES[1]}: got a file with the checksum .* upload"):
        read.info_of(2)
    path.write_bytes(content + b"more")
    with pytest.raises(ValueError, match=rf"{NAMES[1]}: got a file of more bytes; expected"):
        read.info_of(2)
    assert not shards_in(cache)
    assert read.info_of(0).index == 0


def test_what_is_missing_is_named(server, cache):
    (server.folder / NAMES[2]).unlink()
    read = ShardClips(server.url, cache=cache)
    with pytest.raises(ValueError, match=rf"{NAMES[2]}: got no such file .* upload the export's"):
        read.info_of(4)
    with pytest.raises(ValueError, match=r"/other/index\.json: got no such file .* `flowhmr synth"):
        ShardClips(server.url + "/other", cache=cache)


def test_the_cache_stays_as_small_as_asked(server, cache, exported):
    sizes = [shard.bytes for shard in read_index(exported).shards]
    small = ShardCache(cache.folder, (sizes[0] + sizes[1] + 100) / 1e9)
    read = ShardClips(server.url, cache=small)
    for index in (0, 2, 0):
        read.info_of(index)
        time.sleep(0.02)  # which was used last must show in times of files
    assert shards_in(small) == cached(exported, 0, 1)
    read.info_of(4)  # shard 1 goes, which was not used for longest
    assert shards_in(small) == cached(exported, 0, 2)
    read.info_of(3)
    assert read.info_of(0).index == 0
    assert sum(path.stat().st_size for path in small.folder.glob("*.tar")) <= small.most_gb * 1e9
    with pytest.raises(ValueError, match=r"got a cache of at most 1e-06 GB; expected room for"):
        ShardClips(server.url, cache=ShardCache(cache.folder / "tiny", 1e-6)).info_of(2)
    with pytest.raises(ValueError, match="got at most 0 GB; expected more"):
        ShardCache(cache.folder, 0.0)


def test_what_is_damaged_in_the_cache_is_fetched_again(server, cache, exported):
    ShardClips(server.url, cache=cache).info_of(0)
    path = cache.folder / cached(exported, 0)[0]
    content = path.read_bytes()
    for damaged in (content[:-1], bytes([content[0] ^ 1]) + content[1:]):
        path.write_bytes(damaged)
        ShardClips(server.url, cache=cache).layers_of(0)
        assert path.read_bytes() == content
    assert server.asked[NAMES[0]] == 3


def test_what_killed_processes_left_goes(server, cache, exported):
    cache.folder.mkdir()
    for number in (0, 2):
        name = cached(exported, number)[0]
        (cache.folder / f".{name}.4711.partial").write_bytes(b"half")
    ShardClips(server.url, cache=cache).info_of(0)
    assert shards_in(cache) == cached(exported, 0)


def test_what_others_fetch_is_left_alone_and_counts(server, cache, exported, monkeypatch):
    sizes = [shard.bytes for shard in read_index(exported).shards]
    small = ShardCache(cache.folder, (sizes[0] + 100) / 1e9)
    read = ShardClips(server.url, cache=small)
    cache.folder.mkdir()
    (name,) = cached(exported, 1)
    partial = cache.folder / f".{name}.4711.partial"
    partial.write_bytes(bytes(sizes[1]))
    waits = []

    def arrived(seconds: float) -> None:
        """While this process waits for room, the other one is done."""
        assert partial.exists()
        waits.append(seconds)
        partial.rename(cache.folder / name)

    monkeypatch.setattr(storage.time, "sleep", arrived)
    lock = storage._lock_of(cache.folder / name)
    with lock:
        read.info_of(0)
    assert waits == [storage._WAIT_S]
    assert shards_in(small) == cached(exported, 0)


def test_a_full_disk_leaves_nothing(server, cache, monkeypatch):
    read = ShardClips(server.url, cache=cache)
    message = r"got a full disk; .* free some space and start again .* or choose another cache"

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shard_index.os, "fsync", full)
        with pytest.raises(OSError, match=message) as seen:
            read.info_of(0)
        assert seen.value.errno == errno.ENOSPC
    with monkeypatch.context() as patch:
        usage = shutil.disk_usage("/")._replace(free=100)
        patch.setattr(storage.shutil, "disk_usage", lambda _: usage)
        with pytest.raises(OSError, match=message):
            read.info_of(0)
    assert not shards_in(cache)
    assert read.info_of(0).index == 0


def test_urls_that_cannot_be_read_say_why(cache):
    with pytest.raises(ValueError, match=r"https://h/a: got a URL and no cache; .* cache=Shard"):
        ShardClips("https://user:secret@h/a/?signature=secret")
    with pytest.raises(ValueError, match=r"nosuch://h/a: got a URL that nothing installed here"):
        ShardClips("nosuch://h/a", cache=cache)
    if importlib.util.find_spec("s3fs") is None:
        with pytest.raises(ValueError, match=r"s3://b/a: got .*pip install s3fs"):
            ShardClips("s3://b/a", cache=cache)


@pytest.mark.parametrize("change", [{"sha256": "../../x"}, {"name": "../x"}, {"bytes": "1"}])
def test_an_index_cannot_name_files_elsewhere(server, cache, change):
    path = server.folder / "index.json"
    index = json.loads(path.read_text())
    index["shards"][0] |= change
    path.write_text(json.dumps(index))
    with pytest.raises(ValueError, match="got no readable index"):
        ShardClips(server.url, cache=cache)


def test_clips_are_video_whose_pictures_are_read_when_asked_for(server, cache, exported):
    local, remote = shard_videos(exported), shard_videos(server.url, cache)
    expected = ShardClips(exported)
    assert [video.name for video in remote] == [f"{server.url}#{index}" for index in range(5)]
    for index, (video, other) in enumerate(zip(remote, local)):
        layers = expected.layers_of(index)
        assert video.boxes_px.equal(layers["boxes_px"])
        assert video.labels is None
        assert len(video) == 2
        assert video.times_s.tolist() == pytest.approx([0, 1 / expected.info_of(index).fps])
        for row in (1, 0, -1):
            assert (video.images[row] == layers["images"][row].numpy()).all()
        assert (video.images[1:][0] == layers["images"][1].numpy()).all()
        with pytest.raises(IndexError):
            video.images[2]
        # What is kept of the pictures, flow and features, is found wherever they lie.
        assert video.images.identity() == other.images.identity() != video.images[1:].identity()
    assert len({video.images.identity() for video in remote}) == 5
    assert server.asked == {"index.json": 1} | dict.fromkeys(NAMES, 1)
    sent = pickle.loads(pickle.dumps(remote))
    assert (sent[3].images[0] == remote[3].images[0]).all()


def test_stills_are_no_video(tmp_path):
    config = replace(CONFIG, clips=replace(CLIPS, frames=1), count=1)
    with pytest.raises(ValueError, match="got clips of one frame; expected video"):
        shard_videos(export_shards(config, tmp_path).parent)
    config = replace(config, layers=("labels",))
    export_shards(config, tmp_path / "labels")
    with pytest.raises(ValueError, match="got the layers frames, labels; expected some of labels"):
        shard_videos(tmp_path / "labels")


SCRIPT = """
import sys
from pathlib import Path
from flowhmr.synth.shards import ShardCache, ShardClips
clips = ShardClips(sys.argv[1], cache=ShardCache(Path(sys.argv[2])))
print("index", flush=True)
sys.stdin.readline()
for index in range(len(clips)):
    clips.info_of(index)
print("done", flush=True)
"""


def reader(server: Server, cache: ShardCache) -> subprocess.Popen[str]:
    """A process that reads all clips once it is told to."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, server.url, str(cache.folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "index\n"
    return process


@pytest.mark.slow
def test_two_processes_fetch_each_shard_once(server, cache, exported):
    processes = [reader(server, cache) for _ in range(2)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        assert process.communicate(timeout=120)[0] == "done\n"
        assert process.returncode == 0
    assert server.asked == {"index.json": 2} | dict.fromkeys(NAMES, 1)
    assert shards_in(cache) == cached(exported, 0, 1, 2)


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_fetches_leaves_nothing(server, cache, exported):
    server.stalled = Event()
    process = reader(server, cache)
    process.stdin.write("go\n")
    process.stdin.flush()
    while not any(name.endswith(".partial") for name in shards_in(cache)):
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert len(shards_in(cache)) == 1
    server.stalled.set()
    server.stalled = None
    assert_all_equal(ShardClips(server.url, cache=cache), exported)
    assert shards_in(cache) == cached(exported, 0, 1, 2)
