"""Simulated detections: as good as they are said to be, and always the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from flowhmr.body import COCO_17, SMPL_24, BodyModel, open_body
from flowhmr.cameras import WeakCamera, project_weak
from flowhmr.experiments.detected import DetectorNoise, with_detections
from flowhmr.geometry import rotmat_from_axis_angle
from flowhmr.records import Labels, Sequence

FRAMES, HEIGHT, WIDTH = 150, 160, 200
PERFECT = DetectorNoise(error=0.0, missed=0.0, guessed=0.0)
HIDDEN = ("head", "left_shoulder", "right_elbow", "left_hip", "right_ankle")
FACE = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return open_body()


@pytest.fixture(scope="module")
def video(body) -> Sequence:
    """Someone seen in weak perspective, so that nothing but the detector is off; all is seen."""
    chance = torch.Generator().manual_seed(0)
    pose = 0.2 * torch.randn(FRAMES, 24, 3, generator=chance)
    pose[:, 0, 0] += torch.pi
    params = body.params(rotmat_from_axis_angle(pose), torch.zeros(FRAMES, 10))
    camera = WeakCamera(torch.tensor([0.5, 0.0, -0.1]).expand(FRAMES, 3))
    joints_m = body.joints(params)
    joints_px = project_weak(joints_m, camera, WIDTH)[..., :2]
    size_px = torch.rand(FRAMES, 2, generator=chance) * 40 + 80
    images = [np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * FRAMES
    labels = Labels(params, joints_m, joints_px, torch.ones(FRAMES, 24))
    boxes_px = torch.cat([torch.full((FRAMES, 2), 20.0), size_px], -1)
    return Sequence("street/000", "ann", images, torch.arange(FRAMES) / 25, boxes_px, labels)


@pytest.fixture(scope="module")
def truth_px(video, body) -> Tensor:
    camera = WeakCamera(torch.tensor([0.5, 0.0, -0.1]).expand(FRAMES, 3))
    points_px = project_weak(
        body.keypoints(body.mesh(video.labels.params), COCO_17), camera, WIDTH
    )[..., :2]
    low, high = points_px.amin((0, 1)), points_px.amax((0, 1))
    assert (low > 15).all(), "errors must not leave the image"
    assert (high < torch.tensor([WIDTH - 15.0, HEIGHT - 15.0])).all()
    return points_px


def hiding(video: Sequence, *names: str) -> Sequence:
    assert video.labels is not None
    confidence = video.labels.keypoint_confidence.clone()
    confidence[:, list(SMPL_24.indices_of(list(names)))] = 0
    return replace(video, labels=replace(video.labels, keypoint_confidence=confidence))


def detected(video: Sequence, body: BodyModel, noise: DetectorNoise) -> Tensor:
    (found,) = with_detections([video], body, noise)
    assert found.detected_px is not None
    return found.detected_px


def coco(*names: str) -> list[int]:
    return list(COCO_17.indices_of(list(names)))


def test_a_perfect_detector_sees_what_is_seen_where_it_is(video, body, truth_px):
    found = detected(hiding(video, *HIDDEN), body, PERFECT)
    hidden = coco(*FACE, *(n for n in HIDDEN if n in COCO_17.names))
    assert len(hidden) == 9
    seen = [k for k in range(17) if k not in hidden]
    assert_close(found[:, seen, :2], truth_px[:, seen], atol=0.01, rtol=0)
    assert (found[:, seen, 2] == 0.9).all()
    assert (found[:, hidden] == 0).all(), "what is not detected has no place"


def test_everything_else_of_the_video_stays(video, body):
    (found,) = with_detections([video], body, DetectorNoise())
    assert video.detected_px is None
    assert replace(found, detected_px=None).__dict__ == video.__dict__


def test_errors_are_as_large_as_said(video, body, truth_px):
    """Each coordinate, as a share of the box's larger side; twice that where it is guessed."""
    noise = DetectorNoise(error=0.02, missed=0.0, guessed=1.0)
    found = detected(hiding(video, *HIDDEN), body, noise)
    side_px = video.boxes_px[:, 2:].amax(-1)
    off = (found[..., :2] - truth_px) / side_px[:, None, None]
    for confidence, error in ((0.9, 0.02), (0.5, 0.04)):
        these = off[found[..., 2] == confidence]
        assert len(these) > 1000
        # Five deviations of an estimate from so many numbers.
        assert float(these.std()) == pytest.approx(error, rel=5 / (2 * these.numel()) ** 0.5)
        assert abs(float(these.mean())) < 5 * error / these.numel() ** 0.5
        assert abs(float(torch.corrcoef(these.T)[0, 1])) < 5 / len(these) ** 0.5


def test_as_many_are_missed_and_guessed_as_said(video, body):
    noise = DetectorNoise(error=0.0, missed=0.2, guessed=0.3)
    found = detected(hiding(video, *HIDDEN), body, noise)[..., 2] > 0
    hidden = coco(*FACE, *(n for n in HIDDEN if n in COCO_17.names))
    seen = [k for k in range(17) if k not in hidden]
    for which, share in ((seen, 0.8), (hidden, 0.3)):
        draws = FRAMES * len(which)
        deviation = (share * (1 - share) / draws) ** 0.5
        assert float(found[:, which].float().mean()) == pytest.approx(share, abs=5 * deviation)


def test_nothing_is_detected_outside_the_image(video, body, truth_px):
    """The picture ends right and below the middle of the person."""
    width, height = (int(v) for v in truth_px.mean((0, 1)))
    images = [np.zeros((height, width, 3), np.uint8)] * FRAMES
    found = detected(replace(video, images=images), body, replace(PERFECT, guessed=1.0))
    inside = (truth_px <= torch.tensor([width, height])).all(-1)
    sure = ((truth_px - torch.tensor([width, height])).abs() > 0.1).all(-1)
    assert 0.1 < float(inside.float().mean()) < 0.9
    assert torch.equal((found[..., 2] > 0)[sure], inside[sure])
    assert (found[found[..., 2] == 0] == 0).all()


def test_detections_follow_from_the_name_not_from_the_order(video, body):
    other = replace(video, name="street/001")
    noise = DetectorNoise()
    a, b = (detected(v, body, noise) for v in (video, other))
    assert torch.equal(a, detected(video, body, noise))
    assert not torch.equal(a, b)
    there = with_detections([other, video, other], body, noise)
    for found, alone in zip(there, (b, a, b), strict=True):
        assert found.detected_px is not None
        assert torch.equal(found.detected_px, alone)
    assert not torch.equal(a, detected(video, body, replace(noise, seed=1)))


def test_a_better_detector_draws_the_same_chances(video, body, truth_px):
    """Half the error is half the way: runs that differ in one setting differ in it alone."""
    noise = DetectorNoise(error=0.02, missed=0.1)
    far, near = (detected(video, body, replace(noise, error=e)) for e in (0.02, 0.01))
    assert torch.equal(far[..., 2], near[..., 2])
    both = far[..., 2] > 0
    off = [(d[..., :2] - truth_px)[both] for d in (far, near)]
    assert_close(off[0], 2 * off[1], atol=0.05, rtol=0)


def test_video_without_labels_is_refused(video, body):
    with pytest.raises(ValueError, match=r"street/000: got video without labels; expected synth"):
        with_detections([video, replace(video, labels=None)], body, DetectorNoise())
