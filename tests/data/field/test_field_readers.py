"""The field's data sets: what was written by their rules is read back in ours; traps are sprung."""

import numpy as np
import pytest
import torch

from field_files import (
    coco,
    coco_points,
    eft,
    human36m,
    in_file,
    joined,
    joints_28,
    json_bytes,
    mat_bytes,
    mpii3d,
    npz_bytes,
    penn,
    spin_arrays,
    threedpw,
    threedpw_bytes,
    truth,
    vibe,
    vibe_bytes,
    write_human36m,
    write_mpii3d_test,
)
from flowhmr.body import COCO_17, H36M_14, H36M_17, SPIN_24, SPIN_49, SPIN_EXTRA_9
from flowhmr.cameras import crop_from_box, project_weak
from flowhmr.data.field.coco import CocoSet
from flowhmr.data.field.eft import EftSet
from flowhmr.data.field.frames import FieldError
from flowhmr.data.field.h36m import Human36mSet
from flowhmr.data.field.mpii3d import MPII3D_17, MPII3D_28, Mpii3dSet
from flowhmr.data.field.penn import PENN_13, PennSet
from flowhmr.data.field.spin import SpinSet
from flowhmr.data.field.threedpw import ThreeDpwSet
from flowhmr.data.field.vibe import VibeSet
from flowhmr.data.keypoints import OPENPOSE_18
from joblib_files import joblib_bytes
from python2_pickles import python2_pickle


