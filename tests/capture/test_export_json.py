"""Motion as JSON: strict, and the same numbers as the record."""

import json
from dataclasses import replace

import pytest
import torch
from captured_people import BODY, captured_scene

from flowhmr.body import SMPL_24, BodyIdentityError
from flowhmr.capture import save_json
from flowhmr.geometry import rotmat_from_axis_angle


def strict(path):
    """The content; NaN and Infinity, which Python would read, are no JSON."""

    def refuse(word):
        raise AssertionError(f"{word} in JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_json_says_what_the_record_says(tmp_path):
    scene = captured_scene()
    content = strict(save_json(tmp_path / "motion.json", scene, BODY))
    assert (content["format"], content["version"]) == ("flowhmr-motion", 1)
    assert content["body_id"] == BODY.body_id
    assert content["joint_names"] == list(SMPL_24.names)
    assert content["size_px"] == [640, 480]
    assert content["camera"] == {"focal_px": 600.0, "centre_px": [320.0, 240.0]}
    assert content["times_s"] == pytest.approx(scene.times_s.tolist(), abs=1e-6)
    assert [entry["person"] for entry in content["people"]] == [p.person for p in scene.people]
    for entry, person in zip(content["people"], scene.people):
        frames = entry["frames"]
        column = {key: torch.tensor([f[key] for f in frames]) for key in frames[0]}
        assert torch.equal(column["frame"], person.frame_indices)
        joints_m = BODY.joints(person.params) + person.translation_m[:, None]
        px = scene.camera.project(joints_m)[..., :2]
        for got, expected, within in (
            (column["time_s"], scene.times_s[person.frame_indices], 1e-6),
            (column["confidence"], person.confidence, 1e-3),
            (column["translation_m"], person.translation_m, 1e-4),
            (column["joints_m"], joints_m, 1e-4),
            (column["joints_px"], px, 0.01),
            (rotmat_from_axis_angle(column["pose"]), person.params.rotmats, 1e-4),
            (torch.tensor(entry["betas"]), person.params.betas[0], 1e-4),
        ):
            torch.testing.assert_close(got, expected, atol=within, rtol=0)


def test_a_frame_is_one_line(tmp_path):
    scene = captured_scene()
    lines = save_json(tmp_path / "motion.json", scene, BODY).read_text().splitlines()
    assert sum('"frame": ' in line for line in lines) == sum(len(p) for p in scene.people)


def test_joints_behind_the_camera_are_null(tmp_path):
    scene = captured_scene({0: range(8)})
    person = scene.people[0]
    behind = person.translation_m.clone()
    behind[3, 2] = -2
    scene = replace(scene, people=(replace(person, translation_m=behind),))
    frames = strict(save_json(tmp_path / "m.json", scene, BODY))["people"][0]["frames"]
    assert frames[3]["joints_px"] == [[None, None]] * 24
    assert all(isinstance(x, float) for joint in frames[2]["joints_px"] for x in joint)


def test_nobody_is_an_empty_list(tmp_path):
    assert strict(save_json(tmp_path / "m.json", captured_scene({}, 2), BODY))["people"] == []


def test_another_body_is_refused(tmp_path):
    scene = captured_scene({0: range(2)})
    person = scene.people[0]
    other = replace(person, params=replace(person.params, body_id="smpl:0123"))
    with pytest.raises(BodyIdentityError, match="person 0: got body smpl:0123"):
        save_json(tmp_path / "m.json", replace(scene, people=(other,)), BODY)
