"""Our own motion file: every bit comes back; what cannot be used is refused."""

from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
import torch
from captured_people import BODY, FRAMES, captured_scene

from flowhmr.body import BodyIdentityError
from flowhmr.capture import MotionFileError, load_motion, save_motion
from flowhmr.geometry import rotmat_from_axis_angle
from flowhmr.records import SceneMotion


def assert_same(got: object, expected: object) -> None:
    """Equal to the last bit, types of numbers included."""
    assert type(got) is type(expected)
    if isinstance(expected, torch.Tensor) and isinstance(got, torch.Tensor):
        assert got.dtype == expected.dtype
        assert torch.equal(got, expected)
    elif isinstance(expected, tuple) and isinstance(got, tuple):
        assert len(got) == len(expected)
        for one, other in zip(got, expected):
            assert_same(one, other)
    elif is_dataclass(expected):
        for field in fields(expected):
            assert_same(getattr(got, field.name), getattr(expected, field.name))
    else:
        assert got == expected


def with_person(scene: SceneMotion, **changes: object) -> SceneMotion:
    """The scene with its first person changed."""
    return replace(scene, people=(replace(scene.people[0], **changes), *scene.people[1:]))


def test_what_is_saved_comes_back_to_the_last_bit(tmp_path):
    scene = captured_scene()
    assert_same(load_motion(save_motion(tmp_path / "new" / "motion.npz", scene, BODY)), scene)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["motion.npz"]


def test_types_of_numbers_come_back(tmp_path):
    scene = replace(captured_scene(), times_s=torch.arange(8, dtype=torch.float64) / 25)
    assert_same(load_motion(save_motion(tmp_path / "motion.npz", scene, BODY)), scene)


def test_nobody_comes_back_too(tmp_path):
    scene = captured_scene({}, count=1)
    assert_same(load_motion(save_motion(tmp_path / "motion.npz", scene, BODY)), scene)


def test_the_columns_for_users_say_the_same_as_the_record(tmp_path):
    scene = captured_scene()
    path = save_motion(tmp_path / "motion.npz", scene, BODY)
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files if "/" in key}
    for person in scene.people:
        mine = {k.split("/")[1]: v for k, v in arrays.items() if k.startswith(f"{person.person}/")}
        t = len(FRAMES[person.person])
        turned = rotmat_from_axis_angle(mine["pose"].reshape(t, 24, 3))
        torch.testing.assert_close(turned, person.params.rotmats, atol=1e-5, rtol=0)
        assert mine["betas"].shape == (BODY.num_betas,)
        joints_m = BODY.joints(person.params) + person.translation_m[:, None]
        torch.testing.assert_close(mine["joints_m"], joints_m)
        in_image = 600 * joints_m[..., :2] / joints_m[..., 2:] + torch.tensor([320.0, 240.0])
        torch.testing.assert_close(mine["joints_px"], in_image)


def test_joints_behind_the_camera_have_no_place_in_the_image(tmp_path):
    scene = captured_scene()
    behind = scene.people[0].translation_m - torch.tensor([0.0, 0.0, 9.0])
    path = save_motion(tmp_path / "motion.npz", with_person(scene, translation_m=behind), BODY)
    with np.load(path, allow_pickle=False) as file:
        assert np.isnan(file["0/joints_px"]).all()
        assert np.isfinite(file["3/joints_px"]).all()


def test_what_no_file_should_hold_is_refused(tmp_path):
    scene, path = captured_scene(), tmp_path / "motion.npz"
    params, translation_m = scene.people[0].params, scene.people[0].translation_m.clone()
    other = replace(params, body_id="smpl:0123")
    with pytest.raises(BodyIdentityError, match="export of person 0: got body smpl:0123"):
        save_motion(path, with_person(scene, params=other), BODY)
    translation_m[5] = torch.nan
    with pytest.raises(ValueError, match=r"got translation_m .* not finite in frame 5; expected"):
        save_motion(path, with_person(scene, translation_m=translation_m), BODY)
    changing = replace(params, betas=params.betas + torch.arange(8.0)[:, None])
    with pytest.raises(ValueError, match="got betas that change along the video; expected one"):
        save_motion(path, with_person(scene, params=changing), BODY)
    with pytest.raises(ValueError, match="got times_s that are not finite"):
        save_motion(path, replace(scene, times_s=scene.times_s * torch.inf), BODY)
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path, monkeypatch):
    path = save_motion(tmp_path / "motion.npz", captured_scene(), BODY)
    old = path.read_bytes()

    def full(self, content):
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError("No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        save_motion(path, captured_scene(count=9), BODY)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "motion.npz"
    with pytest.raises(
        MotionFileError, match=r"motion.npz: got No such file .*; expected a motion"
    ):
        load_motion(path)
    path.write_text("no npz")
    with pytest.raises(MotionFileError, match="got a file that is no npz, or a damaged one"):
        load_motion(path)
    np.savez(path, body_id="open-body:12", format=1)
    with pytest.raises(MotionFileError, match=r"format '1' .*; expected 'flowhmr-motion'"):
        load_motion(path)
    np.savez(path, format="flowhmr-motion", version=2)
    with pytest.raises(MotionFileError, match="got version 2; expected 1; the file comes from"):
        load_motion(path)
    np.savez(path, format=np.array(["flowhmr-motion"], dtype=object), version=1)
    with pytest.raises(MotionFileError, match=r"damaged one .*allow_pickle"):
        load_motion(path)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_file_cut_short_or_with_wrong_bytes_is_refused(tmp_path, share):
    path = save_motion(tmp_path / "motion.npz", captured_scene(), BODY)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(MotionFileError, match="damaged one"):
        load_motion(path)
    middle = whole.index(b"rotmats") + 2000
    path.write_bytes(whole[:middle] + bytes(64) + whole[middle + 64 :])
    with pytest.raises(MotionFileError, match="damaged one"):
        load_motion(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"0/rotmats": None}, "got no '0/rotmats'; expected it beside format"),
        (
            {"0/rotmats": np.zeros((8, 23, 3, 3))},
            r"'0/rotmats' of shape \[8, 23, 3, 3\] .* \[8, 24",
        ),
        ({"0/confidence": np.zeros(7)}, r"'0/confidence' of shape \[7\] .*; expected \[8\]"),
        ({"times_s": np.zeros((8, 1))}, r"of shape \[8, 1\] .* \['frames of the video'\]"),
        ({"0/frame": np.zeros(8)}, "'0/frame' .* type float64; expected .* kind 'i'"),
        ({"times_s": np.full(8, np.nan)}, "got 'times_s' with numbers that are not finite"),
        ({"times_s": np.zeros(3)}, "got frame 7 of person 0; expected frames of a video of 3"),
        ({"people": np.array([0, 0])}, r"got people \[0, 0\]; expected each number once"),
        ({"0/frame": np.arange(8)[::-1]}, "expected at least one, increasing"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, change, message):
    path = save_motion(tmp_path / "motion.npz", captured_scene(), BODY)
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files} | change
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    with pytest.raises(MotionFileError, match=message):
        load_motion(path)