def near(found, expected, within=1e-5):
    """Equal to 1e-5 of what the numbers are large as (they are stored as float32)."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    large = max(1.0, np.abs(expected).max())
    return bool(np.abs(found - expected).max() <= within * large)


@pytest.fixture
def saved(tmp_path):
    def saved(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return saved


def everything(field):
    return field.read(np.arange(len(field)))


T = truth()


class TestSpin:
    @pytest.fixture
    def arrays(self):
        return spin_arrays(T)

    @pytest.mark.parametrize("packed", [True, False])
    def test_round_trip(self, saved, arrays, packed):
        found = everything(SpinSet(saved("coco.npz", npz_bytes(arrays, packed))))
        assert near(found.rotmats, T.rotmats)
        assert near(found.betas, T.betas)
        assert found.has_body.tolist() == [False, True, False, True, False]
        assert found.keypoint_set == SPIN_49
        assert near(found.keypoints_px, T.keypoints_px)
        assert found.joint_set == SPIN_24
        assert near(found.joints_cam[..., :3], T.joints_cam - T.joints_cam[:, :1])
        assert found.genders[:2] == ("male", "female")
        assert found.images[1] == "train2014/COCO_000000000001.jpg"

    def test_the_crop_is_200_times_the_scale_whatever_is_in_it(self, saved, arrays):
        found = everything(SpinSet(saved("coco.npz", npz_bytes(arrays))))
        crop = crop_from_box(found.boxes_px, 224)
        assert near(crop.side_px, T.crop_side_px)
        assert near(crop.centre_px, T.crop_centre_px)

    def test_rows_in_any_order(self, saved, arrays):
        field = SpinSet(saved("coco.npz", npz_bytes(arrays)))
        found = field.read(np.array([3, 0]))
        assert near(found.betas, T.betas[[3, 0]])
        assert found.images == tuple(arrays["imgname"][[3, 0]])

    def test_sets_without_bodies_or_openpose(self, saved, arrays):
        for key in ("pose", "openpose", "S", "gender", "has_smpl"):
            del arrays[key]
        found = everything(SpinSet(saved("lsp.npz", npz_bytes(arrays))))
        assert found.rotmats is None
        assert found.genders is None
        assert not found.keypoints_px[:, :25].any()
        assert near(found.keypoints_px[:, 25:], T.keypoints_px[:, 25:])

    def test_static_fits(self, saved, arrays):
        del arrays["pose"], arrays["shape"]
        fits = np.concatenate([T.rotvecs.reshape(-1, 72), T.betas], 1)
        path = saved("coco.npz", npz_bytes(arrays))
        for wrong in (fits[:, :72], fits[:3]):
            np.save(path.with_name("fits.npy"), wrong)
            with pytest.raises(FieldError, match="fits: got"):
                SpinSet(path, path.with_name("fits.npy"))
        np.save(path.with_name("own.npy"), fits)
        found = everything(SpinSet(path, path.with_name("own.npy")))
        assert near(found.rotmats, T.rotmats)
        assert bool(found.has_body.all())

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"center": np.zeros((5, 3))}, r"center: got rows of shape \(3,\); expected \(2,\)"),
            ({"scale": np.zeros(4)}, "scale: got 4 rows; expected 5"),
            ({"scale": np.array([1, 1, -1, 1, 1.0])}, "scale: got -1.0 in row 2"),
            ({"part": np.zeros((5, 25, 3))}, r"part: got rows of shape \(25, 3\)"),
            ({"pose": np.full((5, 72), np.nan)}, "pose: got a number that is not finite in row 0"),
            ({"gender": np.array(list("mfxmf"))}, "gender: got 'x' in row 2"),
            ({"imgname": np.arange(5)}, "imgname: got .* in row 0; expected text"),
            ({"scale": np.array(list("abcde"))}, "scale: got values of type <U1"),
        ],
    )
    def test_what_cannot_be_is_refused(self, saved, arrays, change, complaint):
        path = saved("bad.npz", npz_bytes(arrays | change))
        with pytest.raises(FieldError, match=rf"bad.npz: {complaint}.*;"):
            everything(SpinSet(path))


class Test3dpw:
    PEOPLE = (truth(4, seed=3), truth(4, seed=4))

    @pytest.fixture
    def field(self, saved):
        saved("test/a.pkl", threedpw_bytes(self.PEOPLE))
        path = saved("test/b.pkl", threedpw_bytes([truth(1, seed=5)], name="flat_guitar_01"))
        return ThreeDpwSet(path.parent)

    def test_round_trip(self, field):
        found = field.read(np.arange(8))
        t = joined(self.PEOPLE)
        assert len(field) == 9
        assert near(found.keypoints_px, t.keypoints_px[:, :18])
        assert found.keypoint_set == OPENPOSE_18
        assert near(found.pelvis_m, t.joints_cam[:, 0])
        assert near(found.betas, np.repeat(t.betas[[0, 4]], 4, 0))
        assert found.genders == ("male",) * 4 + ("female",) * 4
        assert found.valid.tolist() == [True, False, True, True] * 2
        assert found.images[1] == "downtown_walking_00/image_00005.jpg"
        assert found.people[0] != found.people[4]
        assert near(found.boxes_px[:, :2], t.joints_px.min(1))
        assert near(found.boxes_px[:, 2:], np.ptp(t.joints_px, axis=1))

    def test_the_root_is_turned_by_the_camera_and_nothing_else_is(self, field):
        """The files' poses are in world axes."""
        t = joined(self.PEOPLE)
        assert near(field.read(np.arange(8)).rotmats, t.rotmats)
        world = np.concatenate(threedpw(self.PEOPLE)["poses"])[:, :3]
        assert not near(world, t.rotvecs[:, 0], 0.1)

    def test_joints_fall_on_the_pixels(self, field):
        found, t = field.read(np.arange(8)), joined(self.PEOPLE)
        seen = found.pelvis_m[:, None] @ found.intrinsics_px.mT
        assert near(seen[:, 0, :2] / seen[:, 0, 2:], t.joints_px[:, 0])

    def test_keypoints_that_are_not_transposed_are_refused(self, saved):
        table = threedpw(self.PEOPLE)
        table["poses2d"] = [p.transpose(0, 2, 1) for p in table["poses2d"]]
        with pytest.raises(FieldError, match=r"poses2d: got rows of shape \(18, 3\)"):
            ThreeDpwSet(saved("x.pkl", python2_pickle(table)))

    def test_sequences_of_one_frame_and_any_order(self, field):
        found = field.read(np.array([8, 6, 1]))
        assert found.people == (
            "flat_guitar_01_0",
            *["downtown_walking_00_1"] * 1,
            "downtown_walking_00_0",
        )
        assert near(found.rotmats[0], truth(1, seed=5).rotmats[0])
        assert near(found.rotmats[2], self.PEOPLE[0].rotmats[1])

    def test_cameras_that_turn_nothing_right_are_refused(self, saved):
        table = threedpw(self.PEOPLE)
        table["cam_poses"] = table["cam_poses"] * np.array([1, 1, -1, 1])[:, None]
        with pytest.raises(FieldError, match="cam_poses: got no rotation in row 0"):
            everything(ThreeDpwSet(saved("x.pkl", python2_pickle(table))))

    def test_cameras_that_the_set_does_not_trust_may_be_anything(self, saved):
        table = threedpw(self.PEOPLE)
        table["cam_poses"][1] = 0
        found = everything(ThreeDpwSet(saved("x.pkl", python2_pickle(table))))
        assert found.valid.tolist() == [True, False, True, True] * 2

    @pytest.mark.parametrize(
        ("key", "value", "complaint"),
        [
            ("poses", None, "poses: got none"),
            ("genders", ["x", "f"], "genders: got 'x'"),
            ("betas", [np.zeros(3)] * 2, "betas: got 3 betas"),
            ("betas", [np.full(10, 1e300)] * 2, "betas: got a number that is not finite"),
            ("jointPositions", [np.zeros((3, 72))] * 2, "jointPositions: got 3 rows; expected 4"),
            ("genders", ["m"], "genders: got 1 people; expected 2"),
        ],
    )
    def test_what_cannot_be_is_refused(self, saved, key, value, complaint):
        path = saved("x.pkl", python2_pickle(threedpw(self.PEOPLE) | {key: value}))
        with pytest.raises(FieldError, match=rf"x.pkl: {complaint}"):
            ThreeDpwSet(path)


