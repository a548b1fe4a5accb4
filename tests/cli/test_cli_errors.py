"""What goes wrong ends in one line: got, expected, what to do; status 1 and no traceback."""

import json
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from flowhmr.cli.shared import StepProgress, console, default_cache, require_one


def check(answer, command: str, got: str, expected: str, remedy: str) -> None:
    """The command failed, and its first line says these in this order."""
    assert answer.status == 1
    line = answer.err.splitlines()[0]
    assert line.startswith(f"flowhmr {command}: ")
    assert re.search(rf"got {re.escape(got)}.*; expected {re.escape(expected)}.*{remedy}", line), (
        line
    )
    assert "Traceback" not in answer.err


@pytest.fixture
def predict(flowhmr, network, clip, boxes, tmp_path):
    """``flowhmr predict`` of good inputs, but for those that are given."""

    def run(*people: str | Path, source: Path = clip, network: Path = network):
        where = people or ("--people.boxes", boxes)
        answer = flowhmr(
            "predict", source, *where, "--network", network, "--out", tmp_path / "results"
        )
        if answer.status:
            assert not list(tmp_path.glob("results/*")), "nothing half done"
        return answer

    return run


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def trap(tmp_path):
    """A trap that works, and has not been sprung when the test is over."""
    folder = tmp_path / "sprung"
    pickle.loads(pickle.dumps(Trap(folder)))
    folder.rmdir()
    yield Trap(folder)
    assert not folder.exists(), "code in a file was run"


@pytest.mark.parametrize(
    ("content", "got", "expected", "remedy"),
    [
        (None, "a path that does not exist", "a video", "check its name"),
        (b"", "an empty file", "a video", "copy it again"),
        (b"no video at all\n" * 99, "[Errno", "a video that FFmpeg decodes", "convert it"),
        ("head", "[Errno", "a video that FFmpeg decodes", "a file cut short"),
    ],
)
def test_videos_that_cannot_be_read(predict, clip, tmp_path, content, got, expected, remedy):
    source = tmp_path / "bad.mp4"
    if content is not None:
        source.write_bytes(clip.read_bytes()[:500] if content == "head" else content)
    answer = predict(source=source)
    check(answer, "predict", got, expected, remedy)
    assert str(source) in answer.err


def test_a_folder_without_images(predict, tmp_path):
    (tmp_path / "empty").mkdir()
    answer = predict(source=tmp_path / "empty")
    check(answer, "predict", "a folder without images", "files ending in", ".png")


@pytest.mark.parametrize(
    ("name", "content", "got", "expected", "remedy"),
    [
        ("b.json", None, "[Errno 2]", "a file with boxes", "check its name"),
        ("b.json", b"", "JSONDecodeError", "the layout", "box_files"),
        ("b.json", b"[]", "a JSON file of format and version None", '"format"', "read_keypoints"),
        ("b.json", bytes(range(256)), "UnicodeDecodeError", "the layout", "box_files"),
        ("b.npz", b"", "a file that is not npz", "one written by", "numpy.savez"),
        ("b.csv", b"frame,x,y\n", "columns", "a first line frame,x,y,w,h", "confidence"),
        ("b.csv", b"frame,x,y,w,h\n0,1,2,nan,4\n", "the box", "finite x, y", "leave frames"),
        ("b.txt", b"0 1 2 3", "'.txt'", "a .json, .npz", ".csv file"),
    ],
)
def test_box_files_that_cannot_be_read(predict, tmp_path, name, content, got, expected, remedy):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    answer = predict("--people.boxes", file)
    check(answer, "predict", got, expected, remedy)
    assert str(file) in answer.err


def test_a_box_that_is_not_finite(predict, boxes, tmp_path):
    content = json.loads(boxes.read_text())
    content["people"][0]["boxes_px"][2][0] = float("nan")
    (tmp_path / "nan.json").write_text(json.dumps(content))
    answer = predict("--people.boxes", tmp_path / "nan.json")
    check(answer, "predict", "the box [nan", "finite x, y, w, h", "leave frames without")
    assert "person 0, frame 2" in answer.err


def test_a_box_for_a_frame_beyond_the_video(predict, boxes, tmp_path):
    content = json.loads(boxes.read_text())
    content["people"][0]["frames"][-1] = 400
    (tmp_path / "late.json").write_text(json.dumps(content))
    answer = predict("--people.boxes", tmp_path / "late.json")
    check(answer, "predict", "a box for frame 400", "frames 0..8", "count from 0")


@pytest.mark.parametrize(
    ("words", "got", "expected", "remedy"),
    [
        (["--people.box", "5000,10,20,20"], "the box [5000.0", "x, y, w, h", "give left, top"),
        (["--people.box", "0:9,9,9,9", "3:-50,9,9,9"], "the box [-50.0", "x, y", "give left"),
        (["--people.box", "nan,10,20,20"], "the box [nan", "finite x, y, w, h", "leave frames"),
        (["--people.box", "1,2,3,-4"], "the box [1.0", "finite x, y, w, h", "leave frames"),
        (["--people.box", "1,2,3"], "the box '1,2,3'", "x,y,w,h", "as in 120,40,80,200"),
        (["--people.detector", "guess"], "'guess'", "mediapipe", "keypoint-rcnn:FILE"),
        (["--people.detector", "command:/none"], "[Errno 2]", "the detector's", "run: /none"),
        (["--people.person", "1"], "nothing that says", "one of", "--people.box x,y,w,h"),
    ],
)
def test_people_that_cannot_be_found(predict, words, got, expected, remedy):
    check(predict(*words), "predict", got, expected, remedy)


