"""The GPU's kernels against the CPU's, and where they could go wrong on their own.

With a CUDA device the laws run on it. Without one they run on the CPU in Triton's interpreter,
which is chosen when Triton is imported: one test here runs this file again in another process.
"""

import math
import os
import re
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from raster_meshes import blob, sphere, together

from flowhmr.raster import (
    Fragments,
    cuda,
    fragments,
    rasterise,
    rasterise_reference,
    render,
    render_attributes,
    visibility,
    visible_vertices,
    visible_vertices_reference,
)

HEIGHT, WIDTH = 18, 22
TOLERANCE_PX = visibility.DEPTH_TOLERANCE_PX
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton")
needs_cuda = pytest.mark.skipif(
    INTERPRETED or not torch.cuda.is_available(), reason="needs a CUDA device"
)
law = pytest.mark.skipif(
    not INTERPRETED and not torch.cuda.is_available(),
    reason="runs in Triton's interpreter, in another process, or needs a CUDA device",
)


def drawn(verts, faces, height=HEIGHT, width=WIDTH) -> Fragments:
    maps = cuda.rasterise_triton(verts.to(DEVICE), faces.to(DEVICE), height, width)
    assert all(part.device.type == DEVICE for part in maps)
    return Fragments(*(part.cpu() for part in maps))


def seen(verts, faces, height=HEIGHT, width=WIDTH):
    answer = cuda.visible_vertices_triton(
        verts.to(DEVICE), faces.to(DEVICE), height, width, TOLERANCE_PX
    )
    assert answer.device.type == DEVICE
    return answer.cpu()


def assert_same(one: Fragments, other: Fragments) -> None:
    assert torch.equal(one.face_ids, other.face_ids)
    assert torch.equal(one.barycentrics, other.barycentrics)
    assert torch.equal(one.depth, other.depth)


def crowd(seed: int):
    """Two blobs that cross each other, zero depth and the border."""
    return together(blob(seed, 15, (7, 9, 0), rings=6), blob(seed + 50, 13, (16, 12, 2), rings=5))