class TestEft:
    @pytest.fixture
    def files(self, saved):
        fits, coco, _ = eft(T)
        return saved("eft.json", json_bytes(fits)), saved("coco.json", json_bytes(coco))

    def test_round_trip(self, files):
        found = everything(EftSet(*files))
        assert near(found.rotmats, T.rotmats)
        assert near(found.betas, T.betas)
        assert near(found.weak_camera.params, eft(T)[2])
        crop = crop_from_box(found.boxes_px, 224)
        for window in (found.crop, crop):
            assert near(window.side_px, T.crop_side_px)
            assert near(window.centre_px, T.crop_centre_px)
        assert found.images[2] == "COCO_train2014_000000000001.jpg"
        assert everything(EftSet(files[0])).keypoints_px is None

    def test_keypoints_are_those_of_the_annotation_not_of_the_image(self, files):
        found = everything(EftSet(*files))
        assert found.keypoint_set == COCO_17
        assert near(found.keypoints_px, coco_points(T))

    def test_the_camera_shifts_after_it_scales(self, files):
        found = everything(EftSet(*files))
        points = torch.tensor([[[0.3, -0.5, 0.1]]]).expand(5, 1, 3)
        seen = found.crop.to_image(project_weak(points, found.weak_camera, 224)[..., :2])
        scale, shift = eft(T)[2][:, :1], eft(T)[2][:, 1:]
        within = scale * np.array([0.3, -0.5]) + shift
        expected = T.crop_centre_px + within * T.crop_side_px[:, None] / 2
        assert near(seen[:, 0], expected)

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"parm_pose": np.zeros(72).tolist()}, r"parm_pose: got shape \(72,\) in row 1"),
            (
                {"parm_pose": np.ones((24, 3, 3)).tolist()},
                "parm_pose: got no rotation in row 1",
            ),
            ({"bbox_scale": -1}, "bbox_scale: got -1.0 in row 1"),
            ({"parm_cam": [1, "x", 2]}, "parm_cam: got ValueError"),
            ({"imageName": 3}, "imageName: got 3 in row 1"),
        ],
    )
    def test_what_cannot_be_is_refused(self, saved, change, complaint):
        fits, _, _ = eft(T)
        fits["data"][1] |= change
        with pytest.raises(FieldError, match=rf"eft.json: {complaint}"):
            everything(EftSet(saved("eft.json", json_bytes(fits))))

    def test_another_split_of_coco_is_refused(self, saved, files):
        other = saved("val.json", json_bytes({"annotations": [{"id": 1, "keypoints": [0] * 51}]}))
        with pytest.raises(FieldError, match=r"none with id 996 .5 missing"):
            EftSet(files[0], other)


