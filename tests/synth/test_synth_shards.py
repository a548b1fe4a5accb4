"""Exported clips: nothing is lost, the same bytes for any worker, whole or not there at all."""

import dataclasses
import errno
import gc
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import warnings
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from flowhmr.synth import shards
from flowhmr.synth.places import PlaceConfig
from flowhmr.synth.shards import ExportConfig, ShardClips, export_shards
from flowhmr.synth.shards import codec as shard_codec
from flowhmr.synth.shards import storage as shard_storage
from flowhmr.synth.shards.codec import ALL_LAYERS, decode_clip, decode_layers, encode_clip
from flowhmr.synth.shards.index import read_index
from flowhmr.synth.stage import SynthConfig
from flowhmr.synth.truth import SynthClip, synth_clip

CLIPS = SynthConfig(frames=3, size_px=32, place=PlaceConfig(textures=2), drops=1.0)
CONFIG = ExportConfig(CLIPS, count=5, per_shard=2)


@pytest.fixture(scope="module")
def clips(body) -> list[SynthClip]:
    return [synth_clip(CLIPS, index, body) for index in range(5)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    return export_shards(CONFIG, tmp_path_factory.mktemp("export") / "new").parent


@pytest.fixture
def copied(exported, tmp_path) -> Path:
    """A folder of the test's own that holds the export."""
    return Path(shutil.copytree(exported, tmp_path / "copy"))


@pytest.fixture
def made(monkeypatch, clips) -> list[int]:
    """Clips are not rendered again; numbers of those that were asked for."""
    indices = []

    def ready(config, index, body):
        indices.append(index)
        return clips[index]

    monkeypatch.setattr(shards, "synth_clip", ready)
    return indices


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def flat(record, prefix="") -> dict[str, object]:
    """All values of a record, those of the records in it by dotted names."""
    values = {}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if dataclasses.is_dataclass(value):
            values |= flat(value, f"{prefix}{field.name}.")
        else:
            values[prefix + field.name] = value
    return values


def assert_same(got: SynthClip, expected: SynthClip) -> None:
    """Equal to the last bit, of one type and shape."""
    values = flat(got)
    for name, value in flat(expected).items():
        if isinstance(value, torch.Tensor):
            assert values[name].dtype == value.dtype, name
            value, values[name] = value.numpy(), values[name].numpy()
        if isinstance(value, np.ndarray):
            assert values[name].shape == value.shape, name
            assert values[name].tobytes() == value.tobytes(), name
        else:
            assert values[name] == value, name


def noise_clip(clip: SynthClip) -> SynthClip:
    """A clip that does not shrink, with NaN and infinity in its maps."""
    rng = np.random.default_rng(0)

    def noise(value):
        bits = rng.integers(0, 256, value.numel() * value.element_size(), dtype=np.uint8)
        if value.dtype == torch.bool:
            bits &= 1
        kind = bool if value.dtype == torch.bool else value.numpy().dtype
        return torch.from_numpy(bits.view(kind).reshape(value.shape))

    flow = type(clip.flow)(**{k: noise(v) for k, v in vars(clip.flow).items()})
    names = ("surface_px", "vertex_visible", "depth_m", "parts", "people")
    maps = {name: noise(getattr(clip, name)) for name in names}
    images = noise(clip.images)
    return replace(clip, images=images, flow=flow, **maps)


def test_what_is_read_is_what_was_rendered(clips, exported):
    read = ShardClips(exported)
    assert len(read) == 5
    for index in (4, 0, 1, 2, 3):
        assert_same(read[index], clips[index])
        assert read.info_of(index).index == index


def test_labels_say_where_the_person_is(clips, exported):
    boxes = ShardClips(exported, layers=("labels",)).layers_of(3)["boxes_px"]
    assert torch.equal(boxes, clips[3].boxes_px())


@given(arrays(np.uint32, array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)))
def test_any_float_survives_its_planes(bits):
    values = bits.view(np.float32)
    planes = shard_codec._planes(values)
    assert shard_codec._from_planes(planes).tobytes() == values.tobytes()
    # The recipe for readers without this package.
    steps = np.ascontiguousarray(np.moveaxis(planes, 0, -1)).view("<u4")[..., 0]
    recipe = np.cumsum(steps, axis=0, dtype="<u4").view("<f4")
    assert recipe.tobytes() == values.tobytes()


