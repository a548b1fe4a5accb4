"""`flowhmr synth`: preview, export, check."""

from pathlib import Path

import pytest
from PIL import Image

from flowhmr.data import open_video
from flowhmr.synth import ShardClips, SynthConfig, synthmotion

SMALL = (
    "--source.clips.size-px", "48", "--source.clips.frames", "3",
    "--source.clips.place.textures", "3",
)  # fmt: skip


@pytest.mark.slow
def test_preview_shows_clips_and_every_layer(flowhmr, tmp_path: Path) -> None:
    out = tmp_path / "look"
    done = flowhmr("synth", "preview", "--out", out, "--count", "9", "--video", "2", *SMALL)
    assert done.status == 0, done.err
    with Image.open(out / "sheet.png") as sheet, Image.open(out / "layers.png") as layers:
        assert sheet.size == (8 * 180, 2 * (180 + 28))
        assert layers.height > 2 * 192
    with open_video(out / "layers.mp4") as video:
        assert len(list(video)) == 2 * 3
    assert "weak perspective misses by" in done.out


def test_stills_have_no_flow_to_show(flowhmr, tmp_path: Path) -> None:
    small = [*SMALL[:2], "--source.clips.frames", "1", *SMALL[4:]]
    done = flowhmr("synth", "preview", "--out", tmp_path / "o", "--count", "2", *small)
    assert done.status == 0, done.err
    assert (tmp_path / "o" / "layers.mp4").exists()


@pytest.mark.slow
def test_export_can_be_read_back(flowhmr, tmp_path: Path) -> None:
    words = ("synth", "export", "--out", tmp_path / "shards", "--count", "3", "--per-shard", "2",
             "--workers", "1", *SMALL)  # fmt: skip
    done = flowhmr(*words)
    assert done.status == 0, done.err
    clips = ShardClips(tmp_path / "shards")
    assert len(clips) == 3
    assert clips[2].images.shape == (3, 48, 48, 3)
    again = flowhmr(*words)
    assert again.status == 0, again.err
    other = flowhmr(*words, "--source.clips.seed", "1")
    assert other.status == 1
    assert "expected" in other.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("preview", "--count", "0"), "--count: got 0"),
        (("export", "--out", "o"), "--count: got 0; expected at least 1"),
        (("export", "--out", "o", "--source.split", "val", "--count", "61"), "expected 0 to 60"),
        (("preview", "--count", "1", "--source.clips.size-px", "50"), "multiple of 8"),
        (("preview", "--count", "1", "--source.clips.backgrounds", "missing"), "backgrounds"),
        (("preview", "--count", "1", "--source.clips.motion.actions", "flying"), "flying"),
        (("preview", "--count", "1", "--source.clips.motion.bvh", "missing"), "missing"),
    ],
)
def test_errors_say_what_to_do(flowhmr, words: tuple[str, ...], said: str) -> None:
    media = ("--source.clips.media", "1.0", "--source.clips.motion.made-up", "0.0")
    extra = () if words[0] == "export" else media
    done = flowhmr("synth", *words, *extra)
    assert done.status != 0
    assert said in done.err
    assert "Traceback" not in done.err


def test_check_compares_with_the_record(flowhmr, monkeypatch) -> None:
    monkeypatch.setattr(synthmotion, "PROBES", 1)
    monkeypatch.setattr("flowhmr.cli.synth.SPLITS", ("studio",))
    done = flowhmr("synth", "check")
    assert done.status == 0, done.err
    assert "studio" in done.out
    changed = SynthConfig(seed=1)
    monkeypatch.setattr(synthmotion, "_splits", lambda: {"studio": (changed, 240)})
    done = flowhmr("synth", "check")
    assert done.status == 1
    assert "expected" in done.err