def test_nobody_of_that_number(predict, boxes):
    answer = predict("--people.boxes", boxes, "--people.person", "9")
    check(answer, "predict", "people [0]", "one of", "them")


def test_keypoints_that_are_missing(predict, boxes, tmp_path):
    answer = predict("--people.keypoints", tmp_path / "none")
    check(answer, "predict", "a path that does not exist", "a folder of", "check its name")
    (tmp_path / "empty").mkdir()
    answer = predict("--people.keypoints", tmp_path / "empty")
    check(answer, "predict", "no .json file", "OpenPose's", "one a frame")
    content = json.loads(boxes.read_text())
    del content["people"][0]["keypoints_px"]
    (tmp_path / "b.json").write_text(json.dumps(content))
    answer = predict("--people.keypoints", tmp_path / "b.json")
    check(answer, "predict", "boxes only", "keypoints", "use read_boxes")


def test_keypoints_that_are_all_nan(predict, tmp_path):
    folder = tmp_path / "openpose"
    folder.mkdir()
    people = [{"pose_keypoints_2d": [float("nan")] * 75}]
    for frame in range(3):
        (folder / f"a_{frame:012d}_keypoints.json").write_text(json.dumps({"people": people}))
    answer = predict("--people.keypoints", folder)
    check(answer, "predict", "nobody", "at least", "one")


def test_networks_that_are_none(predict, network, tmp_path):
    file = tmp_path / "bad.safetensors"
    answer = predict(network=file)
    check(answer, "predict", "no such file", "a network", "train one with `flowhmr pretrain`")
    for content in (b"", b"hello", network.read_bytes()[:-1000]):
        file.write_bytes(content)
        answer = predict(network=file)
        check(answer, "predict", "a file that is not", "a network saved by", "train it again")
    save_file({"x": torch.zeros(3)}, file)
    answer = predict(network=file)
    check(answer, "predict", "format None", "one of flowhmr-hmr-1", "holds something else")
    assert str(file) in answer.err


def test_network_files_that_were_changed(predict, network, tmp_path):
    file = tmp_path / "changed.safetensors"
    tensors = load_file(network)
    with safe_open(network, "pt") as content:
        card = content.metadata()
    config = json.loads(card["config"])

    def changed(**facts: str):
        save_file(tensors, file, card | facts)
        return predict(network=file)

    answer = changed(config="{")
    check(answer, "predict", "a card that does not read", "config, body_id", "train it again")
    for other in ({"widths": 3}, {"backbone": {"name": "guess"}}, {"backbone": 3}):
        answer = changed(config=json.dumps(config | other))
        check(answer, "predict", "an architecture that", "one of this version", "train it again")
    answer = changed(body_id="other-body")
    check(answer, "predict", "body other-body", "open-body", "use the one they were made with")
    del card["notes"]
    check(changed(), "predict", "a card that does not read", "config", "train it again")


def test_pickles_offered_as_networks_are_not_run(flowhmr, predict, clip, boxes, trap, tmp_path):
    file = tmp_path / "evil.safetensors"
    file.write_bytes(pickle.dumps(trap))
    answer = predict(network=file)
    check(answer, "predict", "a file that is not safetensors", "a network", "train it again")
    torch.save({"weight": trap}, file)
    check(predict(network=file), "predict", "a file that is not", "a network", "train it again")
    answer = flowhmr("evaluate", "--network", file)
    check(answer, "evaluate", "a file that is not", "a network", "train it again")
    video = ["--video", clip, "--people.boxes", boxes]
    answer = flowhmr("refine", "--run", tmp_path / "run", "--network", file, *video)
    check(answer, "refine", "a file that is not", "a network", "train it again")


