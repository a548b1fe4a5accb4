"""Keypoint detectors: a function from a frame to the people in it.

Two are here: `DetectorProcess`, any command that speaks the protocol below (MediaPipe's worker is
one: `mediapipe_detector`), and `KeypointRcnn` of torchvision. `detect` runs one over a video.

The protocol (version 1)
------------------------
The worker reads frames on its standard input and answers on its standard output, one JSON object
in one line (UTF-8) for each. What it writes to its standard error is shown when it fails.

1. When ready, the worker says who it is::

    {"protocol": 1, "name": "my-detector", "version": "1.0", "joints": ["nose", "left_eye", ...]}

   ``joints`` names the keypoints that follow, in order. COCO's 17 are used (``nose``,
   ``left_eye``, ``left_ear``, ``left_shoulder``, ``left_elbow``, ``left_wrist``, ``left_hip``,
   ``left_knee``, ``left_ankle`` and their ``right_`` twins, the person's own left and right);
   others are ignored, and those that lack count as missing.

2. For each frame it is given a line, then ``width * height * 3`` bytes: RGB, row by row::

    {"index": 0, "time_s": 0.0, "width": 1280, "height": 720}

3. It answers with one line before it is given the next frame::

    {"index": 0, "people": [{"keypoints": [[x, y, confidence], ...], "confidence": 0.9}]}

   ``people`` may be empty. x and y are pixels of the image, which covers [0, width] x [0, height]:
   the centre of the first pixel is (0.5, 0.5). Confidences are 0..1, that of the person may be
   left out. A keypoint that was not found has confidence 0 (or NaN).

4. Where it cannot, before or after the first line, it says so, and is ended::

    {"error": "what happened"}

5. When its standard input ends, it exits.
"""

import json
import logging
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch

from flowhmr.body import COCO_17
from flowhmr.data.boxes import PersonTrack
from flowhmr.data.clothes import clothes_of
from flowhmr.data.cuts import CutFinder
from flowhmr.data.journal import Journal, packed, unpacked
from flowhmr.data.keypoints import coco_from_named
from flowhmr.data.tracking import DetectedPerson, track_people
from flowhmr.data.video import VideoFrame, VideoSource
from flowhmr.data.workers import DetectorError, detector_environment

logger = logging.getLogger(__name__)

PROTOCOL = 1
LONGEST_ANSWER = 1 << 24

Detector = Callable[[VideoFrame], Sequence[DetectedPerson]]


class _Died(DetectorError):
    """The worker is gone, or was ended because it hung: another try may help."""


def detect(
    video: VideoSource,
    detector: Detector,
    on_progress: Callable[[int, int | None], None] | None = None,
    journal: Journal | None = None,
) -> list[PersonTrack]:
    """Find the people of a video and follow them, in one pass.

    Args:
        video: read from its first frame to its last.
        detector: says who is in a frame.
        on_progress: called with (frames done, frames in all or None) after each frame.
        journal: of the same video and detector; frames that are in it are not looked at again.

    Returns:
        Tracks with COCO's 17 keypoints (see `flowhmr.data.tracking.track_people`), none across a
        cut; empty when nobody was found.

    Raises:
        DetectorError: the detector failed.
    """
    found = []
    finder = CutFinder()
    journal = Journal(None, {}) if journal is None else journal
    for frame in video:
        finder.see(frame)
        rows = journal.row(frame.index)
        if rows is None:
            people = [
                replace(person, clothes=clothes_of(frame.image, person.keypoints_px))
                for person in detector(frame)
            ]
            rows = [_row_of(person) for person in people]
            journal.add(frame.index, rows)
        # By way of the row, so that an interruption changes no digit.
        found.append((frame.index, [_person_of(row) for row in rows]))
        if on_progress is not None:
            on_progress(len(found), video.frame_count)
    return track_people(found, video.size_px, video.fps, finder.cuts)


def _row_of(person: DetectedPerson) -> list[Any]:
    clothes = [] if person.clothes is None else [float(value) for value in person.clothes]
    return [packed(person.keypoints_px), float(person.confidence), clothes]


def _person_of(row: list[Any]) -> DetectedPerson:
    keypoints, confidence, clothes = row
    return DetectedPerson(unpacked(keypoints, 17, 3), confidence, np.array(clothes or [np.nan] * 6))