class TestVibe:
    PEOPLE = (truth(3, seed=6), truth(1, seed=7), truth(2, seed=8))

    def test_round_trip(self, saved):
        field = VibeSet(saved("3dpw_train_db.pt", vibe_bytes(self.PEOPLE)))
        found, t = everything(field), joined(self.PEOPLE)
        assert near(found.rotmats, t.rotmats)
        assert near(found.betas, t.betas)
        assert near(found.keypoints_px, t.keypoints_px)
        assert found.keypoint_set == found.joint_set == SPIN_49
        assert near(found.joints_cam[:, :24, :3], t.joints_cam)
        assert found.people == ("seq_0_0",) * 3 + ("seq_1_0",) + ("seq_2_0",) * 2
        assert found.frame_indices.tolist() == [0, 1, 2, 0, 0, 1]
        assert found.valid.tolist() == [True, True, False, True, True, True]

    def test_boxes_are_given_by_their_centres(self, saved):
        found = everything(VibeSet(saved("db.pt", vibe_bytes(self.PEOPLE))))
        t = joined(self.PEOPLE)
        assert near(found.boxes_px[:, :2] + found.boxes_px[:, 2:] / 2, t.crop_centre_px)
        assert near(found.boxes_px[:, 2], t.crop_side_px)

    def test_fourteen_joints_end_in_other_heads(self, saved):
        """Head top in 2D, Human3.6M's head in 3D: centimetres apart."""
        found = everything(VibeSet(saved("db.pt", vibe_bytes(self.PEOPLE, joints=14))))
        assert found.joint_set == H36M_14
        assert found.keypoint_set.names[:13] == H36M_14.names[:13]
        assert found.keypoint_set.names[-1] == "head_top" in SPIN_EXTRA_9.names

    def test_sets_without_bodies(self, saved):
        table = vibe(self.PEOPLE)
        table["pose"] = np.zeros_like(table["pose"])
        found = everything(VibeSet(saved("a.pt", joblib_bytes(table))))
        assert not found.has_body.any()
        for key in ("pose", "shape", "joints3D", "valid", "frame_id"):
            del table[key]
        table["vid_name"] = list(map(str, table["vid_name"]))
        found = everything(VibeSet(saved("b.pt", joblib_bytes(table))))
        assert found.rotmats is None
        assert found.frame_indices.tolist() == [0, 1, 2, 0, 0, 1]

    def test_frames_that_do_not_count_by_their_other_name(self, saved):
        table = vibe(self.PEOPLE)
        table["valid_i"] = table.pop("valid")
        found = everything(VibeSet(saved("mpii3d_val_db.pt", joblib_bytes(table))))
        assert found.valid.tolist() == [True, True, False, True, True, True]

    def test_names_as_objects(self, saved):
        table = vibe(self.PEOPLE)
        for key in ("vid_name", "img_name"):
            table[key] = table[key].astype(object)
        found = everything(VibeSet(saved("a.pt", joblib_bytes(table))))
        assert found.people[3] == "seq_1_0"
        assert found.images[5] == "img/000005.jpg"

    def test_what_is_not_read_stays_on_the_disk(self, saved):
        table = vibe(self.PEOPLE)
        table["features"] = np.zeros((6, 2048 * 500), np.float32)
        field = VibeSet(saved("a.pt", joblib_bytes(table)))
        assert not field.columns.table["features"].flags.owndata
        assert not field.columns.table["pose"].flags.owndata

    @pytest.mark.parametrize(
        ("key", "value", "complaint"),
        [
            ("bbox", np.zeros((6, 4)), "bbox: got a box without area in row 0"),
            ("joints2D", np.zeros((6, 17, 3)), "joints2D: got 17 joints; expected 14 or 49"),
            ("pose", np.zeros((5, 72)), "pose: got 5 rows; expected 6"),
            ("shape", np.full((6, 10), np.inf), "shape: got a number that is not finite in row 0"),
            ("vid_name", None, "vid_name: got none"),
        ],
    )
    def test_what_cannot_be_is_refused(self, saved, key, value, complaint):
        path = saved("a.pt", joblib_bytes(vibe(self.PEOPLE) | {key: value}))
        with pytest.raises(FieldError, match=rf"a.pt: {complaint}"):
            everything(VibeSet(path))


