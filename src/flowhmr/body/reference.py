"""Linear blend skinning as the SMPL paper writes it: the readable twin of `skinning`."""

import torch

from flowhmr.body.joints import SMPL_24
from flowhmr.body.model import BodyModel, BodyParams, Mesh


def mesh_reference(body: BodyModel, params: BodyParams) -> Mesh:
    """The mesh in float64, equations 2-10 of SMPL (Loper et al. 2015), one joint after another.

    Raises:
        BodyIdentityError: the parameters belong to another body.
    """
    body.check_identity("mesh_reference", params.body_id)
    rotmats, betas = params.rotmats.double(), params.betas.double()
    body = body.to(dtype=torch.float64)
    shaped = body.v_template + torch.einsum("vck,...k->...vc", body.shapedirs, betas)
    rest_joints = torch.einsum("jv,...vc->...jc", body.joint_regressor, shaped)
    eye = torch.eye(3, dtype=rotmats.dtype, device=rotmats.device)
    features = (rotmats[..., 1:, :, :] - eye).flatten(-3)
    rest = shaped + torch.einsum("fvc,...f->...vc", body.posedirs, features)

    turned, joints = [], []
    for joint, parent in enumerate(SMPL_24.parents or ()):
        if parent < 0:
            turned.append(rotmats[..., joint, :, :])
            joints.append(rest_joints[..., joint, :])
            continue
        bone = rest_joints[..., joint, :] - rest_joints[..., parent, :]
        turned.append(turned[parent] @ rotmats[..., joint, :, :])
        joints.append(joints[parent] + (turned[parent] @ bone[..., None])[..., 0])

    verts = torch.zeros_like(rest)
    for joint in range(len(SMPL_24)):
        arm = rest - rest_joints[..., joint, None, :]
        moved = arm @ turned[joint].transpose(-1, -2) + joints[joint][..., None, :]
        verts = verts + body.weights[:, joint, None] * moved
    return Mesh(verts, torch.stack(joints, -2), params.body_id)
