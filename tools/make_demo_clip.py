"""Cut the packaged demo clip out of Sports2D's demo video, and find the person in it.

    python tools/make_demo_clip.py demo.mp4

``demo.mp4`` is Sports2D/Demo/demo.mp4 of github.com/davidpagnon/Sports2D (BSD-3-Clause) at commit
9c8a3d2572e57ac0d95d8ebc3efe62d3dc99ddc4. Two people are in it: one stands on a box and jumps off,
one walks past. The span and the window below hold the walker alone. Needs the MediaPipe worker's
environment, which is made when it is not there. Look at the keypoints afterwards.
"""

import argparse
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from flowhmr.body import COCO_17
from flowhmr.data.box_files import write_boxes
from flowhmr.data.boxes import track_from_keypoints
from flowhmr.data.detectors import detect, mediapipe_detector
from flowhmr.data.video import demo_clip, open_video, write_video

# She steps clear of a tree by frame 52; in frame 176 the other one drops into the window.
FRAMES = (52, 176)
# Below the feet of the one on the box; all of her way.
LEFT, TOP, WIDTH, HEIGHT = 64, 462, 1504, 512
CRF = 18
# Seen by looking at the drawn keypoints: her legs are exchanged in two frames and mixed in one.
LEGS = ("hip", "knee", "ankle")
EXCHANGED = (54, 106)
MIXED = (107,)


def repaired(keypoints_px: Float[Tensor, "n 17 3"]) -> Float[Tensor, "n 17 3"]:
    """Legs put right: exchanged back, or the mean of their neighbours in time, half as sure."""
    left = list(COCO_17.indices_of([f"left_{joint}" for joint in LEGS]))
    right = list(COCO_17.indices_of([f"right_{joint}" for joint in LEGS]))
    fixed = keypoints_px.clone()
    for frame in EXCHANGED:
        fixed[frame, left + right] = keypoints_px[frame, right + left]
    for frame in MIXED:
        mean = (fixed[frame - 1, left + right] + fixed[frame + 1, left + right]) / 2
        fixed[frame, left + right] = mean * mean.new_tensor([1, 1, 0.5])
    return fixed


def main() -> None:
    """Write clip.mp4 and boxes.json into the package."""
    parser = argparse.ArgumentParser(description="make the packaged demo clip")
    parser.add_argument("source", type=Path, help="Sports2D's demo.mp4")
    source = parser.parse_args().source
    clip_path, boxes_path = demo_clip()
    with open_video(source) as video:
        window = [
            frame.image[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH] for frame in video.read(*FRAMES)
        ]
        write_video(clip_path, window, video.fps, crf=CRF)
    with open_video(clip_path) as clip, mediapipe_detector(on_progress=print) as detector:
        # MediaPipe follows a person better than it finds one: lead it back to the first frame.
        for frame in reversed(clip.read(0, 12)):
            detector(frame)
        tracks = detect(clip, detector)
        counts = [len(track) for track in tracks]
        if counts != [len(window)]:
            raise SystemExit(f"got tracks of {counts} frames; expected one of {len(window)}")
    keypoints_px = tracks[0].keypoints_px
    assert keypoints_px is not None
    track = track_from_keypoints(0, tracks[0].frame_indices, repaired(keypoints_px))
    assert track is not None
    write_boxes(boxes_path, [track])
    print(f"{clip_path}: {clip_path.stat().st_size} bytes, {len(window)} frames")


if __name__ == "__main__":
    main()
