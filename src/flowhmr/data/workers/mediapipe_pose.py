"""MediaPipe Pose as a keypoint worker of flowhmr: frames on stdin, keypoints on stdout.

Run by the Python of an environment with mediapipe 0.10.21, whose wheel carries the pose model
(complexity 1); nothing is downloaded. The protocol is described in flowhmr/data/detectors.py; this
file and the one beside it import nothing of flowhmr.

Usage: python mediapipe_pose.py [--static] [--people N]
    --static     look at each frame for itself; otherwise people are followed from frame to frame
    --people N   find up to N people; 1, the default, is MediaPipe's own tracker of one person
"""

import argparse
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

# The parts that mediapipe.solutions.pose is made of, with the places of all people given out and
# the place to look at given in: https://ai.google.dev/edge/mediapipe/framework (graphs), and
# mediapipe/modules/pose_landmark/README.md for the parts.
FIND = """
input_stream: "image"
output_stream: "detections"
output_stream: "rois"
node {
  calculator: "ImagePropertiesCalculator"
  input_stream: "IMAGE_CPU:image" output_stream: "SIZE:size"
}
node {
  calculator: "PoseDetectionCpu"
  input_stream: "IMAGE:image" output_stream: "DETECTIONS:detections"
}
node {
  calculator: "BeginLoopDetectionCalculator"
  input_stream: "ITERABLE:detections" input_stream: "CLONE:size"
  output_stream: "ITEM:detection" output_stream: "CLONE:its_size" output_stream: "BATCH_END:end"
}
node {
  calculator: "PoseDetectionToRoi"
  input_stream: "DETECTION:detection" input_stream: "IMAGE_SIZE:its_size" output_stream: "ROI:roi"
}
node {
  calculator: "EndLoopNormalizedRectCalculator"
  input_stream: "ITEM:roi" input_stream: "BATCH_END:end" output_stream: "ITERABLE:rois"
}
"""
FOLLOW = """
input_stream: "image"
input_stream: "roi"
input_side_packet: "complexity"
output_stream: "landmarks"
output_stream: "next_roi"
node {
  calculator: "ImagePropertiesCalculator"
  input_stream: "IMAGE_CPU:image" output_stream: "SIZE:size"
}
node {
  calculator: "PoseLandmarkByRoiCpu"
  input_stream: "IMAGE:image" input_stream: "ROI:roi"
  input_side_packet: "MODEL_COMPLEXITY:complexity"
  output_stream: "LANDMARKS:landmarks" output_stream: "AUXILIARY_LANDMARKS:frame_of_body"
}
node {
  calculator: "PoseLandmarksToRoi"
  input_stream: "LANDMARKS:frame_of_body" input_stream: "IMAGE_SIZE:size"
  output_stream: "ROI:next_roi"
}
"""


def one_person(mediapipe, static):
    """MediaPipe's own tracker: a function from an image to the keypoints of at most one person."""
    pose = mediapipe.solutions.pose.Pose(
        static_image_mode=static, model_complexity=1, smooth_landmarks=False
    )

    def look(image):
        found = pose.process(image).pose_landmarks
        return [] if found is None else [keypoints_of(found, image)]

    return look


def several_people(most, static):
    """The same networks on several people (see mediapipe_people.py)."""
    from mediapipe.framework.formats.rect_pb2 import (  # pyright: ignore[reportMissingImports]
        NormalizedRect,
    )
    from mediapipe.python.solution_base import (  # pyright: ignore[reportMissingImports]
        PacketDataType,
        SolutionBase,
    )
    from mediapipe_people import (  # pyright: ignore[reportMissingImports]
        SURE_WHOLE,
        People,
        Roi,
    )

    # The calculators accept more than one type on these streams, so they do not tell.
    frames = {"image": PacketDataType.IMAGE_FRAME}
    lists = {"detections": PacketDataType.PROTO_LIST, "rois": PacketDataType.PROTO_LIST}
    finder = SolutionBase(
        graph_config=FIND,
        calculator_params={
            "posedetectioncpu__TensorsToDetectionsCalculator.min_score_thresh": SURE_WHOLE
        },
        stream_type_hints={**frames, **lists},
    )
    follower = SolutionBase(
        graph_config=FOLLOW, side_inputs={"complexity": 1}, stream_type_hints=frames
    )

    def roi_px(rect, image):
        height, width = image.shape[:2]
        side_px = rect.width * width
        return Roi(rect.x_center * width, rect.y_center * height, side_px, rect.rotation)

    def find(image):
        found = finder.process(image)
        if not found.detections:
            return []
        scores = [detection.score[0] for detection in found.detections]
        return [(roi_px(rect, image), score) for rect, score in zip(found.rois, scores)]

    def follow(image, roi):
        height, width = image.shape[:2]
        rect = NormalizedRect(
            x_center=roi.x_px / width,
            y_center=roi.y_px / height,
            width=roi.side_px / width,
            height=roi.side_px / height,
            rotation=roi.turn_rad,
        )
        found = follower.process({"image": image, "roi": rect})
        if found.landmarks is None or found.next_roi is None:
            return None
        return keypoints_of(found.landmarks, image), roi_px(found.next_roi, image)

    people = People(find, follow, most)
    return people.look_afresh if static else people


def keypoints_of(found, image):
    """An array [k, 3] of x, y in pixels and visibility, in the order of LANDMARKS."""
    import numpy as np

    height, width = image.shape[:2]
    marks = [found.landmark[i] for i in LANDMARKS.values()]
    # Normalised landmarks put 0 and 1 on the picture's edges: the pixel rule of flowhmr.
    return np.array([[m.x * width, m.y * height, m.visibility] for m in marks])


def main(arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("--static", action="store_true")
    parser.add_argument("--people", type=int, default=1)
    options = parser.parse_args(arguments)
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

        if options.people == 1:
            look = one_person(mediapipe, options.static)
        else:
            look = several_people(options.people, options.static)
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
            people = look(image)
        except Exception as error:
            say({"index": header["index"], "error": f"{type(error).__name__}: {error}"})
            continue
        rounded = [
            [[round(x, 3), round(y, 3), round(c, 4)] for x, y, c in keypoints.tolist()]
            for keypoints in people
        ]
        say({"index": header["index"], "people": [{"keypoints": k} for k in rounded]})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
