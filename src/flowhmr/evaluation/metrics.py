"""The field's metrics, one value per frame. Inputs in metres, results in millimetres."""

from jaxtyping import Float
from torch import Tensor

from flowhmr.geometry import procrustes_align

MM_PER_M = 1000.0


def mpjpe(
    joints_m: Float[Tensor, "t j 3"], target_m: Float[Tensor, "t j 3"], root: tuple[int, ...]
) -> Float[Tensor, "t"]:
    """Mean per-joint position error, mm, both about the mean of their root joints (none: as they
    are)."""
    return (_rooted(joints_m, root) - _rooted(target_m, root)).norm(dim=-1).mean(-1) * MM_PER_M


def _rooted(joints_m: Float[Tensor, "t j 3"], root: tuple[int, ...]) -> Float[Tensor, "t j 3"]:
    return joints_m - joints_m[:, list(root)].mean(1, keepdim=True) if root else joints_m


def pa_mpjpe(
    joints_m: Float[Tensor, "t j 3"], target_m: Float[Tensor, "t j 3"]
) -> Float[Tensor, "t"]:
    """Mean per-joint position error, mm, after a similarity alignment of each frame."""
    aligned = procrustes_align(joints_m.double(), target_m.double())
    return (aligned - target_m.double()).norm(dim=-1).mean(-1).to(joints_m.dtype) * MM_PER_M


def pve(
    verts_m: Float[Tensor, "t v 3"],
    target_m: Float[Tensor, "t v 3"],
    root_m: Float[Tensor, "t 3"],
    target_root_m: Float[Tensor, "t 3"],
) -> Float[Tensor, "t"]:
    """Per-vertex error, mm, each mesh about its own root."""
    apart = (verts_m - root_m[:, None]) - (target_m - target_root_m[:, None])
    return apart.norm(dim=-1).mean(-1) * MM_PER_M


def acceleration(joints_m: Float[Tensor, "t j 3"]) -> Float[Tensor, "t2 j 3"]:
    """Second difference in time, mm/frame^2: x[t-1] - 2 x[t] + x[t+1], for the inner frames."""
    return (joints_m[:-2] - 2 * joints_m[1:-1] + joints_m[2:]) * MM_PER_M


def acceleration_error(
    joints_m: Float[Tensor, "t j 3"], target_m: Float[Tensor, "t j 3"], root: tuple[int, ...]
) -> Float[Tensor, "t2"]:
    """Mean over joints of the distance of accelerations, mm/frame^2, about the root (HMMR).

    One value per inner frame of one sequence: never crosses the ends of sequences.
    """
    apart = acceleration(_rooted(joints_m, root)) - acceleration(_rooted(target_m, root))
    return apart.norm(dim=-1).mean(-1)
