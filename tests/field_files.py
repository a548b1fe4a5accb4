"""Data sets in the field's layouts, written from a truth that readers must give back.

The truth is in this package's conventions: camera axes, metres, pixel corners on integers. Each
writer turns it into its layout by that layout's own rules, written out.
"""

import io
import json
from dataclasses import dataclass, fields

import numpy as np
import pytest
import scipy.io
import torch
from scipy.spatial.transform import Rotation

from flowhmr.body import COCO_17, open_body
from joblib_files import joblib_bytes
from python2_pickles import python2_pickle


@dataclass(frozen=True, eq=False)
class Truth:
    """Some people in pictures; arrays float64."""

    rotvecs: np.ndarray
    """[n, 24, 3], joint 0 turns into camera axes."""
    betas: np.ndarray
    joints_cam: np.ndarray
    """[n, 24, 3], metres before the camera."""
    intrinsics: np.ndarray
    """[3, 3], pixel corners on integers."""
    keypoints_px: np.ndarray
    """[n, 49, 3]."""
    crop_centre_px: np.ndarray
    crop_side_px: np.ndarray

    def __len__(self):
        return len(self.rotvecs)

    @property
    def rotmats(self):
        turns = Rotation.from_rotvec(self.rotvecs.reshape(-1, 3)).as_matrix()
        return turns.reshape(-1, 24, 3, 3)

    @property
    def joints_px(self):
        seen = self.joints_cam @ self.intrinsics.T
        return seen[..., :2] / seen[..., 2:]


def truth(count=5, seed=0):
    """People who stand some metres before a camera and turn."""
    rng = np.random.default_rng(seed)
    rotvecs = 0.4 * rng.normal(size=(count, 24, 3))
    upright = Rotation.from_euler("x", np.pi)
    turned = upright * Rotation.from_rotvec(rng.uniform(-1, 1, (count, 1)) * [0, 1, 0])
    rotvecs[:, 0] = turned.as_rotvec()
    betas = rng.normal(size=(count, 10))
    body = open_body()
    turns = Rotation.from_rotvec(rotvecs.reshape(-1, 3)).as_matrix().reshape(count, 24, 3, 3)
    params = body.params(
        torch.from_numpy(turns).float(), torch.from_numpy(betas).float()[:, : body.num_betas]
    )
    joints = body.joints(params).double().numpy()
    joints = joints - joints[:, :1] + rng.uniform([-0.5, -0.2, 3], [0.5, 0.2, 5], (count, 1, 3))
    intrinsics = np.array([[1000.0, 0, 540.5], [0, 1010.0, 960.5], [0, 0, 1]])
    points = np.concatenate(
        [rng.uniform(200, 800, (count, 49, 2)), rng.uniform(0.1, 1, (count, 49, 1))], -1
    )
    points[:, 3] = 0
    centre = rng.uniform(400, 600, (count, 2))
    return Truth(rotvecs, betas, joints, intrinsics, points, centre, rng.uniform(300, 500, count))


def in_file(points_px):
    """Pixels as files have them: centres on integers; unseen points at the origin."""
    moved = np.concatenate([points_px[..., :2] - 0.5, points_px[..., 2:]], -1)
    return np.where(points_px[..., 2:] > 0, moved, 0.0)


def spin_arrays(t):
    """SPIN's npz."""
    points = in_file(t.keypoints_px)
    joints = t.joints_cam - t.joints_cam[:, :1]
    return {
        "imgname": np.array([f"train2014/COCO_{i:012d}.jpg" for i in range(len(t))]),
        "center": t.crop_centre_px - 0.5,
        "scale": t.crop_side_px / 200,
        "openpose": points[:, :25],
        "part": points[:, 25:],
        "pose": t.rotvecs.reshape(-1, 72),
        "shape": t.betas,
        "has_smpl": np.arange(len(t)) % 2,
        "S": np.concatenate([joints, np.ones((len(t), 24, 1))], -1),
        "gender": np.array(["m", "f"] * len(t))[: len(t)],
        "maskname": np.array([""] * len(t)),
    }


def world_cameras(count, seed=1):
    """World to camera, a camera that moves: [n, 4, 4]."""
    rng = np.random.default_rng(seed)
    T_cam_world = np.tile(np.eye(4), (count, 1, 1))
    T_cam_world[:, :3, :3] = Rotation.from_rotvec(rng.normal(size=(count, 3))).as_matrix()
    T_cam_world[:, :3, 3] = rng.normal(size=(count, 3))
    return T_cam_world


