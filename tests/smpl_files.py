"""Files of SMPL's official layouts, written without chumpy: the open body, shuffled."""

import numpy as np
from scipy import sparse

from flowhmr.body import SMPL_24, open_body
from python2_pickles import Ch


def smpl_arrays(num_betas=10):
    """Plain arrays under SMPL's keys: the open body with its vertices shuffled."""
    body, rng = open_body(), np.random.default_rng(0)
    old_of_new = rng.permutation(len(body.v_template))
    new_of_old = np.argsort(old_of_new)
    parents = np.array(SMPL_24.parents, np.int64).astype(np.uint32)
    directions = np.full((len(old_of_new), 3, max(num_betas, 10)), 1e-3)
    directions[..., :10] = body.shapedirs.numpy()[old_of_new]
    posedirs = body.posedirs.numpy()[:, old_of_new].transpose(1, 2, 0).astype(np.float64)
    return {
        "v_template": body.v_template.numpy()[old_of_new].astype(np.float64),
        "shapedirs": directions[..., :num_betas],
        # SMPL's pose directions are dense.
        "posedirs": posedirs + 1e-5,
        "J_regressor": body.joint_regressor.numpy()[:, old_of_new].astype(np.float64),
        "weights": body.weights.numpy()[old_of_new].astype(np.float64),
        "kintree_table": np.stack([parents, np.arange(24, dtype=np.uint32)]),
        "f": new_of_old[body.faces.numpy()].astype(np.uint32),
    }


def published(arrays):
    """The same content in the types that the published pickles hold."""
    shapedirs = arrays["shapedirs"]
    return {
        **arrays,
        "shapedirs": Ch(shapedirs),
        "J_regressor": sparse.csc_matrix(arrays["J_regressor"]),
        "J_regressor_prior": sparse.csc_matrix(arrays["J_regressor"]),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
        "pose_training_info": {"gender": "neutral", "scan": ["a", "b"]},
    }
