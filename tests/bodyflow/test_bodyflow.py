"""Displacement and mutual visibility of two bodies, and the image flow beside it."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from flowhmr.body import open_body
from flowhmr.bodyflow import BodyFlow, body_flow, swap_body_flow, vertex_flow
from flowhmr.cameras import WeakCamera, pixel_centres_px, project_weak, sample_map
from flowhmr.flow import FlowPair, swap_pair
from flowhmr.geometry import rotmat_from_axis_angle
from flowhmr.raster import visible_vertices

SIZE = 32
LEFT, RIGHT, TOP, BOTTOM, NEAR, FAR = range(6)


def octahedron(radius_px: float = 8.0) -> tuple[Tensor, Tensor]:
    """Vertices (1, 6, 3) about the crop's middle, pixels, and outward-oriented faces (8, 3)."""
    corners = [(-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (0, 0, -1), (0, 0, 1)]
    unit = torch.tensor(corners, dtype=torch.float64)
    faces = torch.tensor([(x, y, z) for x in (0, 1) for y in (2, 3) for z in (4, 5)])
    outward = torch.linalg.det(unit[faces]) > 0
    faces = torch.where(outward[:, None], faces, faces.flip(-1))
    return unit[None] * radius_px + SIZE / 2, faces


def turned(verts_px: Tensor, axis_angle: tuple[float, float, float]) -> Tensor:
    """The mesh turned about the crop's middle."""
    rotmat = rotmat_from_axis_angle(torch.tensor(axis_angle, dtype=verts_px.dtype))
    return (verts_px - SIZE / 2) @ rotmat.T + SIZE / 2


def seen(flow: BodyFlow) -> set[int]:
    return set(flow.visible[0].nonzero()[:, 0].tolist())


def constant_pair(forward: tuple[float, float], backward: tuple[float, float]) -> FlowPair:
    """The same flow everywhere, valid everywhere."""
    valid = torch.ones(1, SIZE, SIZE, dtype=torch.bool)
    there, back = (
        torch.tensor(flow, dtype=torch.float64).expand(1, SIZE, SIZE, 2).clone()
        for flow in (forward, backward)
    )
    return FlowPair(there, back, valid, valid.clone())


def test_a_still_body_before_a_still_camera_does_not_move():
    verts_px, faces = octahedron()
    flow = body_flow(verts_px, verts_px, faces, SIZE)
    assert not flow.displacement_px.any()
    assert seen(flow) == {LEFT, RIGHT, TOP, BOTTOM, NEAR}


def test_displacement_is_end_minus_start_in_the_image():
    verts_px, faces = octahedron()
    moved = verts_px + torch.tensor([2.0, -1.0, 5.0])
    flow = body_flow(verts_px, moved, faces, SIZE)
    assert_close(flow.displacement_px, moved[..., :2] - verts_px[..., :2])
    assert_close(flow.displacement_px[0, 0], torch.tensor([2.0, -1.0], dtype=torch.float64))


def test_a_vertex_counts_when_it_is_visible_in_both():
    verts_px, faces = octahedron()
    behind = turned(verts_px, (0, math.pi, 0))
    assert seen(body_flow(behind, behind, faces, SIZE)) == {LEFT, RIGHT, TOP, BOTTOM, FAR}
    assert seen(body_flow(verts_px, behind, faces, SIZE)) == {LEFT, RIGHT, TOP, BOTTOM}


@pytest.mark.parametrize("seed", range(5))
def test_visibility_is_that_of_each_image(seed):
    generator = torch.Generator().manual_seed(seed)
    verts_px, faces = octahedron()
    angles = 2 * torch.randn(2, 3, generator=generator)
    first, second = (turned(verts_px, tuple(a.tolist())) for a in angles)
    expected = visible_vertices(first, faces, SIZE, SIZE)
    expected &= visible_vertices(second, faces, SIZE, SIZE)
    assert torch.equal(body_flow(first, second, faces, SIZE).visible, expected)


def test_what_leaves_the_image_does_not_count():
    verts_px, faces = octahedron()
    away = verts_px + torch.tensor([SIZE / 2, 0.0, 0.0])
    assert seen(body_flow(verts_px, away, faces, SIZE)) == {LEFT, TOP, BOTTOM, NEAR}
    assert seen(body_flow(away, verts_px, faces, SIZE)) == {LEFT, TOP, BOTTOM, NEAR}
    assert seen(body_flow(verts_px, verts_px + 2 * SIZE, faces, SIZE)) == set()


def test_swapping_the_images_swaps_the_directions():
    verts_px, faces = octahedron()
    moved = turned(verts_px, (0.1, 0.5, 0.3)) + 1
    there = body_flow(verts_px, moved, faces, SIZE)
    back, other = swap_body_flow(there), body_flow(moved, verts_px, faces, SIZE)
    assert_close(back.displacement_px, -there.displacement_px)
    for swapped, expected in ((back, other), (swap_body_flow(back), there)):
        assert torch.equal(swapped.start_px, expected.start_px)
        assert torch.equal(swapped.end_px, expected.end_px)
        assert torch.equal(swapped.visible, expected.visible)


def test_a_batch_is_a_loop():
    verts_px, faces = octahedron()
    first = torch.cat([turned(verts_px, (0, 0.4 * i, 0.1)) for i in range(4)])
    second = torch.cat([turned(verts_px, (0.3 * i, 0, 0)) + 4 * i for i in range(4)])
    batch = body_flow(first, second, faces, SIZE)
    for i in range(4):
        single = body_flow(first[i : i + 1], second[i : i + 1], faces, SIZE)
        assert torch.equal(batch.visible[i], single.visible[0])
        assert torch.equal(batch.displacement_px[i], single.displacement_px[0])


def test_gradients_reach_both_bodies_and_their_image_plane_only():
    verts_px, faces = octahedron()
    first, second = (turned(verts_px, (0, a, 0)).requires_grad_() for a in (0.1, 0.2))
    flow = body_flow(first, second, faces, SIZE)
    flow.displacement_px.sum().backward()
    expected = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64).expand(1, 6, 3)
    assert_close(second.grad, expected)
    assert_close(first.grad, -expected)


