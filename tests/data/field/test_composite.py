"""SURREAL's people before real video: where they are put, what hides them, what is drawn."""

import cv2
import numpy as np
import pytest
import torch

from field_files import mat_bytes, truth
from flowhmr.body import open_body
from flowhmr.data import (
    CompositeBatches,
    CompositeConfig,
    Composites,
    FieldError,
    FlowSource,
    MotionInputConfig,
    PairConfig,
    field_labels,
    write_video,
)
from flowhmr.data.field.surreal import SurrealSet
from flowhmr.flow import DisFlow, estimate_pair
from more_field_files import surreal, surreal_px

FRAMES = 6
BODY = open_body()
PLAIN = CompositeConfig(occluded=False)


def write_person(folder, nearer_m=0.0):
    """A white person on black: a box around the joints, at the depth of the pelvis or nearer."""
    folder.mkdir(parents=True)
    t = truth(FRAMES, seed=31)
    # SURREAL's picture is small: further away, the whole body is in it.
    t.joints_cam[..., 2] += 7.0
    masks, depths = {}, {}
    images = []
    for frame, points in enumerate(surreal_px(t)):
        mask = np.zeros((240, 320), np.uint8)
        low, high = points.min(0).astype(int) - 4, points.max(0).astype(int) + 4
        mask[max(low[1], 0) : high[1], max(low[0], 0) : high[0]] = 1
        masks[f"segm_{frame + 1}"] = mask
        depth = float(t.joints_cam[frame, 0, 2]) - nearer_m
        depths[f"depth_{frame + 1}"] = np.where(mask > 0, depth, 1e10).astype(np.float32)
        images.append(np.repeat(255 * mask[..., None], 3, -1))
    for name, content in (("info", surreal(t)), ("segm", masks), ("depth", depths)):
        (folder / f"a_{name}.mat").write_bytes(mat_bytes(content))
    write_video(folder / "a.mp4", images, 30.0)
    return t


