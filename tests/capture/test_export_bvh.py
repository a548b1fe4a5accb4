"""BVH: our importer finds the joints where the body has them; gaps and uneven times are filled."""

from dataclasses import replace

import numpy as np
import pytest
import roma
import torch
from captured_people import BODY, FLIP, captured_person, captured_scene, points_up

from flowhmr.body import SMPL_24, BodyIdentityError
from flowhmr.capture import save_bvh
from flowhmr.capture.export.bvh import nearest_zxy_deg
from flowhmr.geometry import geodesic_rad, rotmat_from_axis_angle
from flowhmr.synth import read_bvh
from flowhmr.synth.bvh.files import BvhFile, parse_bvh
from flowhmr.synth.bvh.retarget import forward


def joints_of(file: BvhFile) -> torch.Tensor:
    """Where a file has our joints, in metres, by its own hierarchy."""
    points = forward(file.parents, file.rotmats, file.offsets)[1] / 100
    return points[:, [file.names.index(name) for name in SMPL_24.names]]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_file_has_the_joints_where_the_body_has_them(tmp_path, place):
    scene = captured_scene()
    person = scene.people[place]
    file = parse_bvh(save_bvh(tmp_path, person, scene, BODY))
    rows = person.frame_indices - person.frame_indices[0]
    assert len(file.rotmats) == int(rows[-1]) + 1
    assert file.fps == 25
    expected = points_up(person, BODY.joints(person.params)).double()
    torch.testing.assert_close(joints_of(file)[rows], expected, atol=2e-5, rtol=0)


def test_the_importer_finds_the_same_motion(tmp_path):
    scene = captured_scene()
    person = scene.people[0]
    path = save_bvh(tmp_path / "walk.bvh", person, scene, BODY)
    motion = read_bvh(path, fps=25.0, units_m=0.01)
    rotmats = person.params.rotmats.clone()
    rotmats[:, 0] = FLIP[:, None] * rotmats[:, 0]
    # The importer aims our limbs along theirs, and the person's bones lean otherwise by a degree.
    assert float(torch.rad2deg(geodesic_rad(motion.rotmats, rotmats)).max()) < 1.5
    hips = points_up(person, BODY.joints(person.params))[:, 0]
    torch.testing.assert_close(motion.trans_world_m, hips, atol=0.02, rtol=0)


def test_missing_frames_lie_between_their_neighbours(tmp_path):
    scene = captured_scene()
    person = scene.people[1]
    assert person.frame_indices.tolist() == [0, 1, 4, 5, 7]
    file = parse_bvh(save_bvh(tmp_path, person, scene, BODY))
    joint = file.names.index("left_elbow")
    way = geodesic_rad(file.rotmats[1, joint], file.rotmats[4, joint])
    for frame in (2, 3):
        done = geodesic_rad(file.rotmats[1, joint], file.rotmats[frame, joint])
        assert float(done) == pytest.approx(float(way) * (frame - 1) / 3, abs=1e-5)
    pelvis = joints_of(file)[:, 0]
    torch.testing.assert_close(pelvis[6], (pelvis[5] + pelvis[7]) / 2, atol=2e-6, rtol=0)


def test_uneven_times_become_even(tmp_path):
    scene = captured_scene({0: range(8)})
    person = scene.people[0]
    frames = torch.tensor([0, 1, 2, 3, 8, 9, 10])
    uneven = replace(
        scene,
        people=(replace(captured_person(0, frames), frame_indices=torch.arange(7)),),
        times_s=frames / 25,
    )
    file = parse_bvh(save_bvh(tmp_path, uneven.people[0], uneven, BODY))
    assert len(file.rotmats) == 11
    assert file.fps == 25
    at = points_up(uneven.people[0], BODY.joints(uneven.people[0].params)).double()
    torch.testing.assert_close(joints_of(file)[frames], at, atol=2e-5, rtol=0)
    # Times rounded to milliseconds are even, and the frames stay as they are.
    rounded = replace(scene, times_s=(torch.arange(8) * 1000 / 30).round() / 1000)
    file = parse_bvh(save_bvh(tmp_path, person, rounded, BODY))
    assert file.fps == pytest.approx(30, rel=2e-3)
    at = points_up(person, BODY.joints(person.params)).double()
    torch.testing.assert_close(joints_of(file), at, atol=2e-5, rtol=0)


def test_a_single_picture_is_one_frame(tmp_path):
    scene = captured_scene({5: (0,)}, count=1)
    file = parse_bvh(save_bvh(tmp_path, scene.people[0], scene, BODY))
    assert len(file.rotmats) == 1
    assert file.fps == 30


def test_angles_give_their_rotation_and_do_not_jump():
    turns = torch.linspace(0, 14, 200, dtype=torch.float64)[:, None]
    # A somersault, a cartwheel and a pirouette; a thigh through the pole of the angles.
    ways = [torch.eye(3).double()[axis] * turns for axis in range(3)]
    tilted = rotmat_from_axis_angle(torch.tensor([0.3, -0.2, 0.5]).double())
    rotmats = torch.stack([rotmat_from_axis_angle(way) for way in ways], 1)
    rotmats = torch.cat([rotmats, tilted @ rotmats], 1)
    angles = nearest_zxy_deg(rotmats)
    back = roma.euler_to_rotmat("ZXY", torch.from_numpy(angles), degrees=True)
    torch.testing.assert_close(back, rotmats, atol=1e-6, rtol=0)
    steps = np.abs(np.diff(angles, axis=0)).max((0, 2))
    assert steps[:3] == pytest.approx(np.full(3, np.degrees(14 / 199)), rel=1e-4)
    assert steps.max() < 60


def test_a_folder_gets_a_file_a_person(tmp_path):
    scene = captured_scene()
    paths = [save_bvh(tmp_path / "bvh", person, scene, BODY) for person in scene.people]
    assert [path.name for path in paths] == ["person-0.bvh", "person-3.bvh", "person-7.bvh"]
    assert sorted(tmp_path.rglob("*.*")) == sorted(paths)


def test_end_sites_lie_beyond_their_joints(tmp_path):
    scene = captured_scene()
    file = parse_bvh(save_bvh(tmp_path, scene.people[0], scene, BODY))
    ends = [place for place, name in enumerate(file.names) if not name]
    assert {file.names[file.parents[e]] for e in ends} == {
        "head", "left_hand", "right_hand", "left_foot", "right_foot",
    }  # fmt: skip
    lengths_m = file.offsets[0, ends].norm(dim=-1) / 100
    assert 0.04 < float(lengths_m.min()) < float(lengths_m.max()) < 0.3


def test_what_does_not_belong_together_is_refused(tmp_path):
    scene = captured_scene()
    person = scene.people[0]
    other = replace(person, params=replace(person.params, body_id="smpl:0123"))
    with pytest.raises(BodyIdentityError, match="person 0: got body smpl:0123"):
        save_bvh(tmp_path, other, scene, BODY)
    with pytest.raises(ValueError, match=r"got frame 7; expected frames .* video of 3; give the"):
        save_bvh(tmp_path, person, captured_scene({}, 3), BODY)
    still = replace(scene, times_s=torch.zeros(8))
    with pytest.raises(ValueError, match="got times of frames that do not increase; expected"):
        save_bvh(tmp_path, person, still, BODY)
    assert not list(tmp_path.iterdir())
