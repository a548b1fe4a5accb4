"""The report of a motion: one file, nothing outside it, and the motion in it is the scene's."""

import base64
import hashlib
import json
import math
import os
import re
import select
import shutil
import subprocess
import time
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import roma
import torch

from flowhmr.body import BodyIdentityError, open_body
from flowhmr.cameras import PerspectiveCamera
from flowhmr.geometry import geodesic_rad, rotmat_from_axis_angle
from flowhmr.records import PersonMotion, SceneMotion
from flowhmr.view.report import ReportFigure, ReportParts, Timeline, write_report
from flowhmr.view.report_scene import level_world, player_scene

UPRIGHT = rotmat_from_axis_angle(torch.tensor([math.pi, 0.0, 0.0]))
EVIL = "</script><script>alert(1)</script><!--<script> \" ' & <img src=x onerror=alert(1)>"
PNG = b"\x89PNG\r\n\x1a\n picture"
ELEMENTS_THAT_LOAD = ("src", "href", "srcset", "data", "action", "poster", "background")


class Seen(HTMLParser):
    """What a browser would find: tags in order, attributes, the text below each kind of tag."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: dict[str, list[str]] = {}
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] == ["script"] and self.scripts:
            named, text = self.scripts[-1]
            self.scripts[-1] = named, text + data
        elif self.tags and data.strip():
            self.texts.setdefault(self.tags[-1], []).append(data.strip())

    def scene(self) -> dict:
        [text] = [text for named, text in self.scripts if named.get("id") == "scene"]
        return json.loads(text)


def person(number: int, frames: list[int], seed: int = 0, bend: float = 0.4) -> PersonMotion:
    """Somebody who stands upright before the camera and moves at random."""
    random = torch.Generator().manual_seed(seed)
    count, body = len(frames), open_body()
    rotmats = rotmat_from_axis_angle(bend * torch.randn(count, 24, 3, generator=random))
    rotmats[:, 0] = UPRIGHT
    betas = torch.randn(10, generator=random).expand(count, -1).contiguous()
    translation_m = torch.tensor([0.3 * number, 0.2, 4.0]) + torch.randn(count, 3) * 0.01
    return PersonMotion(
        number, torch.tensor(frames), body.params(rotmats, betas), translation_m, torch.ones(count)
    )


def scene_of(*people: PersonMotion, frames: int = 12) -> SceneMotion:
    camera = PerspectiveCamera(torch.tensor(500.0), torch.tensor([310.0, 190.0]))
    return SceneMotion(people, camera, (640, 360), torch.arange(frames) / 30)


def written(path: Path, scene: SceneMotion, parts: ReportParts | None = None) -> str:
    parts = parts or ReportParts("Title")
    return write_report(path / "report.html", scene, open_body(), parts).read_text("utf-8")


def unpacked(text: str, kind: str, *shape: int) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind).reshape(shape)


def rotmats_in(packed: dict) -> torch.Tensor:
    steps = unpacked(packed["rotations"], "<i2", -1, 24, 4)
    quats = torch.from_numpy(steps.astype(np.float64) / 32767)
    return roma.unitquat_to_rotmat(torch.nn.functional.normalize(quats, dim=-1))


def verts_in(packed: dict) -> np.ndarray:
    return unpacked(packed["verts"], "<i2", -1, 3).astype(np.float64) * packed["verts_step_m"]


def test_the_page_needs_nothing_but_itself(tmp_path):
    curves = [Timeline(1, "Speed", "m/s", torch.zeros(2))]
    figures = [ReportFigure(PNG, "a")]
    (tmp_path / "video.mp4").write_bytes(b"video")
    parts = ReportParts("t", curves, {"a": 1}, {"b": 1.0}, figures, tmp_path / "video.mp4")
    text = written(tmp_path, scene_of(person(1, [0, 1])), parts)
    seen = Seen(text)
    links = [value for _, name, value in seen.attributes if name in ELEMENTS_THAT_LOAD]
    assert len(links) == 2
    assert all(link.startswith("data:") for link in links)
    assert not {"link", "iframe", "object", "embed", "base", "form"} & set(seen.tags)
    assert not re.search(r"url\(|@import", text.split("<script")[0])
    ours = seen.scripts[-1][1]
    assert not re.search(r"fetch|XMLHttpRequest|WebSocket|import\(|https?:", ours)
    [policy] = [v for tag, name, v in seen.attributes if tag == "meta" and name == "content"][1:]
    assert "default-src 'none'" in policy
    assert "media-src data:;" in policy
    assert "http" not in policy


def test_poses_shapes_and_places_are_the_scenes(tmp_path):
    people = person(3, [0, 1, 2, 3], seed=1, bend=1.0), person(7, [2, 5, 6], seed=2)
    scene, body = scene_of(*people), open_body()
    data = Seen(written(tmp_path, scene)).scene()
    assert [p["person"] for p in data["people"]] == [3, 7]
    assert len({p["colour"] for p in data["people"]}) == 2
    for packed, truth in zip(data["people"], people):
        assert unpacked(packed["frames"], "<i4", -1).tolist() == truth.frame_indices.tolist()
        away_rad = geodesic_rad(rotmats_in(packed), truth.params.rotmats.double())
        assert away_rad.amax() < 1e-3
        shaped = body.shaped(truth.params.betas[0]).double().numpy()
        assert np.abs(verts_in(packed) - shaped).max() < 0.5e-3
        place_m = unpacked(packed["translation_m"], "<f4", -1, 3)
        assert np.array_equal(place_m, truth.translation_m.numpy())
    assert data["size_px"] == [640, 360]
    assert data["focal_px"] == 500
    assert data["centre_px"] == [310, 190]
    assert np.array_equal(unpacked(data["times_s"], "<f4", -1), scene.times_s.numpy())


def test_what_the_player_skins_is_the_body():
    """Its tables, skinned as it skins them, give the chain exactly and the surface nearly."""
    truth, body = person(1, list(range(6)), bend=0.3), open_body()
    data = player_scene(scene_of(truth), body)
    packed, tables = data["people"][0], data["body"]
    rotmats, rest = rotmats_in(packed).numpy(), np.reshape(packed["rest_joints_m"], (24, 3))
    turned, at = [rotmats[:, 0]], [np.broadcast_to(rest[0], (6, 3))]
    for joint, parent in list(enumerate(tables["parents"]))[1:]:
        turned.append(turned[parent] @ rotmats[:, joint])
        at.append(at[parent] + turned[parent] @ (rest[joint] - rest[parent]))
    assert np.abs(np.stack(at, 1) - body.joints(truth.params).numpy()).max() < 1e-4

    bones = unpacked(tables["bones"], "u1", -1, 4)
    weights = unpacked(tables["weights"], "u1", -1, 4).astype(np.float64) / 255
    assert np.allclose(weights.sum(1), 1)
    verts = np.zeros((6, len(weights), 3))
    for k in range(4):
        arm = verts_in(packed) - rest[bones[:, k]]
        moved = np.einsum("tvij,vj->tvi", np.stack(turned, 1)[:, bones[:, k]], arm)
        verts += weights[:, k, None] * (moved + np.stack(at, 1)[:, bones[:, k]])
    plain = replace(body, posedirs=torch.zeros_like(body.posedirs))
    away_m = np.linalg.norm(verts - plain.mesh(truth.params).verts.numpy(), axis=-1)
    assert away_m.mean() < 0.2e-3
    faces = unpacked(tables["faces"], "<u2", -1, 3)
    assert np.array_equal(faces, body.faces.numpy())


def test_curves_keep_their_values_and_their_gaps(tmp_path):
    values = torch.tensor([0.5, float("nan"), 2.0])
    lines = [Timeline(1, "Speed", "m/s", values), Timeline(1, "Seen", "", values, (0.0, 1.0))]
    text = written(tmp_path, scene_of(person(1, [0, 4, 5])), ReportParts("t", lines))
    speed, seen = Seen(text).scene()["timelines"]
    assert np.array_equal(unpacked(speed["values"], "<f4", 3), values.numpy(), equal_nan=True)
    assert (speed["name"], speed["unit"], speed["limits"]) == ("Speed", "m/s", None)
    assert seen["limits"] == [0, 1]


@pytest.mark.parametrize("frames", [0, 1, 12])
def test_nobody_is_a_report_too(tmp_path, frames):
    seen = Seen(written(tmp_path, scene_of(frames=frames)))
    data = seen.scene()
    assert data["people"] == []
    assert len(unpacked(data["times_s"], "<f4", -1)) == frames
    assert np.isfinite(data["world_from_camera"]).all()
    assert seen.texts["p"][0].startswith("Nobody · ")


def test_one_frame_of_one_person(tmp_path):
    data = Seen(written(tmp_path, scene_of(person(1, [0]), frames=1))).scene()
    assert np.isfinite(data["world_from_camera"]).all()


def test_text_is_shown_and_never_run(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"")
    parts = ReportParts(
        EVIL,
        [Timeline(1, EVIL, EVIL, torch.zeros(2))],
        {EVIL: EVIL, "plain": {EVIL: {EVIL: [EVIL]}}},
        {EVIL: 1.0},
        [ReportFigure(PNG, EVIL)],
    )
    scene = scene_of(person(1, [0, 1]))
    seen, plain = Seen(written(tmp_path, scene, parts)), Seen(written(tmp_path, scene))
    assert len(seen.scripts) == len(plain.scripts) == 3
    assert seen.scripts[1:] == plain.scripts[1:]
    assert seen.tags.count("img") == 1
    assert not [name for _, name, _ in seen.attributes if name.startswith("on")]
    assert seen.texts["title"] == seen.texts["h1"] == seen.texts["figcaption"] == [EVIL]
    assert ("img", "alt", EVIL) in seen.attributes
    assert seen.texts["th"].count(EVIL) == 3
    assert f"plain.{EVIL}" in seen.texts["th"]
    assert seen.texts["td"].count(EVIL) == 2
    line = seen.scene()["timelines"][0]
    assert (line["name"], line["unit"]) == (EVIL, EVIL)


def test_settings_and_timings_are_tables(tmp_path):
    settings = {"b": {"x": True, "y": {"z": (1, 2)}}, "a": None, "path": Path("some.mp4")}
    parts = ReportParts("t", settings=settings, timings={"flow": 3.0, "network": 1.0})
    seen = Seen(written(tmp_path, scene_of(frames=12), parts))
    assert seen.texts["th"] == [
        *("Stage", "seconds", "frames/s", "flow", "network", "All"),
        *("a", "path", "b", "x", "b.y", "z"),
    ]
    assert seen.texts["td"] == [
        *("3.00", "4.0", "1.00", "12.0", "4.00", "3.0"),
        *("none", "some.mp4", "yes", "1, 2"),
    ]
    bars = [value for tag, name, value in seen.attributes if (tag, name) == ("div", "style")]
    assert bars == ["width:100.0%", "width:33.3%"]


def test_a_small_video_is_inside_and_a_large_one_beside(tmp_path):
    folder = tmp_path / "my clips"
    folder.mkdir()
    video = folder / 'over"lay #1.mp4'
    video.write_bytes(bytes(range(100)))
    scene = scene_of(person(1, [0]))

    def source(limit: int) -> tuple[str, str]:
        parts = ReportParts("t", video=video, video_limit_bytes=limit)
        attributes = Seen(written(tmp_path, scene, parts)).attributes
        [found] = [v for tag, name, v in attributes if (tag, name) == ("video", "src")]
        return found, next(v for _, name, v in attributes if name == "content" and "media" in v)

    inside, policy = source(100)
    assert inside == "data:video/mp4;base64," + base64.b64encode(bytes(range(100))).decode()
    assert "file:" not in policy
    beside, policy = source(99)
    assert beside == "my%20clips/over%22lay%20%231.mp4"
    assert "file:" in policy
    parts = ReportParts("t", video=tmp_path / "none.mp4")
    with pytest.raises(FileNotFoundError):
        written(tmp_path, scene, parts)
    video.rename(tmp_path / "a.avi")
    with pytest.raises(ValueError, match="convert it"):
        written(tmp_path, scene, ReportParts("t", video=tmp_path / "a.avi"))


def test_pictures_come_as_bytes_or_files(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff jpeg")
    figures = [ReportFigure(PNG, "one"), ReportFigure(tmp_path / "a.jpg", "two")]
    text = written(tmp_path, scene_of(), ReportParts("t", figures=figures))
    sources = [v for tag, name, v in Seen(text).attributes if (tag, name) == ("img", "src")]
    assert [s.split(";")[0] for s in sources] == ["data:image/png", "data:image/jpeg"]
    assert base64.b64decode(sources[0].split(",")[1]) == PNG
    with pytest.raises(ValueError, match="expected PNG"):
        written(tmp_path, scene_of(), ReportParts("t", figures=[ReportFigure(b"<svg>", "bad")]))


def test_sizes(tmp_path):
    """10 seconds stay below 3 MB, 10 minutes below 25 MB: a frame costs the same everywhere."""

    def size(frames: int) -> int:
        lines = [Timeline(1, str(i), "", torch.zeros(frames)) for i in range(3)]
        scene = scene_of(person(1, list(range(frames))), frames=frames)
        return len(written(tmp_path, scene, ReportParts("t", lines)).encode())

    short, long = size(10), size(310)
    per_frame = (long - short) / 300
    assert long < 3e6
    assert 200 < per_frame < 310
    assert short + 18000 * per_frame < 25e6


@pytest.mark.parametrize(("pitch_deg", "roll_deg"), [(0, 0), (20, 0), (-15, 10), (35, -8)])
def test_the_world_is_level_where_people_stand(pitch_deg, roll_deg):
    pitch, roll = math.radians(pitch_deg), math.radians(roll_deg)
    tilt = rotmat_from_axis_angle(torch.tensor([pitch, 0.0, 0.0])) @ rotmat_from_axis_angle(
        torch.tensor([0.0, 0.0, roll])
    )
    someone, body = person(1, [0, 1], bend=0.02), open_body()
    rotmats = someone.params.rotmats.clone()
    rotmats[:, 0] = tilt @ rotmats[:, 0]
    someone = replace(someone, params=body.params(rotmats, someone.params.betas))
    world = level_world(scene_of(someone), body)
    turn = world[:, :3]
    assert torch.allclose(turn @ turn.T, torch.eye(3), atol=1e-5)
    assert torch.det(turn) > 0
    up = tilt @ torch.tensor([0.0, -1.0, 0.0])
    # Of a body in T-pose, whose feet point forward; those who move lean forward over them.
    assert float(turn[1] @ up) > math.cos(math.radians(7))
    assert abs(float(turn[2, 0])) < 0.3
    verts_cam = body.mesh(someone.params).verts + someone.translation_m[:, None]
    heights = verts_cam @ turn[1] + world[1, 3]
    assert abs(float(heights.amin(1).mean())) < 0.03
    assert 1.3 < float(heights.amax()) < 2.3
    pelvis = (body.joints(someone.params) + someone.translation_m[:, None])[:, 0]
    assert (pelvis @ turn.T + world[:, 3])[:, [0, 2]].abs().amax() < 0.1


def test_somebody_who_lies_says_nothing_of_the_camera():
    someone, body = person(1, [0]), open_body()
    rotmats = someone.params.rotmats.clone()
    rotmats[:, 0] = rotmat_from_axis_angle(torch.tensor([0.0, 0.0, math.pi / 2])) @ UPRIGHT
    someone = replace(someone, params=body.params(rotmats, someone.params.betas))
    assert torch.allclose(level_world(scene_of(someone), body)[1, :3], torch.tensor([0.0, -1, 0]))


def test_what_does_not_fit_is_refused(tmp_path):
    scene = scene_of(person(1, [0, 1]))
    for line in (Timeline(1, "a", "", torch.zeros(3)), Timeline(2, "a", "", torch.zeros(2))):
        with pytest.raises(ValueError, match=r"expected one for each frame .*\{1: 2\}"):
            written(tmp_path, scene, ReportParts("t", [line]))
    line = Timeline(1, "a", "", torch.zeros(2), (1.0, 1.0))
    with pytest.raises(ValueError, match="limits"):
        written(tmp_path, scene, ReportParts("t", [line]))
    stranger = replace(scene.people[0].params, body_id="smpl:0")
    with pytest.raises(BodyIdentityError):
        written(tmp_path, scene_of(replace(scene.people[0], params=stranger)))
    broken = replace(person(1, [4, 6]), translation_m=torch.tensor([[0.0, 0, 1], [0, 0, np.nan]]))
    with pytest.raises(ValueError, match="frame 6"):
        written(tmp_path, scene_of(broken))


def test_three_is_the_file_that_its_card_names(tmp_path):
    folder = files("flowhmr.view").joinpath("assets/report")
    content = folder.joinpath("three.min.js").read_bytes()
    assert hashlib.sha256(content).hexdigest() in folder.joinpath("THREE.md").read_text("utf-8")
    # Inside a script element these would change where it ends.
    for name in ("three.min.js", "surroundings.js", "player.js", "timeline.js", "report.js"):
        assert not re.search(r"</script|<!--", folder.joinpath(name).read_text("utf-8"), re.I)
    licence = folder.joinpath("three-LICENSE.txt").read_text("utf-8").strip()
    assert licence in written(tmp_path, scene_of())


def _browser() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


class Chromium:
    """A page in headless Chromium, spoken to over its debugging pipe; hears what goes wrong."""

    def __init__(self, page: Path, profile: Path):
        child_reads, self.out = os.pipe()
        self.back, child_writes = os.pipe()
        self.process = subprocess.Popen(
            [
                # The browser reads from 3 and writes to 4.
                *("bash", "-c", f'exec "$@" 3<&{child_reads} 4>&{child_writes}', "bash"),
                *(str(_browser()), "--headless", "--no-sandbox", "--use-angle=swiftshader"),
                *("--enable-unsafe-swiftshader", f"--user-data-dir={profile}"),
                *("--no-first-run", "--remote-debugging-pipe"),
            ],
            pass_fds=(child_reads, child_writes),
            stderr=subprocess.DEVNULL,
        )
        os.close(child_reads)
        os.close(child_writes)
        self.heard, self.rest, self.calls, self.session = [], b"", 0, None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Runtime", "Log", "Network", "Page"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=page.as_uri())
        while not self.value("!!window.flowhmrReport"):
            time.sleep(0.1)

    def call(self, method: str, **params: object) -> dict:
        self.calls += 1
        message = {"id": self.calls, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.next_message()
            if answer.get("id") == self.calls:
                assert "error" not in answer, answer
                return answer["result"]
            self.heard.append(answer)

    def next_message(self) -> dict:
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.back], [], [], 60)
            assert ready, "the browser says nothing"
            self.rest += os.read(self.back, 1 << 16)
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def value(self, expression: str) -> Any:
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return found["result"].get("value")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.out)
        os.close(self.back)


@pytest.mark.slow
@pytest.mark.skipif(_browser() is None, reason="no Chromium on this machine")
def test_a_browser_shows_it(tmp_path):
    """The camera's view is the camera's, gaps hide, and nothing is asked of anybody."""
    people, body = (person(1, [3, 4, 5]), person(2, [4], seed=5)), open_body()
    scene = scene_of(*people)
    written(tmp_path, scene)
    browser = Chromium(tmp_path / "report.html", tmp_path / "profile")
    try:
        assert browser.value("flowhmrReport.state().frame") == 3
        for i, someone in enumerate(people):
            joints_cam = body.joints(someone.params) + someone.translation_m[:, None]
            joints_px = scene.camera.project(joints_cam)[..., :2]
            for frame in range(3, 7):
                shown = browser.value(
                    f"flowhmrReport.seek({frame}), flowhmrReport.state().threeD && "
                    f"flowhmrReport.jointsPx({i})"
                )
                row = (someone.frame_indices == frame).nonzero().flatten().tolist()
                assert bool(row) == (shown is not None)
                if row:
                    away_px = np.abs(np.array(shown) - joints_px[row[0]].numpy())
                    assert away_px.max() < 0.05
        for view in ("free", "top", "camera"):
            assert browser.value(f"flowhmrReport.setView({view!r}), flowhmrReport.state().view")
        legend = "[...document.querySelectorAll('#legend button')].map((b) => b.textContent)"
        assert browser.value(legend) == ["Person 1", "Person 2"]
        asked = [m for m in browser.heard if m["method"] == "Network.requestWillBeSent"]
        assert [m["params"]["request"]["url"].split(":")[0] for m in asked] == ["file"]
        wrong = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        assert not [m for m in browser.heard if m["method"] in wrong]
    finally:
        browser.close()
