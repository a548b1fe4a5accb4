"""Files without rows of people in pictures: what is said of them, and the first thing wrong."""

import json

import numpy as np
import pytest
from damage import bvh

from flowhmr.data import FieldError, check_other, open_field, write_video
from flowhmr.data.field.kinetics import listed, videos_of
from smpl_files import smpl_arrays


def recording(seed=0, fps=120.0):
    rng = np.random.default_rng(seed)
    return {
        "poses": rng.normal(0, 0.2, (240, 156)),
        "trans": rng.normal(size=(240, 3)),
        "betas": np.zeros(16),
        "gender": np.array("male"),
        "mocap_framerate": np.array(fps),
    }


@pytest.fixture
def amass(tmp_path):
    (tmp_path / "CMU").mkdir()
    for i in range(3):
        np.savez(tmp_path / "CMU" / f"0{i}_poses.npz", **recording(i))
    np.savez(tmp_path / "CMU" / "shape.npz", betas=np.zeros(16))
    return tmp_path


def test_amass(amass):
    found = check_other("amass", amass)
    assert found.problem is None
    assert "3 of 3 recordings read; 720 frames, 0.00167 hours" in found.lines()
    assert "genders: male; betas: 0 to 0" in found.lines()
    assert found.lines()[1].endswith("3 shorter than 60 frames at 25 a second")
    np.savez(amass / "CMU" / "00_poses.npz", **(recording() | {"trans": np.zeros((2, 3))}))
    found = check_other("amass", amass)
    assert "00_poses.npz: trans: got float64 of shape (2, 3)" in found.problem
    assert "2 of 3 recordings read" in found.said[0]


BVH = """HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
}
MOTION
"""


def test_bvh_that_breaks_off(tmp_path):
    (tmp_path / "a.bvh").write_text(BVH)
    assert "line 0: got ''; expected 'Frames:'" in check_other("bvh", tmp_path).problem


def test_bvh_whose_frames_are_years_apart(tmp_path):
    """Interpolated, they would fill the memory."""
    (tmp_path / "a.bvh").write_bytes(bvh().replace(b"Time: 0.0333333", b"Time: 9e9"))
    assert "got 9e+09 seconds a frame; expected at most 10" in check_other("bvh", tmp_path).problem


def test_openpose(tmp_path):
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.uniform(100, 300, (25, 2)), np.ones((25, 1))], 1)
    for frame in range(4):
        people = [{"pose_keypoints_2d": points.reshape(-1).tolist()}]
        path = tmp_path / f"video_{frame:012d}_keypoints.json"
        path.write_text(json.dumps({"people": people}))
    found = check_other("openpose", tmp_path)
    assert found.problem is None
    assert found.said[0] == "1 people in 4 frames, 0 to 3"
    assert "seen keypoints (COCO's 17): 68" in found.said[1]
    (tmp_path / "video_000000000004_keypoints.json").write_text("{")
    with pytest.raises(ValueError, match=r"_keypoints\.json: got"):
        check_other("openpose", tmp_path)


class TestBody:
    def test_models_and_regressors(self, tmp_path):
        arrays = smpl_arrays()
        np.savez(tmp_path / "SMPL_NEUTRAL.npz", **arrays)
        found = check_other("smpl", tmp_path)
        assert found.problem is None
        assert "SMPL_NEUTRAL.npz: smpl:" in found.said[0]
        assert "6890 vertices, 13776 triangles, 10 betas used" in found.said[0]
        np.savez(tmp_path / "SMPL_X.npz", **(arrays | {"v_template": np.zeros((10475, 3))}))
        assert "got SMPL-X's file" in check_other("smpl", tmp_path).problem
        rows = arrays["J_regressor"][[1, 2, 12, 15, 0, 9, 3, 12, 15]]
        extra = tmp_path / "J_regressor_extra.npy"
        np.save(extra, rows[[1, 0, 2, 3, 4, 5, 6, 7, 8]])
        beside = tmp_path / "SMPL_NEUTRAL.npz"
        found = check_other("regressor", extra, beside)
        assert found.problem is None
        assert found.said[0].startswith("spin-extra-9 of smpl:")
        np.save(extra, 2 * rows[[1, 0, 2, 3, 4, 5, 6, 7, 8]])
        assert "do not sum to one" in check_other("regressor", extra, beside).problem
        np.save(extra, rows)  # left before right
        with pytest.raises(ValueError, match="on the right of the template"):
            check_other("regressor", extra, beside)
        np.save(extra, rows[:4])
        with pytest.raises(FieldError, match=r"got \(4, 6890\); expected 17 rows"):
            check_other("regressor", extra, beside)
        with pytest.raises(FieldError, match="got no body; expected SMPL's file"):
            check_other("regressor", extra)


class TestKinetics:
    @pytest.fixture
    def folder(self, tmp_path):
        frames = [np.full((48, 64, 3), 90, np.uint8)] * 4
        for name in ("juggling balls/a_-bcdefghi_000010_000020", "yoga/whole"):
            path = tmp_path / "videos" / "train" / f"{name}.mp4"
            path.parent.mkdir(parents=True)
            write_video(path, frames, 25.0)
        (tmp_path / "videos" / "train" / "yoga" / "notes.txt").write_text("x")
        return tmp_path / "videos"

    def test_names(self, folder):
        """A source's identity may have "_" in it: the seconds are the last two numbers."""
        first, second = videos_of(folder)
        assert (first.label, first.source, first.start_s) == ("juggling balls", "a_-bcdefghi", 10)
        assert (second.label, second.source, second.start_s) == ("yoga", "whole", 0)

    def test_check(self, folder, tmp_path):
        table = tmp_path / "kinetics.csv"
        head = "label,youtube_id,time_start,time_end,split\n"
        table.write_text(head + "juggling balls,a_-bcdefghi,10,20,train\nyoga,other,0,10,train\n")
        found = check_other("kinetics", folder, table)
        assert found.problem is None
        assert found.said[0].startswith("2 of 2 videos open, of 2 classes; 8 frames")
        assert found.said[2] == "1 of the 2 videos that kinetics.csv lists are there"
        table.write_text(head + "yoga,a_-bcdefghi,10,20,train\n")
        problem = check_other("kinetics", folder, table).problem
        assert "got class 'juggling balls'; expected 'yoga'" in problem
        (folder / "train" / "yoga" / "bad.mp4").write_bytes(b"x" * 99)
        assert "bad.mp4: got" in check_other("kinetics", folder).problem

    def test_other_folders_are_refused(self, tmp_path):
        with pytest.raises(FieldError, match="got no video below it"):
            check_other("kinetics", tmp_path)
        (tmp_path / "a.csv").write_text("x,y\n1,2\n")
        with pytest.raises(FieldError, match="got no column label, time_start, youtube_id"):
            listed(tmp_path / "a.csv")


def test_what_has_no_rows_cannot_be_converted(amass):
    with pytest.raises(FieldError, match=r"'amass', which has no rows.*clips\.motion\.bvh"):
        open_field("amass", amass)
    with pytest.raises(FieldError, match="kind: got 'spin'"):
        check_other("spin", amass)
    with pytest.raises(FieldError, match="got a second file for amass"):
        check_other("amass", amass, amass)
    with pytest.raises(FieldError, match="got nothing there; expected AMASS's folder"):
        check_other("amass", amass / "none")