def test_a_clip_of_noise_survives_and_takes_no_more_than_the_bound(clips, body):
    noise = noise_clip(clips[0])
    members = encode_clip(noise, 0, 0, ALL_LAYERS)
    assert_same(decode_clip(members), replace(noise))
    tar_bytes = sum(len(content) + 1024 for content in members.values())
    bound = shard_codec.most_bytes(3, 32, len(body.v_template), ALL_LAYERS)
    assert tar_bytes <= bound < 1.5 * tar_bytes


def test_a_still_survives(body):
    still = synth_clip(replace(CLIPS, frames=1), 0, body)
    assert_same(decode_clip(encode_clip(still, 0, 0, ALL_LAYERS)), still)


@given(st.sampled_from(ALL_LAYERS))
def test_each_layer_is_a_member_of_its_own(clips, layer):
    members = encode_clip(clips[1], 0, 1, (layer,))
    assert len(members) == 2
    arrays_of_layer = decode_layers(members, (layer,))
    everything = decode_layers(encode_clip(clips[1], 0, 1, ALL_LAYERS), ALL_LAYERS)
    assert arrays_of_layer
    for name, array in arrays_of_layer.items():
        assert array.numpy().tobytes() == everything[name].numpy().tobytes(), name
    others = [other for other in ALL_LAYERS if other != layer]
    with pytest.raises(ValueError, match=rf"got no {', '.join(others)}; expected frames"):
        decode_clip(members)


def test_some_layers_are_read_as_arrays_but_not_as_clips(tmp_path, made, clips):
    export_shards(replace(CONFIG, layers=("labels", "masks")), tmp_path)
    read = ShardClips(tmp_path)
    assert torch.equal(read.layers_of(2)["parts"], clips[2].parts)
    assert torch.equal(read.layers_of(2)["rotmats"], clips[2].params.rotmats)
    with pytest.raises(ValueError, match="takes frames, surface, flow, depth too; use layers_of"):
        read[0]
    with pytest.raises(ValueError, match="got the layers flow; expected some of labels, masks"):
        ShardClips(tmp_path, layers=("flow",))


def test_equal_clips_give_equal_bytes(tmp_path, made, exported):
    assert files(export_shards(CONFIG, tmp_path).parent) == files(exported)
    assert made == [0, 1, 2, 3, 4]


def test_the_index_says_what_there_is(body, exported):
    index = json.loads((exported / "index.json").read_text())
    assert index["body_id"] == body.body_id
    assert index["config"]["clips"]["size_px"] == 32
    assert [(s["name"], s["first"], s["clips"]) for s in index["shards"]] == [
        ("synth-000000.tar", 0, 2),
        ("synth-000001.tar", 2, 2),
        ("synth-000002.tar", 4, 1),
    ]
    sizes = {s["name"]: s["bytes"] for s in index["shards"]}
    assert sizes == {p.name: p.stat().st_size for p in exported.glob("*.tar")}


def test_shards_are_plain_tar_files_without_time_and_owner(exported):
    path = exported / "synth-000001.tar"
    assert path.read_bytes()[257:265] == b"ustar\x0000"
    with tarfile.open(path, "r:") as tar:
        members = tar.getmembers()
    assert {m.name.partition(".")[0] for m in members} == {"000002", "000003"}
    assert members[0].name == "000002.json"
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}
    assert not any(m.pax_headers for m in members)