class TestCoco:
    def test_round_trip(self, saved):
        content, boxes = coco(T)
        found = everything(CocoSet(saved("coco.json", json_bytes(content))))
        assert len(found) == len(T)  # neither the crowd nor the one without keypoints
        assert near(found.keypoints_px, coco_points(T))
        assert near(found.boxes_px, boxes)
        assert found.images[2] == "000000000001.jpg"

    def test_what_cannot_be_is_refused(self, saved):
        content, _ = coco(T)
        for change, complaint in (
            ({"image_id": 1}, "image_id: got 1 in row 3"),
            ({"keypoints": [1] * 50}, r"keypoints: got shape \(50,\) in row 3"),
            ({"bbox": [1, 2, 0, 4]}, "bbox: got a box without area in row 1"),
        ):
            changed = [e | (change if i == 3 else {}) for i, e in enumerate(content["annotations"])]
            path = saved("coco.json", json_bytes(content | {"annotations": changed}))
            with pytest.raises(FieldError, match=complaint):
                everything(CocoSet(path))


class TestPenn:
    def test_round_trip(self, saved):
        saved("labels/0001.mat", mat_bytes(penn(T)))
        path = saved("labels/0002.mat", mat_bytes(penn(truth(1, seed=2))))
        found = everything(PennSet(path.parent))
        expected = T.keypoints_px[:, :13].copy()
        expected[..., 2] = expected[..., 2] > 0
        assert near(found.keypoints_px[:5], expected)
        assert found.people == ("0001",) * 5 + ("0002",)
        assert found.images[4:] == ("0001/000005.jpg", "0002/000001.jpg")

    def test_left_comes_before_right(self):
        assert PENN_13.names[:5] == (
            "head", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
        )  # fmt: skip
        assert PENN_13.names[-2:] == ("left_ankle", "right_ankle")

    def test_transposed_files_are_refused(self, saved):
        path = saved("x.mat", mat_bytes({k: penn(T)[k].T for k in ("x", "y", "visibility")}))
        with pytest.raises(FieldError, match=r"x: got rows of shape \(5,\); expected \(13,\)"):
            PennSet(path)


