"""More of the field's data sets: written by their rules, read back in ours; traps are sprung."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from field_files import joined, json_bytes, mat_bytes, truth
from flowhmr.body import OPENPOSE_25, SMPL_24, SPIN_H36M_17, open_body
from flowhmr.cameras import crop_from_box
from flowhmr.data import (
    FieldError,
    FrameStore,
    convert_field,
    field_labels,
    open_field,
    write_video,
)
from flowhmr.data.field.bedlam import BedlamSet
from flowhmr.data.field.h36m_cdf import Human36mCdfSet
from flowhmr.data.field.humandata import HUMANDATA_190, HumanDataSet
from flowhmr.data.field.insta import INSTA_25, InstaSet
from flowhmr.data.field.posetrack import POSETRACK_17, PosetrackSet
from flowhmr.data.field.surreal import SurrealSet, surreal_depth, surreal_flow, surreal_parts
from more_field_files import (
    POSETRACK_NAMES,
    SURREAL_INTRINSICS,
    SURREAL_SIDES,
    bedlam,
    human36m_cdf,
    humandata,
    insta,
    npz_of_objects,
    posetrack,
    posetrack_points,
    surreal,
    surreal_px,
    tf_example,
    tf_record_bytes,
)

T = truth(6, seed=21)


def near(found, expected, within=1e-5):
    """Equal to 1e-5 of what the numbers are large as (they are stored as float32)."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    return bool(np.abs(found - expected).max() <= within * max(1.0, np.abs(expected).max()))


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


def without_hands(t):
    rotmats = t.rotmats
    rotmats[:, 22:] = np.eye(3)
    return rotmats


class TestBedlam:
    def test_round_trip(self, saved):
        found = everything(BedlamSet(saved("a.npz", npz_of_objects(bedlam(T, joints=24)))))
        assert near(found.rotmats, T.rotmats)
        assert near(found.betas, T.betas)
        assert found.model == "smpl"
        assert near(found.intrinsics_px, np.tile(T.intrinsics, (6, 1, 1)))
        assert found.genders[:3] == ("neutral", "male", "female")
        crop = crop_from_box(found.boxes_px, 224)
        assert near(crop.side_px, T.crop_side_px)
        assert near(crop.centre_px, T.crop_centre_px)
        assert found.images[1] == "seq_000000/seq_000000_0005.png"
        assert found.keypoint_set.names[-2:] == ("left_wrist", "right_wrist")

    def test_pixels_of_rendered_pictures_count_from_the_edge(self, saved):
        """Their principal point is half the size: a shift by half a pixel would be a mistake."""
        found = everything(BedlamSet(saved("a.npz", npz_of_objects(bedlam(T)))))
        assert near(found.keypoints_px[..., :2], T.keypoints_px[:, 10:32, :2])

    def test_smplx_keeps_the_bodys_joints_and_its_betas_are_not_smpls(self, saved, smpl_like):
        found = everything(BedlamSet(saved("a.npz", npz_of_objects(bedlam(T)))))
        assert near(found.rotmats, without_hands(T))
        assert found.model == "smplx"
        with pytest.raises(FieldError, match="got betas of smplx; expected SMPL's"):
            field_labels(found, smpl_like)

    def test_the_body_stands_at_both_translations(self, saved):
        field = BedlamSet(saved("a.npz", npz_of_objects(bedlam(T))))
        assert near(field.translation_m(np.arange(6)), T.joints_cam[:, 0])

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"pose_cam": np.zeros((6, 63))}, "pose_cam: got 63 numbers"),
            ({"shape": np.zeros((6, 3))}, "shape: got 3 betas"),
            ({"gtkps": np.zeros((6, 20, 2))}, r"gtkps: got rows of shape \(20, 2\)"),
            ({"cam_int": np.zeros((6, 3, 3))}, "cam_int: got no focal length in row 0"),
            ({"scale": np.zeros(6)}, "scale: got 0.0 in row 0"),
        ],
    )
    def test_what_cannot_be_is_refused(self, saved, change, complaint):
        path = saved("bad.npz", npz_of_objects(bedlam(T) | change))
        with pytest.raises(FieldError, match=rf"bad.npz: {complaint}"):
            everything(BedlamSet(path))


@pytest.fixture
def smpl_like():
    """A body that takes SMPL's betas."""
    return replace(open_body(), topology="smpl")


