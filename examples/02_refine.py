"""The main job through the Python API: refine the shipped network on a video, a few steps.

python examples/02_refine.py [VIDEO BOXES] [--steps 10] [--out runs/example]
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from flowhmr.body import open_body
from flowhmr.data import PairConfig, PeopleConfig, demo_clip, open_video, people_of, sequences_of
from flowhmr.evaluation import score_flow
from flowhmr.networks import BASELINE, load_hmr
from flowhmr.training import FIT, estimator_of, flow_source, refine

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("video", nargs="?", type=Path, default=demo_clip()[0])
parser.add_argument("boxes", nargs="?", type=Path, default=demo_clip()[1])
parser.add_argument("--steps", type=int, default=10)
parser.add_argument("--out", type=Path, default=Path("runs/example"))
arguments = parser.parse_args()

device = torch.device("cpu")
body, network = open_body(), load_hmr(BASELINE)
# Without labels (Eq. 8): the anchor is the network itself. `RefineConfig()` adds labelled stills.
config = replace(FIT, train=replace(FIT.train, steps=arguments.steps, pairs=8))

with open_video(arguments.video) as video:
    tracks = people_of(video, PeopleConfig(boxes=(arguments.boxes,)), device)
people = sequences_of(arguments.video, tracks, config.pairs.flow_px)

path = refine(config, network, body, people, arguments.out, arguments.out / "cache", device)

source = flow_source(PairConfig(), config.flow, arguments.out / "cache")  # neighbouring frames
pairs = [source.pair(people[0], i, 96) for i in range(0, len(people[0]) - 1, 4)]
for name, which in (("before", network), ("after", load_hmr(path))):
    score = score_flow(estimator_of(which, device), pairs, body)
    print(f"{name:7} flow disagreement {score.disagreement_px:.2f} px of 224")