def test_webdataset_reads_the_shards(exported, clips):
    import webdataset

    urls = [str(p) for p in sorted(exported.glob("*.tar"))]
    with warnings.catch_warnings():
        # WebDataset leaves the last file open.
        warnings.simplefilter("ignore", ResourceWarning)
        samples = list(webdataset.WebDataset(urls, shardshuffle=False))
        decoded = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))
        gc.collect()
    assert [s["__key__"] for s in samples] == [f"{i:06d}" for i in range(5)]
    for sample, clip in zip(samples, clips, strict=True):
        assert_same(decode_clip(sample), clip)
    assert decoded[2]["json"]["name"] == "synth/0/2"
    assert np.array_equal(decoded[2]["frames.png"].reshape(3, 32, 32, 3), clips[2].images.numpy())
    assert np.array_equal(decoded[2]["masks.npz"]["people"], clips[2].people.numpy())


def test_an_export_that_is_there_is_not_made_again(copied, made):
    heard = []
    before = {p.name: p.stat().st_mtime_ns for p in copied.glob("*.tar")}
    export_shards(CONFIG, copied, on_progress=lambda *a: heard.append(a))
    assert made == []
    assert heard == []
    assert {p.name: p.stat().st_mtime_ns for p in copied.glob("*.tar")} == before


def test_a_folder_belongs_to_an_export_before_its_first_shard(tmp_path, monkeypatch, made):
    def interrupted(config, index, body):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shards, "synth_clip", interrupted)
        with pytest.raises(KeyboardInterrupt):
            export_shards(CONFIG, tmp_path)
    with pytest.raises(ValueError, match=r"config\.per_shard: got 3, expected 2"):
        export_shards(replace(CONFIG, per_shard=3), tmp_path)


def test_an_interrupted_export_goes_on(tmp_path, monkeypatch, made, clips, exported):
    def interrupted(config, index, body):
        if index == 3:
            raise KeyboardInterrupt
        return clips[index]

    with monkeypatch.context() as patch:
        patch.setattr(shards, "synth_clip", interrupted)
        with pytest.raises(KeyboardInterrupt):
            export_shards(CONFIG, tmp_path)
    assert set(files(tmp_path)) == {"index.json", "synth-000000.tar"}
    with pytest.raises(ValueError, match="got an unfinished export of 2 clips; expected 5; run"):
        ShardClips(tmp_path)
    heard = []
    export_shards(CONFIG, tmp_path, on_progress=lambda *a: heard.append(a))
    assert files(tmp_path) == files(exported)
    assert made == [2, 3, 4]
    assert heard == [(4, 5), (5, 5)]


def test_what_a_killed_export_leaves_behind_does_not_count(copied, made, exported):
    index = read_index(copied)
    shards.write_index(copied, replace(index, shards=index.shards[:1]))
    # Renamed, but not yet in the index; and half of a file.
    (copied / "synth-000001.tar").write_bytes(b"half")
    (copied / "synth-000002.tar").rename(copied / ".synth-000002.tar.4711.partial")
    (copied / ".index.json.4711.partial").write_bytes(b"{")
    export_shards(CONFIG, copied)
    assert files(copied) == files(exported)
    assert made == [2, 3, 4]


def test_what_several_killed_processes_had_finished_counts(copied, made, exported):
    index = read_index(copied)
    first, second, third = index.shards
    shards.write_index(copied, replace(index, shards=(first,)))
    shards.write_index(copied, replace(index, shards=(first, second)), ".index-1.json")
    third = replace(third, bytes=third.bytes + 1)  # another file of that name
    shards.write_index(copied, replace(index, shards=(third,)), ".index-7.json")
    export_shards(CONFIG, copied)
    assert files(copied) == files(exported)
    assert made == [4]


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: os.truncate(path, 5000)])
def test_a_shard_that_was_lost_is_made_again(copied, made, exported, damage):
    damage(copied / "synth-000001.tar")
    export_shards(CONFIG, copied)
    assert files(copied) == files(exported)
    assert made == [2, 3]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (replace(CONFIG, count=6), r"config\.count: got 6, expected 5"),
        (replace(CONFIG, clips=replace(CLIPS, seed=3)), r"config\.clips\.seed: got 3, expected 0"),
        (
            replace(CONFIG, clips=replace(CLIPS, backgrounds=Path("films"))),
            r"config\.clips\.backgrounds: got films, expected None",
        ),
    ],
)
def test_another_export_may_not_join(copied, made, exported, other, message):
    with pytest.raises(ValueError, match=rf"{message}; choose another folder"):
        export_shards(other, copied)
    assert files(copied) == files(exported)