def write_background(folder, step_px=3):
    """A dark scene of blobs that moves to the right."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    scene = cv2.resize(rng.uniform(0, 120, (24, 40, 3)), (400, 240)).astype(np.uint8)
    images = [np.roll(scene, step_px * k, 1)[:, 40:360] for k in range(FRAMES)]
    write_video(folder / "walk.mp4", images, 30.0)
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("composite")
    write_person(root / "people")
    write_background(root / "videos")
    return root


def composites(root, config=PLAIN, people="people"):
    return Composites(root / people, root / "videos", BODY, config)


def sample(root, config=PLAIN, seed=0, **others):
    return composites(root, config, **others).sample(np.random.default_rng(seed), FRAMES)


def original(root):
    frames = SurrealSet(root / "people").read(np.arange(FRAMES))
    return frames, field_labels(frames, BODY)


def test_people_move_with_the_camera_and_labels_with_them(root):
    frames, labels = original(root)
    sequence = sample(root)
    moved = (sequence.labels.keypoints_px - labels.keypoints_px).mean(1)
    # All joints alike, none in the middle frame, and as the scene does: steadily to the right.
    apart = sequence.labels.keypoints_px - labels.keypoints_px - moved[:, None]
    assert float(apart.abs().max()) < 1e-3
    assert float(moved[FRAMES // 2].abs().max()) < 1e-3
    steps = moved.diff(dim=0)
    assert bool((steps[:, 0] > 2).all())
    assert float(steps[:, 1].abs().max()) < 0.5
    torch.testing.assert_close(sequence.boxes_px[:, :2] - frames.boxes_px[:, :2], moved)
    assert torch.equal(sequence.labels.params.rotmats, labels.params.rotmats)
    # The white body is where its box is, and the scene elsewhere.
    for image, box in zip(sequence.images, sequence.boxes_px.tolist()):
        assert image.shape == (240, 320, 3)
        x, y = int(box[0] + box[2] / 2), int(box[1] + box[3] / 2)
        assert image[y - 5 : y + 5, x - 5 : x + 5].min() > 200
        assert image[:, : max(int(box[0]) - 8, 0)].max(initial=0) < 180


def test_without_tracking_they_stay_where_they_are(root):
    _, labels = original(root)
    sequence = sample(root, CompositeConfig(occluded=False, tracked=False))
    torch.testing.assert_close(sequence.labels.keypoints_px, labels.keypoints_px)


def test_a_background_may_stand_still(root):
    sequence = sample(root, CompositeConfig(False, tracked=False, moving=False))
    left = int(sequence.boxes_px[:, 0].min()) - 8
    assert left > 10
    corner = [image[:, :left] for image in sequence.images]
    assert all(np.array_equal(corner[0], other) for other in corner[1:])
    moving = sample(root, CompositeConfig(False, tracked=False))
    assert not np.array_equal(moving.images[0][:, :left], moving.images[1][:, :left])


@pytest.mark.parametrize("nearer_m", [0.0, 0.15, 2.0])
def test_joints_behind_the_bodys_surface_are_hidden(tmp_path, nearer_m):
    t = write_person(tmp_path / "people", nearer_m)
    write_background(tmp_path / "videos")
    depths_m = t.joints_cam[..., 2]
    hidden = depths_m > depths_m[:, :1] - nearer_m + 0.2
    assert hidden.any()
    sequence = sample(tmp_path)
    assert np.array_equal(sequence.labels.keypoint_confidence.numpy(), ~hidden)


def test_a_super_pixel_hides_what_lies_under_it(root):
    """What hides a joint is seen in its place; at least seven of fourteen stay, on average."""
    hid, frames = 0, original(root)[0]
    for seed in range(8):
        alone = sample(root, PLAIN, seed)
        sequence = sample(root, CompositeConfig(), seed)
        torch.testing.assert_close(sequence.labels.keypoints_px, alone.labels.keypoints_px)
        fewer = (alone.labels.keypoint_confidence > 0) & (sequence.labels.keypoint_confidence == 0)
        for frame, joint in fewer.nonzero().tolist():
            drift_px = sequence.boxes_px[frame, :2] - frames.boxes_px[frame, :2]
            x, y = (frames.keypoints_px[frame, joint, :2] + drift_px).int().tolist()
            assert alone.images[frame][y, x].min() > 150
            assert sequence.images[frame][y, x].max() < 180
            hid += 1
        assert float(sequence.labels.keypoint_confidence.sum(-1).mean()) >= 7
    assert hid


class TestBatches:
    def batches(self, root, rgb=False, frames=4, **changed):
        pairs = PairConfig(gap=1, margin=1.5, flow_px=64)
        links = FlowSource(pairs, lambda a, b: estimate_pair(DisFlow("fast"), a, b))
        clips = composites(root, CompositeConfig())
        config = MotionInputConfig(frames=frames)
        settings = {"batch": 2, "seed": 0, "count": 3} | changed
        return CompositeBatches(clips, config, 48, rgb, links, **settings)

    def test_a_batch_follows_from_its_number(self, root):
        batches = self.batches(root)
        first, again = batches[1], batches[1]
        assert first.input.flow_px.shape[:2] == (2, 3)
        assert first.now.points.shape[:2] == (2, 3)
        assert torch.equal(first.input.flow_px, again.input.flow_px)
        alone = batches.samples(1, range(1, 2))
        assert torch.equal(alone.input.keypoints_px[0], first.input.keypoints_px[1])
        assert not torch.equal(batches[0].input.flow_px, first.input.flow_px)
        assert first.input.frames is None
        assert self.batches(root, rgb=True)[0].input.frames.shape[:2] == (2, 3)

    def test_people_in_too_few_frames_are_told(self, root):
        with pytest.raises(ValueError, match="got people in at most 6 frames; expected some in 31"):
            self.batches(root, frames=31)


def test_what_misses_is_named(root, tmp_path):
    write_person(tmp_path / "people")
    write_background(tmp_path / "videos")
    (tmp_path / "people" / "a_depth.mat").unlink()
    with pytest.raises(FieldError, match=r"a_depth\.mat"):
        sample(tmp_path)
    with pytest.raises(ValueError, match="which is no folder"):
        Composites(tmp_path / "people", tmp_path / "nowhere", BODY, PLAIN)
