"""SMPL's files in their official layouts: read, or refused with the reason."""

import pickle

import numpy as np
import pytest
import torch
from scipy import sparse

from flowhmr.body import (
    H36M_17,
    SMPL_24,
    SPIN_EXTRA_9,
    SPIN_H36M_17,
    BodyFileError,
    BodyIdentityError,
    load_body,
    load_regressor,
    mesh_reference,
    open_body,
)
from flowhmr.geometry import rotmat_from_axis_angle
from python2_pickles import Ch, Select, python2_pickle
from smpl_files import published, smpl_arrays

ARRAYS = smpl_arrays()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "body.npz"


def load(path, arrays, **options):
    """Through an npz, the quickest to write."""
    np.savez(path, **arrays)
    return load_body(path, **options)


def test_the_published_pickle(smpl_body):
    assert smpl_body.topology == "smpl"
    assert smpl_body.body_id.startswith("smpl:")
    expected = {
        "v_template": ARRAYS["v_template"],
        "shapedirs": ARRAYS["shapedirs"],
        "posedirs": ARRAYS["posedirs"].transpose(2, 0, 1),
        "joint_regressor": ARRAYS["J_regressor"],
        "weights": ARRAYS["weights"],
        "faces": ARRAYS["f"].astype(np.int64),
    }
    for name, array in expected.items():
        assert np.array_equal(
            getattr(smpl_body, name), array.astype(getattr(smpl_body, name).numpy().dtype)
        )


def test_a_read_body_poses(smpl_body):
    """Its pose blend shapes are dense, and feel the rotations row by row."""
    bends = 0.3 * torch.randn(2, 24, 3, generator=torch.Generator().manual_seed(0))
    params = smpl_body.params(rotmat_from_axis_angle(bends), torch.ones(2, 10))
    expected = mesh_reference(smpl_body, params)
    torch.testing.assert_close(
        smpl_body.mesh(params).verts.double(), expected.verts, rtol=0, atol=3e-6
    )


def test_the_body_is_the_same_from_any_kind_of_file(smpl_body, tmp_path):
    cleaned = tmp_path / "cleaned.pkl"
    cleaned.write_bytes(pickle.dumps(ARRAYS))
    sparser = tmp_path / "sparse.pkl"
    csr = sparse.csr_matrix(ARRAYS["J_regressor"])
    sparser.write_bytes(pickle.dumps({**ARRAYS, "J_regressor": csr}, 2))
    single = {k: v.astype(np.float32) if v.dtype.kind == "f" else v for k, v in ARRAYS.items()}
    ids = {load_body(cleaned).body_id, load_body(sparser).body_id}
    ids |= {load(tmp_path / "a.npz", ARRAYS).body_id, load(tmp_path / "b.npz", single).body_id}
    assert ids == {smpl_body.body_id}


def test_smplx_layouts_of_the_pose_directions_are_read(path, smpl_body):
    flat = ARRAYS["posedirs"].reshape(20670, 207)
    for posedirs in (flat, flat.T):
        assert load(path, {**ARRAYS, "posedirs": posedirs}).body_id == smpl_body.body_id


def test_another_body_has_another_identity(path, smpl_body):
    template = ARRAYS["v_template"].copy()
    template[0, 0] += 1e-3
    other = load(path, {**ARRAYS, "v_template": template})
    assert other.body_id != smpl_body.body_id
    with pytest.raises(BodyIdentityError):
        smpl_body.mesh(other.rest_params())


def test_derived_chumpy_nodes_are_read(tmp_path, smpl_body):
    """Shape directions as a selection of more, the way some files of 10 were made."""
    many = smpl_arrays(num_betas=16)["shapedirs"]
    chosen = np.arange(many.size).reshape(many.shape)[..., :10].ravel()
    node = Select(Ch(many), chosen, (6890, 3, 10))
    path = tmp_path / "select.pkl"
    path.write_bytes(python2_pickle({**published(ARRAYS), "shapedirs": node}))
    assert load_body(path).body_id == smpl_body.body_id


def test_three_hundred_betas_are_cut_to_the_first(path, smpl_body):
    arrays = smpl_arrays(num_betas=300)
    arrays["shapedirs"] = arrays["shapedirs"].astype(np.float32)
    assert load(path, arrays).body_id == smpl_body.body_id
    body = load(path, arrays, num_betas=16)
    assert body.num_betas == 16
    assert np.array_equal(body.shapedirs, arrays["shapedirs"][..., :16].astype(np.float32))
    assert body.mesh(body.rest_params(2)).verts.shape == (2, 6890, 3)


def test_the_open_body_is_read_back(tmp_path):
    from importlib.resources import files

    path = files("flowhmr.body").joinpath("assets/open_body.npz")
    assert load_body(str(path)).body_id == open_body().body_id


