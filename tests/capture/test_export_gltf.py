"""GLB: its own numbers, skinned by the specification, give the body; its tables are sound."""

import math
from dataclasses import replace

import numpy as np
import pytest
import roma
import torch
from captured_people import BODY, FLIP, FRAMES, captured_scene, points_up
from glb_reading import Glb, read_glb

from flowhmr.body import SMPL_24, BodyIdentityError
from flowhmr.capture import save_glb
from flowhmr.capture.export.glb import GlbFile
from flowhmr.capture.export.gltf import largest_influences, unit_quaternions
from flowhmr.geometry import rotmat_from_axis_angle
from flowhmr.records import SceneMotion


@pytest.fixture(scope="module")
def scene() -> SceneMotion:
    return captured_scene()


@pytest.fixture(scope="module")
def glb(scene, tmp_path_factory) -> Glb:
    return read_glb(save_glb(tmp_path_factory.mktemp("glb") / "people.glb", scene, BODY))


def test_skinning_by_the_specification_gives_the_body(glb, scene):
    joints, weights = map(torch.from_numpy, largest_influences(BODY.weights))
    four = torch.zeros_like(BODY.weights).scatter_add(1, joints.long(), weights)
    plain = replace(BODY, posedirs=torch.zeros_like(BODY.posedirs))
    for person in scene.people:
        for key in (0, len(person) - 1):
            got = glb.skinned(person.person, key)
            for body, within_m in ((replace(plain, weights=four), 2e-5), (plain, 0.02)):
                expected = points_up(person, body.mesh(person.params).verts)[key].double()
                torch.testing.assert_close(got, expected, atol=within_m, rtol=0)
            whole = points_up(person, BODY.mesh(person.params).verts)[key]
            off_m = (got - whole).norm(dim=-1)
            assert float(off_m.mean()) < 1.5e-3
            assert float(off_m.max()) < 0.03


def test_nodes_rest_in_the_first_pose(glb, scene):
    curves = glb.curves()
    for person in scene.people:
        skin = glb.named("skins", f"person-{person.person}")
        names = [glb.document["nodes"][joint]["name"] for joint in skin["joints"]]
        assert names == list(SMPL_24.names)
        for joint in skin["joints"]:
            node = glb.document["nodes"][joint]
            assert node["rotation"] == pytest.approx(curves[joint, "rotation"][1][0].tolist())
        root = skin["joints"][0]
        first = glb.document["nodes"][root]["translation"]
        assert first == pytest.approx(curves[root, "translation"][1][0].tolist())
        assert curves[root, "rotation"][0].tolist() == pytest.approx(
            scene.times_s[person.frame_indices].tolist()
        )


def test_people_are_shown_in_their_frames(glb, scene):
    curves = glb.curves()
    for number, frames in FRAMES.items():
        name = f"person-{number}"
        group = [n.get("name") for n in glb.document["nodes"]].index(name)
        if len(frames) == len(scene.times_s):
            assert (group, "scale") not in curves
            continue
        times, scales, how = curves[group, "scale"]
        assert how == "STEP"
        at = np.searchsorted(times, scene.times_s.numpy() + 1e-4, side="right") - 1
        assert scales[at].tolist() == [[float(f in frames)] * 3 for f in range(8)]


def test_tables_are_sound(glb):
    document = glb.document
    used_as_vertices = {
        place
        for mesh in document["meshes"]
        for primitive in mesh["primitives"]
        for place in primitive["attributes"].values()
    }
    for place, entry in enumerate(document["accessors"]):
        rows = glb.rows(place)
        assert np.isfinite(rows).all()
        if "min" in entry:
            flat = rows.reshape(len(rows), -1)
            assert entry["min"] == flat.min(0).tolist()
            assert entry["max"] == flat.max(0).tolist()
        view = document["bufferViews"][entry["bufferView"]]
        assert (view.get("target") == 34962) == (place in used_as_vertices)
    for mesh in document["meshes"]:
        (primitive,) = mesh["primitives"]
        table = {key: glb.rows(place) for key, place in primitive["attributes"].items()}
        assert len({len(rows) for rows in table.values()}) == 1
        assert "min" in document["accessors"][primitive["attributes"]["POSITION"]]
        assert np.array_equal(
            glb.rows(primitive["indices"]).reshape(-1, 3), BODY.faces.numpy().astype(np.uint16)
        )
        weights, joints = table["WEIGHTS_0"], table["JOINTS_0"]
        assert abs(weights.astype(np.float64).sum(-1) - 1).max() < 2e-7
        assert weights.min() >= 0
        assert joints.max() < 24
        assert not joints[weights == 0].any()
        assert abs(np.linalg.norm(table["NORMAL"], axis=-1) - 1).max() < 1e-6


def test_curves_are_sound(glb, scene):
    for (_, path), (times, values, how) in glb.curves().items():
        assert len(times) == len(values)
        assert times[0] >= 0
        assert (np.diff(times) > 0).all()
        assert how == ("STEP" if path == "scale" else "LINEAR")
        if path == "rotation":
            assert abs(np.linalg.norm(values, axis=-1) - 1).max() < 1e-6
            assert ((values[1:] * values[:-1]).sum(-1) >= 0).all()
    times = [glb.document["accessors"][s["input"]] for a in glb.document["animations"]
             for s in a["samplers"]]  # fmt: skip
    assert all("min" in entry and "max" in entry for entry in times)


