"""Fast posing against the readable twin, and the laws of posing."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowhmr.body import (
    SMPL_24,
    BodyIdentityError,
    BodyParams,
    mesh_reference,
    mirror_params,
    open_body,
)
from flowhmr.body.skinning import posed_chain, posed_verts
from flowhmr.geometry import rotmat_from_axis_angle

BODY = open_body()
BODY64 = BODY.to(dtype=torch.float64)
"""Its weights sum to one as float32 does, which is what some laws hold to."""
DENSE64 = replace(BODY64, posedirs=BODY64.posedirs + 1e-4)
"""SMPL's pose blend shapes are dense, and take another way than the open body's."""


def random_params(*batch, body=BODY64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    like = body.v_template
    bends = 0.5 * torch.randn(*batch, 24, 3, generator=generator, dtype=torch.float64)
    betas = torch.randn(*batch, body.num_betas, generator=generator, dtype=torch.float64)
    return body.params(rotmat_from_axis_angle(bends).to(like), betas.to(like))


def on_any_device(body, params):
    """The way of other devices than the CPU, taken on the CPU."""
    chain = posed_chain(body._chain, params.rotmats, params.betas)
    return posed_verts(body._blend, chain, params.rotmats, params.betas), chain.joints


def on_cpu(body, params):
    mesh = body.mesh(params)
    return mesh.verts, mesh.joints


def by_twin(body, params):
    mesh = mesh_reference(body, params)
    return mesh.verts, mesh.joints


def gradients(pose, body, params, seed=0):
    """Gradients of rotations and betas for random gradients of vertices and joints."""
    generator = torch.Generator().manual_seed(seed)
    leaves = [t.clone().requires_grad_() for t in (params.rotmats, params.betas)]
    out = pose(body, BodyParams(*leaves, params.body_id))
    weights = [torch.randn(t.shape, generator=generator, dtype=torch.float64) for t in out]
    sum((o * w.to(o)).sum() for o, w in zip(out, weights)).backward()
    return [leaf.grad for leaf in leaves]


ways = pytest.mark.parametrize(
    ("pose", "body"),
    [(on_cpu, BODY64), (on_cpu, DENSE64), (on_any_device, BODY64)],
    ids=["compiled", "compiled, dense", "any device"],
)


@ways
def test_posing_agrees_with_the_twin(pose, body):
    params = random_params(5)
    for ours, theirs in zip(pose(body, params), by_twin(body, params)):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@ways
def test_gradients_agree_with_the_twin(pose, body):
    params = random_params(5)
    for ours, theirs in zip(gradients(pose, body, params), gradients(by_twin, body, params)):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("pose", [on_cpu, on_any_device])
def test_float32_is_a_micrometre_from_the_twin(pose):
    params = random_params(3, body=BODY)
    for ours, theirs in zip(pose(BODY, params), by_twin(BODY, params)):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("pose", [on_cpu, on_any_device])
def test_float32_gradients_are_those_of_the_twin(pose):
    params = random_params(3, body=BODY)
    for ours, theirs in zip(gradients(pose, BODY, params), gradients(by_twin, BODY, params)):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


def test_gradients_are_directional_differences():
    params, direction, step = random_params(), random_params(seed=1), 1e-6

    def loss(rotmats, betas):
        mesh = BODY64.mesh(BODY64.params(rotmats, betas))
        return mesh.verts.square().sum() + mesh.joints.sin().sum()

    leaves = [t.clone().requires_grad_() for t in (params.rotmats, params.betas)]
    loss(*leaves).backward()
    along = [direction.rotmats, direction.betas]
    slope = sum((leaf.grad * d).sum() for leaf, d in zip(leaves, along))
    ahead, behind = (
        loss(*(leaf.detach() + sign * step * d for leaf, d in zip(leaves, along)))
        for sign in (1, -1)
    )
    assert slope.abs() > 1
    torch.testing.assert_close((ahead - behind) / (2 * step), slope, rtol=1e-7, atol=0)


def test_vertices_alone_and_joints_alone_have_gradients():
    for pick in ("verts", "joints"):
        params = random_params(2)
        rotmats = params.rotmats.requires_grad_()
        getattr(BODY64.mesh(BODY64.params(rotmats, params.betas)), pick).sum().backward()
        assert rotmats.grad.isfinite().all()
        assert rotmats.grad.abs().max() > 0


def test_one_parameter_may_be_fixed():
    params = random_params(2)
    betas = params.betas.requires_grad_()
    BODY64.mesh(BODY64.params(params.rotmats, betas)).verts.sum().backward()
    assert betas.grad.abs().min() > 0


def test_the_rest_pose_is_the_template():
    mesh = BODY.mesh(BODY.rest_params())
    torch.testing.assert_close(mesh.verts, BODY.v_template, rtol=0, atol=1e-6)
    joints = BODY.joint_regressor @ BODY.v_template
    torch.testing.assert_close(mesh.joints, joints, rtol=0, atol=1e-6)


def test_unposed_betas_move_vertices_along_their_directions():
    params = random_params(3)
    rest = BODY64.rest_params(3)
    mesh = BODY64.mesh(BODY64.params(rest.rotmats, params.betas))
    torch.testing.assert_close(mesh.verts, BODY64.shaped(params.betas), rtol=0, atol=1e-6)


@given(seed=st.integers(0, 2**16))
@settings(max_examples=10, deadline=None)
def test_the_global_rotation_turns_the_body_about_its_own_pelvis(seed):
    params = random_params(seed=seed)
    turn = random_params(seed=seed + 1).rotmats[5]
    turned = torch.cat([turn @ params.rotmats[:1], params.rotmats[1:]])
    before, after = BODY64.mesh(params), BODY64.mesh(BODY64.params(turned, params.betas))
    pelvis = before.joints[SMPL_24.index("pelvis")]
    torch.testing.assert_close(after.joints[0], pelvis, rtol=0, atol=1e-12)
    for a, b in ((before.verts, after.verts), (before.joints, after.joints)):
        torch.testing.assert_close((a - pelvis) @ turn.T + pelvis, b, rtol=0, atol=1e-9)


@given(seed=st.integers(0, 2**16))
@settings(max_examples=10, deadline=None)
def test_mirrored_parameters_give_the_mirrored_mesh(seed):
    params = random_params(seed=seed)
    mesh, mirrored = BODY64.mesh(params), BODY64.mesh(mirror_params(params))
    flip = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    expected = flip * mesh.verts[BODY64.symmetry]
    torch.testing.assert_close(mirrored.verts, expected, rtol=0, atol=1e-12)
    joints = flip * mesh.joints[list(SMPL_24.mirror)]
    torch.testing.assert_close(mirrored.joints, joints, rtol=0, atol=1e-12)


def test_mirroring_twice_changes_nothing():
    params = random_params(2)
    torch.testing.assert_close(mirror_params(mirror_params(params)).rotmats, params.rotmats)


@pytest.mark.parametrize("batch", [(), (1,), (0,), (2, 3), (2, 0, 3)])
def test_any_leading_axes(batch):
    params = random_params(*batch, body=BODY)
    mesh, joints = BODY.mesh(params), BODY.joints(params)
    assert mesh.verts.shape == (*batch, 6890, 3)
    assert mesh.joints.shape == joints.shape == (*batch, 24, 3)
    torch.testing.assert_close(joints, mesh.joints, rtol=0, atol=1e-6)
    if batch == (2, 3):
        one = BODY.mesh(BODY.params(params.rotmats[1, 2], params.betas[1, 2]))
        torch.testing.assert_close(mesh.verts[1, 2], one.verts, rtol=0, atol=1e-6)


def test_each_body_of_a_batch_is_its_own(monkeypatch):
    """Also where threads share the batch, and forward and backward alike."""
    params = random_params(21)
    alone = [gradients(on_cpu, BODY64, params)]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    shared = gradients(on_cpu, BODY64, params)
    for a, b in zip(alone[0], shared):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    expected = torch.stack([BODY64.mesh(p).verts for p in _each(params)])
    torch.testing.assert_close(BODY64.mesh(params).verts, expected, rtol=0, atol=1e-12)


def _each(params):
    return [BODY64.params(r, b) for r, b in zip(params.rotmats, params.betas)]


def test_joints_have_the_gradients_of_the_meshes_joints():
    def joints(body, params):
        return (body.joints(params),)

    def of_mesh(body, params):
        return (body.mesh(params).joints,)

    params = random_params(2)
    for a, b in zip(gradients(joints, BODY64, params), gradients(of_mesh, BODY64, params)):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_autocast_costs_no_accuracy():
    params = random_params(2, body=BODY)
    expected, joints = BODY.mesh(params), BODY.joints(params)
    with torch.autocast("cpu", torch.bfloat16):
        mesh = BODY.mesh(params)
        assert torch.equal(BODY.joints(params), joints)
    assert torch.equal(mesh.verts, expected.verts)


def test_posing_leaves_the_parameters_alone():
    params = random_params(2, body=BODY)
    before = params.rotmats.clone(), params.betas.clone()
    rotmats = params.rotmats.requires_grad_()
    BODY.mesh(BODY.params(rotmats, params.betas)).verts.sum().backward()
    assert torch.equal(rotmats, before[0])
    assert torch.equal(params.betas, before[1])


def test_a_body_that_is_not_finite_stays_so_and_spoils_no_other():
    params = random_params(2)
    params.betas[0, 0] = torch.nan
    mesh = BODY64.mesh(params)
    assert mesh.verts[0].isnan().any()
    assert mesh.verts[1].isfinite().all()


def test_parameters_of_another_body_are_refused():
    params = replace(BODY.rest_params(), body_id="smpl:0123456789abcdef")
    for pose in (BODY.mesh, BODY.joints, lambda p: mesh_reference(BODY, p)):
        with pytest.raises(BodyIdentityError, match=r"got body smpl:0123.*expected open-body:"):
            pose(params)


def test_another_number_of_betas_is_refused():
    params = BODY.params(BODY.rest_params().rotmats, torch.zeros(16))
    with pytest.raises(ValueError, match=r"got 16 betas; expected 10"):
        BODY.mesh(params)


def test_another_float_type_is_refused():
    with pytest.raises(TypeError, match=r"rotmats of torch.float64; expected .*float32"):
        BODY.mesh(random_params())


def test_half_precision_bodies_are_refused():
    with pytest.raises(TypeError, match=r"got torch.float16; expected float32 or float64"):
        BODY.to(dtype=torch.float16)
