"""Occluders cut from a clip's own background: super-pixels that follow the scene.

Motion HMR, section 3.1 and appendix A. What hides a person in real video mostly belongs to the
scene, moves with it and changes shape as it does. A super-pixel of the background video does all
three; a pasted picture does none.
"""

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8
from scipy.ndimage import distance_transform_edt, find_objects, gaussian_filter, label

MAP_PX = 48
"""Longer side of a map of super-pixels."""
PULL = (4e-4 * 320, 6e-4 * 320)
"""What a distance of one image width weighs, in units of colour (0 to 1): the paper's factors per
pixel, at the 320 pixels of its images."""
PER_IMAGE = (10, 30)
"""Super-pixels in an image."""

LEAST_SHARE = 0.25
"""Smaller pieces, as a share of the mean size, join the piece nearest by. With scikit-image's 0.5
about half of the super-pixels asked for are left on busy backgrounds; with 0.25 about all."""

_ROUNDS = 10
_SAMPLES = 4096
_CHUNK = 2048  # pixels whose distances stay in the processor's cache
_TOO_FAR = np.float32(100)  # more than any distance of colours and places


def superpixels(
    images: UInt8[np.ndarray, "t h w 3"],
    drift_px: Float32[np.ndarray, "t 2"],
    rng: np.random.Generator,
) -> Int32[np.ndarray, "t rows columns"]:
    """Super-pixels of a clip: blobs of one colour that live through all frames, from 0 up.

    SLIC (Achanta et al. 2012) on colour and on the place where the scene has carried each pixel
    from. Written out here because scikit-image's seeds are as far apart in time as in the image:
    31 frames of a map this small would get two or more layers of them, one after the other, where
    the paper's larger images get one. Of the distance in the image
    that SLIC adds itself, a compactness of 0.01 leaves a tenth of the pull; it is left out.

    Args:
        images: the background, RGB.
        drift_px: how far the scene has moved in each frame (x right, y down), pixels of ``images``.

    Returns:
        Labels on a small map over the whole image, `MAP_PX` on its longer side. Each label is one
        blob in space and time; a small piece that joined it may touch it by a corner only.
    """
    height, width = images.shape[1:3]
    scale = MAP_PX / max(height, width)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    small = np.stack([cv2.resize(i, (columns, rows), interpolation=cv2.INTER_AREA) for i in images])
    place = _scene_places(rows, columns, drift_px / max(height, width))
    pull = rng.uniform(*PULL)
    step = np.sqrt(rows * columns / rng.uniform(*PER_IMAGE)) / max(rows, columns)
    colour = small.reshape(-1, 3) / np.float32(255)
    # Columns 0 and 1 are the place, 2 to 4 the colour.
    features = np.concatenate([place.reshape(-1, 2) * pull, colour], 1, dtype=np.float32)
    centres = _cluster(features, step * pull, rng)
    labels = _nearest(features, centres, step * pull).reshape(small.shape[:3])
    return _connected(labels)


def occluder_mask(
    labels: Int32[np.ndarray, "t rows columns"], rng: np.random.Generator, size_px: int
) -> Bool[np.ndarray, "t size size"]:
    """One random super-pixel as a mask over square images, with smooth borders.

    Args:
        labels: what `superpixels` returns for square images.
        size_px: width and height of the mask.

    Raises:
        ValueError: the map is not square.
    """
    if labels.shape[1] != labels.shape[2]:
        raise ValueError(
            f"occluder_mask: got a map of {labels.shape[2]}x{labels.shape[1]}; expected a square "
            "one; crop the background to a square before its super-pixels are computed"
        )
    present = np.flatnonzero(np.bincount(labels.reshape(-1)))
    chosen = (labels == present[rng.integers(len(present))]).astype(np.float32)
    # Over neighbouring frames too: the border of a blob flickers where colours change slowly.
    smooth = np.asarray(gaussian_filter(chosen, sigma=(1.0, 0.7, 0.7), mode="nearest"))
    return np.stack([cv2.resize(m, (size_px, size_px)) > 0.5 for m in smooth])


