"""MediaPipe Pose as a keypoint worker of flowhmr: frames on stdin, keypoints on stdout.

Run by the Python of an environment with mediapipe 0.10.21, whose wheel carries the pose model
(complexity 1); nothing is downloaded. One person a frame. The protocol is described in
flowhmr/data/detectors.py; this file imports nothing of flowhmr.

Usage: python mediapipe_pose.py [--static]
    --static   look at each frame for itself; otherwise the person is followed from frame to frame
"""

import json
import os
import sys

PROTOCOL = 1
# MediaPipe's landmarks: https://ai.google.dev/edge/mediapipe/solutions/vision/pose_landmarker
LANDMARKS = {
    "nose": 0,
    "left_eye": 2,
    "right_eye": 5,
    "left_ear": 7,
    "right_ear": 8,
    "left_shoulder": 11,
    "right_shoulder": 12,
    "left_elbow": 13,
    "right_elbow": 14,
    "left_wrist": 15,
    "right_wrist": 16,
    "left_hip": 23,
    "right_hip": 24,
    "left_knee": 25,
    "right_knee": 26,
    "left_ankle": 27,
    "right_ankle": 28,
}


def main(arguments):
    # Libraries print to the standard output; the protocol needs a line of its own.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    frames = sys.stdin.buffer

    def say(answer):
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        import mediapipe  # pyright: ignore[reportMissingImports]
        import numpy as np

        pose = mediapipe.solutions.pose.Pose(
            static_image_mode="--static" in arguments, model_complexity=1, smooth_landmarks=False
        )
    except Exception as error:
        say({"error": f"mediapipe does not start: {type(error).__name__}: {error}"})
        return 1
    say(
        {
            "protocol": PROTOCOL,
            "name": "mediapipe-pose",
            "version": mediapipe.__version__,
            "joints": list(LANDMARKS),
        }
    )
    for line in frames:
        header = json.loads(line)
        width, height = header["width"], header["height"]
        pixels = frames.read(width * height * 3)
        if len(pixels) < width * height * 3:
            break
        image = np.frombuffer(pixels, np.uint8).reshape(height, width, 3)
        try:
            found = pose.process(image).pose_landmarks
        except Exception as error:
            say({"index": header["index"], "error": f"{type(error).__name__}: {error}"})
            continue
        people = []
        if found is not None:
            marks = [found.landmark[i] for i in LANDMARKS.values()]
            # Normalised landmarks put 0 and 1 on the picture's edges: the pixel rule of flowhmr.
            keypoints = [
                [round(m.x * width, 3), round(m.y * height, 3), round(m.visibility, 4)]
                for m in marks
            ]
            people.append({"keypoints": keypoints})
        say({"index": header["index"], "people": people})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
