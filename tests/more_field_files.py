"""More layouts of the field, written from `field_files.Truth` by their own rules."""

import gzip
import io
import struct

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from field_files import in_file


def npz_of_objects(arrays):
    """An npz as ``np.savez_compressed`` writes dicts into it: pickled."""
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def bedlam(t, joints=55):
    """BEDLAM's npz: SMPL-X's 55 joints, or SMPL's 24; pixels from the image's edge."""
    pose = np.random.default_rng(5).normal(0, 0.2, (len(t), joints, 3))
    pose[:, :22] = t.rotvecs[:, :22]
    if joints == 24:
        pose[:, 22:] = t.rotvecs[:, 22:]
    extrinsics = np.tile(np.eye(4), (len(t), 1, 1))
    extrinsics[:, :3, 3] = [0.1, 0.2, 0.3]
    points = t.keypoints_px[:, np.arange(24) + 10]
    return {
        "imgname": np.array([f"seq_000000/seq_000000_{5 * i:04d}.png" for i in range(len(t))]),
        "center": t.crop_centre_px,
        "scale": t.crop_side_px / 200,
        "pose_cam": pose.reshape(len(t), -1),
        "pose_world": np.zeros((len(t), 3 * joints)),
        "trans_cam": t.joints_cam[:, 0] - [0.1, 0.2, 0.3],
        "shape": np.concatenate([t.betas, np.ones((len(t), 1))], 1),
        "gtkps": points,
        "cam_int": np.tile(t.intrinsics, (len(t), 1, 1)),
        "cam_ext": extrinsics,
        "gender": np.array(["neutral", "male", "female"] * len(t))[: len(t)],
        "proj_verts": np.zeros((len(t), 437, 3), np.float32),
    }


def humandata(t, packed=True, model="smpl", seed=6):
    """A HumanData npz, and what is in it: keypoints [n, 190, 3], joints [n, 190, 4], boxes."""
    rng = np.random.default_rng(seed)
    mask = (rng.random(190) < 0.3).astype(np.uint8)
    mask[:2], mask[55] = (1, 0), 1
    points = np.concatenate(
        [rng.uniform(200, 800, (len(t), 190, 2)), np.ones((len(t), 190, 1))], -1
    )
    points = points * mask[:, None]
    points[1, 55] = 0
    joints = np.concatenate([rng.normal(0, 0.4, (len(t), 190, 3)), np.ones((len(t), 190, 1))], -1)
    joints = joints * mask[:, None]
    kept = np.flatnonzero(mask) if packed else np.arange(190)
    body = {
        "global_orient": t.rotvecs[:, 0],
        "body_pose": t.rotvecs[:, 1 : 24 if model == "smpl" else 22],
        "betas": t.betas,
        "transl": t.joints_cam[:, 0],
    }
    boxes = np.concatenate([t.crop_centre_px - 50, np.full((len(t), 2), 100.0)], 1)
    table = {
        "__key_strict__": np.array(False),
        "__temporal_len__": np.array(len(t)),
        "__keypoints_compressed__": np.array(packed),
        "image_path": np.array([f"images/{i:06d}.jpg" for i in range(len(t))]),
        "bbox_xywh": np.concatenate([boxes, np.ones((len(t), 1))], 1),
        "keypoints2d": in_file(points)[:, kept],
        "keypoints2d_mask": mask,
        "keypoints2d_convention": np.array("human_data"),
        "keypoints3d": joints[:, kept],
        "keypoints3d_mask": mask,
        model: np.array(body, dtype=object),
        "meta": np.array({"gender": ["m", "f", "neutral"] * len(t)}, dtype=object),
        "misc": np.array({"kps3d_root_aligned": False}, dtype=object),
        "config": np.array("coco"),
    }
    table["meta"][()]["gender"] = table["meta"][()]["gender"][: len(t)]
    return table, points, joints, boxes


