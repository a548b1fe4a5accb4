"""Pictures: coverage is area, light comes from where it is, the surface map knows the body."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from flowhmr.body import BodyModel
from flowhmr.cameras import pixel_centres_px, sample_map
from flowhmr.raster import interpolate, rasterise
from flowhmr.synth import paste
from flowhmr.synth.people import (
    DIRECTION,
    MATERIAL_COLUMNS,
    MATERIALS,
    PATTERN,
    RGB,
    RGB2,
    STRIPES,
    WAVES,
    Person,
)
from flowhmr.synth.renderer import CELL_PX, Look, Picture, render_people
from flowhmr.synth.scenes import Light

SIZE = 96
FACING = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
AWAY = torch.diag(torch.tensor([-1.0, -1.0, 1.0]))


def square_sheet() -> BodyModel:
    """The unit square in the plane z = 0, seen from -z; behind it another that looks away."""
    corners = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 0.0]]
    behind = [[x, y, 1.0] for x, y, _ in corners]
    return BodyModel(
        body_id="sheet",
        topology="open-body",
        v_template=torch.tensor(corners + behind),
        shapedirs=torch.zeros(8, 3, 10),
        posedirs=torch.zeros(207, 8, 3),
        joint_regressor=torch.full((24, 8), 1 / 8),
        weights=torch.full((8, 24), 1 / 24),
        faces=torch.tensor([[0, 3, 2], [0, 2, 1], [4, 6, 7], [4, 5, 6]]),
        vertex_parts=torch.zeros(8, dtype=torch.int64),
        face_parts=torch.zeros(4, dtype=torch.int64),
        symmetry=None,
        landmarks={},
        keypoint_rules=(),
    )


def plain_person(body: BodyModel, rgb: tuple[float, float, float] = (0.8, 0.8, 0.8)) -> Person:
    """All of one matt colour, without clothes."""
    materials = np.zeros((len(MATERIALS), MATERIAL_COLUMNS), np.float32)
    materials[:, RGB] = materials[:, RGB2] = rgb
    return Person(
        betas=np.zeros(10, np.float32),
        face_material=np.zeros(len(body.faces), np.int8),
        lift_m=np.zeros(len(body.v_template), np.float32),
        materials=materials,
    )


def light(
    ambient: float = 1.0, lamp: float = 0.0, towards: tuple[float, float, float] = (0, 0, -1)
) -> Light:
    direction = np.array(towards, np.float32)
    return Light(
        ambient_rgb=np.full(3, ambient, np.float32),
        sky_rgb=np.zeros(3, np.float32),
        lamp_rgb=np.full(3, lamp, np.float32),
        lamp_direction=direction / np.linalg.norm(direction),
    )


def render_square(
    left: float, top: float, width: float, height: float, look: Look | None = None
) -> Picture:
    body = square_sheet()
    verts_px = body.v_template * torch.tensor([width, height, 1.0])
    verts_px = verts_px + torch.tensor([left, top, 0.0])
    look = look or Look(plain_person(body), light())
    return render_people(body, verts_px[None], [look], 32, 40, torch.ones(1))


def posed_px(body: BodyModel, turn: torch.Tensor = FACING) -> torch.Tensor:
    """The rest pose before the camera, in the middle of the picture."""
    params = body.rest_params(1)
    params.rotmats[:, 0] = turn
    verts = body.mesh(params).verts
    middle = (verts.amax(1, keepdim=True) + verts.amin(1, keepdim=True)) / 2
    return (verts - middle) * pixels_per_metre(body) + SIZE / 2


def pixels_per_metre(body: BodyModel) -> float:
    extent = body.v_template.amax(0) - body.v_template.amin(0)
    return 0.9 * SIZE / float(extent.max())


def render_body(body: BodyModel, look: Look, turn: torch.Tensor = FACING) -> Picture:
    zoom = torch.tensor([pixels_per_metre(body)])
    return render_people(body, posed_px(body, turn), [look], SIZE, SIZE, zoom)


def seen_rest_points_m(body: BodyModel, picture: Picture) -> tuple[np.ndarray, np.ndarray]:
    """Rest-pose point (h, w, 3) of each cell in metres, and which cells see the body."""
    low, high = body.v_template.amin(0).numpy(), body.v_template.amax(0).numpy()
    surface = picture.surface[0]
    return low + surface[..., :3] / 255 * (high - low), surface[..., 3] > 0


@pytest.mark.parametrize(
    ("left", "top", "width", "height"),
    [(4, 3, 10, 12), (4.5, 3, 10.5, 12), (7.5, 9.5, 0.5, 20), (-6, 3, 10, 12), (30, 20, 40, 40)],
)
def test_coverage_is_area(left, top, width, height):
    """Exact for edges on half pixels: four samples a pixel."""
    alpha = render_square(left, top, width, height).rgba[0, ..., 3]
    across = min(left + width, 40) - max(left, 0)
    down = min(top + height, 32) - max(top, 0)
    assert alpha.sum() / 255 == pytest.approx(across * down, rel=0.01)


def test_coverage_of_any_square_is_area_on_average():
    rng = np.random.default_rng(0)
    areas, covered = [], []
    for _ in range(40):
        left, top, side = rng.uniform(2, 8), rng.uniform(2, 8), rng.uniform(3, 20)
        areas.append(side**2)
        covered.append(render_square(left, top, side, side).rgba[0, ..., 3].sum() / 255)
    assert sum(covered) == pytest.approx(sum(areas), rel=0.01)


def test_coverage_is_that_of_a_four_times_finer_raster(body):
    picture = render_body(body, Look(plain_person(body), light()))
    fine = rasterise(posed_px(body) * 8, body.faces, 8 * SIZE, 8 * SIZE).face_ids[0] >= 0
    share = fine.reshape(SIZE, 8, SIZE, 8).float().mean((1, 3)).numpy()
    error = picture.rgba[0, ..., 3] / 255 - share
    assert abs(error.mean()) < 1e-3
    assert np.abs(error).max() < 0.5
    assert np.abs(error[(share == 0) | (share == 1)]).max() <= 0.25


def test_colour_is_multiplied_by_coverage():
    rgb = (0.25, 0.5, 1.0)
    body = square_sheet()
    look = Look(plain_person(body, rgb), light())
    rgba = render_square(4.5, 3.0, 10.5, 12.0, look).rgba[0].astype(float)
    assert_close(rgba[..., :3], rgba[..., 3:] * np.array(rgb), atol=1.5, rtol=0)
    assert (rgba[..., :3] <= rgba[..., 3:]).all()


def test_paste_keeps_the_background_where_nothing_is_and_replaces_it_where_all_is():
    rng = np.random.default_rng(0)
    background = rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)
    colour = rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)
    nothing = np.zeros((9, 11, 4), np.uint8)
    everything = np.concatenate([colour, np.full((9, 11, 1), 255, np.uint8)], -1)
    assert np.array_equal(paste(nothing, background), background)
    assert np.array_equal(paste(everything, background), colour)


def test_paste_mixes_by_coverage_and_never_overflows():
    levels = np.arange(256, dtype=np.uint8)
    alpha, colour = (a.ravel() for a in np.meshgrid(levels, levels))
    inside = colour <= alpha
    alpha, colour = alpha[inside], colour[inside]
    picture = np.stack([colour, colour // 2, 0 * colour, alpha], -1)[None]
    for level in (0, 1, 77, 254, 255):
        background = np.full((1, len(alpha), 3), level, np.uint8)
        expected = picture[..., :3] + (255 - picture[..., 3:].astype(float)) / 255 * level
        assert np.abs(paste(picture, background) - expected).max() <= 0.5 + 1e-6


def test_a_lamp_on_the_left_brightens_the_left(body):
    person = plain_person(body)
    middle = SIZE // 2
    for side in (-1.0, 1.0):
        look = Look(person, light(0.1, 1.0, (side, 0.0, 0.0)))
        rgba = render_body(body, look).rgba[0].astype(float)
        left, right = rgba[:, middle - 9 : middle], rgba[:, middle : middle + 9]
        left, right = (half[..., 0].sum() / half[..., 3].sum() for half in (left, right))
        assert (left - right) * -side > 0.05


def test_mirrored_light_gives_the_mirrored_picture(body):
    person = plain_person(body)
    left, right = (
        render_body(body, Look(person, light(0.2, 0.9, (side, -0.4, -0.5)))).rgba[0].astype(int)
        for side in (-0.8, 0.8)
    )
    difference = np.abs(left - right[:, ::-1])
    assert (difference > 2).mean() < 0.005
    assert difference.mean() < 0.05


def test_light_adds_up_in_squares():
    """Gamma 2: twice the light is 1.41 times the value, until it is white."""
    body = square_sheet()
    values = [
        int(render_square(0, 0, 32, 32, Look(plain_person(body), light(a))).rgba[0, 9, 9, 0])
        for a in (0.25, 0.5, 1.0, 4.0)
    ]
    assert values[0] == pytest.approx(0.8 * 0.5 * 255, abs=1)
    assert values[1] == pytest.approx(0.8 * 0.5**0.5 * 255, abs=1)
    assert values[2] == pytest.approx(0.8 * 255, abs=1)
    assert values[3] == 255


def test_stripes_run_across_their_direction():
    body = square_sheet()
    person = plain_person(body, (1.0, 1.0, 1.0))
    person.materials[0, RGB2] = 0
    person.materials[0, PATTERN] = STRIPES
    person.materials[0, WAVES] = 4
    person.materials[0, DIRECTION] = [1, 0, 0]
    grey = render_square(0, 0, 32, 32, Look(person, light())).rgba[0, :32, :32, 0].astype(float)
    assert (grey == grey[:1]).all(), "along y nothing changes"
    changes = np.abs(np.diff((grey[0] > 127).astype(int))).sum()
    assert changes in (7, 8), "four waves have seven or eight edges in the open square"


def test_lifted_clothes_make_a_larger_person(body):
    thin = plain_person(body)
    thick = replace(thin, lift_m=np.full_like(thin.lift_m, 0.03))
    alphas = [render_body(body, Look(p, light())).rgba[0, ..., 3] for p in (thin, thick)]
    assert alphas[1].sum() > 1.1 * alphas[0].sum()
    assert (alphas[1].astype(int) >= alphas[0]).mean() > 0.999


def test_a_lift_is_metres_in_every_picture(body):
    """Twice as near, twice as many pixels: the picture of the lifted person only grows."""
    person = plain_person(body)
    person = replace(person, lift_m=np.full_like(person.lift_m, 0.03))
    verts_px, zoom = posed_px(body), torch.tensor([pixels_per_metre(body)])
    looks = [Look(person, light())]
    near = render_people(body, verts_px, looks, SIZE, SIZE, zoom).rgba[0, ..., 3] / 255
    far = render_people(body, verts_px / 2, looks, SIZE // 2, SIZE // 2, zoom / 2).rgba[0, ..., 3]
    assert (far / 255).sum() * 4 == pytest.approx(near.sum(), rel=0.03)


def test_pictures_of_a_batch_are_those_of_each_alone(body):
    looks = [Look(plain_person(body, rgb), light()) for rgb in ((1.0, 0.2, 0.1), (0.1, 0.9, 0.4))]
    verts_px = torch.cat([posed_px(body), posed_px(body, AWAY)])
    zoom = torch.full((2,), pixels_per_metre(body))
    both = render_people(body, verts_px, looks, SIZE, SIZE, zoom)
    for i, look in enumerate(looks):
        alone = render_people(body, verts_px[i : i + 1], [look], SIZE, SIZE, zoom[:1])
        assert np.array_equal(both.rgba[i], alone.rgba[0])
        assert np.array_equal(both.surface[i], alone.surface[0])


def test_rendering_leaves_the_vertices_alone(body):
    verts_px = posed_px(body)
    before = verts_px.clone()
    person = plain_person(body)
    person = replace(person, lift_m=np.full_like(person.lift_m, 0.03))
    render_people(
        body, verts_px, [Look(person, light())], SIZE, SIZE, torch.tensor([pixels_per_metre(body)])
    )
    assert torch.equal(verts_px, before)


def test_the_surface_map_orders_the_body_as_it_stands(body):
    """Facing the camera the front is seen, the left at the right, the head above."""
    depths_m = []
    for turn, side in ((FACING, 1.0), (AWAY, -1.0)):
        picture = render_body(body, Look(plain_person(body), light()), turn)
        points_m, seen = seen_rest_points_m(body, picture)
        rows, columns = np.nonzero(seen)
        assert side * np.corrcoef(columns, points_m[seen][:, 0])[0, 1] > 0.99
        assert np.corrcoef(rows, points_m[seen][:, 1])[0, 1] < -0.99
        trunk = seen & (np.abs(points_m[..., 0]) < 0.1) & (np.abs(points_m[..., 1]) < 0.3)
        depths_m.append(points_m[trunk][:, 2])
    assert depths_m[0].min() > depths_m[1].max()


@pytest.mark.parametrize("turn", [FACING, AWAY])
def test_the_surface_map_is_what_a_raster_of_cells_sees(body, turn):
    """An independent way: rasterise at the cells' size and carry the rest pose along."""
    picture = render_body(body, Look(plain_person(body), light()), turn)
    points_m, seen = seen_rest_points_m(body, picture)
    cells = SIZE // CELL_PX
    fragments = rasterise(posed_px(body, turn) / CELL_PX, body.faces, cells, cells)
    expected = interpolate(fragments, body.faces, body.v_template[None])[0].numpy()
    covered = fragments.face_ids[0].numpy() >= 0
    # Cells are sampled a quarter of a pixel off their middle: outlines may differ.
    assert (covered != seen).mean() < 0.03
    both = covered & seen
    assert both.sum() > 40
    gap = np.linalg.norm(points_m[both] - expected[both], axis=-1)
    assert np.median(gap) < 0.02
    assert (gap < 0.1).mean() > 0.95


def test_where_the_surface_map_says_body_the_picture_is_covered(body):
    picture = render_body(body, Look(plain_person(body), light()))
    alpha = torch.from_numpy(picture.rgba[..., 3:].astype(np.float32))
    cells = SIZE // CELL_PX
    middles = pixel_centres_px(cells, cells).reshape(1, -1, 2) * CELL_PX
    covered = sample_map(alpha, middles)[0, :, 0].reshape(cells, cells).numpy()
    seen = picture.surface[0, ..., 3] > 0
    assert covered[seen].min() > 50
    assert covered[~seen].max() < 205
    assert (picture.surface[0][~seen] == 0).all()