def test_an_export_of_another_version_may_not_be_gone_on_with(copied, made, monkeypatch):
    monkeypatch.setattr(shards, "__version__", "99")
    with pytest.raises(ValueError, match=r"flowhmr: got 99, expected"):
        export_shards(CONFIG, copied)


def test_a_changed_byte_is_noticed(copied, clips):
    path = copied / "synth-000001.tar"
    content = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        place = tar.getmember("000003.labels.safetensors")
    content[place.offset_data + place.size - 1] ^= 1
    path.write_bytes(content)
    read = ShardClips(copied)
    assert_same(read[0], clips[0])
    with pytest.raises(ValueError, match=r"synth-000001\.tar: got a file with the checksum .*"):
        read[2]
    assert_same(ShardClips(copied, verify=False)[2], clips[2])


def test_a_damaged_layer_is_an_error_even_unverified(copied):
    path = copied / "synth-000000.tar"
    content = path.read_bytes()
    for layer, suffix in {k: v.suffix for k, v in shard_codec._LAYERS.items()}.items():
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            place = tar.getmember(f"000001.{suffix}")
        start, end = place.offset_data, place.offset_data + place.size
        path.write_bytes(content[:start] + bytes(place.size) + content[end:])
        with pytest.raises(ValueError, match=rf"000000\.tar: clip 1 .*damaged layer {layer}"):
            ShardClips(copied, verify=False)[1]


@pytest.mark.parametrize("layer", ["flow", "depth", "masks"])
def test_a_changed_byte_in_a_map_is_never_taken_for_content(clips, layer):
    members = encode_clip(clips[1], 0, 1, (layer,))
    (suffix,) = members.keys() - {"json"}
    expected = decode_layers(members, (layer,))
    length = len(members[suffix])
    # Headers, the first content, and the archive's directory.
    for place in (*range(min(length, 250)), *range(max(0, length - 250), length)):
        content = bytearray(members[suffix])
        content[place] ^= 1
        try:
            found = decode_layers(members | {suffix: bytes(content)}, (layer,))
        except ValueError:
            continue
        # Some bytes say nothing about the content, such as those of a date.
        for name, array in expected.items():
            assert array.numpy().tobytes() == found[name].numpy().tobytes(), place


def test_a_truncated_or_missing_shard_is_named(copied):
    os.truncate(copied / "synth-000000.tar", 1024)
    (copied / "synth-000001.tar").unlink()
    read = ShardClips(copied, verify=False)
    with pytest.raises(ValueError, match=r"000000\.tar: got 1024 bytes; .* delete the file, then"):
        read[0]
    with pytest.raises(ValueError, match=r"000001\.tar: got no such file; .* run the same export"):
        read[2]


def test_a_shard_is_checked_once(copied, monkeypatch):
    checked = []
    checksum = shard_storage.sha256
    monkeypatch.setattr(
        shard_storage, "sha256", lambda f: checked.append(Path(f.name).name) or checksum(f)
    )
    read = ShardClips(copied)
    for index in (0, 1, 0, 2):
        read.info_of(index)
    assert checked == ["synth-000000.tar", "synth-000001.tar"]


@pytest.mark.parametrize("index", [-1, 5])
def test_there_is_no_clip_outside(exported, index):
    with pytest.raises(IndexError, match=f"got clip {index}; expected 0 to 4"):
        ShardClips(exported)[index]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"shards": [{"name": "a"}]}'])
def test_an_index_that_is_none_is_refused(tmp_path, text):
    with pytest.raises(ValueError, match="got no such file; expected the index"):
        ShardClips(tmp_path)
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(ValueError, match="got no readable index"):
        ShardClips(tmp_path)


