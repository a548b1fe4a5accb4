"""Variation of motion: time warps, cuts and joint limits that leave motion what it is."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from flowhmr.body import SMPL_24, mirror_rotmats
from flowhmr.geometry import geodesic_rad, rotmat_from_axis_angle
from flowhmr.synth import Motion, load_motions
from flowhmr.synth.motion import perturb_rotmats
from flowhmr.synth.moves import MOVES, sample_move
from flowhmr.synth.variation import (
    joint_limits,
    limit_rotmats,
    perturb_within_limits,
    splice_time,
    warp_time,
)


def turned(rotmats: torch.Tensor, joint: str, axis_deg: list[float]) -> torch.Tensor:
    turn = rotmat_from_axis_angle(torch.deg2rad(torch.tensor(axis_deg)))
    out = rotmats.clone()
    out[..., SMPL_24.index(joint), :, :] = turn
    return out


def clock(frames: int) -> Motion:
    """A motion that shows its frame number: the pelvis goes one metre, the head a degree."""
    number = torch.arange(frames, dtype=torch.float32)
    axis_angle = torch.zeros(frames, 24, 3)
    axis_angle[:, SMPL_24.index("head"), 1] = torch.deg2rad(number)
    trans = torch.stack([number, 0 * number, 0 * number], -1)
    return Motion(rotmat_from_axis_angle(axis_angle), trans, 30.0, "clock", "tick")


def random_poses(count: int, strength: float = 1.5) -> torch.Tensor:
    poses = torch.cat([m.rotmats for m in load_motions("train")[::9]])[:: 2000 // count]
    rng = np.random.default_rng(0)
    return torch.cat([perturb_rotmats(pose[None], strength, rng) for pose in poses])


def test_a_warped_clock_goes_from_end_to_end_and_never_back():
    speeds = []
    for seed in range(60):
        warped = warp_time(clock(61), np.random.default_rng(seed))
        time = warped.trans_world_m[:, 0]
        assert (float(time[0]), float(time[-1])) == (0.0, 60.0)
        rate = time.diff()
        assert rate.min() > 0.1
        assert rate.max() < 5
        assert rate.diff().abs().max() < 0.5
        # Poses and places are of the same moment.
        head = warped.rotmats[:, SMPL_24.index("head")]
        shown = torch.rad2deg(geodesic_rad(head, torch.eye(3).expand_as(head)))
        assert_close(shown, time, atol=1e-2, rtol=0)
        speeds.append(60 / (len(warped) - 1))
    assert 0.65 < min(speeds) < 0.8
    assert 1.3 < max(speeds) < 1.6


def test_a_warp_keeps_the_first_and_last_pose_and_makes_rotations():
    motion = load_motions("train")[3]
    warped = warp_time(motion, np.random.default_rng(1))
    for end in (0, -1):
        assert_close(warped.rotmats[end], motion.rotmats[end], atol=1e-5, rtol=0)
    eye = torch.eye(3).expand_as(warped.rotmats)
    assert_close(warped.rotmats @ warped.rotmats.mT, eye, atol=1e-5, rtol=0)
    assert (warped.fps, warped.name, warped.action) == (motion.fps, motion.name, motion.action)


def test_no_strength_is_no_warp_and_the_seed_is_the_warp():
    motion = load_motions("train")[3]
    same = warp_time(motion, np.random.default_rng(1), 0.0)
    assert_close(same.rotmats, motion.rotmats, atol=1e-4, rtol=0)
    first, again, other = (warp_time(motion, np.random.default_rng(s)) for s in (1, 1, 2))
    assert torch.equal(first.rotmats, again.rotmats)
    assert first.rotmats.shape != other.rotmats.shape or not torch.equal(
        first.rotmats, other.rotmats
    )


@pytest.mark.parametrize("frames", [1, 2])
def test_the_shortest_motions_can_be_warped(frames):
    assert len(warp_time(clock(frames), np.random.default_rng(0))) >= 2


def test_a_motion_cut_to_itself_goes_on():
    motion = load_motions("train")[0]
    rest = Motion(motion.rotmats[30:], motion.trans_world_m[30:], 30.0, "", "")
    turn = rotmat_from_axis_angle(torch.tensor([0.0, 2.0, 0.0]))
    away = rest.rotmats.clone()
    away[:, 0] = turn @ away[:, 0]
    place = rest.trans_world_m @ turn.T + torch.tensor([3.0, 0.0, -5.0])
    spliced = splice_time(motion, Motion(away, place, 30.0, "", ""), 30)
    assert_close(spliced.rotmats, motion.rotmats, atol=1e-4, rtol=0)
    assert_close(spliced.trans_world_m, motion.trans_world_m, atol=1e-4, rtol=0)


def test_a_cut_has_no_jump_and_ends_as_the_second_motion():
    first = load_motions("train")[0]
    for seed, kind in enumerate(MOVES):
        second = sample_move(np.random.default_rng(seed), 40, kind=kind)
        spliced = splice_time(first, second, 20, 12)
        assert len(spliced) == 60
        assert torch.equal(spliced.rotmats[:20], first.rotmats[:20])
        assert_close(spliced.rotmats[32:, 1:], second.rotmats[12:, 1:])
        # The root only turns about the vertical, the height is the second's own.
        assert_close(spliced.rotmats[32:, 0, 1], second.rotmats[12:, 0, 1], atol=1e-5, rtol=0)
        assert_close(spliced.trans_world_m[32:, 1], second.trans_world_m[12:, 1])
        turns = geodesic_rad(spliced.rotmats[19:32], spliced.rotmats[20:33])
        assert torch.rad2deg(turns).max() < 60
        assert spliced.trans_world_m.diff(dim=0).norm(dim=-1).max() < 0.25


def test_the_second_motion_heads_where_the_first_did():
    first, second = (sample_move(np.random.default_rng(s), 40, kind="gesture") for s in (0, 1))
    spliced = splice_time(first, second, 20, 10)
    ahead = spliced.rotmats[[20, 35], 0][..., ::2, 2]
    assert torch.nn.functional.cosine_similarity(*ahead, dim=0) > 0.9


@pytest.mark.parametrize(("at", "blend"), [(35, 10), (-1, 10), (5, 0), (5, 50)])
def test_cuts_outside_the_motions_are_refused(at, blend):
    with pytest.raises(ValueError, match="expected at \\+ blend within the first"):
        splice_time(clock(40), clock(45), at, blend)


def test_motions_of_two_frame_rates_are_not_cut_together():
    other = clock(40)
    with pytest.raises(ValueError, match="expected the same"):
        splice_time(clock(40), Motion(other.rotmats, other.trans_world_m, 25.0, "", ""), 5)


def test_limits_leave_the_training_capture_untouched():
    capture = torch.cat([m.rotmats for m in load_motions("train")])
    assert torch.equal(limit_rotmats(capture), capture)
    mirrored = mirror_rotmats(capture[::5])
    assert torch.equal(limit_rotmats(mirrored), mirrored)


def test_limits_hardly_touch_moves():
    for kind in MOVES:
        motion = sample_move(np.random.default_rng(77), 31, kind=kind)
        apart = geodesic_rad(limit_rotmats(motion.rotmats), motion.rotmats)
        assert torch.rad2deg(apart).max() < 5, kind


def test_limiting_twice_is_limiting_once():
    poses = torch.cat([random_poses(200, 4.0), _any_rotations(300)])
    once = limit_rotmats(poses)
    assert_close(once @ once.mT, torch.eye(3).expand_as(once), atol=1e-5, rtol=0)
    assert (once != poses).flatten(2).any(-1).float().mean() > 0.3
    assert torch.equal(limit_rotmats(once), once)


def _any_rotations(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return rotmat_from_axis_angle(torch.randn(count, 24, 3, generator=generator))


def test_limits_are_mirror_symmetric_and_leave_the_root():
    poses = random_poses(100, 3.0)
    mirrored = mirror_rotmats(limit_rotmats(mirror_rotmats(poses)))
    # Beyond the slack within which poses are left as they are.
    assert_close(mirrored, limit_rotmats(poses), atol=5e-3, rtol=0)
    upside_down = turned(poses, "pelvis", [170.0, 0.0, 0.0])
    assert torch.equal(limit_rotmats(upside_down)[:, 0], upside_down[:, 0])


@pytest.mark.parametrize(
    ("joint", "axis_deg"),
    [
        ("left_knee", [-30.0, 0.0, 0.0]),
        ("left_knee", [0.0, 0.0, 20.0]),
        ("right_knee", [0.0, 25.0, 0.0]),
        ("left_elbow", [0.0, 30.0, 0.0]),
        ("right_elbow", [0.0, -30.0, 0.0]),
        ("left_elbow", [0.0, 0.0, -30.0]),
        ("left_knee", [175.0, 0.0, 0.0]),
        ("neck", [-90.0, 0.0, 0.0]),
        ("left_hip", [80.0, 0.0, 0.0]),
        ("spine2", [0.0, 60.0, 0.0]),
    ],
)
def test_joints_that_break_are_brought_back(joint, axis_deg):
    pose = turned(torch.eye(3).expand(1, 24, 3, 3), joint, axis_deg)
    limited = limit_rotmats(pose)[:, SMPL_24.index(joint)]
    back = geodesic_rad(limited, pose[:, SMPL_24.index(joint)])
    assert torch.rad2deg(back) > 10
    rest = geodesic_rad(limited, torch.eye(3)[None])
    assert rest < np.radians(np.linalg.norm(axis_deg)) + 1e-3


def test_hinges_never_hyperextend_nor_bend_sideways():
    limited = limit_rotmats(_any_rotations(500))
    for side, sign in (("left", 1), ("right", -1)):
        shank = limited[:, SMPL_24.index(f"{side}_knee")][..., 1]
        assert shank[:, 0].abs().max() < np.sin(np.radians(5))
        assert torch.rad2deg(torch.atan2(-shank[:, 2], shank[:, 1])).amax() < 5
        forearm = sign * limited[:, SMPL_24.index(f"{side}_elbow")][..., 0]
        straight = forearm[forearm[:, 0] > 0]
        assert straight[:, 2].min() > -np.sin(np.radians(6))


def test_limits_do_not_make_motion_jump():
    motion = load_motions("train")[3].rotmats[:60]
    rng = np.random.default_rng(3)
    for _ in range(5):
        free = perturb_rotmats(motion, 1.5, rng)
        limited = limit_rotmats(free)
        before = geodesic_rad(free[:-1], free[1:])
        after = geodesic_rad(limited[:-1], limited[1:])
        assert torch.rad2deg(after - before).max() < 12


def test_perturbing_within_limits_is_both():
    motion = load_motions("train")[3].rotmats[:10]
    got = perturb_within_limits(motion, 1.0, np.random.default_rng(2))
    free = perturb_rotmats(motion, 1.0, np.random.default_rng(2))
    assert torch.equal(got, limit_rotmats(free))
    assert not torch.equal(got, motion)


def test_limits_are_read_once():
    assert joint_limits() is joint_limits()
