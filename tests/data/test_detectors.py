"""A detector is a command that speaks the protocol, and any way of failing is told."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from flowhmr.body import COCO_17
from flowhmr.data import Journal, PersonTrack, detectors, workers
from flowhmr.data.detectors import (
    DetectorProcess,
    KeypointRcnn,
    detect,
    mediapipe_detector,
    people_from_rcnn,
)
from flowhmr.data.tracking import DetectedPerson
from flowhmr.data.video import VideoFrame, open_video, write_video
from flowhmr.data.workers import DetectorError, detector_environment, environment

# Finds a bright patch: COCO's joints in reverse order, spread over it, and one joint more.
WORKER = """
import json, os, sys, time
JOINTS = {joints!r}
say = lambda answer: print(json.dumps(answer), flush=True)
def answer(header, pixels):
    width, height = header["width"], header["height"]
    bright = [i for i in range(width * height) if pixels[3 * i] > 150]
    if not bright:
        return []
    xs, ys = [i % width for i in bright], [i // width for i in bright]
    x0, x1, y0, y1 = min(xs), max(xs) + 1, min(ys), max(ys) + 1
    n = len(JOINTS) - 1
    points = [[x0 + (x1 - x0) * k / n, y0 + (y1 - y0) * k / n, 0.75] for k in range(n + 1)]
    return [{{"keypoints": points, "confidence": 0.5}}]
{before}
say({{"protocol": 1, "name": "patch", "version": "7", "joints": JOINTS}})
while line := sys.stdin.buffer.readline():
    header = json.loads(line)
    pixels = sys.stdin.buffer.read(header["width"] * header["height"] * 3)
    {during}
    say({{"index": header["index"], "people": answer(header, pixels)}})
"""
JOINTS = [*COCO_17.names[::-1], "tail"]


@pytest.fixture
def worker(tmp_path):
    def make(before="", during="pass", joints=JOINTS, **options):
        script = tmp_path / "worker.py"
        script.write_text(WORKER.format(joints=joints, before=before, during=during))
        return DetectorProcess([sys.executable, str(script)], **options)

    return make


def frame(index=0, left=20):
    image = np.full((48, 90, 3), 10, np.uint8)
    image[8:40, left : left + 16] = 220
    return VideoFrame(index, index / 30, image)


def test_frames_go_in_and_keypoints_come_out(worker):
    with worker() as detector:
        assert detector.name == "patch 7"
        for index, left in enumerate((20, 50, 3)):
            [person] = detector(frame(index, left))
            assert person.confidence == 0.5
            last = len(JOINTS) - 1
            for place, name in enumerate(COCO_17.names):
                part = JOINTS.index(name) / last
                x, y, confidence = person.keypoints_px[place].tolist()
                assert (x, y) == pytest.approx((left + 16 * part, 8 + 32 * part), abs=1e-3)
                assert confidence == 0.75
        assert detector(VideoFrame(9, 0.0, np.zeros((48, 90, 3), np.uint8))) == []
        turned = VideoFrame(10, 0.0, np.rot90(frame().image))  # not contiguous
        [person] = detector(turned)
        assert person.keypoints_px[:, 0].max() == pytest.approx(40, abs=2)


def test_a_video_becomes_tracks(tmp_path, worker):
    def images():
        for i in range(12):
            yield frame(i, 5 * i).image if i != 6 else np.zeros((48, 90, 3), np.uint8)

    write_video(tmp_path / "v.mp4", images(), 30.0)
    heard = []
    with worker() as detector, open_video(tmp_path / "v.mp4") as video:
        [track] = detect(video, detector, lambda done, total: heard.append((done, total)))
    assert heard == [(i + 1, 12) for i in range(12)]
    assert track.frame_indices.tolist() == [i for i in range(12) if i != 6]
    nose = track.keypoints_px[:, COCO_17.index("nose"), 0] - track.keypoints_px[0, 0, 0]
    assert nose.tolist() == pytest.approx([5.0 * i for i in range(12) if i != 6], abs=2)


def test_frames_that_were_looked_at_are_not_looked_at_again(tmp_path, worker):
    """Stopped half way and begun again: the same tracks as in one go, to the last digit."""
    path = tmp_path / "v.mp4"
    write_video(path, (frame(i, 5 * i).image for i in range(12)), 30.0)
    asked: list[int] = []

    def run(journal: Journal, stop: int = 99) -> list[PersonTrack]:
        with worker() as detector, open_video(path) as video:

            def looked(seen: VideoFrame) -> list[DetectedPerson]:
                if len(asked) == stop:
                    raise KeyboardInterrupt
                asked.append(seen.index)
                return detector(seen)

            return detect(video, looked, None, journal)

    [whole] = run(Journal(None, {}))
    asked.clear()
    kept = tmp_path / "people.jsonl"
    with pytest.raises(KeyboardInterrupt), Journal(kept, {}) as journal:
        run(journal, stop=7)
    with Journal(kept, {}) as journal:
        [resumed] = run(journal)
    assert asked == list(range(12))
    assert torch.equal(resumed.keypoints_px, whole.keypoints_px)
    assert torch.equal(resumed.boxes_px, whole.boxes_px)


def test_nobody_is_no_error(tmp_path, worker):
    write_video(tmp_path / "v.mp4", [np.zeros((48, 90, 3), np.uint8)] * 3, 30.0)
    with worker() as detector, open_video(tmp_path / "v.mp4") as video:
        assert detect(video, detector) == []


def test_the_process_ends_with_the_block(worker):
    with worker() as detector:
        process = detector._process
        detector(frame())
    assert process.poll() == 0
    with pytest.raises(DetectorError, match="use it in `with`"):
        detector(frame())
    detector = worker().__enter__()
    process = detector._process
    detector.__exit__(RuntimeError, RuntimeError("elsewhere"), None)
    assert process.poll() is not None


DIES = """
    if header["index"] == 1 and not os.path.exists({flag!r}):
        open({flag!r}, "w").close()
        print("out of memory", file=sys.stderr, flush=True)
        os._exit(3)
"""


def test_a_worker_that_dies_once_is_started_again(worker, tmp_path, caplog):
    with worker(during=DIES.format(flag=str(tmp_path / "flag"))) as detector:
        found = [detector(frame(i)) for i in range(3)]
    assert [len(people) for people in found] == [1, 1, 1]
    [record] = caplog.records
    assert "exit status 3" in record.getMessage()
    assert "out of memory" in record.getMessage()


def test_a_worker_that_dies_twice_is_an_error(worker, caplog):
    during = 'if header["index"] == 1: sys.exit("no more")'
    with worker(during=during) as detector:
        detector(frame(0))
        with pytest.raises(DetectorError, match=r"(?s)got its end, exit status 1.*no more"):
            detector(frame(1))
    assert len(caplog.records) == 1


def test_a_worker_that_hangs_is_ended(worker, caplog):
    with worker(during="time.sleep(600)", frame_timeout_s=0.3) as detector:
        first = detector._process
        with pytest.raises(DetectorError, match=r"no answer within 0.3 s"):
            detector(frame())
    assert first.poll() is not None
    assert len(caplog.records) == 1


def test_a_worker_that_does_not_read_is_ended(worker):
    large = VideoFrame(0, 0.0, np.zeros((800, 800, 3), np.uint8))
    before = 'say({"protocol": 1, "joints": JOINTS}); time.sleep(600)'
    with worker(before=before, frame_timeout_s=0.3) as detector:
        detector._restarts_left = 0
        with pytest.raises(DetectorError, match=r"no answer within 0.3 s"):
            detector(large)


def test_a_worker_that_never_starts_is_ended(worker):
    with pytest.raises(DetectorError, match=r"no answer within 0.3 s"):
        worker(before="time.sleep(600)", start_timeout_s=0.3).__enter__()


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ('sys.exit("no module named pose")', r"(?s)exit status 1.*no module named pose"),
        ('print("Loading model ...")', r"got 'Loading model ...'; expected a JSON object"),
        ("print([1, 2])", "expected a JSON object"),
        ('say({"protocol": 2, "joints": JOINTS})', 'expected "protocol": 1'),
        ('say({"protocol": 1})', 'the names of its "joints"'),
        ('say({"protocol": 1, "joints": ["LKnee"]})', "such as left_knee"),
        ('say({"error": "no GPU"})', "got an error of it: no GPU"),
    ],
)
def test_a_bad_start_is_told(worker, before, message):
    with pytest.raises(DetectorError, match=message):
        worker(before=before).__enter__()


@pytest.mark.parametrize(
    ("during", "message"),
    [
        ('print("W0000 delegate")', r"got 'W0000 delegate'; expected a JSON object"),
        ('header["index"] += 1', r'expected "index": 0'),
        ('say({"index": 0})', "people with 18 keypoints"),
        ('say({"index": 0, "people": [{"keypoints": [[1, 2, 3]]}]})', "people with 18 keypoints"),
        ('say({"index": 0, "people": [{}]})', "people with 18 keypoints"),
        ('say({"index": 0, "people": 3})', "people with 18 keypoints"),
        ('say({"index": 0, "error": "bad frame"})', "got an error of it: bad frame"),
        ('print("x" * 9000)', "shorter than 8000 bytes"),
    ],
)
def test_nonsense_is_told(worker, monkeypatch, during, message):
    monkeypatch.setattr(detectors, "LONGEST_ANSWER", 8000)
    with worker(during=during, frame_timeout_s=20.0) as detector:
        detector._restarts_left = 0
        with pytest.raises(DetectorError, match=message):
            detector(frame())


def test_a_command_that_does_not_exist():
    with pytest.raises(DetectorError, match=r"No such file.*/no/such/detector"):
        DetectorProcess(["/no/such/detector", "--fast"]).__enter__()


def test_the_mediapipe_worker_tells_when_it_cannot_start(tmp_path, monkeypatch):
    (tmp_path / "mediapipe.py").write_text("raise ImportError('no wheel')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    script = Path(workers.__file__).parent / "mediapipe_pose.py"
    with pytest.raises(DetectorError, match=r"mediapipe does not start: ImportError: no wheel"):
        DetectorProcess([sys.executable, str(script)]).__enter__()


@pytest.mark.parametrize("name", ["mediapipe_pose.py", "mediapipe_people.py"])
def test_the_mediapipe_worker_stands_alone(name):
    source = (Path(workers.__file__).parent / name).read_text()
    assert "import flowhmr" not in source
    assert "from flowhmr" not in source


FAKE_MEDIAPIPE = """
__version__ = "0.10.21"
class _Mark:
    def __init__(self, i): self.x, self.y, self.visibility = i / 64, i / 128, 0.5
class solutions:
    class pose:
        class Pose:
            def __init__(self, **options): print("stray line of a library", flush=True)
            def process(self, image):
                marks = type("M", (), {"landmark": [_Mark(i) for i in range(33)]})
                return type("R", (), {"pose_landmarks": marks if image.any() else None})
"""


def test_the_mediapipe_worker_speaks_the_protocol(tmp_path, monkeypatch):
    (tmp_path / "mediapipe.py").write_text(FAKE_MEDIAPIPE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(
        "flowhmr.data.detectors.detector_environment", lambda *_: Path(sys.executable)
    )
    with mediapipe_detector() as detector:
        assert detector.name == "mediapipe-pose 0.10.21"
        [person] = detector(frame())
        assert detector(VideoFrame(1, 0.0, np.zeros((48, 90, 3), np.uint8))) == []
    landmark = {"nose": 0, "left_eye": 2, "right_ear": 8, "left_knee": 25, "right_ankle": 28}
    for name, i in landmark.items():
        expected = [90 * i / 64, 48 * i / 128, 0.5]
        assert person.keypoints_px[COCO_17.index(name)].tolist() == pytest.approx(
            expected, abs=1e-3
        )


PIP = """#!/bin/sh
echo "Collecting $*"
case "$*" in *-m\\ venv*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python";; esac
{end}
"""


@pytest.fixture
def fake_python(tmp_path, monkeypatch):
    """A program that does as ``python -m venv`` and ``python -m pip`` do, as far as files go."""

    def make(end="exit 0"):
        program = tmp_path / "python"
        program.write_text(PIP.format(end=end))
        program.chmod(0o755)
        monkeypatch.setattr(environment, "_base_python", lambda: str(program))

    return make


def test_the_environment_is_made_once(tmp_path, fake_python, monkeypatch):
    fake_python()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    heard = []
    python = detector_environment(on_progress=heard.append)
    folder = tmp_path / "cache/flowhmr/detectors/mediapipe-0.10.21"
    assert python == folder / "bin/python"
    assert os.access(python, os.X_OK)
    assert any("mediapipe==0.10.21" in line for line in heard)
    assert any("numpy==1" in line for line in heard)
    heard.clear()
    assert detector_environment(on_progress=heard.append) == python
    assert heard == []
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_users_see_that_an_environment_is_made(tmp_path, fake_python, caplog):
    fake_python()
    with caplog.at_level("WARNING"):
        detector_environment(tmp_path / "it")
    assert [text.split(" in ")[0] for text in caplog.messages] == [
        "making the keypoint detector's environment",
        "the keypoint detector's environment is ready",
    ]


def test_an_environment_that_fails_leaves_nothing(tmp_path, fake_python):
    fake_python('case "$*" in *pip*) echo "Temporary failure in name resolution"; exit 1;; esac')
    with pytest.raises(DetectorError, match=r"(?s)exit status 1.*name resolution.*by hand"):
        detector_environment(tmp_path / "env/it")
    assert list((tmp_path / "env").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(DetectorError, match="a folder that can be written to"):
        detector_environment(tmp_path / "file/it")


def test_a_python_that_mediapipe_has_wheels_for(monkeypatch):
    monkeypatch.setattr(environment.sys, "version_info", (3, 10, 2))
    assert environment._base_python() == sys.executable
    found = {"python3.12": "/usr/bin/python3.12"}
    monkeypatch.setattr(environment.sys, "version_info", (3, 14, 0))
    monkeypatch.setattr(environment.shutil, "which", found.get)
    assert environment._base_python() == "/usr/bin/python3.12"
    monkeypatch.setattr(environment.shutil, "which", lambda _: None)
    with pytest.raises(DetectorError, match=r"got Python 3.14 .*expected 3.9 to 3.12"):
        environment._base_python()


def test_rcnn_people_above_the_threshold():
    points = torch.rand(3, 17, 3) * 100
    found = {
        "scores": torch.tensor([0.95, 0.85, 0.4]),
        "keypoints": points,
        "keypoints_scores": torch.linspace(-8, 8, 3 * 17).reshape(3, 17),
    }
    people = people_from_rcnn(found, 0.8)
    assert [p.confidence for p in people] == pytest.approx([0.95, 0.85])
    for person, xy, logits in zip(people, points, found["keypoints_scores"]):
        assert torch.equal(person.keypoints_px[:, :2], xy[:, :2])
        assert torch.allclose(person.keypoints_px[:, 2], logits.sigmoid())


@pytest.mark.parametrize("content", [b"no weights", None])
def test_rcnn_weights_that_are_none(tmp_path, content):
    if content is not None:
        (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(DetectorError, match=r"w.pth; download https://download.pytorch.org"):
        KeypointRcnn("cpu", tmp_path / "w.pth")(frame())


def test_rcnn_weights_of_another_network(tmp_path):
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(DetectorError, match="expected the weights of keypointrcnn_resnet50_fpn"):
        KeypointRcnn("cpu", tmp_path / "w.pth")(frame())


@pytest.mark.slow
def test_rcnn_runs_on_weights_from_a_file(tmp_path):
    from torchvision.models.detection import keypointrcnn_resnet50_fpn

    torch.manual_seed(0)
    untrained = keypointrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    torch.save(untrained.state_dict(), tmp_path / "w.pth")
    detector = KeypointRcnn("cpu", tmp_path / "w.pth", min_confidence=0.0)
    people = detector(frame())
    assert all(p.keypoints_px.shape == (17, 3) for p in people)
    assert detector(frame()) is not None
