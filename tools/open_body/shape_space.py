"""Principal directions of the T-posed adults: the betas."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, eq=False)
class ShapeSpace:
    """A mean body and directions scaled to one standard deviation of the sampled adults."""

    mean_m: Float[np.ndarray, "v 3"]
    """The mean body in T-pose."""
    directions_m: Float[np.ndarray, "v 3 k"]
    """What one unit of each beta adds; a positive beta makes the body taller."""
    explained: Float[np.ndarray, "k"]
    """The share of the sample's variance along each direction."""

    def first(self, count: int) -> "ShapeSpace":
        """The space of the first ``count`` directions."""
        return ShapeSpace(self.mean_m, self.directions_m[..., :count], self.explained[:count])


def principal_directions(verts_m: Float[np.ndarray, "n v 3"], count: int) -> ShapeSpace:
    """PCA of more vertex coordinates than bodies, through the Gram matrix of the bodies."""
    bodies = len(verts_m)
    flat = verts_m.reshape(bodies, -1)
    mean = flat.mean(0, dtype=np.float64).astype(np.float32)
    flat = flat - mean
    eigenvalues, eigenvectors = np.linalg.eigh((flat @ flat.T).astype(np.float64))
    eigenvalues, eigenvectors = eigenvalues[::-1][:count], eigenvectors[:, ::-1][:, :count]
    total = float(np.einsum("ij,ij->", flat, flat, dtype=np.float64))
    directions = flat.T @ (eigenvectors / np.sqrt(eigenvalues)).astype(np.float32)
    directions *= np.sqrt(eigenvalues / (bodies - 1)).astype(np.float32)
    mean_m, directions_m = mean.reshape(-1, 3), directions.reshape(-1, 3, count)
    taller = np.sign((directions_m[:, 1] * mean_m[:, 1:2]).sum(0))
    return ShapeSpace(mean_m, directions_m * taller, eigenvalues / total)


def nearest_in_space_m(
    space: ShapeSpace, verts_m: Float[np.ndarray, "n v 3"]
) -> Float[np.ndarray, "n v 3"]:
    """The bodies of the space nearest to the given ones (least squares)."""
    directions = space.directions_m.reshape(-1, space.directions_m.shape[-1]).astype(float)
    offsets = (verts_m - space.mean_m).reshape(len(verts_m), -1)
    coefficients = np.linalg.lstsq(directions, offsets.T, rcond=None)[0]
    return space.mean_m + (directions @ coefficients).T.reshape(verts_m.shape)
