"""Small files of each layout, damage done to them, and what is said of them then."""

import io
import json
import struct
import zipfile
from dataclasses import dataclass

import numpy as np
import scipy.io

from field_files import (
    coco,
    eft,
    mpii3d,
    npz_bytes,
    penn,
    spin_arrays,
    threedpw_bytes,
    truth,
    vibe_bytes,
    write_human36m,
)
from flowhmr.body import BodyFileError
from flowhmr.data import (
    OTHER_KINDS,
    BoxError,
    VideoError,
    check_field,
    check_other,
    open_field,
)
from flowhmr.files import DataFileError
from flowhmr.synth import BvhError
from licensed_files import write_smpl_folder
from more_field_files import (
    bedlam,
    human36m_cdf,
    humandata,
    insta,
    npz_of_objects,
    posetrack,
    surreal,
    tf_example,
    tf_record_bytes,
)
from python2_pickles import python2_pickle
from smpl_files import published, smpl_arrays

OURS = (DataFileError, BodyFileError, BoxError, BvhError, VideoError, FileNotFoundError)
"""What may be raised. A file whose name alone is wrong is not there."""


@dataclass(frozen=True)
class Small:
    """A layout's files by name, and which of them is opened; None: the folder."""

    files: dict
    opened: str | None = None
    beside: str | None = None


def mat(value):
    """Not packed: behind a checksum, damage is only ever found by it."""
    stream = io.BytesIO()
    scipy.io.savemat(stream, value)
    return stream.getvalue()


def text(value):
    return json.dumps(value).encode()


BVH = """HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
%s}
MOTION
Frames: 2
Frame Time: 0.0333333
%s
"""


def bvh():
    """A person of few joints who stands."""

    def chain(names, offsets):
        inner = ""
        for name, offset in zip(names[::-1], offsets[::-1]):
            inner = f"JOINT {name} {{ OFFSET {offset} CHANNELS 3 Zrotation Xrotation Yrotation\n"
            inner += f"{chain.inner or 'End Site { OFFSET 0 -5 0 }'} }}\n"
            chain.inner = inner
        chain.inner = ""
        return inner

    chain.inner = ""
    parts = ""
    for side, x in (("Left", 10), ("Right", -10)):
        leg = [f"{side}{part}" for part in ("UpLeg", "Leg", "Foot")]
        parts += chain(leg, [f"{x} 0 0", "0 -40 0", "0 -40 0"])
        arm = [f"{side}{part}" for part in ("Arm", "ForeArm", "Hand")]
        parts += chain(arm, [f"{2 * x} 50 0", f"{3 * x} 0 0", f"{3 * x} 0 0"])
    parts += chain(["Spine", "Neck", "Head"], ["0 20 0", "0 30 0", "0 10 0"])
    count = 6 + 3 * parts.count("JOINT")
    row = " ".join(["0", "90", "0", *["1.5"] * (count - 3)])
    return (BVH % (parts, "\n".join([row, row]))).encode()


def openpose(seed=0):
    points = np.random.default_rng(seed).uniform(50, 300, (25, 3)).round(2)
    points[:, 2] = 0.9
    return text({"version": 1.3, "people": [{"pose_keypoints_2d": points.reshape(-1).tolist()}]})


def recording():
    rng = np.random.default_rng(0)
    return {
        "poses": rng.normal(0, 0.2, (5, 156)),
        "trans": rng.normal(size=(5, 3)),
        "betas": np.zeros(16),
        "gender": np.array("male"),
        "mocap_framerate": np.array(120.0),
    }


def small_files(folder):
    """Of all kinds but those whose smallest file is a body or a video.

    Args:
        folder: scratch.
    """
    two = truth(2)
    write_human36m(folder, two)
    joints, points = human36m_cdf(two, packed=True)
    human = {path.name: path.read_bytes() for path in folder.glob("Human36M*")}
    fits, annotations, _ = eft(two)
    csv = b"label,youtube_id,time_start,time_end,split\njump,abc,1,2,train\n"
    return {
        "spin": Small({"a.npz": npz_bytes(spin_arrays(two))}, "a.npz"),
        "3dpw": Small({"a.pkl": threedpw_bytes([two])}, "a.pkl"),
        "eft": Small({"a.json": text(fits), "c.json": text(annotations)}, "a.json", "c.json"),
        "vibe": Small({"a.pt": vibe_bytes([two, truth(1)])}, "a.pt"),
        "h36m": Small(human),
        "h36m-cdf": Small(
            {"S9/My/D3_Positions_mono/a.cdf": joints, "S9/My/D2_Positions/a.cdf": points}
        ),
        "mpii3d": Small({"S1/annot.mat": mat(mpii3d([two]))}),
        "coco": Small({"a.json": text(coco(two)[0])}, "a.json"),
        "penn": Small({"a.mat": mat(penn(two))}, "a.mat"),
        "bedlam": Small({"a.npz": npz_of_objects(bedlam(two))}, "a.npz"),
        "humandata": Small({"a.npz": npz_of_objects(humandata(two)[0])}, "a.npz"),
        "posetrack": Small({"a.json": text(posetrack([two]))}, "a.json"),
        "surreal": Small({"a_info.mat": mat(surreal(two))}),
        "insta": Small({"a.tfrecord": tf_record_bytes([tf_example(insta(two)[0])])}, "a.tfrecord"),
        "amass": Small({"a_poses.npz": npz_bytes(recording())}),
        "bvh": Small({"a.bvh": bvh()}),
        "openpose": Small({f"a_{i:012d}_keypoints.json": openpose(i) for i in range(2)}),
        "kinetics": Small({"jump/abc_000001_000002.mp4": b"x" * 40, "k.csv": csv}, None, "k.csv"),
    }