def test_image_flow_is_read_where_the_vertices_are_in_the_first_image():
    verts_px, faces = octahedron()
    body = body_flow(verts_px, verts_px + 3, faces, SIZE)
    centres = pixel_centres_px(SIZE, SIZE).double()[None]
    valid = torch.ones(1, SIZE, SIZE, dtype=torch.bool)
    image = FlowPair(0.5 * centres, 0.1 * centres, valid, valid)
    forward = vertex_flow(body, image, consistent=True)
    assert_close(forward.image_px, 0.5 * body.start_px)
    assert_close(forward.body_px, body.displacement_px)
    backward = vertex_flow(swap_body_flow(body), swap_pair(image), consistent=True)
    assert_close(backward.image_px, 0.1 * body.end_px)
    assert_close(backward.body_px, -body.displacement_px)


def test_image_flow_is_a_measurement_without_gradient():
    verts_px, faces = octahedron()
    verts_px.requires_grad_()
    body = body_flow(verts_px, verts_px.detach() + 1, faces, SIZE)
    generator = torch.Generator().manual_seed(0)
    image = constant_pair((1, 1), (-1, -1))
    image.forward.add_(torch.randn(image.forward.shape, generator=generator))
    flows = vertex_flow(body, image, consistent=False)
    assert not flows.image_px.requires_grad
    assert flows.body_px.requires_grad


def test_inconsistent_image_flow_does_not_count_where_that_is_asked_for():
    verts_px, faces = octahedron()
    body = body_flow(verts_px, verts_px, faces, SIZE)
    image = constant_pair((0, 0), (0, 0))
    image.forward_valid[:, :, SIZE // 2 + 4 :] = False
    counted = vertex_flow(body, image, consistent=True).counted
    assert not counted[0, RIGHT]
    assert counted[0, [LEFT, TOP, BOTTOM, NEAR]].all()
    assert not counted[0, FAR]
    assert torch.equal(vertex_flow(body, image, consistent=False).counted, body.visible)
    back = vertex_flow(swap_body_flow(body), swap_pair(image), consistent=True)
    assert torch.equal(back.counted, body.visible)


def test_a_camera_that_slides_moves_all_vertices_alike():
    verts_px, faces = octahedron()
    metres = (verts_px - SIZE / 2) / 10
    cameras = [WeakCamera(torch.tensor([[0.5, tx, 0.0]], dtype=torch.float64)) for tx in (0, 0.25)]
    first, second = (project_weak(metres, camera, SIZE) for camera in cameras)
    flow = body_flow(first, second, faces, SIZE)
    expected = torch.tensor([0.25 * SIZE / 2, 0.0], dtype=torch.float64).expand(1, 6, 2)
    assert_close(flow.displacement_px, expected)


@pytest.mark.slow
def test_the_open_body():
    body = open_body()
    size = 224
    params = body.rest_params(3)
    facing = rotmat_from_axis_angle(torch.tensor([math.pi, 0.0, 0.0]))
    away = rotmat_from_axis_angle(torch.tensor([0.0, math.pi, 0.0])) @ facing
    params.rotmats[:, 0] = torch.stack([facing, facing, away])
    centred = body.mesh(params).verts
    cameras = WeakCamera(torch.tensor([[0.8, 0.0, 0.0], [0.8, 0.1, 0.05], [0.8, 0.0, 0.0]]))
    verts_px = project_weak(centred, cameras, size)
    still = body_flow(verts_px[:1], verts_px[:1], body.faces, size)
    assert not still.displacement_px.any()
    assert 0.3 < still.visible.float().mean() < 0.6
    slid = body_flow(verts_px[:1], verts_px[1:2], body.faces, size)
    shift_px = torch.tensor([11.2, 5.6]).expand_as(slid.displacement_px)
    assert_close(slid.displacement_px, shift_px, atol=1e-3, rtol=0)
    assert torch.equal(slid.visible, still.visible)
    turned_round = body_flow(verts_px[:1], verts_px[2:], body.faces, size)
    assert turned_round.visible.float().mean() < 0.2 * still.visible.float().mean()
    image = torch.zeros(1, size, size, 2) + shift_px[0, 0]
    pair = FlowPair(image, -image, *(torch.ones(1, size, size, dtype=torch.bool),) * 2)
    flows = vertex_flow(slid, pair, consistent=True)
    assert_close(flows.body_px, flows.image_px, atol=1e-3, rtol=0)
    assert_close(sample_map(image, slid.start_px), flows.image_px)
