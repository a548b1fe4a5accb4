"""What is done with data sets: checked, made labels, converted, trained on; and what is refused."""

import os
import pickle
import re
import struct
import zlib

import cv2
import numpy as np
import pytest
import torch
from damage import body_files, damage, problem_of, put, small_files

from field_files import (
    eft,
    in_file,
    json_bytes,
    npz_bytes,
    spin_arrays,
    threedpw,
    threedpw_bytes,
    truth,
    vibe,
)
from flowhmr.body import COCO_17, SMPL_24, open_body
from flowhmr.cameras import project_weak
from flowhmr.data import (
    KINDS,
    OTHER_KINDS,
    AugmentConfig,
    FieldError,
    FrameStore,
    LabelledBatches,
    check_field,
    convert_field,
    field_labels,
    open_field,
)
from joblib_files import joblib_bytes
from python2_pickles import python2_pickle

T = truth(6, seed=9)
BODY = open_body()


@pytest.fixture
def saved(tmp_path):
    def saved(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return saved


def spin(**changed):
    """SPIN's layout, all rows with a body and keypoints in their box."""
    arrays = spin_arrays(T) | {"has_smpl": np.ones(len(T))}
    apart = (T.keypoints_px[..., :2] - 500) / 600
    points = T.keypoints_px.copy()
    points[..., :2] = T.crop_centre_px[:, None] + apart * T.crop_side_px[:, None, None] * 0.8
    points = in_file(points)
    return arrays | {"openpose": points[:, :25], "part": points[:, 25:]} | changed


class TestLabels:
    def test_a_moving_cameras_joints_fall_on_the_pixels(self, saved):
        """Root in camera axes, pelvis before the camera: else nothing lies where it is seen."""
        t = truth(3, seed=10)
        frames = open_field("3dpw", saved("a.pkl", threedpw_bytes([t]))).read(np.arange(3))
        labels = field_labels(frames, BODY)
        mean = BODY.params(torch.from_numpy(t.rotmats).float(), torch.zeros(3, BODY.num_betas))
        placed = BODY.joints(mean).double().numpy()
        placed = placed - placed[:, :1] + t.joints_cam[:, :1]
        seen = placed @ t.intrinsics.T
        expected = seen[..., :2] / seen[..., 2:]
        assert np.abs(labels.keypoints_px.numpy() - expected).max() < 0.01
        assert bool((labels.keypoint_confidence == 1).all())

    def test_a_fits_weak_camera(self, saved):
        frames = open_field("eft", saved("e.json", json_bytes(eft(T)[0]))).read(np.arange(6))
        labels = field_labels(frames, BODY)
        seen = project_weak(labels.joints_m, frames.weak_camera, 224)[..., :2]
        assert torch.allclose(labels.keypoints_px, frames.crop.to_image(seen), atol=1e-3)

    def test_without_a_camera_limbs_are_where_they_were_annotated(self, saved):
        """Hips are not: LSP's lie elsewhere than SMPL's."""
        frames = open_field("spin", saved("s.npz", npz_bytes(spin()))).read(np.arange(6))
        labels = field_labels(frames, BODY)
        known = labels.keypoint_confidence > 0
        names = [name for i, name in enumerate(SMPL_24.names) if bool(known[:, i].any())]
        assert len(names) == 10
        assert not any("hip" in name for name in names)
        place = frames.keypoint_set.index("left_knee")
        there = labels.keypoints_px[:, SMPL_24.index("left_knee")]
        assert torch.equal(there, frames.keypoints_px[:, place, :2])

    def test_betas_are_left_out_on_the_open_body(self, saved):
        frames = open_field("spin", saved("s.npz", npz_bytes(spin()))).read(np.arange(6))
        assert not field_labels(frames, BODY).params.betas.any()
        assert frames.betas.any()


class TestCheck:
    def report(self, saved, kind, content, **options):
        name = {"spin": "a.npz", "vibe": "a.pt", "3dpw": "a.pkl", "eft": "a.json"}[kind]
        return check_field(open_field(kind, saved(name, content)), **options)

    def test_counts_and_ranges(self, saved):
        report = self.report(saved, "spin", npz_bytes(spin()))
        assert (report.rows, report.videos, report.bodies) == (6, 0, 6)
        assert report.keypoints == 6 * 48
        assert report.sets == {"2D keypoints": "spin-49", "3D joints": "spin-24"}
        assert report.ranges["betas"] == pytest.approx((T.betas.min(), T.betas.max()), abs=1e-5)
        assert report.problem is None
        assert "first inconsistency: none" in report.lines()

    def test_people_in_videos(self, saved):
        report = self.report(saved, "3dpw", threedpw_bytes([truth(4), truth(4, seed=1)]))
        assert (report.rows, report.videos, report.trusted) == (8, 2, 6)
        assert report.ranges["depth of the pelvis, m"][0] > 2

    def test_millimetres_are_noticed(self, saved):
        joints = spin_arrays(T)["S"] * [1000, 1000, 1000, 1]
        problem = self.report(saved, "spin", npz_bytes(spin(S=joints))).problem
        assert "row 0: got 3D joints that span" in problem
        assert "millimetres" in problem

    def test_corners_taken_for_centres_are_noticed(self, saved):
        arrays = spin()
        arrays["center"] = arrays["center"] + 2000
        problem = self.report(saved, "spin", npz_bytes(arrays)).problem
        assert "far from the box" in problem

    def test_the_first_bad_number_ends_it(self, saved):
        pose = spin_arrays(T)["pose"].copy()
        pose[4, 7] = np.nan
        report = self.report(saved, "spin", npz_bytes(spin(pose=pose)))
        assert "pose: got a number that is not finite in row 4" in report.problem

    def test_images_are_looked_for(self, saved, tmp_path):
        saved("images/train2014/COCO_000000000000.jpg", b"x")
        folder = tmp_path / "images"
        report = self.report(saved, "spin", npz_bytes(spin()), images=folder)
        assert report.missing == 5
        assert "row 1: got no image" in report.problem
        names = np.array(["../secret.jpg"] * 6)
        report = self.report(saved, "spin", npz_bytes(spin(imgname=names)), images=folder)
        assert "got the file name '../secret.jpg'; expected one below" in report.problem

    def test_other_kinds(self, saved):
        with pytest.raises(FieldError, match="kind: got 'coco2'; expected one of spin"):
            open_field("coco2", saved("a.npz", b""))
        with pytest.raises(FieldError, match="got a second file for vibe"):
            open_field("vibe", saved("a.pt", b"x"), saved("b.npz", b"x"))


class TestConvert:
    @pytest.fixture
    def store(self, saved, tmp_path):
        rng = np.random.default_rng(0)
        for name in spin()["imgname"]:
            image = rng.integers(0, 255, (700, 800, 3), dtype=np.uint8)
            path = tmp_path / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image)
        has = np.array([1, 1, 0, 1, 1, 1])
        found = open_field("spin", saved("s.npz", npz_bytes(spin(has_smpl=has))))
        assert convert_field(found, "spin", BODY, tmp_path / "out.npz") == 5
        return FrameStore(tmp_path / "out.npz", tmp_path / "images", BODY)

    def test_rows_with_bodies_come_back(self, store, saved):
        assert len(store) == 5
        frames = open_field("spin", saved("t.npz", npz_bytes(spin()))).read(np.arange(6))
        kept = torch.tensor([0, 1, 3, 4, 5])
        labels = store.labels(torch.arange(5))
        assert torch.allclose(labels.params.rotmats[:, 0], frames.rotmats[kept], atol=1e-6)
        assert torch.equal(store.boxes_px(torch.arange(5))[:, 0], frames.boxes_px[kept])
        row = int(kept[2])
        nose = frames.keypoints_px[row, frames.keypoint_set.index("nose")]
        detected = store.columns.numbers("detected_px", np.array([2]), 17, 3)
        assert torch.equal(detected[0, COCO_17.index("nose")], nose)

    def test_training_reads_them(self, store):
        batches = LabelledBatches(store, range(5), 64, 4, AugmentConfig(), seed=1, count=2)
        clip = batches[1]
        assert clip.frames.shape == (4, 1, 3, 64, 64)
        assert clip.frames.float().std() > 10
        assert clip.labels.surface is None
        assert clip.labels.params.body_id == BODY.body_id

    def test_another_bodys_are_refused(self, store, tmp_path):
        table = dict(np.load(store.path))
        np.savez(tmp_path / "other.npz", **table | {"body_id": "smpl:1"})
        with pytest.raises(ValueError, match="got body smpl:1"):
            FrameStore(tmp_path / "other.npz", tmp_path, BODY)
        np.savez(tmp_path / "old.npz", **table | {"version": 7})
        with pytest.raises(FieldError, match=r"version .*flowhmr data convert"):
            FrameStore(tmp_path / "old.npz", tmp_path, BODY)

    def test_pictures_outside_the_folder_are_not_read(self, store, tmp_path):
        table = dict(np.load(store.path))
        cv2.imwrite(str(tmp_path / "secret.png"), np.zeros((9, 9, 3), np.uint8))
        table["image"] = np.array(["../secret.png", str(tmp_path / "secret.png"), *"abc"])
        np.savez(tmp_path / "bad.npz", **table)
        bad = FrameStore(tmp_path / "bad.npz", tmp_path / "images", BODY)
        for row in (0, 1):
            with pytest.raises(FieldError, match="got the file name"):
                bad.images(row)
        with pytest.raises(FieldError, match="got no picture"):
            bad.images(2)

    def test_people_in_videos(self, saved, tmp_path):
        table = vibe([truth(3, seed=1), truth(2, seed=2)])
        found = open_field("vibe", saved("a.pt", joblib_bytes(table)))
        assert convert_field(found, "vibe", BODY, tmp_path / "out.npz") == 4  # one is not valid

    def test_sets_without_bodies_are_refused(self, saved, tmp_path):
        found = open_field("spin", saved("s.npz", npz_bytes(spin(has_smpl=np.zeros(6)))))
        with pytest.raises(FieldError, match="no row with a trusted body"):
            convert_field(found, "spin", BODY, tmp_path / "out.npz")
        assert not (tmp_path / "out.npz").exists()


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def gadgets(witness):
    make = f"open({str(witness)!r}, 'w').close()"
    return [
        Calls(os.system, f"touch {witness}"),
        Calls(eval, make),
        Calls(exec, make),
        Calls(np.save, str(witness), 1),
        Calls(pickle.loads, pickle.dumps(Calls(os.system, f"touch {witness}"))),
    ]