def threedpw(people, name="downtown_walking_00", frames=None):
    """A sequence of 3DPW; each person of the same length. ``frames``: their numbers."""
    count = len(people[0])
    T_cam_world = world_cameras(count)
    R, shift = T_cam_world[:, :3, :3], T_cam_world[:, :3, 3]
    poses, positions, points = [], [], []
    for t in people:
        rotvecs = t.rotvecs.copy()
        turned = R.transpose(0, 2, 1) @ t.rotmats[:, 0]
        rotvecs[:, 0] = Rotation.from_matrix(turned).as_rotvec()
        poses.append(rotvecs.reshape(-1, 72))
        world = (t.joints_cam - shift[:, None]) @ R
        positions.append(world.reshape(-1, 72))
        points.append(in_file(t.keypoints_px[:, :18]).transpose(0, 2, 1))
    intrinsics = people[0].intrinsics.copy()
    intrinsics[:2, 2] -= 0.5
    return {
        "sequence": name,
        "betas": [t.betas[0] for t in people],
        "poses": poses,
        "trans": [p.reshape(-1, 24, 3)[:, 0] for p in positions],
        "poses_60Hz": poses,
        "genders": ["m", "f"][: len(people)],
        "texture_maps": [np.zeros((4, 4, 3), np.uint8)] * len(people),
        "poses2d": points,
        "jointPositions": positions,
        "campose_valid": [(np.arange(count) != 1).astype(np.int64) for _ in people],
        "cam_poses": T_cam_world,
        "cam_intrinsics": intrinsics,
        "img_frame_ids": np.arange(count) * 2 + 3 if frames is None else frames,
    }


def threedpw_bytes(people, **options):
    return python2_pickle(threedpw(people, **options))


