"""Exact visibility: its twin, and the laws it must keep."""

import pytest
import torch
from raster_meshes import blob, scene, sphere, together

from flowhmr.raster import visible_vertices, visible_vertices_reference

SIZE = 48


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_the_twin(seed, dtype):
    verts, faces = scene(seed, SIZE, SIZE + 16)
    verts = verts.to(dtype)
    expected = visible_vertices_reference(verts, faces, SIZE, SIZE + 16)
    assert 0.05 < expected.double().mean() < 0.7
    assert torch.equal(visible_vertices(verts, faces, SIZE, SIZE + 16), expected)


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_the_twin_when_everything_is_smaller_than_a_pixel(seed):
    verts, faces = blob(seed, size_px=1.5, centre_px=(4.2, 3.9, 0.0))
    expected = visible_vertices_reference(verts, faces, 8, 8)
    assert torch.equal(visible_vertices(verts, faces, 8, 8), expected)


@pytest.mark.parametrize("function", [visible_vertices, visible_vertices_reference])
def test_the_near_half_of_a_ball_is_visible(function):
    unit, faces = sphere(16, 20)
    verts = 20 * unit + SIZE / 2
    seen = function(verts, faces, SIZE, SIZE)
    assert seen[unit[:, 2] < -0.1].all()
    assert not seen[unit[:, 2] > 0.1].any()


@pytest.mark.parametrize("function", [visible_vertices, visible_vertices_reference])
def test_the_nearer_ball_hides_the_farther(function):
    unit, faces = sphere()
    small, large = 5 * unit + SIZE / 2, 15 * unit + SIZE / 2
    away = torch.tensor([0.0, 0.0, 40.0], dtype=torch.float64)
    alone = function(large, faces, SIZE, SIZE)
    verts, both = together((small + away, faces), (large, faces))
    seen = function(verts, both, SIZE, SIZE)
    assert not seen[: len(unit)].any()
    assert torch.equal(seen[len(unit) :], alone)
    seen = function(torch.cat([small - away, large]), both, SIZE, SIZE)
    assert torch.equal(seen[: len(unit)], function(small, faces, SIZE, SIZE))
    assert seen[len(unit) :].sum() < alone.sum()


@pytest.mark.parametrize("gap_px", [0.5e-4, 2e-4])
@pytest.mark.parametrize("function", [visible_vertices, visible_vertices_reference])
def test_a_face_hides_only_what_lies_further_behind_than_the_tolerance(function, gap_px):
    near = torch.tensor([[1, 1, 7], [1, 9, 7], [9, 1, 7]], dtype=torch.float64)
    far = torch.tensor([[2, 2, 7], [2, 3, 7], [3, 2, 7]], dtype=torch.float64)
    far[:, 2] += gap_px
    seen = function(torch.cat([near, far]), torch.tensor([[0, 1, 2], [3, 4, 5]]), 10, 10)
    assert seen[:3].all()
    assert torch.equal(seen[3:], torch.full((3,), gap_px < 1e-4))


@pytest.mark.parametrize("function", [visible_vertices, visible_vertices_reference])
def test_the_border_belongs_to_the_image_and_the_outside_does_not(function):
    verts = torch.tensor(
        [[0, 0, 1], [0, 6, 1], [8, 0, 1], [8, 6, 1], [-0.01, 3, 1], [4, 6.01, 1], [8.01, 3, 1]],
        dtype=torch.float64,
    )
    faces = torch.tensor([[0, 1, 2], [2, 1, 3], [4, 5, 6]])
    seen = function(verts, faces, 6, 8)
    assert seen.tolist() == [True] * 4 + [False] * 3


@pytest.mark.parametrize("function", [visible_vertices, visible_vertices_reference])
def test_faces_hide_only_seen_from_the_front_and_only_with_an_area(function):
    lid = torch.tensor([[1, 1, 1], [1, 9, 1], [9, 1, 1]], dtype=torch.float64)
    below = torch.tensor([[2, 2, 5], [2, 3, 5], [3, 2, 5]], dtype=torch.float64)
    verts = torch.cat([lid, below])
    assert not function(verts, torch.tensor([[0, 1, 2], [3, 4, 5]]), 10, 10)[3:].any()
    seen = function(verts, torch.tensor([[0, 2, 1], [0, 1, 1], [2, 2, 2], [3, 4, 5]]), 10, 10)
    assert seen.tolist() == [False] * 3 + [True] * 3


@pytest.mark.parametrize("seed", range(4))
def test_moving_scaling_turning_and_mirroring_the_world_changes_nothing(seed):
    verts, faces = blob(seed, size_px=30, centre_px=(SIZE / 2, SIZE / 2, 0.0))
    seen = visible_vertices(verts, faces, SIZE, SIZE)
    x, y, z = verts.unbind(-1)
    assert torch.equal(visible_vertices(verts + verts.new_tensor([3, -2, 70]), faces, 50, 52), seen)
    assert torch.equal(visible_vertices(3 * verts, faces, 3 * SIZE, 3 * SIZE), seen)
    turned = torch.stack([SIZE - y, x, z], -1)
    assert torch.equal(visible_vertices(turned, faces, SIZE, SIZE), seen)
    mirrored = torch.stack([SIZE - x, y, z], -1)
    assert torch.equal(visible_vertices(mirrored, faces.flip(-1), SIZE, SIZE), seen)


