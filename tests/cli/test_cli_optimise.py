"""``flowhmr optimise`` from end to end: a tiny network on a few frames of the shipped clip."""

import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from flowhmr.body import open_body
from flowhmr.cameras import WeakCamera, crop_from_box
from flowhmr.cli.optimise import fit_track
from flowhmr.data import FlowSource, PairConfig, open_video, read_boxes
from flowhmr.flow import DisFlow, estimate_pair
from flowhmr.geometry import rotmat_from_axis_angle
from flowhmr.records import Estimate, Sequence, Track
from flowhmr.training import SequenceFitConfig


def bodies(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@pytest.mark.slow
def test_optimise_writes_what_predict_writes(flowhmr, network, clip, boxes):
    """Two people, one of them for three frames; keypoints and smoothing; flow agrees better."""
    content = json.loads(boxes.read_text())
    (one,) = content["people"]
    other = one | {"person": 1}
    other |= {k: v[:3] for k, v in one.items() if isinstance(v, list)}
    Path("two.json").write_text(json.dumps(content | {"people": [one, other]}))
    common = [clip, "--people.boxes", "two.json", "--network", network, "--skeleton"]
    answer = flowhmr("predict", *common, "--out", "before")
    assert answer.status == 0, answer.err
    answer = flowhmr(
        "optimise", *common, "--out", "after", "--config.steps", "6", "--config.pose-rate", "0.003",
        "--config.shape-rate", "0.003", "--config.camera-rate", "0.001", "--config.smooth", "1",
        "--config.keypoints", "0.01", "--config.pairs.flow-px", "64", "--config.on-part-m", "0",
    )  # fmt: skip
    assert answer.status == 0, answer.err
    assert {p.name for p in Path("after").iterdir()} == {"bodies.npz", "overlay.mp4"}
    number = r"(\d+\.\d+)"
    for person in (0, 1):
        said = re.search(
            rf"person {person}: flow disagreement {number} -> {number} px of 224, acceleration "
            rf"{number} -> {number} mm/frame",
            " ".join(answer.out.split()),
        )
        assert said is not None, answer.out
        old, new = (float(v) for v in said.groups()[:2])
        assert new < old
    before, after = (bodies(Path(folder, "bodies.npz")) for folder in ("before", "after"))
    assert {k: v.shape for k, v in before.items()} == {k: v.shape for k, v in after.items()}
    assert all(np.isfinite(v).all() for k, v in after.items() if k != "body_id")
    assert len(after["1/frame"]) == 3
    same = ("body_id", "format", "0/frame", "0/time_s", "0/crop_centre_px", "0/crop_side_px")
    assert all((before[k] == after[k]).all() for k in same)
    for name in ("0/pose", "0/betas", "0/camera", "0/joints_m"):
        assert np.abs(before[name] - after[name]).max() > 1e-4, name
    with open_video(Path("after/overlay.mp4")) as drawn, open_video(clip) as plain:
        assert drawn.size_px == plain.size_px
        assert len(list(drawn)) == len(list(plain))


def test_stretches_are_fitted_one_by_one():
    """Frames 0-2 and 7-8 of a person: nothing is compared, or smoothed, across the gap."""
    body, frames = open_body(), torch.tensor([0, 1, 2, 7, 8])
    turns = torch.zeros(5, 24, 3)
    turns[:, 0, 0] = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0])
    params = body.params(rotmat_from_axis_angle(turns), torch.zeros(5, 10))
    first = Estimate(params, WeakCamera(torch.tensor([0.9, 0.0, 0.0]).repeat(5, 1)))
    boxes_px = torch.tensor([[2.0, 2.0, 12.0, 12.0]]).repeat(5, 1)
    track = Track(frames, frames / 30, crop_from_box(boxes_px, 16), first)
    image = np.zeros((16, 16, 3), np.uint8)
    stretches = [
        Sequence(f"v#0.{k}", "0", [image] * n, torch.arange(n) / 30, boxes_px[:n], None)
        for k, n in enumerate((3, 2))
    ]
    flow = FlowSource(PairConfig(flow_px=16), partial(estimate_pair, DisFlow("fast")))
    config = SequenceFitConfig(steps=2, flow=0.0, smooth=100.0)
    steps = []
    fitted, motions = fit_track(
        track, stretches, lambda stretch: None, body, flow, config, lambda: steps.append(1)
    )
    assert len(steps) == 4
    assert [len(before.disagreement_px) for before, _ in motions] == [2, 1]
    assert [len(after.accel) for _, after in motions] == [1, 0]
    assert_close(fitted.estimate.params.rotmats, params.rotmats, atol=1e-5, rtol=0)
    assert fitted.frame_indices.equal(frames)


def test_optimise_needs_video(flowhmr, network, clip, boxes):
    with open_video(clip) as video:
        Image.fromarray(video.read(0, 1)[0].image).save("picture.png")
    box = ",".join(str(v) for v in read_boxes(boxes)[0].boxes_px[0].tolist())
    words = ["optimise", "picture.png", "--people.box", box, "--network", network]
    answer = flowhmr(*words)
    assert answer.status == 1
    assert "got nobody in more than 1 frames in a row; expected video" in answer.err
    assert "flowhmr predict" in answer.err
    assert not Path("out").exists()


def test_optimise_with_keypoints_needs_some(flowhmr, network, clip, boxes):
    content = json.loads(boxes.read_text())
    del content["people"][0]["keypoints_px"]
    Path("plain.json").write_text(json.dumps(content))
    answer = flowhmr(
        "optimise", clip, "--people.boxes", "plain.json", "--network", network,
        "--config.keypoints", "1",
    )  # fmt: skip
    assert answer.status == 1
    assert "--config.keypoints: got 1.0 for people without keypoints; expected" in answer.err
