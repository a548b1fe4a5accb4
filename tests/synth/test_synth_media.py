"""Backgrounds from files: the right frames, a known drift, and no file that stops a run."""

import logging
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from flowhmr.synth import media
from flowhmr.synth.media import BackdropFolder, median_drift, pan_image, read_run

SIZE = 64


def texture(seed: int, height: int, width: int) -> np.ndarray:
    """Blobs of colour of two sizes: something to track."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for cell, weight in ((6, 0.5), (24, 1.0)):
        coarse = rng.random((height // cell + 2, width // cell + 2, 3)) - 0.5
        total += weight * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return (127 + 170 * total).clip(0, 255).astype(np.uint8)


def encode(path: Path, images, fps: int = 30, rotation: int = 0, **options: str) -> Path:
    """Lossless enough H.264, with a keyframe every 12 frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "8", "preset": "veryfast", "g": "12"}
        if rotation:
            stream.set_display_rotation(rotation)
        for image in images:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def numbered(count: int) -> list[np.ndarray]:
    """Frames whose grey value says which they are: 4 levels a frame."""
    return [np.full((48, 64, 3), 16 + 4 * i, np.uint8) for i in range(count)]


def numbers(images: np.ndarray) -> list[int]:
    return [round((float(i.mean()) - 16) / 4) for i in images]


def run(path: Path, seed: int = 0, frames: int = 5, fps: float = 30.0, size: int = SIZE):
    return read_run(path, np.random.default_rng(seed), frames, size, fps)


def sample(folder: Path | BackdropFolder, seed: int = 0, frames: int = 5, **settings):
    folder = BackdropFolder(folder) if isinstance(folder, Path) else folder
    return folder.sample(np.random.default_rng(seed), frames, SIZE, **settings)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    """Two videos and two images, in two folders."""
    folder = tmp_path_factory.mktemp("mixed")
    for seed, name in enumerate(("a/one.mp4", "two.mkv")):
        wide = texture(seed, 120, 240)
        encode(folder / name, [wide[:, 2 * t : 2 * t + 160] for t in range(30)])
    cv2.imwrite(str(folder / "a" / "three.JPG"), texture(2, 160, 200))
    cv2.imwrite(str(folder / "four.png"), texture(3, 100, 90))
    (folder / "notes.txt").write_text("no picture")
    (folder / "a" / "._one.mp4").write_bytes(b"left by another system")
    return folder


def test_folders_are_listed_in_order_at_any_depth(mixed):
    folder = BackdropFolder(mixed)
    assert folder.names == ["a/one.mp4", "a/three.JPG", "four.png", "two.mkv"]
    assert len(folder) == 4


