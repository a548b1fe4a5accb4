"""``flowhmr capture`` from end to end: an untrained network on a few frames of the shipped clip."""

import base64
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from flowhmr.body import open_body
from flowhmr.capture import load_motion
from flowhmr.data import open_video, read_boxes, write_boxes, write_video
from flowhmr.geometry import pick
from flowhmr.networks import Lift, LiftConfig, MeanParams, save_network
from flowhmr.synth import mean_rotmats, read_bvh

FRAMES = 9


@pytest.fixture(scope="module")
def lift(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    mean = MeanParams(mean_rotmats(), torch.zeros(10), open_body().body_id)
    path = tmp_path_factory.mktemp("lift") / "lift.safetensors"
    save_network(path, Lift(LiftConfig(width=16, dilations=(1, 2)), mean), {})
    return path


def people(boxes: Path) -> tuple[str | Path, ...]:
    return ("--config.people.boxes", boxes)


@pytest.mark.slow
def test_everything_is_written(flowhmr, clip, boxes, lift):
    Path("found").mkdir()
    Path("found/person-7.bvh").write_text("of an earlier capture")
    answer = flowhmr(
        "capture", clip, *people(boxes), "--network", lift, "--out", "found",
        "--config.fit.steps", "3",
    )  # fmt: skip
    assert answer.status == 0, answer.err
    names = {p.name for p in Path("found").iterdir()}
    assert names == {
        "motion.npz", "motion.json", "motion.glb", "person-0.bvh", "overlay.mp4", "report.html",
        "work",
    }  # fmt: skip
    scene = load_motion(Path("found/motion.npz"))
    assert [len(person) for person in scene.people] == [FRAMES]
    assert scene.fps == pytest.approx(30, abs=0.1)
    with open_video(clip) as video:
        assert scene.size_px == video.size_px
    assert len(json.loads(Path("found/motion.json").read_text())["people"]) == 1
    assert len(read_bvh(Path("found/person-0.bvh")).rotmats) == FRAMES
    page = Path("found/report.html").read_text()
    assert "Off the flow" in page
    assert "pose_rate" in page
    stages = ["finding people", "ground", "flow", "network", "refinement", "files", "overlay"]
    assert re.findall(r"^ +([a-z ]+):", answer.out, re.M) == [*stages, "report", "all"]
    assert all(f"<th>{stage}</th>" in page for stage in stages)

    # The body is where the person is: even an untrained network knows the crop.
    (given,) = read_boxes(boxes)
    person = scene.people[0]
    root_px = scene.camera.project(person.translation_m[:, None])[:, 0, :2]
    middle_px = given.boxes_px[:FRAMES, :2] + given.boxes_px[:FRAMES, 2:] / 2
    assert float((root_px - middle_px).norm(dim=-1).max()) < 0.3 * float(given.boxes_px[0, 3])

    with open_video(Path("found/overlay.mp4")) as drawn, open_video(clip) as plain:
        changed = [np.abs(a.image.astype(int) - b.image).max() for a, b in zip(drawn, plain)]
    assert len(changed) == FRAMES
    assert min(changed) > 60


@pytest.mark.slow
def test_a_person_who_leaves_and_a_skeleton(flowhmr, clip, boxes, lift):
    (given,) = read_boxes(boxes)
    keypoints_px = given.keypoints_px
    assert keypoints_px is not None
    rows = torch.tensor([0, 1, 2])
    short = replace(
        given, frame_indices=given.frame_indices[rows], boxes_px=given.boxes_px[rows],
        confidence=given.confidence[rows], keypoints_px=keypoints_px[rows],
    )  # fmt: skip
    write_boxes(Path("short.npz"), [short])
    answer = flowhmr(
        "capture", clip, *people(Path("short.npz")), "--network", lift, "--out", "found",
        "--skeleton", "--config.fit.steps", "0",
    )  # fmt: skip
    assert answer.status == 0, answer.err
    assert "people:  0 (3 frames)" in answer.out
    with open_video(Path("found/overlay.mp4")) as drawn:
        assert sum(1 for _ in drawn) == FRAMES


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flag", "diagonals"), [((), 65 / 43.2666), (("--config.focal-px", "700"), None)]
)
def test_the_camera_is_the_one_that_the_file_tells(flowhmr, clip, boxes, lift, flag, diagonals):
    (given,) = read_boxes(boxes)
    write_boxes(Path("one.npz"), [pick(given, torch.tensor([0]))])
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 65
    with open_video(clip) as video:
        Image.fromarray(next(iter(video)).image).save("one.jpg", exif=exif)
    answer = flowhmr(
        "capture", "one.jpg", *people(Path("one.npz")), "--network", lift, "--out", "found",
        "--config.fit.steps", "0", *flag,
    )  # fmt: skip
    assert answer.status == 0, answer.err
    scene = load_motion(Path("found/motion.npz"))
    expected = 700 if diagonals is None else diagonals * np.hypot(*scene.size_px)
    assert float(scene.camera.focal_px) == pytest.approx(expected, rel=2e-3)


