"""AMASS's recordings: what was written by their rules is read back in ours; traps are sprung."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from flowhmr.body import SMPL_24
from flowhmr.synth import AmassError, MotionConfig, amass_files, load_amass, read_amass
from flowhmr.synth.actors import _recordings

UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
"""From our world (y up) to AMASS's (z up)."""


def truth(count=9, seed=0):
    """SMPL's rotations and places in a world with y up, some of the fingers'."""
    rng = np.random.default_rng(seed)
    first = rng.normal(0, 0.4, (24, 3))
    rotvecs = first + 0.02 * rng.normal(size=(count, 24, 3)).cumsum(0)
    trans = np.cumsum(rng.normal(0, 0.02, (count, 3)), 0)
    return rotvecs, trans + np.array([0, 0.9, 0])


def amass(rotvecs, trans, fps=60.0, joints=52, rate="mocap_framerate"):
    """A file of the layout: hands are the index fingers' first joints, others bend otherwise."""
    poses = np.random.default_rng(1).normal(0, 0.3, (len(rotvecs), joints, 3))
    poses[:, :22] = rotvecs[:, :22]
    poses[:, {52: [22, 37], 55: [25, 40]}[joints]] = rotvecs[:, 22:]
    turned = UP @ Rotation.from_rotvec(rotvecs[:, 0]).as_matrix()
    poses[:, 0] = Rotation.from_matrix(turned).as_rotvec()
    return {
        "poses": poses.reshape(len(poses), -1),
        "trans": trans @ UP.T,
        "betas": np.arange(16) / 16,
        "dmpls": np.zeros((len(poses), 8)),
        "gender": np.array(b"female"),
        rate: np.array(fps),
    }


@pytest.fixture
def saved(tmp_path):
    def saved(name, **arrays):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **arrays)
        return path

    return saved


def rotmats(rotvecs):
    return Rotation.from_rotvec(rotvecs.reshape(-1, 3)).as_matrix().reshape(-1, 24, 3, 3)


@pytest.mark.parametrize(("joints", "rate"), [(52, "mocap_framerate"), (55, "mocap_frame_rate")])
def test_round_trip(saved, joints, rate):
    rotvecs, trans = truth()
    path = saved("CMU/01/01_02_poses.npz", **amass(rotvecs, trans, 60, joints, rate))
    motion = read_amass(path, fps=60.0)
    assert np.abs(motion.rotmats.numpy() - rotmats(rotvecs)).max() < 1e-5
    assert np.abs(motion.trans_world_m.numpy() - trans).max() < 1e-5
    assert (motion.fps, motion.name) == (60, "01_02")
    file = load_amass(path)
    assert (file.gender, file.fps, len(file.betas)) == ("female", 60, 16)


def test_the_world_is_upright_with_y(saved):
    """AMASS's has z up: a person who stands there would lie here."""
    rotvecs, trans = truth()
    rotvecs[:, 0] = 0
    motion = read_amass(saved("a.npz", **amass(rotvecs, trans)), fps=60.0)
    assert torch.allclose(motion.rotmats[:, 0, :, 1], torch.tensor([0.0, 1, 0]), atol=1e-6)
    assert float(motion.trans_world_m[0, 1]) == pytest.approx(0.9, abs=0.1)


def test_the_right_hand_is_not_the_left_ones_next_finger_joint(saved):
    rotvecs, trans = truth()
    motion = read_amass(saved("a.npz", **amass(rotvecs, trans)), fps=60.0)
    right = SMPL_24.index("right_hand")
    assert np.abs(motion.rotmats[:, right].numpy() - rotmats(rotvecs)[:, right]).max() < 1e-5


def test_another_rate(saved):
    """Every second frame of twice the rate; between frames on the arc."""
    rotvecs, trans = truth()
    path = saved("a.npz", **amass(rotvecs, trans, fps=120))
    half = read_amass(path, fps=60.0)
    assert len(half) == 5
    assert np.abs(half.rotmats.numpy() - rotmats(rotvecs)[::2]).max() < 1e-5
    assert np.abs(half.trans_world_m.numpy() - trans[::2]).max() < 1e-5
    twice = read_amass(path, fps=240.0)
    assert len(twice) == 17
    assert np.abs(twice.trans_world_m[1].numpy() - trans[:2].mean(0)).max() < 1e-5


def test_folders_have_files_that_are_no_recordings(saved, tmp_path):
    rotvecs, trans = truth(60)
    saved("KIT/3/walk_poses.npz", **amass(rotvecs, trans, 30))
    saved("KIT/3/shape.npz", betas=np.zeros(16), gender=np.array("male"))
    saved("KIT/3/neutral_stagei.npz", betas=np.zeros(16))
    assert [path.name for path in amass_files(tmp_path)] == ["walk_poses.npz"]
    (motion,) = _recordings(MotionConfig(bvh=tmp_path))
    assert (len(motion), motion.action) == (60, "walk")
    with pytest.raises(AmassError, match=r"got no \.npz of a recording"):
        amass_files(tmp_path / "none")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"poses": np.zeros((3, 72))}, r"poses: got float64 of shape \(3, 72\)"),
        ({"poses": np.zeros((0, 156))}, "poses: got float64 of shape"),
        ({"poses": np.full((3, 156), np.nan)}, "poses: got a number that is not finite"),
        ({"trans": np.zeros((4, 3))}, r"trans: got float64 of shape \(4, 3\)"),
        ({"mocap_framerate": np.array(0.0)}, "mocap_framerate: got 0.0; expected 1 to 1000"),
        ({"gender": np.array("x")}, "gender: got 'x'"),
        ({"betas": np.array(list("ab"))}, "betas: got <U1"),
    ],
)
def test_what_cannot_be_is_refused(saved, change, complaint):
    path = saved("bad.npz", **(amass(*truth(3)) | change))
    with pytest.raises(AmassError, match=rf"bad.npz: {complaint}"):
        load_amass(path)


def test_other_files_are_refused(saved, tmp_path):
    with pytest.raises(AmassError, match="got no betas, gender, poses, trans"):
        load_amass(saved("a.npz", x=np.zeros(3)))
    (tmp_path / "b.npz").write_bytes(b"<html>")
    with pytest.raises(AmassError, match="got a web page"):
        load_amass(tmp_path / "b.npz")
    with pytest.raises(AmassError, match="fps: got 0"):
        read_amass(tmp_path / "b.npz", fps=0.0)
