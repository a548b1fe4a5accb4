"""Frames come out as they went in: upright, in order, at their times, as many as there are."""

import logging
import resource
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from flowhmr.data import video_decode
from flowhmr.data.video import demo_clip, open_video, video_info, write_video
from flowhmr.data.video_decode import VideoError

HEIGHT, WIDTH = 48, 80


def scene(index, height=HEIGHT, width=WIDTH):
    """A dark picture with a bright block top left; its shade of green tells the frame."""
    image = np.full((height, width, 3), 20, np.uint8)
    image[: height // 4, : width // 4] = (230, 230, 230)
    image[height // 2 :, :, 1] = 40 + 5 * index
    return image


def shade(image):
    return round((np.median(image[image.shape[0] * 5 // 8 :, :, 1]) - 40) / 5)


def encode(path, images, codec="libx264", pix_fmt="yuv420p", pts=None, rate=30, **stream_options):
    """Write without the code under test; ``pts`` in milliseconds."""
    flags = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=flags) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pix_fmt
        if "rotation" in stream_options:
            stream.set_display_rotation(stream_options["rotation"])
        if "aspect" in stream_options:
            stream.codec_context.sample_aspect_ratio = stream_options["aspect"]
        if codec == "libx264":
            stream.options = {"qp": "0", "g": str(stream_options.get("keys", 12))}
        if pts:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if pts:
                frame.pts, frame.time_base = pts[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def clip(tmp_path):
    write_video(tmp_path / "clip.mp4", (scene(i) for i in range(20)), fps=25.0, crf=1)
    return tmp_path / "clip.mp4"


def test_what_is_written_is_read(clip):
    with open_video(clip) as video:
        frames = list(video)
    assert video_info(clip).size_px == (WIDTH, HEIGHT)
    assert (video.fps, video.frame_count, video.size_px) == (25, 20, (WIDTH, HEIGHT))
    assert [f.index for f in frames] == list(range(20))
    assert [f.time_s for f in frames] == pytest.approx([i / 25 for i in range(20)])
    for frame in frames:
        assert np.abs(frame.image.astype(int) - scene(frame.index)).mean() < 2


@pytest.mark.parametrize("colour", [(200, 30, 60), (20, 190, 50), (40, 60, 220), (128, 128, 128)])
def test_colours_survive(tmp_path, colour):
    write_video(tmp_path / "c.mp4", [np.full((32, 32, 3), colour, np.uint8)] * 3, 30.0)
    [frame, *_] = open_video(tmp_path / "c.mp4").read()
    assert np.abs(frame.image.mean((0, 1)) - colour).max() < 4


def test_odd_sizes_grow_by_their_border(tmp_path):
    image = scene(3, 33, 65)
    write_video(tmp_path / "odd.mp4", [image] * 2, 30.0, crf=5)
    [frame, _] = open_video(tmp_path / "odd.mp4").read()
    assert frame.image.shape == (34, 66, 3)
    assert np.abs(frame.image[:33, :65].astype(int) - image).mean() < 4
    assert np.abs(frame.image[33, :65].astype(int) - image[32]).mean() < 4


def test_every_pass_starts_again_and_reads_go_on(clip, monkeypatch):
    decoded = []
    inner = video_decode._decoded
    monkeypatch.setattr(
        video_decode, "_decoded", lambda *a: (decoded.append(1) or f for f in inner(*a))
    )
    with open_video(clip) as video:
        decoded.clear()
        assert [f.index for f in video] == [f.index for f in video] == list(range(20))
        assert len(decoded) == 40
        decoded.clear()
        windows = [video.read(start, start + 5) for start in range(0, 20, 5)]
        assert [[shade(f.image) for f in w] for w in windows] == [
            list(range(start, start + 5)) for start in range(0, 20, 5)
        ]
        assert len(decoded) == 20  # each frame once
        assert [f.index for f in video.read(3, 12, 4)] == [3, 7, 11]  # backwards: from the start
        assert [f.index for f in video.read(18)] == [18, 19]
        assert video.read(18)[0].time_s == pytest.approx(18 / 25)
        assert [f.index for f in video.read(17, 99)] == [17, 18, 19]
        assert video.read(20, 30) == []
        assert video.read(5, 5) == []
        inside = iter(video)
        assert [next(inside).index, video.read(9, 10)[0].index, next(inside).index] == [0, 9, 1]
        for wrong in ((-1, 3, 1), (0, -3, 1), (0, 3, 0)):
            with pytest.raises(ValueError, match="count from the first frame"):
                video.read(*wrong)


def test_a_closed_video_says_so(clip):
    with open_video(clip) as video:
        frames = iter(video)
        next(frames)
        video.read(0, 2)
    assert list(frames) == []
    for again in (lambda: list(video), lambda: video.read(2, 4)):
        with pytest.raises(VideoError, match="closed"):
            again()


@pytest.mark.parametrize(
    ("rotation", "corner"), [(0, (0, 0)), (90, (1, 0)), (180, (1, 1)), (-90, (0, 1))]
)
def test_people_are_upright(tmp_path, rotation, corner):
    """``rotation`` turns counter-clockwise; the bright block starts in the corner top left."""
    encode(tmp_path / "r.mp4", [scene(1)] * 3, rotation=rotation)
    with open_video(tmp_path / "r.mp4") as video:
        image = video.read(0, 1)[0].image
    assert (
        video.size_px
        == image.shape[1::-1]
        == ((WIDTH, HEIGHT), (HEIGHT, WIDTH))[rotation % 180 > 0]
    )
    height, width = image.shape[:2]
    bright = np.argwhere(image.min(-1) > 150).mean(0)
    assert tuple(np.round(bright / (height, width)).astype(int)) == corner


def test_a_mirroring_matrix_is_applied(tmp_path):
    path = encode(tmp_path / "m.mp4", [scene(1)] * 2)
    data = path.read_bytes()
    one = struct.pack(">i", 1 << 16)
    at = data.index(one + bytes(12) + one, data.index(b"tkhd"))
    path.write_bytes(data[:at] + struct.pack(">i", -1 << 16) + data[at + 4 :])
    [frame, _] = open_video(path).read()
    bright = np.argwhere(frame.image.min(-1) > 150).mean(0)
    assert bright[0] < HEIGHT / 2
    assert bright[1] > WIDTH / 2


def test_pixels_become_square(tmp_path):
    encode(tmp_path / "wide.mp4", [scene(2)] * 2, aspect=Fraction(3, 2))
    with open_video(tmp_path / "wide.mp4") as video:
        assert video.size_px == (120, HEIGHT)
        assert video.read(0, 1)[0].image.shape == (HEIGHT, 120, 3)


VARIABLE_MS = [0, 33, 66, 300, 333, 1000, 1033, 1066]


@pytest.fixture
def variable(tmp_path):
    return encode(
        tmp_path / "v.mp4", [scene(i) for i in range(8)], pts=[500 + p for p in VARIABLE_MS]
    )


def test_variable_frame_rate_keeps_its_times(variable):
    frames = open_video(variable).read()
    assert [shade(f.image) for f in frames] == list(range(8))
    assert [f.time_s for f in frames] == pytest.approx([p / 1000 for p in VARIABLE_MS], abs=2e-3)


@pytest.mark.parametrize("fps", [7.0, 30.0, 60.0])
def test_resampling_takes_the_nearest_frame(variable, fps):
    frames = open_video(variable, resample_fps=fps).read()
    times = np.array(VARIABLE_MS) / 1000
    ticks = np.arange(int(times[-1] * fps + 1e-6) + 1) / fps
    assert [f.time_s for f in frames] == pytest.approx(list(ticks))
    assert [f.index for f in frames] == list(range(len(ticks)))
    distance = np.abs(ticks[:, None] - times)
    chosen = distance[np.arange(len(ticks)), [shade(f.image) for f in frames]]
    assert (chosen <= distance.min(-1) + 2e-3).all()


def test_resampling_a_regular_video_counts_its_frames(clip):
    for fps in (5.0, 12.5, 25.0, 50.0):
        with open_video(clip, resample_fps=fps) as video:
            assert len(list(video)) == video.frame_count
            assert video.fps == fps


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts"])
def test_a_truncated_file_gives_what_decodes_and_warns_once(tmp_path, caplog, name):
    rng = np.random.default_rng(0)
    path = encode(tmp_path / name, [rng.integers(0, 255, (48, 80, 3), np.uint8) for _ in range(40)])
    data = path.read_bytes()
    with open_video(path) as video, caplog.at_level(logging.WARNING):
        assert len(video.read()) == 40
    assert not caplog.records
    path.write_bytes(data[: len(data) * 6 // 10])
    with open_video(path) as video, caplog.at_level(logging.WARNING):
        counts = [len(video.read()), len(list(video))]
    assert counts[0] == counts[1]
    assert 15 < counts[0] < 30
    # A transport stream says nowhere how long it was.
    expected = (
        [] if name == "a.ts" else [f"VideoTruncated: {path}: decoded {counts[0]} of about 40"]
    )
    assert [r.getMessage().split(" frames")[0] for r in caplog.records] == expected


def test_a_hole_in_the_file_is_skipped(tmp_path, caplog):
    path = encode(tmp_path / "h.mp4", [scene(i) for i in range(40)], keys=5)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + len(data) // 2 - data.index(b"mdat") // 2
    data[start : start + 100] = bytes(100)
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        shades = [shade(f.image) for f in open_video(path)]
    assert len(shades) >= 30
    assert shades[:10] == list(range(10))
    assert shades[-1] == 39


def test_names_that_look_like_protocols(tmp_path, clip, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("10:30.mp4", "concat:a.mp4", "-y.mp4", "ü 1.mp4"):
        (tmp_path / name).write_bytes(clip.read_bytes())
        with open_video(name) as video:
            assert len(video.read(0, 2)) == 2


def test_what_is_no_video_is_refused(tmp_path, clip):
    data = clip.read_bytes()
    files = {
        "text.mp4": b"this is not a video, it only says so\n" * 20,
        "empty.mp4": b"",
        "head.mp4": data[:200],
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(VideoError, match=f"{name}: got .*"):
            open_video(tmp_path / name)
    with pytest.raises(VideoError, match=r"0 bytes"):
        open_video(tmp_path / "empty.mp4")
    with pytest.raises(VideoError, match="does not exist"):
        open_video(tmp_path / "nowhere.mp4")


def test_a_video_whose_frames_are_all_damaged_is_refused(tmp_path):
    path = encode(tmp_path / "d.mp4", [scene(i) for i in range(5)])
    data = path.read_bytes()
    at = data.index(b"mdat") + 4
    path.write_bytes(data[:at] + bytes(len(data) - at))
    with pytest.raises(VideoError, match=r"no frame that decodes; expected a h264 video"):
        open_video(path)


@pytest.mark.parametrize("cover", [False, True])
def test_sound_alone_is_refused(tmp_path, cover):
    """Also with the cover picture that music files carry as a video stream."""
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=16000)
        if cover:
            picture = container.add_stream("png", rate=1)
            picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "rgb24"
            picture.disposition = Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        container.mux(sound.encode(frame))
        if cover:
            container.mux(picture.encode(av.VideoFrame.from_ndarray(scene(0), format="rgb24")))
            container.mux(picture.encode(None))
        container.mux(sound.encode(None))
    message = f"got audio{', video' * cover} streams; expected a video stream"
    with pytest.raises(VideoError, match=message):
        open_video(path)


def test_a_stream_without_time_stamps_is_regular(tmp_path):
    path = encode(tmp_path / "raw.h264", [scene(i) for i in range(6)], rate=25)
    with open_video(path) as video:
        frames = list(video)
    assert video.frame_count is None
    assert [f.time_s for f in frames] == pytest.approx([i / 25 for i in range(6)])


def test_one_frame_is_a_video(tmp_path):
    write_video(tmp_path / "one.mp4", [scene(4)], 30.0)
    with open_video(tmp_path / "one.mp4") as video:
        [frame] = video
    assert (frame.index, frame.time_s, shade(frame.image)) == (0, 0.0, 4)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("grey.mkv", "ffv1", "gray"),
        ("alpha.mkv", "ffv1", "yuva420p"),
        ("ten.mkv", "ffv1", "yuv420p10le"),
        ("rgb.avi", "png", "rgb24"),
        ("full.avi", "mjpeg", "yuvj420p"),
        ("y444.mp4", "libx264", "yuv444p"),
        ("a.gif", "gif", "rgb8"),
    ],
)
def test_pixel_formats(tmp_path, name, codec, pix_fmt):
    images = [scene(i) for i in (0, 8, 16)]
    encode(tmp_path / name, images, codec, pix_fmt, rate=10)
    frames = open_video(tmp_path / name).read()
    assert len(frames) == 3
    for frame, image in zip(frames, images, strict=True):
        grey = pix_fmt == "gray"
        want = image @ [0.299, 0.587, 0.114] if grey else image
        got = frame.image[..., 0] if grey else frame.image
        assert np.abs(got.astype(float) - want).mean() < (25 if codec == "gif" else 5)


@pytest.fixture
def folder(tmp_path):
    for i in range(12):
        Image.fromarray(scene(i)).save(tmp_path / f"frame{i}.png")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "._frame0.png").write_bytes(b"left by a file manager")
    return tmp_path


def test_a_folder_of_images_in_natural_order(folder):
    with open_video(folder, folder_fps=10.0) as video:
        frames = list(video)
        assert [f.index for f in video.read(4, 8)] == [4, 5, 6, 7]
    assert (video.frame_count, video.fps, video.size_px) == (12, 10, (WIDTH, HEIGHT))
    assert open_video(folder).fps == 30
    for i, frame in enumerate(frames):
        assert frame.time_s == pytest.approx(i / 10)
        assert np.array_equal(frame.image, scene(i))
    assert [shade(f.image) for f in open_video(folder, 5.0, 10.0)] == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16"])
def test_image_modes(tmp_path, mode):
    image = Image.fromarray(scene(2))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    else:
        image = image.convert(mode)
    image.save(tmp_path / "a.png")
    [frame] = open_video(tmp_path)
    assert frame.image.shape == (HEIGHT, WIDTH, 3)
    assert frame.image[4, 4].min() > 200
    assert frame.image[4, -4].max() < 60


def test_exif_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to show
    Image.fromarray(scene(2)).save(tmp_path / "a.jpg", exif=exif)
    with open_video(tmp_path) as video:
        [frame] = video
    assert video.size_px == (HEIGHT, WIDTH)
    bright = np.argwhere(frame.image.min(-1) > 150).mean(0)
    assert bright[0] < WIDTH / 2
    assert bright[1] > HEIGHT / 2


CORNERS = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}


@pytest.mark.parametrize(
    ("name", "orientation"),
    [("a.jpg", o) for o in CORNERS] + [("a.mjpeg", o) for o in (1, 3, 6, 8)],
)
def test_a_photograph_is_upright(tmp_path, name, orientation):
    """As an image, and as the only frame of a video; the bright block starts in corner (0, 0)."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(scene(2)).save(tmp_path / name, format="jpeg", exif=exif)
    with open_video(tmp_path / name) as video:
        [frame] = video
    assert video.size_px == ((WIDTH, HEIGHT), (HEIGHT, WIDTH))[orientation > 4]
    assert frame.image.shape[1::-1] == video.size_px
    bright = np.argwhere(frame.image.min(-1) > 150).mean(0)
    assert tuple(np.round(bright / frame.image.shape[:2]).astype(int)) == CORNERS[orientation]


FILM_MM = 43.2666


@pytest.mark.parametrize("name", ["a.mov", "a.mp4"])
def test_the_focal_length_of_a_phone(tmp_path, name):
    images = [scene(i) for i in range(3)]
    plain, told = encode(tmp_path / f"plain-{name}", images), tmp_path / name
    with (
        av.open(str(plain)) as source,
        av.open(str(told), "w", options={"movflags": "use_metadata_tags"}) as container,
    ):
        container.metadata["com.apple.quicktime.camera.focal_length.35mm_equivalent"] = "26"
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    # The diagonal is as long as it is wide in millimetres: of 48 by 80 pixels.
    assert video_info(told).focal_px == pytest.approx(26 / FILM_MM * np.hypot(48, 80), rel=1e-4)
    assert video_info(plain).focal_px is None


def test_the_focal_length_of_a_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0xA405] = 50
    Image.fromarray(scene(2)).save(tmp_path / "a.jpg", exif=exif)
    found = video_info(tmp_path / "a.jpg").focal_px
    assert found == pytest.approx(50 / FILM_MM * np.hypot(48, 80), rel=1e-4)


@pytest.mark.parametrize("told", [0, "", None, "wide", "-13", "nan", "inf", 1e9, (1, 0), b"\xff"])
def test_what_is_no_focal_length(told):
    assert video_decode.focal_of(told, (80, 48)) is None


def test_bad_folders_name_the_offender(folder, tmp_path_factory):
    with pytest.raises(VideoError, match="without images"):
        open_video(tmp_path_factory.mktemp("none"))
    Image.fromarray(scene(1)[:, :40]).save(folder / "frame7.png")
    with pytest.raises(VideoError, match=r"frame7.png: got 40x48 pixels; expected 80x48"):
        open_video(folder)
    (folder / "frame7.png").write_bytes(b"\x89PNG nonsense")
    with pytest.raises(VideoError, match=r"frame7.png: got .*; expected an image"):
        open_video(folder)


def test_an_image_that_is_too_large_is_named(tmp_path, monkeypatch):
    Image.fromarray(scene(9, 64, 64)).save(tmp_path / "wide.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(VideoError, match=r"wide.png: got Image size .*; expected an image"):
        open_video(tmp_path / "wide.png")


def test_an_image_cut_short_is_named_when_read(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for name in ("a.jpg", "b.jpg"):
        Image.fromarray(noise).save(tmp_path / name)
    Image.fromarray(scene(9, 64, 64)).save(tmp_path / "c.png")
    whole = (tmp_path / "b.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(whole[: len(whole) // 2])
    with open_video(tmp_path) as video:
        assert len(video.read(0, 1)) == 1
        with pytest.raises(VideoError, match=r"b.jpg: got .*truncated"):
            video.read(1, 2)
        [frame] = video.read(2, 3)
    assert (frame.index, shade(frame.image)) == (2, 9)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_rates_that_are_none(tmp_path, clip, rate):
    with pytest.raises(VideoError, match="resample_fps: got"):
        open_video(clip, resample_fps=rate)
    with pytest.raises(VideoError, match="expected a rate above 0"):
        write_video(tmp_path / "x.mp4", [scene(0)], rate)


def test_frames_are_written_at_times_of_their_own(tmp_path):
    times_s = [0.0, 0.1, 0.15, 0.4, 0.41, 1.4]
    path = tmp_path / "uneven.mp4"
    write_video(path, (scene(i) for i in range(6)), 10.0, crf=1, times_s=times_s)
    with open_video(path) as video:
        frames = list(video)
    assert [f.time_s for f in frames] == pytest.approx(times_s, abs=1e-4)
    assert [shade(f.image) for f in frames] == list(range(6))
    with av.open(str(path)) as container:
        assert container.duration / av.time_base > 1.4, "players show the last frame too"


def test_frames_at_nearly_one_time_are_told_apart_in_float32(tmp_path):
    """Recorders write a frame twice, a tick of their clock apart."""
    path, at_s = tmp_path / "twice.mp4", 600.0
    times_s = [0.0, at_s, at_s + 1 / 90_000, at_s + 1 / 30]
    write_video(path, (scene(i) for i in range(4)), 30.0, times_s=times_s)
    with open_video(path) as video:
        found_s = np.array([frame.time_s for frame in video])
    assert found_s == pytest.approx(times_s, abs=1.1e-3)
    assert (np.diff(found_s.astype(np.float32)) > 0).all()


def test_a_failed_write_leaves_the_old_file(clip):
    before = clip.read_bytes()

    def breaks():
        yield scene(0)
        raise RuntimeError("the renderer failed")

    with pytest.raises(RuntimeError, match="the renderer failed"):
        write_video(clip, breaks(), 30.0)
    with pytest.raises(VideoError, match="no frames"):
        write_video(clip, [], 30.0)
    with pytest.raises(VideoError, match=r"a frame 1 of shape \(48, 40, 3\)"):
        write_video(clip, (scene(i)[:, : 80 - 40 * i] for i in range(2)), 30.0)
    assert clip.read_bytes() == before
    assert [p.name for p in clip.parent.iterdir()] == ["clip.mp4"]
    with pytest.raises(VideoError, match=r"clip.mp4: got .*choose another place"):
        write_video(clip.parent / "nowhere" / "clip.mp4", [scene(0)], 30.0)


def test_a_full_disk_is_told(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(VideoError, match="free some space and try again"):
            write_video(tmp_path / "big.mp4", [noise] * 20, 30.0, crf=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_clock_is_no_frame_rate(tmp_path):
    """Browsers record webm whose only rate is its clock of 1000 ticks a second."""
    path = encode(
        tmp_path / "b.mkv", [scene(i) for i in range(8)], pts=[50 * i for i in range(8)], rate=1000
    )
    with open_video(path) as video:
        assert video.fps == pytest.approx(20, rel=0.02)
        assert len(list(video)) == 8


def test_the_demo_clip_is_there():
    video_path, boxes_path = demo_clip()
    info = video_info(video_path)
    assert (info.size_px, info.frame_count, info.fps) == ((1504, 512), 124, 30)
    assert boxes_path.exists()
