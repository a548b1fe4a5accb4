"""How the camera turns, seen in pictures of a wall, with somebody before it."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from flowhmr.capture import GroundWatcher, default_camera
from flowhmr.capture import ground as ground_module
from flowhmr.data import Journal, PersonTrack, VideoFrame
from flowhmr.geometry import rotmat_from_axis_angle

WIDTH, HEIGHT = 480, 320
CAMERA = default_camera((WIDTH, HEIGHT))


def track(frames: list[int], person: int = 0) -> PersonTrack:
    boxes_px = torch.tensor([[200.0, 100.0, 60.0, 150.0]]).repeat(len(frames), 1)
    return PersonTrack(person, torch.tensor(frames), boxes_px, torch.ones(len(frames)), None)


def texture(seed: int = 0, size: int = 1600) -> np.ndarray:
    """Blobs of a few pixels, as walls and lawns have."""
    noise = np.random.default_rng(seed).random((size, size, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    low, high = np.quantile(smooth, [0.02, 0.98])
    return (255 * np.clip((smooth - low) / (high - low), 0, 1)).astype(np.uint8)


def seen_by(rotmat: torch.Tensor, eye_m: tuple[float, float, float], wall_m: float) -> np.ndarray:
    """Image of a wall ``wall_m`` away from the world's origin; the camera stands at ``eye_m``."""
    focal = float(CAMERA.focal_px)
    lens = np.array([[focal, 0, WIDTH / 2], [0, focal, HEIGHT / 2], [0, 0, 1.0]])
    # The wall's texture as the first camera sees it, with room around it.
    paper = np.array([[focal, 0, 800.0], [0, focal, 800], [0, 0, 1]])
    away = np.eye(3)
    away[:, 2] -= np.array(eye_m) / wall_m
    onto = lens @ rotmat.double().numpy() @ away @ np.linalg.inv(paper)
    half = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1.0]])
    onto = half @ onto @ np.linalg.inv(half)
    return cv2.warpPerspective(texture(), onto, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)


def with_person(image: np.ndarray, step: int) -> np.ndarray:
    """Something that moves on its own within the person's box."""
    image = image.copy()
    patch = texture(1)[10 * step : 10 * step + 150, 40 * step : 40 * step + 60]
    image[100:250, 200:260] = patch
    return image


def watch(images: list[np.ndarray], tracks: list[PersonTrack], first: int = 0) -> GroundWatcher:
    watcher = GroundWatcher(tracks, CAMERA)
    for number, image in enumerate(images, first):
        watcher.see(VideoFrame(number, number / 30, image))
    return watcher


TURNS = [torch.tensor([0.0, 0.01 * t, 0.004 * t]) for t in range(3)]


def test_a_turning_camera_is_followed_whatever_the_person_does():
    rotmats = [rotmat_from_axis_angle(turn) for turn in TURNS]
    images = [with_person(seen_by(r, (0, 0, 0), 5.0), t) for t, r in enumerate(rotmats)]
    motion = watch(images, [track([0, 1, 2])]).motion(0)
    for t in (0, 1):
        assert_close(motion.turns[t], rotmats[t + 1] @ rotmats[t].mT, atol=4e-4, rtol=0)
        assert motion.steady[t] > 0.95
    assert motion.steady[2] == 0, "there is no next frame"
    assert_close(motion.turns[2], torch.eye(3))


def test_a_camera_that_stands_still_does_not_turn():
    image = seen_by(torch.eye(3), (0, 0, 0), 5.0)
    motion = watch([with_person(image, t) for t in range(3)], [track([0, 1, 2])]).motion(0)
    assert_close(motion.turns, torch.eye(3).expand(3, 3, 3), atol=1e-5, rtol=0)
    assert (motion.steady[:2] > 0.99).all()


def test_a_camera_that_travels_is_not_taken_for_one_that_turns():
    """Towards a wall: no turn makes a picture grow."""
    images = [seen_by(torch.eye(3), (0, 0, 0.15 * t), 5.0) for t in range(2)]
    motion = watch(images, [track([0, 1])]).motion(0)
    assert motion.steady[0] < 0.5


def test_near_ground_decides_not_the_far_wall():
    """Sideways: the far wall moves as if the camera turned, what is beside the legs does not."""
    far = [seen_by(torch.eye(3), (0.03 * t, 0, 0), 20.0) for t in range(2)]
    near = [seen_by(torch.eye(3), (0.03 * t, 0, 0), 2.0) for t in range(2)]
    images = []
    for wall, floor in zip(far, near):
        image = wall.copy()
        image[210:] = floor[210:]
        images.append(image)
    beside = track([0, 1])
    above = replace(beside, boxes_px=torch.tensor([[200.0, 5.0, 60.0, 120.0]]).repeat(2, 1))
    watcher = watch(images, [beside, above])
    assert watcher.motion(0).steady[0] < 0.2
    assert watcher.motion(1).steady[0] > 0.8


@pytest.mark.parametrize("kind", ["flat", "cut"])
def test_nothing_is_said_where_nothing_can_be_followed(kind):
    image = seen_by(torch.eye(3), (0, 0, 0), 5.0)
    after = np.full_like(image, 90) if kind == "flat" else texture(7)[300:620, 300:780]
    motion = watch([image, after], [track([0, 1])]).motion(0)
    assert motion.steady[0] < 0.3
    assert motion.turns.isfinite().all()


def test_only_neighbouring_frames_in_which_the_person_is():
    image = seen_by(torch.eye(3), (0, 0, 0), 5.0)
    watcher = GroundWatcher([track([0, 1, 4]), track([3, 4], 1)], CAMERA)
    for number in (0, 1, 3, 4):
        watcher.see(VideoFrame(number, number / 30, image))
    assert (watcher.motion(0).steady > 0.9).tolist() == [True, False, False]
    assert (watcher.motion(1).steady > 0.9).tolist() == [True, False]


def test_a_pass_that_was_stopped_goes_on_where_it_was(tmp_path, monkeypatch):
    rotmats = [rotmat_from_axis_angle(turn) for turn in TURNS]
    images = [with_person(seen_by(r, (0, 0, 0), 5.0), t) for t, r in enumerate(rotmats)]
    whole = watch(images, [track([0, 1, 2])]).motion(0)
    path, asked = tmp_path / "ground.jsonl", []
    followed = ground_module._followed

    def count(*arguments):
        asked.append(1)
        return followed(*arguments)

    monkeypatch.setattr(ground_module, "_followed", count)
    for frames in (2, 3):
        with Journal(path, {}) as journal:
            watcher = GroundWatcher([track([0, 1, 2])], CAMERA, journal)
            for number, image in enumerate(images[:frames]):
                watcher.see(VideoFrame(number, number / 30, image))
    assert len(asked) == 2
    assert torch.equal(watcher.motion(0).turns, whole.turns)
    assert torch.equal(watcher.motion(0).steady, whole.steady)
