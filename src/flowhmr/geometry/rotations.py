"""Rotations: matrices inside, other forms at the border (roma does the arithmetic).

The field has three 6D layouts that are not interchangeable; they are named here and converted on
import.

``spin``
    SPIN, VIBE, PARE: six numbers are a 3x2 matrix in row-major order, ``view(-1, 3, 2)``; its
    columns are the first two columns of the rotation, interleaved.
``columns``
    4D-Humans: ``reshape(-1, 2, 3)``; the first three numbers are the first column.
``rows``
    PyTorch3D, WHAM: the first three numbers are the first row.
"""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

Rot6dLayout = Literal["spin", "columns", "rows"]


def rotmat_from_rot6d(rot6d: Float[Tensor, "*b 6"], layout: Rot6dLayout) -> Float[Tensor, "*b 3 3"]:
    """Gram-Schmidt on two vectors (Zhou et al. 2019): 6D numbers to rotation matrices."""
    import roma

    if layout == "spin":
        vectors = rot6d.unflatten(-1, (3, 2))
    elif layout in ("columns", "rows"):
        vectors = rot6d.unflatten(-1, (2, 3)).transpose(-1, -2)
    else:
        raise ValueError(f"6D layout: got {layout!r}; expected 'spin', 'columns' or 'rows'")
    rotmat = roma.special_gramschmidt(vectors)
    return rotmat.transpose(-1, -2) if layout == "rows" else rotmat


def rot6d_from_rotmat(
    rotmat: Float[Tensor, "*b 3 3"], layout: Rot6dLayout
) -> Float[Tensor, "*b 6"]:
    """Inverse of `rotmat_from_rot6d` on rotations."""
    if layout == "spin":
        return rotmat[..., :, :2].flatten(-2)
    if layout == "columns":
        return rotmat[..., :, :2].transpose(-1, -2).flatten(-2)
    if layout == "rows":
        return rotmat[..., :2, :].flatten(-2)
    raise ValueError(f"6D layout: got {layout!r}; expected 'spin', 'columns' or 'rows'")


def rotmat_from_axis_angle(axis_angle: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Axis-angle vectors in radians to rotation matrices."""
    import roma

    return roma.rotvec_to_rotmat(axis_angle)


def axis_angle_from_rotmat(rotmat: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3"]:
    """Rotation matrices to axis-angle vectors in radians, of length at most pi."""
    import roma

    return roma.rotmat_to_rotvec(rotmat)


def geodesic_rad(a: Float[Tensor, "*b 3 3"], b: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b"]:
    """Angle in radians of the rotation between ``a`` and ``b``; gradients are finite everywhere."""
    # The arc sine of roma's own distance has an infinite gradient at half turns.
    return axis_angle_from_rotmat(a.transpose(-1, -2) @ b).norm(dim=-1)


def slerp(
    a: Float[Tensor, "*b 3 3"], b: Float[Tensor, "*b 3 3"], share: float | Tensor
) -> Float[Tensor, "*b 3 3"]:
    """Spherical interpolation from ``a`` (share 0) to ``b`` (share 1), the shorter way round; the
    share may be one for each rotation, [*b 1]."""
    return a @ rotmat_from_axis_angle(share * axis_angle_from_rotmat(a.transpose(-1, -2) @ b))