HEAD = 2**16
"""Of files of many megabytes most damage is done here, where there is more than numbers."""


def body_files(folder):
    """Of the kinds whose smallest file is a body, tens of megabytes: not in `small_files`.

    Args:
        folder: scratch, not there yet.
    """
    arrays = smpl_arrays()
    write_smpl_folder(folder)
    content = published(arrays)
    # What has structure first.
    order = sorted(content, key=lambda key: np.size(getattr(content[key], "x", content[key])))
    names = ("J_regressor_h36m.npy", "SMPL_NEUTRAL.npz")
    return {
        "smpl": Small({"a.pkl": python2_pickle({key: content[key] for key in order})}, "a.pkl"),
        "regressor": Small(
            {name: (folder / name).read_bytes() for name in names},
            *names,
        ),
    }


def put(small, folder, damaged=None):
    """Write the files, some of them damaged; returns what is opened and what is beside it."""
    for name, content in (small.files | (damaged or {})).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    opened = folder if small.opened is None else folder / small.opened
    return opened, None if small.beside is None else folder / small.beside


def problem_of(kind, path, beside=None):
    """The first inconsistency, or the error (one of ours) that ends it; None: nothing is wrong."""
    try:
        if kind in OTHER_KINDS:
            return check_other(kind, path, beside).problem
        return check_field(open_field(kind, path, beside)).problem
    except OURS as error:
        return str(error)


ODD = (b"NaN", b"-1", b"1e999", b"null", b"[]", b"{}", b'"x"', b"9" * 30, b"", b"0", b"true")


def damage(name, content, rng):
    """A file with something wrong in it; where its bytes have a checksum, that is right again."""
    if content[:2] == b"PK" and rng.random() < 0.85:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {member: archive.read(member) for member in archive.namelist()}
        chosen = list(members)[rng.integers(len(members))]
        members[chosen] = _bytes(members[chosen], rng)
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            for member, raw in members.items():
                archive.writestr(member, raw)
        return stream.getvalue()
    if name.endswith(".tfrecord") and rng.random() < 0.85:
        (length,) = struct.unpack("<Q", content[:8])
        return tf_record_bytes([_bytes(content[12 : 12 + length], rng)])
    if name.endswith((".json", ".csv", ".bvh")) and rng.random() < 0.6:
        return _words(content, rng)
    head = HEAD if len(content) > 2**20 and rng.random() < 0.7 else len(content)
    return _bytes(content[:head], rng) + content[head:]


def _words(content, rng):
    """A number or a word replaced by another."""
    text = content.decode()
    spans, start = [], None
    for place, letter in enumerate(text):
        inside = letter not in ' ,:[]{}"\n'
        if inside and start is None:
            start = place
        elif not inside and start is not None:
            spans.append((start, place))
            start = None
    low, high = spans[rng.integers(len(spans))]
    return content[:low] + ODD[rng.integers(len(ODD))] + content[high:]


def _bytes(content, rng):
    """Bytes changed, left out, put twice, or cut off; often near the beginning, where heads are."""
    raw = bytearray(content)
    for _ in range(1 + int(rng.integers(3))):
        near = rng.random() < 0.5
        place = int(rng.integers(min(len(raw), 200) if near else len(raw))) if raw else 0
        size = int(rng.integers(1, 9))
        match rng.integers(6):
            case 0 | 1:
                raw[place : place + 1] = bytes([rng.integers(256)])
            case 2:
                raw[place : place + 1] = bytes([raw[place] ^ 1 << rng.integers(8)]) if raw else b""
            case 3:
                del raw[place : place + size]
            case 4:
                raw[place:place] = raw[place : place + size]
            case 5:
                raw[place : place + size] = bytes([(0, 255, 127, 128)[rng.integers(4)]]) * size
    if rng.random() < 0.1:
        del raw[int(rng.integers(len(raw) + 1)) :]
    return bytes(raw)