class DetectorProcess:
    """A detector in a process of its own, spoken to by this module's protocol.

    A context manager: the process starts on entering and is ended on leaving. When it dies or
    hangs in the middle it is started again, once; the second time is an error.

    Args:
        command: program and arguments.
        start_timeout_s: how long it may take until it says who it is.
        frame_timeout_s: how long it may take for a frame.
    """

    def __init__(
        self, command: Sequence[str], start_timeout_s: float = 120.0, frame_timeout_s: float = 60.0
    ):
        self.command = list(command)
        self.start_timeout_s = start_timeout_s
        self.frame_timeout_s = frame_timeout_s
        self.name = ""
        self.joints: list[str] = []
        self._process: subprocess.Popen | None = None
        self._complaints: deque[str] = deque(maxlen=20)
        self._restarts_left = 1

    def __enter__(self) -> "DetectorProcess":
        self._start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._process is not None:
            _end(self._process)  # it may be stuck in the middle of a frame
        self._stop()

    def __call__(self, frame: VideoFrame) -> list[DetectedPerson]:
        """Who is in the frame.

        Raises:
            DetectorError: the worker died or hung twice, gave an error, or broke the protocol.
        """
        try:
            answer = self._ask(frame)
        except _Died as error:
            if not self._restarts_left:
                raise
            self._restarts_left -= 1
            logger.warning("starting the detector again, once, since it ended: %s", error)
            self._stop()
            self._start()
            answer = self._ask(frame)
        if answer.get("index") != frame.index:
            raise self._nonsense(answer, f'"index": {frame.index}')
        try:
            return [self._person(person) for person in answer["people"]]
        except (KeyError, TypeError, ValueError) as error:
            wanted = f"people with {len(self.joints)} keypoints of x, y, confidence"
            raise self._nonsense(answer, wanted) from error

    def _start(self) -> None:
        try:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise DetectorError(
                f"got {error}; expected the detector's command to run: {' '.join(self.command)}"
            ) from error
        self._complaints.clear()
        self._listener = threading.Thread(target=self._listen, args=[self._process], daemon=True)
        self._listener.start()
        try:
            hello = self._exchange(b"", self.start_timeout_s)
            joints = hello.get("joints")
            if hello.get("protocol") != PROTOCOL or not isinstance(joints, list):
                raise self._nonsense(hello, f'"protocol": {PROTOCOL} and the names of its "joints"')
            if not set(joints) & set(COCO_17.names):
                raise self._nonsense(hello, "joints named as COCO's 17, such as left_knee")
        except BaseException:
            _end(self._process)
            self._stop()
            raise
        self.name = f"{hello.get('name', self.command[0])} {hello.get('version', '')}".strip()
        self.joints = joints

    def _listen(self, process: subprocess.Popen) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self._complaints.append(line.decode(errors="replace").rstrip()[:500])

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            process.stdin.close()
            process.wait(timeout=2)
        except (OSError, subprocess.TimeoutExpired):
            pass
        _end(process)
        process.wait()
        self._listener.join(timeout=2)
        process.stdout.close()
        process.stderr.close()

    def _ask(self, frame: VideoFrame) -> dict[str, Any]:
        height, width = frame.image.shape[:2]
        header = {"index": frame.index, "time_s": frame.time_s, "width": width, "height": height}
        return self._exchange(
            json.dumps(header).encode() + b"\n" + np.ascontiguousarray(frame.image).tobytes(),
            self.frame_timeout_s,
        )

    def _exchange(self, message: bytes, timeout_s: float) -> dict[str, Any]:
        """Write a message, read a line. A worker that takes too long is ended by the timer."""
        process = self._process
        if process is None:
            raise DetectorError("got a frame for a detector that is not running; use it in `with`")
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Event()

        def give_up() -> None:
            late.set()
            _end(process)

        timer = threading.Timer(timeout_s, give_up)
        timer.start()
        try:
            process.stdin.write(message)
            process.stdin.flush()
            line = process.stdout.readline(LONGEST_ANSWER)
        except OSError:
            line = b""
        finally:
            timer.cancel()
        if len(line) == LONGEST_ANSWER:
            raise self._nonsense(line, f"a line shorter than {LONGEST_ANSWER} bytes")
        if not line.endswith(b"\n"):
            raise self._dead(process, f"no answer within {timeout_s:g} s" if late.is_set() else "")
        try:
            answer = json.loads(line)
            if not isinstance(answer, dict):
                raise ValueError
        except ValueError:
            text = line[:200].decode(errors="replace").rstrip()
            raise self._nonsense(text, "a JSON object in one line") from None
        if "error" in answer:
            raise DetectorError(self._with_complaints(f"got an error of it: {answer['error']}"))
        return answer

    def _dead(self, process: subprocess.Popen, what: str) -> _Died:
        if not what:
            try:
                what = f"its end, exit status {process.wait(timeout=2)}"
            except subprocess.TimeoutExpired:
                what = "its output closed"
        self._listener.join(timeout=1)
        return _Died(self._with_complaints(f"got {what}; expected an answer"))

    def _nonsense(self, got: object, wanted: str) -> DetectorError:
        return DetectorError(
            self._with_complaints(
                f"got {str(got)[:200]!r}; expected {wanted}; see the protocol in "
                "flowhmr.data.detectors"
            )
        )

    def _with_complaints(self, text: str) -> str:
        lines = [f"detector {' '.join(self.command)}: {text}"]
        if self._complaints:
            lines += ["its last messages:", *(f"    {line}" for line in self._complaints)]
        return "\n".join(lines)

    def _person(self, person: dict[str, Any]) -> DetectedPerson:
        points = torch.tensor(person["keypoints"], dtype=torch.float32)
        if points.shape != (len(self.joints), 3):
            raise ValueError
        points[:, 2] = points[:, 2].clamp(0, 1)
        coco = coco_from_named(points, self.joints)
        return DetectedPerson(coco, float(person.get("confidence", coco[:, 2].mean())))


