"""The open body keeps what its card says."""

import torch

from flowhmr.body import SMPL_24, open_body

BODY = open_body()


def test_it_is_read_once():
    assert open_body() is BODY


def test_counts():
    assert BODY.v_template.shape == (6890, 3)
    assert BODY.faces.shape == (13776, 3)
    assert BODY.num_betas == 10
    assert BODY.posedirs.shape == (207, 6890, 3)
    assert len(BODY.landmarks) == 22


def test_identity_is_of_the_arrays():
    assert BODY.body_id.startswith("open-body:")
    assert BODY.to(dtype=torch.float64).body_id == BODY.body_id


def test_axes():
    """y up, facing +z, the left at +x, T-pose, metres, the pelvis at the origin."""
    joints = BODY.mesh(BODY.rest_params()).joints
    at = dict(zip(SMPL_24.names, joints))
    assert at["pelvis"].norm() < 2e-4
    assert at["left_wrist"][0] > 0.5
    assert (at["left_wrist"] - at["left_shoulder"])[1].abs() < 0.05
    assert at["head"][1] > 0.4
    assert at["left_foot"][2] > at["left_ankle"][2] + 0.05
    height = BODY.v_template[:, 1].amax() - BODY.v_template[:, 1].amin()
    assert 1.6 < height < 1.8


def test_the_surface_is_closed_and_outward():
    edges = torch.cat([BODY.faces[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 0))])
    forth = edges[:, 0] * 6890 + edges[:, 1]
    back = edges[:, 1] * 6890 + edges[:, 0]
    assert len(forth.unique()) == len(forth)
    assert torch.equal(forth.sort().values, back.sort().values)
    assert 6890 - len(forth) // 2 + 13776 == 2
    a, b, c = BODY.v_template[BODY.faces].double().unbind(1)
    volume_litres = 1e3 * (a * torch.linalg.cross(b, c)).sum() / 6
    assert 60 < volume_litres < 80


def test_all_arrays_are_their_own_mirror_image():
    mirror, sides = BODY.symmetry, list(SMPL_24.mirror)
    flip = torch.tensor([-1.0, 1.0, 1.0])
    assert torch.equal(mirror[mirror], torch.arange(6890))
    assert torch.equal(flip * BODY.v_template[mirror], BODY.v_template)
    assert torch.equal(flip[:, None] * BODY.shapedirs[mirror], BODY.shapedirs)
    assert torch.equal(BODY.weights[mirror][:, sides], BODY.weights)
    for regressor in (BODY.joint_regressor, BODY.regressors[0].matrix):
        assert torch.equal(regressor[sides][:, mirror], regressor)
    joints = [joint - 1 for joint in sides[1:]]
    features = BODY.posedirs.unflatten(0, (23, 3, 3))[joints][..., mirror, :] * flip
    signs = flip[:, None] * flip
    assert torch.equal((features * signs[..., None, None]).flatten(0, 2), BODY.posedirs)
    for name, vertex in BODY.landmarks.items():
        swapped = name.replace("left", "*").replace("right", "left").replace("*", "right")
        assert BODY.landmarks[swapped] == mirror[vertex]


def test_weights_sum_to_one_and_parts_are_the_strongest():
    torch.testing.assert_close(BODY.weights.sum(1), torch.ones(6890))
    assert BODY.weights.min() >= 0
    chosen = BODY.weights.gather(1, BODY.vertex_parts[:, None])[:, 0]
    assert torch.equal(chosen, BODY.weights.amax(1))
    of_faces = BODY.vertex_parts[BODY.faces]
    assert (of_faces == BODY.face_parts[:, None]).any(1).all()


def test_betas_are_taller_to_the_plus():
    taller = BODY.shaped(torch.eye(10)[0])
    height = [v[:, 1].amax() - v[:, 1].amin() for v in (BODY.v_template, taller)]
    assert height[1] > height[0] + 0.03