def objects_npz(evil):
    return npz_bytes(spin() | {"imgname": np.array([evil, *"abcde"], dtype=object)})


CARRIERS = {
    "vibe": lambda evil: joblib_bytes(vibe([T]) | {"vid_name": evil}),
    "vibe packed": lambda evil: zlib.compress(joblib_bytes(vibe([T]) | {"pose": evil})),
    "3dpw": lambda evil: pickle.dumps({"poses": [evil]}, 2),
    "spin": objects_npz,
}


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("which", range(5))
def test_code_in_data_sets_is_refused_and_never_run(saved, tmp_path, carrier, which):
    witness = tmp_path / "witness"
    path = saved("a.pkl", CARRIERS[carrier](gadgets(witness)[which]))
    with pytest.raises(FieldError, match=r"a\.pkl: got a pickle that calls .*; expected nothing"):
        open_field(carrier.split()[0], path)
    assert not witness.exists()
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture(scope="module")
def smalls(tmp_path_factory):
    return small_files(tmp_path_factory.mktemp("made"))


def test_every_kind_is_tried(smalls):
    """Bodies, which are large, in a slow test."""
    assert smalls.keys() | {"smpl", "regressor"} == KINDS.keys() | OTHER_KINDS.keys()


ALL_KINDS = [kind for kind in (*KINDS, *OTHER_KINDS) if kind not in ("smpl", "regressor")]


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_broken_files_are_refused_with_what_to_do(smalls, tmp_path, kind):
    small = smalls[kind]
    path, beside = put(small, tmp_path / "whole")
    said = problem_of(kind, path, beside)
    # Keypoints of some lie anywhere; kinetics' small file is no video.
    assert said is None or "far from the box" in said or kind == "kinetics", said
    name = next(iter(small.files))
    content = small.files[name]
    broken = {
        "empty": b"",
        "half": content[: len(content) // 2],
        "page": b"<html>log in</html>",
        "pointer": b"version https://git-lfs.github.com/spec/v1",
        "noise": struct.pack("<64I", *range(64)),
        "list": pickle.dumps([1, 2]),
        "none": pickle.dumps({}),
    }
    for what, wrong in broken.items():
        path, beside = put(small, tmp_path / what, {name: wrong})
        problem = problem_of(kind, path, beside)
        assert problem, what
        assert re.search(r"got .*; expected|got no rows", problem), (what, problem)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_damaged_files_are_read_or_refused(smalls, tmp_path, kind):
    """Errors are ours, whatever is wrong; tools/fuzz_field.py goes on for longer."""
    rng = np.random.default_rng(1)
    small, refused = smalls[kind], 0
    for number in range(12):
        name = list(small.files)[rng.integers(len(small.files))]
        damaged = {name: damage(name, small.files[name], rng)}
        path, beside = put(small, tmp_path / str(number), damaged)
        refused += problem_of(kind, path, beside) is not None
    assert refused > 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["smpl", "regressor"])