def test_an_index_of_another_format_is_refused(copied):
    index = json.loads((copied / "index.json").read_text())
    (copied / "index.json").write_text(json.dumps(index | {"format": 2}))
    with pytest.raises(ValueError, match="got format 2; expected 1"):
        ShardClips(copied)


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch, made):
    add = tarfile.TarFile.addfile

    def no_room(tar, member, fileobj):
        if member.name.startswith("000003.flow"):
            raise OSError(errno.ENOSPC, "No space left on device")
        add(tar, member, fileobj)

    monkeypatch.setattr(tarfile.TarFile, "addfile", no_room)
    with pytest.raises(OSError, match=r"got a full disk; .* run the same export .*000001") as seen:
        export_shards(CONFIG, tmp_path)
    assert seen.value.errno == errno.ENOSPC
    assert set(files(tmp_path)) == {"index.json", "synth-000000.tar"}
    assert [s.name for s in read_index(tmp_path).shards] == ["synth-000000.tar"]


def test_too_little_room_is_noticed_before_rendering(tmp_path, monkeypatch, made, exported):
    usage = namedtuple("usage", "total used free")
    free = [10**9, 1000]
    monkeypatch.setattr(shards.shutil, "disk_usage", lambda _: usage(0, 0, free.pop(0)))
    with pytest.raises(OSError, match=r"got 0\.00 GB of free disk; expected 0\.00 GB for the next"):
        export_shards(CONFIG, tmp_path)
    assert made == [0, 1]
    shard_bytes = read_index(exported).shards[0].bytes
    free[:] = [shard_bytes]
    with pytest.raises(OSError, match="free some space and run the same export again"):
        export_shards(CONFIG, tmp_path)
    assert made == [0, 1]
    # What is ready says how much the next shard takes, closer than the bound does.
    free[:] = [int(1.3 * shard_bytes)] * 2
    export_shards(CONFIG, tmp_path)
    assert made == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "change",
    [
        {"count": 0},
        {"per_shard": 0},
        {"layers": ()},
        {"layers": ("flow", "flow")},
        {"layers": ("smell",)},
        {"clips": replace(CLIPS, frames=2000, size_px=1024)},
    ],
)
def test_impossible_exports_are_refused(change):
    with pytest.raises(ValueError, match=r"export: got .*; expected"):
        replace(CONFIG, **change)


def test_an_export_needs_a_worker(tmp_path):
    with pytest.raises(ValueError, match="got 0 workers; expected at least one"):
        export_shards(CONFIG, tmp_path, workers=0)


@pytest.mark.slow
def test_two_workers_write_what_one_does(tmp_path, exported):
    heard = []
    export_shards(CONFIG, tmp_path, workers=2, on_progress=lambda *a: heard.append(a))
    assert files(tmp_path) == files(exported)
    assert len(heard) == 3
    assert heard[-1] == (5, 5)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_export_goes_on(tmp_path, exported, workers):
    out = tmp_path / "out"
    script = (
        "from pathlib import Path\n"
        "from dataclasses import replace\n"
        "from flowhmr.synth.places import PlaceConfig\n"
        "from flowhmr.synth.shards import ExportConfig, export_shards\n"
        "from flowhmr.synth.stage import SynthConfig\n"
        "if __name__ == '__main__':\n"
        "    place = PlaceConfig(textures=2)\n"
        "    clips = SynthConfig(frames=3, size_px=32, place=place, drops=1.0)\n"
        f"    export_shards(ExportConfig(clips, 5, 2), Path({str(out)!r}), {workers})\n"
    )
    (tmp_path / "script.py").write_text(script)
    process = subprocess.Popen([sys.executable, str(tmp_path / "script.py")])
    while process.poll() is None and not list(out.glob("synth-*.tar")):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    whole = files(exported)
    for shard in read_index(out).shards:
        assert (out / shard.name).read_bytes() == whole[shard.name]
    # Its workers end by themselves.
    time.sleep(1.0)
    export_shards(CONFIG, out)
    assert files(out) == whole