class TestHumanData:
    @pytest.mark.parametrize("packed", [True, False])
    def test_round_trip(self, saved, packed):
        """Columns that the mask leaves out are not in packed files."""
        table, points, joints, boxes = humandata(T, packed)
        found = everything(HumanDataSet(saved("a.npz", npz_of_objects(table))))
        assert found.keypoint_set == found.joint_set == HUMANDATA_190
        assert near(found.keypoints_px, points)
        assert near(found.joints_cam, joints)
        assert near(found.rotmats, T.rotmats)
        assert near(found.betas, T.betas)
        assert near(found.boxes_px, boxes)
        assert found.genders[:3] == ("male", "female", "neutral")
        assert found.model == "smpl"

    def test_smplx(self, saved):
        table, *_ = humandata(T, model="smplx")
        found = everything(HumanDataSet(saved("a.npz", npz_of_objects(table))))
        assert near(found.rotmats, without_hands(T))
        assert found.model == "smplx"

    def test_joints_stand_where_the_convention_has_them(self):
        """Places counted in MMHuman3D's own list."""
        places = {
            "pelvis": 0, "right_wrist": 21, "jaw": 22, "left_index_1": 25, "right_thumb_3": 54,
            "nose": 55, "right_eye": 56, "left_big_toe": 60, "right_heel": 65, "left_thumb": 66,
            "right_pinky": 75, "right_eyebrow_1": 76, "nosebridge_1": 86, "right_contour_1": 127,
            "contour_middle": 135, "right_hip_extra": 144, "head_top": 147, "op_nose": 153,
            "op_right_heel": 177, "spine4": 178, "head_bottom": 187, "right_hand": 189,
        }  # fmt: skip
        assert len(HUMANDATA_190) == 190
        assert {name: HUMANDATA_190.index(name) for name in places} == places
        assert set(OPENPOSE_25.names) <= {n.removeprefix("op_") for n in HUMANDATA_190.names}

    def test_a_compressed_file_does_not_fit_another_mask(self, saved):
        table, *_ = humandata(T)
        mask = table["keypoints2d_mask"].copy()
        mask[np.flatnonzero(mask)[0]] = 0
        path = saved("a.npz", npz_of_objects(table | {"keypoints2d_mask": mask}))
        with pytest.raises(FieldError, match="keypoints2d: got rows of shape"):
            HumanDataSet(path)

    def test_annotated_keypoints_come_before_projected_ones(self, saved):
        table, points, *_ = humandata(T)
        for end in ("", "_mask"):
            table[f"keypoints2d_original{end}"] = table.pop(f"keypoints2d{end}")
        table["keypoints2d_asmpl"] = 0 * table["keypoints2d_original"]
        table["keypoints2d_asmpl_mask"] = table["keypoints2d_original_mask"]
        found = everything(HumanDataSet(saved("a.npz", npz_of_objects(table))))
        assert near(found.keypoints_px, points)

    def test_pictures_without_bodies_and_boxes_without_confidence(self, saved):
        table, *_, boxes = humandata(T)
        for key in ("smpl", "meta", "keypoints3d", "keypoints3d_mask"):
            del table[key]
        table["bbox_xywh"] = boxes
        found = everything(HumanDataSet(saved("a.npz", npz_of_objects(table))))
        assert found.rotmats is None
        assert near(found.boxes_px, boxes)

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"bbox_xywh": np.zeros((6, 5))}, "bbox_xywh: got a box without area in row 0"),
            ({"bbox_xywh": np.zeros((6, 3))}, "bbox_xywh: got rows of shape"),
            ({"keypoints2d_mask": np.ones(24)}, r"keypoints2d_mask: got shape \(24,\)"),
            ({"image_path": np.array("x")}, "image_path: got"),
            (
                {"smpl": np.array({"global_orient": np.zeros((6, 3))}, dtype=object)},
                "body_pose: got none",
            ),
        ],
    )
    def test_what_cannot_be_is_refused(self, saved, change, complaint):
        path = saved("bad.npz", npz_of_objects(humandata(T)[0] | change))
        with pytest.raises(FieldError, match=rf"bad.npz: .*{complaint}"):
            everything(HumanDataSet(path))


