"""Cut the packaged demo clip out of Sports2D's demo video, and find the person in it.

    python tools/make_demo_clip.py demo.mp4

``demo.mp4`` is Sports2D/Demo/demo.mp4 of github.com/davidpagnon/Sports2D (BSD-3-Clause) at commit
9c8a3d2572e57ac0d95d8ebc3efe62d3dc99ddc4. Two people are in it: one stands on a box and jumps off,
one walks past. The span and the window below hold the walker alone. Needs the MediaPipe worker's
environment, which is made when it is not there. Look at the keypoints afterwards.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from flowhmr.data.box_files import write_boxes
from flowhmr.data.detectors import detect, mediapipe_detector
from flowhmr.data.video import demo_clip, open_video, write_video

# She steps clear of a tree by frame 54; in frame 176 the other one drops into the window.
FRAMES = (54, 176)
# Below the feet of the one on the box; all of her way.
LEFT, TOP, WIDTH, HEIGHT = 64, 462, 1504, 512
CRF = 18


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
        tracks = detect(clip, detector)
        counts = [len(track) for track in tracks]
        if counts != [len(window)]:
            raise SystemExit(f"got tracks of {counts} frames; expected one of {len(window)}")
        write_boxes(boxes_path, [replace(tracks[0], person=0)])
    print(f"{clip_path}: {clip_path.stat().st_size} bytes, {len(window)} frames")


if __name__ == "__main__":
    main()
