"""The store of clips: what is in it is what is drawn, drawn once, gone on with, whole."""

import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from flowhmr.body import BodyModel
from flowhmr.geometry import pick
from flowhmr.synth import ClipStore, SplitSpec, split_spec, synth_clip
from flowhmr.synth import store as store_module
from flowhmr.synth.store import CELL_PX, surface_maps
from flowhmr.synth.truth import SynthClip


def tiny(name, size_px: int, **changed) -> SplitSpec:
    spec = split_spec(name)
    return replace(spec, clips=replace(spec.clips, size_px=size_px, **changed), count=6)


STILLS = tiny("stills", 32)
VIDEO = tiny("val", 48, frames=3)


@pytest.fixture(scope="module", autouse=True)
def few_a_file():
    """Two clips a file, so that a few clips fill several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_module, "FRAMES_A_FILE", 2)
        yield


@pytest.fixture(scope="module")
def drawn(few_a_file, tmp_path_factory) -> ClipStore:
    """Five stills in files of two, two and one."""
    return ClipStore(STILLS, tmp_path_factory.mktemp("store"), count=5, workers=1)


@pytest.fixture(scope="module")
def video(few_a_file, tmp_path_factory) -> ClipStore:
    return ClipStore(VIDEO, tmp_path_factory.mktemp("video"), count=2, workers=1)


@pytest.fixture(scope="module")
def large(body) -> list[SynthClip]:
    """Stills on which a cell is small beside a limb."""
    config = replace(STILLS.clips, size_px=160, others=0.0)
    return [synth_clip(config, i, body) for i in range(4)]


@pytest.fixture
def copied(drawn, tmp_path) -> Path:
    """A cache folder of the test's own that holds the five stills."""
    shutil.copytree(drawn.folder, tmp_path / drawn.folder.name)
    return tmp_path


def files(store: ClipStore) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(store.folder.iterdir())}


def written(store: ClipStore) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in sorted(store.folder.iterdir())}


def test_a_store_holds_the_clips_that_are_drawn(body, drawn, video):
    for store in (drawn, video):
        for index in range(len(store)):
            clip = synth_clip(store.spec.clips, index, body)
            assert np.array_equal(store.images(index), clip.images.numpy())
            assert torch.equal(store.boxes_px(torch.tensor([index]))[0], clip.boxes_px())
            labels = pick(store.labels(torch.tensor([index])), 0)
            expected = clip.labels()
            assert torch.equal(labels.params.rotmats, expected.params.rotmats)
            assert torch.equal(labels.params.betas, expected.params.betas)
            assert labels.params.body_id == body.body_id
            for name in ("joints_m", "keypoints_px", "keypoint_confidence"):
                assert torch.equal(getattr(labels, name), getattr(expected, name)), name
            assert torch.equal(labels.surface, surface_maps(clip, body))


def test_labels_of_several_clips_come_in_the_order_asked_for(drawn):
    together = drawn.labels(torch.tensor([4, 0, 3]))
    for row, clip in enumerate((4, 0, 3)):
        alone = drawn.labels(torch.tensor([clip]))
        assert torch.equal(together.joints_m[row], alone.joints_m[0])
        assert torch.equal(together.surface[row], alone.surface[0])


def test_a_sequence_is_the_clip_as_video(body, video):
    names = [s.name for s in video.sequences()]
    assert len(set(names)) == len(video) == 2
    for index, sequence in enumerate(video.sequences()):
        expected = synth_clip(VIDEO.clips, index, body).sequence()
        assert np.array_equal(np.stack(sequence.images), np.stack(expected.images))
        assert torch.equal(sequence.boxes_px, expected.boxes_px)
        torch.testing.assert_close(sequence.times_s, expected.times_s)
        assert torch.equal(sequence.labels.keypoints_px, expected.labels.keypoints_px)
        assert sequence.labels.surface is None


def test_what_is_there_is_not_drawn_again(copied, monkeypatch):
    heard = []
    before = written(ClipStore(STILLS, copied, count=5, workers=1))
    monkeypatch.setattr(store_module, "synth_clip", None)
    store = ClipStore(STILLS, copied, 5, workers=1, on_progress=lambda *a: heard.append(a))
    assert written(store) == before
    assert heard == []


def test_a_larger_store_keeps_the_full_files_of_the_smaller(copied, drawn):
    heard = []
    before = written(ClipStore(STILLS, copied, count=5, workers=1))
    store = ClipStore(STILLS, copied, count=6, workers=1, on_progress=lambda *a: heard.append(a))
    assert len(store) == 6
    assert heard == [(6, 6)]
    changed = {n for n, t in written(store).items() if before.get(n) != t}
    assert changed == {"clips-000004.npy", "clips-000004.safetensors"}
    for index in range(5):
        assert np.array_equal(store.images(index), drawn.images(index))
    every = torch.arange(5)
    assert torch.equal(store.labels(every).surface, drawn.labels(every).surface)


def test_a_smaller_store_is_the_beginning_of_the_larger(copied, drawn):
    folder = copied / drawn.folder.name
    before = {p.name: p.stat().st_mtime_ns for p in sorted(folder.iterdir())}
    for count in (1, 3):
        store = ClipStore(STILLS, copied, count=count, workers=1)
        assert len(store) == len(store.labels(torch.arange(count)).joints_m) == count
        assert np.array_equal(store.images(count - 1), drawn.images(count - 1))
        with pytest.raises(IndexError):
            store.labels(torch.tensor([count]))
        assert written(store) == before


