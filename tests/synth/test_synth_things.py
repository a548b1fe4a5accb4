"""Rays and solids: what is hit lies on the surface, nothing is nearer, textures stay put."""

import numpy as np
import pytest

from flowhmr.synth import shading
from flowhmr.synth.textures import LEVELS, TEXELS, TEXTURE_PX, texture
from flowhmr.synth.things import (
    BOX,
    CYLINDER,
    DOME,
    ELLIPSOID,
    FLOOR,
    NOWHERE,
    THING_COLUMNS,
    WALLS,
    surface_at,
    to_local,
    to_world,
    trace,
)

SIZE = 24
LENS = np.array([20.0, 12.0, 12.0])


def _thing(kind: int, half: tuple[float, float, float]) -> np.ndarray:
    row = np.zeros((1, THING_COLUMNS), np.float32)
    row[0, 0], row[0, 1:4], row[0, 6] = kind, half, 1.0
    return row


def _pose(at: tuple[float, float, float], turn: float = 0.0) -> np.ndarray:
    return np.array([[*at, np.cos(turn), np.sin(turn)]])


def _camera(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A camera 5 m from the origin that looks there."""
    rng = np.random.default_rng(seed)
    centre = rng.standard_normal(3)
    centre = 5 * centre / np.linalg.norm(centre)
    centre[1] = abs(centre[1]) + 0.5
    ahead = -centre / np.linalg.norm(centre)
    right = np.cross(ahead, [0, 1, 0])
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(ahead, right), ahead]), centre


def _traced(things: np.ndarray, poses: np.ndarray, seed: int) -> tuple[np.ndarray, ...]:
    rotmat, centre = _camera(seed)
    ids, depth = np.empty((SIZE, SIZE), np.int32), np.empty((SIZE, SIZE), np.float32)
    trace(things, poses, rotmat, centre, LENS, ids, depth)
    grid = (np.arange(SIZE) + 0.5 - LENS[1]) / LENS[0]
    x, y = np.meshgrid(grid, grid, indexing="xy")
    rays = np.stack([x, y, np.ones_like(x)], -1) @ rotmat
    return ids, depth, centre, rays


def _outside(kind: int, half: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Negative inside a solid, zero on it, positive outside (points in its axes)."""
    if kind in (BOX, WALLS):
        return np.abs(points / half).max(-1) - 1
    if kind == CYLINDER:
        around = np.hypot(points[..., 0], points[..., 2]) / half[0]
        return np.maximum(around, np.abs(points[..., 1]) / half[1]) - 1
    return np.linalg.norm(points / half, axis=-1) - 1


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", [BOX, CYLINDER, ELLIPSOID])
def test_solids(kind: int, seed: int) -> None:
    half = (0.9, 0.6, 0.9) if kind == CYLINDER else (0.9, 0.6, 0.4)
    pose = _pose((0.3, 0.2, -0.4), 0.7 * seed)
    ids, depth, centre, rays = _traced(_thing(kind, half), pose, seed)
    hit = depth < NOWHERE / 4
    assert 10 < hit.sum() < SIZE * SIZE
    assert ((ids == -1) == True).all()  # noqa: E712

    def local(points: np.ndarray) -> np.ndarray:
        x, y, z = np.moveaxis(points - pose[0, :3], -1, 0)
        return np.stack(to_local(pose[0], x, y, z), -1)

    on = local(centre + depth[..., None] * rays)[hit]
    assert np.abs(_outside(kind, np.array(half), on)).max() < 1e-4
    # Marching along each ray finds nothing before the hit, and nothing at all on a miss.
    for share in np.linspace(0, 0.999, 400):
        along = np.where(hit, depth * share, 20 * share)
        points = local(centre + along[..., None] * rays)
        assert (_outside(kind, np.array(half), points) > -2e-3).all()


@pytest.mark.parametrize("kind", [WALLS, DOME])
def test_what_is_around_the_camera(kind: int) -> None:
    half = np.array([7.0, 6.5, 8.0]) if kind == WALLS else np.full(3, 9.0)
    _, depth, centre, rays = _traced(_thing(kind, tuple(half)), _pose((0.0, 0.0, 0.0)), 1)
    points = centre + depth[..., None] * rays
    assert np.abs(_outside(kind, half, points)).max() < 1e-4


def test_the_floor_is_seen_below_the_horizon_only() -> None:
    _, depth, centre, rays = _traced(_thing(FLOOR, (1.0, 1.0, 1.0)), _pose((0.0, 0.0, 0.0)), 2)
    down = rays[..., 1] < -1e-6
    assert (depth[~down] == np.float32(NOWHERE)).all()
    points = centre + depth[..., None] * rays
    assert np.abs(points[down][:, 1]).max() < 1e-3


def test_the_nearest_thing_is_seen() -> None:
    things = np.concatenate([_thing(BOX, (1.0, 1.0, 1.0)), _thing(ELLIPSOID, (0.5, 0.5, 0.5))])
    poses = np.concatenate([_pose((0.0, 0.0, 0.0), 0.3), _pose((0.6, 1.0, 0.9))])
    both, depth, _, _ = _traced(things, poses, 3)
    first = _traced(things[:1], poses[:1], 3)[1]
    second = _traced(things[1:], poses[1:], 3)[1]
    assert np.array_equal(depth, np.minimum(first, second))
    assert np.array_equal(both == -2, second < first)
    assert set(np.unique(both)) == {-1, -2}


def test_axes_there_and_back() -> None:
    pose = _pose((1.0, 2.0, 3.0), 0.8)[0]
    vector = np.array([0.2, -0.5, 0.9])
    assert np.allclose(to_world(pose, *to_local(pose, *vector)), vector)


@pytest.mark.parametrize("kind", [BOX, CYLINDER, ELLIPSOID, WALLS])
def test_normals_are_those_of_the_surface(kind: int) -> None:
    half = np.array([0.9, 0.6, 0.9]) if kind == CYLINDER else np.array([0.9, 0.6, 0.4])
    rng = np.random.default_rng(0)
    for _ in range(50):
        ray = rng.standard_normal(3)
        point = ray / (_outside(kind, half, ray) + 1)
        normal = np.array(surface_at(_thing(kind, tuple(half))[0], *point)[:3])
        assert np.linalg.norm(normal) == pytest.approx(1)
        step = 1e-4 * normal * (-1 if kind == WALLS else 1)
        assert _outside(kind, half, point + step) > 5e-5
        assert _outside(kind, half, point - step) < -5e-5


def test_textures_are_seeded_and_have_all_levels() -> None:
    texels = texture("bricks", 0, 1)
    assert texels.shape == (TEXELS, 3)
    assert np.array_equal(texels, texture.__wrapped__("bricks", 0, 1))
    assert not np.array_equal(texels, texture("bricks", 0, 2))
    assert not np.array_equal(texels, texture("bricks", 1, 1))
    mean = texels[: TEXTURE_PX**2].mean(0)
    assert np.abs(texels[-1] - mean).max() < LEVELS


def test_a_texture_far_away_is_its_mean() -> None:
    texels = texture("tiles", 0, 0)
    near = {tuple(np.round(shading.sample_texture(texels, u, 0.3, 1e-3), 2)) for u in
            np.linspace(0, 1, 40)}  # fmt: skip
    far = np.array([shading.sample_texture(texels, u, 0.3, 10.0) for u in np.linspace(0, 1, 40)])
    assert len(near) > 5
    assert np.ptp(far, axis=0).max() < 0.02
    assert np.abs(far.mean(0) * 255 - texels[: TEXTURE_PX**2].mean(0)).max() < 6


def test_textures_repeat_mirrored() -> None:
    texels = texture("planks", 0, 0)
    for u, v in ((0.2, 0.7), (0.9, 0.1)):
        here = shading.sample_texture(texels, u, v, 0.01)
        for same_u, same_v in ((-u, v), (2 - u, -v), (u + 2, v - 4)):
            assert np.allclose(shading.sample_texture(texels, same_u, same_v, 0.01), here)