_SIDED = ("ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
POSETRACK_NAMES = [
    *("nose", "head_bottom", "head_top"),
    *(f"{side}_{name}" for name in _SIDED for side in ("left", "right")),
]


def posetrack_points(t):
    """The truth's points as PoseTrack's: nobody labels ears."""
    points = t.keypoints_px[:, 4:21].copy()
    points[:, 3:5] = 0
    points[..., 2] = points[..., 2] > 0
    return points


def posetrack(people, names=POSETRACK_NAMES):
    """A video of PoseTrack: annotations frame by frame, people by number; some lack boxes."""
    order = [POSETRACK_NAMES.index(name) for name in names]
    count = len(people[0])
    images = [
        {
            "file_name": f"images/train/000001_bonn_train/{i:06d}.jpg",
            "id": 10000010000 + i,
            "frame_id": 10000010000 + i,
            "vid_id": "000001",
            "is_labeled": True,
            "nframes": count,
        }
        for i in range(count)
    ]
    annotations = []
    for i in range(count):
        for person, t in enumerate(people):
            points = in_file(posetrack_points(t))[i, order]
            box = [*(t.crop_centre_px[i] - [40, 60]).tolist(), 80.0, 120.0]
            entry = {"image_id": 10000010000 + i, "track_id": person, "category_id": 1}
            annotations.append(entry | {"keypoints": points.reshape(-1).tolist(), "bbox": box})
    annotations[1].pop("bbox")
    annotations.append({"image_id": 10000010000, "track_id": 9, "keypoints": [0.0] * 51})
    annotations.append({"image_id": 10000010000, "track_id": 9, "bbox_head": [1, 2, 3, 4]})
    categories = [{"name": "person", "id": 1, "keypoints": list(names)}]
    return {"images": images, "annotations": annotations, "categories": categories}


SURREAL_SIDES = [
    0,
    2,
    1,
    3,
    5,
    4,
    6,
    8,
    7,
    9,
    11,
    10,
    12,
    14,
    13,
    15,
    17,
    16,
    19,
    18,
    21,
    20,
    23,
    22,
]
"""SMPL's joints with left and right exchanged."""
SURREAL_CAMERA = np.array([[0.0, 0, -1], [0, 1, 0], [-1, 0, 0]])
SURREAL_INTRINSICS = np.array([[600.0, 0, 160], [0, 600, 120], [0, 0, 1]])


def surreal_px(t):
    """Where SURREAL's camera sees the joints; pixels from the image's edge."""
    seen = t.joints_cam @ SURREAL_INTRINSICS.T
    return seen[..., :2] / seen[..., 2:]


def surreal(t, squeezed=False):
    """A clip's ``_info.mat``: bodies in Blender's world, mirrored against what is seen."""
    place, zrot = np.array([7.0, -1.0, 0.5]), np.linspace(0.3, 0.6, len(t))
    flip = np.diag([-1.0, 1, 1])
    upright = Rotation.from_euler("z", zrot[:, None]).as_matrix()
    quarter = Rotation.from_euler("x", np.pi / 2).as_matrix()
    turns = flip @ t.rotmats[:, SURREAL_SIDES] @ flip
    turns[:, 0] = np.linalg.inv(SURREAL_CAMERA @ quarter @ upright) @ t.rotmats[:, 0] @ flip
    rotvecs = Rotation.from_matrix(turns.reshape(-1, 3, 3)).as_rotvec().reshape(len(t), 72)
    world = (t.joints_cam @ np.linalg.inv(SURREAL_CAMERA).T + place)[:, SURREAL_SIDES]
    arrays = {
        "joints2D": surreal_px(t)[:, SURREAL_SIDES].transpose(2, 1, 0),
        "joints3D": world.transpose(2, 1, 0),
        "pose": rotvecs.T,
        "shape": t.betas.T,
    }
    if squeezed:
        arrays = {key: array.squeeze(-1) for key, array in arrays.items()}
    return arrays | {
        "gender": np.arange(len(t))[:, None] % 2,
        "zrot": zrot[None],
        "camLoc": place[:, None],
        "camDist": 7.0,
        "clipNo": 1.0,
        "stride": 50.0,
        "sequence": "01_01",
        "source": "cmu",
        "light": np.zeros((9, 1)),
        "bg": np.array(["a.jpg"], object),
        "cloth": np.array(["b.jpg"], object),
    }


def _varint(value):
    value, out = value % 2**64, b""
    while value > 0x7F:
        value, out = value >> 7, out + bytes([value & 0x7F | 0x80])
    return out + bytes([value])


def _field(number, content):
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _feature(values):
    """A list of bytes, of floats (packed) or of integers (packed)."""
    if isinstance(values, list):
        return _field(1, b"".join(_field(1, value) for value in values))
    if values.dtype.kind == "f":
        return _field(2, _field(1, values.astype("<f4").tobytes()))
    return _field(3, _field(1, b"".join(_varint(int(value)) for value in values.reshape(-1))))


def tf_example(features):
    """A ``tf.train.Example``."""
    entries = (_field(1, key.encode()) + _field(2, _feature(v)) for key, v in features.items())
    return _field(1, b"".join(_field(1, entry) for entry in entries))


def crc_32c(raw):
    """The checksum, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in raw:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def tf_record_bytes(records):
    """A TFRecord file."""

    def masked(raw):
        crc = crc_32c(raw)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32)

    out = b""
    for record in records:
        length = struct.pack("<Q", len(record))
        out += length + masked(length) + record + masked(record)
    return out


def insta(t, normalised=False, toes=True):
    """A video of InstaVariety: the truth's first 25 points, each picture of one grey."""
    points = in_file(t.keypoints_px[:, :25] * [0.25, 0.25, 1])
    points[..., 2] = points[..., 2] > 0
    if not toes:
        points[:, 19:] = 0
    stored = points.transpose(0, 2, 1).astype(np.float32)
    if normalised:
        stored[:, :2] = stored[:, :2] / 224 * 2 - 1
    grey = [np.full((8, 8, 3), 20 * i, np.uint8) for i in range(len(t))]
    features = {
        "meta/N": np.array([len(t)]),
        "image/filenames": [b"/home/a/%d.png" % i for i in range(len(t))],
        "image/xys": stored[:, :2, :14],
        "image/visibilities": stored[:, 2, :14].astype(np.int64),
        "image/face_pts": stored[:, :, 14:19],
        "image/toe_pts": stored[:, :, 19:] if toes else np.zeros(0, np.float32),
        "image/encoded": [cv2.imencode(".jpg", image)[1].tobytes() for image in grey],
        "meta/time_pts": np.array([0, -1]),
    }
    if normalised:
        features["image/phis"] = np.zeros((len(t), 4), np.float32)
    points[..., :2] = np.where(points[..., 2:] > 0, points[..., :2] + 0.5, 0)
    return features, points


def cdf_bytes(values, name="Pose", wide=8, packed=False, order="<", columns_first=False, blocks=2):
    """A CDF file of one zVariable [records, *dimensions] of doubles.

    Args:
        wide: bytes of an offset: 8 in version 3, 4 in version 2.
        packed: with gzip.
        blocks: how many blocks of records the values lie in.
    """
    count, *shape = values.shape
    code = {8: "q", 4: "i"}[wide]

    def record(kind, *fields):
        """Text as bytes, "o" before offsets, else numbers of four bytes."""
        body = b"".join(
            f
            if isinstance(f, bytes)
            else struct.pack(
                f">{code if isinstance(f, tuple) else 'i'}", f[0] if isinstance(f, tuple) else f
            )
            for f in fields
        )
        return struct.pack(f">{code}i", len(body) + wide + 4, kind) + body

    flags = 2 | (0 if columns_first else 1)
    magic = struct.pack(">II", {8: 0xCDF30001, 4: 0xCDF26002}[wide], 0x0000FFFF)
    encoding = {"<": 6, ">": 1}[order]

    def head(directory):
        return record(1, (directory,), 3, 8, encoding, flags, 0, 0, 0, 0, 0, bytes(256))

    def top(variable, end):
        return record(2, (0,), (variable,), (0,), (end,), 0, 0, -1, 0, 1, (0,), 0, 0, 0)

    def variable(index, packing):
        label = name.encode().ljust({8: 256, 4: 64}[wide], b"\0")
        dims = [len(shape), *shape, *[-1] * len(shape)]
        fields = (45, count - 1, (index,), (index,), 1 | 4 * packed, 0, 0, 0, 0, 1, 0, (packing,))
        return record(8, (0,), *fields, 0, label, *dims)

    stored = values.transpose(0, *range(len(shape), 0, -1)) if columns_first else values
    parts = np.array_split(stored.astype(order + "f8"), blocks)
    bounds = np.cumsum([0, *map(len, parts)])

    def index(places):
        return record(
            6, (0,), blocks, blocks, *map(int, bounds[:-1]), *(int(b) - 1 for b in bounds[1:]),
            *((place,) for place in places),
        )  # fmt: skip

    packing = record(11, 5, 0, 1, 6)
    data = []
    for part in parts:
        raw = part.tobytes()
        if packed:
            raw = gzip.compress(raw, mtime=0)
            data.append(record(13, 0, (len(raw),), raw))
        else:
            data.append(record(7, raw))
    # Sizes do not depend on the places, so that the places follow from empty ones.
    place = len(magic) + len(head(0))
    at_top = place
    at_variable = at_top + len(top(0, 0))
    at_packing = at_variable + len(variable(0, 0))
    at_index = at_packing + len(packing)
    places = list(at_index + len(index([0] * blocks)) + np.cumsum([0, *map(len, data)]))
    return b"".join(
        [
            magic, head(at_top), top(at_variable, int(places[-1])),
            variable(at_index, at_packing if packed else -1), packing,
            index([int(p) for p in places[:-1]]), *data,
        ]
    )  # fmt: skip


H36M_PICKED = [11, 6, 7, 8, 1, 2, 3, 12, 24, 14, 15, 17, 18, 19, 25, 26, 27]


def human36m_cdf(t, **options):
    """3D and 2D poses of a video: 32 joints, of which 17 are the truth's first."""
    rng = np.random.default_rng(7)
    joints = rng.normal(0, 900, (len(t), 32, 3))
    joints[:, H36M_PICKED] = 1000 * t.joints_cam[:, :17]
    points = rng.uniform(0, 1000, (len(t), 32, 2))
    points[:, H36M_PICKED] = t.joints_px[:, :17] - 0.5
    return tuple(cdf_bytes(a.reshape(1, len(t), -1), blocks=1, **options) for a in (joints, points))