class TestPosetrack:
    PEOPLE = (truth(3, seed=22), truth(3, seed=23))

    @pytest.fixture
    def field(self, saved):
        path = saved("train/000001_bonn_train.json", json_bytes(posetrack(self.PEOPLE)))
        saved("train/000002_bonn_train.json", json_bytes(posetrack([truth(2, seed=24)])))
        return PosetrackSet(path.parent)

    def test_round_trip(self, field):
        """People one after the other, each in order; who has no keypoints is left out."""
        assert len(field) == 8
        found, t = field.read(np.arange(6)), joined(self.PEOPLE)
        assert near(found.keypoints_px, posetrack_points(t))
        assert found.keypoint_set == POSETRACK_17
        assert found.people == ("000001_bonn_train_0",) * 3 + ("000001_bonn_train_1",) * 3
        assert found.frame_indices.tolist() == [10000010000, 10000010001, 10000010002] * 2
        assert found.images[4] == "images/train/000001_bonn_train/000001.jpg"

    def test_boxes_are_as_annotated(self, field):
        """Not VIBE's squares of 0.8 of them; where there is none, around the keypoints."""
        found, t = field.read(np.arange(6)), joined(self.PEOPLE)
        expected = np.concatenate([t.crop_centre_px - [40, 60], np.tile([80, 120], (6, 1))], 1)
        kept = [0, 1, 2, 4, 5]
        assert near(found.boxes_px[kept], expected[kept])
        points = posetrack_points(t)[3]
        points = points[points[:, 2] > 0, :2]
        more = 0.1 * np.ptp(points, axis=0).max()
        assert near(found.boxes_px[3, :2], points.min(0) - more)

    def test_seventeen_keypoints_are_not_cocos(self):
        assert POSETRACK_17.names == tuple(POSETRACK_NAMES)
        assert POSETRACK_17.names[1:3] == ("head_bottom", "head_top")

    def test_the_files_own_order_counts(self, saved):
        names = POSETRACK_NAMES[::-1]
        path = saved("a.json", json_bytes(posetrack(self.PEOPLE, names)))
        found = everything(PosetrackSet(path))
        assert near(found.keypoints_px, posetrack_points(joined(self.PEOPLE)))

    def test_what_cannot_be_is_refused(self, saved):
        whole = posetrack(self.PEOPLE)
        for change, complaint in (
            ({"image_id": 3}, "got image_id 3 and track_id 0 in row 0"),
            ({"track_id": None}, "got image_id .* and track_id None in row 0"),
            ({"keypoints": [1.0] * 50}, r"keypoints: got shape \(50,\) in row 0"),
            ({"bbox": [1, 2, 3]}, r"bbox: got shape \(3,\) in row 0"),
        ):
            changed = [whole["annotations"][0] | change, *whole["annotations"][1:]]
            path = saved("bad.json", json_bytes(whole | {"annotations": changed}))
            with pytest.raises(FieldError, match=rf"bad.json: {complaint}"):
                PosetrackSet(path)
        odd = [{"keypoints": ["nose"] * 17}]
        with pytest.raises(FieldError, match="categories: got keypoints"):
            PosetrackSet(saved("odd.json", json_bytes(whole | {"categories": odd})))


