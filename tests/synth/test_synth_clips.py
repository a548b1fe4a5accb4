"""Clips: seeded video in which picture, boxes and labels say the same."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from flowhmr.cameras import fit_weak_camera, project_weak
from flowhmr.geometry import geodesic_rad
from flowhmr.records import Sequence
from flowhmr.synth import ClipConfig, Motion, load_motions, render_clip
from flowhmr.synth import clips as clips_module

CONFIG = ClipConfig(frames=6, size_px=80)
COUNT = 8


@pytest.fixture(scope="module")
def clips(body) -> list[Sequence]:
    return [render_clip(CONFIG, index, body) for index in range(COUNT)]


def keypoints_px(clip: Sequence) -> torch.Tensor:
    assert clip.labels is not None
    return clip.labels.keypoints_px


def test_a_clip_follows_from_seed_and_index(body, clips):
    again = render_clip(CONFIG, 3, body)
    for a, b in zip(again.images, clips[3].images, strict=True):
        assert a.tobytes() == b.tobytes()
    assert torch.equal(again.boxes_px, clips[3].boxes_px)
    assert torch.equal(keypoints_px(again), keypoints_px(clips[3]))
    other = render_clip(replace(CONFIG, seed=1), 3, body)
    assert not np.array_equal(other.images[0], clips[3].images[0])
    assert not np.array_equal(clips[2].images[0], clips[3].images[0])


def test_a_clip_is_as_long_and_large_as_asked_for(clips):
    for index, clip in enumerate(clips):
        assert len(clip) == len(clip.times_s) == len(clip.boxes_px) == 6
        assert all(i.shape == (80, 80, 3) and i.dtype == np.uint8 for i in clip.images)
        assert_close(clip.times_s, torch.arange(6) / 30)
        assert clip.name == f"synth/train/0/{index}"
    assert len({clip.person for clip in clips}) == COUNT


@pytest.mark.parametrize("frames", [1, 2])
def test_a_clip_may_be_short(body, frames):
    assert len(render_clip(replace(CONFIG, frames=frames), 0, body)) == frames


def test_a_clip_longer_than_any_recording_is_refused(body):
    longest = max(map(len, load_motions("train")))
    with pytest.raises(ValueError, match=f"expected at most {longest}"):
        render_clip(replace(CONFIG, frames=longest + 1), 0, body)


def test_labels_are_those_of_one_body(body, clips):
    for clip in clips:
        labels = clip.labels
        assert labels is not None
        assert_close(body.joints(labels.params), labels.joints_m, atol=1e-5, rtol=0)
        assert torch.equal(labels.params.betas, labels.params.betas[:1].expand(6, -1))
        assert labels.keypoint_confidence.min() == 1


def test_the_person_stays_in_the_picture(clips):
    for clip in clips:
        assert keypoints_px(clip).min() > 0
        assert keypoints_px(clip).max() < 80


def test_boxes_hold_the_person_and_not_the_picture(clips):
    for clip in clips:
        low, size = clip.boxes_px[:, None, :2], clip.boxes_px[:, None, 2:]
        inside = ((keypoints_px(clip) >= low) & (keypoints_px(clip) <= low + size)).all(-1)
        assert inside.float().mean() > 0.9
        assert (clip.boxes_px[:, 2:] > 0).all()
        assert size.amax() < 1.2 * CONFIG.largest * 80
        extent = keypoints_px(clip).amax(1) - keypoints_px(clip).amin(1)
        assert (size[:, 0].amax(-1) < 1.6 * extent.amax(-1)).all()


def test_without_noise_boxes_hold_every_keypoint(body):
    clip = render_clip(replace(CONFIG, box_noise=0.0), 1, body)
    low, size = clip.boxes_px[:, None, :2], clip.boxes_px[:, None, 2:]
    assert ((keypoints_px(clip) >= low) & (keypoints_px(clip) <= low + size)).all()


def test_each_frame_is_nearly_a_weak_perspective(clips):
    for clip in clips:
        assert clip.labels is not None
        camera = fit_weak_camera(clip.labels.joints_m, keypoints_px(clip), 80)
        seen_px = project_weak(clip.labels.joints_m, camera, 80)[..., :2]
        error_px = (seen_px - keypoints_px(clip)).norm(dim=-1).mean(-1)
        assert error_px.max() < 2
        assert (camera.scale > 0).all()


def test_motion_is_smooth(clips):
    """30 frames a second: a joint turns by degrees, not by arcs, from frame to frame."""
    for clip in clips:
        assert clip.labels is not None
        rotmats = clip.labels.params.rotmats
        assert geodesic_rad(rotmats[:-1], rotmats[1:]).median() < 0.1


def static_motion() -> Motion:
    walking = next(m for m in load_motions("train") if "walking" in m.name)
    frames = 6
    return Motion(
        walking.rotmats[:1].expand(frames, -1, -1, -1).clone(),
        walking.trans_world_m[:1].expand(frames, -1).clone(),
        30.0,
        "static",
        "stands",
    )


@pytest.fixture
def statue(monkeypatch) -> None:
    """All motion capture is one person who does not move."""
    monkeypatch.setattr(clips_module, "load_motions", lambda split: (static_motion(),))


@pytest.mark.usefixtures("statue")
def test_a_shaken_camera_moves_body_and_background_alike(body):
    """Of a scene at rest each frame is the first one, moved as the keypoints are."""
    config = replace(CONFIG, size_px=128, camera_shake_px=8.0)
    shaken = 0
    for index in range(12):
        clip = render_clip(config, index, body)
        shift_px = keypoints_px(clip) - keypoints_px(clip)[:1]
        assert_close(shift_px, shift_px[:, :1].expand_as(shift_px), atol=1e-3, rtol=0)
        frame = int(shift_px[:, 0].norm(dim=-1).argmax())
        dx, dy = shift_px[frame, 0].tolist()
        if abs(dx) + abs(dy) < 4:
            continue
        first, last = (np.float32(clip.images[i]) for i in (0, frame))
        moved = cv2.warpAffine(first, np.array([[1, 0, dx], [0, 1, dy]]), (128, 128))
        inner = slice(16, -16)
        for region in body_and_rest(keypoints_px(clip)[frame], inner):
            matched = np.median(np.abs(moved - last)[inner, inner][region])
            unmoved = np.median(np.abs(first - last)[inner, inner][region])
            shaken += 1
            assert matched < unmoved or matched < 3
        assert np.abs(moved - last)[inner, inner].mean() < np.abs(first - last)[inner, inner].mean()
    assert shaken >= 6


def body_and_rest(points_px: torch.Tensor, inner: slice) -> tuple[np.ndarray, np.ndarray]:
    """Masks of the surroundings of the joints, and of what is far from them."""
    away = np.ones((128, 128), np.uint8)
    for x, y in points_px.int().tolist():
        away[y, x] = 0
    distance_px = cv2.distanceTransform(away, cv2.DIST_L2, 5)[inner, inner]
    return distance_px < 3, distance_px > 12


@pytest.mark.usefixtures("statue")
def test_half_of_the_cameras_stand_still(body):
    config = replace(CONFIG, size_px=48)
    points = [keypoints_px(render_clip(config, index, body)) for index in range(24)]
    moving = [not torch.equal(p, p[:1].expand_as(p)) for p in points]
    assert 6 <= sum(moving) <= 18
    steady = replace(config, camera_shake_px=0.0)
    for index in range(4):
        p = keypoints_px(render_clip(steady, index, body))
        assert_close(p, p[:1].expand_as(p), atol=1e-4, rtol=0)
