"""Cuts are found where the shot changes, and nowhere else."""

import cv2
import numpy as np
import pytest
import torch

from flowhmr.data.boxes import PersonTrack
from flowhmr.data.cuts import CutFinder, find_cuts, split_at_cuts
from flowhmr.data.detectors import detect
from flowhmr.data.tracking import DetectedPerson
from flowhmr.data.video import VideoFrame, demo_clip, open_video

WIDTH, HEIGHT = 320, 180


def place(seed: int, width: int = 3 * WIDTH) -> np.ndarray:
    """A wide view of things of all sizes below a bright sky: all places have the same light."""
    draw = np.random.default_rng(seed)
    view = np.zeros((HEIGHT, width, 3), np.float32)
    for scale, share in ((120, 60), (40, 40), (12, 30), (5, 15)):
        size = (width // scale + 2, HEIGHT // scale + 2)
        noise = draw.uniform(-1, 1, (size[1], size[0], 3)).astype(np.float32)
        view += share * cv2.resize(noise, (width, HEIGHT), interpolation=cv2.INTER_CUBIC)
    view += np.linspace(180, 70, HEIGHT, dtype=np.float32)[:, None, None]
    for _ in range(12):  # houses, cars, people
        x, y = draw.integers(0, width), draw.integers(60, HEIGHT - 10)
        w, h = draw.integers(8, 60), draw.integers(8, 70)
        view[y : y + h, x : x + w] = draw.uniform(20, 230, 3)
    return view


def shown(
    view: np.ndarray, frames: int, seed: int = 0, speed: float = 0.0, blur: int = 0
) -> list[np.ndarray]:
    """A camera that stands or pans, pixels a frame, with a sensor's noise."""
    draw = np.random.default_rng(seed)
    if blur:
        view = cv2.blur(view, (blur, 1))
    out = []
    for frame in range(frames):
        x = round(speed * frame)
        cut = view[:, x : x + WIDTH] + draw.normal(0, 4, (HEIGHT, WIDTH, 3))
        out.append(cut.clip(0, 255).astype(np.uint8))
    return out


def cuts(images: list[np.ndarray]) -> list[int]:
    return find_cuts(VideoFrame(i, i / 30, image) for i, image in enumerate(images))


@pytest.mark.parametrize("seed", range(6))
def test_a_cut_is_found_in_its_frame(seed):
    first = shown(place(2 * seed), 9, speed=2.0 * (seed % 3))
    second = shown(place(2 * seed + 1), 9, speed=1.5 * (seed % 2))
    assert cuts(first + second + first) == [9, 18]


def test_a_cut_to_another_part_of_the_same_place():
    view = place(3)
    assert cuts(shown(view[:, :WIDTH], 8) + shown(view[:, 2 * WIDTH :], 8)) == [8]


@pytest.mark.parametrize("speed", [3, 20, 60, 100])
@pytest.mark.parametrize("frames", [1, 3, 40])
def test_a_pan_is_no_cut(frames, speed):
    """From rest to rest; 100 pixels a frame is a third of the picture, with a quarter of blur."""
    view = place(frames)
    frames = min(frames, 2 * WIDTH // speed)
    moving = shown(view, frames + 1, speed=speed, blur=speed // 4)
    images = shown(view, 6) + moving + shown(view[:, frames * speed :], 6)
    assert cuts(images) == []


@pytest.mark.parametrize("zoom", [1.02, 1.1])
def test_a_zoom_is_no_cut(zoom):
    """In two frames, with a turn of a degree each."""
    view, images = place(9), []
    for frame in range(16):
        steps = min(max(frame - 6, 0), 2)
        turn = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), steps, zoom**steps)
        images.append(cv2.warpAffine(view[:, :WIDTH], turn, (WIDTH, HEIGHT)).clip(0, 255))
    assert cuts([image.astype(np.uint8) for image in images]) == []


def test_a_cut_in_the_middle_of_a_pan():
    first, second = place(7), place(8)
    assert cuts(shown(first, 9, speed=40) + shown(second, 9, speed=40)) == [9]


@pytest.mark.parametrize("odd", [1, 2, 3])
@pytest.mark.parametrize("strange", [lambda k: np.full((HEIGHT, WIDTH, 3), 255, np.uint8),
                                     lambda k: np.zeros((HEIGHT, WIDTH, 3), np.uint8),
                                     lambda k: shown(place(20 + k), 1)[0]])  # fmt: skip
def test_a_flash_or_damaged_frames_are_no_cut(odd, strange):
    images = shown(place(1), 20)
    images[8 : 8 + odd] = [strange(k) for k in range(odd)]
    assert cuts(images) == []


def test_a_shot_must_last():
    first, second = shown(place(1), 12), shown(place(2), 12)
    for frames in (1, 2, 3):
        assert cuts(first + second[:frames]) == []
    assert cuts(first + second[:4]) == [12]
    assert cuts(first + second[:4] + first) == [12, 16]


@pytest.mark.parametrize("gain", [0.35, 0.6, 1.5, 1.8])
def test_exposure_is_no_cut(gain):
    still = shown(place(4), 16)
    lit = [(image * gain).clip(0, 255).astype(np.uint8) for image in still]
    assert cuts(still[:8] + lit[8:]) == []


@pytest.mark.parametrize("speed", [12, 40])
@pytest.mark.parametrize("width", [0.5, 0.9, 1.5])
def test_somebody_near_the_camera_is_no_cut(speed, width):
    """From a half to more than the whole of the picture, over 8 to 66 frames."""
    wide = round(width * WIDTH)
    frames = (WIDTH + wide) // speed + 6
    images = shown(place(5), frames)
    coat = (place(6)[:, :wide] * 0.3 + 30).clip(0, 255).astype(np.uint8)
    for frame, image in enumerate(images):
        right = speed * (frame - 3)
        low, high = max(0, right - wide), min(WIDTH, right)
        if low < high:
            image[:, low:high] = coat[:, low - right + wide : high - right + wide]
    assert cuts(images) == []


def test_pictures_that_never_agree_have_no_cuts():
    draw = np.random.default_rng(0)
    snow = [draw.integers(0, 256, (45, 80, 3), np.uint8) for _ in range(30)]
    assert cuts([cv2.resize(image, (WIDTH, HEIGHT)) for image in snow]) == []


def test_blank_pictures():
    def flat(level):
        return [np.full((HEIGHT, WIDTH, 3), level, np.uint8)] * 8

    assert cuts(flat(0) + flat(10)) == []
    assert cuts(flat(0) + flat(200)) == [8]
    assert cuts(flat(0) + shown(place(0), 8) + flat(128)) == [8, 16]
    assert cuts([]) == []
    assert cuts(flat(0)[:1]) == []


def test_any_shape_and_size():
    first, second = shown(place(0), 6), shown(place(1), 6)
    for height, width in ((40, 30), (9, 200), (400, 90)):
        images = [cv2.resize(image, (width, height)) for image in first + second]
        found = cuts(images)
        assert set(found) <= {6}
        if min(height, width) > 20:
            assert found == [6]
    turned = [np.rot90(image) for image in first + second]
    assert cuts(turned) == [6]


def test_a_real_shot_has_no_cut_and_two_have_one():
    clip, _ = demo_clip()
    with open_video(clip) as video:
        finder = CutFinder()
        frames = video.read(0, 40)
        for frame in frames:
            finder.see(frame)
        assert finder.cuts == []
    images = [frame.image for frame in frames]
    mirrored = [image[:, ::-1] for image in images]
    assert cuts(images[:20] + mirrored[20:]) == [20]


def test_tracks_end_at_cuts():
    def track(person, frames, keypoints=True):
        n = len(frames)
        boxes_px = torch.rand(n, 4) + 1
        keypoints_px = torch.rand(n, 17, 3) if keypoints else None
        return PersonTrack(person, torch.tensor(frames), boxes_px, torch.rand(n), keypoints_px)

    tracks = [track(4, [0, 1, 2, 5, 6, 9]), track(2, [3, 4]), track(0, [7, 8, 9], False)]
    parts = split_at_cuts(tracks, [9, 5, 20])
    assert [p.frame_indices.tolist() for p in parts] == [
        [0, 1, 2], [5, 6], [9], [3, 4], [7, 8], [9],
    ]  # fmt: skip
    assert [p.person for p in parts] == [4, 5, 6, 2, 0, 7]
    assert torch.equal(torch.cat([p.boxes_px for p in parts[:3]]), tracks[0].boxes_px)
    assert torch.equal(torch.cat([p.keypoints_px for p in parts[:3]]), tracks[0].keypoints_px)
    assert parts[-1].keypoints_px is None
    same = split_at_cuts(tracks, [])
    assert [p.person for p in same] == [4, 2, 0]
    assert split_at_cuts([], [3]) == []


def test_nobody_is_followed_across_a_cut(tmp_path):
    """Somebody found in the same place of two shots is two people."""
    for frame, image in enumerate(shown(place(0), 8) + shown(place(1), 8)):
        cv2.imwrite(str(tmp_path / f"{frame:02d}.png"), image)
    points = torch.rand(17, 3, generator=torch.Generator().manual_seed(0)) / 2 + 0.5
    person = DetectedPerson(points * torch.tensor([60.0, 120, 1]) + 20, 0.9)
    with open_video(tmp_path) as video:
        first, second = detect(video, lambda frame: [person])
    assert first.frame_indices.tolist() == list(range(8))
    assert second.frame_indices.tolist() == list(range(8, 16))
    assert (first.person, second.person) == (0, 1)