class TestSurreal:
    @pytest.fixture
    def field(self, saved):
        saved("run0/01_01/01_01_c0001_info.mat", mat_bytes(surreal(T)))
        path = saved("run0/02/02_c0001_info.mat", mat_bytes(surreal(truth(1, seed=25), True)))
        return SurrealSet(path.parents[2])

    def test_round_trip(self, field):
        found = field.read(np.arange(6))
        assert near(found.joints_cam[..., :3], T.joints_cam)
        assert near(found.keypoints_px[..., :2], surreal_px(T))
        assert near(found.rotmats, T.rotmats)
        assert near(found.betas, T.betas)
        assert near(found.pelvis_m, T.joints_cam[:, 0])
        assert found.genders[:2] == ("female", "male")
        assert found.images[2] == "run0/01_01/01_01_c0001.mp4"
        assert found.frame_indices.tolist() == [0, 1, 2, 3, 4, 5]
        assert near(found.intrinsics_px[3], SURREAL_INTRINSICS)

    def test_the_picture_shows_the_mirrored_body(self, saved):
        """As SURREAL's own script poses it in the world, so that the camera's reflection shows: the
        poses and sides that come out, put on a body, must give the joints that are seen."""
        rng, place = np.random.default_rng(3), np.array([7.0, -1.0, 0.5])
        pose = rng.normal(0, 0.4, (2, 24, 3))
        body, zrot = open_body(), 0.7
        turns = Rotation.from_rotvec(pose.reshape(-1, 3)).as_matrix().reshape(2, 24, 3, 3)
        about_z, quarter = (Rotation.from_euler(*turn) for turn in (("z", zrot), ("x", np.pi / 2)))
        turns[:, 0] = (quarter * about_z).as_matrix() @ turns[:, 0]
        drawn = body.joints(body.params(torch.from_numpy(turns).float(), torch.zeros(2, 10)))
        arrays = surreal(truth(2)) | {
            "joints3D": (drawn.numpy() + np.array([0, 1, 0.4])).transpose(2, 1, 0),
            "pose": pose.reshape(2, 72).T,
            "zrot": np.full((1, 2), zrot),
            "camLoc": place[:, None],
        }
        found = everything(SurrealSet(saved("a_info.mat", mat_bytes(arrays))))
        seen = body.joints(body.params(found.rotmats, torch.zeros(2, 10)))
        joints = found.joints_cam[..., :3]
        assert near(joints - joints[:, :1], seen - seen[:, :1])
        assert float(torch.linalg.det(found.rotmats).min()) > 0.999

    def test_one_frame_comes_without_its_axis(self, field):
        t = truth(1, seed=25)
        found = field.read(np.array([6]))
        assert near(found.rotmats, t.rotmats)
        assert near(found.joints_cam[..., :3], t.joints_cam)
        assert near(found.keypoints_px[..., :2], surreal_px(t))

    def test_flow_has_its_x_turned(self, saved):
        flow = np.random.default_rng(0).normal(size=(240, 320, 2)).astype(np.float32)
        maps = {"gtflow_1": 0 * flow, "gtflow_2": flow * np.float32([-1, 1])}
        path = saved("a_gtflow.mat", mat_bytes(maps))
        assert near(surreal_flow(path, 1), flow)
        with pytest.raises(FieldError, match="gtflow_3: got NoneType; expected numbers of shape"):
            surreal_flow(path, 2)

    def test_parts_change_sides_and_depth_is_metres(self, saved):
        seen = np.random.default_rng(0).integers(0, 25, (240, 320))
        names = np.array([0, *(1 + np.array(SURREAL_SIDES))])
        path = saved("a_segm.mat", mat_bytes({"segm_1": names[seen].astype(np.uint8)}))
        assert np.array_equal(surreal_parts(path, 0), seen)
        depth = np.full((240, 320), 1e10, np.float32)
        depth[:9] = 6.5
        path = saved("a_depth.mat", mat_bytes({"depth_1": depth}))
        assert np.array_equal(surreal_depth(path, 0), depth)
        path = saved("b_segm.mat", mat_bytes({"segm_1": np.full((240, 320), 25.0)}))
        with pytest.raises(FieldError, match=r"segm_1: got 25.0 to 25.0; expected whole"):
            surreal_parts(path, 0)

    def test_pictures_are_frames_of_the_video(self, field, tmp_path):
        frames = [np.full((240, 320, 3), 40 * i, np.uint8) for i in range(6)]
        write_video(tmp_path / "run0/01_01/01_01_c0001.mp4", frames, 30.0)
        assert convert_field(field, "surreal", open_body(), tmp_path / "out.npz") == 7
        store = FrameStore(tmp_path / "out.npz", tmp_path, open_body())
        assert [round(store.images(i).mean() / 40) for i in (4, 1)] == [4, 1]
        with pytest.raises(FieldError, match=r"02_c0001.mp4: got"):
            store.images(6)

    def test_what_cannot_be_is_refused(self, saved):
        for change, complaint in (
            ({"pose": np.zeros((72, 5))}, r"pose: got shape \(72, 5\); expected \(72, 6\)"),
            ({"joints3D": np.zeros((24, 3, 6))}, r"joints3D: got shape \(24, 3, 6\)"),
            ({"gender": np.full((6, 1), 7)}, r"gender: got \[7.0\]; expected 0"),
            ({"camLoc": np.zeros((2, 1))}, r"camLoc: got rows of shape \(2,\)"),
            ({"zrot": "x"}, "zrot: got str"),
        ):
            path = saved("bad_info.mat", mat_bytes(surreal(T) | change))
            with pytest.raises(FieldError, match=rf"bad_info.mat: {complaint}"):
                everything(SurrealSet(path))

    def test_sides_are_smpls(self):
        assert tuple(SURREAL_SIDES) == SMPL_24.mirror


