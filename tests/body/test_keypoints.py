"""Named keypoints of the open body and of SMPL, and regressors."""

import pytest
import torch
from torch.testing import assert_close

from flowhmr.body import (
    COCO_17,
    H36M_14,
    H36M_17,
    JOINT_SETS,
    OPENPOSE_25,
    SMPL_24,
    SPIN_24,
    SPIN_49,
    SPIN_EXTRA_9,
    BodyIdentityError,
    Regressor,
    mirror_params,
    open_body,
)
from flowhmr.geometry import rotmat_from_axis_angle

BODY = open_body()
SETS = (SMPL_24, COCO_17, OPENPOSE_25, H36M_17, H36M_14, SPIN_24, SPIN_49)
all_sets = pytest.mark.parametrize("joints", SETS, ids=[s.name for s in SETS])


def posed(body, *batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rotmats = rotmat_from_axis_angle(0.4 * torch.randn(*batch, 24, 3, generator=generator))
    return body.params(rotmats, torch.randn(*batch, body.num_betas, generator=generator))


def named(body, mesh, joints):
    """Keypoints by name."""
    return dict(zip(joints.names, body.keypoints(mesh, joints).unbind(-2)))


@all_sets
def test_keypoints_of_a_mirrored_body_are_mirrored(joints):
    params = posed(BODY, 2, 3)
    keypoints = BODY.keypoints(BODY.mesh(params), joints)
    mirrored = BODY.keypoints(BODY.mesh(mirror_params(params)), joints)
    assert keypoints.shape == (2, 3, len(joints), 3)
    flip = torch.tensor([-1.0, 1.0, 1.0])
    expected = flip * keypoints[..., list(joints.mirror), :]
    torch.testing.assert_close(mirrored, expected, rtol=0, atol=1e-6)


@all_sets
def test_keypoints_turn_with_the_body(joints):
    params = posed(BODY)
    turn = rotmat_from_axis_angle(torch.tensor([0.3, -1.0, 0.5]))
    turned = torch.cat([turn @ params.rotmats[:1], params.rotmats[1:]])
    before, after = BODY.mesh(params), BODY.mesh(BODY.params(turned, params.betas))
    pelvis = before.joints[0]
    expected = (BODY.keypoints(before, joints) - pelvis) @ turn.T + pelvis
    torch.testing.assert_close(BODY.keypoints(after, joints), expected, rtol=0, atol=1e-6)


def test_keypoints_of_the_open_body_follow_its_anatomy():
    mesh = BODY.mesh(BODY.rest_params())
    openpose, h36m = named(BODY, mesh, OPENPOSE_25), named(BODY, mesh, H36M_17)
    x, y, z = 0, 1, 2
    for joints in SETS:
        for name, point in named(BODY, mesh, joints).items():
            if "left_" in name:
                assert point[x] > 0.02
            elif "right_" not in name:
                assert abs(point[x]) < 1e-3
    assert h36m["head_h36m"][y] == mesh.verts[:, y].max()
    assert openpose["nose"][z] > openpose["left_ear"][z] + 0.05
    assert openpose["left_big_toe"][z] > openpose["left_heel"][z] + 0.15
    assert openpose["left_big_toe"][x] < openpose["left_small_toe"][x]
    for upper, lower in (("neck", "spine"), ("spine", "pelvis"), ("jaw", "neck")):
        assert h36m[upper][y] > h36m[lower][y]
    middle = (openpose["left_hip"] + openpose["right_hip"]) / 2
    torch.testing.assert_close(openpose["pelvis"], middle)


def test_spin_49_of_the_open_body_is_made_of_the_other_sets():
    mesh = BODY.mesh(posed(BODY))
    spin = BODY.keypoints(mesh, SPIN_49)
    assert torch.equal(spin[:25], BODY.keypoints(mesh, OPENPOSE_25))
    assert torch.equal(spin[25:], BODY.keypoints(mesh, SPIN_24))
    h36m = BODY.keypoints(mesh, H36M_17)[list(H36M_17.indices_of(H36M_14.names))]
    assert torch.equal(BODY.keypoints(mesh, H36M_14), h36m)


def test_keypoints_have_gradients():
    params = posed(BODY, 2)
    betas = params.betas.requires_grad_()
    mesh = BODY.mesh(BODY.params(params.rotmats, betas))
    BODY.keypoints(mesh, OPENPOSE_25).square().sum().backward()
    assert betas.grad.isfinite().all()
    assert betas.grad.abs().min() > 0


@pytest.mark.parametrize("joints", [COCO_17, OPENPOSE_25, H36M_17])
def test_keypoints_without_a_mesh_are_those_of_the_mesh(joints):
    params = posed(BODY, 2, 3)
    rotmats, betas = params.rotmats.requires_grad_(), params.betas.requires_grad_()
    chain, found = BODY.joints_and_keypoints(params, joints)
    mesh = BODY.mesh(params)
    assert_close(chain, mesh.joints, atol=1e-5, rtol=0)
    expected = BODY.keypoints(mesh, joints)
    assert_close(found, expected, atol=1e-5, rtol=0)
    weights = torch.linspace(-1, 1, found.numel()).view_as(found)
    ours = torch.autograd.grad((found * weights).sum(), (rotmats, betas))
    theirs = torch.autograd.grad((expected * weights).sum(), (rotmats, betas))
    for one, other in zip(ours, theirs, strict=True):
        assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_keypoints_that_need_a_regressor_need_a_mesh(smpl_body):
    with pytest.raises(ValueError, match=r"h36m-17: got a rule with regressor .* make the mesh"):
        smpl_body.joints_and_keypoints(smpl_body.rest_params(1), H36M_17)


def test_keypoints_come_in_the_bodys_type():
    double = BODY.to(dtype=torch.float64)
    mesh = double.mesh(double.rest_params())
    assert double.keypoints(mesh, COCO_17).dtype == torch.float64
    (regressor,) = double.regressors
    assert regressor(mesh).dtype == torch.float64


def test_joints_come_from_posed_vertices_alone():
    """7 mm on average; the rest regressor would be centimetres off."""
    mesh = BODY.mesh(posed(BODY, 8))
    (regressor,) = BODY.regressors
    assert (regressor(mesh) - mesh.joints).norm(dim=-1).mean() < 0.007
    rest = BODY.joint_regressor @ mesh.verts
    assert (rest - mesh.joints).norm(dim=-1).mean() > 0.015


def test_a_set_without_a_rule_is_refused():
    mesh = BODY.mesh(BODY.rest_params())
    with pytest.raises(ValueError, match=r"got joint set spin-extra-9; expected .*coco-17"):
        BODY.keypoints(mesh, JOINT_SETS["spin-extra-9"])


def test_meshes_of_another_body_are_refused(smpl_body):
    mesh = BODY.mesh(BODY.rest_params())
    for joints in (SMPL_24, COCO_17):
        with pytest.raises(BodyIdentityError, match=r"got body open-body:.*expected smpl:"):
            smpl_body.keypoints(mesh, joints)
    (regressor,) = BODY.regressors
    with pytest.raises(BodyIdentityError, match=r"got body smpl:.*expected open-body:"):
        regressor(smpl_body.mesh(smpl_body.rest_params()))
    with pytest.raises(BodyIdentityError, match=r"regressor smpl-24: got body open-body:"):
        smpl_body.with_regressors(regressor)


def test_smpl_finds_coco_and_openpose_by_joints_and_vertices(smpl_body):
    mesh = smpl_body.mesh(posed(smpl_body, 2))
    coco, openpose = named(smpl_body, mesh, COCO_17), named(smpl_body, mesh, OPENPOSE_25)
    assert torch.equal(coco["left_knee"], mesh.joints[:, SMPL_24.index("left_knee")])
    assert torch.equal(coco["left_ear"], mesh.verts[:, 583])
    assert torch.equal(openpose["right_heel"], mesh.verts[:, 6787])
    assert torch.equal(openpose["neck"], mesh.joints[:, SMPL_24.index("neck")])


def test_smpl_says_which_regressor_is_missing(smpl_body):
    mesh = smpl_body.mesh(smpl_body.rest_params())
    for joints, file in (
        (H36M_17, "J_regressor_h36m.npy"),
        (H36M_14, "J_regressor_h36m.npy"),
        (SPIN_49, "J_regressor_extra.npy"),
    ):
        with pytest.raises(ValueError, match=rf"{joints.name}.*{file}.*with_regressors"):
            smpl_body.keypoints(mesh, joints)


def test_smpl_uses_the_regressors_it_is_given(smpl_body):
    generator = torch.Generator().manual_seed(0)

    def regressor(joints):
        matrix = torch.rand(len(joints), 6890, generator=generator)
        return Regressor(joints, matrix / matrix.sum(1, keepdim=True), smpl_body.body_id)

    h36m, extra = regressor(H36M_17), regressor(SPIN_EXTRA_9)
    body = smpl_body.with_regressors(h36m, extra)
    mesh = body.mesh(posed(body, 2))
    torch.testing.assert_close(body.keypoints(mesh, H36M_17), h36m(mesh))
    torch.testing.assert_close(
        named(body, mesh, H36M_14)["head_h36m"], h36m(mesh)[:, H36M_17.index("head_h36m")]
    )
    spin, of_extra = (
        named(body, mesh, SPIN_49),
        dict(zip(extra.joints.names, extra(mesh).unbind(1))),
    )
    torch.testing.assert_close(spin["right_hip"], of_extra["right_hip"])
    torch.testing.assert_close(spin["op_right_hip"], mesh.joints[:, SMPL_24.index("right_hip")])
    torch.testing.assert_close(spin["left_eye"], mesh.verts[:, 2800])
    assert not smpl_body.regressors


def test_a_regressor_takes_the_place_of_its_like(smpl_body):
    first, second = (
        Regressor(H36M_17, torch.full((17, 6890), 1 / 6890) * i, smpl_body.body_id) for i in (1, 2)
    )
    body = smpl_body.with_regressors(first).with_regressors(second)
    assert body.regressors == (second,)
