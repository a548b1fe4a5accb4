"""The same pose with left and right exchanged."""

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from flowhmr.body.joints import SMPL_24
from flowhmr.body.model import BodyParams


def mirror_rotmats(rotmats: Float[Tensor, "*b 24 3 3"]) -> Float[Tensor, "*b 24 3 3"]:
    """Pose mirrored in the plane x = 0: left and right joints exchanged, x reversed."""
    flip = rotmats.new_tensor([-1.0, 1.0, 1.0])
    return flip[:, None] * rotmats[..., list(SMPL_24.mirror), :, :] * flip


def mirror_params(params: BodyParams) -> BodyParams:
    """The person seen in a mirror at x = 0, the global rotation included; betas stay.

    On a body that is its own mirror image, such as the open body, the mesh of the result is the
    mesh with x reversed and its vertices exchanged by ``BodyModel.symmetry``; on SMPL, whose
    template is not quite symmetric, nearly so.
    """
    return replace(params, rotmats=mirror_rotmats(params.rotmats))
