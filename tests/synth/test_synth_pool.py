"""The pool: rendered once, gone on with after an interruption, the same for any worker."""

import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from flowhmr.geometry import pick
from flowhmr.synth import PoolConfig, StillConfig, StillPool, render_stills
from flowhmr.synth import pool as pool_module

CONFIG = PoolConfig(StillConfig(size_px=32), count=6, backgrounds=3, background_px=24, chunk=3)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> StillPool:
    return StillPool(CONFIG, tmp_path_factory.mktemp("pool"), workers=1)


@pytest.fixture
def copied(rendered, tmp_path) -> Path:
    """A cache folder of the test's own that holds the pool."""
    shutil.copytree(rendered.folder, tmp_path / rendered.folder.name)
    return tmp_path


def files(pool: StillPool) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(pool.folder.iterdir())}


def written(pool: StillPool) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in sorted(pool.folder.iterdir())}


def test_a_pool_holds_the_stills_that_were_asked_for(body, rendered):
    chunks = [render_stills(CONFIG.stills, indices, body) for indices in (range(3), range(3, 6))]
    assert len(rendered) == 6
    for index in range(6):
        chunk, row = divmod(index, 3)
        assert np.array_equal(rendered.rgba(index), chunks[chunk].rgba[row].numpy())
    rows = torch.tensor([1, 0])
    picked, expected = rendered.labels(rows + 3), pick(chunks[1].labels, rows)
    assert torch.equal(picked.params.rotmats, expected.params.rotmats)
    assert torch.equal(picked.params.betas, expected.params.betas)
    assert picked.params.body_id == body.body_id
    for name in ("joints_m", "keypoints_px", "keypoint_confidence", "surface"):
        assert torch.equal(getattr(picked, name), getattr(expected, name)), name


def test_backgrounds_differ_and_have_the_size_asked_for(rendered):
    assert rendered.backgrounds.shape == (3, 24, 24, 3)
    assert not np.array_equal(rendered.backgrounds[0], rendered.backgrounds[1])


def test_a_pool_that_is_there_is_not_rendered_again(copied):
    heard = []
    before = written(StillPool(CONFIG, copied, workers=1))
    pool = StillPool(CONFIG, copied, workers=1, on_progress=lambda *a: heard.append(a))
    assert written(pool) == before
    assert heard == []


def test_only_what_is_missing_is_rendered_again(copied, rendered):
    folder = copied / rendered.folder.name
    before = written(rendered)
    (folder / "stills-0000003.safetensors").unlink()
    heard = []
    pool = StillPool(CONFIG, copied, workers=1, on_progress=lambda *a: heard.append(a))
    assert files(pool) == files(rendered)
    assert heard == [(6, 6)]
    kept = {n: t for n, t in written(pool).items() if not n.startswith("stills-0000003")}
    folder_before = {n: t for n, t in before.items() if n in kept}
    assert kept == folder_before


def test_a_larger_pool_goes_on_where_the_smaller_one_ends(body, copied, rendered):
    heard = []
    pool = StillPool(
        replace(CONFIG, count=9), copied, workers=1, on_progress=lambda *a: heard.append(a)
    )
    assert heard == [(9, 9)]
    assert pool.folder.name == rendered.folder.name
    assert len(pool) == 9
    assert np.array_equal(pool.rgba(5), rendered.rgba(5))
    assert np.array_equal(pool.rgba(8), render_stills(CONFIG.stills, range(6, 9), body).rgba[2])
    assert len(pool.labels(torch.arange(9)).joints_m) == 9


@pytest.mark.parametrize("first", [1, 4, 5])
def test_a_pool_may_grow_out_of_the_middle_of_a_chunk(tmp_path, rendered, first):
    small = StillPool(replace(CONFIG, count=first), tmp_path, workers=1)
    assert len(small) == first
    pool = StillPool(CONFIG, tmp_path, workers=1)
    assert files(pool) == files(rendered)
    assert np.array_equal(pool.rgba(5), rendered.rgba(5))


def test_a_smaller_pool_is_the_beginning_of_the_larger(copied, rendered):
    before = written(rendered)
    pool = StillPool(replace(CONFIG, count=4), copied, workers=1)
    assert len(pool) == 4
    assert np.array_equal(pool.rgba(3), rendered.rgba(3))
    last = torch.tensor([3])
    assert torch.equal(pool.labels(last).joints_m, rendered.labels(last).joints_m)
    assert written(pool) == before


@pytest.mark.parametrize(
    "config",
    [
        replace(CONFIG, stills=replace(CONFIG.stills, seed=1)),
        replace(CONFIG, stills=replace(CONFIG.stills, size_px=36)),
        replace(CONFIG, stills=replace(CONFIG.stills, perturb=0.5)),
        replace(CONFIG, backgrounds=4),
        replace(CONFIG, chunk=2),
    ],
)
def test_pools_of_other_content_live_elsewhere(config):
    assert config.key() != CONFIG.key()
    assert replace(CONFIG, count=100).key() == CONFIG.key()


def test_what_a_killed_writer_left_behind_does_no_harm(copied, rendered):
    folder = copied / rendered.folder.name
    (folder / "stills-0000000.safetensors").unlink()
    (folder / ".stills-0000000.npy.4711").write_bytes(b"half")
    (folder / ".stills-0000000.safetensors.4711").write_bytes(b"")
    pool = StillPool(CONFIG, copied, workers=1)
    whole = {n: b for n, b in files(pool).items() if not n.startswith(".")}
    assert whole == files(rendered)


def test_nothing_is_left_when_a_chunk_cannot_be_written(tmp_path, monkeypatch):
    def no_room(table: dict, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pool_module, "save_file", no_room)
    with pytest.raises(OSError, match="No space left"):
        StillPool(CONFIG, tmp_path, workers=1)
    names = {p.name for p in tmp_path.glob("*/*")}
    assert names == {"backgrounds.npy", "stills-0000000.npy"}


def test_a_full_disk_is_noticed_before_rendering(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(pool_module.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    with pytest.raises(OSError, match=r"got 0.0 GB of free disk; .* choose another --cache"):
        StillPool(CONFIG, tmp_path, workers=1)
    assert not list(tmp_path.glob("*/stills*"))


def test_rendering_leaves_the_number_of_threads_alone(tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        StillPool(replace(CONFIG, count=1), tmp_path, workers=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


@pytest.mark.slow
def test_two_workers_render_what_one_does(tmp_path, rendered):
    heard = []
    pool = StillPool(CONFIG, tmp_path, workers=2, on_progress=lambda *a: heard.append(a))
    assert files(pool) == files(rendered)
    assert heard == [(3, 6), (6, 6)]