def test_pickles_offered_as_checkpoints_are_not_run(flowhmr, network, clip, boxes, trap, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.safetensors").write_bytes(pickle.dumps(trap))
    answer = flowhmr(
        "fit", "--run", tmp_path / "run", "--network", network, "--video", clip,
        "--people.boxes", boxes,
    )  # fmt: skip
    check(answer, "fit", "a damaged checkpoint", "one this run wrote", "delete it")


def test_pickles_offered_as_detector_weights_are_not_run(predict, trap, tmp_path):
    torch.save({"weight": trap}, tmp_path / "evil.pt")
    answer = predict("--people.detector", f"keypoint-rcnn:{tmp_path / 'evil.pt'}")
    check(answer, "predict", "a file of something else", "the weights of", "download https")
    assert "weights_only" not in answer.err, "PyTorch's advice is to run it"


def test_pickles_offered_as_boxes_are_not_run(predict, trap, tmp_path):
    (tmp_path / "evil.npz").write_bytes(pickle.dumps(trap))
    answer = predict("--people.boxes", tmp_path / "evil.npz")
    check(answer, "predict", "a file that is not npz", "one written by", "numpy.savez")
    objects = np.array([trap], dtype=object)
    np.savez(tmp_path / "objects.npz", frame=objects, boxes_px=np.ones((1, 4)))
    answer = predict("--people.boxes", tmp_path / "objects.npz")
    check(answer, "predict", "ValueError", "the layout", "box_files")


@pytest.mark.parametrize("flag", ["--config.train.guess", "--guess"])
def test_unknown_settings_fail(flowhmr, network, flag):
    answer = flowhmr("refine", "--run", "r", "--network", network, flag, "8")
    assert answer.status == 2
    assert f"Unrecognized options: {flag}" in answer.err
    assert not Path("r").exists()


def test_unknown_names_in_settings_fail(flowhmr, network, clip, boxes):
    video = ["--network", network, "--video", clip, "--people.boxes", boxes]
    answer = flowhmr("refine", "--run", "r", *video, "--config.train.precision", "float8")
    assert answer.status == 2
    assert "float8" in answer.err
    assert "Expected one" in answer.err
    answer = flowhmr("refine", "--run", "r", *video, "--config.flow", "guess")
    check(answer, "refine", "'guess'", "dis, dis:PRESET, raft", "flowhmr.flow.FunctionFlow")
    assert not Path("cache").exists(), "before the stills are rendered"
    answer = flowhmr("pretrain", "--run", "r", "--config.network.backbone.name", "resnet_guess")
    check(answer, "pretrain", "'resnet_guess'", "a timm model", "such as")
    answer = flowhmr("predict", *video[2:], clip, "--device", "guess")
    assert answer.status == 2
    answer = flowhmr("predict", clip, "--device", "guess")
    check(answer, "predict", "'guess'", "auto, cpu", "or cuda")


def test_refinement_without_video(flowhmr, network):
    for command in ("refine", "fit"):
        answer = flowhmr(command, "--run", "r", "--network", network)
        check(answer, command, "no video", "--video FILE", "--config.train.pairs 0")


def test_video_too_short_for_pairs(flowhmr, network, clip, boxes):
    answer = flowhmr(
        "refine", "--run", "r", "--network", network, "--video", clip, "--people.boxes", boxes,
        "--config.pairs.gap", "9",
    )  # fmt: skip
    check(answer, "refine", "1 sequences of at most 9", "one longer", "give longer video")
    assert not list(Path("cache").glob("pool*")), "before the stills are rendered"


def test_box_files_of_other_videos(flowhmr, network, clip, boxes):
    answer = flowhmr(
        "refine", "--run", "r", "--network", network, "--video", clip, clip,
        "--people.boxes", boxes,
    )  # fmt: skip
    check(answer, "refine", "1 files for 2 videos", "one for each", "in the same order")


def test_results_cannot_go_where_a_file_is(flowhmr, network, clip, boxes, tmp_path):
    (tmp_path / "taken").write_text("")
    video = ["--network", network, "--people.boxes", boxes]
    for words in (
        ["predict", clip, *video, "--out", "taken"],
        ["refine", "--run", "taken", "--video", clip, *video],
        ["evaluate", "--network", network, "--out", "taken"],
        ["pretrain", "--run", "taken"],
    ):
        check(flowhmr(*words), words[0], "File exists", "a folder that", "choose another")


def test_the_traceback_is_there_for_those_who_ask(flowhmr, monkeypatch, network):
    words = ["fit", "--run", "r", "--network", network]
    assert "FLOWHMR_TRACEBACK=1" in flowhmr(*words).err
    monkeypatch.setenv("FLOWHMR_TRACEBACK", "1")
    with pytest.raises(ValueError, match="got no video"):
        flowhmr(*words)


@pytest.mark.parametrize(
    ("words", "may"),
    [
        (["capture", "walk.mp4"], False),
        (["synth", "preview"], False),
        (["synth", "export"], True),
        (["train"], True),
    ],
)
def test_what_many_processes_may_run(monkeypatch, words, may):
    monkeypatch.setenv("WORLD_SIZE", "2")
    if may:
        require_one(words[0], words[1:])
    else:
        with pytest.raises(ValueError, match="got 2 processes; expected one: only pretrain"):
            require_one(words[0], words[1:])


@pytest.mark.parametrize("said", ["", None])
def test_an_empty_cache_variable_is_none(monkeypatch, tmp_path, said):
    monkeypatch.setenv("HOME", str(tmp_path))
    if said is None:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", said)
    assert default_cache() == tmp_path / ".cache" / "flowhmr"


def test_brackets_in_names_are_shown():
    name = "walk [dQw4w9WgXcQ]{0}[/x].mp4"
    with console.capture() as said:
        console.print(name)
    assert said.get().strip() == name
    with console.capture() as said:
        told = StepProgress(name)
        told(1, 2)
        told(2, 2)
    assert name in said.get()