class TestMpii3d:
    PEOPLE = (truth(3, seed=11), truth(3, seed=12))

    def test_training_is_in_metres_of_the_cameras_that_the_field_uses(self, saved, tmp_path):
        saved("mpi/S1/Seq1/annot.mat", mat_bytes(mpii3d(self.PEOPLE)))
        field = Mpii3dSet(tmp_path / "mpi")
        assert len(field) == 3 * 8
        found = field.read(np.arange(9, 15))  # cameras 4 and 5: 3 is left out
        assert found.people[0] == "S1/Seq1/imageFrames/video_4"
        assert found.images[0] == "S1/Seq1/imageFrames/video_4/frame_000001.jpg"
        expected = np.concatenate([joints_28(t) for t in self.PEOPLE])
        assert near(found.joints_cam[..., :3], expected)
        points = in_file(self.PEOPLE[0].keypoints_px)[:, :28, :2] + 0.5
        assert near(found.keypoints_px[:3, :, :2], points)

    def test_joints_stand_where_its_own_tools_have_them(self):
        """Left before right in training, the right arm and leg first in the test set."""
        assert MPII3D_28.names[4:8] == ("pelvis", "neck", "head", "head_top")
        sided = {"left_shoulder": 9, "left_wrist": 11, "right_elbow": 15, "left_hip": 18}
        sided |= {"left_toe": 22, "right_knee": 24, "right_toe": 27}
        assert {name: MPII3D_28.index(name) for name in sided} == sided
        tested = {"right_shoulder": 2, "left_wrist": 7, "right_hip": 8, "left_ankle": 13}
        assert {name: MPII3D_17.index(name) for name in tested} == tested

    def test_the_test_set_is_hdf5_and_has_frames_that_do_not_count(self, tmp_path):
        t = self.PEOPLE[0]
        write_mpii3d_test(tmp_path / "mpi" / "TS1" / "annot_data.mat", t)
        found = everything(Mpii3dSet(tmp_path / "mpi"))
        assert near(found.joints_cam[..., :3], t.joints_cam[:, :17])
        assert found.valid.tolist() == [True, False, True]
        assert found.joint_set.names[14] == "pelvis"
        assert found.images[2] == "TS1/imageSequence/img_000003.jpg"

    def test_what_cannot_be_is_refused(self, saved, tmp_path):
        with pytest.raises(FieldError, match=r"got no annot\.mat"):
            Mpii3dSet(tmp_path)
        table = mpii3d(self.PEOPLE)
        table["annot3"] = np.ones((3, 84))
        saved("a/annot.mat", mat_bytes(table))
        with pytest.raises(FieldError, match="annot3: got ndarray; expected a cell array"):
            Mpii3dSet(tmp_path / "a")
        table = mpii3d(self.PEOPLE)
        table["annot2"][4, 0] = np.ones((3, 54))
        saved("b/annot.mat", mat_bytes(table))
        with pytest.raises(FieldError, match=r"annot2: got rows of shape \(54,\)"):
            Mpii3dSet(tmp_path / "b")


class TestHuman36m:
    @pytest.fixture
    def field(self, tmp_path):
        return Human36mSet(write_human36m(tmp_path / "annotations", T))

    def test_round_trip(self, field):
        found = field.read(np.arange(5))
        assert len(field) == 10  # two cameras
        assert found.joint_set == H36M_17
        assert near(found.joints_cam[..., :3], T.joints_cam[:, :17])
        assert near(found.keypoints_px[..., :2], T.joints_px[:, :17])
        assert found.frame_indices.tolist() == [5, 10, 15, 20, 25]
        name = "s_09_act_02_subact_01_ca_01"
        assert found.images[1] == f"{name}/{name}_000011.jpg"
        assert field.read(np.array([7])).people == ("s_09_act_02_subact_01_ca_03",)

    def test_bodies_are_turned_by_the_camera(self, field):
        found = field.read(np.arange(5))
        assert found.has_body.tolist() == [True, False, True, True, True]
        kept = [0, 2, 3, 4]
        assert near(found.rotmats[kept], T.rotmats[kept])
        assert near(found.betas[kept], T.betas[kept])

    def test_the_right_leg_comes_first(self, field):
        assert field.read(np.arange(1)).joint_set.names[1] == "right_hip"

    def test_what_cannot_be_is_refused(self, tmp_path):
        with pytest.raises(FieldError, match=r"got subjects \[\]; expected some"):
            Human36mSet(tmp_path)
        folder = write_human36m(tmp_path / "a", T)
        with pytest.raises(FieldError, match=r"got subjects \[9\]; expected \[1\]"):
            Human36mSet(folder, (1,))
        content = human36m(T)
        content["camera"]["1"]["R"] = np.ones((3, 3)).tolist()
        content["joint_3d"]["2"]["1"]["5"] = [[1.0, 2.0]]
        for name, complaint in (("camera", "camera 1: got no rotation"), ("joint_3d", "2/1: got")):
            folder = write_human36m(tmp_path / name, T)
            (folder / f"Human36M_subject9_{name}.json").write_bytes(json_bytes(content[name]))
            with pytest.raises(FieldError, match=complaint):
                Human36mSet(folder)