def test_nothing_is_visible_of_a_mesh_off_the_image_or_without_faces():
    verts, faces = blob(0, size_px=20, centre_px=(-30.0, 20.0, 0.0))
    assert not visible_vertices(verts, faces, SIZE, SIZE).any()
    assert not visible_vertices(verts, faces[:0], SIZE, SIZE).any()
    assert visible_vertices(verts[:0], faces[:0], SIZE, SIZE).shape == (0,)


def test_a_single_candidate_among_corners_far_off_the_image_is_no_trouble():
    verts = torch.tensor(
        [[0, 3, 5], [-1e30, 9e29, 5], [-1e30, -9e29, 5], [2, 3, 1], [2, 3, 2], [9, 3, 1]],
        dtype=torch.float64,
    )
    faces = torch.tensor([[0, 2, 1], [3, 4, 5], [0, 1, 2]])
    expected = visible_vertices_reference(verts, faces, 6, 8)
    assert expected.tolist() == [True] + [False] * 5
    assert torch.equal(visible_vertices(verts, faces, 6, 8), expected)


@pytest.mark.parametrize("function", [visible_vertices, visible_vertices_reference])
@pytest.mark.parametrize("axes", [[0, 1, 2], [1, 0, 2]])
def test_candidates_on_one_line_are_no_trouble(function, axes):
    y = torch.arange(1.0, 9.0, dtype=torch.float64)
    line = torch.stack([4 + 0 * y, y, 5 + 0 * y], -1)
    off = torch.tensor([[-50, 0, 5], [-50, 20, 5]], dtype=torch.float64)
    lid = torch.tensor([[-50, 4.5, 1], [60, 4.5, 1], [0, -70, 1]], dtype=torch.float64)
    fan = [[k, len(y), len(y) + 1] for k in range(len(y))]
    faces = torch.tensor([*fan, [len(y) + 2, len(y) + 3, len(y) + 4]])
    verts = torch.cat([line, off, lid])[:, axes]
    seen = function(verts, faces if axes[0] == 0 else faces.flip(-1), 10, 10)
    assert seen.tolist() == (y > 4.5).tolist() + [False] * 5


@pytest.mark.parametrize("function", [visible_vertices, visible_vertices_reference])
@pytest.mark.parametrize("lead", [(), (5,), (2, 3), (0,), (2, 0)])
def test_a_batch_is_a_loop(function, lead):
    meshes = [blob(seed, 30, (24, 24, 0), rings=6) for seed in range(6)]
    stack, faces = torch.stack([verts for verts, _ in meshes]), meshes[0][1]
    count = torch.Size(lead).numel()
    batch = stack[:count].reshape(*lead, *stack.shape[1:])
    seen = function(batch, faces.int(), SIZE, SIZE)
    assert seen.shape == batch.shape[:-1]
    for row, verts in zip(seen.reshape(count, stack.shape[1]), stack):
        assert torch.equal(row, function(verts, faces, SIZE, SIZE))


def test_input_that_requires_gradients_or_has_strides_is_fine():
    verts, faces = blob(0, 30, (24, 24, 0))
    strided = verts.T.contiguous().T.requires_grad_()
    seen = visible_vertices(strided, faces.T.contiguous().T, SIZE, SIZE)
    assert torch.equal(seen, visible_vertices(verts, faces, SIZE, SIZE))


@pytest.mark.parametrize("function", [visible_vertices, visible_vertices_reference])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused_by_place(function, bad):
    verts, faces = blob(0, 30, (24, 24, 0), rings=6)
    batch = torch.stack([verts, verts])
    batch[1, 7, 2] = bad
    with pytest.raises(ValueError, match=r"1 vertices .* vertex 7 of mesh 1 .* expected finite"):
        function(batch, faces, SIZE, SIZE)


def test_wrong_input_is_refused():
    verts, faces = blob(0, 30, (24, 24, 0), rings=6)
    with pytest.raises(TypeError, match=r"got torch.float16; expected float32 or float64"):
        visible_vertices(verts.half(), faces, SIZE, SIZE)
    with pytest.raises(ValueError, match=r"got height 0, width 48"):
        visible_vertices(verts, faces, 0, SIZE)
    for wrong in (-1, len(verts)):
        broken = faces.clone()
        broken[3, 1] = wrong
        with pytest.raises(ValueError, match=rf"got vertex ids from .*{wrong}.* expected 0 to"):
            visible_vertices(verts, broken, SIZE, SIZE)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_answer_is_on_the_device_of_the_input():
    verts, faces = blob(0, 30, (24, 24, 0))
    seen = visible_vertices(verts.cuda(), faces.cuda(), SIZE, SIZE)
    assert seen.is_cuda
    assert torch.equal(seen.cpu(), visible_vertices(verts, faces, SIZE, SIZE))