def test_meshes_stand_at_the_root(glb):
    document = glb.document
    roots = document["scenes"][document["scene"]]["nodes"]
    children = [child for node in document["nodes"] for child in node.get("children", [])]
    assert sorted(roots + children) == list(range(len(document["nodes"])))
    for place, node in enumerate(document["nodes"]):
        if "mesh" in node:
            assert place in roots
            assert not {"translation", "rotation", "scale", "matrix"} & set(node)


def test_normals_point_out_of_the_body(glb):
    attributes = glb.document["meshes"][0]["primitives"][0]["attributes"]
    verts, normals = glb.rows(attributes["POSITION"]), glb.rows(attributes["NORMAL"])
    parts = BODY.vertex_parts.numpy()
    for part in range(24):
        mine = parts == part
        outwards = verts[mine] - verts[mine].mean(0)
        assert (outwards * normals[mine]).sum() > 0


def test_people_differ_in_colour(glb):
    looks = [m["pbrMetallicRoughness"]["baseColorFactor"] for m in glb.document["materials"]]
    assert len({tuple(look) for look in looks}) == len(FRAMES)
    used = [mesh["primitives"][0]["material"] for mesh in glb.document["meshes"]]
    assert sorted(used) == [0, 1, 2]
    # sRGB 0x56 b4 e9 in linear light.
    assert looks[0] == pytest.approx([0.0931, 0.4564, 0.8148, 1.0], abs=1e-3)


def test_the_camera_sees_what_the_video_saw(glb, scene):
    lens = glb.named("cameras", "video")["perspective"]
    node = glb.named("nodes", "camera")
    assert not {"translation", "rotation", "matrix"} & set(node)
    person = scene.people[0]
    joints = BODY.joints(person.params)
    up = points_up(person, joints)
    tall = -up[..., 2:] * math.tan(lens["yfov"] / 2)
    ndc = up[..., :2] / torch.cat([tall * lens["aspectRatio"], tall], -1)
    half = torch.tensor(scene.size_px) / 2
    px = half + ndc * half * FLIP[:2]
    seen = scene.camera.project(joints + person.translation_m[:, None])[..., :2]
    torch.testing.assert_close(px, seen, atol=1e-2, rtol=0)


def test_four_influences_are_the_largest():
    joints, weights = largest_influences(BODY.weights)
    kept = torch.from_numpy(weights).double()
    assert (kept.diff() <= 0).all()
    share = BODY.weights.double().gather(1, torch.from_numpy(joints).long())
    largest = BODY.weights.double().topk(4, -1).values
    lost = 1 - largest.sum(-1)
    assert float(lost.max()) < 0.08
    # Equal but for the scale; influences of no weight name joint 0 instead.
    torch.testing.assert_close(kept * (1 - lost)[:, None], largest, atol=1e-6, rtol=0)
    assert float(((share - largest).abs() * (kept > 0)).max()) < 1e-6


def test_quaternions_go_the_short_way():
    angles = torch.linspace(0, 25, 60, dtype=torch.float64)
    axes = torch.eye(3).double()
    rotmats = rotmat_from_axis_angle(angles[:, None, None] * axes)
    turns = unit_quaternions(rotmats)
    assert ((turns[1:] * turns[:-1]).sum(-1) > 0.9).all()
    back = roma.unitquat_to_rotmat(torch.from_numpy(turns).double())
    torch.testing.assert_close(back, rotmats, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("people", "count"), [({}, 3), ({5: (0,)}, 1), ({2: (4,)}, 6)])
def test_few_frames_and_nobody(tmp_path, people, count):
    glb = read_glb(save_glb(tmp_path / "few.glb", captured_scene(people, count), BODY))
    document = glb.document
    assert [] not in document.values(), "glTF has no empty lists"
    assert len(document.get("meshes", [])) == len(people)
    assert ("animations" in document) == bool(people)
    for number in people:
        assert glb.skinned(number, 0).isfinite().all()


def test_what_cannot_be_shown_is_refused(tmp_path, scene):
    person = scene.people[0]
    other = replace(person, params=replace(person.params, body_id="smpl:0123"))
    with pytest.raises(BodyIdentityError, match="person 0: got body smpl:0123"):
        save_glb(tmp_path / "m.glb", replace(scene, people=(other,)), BODY)
    twice = scene.times_s.clone()
    twice[3] = twice[2]
    with pytest.raises(ValueError, match="got times of frames that do not increase; expected"):
        save_glb(tmp_path / "m.glb", replace(scene, times_s=twice), BODY)
    assert not list(tmp_path.iterdir())


def test_tables_begin_at_multiples_of_four(tmp_path):
    file = GlbFile()
    for values in (np.arange(3, dtype=np.uint8), np.ones((2, 3), np.float32)):
        file.table(values)
    path = tmp_path / "tables.glb"
    path.write_bytes(file.content())
    glb = read_glb(path)
    assert glb.rows(0).tolist() == [0, 1, 2]
    assert glb.rows(1).tolist() == [[1.0] * 3] * 2