@needs_triton
@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter")
def test_the_laws_hold_in_the_interpreter():
    root = Path(__file__).parents[2]
    env = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    run = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__]
    answer = subprocess.run(
        run, env=env, cwd=root, capture_output=True, text=True, timeout=300, check=False
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    passed = re.search(r"(\d+) passed", answer.stdout)
    assert passed is not None
    assert int(passed[1]) > 20


@law
@pytest.mark.parametrize(("seed", "dtype"), [(0, torch.float32), (1, torch.float64)])
def test_maps_are_those_of_the_cpu_and_of_the_twin(seed, dtype):
    verts, faces = crowd(seed)
    verts = verts.to(dtype)
    found = drawn(verts, faces)
    assert (found.depth < 0).any()
    assert (found.depth[found.face_ids >= 0] > 0).any()
    assert 0.3 < (found.face_ids >= 0).double().mean() < 0.95
    assert_same(found, rasterise(verts, faces, HEIGHT, WIDTH))
    expected = rasterise_reference(verts, faces, HEIGHT, WIDTH)
    assert torch.equal(found.face_ids, expected.face_ids)
    torch.testing.assert_close(found.barycentrics, expected.barycentrics, atol=1e-6, rtol=0)


@law
@pytest.mark.parametrize(("seed", "dtype"), [(0, torch.float32), (1, torch.float64)])
def test_visibility_is_that_of_the_twin(seed, dtype):
    verts, faces = crowd(seed)
    expected = visible_vertices_reference(verts.to(dtype), faces, HEIGHT, WIDTH)
    assert 0.05 < expected.double().mean() < 0.7
    assert torch.equal(seen(verts.to(dtype), faces), expected)


@law
@pytest.mark.parametrize("lead", [(), (2, 2), (0,)])
def test_a_batch_is_a_loop(lead):
    meshes = [
        together(blob(k, 9, (5, 5, 0), rings=4), blob(k + 4, 7, (6, 4, 9), 4)) for k in range(4)
    ]
    meshes[1] = meshes[1][0] + 100, meshes[1][1]
    stack, faces = torch.stack([verts for verts, _ in meshes]), meshes[0][1]
    count = torch.Size(lead).numel()
    batch = stack[:count].reshape(*lead, *stack.shape[1:])
    assert_same(drawn(batch, faces.int(), 8, 9), rasterise(batch, faces, 8, 9))
    assert torch.equal(seen(batch, faces.int(), 8, 9), visible_vertices(batch, faces, 8, 9))


@law
def test_off_the_image_and_without_faces_nothing_is_seen():
    verts, faces = sphere(5, 6)
    for off, some in ((verts - 50, faces), (verts + 50, faces), (verts, faces[:0])):
        found = drawn(off, some, 6, 7)
        assert (found.face_ids == -1).all()
        assert (found.depth == torch.inf).all()
        assert (found.barycentrics == 0).all()
        assert not seen(off, some, 6, 7).any()
    assert (drawn(verts[:0], faces[:0], 1, 1).face_ids == -1).all()
    assert seen(verts[:0], faces[:0], 1, 1).shape == (0,)


@law
def test_back_faces_and_faces_without_area_neither_show_nor_hide():
    lid = torch.tensor([[0, 0, 1], [0, 9, 1], [9, 0, 1]], dtype=torch.float64)
    below = torch.tensor([[2, 2, 5], [2, 3, 5], [3, 2, 5]], dtype=torch.float64)
    verts = torch.cat([lid, below])
    faces = torch.tensor([[0, 0, 0], [0, 1, 1], [1, 2, 1], [0, 2, 1], [3, 4, 5]])
    assert set(drawn(verts, faces, 8, 8).face_ids.unique().tolist()) == {-1, 4}
    assert seen(verts, faces, 8, 8).tolist() == [False] * 3 + [True] * 3
    faces[3] = torch.tensor([0, 1, 2])
    assert set(drawn(verts, faces, 8, 8).face_ids.unique().tolist()) == {-1, 3}
    assert not seen(verts, faces, 8, 8)[3:].any()


@law
def test_no_pixel_falls_between_faces_whose_edges_pass_through_its_centre():
    generator = torch.Generator().manual_seed(0)
    n, step = 4, 3
    y, x = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    verts = torch.stack([x, y, 0 * x], -1).double() * step + 0.5
    verts[1:-1, 1:-1, :2] += torch.randint(-1, 2, (n - 2, n - 2, 2), generator=generator)
    ids = torch.arange(n * n).reshape(n, n)
    a, b, c, d = ids[:-1, :-1], ids[1:, :-1], ids[:-1, 1:], ids[1:, 1:]
    faces = torch.cat([torch.stack([a, b, c], -1), torch.stack([c, b, d], -1)]).reshape(-1, 3)
    across = (n - 1) * step + 1
    verts, size = verts.reshape(-1, 3), across + 2
    found = drawn(verts, faces, size, size)
    shown = found.face_ids >= 0
    assert shown[:across, :across].all()
    assert shown.sum() == across**2
    assert_same(found, rasterise(verts, faces, size, size))


@law
def test_no_pixel_falls_between_faces_whose_edge_passes_its_centre_within_rounding():
    generator = torch.Generator().manual_seed(0)
    reach = torch.rand(200, 4, 1, generator=generator, dtype=torch.float64) + 0.3
    along = torch.randn(200, 2, generator=generator, dtype=torch.float64)
    across = torch.stack([along[:, 1], -along[:, 0]], -1)
    directions = torch.stack([along, across, -along, -across], 1)
    corners = torch.cat([1.5 + reach * directions, torch.zeros(200, 4, 1).double()], -1)
    some = corners if DEVICE == "cuda" else corners[:10]  # the interpreter is slow
    shown = drawn(some, torch.tensor([[0, 1, 2], [0, 2, 3]]), 3, 3).face_ids >= 0
    assert shown[:, 1, 1].all()


@law
def test_the_lower_id_wins_at_equal_depth():
    corners = torch.tensor([[0, 0, 0], [0, 9, 0], [9, 0, 0]], dtype=torch.float64)
    verts = torch.cat([corners, corners * corners.new_tensor([1, 1, -1])])  # at 0 and at -0.0
    faces = torch.tensor([[0, 2, 1], [0, 1, 2], [3, 4, 5], [1, 2, 0]])
    assert set(drawn(verts, faces, 6, 6).face_ids.unique().tolist()) == {-1, 1}


@law
def test_the_nearer_face_wins_by_less_than_float32_tells_apart():
    near = torch.tensor([[0, 0, 100], [0, 9, 100], [9, 0, 100]], dtype=torch.float64)
    verts = torch.cat([near + 1e-9, near, near + 2e-9])
    faces = torch.arange(9).reshape(3, 3)
    assert set(drawn(verts, faces, 6, 6).face_ids.unique().tolist()) == {-1, 1}


@law
def test_faces_that_reach_far_beyond_the_image():
    far = 1e30
    verts = torch.tensor([[-far, -far, 2], [0.0, far, 2], [far, -far, 2]], dtype=torch.float32)
    assert_same(
        drawn(verts, torch.tensor([[0, 1, 2]]), 5, 6),
        rasterise(verts, torch.tensor([[0, 1, 2]]), 5, 6),
    )
    off, both = verts.abs() + 7, torch.tensor([[0, 1, 2], [2, 1, 0]])
    assert (drawn(off, both, 5, 6).face_ids == -1).all()
    inside = torch.tensor([[1.0, 1, 5], [1, 2, 5], [2, 1, 5]])
    faces = torch.tensor([[0, 1, 2], [3, 4, 5]])
    assert not seen(torch.cat([verts, inside]), faces, 5, 6).any()
    inside[:, 2] = 1
    assert seen(torch.cat([verts, inside]), faces, 5, 6).tolist() == [False] * 3 + [True] * 3


@law
@pytest.mark.parametrize("gap_px", [0.99999999e-4, 1.00000001e-4])
def test_a_face_hides_only_what_lies_further_behind_than_the_tolerance(gap_px):
    near = torch.tensor([[1, 1, 0], [1, 9, 0], [9, 1, 0]], dtype=torch.float64)
    far = torch.tensor([[2, 2, gap_px], [2, 3, gap_px], [3, 2, gap_px]], dtype=torch.float64)
    found = seen(torch.cat([near, far]), torch.tensor([[0, 1, 2], [3, 4, 5]]), 10, 10)
    assert found.tolist() == [True] * 3 + [gap_px < 1e-4] * 3


@law
def test_rounding_does_not_let_a_face_hide_its_own_vertices():
    generator = torch.Generator().manual_seed(0)
    verts = torch.rand(20, 3, 3, generator=generator, dtype=torch.float64)
    verts[..., :2] += torch.tensor([[0, 0], [0, 9], [9, 0]])
    verts[..., 2] *= 1e15
    faces = torch.tensor([[0, 1, 2]])
    assert seen(verts, faces, 10, 10).all()


@law
def test_the_border_belongs_to_the_image_and_the_outside_does_not():
    verts = torch.tensor(
        [[0, 0, 1], [0, 6, 1], [8, 0, 1], [8, 6, 1], [-0.01, 3, 1], [4, 6.01, 1], [8.01, 3, 1]],
        dtype=torch.float64,
    )
    faces = torch.tensor([[0, 1, 2], [2, 1, 3], [4, 5, 6]])
    assert seen(verts, faces, 6, 8).tolist() == [True] * 4 + [False] * 3


@law
@pytest.mark.parametrize("axes", [[0, 1, 2], [1, 0, 2]])
def test_candidates_on_one_line_or_alone_are_no_trouble(axes):
    y = torch.arange(1.0, 9.0, dtype=torch.float64)
    line = torch.stack([4 + 0 * y, y, 5 + 0 * y], -1)
    off = torch.tensor([[-50, 0, 5], [-50, 20, 5]], dtype=torch.float64)
    lid = torch.tensor([[-50, 4.5, 1], [60, 4.5, 1], [0, -70, 1]], dtype=torch.float64)
    fan = [[k, len(y), len(y) + 1] for k in range(len(y))]
    faces = torch.tensor([*fan, [len(y) + 2, len(y) + 3, len(y) + 4]])
    verts = torch.cat([line, off, lid])[:, axes]
    faces = faces if axes[0] == 0 else faces.flip(-1)
    assert seen(verts, faces, 10, 10).tolist() == (y > 4.5).tolist() + [False] * 5
    alone = faces[[2, 6]]
    expected = visible_vertices_reference(verts, alone, 10, 10)
    assert torch.equal(seen(verts, alone, 10, 10), expected)


@law
def test_the_public_functions_take_this_path(monkeypatch):
    verts, faces = blob(0, 9, (5, 5, 0), rings=5)
    expected = rasterise(verts, faces, 8, 9), visible_vertices(verts, faces, 8, 9)
    for module in (fragments, visibility):
        monkeypatch.setattr(module, "stays_on_gpu", lambda verts_px: True)
        monkeypatch.setattr(module, "checked_meshes", None)
    verts, faces = verts.T.contiguous().T.requires_grad_(), faces.T.contiguous().T
    found = rasterise(verts.to(DEVICE), faces.to(DEVICE), 8, 9)
    assert_same(
        Fragments(found.face_ids.cpu(), found.barycentrics.cpu(), found.depth.cpu()), expected[0]
    )
    assert torch.equal(
        visible_vertices(verts.to(DEVICE), faces.to(DEVICE), 8, 9).cpu(), expected[1]
    )


def pulled(verts, faces, attributes, image_grad, device="cpu"):
    """Gradients to vertices and attributes."""
    leaves = [part.detach().to(device).requires_grad_() for part in (verts, attributes)]
    size = image_grad.shape[-3:-1]
    image = render_attributes(leaves[0], faces.to(device), leaves[1], *size)
    grads = torch.autograd.grad(image, leaves, image_grad.to(image))
    assert all(grad.device.type == device for grad in grads)
    return [grad.cpu() for grad in grads]


@law
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("lead", "channels"), [((), 3), ((2, 2), 1), ((0,), 2)])
def test_gradients_are_those_of_the_cpu(monkeypatch, dtype, lead, channels):
    count = torch.Size(lead).numel()
    meshes = [crowd(seed) for seed in range(4)]
    faces = meshes[0][1].T.contiguous().T
    stack = torch.stack([verts for verts, _ in meshes]).to(dtype)
    verts = stack[:count].reshape(*lead, *stack.shape[1:])
    generator = torch.Generator().manual_seed(0)
    attributes = torch.rand(*verts.shape[:-1], channels, generator=generator, dtype=dtype)
    image_grad = torch.randn(*lead, HEIGHT, WIDTH, channels, generator=generator, dtype=dtype)
    image_grad = image_grad.transpose(-2, -3).contiguous().transpose(-2, -3)
    expected = pulled(verts, faces, attributes, image_grad)
    assert not count or expected[0].abs().sum() > 1
    monkeypatch.setattr(render, "stays_on_gpu", lambda image: True)
    monkeypatch.setattr(render, "_pull_on_cpu", None)
    found = pulled(verts, faces, attributes, image_grad, DEVICE)
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@law
@pytest.mark.parametrize("function", [drawn, seen])
def test_wrong_input_is_refused(function):
    verts, faces = sphere(5, 6)
    for bad in (torch.nan, torch.inf, -torch.inf):
        broken = torch.stack([verts, verts])
        broken[1, 7, 2] = bad
        with pytest.raises(
            ValueError, match=r"1 vertices .* vertex 7 of mesh 1 .* expected finite"
        ):
            function(broken, faces)
    with pytest.raises(TypeError, match=r"got torch.float16; expected float32 or float64"):
        function(verts.half(), faces)
    with pytest.raises(ValueError, match=r"got height 5, width 0"):
        function(verts, faces, 5, 0)
    for wrong in (-1, len(verts)):
        broken = faces.clone()
        broken[3, 1] = wrong
        with pytest.raises(ValueError, match=rf"got vertex ids from .*{wrong}.* expected 0 to"):
            function(verts, broken)
    with pytest.raises(ValueError, match=r"expected 0 to -1; are the faces"):
        function(verts[:0], faces)


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
@pytest.mark.parametrize("exact", [True, False])
def test_compiled_for_a_gpu_edge_functions_round_every_operation(exact):
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from flowhmr.raster import triton_kernels

    types = dict.fromkeys(["verts", "boxes", "points"], "*fp64")
    types |= dict.fromkeys(["barycentrics", "depth"], "*fp32")
    types |= dict.fromkeys(["nearest", "order"], "*i64")
    types |= dict.fromkeys(["faces", "winner", "starts"], "*i32") | {"marks": "*i8"}
    types |= dict.fromkeys(["vertex_count", "face_count", "height", "width", "side"], "i32")
    by_face, by_pixel = cuda.BY_FACE, cuda.BY_PIXEL
    for kernel, constants, launch in (
        (triton_kernels.win_pixels, {"FIND_FACE": False}, by_face),
        (triton_kernels.win_pixels, {"FIND_FACE": True}, by_face),
        (triton_kernels.resolve_pixels, {}, by_pixel),
        (triton_kernels.hide_behind, {"TOLERANCE": TOLERANCE_PX}, by_face),
    ):
        options = {**launch, **({} if exact else {"enable_fp_fusion": True})}
        constants = {**constants, "BLOCK": options.pop("BLOCK")}
        signature = {name: types.get(name, "constexpr") for name in kernel.arg_names}
        source = ASTSource(kernel, signature, constexprs=constants)
        built = compile(source, target=GPUTarget("cuda", 90, 32), options=options)
        assert ("fma.rn.f64" in built.asm["ptx"]) == (not exact)
        assert "div.rn.f64" in built.asm["ptx"]


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
@pytest.mark.parametrize("attributes", ["*fp32", "*fp64"])
def test_the_gradient_compiles_for_a_gpu(attributes):
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from flowhmr.raster import triton_kernels

    types = dict.fromkeys(["barycentrics", "depth"], "*fp32")
    types |= dict.fromkeys(["image", "image_grad"], attributes)
    types |= dict.fromkeys(["verts_grad", "attributes_grad"], "*fp64")
    types |= dict.fromkeys(["face_ids", "faces"], "*i32")
    types |= dict.fromkeys(["vertex_count", "height", "width"], "i32")
    options = dict(cuda.BY_PIXEL)
    constants = {"CHANNELS": 3, "WANTED": 3, "GAP": 0.5, "BLOCK": options.pop("BLOCK")}
    kernel = triton_kernels.pull_vertices
    signature = {name: types.get(name, "constexpr") for name in kernel.arg_names}
    source = ASTSource(kernel, signature, constexprs=constants)
    built = compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    assert "add.f64" in built.asm["ptx"]


