"""Motion: splits that share nothing, and variations that stay motions of a body."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from flowhmr.body import SMPL_24
from flowhmr.geometry import geodesic_rad
from flowhmr.synth import Motion, load_motions, mean_rotmats, mirror_motion
from flowhmr.synth.motion import (
    PERTURBATION_DEG,
    UPPER_BODY,
    perturb_rotmats,
    sample_window,
    splice_rotmats,
)

SPLITS = ("train", "val", "test")


def recordings(split: str) -> set[str]:
    return {m.name.split("#")[0] for m in load_motions(split)}


def longest(motions: tuple[Motion, ...]) -> int:
    return max(map(len, motions))


def assert_rotations(rotmats: torch.Tensor) -> None:
    eye = torch.eye(3).expand_as(rotmats)
    assert_close(rotmats @ rotmats.transpose(-1, -2), eye, atol=1e-5, rtol=0)
    assert_close(torch.linalg.det(rotmats), torch.ones(rotmats.shape[:-2]), atol=1e-5, rtol=0)


def test_no_recording_is_in_two_splits():
    names = {split: recordings(split) for split in SPLITS}
    assert all(names.values())
    assert sum(map(len, names.values())) == len(set().union(*names.values()))


@pytest.mark.parametrize("split", ["val", "test"])
def test_no_pose_is_in_two_splits(split):
    """Names could hide a recording that came in twice: its poses could not."""
    trained = torch.cat([m.rotmats[::4, 1:].flatten(1) for m in load_motions("train")])
    held_out = torch.cat([m.rotmats[::8, 1:].flatten(1) for m in load_motions(split)])
    # A turn by a small angle changes a matrix by sqrt(2) times that angle (Frobenius).
    apart_rad = torch.cdist(held_out, trained).amin(1) / (2 * 23) ** 0.5
    assert torch.rad2deg(apart_rad).min() > 2


@pytest.mark.parametrize("split", SPLITS)
def test_motions_are_rotations_and_places_in_time(split):
    motions = load_motions(split)
    assert_rotations(torch.cat([m.rotmats[::10] for m in motions]))
    for motion in motions:
        assert len(motion) == len(motion.rotmats) == len(motion.trans_world_m) > 1
        assert motion.fps == 30
        assert bool(motion.trans_world_m.isfinite().all())


@pytest.mark.parametrize("length", [1, 41, 150])
def test_windows_lie_inside_their_recording(length):
    motions = load_motions("val")
    rng = np.random.default_rng(0)
    for _ in range(200):
        motion, start = sample_window(motions, length, rng)
        assert 0 <= start <= len(motion) - length


def test_every_window_is_drawn_equally_often():
    short, long = (load_motions("val")[0].rotmats[:n] for n in (2, 4))
    motions = tuple(Motion(r, torch.zeros(len(r), 3), 30.0, "", "") for r in (short, long))
    rng = np.random.default_rng(0)
    drawn = [sample_window(motions, 2, rng) for _ in range(2000)]
    counts = [sum(len(m) == n and s == i for m, s in drawn) for n, i in ((2, 0), (4, 0), (4, 2))]
    assert all(count / 2000 == pytest.approx(0.25, abs=0.04) for count in counts)


def test_a_window_may_be_a_whole_recording_and_no_more():
    motions = load_motions("test")
    rng = np.random.default_rng(0)
    motion, start = sample_window(motions, longest(motions), rng)
    assert (len(motion), start) == (longest(motions), 0)
    with pytest.raises(ValueError, match=f"expected at most {longest(motions)}; ask for less"):
        sample_window(motions, longest(motions) + 1, rng)


def test_mirroring_twice_changes_nothing():
    motion = load_motions("val")[0]
    twice = mirror_motion(mirror_motion(motion))
    assert torch.equal(twice.rotmats, motion.rotmats)
    assert torch.equal(twice.trans_world_m, motion.trans_world_m)
    assert (twice.fps, twice.name, twice.action) == (motion.fps, motion.name, motion.action)


def test_the_mirrored_motion_is_seen_in_a_mirror(body):
    """Vertices and places in the world both, at x = 0."""
    motion = load_motions("train")[0]
    mirrored = mirror_motion(motion)
    frames = slice(0, 40, 20)
    verts = [
        body.mesh(body.params(m.rotmats[frames], torch.zeros(2, body.num_betas))).verts
        + m.trans_world_m[frames, None]
        for m in (motion, mirrored)
    ]
    flip = torch.tensor([-1.0, 1.0, 1.0])
    assert_close(verts[1], verts[0][:, body.symmetry] * flip, atol=1e-5, rtol=0)


@pytest.mark.parametrize("strength", [0.0, 0.7, 3.0])
def test_perturbing_turns_each_joint_by_one_rotation_in_all_frames(strength):
    rotmats = load_motions("train")[0].rotmats[:6]
    perturbed = perturb_rotmats(rotmats, strength, np.random.default_rng(5))
    assert_rotations(perturbed)
    turns = perturbed @ rotmats.transpose(-1, -2)
    assert_close(turns, turns[:1].expand_as(turns), atol=1e-5, rtol=0)
    if strength == 0:
        assert_close(perturbed, rotmats, atol=1e-6, rtol=0)


def test_perturbing_turns_the_named_joints_as_far_as_said():
    pose = load_motions("train")[0].rotmats[0]
    turns = [perturb_rotmats(pose, 1.0, np.random.default_rng(i)) for i in range(300)]
    degrees = torch.rad2deg(geodesic_rad(torch.stack(turns), pose.expand(300, -1, -1, -1)))
    # The length of a vector of three normal numbers has the mean 1.596.
    for joint, name in enumerate(SMPL_24.names):
        expected = 1.596 * PERTURBATION_DEG.get(name, 0)
        assert float(degrees[:, joint].mean()) == pytest.approx(expected, rel=0.15, abs=0.1), name


def test_perturbing_is_seeded():
    pose = load_motions("train")[0].rotmats[0]
    a, b, c = (perturb_rotmats(pose, 1.0, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_splicing_takes_the_arms_of_one_and_the_legs_of_the_other():
    lower, upper = (load_motions("train")[i].rotmats[:3] for i in (0, 9))
    kept = lower.clone()
    spliced = splice_rotmats(lower, upper)
    above = list(SMPL_24.indices_of(UPPER_BODY))
    below = [j for j in range(len(SMPL_24)) if j not in above]
    assert torch.equal(spliced[:, above], upper[:, above])
    assert torch.equal(spliced[:, below], lower[:, below])
    assert torch.equal(lower, kept)
    assert {"pelvis", "left_hip", "right_knee"} <= {SMPL_24.names[j] for j in below}
    assert {"left_shoulder", "right_wrist", "head"} <= {SMPL_24.names[j] for j in above}


def test_what_is_mirrored_stays_spliced():
    """The chest and arms are as symmetric a set as the legs."""
    above = SMPL_24.indices_of(UPPER_BODY)
    assert {SMPL_24.mirror[j] for j in above} == set(above)


def test_the_mean_pose_favours_no_side(body):
    mean = mean_rotmats()
    assert_rotations(mean)
    params = body.params(mean, torch.zeros(body.num_betas))
    verts = body.mesh(params).verts
    flip = torch.tensor([-1.0, 1.0, 1.0])
    assert_close(verts, verts[body.symmetry] * flip, atol=2e-5, rtol=0)


def test_the_mean_pose_stands_before_the_camera(body):
    """Camera axes: the head above (smaller Y), the toes nearer than the heels, the left right."""
    joints = body.joints(body.params(mean_rotmats(), torch.zeros(body.num_betas)))
    at = {name: joints[SMPL_24.index(name)] for name in SMPL_24.names}
    assert at["head"][1] < at["pelvis"][1] - 0.3
    assert at["left_ankle"][1] > at["pelvis"][1] + 0.5
    assert at["left_foot"][2] < at["left_ankle"][2] - 0.05
    assert at["left_shoulder"][0] > at["right_shoulder"][0] + 0.2
    # Arms hang in the mean of the capture; in the T-pose they are level.
    assert at["left_wrist"][1] > at["left_shoulder"][1] + 0.2


def test_the_mean_pose_is_nearer_to_the_motions_than_the_rest_pose():
    poses = torch.cat([m.rotmats[::20, 1:] for m in load_motions("train")])
    from_mean = geodesic_rad(poses, mean_rotmats()[1:].expand_as(poses)).mean()
    from_rest = geodesic_rad(poses, torch.eye(3).expand_as(poses)).mean()
    assert from_mean < 0.8 * from_rest