def _end(process: subprocess.Popen) -> None:
    """Kill the process and, where the system knows groups, what it started."""
    if process.poll() is not None:
        return
    if os.name == "posix":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def mediapipe_detector(
    environment: Path | None = None,
    on_progress: Callable[[str], None] | None = None,
    people: int = 1,
) -> DetectorProcess:
    """MediaPipe Pose 0.10.21 (Apache-2.0) as a process: people, followed through the video.

    The time of a frame grows with the people who are in it. Where several are allowed, looking for
    more of them costs a sixth of the time of one.

    Args:
        environment: folder of its environment, made if need be (see `detector_environment`).
        on_progress: told about the making of the environment.
        people: at most so many at a time; one is MediaPipe's own tracker.

    Raises:
        DetectorError: the environment could not be made, or nobody is to be found.
    """
    if people < 1:
        raise DetectorError(f"mediapipe: got {people} people; expected at least 1")
    python = detector_environment(environment, on_progress)
    script = Path(__file__).parent / "workers/mediapipe_pose.py"
    return DetectorProcess([str(python), str(script), "--people", str(people)])


class KeypointRcnn:
    """torchvision's Keypoint R-CNN (ResNet-50 FPN, COCO): several people a frame.

    Its keypoint scores are logits; their sigmoid stands in for a confidence.

    Args:
        device: where it runs.
        weights: a file with its state dict; None: torchvision downloads it (226 MB, once).
        min_confidence: people below are left out.
    """

    def __init__(self, device: str, weights: Path | None = None, min_confidence: float = 0.8):
        self.device = device
        self.weights = weights
        self.min_confidence = min_confidence
        self._model: torch.nn.Module | None = None

    def __call__(self, frame: VideoFrame) -> list[DetectedPerson]:
        """Who is in the frame; the first call builds the network.

        Raises:
            DetectorError: the weights cannot be downloaded or do not belong to this network.
        """
        if self._model is None:
            self._model = self._build()
        image = torch.tensor(frame.image).to(self.device).permute(2, 0, 1).float() / 255
        with torch.inference_mode():
            found = self._model([image])[0]
        return people_from_rcnn(found, self.min_confidence)

    def _build(self) -> torch.nn.Module:
        from torchvision.models.detection import (
            KeypointRCNN_ResNet50_FPN_Weights,
            keypointrcnn_resnet50_fpn,
        )

        try:
            if self.weights is None:
                state = KeypointRCNN_ResNet50_FPN_Weights.DEFAULT.get_state_dict(progress=False)
            else:
                state = torch.load(self.weights, map_location="cpu", weights_only=True)
            model = keypointrcnn_resnet50_fpn(weights=None, weights_backbone=None)
            model.load_state_dict(state)
        except Exception as error:  # network, file and unpickling errors have no common parent
            got = f"{type(error).__name__} {str(error)[:300]}"
            if isinstance(error, UnpicklingError):
                # PyTorch's own words tell how to run the code that such a file may hold.
                got = "a file of something else than tensors"
            raise DetectorError(
                f"got {got}; expected the weights of "
                f"keypointrcnn_resnet50_fpn from {self.weights or 'the network'}; download "
                f"{KeypointRCNN_ResNet50_FPN_Weights.DEFAULT.url} and name the file, or give the "
                "boxes in a file or by hand"
            ) from error
        return model.eval().to(self.device)


def people_from_rcnn(found: dict[str, torch.Tensor], min_confidence: float) -> list[DetectedPerson]:
    """What torchvision's Keypoint R-CNN says of one image; its points follow our pixel rule."""
    people = []
    for score, points, logits in zip(
        found["scores"], found["keypoints"], found["keypoints_scores"]
    ):
        if score >= min_confidence:
            keypoints = torch.cat([points[:, :2], logits.sigmoid()[:, None]], -1).float().cpu()
            people.append(DetectedPerson(keypoints, float(score)))
    return people