def eft(t):
    """EFT's json and the COCO json that it refers to; two people a picture."""
    rng = np.random.default_rng(2)
    scale = rng.uniform(0.6, 1, len(t))
    cameras = np.concatenate([scale[:, None], rng.uniform(-0.2, 0.2, (len(t), 2))], -1)
    data, annotations = [], []
    for i in range(len(t)):
        data.append(
            {
                "parm_pose": t.rotmats[i].tolist(),
                "parm_shape": t.betas[i].tolist(),
                "parm_cam": cameras[i].tolist(),
                "bbox_scale": t.crop_side_px[i] / 200,
                "bbox_center": (t.crop_centre_px[i] - 0.5).tolist(),
                "joint_validity_openpose18": [1.0] * 18,
                "smpltype": "smpl",
                "annotId": 1000 - i,
                "imageName": f"COCO_train2014_{i // 2:012d}.jpg",
                "subjectId": "",
            }
        )
        points = in_file(coco_points(t)[i])
        # Hidden ones are annotated, too.
        points[:, 2] = (1 + np.arange(17) % 2) * (points[:, 2] > 0)
        annotations.append(
            {"id": 1000 - i, "image_id": i // 2, "keypoints": points.reshape(-1).tolist()}
        )
    # Numbers of images are numbers of other people's annotations, too.
    annotations += [{"id": i, "image_id": i, "keypoints": [7.0] * 51} for i in range(len(t))]
    coco = {"images": [], "annotations": annotations}
    return {"ver": 0.1, "data": data}, coco, cameras


def coco_points(t):
    """COCO's 17 of the truth's points, confidence 0 or 1."""
    points = t.keypoints_px[:, : len(COCO_17)].copy()
    points[..., 2] = points[..., 2] > 0
    return points


def vibe(people, joints=49):
    """VIBE's database of sequences of some lengths."""
    t = joined(people)
    points = in_file(t.keypoints_px)[:, :joints].astype(np.float32)
    lengths = [len(p) for p in people]
    side = t.crop_side_px
    return {
        "vid_name": np.concatenate([[f"seq_{i}_0"] * n for i, n in enumerate(lengths)]),
        "frame_id": np.concatenate([np.arange(n) for n in lengths]),
        "img_name": np.array([f"img/{i:06d}.jpg" for i in range(len(t))]),
        "joints2D": points,
        "joints3D": np.tile(t.joints_cam, (1, 3, 1))[:, :joints].astype(np.float32),
        "pose": t.rotvecs.reshape(-1, 72).astype(np.float32),
        "shape": t.betas.astype(np.float32),
        "bbox": np.concatenate([t.crop_centre_px - 0.5, np.stack([side, side], -1)], -1),
        "features": np.zeros((len(t), 2048), np.float32),
        "valid": (np.arange(len(t)) != 2).astype(np.float32),
    }


def vibe_bytes(people, **options):
    return joblib_bytes(vibe(people, **options))


def joined(people):
    """Several people's rows, one after the other."""
    names = [f.name for f in fields(Truth)]
    return Truth(
        **{
            n: people[0].intrinsics
            if n == "intrinsics"
            else np.concatenate([getattr(p, n) for p in people])
            for n in names
        }
    )


def npz_bytes(arrays, packed=False):
    stream = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(stream, **arrays)
    return stream.getvalue()


def json_bytes(value):
    return json.dumps(value).encode()


def coco(t):
    """COCO's json: crowds and people without keypoints are in it, too."""
    images = [{"id": 70 + i // 2, "file_name": f"{i // 2:012d}.jpg"} for i in range(len(t))]
    boxes = np.concatenate([t.crop_centre_px - 50, np.full((len(t), 2), 100.0)], 1)
    annotations = [
        {"id": 1, "image_id": 70, "iscrowd": 1, "bbox": [0, 0, 9, 9], "keypoints": [1] * 51},
        {"id": 2, "image_id": 70, "bbox": [0, 0, 9, 9], "keypoints": [0] * 51},
    ]
    for i in range(len(t)):
        points = in_file(coco_points(t)[i])
        points[:, 2] *= 1 + np.arange(17) % 2
        entry = {"id": 3 + i, "image_id": 70 + i // 2, "bbox": boxes[i].tolist(), "iscrowd": 0}
        annotations.append(entry | {"keypoints": points.reshape(-1).tolist()})
    return {"info": {}, "images": images[::2], "annotations": annotations}, boxes


def mat_bytes(value):
    stream = io.BytesIO()
    scipy.io.savemat(stream, value, do_compression=True)
    return stream.getvalue()


def penn(t):
    """A video of Penn Action."""
    points = in_file(t.keypoints_px[:, :13])
    return {
        "x": points[..., 0],
        "y": points[..., 1],
        "visibility": (points[..., 2] > 0).astype(np.uint8),
        "nframes": float(len(t)),
        "train": 1.0,
        "action": "golf_swing",
        "bbox": np.ones((len(t), 4)),
        "dimensions": np.array([270.0, 480, len(t)]),
    }


def joints_28(t):
    """Truth of 28 joints, camera axes, metres."""
    return np.concatenate([t.joints_cam, t.joints_cam[:, :4] + 0.1], 1)


def mpii3d(people):
    """Training annotations of MPI-INF-3DHP: 14 cameras, the last ones look from above."""
    annot2, annot3 = np.empty((14, 1), object), np.empty((14, 1), object)
    for camera in range(14):
        t = people[camera % len(people)]
        annot2[camera, 0] = in_file(t.keypoints_px)[:, :28, :2].reshape(len(t), 56)
        annot3[camera, 0] = (1000 * joints_28(t)).reshape(len(t), 84).astype(np.float32)
    return {"annot2": annot2, "annot3": annot3, "cameras": np.arange(14.0)}


def write_mpii3d_test(path, t):
    """Its test annotations: HDF5, as MATLAB 7.3 writes it (needs h5py)."""
    h5py = pytest.importorskip("h5py", reason="pip install 'flowhmr[hdf5]'")
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        file["annot2"] = in_file(t.keypoints_px)[:, None, :17, :2]
        file["univ_annot3"] = 1000 * t.joints_cam[:, None, :17]
        # The same people as large as they are.
        file["annot3"] = 1100 * t.joints_cam[:, None, :17]
        file["valid_frame"] = (np.arange(len(t)) != 1).astype(np.float64)[:, None]


def human36m(t):
    """A subject of Human3.6M as JSON: cameras, joints and NeuralAnnot's bodies, in the world."""
    T_cam_world = world_cameras(1)[0]
    R, shift = T_cam_world[:3, :3], T_cam_world[:3, 3]
    world_mm = 1000 * (t.joints_cam[:, :17] - shift) @ R
    rotvecs = t.rotvecs.copy()
    rotvecs[:, 0] = Rotation.from_matrix(R.T @ t.rotmats[:, 0]).as_rotvec()
    intrinsics = t.intrinsics
    camera = {
        "R": R.tolist(),
        "t": (1000 * shift).tolist(),
        "f": [intrinsics[0, 0], intrinsics[1, 1]],
        "c": (intrinsics[:2, 2] - 0.5).tolist(),
    }
    # As text, "10" comes before "5".
    frames = {str(5 * i + 5): world_mm[i].tolist() for i in range(len(t))}
    bodies = {
        str(5 * i + 5): {"pose": rotvecs[i].reshape(-1).tolist(), "shape": t.betas[i].tolist()}
        for i in range(len(t))
        if i != 1
    }
    return {
        "camera": {"1": camera, "3": camera},
        "joint_3d": {"2": {"1": dict(sorted(frames.items()))}},
        "SMPL_NeuralAnnot": {"2": {"1": bodies}},
    }


def write_human36m(folder, t, subject=9):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in human36m(t).items():
        (folder / f"Human36M_subject{subject}_{name}.json").write_bytes(json_bytes(content))
    return folder