def test_samples_are_what_was_asked_for(mixed):
    folder, seen = BackdropFolder(mixed), set()
    for seed in range(16):
        clip = sample(folder, seed, frames=3 + seed % 4)
        assert clip.images.shape == (3 + seed % 4, SIZE, SIZE, 3)
        assert clip.drift_px.shape == (3 + seed % 4, 2)
        assert not clip.drift_px[(3 + seed % 4) // 2].any()
        assert clip.exact_flow == clip.name.endswith(("png", "JPG"))
        seen.add(clip.name)
    assert seen == set(folder.names)


def test_samples_follow_from_the_seed_alone(mixed):
    used = BackdropFolder(mixed)
    for seed in range(8):
        here, there = sample(used, seed), sample(BackdropFolder(mixed), seed)
        assert here.name == there.name
        assert np.array_equal(here.images, there.images)
        assert np.array_equal(here.drift_px, there.drift_px)
    assert len({sample(used, seed).images.tobytes() for seed in range(8)}) == 8


def test_samples_take_two_numbers(mixed):
    """What a caller draws next does not depend on the file that was chosen."""
    after = set()
    for static in (False, True):
        rng = np.random.default_rng(3)
        BackdropFolder(mixed).sample(rng, 3, SIZE, static=static)
        after.add(rng.random())
    rng = np.random.default_rng(3)
    rng.integers(4), rng.integers(2**63)
    assert after == {rng.random()}


@pytest.mark.parametrize("pan", [(3, 0), (-2, 1), (0, -4), (0, 0)])
def test_the_drift_of_a_panned_texture_is_the_pan(pan):
    wide = texture(7, 300, 300)
    corners = 80 - np.outer(np.arange(15), pan)
    images = np.stack([wide[y : y + 128, x : x + 128] for x, y in corners])
    expected = np.outer(np.arange(15) - 7, pan)
    assert np.abs(median_drift(images) - expected).max() < 0.3
    assert np.abs(np.diff(median_drift(images) - expected, axis=0)).max() < 0.1


def test_the_drift_ignores_what_moves_on_its_own():
    wide = texture(8, 128, 300)
    images = np.stack([wide[:, 4 * t : 4 * t + 128] for t in range(7)])
    for t, image in enumerate(images):
        cv2.circle(image, (20 + 12 * t, 64), 22, (255, 255, 255), -1)
    steps = np.diff(median_drift(images), axis=0)
    assert np.abs(steps - (-4, 0)).max() < 0.3


def test_the_drift_counts_in_pixels_of_the_images():
    """Large images are compared at a smaller size."""
    wide = texture(9, 400, 500)
    images = np.stack([wide[:, 6 * t : 6 * t + 400] for t in range(5)])
    steps = np.diff(median_drift(images), axis=0)
    assert np.abs(steps - (-6, 0)).max() < 0.3


def test_the_drift_of_a_video_is_its_pan(mixed):
    """End to end: the scene moves 2 px of a frame to the left, more in a tighter crop."""
    folder = BackdropFolder(mixed)
    clips = [clip for seed in range(12) if not (clip := sample(folder, seed)).exact_flow]
    assert len(clips) > 3
    for clip in clips:
        steps = np.diff(clip.drift_px, axis=0)
        assert steps[:, 0].min() > -2 * SIZE / 60 - 0.3
        assert steps[:, 0].max() < -2 * SIZE / 120 + 0.3
        assert np.abs(steps - steps.mean(0)).max() < 0.3
        assert np.abs(steps[:, 1]).max() < 0.2


def test_runs_are_consecutive_and_start_anywhere(tmp_path):
    path = encode(tmp_path / "v.mp4", numbered(50))
    starts = set()
    for seed in range(40):
        found = numbers(run(path, seed))
        assert found == list(range(found[0], found[0] + 5))
        starts.add(found[0])
    assert len(starts) > 15
    assert min(starts) <= 4
    assert 40 <= max(starts) <= 45


@pytest.mark.parametrize(("video_fps", "step"), [(60, 2.0), (15, 0.5), (30, 1.0), (24, 0.8)])
def test_frames_are_taken_at_the_rate_of_the_clip(tmp_path, video_fps, step):
    path = encode(tmp_path / "v.mp4", numbered(40), fps=video_fps)
    for seed in range(4):
        found = np.array(numbers(run(path, seed, frames=11)))
        straight = found[0] + step * np.arange(11)
        assert np.abs(found - straight).max() <= 1
        assert abs(np.polyfit(np.arange(11), found, 1)[0] - step) < 0.06


def test_short_videos_play_forth_and_back(tmp_path):
    path = encode(tmp_path / "v.mp4", numbered(4))
    assert numbers(run(path, frames=12)) == [0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1]
    path = encode(tmp_path / "one.mp4", numbered(1))
    assert numbers(run(path, frames=3)) == [0, 0, 0]


def test_videos_that_do_not_know_their_length(tmp_path):
    """As browsers record them; they cannot be seeked in either."""
    path = encode(tmp_path / "v.mkv", numbered(50), live="1")
    with av.open(str(path)) as container:
        assert not container.duration
    starts = set()
    for seed in range(20):
        found = numbers(run(path, seed))
        assert found == list(range(found[0], found[0] + 5))
        starts.add(found[0])
    assert max(starts) - min(starts) > 20


def test_videos_cut_short_give_what_they_have(tmp_path):
    whole = encode(tmp_path / "v.mkv", numbered(50))
    path = tmp_path / "cut.mkv"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    for seed in range(6):
        found = numbers(run(path, seed))
        assert set(np.abs(np.diff(found))) <= {0, 1}
        assert max(found) < 40


def ramps(height: int, width: int) -> np.ndarray:
    """Red says x, green says y, in steps of one."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, np.full_like(x, 128)], -1).astype(np.uint8)


def test_crops_are_square_and_at_least_half_as_large_as_the_frame(tmp_path):
    path = encode(tmp_path / "v.avi", [ramps(120, 200)] * 3)
    sides, lows = [], []
    for seed in range(30):
        image = run(path, seed, frames=1, size=60)[0].astype(float)
        spread_x = image[:, -1, 0].mean() - image[:, 0, 0].mean()
        spread_y = image[-1, :, 1].mean() - image[0, :, 1].mean()
        assert spread_x == pytest.approx(spread_y, abs=4)
        sides.append(spread_x / 59 * 60)
        lows.append((image[:, 0, 0].mean(), image[0, :, 1].mean()))
    assert 55 < min(sides) < 75
    assert 105 < max(sides) < 125
    assert np.ptp(lows, axis=0).min() > 25


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_videos_are_upright(tmp_path, rotation):
    """What is dark at the top of the scene is dark at the top of the clip."""
    upright = np.full((96, 96, 3), 220, np.uint8)
    upright[:48], upright[:, :20] = 30, 120
    # A phone stores the scene turned and says by how much it has to be turned back.
    path = encode(tmp_path / "v.mp4", [np.rot90(upright, -rotation // 90)] * 3, rotation=rotation)
    for seed in range(4):
        image = run(path, seed, frames=1)[0].astype(int)
        assert image[0, -1, 0] < 60 < 180 < image[-1, -1, 0]


def still_folder(tmp_path: Path, image: Image.Image, name: str = "i.png", **settings) -> Path:
    image.save(tmp_path / name, **settings)
    return tmp_path


def moved(image: np.ndarray, by: np.ndarray) -> np.ndarray:
    shift = np.array([[1, 0, by[0]], [0, 1, by[1]]])
    return cv2.warpAffine(image.astype(np.float32), shift, image.shape[1::-1])


def test_the_drift_of_a_still_is_exact(tmp_path):
    smooth = cv2.GaussianBlur(texture(4, 400, 500), (0, 0), 12)
    cv2.imwrite(str(tmp_path / "i.png"), smooth)
    speeds = []
    for seed in range(24):
        clip = sample(tmp_path, seed, frames=9)
        for t in (0, 3, 7):
            step = clip.drift_px[t + 1] - clip.drift_px[t]
            ours = moved(clip.images[t], step)[8:-8, 8:-8]
            gap = np.abs(ours - clip.images[t + 1, 8:-8, 8:-8]).mean()
            assert gap < 1
        speeds.append(np.abs(np.diff(clip.drift_px, axis=0)).max())
    assert min(speeds) == 0, "some cameras stand still"
    assert 0.5 < max(speeds) < 0.025 * SIZE + 1e-3


def test_the_drift_of_a_still_agrees_with_its_flow(tmp_path):
    cv2.imwrite(str(tmp_path / "i.png"), texture(5, 600, 600))
    for seed in range(4):
        rng = np.random.default_rng(seed)
        images, drift = pan_image(tmp_path / "i.png", rng, 9, 128)
        assert np.abs(median_drift(images) - drift).max() < 0.3


def test_pans_are_smooth(tmp_path):
    cv2.imwrite(str(tmp_path / "i.png"), texture(5, 300, 300))
    for seed in range(8):
        drift = sample(tmp_path, seed, frames=31).drift_px
        steps = np.diff(drift, axis=0)
        turns = np.abs(np.diff(steps, axis=0)).max(initial=0)
        assert turns <= 0.5 * np.abs(steps).max() + 1e-5


SHAPES = {"square": (80, 80), "tall": (300, 40), "wide": (40, 300), "tiny": (2, 3), "dot": (1, 1)}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_pan_stays_inside_the_image(tmp_path, shape):
    """Whatever its shape: no border is repeated, and nothing else comes in."""
    image = Image.fromarray(np.full((*shape, 3), (10, 200, 90), np.uint8))
    folder = still_folder(tmp_path, image)
    for seed in range(4):
        clip = sample(folder, seed)
        assert (clip.images == (10, 200, 90)).all()
        room = SIZE * 3 / 0.5
        assert np.abs(clip.drift_px).max() < room


def test_panoramas_are_used_in_pieces(tmp_path):
    """A strip as a whole would be 160000 px wide at the size of the clip."""
    strip = np.zeros((4, 10000, 3), np.uint8)
    strip[..., 0] = np.arange(10000) // 40
    folder = still_folder(tmp_path, Image.fromarray(strip))
    places = [float(sample(folder, seed).images[..., 0].mean()) for seed in range(12)]
    assert np.ptp(places) > 100
    for picture in (strip, strip.transpose(1, 0, 2)):
        assert sorted(media._part(picture, np.random.default_rng(0)).shape) == [3, 4, 12]


def grey16(values: np.ndarray) -> Image.Image:
    return Image.fromarray((values.astype(np.uint16) << 8) + 77)


MODES = {
    "grey": Image.fromarray,
    "grey with alpha": lambda v: Image.merge("LA", [Image.fromarray(v)] * 2),
    "rgba": lambda v: Image.merge("RGBA", [Image.fromarray(v)] * 4),
    "palette": lambda v: Image.fromarray(v).convert("P"),
    "16 bit": grey16,
}


@pytest.mark.parametrize("mode", MODES)
def test_all_kinds_of_pixels_become_rgb(tmp_path, mode):
    values = np.full((70, 90), 60, np.uint8)
    values[35:] = 180
    folder = still_folder(tmp_path, MODES[mode](values))
    image = sample(folder).images[0]
    assert image.shape == (SIZE, SIZE, 3)
    assert abs(int(image[0, 5, 0]) - 60) <= 3
    assert abs(int(image[-1, 5, 2]) - 180) <= 3


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 1), (8, 3)])
def test_photographs_are_upright(tmp_path, orientation, turns):
    upright = np.full((600, 800, 3), 220, np.uint8)
    upright[:300] = 30
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.rot90(upright, turns))
    folder = still_folder(tmp_path, stored, "i.jpg", exif=exif)
    image = sample(folder).images[0].astype(int)
    assert image[0].mean() < 60 < 180 < image[-1].mean()


def test_large_photographs_keep_their_scale(tmp_path):
    """They are decoded smaller: what is seen must not depend on it."""
    image = Image.fromarray(texture(6, 800, 1000))
    (tmp_path / "j").mkdir(), (tmp_path / "p").mkdir()
    small = sample(still_folder(tmp_path / "j", image, "i.jpg", quality=95), 1)
    whole = sample(still_folder(tmp_path / "p", image, "i.png"), 1)
    assert np.abs(small.drift_px - whole.drift_px).max() < 0.1
    assert np.abs(small.images.astype(int) - whole.images).mean() < 6


def test_static_clips_show_the_middle_frame(mixed):
    folder = BackdropFolder(mixed)
    for seed in range(8):
        moving, still = sample(folder, seed, frames=6), sample(folder, seed, frames=6, static=True)
        assert still.name == moving.name
        assert np.array_equal(still.images, np.repeat(moving.images[3:4], 6, axis=0))
        assert not still.drift_px.any()
        assert still.exact_flow


BROKEN = {
    "noise.mp4": b"no video at all" * 50,
    "empty.webm": b"",
    "noise.png": b"no image at all" * 50,
    "empty.jpg": b"",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_named(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(BROKEN[name])
    load = run if path.suffix in (".mp4", ".webm") else pan_image
    arguments = () if load is run else (np.random.default_rng(0), 3, SIZE)
    with pytest.raises(ValueError, match=rf"{name}: got .*; expected .*; replace the file"):
        load(path, *arguments)


def test_images_cut_short_are_named(tmp_path):
    cv2.imwrite(str(tmp_path / "i.png"), texture(0, 100, 100))
    path = tmp_path / "cut.png"
    path.write_bytes((tmp_path / "i.png").read_bytes()[:4000])
    with pytest.raises(ValueError, match=r"cut\.png: got .*; expected an image"):
        pan_image(path, np.random.default_rng(0), 3, SIZE)


def test_images_too_large_to_decode_are_named(tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "huge.png"), texture(0, 100, 100))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"huge\.png: got .*; expected an image"):
        pan_image(tmp_path / "huge.png", np.random.default_rng(0), 3, SIZE)


def test_sound_is_no_background(tmp_path):
    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        silence = np.zeros((2, 1024), np.float32)
        sound = av.AudioFrame.from_ndarray(silence, format="fltp", layout="stereo")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match=r"sound\.mkv: got no video stream"):
        run(path)


def test_broken_files_are_passed_over_and_reported_once(tmp_path, caplog):
    for name, data in BROKEN.items():
        (tmp_path / name).write_bytes(data)
    cv2.imwrite(str(tmp_path / "good.png"), texture(0, 100, 100))
    folder = BackdropFolder(tmp_path)
    with caplog.at_level(logging.WARNING):
        clips = [sample(folder, seed) for seed in range(12)]
    assert {clip.name for clip in clips} == {"good.png"}
    assert len(caplog.records) == len(BROKEN)
    for name in BROKEN:
        assert sum(name in record.message for record in caplog.records) == 1
    again = sample(BackdropFolder(tmp_path), 7)
    assert np.array_equal(again.images, clips[7].images)


def test_a_folder_of_broken_files_stops_the_run(tmp_path):
    for name, data in BROKEN.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=r"got no readable file in .* \(4 files, last: "):
        sample(tmp_path)


def test_folders_without_pictures_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"got .*, which is no folder; expected .*\.mp4"):
        BackdropFolder(tmp_path / "missing")
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(ValueError, match=r"without a video or image; expected .*\.mp4"):
        BackdropFolder(tmp_path)


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"fps": 0.0}, {"fps": float("nan")}])
def test_clips_that_are_none_are_refused(mixed, wrong):
    with pytest.raises(ValueError, match=r"backgrounds: got .*; expected at least one frame"):
        sample(mixed, **wrong)