def test_inward_triangles_are_turned(path, smpl_body):
    turned = load(path, {**ARRAYS, "f": ARRAYS["f"][:, ::-1]})
    a, b, c = turned.v_template[turned.faces].unbind(1)
    assert (a * torch.linalg.cross(b, c)).sum() > 0
    assert turned.body_id == smpl_body.body_id


def test_parts_and_symmetry(path, smpl_body):
    assert torch.equal(smpl_body.vertex_parts, smpl_body.weights.argmax(1))
    assert smpl_body.symmetry is None
    mirror = np.arange(6890)[::-1]
    assert np.array_equal(load(path, {**ARRAYS, "vert_sym_idxs": mirror}).symmetry, mirror)
    for wrong in (np.roll(mirror, 1) * 0 + 5, mirror[:-1], mirror - 1, mirror.astype(float)):
        assert load(path, {**ARRAYS, "vert_sym_idxs": wrong}).symmetry is None


def changed(name, change):
    array = ARRAYS[name].copy()
    return {**ARRAYS, name: change(array)}


def with_number(array, number):
    array.reshape(-1)[7] = number
    return array


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        (changed("v_template", lambda a: np.zeros((10475, 3))), "got SMPL-X's file.*SMPL file"),
        (changed("v_template", lambda a: np.zeros((778, 3))), "got MANO's file"),
        (changed("kintree_table", lambda a: np.zeros((2, 52))), r"got SMPL\+H's file"),
        (changed("kintree_table", lambda a: np.zeros((2, 55))), "got SMPL-X's file"),
        (changed("v_template", lambda a: a[:-1]), r"v_template: got shape \(6889, 3\)"),
        (changed("v_template", lambda a: with_number(a, np.nan)), "1 numbers that are not finite"),
        (changed("shapedirs", lambda a: a.transpose(2, 0, 1)), r"got shape \(10, 6890, 3\)"),
        (changed("shapedirs", lambda a: a.reshape(20670, 10)), r"got shape \(20670, 10\)"),
        (changed("shapedirs", lambda a: a.transpose(0, 2, 1)), r"got shape \(6890, 10, 3\)"),
        (
            changed("shapedirs", lambda a: np.concatenate([a, ARRAYS["posedirs"]], 2)),
            r"got shape \(6890, 3, 217\).*cut the pose directions off",
        ),
        (changed("shapedirs", lambda a: ARRAYS["posedirs"]), r"got shape \(6890, 3, 207\)"),
        (changed("shapedirs", lambda a: np.zeros((6890, 3, 507))), r"got shape \(6890, 3, 507\)"),
        (changed("shapedirs", lambda a: a[..., :5]), "got 5 betas; expected at least 10"),
        (changed("shapedirs", lambda a: with_number(a, np.inf)), "not finite"),
        (changed("shapedirs", lambda a: with_number(a, 1e300)), "1 numbers that are .* too large"),
        (changed("posedirs", lambda a: a[..., :-9]), r"posedirs: got shape \(6890, 3, 198\)"),
        (changed("posedirs", lambda a: a.transpose(2, 0, 1)), r"got shape \(207, 6890, 3\)"),
        (changed("J_regressor", lambda a: a.T), r"J_regressor: got shape \(6890, 24\)"),
        (changed("weights", lambda a: a * 1.01), "away from a sum of one"),
        (changed("weights", lambda a: a - 1e-3 * np.eye(24)[0] + 1e-3 * np.eye(24)[1]), "least"),
        (changed("weights", lambda a: a.astype(str)), "weights: got <U.*expected numbers"),
        (changed("f", lambda a: with_number(a, 6890)), "from 0 to 6890; expected integers from 0"),
        (changed("f", lambda a: a.astype(float)), "f: got float64"),
        (changed("f", lambda a: a[:-1]), r"f: got shape \(13775, 3\)"),
        (
            changed("f", lambda a: open_body().faces.numpy()),
            r"open body's triangles.*open_body\(\)",
        ),
        (changed("kintree_table", lambda a: a[:, ::-1]), "kintree_table: got parents"),
        (changed("kintree_table", lambda a: with_number(a, 0)), "kintree_table: got parents"),
        (changed("kintree_table", lambda a: np.stack([a[0], a[1][::-1]])), "kintree_table: got"),
        ({"poses": np.zeros(3)}, "got no v_template, shapedirs.*found: nothing.*parameters"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(path, arrays, complaint):
    with pytest.raises(BodyFileError, match=complaint) as error:
        load(path, arrays)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("key", sorted(ARRAYS))
def test_missing_parts_are_listed(path, key):
    arrays = {name: array for name, array in ARRAYS.items() if name != key}
    with pytest.raises(BodyFileError, match=rf"got no {key} \(found: .*\); expected SMPL's"):
        load(path, arrays)


def test_a_pickle_that_is_no_dict_is_refused(tmp_path):
    path = tmp_path / "list.pkl"
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(BodyFileError, match=r"got a list; expected the dict of a body"):
        load_body(path)


def test_parts_that_are_no_arrays_are_refused(tmp_path):
    path = tmp_path / "list.pkl"
    path.write_bytes(pickle.dumps({**ARRAYS, "weights": [1.0, 2.0]}))
    with pytest.raises(BodyFileError, match=r"weights: got list; expected \(6890, 24\)"):
        load_body(path)


class RunsCode:
    def __reduce__(self):
        return eval, ("1/0",)


def test_pickles_that_run_code_are_refused(tmp_path):
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps({**ARRAYS, "shapedirs": RunsCode()}))
    with pytest.raises(BodyFileError, match=r"evil.pkl: got a pickle that calls builtins.eval"):
        load_body(path)


