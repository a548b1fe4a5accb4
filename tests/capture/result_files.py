"""Result files of other tools in their official layouts; numpy alone is needed.

``joblib_files.joblib_bytes`` writes as joblib does (files/ holds two that joblib itself wrote)::

    joblib 1.6, numpy 2.4:   joblib.dump(vibe_people(), "vibe_joblib16.pkl")
    joblib 1.1, numpy 1.26:  joblib.dump(phalp_frames(), "phalp_joblib11.pkl", compress=3)
"""

import io
import zlib

import numpy as np

SIZE_PX = (640, 361)
"""Odd in height: the padding to a square is not the same on both sides."""


def object_npy(value):
    """What ``numpy.save`` writes of a dict."""
    stream = io.BytesIO()
    np.save(stream, value, allow_pickle=True)
    return stream.getvalue()


def wave(*shape, phase=0.0, high=1.0):
    """Numbers that all differ, float32."""
    count = int(np.prod(shape))
    return (high * np.sin(phase + 0.7 * np.arange(count))).reshape(shape).astype(np.float32)


def rotations(*shape, phase=0.0):
    """Rotation matrices and their axis-angle vectors (Rodrigues' formula, written out)."""
    axis_angle = wave(*shape, 3, phase=phase).astype(np.float64)
    angle = np.linalg.norm(axis_angle, axis=-1)[..., None, None]
    x, y, z = np.moveaxis(axis_angle / angle[..., 0], -1, 0)
    o = np.zeros_like(x)
    cross = np.stack([o, -z, y, z, o, -x, -y, x, o], -1).reshape(*shape, 3, 3)
    rotmats = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)
    return rotmats.astype(np.float32), axis_angle.astype(np.float32)


def vibe_person(frames=3, phase=0.0, size_px=SIZE_PX):
    """One person of VIBE's, with the camera that its demo computes."""
    _, axis_angle = rotations(frames, 24, phase=phase)
    cam = np.stack([0.9 + 0.1 * np.arange(frames), *wave(2, frames, phase=phase, high=0.2)], -1)
    boxes = np.stack([300 + wave(frames), 180 + wave(frames), *2 * [150.0 + np.arange(frames)]], -1)
    return {
        "pred_cam": cam.astype(np.float32),
        "orig_cam": vibe_orig_cam(cam, boxes, *size_px).astype(np.float32),
        "verts": wave(frames, 7, 3),
        "pose": axis_angle.reshape(frames, 72),
        "betas": wave(frames, 10, phase=phase),
        "joints3d": wave(frames, 49, 3),
        "joints2d": None,
        "bboxes": boxes,
        "frame_ids": np.arange(4, 4 + frames),
    }


def vibe_orig_cam(cam, bbox, width, height):
    """VIBE's formula: crop camera -> camera of the whole image."""
    cx, cy, h = bbox[:, 0], bbox[:, 1], bbox[:, 2]
    hw, hh = width / 2.0, height / 2.0
    sx = cam[:, 0] * (1.0 / (width / h))
    sy = cam[:, 0] * (1.0 / (height / h))
    tx = ((cx - hw) / hw / sx) + cam[:, 1]
    ty = ((cy - hh) / hh / sy) + cam[:, 2]
    return np.stack([sx, sy, tx, ty], -1)


def vibe_people():
    """Two people of VIBE's."""
    return {1: vibe_person(), 7: vibe_person(phase=2.0)}


def phalp_frames(size_px=SIZE_PX):
    """Three frames of PHALP's: person 2 in all (not seen in the last), person 5 in the second."""
    frames = {}
    for t in range(3):
        entry = {"time": t, "shot": 0, "frame_path": f"{t:06d}.jpg"}
        people = [(2, 1 if t == 2 else 0)] + [(5, 0)] * (t == 1)
        rows = [phalp_row(t, number, size_px) for number, _ in people]
        for key in rows[0]:
            entry[key] = [row[key] for row in rows]
        entry["tid"] = [number for number, _ in people]
        entry["tracked_time"] = [missed for _, missed in people]
        entry["tracked_ids"] = [number for number, missed in people if missed == 0]
        frames[f"demo/{t:06d}.jpg"] = entry
    return frames