def choose_occluder(
    labels: Int32[np.ndarray, "t rows columns"],
    silhouette: Bool[np.ndarray, "t size size"],
    joints_px: Float32[np.ndarray, "t k 2"],
    rng: np.random.Generator,
    least_visible: float = 7.0,
) -> Bool[np.ndarray, "t size size"] | None:
    """One random super-pixel as an occluder of the person, where it makes a fair one.

    Args:
        labels: what `superpixels` returns for the background.
        silhouette: where the person is.
        joints_px: the joints that count, pixels; those outside the image are not visible.
        least_visible: as many joints must stay visible in a frame, on average over the clip.

    Returns:
        Where the person is hidden (and background that lies under the same blob), or None: the
        blob hides no pixel of the person, or too many joints.
    """
    size = silhouette.shape[-1]
    mask = occluder_mask(labels, rng, size)
    if not (mask & silhouette).any():
        return None
    inside = ((joints_px >= 0) & (joints_px < size)).all(-1)
    column, row = np.moveaxis(np.where(inside[..., None], joints_px, 0).astype(int), -1, 0)
    frame = np.arange(len(mask))[:, None]
    visible = inside & ~mask[frame, row, column]
    return mask if visible.sum(-1).mean() >= least_visible else None


def _scene_places(
    rows: int, columns: int, drift: Float32[np.ndarray, "t 2"]
) -> Float32[np.ndarray, "t rows columns 2"]:
    """(x, y) of each pixel minus the drift, in units of the longer side."""
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32) + 0.5
    grid = np.stack([x, y], -1) / max(rows, columns)
    return grid - drift[:, None, None].astype(np.float32)


def _cluster(
    features: Float32[np.ndarray, "n 5"], step: float, rng: np.random.Generator
) -> Float32[np.ndarray, "k 5"]:
    """Centres of the blobs: k-means from a grid in the scene, on a sample of the pixels."""
    some = features[rng.choice(len(features), min(_SAMPLES, len(features)), replace=False)]
    cell = np.floor((some[:, :2] - some[:, :2].min(0)) / step).astype(int)
    _, owner = np.unique(cell, axis=0, return_inverse=True)
    centres = _means(some, owner.reshape(-1), np.zeros((owner.max() + 1, 5), np.float32))
    for _ in range(_ROUNDS):
        centres = _means(some, _nearest(some, centres, step), centres)
    return centres


def _means(
    features: Float32[np.ndarray, "n 5"],
    owner: np.ndarray,
    before: Float32[np.ndarray, "k 5"],
) -> Float32[np.ndarray, "k 5"]:
    """Mean of each cluster; a cluster that lost its last pixel stays where it was."""
    count = np.bincount(owner, minlength=len(before))[:, None]
    total = np.stack([np.bincount(owner, f, len(before)) for f in features.T], 1)
    return np.where(count > 0, total / np.maximum(count, 1), before).astype(np.float32)


def _nearest(
    features: Float32[np.ndarray, "n 5"], centres: Float32[np.ndarray, "k 5"], step: float
) -> Int32[np.ndarray, " n"]:
    """The nearest centre of each pixel, among those at most two steps away along x and y."""
    nearest = []
    for part in np.split(features, range(_CHUNK, len(features), _CHUNK)):
        # Squared, less the pixel's own square, which is the same for all centres.
        distance = (centres**2).sum(1)[:, None] - 2 * centres @ part.T
        for axis in (0, 1):
            away = np.abs(centres[:, axis, None] - part[None, :, axis])
            distance += _TOO_FAR * (away > 2 * step)
        nearest.append(distance.argmin(0))
    return np.concatenate(nearest).astype(np.int32)


def _connected(labels: Int32[np.ndarray, "t h w"]) -> Int32[np.ndarray, "t h w"]:
    """Connected pieces as labels of their own; small ones go to the piece nearest by."""
    pieces = np.zeros_like(labels)
    count = 0
    clusters = find_objects(labels + 1)
    for number, box in enumerate(clusters):
        if box is None:
            continue
        found, here = label(labels[box] == number)  # pyright: ignore
        pieces[box] = np.where(found > 0, found + count, pieces[box])
        count += here
    sizes = np.bincount(pieces.reshape(-1), minlength=count + 1)
    alive = sum(box is not None for box in clusters)
    small = sizes < min(LEAST_SHARE * labels.size / alive, sizes.max())
    lost = small[pieces]
    if lost.any():
        at = distance_transform_edt(lost, return_distances=False, return_indices=True)
        pieces = pieces[tuple(np.asarray(at))]
    kept = ~small & (sizes > 0)
    return (np.cumsum(kept) - 1)[pieces].astype(np.int32)