def test_npz_files_with_a_sparse_matrix_are_read(path):
    dense = load(path, ARRAYS).body_id
    matrix = np.array(sparse.csc_matrix(ARRAYS["J_regressor"]))
    assert load(path, {**ARRAYS, "J_regressor": matrix}).body_id == dense


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_npz_files_that_break_off_are_refused(path, share):
    np.savez(path, **{key: array for key, array in ARRAYS.items() if key != "posedirs"})
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BodyFileError, match=r"body.npz: got a damaged zip archive"):
        load_body(path)


def test_damaged_npz_files_are_refused(path):
    np.savez_compressed(path, **{**ARRAYS, "posedirs": np.zeros((6890, 3, 207), np.float32)})
    content = bytearray(path.read_bytes())
    content[1000:1100] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(BodyFileError, match=r"got a damaged zip archive"):
        load_body(path)


def test_npz_files_that_unpack_to_too_much_are_refused(path, monkeypatch):
    monkeypatch.setattr("flowhmr.body.files.MAX_BYTES", 10**6)
    with pytest.raises(BodyFileError, match=r"bytes; expected at most 1000000"):
        load(path, {**ARRAYS, "shapedirs": np.zeros((6890, 3, 10))})


def test_missing_files_are_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_body(tmp_path / "none.pkl")


def regressor_rows(body, rows):
    """The vertex nearest to the joint of the same name, or to the pelvis."""
    places = body.mesh(body.rest_params()).joints
    matrix = np.zeros((len(rows), 6890))
    for row, name in enumerate(rows.names):
        joint = SMPL_24.index(name) if name in SMPL_24.names else 0
        matrix[row, (body.v_template - places[joint]).norm(dim=1).argmin()] = 1
    return matrix


@pytest.mark.parametrize(
    ("rows", "joints"), [(SPIN_H36M_17, H36M_17), (SPIN_EXTRA_9, SPIN_EXTRA_9)]
)
def test_regressors_are_bound_to_the_body_and_ordered(tmp_path, smpl_body, rows, joints):
    path = tmp_path / "J_regressor.npy"
    matrix = regressor_rows(smpl_body, rows)
    np.save(path, matrix)
    regressor = load_regressor(path, joints, smpl_body)
    assert regressor.body_id == smpl_body.body_id
    assert regressor.joints is joints
    for name in joints.names:
        assert np.array_equal(regressor.matrix[joints.index(name)], matrix[rows.index(name)])


def test_regressors_are_refused_for_the_open_body(tmp_path, smpl_body):
    path = tmp_path / "J_regressor_h36m.npy"
    np.save(path, regressor_rows(smpl_body, SPIN_H36M_17))
    with pytest.raises(BodyFileError, match=r"body open-body:.*each vertex lies elsewhere"):
        load_regressor(path, H36M_17, open_body())


def test_regressors_in_another_order_are_refused(tmp_path, smpl_body):
    path = tmp_path / "J_regressor_h36m.npy"
    np.save(path, regressor_rows(smpl_body, H36M_17))
    with pytest.raises(BodyFileError, match=r"put left_hip, left_knee, left_ankle on the right"):
        load_regressor(path, H36M_17, smpl_body)


@pytest.mark.parametrize(
    ("save", "complaint"),
    [
        (lambda p: np.save(p, np.zeros((9, 6890))), r"\(9, 6890\); expected \(17, 6890\)"),
        (lambda p: np.save(p, np.full((17, 6890), np.nan)), "not finite"),
        (lambda p: np.save(p, np.full((17, 6890), 1e300)), "too large"),
        (lambda p: np.save(p, np.full((17, 6890), "a")), "got <U1; expected numbers"),
        (lambda p: p.write_bytes(b"<html>"), "got no npy array"),
        (lambda p: np.save(p, np.array([None])), "got no npy array"),
    ],
)
def test_files_that_are_no_regressor_are_refused(tmp_path, smpl_body, save, complaint):
    path = tmp_path / "J_regressor_h36m.npy"
    save(path)
    with pytest.raises(BodyFileError, match=complaint):
        load_regressor(path, H36M_17, smpl_body)


def test_regressors_of_other_sets_are_refused(tmp_path, smpl_body):
    with pytest.raises(BodyFileError, match=r"got joint set smpl-24; expected h36m-17 or"):
        load_regressor(tmp_path / "x.npy", SMPL_24, smpl_body)