def phalp_row(t, number, size_px=SIZE_PX):
    """One person in one frame, with the camera that PHALP computes."""
    rotmats, _ = rotations(24, phase=t + number)
    center, scale = np.array([200.0 + 10 * t, 150.0 - t]), np.array([90.0, 210.0 + t])
    camera_bbox = np.array([0.8 + 0.05 * t, 0.1, -0.05 * number], np.float32)
    return {
        "bbox": np.array([*center - scale / 2, *scale]),
        "center": center,
        "scale": scale,
        "size": [size_px[1], size_px[0]],
        "conf": np.float32(0.9),
        "class_name": np.int64(0),
        "smpl": {
            "global_orient": rotmats[:1],
            "body_pose": rotmats[1:],
            "betas": wave(10, phase=number),
        },
        "camera": phalp_camera(camera_bbox, center, scale, size_px).astype(np.float32),
        "camera_bbox": camera_bbox,
        "2d_joints": wave(90),
        "3d_joints": wave(45, 3),
        "mask": [{"size": [size_px[1], size_px[0]], "counts": "abc"}],
        "annotations": [],
    }


def phalp_camera(cam, center, scale, size_px, res=256, focal=5000.0):
    """PHALP's formula: crop camera -> translation before its canvas of ``res`` pixels."""
    width, height = size_px
    side = max(size_px)
    top, left = (side - height) // 2, (side - width) // 2
    ratio = 1.0 / int(side) * res
    center, scale = (center + np.array([left, top])) * ratio, max(scale) * ratio
    t = np.array([cam[1], cam[2], 2 * focal / (cam[0] * scale + 1e-9)])
    t[:2] += (center - res / 2.0) * t[2] / focal
    return t


def phalp_pixels(points, camera, size_px, res=256, focal=5000.0):
    """PHALP's formula: points -> pixels of the canvas -> pixels of the image."""
    width, height = size_px
    side = max(size_px)
    top, left = (side - height) // 2, (side - width) // 2
    moved = points + camera
    canvas = (focal / res * moved[..., :2] / moved[..., 2:] + 0.5) * res
    return canvas / (res / side) - np.array([left, top])


def wham_people(frames=4):
    """One person of WHAM's."""
    _, axis_angle = rotations(frames, 24)
    return {
        0: {
            "pose": axis_angle.reshape(frames, 72),
            "trans": wave(frames, 3) + np.array([0, 0, 4.0], np.float32),
            "pose_world": axis_angle.reshape(frames, 72),
            "trans_world": wave(frames, 3),
            "betas": wave(frames, 10),
            "verts": wave(frames, 7, 3),
            "frame_ids": np.arange(frames),
        }
    }


def tram_camera(size_px=SIZE_PX):
    """TRAM's camera.npy."""
    middle = np.array(size_px) / 2
    return {"pred_cam_R": wave(4, 3, 3), "img_focal": np.float64(700.0), "img_center": middle}


def tram_track(frames=16, make=np.asarray):
    """One track of TRAM's; ``make`` turns arrays into what TRAM stores (tensors)."""
    rotmats, _ = rotations(frames, 24)
    track = {
        "pred_cam": wave(frames, 3),
        "pred_pose": wave(frames, 144),
        "pred_shape": wave(frames, 10),
        "pred_rotmat": rotmats,
        "pred_trans": wave(frames, 1, 3) + np.array([0, 0, 5.0], np.float32),
        "frame": np.arange(2, 2 + frames),
    }
    return {key: make(value) for key, value in track.items()}


def romp_frame(people=1, t=0, tracked=True):
    """One frame of ROMP's."""
    _, axis_angle = rotations(people, 24, phase=t)
    entry = {
        "cam": np.abs(wave(people, 3, phase=1.0 + t, high=0.4)),
        "smpl_thetas": axis_angle.reshape(people, 72),
        "smpl_betas": wave(people, 10),
        "cam_trans": wave(people, 3),
        "pj2d_org": wave(people, 71, 2),
    }
    return entry | ({"track_ids": np.arange(3, 3 + people, dtype=np.int32)} if tracked else {})


def romp_video(frames=3, people=1, tracked=True):
    """ROMP's video_results.npz, as its own function for it builds the dicts."""
    results, sequences = {}, {}
    for t in range(frames):
        entry = results[f"{t:08d}.png"] = romp_frame(people, t, tracked)
        for row, track in enumerate(entry.get("track_ids", [])):
            sequence = sequences.setdefault(track, {"frame_id": []})
            sequence["frame_id"].append(t)
            for key in entry:
                sequence.setdefault(key, []).append(entry[key][row])
    return {"results": results, "sequence_results": sequences}


def packed(content):
    """As joblib packs with ``compress=3``."""
    return zlib.compress(content, 3)
