"""A hundred random frames of the benchmark in one picture.

python experiments/synthmotion/sheet.py [--seed 0] [--out runs/sheet.jpg]
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from flowhmr.body import open_body
from flowhmr.synth import SPLITS, split_spec, synth_clip

SIDE = 10
TILE_PX = 128


def main() -> None:
    """Draw a split, a clip and a frame for each tile."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/sheet.jpg"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(arguments.seed)
    tiles = []
    for _ in range(SIDE * SIDE):
        spec = split_spec(SPLITS[rng.integers(len(SPLITS))], "full")
        clip = synth_clip(spec.clips, int(rng.integers(spec.count)), open_body())
        image = Image.fromarray(clip.images[rng.integers(len(clip))].numpy())
        tiles.append(np.asarray(image.resize((TILE_PX, TILE_PX), Image.Resampling.LANCZOS)))
    rows = [np.concatenate(tiles[i : i + SIDE], 1) for i in range(0, len(tiles), SIDE)]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(arguments.out, quality=82)
    print(arguments.out)


if __name__ == "__main__":
    main()
