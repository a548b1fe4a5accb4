"""Procedural motion: smooth, on the floor, and what its families say."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from flowhmr.body import SMPL_24, BodyModel
from flowhmr.geometry import geodesic_rad
from flowhmr.synth import Motion, load_motions
from flowhmr.synth.moves import MOVES, sample_move
from flowhmr.synth.moves.drafts import ARMS
from flowhmr.synth.moves.posing import plant_foot, pose

FLOOR = ("cross_legged", "long_sit", "lie_back", "lie_front", "lie_side")
SEEDS = (0, 1)


def move(kind: str, seed: int, frames: int = 31, fps: float = 30.0) -> Motion:
    return sample_move(np.random.default_rng(seed), frames, fps, kind)


def joints_m(body: BodyModel, motion: Motion) -> torch.Tensor:
    params = body.params(motion.rotmats, torch.zeros(len(motion), body.num_betas))
    return body.joints(params) + motion.trans_world_m[:, None]


def lowest_m(body: BodyModel, motion: Motion) -> torch.Tensor:
    params = body.params(motion.rotmats, torch.zeros(len(motion), body.num_betas))
    return body.mesh(params).verts[..., 1].amin(1) + motion.trans_world_m[:, 1]


def at(joints: torch.Tensor, name: str) -> torch.Tensor:
    return joints[:, SMPL_24.index(name)]


def bend_deg(motion: Motion, name: str) -> torch.Tensor:
    rotmats = motion.rotmats[:, SMPL_24.index(name)]
    return torch.rad2deg(geodesic_rad(rotmats, torch.eye(3).expand_as(rotmats)))


@pytest.mark.parametrize("kind", MOVES)
def test_moves_are_smooth_rotations_of_the_length_asked_for(kind, body):
    for seed in SEEDS:
        motion = move(kind, seed, 45)
        rotmats = motion.rotmats
        assert (len(motion), motion.fps, motion.action) == (45, 30.0, kind)
        assert rotmats.dtype == motion.trans_world_m.dtype == torch.float32
        eye = torch.eye(3).expand_as(rotmats)
        assert_close(rotmats @ rotmats.mT, eye, atol=1e-5, rtol=0)
        assert_close(torch.linalg.det(rotmats), torch.ones(45, 24), atol=1e-5, rtol=0)
        turns = rotmats[:-1].mT @ rotmats[1:]
        eye = torch.eye(3).expand_as(turns)
        # The capture's own percentiles: 39 degrees a frame in one motion of ten.
        assert torch.rad2deg(geodesic_rad(turns, eye)).max() < 45
        assert torch.rad2deg(geodesic_rad(turns[1:], turns[:-1])).max() < 35
        velocity = joints_m(body, motion).diff(dim=0) * 30
        assert velocity.norm(dim=-1).max() < 12
        assert (velocity.diff(dim=0) * 30).norm(dim=-1).max() < 150


@pytest.mark.parametrize("kind", MOVES)
def test_moves_stand_or_lie_on_the_floor(kind, body):
    for seed in SEEDS:
        lowest = lowest_m(body, move(kind, seed))
        assert lowest.min() > -1e-3
        if kind != "run":
            assert lowest.max() < 1e-3


def test_runners_fly_between_steps_and_their_feet_stand_still_on_the_floor(body):
    for seed in range(6):
        motion = move("run", seed, 61)
        lowest, joints = lowest_m(body, motion), joints_m(body, motion)
        assert 0.05 < (lowest > 0.005).float().mean() < 0.7
        assert lowest.max() < 0.15
        travel = motion.trans_world_m[-1] - motion.trans_world_m[0]
        assert 1.0 < travel.norm() / 2 < 5.0
        balls = joints[:, list(SMPL_24.indices_of(("left_foot", "right_foot")))]
        speed = (balls.diff(dim=0)[..., ::2] * 30).norm(dim=-1)
        down = (balls[..., 1] < 0.05) & (lowest < 0.002)[:, None]
        standing = speed[down[:-1] & down[1:]]
        assert standing.median() < 0.15 * travel.norm() / 2


def test_a_move_is_its_seed():
    first, again, other = (sample_move(np.random.default_rng(seed), 20) for seed in (4, 4, 5))
    assert torch.equal(first.rotmats, again.rotmats)
    assert torch.equal(first.trans_world_m, again.trans_world_m)
    assert first.action == again.action
    assert not torch.equal(first.rotmats, other.rotmats)


@pytest.mark.slow
def test_all_families_are_drawn_and_seen_from_all_sides():
    rng = np.random.default_rng(0)
    motions = [sample_move(rng, 2) for _ in range(150)]
    assert {m.action for m in motions} == set(MOVES)
    ahead = torch.stack([m.rotmats[0, 0, :, 2] for m in motions])
    assert (ahead[:, 2] > 0).any()
    assert (ahead[:, 2] < 0).any()


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("kind", MOVES)
def test_moves_may_be_as_short_as_a_still(kind, frames):
    assert bool(move(kind, 0, frames).rotmats.isfinite().all())


def test_another_frame_rate_changes_the_number_of_frames_not_the_speed(body):
    slow, fast = move("squat", 1, 30, 30.0), move("squat", 1, 60, 60.0)
    speeds = [(joints_m(body, m).diff(dim=0) * m.fps).norm(dim=-1).mean() for m in (slow, fast)]
    assert 0.5 < speeds[0] / speeds[1] < 2


def test_unknown_families_and_empty_moves_are_refused():
    with pytest.raises(ValueError, match="got 'fly'; expected one of gesture"):
        move("fly", 0)
    with pytest.raises(ValueError, match="got 0 frames"):
        move("sit", 0, 0)


@pytest.mark.parametrize("kind", FLOOR)
def test_on_the_floor_the_pelvis_is_lower_than_the_capture_ever_has_it_for_long(kind):
    for seed in range(5):
        assert move(kind, seed).trans_world_m[:, 1].max() < 0.4
    heights = torch.cat([m.trans_world_m[:, 1] for m in load_motions("train")])
    assert (heights < 0.4).float().mean() < 0.02


def test_lying_bodies_are_level_and_face_where_they_should():
    for kind, axis, low, high in (
        ("lie_back", 2, 0.9, 1.0),
        ("lie_front", 2, -1.0, -0.9),
        ("lie_side", 2, -0.5, 0.5),
    ):
        root = move(kind, 0).rotmats[:, 0]
        assert root[:, 1, 1].abs().max() < 0.2
        assert bool(((root[:, 1, axis] >= low) & (root[:, 1, axis] <= high)).all()), kind


def test_sitting_bends_hips_and_the_standing_leg_s_knee():
    for seed in range(8):
        motion = move("sit", seed)
        knees = torch.stack([bend_deg(motion, f"{side}_knee") for side in ("left", "right")])
        assert knees.min() > 60
        assert 0.4 < motion.trans_world_m[:, 1].mean() < 0.65


def test_who_stands_up_rises_by_a_leg():
    heights = [move("sit_stand", seed, 61).trans_world_m[:, 1] for seed in range(8)]
    assert all(h.max() - h.min() > 0.25 for h in heights)
    assert any(h[0] < h[-1] for h in heights)
    assert any(h[0] > h[-1] for h in heights)


def test_overhead_a_wrist_is_above_the_head(body):
    for seed in range(6):
        joints = joints_m(body, move("overhead", seed))
        wrists = torch.maximum(at(joints, "left_wrist")[:, 1], at(joints, "right_wrist")[:, 1])
        assert (wrists - at(joints, "head")[:, 1]).min() > 0
    # Rare in the capture.
    joints = torch.cat([joints_m(body, m)[::10] for m in load_motions("train")])
    wrists = torch.maximum(at(joints, "left_wrist")[:, 1], at(joints, "right_wrist")[:, 1])
    assert (wrists > at(joints, "head")[:, 1]).float().mean() < 0.2


@pytest.mark.parametrize("kind", ["crawl", "push_up"])
def test_hands_carry(kind, body):
    for seed in SEEDS:
        joints = joints_m(body, move(kind, seed))
        for side in ("left", "right"):
            assert at(joints, f"{side}_wrist")[:, 1].min() < 0.12
        up = at(joints, "neck") - at(joints, "pelvis")
        assert (up[:, 1] / up.norm(dim=-1)).max() < 0.5


def test_kneeling_knees_are_on_the_floor(body):
    for seed in SEEDS:
        joints = joints_m(body, move("kneel", seed))
        assert max(float(at(joints, f"{s}_knee")[:, 1].max()) for s in ("left", "right")) < 0.12
        joints = joints_m(body, move("kneel_one", seed))
        assert min(float(at(joints, f"{s}_knee")[:, 1].max()) for s in ("left", "right")) < 0.12


def test_kicks_and_high_knees_lift_a_foot(body):
    for kind, height in (("kick", 0.25), ("high_knees", 0.2)):
        for seed in SEEDS:
            joints = joints_m(body, move(kind, seed, 75))
            feet = [at(joints, f"{side}_ankle")[:, 1].max() for side in ("left", "right")]
            assert max(feet) > height


@pytest.mark.parametrize("kind", MOVES)
def test_knees_and_elbows_only_bend_the_way_they_do(kind):
    for seed in SEEDS:
        rotmats = move(kind, seed).rotmats
        for side, sign in (("left", 1), ("right", -1)):
            shank = rotmats[:, SMPL_24.index(f"{side}_knee")][..., 1]
            # The shank, down in the rest pose, goes back and not to the side.
            assert shank[:, 0].abs().max() < 1e-3
            assert shank[:, 2].min() > -1e-3
            forearm = sign * rotmats[:, SMPL_24.index(f"{side}_elbow")][..., 0]
            # The forearm goes ahead and up of the arm held out sideways, palm down.
            across = torch.tensor([0.0, -np.cos(np.pi / 6), 0.5], dtype=torch.float32)
            assert (forearm @ across).abs().max() < 1e-3
            assert forearm[:, 2].min() > -1e-3


def test_angles_mean_what_they_say(body):
    """Each angle alone moves the named part the way it says, on both sides alike."""

    def moved(angle: str, part: str, **more: float) -> torch.Tensor:
        rotmats = torch.from_numpy(pose({angle: 40.0, **more}, 1)).float()
        joints = body.joints(body.params(rotmats, torch.zeros(1, body.num_betas)))
        hanging = torch.from_numpy(pose(more, 1)).float()
        rest = body.joints(body.params(hanging, torch.zeros(1, body.num_betas)))
        return (joints - rest)[0, SMPL_24.index(part)]

    for side, out in (("left", 1), ("right", -1)):
        assert moved(f"{side}_hip.flex", f"{side}_knee")[2] > 0.1
        assert moved(f"{side}_hip.abd", f"{side}_knee")[0] * out > 0.1
        assert moved(f"{side}_hip.twist", f"{side}_foot")[0] * out > 0.05
        assert moved(f"{side}_knee.flex", f"{side}_ankle")[2] < -0.1
        assert moved(f"{side}_ankle.flex", f"{side}_foot")[1] > 0.03
        assert moved(f"{side}_shoulder.flex", f"{side}_elbow")[2] > 0.1
        assert moved(f"{side}_shoulder.abd", f"{side}_elbow")[0] * out > 0.1
        assert moved(f"{side}_elbow.flex", f"{side}_wrist")[2] > 0.1
        bent = {f"{side}_elbow.flex": 90.0}
        assert moved(f"{side}_shoulder.twist", f"{side}_wrist", **bent)[0] * out < -0.1
    assert moved("spine.flex", "head")[2] > 0.1
    assert moved("spine.bend", "head")[0] > 0.1
    assert moved("spine.twist", "left_shoulder")[2] < -0.05
    with pytest.raises(KeyError, match=r"left_knee.abd"):
        pose({"left_knee.abd": 1.0}, 1)


def test_arm_poses_are_ranges():
    assert all(low <= high for arm in ARMS.values() for low, high in arm.values())


def test_planted_feet_come_to_their_place(body):
    rotmats = pose({"root.pitch": 20.0}, 2)
    ball_m = np.array([[0.2, -0.8, 0.3], [0.15, -0.85, 0.2]])
    zeros = np.zeros(2)
    plant_foot(rotmats, "left", ball_m, zeros, zeros, np.array([0.0, 0.0, 1.0]))
    params = body.params(torch.from_numpy(rotmats).float(), torch.zeros(2, body.num_betas))
    foot = at(body.joints(params), "left_foot")
    assert_close(foot, torch.from_numpy(ball_m).float(), atol=2e-3, rtol=0)
