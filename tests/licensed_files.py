"""SMPL's folder and pictures, written where licensed ones would be."""

import cv2
import numpy as np

from flowhmr.body import H36M_17, SPIN_H36M_17, load_body, open_body
from smpl_files import smpl_arrays


def write_smpl_folder(folder):
    """Three genders who differ in what the first beta means, and the regressor of Human3.6M."""
    folder.mkdir(parents=True)
    arrays = smpl_arrays()
    for name, wider in (("NEUTRAL", 1.0), ("MALE", 1.5), ("FEMALE", 0.5)):
        shapedirs = arrays["shapedirs"] * wider
        np.savez(folder / f"SMPL_{name}.npz", **arrays | {"shapedirs": shapedirs})
    body = load_body(folder / "SMPL_NEUTRAL.npz")
    ours = open_body()
    joints = ours.keypoints(ours.mesh(ours.rest_params(1)), H36M_17)[0]
    # A joint is the mean of the forty vertices next to it.
    rows = np.zeros((len(SPIN_H36M_17), len(body.v_template)), np.float32)
    for row, place in enumerate(H36M_17.indices_of(SPIN_H36M_17.names)):
        near = (body.v_template - joints[place]).norm(dim=-1).argsort()[:40]
        rows[row, near.numpy()] = 1 / 40
    np.save(folder / "J_regressor_h36m.npy", rows)
    return folder


def write_pictures(folder, names, size_px):
    """Grey pictures of a width and height."""
    width, height = size_px
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((height, width, 3), 127, np.uint8))
    return folder