@pytest.mark.skipif(INTERPRETED, reason="has nothing to do with the interpreter")
def test_sorting_into_cells_reads_nothing_from_the_device():
    verts, _ = crowd(0)
    marks = (torch.arange(len(verts)) % 2)[None].to(torch.int8)
    grid = cuda._sort_into_cells(verts[None].to("meta"), marks.to("meta"))
    assert grid.starts.shape == (grid.side**2 + 1,)


def posed_bodies(count: int):
    # Imported here: a second in each of two processes that a machine without CUDA need not wait.
    from flowhmr.body import open_body
    from flowhmr.geometry import rotmat_from_axis_angle

    generator = torch.Generator().manual_seed(0)
    body = open_body()
    bends = 0.4 * torch.randn(count, 24, 3, generator=generator)
    bends[:, 0] *= math.pi / 0.4 / bends[:, :1].norm(dim=-1)
    pose = body.params(rotmat_from_axis_angle(bends), torch.zeros(count, 10))
    return body.mesh(pose).verts * 110 + 112, body.faces


@needs_cuda
def test_open_bodies_on_the_gpu_are_those_on_the_cpu():
    verts, faces = posed_bodies(4)
    found = rasterise(verts.cuda(), faces.cuda(), 224, 224)
    assert found.face_ids.is_cuda
    expected = rasterise(verts, faces, 224, 224)
    assert torch.equal(found.face_ids.cpu(), expected.face_ids)
    assert torch.equal(found.barycentrics.cpu(), expected.barycentrics)
    assert torch.equal(found.depth.cpu(), expected.depth)
    visible = visible_vertices(verts.cuda(), faces.cuda(), 224, 224)
    assert torch.equal(visible.cpu(), visible_vertices(verts, faces, 224, 224))


@needs_cuda
@pytest.mark.parametrize("function", [rasterise, visible_vertices])
def test_the_host_waits_for_the_gpu_once(function):
    verts, faces = (part.cuda() for part in posed_bodies(2))
    function(verts, faces, 224, 224)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            function(verts, faces, 224, 224)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert sum("synchronizing CUDA operation" in str(note.message) for note in caught) == 1


@needs_cuda
def test_gradients_of_open_bodies_on_the_gpu_are_those_on_the_cpu():
    verts, faces = posed_bodies(4)
    generator = torch.Generator().manual_seed(0)
    attributes = torch.rand(*verts.shape, generator=generator)
    image_grad = torch.randn(4, 224, 224, 3, generator=generator)
    found = pulled(verts, faces, attributes, image_grad, "cuda")
    expected = pulled(verts, faces, attributes, image_grad)
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
