"""Face maps: their twin, the pixel rule, and the laws they must keep."""

import pytest
import torch
from raster_meshes import blob, scene, sphere, together

from flowhmr.raster import (
    interpolate,
    rasterise,
    rasterise_reference,
    vertices_of_winning_faces,
    visible_vertices,
)

SIZE = 40
BOTH = pytest.mark.parametrize("function", [rasterise, rasterise_reference])


def assert_same(one, other):
    assert torch.equal(one.face_ids, other.face_ids)
    torch.testing.assert_close(one.barycentrics, other.barycentrics, atol=2e-7, rtol=0)
    torch.testing.assert_close(one.depth, other.depth, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_the_twin(seed, dtype):
    verts, faces = scene(seed, SIZE, SIZE + 12)
    expected = rasterise_reference(verts.to(dtype), faces, SIZE, SIZE + 12)
    assert 0.1 < (expected.face_ids >= 0).double().mean() < 0.95
    assert_same(rasterise(verts.to(dtype), faces, SIZE, SIZE + 12), expected)


@BOTH
def test_a_pixel_is_its_centre(function):
    # Barely around the centre of row 1, column 2, counter-clockwise on the y-down image.
    verts = torch.tensor([[2.4, 1.4, 3], [2.4, 1.7, 3], [2.7, 1.4, 5]], dtype=torch.float64)
    fragments = function(verts, torch.tensor([[0, 1, 2]]), 3, 5)
    expected = torch.full((3, 5), -1, dtype=torch.int32)
    expected[1, 2] = 0
    assert torch.equal(fragments.face_ids, expected)
    torch.testing.assert_close(fragments.barycentrics[1, 2], torch.ones(3) / 3)
    torch.testing.assert_close(fragments.depth[1, 2], torch.tensor(11 / 3))
    assert (fragments.depth[expected < 0] == torch.inf).all()
    assert (fragments.barycentrics[expected < 0] == 0).all()


@BOTH
def test_back_faces_and_faces_without_area_are_not_drawn(function):
    verts = torch.tensor([[0, 0, 1], [0, 9, 1], [9, 0, 1], [5, 5, 0]], dtype=torch.float64)
    flat = torch.tensor([[0, 0, 0], [0, 1, 1], [1, 2, 1], [0, 2, 1]])
    assert (function(verts, flat, 8, 8).face_ids == -1).all()
    assert (function(verts, torch.tensor([[0, 1, 2]]), 8, 8).face_ids == 0).any()
    on_a_line = torch.tensor([[1, 1, 1], [3, 3, 1], [7, 7, 1]], dtype=torch.float64)
    assert (function(on_a_line, torch.tensor([[0, 1, 2], [2, 1, 0]]), 8, 8).face_ids == -1).all()


@pytest.mark.parametrize("seed", range(4))
def test_weights_sum_to_one_and_give_back_the_pixel_centre_and_the_depth(seed):
    verts, faces = scene(seed, SIZE, SIZE)
    fragments = rasterise(verts, faces, SIZE, SIZE)
    shown = fragments.face_ids >= 0
    assert (fragments.barycentrics >= 0).all()
    torch.testing.assert_close(fragments.barycentrics.sum(-1), shown.float())
    centre_px = torch.arange(SIZE, dtype=torch.float64) + 0.5
    x, y, z = interpolate(fragments, faces, verts).unbind(-1)
    row, column = torch.nonzero(shown, as_tuple=True)
    torch.testing.assert_close(x[shown], centre_px[column], atol=1e-5, rtol=0)
    torch.testing.assert_close(y[shown], centre_px[row], atol=1e-5, rtol=0)
    torch.testing.assert_close(z[shown].float(), fragments.depth[shown], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_drawing_two_meshes_keeps_the_nearer_of_each(seed):
    one, other = blob(seed, 30, (17, 20, 0)), blob(seed + 50, 25, (24, 18, 3))
    first, second = (rasterise(*mesh, SIZE, SIZE) for mesh in (one, other))
    both = rasterise(*together(one, other), SIZE, SIZE)
    assert torch.equal(both.depth, torch.minimum(first.depth, second.depth))
    nearer = torch.where(second.depth < first.depth, second.face_ids + len(one[1]), first.face_ids)
    assert torch.equal(both.face_ids, nearer)


@pytest.mark.parametrize("shift", [(0, 9), (-14, 0), (25, -17)])
def test_moving_by_whole_pixels_moves_the_maps(shift):
    verts, faces = scene(1, SIZE, SIZE)
    verts = (verts * 1024).round() / 1024  # so that the shift is exact
    margin = 30
    large = rasterise(verts + margin, faces, SIZE + 2 * margin, SIZE + 2 * margin)
    down, right = shift
    moved = rasterise(verts + verts.new_tensor([right, down, margin]), faces, SIZE, SIZE)
    rows, columns = slice(margin - down, None), slice(margin - right, None)
    assert torch.equal(moved.face_ids, large.face_ids[rows, columns][:SIZE, :SIZE])
    assert torch.equal(moved.barycentrics, large.barycentrics[rows, columns][:SIZE, :SIZE])
    assert torch.equal(moved.depth, large.depth[rows, columns][:SIZE, :SIZE])


def test_mirroring_with_flipped_faces_mirrors_the_maps():
    verts, faces = scene(2, SIZE, SIZE)
    straight = rasterise(verts, faces, SIZE, SIZE)
    mirrored_verts = verts * verts.new_tensor([-1, 1, 1]) + verts.new_tensor([SIZE, 0, 0])
    mirrored = rasterise(mirrored_verts, faces.flip(-1), SIZE, SIZE)
    assert torch.equal(mirrored.face_ids, straight.face_ids.flip(-1))
    torch.testing.assert_close(mirrored.barycentrics, straight.barycentrics.flip(-2).flip(-1))


@BOTH
@pytest.mark.parametrize("seed", range(3))
def test_no_pixel_falls_between_faces_whose_edges_pass_through_its_centre(function, seed):
    generator = torch.Generator().manual_seed(seed)
    n, step = 6, 4
    y, x = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    verts = torch.stack([x, y, 0 * x], -1).double() * step + 0.5
    verts[1:-1, 1:-1, :2] += torch.randint(-1, 2, (n - 2, n - 2, 2), generator=generator)
    ids = torch.arange(n * n).reshape(n, n)
    a, b, c, d = ids[:-1, :-1], ids[1:, :-1], ids[:-1, 1:], ids[1:, 1:]
    faces = torch.cat([torch.stack([a, b, c], -1), torch.stack([c, b, d], -1)]).reshape(-1, 3)
    across = (n - 1) * step + 1
    shown = function(verts.reshape(-1, 3), faces, across + 2, across + 2).face_ids >= 0
    assert shown[:across, :across].all()
    assert shown.sum() == across**2


@BOTH
def test_no_pixel_falls_between_faces_whose_edge_passes_its_centre_within_rounding(function):
    generator = torch.Generator().manual_seed(0)
    reach = torch.rand(200, 4, 1, generator=generator, dtype=torch.float64) + 0.3
    along = torch.randn(200, 2, generator=generator, dtype=torch.float64)
    across = torch.stack([along[:, 1], -along[:, 0]], -1)
    directions = torch.stack([along, across, -along, -across], 1)
    corners = torch.cat([1.5 + reach * directions, torch.zeros(200, 4, 1).double()], -1)
    shown = function(corners, torch.tensor([[0, 1, 2], [0, 2, 3]]), 3, 3).face_ids >= 0
    assert shown[:, 1, 1].all()


@BOTH
def test_the_lower_id_wins_at_equal_depth(function):
    verts = torch.tensor([[0, 0, 1], [0, 9, 1], [9, 0, 1]], dtype=torch.float64)
    twice = torch.tensor([[0, 2, 1], [0, 1, 2], [1, 2, 0]])
    assert set(function(verts, twice, 8, 8).face_ids.unique().tolist()) == {-1, 1}


@BOTH
def test_off_the_image_and_without_faces_all_is_background(function):
    verts, faces = sphere()
    for fragments in (
        function(verts - 50, faces, 6, 7),
        function(verts + 50, faces, 6, 7),
        function(verts, faces[:0], 6, 7),
        function(verts[:0], faces[:0], 6, 7),
    ):
        assert fragments.face_ids.shape == (6, 7)
        assert (fragments.face_ids == -1).all()
        assert (fragments.depth == torch.inf).all()
        assert (fragments.barycentrics == 0).all()


@pytest.mark.parametrize("far", [1e6, 1e12, 1e30])
def test_faces_that_reach_far_beyond_the_image(far):
    verts = torch.tensor([[-far, -far, 2], [0.0, far, 2], [far, -far, 2]], dtype=torch.float32)
    fragments = rasterise(verts, torch.tensor([[0, 1, 2]]), 5, 6)
    assert (fragments.face_ids == 0).all()
    torch.testing.assert_close(fragments.depth, torch.full((5, 6), 2.0))
    fragments = rasterise(verts.abs() + 7, torch.tensor([[0, 1, 2], [2, 1, 0]]), 5, 6)
    assert (fragments.face_ids == -1).all()


@BOTH
@pytest.mark.parametrize("lead", [(), (3,), (2, 2), (0,)])
def test_a_batch_is_a_loop(function, lead):
    meshes = [blob(seed, 9, (5, 5, 0), rings=6) for seed in range(4)]
    stack, faces = torch.stack([verts for verts, _ in meshes]), meshes[0][1]
    count = torch.Size(lead).numel()
    fragments = function(stack[:count].reshape(*lead, *stack.shape[1:]), faces.int(), 10, 11)
    assert fragments.face_ids.shape == (*lead, 10, 11)
    for mesh in range(count):
        alone = function(stack[mesh], faces, 10, 11)
        assert torch.equal(fragments.face_ids.reshape(-1, 10, 11)[mesh], alone.face_ids)
        assert torch.equal(fragments.barycentrics.reshape(-1, 10, 11, 3)[mesh], alone.barycentrics)
        assert torch.equal(fragments.depth.reshape(-1, 10, 11)[mesh], alone.depth)


@BOTH
def test_wrong_input_is_refused(function):
    verts, faces = sphere()
    broken = verts.clone()
    broken[5] = torch.nan
    with pytest.raises(ValueError, match=r"1 vertices that are not finite, .* vertex 5 of mesh 0"):
        function(broken, faces, 5, 5)
    with pytest.raises(ValueError, match=r"got height 5, width -1"):
        function(verts, faces, 5, -1)
    with pytest.raises(ValueError, match=r"are the faces and the .* vertices of one body"):
        function(verts[:-1], faces, 5, 5)


def test_vertices_of_winning_faces_are_those_of_the_faces_in_the_map():
    verts = torch.stack([scene(seed, SIZE, SIZE)[0] for seed in range(2)])
    faces = scene(0, SIZE, SIZE)[1]
    fragments = rasterise(verts, faces, SIZE, SIZE)
    seen = vertices_of_winning_faces(fragments, faces, verts.shape[1])
    for row, face_ids in zip(seen, fragments.face_ids):
        winners = {v for t in face_ids.unique().tolist() if t >= 0 for v in faces[t].tolist()}
        assert set(torch.nonzero(row)[:, 0].tolist()) == winners


def test_winning_faces_find_all_on_large_faces_and_miss_many_on_small_ones():
    def found(size_px: float) -> float:
        verts, faces = blob(3, size_px, (64, 64, 0), rings=16)
        seen = visible_vertices(verts, faces, 128, 128)
        fragments = rasterise(verts, faces, 128, 128)
        winners = vertices_of_winning_faces(fragments, faces, len(verts))
        return float((seen & winners).sum() / seen.sum())

    assert found(100) > 0.98
    assert found(8) < 0.7
