"""One synthetic clip: make it, check its flow against its picture, read a joint's path.

python examples/03_synthetic_clip.py [--index 0] [--size 128]
"""

import argparse
from dataclasses import replace

import torch

from flowhmr.body import SMPL_24, open_body
from flowhmr.cameras import sample_map
from flowhmr.synth import Sensor, split_spec, synth_clip

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--index", type=int, default=0)
parser.add_argument("--size", type=int, default=128)
arguments = parser.parse_args()

# Clip number `index` of the benchmark's street video, at another size; any setting can be changed.
config = replace(split_spec("street").clips, size_px=arguments.size, frames=8)
clip = synth_clip(config, arguments.index, open_body(), Sensor())  # without noise and blur
print(f"{clip.name}: {clip.text}, {len(clip)} frames of {arguments.size} px")

# What the flow says of the next frame is what the next frame shows.
size = arguments.size
rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
centres_px = torch.stack([columns, rows], -1) + 0.5
points_px = (centres_px + clip.flow.forward).flatten(1, 2)
images = clip.images.float() / 255
warped = sample_map(images[1:], points_px).reshape(images[1:].shape)
error = (warped - images[:-1]).abs().mean(-1)[clip.flow.forward_valid]
print(f"warped by the flow, frames differ by {100 * float(error.mean()):.2f} % of the range")

wrist = SMPL_24.index("left_wrist")
for t in range(len(clip)):
    x, y = clip.joints_px[t, wrist].tolist()
    depth_m = float((clip.joints_m + clip.translation_m[:, None])[t, wrist, 2])
    seen = "seen" if clip.joint_visible[t, wrist] else "hidden"
    print(f"frame {t}: left wrist at ({x:.1f}, {y:.1f}) px, {depth_m:.2f} m away, {seen}")