def test_damaged_bodies_are_read_or_refused(tmp_path, kind):
    small, rng, refused = body_files(tmp_path / "bodies")[kind], np.random.default_rng(2), 0
    path, beside = put(small, tmp_path / "whole")
    assert problem_of(kind, path, beside) is None
    for _ in range(10):
        name = list(small.files)[rng.integers(len(small.files))]
        damaged = {name: damage(name, small.files[name], rng)}
        path, beside = put(small, tmp_path / "damaged", damaged)
        refused += problem_of(kind, path, beside) is not None
    assert refused > 1


@pytest.mark.parametrize(
    ("kind", "write"),
    [
        ("vibe", lambda odd: joblib_bytes(vibe([T]) | odd)),
        ("3dpw", lambda odd: python2_pickle(threedpw([T]) | odd)),
        ("spin", lambda odd: npz_bytes(spin() | odd)),
    ],
)
def test_values_of_any_other_kind_are_refused(saved, kind, write):
    keys = {
        "vibe": ("vid_name", "bbox", "joints2D", "pose"),
        "3dpw": ("poses", "cam_poses", "cam_intrinsics", "betas", "img_frame_ids", "genders"),
        "spin": ("imgname", "center", "scale", "part", "S"),
    }[kind]
    for key in keys:
        for number, odd in enumerate((3, "x", [], [[1], [2, 3]], {"a": 1}, np.zeros((2, 2)))):
            if kind == "spin" and isinstance(odd, list) and odd:
                continue  # numpy makes no array of it
            path = saved(f"{key}{number}.pkl", write({key: odd}))
            assert problem_of(kind, path), (key, odd)