def test_a_store_never_holds_more_than_the_split(copied):
    assert len(ClipStore(STILLS, copied, count=100, workers=1)) == STILLS.count


def test_an_interrupted_drawing_is_gone_on_with(tmp_path, drawn, monkeypatch):
    """Killed in the second file: no half file is left, and the first is not drawn again."""

    def interrupted(config, index, body):
        if index == 3:
            raise KeyboardInterrupt
        return synth_clip(config, index, body)

    monkeypatch.setattr(store_module, "synth_clip", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ClipStore(STILLS, tmp_path, count=5, workers=1)
    names = {p.name for p in tmp_path.glob("*/*")}
    assert names == {"clips-000000.npy", "clips-000000.safetensors"}
    again = []
    monkeypatch.setattr(
        store_module, "synth_clip", lambda c, i, b: again.append(i) or synth_clip(c, i, b)
    )
    assert files(ClipStore(STILLS, tmp_path, count=5, workers=1)) == files(drawn)
    assert again == [2, 3, 4]


def test_nothing_half_is_left_when_a_table_cannot_be_written(tmp_path, drawn, monkeypatch):
    def no_room(table: dict, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "save_file", no_room)
        with pytest.raises(OSError, match="No space left"):
            ClipStore(STILLS, tmp_path, count=5, workers=1)
    # Pictures without their table do not count as drawn.
    assert {p.name for p in tmp_path.glob("*/*")} == {"clips-000000.npy"}
    assert files(ClipStore(STILLS, tmp_path, count=5, workers=1)) == files(drawn)


def test_what_a_killed_writer_left_behind_does_no_harm(copied, drawn):
    folder = copied / drawn.folder.name
    (folder / "clips-000000.safetensors").unlink()
    (folder / ".clips-000000.npy.4711").write_bytes(b"half")
    (folder / ".clips-000000.safetensors.4711").write_bytes(b"")
    store = ClipStore(STILLS, copied, count=5, workers=1)
    assert {n: b for n, b in files(store).items() if not n.startswith(".")} == files(drawn)


def test_a_full_disk_is_noticed_before_drawing(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(store_module.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    with pytest.raises(OSError, match=r"got 0\.0 GB of free disk; expected .* GB .*; choose"):
        ClipStore(STILLS, tmp_path, count=5, workers=1)
    assert list(tmp_path.glob("*/*")) == []


def test_a_full_disk_does_not_matter_when_all_is_there(copied, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(store_module.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 0))
    assert len(ClipStore(STILLS, copied, count=5, workers=1)) == 5


@pytest.mark.parametrize(
    "spec",
    [
        replace(STILLS, clips=replace(STILLS.clips, seed=1)),
        replace(STILLS, clips=replace(STILLS.clips, occluder=0.5)),
        tiny("stills", 40),
    ],
)
def test_splits_of_other_content_live_elsewhere(copied, drawn, spec):
    other = ClipStore(spec, copied, count=1, workers=1)
    assert other.folder != copied / drawn.folder.name
    assert (copied / drawn.folder.name).exists()


def test_the_surface_map_is_where_the_person_is_seen(body, large):
    for clip in large:
        seen = surface_maps(clip, body)[..., 3] == 255
        middle = slice(CELL_PX // 2, None, CELL_PX)
        shown = clip.silhouette[:, middle, middle]
        assert shown.sum() > 20
        assert not (seen & ~shown).any()
        # What is missing is cloth and hair, off the skin.
        assert (seen & shown).sum() > 0.7 * shown.sum()


def test_the_surface_map_shows_the_rest_pose_of_what_is_seen(body: BodyModel, large):
    """At a seen vertex: that vertex's place on the body that stands in its rest pose."""
    low, high = body.v_template.amin(0), body.v_template.amax(0)
    apart_m = []
    for clip in large:
        surface = surface_maps(clip, body)[0].float()
        verts_cam = body.mesh(clip.params).verts + clip.translation_m[:, None]
        seen_px = clip.camera.project(verts_cam)[0, :, :2]
        here = clip.vertex_visible[0] & ((seen_px >= 0) & (seen_px < 160)).all(-1)
        # Only vertices next to the middle of their cell, where the map is read.
        cells = (seen_px / CELL_PX).long().clamp(0, surface.shape[0] - 1)
        off_px = (seen_px - (cells + 0.5) * CELL_PX).norm(dim=-1)
        values = surface[cells[:, 1], cells[:, 0]]
        here = here & (off_px < 1) & (values[:, 3] == 255)
        points_m = low + values[here, :3] / 255 * (high - low)
        apart_m.append((points_m - body.v_template[here]).norm(dim=-1))
    apart = torch.cat(apart_m)
    assert len(apart) > 200
    assert apart.median() < 0.025
    assert (apart < 0.08).float().mean() > 0.9


def test_nobody_is_on_the_map_where_the_person_is_hidden(body, large):
    clip = large[0]
    hidden = replace(clip, people=torch.zeros_like(clip.people))
    assert not surface_maps(hidden, body).any()


def test_counts_and_numbers_that_there_are_not_are_refused(tmp_path, copied):
    with pytest.raises(ValueError, match="got a count of 0; expected at least 1"):
        ClipStore(STILLS, tmp_path, count=0)
    # The file holds more stills than were asked for.
    few = ClipStore(STILLS, copied, count=3, workers=1)
    with pytest.raises(IndexError, match="got number 3; expected 0 to 2"):
        few.images(3)