class TestInsta:
    @pytest.mark.parametrize("normalised", [False, True])
    def test_round_trip(self, saved, normalised):
        """In pixels of the pictures, or from -1 to 1 where there are features."""
        records = [insta(t, normalised) for t in (T, truth(1, seed=26))]
        content = tf_record_bytes([tf_example(features) for features, _ in records])
        field = InstaSet(saved("insta/part_3.tfrecord", content).parent)
        found = everything(field)
        assert near(found.keypoints_px, np.concatenate([points for _, points in records]))
        assert found.people == ("part_3/000000",) * 6 + ("part_3/000001",)
        assert found.frame_indices.tolist() == [0, 1, 2, 3, 4, 5, 0]
        greys = [round(image.mean() / 20) for image in field.pictures(np.array([5, 6, 2]))]
        assert greys == [5, 0, 2]

    def test_heels_stand_where_lsp_has_ankles(self):
        assert INSTA_25.names[0] == "right_heel"
        assert INSTA_25.names[5] == "left_heel"
        assert INSTA_25.names[12:16] == ("neck", "head_top", "nose", "left_eye")
        assert INSTA_25.names[-6:-4] == ("left_big_toe", "right_big_toe")
        assert INSTA_25.names[-2:] == ("left_ankle", "right_ankle")
        assert set(INSTA_25.names) - {"head_top"} < set(OPENPOSE_25.names)

    def test_toes_may_be_missing(self, saved):
        features, points = insta(T, toes=False)
        path = saved("a.tfrecord", tf_record_bytes([tf_example(features)]))
        assert near(everything(InstaSet(path)).keypoints_px, points)

    def test_what_cannot_be_is_refused(self, saved):
        features, _ = insta(T)
        for change, complaint in (
            ({"meta/N": np.array([5])}, "image/xys: got 168 values; expected 140"),
            ({"meta/N": np.array([-1])}, "meta/N: got -1 in record 0"),
            ({"image/xys": [b"x"]}, "image/xys: got 1 values"),
            ({"image/visibilities": np.zeros(84, int), "image/face_pts": np.zeros(90),
              "image/toe_pts": np.zeros(108)}, "image/visibilities: got nothing seen in row 0"),
        ):  # fmt: skip
            path = saved("bad.tfrecord", tf_record_bytes([tf_example(features | change)]))
            with pytest.raises(FieldError, match=rf"bad.tfrecord: {complaint}"):
                everything(InstaSet(path))
        path = saved(
            "bad.tfrecord", tf_record_bytes([tf_example(features | {"image/encoded": [b"x"] * 6})])
        )
        with pytest.raises(FieldError, match="image/encoded: got no picture in row 2"):
            InstaSet(path).pictures(np.array([2]))


class TestHuman36mCdf:
    @pytest.fixture
    def folder(self, saved):
        joints, points = human36m_cdf(T, columns_first=True)
        name = "S9/MyPoseFeatures/{}/Directions 1.54138969.cdf"
        saved(name.format("D2_Positions"), points)
        return saved(name.format("D3_Positions_mono"), joints).parents[3]

    def test_round_trip(self, folder):
        """Seventeen of 32 joints, millimetres in the camera's axes."""
        found = everything(Human36mCdfSet(folder))
        assert near(found.joints_cam[..., :3], T.joints_cam[:, :17])
        assert near(found.keypoints_px[..., :2], T.joints_px[:, :17])
        assert found.joint_set == found.keypoint_set == SPIN_H36M_17
        assert found.images[3] == "S9/Videos/Directions 1.54138969.mp4"
        assert found.frame_indices.tolist() == [0, 1, 2, 3, 4, 5]

    def test_what_cannot_be_is_refused(self, folder, saved):
        with pytest.raises(FieldError, match=r"got no D3_Positions_mono/\*\.cdf"):
            Human36mCdfSet(folder / "S9" / "MyPoseFeatures" / "D2_Positions")
        other = saved("S9/MyPoseFeatures/D3_Positions_mono/b.cdf", human36m_cdf(T)[1])
        with pytest.raises(FieldError, match=r"b.cdf: Pose: got shape \(1, 6, 64\)"):
            Human36mCdfSet(folder)
        other.write_bytes(human36m_cdf(T)[0])
        with pytest.raises(FieldError, match=r"D2_Positions/b\.cdf: got .*3D and 2D poses"):
            Human36mCdfSet(folder)


def test_kinds_find_them(saved):
    files = {
        "bedlam": npz_of_objects(bedlam(T)),
        "humandata": npz_of_objects(humandata(T)[0]),
        "posetrack": json_bytes(posetrack([truth(3, seed=22)])),
        "surreal": mat_bytes(surreal(T)),
        "insta": tf_record_bytes([tf_example(insta(T)[0])]),
    }
    for kind, content in files.items():
        assert len(open_field(kind, saved(kind, content))) in (3, 6)