@pytest.mark.slow
def test_frames_of_a_variable_rate_keep_their_times(flowhmr, clip, boxes, lift):
    times_s = torch.tensor([0, 1, 2, 4, 5, 9, 10, 11, 12]) / 30
    with open_video(clip) as video:
        images = [frame.image for frame in video]
    write_video(Path("uneven.mp4"), images, 30.0, times_s=times_s.tolist())
    answer = flowhmr(
        "capture", "uneven.mp4", *people(boxes), "--network", lift, "--out", "found",
        "--config.fit.steps", "0",
    )  # fmt: skip
    assert answer.status == 0, answer.err
    scene = load_motion(Path("found/motion.npz"))
    assert_close(scene.times_s, times_s, atol=1e-4, rtol=0)
    with open_video(Path("found/overlay.mp4")) as drawn:
        assert_close(torch.tensor([f.time_s for f in drawn]), times_s, atol=1e-4, rtol=0)
    # Metres of the time that has passed, however many frames that took.
    (person,) = scene.people
    joints_cam = open_body().joints(person.params) + person.translation_m[:, None]
    steps_m = joints_cam.diff(dim=0).norm(dim=-1).mean(-1)
    page = Path("found/report.html").read_text()
    shown = re.search(r'"name":"Speed","unit":"m/s","limits":null,"values":"([^"]+)"', page)
    assert shown is not None
    speed = np.frombuffer(base64.b64decode(shown[1]), "<f4")[:-1]
    assert_close(torch.from_numpy(speed.copy()), steps_m / scene.times_s.diff())


@pytest.mark.slow
def test_an_interruption_keeps_the_motion_and_says_how_to_go_on(
    flowhmr, clip, boxes, lift, monkeypatch
):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    words = (
        "capture", clip, *people(boxes), "--network", lift, "--out", "found",
        "--config.fit.steps", "0",
    )  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr("flowhmr.cli.capture.write_video", interrupted)
        answer = flowhmr(*words)
    assert answer.status == 130
    assert "kept in found/work: the same command goes on" in answer.err
    assert len(load_motion(Path("found/motion.npz")).people) == 1
    assert flowhmr(*words).status == 0
    assert Path("found/report.html").exists()


@pytest.mark.slow
def test_what_goes_wrong_is_said(flowhmr, clip, boxes, lift, network):
    (given,) = read_boxes(boxes)
    write_boxes(Path("plain.json"), [replace(given, keypoints_px=None)])
    answer = flowhmr("capture", clip, *people(Path("plain.json")), "--network", lift)
    assert answer.status == 1
    assert "got people without keypoints; expected keypoints" in answer.err
    answer = flowhmr("capture", clip, *people(boxes), "--network", network)
    assert answer.status == 1
    assert "got a network of images; expected one of keypoint tracks" in answer.err
    answer = flowhmr("capture", "nowhere.mp4", *people(boxes), "--network", lift)
    assert answer.status == 1
    assert "nowhere.mp4" in answer.err
    answer = flowhmr("capture", clip, *people(boxes), "--network", lift, "--config.focal-px", "-5")
    assert answer.status == 1
    assert "got -5.0 pixels; expected one above 0" in answer.err
    assert not Path("out/capture/motion.npz").exists()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs limits of a process")
@pytest.mark.parametrize(
    ("limit", "missing"),
    [(90_000, "motion.glb"), (700_000, "report.html")],
)
def test_files_that_do_not_fit_are_told(flowhmr, clip, boxes, lift, limit, missing):
    import resource
    import signal

    words = (
        "capture", clip, *people(boxes), "--network", lift, "--out", "found",
        "--config.fit.steps", "0",
    )  # fmt: skip
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        answer = flowhmr(*words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert answer.status == 1
    assert "found: got File too large while writing; expected a folder" in answer.err
    names = {path.name for path in Path("found").iterdir()}
    assert missing not in names
    assert not [name for name in names if name.startswith(".")], "nothing half-written"
    assert "motion.npz" in names
    assert flowhmr(*words).status == 0
